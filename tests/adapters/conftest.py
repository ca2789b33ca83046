"""One harness a kind of source, all with the same few verbs, so that one behaviour suite runs on every kind."""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import hmac
import importlib.util
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from openpyxl import Workbook
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from adapters.mapping import FeedMapping, parse_mapping
from adapters.mapping import open_source as open_source
from adapters.source import Source
from adapters.state import AdapterState
from adapters.webhook import hook_of, make_secret
from adapters.webhook_server import WebhookServer
from tests.fixtures.databases import fresh_database
from tests.fixtures.servers import free_port

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
http_server = _load("http_server")


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
    offers_again = True
    environ: Mapping[str, str] = {}

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def mapping_text(self) -> str:
        """The mapping file."""
        return MAPPING.format(source=self.source_table, ignore=", ".join(f'"{name}"' for name in self.ignore))

    def mapping(self) -> FeedMapping:
        """The mapping, loaded."""
        return parse_mapping(self.mapping_text().encode(), "shops.toml", self.directory)

    def parse(self, text: str) -> FeedMapping:
        """Another text as the mapping."""
        return parse_mapping(text.encode(), "shops.toml", self.directory)

    def open(self, mapping: FeedMapping) -> Source:
        """The source as another mapping reads it."""
        return open_source(mapping, environ=self.environ)

    def source(self) -> Source:
        """The source, opened anew."""
        return self.open(self.mapping())

    def write(self, rows: list[dict[str, str]]) -> None:
        """Replaces everything."""
        raise NotImplementedError

    def append(self, rows: list[dict[str, str]]) -> None:
        """Adds rows behind the others."""
        raise NotImplementedError

    def position(self, number: int) -> str:
        """Where row `number` (from 1) stands after one `write`."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends what the source runs on."""


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


class XmlHarness(XlsxHarness):
    """An XML file."""

    source_table = 'kind = "xml"\npath = "shops.xml"\nrow = "shops/shop-row"'

    def write(self, rows: list[dict[str, str]]) -> None:
        self._rows = list(rows)
        (self.directory / "shops.xml").write_bytes(xml_of(self._rows))

    def position(self, number: int) -> str:
        return f"shops.xml:{number}"


def xml_of(rows: list[dict[str, str]]) -> bytes:
    """Rows as an XML export."""
    items = ["".join(f"<{name}>{escape(row[name])}</{name}>" for name in COLUMNS) for row in rows]
    body = "".join(f"  <shop-row>{item}</shop-row>\n" for item in items)
    return f'<?xml version="1.0"?>\n<shops>\n{body}</shops>\n'.encode()


class FolderHarness(CsvHarness):
    """A drop folder with one file."""

    source_table = 'kind = "folder"\npath = "inbox"\nformat = "csv"\nsettle_seconds = 0'

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        (directory / "inbox").mkdir(exist_ok=True)

    def write(self, rows: list[dict[str, str]]) -> None:
        super().write(rows)
        (self.directory / self.name).rename(self.directory / "inbox" / self.name)

    def append(self, rows: list[dict[str, str]]) -> None:
        with (self.directory / "inbox" / self.name).open("ab") as stream:
            stream.write(self._lines(rows))


_RISING = {
    "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "postgresql": "BIGSERIAL PRIMARY KEY",
    "mysql": "BIGINT PRIMARY KEY AUTO_INCREMENT",
}


class SqlHarness(Harness):
    """A table with a rising number, given anew to every row that is written: what a time of change is in practice."""

    source_table = 'kind = "sql"\nurl_env = "SHOPS_URL"\ntable = "shops"\ncursor = ["seq"]'
    ignore = ("seq",)
    row_is_its_key = True

    def __init__(self, directory: Path, url: str, drop: Callable[[], None] = lambda: None) -> None:
        super().__init__(directory)
        self.environ = {"SHOPS_URL": url}
        self.engine: Engine = create_engine(url, poolclass=NullPool)
        self.close = drop  # type: ignore[method-assign]
        rising = _RISING[self.engine.dialect.name]
        self.execute(f"CREATE TABLE shops (seq {rising}, id TEXT, shop TEXT, day TEXT, count TEXT)")

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


class RestHarness(Harness):
    """A service with cursors, which gives rows behind a rising number; every row that is written gets a new one."""

    source_table = """kind = "rest"
url_env = "SHOPS_URL"
rows = "data.items"
pages = "cursor"
next = "data.next"
size_param = "limit"
page_size = 10
since = "seq"
since_param = "after"
"""
    ignore = ("seq",)
    row_is_its_key = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._rows: list[dict[str, Any]] = []
        self._seq = 0
        self.server = http_server.Server(self._answer)
        self.environ = {"SHOPS_URL": f"{self.server.url}/shops"}

    def write(self, rows: list[dict[str, str]]) -> None:
        self._rows = []
        self.append(rows)

    def append(self, rows: list[dict[str, str]]) -> None:
        self._written = rows
        for row in rows:
            self._seq += 1
            self._rows.append({"seq": self._seq, **row})

    def position(self, number: int) -> str:
        return f"/shops:{self._written[number - 1]['id']}"

    def close(self) -> None:
        self.server.close()

    def _answer(self, asked: Any) -> Any:
        behind = [row for row in self._rows if row["seq"] > int(asked.params.get("after", 0))]
        start, size = int(asked.params.get("cursor", 0)), int(asked.params["limit"])
        more = start + size < len(behind)
        items = behind[start : start + size]
        return http_server.Said({"data": {"items": items, "next": str(start + size) if more else None}})


class Broker:
    """A real Mosquitto on loopback, with nothing on disk."""

    def __init__(self, directory: Path, extra: str = "") -> None:
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            pytest.skip("mosquitto is not installed (scripts/services start installs it where apt is)")
        self.port = free_port()
        config = directory / "mosquitto.conf"
        config.write_text(
            f"listener {self.port} 127.0.0.1\nuser root\nallow_anonymous true\nmax_queued_messages 0\n"
            f"set_tcp_nodelay true\n{extra}"
        )
        self._process = subprocess.Popen([program, "-c", str(config)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.wait()

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while self._process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        self.close()
        raise AssertionError("mosquitto does not answer")

    def publish(self, messages: list[tuple[str, bytes]], qos: int = 1) -> None:
        """Publishes in order, and returns once the broker has them."""
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.max_inflight_messages_set(1000)
        client.max_queued_messages_set(0)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        sent = [client.publish(topic, payload, qos) for topic, payload in messages]
        for item in sent:
            item.wait_for_publish(30)
        client.disconnect()
        client.loop_stop()

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=60)


class MqttHarness(Harness):
    """Messages of one topic; what is written is published, and what was published stays so."""

    offers_again = False

    def __init__(self, directory: Path, broker: Broker) -> None:
        super().__init__(directory)
        self.broker = broker
        self.topic = f"shops/{uuid.uuid4().hex}"
        self.source_table = (
            'kind = "mqtt"\nhost_env = "BROKER"\ntls = false\nidle_seconds = 0\n'
            f'client_id = "{self.topic[-30:]}"\ntopics = ["{self.topic}/#"]'
        )
        self.environ = {"BROKER": f"127.0.0.1:{broker.port}"}
        # from now on the broker keeps what is published
        assert list(self.source().pages({}, 1)) == []

    def write(self, rows: list[dict[str, str]]) -> None:
        self._rows: list[bytes] = []
        self.append(rows)

    def append(self, rows: list[dict[str, str]]) -> None:
        payloads = [json.dumps(row).encode() for row in rows]
        self._rows += payloads
        if payloads:
            self.broker.publish([(f"{self.topic}/in", payload) for payload in payloads])

    def position(self, number: int) -> str:
        return f"{self.topic}/in:{hashlib.sha256(self._rows[number - 1]).hexdigest()[:16]}"


class WebhookHarness(Harness):
    """Messages that are pushed to a real receiver; what was pushed stays pushed."""

    source_table = 'kind = "webhook"\ninbox = "inbox.db"\nsecret_env = "SHOPS_SECRET"'

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.secret = make_secret()
        self.environ = {"SHOPS_SECRET": self.secret}
        hook = hook_of(self.mapping().options, directory, self.environ)
        self.server = WebhookServer({"market/shops": hook}, "127.0.0.1", 0)
        self._hook = hook
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self._sent = 0

    def write(self, rows: list[dict[str, str]]) -> None:
        self._written: list[bytes] = []
        self.append(rows)

    def append(self, rows: list[dict[str, str]]) -> None:
        with closing(HTTPConnection("127.0.0.1", self.server.server_address[1], timeout=60)) as connection:
            for row in rows:
                self._sent += 1
                body = json.dumps(row).encode()
                assert self.push(connection, f"msg_{self._sent}", body) == 202
                self._written.append(body)

    def push(self, connection: HTTPConnection, identity: str, body: bytes, **changes: str) -> int:
        """Sends one message, signed; the status that comes back."""
        connection.request("POST", "/hooks/market/shops", body, self.signed(identity, body, **changes))
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def signed(self, identity: str, body: bytes, at: float | None = None, **changes: str) -> dict[str, str]:
        """The three headers (Standard Webhooks), some of them changed."""
        sent = str(int(time.time() if at is None else at))
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        digest = hmac.digest(key, f"{identity}.{sent}.".encode() + body, "sha256")
        signature = "v1," + base64.b64encode(digest).decode()
        headers = {"webhook-id": identity, "webhook-timestamp": sent, "webhook-signature": signature}
        return headers | {name.replace("_", "-"): value for name, value in changes.items()}

    def position(self, number: int) -> str:
        return f"inbox:{hashlib.sha256(self._written[number - 1]).hexdigest()[:16]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()
        self._hook._inbox.close()


KINDS = ["csv", "csv-gz", "jsonl", "xlsx", "xml", "folder", "rest", "webhook", "sqlite", "postgresql", "mariadb"]
# every run waits to see whether more messages come
KINDS += [pytest.param("mqtt", marks=pytest.mark.slow)]  # type: ignore[list-item]


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for all tests, or a skip that says what is missing."""
    made = Broker(tmp_path_factory.mktemp("broker"))
    yield made
    made.close()


def make_harness(kind: str, directory: Path) -> Harness:
    """An empty harness of a kind. Skips databases of which the environment names no server."""
    match kind:
        case "csv":
            return CsvHarness(directory)
        case "csv-gz":
            return GzipHarness(directory)
        case "jsonl":
            return JsonlHarness(directory)
        case "xlsx":
            return XlsxHarness(directory)
        case "xml":
            return XmlHarness(directory)
        case "folder":
            return FolderHarness(directory)
        case "rest":
            return RestHarness(directory)
        case "webhook":
            return WebhookHarness(directory)
        case "sqlite":
            return SqlHarness(directory, f"sqlite:///{directory / 'shops.db'}")
        case _:
            return SqlHarness(directory, *fresh_database(kind))


@pytest.fixture(params=KINDS)
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """Every kind of source in turn."""
    if request.param == "mqtt":
        made: Harness = MqttHarness(tmp_path, request.getfixturevalue("broker"))
    else:
        made = make_harness(request.param, tmp_path)
    yield made
    made.close()


@pytest.fixture
def harness_of() -> Callable[[str, Path], Harness]:
    """`harness_of(kind, directory)`; whoever makes one closes it."""
    return make_harness


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
