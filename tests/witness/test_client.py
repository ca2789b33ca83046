"""The log's side: what it makes of a witness's answers, and of whatever stands between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ledger.errors import (
    CheckpointInvalid,
    ConsistencyInvalid,
    CouldNotRun,
    HistoryRefused,
    SignatureInvalid,
    YunxiError,
)
from ledger.formats.cosignature import cosign
from ledger.formats.note import Note
from ledger.witness.client import MAX_ANSWER_BYTES, HttpWitness, ask
from ledger.witness.protocol import AddCheckpoint, LogUnknown, WitnessUnreachable
from tests.witness.simulation import NOW, ORIGIN, WITNESS, SimulatedLog, new_witness, serving, signer, witness_key

LOG = SimulatedLog(8)


def test_a_witness_in_this_process_and_one_over_http_answer_alike() -> None:
    here, there = new_witness(), new_witness()
    with serving(there) as server:
        for old, new in ((0, 5), (5, 8), (8, 8)):
            answers = [
                ask(witness, witness_key(), LOG.at(new).note, new, old, LOG.path)
                for witness in (here, HttpWitness(server.url))
            ]
            assert answers[0] == answers[1]
            assert answers[0].time == NOW


@pytest.mark.parametrize("believed", [0, 3, 7])
def test_a_wrong_belief_is_corrected_by_what_the_witness_says(believed: int) -> None:
    witness = new_witness()
    witness.add_checkpoint(LOG.at(5).request(0))
    with serving(witness) as server:
        assert ask(HttpWitness(server.url), witness_key(), LOG.note, 8, believed, LOG.path).time == NOW


def test_a_witness_that_is_ahead_means_that_we_lost_entries() -> None:
    witness = new_witness()
    witness.add_checkpoint(LOG.request(0))
    with serving(witness) as server, pytest.raises(HistoryRefused, match="already"):
        ask(HttpWitness(server.url), witness_key(), LOG.at(5).note, 5, 0, LOG.path)


@pytest.mark.parametrize(
    ("log", "error"),
    [
        (SimulatedLog(8, fork=2, branch="'"), ConsistencyInvalid),
        (SimulatedLog(8, origin="stranger.example"), LogUnknown),
    ],
)
def test_refusals_arrive_as_what_they_are(log: SimulatedLog, error: type[YunxiError]) -> None:
    witness = new_witness()
    witness.add_checkpoint(LOG.at(5).request(0))
    with serving(witness) as server, pytest.raises(error):
        ask(HttpWitness(server.url), witness_key(), log.note, 8, 5, log.path)


def test_a_cosignature_for_another_checkpoint_is_not_accepted() -> None:
    class Liar:
        def add_checkpoint(self, request: AddCheckpoint) -> bytes:
            key = signer(f"witness {WITNESS}")
            return cosign(Note.parse(LOG.at(3).note).text, NOW, WITNESS, key.public, key.sign)

    with pytest.raises(SignatureInvalid):
        ask(Liar(), witness_key(), LOG.note, 8, 0, LOG.path)


def test_unknown_signatures_in_the_answer_are_dropped() -> None:
    class Two:
        def add_checkpoint(self, request: AddCheckpoint) -> bytes:
            return new_witness(name="other.example").add_checkpoint(request) + new_witness().add_checkpoint(request)

    assert ask(Two(), witness_key(), LOG.note, 8, 0, LOG.path).line.count(b"\n") == 1


# -- whatever stands between --

Behaviour = Callable[[Any, bytes], None]


class Middle:
    """A server that answers by a function of handler and request body."""

    def __init__(self, behave: Behaviour) -> None:
        self.calls = 0
        middle = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                middle.calls += 1
                behave(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass  # the client has left

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def answer(status: int, body: bytes = b"", kind: str = "text/plain", length: int | None = None) -> Behaviour:
    def behave(handler: Any, _: bytes) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return behave


def trickle(handler: Any, _: bytes) -> None:
    handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
    for _ in range(100):
        handler.wfile.write(b"X: y\r\n")
        handler.wfile.flush()
        threading.Event().wait(0.1)


def silence(handler: Any, _: bytes) -> None:
    threading.Event().wait(3)


def hang_up(handler: Any, _: bytes) -> None:
    handler.connection.close()


LINE = new_witness().add_checkpoint(LOG.request(0))
ODD: dict[str, tuple[Behaviour, type[YunxiError]]] = {
    "a gateway's error page": (answer(502, b"<html>Bad Gateway</html>"), WitnessUnreachable),
    "a redirect": (answer(302, b""), WitnessUnreachable),
    "a captive portal": (answer(200, b"<html>Please sign in</html>"), WitnessUnreachable),
    "an empty answer": (answer(200, b""), WitnessUnreachable),
    "an answer cut in the middle": (answer(200, LINE[:60], length=len(LINE)), WitnessUnreachable),
    "a line cut, its length corrected": (answer(200, LINE[:60]), WitnessUnreachable),
    "a line with a bit flipped": (answer(200, LINE.replace(b"A", b"B", 1)), SignatureInvalid),
    "an endless answer": (answer(200, b"x" * (MAX_ANSWER_BYTES + 1)), WitnessUnreachable),
    "an answer with the request in it": (answer(200, LOG.note), WitnessUnreachable),
    "409 without a size": (answer(409, b"later\n", "text/x.tlog.size"), WitnessUnreachable),
    "409 of another kind": (answer(409, b"8\n"), WitnessUnreachable),
    "409 for ever, each time another size": (answer(409, b"3\n", "text/x.tlog.size"), HistoryRefused),
    "403 by a firewall": (answer(403, b"blocked"), CheckpointInvalid),
    "too many requests": (answer(429, b"slow down"), WitnessUnreachable),
    "a connection that is closed": (hang_up, WitnessUnreachable),
    "silence": (silence, WitnessUnreachable),
    "a header that never ends": (trickle, WitnessUnreachable),
}


@pytest.fixture
def middle() -> Iterator[Callable[[Behaviour], Middle]]:
    opened: list[Middle] = []

    def make(behave: Behaviour) -> Middle:
        opened.append(Middle(behave))
        return opened[-1]

    yield make
    for server in opened:
        server.close()


@pytest.mark.parametrize(("behave", "error"), ODD.values(), ids=ODD)
def test_proxy_trouble_never_passes_for_a_cosignature(
    middle: Callable[[Behaviour], Middle], behave: Behaviour, error: type[YunxiError]
) -> None:
    witness = HttpWitness(middle(behave).url, timeout=0.5)
    with pytest.raises(error) as caught:
        ask(witness, witness_key(), LOG.note, 8, 0, LOG.path)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


def test_nobody_listens() -> None:
    with serving(new_witness()) as server:
        url = server.url
    with pytest.raises(WitnessUnreachable):
        HttpWitness(url).add_checkpoint(LOG.request(0))


@pytest.mark.parametrize(
    "url", ["", "ftp://x", "http://", "https://u:p@x", "http://x?y", "http://x:99999", "http://[::"]
)
def test_an_unfit_url_is_refused(url: str) -> None:
    with pytest.raises(CouldNotRun):
        HttpWitness(url)


def test_monitors_read_what_the_witness_has() -> None:
    witness = new_witness()
    with serving(witness) as server:
        assert HttpWitness(server.url).checkpoint(ORIGIN) is None
        witness.add_checkpoint(LOG.request(0))
        head = witness.store.head(ORIGIN)
        assert head is not None
        assert HttpWitness(server.url + "/").checkpoint(ORIGIN) == head.note
