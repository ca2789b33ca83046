"""The server's protocols, with the limits that uvicorn's do not have: how long a head may be, how long it may take, how
long a body may pause. Nothing is known yet of whoever is at the other end.

Slow answers are not looked at: a stream may take hours.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 << 10
"""Of a request's head, and of what chunks bring along besides their bytes (h11 has such a limit of its own)."""

HEAD_SECONDS = 20.0
BODY_SECONDS = 60.0
"""Between two pieces of a body."""


class _Impatient(asyncio.Protocol):
    """Ends connections whose other end keeps us waiting. Mixed in before one of uvicorn's protocols."""

    cycle: Any
    flow: Any
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _awaited: str | None = None
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await()

    def _await(self) -> None:
        """Starts the clock: for a head once, for a body with every piece."""
        before, self._awaited = self._awaited, self._missing()
        if before == self._awaited == "head":
            return
        if self._timer is not None:
            self._timer.cancel()
        seconds = {"head": HEAD_SECONDS, "body": BODY_SECONDS, None: None}[self._awaited]
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._end)

    def _missing(self) -> str | None:
        if self.cycle is None or self.cycle.response_complete:
            return "head"
        return "body" if self.cycle.more_body else None

    def _end(self) -> None:
        if self._awaited == "body" and self.flow.read_paused:
            self._await()  # it is us who keep them waiting
        else:
            self.transport.close()


class Plain(_Impatient, HttpToolsProtocol):
    """HTTP without TLS."""

    _unread = 0

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        super().data_received(data)
        if self._unread > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too long.")

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._unread = 0
        # uvicorn would append the trailers of a chunked body to the head, past whatever a proxy made of that
        self.headers = []

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._unread = 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._unread = 0


class Encrypted(_Impatient, H11Protocol):
    """HTTP in TLS. Lets the application see which certificate the connection was made with: the SHA-256 of its DER, in
    hex."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        channel = transport.get_extra_info("ssl_object")
        certificate = channel.getpeercert(binary_form=True) if channel is not None else None
        if certificate is not None:
            shown = {"certificate_sha256": hashlib.sha256(certificate).hexdigest()}
            self.app_state = {**self.app_state, **shown}
