"""Three departments' real exports through three kinds of source at once, while everything goes wrong that can.

Food inspections lie in a PostgreSQL table behind a network that is cut, licences are dropped into a folder file by
file, complaints come from a REST server that fails for a while. Rows arrive late, change and are deleted at the source;
the command is killed again and again, and so is the node's chain. In the end every row is there once, changed rows are
amended where the mapping says so, deleted ones noted, and where it does not, `reconcile` names exactly them.

Of each file the first rows are used: 6,000 food inspections, 4,000 licences, 8,000 complaints.
"""

from __future__ import annotations

import csv
import lzma
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from ledger.chain.embedded.directory import read_state
from tests.adapters.http_server import Asked, Said, Server
from tests.fixtures.command import Yunxi, log_size, made_node, row_count
from tests.fixtures.databases import fresh_database
from tests.integration.test_kill_and_restart import CHICAGO, MAPPINGS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHICAGO.is_dir(), reason="../shared/data/chicago is not here"),
]

FOOD, LICENCES, COMPLAINTS = 6_000, 4_000, 8_000
DEPARTMENTS = ("public-health", "licensing", "streets")
KILLS = 6

Row = dict[str, str]


def read(name: str, count: int) -> list[Row]:
    with lzma.open(CHICAGO / f"{name}.csv.xz", "rt", encoding="utf-8", newline="") as file:
        return [row for _, row in zip(range(count), csv.DictReader(file), strict=False)]


class Proxy:
    """A network that can be cut: connections to it reach `target`, until they break and no new one is taken."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        self.is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._server.accept()
                if self.is_cut:
                    here.close()
                    continue
                there = socket.create_connection(self._target)
                self._open += [here, there]
                for a, b in ((here, there), (there, here)):
                    threading.Thread(target=self._pipe, args=(a, b), daemon=True).start()

    @staticmethod
    def _pipe(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        self.is_cut = True
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def close(self) -> None:
        self.cut()
        self._server.close()


class Food:
    """Food inspections in a table; `seq` grows with every change. `late_rows` catches what is committed late."""

    source = 'kind = "sql"\nurl_env = "FOOD_URL"\ntable = "food"\ncursor = ["seq"]\nlate_rows = 400'
    options = 'changes = "amend"\ndeletes = "report"\nignore = ["seq"]'
    key = "inspection_id"

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url, poolclass=NullPool)
        self.rows = read("food_inspections", FOOD)
        self.columns = list(self.rows[0])
        self.seq = 0
        self._do(f"CREATE TABLE food (seq BIGINT PRIMARY KEY, {', '.join(f'{name} TEXT' for name in self.columns)})")
        self.changed: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.late = 0

    def _do(self, statement: str, rows: Any = None) -> None:
        with self._engine.begin() as connection:
            connection.execute(text(statement), rows)

    def _insert(self, rows: list[Row]) -> None:
        names = ["seq", *self.columns]
        self._do(f"INSERT INTO food ({', '.join(names)}) VALUES ({', '.join(f':{n}' for n in names)})", rows)

    def grow(self, count: int) -> None:
        new, self.rows = self.rows[:count], self.rows[count:]
        numbered = [row | {"seq": self.seq + 10 * n} for n, row in enumerate(new, 1)]  # type: ignore[dict-item]
        self.seq += 10 * len(new)
        if numbered:
            self._insert(numbered)

    def arrive_late(self) -> None:
        # as a transaction that began before others and ended after them
        row = self.rows.pop() | {"seq": self.seq - 995}
        self._insert([row])
        self.late += 1

    def change(self, key: str, name: str) -> None:
        self.seq += 10
        self._do(
            "UPDATE food SET dba_name = :name, seq = :seq WHERE inspection_id = :key",
            {"name": name, "seq": self.seq, "key": key},
        )
        self.changed[key] = name

    def delete(self, key: str) -> None:
        self._do("DELETE FROM food WHERE inspection_id = :key", {"key": key})
        self.deleted.add(key)


class Licences:
    """Licences in files that are dropped into a folder, each renamed into place."""

    source = 'kind = "folder"\npath = "../inbox"\nformat = "csv"\nsettle_seconds = 0'
    options = 'changes = "amend"\ndeletes = "report"'
    key = "license_row_id"

    def __init__(self, directory: Path) -> None:
        self._inbox = directory / "inbox"
        self._inbox.mkdir()
        self.rows = read("business_licences", LICENCES)
        self._files: list[list[Row]] = []
        self.changed: dict[str, str] = {}
        self.deleted: set[str] = set()

    def grow(self, count: int) -> None:
        new, self.rows = self.rows[:count], self.rows[count:]
        if new:
            self._files.append(new)
            self._write(len(self._files) - 1)

    def _write(self, number: int) -> None:
        hidden = self._inbox / ".new.tmp"
        with hidden.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(self._files[number][0]))
            writer.writeheader()
            writer.writerows(self._files[number])
        hidden.rename(self._inbox / f"licences-{number}.csv")

    def _find(self, key: str) -> tuple[int, int]:
        return next((f, r) for f, rows in enumerate(self._files) for r, row in enumerate(rows) if row[self.key] == key)

    def change(self, key: str, name: str) -> None:
        file, place = self._find(key)
        self._files[file][place] = self._files[file][place] | {"doing_business_as": name}
        self._write(file)
        self.changed[key] = name

    def delete(self, key: str) -> None:
        file, place = self._find(key)
        del self._files[file][place]
        self._write(file)
        self.deleted.add(key)


class Complaints:
    """Complaints behind a REST service, which gives rows behind a number that grows with every change."""

    source = (
        'kind = "rest"\nurl_env = "COMPLAINTS_URL"\nrows = "items"\npages = "cursor"\nnext = "next"\npage_size = 500\n'
        'since = "seq"\nsince_param = "after"\nattempts = 1\nmax_wait_seconds = 1'
    )
    options = 'ignore = ["seq"]'
    key = "service_request"

    def __init__(self) -> None:
        self.rows = read("sanitation_complaints", COMPLAINTS)
        self._offered: list[dict[str, Any]] = []
        self._seq = 0
        self._lock = threading.Lock()
        self.fails = False
        self.changed: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.server = Server(self._answer)

    def grow(self, count: int) -> None:
        new, self.rows = self.rows[:count], self.rows[count:]
        with self._lock:
            for row in new:
                self._seq += 1
                self._offered.append(row | {"seq": self._seq})

    def change(self, key: str, nature: str) -> None:
        self._take(key, {"nature": nature})
        self.changed[key] = nature

    def delete(self, key: str) -> None:
        self._take(key, None)
        self.deleted.add(key)

    def _take(self, key: str, changes: dict[str, str] | None) -> None:
        with self._lock:
            place = next(n for n, row in enumerate(self._offered) if row[self.key] == key)
            row = self._offered.pop(place)
            if changes is not None:
                self._seq += 1
                self._offered.append(row | changes | {"seq": self._seq})

    def _answer(self, asked: Asked) -> Said:
        if self.fails:
            return Said({"error": "down"}, status=503)
        with self._lock:
            behind = [row for row in self._offered if row["seq"] > int(asked.params.get("after", 0))]
        start = int(asked.params.get("cursor", 0))
        items = behind[start : start + 500]
        following = str(start + 500) if start + 500 < len(behind) else None
        return Said({"items": items, "next": following})


FEEDS = {
    "food": ("chicago_food_inspections", "public-health"),
    "licences": ("chicago_business_licences", "licensing"),
    "complaints": ("chicago_sanitation_complaints", "streets"),
}


def write_mapping(directory: Path, name: str, source: str, options: str) -> Path:
    """The mapping that ships, with another source and options."""
    shipped = (MAPPINGS / f"{FEEDS[name][0]}.toml").read_text(encoding="utf-8")
    head, rest = re.split(r"\[source\]\n(?:.+\n)+", shipped, maxsplit=1)
    path = directory / f"{name}.toml"
    path.write_text(f'{head}{options}\nreport_every = "1h"\n[source]\n{source}\n{rest}', encoding="utf-8")
    return path


@pytest.fixture
def postgres() -> Iterator[str]:
    url, drop = fresh_database("postgresql")
    yield url
    drop()


def wait(until: Callable[[], bool], what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Show:
    """The three feeds, and the command that follows them."""

    def __init__(self, yunxi: Yunxi, food: Food, licences: Licences, complaints: Complaints) -> None:
        self.yunxi, self.node = yunxi, yunxi.directory / "node"
        self.food, self.licences, self.complaints = food, licences, complaints
        self.sources = {"food": food, "licences": licences, "complaints": complaints}
        self.offered: dict[str, list[str]] = {name: [] for name in FEEDS}

    def grow(self, name: str, count: int) -> None:
        source = self.sources[name]
        self.offered[name] += [row[source.key] for row in source.rows[:count] if row[source.key]]
        source.grow(count)

    def follow(self) -> subprocess.Popen[bytes]:
        words = ("adapter", "run", "--all", "feeds", "--follow", "--interval", "0.3")
        return self.yunxi.start(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def rows(self, name: str) -> int:
        return row_count(self.node, FEEDS[name][1])

    def expected(self, name: str) -> int:
        """Rows once each, and the amendments where the mapping makes them."""
        amended = 0 if name == "complaints" else len(self.sources[name].changed)
        return len(set(self.offered[name])) + amended

    def is_through(self) -> bool:
        return all(self.rows(name) == self.expected(name) for name in FEEDS)


def test_the_three_exports_through_three_kinds_at_once(tmp_path: Path, postgres: str) -> None:
    server = make_url(postgres)
    proxy = Proxy((server.host or "127.0.0.1", server.port or 5432))
    through = server.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
    with made_node(tmp_path, *DEPARTMENTS) as yunxi:
        food, licences, complaints = Food(postgres), Licences(tmp_path), Complaints()
        yunxi.environ |= {"FOOD_URL": through, "COMPLAINTS_URL": f"{complaints.server.url}/complaints"}
        show = Show(yunxi, food, licences, complaints)
        (tmp_path / "feeds").mkdir()
        for name, source in show.sources.items():
            write_mapping(tmp_path / "feeds", name, source.source, source.options)
        try:
            kill_again_and_again(show)
            fail_and_resume(show, proxy)
            check_what_came_out(show)
        finally:
            proxy.close()
            complaints.server.close()


def kill_again_and_again(show: Show) -> None:
    """Every source grows in pieces; the command is killed after each, wherever it is."""
    chance = random.Random(20)
    for _ in range(KILLS):
        for name, piece in (("food", FOOD // 10), ("licences", LICENCES // 8), ("complaints", COMPLAINTS // 8)):
            show.grow(name, piece)
        before, aim = [show.rows(name) for name in FEEDS], chance.randrange(50, 1_500)
        process = show.follow()
        wait(lambda b=before, a=aim: sum(show.rows(n) for n in FEEDS) > sum(b) + a or show.is_through(), "no progress")  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.wait()


def fail_and_resume(show: Show, proxy: Proxy) -> None:
    """Source, network and node fail in turn under one command, which is not started again."""
    # late is what lies behind the place that a report named: a single run that read something ends with one
    show.grow("food", 10)
    show.yunxi.good("adapter", "run", "--all", "feeds")
    process = show.follow()
    wait(show.is_through, "the feeds do not catch up")
    # 1. the sources' own doings: rows come late, change and go
    show.offered["food"].append(show.food.rows[-1]["inspection_id"])
    show.food.arrive_late()
    for name, source in show.sources.items():
        once = [key for key in show.offered[name] if show.offered[name].count(key) == 1][:400:40]
        for number, key in enumerate(once[:6]):
            source.change(key, f"Changed {number}")
        for key in once[6:9]:
            source.delete(key)
    wait(show.is_through, "late and changed rows do not come out")
    show.food.change(next(iter(show.food.changed)), "Changed again")
    show.offered["food"].append("again")  # an amendment more
    wait(show.is_through, "a row that changed again does not come out")
    # 2. the REST server fails
    show.complaints.fails = True
    show.grow("complaints", 300)
    show.grow("food", 200)
    wait(lambda: show.rows("food") == show.expected("food"), "one feed that fails holds another up")
    show.complaints.fails = False
    wait(show.is_through, "the REST feed does not resume")
    # 3. the network to the database is cut
    proxy.cut()
    show.grow("food", 200)
    show.grow("licences", 200)
    wait(lambda: show.rows("licences") == show.expected("licences"), "one feed that is cut off holds another up")
    proxy.is_cut = False
    wait(show.is_through, "the table does not resume")
    # 4. the node's chain is killed: records are acknowledged all the same, and anchored once it is there again
    state = read_state(show.node / "chain")
    assert state is not None
    os.kill(state.pid, signal.SIGKILL)
    show.grow("complaints", 300)
    wait(show.is_through, "records are not taken without the chain")
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def check_what_came_out(show: Show) -> None:
    yunxi = show.yunxi
    show.offered["food"].remove("again")
    done = {}
    for name in FEEDS:
        mapping = Path("feeds") / f"{name}.toml"
        done[name] = yunxi.good("adapter", "run", mapping, "--afresh", "--json").json()
        # everything was there: reading all of it again seals nothing but what the feed says of itself
        assert (done[name]["sealed"], done[name]["stopped"]) == (0, None)
    assert [done[name]["withdrawn"] for name in FEEDS] == [3, 3, 0]

    # every row once, and what the sources did to them
    for name, source in show.sources.items():
        found = yunxi("adapter", "reconcile", Path("feeds") / f"{name}.toml", "--json").json()
        offered = set(show.offered[name])
        assert (found["missing"], found["in_ledger"]) == (0, len(offered))
        assert found["at_source"] == found["fitting"] + found["in_quarantine"] + found["changed"]
        named = {kind: set() for kind in ("changed", "gone")}  # type: ignore[var-annotated]
        for item in found["differences"]:
            named[item["kind"]].add(item["key"].partition("/")[2])
        if name == "complaints":
            assert not found["fits"]
            assert named == {"changed": set(source.changed), "gone": source.deleted}
        else:
            changes = len(source.changed) + (name == "food")
            assert found["fits"] and found["amendments"] == changes
            assert (found["gone"], found["withdrawn"]) == (3, 3)

    # the feeds' own reports say the same, from the log alone
    told = yunxi.good("adapter", "reports", "--json").json()
    totals = {feed["department"]: feed["last"]["totals"] for feed in told["feeds"]}
    for name, (_, department) in FEEDS.items():
        assert totals[department]["sealed"] == show.rows(name)
    assert totals["public-health"]["late"] == show.food.late == 1
    assert [item["kind"] for feed in told["feeds"] for item in feed["findings"] if item["level"] == "error"] == []

    audit = yunxi.good("audit", "--json").json()
    assert audit["good"]
    for log in audit["logs"]:
        assert log["anchored_size"] == log["size"] == log_size(show.node, log["department"])
