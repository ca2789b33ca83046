"""Who may call: authentication of signed requests, and a rule on every route. What has no rule does not start.

    @router.get("/v1/things")
    def things(caller: Annotated[Caller, allow("officer", "system")], site: SiteOf) -> Any: ...

A department's system or peer signs its requests (`ledger.http_signatures`) with a key that the consortium registered
for `request`; a nonce is taken once, whichever process sees it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute

from gateway.caller import PERSON_ROLES, REQUEST_ROLES, Caller
from gateway.operations.remote import address_of, certificate_of
from gateway.people.sessions import session_token
from gateway.problems import Problem
from ledger.errors import ChainUnreachable, RequestRefused
from ledger.http_signatures import (
    SignedRequest,
    Target,
    check_body,
    check_key,
    check_time,
    read_signature,
)

if TYPE_CHECKING:
    from gateway.site import Site

ROLES = REQUEST_ROLES | PERSON_ROLES

RECENT_SECONDS = 0.2
"""How long a key counts without asking for it again: far less than any block takes."""

MAX_RECENT = 1_000

STRANGERS_BODY_BYTES = 64 << 10
"""As much as is read of a body from somebody who is not known, or need not be."""


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A key that signs requests, as the consortium's registry or a department's list of terminals has it.

    `public` is 32 raw bytes, `valid_from` and `valid_to` seconds since 1970 (None: open), `standing` the department's:
    `admitted` or `suspended`.
    """

    kid: str
    department: str
    public: bytes
    roles: frozenset[str]
    valid_from: float
    valid_to: float | None
    standing: str = "admitted"


class KeyBook(Protocol):
    """Where request keys are looked up. May block; is called from several threads."""

    def key(self, kid: str) -> RequestKey | None:
        """The key, or None where the book does not have it. Raises CouldNotRun when it cannot be asked."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request that failed authentication. `kid` is what it claims and nothing that is known; `department` is set only
    where the signature held (a suspended department). `body` is what came, unverified; empty where it was long."""

    method: str
    path: str
    body: bytes
    kid: str | None
    department: str | None
    reason: str


class Authenticator:
    """Finds out who is calling. One for a site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._recent: dict[str, tuple[float, RequestKey]] = {}

    async def begin(self, request: Request) -> None:
        """All that can be said of a request by its head: a session that lives, or a key in force that signed it,
        together with the digest of the body to come. Raises Problem `unauthenticated`, `cross-site`."""
        if (token := session_token(request)) is not None:
            request.state.person = await run_in_threadpool(self._person, token)
            return
        try:
            request.state.signed = await self._signed(request)
        except RequestRefused as refusal:
            raise await self.refused(request, refusal) from refusal

    async def caller(self, request: Request, *, take_nonce: bool = True) -> Caller:
        """The caller of a request that `begin` let pass. Raises Problem `unauthenticated` (with the `reason`),
        `department-suspended`. Without `take_nonce` the endpoint takes `request.state.nonce`, before or with all that
        it does."""
        if hasattr(request.state, "person"):
            person: Caller = request.state.person
            return person
        body = await request.body()
        key, signed = request.state.signed
        try:
            check_body(signed, hashlib.sha256(body).digest())
        except RequestRefused as refusal:
            raise await self.refused(request, refusal) from refusal
        request.state.nonce = signed.keyid, signed.nonce, signed.expires + self._site.settings.clock_skew + 1
        if take_nonce:
            await self.take_nonce(request)
        if key.standing != "admitted":
            await self._refuse(request, key, "department-suspended")
            raise Problem(
                "department-suspended", "the consortium has suspended the caller's department: ask its members"
            )
        return Caller("department", key.department, key.roles, key.kid)

    async def take_nonce(self, request: Request) -> None:
        """Takes the nonce of a request whose signature held. Raises Problem `unauthenticated` when it came before."""
        try:
            await self._site.nonces.take(request.state.nonce)
        except RequestRefused as refusal:
            raise await self.refused(request, refusal) from refusal

    def still(self, caller: Caller, token: str | None) -> bool:
        """Whether a caller who was let in would be again, with the same roles; `token`: of the session, None for a
        signed request. For what goes on for long. Blocks; says yes while the chain does not answer."""
        if token is not None:
            return self._site.people.is_current(token, caller)
        try:
            key, now = self._look_up(caller.subject), self._site.clock()
        except ChainUnreachable:
            return True
        in_force = key is not None and (key.valid_to is None or now < key.valid_to)
        return in_force and key is not None and key.standing == "admitted"

    async def refused(self, request: Request, refusal: RequestRefused) -> Problem:
        """The problem to raise for a request whose signature, key or nonce was refused; everybody is told before."""
        await self._refuse(request, None, refusal.reason)
        return Problem("unauthenticated", str(refusal), reason=refusal.reason)

    def _person(self, token: str) -> Caller:
        caller = self._site.people.resolve(token)
        if caller is None:
            raise Problem("unauthenticated", "the session has ended: sign in again", reason="session-ended")
        return caller

    async def _signed(self, request: Request) -> tuple[RequestKey, SignedRequest]:
        """The key that signed the request, and what it signed; the body is still to be compared, the nonce taken."""
        target, now = target_of(request), self._site.clock()
        if target.authority not in self._site.authorities:
            raise RequestRefused("wrong-authority", "the request names another host: use the node's registered address")
        signed = read_signature(target, request.headers.items())
        check_time(signed, now, self._site.settings.clock_skew)
        key = check_key(signed, await self._registered(signed.keyid), now)
        self._check_certificate(request, key)
        return key, signed

    async def _registered(self, kid: str) -> RequestKey | None:
        # asking a book may wait for the chain, so it takes a thread, and a thread costs more than the signature
        kept = self._recent.get(kid)
        if kept is None or time.monotonic() - kept[0] > RECENT_SECONDS:
            key = await run_in_threadpool(self._look_up, kid)
            if key is None or key.standing != "admitted":
                return key  # asked for each time, so that a reinstatement counts at once
            if len(self._recent) >= MAX_RECENT:
                self._recent.clear()
            kept = self._recent[kid] = time.monotonic(), key
        return kept[1]

    def _look_up(self, kid: str) -> RequestKey | None:
        return next((key for book in self._site.key_books if (key := book.key(kid)) is not None), None)

    def _check_certificate(self, request: Request, key: RequestKey) -> None:
        """Refuses a TLS connection made with another certificate than the one pinned for the department, if one is."""
        peer = self._site.settings.peers.get(key.department)
        if peer is None or peer.certificate_sha256 is None:
            return
        if certificate_of(request, self._site.settings.proxies) != peer.certificate_sha256:
            raise RequestRefused(
                "certificate-wrong", "the connection's certificate is not the one this node expects of the department"
            )

    async def _refuse(self, request: Request, key: RequestKey | None, reason: str) -> None:
        self._site.metrics.unauthenticated.labels(reason).inc()
        kid = key.kid if key else _claimed_kid(request)
        department = key.department if key else None
        attempt = Attempt(request.method, request.url.path, await _little_body(request), kid, department, reason)
        await run_in_threadpool(self._site.refusals.authentication_failed, attempt)


def target_of(request: Request) -> Target:
    """What a request is for, from the bytes that came."""
    scope = request.scope
    path = scope.get("raw_path") or scope["path"].encode("latin-1", "replace")
    hosts = request.headers.getlist("host")
    authority = hosts[0].lower() if len(hosts) == 1 else ""
    return Target(request.method, authority, path.decode("latin-1"), scope["query_string"].decode("latin-1"))


async def _little_body(request: Request) -> bytes:
    """The body, as far as it counts for a refusal: one that is larger than anybody's may be is not read."""
    request.state.max_body_bytes = STRANGERS_BODY_BYTES
    try:
        return await request.body()
    except Problem:
        return b""


def _claimed_kid(request: Request) -> str | None:
    try:
        return read_signature(target_of(request), request.headers.items()).keyid
    except RequestRefused:
        return None


@dataclass(frozen=True, slots=True)
class Rule:
    """A route's rule, asked in two parts: `begin`, by the route's class (`Guarded`, `Direct`), then the call. `roles`
    empty: anybody. Without `takes_nonce` the endpoint does, see `Authenticator.caller`."""

    roles: frozenset[str]
    takes_nonce: bool = True

    async def begin(self, request: Request) -> None:
        """What is asked before the body is read: limits by address, and who calls, as far as the head says."""
        if "\0" in request.scope["path"] or b"%00" in request.scope["query_string"]:
            raise Problem("bad-request", "a URL holds no NUL character", field="url")  # PostgreSQL's text takes none
        site: Site = request.app.state.site
        address = address_of(request, site.settings.proxies)
        if not self.roles:
            site.limits.take(f"address {address}")
            request.state.max_body_bytes = STRANGERS_BODY_BYTES
            return
        site.failures.require(address)
        with _counting_failures(site, address):
            await site.authenticator.begin(request)

    async def __call__(self, request: Request) -> Caller | None:
        if not self.roles:
            return None
        site: Site = request.app.state.site
        with _counting_failures(site, address_of(request, site.settings.proxies)):
            caller = await site.authenticator.caller(request, take_nonce=self.takes_nonce)
        request.state.caller = caller
        site.limits.take(f"{caller.department}/{caller.subject}")
        if not caller.roles & self.roles:
            if not self.takes_nonce and caller.kind == "department":
                await site.authenticator.take_nonce(request)  # it will have no other use
            raise Problem("forbidden", f"this takes one of the roles: {', '.join(sorted(self.roles))}")
        return caller


@contextmanager
def _counting_failures(site: Site, address: str) -> Iterator[None]:
    try:
        yield
    except Problem as problem:
        if problem.code == "unauthenticated":
            with suppress(Problem):
                site.failures.take(address)
        raise


def allow(*roles: str, takes_nonce: bool = True) -> Any:
    """The rule that lets callers of one of `roles` in; the parameter it annotates is their `Caller`."""
    if not roles or not ROLES.issuperset(roles):
        raise ValueError(f"a rule names roles of {', '.join(sorted(ROLES))}")
    return Depends(Rule(frozenset(roles), takes_nonce))


def public() -> Any:
    """The rule that lets everybody in: for health, readiness, signing in, and what holds no data without a token."""
    return Depends(Rule(frozenset()))


async def _raw_body(request: Request) -> bytes:
    return await request.body()


RawBody = Annotated[bytes, Depends(_raw_body)]
"""The request's body as it came; for signed requests the bytes that were verified."""


def rules_of(dependant: Dependant) -> Iterator[Rule]:
    """The rules that a route asks, at whatever depth."""
    for each in dependant.dependencies:
        if isinstance(each.call, Rule):
            yield each.call
        yield from rules_of(each)


def require_rules(routes: list[BaseRoute]) -> None:
    """Raises RuntimeError for a route without exactly one rule."""
    for route in iter_route_contexts(routes):
        dependant = getattr(route, "dependant", None)
        found = list(rules_of(dependant)) if dependant is not None else []
        if len(found) != 1:
            raise RuntimeError(f"route {route.path} must have one rule: allow(...) or public()")
