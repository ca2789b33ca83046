"""The commands that run for long: many feeds on a real node, the receiver of webhooks, and how they are stopped."""

from __future__ import annotations

import base64
import hmac
import json
import signal
import subprocess
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

from adapters.webhook import make_secret
from tests.fixtures.command import Yunxi, made_node, row_count

FEED = """
mapping = "{name}"
version = 1
department = "fire"
type = "photo.taken"
v = 1
system = "camera"
key = ["no"]
[source]
{source}
[fields]
"occurred_at" = "at"
[[attachments]]
column = "photo"
base = "."
"""
HOOK = 'kind = "webhook"\ninbox = "inbox.db"\nsecret_env = "HOOK_SECRET"'
AT = "2024-03-05T08:00:00+08:00"


def ended(process: subprocess.Popen[bytes]) -> bytes:
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, b"Traceback" in err) == (0, False), err
    return out


def push(url: str, secret: str, identity: str, body: bytes) -> int:
    sent = str(int(time.time()))
    digest = hmac.digest(base64.b64decode(secret[6:]), f"{identity}.{sent}.".encode() + body, "sha256")
    headers = {
        "webhook-id": identity,
        "webhook-timestamp": sent,
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }
    host, _, path = url.removeprefix("http://").partition("/")
    connection = HTTPConnection(host, timeout=10)
    connection.request("POST", f"/{path}", body, headers)
    status = connection.getresponse().status
    connection.close()
    return status


def receive(yunxi: Yunxi, mapping: Path) -> tuple[subprocess.Popen[bytes], str]:
    process = yunxi.start("adapter", "receive", mapping, "--listen", "127.0.0.1:0", stdout=-1, stderr=-1)
    assert process.stdout is not None
    return process, process.stdout.readline().decode().rpartition(" at ")[2].strip()


def test_what_the_receiver_called_taken_is_in_the_inbox_after_a_kill(tmp_path):
    secret = make_secret()
    yunxi = Yunxi(tmp_path, HOOK_SECRET=secret)
    mapping = tmp_path / "hook.toml"
    mapping.write_text(FEED.format(name="hook", source=HOOK))
    process, url = receive(yunxi, mapping)
    body = json.dumps({"no": "1", "at": AT, "photo": "a.jpg"}).encode()
    assert [push(url, secret, f"m{n}", body) for n in (1, 2, 1)] == [202, 202, 202]
    assert push(url, make_secret(), "m3", body) == 401
    process.kill()
    process.communicate()
    (tmp_path / "a.jpg").write_bytes(b"x")
    shown = yunxi.good("adapter", "preview", mapping, "--json").json()
    assert [row["refusal"] for row in shown["rows"]] == [None, None]
    process, _ = receive(yunxi, mapping)
    ended(process)


def test_a_receiver_without_its_secret_says_so(tmp_path):
    mapping = tmp_path / "hook.toml"
    mapping.write_text(FEED.format(name="hook", source=HOOK))
    result = Yunxi(tmp_path)("adapter", "receive", mapping, "--listen", "127.0.0.1:0")
    assert result.code == 2 and "HOOK_SECRET" in result.sentence()


WRONG = {
    "neither": ("run",),
    "both": ("run", "m.toml", "--all", "."),
    "to follow one mapping": ("run", "m.toml", "--follow"),
    "all of them with one source": ("run", "--all", ".", "--source", "x.csv"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls(tmp_path, name):
    assert Yunxi(tmp_path)("adapter", *WRONG[name]).code == 2


@pytest.mark.slow
def test_many_feeds_on_a_node_until_they_are_told_to_stop(tmp_path):
    with made_node(tmp_path, "fire") as yunxi:
        feeds = tmp_path / "feeds"
        feeds.mkdir()
        (feeds / "a.jpg").write_bytes(b"x")
        for name in ("one", "two"):
            (feeds / f"{name}.toml").write_text(FEED.format(name=name, source=f'kind = "csv"\npath = "{name}.csv"'))
            (feeds / f"{name}.csv").write_text(f"no,at,photo\n1,{AT},a.jpg\n")
        (feeds / "lost.toml").write_text(FEED.format(name="lost", source='kind = "csv"\npath = "lost.csv"'))
        once = yunxi("adapter", "run", "--all", "feeds", "--json")
        assert once.code == 2
        assert {feed["file"]: feed["state"] for feed in once.json()["feeds"]} == {
            "lost.toml": "failing", "one.toml": "waiting", "two.toml": "waiting",
        }  # fmt: skip
        words = ("adapter", "run", "--all", "feeds", "--follow", "--interval", "0.2", "--json")
        process = yunxi.start(*words, stdout=-1, stderr=-1)
        for name in ("one", "two", "lost"):
            (feeds / f"{name}.csv").write_text(f"no,at,photo\n1,{AT},a.jpg\n2,{AT},a.jpg\n")
        for _ in range(300):
            if row_count(tmp_path / "node", "fire") == 6:
                break
            time.sleep(0.1)
        found = json.loads(ended(process))["feeds"]
        assert sum(feed["sealed"] for feed in found) == 4
        assert all(feed["trouble"] is None for feed in found)
