"""A small HTTP/1.1 server whose every resource has a bound, for the few places that need one without the gateway.

A request has a length, which the handler bounds, and arrives within `REQUEST_SECONDS`; beyond `MAX_CONNECTIONS`
connections are answered 503. Plain HTTP: put a TLS proxy before it.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ledger.errors import CouldNotRun

MAX_CONNECTIONS = 64
REQUEST_SECONDS = 10.0
DRAIN_SECONDS = 0.5
DRAIN_BYTES = 1024 * 1024
TEXT = "text/plain; charset=utf-8"
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class BoundedServer(ThreadingHTTPServer):
    """Listens from construction on; `serve_forever` answers, `shutdown` from another thread ends it. Port 0 takes a
    free one: see `url`. Raises CouldNotRun, naming `what`, when the address cannot be had."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, what: str, handler: type[BoundedHandler], host: str, port: int) -> None:
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), handler)
        except (OSError, OverflowError) as error:
            raise CouldNotRun(f"{what} cannot listen on {host} port {port}: {error}") from error

    @property
    def url(self) -> str:
        """What stands before every path."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        request.settimeout(0.1)
        with suppress(OSError):
            request.sendall(_BUSY)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks is the client's matter; anything else is ours, and shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class BoundedHandler(BaseHTTPRequestHandler):
    """Reads bodies within their bounds; a subclass answers what it takes."""

    protocol_version = "HTTP/1.1"
    server_version = "yunxi"
    sys_version = ""
    timeout = REQUEST_SECONDS
    wbufsize = -1  # headers and body in one segment
    disable_nagle_algorithm = True
    max_body_bytes = 0

    def read_body(self) -> bytes | None:
        """The request's body; None where the request was answered with a refusal instead."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length")
            return None
        if len(length) > 16 or int(length) > self.max_body_bytes:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"send at most {self.max_body_bytes:,} bytes")
            return None
        body = self._read(int(length))
        if len(body) < int(length):
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time")
            return None
        return body

    def respond(self, status: int, content_type: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Sends an answer, which nobody may cache."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

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

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        self.close_connection = True  # the request was not read to its end
        self.respond(status, TEXT, f"{sentence}\n".encode())
        # closing over unread bytes resets the connection, and the client might lose the answer
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(DRAIN_SECONDS)
        left = DRAIN_BYTES
        with suppress(OSError):
            while left > 0 and (part := self.rfile.read1(65536)):
                left -= len(part)

    def log_message(self, *args: Any) -> None:
        """Says nothing: a path or a header could carry anything."""
