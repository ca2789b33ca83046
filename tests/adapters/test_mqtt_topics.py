"""MQTT with a real broker: nothing is acknowledged too early, floods are bounded, a killed reader loses nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from adapters.mapping import open_source, parse_mapping
from adapters.mqtt_topics import MqttOptions, MqttTopics
from adapters.run import run
from adapters.sections import Section
from adapters.source import BadRow, Limits, Opening, Page
from ledger.errors import CouldNotRun, Malformed

WORKER = Path(__file__).with_name("worker.py")


class Desk:
    """Topics under a name of their own."""

    def __init__(self, broker: Any, name: str) -> None:
        self.broker = broker
        self.name = "".join(c if c.isalnum() else "-" for c in name)[-50:]
        self.in_flight = 1000
        assert self.look() == []

    def source(self) -> MqttTopics:
        data = {
            "host": "127.0.0.1", "port": self.broker.port, "tls": False, "client_id": self.name,
            "topics": [f"{self.name}/+/events"], "idle_seconds": 0, "in_flight": self.in_flight,
        }  # fmt: skip
        limits = Limits(row_bytes=2000, columns=20)
        return MqttOptions.parse(Section("m.toml", "source", data)).open(Opening(Path(), frozenset(), limits=limits))

    def publish(self, *payloads: bytes, **extra: Any) -> None:
        self.broker.publish([(f"{self.name}/cam7/events", payload) for payload in payloads], **extra)

    def look(self, size: int = 100) -> list[Page]:
        return list(self.source().pages({}, size))

    def take(self, size: int = 100) -> list[Page]:
        source, found = self.source(), []
        for page in source.pages({}, size):
            source.settled()
            found.append(page)
        return found


@pytest.fixture
def desk(broker, request) -> Desk:
    return Desk(broker, request.node.name)


def numbers(pages: list[Page]) -> list[Any]:
    return [row.reason if isinstance(row, BadRow) else row.values["n"] for page in pages for row in page.rows]


def numbered(count: int) -> list[bytes]:
    return [json.dumps({"n": n}).encode() for n in range(count)]


def test_a_look_takes_nothing_away(desk):
    desk.publish(*numbered(5))
    assert numbers(desk.look(2)) == numbers(desk.look()) == list(range(5))
    assert numbers(desk.take(2)) == list(range(5))
    assert desk.take() == []


def test_only_what_is_settled_is_acknowledged(desk):
    desk.publish(*numbered(5))
    source = desk.source()
    pages = source.pages({}, 2)
    next(pages)
    source.settled()
    next(pages)
    pages.close()
    assert numbers(desk.take()) == [2, 3, 4]


def test_a_flood_stays_with_the_broker(desk):
    desk.in_flight = 7
    desk.publish(*numbered(60))
    source = desk.source()
    pages = source.pages({}, 5)
    next(pages)
    for _ in range(20):
        assert source._client is not None
        source._client.loop(0.01)
    assert len(source._waiting) + len(source._handed) == 7
    pages.close()
    assert numbers(desk.look()) == list(range(7))
    taken = desk.take(50)
    assert numbers(taken) == list(range(60))
    assert max(len(page.rows) for page in taken) <= 7


def test_what_a_message_says_and_what_is_known_about_it(desk):
    desk.publish(b'{"n": 1, "at": {"x": 2.50}}')
    (page,) = desk.take()
    values = dict(page.rows[0].values)
    assert (values["@topic"], values["@topic.2"], values["@retained"]) == (f"{desk.name}/cam7/events", "cam7", False)
    assert (values["n"], str(values["at.x"]), len(values["@sha256"])) == (1, "2.50", 64)
    assert set(page.columns or ()) == {"n", "at.x"}


def test_bad_messages_are_set_aside(desk):
    desk.publish(b'{"n": 1}', b"\xff\xd8\xff", b"", b"[1]", b'{"n": "' + b"x" * 3000 + b'"}', b'{"n": 2}')
    assert numbers(desk.take()) == [1, "encoding", "bad-json", "bad-json", "too-long", 2]
    assert desk.take() == []


def test_huge_messages_are_set_aside_and_not_kept(desk):
    """What is above a client's packet size, a broker drops without a word: so ours is far above a row."""
    huge = b'{"n": "' + b"x" * 300_000 + b'"}'
    desk.publish(b'{"n": 1}', huge, huge[:-3] + b'y"}', b'{"n": 2}')
    source = desk.source()
    pages = source.pages({}, 1)
    next(pages)
    assert sum(len(message.payload) for message in source._waiting) < 100
    pages.close()
    (page,) = desk.take()
    assert numbers([page]) == [1, "too-long", "too-long", 2]
    bad = page.rows[1]
    assert isinstance(bad, BadRow) and "300,009 bytes" in bad.detail and len(bad.raw) == 4096
    assert bad.position != page.rows[2].position


def test_a_broker_that_goes_away_in_the_middle(tmp_path, desk):
    own = Desk(type(desk.broker)(tmp_path), "own")
    own.publish(*numbered(9))
    source = own.source()
    pages = source.pages({}, 3)
    next(pages)
    own.broker.close()
    with pytest.raises(CouldNotRun, match="closed the connection"):
        source.settled()
        list(pages)
    with pytest.raises(CouldNotRun, match="cannot be reached"):
        own.look()


def test_who_may_not_sign_in_is_told(tmp_path, desk):
    (tmp_path / "passwords").write_text("")
    closed = type(desk.broker)(tmp_path, f"password_file {tmp_path / 'passwords'}\n")
    data = {"host": "127.0.0.1", "port": closed.port, "tls": False, "client_id": "x", "topics": ["a"], "user_env": "U",
            "password_env": "P"}  # fmt: skip
    options = MqttOptions.parse(Section("m.toml", "source", data))
    with pytest.raises(CouldNotRun, match="environment variable U"):
        options.open(Opening(Path(), frozenset()))
    source = options.open(Opening(Path(), frozenset(), environ={"U": "me", "P": "hunter2"}))
    with pytest.raises(CouldNotRun, match="refuses the connection") as caught:
        list(source.pages({}, 1))
    assert "hunter2" not in str(caught.value)
    closed.close()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no topics": ({"topics": []}, "source.topics"),
    "a wildcard in a word": ({"topics": ["a/b+"]}, "source.topics"),
    "everything in the middle": ({"topics": ["a/#/b"]}, "source.topics"),
    "a client id with a slash": ({"client_id": "a/b"}, "source.client_id"),
    "two hosts": ({"host_env": "B"}, "host_env"),
    "a port that is none": ({"port": 0}, "source.port"),
    "a password in the file": ({"password": "x"}, "source.password"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options(name):
    extra, sentence = WRONG[name]
    with pytest.raises(Malformed, match=sentence):
        section = Section("m.toml", "source", {"host": "h", "client_id": "c", "topics": ["t"], **extra})
        MqttOptions.parse(section)
        section.done()


@pytest.mark.parametrize("kills", [3, pytest.param(12, marks=pytest.mark.slow)])
def test_kill_9_anywhere_loses_and_doubles_nothing(kills, tmp_path, broker, rows, row, request):
    conftest = sys.modules[type(broker).__module__]
    harness = conftest.MqttHarness(tmp_path, broker)
    exported = rows(400)
    exported[77] = row(77, count="x")
    harness.write(exported)
    mapping = tmp_path / "shops.toml"
    mapping.write_text(harness.mapping_text(), encoding="utf-8")
    environ = {**os.environ, **harness.environ}
    command = [sys.executable, str(WORKER), str(mapping), str(tmp_path / "state.db"), str(tmp_path / "ledger.db"), "7"]
    chosen = random.Random(20240305)
    killed = 0
    for _ in range(kills):
        with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"started\n"
            time.sleep(chosen.uniform(0.15, 0.4))
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
    assert killed >= 2
    subprocess.run(command, env=environ, check=True, capture_output=True, timeout=60)
    survived = conftest.worker.SimulatedLedger(str(tmp_path / "ledger.db"))
    assert sorted(survived.keys()) == [item["id"] for item in exported if item["id"] != "r00077"]
    survived._db.close()


def test_messages_published_while_nobody_reads_are_kept(desk, state, ledger, rows, broker):
    text = (
        'mapping = "events"\nversion = 1\ndepartment = "market"\ntype = "x"\nv = 1\nsystem = "s"\nkey = ["@sha256"]\n'
        f'[source]\nkind = "mqtt"\nhost = "127.0.0.1"\nport = {broker.port}\ntls = false\nidle_seconds = 0\n'
        f'client_id = "{desk.name}"\ntopics = ["{desk.name}/+/events"]\n'
        '[fields]\nnumber = "n"\ncamera = "@topic.2"\n'
    )
    mapping = parse_mapping(text.encode(), "m.toml", Path())
    desk.publish(*numbered(30))
    desk.publish(*numbered(30))
    report = run(mapping, open_source(mapping), state, ledger)
    assert (report.sealed, report.known, report.unmapped) == (30, 30, ())
    assert ledger.records()[0]["camera"] == "cam7"
    assert run(mapping, open_source(mapping), state, ledger).read == 0
