"""Signed requests to the departments' nodes, over the network or, for a department of this node, in this process.

Both ways are the same: the same signed request to the same application, answered through the same checks.
"""

from __future__ import annotations

import hashlib
import secrets
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import orjson
from anyio import to_thread

from gateway.peers.errors import PeerRefused, PeerUnreachable
from gateway.problems import MEDIA_TYPE
from ledger.errors import CouldNotRun, RequestRefused
from ledger.http_signatures import Target, sign_request

if TYPE_CHECKING:
    from fastapi import FastAPI

    from gateway.site import Site

CONNECT_S = 5.0
ANSWER_S = 30.0
MAX_ANSWER_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """A peer's good answer (a status below 400). Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """The content as JSON. Raises ValueError."""
        return orjson.loads(self.content)


@dataclass(frozen=True, slots=True)
class Reach:
    """How this process last got on with a peer: seconds since 1970, None for never. `since`: it has answered ever
    since then without a failure in between."""

    since: float | None = None
    failed_at: float | None = None
    error: str | None = None


class PeerClient:
    """Calls peers in the name of departments of this node. One for a site; used on the application's event loop."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._app: FastAPI | None = None
        self._clients: dict[str | None, httpx.AsyncClient] = {}
        self._reach: dict[str, Reach] = {}
        self._lock = threading.Lock()
        self._certificate: tuple[Path, Path] | None = None
        self._ca: Path | None = None

    def serve(self, app: FastAPI) -> None:
        """Says which application answers for the departments of this node."""
        self._app = app

    def use_tls(self, certificate: Path, key: Path, ca: Path | None = None) -> None:
        """Presents this certificate (PEM files) to peers from now on, and trusts those that `ca` signed instead of
        those that the machine trusts."""
        self._certificate, self._ca = (certificate, key), ca

    async def request(
        self,
        owner: str,
        method: str,
        path: str,
        *,
        as_department: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float = ANSWER_S,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """Asks the node of `owner`, signed with the request key of `as_department`, a department of this node.

        `path` begins with /v1 and may carry a query; a body is JSON unless `headers` say otherwise; `timeout` is for
        the whole answer, in seconds. Redirects are not followed. Ask for pieces: an answer is held in memory.
        Raises PeerUnreachable, also for an answer of more than `max_bytes`; PeerRefused for a status of 400 or more;
        CouldNotRun where this node cannot sign or does not know the peer's address.
        """
        base, client = await to_thread.run_sync(self._way_to, owner)
        waits = httpx.Timeout(timeout, connect=CONNECT_S)
        request = client.build_request(method, base + path, content=body or None, timeout=waits)
        request.headers.update({"content-type": "application/json"} if body else {})
        request.headers.update({"accept-encoding": "identity", **(headers or {})})
        signed = await to_thread.run_sync(self._sign, request, body, as_department)
        request.headers.update(signed)
        try:
            with anyio.fail_after(timeout):
                answer = await _ask(client, request, owner, max_bytes)
        except TimeoutError as error:
            self._note(owner, "did not answer in time")
            raise PeerUnreachable(owner, "did not answer in time") from error
        except PeerUnreachable as error:
            self._note(owner, str(error))
            raise
        self._note(owner, None)
        if answer.status >= 400:
            raise PeerRefused(owner, answer.status, _problem_of(owner, answer))
        return answer

    def reach(self, department: str) -> Reach:
        """How this process last got on with a peer."""
        with self._lock:
            return self._reach.get(department, Reach())

    async def close(self) -> None:
        """Closes the connections."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    def _way_to(self, owner: str) -> tuple[str, httpx.AsyncClient]:
        if owner in self._site.hosted:
            return self._here()
        found = self._site.peers.find(owner)
        if found is None or found.standing != "admitted":
            raise PeerUnreachable(owner, "is not to be asked: the department is not an admitted member")
        if found.url is None:
            raise PeerUnreachable(owner, "has no address on the chain: let it run `yunxi department url`")
        settings = self._site.settings.peers.get(owner)
        return found.url, self._client(settings.certificate_sha256 if settings else None)

    def _here(self) -> tuple[str, httpx.AsyncClient]:
        if self._app is None or not self._site.authorities:
            raise CouldNotRun("this node does not serve: start it with `yunxi serve`")
        base = f"http://{min(self._site.authorities)}"
        with self._lock:
            if "" not in self._clients:
                transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
                self._clients[""] = httpx.AsyncClient(transport=transport, trust_env=False)
            return base, self._clients[""]

    def _client(self, pin: str | None) -> httpx.AsyncClient:
        with self._lock:
            if pin not in self._clients:
                context = pinned_context(pin) if pin else ssl.create_default_context(cafile=self._ca)
                if self._certificate is not None:
                    context.load_cert_chain(*self._certificate)
                self._clients[pin] = httpx.AsyncClient(verify=context, trust_env=False, follow_redirects=False)
            return self._clients[pin]

    def _sign(self, request: httpx.Request, body: bytes, department: str) -> dict[str, str]:
        now = self._site.clock()
        signer = self._site.node.agent.request_signer(department, now)
        target = Target.of_url(request.method, str(request.url))
        try:
            return sign_request(target, body or None, signer, int(now), secrets.token_urlsafe(16))
        except RequestRefused as error:
            raise CouldNotRun(f"a request to {request.url.host} cannot be signed: {error}") from error

    def _note(self, department: str, error: str | None) -> None:
        now = self._site.clock()
        with self._lock:
            before = self._reach.get(department, Reach())
            if error is not None:
                self._reach[department] = Reach(None, now, error)
            elif before.since is None:
                self._reach[department] = Reach(now, before.failed_at, before.error)


def pinned_context(sha256: str) -> ssl.SSLContext:
    """TLS with the one certificate whose DER has this SHA-256 (64 hex digits), whoever issued it and whatever it says.
    Before a byte is sent, another one ends the handshake."""

    class Pinned(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            found = hashlib.sha256(self.getpeercert(binary_form=True) or b"").hexdigest()
            if found != sha256:
                raise ssl.SSLCertVerificationError("the certificate is not the one that this node's settings name")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.sslobject_class = Pinned
    return context


async def _ask(client: httpx.AsyncClient, request: httpx.Request, owner: str, max_bytes: int) -> Answer:
    try:
        response = await client.send(request, stream=True)
        try:
            content = bytearray()
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > max_bytes:
                    raise PeerUnreachable(owner, f"answered with more than {max_bytes:,} bytes")
        finally:
            await response.aclose()
    except httpx.TimeoutException as error:
        raise TimeoutError from error
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
        raise PeerUnreachable(owner, f"cannot be reached: {_reason(error)}") from error
    return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, bytes(content))


def _reason(error: BaseException) -> str:
    # the library's text names addresses of this node's network; the kind of failure is enough
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, ssl.SSLCertVerificationError):
            return "its certificate is not the expected one"
        chain = chain.__cause__ or chain.__context__
    return type(error).__name__


def _problem_of(owner: str, answer: Answer) -> dict[str, Any]:
    if answer.headers.get("content-type", "").partition(";")[0].strip() != MEDIA_TYPE:
        raise PeerUnreachable(owner, f"answered {answer.status} without saying why: is something else at its address?")
    try:
        problem = answer.json()
    except ValueError as error:
        raise PeerUnreachable(owner, f"answered {answer.status} with something else than JSON") from error
    if not isinstance(problem, dict):
        raise PeerUnreachable(owner, f"answered {answer.status} with something else than a problem")
    return problem
