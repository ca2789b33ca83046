"""The full audit of a log: records a second, in one process and in several, and whether memory grows with the log."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Iterator
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.base import DEPARTMENT, Ledger, Options, Row, interleave, new_ledger, record
from ledger.anchor import Anchorer
from ledger.audit import LogAudit, audit_node
from ledger.audit import Options as AuditOptions
from ledger.audit.bench import STRETCH
from ledger.chain import embedded
from ledger.departments import add_department
from ledger.node import Node, create_node
from ledger.store.reading import read_logs
from ledger.submission import Acknowledged, Submission

NAME = "audit"
LARGE = 100_000
"""Logs of more records are made once, on a node with its chain, and audited once with each number of processes."""
PROCESSES = (1, 2)
NOTE = "SQLite's page cache takes 64 MiB of it once the log is larger than that"


def measure(options: Options) -> Iterator[Row]:
    """Every payload opened and re-hashed; the chain is not asked, which would cost one call an anchor."""
    if options.records > LARGE:
        yield from _measure_node(options.records)
        return
    rounds = max(2, options.rounds // 4)
    peaks = {}
    with new_ledger() as ledger:
        for size in (options.records, 2 * options.records):
            ledger.fill(options.records)
            peaks[size] = _peak_mib(ledger.directory)
        times = interleave(
            rounds,
            {
                "with": lambda: _audit(ledger, check_signatures=True),
                "without": lambda: _audit(ledger, check_signatures=False),
            },
        )
    size = 2 * options.records
    yield times["with"].rate(NAME, "every signature checked", size, "records/s", target="≥ 5,000")
    yield times["without"].rate(NAME, "without signatures", size, "records/s", target="≥ 10,000")
    for size, peak in peaks.items():
        yield Row(NAME, f"peak memory of the process, log of {size:,}", "MiB", peak, peak, 1, "flat", NOTE)


def _measure_node(size: int) -> Iterator[Row]:
    """Made by the real intake, in batches of a thousand, anchored once a stretch; audited with every signature, every
    payload and the chain."""
    with TemporaryDirectory(prefix="yunxi-bench-") as name:
        directory = Path(name) / "node"
        create_node(directory, consortium="bench.example")
        node = Node.open(directory)
        try:
            _fill(node, size)
            for jobs in PROCESSES:
                times = interleave(1, {"audit": lambda jobs=jobs: _audit_node(node, size, jobs)})  # type: ignore[misc]
                what = f"every signature, payload and anchor, {jobs} process{'es' * (jobs > 1)}"
                yield times["audit"].rate(NAME, what, size, "records/s", target="≥ 5,000" if jobs == 1 else "")
            peak = _own_peak_mib()
            yield Row(NAME, f"peak memory, log of {size:,}", "MiB", peak, peak, 1, "flat", "with the making of it")
        finally:
            node.close()
            embedded.stop(directory / "chain")


def _fill(node: Node, size: int) -> None:
    add_department(node, DEPARTMENT, "市场监管 | Market regulation")
    anchorer = Anchorer(node)
    for start in range(0, size, 1_000):
        batch = [Submission(f"row-{n:012d}", record(n)) for n in range(start, min(start + 1_000, size))]
        assert all(isinstance(outcome, Acknowledged) for outcome in node.intake.submit(DEPARTMENT, batch))
        if start % STRETCH < 1_000:
            anchorer.round()
    anchorer.round()


def _audit_node(node: Node, size: int, jobs: int) -> None:
    found = audit_node(node, options=AuditOptions(jobs=jobs))
    assert found.good, found.first()
    assert found.logs[0].payloads == size


def _audit(ledger: Ledger, *, check_signatures: bool) -> None:
    with ledger.database.reading() as connection:
        log = read_logs(connection)[0]
        audit = LogAudit(
            connection, log, ledger.agent, ledger.keks, ledger.blobs, None, check_signatures=check_signatures
        )
        report = audit.run()
    assert report.good
    assert report.payloads == log.size


def _peak_mib(directory: Path) -> float:
    """Peak memory of a process that does nothing but audit."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_audit_alone, args=(directory, theirs))
    process.start()
    peak: float = mine.recv()
    process.join()
    return peak


def _audit_alone(directory: Path, pipe: Pipe) -> None:
    ledger = Ledger(directory)
    _audit(ledger, check_signatures=False)
    ledger.database.close()
    pipe.send(_own_peak_mib())


def _own_peak_mib() -> float:
    try:
        # not ru_maxrss: on Linux a new process inherits that of the one which started it
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024
