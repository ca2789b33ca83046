"""How a REST service is signed in to. A mapping file names environment variables; the secrets stand only there."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from adapters.sections import Section
from ledger.errors import CouldNotRun

KINDS = ("bearer", "basic", "header", "client-credentials", "login")

Post = Callable[[str, Mapping[str, str], Mapping[str, str], bool], tuple[int, bytes]]
"""Posts members to a URL with headers, as a form or, where the last is true, as JSON; gives status and body."""


@dataclass(frozen=True, slots=True)
class Auth:
    """`[source.auth]`. `name_env` and `secret_env` are environment variables; `header` the header for kind "header"."""

    kind: str
    secret_env: str
    name_env: str | None = None
    header: str = "Authorization"
    token_url: str = ""
    scope: str | None = None
    prefix: str = ""
    user_param: str = ""
    password_param: str = ""
    token: tuple[str, ...] = ()

    @property
    def renewable(self) -> bool:
        """Whether a refused token can be replaced by a new one."""
        return self.kind in ("client-credentials", "login")

    def headers(self, environ: Mapping[str, str], post: Post) -> dict[str, str]:
        """What a request carries. Raises CouldNotRun where a variable is not set, or no token is given."""
        secret = _value(environ, self.secret_env)
        if self.kind == "header":
            return {self.header: secret}
        if self.kind == "bearer":
            return {"Authorization": f"Bearer {secret}"}
        assert self.name_env is not None
        name = _value(environ, self.name_env)
        if self.kind == "basic":
            return {"Authorization": _basic(name, secret)}
        if self.kind == "login":
            return {self.header: f"{self.prefix}{self._login(name, secret, post)}"}
        return {"Authorization": f"Bearer {self._token(name, secret, post)}"}

    def _login(self, name: str, secret: str, post: Post) -> str:
        """The token that the service gives for user and password."""
        status, body = post(self.token_url, {self.user_param: name, self.password_param: secret}, {}, True)
        try:
            token: Any = json.loads(body) if status == 200 else None
        except (ValueError, RecursionError):
            token = None
        for member in self.token:
            token = token.get(member) if isinstance(token, dict) else None
        if not isinstance(token, str) or not token or not _fits_header(token):
            names = f"user and password in {self.name_env} and {self.secret_env}"
            raise CouldNotRun(
                f'the login URL gives no token at "{".".join(self.token)}" (status {status}); check it, and {names}'
            )
        return token

    def _token(self, name: str, secret: str, post: Post) -> str:
        """RFC 6749 section 4.4, the client's own credentials as in section 2.3.1."""
        form = {"grant_type": "client_credentials", **({"scope": self.scope} if self.scope else {})}
        sign_in = {"Authorization": _basic(quote(name, safe=""), quote(secret, safe=""))}
        status, body = post(self.token_url, form, sign_in, False)
        try:
            answer = json.loads(body) if status == 200 else {}
            token = answer.get("access_token") if isinstance(answer, dict) else None
        except (ValueError, RecursionError):
            token = None
        if not isinstance(token, str) or not _fits_header(token):
            names = f"{self.name_env} and {self.secret_env}"
            raise CouldNotRun(f"the token URL gives no token (status {status}); check it, and the client in {names}")
        return token


def read_auth(section: Section) -> Auth | None:
    """Takes `auth` from a `[source]` table; None where there is none."""
    if "auth" not in section:
        return None
    table = section.table("auth")
    kind = table.choice("kind", KINDS)
    if kind in ("bearer", "header"):
        header = table.require("header", str) if kind == "header" else "Authorization"
        if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", header):
            table.refuse(f'"{table.where("header")}" is no name of an HTTP header')
        auth = Auth(kind, table.require("token_env", str), header=header)
    elif kind == "basic":
        auth = Auth(kind, table.require("password_env", str), table.require("user_env", str))
    elif kind == "login":
        header, prefix = table.get("header", str, "Authorization"), table.get("prefix", str, "")
        if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", header) or not _fits_header(prefix):
            table.refuse(
                f'"{table.where("header")}" and "prefix" must be the name of an HTTP header and what it may hold'
            )
        auth = Auth(
            kind,
            table.require("password_env", str),
            table.require("user_env", str),
            header=header,
            token_url=_secret_url(table, "login_url"),
            prefix=prefix,
            user_param=table.get("user_param", str, "username"),
            password_param=table.get("password_param", str, "password"),
            token=tuple(table.require("token", str).split(".")),
        )
    else:
        url = _secret_url(table, "token_url")
        auth = Auth(
            kind,
            table.require("client_secret_env", str),
            table.require("client_id_env", str),
            token_url=url,
            scope=table.optional("scope", str),
        )
    table.done()
    return auth


def _secret_url(table: Section, key: str) -> str:
    """A URL that secrets are sent to."""
    url = table.require(key, str)
    try:
        parts = urlsplit(url)
    except ValueError:
        table.refuse(f'"{table.where(key)}" is no URL')
    if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        table.refuse(f'"{table.where(key)}" must be https: it is sent secrets')
    return url


def _basic(name: str, secret: str) -> str:
    return "Basic " + b64encode(f"{name}:{secret}".encode()).decode("ascii")


def _value(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise CouldNotRun(f"set the environment variable {name}: the mapping's [source.auth] needs it")
    if not _fits_header(value):
        raise CouldNotRun(f"the environment variable {name} holds characters that no HTTP header can carry")
    return value


def _fits_header(value: str) -> bool:
    return value.isascii() and value.isprintable()
