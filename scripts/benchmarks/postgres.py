"""Intake into one log on PostgreSQL from several worker processes, when YUNXI_TEST_POSTGRES names a server."""

from __future__ import annotations

import multiprocessing
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import perf_counter

from sqlalchemy import create_engine, make_url, text

from benchmarks.base import DEPARTMENT, Ledger, Options, Row, Times, new_ledger, record
from ledger.submission import Acknowledged, Submission

VARIABLE = "YUNXI_TEST_POSTGRES"
WORKERS = (1, 2, 4)
BATCHES_A_WORKER = 6
RUNS = 3


def measure(options: Options) -> Iterator[Row]:
    """Each run in a database of its own; nothing when there is no server."""
    server = durable_server()
    if server is None:
        return
    batch = min(options.batch, 500)
    runs = RUNS if options.rounds > 5 else 1
    seconds: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for _ in range(runs):
        for workers in WORKERS:
            with database(server) as url, new_ledger(url) as ledger:
                seconds[workers].append(_run(ledger.directory, url, workers, batch))
    for workers, taken in seconds.items():
        what = f"one log, {workers} worker process{'es' if workers > 1 else ''}, batches of {batch:,}"
        note = f"{os.cpu_count()} cores shared with the server"
        yield Times(tuple(taken)).rate("postgres", what, workers * BATCHES_A_WORKER * batch, "records/s", note=note)


def _run(directory: Path, url: str, workers: int, batch: int) -> float:
    """Seconds from when all workers are ready to when the last has its last acknowledgement."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(workers + 1)
    done = context.Barrier(workers + 1)
    started = [context.Process(target=_work, args=(directory, url, n, batch, ready, done)) for n in range(workers)]
    for process in started:
        process.start()
    ready.wait(60)
    start = perf_counter()
    done.wait(300)
    taken = perf_counter() - start
    for process in started:
        process.join(60)
    return taken


def _work(directory: Path, url: str, worker: int, batch: int, ready: Barrier, done: Barrier) -> None:
    ledger = Ledger(directory, url)
    batches = [
        [Submission(f"{worker}-{number}-{n}", record(n)) for n in range(batch)] for number in range(BATCHES_A_WORKER)
    ]
    ledger.log()  # connects
    ready.wait(60)
    outcomes = [outcome for part in batches for outcome in ledger.intake.submit(DEPARTMENT, part)]
    done.wait(300)
    assert all(isinstance(outcome, Acknowledged) for outcome in outcomes)
    ledger.database.close()


def durable_server() -> str | None:
    """The URL of the server to measure on. None where none is named, or one that acknowledges before its disk does."""
    server = os.environ.get(VARIABLE)
    if not server:
        return None
    engine = create_engine(make_url(server).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        durable = connection.scalar(text("SHOW fsync")) == "on"
    engine.dispose()
    if not durable:
        words = f"left out: the server of {VARIABLE} does not wait for its disk; use `scripts/services start durable`"
        print(words, file=sys.stderr)
    return server if durable else None


@contextmanager
def database(server: str) -> Iterator[str]:
    """The URL of a new database on a server, dropped afterwards."""
    url = make_url(server).set(drivername="postgresql+psycopg")
    name = f"yunxi_bench_{uuid.uuid4().hex[:12]}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        try:
            yield url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()
