"""Signing in and out, and the accounts of one's own department."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from anyio import CapacityLimiter, sleep, to_thread
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, RedirectResponse, Response

from gateway.access import allow, public
from gateway.caller import ADMIN, PERSON_ROLES, Caller
from gateway.guarded import Guarded
from gateway.operations.remote import address_of
from gateway.people import sessions
from gateway.people.errors import SignInFailed
from gateway.people.oidc import SIGN_IN_SECONDS, Provider
from gateway.people.service import Account, SignedIn
from gateway.problems import Problem
from gateway.site import Site, SiteOf

router = APIRouter(prefix="/v1", tags=["people"], route_class=Guarded)

MAX_WAITING = 100
"""Sign-ins that wait for their turn."""

FAILURE_SECONDS = 0.25
"""What a failure takes, or a multiple: counting it takes time only where there is an account."""

Done = TypeVar("Done")
Anybody = Annotated[Caller | None, public()]
Person = Annotated[Caller, allow(*PERSON_ROLES)]
Admin = Annotated[Caller, allow(ADMIN)]
Role = Literal["officer", "supervisor", "legal-reviewer", "department-admin", "coordinator", "auditor"]
Login = Annotated[
    str, Field(min_length=1, max_length=254, pattern=r"^[^\x00-\x1f\x7f]*$", examples=["wang@fire.example"])
]
Password = Annotated[str, Field(min_length=1, max_length=256, examples=["three words and more"])]
Code = Annotated[str | None, Field(pattern="^[0-9]{6}$", examples=["123456"])]
LoginPath = Annotated[str, Path(min_length=1, max_length=254, description="the login of an account")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SignIn(_Body):
    """What signing in takes; `code` where the account has one-time codes; `bearer` to get the token itself."""

    login: Login
    password: Password
    code: Code = None
    bearer: bool = False


class NewPassword(_Body):
    """A change of one's own password, proven with the old one."""

    login: Login
    password: Password
    code: Code = None
    new_password: Password


class NewAccount(_Body):
    """An account to be made in the caller's department; without `password` it signs in at the provider."""

    login: Login
    roles: Annotated[list[Role], Field(min_length=1, max_length=6)]
    password: Password | None = None
    one_time_codes: bool = True


class AccountChange(_Body):
    """What to change of an account; its sessions end."""

    roles: Annotated[list[Role], Field(min_length=1, max_length=6)] | None = None
    disabled: bool | None = None


@router.post("/sign-in", summary="Sign in with a local account")
async def sign_in(_: Anybody, site: SiteOf, request: Request, asked: SignIn) -> Response:
    """Begins a session, in a cookie or, with `bearer`, as a token in the answer. Five failures lock the account."""
    signed_in = await _sign_in(site, request, asked)
    answer = _me(signed_in.caller)
    if asked.bearer:
        return JSONResponse(answer | {"token": signed_in.token})
    response = JSONResponse(answer)
    sessions.keep_token(response, signed_in.token)
    return response


@router.post("/sign-out", status_code=204, summary="Sign out")
def sign_out(_: Person, site: SiteOf, request: Request) -> Response:
    """Ends the session."""
    site.people.sign_out(sessions.session_token(request) or "")
    response = Response(status_code=204)
    sessions.drop_token(response)
    return response


@router.get("/me", summary="Who am I here?")
def me(caller: Person) -> dict[str, Any]:
    """The caller's department and roles."""
    return _me(caller)


@router.post("/password", status_code=204, summary="Change one's own password")
async def change_password(_: Anybody, site: SiteOf, request: Request, asked: NewPassword) -> Response:
    """Replaces the password after signing in with the old one; every session ends."""
    await _sign_in(site, request, asked)
    await _slowly(site.sign_ins, partial(site.people.set_password, asked.login, asked.new_password))
    return Response(status_code=204)


@router.get("/sign-in/provider", status_code=303, summary="Sign in at the identity provider", response_class=Response)
async def begin_at_provider(
    _: Anybody, site: SiteOf, request: Request, back_to: Annotated[str, Query(max_length=500)] = "/"
) -> Response:
    """Sends the browser to the provider."""
    site.sign_in_limits.take(_address(request))
    provider = _provider(site)
    begun = await _slowly(provider.turns, partial(provider.begin, back_to))
    response = RedirectResponse(begun.url, 303)
    # lax, or the browser would not bring it back from the provider's page
    response.set_cookie(
        sessions.SIGN_IN_COOKIE, begun.state, SIGN_IN_SECONDS, path="/", secure=True, httponly=True, samesite="lax"
    )
    return response


@router.get("/sign-in/provider/callback", status_code=303, summary="Back from the provider", response_class=Response)
async def end_at_provider(
    _: Anybody,
    site: SiteOf,
    request: Request,
    state: Annotated[str, Query(max_length=100)] = "",
    code: Annotated[str, Query(max_length=2000)] = "",
    iss: Annotated[str | None, Query(max_length=500, description="the provider (RFC 9207)")] = None,
) -> Response:
    """Where the provider sends the browser; begins the session."""
    site.sign_in_limits.take(_address(request))
    kept = request.cookies.get(sessions.SIGN_IN_COOKIE)
    provider = _provider(site)
    signed_in, back_to = await _slowly(provider.turns, partial(provider.finish, state, kept, code, iss))
    response = RedirectResponse(back_to, 303)
    sessions.keep_token(response, signed_in.token)
    response.delete_cookie(sessions.SIGN_IN_COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    return response


@router.get("/accounts", summary="The accounts of the caller's department")
def accounts(caller: Admin, site: SiteOf) -> dict[str, Any]:
    """All of them, by login."""
    return {"accounts": [_account_json(account) for account in site.people.list(caller.department)]}


@router.post("/accounts", status_code=201, summary="Make an account")
async def create_account(caller: Admin, site: SiteOf, asked: NewAccount) -> dict[str, Any]:
    """The account, and once only what the person's authenticator app needs."""
    create = partial(site.people.create, caller.department, asked.login, asked.roles, asked.password)
    created = await _slowly(site.sign_ins, partial(create, totp=asked.one_time_codes))
    return _account_json(created.account) | {"provisioning_uri": created.provisioning_uri}


@router.patch("/accounts/{login}", summary="Change an account")
def change_account(caller: Admin, site: SiteOf, login: LoginPath, asked: AccountChange) -> dict[str, Any]:
    """Roles, or open and closed. Its sessions end at once."""
    _of_own_department(site, caller, login)
    if asked.roles is not None:
        site.people.set_roles(login, asked.roles)
    if asked.disabled is not None:
        site.people.disable(login, disabled=asked.disabled)
    return _account_json(site.people.find(login))


async def _sign_in(site: Site, request: Request, asked: SignIn | NewPassword) -> SignedIn:
    site.sign_in_limits.take(_address(request))
    began = time.monotonic()
    try:
        return await _slowly(site.sign_ins, partial(site.people.sign_in, asked.login, asked.password, asked.code))
    except SignInFailed:
        await sleep(FAILURE_SECONDS - (time.monotonic() - began) % FAILURE_SECONDS)
        raise


async def _slowly(turns: CapacityLimiter, work: Callable[[], Done]) -> Done:
    """Work with a password takes 64 MiB and much time by design, and a provider may be slow: a few at once, and never
    the threads of all others."""
    if turns.statistics().tasks_waiting >= MAX_WAITING:
        raise Problem("overloaded", "too many people are signing in: try again in a moment", retry_after=5)
    return await to_thread.run_sync(work, limiter=turns)


def _of_own_department(site: Site, caller: Caller, login: str) -> None:
    # another department's account is answered like one that does not exist
    if all(account.login != login for account in site.people.list(caller.department)):
        raise Problem("not-found", "your department has no such account: look at the list of accounts")


def _provider(site: Site) -> Provider:
    if site.provider is None:
        raise Problem("not-found", "this node has no identity provider: sign in with a local account")
    return site.provider


def _address(request: Request) -> str:
    site: Site = request.app.state.site
    return address_of(request, site.settings.proxies)


def _me(caller: Caller) -> dict[str, Any]:
    return {"department": caller.department, "roles": sorted(caller.roles), "account": caller.subject}


def _account_json(account: Account) -> dict[str, Any]:
    return {
        "login": account.login,
        "roles": sorted(account.roles),
        "second_factor": account.second_factor,
        "local": account.local,
        "disabled": account.disabled,
    }
