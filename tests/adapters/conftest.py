"""One harness a kind of source, all with the same few verbs, so that one behaviour suite runs on every kind."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from adapters.mapping import FeedMapping, parse_mapping
from adapters.mapping import open_source as open_source
from adapters.source import Source
from adapters.state import AdapterState

HERE = Path(__file__).parent
CHICAGO = HERE.parents[2] / "shared" / "data" / "chicago"

COLUMNS = ("id", "shop", "day", "count")

MAPPING = """
mapping = "shops"
version = 1
department = "market"
type = "inspection.report"
v = 1
matter = "M-1"
system = "test"
zone = "Asia/Shanghai"
key = ["id"]
ignore = [{ignore}]

[source]
{source}

[fields]
"occurred_at" = {{ column = "day", as = "date" }}
"facility_name" = {{ column = "shop" }}
"result" = {{ constant = "pass" }}
"minor_violations" = {{ column = "count", as = "integer", min = 0 }}

[[subjects]]
kind = "name"
value = "shop"
"""


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"adapters_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


worker = _load("worker")


def make_row(number: int, **changes: str) -> dict[str, str]:
    """Row `number` of a plausible export."""
    row = {"id": f"r{number:05}", "shop": f"店铺 {number}", "day": "2024-03-05", "count": str(number % 7)}
    return {**row, **changes}


def make_rows(count: int, start: int = 0) -> list[dict[str, str]]:
    """`count` rows that all can be sealed."""
    return [make_row(number) for number in range(start, start + count)]


class Harness:
    """A source of one kind that tests fill. `position` is where its n-th row (from 1) stands."""

    source_table: str
    ignore: tuple[str, ...] = ()
    row_is_its_key = False
    environ: Mapping[str, str] = {}

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def mapping_text(self) -> str:
        """The mapping file."""
        return MAPPING.format(source=self.source_table, ignore=", ".join(f'"{name}"' for name in self.ignore))

    def mapping(self) -> FeedMapping:
        """The mapping, loaded."""
        return parse_mapping(self.mapping_text().encode(), "shops.toml", self.directory)

    def source(self) -> Source:
        """The source, opened anew."""
        return open_source(self.mapping(), environ=self.environ)

    def write(self, rows: list[dict[str, str]]) -> None:
        """Replaces everything."""
        raise NotImplementedError

    def append(self, rows: list[dict[str, str]]) -> None:
        """Adds rows behind the others."""
        raise NotImplementedError

    def position(self, number: int) -> str:
        """Where row `number` (from 1) stands after one `write`."""
        raise NotImplementedError


class CsvHarness(Harness):
    """A plain CSV file."""

    source_table = 'kind = "csv"\npath = "shops.csv"'
    name = "shops.csv"

    def write(self, rows: list[dict[str, str]]) -> None:
        (self.directory / self.name).write_bytes((",".join(COLUMNS) + "\n").encode() + self._lines(rows))

    def append(self, rows: list[dict[str, str]]) -> None:
        with (self.directory / self.name).open("ab") as stream:
            stream.write(self._lines(rows))

    def position(self, number: int) -> str:
        return f"{self.name}:{number + 1}"

    def _lines(self, rows: list[dict[str, str]]) -> bytes:
        buffer = io.StringIO()
        csv.DictWriter(buffer, COLUMNS, lineterminator="\n").writerows(rows)
        return buffer.getvalue().encode()


class GzipHarness(CsvHarness):
    """A compressed CSV file; it grows by being written anew, as exports do."""

    source_table = 'kind = "csv"\npath = "shops.csv.gz"'
    name = "shops.csv.gz"

    def write(self, rows: list[dict[str, str]]) -> None:
        self._rows = list(rows)
        data = (",".join(COLUMNS) + "\n").encode() + self._lines(self._rows)
        (self.directory / self.name).write_bytes(gzip.compress(data, mtime=0))

    def append(self, rows: list[dict[str, str]]) -> None:
        self.write(self._rows + rows)


class JsonlHarness(CsvHarness):
    """A JSON Lines file."""

    source_table = 'kind = "jsonl"\npath = "shops.jsonl"'
    name = "shops.jsonl"

    def write(self, rows: list[dict[str, str]]) -> None:
        (self.directory / self.name).write_bytes(self._lines(rows))

    def position(self, number: int) -> str:
        return f"{self.name}:{number}"

    def _lines(self, rows: list[dict[str, str]]) -> bytes:
        return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


class XlsxHarness(Harness):
    """A workbook."""

    source_table = 'kind = "xlsx"\npath = "shops.xlsx"'

    def write(self, rows: list[dict[str, str]]) -> None:
        self._rows = list(rows)
        book = Workbook()
        sheet = book.active
        assert sheet is not None
        sheet.title = "Shops"
        sheet.append(COLUMNS)
        for row in self._rows:
            sheet.append([row[name] for name in COLUMNS])
        book.save(self.directory / "shops.xlsx")

    def append(self, rows: list[dict[str, str]]) -> None:
        self.write(self._rows + rows)

    def position(self, number: int) -> str:
        return f"shops.xlsx:Shops!{number + 1}"


class SqlHarness(Harness):
    """A table with a rising number, given anew to every row that is written: what a time of change is in practice."""

    source_table = 'kind = "sql"\nurl_env = "SHOPS_URL"\ntable = "shops"\ncursor = ["seq"]'
    ignore = ("seq",)
    row_is_its_key = True

    def __init__(self, directory: Path, url: str) -> None:
        super().__init__(directory)
        self.environ = {"SHOPS_URL": url}
        self.engine: Engine = create_engine(url, poolclass=NullPool)
        serial = "BIGSERIAL" if "postgresql" in url else "INTEGER"
        order = "" if "postgresql" in url else "AUTOINCREMENT"
        self.execute("DROP TABLE IF EXISTS shops")
        self.execute(f"CREATE TABLE shops (seq {serial} PRIMARY KEY {order}, id TEXT, shop TEXT, day TEXT, count TEXT)")

    def execute(self, statement: str, rows: list[dict[str, Any]] | None = None) -> None:
        """One statement, committed."""
        with self.engine.begin() as connection:
            connection.execute(text(statement), rows)

    def write(self, rows: list[dict[str, str]]) -> None:
        self.execute("DELETE FROM shops")
        self.append(rows)

    def append(self, rows: list[dict[str, str]]) -> None:
        if rows:
            self.execute("INSERT INTO shops (id, shop, day, count) VALUES (:id, :shop, :day, :count)", rows)
        self._written = rows

    def position(self, number: int) -> str:
        return f"shops:{self._written[number - 1]['id']}"


KINDS = ["csv", "csv-gz", "jsonl", "xlsx", "sqlite", "postgresql"]


def make_harness(kind: str, directory: Path) -> Harness:
    """An empty harness of a kind. Skips PostgreSQL where the environment names none."""
    match kind:
        case "csv":
            return CsvHarness(directory)
        case "csv-gz":
            return GzipHarness(directory)
        case "jsonl":
            return JsonlHarness(directory)
        case "xlsx":
            return XlsxHarness(directory)
        case "sqlite":
            return SqlHarness(directory, f"sqlite:///{directory / 'shops.db'}")
        case _:
            return SqlHarness(directory, postgres_url())


def postgres_url() -> str:
    """The test database, or a skip that says what to set."""
    url = os.environ.get("YUNXI_TEST_POSTGRES")
    if not url:
        pytest.skip("YUNXI_TEST_POSTGRES does not name a PostgreSQL database (postgresql+psycopg://…)")
    return url


@pytest.fixture(params=KINDS)
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    """Every kind of source in turn."""
    return make_harness(request.param, tmp_path)


@pytest.fixture
def state() -> Iterator[AdapterState]:
    """A fresh state in memory."""
    engine = create_engine("sqlite://")
    yield AdapterState(engine)
    engine.dispose()


@pytest.fixture
def ledger() -> Iterator[Any]:
    """A fresh ledger in memory."""
    simulated = worker.SimulatedLedger()
    yield simulated
    simulated._db.close()


@pytest.fixture
def rows() -> Callable[..., list[dict[str, str]]]:
    """`rows(count, start=0)`."""
    return make_rows


@pytest.fixture
def row() -> Callable[..., dict[str, str]]:
    """`row(number, **changes)`."""
    return make_row


@pytest.fixture(scope="session")
def chicago() -> Path:
    """The directory of the Chicago exports, or a skip."""
    if not CHICAGO.is_dir():
        pytest.skip("the Chicago exports (../shared/data/chicago beside the repository) are not on this machine")
    return CHICAGO
