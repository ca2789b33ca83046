"""A witness over HTTP/1.1: POST /add-checkpoint and GET /<SHA-256 of an origin, hex>/checkpoint.

Plain HTTP: nothing secret passes, and every answer is signed; put a TLS proxy before it where clients want https.
Bounded: a request has a length, at most 68 KiB, and arrives within `REQUEST_SECONDS`; beyond `MAX_CONNECTIONS`
connections are answered 503. Requests run in parallel, the store decides which of two comes first.
"""

from __future__ import annotations

import re
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ledger.errors import CheckpointInvalid, ConsistencyInvalid, CouldNotRun, Malformed, YunxiError
from ledger.witness.core import Witness
from ledger.witness.protocol import MAX_REQUEST_BYTES, SIZE_TYPE, AddCheckpoint, LogUnknown, SizeConflict

MAX_CONNECTIONS = 64
MAX_AT_WORK = 8
"""Below the connections that the database's pool gives out; further requests wait."""

REQUEST_SECONDS = 10.0
DRAIN_SECONDS = 0.5
DRAIN_BYTES = 1024 * 1024
TEXT = "text/plain; charset=utf-8"

_MONITORED = re.compile(r"/([0-9a-f]{64})/checkpoint")
_STATUS: dict[type[YunxiError], HTTPStatus] = {
    Malformed: HTTPStatus.BAD_REQUEST,
    CheckpointInvalid: HTTPStatus.FORBIDDEN,
    LogUnknown: HTTPStatus.NOT_FOUND,
    ConsistencyInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    CouldNotRun: HTTPStatus.SERVICE_UNAVAILABLE,
}

Answer = tuple[HTTPStatus, str, bytes]


class WitnessServer(ThreadingHTTPServer):
    """Listens from construction on; `serve_forever` answers, `shutdown` from another thread ends it.

    Raises CouldNotRun when the address cannot be had. Port 0 takes a free one: see `url`.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, witness: Witness, host: str, port: int) -> None:
        self.witness = witness
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._at_work = threading.BoundedSemaphore(MAX_AT_WORK)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise CouldNotRun(f"the witness cannot listen on {host} port {port}: {error}") from error

    @property
    def url(self) -> str:
        """The submission and monitoring prefix."""
        host, port = self.server_address[:2]
        name = host.decode() if isinstance(host, (bytes, bytearray)) else host
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            _turn_away(request)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks is the client's matter; anything else is ours, and shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "yunxi-witness"
    sys_version = ""
    timeout = REQUEST_SECONDS
    wbufsize = -1  # headers and body in one segment
    disable_nagle_algorithm = True
    server: WitnessServer

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, b"send a Content-Length\n")
            return
        if int(length[:16]) > MAX_REQUEST_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"the request is too large\n")
            return
        body = self._read(int(length))
        if len(body) < int(length):
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, b"the request did not arrive in time\n")
            return
        self._respond(*self.server.answer_post(self.path, body))

    def do_GET(self) -> None:
        self._respond(*self.server.answer_get(self.path))

    def _read(self, length: int) -> bytes:
        """Up to `length` bytes: less when the time is over or the client has gone."""
        deadline, parts = time.monotonic() + REQUEST_SECONDS, []
        while length and (left := deadline - time.monotonic()) > 0:
            self.connection.settimeout(left)
            try:
                part = self.rfile.read1(length)
            except TimeoutError:
                break
            if not part:
                break
            parts.append(part)
            length -= len(part)
        self.connection.settimeout(self.timeout)
        return b"".join(parts)

    def _refuse(self, status: HTTPStatus, body: bytes) -> None:
        self.close_connection = True  # the request was not read to its end
        self._respond(status, TEXT, body)
        # closing over unread bytes resets the connection, and the client might lose the answer
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(DRAIN_SECONDS)
        left = DRAIN_BYTES
        with suppress(OSError):
            while left > 0 and (part := self.rfile.read1(65536)):
                left -= len(part)

    def _respond(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Requests are not logged: refused checkpoints are kept as conflicts, the rest says nothing."""


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


def _turn_away(request: socket.socket) -> None:
    request.settimeout(0.1)
    try:
        request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    except OSError:
        return
