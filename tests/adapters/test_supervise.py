"""Many feeds at once: none harms another, mappings are reloaded while it runs, a stop is clean."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import create_engine

from adapters.mapping import load_mapping, open_source
from adapters.run import run
from adapters.state import AdapterState
from adapters.supervise import FeedStatus, Supervisor
from ledger.errors import CouldNotRun, Malformed, StorageFailed

http_server = sys.modules["adapters_http_server"]

MAPPING = """
mapping = "{name}"
version = {version}
department = "market"
type = "x"
v = 1
system = "s"
key = ["id"]
[source]
kind = "csv"
path = "{name}.csv"
[fields]
{target} = "name"
"""


class Desk:
    """A directory of mappings, and a supervisor that runs in a thread."""

    def __init__(self, directory: Path, submit: Any) -> None:
        self.directory = directory
        self.submit = submit
        engine = create_engine(f"sqlite:///{directory / 'state.db'}", connect_args={"timeout": 30})
        self.state = AdapterState(engine)
        self.supervisor = Supervisor(directory, lambda _: self._take, self.state, environ={}, interval=0.05, settle=0.1)
        self.stop = threading.Event()
        self.reports = 0
        self._thread: threading.Thread | None = None
        self._engine = engine

    def _take(self, batch: Any) -> Any:
        return self.submit(batch)

    def feed(self, name: str, rows: int = 3, *, version: int = 1, target: str = "label") -> Path:
        self.rows(name, rows)
        path = self.directory / f"{name}.toml"
        path.write_text(MAPPING.format(name=name, version=version, target=target))
        return path

    def write(self, name: str, source: str) -> None:
        text = MAPPING.format(name=name, version=1, target="label")
        old = f'kind = "csv"\npath = "{name}.csv"'
        assert old in text
        (self.directory / f"{name}.toml").write_text(
            text.replace(old, source).replace('key = ["id"]', 'key = ["id"]\nignore = ["seq"]')
        )

    def rows(self, name: str, rows: int, start: int = 0) -> None:
        text = "".join(f"{name}-{n},n{n}\n" for n in range(start, rows))
        (self.directory / f"{name}.csv").write_text("id,name\n" + text)

    def begin(self) -> None:
        def count(_: Any) -> None:
            self.reports += 1

        self._thread = threading.Thread(target=self.supervisor.run, args=(self.stop,), kwargs={"report": count})
        self._thread.start()

    def until(self, done: Callable[[dict[str, FeedStatus]], bool]) -> dict[str, FeedStatus]:
        for _ in range(3000):
            found = {status.file.removesuffix(".toml"): status for status in self.supervisor.statuses()}
            if done(found):
                return found
            time.sleep(0.02)
        raise AssertionError(f"never: {list(found.values())[:3]}")

    def end(self) -> None:
        self.stop.set()
        if self._thread is not None:
            self._thread.join(20)
            assert not self._thread.is_alive()
        self._engine.dispose()


@pytest.fixture
def desk(tmp_path) -> Iterator[Desk]:
    taken: list[str] = []

    def submit(batch: Any) -> Any:
        from ledger.submission import Acknowledged

        new = [item.key not in taken for item in batch]
        taken.extend(item.key for item in batch)
        return [Acknowledged(item.key, "r", 0, new=is_new) for item, is_new in zip(batch, new, strict=True)]

    made = Desk(tmp_path, submit)
    made.taken = taken  # type: ignore[attr-defined]
    yield made
    made.end()


def test_once_through_all(desk):
    for name in ("aa", "bb", "cc"):
        desk.feed(name)
    desk.feed("dd")
    (desk.directory / "dd.csv").unlink()
    (desk.directory / "ee.toml").write_text("mapping = 1")
    found = {status.file: status for status in desk.supervisor.run(desk.stop, follow=False)}
    assert [found[f"{name}.toml"].sealed for name in ("aa", "bb", "cc")] == [3, 3, 3]
    assert (found["dd.toml"].state, found["ee.toml"].state) == ("failing", "unreadable")
    assert "dd.csv" in (found["dd.toml"].trouble or "")
    assert found["aa.toml"].lag is not None and found["dd.toml"].lag is None


def test_a_feed_that_fails_harms_no_other_and_comes_back(desk):
    desk.feed("good")
    desk.feed("late")
    (desk.directory / "late.csv").unlink()
    desk.begin()
    found = desk.until(lambda all_: all_.get("late") is not None and all_["late"].failures >= 2)
    assert (found["good"].sealed, found["good"].state in ("waiting", "running")) == (3, True)
    desk.rows("late", 2)
    found = desk.until(lambda all_: all_["late"].sealed == 2)
    assert (found["late"].failures, found["late"].trouble) == (0, None)
    desk.rows("good", 5)
    desk.until(lambda all_: all_["good"].sealed == 5)


def test_what_nobody_foresaw_is_the_feeds_own_matter(desk):
    take = desk.submit

    def submit(batch: Any) -> Any:
        if batch[0].key.startswith("odd/"):
            raise ZeroDivisionError("a mistake of ours")
        return take(batch)

    desk.submit = submit
    desk.feed("odd")
    desk.feed("good")
    desk.begin()
    found = desk.until(lambda all_: len(all_) == 2 and all_["odd"].failures > 0 and all_["good"].sealed == 3)
    assert "unexpected ZeroDivisionError" in (found["odd"].trouble or "")


def test_the_ledger_that_fails_is_tried_again(desk):
    take, broken = desk.submit, threading.Event()
    broken.set()

    def submit(batch: Any) -> Any:
        if broken.is_set():
            raise StorageFailed("the disk is full; make room and run again")
        return take(batch)

    desk.submit = submit
    desk.feed("aa")
    desk.begin()
    found = desk.until(lambda all_: "aa" in all_ and all_["aa"].failures > 0)
    assert "disk is full" in (found["aa"].trouble or "")
    broken.clear()
    desk.until(lambda all_: all_["aa"].sealed == 3)


def test_mappings_come_change_and_go_while_it_runs(desk):
    desk.begin()
    path = desk.feed("aa", 1)
    desk.until(lambda all_: "aa" in all_ and all_["aa"].sealed == 1)
    path.write_text("mapping = broken")
    found = desk.until(lambda all_: all_["aa"].trouble is not None)
    assert (found["aa"].state in ("waiting", "running"), found["aa"].version) == (True, 1)
    desk.rows("aa", 2)
    desk.until(lambda all_: all_["aa"].sealed == 2)
    desk.feed("aa", 3, version=2)
    found = desk.until(lambda all_: all_["aa"].sealed == 3 and all_["aa"].version == 2)
    assert found["aa"].trouble is None
    path.unlink()
    desk.until(lambda all_: "aa" not in all_)


def other_key(text: str) -> str:
    return text.replace('["id"]', '["name"]').replace("version = 2", "version = 3")


# what may stand in the place of version 2 of a feed, and what is said of it
REFUSED: dict[str, tuple[Callable[[Path, str], object], str]] = {
    "half a file": (lambda path, text: path.write_text(text[: text.index("[source]") + 4]), "is not TOML"),
    "a file of nothing": (lambda path, text: path.write_text(""), "is missing"),
    "no text": (lambda path, text: path.write_bytes(b"\xff\0"), "not UTF-8"),
    "a lower version": (lambda path, text: path.write_text(text.replace("= 2", "= 1")), "version 2 has made records"),
    "the same version with other content": (
        lambda path, text: path.write_text(text.replace("label", "title")), "is not the version 2",
    ),
    "another key": (lambda path, text: path.write_text(other_key(text)), "all would be sealed again"),
    "another feed": (lambda path, text: path.write_text(text.replace('"aa"', '"zz"')), "whose name stays"),
    "a link that leads out": (lambda path, text: path.symlink_to("/etc/hostname"), "leads out of the directory"),
    "a pipe": (lambda path, text: os.mkfifo(path), "is no file but a pipe"),
    "a directory": (lambda path, text: path.mkdir(), "is no file"),
}  # fmt: skip


def test_what_may_not_take_a_mappings_place_leaves_it_running(desk):
    path = desk.feed("aa", 1, version=2)
    text = path.read_text()
    desk.begin()
    desk.until(lambda all_: "aa" in all_ and all_["aa"].sealed == 1)
    for rows, (attack, words) in enumerate(REFUSED.values(), 2):
        path.unlink()
        attack(path, text)
        desk.until(lambda all_, words=words: words in (all_["aa"].trouble or ""))
        desk.rows("aa", rows)
        found = desk.until(lambda all_, rows=rows: all_["aa"].sealed == rows)
        assert found["aa"].version == 2
        path.rmdir() if path.is_dir() else path.unlink()
        # renamed into place, as programs do; layout and comments are no other content
        spare = desk.directory / "aa.new"
        spare.write_text(f"# {rows}\n{text}")
        spare.rename(path)
        desk.until(lambda all_: all_["aa"].trouble is None)
    assert len(desk.taken) == len(set(desk.taken)) == len(REFUSED) + 1


def test_half_a_mapping_that_is_good_toml_is_not_read(desk):
    """A copy that has come as far as the last table would have sealed rows without what is to follow."""
    desk.supervisor._settle = 3.0
    desk.feed("zz", 1)
    desk.begin()
    desk.until(lambda all_: "zz" in all_ and all_["zz"].sealed == 1)
    path = desk.feed("aa")
    text = path.read_text()
    for more in ("", "", '"place.address" = "name"\n'):
        text += more
        path.write_text(text)
        time.sleep(0.05)
    found = desk.until(lambda all_: "aa" in all_ and all_["aa"].sealed == 3)
    assert (found["aa"].trouble, desk.state.held("market/aa").digest) == (None, load_mapping(path).digest)


def test_a_version_stays_what_it_was_behind_a_restart(desk):
    path = desk.feed("aa", 3)
    text = path.read_text()
    assert desk.supervisor.run(desk.stop, follow=False)[0].sealed == 3

    def restarted(changed: str) -> FeedStatus:
        path.write_text(changed)
        (status,) = Supervisor(desk.directory, lambda _: desk.submit, desk.state, environ={}).run(
            desk.stop, follow=False
        )
        return status

    found = restarted(text.replace("label", "title"))
    assert (found.state, 'raise "version" to 2' in (found.trouble or "")) == ("unreadable", True)
    moved = text.replace("version = 1", "version = 2").replace('["id"]', '["number"]')
    (desk.directory / "aa.csv").write_text("number,name\naa-0,n0\naa-1,n1\naa-2,n2\naa-3,n3\n")
    assert "all would be sealed again" in (restarted(moved).trouble or "")
    found = restarted(moved.replace("key =", 'former_key = ["id"]\nkey ='))
    assert (found.trouble, found.known, found.sealed) == (None, 3, 1)
    # the same file goes on being good, and so does one without the word, now that the key has its name
    assert restarted(moved.replace("version = 2", "version = 3")).trouble is None


def test_a_run_that_was_killed_has_used_its_version(desk):
    path = desk.feed("aa", 3)

    class PowerCut(BaseException): ...

    def submit(batch: Any) -> Any:
        desk.submit(batch)
        raise PowerCut

    def one_run(take: Any) -> Any:
        mapping = load_mapping(path)
        return run(mapping, open_source(mapping), desk.state, take)

    with pytest.raises(PowerCut):
        one_run(submit)
    path.write_text(path.read_text().replace("label", "title"))
    with pytest.raises(Malformed, match="is not the version 1"):
        one_run(desk.submit)
    path.write_text(path.read_text().replace("version = 1", "version = 2"))
    report = one_run(desk.submit)
    assert (report.sealed, report.known) == (0, 3)


def test_a_mapping_that_changes_twice_within_a_turn(desk):
    take, go_on, began = desk.submit, threading.Event(), threading.Event()

    def submit(batch: Any) -> Any:
        began.set()
        assert go_on.wait(60)
        return take(batch)

    desk.submit = submit
    desk.feed("aa", 2)
    desk.begin()
    assert began.wait(60)
    desk.feed("aa", 3, version=2, target="title")
    desk.feed("aa", 4, version=3)
    go_on.set()
    desk.until(lambda all_: all_["aa"].version == 3)
    desk.rows("aa", 5)
    found = desk.until(lambda all_: all_["aa"].sealed == 5)
    assert (found["aa"].trouble, desk.state.held("market/aa").version) == (None, 3)


def test_a_feed_whose_other_file_goes_runs_on_from_the_one_that_is_left(desk, monkeypatch):
    monkeypatch.setattr("adapters.supervise.RETRY_SECONDS", 0.1)
    first = desk.feed("aa")
    (desk.directory / "bb.toml").write_text(first.read_text())
    desk.begin()
    desk.until(lambda all_: len(all_) == 2 and all_["bb"].state == "unreadable" and all_["aa"].sealed == 3)
    first.unlink()
    desk.rows("aa", 4)
    desk.until(lambda all_: len(all_) == 1 and all_["bb"].sealed == 1)


def test_two_files_for_one_feed(desk):
    desk.feed("aa")
    (desk.directory / "bb.toml").write_text((desk.directory / "aa.toml").read_text())
    found = {status.file: status for status in desk.supervisor.run(desk.stop, follow=False)}
    assert (found["aa.toml"].sealed, found["bb.toml"].state) == (3, "unreadable")
    assert "is the feed of aa.toml already" in (found["bb.toml"].trouble or "")


def test_a_stop_is_clean_behind_the_page_in_hand(desk):
    desk.feed("aa", 5000)
    take, reached = desk.submit, threading.Event()

    def submit(batch: Any) -> Any:
        reached.set()
        outcomes = take(batch)
        desk.stop.wait(5)
        return outcomes

    desk.submit = submit
    desk.begin()
    assert reached.wait(60), desk.supervisor.statuses()
    desk.end()
    (status,) = desk.supervisor.statuses()
    assert (status.read, len(desk.taken)) == (1000, 1000)
    desk.submit, desk.stop = take, threading.Event()
    (status,) = desk.supervisor.run(desk.stop, follow=False)
    assert (status.read, len(desk.taken)) == (5000, 5000)


def test_a_long_feed_lets_the_others_have_their_turn(desk, monkeypatch):
    from adapters import supervise

    monkeypatch.setattr(supervise, "TURN_SECONDS", 0.0)
    desk.feed("aa", 3500)
    found = desk.supervisor.run(desk.stop, follow=False)
    assert (found[0].sealed, found[0].turns >= 4) == (3500, True)


def test_a_feed_with_times_of_the_day_is_read_at_the_start_and_then_at_those(desk):
    clock, wall = [100.0], [datetime(2026, 3, 1, 1, 59, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp()]
    desk.supervisor._clock, desk.supervisor._wall = lambda: clock[0], lambda: wall[0]
    path = desk.feed("aa")
    path.write_text('read_at = ["02:00", "13:30"]\nzone = "Asia/Shanghai"\n' + path.read_text())
    desk.begin()
    desk.until(lambda found: "aa" in found and found["aa"].turns == 1 and found["aa"].state == "waiting")
    desk.rows("aa", 5)
    clock[0] += 59
    time.sleep(0.3)
    assert desk.supervisor.statuses()[0].turns == 1
    clock[0], wall[0] = clock[0] + 2, wall[0] + 61
    assert desk.until(lambda found: found["aa"].sealed == 5)["aa"].turns == 2


def test_a_silent_source_shows_by_its_age(desk):
    now = [100.0]
    desk.supervisor._clock = lambda: now[0]
    desk.feed("aa")
    desk.supervisor.run(desk.stop, follow=False)
    now[0] += 3600
    (status,) = desk.supervisor.statuses()
    assert (status.lag, status.age) == (3600, 3600)


def test_no_directory(tmp_path, state):
    with pytest.raises(CouldNotRun, match="no directory"):
        Supervisor(tmp_path / "nowhere", lambda _: lambda batch: [], state)


REST = """kind = "rest"
url = "{url}/{name}"
rows = "rows"
pages = "none"
attempts = 1
timeout_seconds = 3
"""
SQL = 'kind = "sql"\nurl_env = "SOURCE"\ntable = "{name}"\ncursor = ["seq"]'


def test_servers_that_do_not_answer_take_no_place_from_the_rest(desk):
    desk.supervisor._patience = 0.1
    released = threading.Event()

    def hang(_: Any) -> Any:
        released.wait(60)
        return http_server.Said({"rows": []})

    server = http_server.Server(hang)
    for number in range(8):  # twice as many as have their turn at once
        desk.write(f"aa{number}", REST.format(url=server.url, name="x"))
    desk.feed("good")
    desk.begin()
    found = desk.until(lambda all_: "good" in all_ and all_["good"].sealed == 3)
    assert sum(status.state == "running" for status in found.values()) >= 4
    desk.rows("good", 5)
    desk.until(lambda all_: all_["good"].sealed == 5)
    released.set()
    desk.end()
    server.close()


class Mixed:
    """Feeds of four kinds in one directory, files, tables and a server, that grow when told to."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.counts: dict[str, int] = {}
        self.server = http_server.Server(self._answer)
        self.database = sqlite3.connect(desk.directory / "source.db", isolation_level=None)
        desk.supervisor._environ["SOURCE"] = f"sqlite:///{desk.directory / 'source.db'}"

    def add(self, number: int, rows: int) -> None:
        name, kind = f"feed{number:02}", ("csv", "jsonl", "sql", "rest")[number % 4]
        if kind == "sql":
            self.database.execute(f"CREATE TABLE {name} (seq INTEGER PRIMARY KEY, id TEXT, name TEXT)")
        self.counts[name] = 0
        self.grow(name, rows)
        source = f'kind = "{kind}"\npath = "{name}.{kind}"'
        self.desk.write(name, {"sql": SQL, "rest": REST}.get(kind, source).format(name=name, url=self.server.url))

    def grow(self, name: str, rows: int) -> None:
        """Brings a source to so many rows."""
        number, before = int(name[4:]), self.counts[name]
        if number % 4 == 0:
            self.desk.rows(name, rows)
        elif number % 4 == 1:
            lines = [json.dumps({"id": f"{name}-{n}", "name": f"n{n}"}) + "\n" for n in range(rows)]
            (self.desk.directory / f"{name}.jsonl").write_text("".join(lines))
        elif number % 4 == 2:
            new = [(f"{name}-{n}", f"n{n}") for n in range(before, rows)]
            self.database.execute("BEGIN")
            self.database.executemany(f"INSERT INTO {name} (id, name) VALUES (?, ?)", new)
            self.database.execute("COMMIT")
        self.counts[name] = rows

    def _answer(self, asked: Any) -> Any:
        name = asked.path.strip("/")
        if name not in self.counts:
            return http_server.Said({"error": "no"}, 403)
        return http_server.Said({"rows": [{"id": f"{name}-{n}", "name": f"n{n}"} for n in range(self.counts[name])]})

    def close(self) -> None:
        self.server.close()
        self.database.close()


@pytest.mark.slow
def test_fifty_feeds_at_once(desk):
    mixed = Mixed(desk)
    for number in range(47):
        mixed.add(number, 200)
    desk.write("feed47", 'kind = "csv"\npath = "nowhere.csv"')
    desk.write("feed48", REST.format(url=mixed.server.url, name="refused"))
    (desk.directory / "feed49.toml").write_text("mapping = broken")
    desk.begin()
    desk.until(lambda all_: sum(status.sealed for status in all_.values()) == 47 * 200)
    for name in list(mixed.counts):
        mixed.grow(name, 300)
    found = desk.until(lambda all_: sum(status.sealed for status in all_.values()) == 47 * 300)
    good = [status for name, status in found.items() if name in mixed.counts]
    assert {(status.sealed, status.failures, status.trouble) for status in good} == {(300, 0, None)}
    assert found["feed47"].failures and "nowhere.csv" in (found["feed47"].trouble or "")
    assert found["feed48"].failures and found["feed49"].state == "unreadable"
    assert set(desk.taken) == {f"{name}/{name}-{n}" for name in mixed.counts for n in range(300)}
    desk.end()
    mixed.close()
