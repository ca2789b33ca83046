"""Events of a department's log: webhooks that outsiders verify, at least once whoever dies, and server-sent events."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy import select, update
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from adapters.webhook import Hook, Inbox, NotTaken
from gateway.caller import SYSTEM, Caller
from gateway.people.errors import AccountRefused
from gateway.people.service import People
from gateway.problems import Problem
from gateway.settings import GatewaySettings, WebhookSettings
from gateway.subscriptions import service, webhooks
from gateway.subscriptions.events import EVENTS, Wanted, parse_id, read_events
from gateway.subscriptions.models import deliveries, subscriptions
from gateway.subscriptions.signing import sign_webhook
from gateway.subscriptions.targets import require_allowed
from ledger.node import Node
from ledger.store.models import position_of
from ledger.store.reading import read_logs
from tests.adapters.http_server import Asked, Said, Server
from tests.fixtures.exchange import LEAD, OTHER, OWNER, SETTINGS, TYPE, Exchange, exchange, make_node, reopened, until
from tests.fixtures.gateway import Gateway, Signing
from tests.fixtures.nodes import end_chain
from tests.fixtures.proceedings import take
from tests.fixtures.records import COMPANY, report

HOOKED = replace(SETTINGS, webhooks=WebhookSettings(loopback=True, attempts=3, timeout_seconds=20), missing_seconds=2)
ABSENT = "streets"
"""A member whose node has no address."""


@pytest.fixture(scope="module", autouse=True)
def _soon() -> Iterator[None]:
    """Retries without the wait of real ones."""
    before = webhooks.FIRST_RETRY_S
    webhooks.FIRST_RETRY_S = 0.01
    yield
    webhooks.FIRST_RETRY_S = before


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with exchange(tmp_path_factory.mktemp("exchange") / "node", automatic=True, settings=HOOKED) as opened:
        opened.grant()
        opened.submit(2)
        yield opened


@contextmanager
def target(answer: Callable[[Asked], Said] = lambda _: Said(status=204)) -> Iterator[Server]:
    server = Server(answer)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def subscribed(
    world: Exchange, server: Server, *events: str, department: str = OWNER, **changes: Any
) -> Iterator[dict[str, Any]]:
    client = world.gateway.client(department)
    answer = client.post("/v1/subscriptions", json={"url": f"{server.url}/hook", "events": events} | changes)
    assert answer.status_code == 201, answer.text
    try:
        yield answer.json()
    finally:
        assert client.delete(f"/v1/subscriptions/{answer.json()['id']}").status_code == 204


def told(server: Server) -> list[dict[str, Any]]:
    return [json.loads(asked.body) for asked in list(server.asked)]


def shown(world: Exchange, subscription: str, department: str = OWNER) -> dict[str, Any]:
    answer = world.gateway.client(department).get(f"/v1/subscriptions/{subscription}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


# ---- webhooks ----------------------------------------------------------------------------------------------------


def test_a_record_is_told_as_a_cloudevent_that_outsiders_verify(world: Exchange, tmp_path: Path) -> None:
    with target() as server, subscribed(world, server, "record.sealed") as made:
        (record,) = world.submit(1, prefix="told")
        until(lambda: any(each["subject"] == record.record_id for each in told(server)))
        asked = next(a for a in server.asked if json.loads(a.body)["subject"] == record.record_id)
        until(lambda: shown(world, made["id"])["waiting"] == 0)
    assert (asked.method, asked.path, asked.headers["content-type"]) == (
        "POST",
        "/hook",
        "application/cloudevents+json",
    )
    event = Webhook(made["secret"]).verify(asked.body, dict(asked.headers))
    assert {name: event[name] for name in ("specversion", "source", "type", "datacontenttype")} == {
        "specversion": "1.0",
        "source": f"//test.example/{OWNER}",
        "type": "yunxi.record.sealed",
        "datacontenttype": "application/json",
    }
    assert event["data"] == {
        "record": record.record_id, "record_type": TYPE, "index": record.index, "matter": "330299-XF-001",
    }  # fmt: skip
    assert parse_id(event["id"]) is not None
    assert COMPANY["value"] not in asked.body.decode()
    # the same scheme, read by the adapters' own receiver
    from base64 import b64decode

    inbox = Inbox(tmp_path / "inbox.db", time.time, make=True)
    hook = Hook(inbox, (b64decode(made["secret"].removeprefix("whsec_")),), 300, time.time)
    try:
        assert hook.take(asked.headers, asked.body) is True
        assert hook.take(asked.headers, asked.body) is False
        with pytest.raises(NotTaken):
            hook.take(asked.headers, asked.body + b" ")
    finally:
        hook.close()
    with pytest.raises(WebhookVerificationError):
        Webhook(made["secret"]).verify(asked.body + b" ", dict(asked.headers))


def test_the_signature_of_the_standards_own_example() -> None:
    """standard-webhooks.org, the vector of its reference libraries."""
    from base64 import b64decode

    secret = b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = sign_webhook(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_fails_comes_again_under_the_same_id_and_then_is_a_dead_letter(world: Exchange) -> None:
    down = threading.Event()
    down.set()
    with (
        target(lambda _: Said(status=503 if down.is_set() else 204)) as server,
        subscribed(world, server, "record.sealed", types=["note.added"]) as made,
    ):
        client, path = world.gateway.client(OWNER), f"/v1/subscriptions/{made['id']}"
        note = world.site.intake.submit(OWNER, [submission(n) for n in range(3)])
        assert len(note) == 3
        until(lambda: shown(world, made["id"])["dead"] == 3)
        ids = {asked.headers["webhook-id"] for asked in server.asked}
        assert (len(ids), len(server.asked)) == (3, 9), "three attempts each"
        assert shown(world, made["id"])["delivered"] == 0
        first = client.get(f"{path}/dead?limit=2").json()
        rest = client.get(f"{path}/dead?cursor={first['next']}").json()
        letters = first["items"] + rest["items"]
        assert [(each["attempts"], each["code"]) for each in letters] == [(3, "http-503")] * 3
        down.clear()
        assert client.post(f"{path}/dead/replay", json={"events": [letters[0]["event"]]}).json() == {"replayed": 1}
        until(lambda: shown(world, made["id"])["delivered"] == 1)
        assert client.post(f"{path}/dead/replay", json={}).json() == {"replayed": 2}
        until(lambda: shown(world, made["id"])["delivered"] == 3)
        assert {asked.headers["webhook-id"] for asked in server.asked} == ids
        assert shown(world, made["id"])["dead"] == 0


def submission(number: int) -> Any:
    from ledger.submission import Submission

    note = {"type": "note.added", "v": 1, "text": "x", "occurred_at": "2026-03-02T09:15:00+08:00"}
    return Submission(f"note {number} {time.time_ns()}", note)


def test_a_target_that_is_gone_is_not_asked_again_until_it_is_enabled(world: Exchange) -> None:
    gone = threading.Event()
    gone.set()
    with (
        target(lambda _: Said(status=410 if gone.is_set() else 204)) as server,
        subscribed(world, server, "record.sealed") as made,
    ):
        world.submit(1, prefix="gone")
        until(lambda: shown(world, made["id"])["state"] == "disabled")
        count = len(server.asked)
        world.submit(1, prefix="gone2")
        time.sleep(1.2)
        assert len(server.asked) == count
        gone.clear()
        answer = world.gateway.client(OWNER).post(f"/v1/subscriptions/{made['id']}/enable")
        assert answer.json()["state"] == "active"
        until(lambda: shown(world, made["id"])["delivered"] >= 2)


def test_a_redirect_is_not_followed(world: Exchange) -> None:
    with (
        target() as inside,
        target(lambda _: Said(status=302, headers={"Location": f"{inside.url}/secret"})) as server,
        subscribed(world, server, "record.sealed") as made,
    ):
        world.submit(1, prefix="redirect")
        until(lambda: shown(world, made["id"])["dead"] >= 1)
        assert inside.asked == []


def test_a_slow_target_holds_up_nobody(world: Exchange) -> None:
    let_go = threading.Event()
    with (
        target(lambda _: Said(status=204 if let_go.wait(20) else 500)) as slow,
        target() as quick,
        subscribed(world, slow, "record.sealed"),
        subscribed(world, quick, "record.sealed"),
    ):
        (record,) = world.submit(1, prefix="slow")
        until(lambda: slow.asked and any(each["subject"] == record.record_id for each in told(quick)))
        let_go.set()


NOT_ALLOWED = {
    "plain http": "http://hooks.example.org/x",
    "a host that is not listed": "https://other.example.org/x",
    "another port of a listed host": "https://hooks.example.org:8443/x",
    "a host that ends like a listed one": "https://evil-hooks.example.org/x",
    "a listed host as a user": "https://hooks.example.org@10.0.0.1/x",
    "a listed host before a backslash": "https://hooks.example.org\\@10.0.0.1/x",
    "user and password": "https://u:p@hooks.example.org/x",
    "a fragment": "https://hooks.example.org/x#y",
    "an address inside": "https://169.254.169.254/latest/meta-data",
    "this machine": "https://127.0.0.1/x",
    "this machine in other digits": "https://2130706433/x",
    "this machine in octal": "https://0177.0.0.1/x",
    "this machine in hexadecimal": "https://0x7f.1/x",
    "an address inside, dressed as IPv6": "https://[::ffff:169.254.169.254]/x",
    "an address with a zone": "https://[fe80::1%25eth0]/x",
    "a listed address otherwise": "https://[2001:db8:0::1]/x",
    "a listed host with a full stop behind": "https://hooks.example.org./x",
    "a listed host in escapes": "https://hooks%2eexample.org/x",
    "a listed host in wide letters": "https://ｈooks.example.org/x",
    "a listed host below another": "https://hooks.example.org.evil.example/x",
    "a listed host in the path": "https://10.0.0.1/hooks.example.org/x",
    "two ports": "https://hooks.example.org:443:8443/x",
    "a negative port": "https://hooks.example.org:-1/x",
    "an empty user": "https://@hooks.example.org/x",
    "a tab in the host": "https://hooks\t.example.org/x",
    "no scheme": "//hooks.example.org/x",
    "another scheme": "file:///etc/passwd",
    "no host": "https:///x",
    "a bad port": "https://hooks.example.org:99999/x",
    "a line break": "https://hooks.example.org/x\r\nHost: y",
    "nothing": "",
}


@pytest.mark.parametrize("case", NOT_ALLOWED)
def test_targets_that_nobody_listed_are_refused(case: str) -> None:
    with pytest.raises(Problem) as caught:
        require_allowed(NOT_ALLOWED[case], WebhookSettings(hosts=("hooks.example.org",)))
    assert caught.value.code == "target-not-allowed"


ALLOWED = {
    "a listed host": "https://hooks.example.org/x?y=1",
    "with its usual port": "https://hooks.example.org:443/x",
    "with the port that is listed": "https://hooks.example.org:9443/x",
    "in capitals": "https://HOOKS.example.org/x",
    "a listed address": "https://[2001:db8::1]/x",
}


@pytest.mark.parametrize("case", ALLOWED)
def test_listed_targets_are_allowed(case: str) -> None:
    hosts = ("hooks.example.org", "hooks.example.org:9443", "[2001:db8::1]")
    require_allowed(ALLOWED[case], WebhookSettings(hosts=hosts))


def test_a_name_that_leads_inside_meanwhile_is_told_nothing(world: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a listed name resolves to by the time it is called: who has not its certificate sees a greeting."""
    with socket.create_server(("127.0.0.1", 0)) as inside:
        host = f"localhost:{inside.getsockname()[1]}"
        settings = replace(world.site.settings, webhooks=WebhookSettings(hosts=(host,), attempts=1, timeout_seconds=2))
        monkeypatch.setattr(world.site, "settings", settings)
        client = world.gateway.client(OWNER)
        made = client.post("/v1/subscriptions", json={"url": f"https://{host}/x", "events": ["record.sealed"]}).json()
        world.submit(1, prefix="inside")
        line, _ = inside.accept()
        with line:
            first = line.recv(1 << 16)
            line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert first[:1] == b"\x16" and b"yunxi" not in first, "a TLS ClientHello"
        until(lambda: shown(world, made["id"])["dead"] == 1)
        assert client.delete(f"/v1/subscriptions/{made['id']}").status_code == 204


def test_one_department_s_slow_targets_hold_up_no_other(world: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """More requests than a pool has, all waiting: what is told to others does not wait in the same queue."""
    longer = replace(world.site.settings.webhooks, timeout_seconds=30)
    monkeypatch.setattr(world.site, "settings", replace(world.site.settings, webhooks=longer))
    let_go = threading.Event()
    with (
        ExitStack() as stack,
        target(lambda _: Said(status=204 if let_go.wait(30) else 500)) as slow,
        target() as quick,
    ):
        kinds = {"types": ["note.added"]}
        for _ in range(14):
            stack.enter_context(subscribed(world, slow, "record.sealed", department=OTHER, **kinds))
        stack.enter_context(subscribed(world, quick, "record.sealed", **kinds))
        world.site.intake.submit(OTHER, [submission(n) for n in range(webhooks.AT_ONCE)])
        until(lambda: len(slow.asked) == webhooks.AT_ONCE_OF_DEPARTMENT)
        world.site.intake.submit(OWNER, [submission(0)])
        until(lambda: len(quick.asked) == 1)
        assert len(slow.asked) == webhooks.AT_ONCE_OF_DEPARTMENT, "none was given up meanwhile"
        let_go.set()


def test_a_target_that_takes_nothing_is_asked_one_at_a_time(world: Exchange) -> None:
    """Else fifty of them take all that a department may have under way, again and again."""
    at_once, most = threading.Semaphore(1), []

    def answer(_: Asked) -> Said:
        most.append(at_once.acquire(blocking=False))
        time.sleep(0.01)
        if most[-1]:
            at_once.release()
        return Said(status=503)

    kinds = {"types": ["note.added"]}
    with target(answer) as server, subscribed(world, server, "record.sealed", **kinds) as made:
        world.site.intake.submit(OWNER, [submission(0)])
        until(lambda: shown(world, made["id"])["dead"] == 1)
        world.site.intake.submit(OWNER, [submission(n) for n in range(1, 7)])
        until(lambda: shown(world, made["id"])["dead"] == 7)
        assert len(most) == 21 and all(most)


def test_dead_letters_do_not_grow_without_end(world: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too much waits in the log, and comes once the dead were replayed: nothing is lost."""
    monkeypatch.setattr(service, "MAX_OUTSTANDING", 2)
    down = threading.Event()
    down.set()
    answer = lambda _: Said(status=500 if down.is_set() else 204)  # noqa: E731
    with target(answer) as server, subscribed(world, server, "record.sealed", types=["note.added"]) as made:
        for number in range(4):
            world.site.intake.submit(OWNER, [submission(number)])
            if number < 2:
                until(lambda n=number: shown(world, made["id"])["dead"] == n + 1)
        count = len(server.asked)
        time.sleep(0.3)
        assert (shown(world, made["id"])["dead"], len(server.asked)) == (2, count)
        down.clear()
        replayed = world.gateway.client(OWNER).post(f"/v1/subscriptions/{made['id']}/dead/replay", json={})
        assert replayed.json() == {"replayed": 2}
        until(lambda: shown(world, made["id"])["delivered"] == 4)


ANSWERS: dict[str, Said] = {
    "a page of HTML": Said(b"<html>"),
    "megabytes": Said(b" " * (4 << 20)),
    "what says that it is compressed": Said(b"x", headers={"Content-Encoding": "gzip"}),
    "cookies": Said(status=202, headers={"Set-Cookie": "a=b; Domain=localhost", "Location": "http://127.0.0.1:9/"}),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_whatever_a_target_says_with_a_2xx_it_took_it(world: Exchange, case: str) -> None:
    with target(lambda _: ANSWERS[case]) as server, subscribed(world, server, "record.sealed") as made:
        world.submit(2, prefix=f"answer {case}")
        until(lambda: shown(world, made["id"])["delivered"] >= 2)
        assert not any("cookie" in asked.headers for asked in server.asked)


def test_a_target_that_is_no_longer_listed_is_not_called(world: Exchange) -> None:
    with target() as server, subscribed(world, server, "record.sealed") as made:
        settings = world.site.settings
        world.site.settings = replace(settings, webhooks=replace(settings.webhooks, loopback=False))
        try:
            answer = world.gateway.client(OWNER).post(
                "/v1/subscriptions", json={"url": server.url, "events": ["record.sealed"]}
            )
            assert (answer.status_code, answer.json()["code"]) == (422, "target-not-allowed")
            world.submit(1, prefix="unlisted")
            until(lambda: shown(world, made["id"])["dead"] == 1)
        finally:
            world.site.settings = settings
        assert server.asked == []


def test_subscriptions_are_a_departments_own_and_their_secret_is_told_once(world: Exchange) -> None:
    with target() as server, subscribed(world, server, "record.sealed") as made:
        path = f"/v1/subscriptions/{made['id']}"
        other = world.gateway.client(OTHER)
        assert other.get(path).status_code == other.delete(path).status_code == 404
        assert other.post(f"{path}/dead/replay", json={}).status_code == 404
        assert other.get("/v1/subscriptions").json() == {"items": []}
        assert "secret" not in shown(world, made["id"])
        with world.site.database.reading() as connection:
            kept = connection.scalar(select(subscriptions.c.secret).where(subscriptions.c.subscription == made["id"]))
        assert kept is not None
        assert len(kept) == 12 + 32 + 16, "encrypted"
        officer = world.gateway.client(OWNER, {"officer"})
        assert officer.get("/v1/subscriptions").json()["code"] == "forbidden"


# ---- nothing is lost ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_at_any_point_everything_is_delivered_after_the_restart(tmp_path: Path) -> None:
    directory = tmp_path / "node"
    make_node(directory, [OWNER, OTHER]).close()
    refuse = threading.Event()
    refuse.set()
    try:
        with target(lambda _: Said(status=500 if refuse.is_set() else 204)) as server:
            settings = replace(HOOKED, webhooks=replace(HOOKED.webhooks, attempts=50))
            with reopened(Node.open(directory), settings=settings) as first:
                answer = first.gateway.client(OWNER).post(
                    "/v1/subscriptions", json={"url": server.url, "events": ["record.sealed"]}
                )
                made = answer.json()
                records = first.submit(300)
                until(lambda: server.asked)  # some were tried, none taken, and many not taken up
            with reopened(Node.open(directory), settings=settings) as second:
                site = second.site
                # as if the process had died between sending and noting it: the cursor's transaction was, the rest not
                with site.database.writing() as connection:
                    connection.execute(update(deliveries).values(retry_at=0))
                refuse.clear()
                records += second.submit(20, prefix="more")
                until(lambda: {r.record_id for r in records} <= {each["subject"] for each in told(server)}, 60)
                until(lambda: shown(second, made["id"])["waiting"] == 0)
                assert shown(second, made["id"])["delivered"] == 320
            (secret,) = {made["secret"]}
            for asked in server.asked:
                Webhook(secret).verify(asked.body, dict(asked.headers))
    finally:
        end_chain(directory)


def test_events_become_deliveries_on_every_database(gateway: Gateway) -> None:
    gateway.site.settings = HOOKED
    client = gateway.client("fire")
    made = client.post("/v1/subscriptions", json={"url": "http://127.0.0.1:9/x", "events": ["record.sealed"]}).json()
    ids = [take(gateway, report(n), f"k{n}") for n in range(3)]
    found = service.take_up(gateway.site, service.find(gateway.site.database, "fire", made["id"]))
    assert service.take_up(gateway.site, found) == found, "there is no more"
    with gateway.site.database.reading() as connection:
        first, second, third = service.due(connection, made["id"], 0, 10)
    service.settle(gateway.site.database, first, 7)
    service.note_failure(gateway.site.database, second, dead=True, attempts=3, code="timeout", failed_at=8)
    service.note_failure(gateway.site.database, third, dead=True, attempts=3, code="timeout", failed_at=8)
    shown = client.get("/v1/subscriptions").json()["items"][0]
    assert (shown["delivered"], shown["waiting"], shown["dead"]) == (1, 0, 2)
    page = client.get(f"/v1/subscriptions/{made['id']}/dead?limit=1").json()
    assert (page["items"][0]["event"], page["next"]) == (second.event, second.event)
    assert client.post(f"/v1/subscriptions/{made['id']}/dead/replay", json={}).json() == {"replayed": 2}
    again = gateway.client("fire").get("/v1/events?seconds=1", headers={"Last-Event-ID": first.event})
    assert [json.loads(e["data"])["subject"] for e in parsed(iter(again.text.split("\n")))] == ids[1:]
    assert client.delete(f"/v1/subscriptions/{made['id']}").status_code == 204


def test_two_workers_take_up_the_same_events_once(world: Exchange) -> None:
    with target() as server, subscribed(world, server, "record.sealed", types=["licence.issued"]) as made:
        found = service.find(world.site.database, OWNER, made["id"])
        world.submit(1, prefix="cas")
        stale = replace(found, cursor=found.cursor)
        until(lambda: service.find(world.site.database, OWNER, made["id"]).cursor > found.cursor)
        after = service.find(world.site.database, OWNER, made["id"]).cursor
        assert service.take_up(world.site, stale).cursor >= after


# ---- which events ------------------------------------------------------------------------------------------------


def events_of(world: Exchange, department: str, wanted: Wanted) -> list[dict[str, Any]]:
    found, place = [], (-1, 0)
    while True:
        with world.site.database.reading() as connection:
            more, after = read_events(connection, world.site.node.reader, department, wanted, place)
        found += [json.loads(event.to_json()) for event in more]
        if after == place:
            return found
        place = after


def named(world: Exchange, department: str, name: str, **filters: Any) -> list[dict[str, Any]]:
    return events_of(world, department, Wanted(frozenset({name}), **filters))


def test_every_event_comes_about_and_carries_ids_only(world: Exchange) -> None:
    node, consortium = world.site.node, world.site.link.consortium
    consortium.admit(
        node.agent.operator_key(), ABSENT, "街道 | Streets", f"test.example/{ABSENT}", "", "0x" + "11" * 20
    )
    until(lambda: world.site.peers.is_admitted(ABSENT))  # a block later, or two on a busy machine
    number = world.inspect(participants=[OWNER, ABSENT])
    (record,) = world.submit(1, prefix="all")
    arrived = until(lambda: [
        e for e in named(world, LEAD, "dossier.entry.arrived")
        if record.record_id in {each["id"] for each in e["data"]["records"]}
    ])  # fmt: skip
    assert (arrived[0]["data"]["owner"], arrived[0]["data"]["inspection"]) == (OWNER, number)
    # on a busy machine the other may be missing for a while too
    missing = until(lambda: [
        e for e in named(world, LEAD, "participant.missing", claim="inspection", number=number)
        if e["data"]["participant"] == ABSENT
    ])  # fmt: skip
    assert (missing[0]["data"]["lead"], missing[0]["data"]["state"]) in {(LEAD, "waiting"), (LEAD, "unreachable")}
    body = {"record": record.record_id, "reason_kind": "error", "reason": "保密的理由", "asks": "replace"}
    assert world.gateway.client(OWNER).post("/v1/recalls", json=body).status_code == 201
    recalled = until(lambda: named(world, LEAD, "recall.received"))
    assert recalled[0]["data"]["record"] == record.record_id
    for department in (OWNER, LEAD):
        granted = until(lambda d=department: named(world, d, "grant.changed"))  # type: ignore[misc]
        assert (granted[0]["data"]["change"], granted[0]["data"]["grantee"]) == ("given", LEAD)
    world.ask(world.request(world.inspect(lead=OTHER, participants=[OWNER]), lead=OTHER), OTHER)
    # there may be others: what is asked for while a case is on its way to the owner is refused too
    until(lambda: [e for e in named(world, OWNER, "disclosure.refused") if e["data"]["code"] == "no-grant"])
    everything = json.dumps(events_of(world, OWNER, Wanted(frozenset(EVENTS))), ensure_ascii=False)
    assert "保密" not in everything
    assert COMPANY["value"] not in everything


def test_a_revoked_grant_is_told_once_on_both_sides(world: Exchange) -> None:
    given = world.grant(grantee=OTHER, case_kinds=("revoked",))
    world.site.grants.revoke(OWNER, given.id)

    def changes(department: str) -> list[str]:
        found = named(world, department, "grant.changed")
        return [each["data"]["change"] for each in found if each["data"]["grant"] == given.id]

    for department in (OWNER, OTHER):
        until(lambda d=department: changes(d) == ["given", "revoked"])  # type: ignore[misc]
    time.sleep(1.5)
    assert changes(OWNER) == ["given", "revoked"]


def test_filters_narrow(world: Exchange) -> None:
    everything = named(world, OWNER, "record.sealed")
    reports = named(world, OWNER, "record.sealed", types=frozenset({TYPE}))
    assert 0 < len(reports) < len(everything)
    assert {each["data"]["record_type"] for each in reports} == {TYPE}
    assert named(world, OWNER, "record.sealed", claim="inspection", number="none") == []
    arrived = named(world, LEAD, "dossier.entry.arrived", types=frozenset({"note.added"}))
    assert arrived == []
    ids = [each["id"] for each in events_of(world, OWNER, Wanted(frozenset(EVENTS)))]
    assert len(ids) == len(set(ids))


# ---- server-sent events ------------------------------------------------------------------------------------------


@contextmanager
def served(world: Exchange) -> Iterator[httpx.Client]:
    """The same application behind a real server, because a stream must be read while it goes on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        authority = f"127.0.0.1:{listening.getsockname()[1]}"
        world.site.authorities.add(authority)
        config = uvicorn.Config(world.gateway.app, lifespan="off", log_config=None)
        server = uvicorn.Server(config)

        async def serve() -> None:
            await server.serve(sockets=[listening])

        future = world.gateway.portal.start_task_soon(serve)
        try:
            until(lambda: server.started)
            auth = Signing(world.gateway.signer(OWNER), world.site.clock)
            with httpx.Client(base_url=f"http://{authority}", auth=auth, timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            future.result(20)
            world.site.authorities.discard(authority)


def parsed(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Events of a stream as a browser reads them."""
    event: dict[str, str] = {}
    for line in lines:
        if line == "":
            if "data" in event:
                yield event
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value


def test_events_stream_as_they_come_and_resume_where_they_stopped(world: Exchange) -> None:
    with served(world) as client:
        with client.stream("GET", "/v1/events?events=record.sealed&types=inspection.report") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = parsed(answer.iter_lines())
            (record,) = world.submit(1, prefix="streamed")
            first = next(lines)
            assert json.loads(first["data"])["subject"] == record.record_id
            assert first["event"] == "record.sealed"
        missed = world.submit(3, prefix="missed")
        path = "/v1/events?events=record.sealed&types=inspection.report&seconds=2"
        with client.stream("GET", path, headers={"Last-Event-ID": first["id"]}) as answer:
            came = [json.loads(event["data"])["subject"] for event in parsed(answer.iter_lines())]
        assert came == [each.record_id for each in missed]
    until(lambda: not +world.site.streams._open)


def test_streams_are_bounded(world: Exchange) -> None:
    streams = world.site.streams
    streams._open[OTHER] += 10
    try:
        answer = world.gateway.client(OTHER).get("/v1/events?seconds=1")
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert world.gateway.client(OWNER).get("/v1/events?seconds=1").status_code == 200
    finally:
        streams._open[OTHER] -= 10


def test_of_many_streams_at_once_only_some_are_let_in(world: Exchange) -> None:
    """All of them may have been told that there is room before the first takes it."""
    streams = world.site.streams
    wanted = Wanted(frozenset({"record.sealed"}), None, None, None)

    async def open_all() -> list[bytes]:
        opened = [streams.lines(OTHER, wanted, (0, 0), 5, lambda: True) for _ in range(14)]
        first = [await anext(each) for each in opened]
        for each in opened:
            await each.aclose()  # type: ignore[attr-defined]  # it is a generator
        return first

    first = world.gateway.portal.call(open_all)
    assert first == [b"retry: 2000\n\n"] * 10 + [b"retry: 30000\n\n"] * 4
    assert not +streams._open


ENDS_A_STREAM: dict[str, Callable[[People, str], object]] = {
    "signing out": lambda people, token: people.sign_out(token),
    "other roles": lambda people, _: people.set_roles("streaming", ["officer"]),
    "a closed account": lambda people, _: people.disable("streaming"),
}


@pytest.mark.parametrize("case", ENDS_A_STREAM)
def test_a_stream_ends_with_the_session(world: Exchange, case: str) -> None:
    people = world.site.people
    with suppress(AccountRefused):
        people.create(OWNER, "streaming", ["officer", "supervisor"], None)
    people.disable("streaming", disabled=False)
    people.set_roles("streaming", ["officer", "supervisor"])
    token = people.begin("streaming").token
    with served(world) as client:
        headers = {"Authorization": f"Bearer {token}"}
        with client.stream("GET", "/v1/events?events=record.sealed", headers=headers, auth=None) as answer:
            lines = parsed(answer.iter_lines())
            world.submit(1, prefix=f"before {case}")
            assert next(lines)["event"] == "record.sealed"
            ENDS_A_STREAM[case](people, token)
            world.submit(1, prefix=f"after {case}")
            assert list(lines) == []


def test_a_stream_ends_with_the_key(world: Exchange) -> None:
    signer = world.gateway.keys.register(OWNER)
    caller = Caller("department", OWNER, frozenset({SYSTEM}), signer.kid)
    still = partial(world.site.authenticator.still, caller, None)
    assert still()
    held = world.gateway.keys.held
    for change in ({"valid_to": 1.0}, {"standing": "suspended"}):
        held[signer.kid], before = replace(held[signer.kid], **change), held[signer.kid]
        assert not still()
        held[signer.kid] = before
    del held[signer.kid]
    assert not still()


def test_a_stream_ends_when_the_service_does(tmp_path: Path) -> None:
    directory = tmp_path / "node"
    make_node(directory, [OWNER]).close()
    try:
        with reopened(Node.open(directory), settings=HOOKED) as opened:
            opened.submit(1)
            with served(opened) as client, client.stream("GET", "/v1/events") as answer:
                lines = answer.iter_lines()
                assert next(lines) == "retry: 2000"
                began = time.monotonic()
                opened.gateway.portal.call(opened.site.stopping.set)
                for _ in lines:
                    pass
                assert time.monotonic() - began < 10
    finally:
        end_chain(directory)


BAD_REQUESTS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "no events": ("/v1/subscriptions", {"url": "https://a.example/x", "events": []}),
    "an unknown event": ("/v1/subscriptions", {"url": "https://a.example/x", "events": ["record.read"]}),
    "both a case and an inspection": (
        "/v1/subscriptions", {"url": "https://a.example/x", "events": ["record.sealed"], "case": "1", "inspection": "1"}
    ),
    "an id of nothing": ("/v1/subscriptions/AAAAAAAAAAAAAAAAAAAAAA/dead?cursor=9999999999999999999-0", None),
    "a stream of an unknown event": ("/v1/events?events=x", None),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_requests_that_mean_nothing_are_refused(world: Exchange, case: str) -> None:
    path, body = BAD_REQUESTS[case]
    client = world.gateway.client(OWNER)
    answer = client.get(path) if body is None else client.post(path, json=body)
    assert answer.status_code in (400, 404), answer.text


FORGED = {
    "of another department": lambda other: f"{other}-0",
    "of the end of all logs": lambda _: f"{(1 << 59)}-9",
    "of the beginning": lambda _: "0-0",
}


@pytest.mark.parametrize("case", FORGED)
def test_a_stream_resumed_from_a_forged_id_shows_nothing_of_others(world: Exchange, case: str) -> None:
    world.site.intake.submit(OWNER, [submission(0)])
    with world.site.database.reading() as connection:
        logs = {name: read_logs(connection, name)[0] for name in (OWNER, OTHER, LEAD)}
    for name in (OTHER, LEAD):
        place = FORGED[case](position_of(logs[name].number, 0))
        fields = {"Last-Event-ID": place}
        answer = world.gateway.client(OWNER).get("/v1/events?seconds=1&events=record.sealed", headers=fields)
        assert answer.status_code == 200
        origins = {json.loads(event["data"])["source"] for event in parsed(iter(answer.text.splitlines()))}
        assert origins <= {f"//{logs[OWNER].origin}"}


@pytest.mark.parametrize("place", ["-1-0", "1", "x", "9" * 19 + "-0", "1-10", "1-0\t", "１-0".encode(), "1-0, 2-0"])
def test_an_id_that_is_none_resumes_nothing(world: Exchange, place: str) -> None:
    answer = world.gateway.client(OWNER).get("/v1/events?seconds=1", headers={"Last-Event-ID": place})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")


def test_the_node_of_others_has_neither_streams_nor_subscriptions_for_a_department(world: Exchange) -> None:
    """Every member's key lets its systems in, for what it asks of others."""
    client = world.gateway.client("elsewhere")
    body = {"url": "http://localhost/x", "events": ["record.sealed"]}
    for answer in (
        client.post("/v1/subscriptions", json=body),
        client.get("/v1/events?seconds=1"),
        client.get("/v1/events?seconds=1", headers={"Last-Event-ID": "5-0"}),
        client.post("/v1/citizen-links", json={"address": "https://ledger.example.org"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), answer.text


BAD_SETTINGS = {
    "a host with a path": {"hosts": ["a.example/x"]},
    "a host in capitals": {"hosts": ["A.example"]},
    "no attempts": {"attempts": 0},
    "a long wait": {"timeout_seconds": 600},
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings_that_cannot_be_meant_are_refused(case: str) -> None:
    with pytest.raises(ValueError, match="webhooks"):
        GatewaySettings.from_table({"webhooks": BAD_SETTINGS[case]})


def test_documents_name_every_event_and_setting() -> None:
    text = (Path(__file__).parents[2] / "docs" / "subscriptions.md").read_text("utf-8")
    for name in (*EVENTS, *WebhookSettings.__slots__):
        assert f"`{name}`" in text
