"""Signing in at an OpenID Connect provider: authorization code with PKCE (OpenID Connect Core 1.0, RFC 7636).

    1. begin:    state, nonce and verifier are drawn and kept; the browser goes to the provider and keeps the state too
    2. callback: state known, unexpired, the browser's own; used up at once; from this very provider (RFC 9207)
    3. exchange: code and verifier for an ID token, over our own connection
    4. ID token: signature by the provider's key, issuer, audience, time, nonce; then the login claim
    5. the login has an account here: its roles are this node's, never the provider's

The provider says who it is; what the person may do is decided here.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
import orjson
from anyio import CapacityLimiter
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import delete, insert, select

from gateway.people.errors import ProviderRefused, ProviderUnreachable, SignInFailed
from gateway.people.models import sign_ins
from gateway.people.service import People, SignedIn
from gateway.settings import ProviderSettings
from ledger.formats.encoding import b64url_encode
from ledger.store.database import Database

SIGN_IN_SECONDS = 600
_ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]
_LEEWAY_SECONDS = 60
_TIMEOUT_SECONDS = 10.0
"""For a whole answer, however slowly it comes."""

KEPT_SECONDS = 600
"""How long discovery document and keys are kept: a key that the provider withdraws signs nobody in after that."""

AT_ONCE = 8
"""Threads that may wait for the provider."""

_MAX_BODY = 1 << 20


@dataclass(frozen=True, slots=True)
class Begun:
    """Where to send the browser, and the state that it must bring back in a cookie."""

    url: str
    state: str


class Provider:
    """The provider as this node uses it. Its discovery document and keys are fetched when needed and kept."""

    def __init__(
        self, settings: ProviderSettings, people: People, database: Database, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._people = people
        self._database = database
        self._clock = clock
        self._document: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None
        self.turns = CapacityLimiter(AT_ONCE)

    def begin(self, back_to: str = "/") -> Begun:
        """Begins a sign-in; `back_to` is a path of this site. Raises ProviderUnreachable."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        now = int(self._clock())
        question = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._settings.redirect_uri,
            "scope": self._settings.scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
        }
        page = self._endpoint("authorization_endpoint")
        url = f"{page}{'&' if '?' in page else '?'}{urlencode(question)}"  # RFC 6749 section 3.1
        row = {
            "state": _digest(state),
            "nonce": nonce,
            "verifier": verifier,
            "began_at": now,
            "back_to": _local_path(back_to),
        }
        with self._database.writing() as connection:
            connection.execute(delete(sign_ins).where(sign_ins.c.began_at < now - SIGN_IN_SECONDS))
            connection.execute(insert(sign_ins).values(row))
        return Begun(url, state)

    def finish(self, state: str, kept_state: str | None, code: str, issuer: str | None) -> tuple[SignedIn, str]:
        """Ends a sign-in: the session, and the path to go on to. `kept_state` is the cookie of the same browser,
        `issuer` the answer's `iss`.

        Raises ProviderRefused for a sign-in that was not begun here, is too old, used up, answered by another provider,
        or whose token does not hold; SignInFailed when the person has no account here, or one with a password of its
        own; ProviderUnreachable.
        """
        if kept_state is None or not secrets.compare_digest(state.encode(), kept_state.encode()):
            raise ProviderRefused("this sign-in was not begun in this browser: begin again")
        row = self._take(state)
        if not code:
            raise ProviderRefused("the identity provider did not sign you in: begin again")
        if issuer is None and self._discovered().get("authorization_response_iss_parameter_supported") is True:
            raise ProviderRefused("the answer does not say which provider it is from: begin again")
        if issuer not in (None, self._settings.issuer):
            raise ProviderRefused("the answer is from another identity provider: begin again")
        claims = self._id_token(self._exchange(code, row.verifier), row.nonce)
        return self._people.begin(self._login(claims), vouched=True), row.back_to

    def _login(self, claims: dict[str, Any]) -> str:
        name = self._settings.login_claim
        login = claims.get(name)
        if not isinstance(login, str) or not login.isprintable():
            raise SignInFailed
        if name == "email" and claims.get("email_verified") is not True:
            raise ProviderRefused(
                "the identity provider has not verified the e-mail address: it must, to sign in by it"
            )
        return login

    def _take(self, state: str) -> Any:
        here = sign_ins.c.state == _digest(state)
        with self._database.writing() as connection:
            row = connection.execute(select(sign_ins).where(here)).one_or_none()
            taken = connection.execute(delete(sign_ins).where(here)).rowcount == 1
        if row is None or not taken or row.began_at < self._clock() - SIGN_IN_SECONDS:
            raise ProviderRefused("this sign-in is unknown, used up or older than ten minutes: begin again")
        return row

    def _exchange(self, code: str, verifier: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._settings.redirect_uri,
            "code_verifier": verifier,
        }
        # client_secret_basic: form-encoded first (RFC 6749 section 2.3.1)
        secret = (quote(self._settings.client_id, safe=""), quote(self._settings.client_secret, safe=""))
        token = self._ask("POST", self._endpoint("token_endpoint"), data=form, auth=secret)
        value = token.get("id_token")
        if not isinstance(value, str):
            raise ProviderRefused("the identity provider sent no ID token: it must allow the scope openid")
        return value

    def _id_token(self, value: str, nonce: str) -> dict[str, Any]:
        claims = self._decode(value)
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock()),
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": self._settings.issuer},
            aud={"essential": True, "value": self._settings.client_id},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            registry.validate(claims)
        except JoseError as error:
            raise ProviderRefused(
                f"the identity provider's ID token does not hold ({error.error}): begin again"
            ) from error
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else self._settings.client_id) != self._settings.client_id:
            raise ProviderRefused("the identity provider's ID token is for another client: begin again")
        return claims

    def _decode(self, value: str) -> dict[str, Any]:
        for fetch in (False, True):  # an unknown key may be a new one: the keys are fetched once more
            try:
                return dict(jwt.decode(value, self._key_set(afresh=fetch), algorithms=_ALGORITHMS).claims)
            except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:  # whatever stands in them
                refusal = ProviderRefused("the identity provider's ID token is not signed by its published keys")
                refusal.__cause__ = error
        raise refusal

    def _key_set(self, *, afresh: bool) -> KeySet:
        if afresh or self._keys is None or self._is_old(self._keys[0]):
            document = self._ask("GET", self._endpoint("jwks_uri"))
            self._keys = self._clock(), KeySet.import_key_set(document)  # type: ignore[arg-type]
        return self._keys[1]

    def _endpoint(self, name: str) -> str:
        value = self._discovered().get(name)
        if not isinstance(value, str) or not _is_safe(value, self._settings.issuer):
            raise ProviderRefused(f"the identity provider names no {name} by https in its discovery document")
        return value

    def _discovered(self) -> dict[str, Any]:
        if self._document is None or self._is_old(self._document[0]):
            issuer = self._settings.issuer
            document = self._ask("GET", issuer.rstrip("/") + "/.well-known/openid-configuration")
            if document.get("issuer") != issuer:
                raise ProviderRefused(
                    f"the identity provider calls itself otherwise than {issuer!r}: correct the issuer"
                )
            self._document = self._clock(), document
        return self._document[1]

    def _is_old(self, at: float) -> bool:
        return not 0 <= self._clock() - at < KEPT_SECONDS

    def _ask(self, method: str, url: str, **members: Any) -> dict[str, Any]:
        """A JSON object from the provider. Raises ProviderRefused where it refuses a POST, ProviderUnreachable."""
        try:
            # a loop of its own, in the caller's thread: nothing else ends an answer that comes byte by byte
            status, body = asyncio.run(_fetch(method, url, **members))
            if method == "POST" and 400 <= status < 500:
                raise ProviderRefused("the identity provider did not take the code: begin again")
            document = orjson.loads(body) if status == 200 else None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise ProviderUnreachable(_unreachable(self._settings.issuer)) from error
        if not isinstance(document, dict):
            raise ProviderUnreachable(_unreachable(self._settings.issuer))
        return document


async def _fetch(method: str, url: str, **members: Any) -> tuple[int, bytes]:
    """Status and body, which is not decompressed. Raises ValueError for more than 1 MiB, TimeoutError, HTTPError."""
    body = bytearray()
    async with (
        asyncio.timeout(_TIMEOUT_SECONDS),
        httpx.AsyncClient(verify=_tls(), timeout=_TIMEOUT_SECONDS) as client,
        client.stream(method, url, headers={"accept-encoding": "identity"}, **members) as answer,
    ):
        async for piece in answer.aiter_raw():
            body += piece
            if len(body) > _MAX_BODY:
                raise ValueError("too long")
    return answer.status_code, bytes(body)


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # reading all authorities takes longer than asking


def _is_safe(url: str, issuer: str) -> bool:
    """Whether an endpoint may be asked, and be told the secret: by https, or on this machine where the issuer is."""
    try:
        parts, home = urlsplit(url), urlsplit(issuer)
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and "@" not in parts.netloc and "#" not in url
    local = home.scheme == parts.scheme == "http" and home.hostname == parts.hostname
    return plain and bool(parts.hostname) and (parts.scheme == "https" or local)


def _digest(state: str) -> bytes:
    return hashlib.sha256(state.encode()).digest()


def _challenge(verifier: str) -> str:
    """The S256 code challenge (RFC 7636 section 4.2)."""
    return b64url_encode(hashlib.sha256(verifier.encode()).digest())


def _local_path(path: str) -> str:
    """`path` if it leads nowhere but into this site, else the front page: no open redirect."""
    plain = path.isascii() and path.isprintable() and "\\" not in path
    return path if plain and path.startswith("/") and not path.startswith("//") else "/"


def _unreachable(issuer: str) -> str:
    return f"the identity provider {issuer} does not answer as it should: try again, or sign in with a local account"
