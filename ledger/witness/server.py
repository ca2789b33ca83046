"""A witness over HTTP/1.1: POST /add-checkpoint and GET /<SHA-256 of an origin, hex>/checkpoint.

Plain HTTP: nothing secret passes, and every answer is signed; put a TLS proxy before it where clients want https.
A request has at most 68 KiB. Requests run in parallel, the store decides which of two comes first.
"""

from __future__ import annotations

import re
import signal
import threading
from http import HTTPStatus

from ledger.bounded_http import TEXT, BoundedHandler, BoundedServer
from ledger.errors import CheckpointInvalid, ConsistencyInvalid, CouldNotRun, Malformed, YunxiError
from ledger.witness.core import Witness
from ledger.witness.protocol import MAX_REQUEST_BYTES, SIZE_TYPE, AddCheckpoint, LogUnknown, SizeConflict

MAX_AT_WORK = 8
"""Below the connections that the database's pool gives out; further requests wait."""

_MONITORED = re.compile(r"/([0-9a-f]{64})/checkpoint")
_STATUS: dict[type[YunxiError], HTTPStatus] = {
    Malformed: HTTPStatus.BAD_REQUEST,
    CheckpointInvalid: HTTPStatus.FORBIDDEN,
    LogUnknown: HTTPStatus.NOT_FOUND,
    ConsistencyInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    CouldNotRun: HTTPStatus.SERVICE_UNAVAILABLE,
}

Answer = tuple[HTTPStatus, str, bytes]


class WitnessServer(BoundedServer):
    """Listens from construction on; `serve_forever` answers, `shutdown` from another thread ends it.

    Raises CouldNotRun when the address cannot be had. Port 0 takes a free one: see `url`.
    """

    def __init__(self, witness: Witness, host: str, port: int) -> None:
        self.witness = witness
        self._at_work = threading.BoundedSemaphore(MAX_AT_WORK)
        super().__init__("the witness", _Handler, host, port)

    def answer_post(self, path: str, body: bytes) -> Answer:
        """What a request with this body gets."""
        if path != "/add-checkpoint":
            return HTTPStatus.NOT_FOUND, TEXT, b"a witness takes POST /add-checkpoint\n"
        try:
            request = AddCheckpoint.parse(body)
            with self._at_work:
                return HTTPStatus.OK, TEXT, self.witness.add_checkpoint(request)
        except SizeConflict as error:
            return HTTPStatus.CONFLICT, SIZE_TYPE, f"{error.size}\n".encode()
        except YunxiError as error:
            return _status_of(error), TEXT, f"{error}\n".encode()

    def answer_get(self, path: str) -> Answer:
        """The last checkpoint of the log that the path names."""
        match = _MONITORED.fullmatch(path)
        try:
            with self._at_work:
                note = self.witness.checkpoint(match[1]) if match else None
        except YunxiError as error:
            return _status_of(error), TEXT, f"{error}\n".encode()
        if note is None:
            return HTTPStatus.NOT_FOUND, TEXT, b"this witness has no such checkpoint\n"
        return HTTPStatus.OK, TEXT, note


class _Handler(BoundedHandler):
    server_version = "yunxi-witness"
    max_body_bytes = MAX_REQUEST_BYTES
    server: WitnessServer

    def do_POST(self) -> None:  # noqa: N802 - the library's name
        body = self.read_body()
        if body is not None:
            self.respond(*self.server.answer_post(self.path, body))

    def do_GET(self) -> None:  # noqa: N802 - the library's name
        self.respond(*self.server.answer_get(self.path))


def serve(server: WitnessServer) -> None:
    """Answers until SIGTERM or SIGINT, for the main thread of a process. What is in hand then may be cut off, as by any
    crash."""
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    ending.wait()
    server.shutdown()
    server.server_close()


def _status_of(error: YunxiError) -> HTTPStatus:
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), HTTPStatus.FORBIDDEN)
