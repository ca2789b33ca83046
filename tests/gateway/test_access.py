"""Who gets in: no route without a rule, and every way in which a signed request can fail, each with its own reason."""

from __future__ import annotations

import re
import secrets
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import iter_route_contexts
from sqlalchemy import func, select

from gateway.access import Attempt, allow, public, require_rules, rules_of
from gateway.caller import OFFICER, PEER, SYSTEM, Caller
from gateway.direct import Direct
from gateway.guarded import Guarded
from gateway.models import request_nonces
from gateway.nonces import Nonces
from gateway.settings import GatewaySettings, PeerSettings
from ledger.http_signatures import Target, sign_request
from tests.fixtures.gateway import AUTHORITY, Gateway, Signing, new_signer, node_without_chain, serving
from tests.fixtures.parts import PostgresServer, SqliteFiles, Template
from tests.fixtures.records import report

URL = f"http://{AUTHORITY}/v1/records"
LOG = "/v1/logs/{department}"
PUBLIC = {"/healthz", "/readyz", "/metrics", "/v1/time", f"{LOG}/checkpoint", LOG + "/tile/{level}/{rest:path}"}
PUBLIC |= {"/c", "/v1/citizens/decision"}  # whoever holds the token of a served decision
"""What anybody may call without a word of who they are, beside the ways to sign in."""


def reason_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["reason"]


# ---- default deny ------------------------------------------------------------------------------------------------


def test_no_route_is_without_a_rule_and_only_these_are_public(gateway: Gateway) -> None:
    routes = list(iter_route_contexts(gateway.app.routes))
    assert len(routes) > 5
    open_to_all = set()
    for route in routes:
        (rule,) = rules_of(route.dependant)
        if not rule.roles:
            open_to_all.add(route.path)
    assert open_to_all >= PUBLIC
    assert all(path.startswith(("/v1/sign-in", "/v1/sign-out", "/v1/password")) for path in open_to_all - PUBLIC)


def test_every_route_begins_before_the_body(gateway: Gateway) -> None:
    assert {type(route) for route in gateway.app.routes} == {Guarded, Direct}


def test_nothing_is_held_or_parsed_for_strangers(gateway: Gateway) -> None:
    """Of a body that is announced, not a byte is asked for where the head does not say who calls; of one that is meant
    for anybody, no more than a little."""
    asked = []

    async def receive() -> dict[str, Any]:
        asked.append(1)
        return {"type": "http.request", "body": b"[" * 60_000, "more_body": True}

    async def ask(path: str, *fields: tuple[bytes, bytes]) -> tuple[int, bytes]:
        answered: list[Any] = []

        async def send(message: Any) -> None:
            answered.append(message)

        headers = [(b"host", AUTHORITY.encode()), (b"content-type", b"application/json"), *fields]
        scope = {
            "type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(),
            "query_string": b"", "headers": headers, "client": ("192.0.2.1", 1), "scheme": "http", "root_path": "",
        }  # fmt: skip
        await gateway.app(scope, receive, send)
        return answered[0]["status"], answered[1]["body"]

    long = (b"content-length", b"%d" % (16 << 20))
    for path, status in {"/v1/grants": 401, "/v1/records": 401, "/v1/sign-in": 413, "/v1/nothing": 404}.items():
        assert gateway.portal.call(ask, path, long)[0] == status
    assert asked == []
    for path, status in {"/v1/grants": 401, "/v1/records": 401, "/v1/sign-in": 413}.items():
        asked.clear()
        assert gateway.portal.call(ask, path)[0] == status
        assert len(asked) == 2


def test_json_that_would_end_the_stack_is_refused(gateway: Gateway) -> None:
    """The chain's libraries raise the interpreter's limit, and its JSON parser then recurses until the process dies."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        for path, client in {"/v1/sign-in": gateway.client(None), "/v1/grants": gateway.client("fire")}.items():
            answer = client.post(
                path, content=b"[" * 3_000 + b"]" * 3_000, headers={"Content-Type": "application/json"}
            )
            assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")
            assert re.fullmatch(r"body\.[0-9]+", answer.json()["field"]), "the parser refused it, not what came after"
    finally:
        sys.setrecursionlimit(before)


def test_every_route_refuses_who_does_not_say_who_they_are(gateway: Gateway) -> None:
    client, tried = gateway.client(None), 0
    for route in iter_route_contexts(gateway.app.routes):
        (rule,) = rules_of(route.dependant)
        if not rule.roles:
            continue
        path = route.path_format.replace("{", "").replace("}", "")
        for method in route.methods - {"HEAD"}:
            for content in (b"", b"{}", b"{"):
                answer = client.request(method, path, content=content)
                assert answer.status_code in (401, 403), f"{method} {path} answers {answer.status_code}: {answer.text}"
            tried += 1
    assert tried > 5


def _bare() -> dict[str, bool]:
    return {}


def _two(first: Annotated[Any, allow(SYSTEM)], second: Annotated[Any, allow(PEER)]) -> dict[str, bool]:
    return {}


def _other(value: Annotated[Any, Depends(_bare)]) -> dict[str, bool]:
    return {}


@pytest.mark.parametrize("endpoint", [_bare, _two, _other])
def test_a_route_without_exactly_one_rule_does_not_start(endpoint: Callable[..., Any]) -> None:
    router = APIRouter(prefix="/v1")
    router.add_api_route("/things", endpoint)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(router)
    with pytest.raises(RuntimeError, match="/v1/things must have one rule"):
        require_rules(app.routes)


def test_what_is_no_route_of_ours_does_not_start() -> None:
    app = FastAPI()  # with its own documentation pages
    with pytest.raises(RuntimeError, match="must have one rule"):
        require_rules(app.routes)


def test_a_rule_names_roles_that_exist() -> None:
    with pytest.raises(ValueError, match="roles"):
        allow()
    with pytest.raises(ValueError, match="roles"):
        allow("oficer")
    assert public().dependency.roles == frozenset()


def test_a_caller_without_the_role_is_refused(gateway: Gateway) -> None:
    answer = gateway.client("fire", {OFFICER}).post(URL, json={"records": [{"key": "a", "record": report(1)}]})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


# ---- signed requests ---------------------------------------------------------------------------------------------


def sign(gateway: Gateway, **changes: Any) -> httpx.Request:
    """A signed submission as it goes out; `changes`: created, nonce, signer, url, body."""
    body = changes.get("body", b'{"records": []}')
    url = changes.get("url", URL)
    signer = changes.get("signer") or gateway.signer("fire")
    created = changes.get("created", int(time.time()))
    nonce = changes.get("nonce", secrets.token_urlsafe(16))
    headers = sign_request(Target.of_url("POST", url), body, signer, created, nonce)
    return httpx.Request("POST", url, headers=headers, content=body)


def send(gateway: Gateway, request: httpx.Request) -> httpx.Response:
    return gateway.client(None).send(request)


def test_a_signed_request_comes_through(gateway: Gateway) -> None:
    assert send(gateway, sign(gateway)).json()["code"] == "bad-request"  # of the body, so it was let in


def test_a_replayed_request_is_refused(gateway: Gateway) -> None:
    request = sign(gateway)
    assert send(gateway, request).status_code == 400
    again = httpx.Request("POST", URL, headers=request.headers, content=request.content)
    assert reason_of(send(gateway, again)) == (401, "replayed")


def test_a_nonce_is_the_keys_own(gateway: Gateway) -> None:
    nonce = secrets.token_urlsafe(16)
    assert send(gateway, sign(gateway, nonce=nonce)).status_code == 400
    assert send(gateway, sign(gateway, nonce=nonce, signer=gateway.signer("health"))).status_code == 400
    assert reason_of(send(gateway, sign(gateway, nonce=nonce, body=b"{}"))) == (401, "replayed")


def test_a_forged_request_does_not_use_up_a_nonce(gateway: Gateway) -> None:
    request = sign(gateway)
    forged = httpx.Request("POST", URL, headers=request.headers, content=b"{}")
    assert reason_of(send(gateway, forged)) == (401, "digest-mismatch")
    assert send(gateway, request).status_code == 400


def with_header(request: httpx.Request, name: str, value: str) -> httpx.Request:
    request.headers[name] = value
    return request


def expired(gateway: Gateway) -> httpx.Request:
    return sign(gateway, created=int(time.time()) - 1_000)


REFUSED: dict[str, tuple[Callable[[Gateway], httpx.Request], str]] = {
    "not signed": (lambda _: httpx.Request("POST", URL, content=b"{}"), "missing"),
    "two signatures": (lambda g: with_header(sign(g), "Signature-Input", "a=(),b=()"), "malformed"),
    "the body changed after signing": (
        lambda g: httpx.Request("POST", URL, headers=sign(g).headers, content=b"[]{{}}[]abcdefg"),
        "digest-mismatch",
    ),
    "the path changed after signing": (
        lambda g: httpx.Request("POST", URL, headers=sign(g, url=f"{URL}2").headers, content=b'{"records": []}'),
        "signature-invalid",
    ),
    "the query changed after signing": (
        lambda g: httpx.Request("POST", URL + "?a", headers=sign(g).headers, content=b'{"records": []}'),
        "signature-invalid",
    ),
    "said to another host": (lambda g: sign(g, url="http://other.test/v1/records"), "wrong-authority"),
    "said to another host, sent here": (
        lambda g: with_header(sign(g, url="http://other.test/v1/records"), "Host", AUTHORITY),
        "signature-invalid",
    ),
    "signed long ago": (expired, "expired"),
    "signed in the future": (lambda g: sign(g, created=int(time.time()) + 1_000), "clock-skew"),
    "an unknown key": (lambda g: sign(g, signer=new_signer()), "key-unknown"),
    "a key that is retired": (
        lambda g: sign(g, signer=g.keys.register("fire", valid_to=time.time() - 1)),
        "key-outside-validity",
    ),
    "a key that is not in force yet": (
        lambda g: sign(g, signer=g.keys.register("fire", valid_from=time.time() + 100)),
        "key-outside-validity",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_is_not_believed(gateway: Gateway, case: str) -> None:
    make, reason = REFUSED[case]
    seen: list[Attempt] = []
    gateway.site.refusals.on_authentication_failed.append(seen.append)
    request = make(gateway)
    answer = send(gateway, request)
    assert reason_of(answer) == (401, reason)
    assert answer.json()["code"] == "unauthenticated"
    assert answer.headers["www-authenticate"].startswith("Signature")
    assert answer.headers["content-type"] == "application/problem+json"
    (attempt,) = seen  # whoever must keep a record of it is told once
    assert (attempt.method, attempt.reason, attempt.department) == ("POST", reason, None)
    assert attempt.body == request.content
    assert not _nonces(gateway)


def _nonces(gateway: Gateway) -> int:
    with gateway.site.database.reading() as connection:
        return int(connection.scalar(select(func.count()).select_from(request_nonces)) or 0)


def test_a_suspended_department_is_told_so_and_its_attempt_is_known(gateway: Gateway) -> None:
    seen: list[Attempt] = []
    gateway.site.refusals.on_authentication_failed.append(seen.append)
    answer = send(gateway, sign(gateway, signer=gateway.keys.register("health", standing="suspended")))
    assert (answer.status_code, answer.json()["code"]) == (403, "department-suspended")
    assert [(attempt.department, attempt.reason) for attempt in seen] == [("health", "department-suspended")]


def test_a_caller_that_asks_too_much_is_told_when_to_go_on(
    server: SqliteFiles | PostgresServer, template: Template, tmp_path: Path
) -> None:
    node = node_without_chain(tmp_path / "node", server.new(tmp_path), template.agent)
    with serving(node, GatewaySettings(authorities=(AUTHORITY,), rate_per_second=0.1, rate_burst=3)) as gateway:
        codes = [gateway.client("fire").get(URL).status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]
        assert gateway.client("health").get(URL).status_code == 200
        answer = gateway.client("fire").get(URL)
        assert answer.json()["code"] == "rate-exceeded"
        assert 1 <= int(answer.headers["retry-after"]) == answer.json()["retry_after"] <= 10


def test_a_pinned_certificate_is_asked_for(
    server: SqliteFiles | PostgresServer, template: Template, tmp_path: Path
) -> None:
    # without TLS there is no certificate at all; with the right and the wrong one: test_serve
    node = node_without_chain(tmp_path / "node", server.new(tmp_path), template.agent)
    peers = {"health": PeerSettings("00" * 32)}
    with serving(node, GatewaySettings(authorities=(AUTHORITY,), peers=peers)) as gateway:
        assert reason_of(gateway.client("health").get(URL)) == (401, "certificate-wrong")
        assert gateway.client("fire").get(URL).status_code == 200


def test_a_caller_is_its_key(gateway: Gateway) -> None:
    found: list[Caller] = []
    original = gateway.site.authenticator.caller

    async def spy(request: Any, *, take_nonce: bool) -> Caller:
        found.append(await original(request, take_nonce=take_nonce))
        return found[-1]

    gateway.site.authenticator.caller = spy  # type: ignore[method-assign]
    assert gateway.client("fire", {SYSTEM}).get(URL).status_code == 200
    assert found == [Caller("department", "fire", frozenset({SYSTEM}), gateway.signer("fire", {SYSTEM}).kid)]


# ---- nonces ------------------------------------------------------------------------------------------------------


def test_a_nonce_is_taken_once_by_whichever_process_comes_first(gateway: Gateway) -> None:
    books = [Nonces(gateway.site.database, time.time) for _ in range(3)]
    wanted = [f"nonce-{number:016d}" for number in range(100)]
    taken: list[str] = []
    barrier = threading.Barrier(len(books))

    def take(book: Nonces) -> None:
        barrier.wait()
        for nonce in wanted:
            try:
                gateway.portal.call(book.take, ("kid", nonce, int(time.time()) + 60))
            except Exception as error:  # noqa: BLE001
                assert getattr(error, "reason", "") == "replayed"
            else:
                taken.append(nonce)

    threads = [threading.Thread(target=take, args=(book,)) for book in books]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for book in books:
        book.close()
    assert sorted(taken) == wanted


def test_nonces_are_swept_once_nobody_could_use_them_again(gateway: Gateway) -> None:
    now = [1_000_000.0]
    book = Nonces(gateway.site.database, lambda: now[0])
    for number in range(5):
        gateway.portal.call(book.take, ("kid", f"nonce-{number:016d}", int(now[0]) + 61))
    assert _nonces(gateway) == 5
    now[0] += 59
    gateway.portal.call(book.take, ("kid", "nonce-another-000001", int(now[0]) + 61))
    assert _nonces(gateway) == 6
    now[0] += 60
    gateway.portal.call(book.take, ("kid", "nonce-another-000002", int(now[0]) + 61))
    book.close()
    assert _nonces(gateway) == 2


def test_no_request_passes_whose_nonce_cannot_be_taken(gateway: Gateway) -> None:
    with gateway.site.database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE request_nonces RENAME TO elsewhere")
    answer = gateway.client("fire").get(URL)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage-failed")


def test_the_signing_client_signs_what_httpx_sends(gateway: Gateway) -> None:
    signer = gateway.signer("fire")
    client = gateway.client(None)
    for url in (URL, f"{URL}?key=%E4%BA%91", f"{URL}?key=a+b&limit=3", f"{URL}?"):
        assert client.get(url, auth=Signing(signer)).status_code == 200
    answer = client.post(URL, auth=Signing(signer), json={"records": [{"key": "云", "record": report(1)}]})
    assert answer.status_code == 200
