"""Signing in at an OpenID Connect provider: authorization code with PKCE (OpenID Connect Core 1.0, RFC 7636).

    1. begin:    state, nonce and verifier are drawn and kept; the browser goes to the provider and keeps the state too
    2. callback: state known, unexpired, the browser's own; used up at once
    3. exchange: code and verifier for an ID token, over our own connection
    4. ID token: signature by the provider's key, issuer, audience, time, nonce; then the login claim
    5. the login has an account here: its roles are this node's, never the provider's

The provider says who it is; what the person may do is decided here.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import httpx
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
        self._document: dict[str, Any] | None = None
        self._keys: KeySet | None = None

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
        url = f"{self._endpoint('authorization_endpoint')}?{urlencode(question)}"
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

    def finish(self, state: str, kept_state: str | None, code: str) -> tuple[SignedIn, str]:
        """Ends a sign-in: the session, and the path to go on to. `kept_state` is the cookie of the same browser.

        Raises ProviderRefused for a sign-in that was not begun here, is too old, used up, or whose token does not
        hold; SignInFailed when the person has no account here; ProviderUnreachable.
        """
        if kept_state is None or not secrets.compare_digest(state, kept_state):
            raise ProviderRefused("this sign-in was not begun in this browser: begin again")
        row = self._take(state)
        claims = self._id_token(self._exchange(code, row.verifier), row.nonce)
        login = claims.get(self._settings.login_claim)
        if not isinstance(login, str):
            raise SignInFailed
        return self._people.begin(login), row.back_to

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
        try:
            answer = httpx.post(self._endpoint("token_endpoint"), data=form, auth=secret, timeout=_TIMEOUT_SECONDS)
            if answer.is_client_error:
                raise ProviderRefused("the identity provider did not take the code: begin again")
            token = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise ProviderUnreachable(_unreachable(self._settings.issuer)) from error
        value = token.get("id_token") if isinstance(token, dict) else None
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
        audience = claims["aud"]
        if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != self._settings.client_id:
            raise ProviderRefused("the identity provider's ID token is for another client: begin again")
        return claims

    def _decode(self, value: str) -> dict[str, Any]:
        for fetch in (False, True):  # an unknown key may be a new one: the keys are fetched once more
            try:
                return dict(jwt.decode(value, self._key_set(afresh=fetch), algorithms=_ALGORITHMS).claims)
            except (JoseError, ValueError) as error:
                refusal = ProviderRefused("the identity provider's ID token is not signed by its published keys")
                refusal.__cause__ = error
        raise refusal

    def _key_set(self, *, afresh: bool) -> KeySet:
        if self._keys is None or afresh:
            self._keys = KeySet.import_key_set(self._fetch(self._endpoint("jwks_uri")))  # type: ignore[arg-type]
        return self._keys

    def _endpoint(self, name: str) -> str:
        if self._document is None:
            issuer = self._settings.issuer
            document = self._fetch(issuer.rstrip("/") + "/.well-known/openid-configuration")
            if document.get("issuer") != issuer:
                raise ProviderRefused(
                    f"the identity provider calls itself otherwise than {issuer!r}: correct the issuer"
                )
            self._document = document
        value = self._document.get(name)
        if not isinstance(value, str):
            raise ProviderRefused(f"the identity provider names no {name} in its discovery document")
        return value

    def _fetch(self, url: str) -> dict[str, Any]:
        try:
            answer = httpx.get(url, timeout=_TIMEOUT_SECONDS, follow_redirects=False)
            answer.raise_for_status()
            if len(answer.content) > _MAX_BODY:
                raise ValueError("too long")
            document = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ProviderUnreachable(_unreachable(self._settings.issuer)) from error
        if not isinstance(document, dict):
            raise ProviderUnreachable(_unreachable(self._settings.issuer))
        return document


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
