"""The full audit of a log: records a second, and whether memory grows with the log."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Iterator
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from benchmarks.base import Ledger, Options, Row, interleave, new_ledger
from ledger.audit import LogAudit
from ledger.store.reading import read_logs

NAME = "audit"
NOTE = "SQLite's page cache takes 64 MiB of it once the log is larger than that"


def measure(options: Options) -> Iterator[Row]:
    """Every payload opened and re-hashed; the chain is not asked, which would cost one call an anchor."""
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
