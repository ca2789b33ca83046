"""Signing in over HTTP: cookies, bearer tokens, other sites' pages, roles, a real provider."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pyotp
import pytest

from gateway.people import routes
from gateway.people.oidc import Provider
from gateway.people.service import MAX_FAILURES
from gateway.people.sessions import COOKIE, SIGN_IN_COOKIE
from gateway.settings import ProviderSettings
from tests.fixtures.gateway import AUTHORITY, Gateway
from tests.gateway.test_people import PASSWORD, issuer, quick, secret_of, through_the_provider

__all__ = ["issuer", "quick"]

OWN = {"Origin": f"http://{AUTHORITY}"}


@pytest.fixture
def browser(gateway: Gateway) -> Iterator[httpx.Client]:
    """Somebody's browser; it keeps secure cookies as browsers do on this machine."""
    with gateway.client(None) as client:
        client.base_url = httpx.URL(f"https://{AUTHORITY}")
        yield client


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "FAILURE_SECONDS", 0.001)


@pytest.fixture
def admin(gateway: Gateway) -> dict[str, str]:
    """The headers of a signed-in administrator of `fire`."""
    gateway.site.people.create("fire", "admin", ["department-admin"], PASSWORD)
    return {"Authorization": f"Bearer {gateway.site.people.begin('admin').token}"}


def test_a_browser_signs_in_is_known_and_signs_out(gateway: Gateway, browser: httpx.Client) -> None:
    uri = gateway.site.people.create("fire", "wang", ["officer"], PASSWORD).provisioning_uri
    assert browser.get("/v1/me").json()["code"] == "unauthenticated"
    code = pyotp.TOTP(secret_of(uri)).at(gateway.site.clock())
    answer = browser.post("/v1/sign-in", json={"login": "wang", "password": PASSWORD, "code": code}, headers=OWN)
    assert answer.status_code == 200
    assert "token" not in answer.json()
    flags = answer.headers["set-cookie"].lower()
    assert all(flag in flags for flag in ("httponly", "secure", "samesite=lax", "path=/"))
    assert browser.get("/v1/me").json()["roles"] == ["officer"]
    assert browser.get("/v1/records").status_code == 200
    assert browser.post("/v1/sign-out", headers=OWN).status_code == 204
    assert browser.get("/v1/me").status_code == 401


@pytest.mark.parametrize(
    "origin", [None, "https://evil.example", f"https://{AUTHORITY}.evil.example", "https://[", "null", ""]
)
def test_another_site_s_page_does_nothing_with_the_cookie(gateway: Gateway, browser: httpx.Client, origin: str) -> None:
    gateway.site.people.create("fire", "wang", ["officer"], PASSWORD, totp=False)
    browser.cookies.set(COOKIE, gateway.site.people.begin("wang").token, domain=AUTHORITY)
    assert browser.get("/v1/me").status_code == 200
    answer = browser.post("/v1/sign-out", headers={} if origin is None else {"Origin": origin})
    assert answer.json()["code"] == "cross-site"
    assert browser.get("/v1/me").status_code == 200


def test_another_site_s_page_signs_nobody_in_as_somebody_else(gateway: Gateway, browser: httpx.Client) -> None:
    """A form may post what is JSON by chance, and browsers keep the cookie it earns; it may not say that it is JSON."""
    gateway.site.people.create("fire", "evil", ["officer"], PASSWORD, totp=False)
    body = f'{{"login": "evil", "password": "{PASSWORD}"}}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        fields = {"Origin": "https://evil.example", "Content-Type": kind}
        answer = browser.post("/v1/sign-in", content=body, headers=fields)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in browser.options("/v1/sign-in", headers=asked).headers
    assert not browser.cookies


def test_a_failure_takes_as_long_whether_there_is_an_account_or_not(
    gateway: Gateway, browser: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting it is a write to the disk, which is to be seen in nobody's time."""
    monkeypatch.setattr(routes, "FAILURE_SECONDS", 0.6)
    gateway.site.people.create("fire", "wang", ["officer"], PASSWORD, totp=False)
    for login in ("wang", "nobody"):
        began = time.monotonic()
        assert browser.post("/v1/sign-in", json={"login": login, "password": "x"}).status_code == 401
        assert time.monotonic() - began >= 0.6


def test_failures_are_told_alike_and_counted(gateway: Gateway, browser: httpx.Client) -> None:
    gateway.site.people.create("fire", "wang", ["officer"], PASSWORD, totp=False)
    wrong = {"login": "wang", "password": "wrong horse battery"}
    told = {browser.post("/v1/sign-in", json=wrong | {"login": login}).json()["detail"] for login in ("wang", "li")}
    assert len(told) == 1
    for _ in range(MAX_FAILURES):
        assert browser.post("/v1/sign-in", json=wrong).status_code == 401
    assert browser.post("/v1/sign-in", json=wrong | {"password": PASSWORD}).json()["code"] == "sign-in-failed"
    codes = [browser.post("/v1/sign-in", json=wrong).json()["code"] for _ in range(6)]
    assert codes[-1] == "rate-exceeded"


@pytest.mark.parametrize(
    "body",
    [{}, {"login": "x"}, {"login": "x", "password": "y", "admin": True}, {"login": 1, "password": "y"}, [], "x"],
)
def test_a_sign_in_that_is_none(browser: httpx.Client, body: object) -> None:
    answer = browser.post("/v1/sign-in", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")


def test_an_administrator_looks_after_the_own_department_only(gateway: Gateway, admin: dict[str, str]) -> None:
    gateway.site.people.create("health", "zhao", ["officer"], PASSWORD)
    client = gateway.client(None)
    made = client.post("/v1/accounts", json={"login": "li", "roles": ["auditor"], "password": PASSWORD}, headers=admin)
    assert made.status_code == 201
    assert made.json()["provisioning_uri"].startswith("otpauth://")
    assert [a["login"] for a in client.get("/v1/accounts", headers=admin).json()["accounts"]] == ["admin", "li"]
    changed = client.patch("/v1/accounts/li", json={"roles": ["officer"], "disabled": True}, headers=admin)
    assert (changed.json()["roles"], changed.json()["disabled"]) == (["officer"], True)
    foreign = client.patch("/v1/accounts/zhao", json={"disabled": True}, headers=admin)
    assert foreign.status_code == 404
    assert not gateway.site.people.find("zhao").disabled
    weak = client.post("/v1/accounts", json={"login": "wu", "roles": ["officer"], "password": "short"}, headers=admin)
    assert weak.json()["code"] == "account-refused"


def test_who_is_no_administrator_makes_no_accounts(gateway: Gateway) -> None:
    gateway.site.people.create("fire", "wang", ["officer", "supervisor"], PASSWORD)
    headers = {"Authorization": f"Bearer {gateway.site.people.begin('wang').token}"}
    answer = gateway.client(None).post("/v1/accounts", json={"login": "li", "roles": ["officer"]}, headers=headers)
    assert answer.json()["code"] == "forbidden"


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "密"])
def test_a_bearer_token_of_nobody(gateway: Gateway, token: str) -> None:
    headers = {"Authorization": b"Bearer " + token.encode()}
    answer = gateway.client(None).get("/v1/me", headers=headers)
    assert answer.json()["code"] == "unauthenticated"


def test_one_changes_the_own_password(gateway: Gateway, browser: httpx.Client) -> None:
    gateway.site.people.create("fire", "wang", ["officer"], PASSWORD, totp=False)
    token = gateway.site.people.begin("wang").token
    change = {"login": "wang", "password": PASSWORD, "new_password": "another horse battery"}
    assert browser.post("/v1/password", json=change).status_code == 204
    assert gateway.site.people.resolve(token) is None
    assert browser.post("/v1/password", json=change).status_code == 401
    gateway.site.people.sign_in("wang", "another horse battery", None)


def test_without_a_provider_there_is_none(browser: httpx.Client) -> None:
    assert browser.get("/v1/sign-in/provider").status_code == 404


def test_a_browser_comes_back_from_a_real_provider(gateway: Gateway, browser: httpx.Client, issuer: str) -> None:
    site = gateway.site
    settings = ProviderSettings(
        issuer, "yunxi", "a-secret-for-tests-only", "http://127.0.0.1:9/v1/sign-in/provider/callback"
    )
    site.provider = Provider(settings, site.people, site.database, site.clock)
    site.people.create("fire", "wang", ["officer"], None)
    begun = browser.get("/v1/sign-in/provider?back_to=/v1/me")
    assert begun.status_code == 303
    brought = through_the_provider(begun.headers["location"], "wang")
    stranger = gateway.client(None).get("/v1/sign-in/provider/callback", params=brought)
    assert stranger.json()["code"] == "provider-refused"
    back = browser.get("/v1/sign-in/provider/callback", params=brought)
    assert (back.status_code, back.headers["location"]) == (303, "/v1/me")
    assert SIGN_IN_COOKIE not in browser.cookies
    assert browser.get("/v1/me").json()["department"] == "fire"
