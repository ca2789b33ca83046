"""Shredding: a copy of database and blobs from before, with today's keystore, opens nothing that was forgotten."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, func, insert, select

from ledger.audit import audit_node
from ledger.errors import CouldNotRun, KeyRefused, RecordRefused
from ledger.forgetting import Forgetting
from ledger.keks import EpochGone, KekRing
from ledger.keys import FileKeyAgent
from ledger.node import Node
from ledger.records import RecordReader
from ledger.rotation import LEAD_S, LOST_S, rotate_key
from ledger.shredding import destroy_keys, drop_epochs, move_survivors, shred
from ledger.store.blobs import BlobStore
from ledger.store.database import Database
from ledger.store.models import attachments, entries, keks, logs, shreds, uploads, vault
from ledger.store.reading import find_entry
from ledger.submission import Submission
from tests.fixtures.nodes import Built, end_chain
from tests.fixtures.parts import Parts, PostgresServer, SqliteFiles, Template
from tests.fixtures.records import acknowledged, attachment, report, submissions

ROOT = Path(__file__).resolve().parents[2]
OFFICERS = ({"id": "33020001", "name": "陈一"}, {"id": "33020002", "name": "李二"})
COPIED = (logs, entries, vault, attachments, keks)


class Clock:
    """The machine's clock, put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def own_keys(template: Template, tmp_path: Path) -> FileKeyAgent:
    """A copy of the template's keystore, to rotate."""
    shutil.copytree(template.directory / "keys", tmp_path / "keys")
    return FileKeyAgent.open(tmp_path / "keys")


@pytest.fixture
def ledger(server: SqliteFiles | PostgresServer, own_keys: FileKeyAgent, tmp_path: Path) -> Iterator[Parts]:
    opened = Parts.open(tmp_path / "parts", server.new(tmp_path), own_keys)
    yield opened
    opened.close()


@pytest.fixture
def copies(server: SqliteFiles | PostgresServer, tmp_path: Path) -> Iterator[Database]:
    """An empty database for what a backup holds."""
    opened = Database(server.new(tmp_path))
    with opened.writing() as connection:
        for table in COPIED:
            connection.execute(delete(table))
    yield opened
    opened.close()


def back_up(ledger: Parts, copies: Database) -> BlobStore:
    """Database and blobs as a backup has them."""
    with ledger.database.reading() as source, copies.writing() as target:
        for table in COPIED:
            rows = [dict(row) for row in source.execute(select(table)).mappings()]
            if rows:
                target.execute(insert(table), rows)
    kept = ledger.directory / "backup"
    shutil.copytree(ledger.directory / "blobs", kept, dirs_exist_ok=True)
    return BlobStore(kept)


def rotate(ledger: Parts) -> str:
    """What `rotate_key` does, without a chain."""
    key = ledger.agent.draw("fire", "encryption")
    ledger.agent.mark("fire", "encryption", key.kid, int(time.time()), settled=True)
    with ledger.database.writing() as connection:
        recipient = ledger.agent.key_of("fire", key.kid)
        ledger.keks.move(connection, 1, "fire", int(time.time()), recipient)
    return key.kid


def newest_epoch(connection: Connection) -> int:
    return int(connection.scalar(select(func.max(keks.c.epoch)).where(keks.c.log == 1)) or 0)


def forget(parts: Parts | Node, record_id: str) -> None:
    clock = parts.clock if isinstance(parts, Node) else time.time
    machine = Forgetting(parts.database, parts.blobs, parts.intake, parts.reader, clock)
    machine.forget(record_id, "subject-request", "个人信息保护法第四十七条", OFFICERS)


def test_a_copy_from_before_opens_nothing_that_was_forgotten(ledger: Parts, copies: Database, tmp_path: Path) -> None:
    source = attachment(tmp_path / "a.png", b"\x89PNG" * 99)
    gone = ledger.take([Submission("gone", report(1), (source,))])[0]
    kept = ledger.take([Submission("kept", report(2), (source,)), *submissions(10, 5)])
    blobs = back_up(ledger, copies)
    forget(ledger, gone.record_id)

    def from_copy() -> bytes:
        reader = RecordReader(KekRing(FileKeyAgent.open(tmp_path / "keys")), blobs)
        with copies.reading() as connection:
            return b"".join(reader.attachment(connection, gone.record_id, 1))

    assert from_copy().startswith(b"\x89PNG"), "without shredding the copy opens, which is why there is shredding"
    kid = rotate(ledger)
    assert from_copy().startswith(b"\x89PNG")
    with ledger.database.reading() as connection:
        epoch = newest_epoch(connection)
    log = ledger.log()
    assert move_survivors(ledger.database, ledger.keks, log, epoch) == 7
    assert drop_epochs(ledger.database, log, epoch) == 1
    assert destroy_keys(ledger.database, ledger.agent, log, kid) == 1
    with pytest.raises(KeyRefused):
        from_copy()
    again = ledger.again()
    with again.database.reading() as connection:
        assert again.reader.open(connection, kept[0].record_id).record()["id"] == kept[0].record_id
        assert b"".join(again.reader.attachment(connection, kept[0].record_id, 1)).startswith(b"\x89PNG")
    again.take(submissions(50, 2))
    again.close()
    found = ledger.audit()
    assert (found.good, found.forgotten, found.payloads) == (True, 1, 9), found.findings


def test_moving_goes_on_where_it_was_cut_off(ledger: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.shredding.BATCH", 10)
    ledger.take(submissions(0, 35))
    rotate(ledger)
    with ledger.database.reading() as connection:
        epoch = newest_epoch(connection)
    done = 0

    class Cut(Exception):
        pass

    def cut(moved: int) -> None:
        nonlocal done
        done += moved
        if done == 20:
            raise Cut

    with pytest.raises(Cut):
        move_survivors(ledger.database, ledger.keks, ledger.log(), epoch, cut)
    assert ledger.audit().good, "half moved is sound"
    assert drop_epochs(ledger.database, ledger.log(), epoch) is None, "an epoch in use stays"
    assert move_survivors(ledger.database, ledger.keks, ledger.log(), epoch) == 15
    assert drop_epochs(ledger.database, ledger.log(), epoch) == 1
    assert ledger.audit().good


def test_what_is_forgotten_while_keys_move_does_not_come_back(ledger: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = ledger.take(submissions(0, 30))
    monkeypatch.setattr("ledger.shredding.BATCH", 10)
    rotate(ledger)
    with ledger.database.reading() as connection:
        epoch = newest_epoch(connection)
    todo = [taken[5], taken[15], taken[25]]
    moved = move_survivors(
        ledger.database, ledger.keks, ledger.log(), epoch, lambda _: forget(ledger, todo.pop().record_id)
    )
    assert moved == 29, "one of the three was forgotten before its turn"
    assert drop_epochs(ledger.database, ledger.log(), epoch) == 1
    found = ledger.audit()
    assert (found.good, found.forgotten) == (True, 3)


def test_an_upload_under_way_is_moved_too(ledger: Parts, tmp_path: Path) -> None:
    from ledger.uploads import Uploads

    begun = Uploads(ledger.database, ledger.blobs, ledger.keks, tmp_path / "uploads", time.time)
    upload = begun.begin("fire", 10)
    rotate(ledger)
    with ledger.database.reading() as connection:
        epoch = newest_epoch(connection)
    assert move_survivors(ledger.database, ledger.keks, ledger.log(), epoch) == 1
    with ledger.database.reading() as connection:
        assert connection.scalar(select(uploads.c.epoch).where(uploads.c.id == upload.id)) == epoch


def test_a_batch_sealed_under_a_deleted_key_is_sealed_anew(ledger: Parts) -> None:
    ledger.take(submissions(0, 1))
    slow = ledger.again()
    began: list[bool] = []

    def meanwhile(*arguments: Any) -> Any:
        # between looking up the key and the transaction, the whole shredding happens
        if not began:
            began.append(True)
            rotate(ledger)
            with ledger.database.reading() as connection:
                epoch = newest_epoch(connection)
            move_survivors(ledger.database, ledger.keks, ledger.log(), epoch)
            assert drop_epochs(ledger.database, ledger.log(), epoch) == 1
        return original(*arguments)

    original = slow.intake._candidates
    slow.intake._candidates = meanwhile  # type: ignore[method-assign,assignment]
    taken = slow.take(submissions(1, 3))
    slow.close()
    assert began
    with ledger.database.reading() as connection, pytest.raises(EpochGone):
        ledger.keks.require(connection, 1, 1)
    with ledger.database.reading() as connection:
        assert {find_entry(connection, a.record_id).epoch for a in taken} == {newest_epoch(connection)}
    assert ledger.audit().good


# -- with the chain: the whole command's recipe --


@pytest.fixture
def node(built: Built, tmp_path: Path, clock: Clock) -> Iterator[Node]:
    directory = built.copy_with_chain(tmp_path / "shredded")
    opened = Node.open(directory, clock)
    yield opened
    opened.close()
    end_chain(directory)


def test_shredding_a_node(node: Node, clock: Clock) -> None:
    gone, kept = acknowledged(node.intake.submit("fire", submissions(0, 2, "own-")))
    forget(node, gone.record_id)
    first = shred(node, "fire")
    assert (first.keys, first.epochs) == (0, 1)
    assert 0 < first.wait <= LEAD_S + LOST_S
    assert shred(node, "fire").wait > 0
    acknowledged(node.intake.submit("fire", submissions(2, 1, "own-")))
    clock.ahead += first.wait + 1
    last = shred(node, "fire")
    assert (last.wait, last.keys, last.epoch, last.moved) == (0, 1, first.epoch, 0)
    assert len(node.agent.held("fire", "encryption")) == 1
    with node.database.reading() as connection:
        assert node.reader.open(connection, kept.record_id).record()["id"] == kept.record_id
        assert connection.scalar(select(func.count()).select_from(shreds).where(shreds.c.finished_at.is_(None))) == 0
        with pytest.raises(RecordRefused):
            node.reader.open(connection, gone.record_id)
    found = audit_node(node, "fire")
    assert (found.good, found.logs[0].forgotten) == (True, 1)
    # and once more, from the start: new keys again, and only one key is left again
    second = shred(node, "fire")
    assert second.epoch > last.epoch
    clock.ahead += second.wait + 1
    assert shred(node, "fire").keys == 1
    rotate_key(node, "fire", "encryption")  # an ordinary rotation still works
    acknowledged(node.intake.submit("fire", submissions(3, 1, "own-")))


def test_a_rotation_under_way_is_waited_for(node: Node, clock: Clock) -> None:
    rotate_key(node, "fire", "encryption")
    with pytest.raises(CouldNotRun, match="under way"):
        shred(node, "fire")
    clock.ahead += LEAD_S + 1
    assert shred(node, "fire").epochs == 2


# -- killed --

_CHILD = """
import sys, time
from pathlib import Path
from ledger.keys import FileKeyAgent
from ledger.forgetting import Forgetting
from tests.fixtures.parts import Parts
directory, url, keys, *names = sys.argv[1:]
parts = Parts.open(Path(directory), url, FileKeyAgent.open(Path(keys)))
machine = Forgetting(parts.database, parts.blobs, parts.intake, parts.reader, time.time)
officers = ({"id": "1", "name": "a"}, {"id": "2", "name": "b"})
for name in names:
    machine.forget(name, "unlawful", "b", officers)
    print(name, flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_is_forgotten_or_untouched(parts: Parts, template: Template, tmp_path: Path) -> None:
    source = attachment(tmp_path / "a.bin", os.urandom(50_000))
    taken = parts.take([Submission(f"k{n}", report(n), (source,)) for n in range(60)])
    names = [record.record_id for record in taken]
    said: set[str] = set()
    command = [sys.executable, "-c", _CHILD, str(parts.directory), parts.url, str(template.directory / "keys")]
    for turn in range(4):
        todo = [name for name in names if name not in said]
        child = subprocess.Popen([*command, *todo], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(3 + turn):
            said.add(child.stdout.readline().strip())
        time.sleep(0.003 * turn)
        child.send_signal(signal.SIGKILL)
        said |= {line.strip() for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")}
        child.wait()
        child.stdout.close()
        found = parts.audit()
        assert found.good, found.findings
        assert len(said) <= found.forgotten <= len(said) + turn + 1
        assert found.forgotten + found.payloads == found.records
    machine = Forgetting(parts.database, parts.blobs, parts.intake, parts.reader, time.time)
    for name in names:
        machine.forget(name, "unlawful", "b", OFFICERS)
    machine.sweep(-60)
    assert sum(1 for _ in parts.blobs.names()) == 0
    assert parts.audit().forgotten == len(names)
