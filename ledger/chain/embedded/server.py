"""JSON-RPC over HTTP on the loopback address, for programs of this machine and not for its browsers.

Refused before the body is read: a Host that is not this machine (DNS rebinding), any Origin (web pages), a content
type other than JSON (form posts need no preflight), a missing or too large length.
"""

from __future__ import annotations

import json
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ledger.chain.embedded.rpc import Rpc
from ledger.errors import Malformed
from ledger.formats import strictjson

MAX_BODY = 2 * 1024 * 1024
IDLE_CONNECTION_SECONDS = 60


class RpcServer(ThreadingHTTPServer):
    """Listens from construction on, on 127.0.0.1; `rpc` is set before `serve_forever`."""

    daemon_threads = True
    request_queue_size = 128
    rpc: Rpc

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.last_used = time.monotonic()
        self.busy = 0
        self._busy_lock = threading.Lock()

    @property
    def hosts(self) -> tuple[str, str]:
        return f"127.0.0.1:{self.server_port}", f"localhost:{self.server_port}"

    def answer(self, body: bytes) -> bytes:
        with self._busy_lock:
            self.busy += 1
        try:
            request = strictjson.loads(body, what="JSON-RPC request", max_bytes=MAX_BODY)
            response = self.rpc.answer(request)
        except Malformed as error:
            response = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": str(error)}}
        finally:
            with self._busy_lock:
                self.busy -= 1
                self.last_used = time.monotonic()
        return json.dumps(response, separators=(",", ":")).encode("ascii")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "yunxi-embedded"
    sys_version = ""
    timeout = IDLE_CONNECTION_SECONDS
    wbufsize = -1  # one segment for headers and body: half of a small answer must not wait for an acknowledgement
    disable_nagle_algorithm = True
    server: RpcServer

    def do_POST(self) -> None:
        refusal = self._refusal()
        if refusal is not None:
            self.close_connection = True  # the body was not read
            self._respond(*refusal)
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._respond(HTTPStatus.OK, self.server.answer(body))

    def _refusal(self) -> tuple[HTTPStatus, bytes] | None:
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Host") not in self.server.hosts or "Origin" in self.headers:
            return HTTPStatus.FORBIDDEN, b'{"error":"only programs of this machine may ask"}'
        if self.headers.get_content_type() != "application/json":
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, b'{"error":"send application/json"}'
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            return HTTPStatus.LENGTH_REQUIRED, b'{"error":"send a Content-Length"}'
        if int(length[:16]) > MAX_BODY:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b'{"error":"the request is too large"}'
        return None

    def _respond(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Requests are not logged: they are many and say nothing."""
