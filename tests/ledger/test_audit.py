"""The audit without a chain, on every database: random damage, concurrent growth, constant memory."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from ledger.audit.chain import NOWHERE, Anchored, Near
from ledger.checkpoints import sign_at
from ledger.forgetting import Forgetting
from ledger.formats.tiles import tree_root
from ledger.store.models import entries, position_of, tiles, vault
from ledger.store.reading import StoredTiles, read_logs
from ledger.submission import Submission
from tests.fixtures.nursery import ROOT, Job, Nursery
from tests.fixtures.parts import Parts
from tests.fixtures.records import attachment, report, submissions


class RememberedRoots:
    """A chain in memory: roots that were said at some time and cannot be taken back."""

    def __init__(self) -> None:
        self.roots: dict[int, bytes] = {}

    def anchor(self, parts: Parts) -> None:
        """Signs a checkpoint at the head and remembers its root."""
        with parts.database.writing() as connection:
            log = read_logs(connection, "fire")[0]
            sign_at(connection, log, log.size, parts.agent.log_signer("fire"), 1_780_000_000)
            self.roots[log.size] = tree_root(log.size, StoredTiles(connection, log.number))

    def size(self) -> int:
        return max(self.roots, default=0)

    def root_at(self, size: int) -> bytes | None:
        return self.roots.get(size)

    def between(self, after: int, upto: int, near: Near = NOWHERE) -> Iterator[Anchored]:
        for size in sorted(self.roots):
            root = self.root_at(size)
            if after < size <= upto and root is not None:
                yield Anchored(size, root, 0, None)

    def location_of(self, size: int) -> None:
        return None


@pytest.fixture
def chain() -> RememberedRoots:
    return RememberedRoots()


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 600])
def test_an_untouched_log_is_good(parts: Parts, chain: RememberedRoots, size: int) -> None:
    if size:
        parts.take(submissions(0, size))
        chain.anchor(parts)
    found = parts.audit(chain=chain)
    assert (found.good, found.records, found.payloads, found.anchored_size) == (True, size, size, size)


def test_stops_between_and_on_tile_borders(parts: Parts, chain: RememberedRoots) -> None:
    total = 0
    for step in (1, 254, 1, 1, 255, 1, 3, 2100):
        parts.take(submissions(total, step))
        total += step
        chain.anchor(parts)
    found = parts.audit(chain=chain)
    assert (found.good, found.anchors, found.records) == (True, 8, total)


FLIPPED = {
    "statement": (entries.c.statement, entries.c.position),
    "payload": (vault.c.payload, vault.c.position),
    "wrapped_key": (vault.c.wrapped_key, vault.c.position),
    "hashes": (tiles.c.hashes, None),
}


def test_every_random_flip_is_found(parts: Parts, chain: RememberedRoots) -> None:
    parts.take(submissions(0, 40))
    chain.anchor(parts)
    chance = random.Random(7)
    for turn in range(80):
        name = list(FLIPPED)[turn % 4]
        column, position = FLIPPED[name]
        index = chance.randrange(40)
        here = (position == position_of(1, index)) if position is not None else (tiles.c.log == 1)
        with parts.database.writing() as connection:
            before = connection.scalar(select(column).where(here))
            assert before is not None
            changed = bytearray(before)
            place, bit = chance.randrange(len(changed)), chance.randrange(8)
            changed[place] ^= 1 << bit
            connection.execute(update(column.table).where(here).values({name: bytes(changed)}))
        found = parts.audit(chain=chain, check_signatures=bool(turn % 3))
        what = f"{name} {index} byte {place} bit {bit}"
        assert not found.good, what
        first = found.findings[0]
        assert first.index == (place // 32 if name == "hashes" else index), (what, first)
        assert first.kind == {"statement": "statement-changed", "hashes": "tile-changed"}.get(name, "payload-changed")
        assert found.counts.total() == 1, (what, found.counts)
        with parts.database.writing() as connection:
            connection.execute(update(column.table).where(here).values({name: before}))
    assert parts.audit(chain=chain).good


def test_forgotten_records_are_counted(parts: Parts, chain: RememberedRoots, tmp_path: Path) -> None:
    source = attachment(tmp_path / "a.png", b"abc")
    taken = parts.take([*submissions(0, 5), Submission("a", report(9), (source,))])
    machine = Forgetting(parts.database, parts.blobs, parts.intake, parts.reader, time.time)
    for record in (taken[2], taken[5]):
        machine.forget(record.record_id, "retention", "a period that ended")
    chain.anchor(parts)
    found = parts.audit(chain=chain)
    assert (found.good, found.forgotten, found.payloads, found.attachments) == (True, 2, 6, 0)


def test_growing_during_an_audit_is_no_finding(parts: Parts, nursery: Nursery, tmp_path: Path) -> None:
    parts.take(submissions(0, 300))
    job = Job(str(tmp_path), parts.url, str(tmp_path / "w.journal"), prefix="w", stop=400, batch=7)
    worker = nursery.start(job)
    worker.wrote(1)
    for _ in range(3):
        found = parts.audit()
        assert found.good, found.findings[0]
        assert found.records >= 300
    worker.wait()
    assert parts.audit().records == 700


def test_a_chain_that_dies_meanwhile_is_said_aloud(parts: Parts) -> None:
    from ledger.errors import ChainUnreachable

    class Dying(RememberedRoots):
        def root_at(self, size: int) -> bytes | None:
            raise ChainUnreachable("the chain does not answer")

    dying = Dying()
    parts.take(submissions(0, 3))
    dying.anchor(parts)
    with pytest.raises(ChainUnreachable):
        parts.audit(chain=dying)


MEASURE = """
import resource, sys
from pathlib import Path
from ledger.keys import FileKeyAgent
from tests.fixtures.parts import Parts
parts = Parts.open(Path(sys.argv[1]), sys.argv[2], FileKeyAgent.open(Path(sys.argv[3])))
found = parts.audit()
assert found.good
print(found.records, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def memory_of_an_audit(parts: Parts, keys: Path) -> tuple[int, int]:
    """Records, and the peak memory of a process of its own, in kB."""
    command = [sys.executable, "-c", MEASURE, str(parts.directory), parts.url, str(keys)]
    ended = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
                           capture_output=True, text=True, check=True)  # fmt: skip
    records, peak = ended.stdout.split()
    return int(records), int(peak)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log(sqlite_parts: Parts, template: Any) -> None:
    measured = {}
    for size in (5_000, 20_000):
        start = sqlite_parts.log().size
        for first in range(start, size, 1_000):
            sqlite_parts.take(submissions(first, 1_000))
        records, measured[size] = memory_of_an_audit(sqlite_parts, template.directory / "keys")
        assert records == size
    # four times the log: a few megabytes of SQLite's page cache at most, which has a limit of its own (64 MB)
    assert measured[20_000] < measured[5_000] + 60_000, measured
