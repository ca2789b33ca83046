"""The receiver of webhooks over HTTP/1.1: POST /hooks/<department>/<mapping>.

Plain HTTP: put a TLS proxy before it, as bodies are readable on the way. Bounded: a request has a length, at most 1
MiB, arrives within `REQUEST_SECONDS`, and at most `MAX_CONNECTIONS` are served at once; others are answered 503.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from adapters.webhook import Hook, NotTaken
from ledger.errors import CouldNotRun

MAX_BODY_BYTES = 1 << 20
MAX_CONNECTIONS = 64
REQUEST_SECONDS = 10.0
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class WebhookServer(ThreadingHTTPServer):
    """Listens from construction on; `serve_forever` answers, `shutdown` from another thread ends it.

    `hooks`: feed (`<department>/<mapping>`) to hook. Raises CouldNotRun when the address cannot be had.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hooks: Mapping[str, Hook], host: str, port: int) -> None:
        self._hooks = hooks
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise CouldNotRun(f"the receiver cannot listen on {host} port {port}: {error}") from error

    @property
    def url(self) -> str:
        """What stands before `/hooks/…`."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
            return
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

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
        """Status and sentence for a message."""
        hook = self._hooks.get(path.removeprefix("/hooks/")) if path.startswith("/hooks/") else None
        if hook is None:
            return 404, "there is no such hook; hooks are POST /hooks/<department>/<mapping>"
        try:
            return 202, "taken" if hook.take(headers, body) else "taken before"
        except NotTaken as refusal:
            return refusal.status, str(refusal)
        except CouldNotRun as error:
            return 503, str(error)


class _Handler(BaseHTTPRequestHandler):
    server: WebhookServer
    protocol_version = "HTTP/1.1"
    server_version = "yunxi"
    sys_version = ""
    timeout = REQUEST_SECONDS
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdecimal() or self.headers.get("Transfer-Encoding"):
            self._say(411, "a message has a Content-Length", close=True)
        elif len(length) > 12 or int(length) > MAX_BODY_BYTES:
            self._say(413, f"a message has at most {MAX_BODY_BYTES:,} bytes", close=True)
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                headers = {name.lower(): value for name, value in self.headers.items()}
                self._say(*self.server.answer(self.path, headers, body))

    def _say(self, status: int, sentence: str, *, close: bool = False) -> None:
        data = f"{sentence}\n".encode()
        self.close_connection = self.close_connection or close
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        if status == 503:
            self.send_header("Retry-After", "30")
        if close:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Says nothing: a path or a header could carry anything."""
