"""The daemon's life: created once, started by whoever needs it, alone on its directory, gone when idle.

What decides who is the daemon is the exclusive lock on chain.sqlite, which dies with its holder. daemon.json only says
where to look, so a stale one costs one refused connection. A caller that finds nobody starts a daemon; of two daemons
started at once one gets the lock, the other ends at once, and both callers find the first.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ledger
from ledger.chain.embedded.directory import (
    DATABASE,
    LOG,
    ChainInfo,
    DaemonState,
    describe,
    read_state,
    write_state,
)
from ledger.chain.embedded.store import Busy, ChainStore
from ledger.errors import ChainUnreachable, StorageFailed

IDLE_VARIABLE = "YUNXI_CHAIN_IDLE_SECONDS"
IDLE_SECONDS = 300.0
START_SECONDS = 30.0
STOP_SECONDS = 10.0

BUSY_EXIT = 3


def create(directory: Path) -> ChainInfo:
    """Create a chain in `directory` (made if absent); never called because a path was mistyped.

    Raises StorageFailed if a chain is there already or the disk refuses. Takes about a second: it imports the EVM.
    """
    from ledger.chain.embedded.evm import create_chain

    try:
        return create_chain(directory)
    except OSError as error:
        raise StorageFailed(f"A chain cannot be created in {directory}: {error.strerror}.") from error


def running_url(directory: Path) -> str | None:
    """The URL of the daemon that serves `directory` now, or None. Starts nothing, and resets its idle clock."""
    state = read_state(directory)
    return state.url if state is not None and _is_alive(state) else None


def ensure_running(directory: Path) -> str:
    """The URL of the daemon that serves the chain in `directory`, started detached if there is none.

    Safe to call from several processes at once; a call that finds a daemon takes a few milliseconds, one that starts
    it a second or two. The daemon ends by itself after YUNXI_CHAIN_IDLE_SECONDS (default 300) without a request, and
    keeps its port over restarts when that is still free; so call this again before each round of work.
    Raises NodeMissing if no chain was created there, ChainUnreachable if the daemon does not come up.
    """
    directory = directory.absolute()
    describe(directory)
    deadline = time.monotonic() + START_SECONDS
    while (url := running_url(directory)) is None:
        if time.monotonic() > deadline:
            raise ChainUnreachable(f"The embedded chain in {directory} did not start; see {directory / LOG}.")
        code, words = _spawn(directory, deadline - time.monotonic())
        if code == BUSY_EXIT:
            _give_time(directory)
        elif code != 0:
            raise ChainUnreachable(f"The embedded chain in {directory} did not start: {words}")
    return url


def stop(directory: Path) -> None:
    """End the daemon of `directory`, if one runs. Nothing durable is lost.

    On return no process has the chain open and chain.sqlite is whole by itself (no write-ahead log beside it), so the
    directory can be copied. Raises ChainUnreachable if the daemon does not end in time.
    """
    state = read_state(directory)
    if state is not None and _is_alive(state):
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            _ask(state, "yunxi_shutdown", state.instance)
    deadline = time.monotonic() + STOP_SECONDS
    while (directory / DATABASE).is_file():
        try:
            ChainStore(directory / DATABASE).close()
            return
        except Busy as error:
            if time.monotonic() > deadline:
                raise ChainUnreachable(f"The process that serves the chain in {directory} does not end.") from error
            time.sleep(0.02)


def serve(directory: Path, port: int, idle_seconds: float, on_ready: Callable[[DaemonState], None]) -> None:
    """Serve the chain until asked to stop, signalled, or idle. Raises Busy if another process serves it."""
    previous = read_state(directory)
    store = ChainStore(directory / DATABASE)  # from here on we are the only one
    try:
        # the EVM takes half a second to import: not before we know that we are needed
        from ledger.chain.embedded.evm import DevelopmentChain
        from ledger.chain.embedded.rpc import Rpc

        chain = DevelopmentChain(store)
        server = _listen(port or (previous.port if previous else 0))
        state = DaemonState(os.getpid(), server.server_port, secrets.token_hex(32))
        ending = threading.Event()
        server.rpc = Rpc(chain, state.instance, ending.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ending.set())
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        write_state(directory, state)
        on_ready(state)
        _wait(ending, server, store, idle_seconds)
        server.shutdown()
        server.server_close()
        server.rpc.close()  # waits for the block in hand
    finally:
        store.close()


def idle_seconds_from_environment() -> float:
    """Seconds without a request after which a daemon ends; a value that is not a number counts as the default."""
    try:
        return max(0.1, float(os.environ.get(IDLE_VARIABLE, IDLE_SECONDS)))
    except ValueError:
        return IDLE_SECONDS


def _listen(port: int) -> Any:
    from ledger.chain.embedded.server import RpcServer

    try:
        return RpcServer(port)
    except OSError:
        if port == 0:
            raise
        return RpcServer(0)


def _wait(ending: threading.Event, server: Any, store: ChainStore, idle_seconds: float) -> None:
    while not ending.wait(min(1.0, idle_seconds / 4)):
        if server.busy == 0 and time.monotonic() - server.last_used > idle_seconds:
            return
        if not store.still_in_place():
            return  # the directory was removed or replaced: serving on would acknowledge into nowhere


def _give_time(directory: Path) -> None:
    # another daemon has the lock: it is starting, and will show in daemon.json, or ending, and will let go
    for _ in range(20):
        time.sleep(0.05)
        if running_url(directory) is not None:
            return


def _spawn(directory: Path, timeout: float) -> tuple[int, str]:
    # the child forks again and its parent ends, so nobody is left with a zombie; it holds its standard output open
    # until it serves (exit 0) or cannot (what it wrote last)
    command = [sys.executable, "-m", "ledger.chain.embedded", str(directory), "--detach"]
    with (directory / LOG).open("ab") as log:
        child = subprocess.Popen(  # noqa: S603
            command,
            cwd=Path(ledger.__file__).parent.parent,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        try:
            output, _ = child.communicate(timeout=max(1.0, timeout))
        except subprocess.TimeoutExpired as error:
            child.kill()
            child.communicate()
            raise ChainUnreachable(f"The embedded chain in {directory} takes too long to start.") from error
    word, _, rest = output.decode("utf-8", "replace").strip().partition(" ")
    return {"ready": 0, "busy": BUSY_EXIT}.get(word, 1), rest or f"see {directory / LOG}."


def _environment() -> dict[str, str]:
    # the daemon outlives its starter, whose environment may hold passphrases: it gets what an interpreter needs
    kept = ("PYTHON", "LC_", "YUNXI_CHAIN_")
    names = {"PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name in names or name.startswith(kept)}


def _is_alive(state: DaemonState) -> bool:
    try:
        answer = _ask(state, "yunxi_describe")
    except (OSError, http.client.HTTPException, ValueError):
        return False
    # another program, or another chain's daemon, may have the port by now
    return isinstance(answer, dict) and answer.get("instance") == state.instance[:16]


def _ask(state: DaemonState, method: str, *params: object) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", state.port, timeout=5)
    try:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        response = json.loads(connection.getresponse().read(65536))
        return response.get("result") if isinstance(response, dict) else None
    finally:
        connection.close()
