"""The witness over HTTP: what the specification says of statuses, and what keeps it standing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from ledger import bounded_http
from ledger.errors import CouldNotRun
from ledger.formats.checkpoint import Checkpoint, add_signatures, open_checkpoint
from ledger.formats.cosignature import verify_cosignature
from ledger.formats.note import Note
from ledger.store import schema
from ledger.store.database import Database
from ledger.witness.core import Witness
from ledger.witness.protocol import MAX_REQUEST_BYTES
from ledger.witness.server import WitnessServer
from ledger.witness.store import SqlStore
from tests.witness.simulation import (
    NOW,
    ORIGIN,
    SimulatedLog,
    call,
    check_one_history,
    log_key,
    new_witness,
    raw,
    serving,
    witness_key,
)
from tests.witness.test_core import HONEST, REFUSED

MONITORED = f"/{sha256(ORIGIN.encode()).hexdigest()}/checkpoint"


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    database = Database(f"sqlite:///{tmp_path / 'witness.sqlite'}")
    schema.upgrade(database)
    yield new_witness(SqlStore.of(witness_key(), database))
    database.close()


@pytest.fixture
def server(witness: Witness) -> Iterator[WitnessServer]:
    with serving(witness) as opened:
        yield opened


def post(server: WitnessServer, body: bytes) -> tuple[int, str, bytes]:
    return call(server.url, "POST", "/add-checkpoint", body)


def test_200_the_answer_is_the_cosignature_line(server: WitnessServer, witness: Witness) -> None:
    status, _, body = post(server, HONEST.request(0).serialize())
    assert status == 200
    assert body.startswith("— ".encode())
    assert body.endswith(b"\n")
    assert verify_cosignature(add_signatures(HONEST.note, [body]), witness.vkey) == NOW


@pytest.mark.parametrize("name", REFUSED)
def test_the_status_is_the_specification_s(server: WitnessServer, name: str) -> None:
    assert post(server, SimulatedLog(5).request(0).serialize())[0] == 200
    status, kind, body = post(server, REFUSED[name][0].serialize())
    assert status == int(name[:3])
    assert (kind, body) == ("text/x.tlog.size", b"5\n") if status == 409 else kind.startswith("text/plain")


def test_409_for_a_log_that_was_never_cosigned_says_zero(server: WitnessServer) -> None:
    assert post(server, HONEST.request(3).serialize()) == (409, "text/x.tlog.size", b"0\n")


def test_a_forked_log_of_the_same_size_is_answered_422(server: WitnessServer) -> None:
    assert post(server, HONEST.request(0).serialize())[0] == 200
    assert post(server, SimulatedLog(8, fork=2, branch="'").request(8).serialize())[0] == 422


@pytest.mark.parametrize("body", [b"", b"\n", b"old 0\n\n", b"\x00" * 1000, b"old 0\n" * 5000])
def test_400_for_what_is_no_request(server: WitnessServer, body: bytes) -> None:
    assert post(server, body)[0] == 400


def test_monitors_get_the_newest_checkpoint_with_both_signatures(server: WitnessServer, witness: Witness) -> None:
    assert call(server.url, "GET", MONITORED)[0] == 404
    for old, new in ((0, 5), (5, 8)):
        post(server, SimulatedLog(new).request(old).serialize())
    status, _, note = call(server.url, "GET", MONITORED)
    assert status == 200
    assert open_checkpoint(note, log_key()) == Checkpoint(ORIGIN, 8, HONEST.root)
    assert verify_cosignature(note, witness.vkey) == NOW
    assert len(Note.parse(note).signatures) == 2


@pytest.mark.parametrize("path", ["/", "/checkpoint", "/add-checkpoint", MONITORED.upper(), MONITORED + "/", "/../x"])
def test_404_for_every_other_path(server: WitnessServer, path: str) -> None:
    assert call(server.url, "GET", path)[0] == 404
    if path != "/add-checkpoint":
        assert call(server.url, "POST", path, HONEST.request(0).serialize())[0] == 404


# -- what keeps it standing --

HEAD = b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\n"
HOSTILE = {
    "an oversize body, announced": (HEAD + b"Content-Length: %d\r\n\r\n" % (MAX_REQUEST_BYTES + 1), b"413"),
    "a length of thousands of digits": (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", b"413"),
    "no length": (HEAD + b"\r\n", b"411"),
    "a negative length": (HEAD + b"Content-Length: -1\r\n\r\n", b"411"),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
    "chunks and a length": (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", b"411"),
    "a body that ends early": (HEAD + b"Content-Length: 100\r\n\r\nold 0\n", b"408"),
    "a method of its own": (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", b"501"),
    "a header line without end": (HEAD + b"X: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
    "a thousand headers": (HEAD + b"X: y\r\n" * 1000 + b"\r\n", b"431"),
}


@pytest.mark.parametrize(("data", "status"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_answered_and_the_witness_goes_on(server: WitnessServer, data: bytes, status: bytes) -> None:
    assert raw(server.url, data).split(b" ", 2)[1] == status
    assert post(server, HONEST.request(0).serialize())[0] == 200


def test_an_oversize_body_is_not_read(server: WitnessServer) -> None:
    answer = raw(server.url, HEAD + b"Content-Length: 999999999999\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"Connection: close" in answer


def test_a_body_that_trickles_is_cut_off(server: WitnessServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_http, "REQUEST_SECONDS", 0.3)
    answer = raw(server.url, HEAD + b"Content-Length: 100\r\n\r\n", then=b"old", pause=0.6)
    assert answer.startswith(b"HTTP/1.1 408")


def test_more_connections_than_allowed_are_turned_away(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_http, "MAX_CONNECTIONS", 2)
    import socket

    with serving(witness) as server:
        idle = [socket.create_connection(server.server_address[:2]) for _ in range(2)]  # type: ignore[arg-type]
        for connection in idle:  # wait until they are taken
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert connection.recv(100)
        assert raw(server.url, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 503")
        for connection in idle:
            connection.close()


def test_an_address_that_is_taken_is_a_sentence(server: WitnessServer, witness: Witness) -> None:
    with pytest.raises(CouldNotRun, match="cannot listen"):
        WitnessServer(witness, "127.0.0.1", server.server_port)


def test_concurrent_requests_of_two_histories_leave_one(server: WitnessServer, witness: Witness) -> None:
    """Eight clients push, as fast as they can, an honest log and a fork of it: one history comes out."""
    branches = [SimulatedLog(0), SimulatedLog(0, fork=3, branch="'")]
    cosigned: list[SimulatedLog] = []
    lock = threading.Lock()

    def push(number: int) -> None:
        log, old = branches[number % 2], 0
        for size in range(1 + number, 40, 4):
            for _ in range(3):
                status, _, body = post(server, log.at(size).request(min(old, size)).serialize())
                if status == 200:
                    with lock:
                        cosigned.append(log.at(size))
                if status != 409:
                    break
                old = int(body)
                if old > size:
                    break

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(push, range(8)))
    assert len(cosigned) > 3
    check_one_history(cosigned)
    head = witness.store.head(ORIGIN)
    assert head is not None
    assert head.size == max(log.size for log in cosigned)
