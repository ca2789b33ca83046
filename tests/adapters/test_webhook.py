"""Signed webhooks over real HTTP: who may push, replays, what the sender is told, and what survives a kill."""

from __future__ import annotations

import base64
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest

from adapters import webhook
from adapters.run import run
from adapters.sections import Section
from adapters.source import BadRow, Opening
from adapters.webhook import Hook, Inbox, NotTaken, WebhookOptions, hook_of
from ledger.errors import CouldNotRun, Malformed

# the example of the Standard Webhooks specification (Apache-2.0), spec/standard-webhooks.md
SPEC_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SPEC_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
SPEC_BODY = b'{"test": 2432232314}'
SPEC_TIME = 1614265330
SPEC_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.fixture
def desk(tmp_path, request) -> Any:
    made = conftest(request).WebhookHarness(tmp_path)
    yield made
    made.close()


def conftest(request: pytest.FixtureRequest) -> Any:
    return sys.modules[request.getfixturevalue("row").__module__]


def send(desk: Any, headers: dict[str, str], body: bytes, path: str = "/hooks/market/shops") -> int:
    with closing(HTTPConnection("127.0.0.1", desk.server.server_address[1], timeout=10)) as connection:
        connection.request("POST", path, body, headers)
        return connection.getresponse().status


def test_the_example_of_the_specification(tmp_path):
    options = WebhookOptions("inbox.db", "S", 300, 30)
    hook = options.receive(tmp_path, {"S": SPEC_SECRET}, clock=lambda: SPEC_TIME + 10)
    headers = {"webhook-id": SPEC_ID, "webhook-timestamp": str(SPEC_TIME), "webhook-signature": SPEC_SIGNATURE}
    assert hook.take(headers, SPEC_BODY) is True
    assert hook.take(headers, SPEC_BODY) is False
    hook._inbox.close()


BODY = b'{"id": "r1"}'
OTHER = "whsec_" + base64.b64encode(b"x" * 32).decode()
REFUSED: dict[str, tuple[dict[str, Any], int]] = {
    "another body": ({"body": b'{"id": "r2"}'}, 401),
    "another id": ({"webhook_id": "msg_2"}, 401),
    "another time": ({"webhook_timestamp": str(int(time.time()) - 1)}, 401),
    "no signature": ({"webhook_signature": ""}, 400),
    "a signature that is none": ({"webhook_signature": "v1,!!!!"}, 401),
    "an empty signature": ({"webhook_signature": "v1,"}, 401),
    "a signature of another kind": ({"webhook_signature": "v1a,AAAA"}, 401),
    "no id": ({"webhook_id": ""}, 400),
    "no time": ({"webhook_timestamp": "yesterday"}, 400),
    "too old": ({"at": -301}, 401),
    "from the future": ({"at": 301}, 401),
}


@pytest.mark.parametrize("name", REFUSED)
def test_who_may_not_push(desk, state, ledger, name):
    changes, status = REFUSED[name]
    changes = dict(changes)
    body = changes.pop("body", BODY)
    at = time.time() + changes.pop("at", 0)
    assert send(desk, desk.signed("msg_1", BODY, at=at, **changes), body) == status
    assert run(desk.mapping(), desk.source(), state, ledger).read == 0


def test_a_replay_is_taken_once_and_an_id_used_twice_is_refused(desk):
    headers = desk.signed("msg_1", BODY)
    assert [send(desk, headers, BODY) for _ in range(3)] == [202, 202, 202]
    assert send(desk, desk.signed("msg_1", b"{}"), b"{}") == 409
    ((page,),) = [list(desk.source().pages({}, 10))]
    assert len(page.rows) == 1


def test_the_same_message_from_many_connections_at_once(desk):
    headers = desk.signed("msg_1", BODY)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: send(desk, headers, BODY), range(16))) == {202}
    assert len(desk.source()._inbox.read(0, 100)) == 1


def test_secrets_can_be_changed_without_a_gap(tmp_path, desk):
    hook = WebhookOptions("two.db", "S", 300, 30).receive(tmp_path, {"S": f"{OTHER} {desk.secret}"})
    assert hook.take(desk.signed("m1", BODY), BODY)
    old = desk.signed("m2", BODY)
    old["webhook-signature"] = f"v1,AAAA v2,xx {old['webhook-signature']}"
    assert hook.take(old, BODY)
    hook._inbox.close()


@pytest.mark.parametrize("secret", ["", "whsec_c2hvcnQ=", "whsec_not base64", "tooshort"])
def test_weak_secrets_are_refused(tmp_path, secret):
    with pytest.raises(CouldNotRun, match="S") as caught:
        WebhookOptions("inbox.db", "S", 300, 30).receive(tmp_path, {"S": secret})
    assert not secret or secret not in str(caught.value)


def test_a_request_that_is_odd(desk):
    assert send(desk, desk.signed("m", BODY), BODY, "/hooks/market/other") == 404
    assert send(desk, desk.signed("m", BODY), BODY, "/") == 404
    assert send(desk, {"Content-Length": str(2 << 20)}, b"") == 413
    assert send(desk, {"Content-Length": "-1"}, b"") == 411
    assert send(desk, {"Transfer-Encoding": "chunked"}, b"0\r\n\r\n") == 411
    with socket.create_connection(desk.server.server_address[:2]) as half:
        half.sendall(b"POST /hooks/market/shops HTTP/1.1\r\nContent-Length: 50\r\n\r\nhalf")
    assert send(desk, desk.signed("m", BODY), BODY) == 202


def test_a_body_that_is_no_json_is_taken_and_set_aside(desk, state, ledger):
    assert send(desk, desk.signed("m", b"\xff"), b"\xff") == 202
    report = run(desk.mapping(), desk.source(), state, ledger)
    assert dict(report.by_reason) == {"encoding": 1}


def test_a_full_inbox_says_so_until_it_was_read(desk, state, ledger, monkeypatch):
    monkeypatch.setattr(webhook, "MAX_PENDING", 2)
    statuses = [send(desk, desk.signed(f"m{n}", BODY), BODY) for n in range(4)]
    assert statuses == [202, 202, 503, 503]
    run(desk.mapping(), desk.source(), state, ledger)
    assert send(desk, desk.signed("m9", BODY), BODY) == 202


def test_messages_are_forgotten_only_when_they_are_settled_and_old(tmp_path):
    now = 1_000_000.0
    inbox = Inbox(tmp_path / "inbox.db", lambda: now, make=True)
    for number in range(4):
        inbox.put(f"m{number}", BODY)
    inbox.settle(2, 30)
    assert len(inbox.read(0, 10)) == 4
    now += 31 * 86_400
    inbox.settle(2, 30)
    assert [message[1] for message in inbox.read(0, 10)] == ["m2", "m3"]
    inbox.close()


def test_a_new_inbox_is_read_from_its_start(tmp_path, desk, state, ledger, rows):
    desk.write(rows(3))
    (page,) = desk.source().pages({}, 10)
    mark = (page.mark or "").replace(desk._hook._inbox.name, "0" * 16)
    (again,) = desk.source().pages({"inbox": mark}, 10)
    assert (len(again.rows), again.restarted) == (3, True)


def test_what_is_known_about_a_message(desk):
    send(desk, desk.signed("msg_7", b'{"data": {"id": "r1"}}'), b'{"data": {"id": "r1"}}')
    (page,) = desk.source().pages({}, 10)
    assert not isinstance(page.rows[0], BadRow)
    values = page.rows[0].values
    assert (values["data.id"], values["@id"]) == ("r1", "msg_7")
    assert page.columns == ("data.id",)
    assert (desk.directory / "inbox.db").stat().st_mode & 0o077 == 0


def test_setups_that_cannot_work(tmp_path):
    options = WebhookOptions("inbox.db", "S", 300, 30)
    with pytest.raises(CouldNotRun, match="there is no inbox"):
        options.open(Opening(tmp_path, frozenset()))
    with pytest.raises(Malformed, match="only kind"):
        hook_of(object(), tmp_path, {})
    with pytest.raises(Malformed, match="tolerance_seconds"):
        WebhookOptions.parse(Section("m.toml", "source", {"inbox": "i", "secret_env": "S", "tolerance_seconds": 10**6}))
    (tmp_path / "bad.db").write_bytes(b"no database")
    with pytest.raises(CouldNotRun, match=r"bad\.db cannot be used"):
        WebhookOptions("bad.db", "S", 300, 30).open(Opening(tmp_path, frozenset()))


def test_a_disk_that_is_full_is_not_called_taken(tmp_path, desk):
    hook = WebhookOptions("three.db", "S", 300, 30).receive(tmp_path, {"S": desk.secret})
    assert isinstance(hook, Hook)
    hook._inbox._db.execute("PRAGMA max_page_count = 1")
    body = b'{"x": "' + b"y" * 500_000 + b'"}'
    with pytest.raises(CouldNotRun, match="cannot be used"):
        hook.take(desk.signed("m1", body), body)
    with pytest.raises(NotTaken):
        hook.take({}, body)
    hook._inbox.close()
