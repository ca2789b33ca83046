"""The gateway over HTTP, one node with its chain: signed requests that were made before the clock starts. One process
on SQLite; one and two on PostgreSQL, when YUNXI_TEST_POSTGRES names a server.

The client is a bare socket loop, so that it takes little of the machine; on two cores it still shares them with the
server, the database and the chain. `CPU` is what the server's processes used, which a busy machine changes least.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import orjson

from benchmarks.base import DEPARTMENT, MILLION, Options, Row, record
from benchmarks.postgres import database, durable_server
from ledger.chain import embedded
from ledger.departments import add_department
from ledger.http_signatures import Target, sign_request
from ledger.keys import FileKeyAgent, Signer
from ledger.node import Node, create_node
from ledger.settings import DEFAULT_DATABASE

CONNECTIONS = 32
YUNXI = Path(sys.executable).parent / "yunxi"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Load:
    """One run. Latencies in seconds, `cpu` the server's seconds."""

    requests: int
    errors: int
    seconds: float
    latencies: list[float]
    cpu: float


@dataclass(frozen=True, slots=True)
class Server:
    """A running `yunxi serve`."""

    pid: int
    host: str
    port: int
    signer: Signer

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """A signed request as it goes over the wire."""
        authority = f"{self.host}:{self.port}"
        target = Target.of_url(method, f"http://{authority}{path}")
        fields = sign_request(target, body, self.signer, int(time.time()), secrets.token_urlsafe(16), 300)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {authority}", *(f"{n}: {v}" for n, v in fields.items())]
        lines += [f"Content-Length: {len(body)}"] if body is not None else []
        return "\r\n".join([*lines, "", ""]).encode() + (body or b"")

    def cpu(self) -> float:
        """Seconds of processor time that its processes used so far."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum(_ticks(pid) for pid in (self.pid, *children)) / TICKS


def _ticks(pid: int | str) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def measure(options: Options) -> Iterator[Row]:
    """Single records, records by the hundred, and reading one's own; a quarter of `options.records` requests of the
    first."""
    yield from _measure(options, DEFAULT_DATABASE, 1)
    if server := durable_server():
        for workers in (1, 2):
            with database(server) as url:
                for row in _measure(options, url, workers):
                    yield replace(row, what=f"PostgreSQL, {workers} worker{'s' if workers > 1 else ''}: {row.what}")


def _measure(options: Options, url: str, workers: int) -> Iterator[Row]:
    count = max(options.records // 4, 200)
    with _serving(url, workers) as server:
        _run(server, [_submission(server, number, 1) for number in range(400)])  # whatever is loaded at first use
        bodies = [_submission(server, 10_000 + number, 1) for number in range(count)]
        yield from _rows("POST one record", _run(server, bodies), 1, "≥ 1,000 requests/s, p99 < 50 ms")
        bodies = [_submission(server, 1_000_000 + number * 100, 100) for number in range(max(count // 50, 20))]
        yield from _rows("POST 100 records", _run(server, bodies), 100)
        yield from _rows("GET /healthz", _run(server, [server.request("GET", "/healthz")] * count), 1)
        lists = [server.request("GET", "/v1/records?limit=100") for _ in range(max(count // 10, 20))]
        yield from _rows("GET a list of 100", _run(server, lists), 100)


def _submission(server: Server, first: int, count: int) -> bytes:
    records = [{"key": f"row-{number}", "record": record(number)} for number in range(first, first + count)]
    return server.request("POST", "/v1/records", orjson.dumps({"records": records}))


def _rows(what: str, load: Load, each: int, target: str = "") -> Iterator[Row]:
    rate = load.requests / load.seconds
    note = f"{CONNECTIONS} connections, {load.errors} errors"
    yield Row("gateway", what, "requests/s", rate, rate, 1, target, note)
    cuts = [1000 * cut for cut in quantiles(load.latencies, n=100)]
    yield Row("gateway", f"{what}: p50, p99", "ms", cuts[49], cuts[98], 1, note="p50 and p99 stand as best and median")
    cost = MILLION * load.cpu / load.requests / each
    yield Row("gateway", f"{what}: CPU", "µs/record" if each > 1 else "µs/request", cost, cost, 1)


def _run(server: Server, requests: list[bytes]) -> Load:
    return asyncio.run(_send_all(server, requests))


async def _send_all(server: Server, requests: list[bytes]) -> Load:
    waiting, latencies, errors = list(reversed(requests)), [], 0

    async def connection() -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection(server.host, server.port)
        while waiting:
            request = waiting.pop()
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            latencies.append(time.perf_counter() - began)
            errors += not head.startswith(b"HTTP/1.1 200") or b'"refused"' in body
        writer.close()

    cpu, began = server.cpu(), time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    seconds = time.perf_counter() - began
    return Load(len(requests), errors, seconds, latencies, server.cpu() - cpu)


@contextmanager
def _serving(url: str, workers: int) -> Iterator[Server]:
    with TemporaryDirectory(prefix="yunxi-bench-") as directory:
        node_dir = Path(directory) / "node"
        create_node(node_dir, consortium="bench.example", database=url)
        node = Node.open(node_dir)
        add_department(node, DEPARTMENT, "市场监管 | Market supervision")
        node.close()
        with (node_dir / "node.toml").open("a") as settings:
            settings.write("\n[gateway]\nrate_per_second = 1_000_000\nrate_burst = 1_000_000\n")
        process = subprocess.Popen(
            [YUNXI, "serve", "--node", node_dir, "--port", "0", "--workers", str(workers)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline().decode())
            assert found, "the service did not start"
            parts = urlsplit(found[0])
            signer = FileKeyAgent.open(node_dir / "keys").request_signer(DEPARTMENT)
            yield Server(process.pid, parts.hostname or "", parts.port or 0, signer)
        finally:
            process.terminate()
            process.wait(60)
            embedded.stop(node_dir / "chain")
