"""What every benchmark stands on: rows of the table, interleaved timing, the machine, a ledger to measure."""

from __future__ import annotations

import os
import platform
import sqlite3
import ssl
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import orjson
from cryptography.hazmat.backends.openssl import backend
from sqlalchemy import insert

from ledger.formats.merkle import EMPTY_ROOT
from ledger.intake import Intake
from ledger.keks import KekRing
from ledger.keys import FileKeyAgent
from ledger.record_types import BUILT_IN, RecordTypes
from ledger.records import RecordReader
from ledger.store import schema
from ledger.store.blobs import BlobStore
from ledger.store.database import Database
from ledger.store.models import logs
from ledger.store.reading import LogRow, read_logs
from ledger.submission import Acknowledged, Submission

DEPARTMENT = "market"
ORIGIN = f"yunxi.example/{DEPARTMENT}"
MILLION = 1_000_000

Run = Callable[[], object]
"""What is timed."""

Prepare = Callable[[], Run]
"""Makes ready outside the clock, and returns what is timed."""

_LIBRARIES = ("yunxi", "cryptography", "orjson", "jsonschema-rs", "sqlalchemy", "psycopg", "web3", "py-evm")


# -- the table --


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `best` is the kindest of `runs` (lowest cost, highest rate), `median` the usual one."""

    benchmark: str
    what: str
    unit: str
    best: float
    median: float
    runs: int
    target: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """How much to do. `records`: size of the logs that are read; `growth`: sizes of the synthetic ones."""

    records: int
    batch: int
    rounds: int
    growth: tuple[int, ...]


# -- timing --


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of each run, in order."""

    seconds: tuple[float, ...]

    def cost(self, benchmark: str, what: str, each: int, *, target: str = "", note: str = "") -> Row:
        """µs for each of the `each` things that one run does."""
        scaled = [MILLION * second / each for second in self.seconds]
        return Row(benchmark, what, "µs/record", min(scaled), statistics.median(scaled), len(scaled), target, note)

    def rate(self, benchmark: str, what: str, each: int, unit: str, *, target: str = "", note: str = "") -> Row:
        """Things a second."""
        rates = [each / second for second in self.seconds]
        return Row(benchmark, what, unit, max(rates), statistics.median(rates), len(rates), target, note)

    def ratio(self, benchmark: str, what: str, other: Times, *, target: str = "", note: str = "") -> Row:
        """How many times the cost of `other`, both timed in the same rounds: best to best, and the median round."""
        rounds = [mine / theirs for mine, theirs in zip(self.seconds, other.seconds, strict=True)]
        best = min(self.seconds) / min(other.seconds)
        return Row(benchmark, what, "ratio", best, statistics.median(rounds), len(rounds), target, note)


def interleave(rounds: int, contenders: Mapping[str, Run]) -> dict[str, Times]:
    """Times each contender once a round, so that a slow spell of a shared machine meets all of them."""
    return interleave_prepared(rounds, {name: always(run) for name, run in contenders.items()})


def always(run: Run) -> Prepare:
    """For a contender that needs no making ready."""
    return lambda: run


def interleave_prepared(rounds: int, contenders: Mapping[str, Prepare]) -> dict[str, Times]:
    """The same for contenders that need new input each time."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, prepare in contenders.items():
            run = prepare()
            start = perf_counter()
            result = run()
            seconds[name].append(perf_counter() - start)
            assert not callable(result), f"{name} only made ready"
    return {name: Times(tuple(taken)) for name, taken in seconds.items()}


# -- what is measured --


def record(number: int) -> dict[str, Any]:
    """An inspection report as an adapter makes it: 28 values, 10 disclosure units."""
    return {
        "type": "inspection.report",
        "v": 1,
        "matter": "330106.market.food",
        "officers": [{"id": "ZJ-330106-02217", "name": "王建国"}, {"id": "ZJ-330106-03391", "name": "李晓梅"}],
        "subjects": [{"kind": "licence", "value": f"JY1330106{number:07d}", "name": "杭州云溪餐饮有限公司"}],
        "place": {
            "address": "杭州市西湖区文三路 478 号 1 层",
            "latitude": "30.276343",
            "longitude": "120.130553",
            "datum": "WGS-84",
        },
        "occurred_at": "2026-03-02T09:15:00+08:00",
        "occurred_precision": "minute",
        "source": {"system": "market-supervision", "mapping": "market_reports", "row": str(number)},
        "facility_name": "云溪小馆（文三路店）",
        "facility_kind": "餐饮服务",
        "risk": "B",
        "inspection_kind": "双随机检查",
        "result": "责令改正",
        "violations": [
            {"code": "F-2-07", "text": "后厨冷藏柜内生熟食品未分开存放，现场温度记录缺失两日。", "severity": "serious"}
        ],
        "serious_violations": 1,
    }


def record_bytes() -> int:
    """Size of `record` as JSON."""
    return len(orjson.dumps(record(1_000_000)))


class Ledger:
    """A department's ledger without a chain: keys, database, log and intake in one directory."""

    def __init__(self, directory: Path, url: str | None = None) -> None:
        """Makes the ledger in an empty directory, or opens the one that is there. `url`: a database elsewhere."""
        fresh = not (directory / "keys").exists()
        self.directory = directory
        self.agent = FileKeyAgent.create(directory / "keys") if fresh else FileKeyAgent.open(directory / "keys")
        self.database = Database(url or f"sqlite:///{directory}/ledger.sqlite")
        self.blobs, self.keks = BlobStore(directory / "blobs"), KekRing(self.agent)
        self.types = RecordTypes.load(BUILT_IN)
        if fresh:
            self._create()
        self.intake = Intake(self.database, self.blobs, self.agent, self.keks, self.types)
        self.reader = RecordReader(self.keks, self.blobs)
        self._submitted = 0

    def _create(self) -> None:
        self.agent.create_department(DEPARTMENT)
        schema.upgrade(self.database)
        with self.database.writing() as connection:
            row = {"log": 1, "department": DEPARTMENT, "origin": ORIGIN, "size": 0, "root": EMPTY_ROOT}
            connection.execute(insert(logs).values(row))
            self.keks.begin_epoch(connection, 1, DEPARTMENT, 0)

    def batch(self, size: int) -> list[Submission]:
        """Submissions that no batch had before."""
        start, self._submitted = self._submitted, self._submitted + size
        return [Submission(f"row-{number:012d}", record(number)) for number in range(start, start + size)]

    def submit(self, batch: list[Submission]) -> list[str]:
        """Takes a batch in; the ids of its records."""
        outcomes = self.intake.submit(DEPARTMENT, batch)
        return [outcome.record_id for outcome in outcomes if isinstance(outcome, Acknowledged)]

    def fill(self, size: int) -> list[str]:
        """Takes in as many records; their ids."""
        ids: list[str] = []
        while len(ids) < size:
            ids += self.submit(self.batch(min(1_000, size - len(ids))))
        return ids

    def skip(self, count: int) -> None:
        """Leaves out as many numbers of records."""
        self._submitted += count

    def log(self) -> LogRow:
        """The log as it stands."""
        with self.database.reading() as connection:
            return read_logs(connection)[0]


@contextmanager
def new_ledger(url: str | None = None) -> Iterator[Ledger]:
    """A ledger in a directory that goes away again."""
    with TemporaryDirectory(prefix="yunxi-bench-") as directory:
        ledger = Ledger(Path(directory), url)
        try:
            yield ledger
        finally:
            ledger.database.close()


# -- where it is measured --


def machine() -> dict[str, Any]:
    """The machine, without its name."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Python, SQLite, both OpenSSLs and the libraries that the paths stand on."""
    found = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "openssl of hashlib": ssl.OPENSSL_VERSION,
        "openssl of cryptography": backend.openssl_version_text(),
    }
    return found | {name: _version(name) for name in _LIBRARIES}


def today() -> str:
    """The date, in UTC."""
    return datetime.now(UTC).date().isoformat()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
