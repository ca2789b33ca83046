"""The session token as requests carry it: a cookie for browsers, `Authorization: Bearer` for everything else."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from gateway.problems import Problem

COOKIE = "__Host-yunxi"
SIGN_IN_COOKIE = "__Host-yunxi-sign-in"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def session_token(request: Request) -> str | None:
    """The token a request carries, None where it carries none.

    Raises Problem `cross-site` for a request that would change something and was made by another site's page: a cookie
    goes along with those too.
    """
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    token = request.cookies.get(COOKIE)
    if token is not None and request.method not in _SAFE and not _own_page(request):
        raise Problem("cross-site", "the request comes from another site's page: open this site and do it there")
    return token


def keep_token(response: Response, token: str) -> None:
    """Gives the session token to the browser: for this host only, out of scripts' reach."""
    response.set_cookie(COOKIE, token, path="/", secure=True, httponly=True, samesite="lax")


def drop_token(response: Response) -> None:
    """Takes it back."""
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")


def _own_page(request: Request) -> bool:
    # every browser says where a request that changes something comes from; what says nothing is no browser's page
    try:
        origin = urlsplit(request.headers.get("origin", "")).netloc.lower()
    except ValueError:
        return False
    return origin == request.headers.get("host", "").lower() != ""
