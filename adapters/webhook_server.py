"""The receiver of webhooks over HTTP/1.1: POST /hooks/<department>/<mapping>, at most 1 MiB a message.

Plain HTTP: put a TLS proxy before it, as bodies are readable on the way.
"""

from __future__ import annotations

from collections.abc import Mapping

from adapters.webhook import Hook, NotTaken
from ledger.bounded_http import TEXT, BoundedHandler, BoundedServer
from ledger.errors import CouldNotRun

MAX_BODY_BYTES = 1 << 20


class WebhookServer(BoundedServer):
    """Answers messages for `hooks`: feed (`<department>/<mapping>`) to hook. Raises CouldNotRun when the address cannot
    be had."""

    def __init__(self, hooks: Mapping[str, Hook], host: str, port: int) -> None:
        self._hooks = hooks
        super().__init__("the receiver", _Handler, host, port)

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


class _Handler(BoundedHandler):
    server: WebhookServer
    max_body_bytes = MAX_BODY_BYTES

    def do_POST(self) -> None:  # noqa: N802 - the library's name
        body = self.read_body()
        if body is None:
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, sentence = self.server.answer(self.path, headers, body)
        self.respond(status, TEXT, f"{sentence}\n".encode(), {"Retry-After": "30"} if status == 503 else None)
