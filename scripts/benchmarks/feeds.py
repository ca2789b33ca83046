"""Fifty feeds at once under one supervisor: the first reading, what waiting costs, and how soon a new row is sealed."""

from __future__ import annotations

import json
import sqlite3
import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time, sleep
from urllib.parse import parse_qs, urlsplit

from adapters.state import AdapterState
from adapters.supervise import FeedStatus, Supervisor
from benchmarks.base import DEPARTMENT, Ledger, Options, Row, new_ledger
from ledger.submission import Acknowledged, Outcome, Submission

NAME = "feeds"
FEEDS = 50
INTERVAL = 1.0

MAPPING = """
mapping = "feed-{number:02}"
version = 1
department = "{department}"
type = "note.added"
v = 1
system = "bench"
key = ["no"]
ignore = ["seq"]
[source]
{source}
[fields]
"text" = "text"
"occurred_at" = "at"
"""

SOURCES = {
    "csv": 'kind = "csv"\npath = "{number:02}.csv"',
    "jsonl": 'kind = "jsonl"\npath = "{number:02}.jsonl"',
    "sql": 'kind = "sql"\nurl_env = "BENCH_SQL"\ntable = "feed_{number:02}"\ncursor = ["seq"]',
    "rest": 'kind = "rest"\nurl = "{url}/{number:02}"\npages = "none"\nsince = "seq"\nsince_param = "after"',
}


def measure(options: Options) -> Iterator[Row]:
    """Everything runs in this process, the REST server too; the source of one more feed is never there."""
    each = max(options.records // FEEDS, 2)
    with new_ledger() as ledger, _sources() as desk:
        for number in range(FEEDS):
            desk.add(number, each)
        desk.add_failing(FEEDS)
        taken = _Taken(ledger)
        state = AdapterState(ledger.database.engine_for_writing())
        supervisor = Supervisor(desk.directory, taken.submit_to, state, environ=desk.environ, interval=INTERVAL)
        stop = threading.Event()
        thread = threading.Thread(target=supervisor.run, args=(stop,))
        start, cpu = perf_counter(), process_time()
        thread.start()
        _until(supervisor, lambda feed: feed.lag is not None)
        seconds, used = perf_counter() - start, process_time() - cpu
        rows = FEEDS * each
        yield _one("first reading of 50 feeds, four kinds", rows / seconds, "records/s", f"{rows:,} rows")
        yield _one("processor during the first reading", 100 * used / seconds, "% of a core")
        yield _waiting(options.rounds)
        yield from _new_rows(desk, taken, supervisor, options.rounds)
        stop.set()
        thread.join()


def _waiting(rounds: int) -> Row:
    shares = []
    for _ in range(min(rounds, 5)):
        start, cpu = perf_counter(), process_time()
        sleep(2)
        shares.append(100 * (process_time() - cpu) / (perf_counter() - start))
    note = f"each source looked at every {INTERVAL:.0f} s"
    return Row(
        NAME,
        "processor while nothing comes",
        "% of a core",
        min(shares),
        statistics.median(shares),
        len(shares),
        note=note,
    )


def _new_rows(desk: _Desk, taken: _Taken, supervisor: Supervisor, rounds: int) -> Iterator[Row]:
    """A row appears in every source at once: seconds until its acknowledgement."""
    waits: list[float] = []
    longest: list[float] = []
    for number in range(min(rounds, 5)):
        asked = {}
        for feed in range(FEEDS):
            asked[desk.append(feed)] = perf_counter()
        while not asked.keys() <= taken.at.keys():
            sleep(0.02)
        found = [taken.at[key] - moment for key, moment in asked.items()]
        waits += found
        longest.append(max(found))
        sleep(0.3 * number)
    failing = [feed for feed in supervisor.statuses() if feed.failures]
    note = f"{len(failing)} feed fails all the time"
    yield Row(
        NAME, "new row to acknowledged, any feed", "s", min(waits), statistics.median(waits), len(waits), note=note
    )
    yield Row(
        NAME, "new row to acknowledged, slowest of 50", "s", min(longest), statistics.median(longest), len(longest)
    )


def _one(what: str, value: float, unit: str, note: str = "") -> Row:
    return Row(NAME, what, unit, value, value, 1, note=note)


def _until(supervisor: Supervisor, done: Callable[[FeedStatus], bool]) -> None:
    while True:
        statuses = supervisor.statuses()
        if len(statuses) > FEEDS and all(done(status) or status.failures for status in statuses):
            return
        sleep(0.01)


class _Taken:
    """The ledger's intake, and when each key was acknowledged."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.at: dict[str, float] = {}

    def submit_to(self, department: str) -> Callable[[Sequence[Submission]], list[Outcome]]:
        """A Submit."""

        def submit(batch: Sequence[Submission]) -> list[Outcome]:
            outcomes = self._ledger.intake.submit(department, batch)
            now = perf_counter()
            self.at |= {outcome.key: now for outcome in outcomes if isinstance(outcome, Acknowledged)}
            return outcomes

        return submit


class _Desk:
    """The sources of the feeds: files, one SQLite database, one REST server."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._sql = sqlite3.connect(directory / "source.db", isolation_level=None)
        self._sql.execute("PRAGMA journal_mode=WAL")
        self._rest: dict[str, list[dict[str, object]]] = {}
        self._counts: dict[int, int] = {}
        self.environ = {"BENCH_SQL": f"sqlite:///{directory / 'source.db'}"}
        rest = self._rest

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = urlsplit(self.path)
                after = int(parse_qs(asked.query).get("after", ["0"])[0])
                data = json.dumps([row for row in rest[asked.path.strip("/")] if int(str(row["seq"])) > after]).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Nothing is said."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        """Ends server and database."""
        self.server.shutdown()
        self.server.server_close()
        self._sql.close()

    def add(self, number: int, rows: int) -> None:
        """A feed with some rows."""
        kind = list(SOURCES)[number % len(SOURCES)]
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        if kind == "csv":
            (self.directory / f"{number:02}.csv").write_text("no,text,at,seq\n")
        elif kind == "sql":
            self._sql.execute(f"CREATE TABLE feed_{number:02} (seq INTEGER PRIMARY KEY, no TEXT, text TEXT, at TEXT)")
        elif kind == "rest":
            self._rest[f"{number:02}"] = []
        self._counts[number] = 0
        for _ in range(rows):
            self.append(number)
        self._write(number, SOURCES[kind].format(number=number, url=url))

    def add_failing(self, number: int) -> None:
        """A feed whose source is never there."""
        self._write(number, f'kind = "csv"\npath = "{number:02}.csv"')

    def _write(self, number: int, source: str) -> None:
        text = MAPPING.format(number=number, department=DEPARTMENT, source=source)
        (self.directory / f"{number:02}.toml").write_text(text)

    def append(self, number: int) -> str:
        """One more row; its idempotency key."""
        self._counts[number] += 1
        seq, kind = self._counts[number], list(SOURCES)[number % len(SOURCES)]
        row = {"no": f"{seq:06}", "text": f"row {seq} of feed {number}", "at": "2025-06-01T08:00:00+08:00", "seq": seq}
        if kind == "sql":
            table = f"feed_{number:02}"
            self._sql.execute(f"INSERT INTO {table} (no, text, at, seq) VALUES (:no, :text, :at, :seq)", row)  # noqa: S608
        elif kind == "rest":
            self._rest[f"{number:02}"].append(row)
        else:
            line = ",".join(map(str, row.values())) if kind == "csv" else json.dumps(row)
            with (self.directory / f"{number:02}.{kind}").open("a") as file:
                file.write(line + "\n")
        return f"feed-{number:02}/{seq:06}"


@contextmanager
def _sources() -> Iterator[_Desk]:
    with TemporaryDirectory(prefix="yunxi-bench-feeds-") as directory:
        desk = _Desk(Path(directory))
        try:
            yield desk
        finally:
            desk.close()
