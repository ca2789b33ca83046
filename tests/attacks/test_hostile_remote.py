"""Logs audited over real sockets: a node as it serves, and a stranger in front of it who answers as they like."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.database import prepare
from gateway.people.service import people_of
from ledger.audit import CRITICAL, NodeAudit, remote
from ledger.audit.remote import MAX_ANSWER_BYTES, audit_remote
from ledger.audit.remote_state import RemoteStateFile
from ledger.errors import CouldNotRun, Refusal
from ledger.node import Node
from tests.fixtures.command import Yunxi
from tests.fixtures.nodes import SECOND_ANCHOR, Built, end_chain
from tests.fixtures.servers import Servers, free_port

SIZE = SECOND_ANCHOR
Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Passes on, but for what it was told to do otherwise."""

    protocol_version = "HTTP/1.1"
    server: Stranger

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        for part, answer in self.server.lies.items():
            if part in self.path:
                answer(self)
                return
        self.pass_on(self.path)

    def pass_on(self, path: str, change: Callable[[bytes], bytes] = lambda data: data) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        found = self.server.client.get(path, headers=headers)
        self.say(found.status_code, change(found.content), found.headers.get("content-type", ""))

    def say(self, status: int, data: bytes, form: str = "application/octet-stream", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": form, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


class Stranger(ThreadingHTTPServer):
    """Between the auditor and the node at `behind`."""

    daemon_threads = True

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.client = httpx.Client(base_url=behind, timeout=30, trust_env=False)
        self.lies: dict[str, Answer] = {}
        self.asked: list[str] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # the auditor has hung up on it

    def server_close(self) -> None:
        super().server_close()
        self.client.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@dataclass(slots=True)
class Served:
    """A node that serves, an auditor's token for it, and the stranger in front of it."""

    node: Node
    token: str
    url: str
    stranger: Stranger

    def audit(self, url: str | None = None, **options: Any) -> NodeAudit:
        return audit_remote(self.node, [url or self.stranger.url], "fire", **{"bearer": self.token, **options})


@pytest.fixture(scope="module")
def world(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory, port = built.copy_with_chain(tmp_path_factory.mktemp("served") / "node"), free_port()
    node = Node.open(directory)
    prepare(node.database)
    people = people_of(node)
    people.create("fire", "auditor", ["auditor"], None)
    token = people.begin("auditor").token
    node.connect()
    servers = Servers()
    server = servers.start(directory, port)
    url = f"http://127.0.0.1:{port}"
    stranger = Stranger(url)
    threading.Thread(target=stranger.serve_forever, daemon=True).start()
    deadline = time.monotonic() + 60
    while not server.answers() and time.monotonic() < deadline:
        time.sleep(0.05)
    try:
        yield Served(node, token, url, stranger)
    finally:
        stranger.shutdown()
        stranger.server_close()
        server.kill()
        servers.close()
        node.close()
        end_chain(directory)


@pytest.fixture
def served(world: Served) -> Served:
    world.stranger.lies, world.stranger.asked = {}, []
    return world


def test_an_honest_node_over_real_sockets(served: Served) -> None:
    for url in (served.url, served.stranger.url):
        found = served.audit(url).logs[0]
        assert (found.good, found.notices) == (True, []), found.findings
        assert found.size >= SIZE and found.signatures == found.records == found.size
        assert (found.anchors >= 2, found.receipts) == (True, remote.RECEIPTS)


def test_anybody_reads_hashes(served: Served) -> None:
    found = served.audit(bearer=None).logs[0]
    assert (found.good, found.records, [notice.kind for notice in found.notices]) == (True, 0, ["statements-closed"])


def test_receipts_of_another_department_are_not_for_this_auditor(served: Served) -> None:
    found = audit_remote(served.node, [served.url], "health", bearer=served.token).logs[0]
    assert (found.good, found.receipts, [n.kind for n in found.notices]) == (True, 0, ["receipts-closed"])


# ---- a stranger's answers ------------------------------------------------------------------------------------------


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/octet-stream")
    handler.send_header("Connection", "close")
    handler.end_headers()
    for _ in range(4 * MAX_ANSWER_BYTES // 65536):
        handler.wfile.write(bytes(65536))


def trickle(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/octet-stream")
    handler.send_header("Content-Length", "8192")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b"\0")
        handler.wfile.flush()
        time.sleep(0.1)


def trickle_of_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(100):
        handler.wfile.write(b"X-%d: 1\r\n" % number)
        handler.wfile.flush()
        time.sleep(0.1)


def cut(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "8192")
    handler.end_headers()
    handler.wfile.write(bytes(100))
    handler.close_connection = True


def compressed(handler: Handler) -> None:
    import gzip

    handler.say(200, gzip.compress(bytes(1 << 20)), Content_Encoding="gzip")


def says(status: int, data: bytes = b"", form: str = "application/octet-stream", **headers: str) -> Answer:
    return lambda handler: handler.say(status, data, form, **headers)


def changed(place: int) -> Answer:
    def flip(data: bytes) -> bytes:
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    return lambda handler: handler.pass_on(handler.path, flip)


def other_receipt(handler: Handler) -> None:
    """The receipt of whichever record was asked for first."""
    stranger = handler.server
    first = next(path for path in stranger.asked if path.endswith("/receipt"))
    handler.pass_on(first if handler.path != first else handler.path)


def withheld(handler: Handler) -> None:
    """All receipts but the third."""
    asked = sum(path.endswith("/receipt") for path in handler.server.asked)
    handler.say(404, b"") if asked == 3 else handler.pass_on(handler.path)


# what a stranger answers -> (path, answer, kind of the first finding, part of its sentence)
LIES: dict[str, tuple[str, Answer, str, str]] = {
    "a tile without an end": ("tile/0/000", endless, "not-served", "is longer than"),
    "a checkpoint without an end": ("checkpoint", endless, "not-served", "is longer than"),
    "a tile that is not there": ("tile/0/001", says(404), "not-served", "404"),
    "a tile that is elsewhere": ("tile/0/000", says(302, Location="http://127.0.0.1:1/"), "not-served", "elsewhere"),
    "a checkpoint that is elsewhere": ("checkpoint", says(301, Location="/x"), "not-served", "elsewhere"),
    "a page of HTML": ("tile/0/000", says(200, b"<html>" * 1366, "text/html"), "not-served", "served as text/html"),
    "a checkpoint of HTML": ("checkpoint", says(200, b"<html>", "text/html"), "not-served", "served as text/html"),
    "a checkpoint that is none": ("checkpoint", says(200, b"\0\xff" * 50, "text/plain"), "checkpoint-changed", ""),
    "a bundle that is none": ("tile/entries/000", says(200, b"\xff" * 90), "not-served", "tile/entries/000"),
    "a compressed tile": ("tile/0/000", compressed, "not-served", "compressed"),
    "another statement": ("tile/entries/000", changed(400), "statement-changed", "index 0"),
    "another leaf": ("tile/0/000", changed(5), "statement-changed", "index 0"),
    "another tile above": ("tile/1/000", changed(5), "tile-changed", "not what the tiles below"),
    "a receipt that is none": ("/receipt", says(200, b"hello", "text/plain"), "receipt-wrong", "the receipt of record"),
    "a receipt that is withheld": ("/receipt", withheld, "receipt-wrong", "others are served"),
    "the receipt of another record": ("/receipt", other_receipt, "receipt-wrong", "the receipt of record"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_named(served: Served, name: str) -> None:
    path, answer, kind, words = LIES[name]
    served.stranger.lies = {path: answer}
    found = served.audit()
    first = found.causes()[0].first
    assert (first.kind, first.severity, words in first.sentence) == (kind, CRITICAL, True), found.causes()


SILENCES: dict[str, tuple[str, Answer]] = {
    "a byte at a time": ("tile/0/000", trickle),
    "a header at a time": ("tile/0/000", trickle_of_headers),
    "half an answer": ("tile/0/000", cut),
    "an error": ("tile/0/001", says(503)),
    "too many requests": ("tile/entries/000", says(429)),
}


@pytest.mark.parametrize("name", SILENCES)
def test_no_answer_is_no_finding(served: Served, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "ANSWER_S", 1.0)
    path, answer = SILENCES[name]
    served.stranger.lies = {path: answer}
    with pytest.raises(CouldNotRun, match="ask again later"):
        served.audit()


def test_tiles_that_change_between_two_reads(served: Served) -> None:
    """A sample reads a tile for the entry and again for the proof: both are held against the checkpoint."""
    reads = iter(range(1_000))
    lie = changed(5)
    served.stranger.lies = {"tile/0/000": lambda h: lie(h) if next(reads) % 2 else h.pass_on(h.path)}
    found = served.audit(sample=100, seed=1, bearer=None)
    assert {cause.first.kind for cause in found.causes()} & {"tile-changed", "root-differs-from-chain"}


def test_a_log_that_shrinks_while_it_is_read(served: Served) -> None:
    node, asked = served.node, iter(range(1_000))
    from sqlalchemy import select

    from ledger.store.models import checkpoints

    with node.database.reading() as connection:
        here = select(checkpoints.c.note).where(checkpoints.c.log == 1).order_by(checkpoints.c.size)
        old = bytes(connection.scalars(here).first() or b"")
    served.stranger.lies = {"checkpoint": lambda h: h.say(200, old, "text/plain") if next(asked) else h.pass_on(h.path)}
    found = served.audit().logs[0]
    assert found.counts == {"rolled-back": 1}
    assert "shrank while it was read" in found.findings[0].sentence


# ---- cut off, and going on -----------------------------------------------------------------------------------------


def test_it_goes_on_where_it_was_cut_off(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "KEEP_TILES", 1)
    path, options = tmp_path / "state", {"urls": [served.stranger.url]}
    whole = served.audit()
    served.stranger.lies = {"tile/0/001": says(503)}
    with pytest.raises(CouldNotRun):
        served.audit(memory=RemoteStateFile(path, options))
    data = path.read_bytes()
    path.write_bytes(data + data[-50:-1])  # what a kill left of a line
    served.stranger.lies, served.stranger.asked = {}, []
    again = served.audit(memory=RemoteStateFile(path, options))
    assert again.logs[0] == whole.logs[0]
    assert not any("tile/0/000" in asked for asked in served.stranger.asked)
    served.stranger.asked = []
    assert served.audit(memory=RemoteStateFile(path, options)).logs == again.logs
    assert {asked.rpartition("/")[2] for asked in served.stranger.asked} == {"checkpoint"}
    with pytest.raises(Refusal, match="of another audit"):
        RemoteStateFile(path, {"urls": []})


def test_what_was_found_before_the_cut_is_found_after_it(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "KEEP_TILES", 1)
    path = tmp_path / "state"
    served.stranger.lies = {"tile/entries/000": changed(400), "tile/0/001": says(503)}
    with pytest.raises(CouldNotRun):
        served.audit(memory=RemoteStateFile(path, {}))
    served.stranger.lies = {}
    found = served.audit(memory=RemoteStateFile(path, {})).logs[0]
    assert found.counts == {"statement-changed": 1}


def test_the_command_resumes(served: Served, tmp_path: Path) -> None:
    token, directory = tmp_path / "token", served.node.settings.directory
    token.write_text(served.token)
    words = ("audit", "--remote", served.url, "--node", str(directory), "--token", str(token), "--json")
    first = Yunxi(tmp_path).good(*words, "--resume", "state").json()
    again = Yunxi(tmp_path).good(*words, "--resume", "state").json()
    assert first["good"] and [log["receipts"] for log in again["logs"]] == [log["receipts"] for log in first["logs"]]
