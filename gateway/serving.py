"""One node served by one or several processes on one socket.

One process: it serves. Several: the first only starts, watches and ends the others, which end by themselves when it is
gone. Which of them runs the background work the lease decides, so none of them is special.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import ssl
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from prometheus_client.multiprocess import mark_process_dead

from gateway.app import create_app
from gateway.operations.logs import configure
from gateway.operations.metrics import SHARED_FIGURES
from gateway.settings import GatewaySettings
from gateway.site import Site
from gateway.wire import Encrypted, Plain
from ledger.errors import CouldNotRun
from ledger.node import Node

BACKLOG = 2_048
RESTART_SECONDS = 1.0
RECURSION = 1_000
"""The interpreter's own."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM. `client_ca`: who signs the certificates that callers may present; None asks for none."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to serve: the node, under which authorities it is called, with how many processes, and TLS or not."""

    directory: Path
    settings: GatewaySettings
    authorities: tuple[str, ...]
    workers: int = 1
    tls: Tls | None = None


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; `port` 0 takes a free one. Raises CouldNotRun when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        opened.close()
        raise CouldNotRun(f"the service cannot listen on {host} port {port}: {error}; choose another") from error
    return opened


def serve(plan: Plan, opened: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT, then ends what is under way and returns."""
    if plan.workers == 1:
        run_process(plan, opened)
    else:
        _supervise(plan, opened)


def run_process(plan: Plan, opened: socket.socket) -> None:
    """Serves in this process."""
    configure()
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    site = Site(Node.open(plan.directory), plan.settings, plan.workers)
    site.authorities.update(plan.authorities)
    if plan.tls is not None:
        site.peer_client.use_tls(plan.tls.certificate, plan.tls.key, plan.tls.client_ca)
    server = _Server(_config(plan, create_app(site)), site)
    _settle()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.end)
    server.run(sockets=[opened])


def _settle() -> None:
    """Takes what was loaded until now out of the garbage collector's sight: to look through all of it takes
    a fifth of a second, while everybody waits. Sets the limit of recursion, which the chain's libraries raise so high
    that the stack would end before it, and the process with the stack."""
    import ledger.anchor  # noqa: F401  brings the chain's client, which would be loaded while serving

    sys.setrecursionlimit(RECURSION)
    gc.collect()
    gc.freeze()


def _supervise(plan: Plan, opened: socket.socket) -> None:
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    with TemporaryDirectory() as figures:
        os.environ[SHARED_FIGURES] = figures
        processes = [_start(plan, opened) for _ in range(plan.workers)]
        while not ending.wait(RESTART_SECONDS):
            processes = [process if process.is_alive() else _replace(process, plan, opened) for process in processes]
        _end(processes, plan)


def _replace(dead: BaseProcess, plan: Plan, opened: socket.socket) -> BaseProcess:
    mark_process_dead(dead.pid)  # type: ignore[no-untyped-call]  # what was under way in it is no longer
    return _start(plan, opened)


def _end(processes: list[BaseProcess], plan: Plan) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + plan.settings.drain_seconds + 10
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()


def _start(plan: Plan, opened: socket.socket) -> BaseProcess:
    # spawned, not forked: threads, locks and database connections of the parent must not be inherited
    process = multiprocessing.get_context("spawn").Process(target=run_process, args=(plan, opened))
    process.start()
    return process


def _end_with(parent: BaseProcess) -> None:
    parent.join()  # also when it was killed: then nobody else would end us
    os.kill(os.getpid(), signal.SIGTERM)


class _Server(uvicorn.Server):
    """uvicorn's server, which says early that it ends: streams that would go on for ever let go then."""

    def __init__(self, config: uvicorn.Config, site: Site) -> None:
        super().__init__(config)
        self._site = site

    def end(self, *_: Any) -> None:
        """Ends the server; a handler of signals. uvicorn has its own while it runs and raises the signal once more when
        it is done, which must not kill the process then."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._site.stopping.set()
        await super().shutdown(sockets)


def _config(plan: Plan, app: Any) -> uvicorn.Config:
    tls: dict[str, Any] = {}
    if plan.tls is not None:
        tls = {"ssl_certfile": plan.tls.certificate, "ssl_keyfile": plan.tls.key}
        if plan.tls.client_ca is not None:
            # optional here: which department must present one, its pin in node.toml says
            tls |= {"ssl_ca_certs": str(plan.tls.client_ca), "ssl_cert_reqs": ssl.CERT_OPTIONAL}
    return uvicorn.Config(
        app,
        http=Encrypted if plan.tls is not None else Plain,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who calls is found out by signatures, never by a header that anybody can write
        timeout_graceful_shutdown=int(plan.settings.drain_seconds),
        **tls,
    )
