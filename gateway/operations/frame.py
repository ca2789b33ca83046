"""What surrounds every request: its id, its limits, its line in the log, its figures, and the headers of the answer."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Iterable

import orjson
import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.operations.logs import places
from gateway.problems import MEDIA_TYPE, Problem
from gateway.site import Site

log = structlog.get_logger("yunxi.gateway")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_PROCESS = secrets.token_hex(8)
_numbers = itertools.count()
_SECURITY = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


class Frame:
    """ASGI middleware, outermost but for the server's own. A streamed answer is counted when it ends."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app, self._site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope["headers"])
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id)
        began = time.perf_counter()
        self._site.metrics.in_flight.inc()
        try:
            await self._app(scope, self._bounded(scope, receive), answer.send)
        except ClientDisconnect:
            pass  # there is nobody to be answered
        except Exception as error:  # noqa: BLE001  the last line of defence: nobody is shown a traceback
            log.error("failed", request_id=request_id, error=type(error).__name__, at=places(error))
            await answer.fail()
        finally:
            self._site.metrics.in_flight.dec()
            self._count(scope, answer.status, request_id, time.perf_counter() - began)

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """`receive` that raises Problem `too-large` once more than the allowed bytes came, or at once where they are
        announced. Less may be allowed than the settings say: `max_body_bytes` of the request's state."""
        came, state, most = 0, scope["state"], self._site.settings.max_body_bytes
        stated = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        announced = int(stated[:20]) if stated.isdigit() else 0

        async def bounded() -> Message:
            nonlocal came
            limit = min(most, state.get("max_body_bytes", most))
            message = await receive() if announced <= limit else {"type": "http.request"}
            came += len(message.get("body", b""))
            if max(announced, came) > limit:
                raise Problem("too-large", f"a request's body has at most {limit:,} bytes here: send less at a time")
            return message

        return bounded

    def _count(self, scope: Scope, status: int, request_id: str, seconds: float) -> None:
        route = route_template(scope)
        metrics, caller = self._site.metrics, scope["state"].get("caller")
        known = route != "-" and status != 405  # a method that no route has is one that the caller made up
        metrics.requests.labels(scope["method"] if known else "-", route, str(status)).inc()
        metrics.seconds.labels(route).observe(seconds)
        log.info(
            "request",
            request_id=request_id,
            method=scope["method"][:10],
            route=route,
            status=status,
            ms=round(seconds * 1000, 1),
            department=caller.department if caller else None,
            caller=caller.subject if caller else None,
            code=scope["state"].get("problem"),
        )


class _Answer:
    """The answer on its way out: its status, and our headers on it."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._request_id = send, request_id
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message["headers"])
            given = {name for name, _ in headers}
            headers += [(name, value) for name, value in _SECURITY if name not in given]
            message["headers"] = [*headers, (b"x-request-id", self._request_id.encode())]
        await self._send(message)

    async def fail(self) -> None:
        """Answers 500, unless the answer has begun: then the connection breaks off, which the client sees."""
        if self.status:
            raise ConnectionAbortedError("the answer was cut off")
        problem = Problem("internal", "the node failed to answer: tell whoever runs it the request_id")
        body = orjson.dumps(problem.to_json(self._request_id))
        headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": problem.kind.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    given = next((value.decode("latin-1") for name, value in headers if name == b"x-request-id"), "")
    return given if _REQUEST_ID.fullmatch(given) else f"{_PROCESS}{next(_numbers):016x}"


def route_template(scope: Scope) -> str:
    """The route's path with its parameters' names, `-` where no route was found: never what the caller asked for."""
    return getattr(scope.get("route"), "path", None) or "-"
