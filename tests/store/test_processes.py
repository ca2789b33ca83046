"""Many processes on one database: nothing twice, nothing lost, no gap; also when they are killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter

import pytest
from sqlalchemy import func, select

from ledger.store.models import entries
from tests.fixtures.nursery import ROOT, Job, Line, Nursery
from tests.fixtures.parts import Parts
from tests.fixtures.records import submissions


def job(parts: Parts, name: str, **more: object) -> Job:
    parts.directory.mkdir(exist_ok=True)
    return Job(str(parts.directory), parts.url, str(parts.directory / f"{name}.journal"), **more)  # type: ignore[arg-type]


def test_the_same_keys_from_three_processes_at_once(parts: Parts, nursery: Nursery) -> None:
    journals = nursery.together([job(parts, f"w{n}", stop=300, batch=7 + 10 * n) for n in range(3)])
    places = [{(line.key, line.record_id, line.index) for line in lines} for lines in journals]
    assert places[0] == places[1] == places[2]
    new = Counter(line.key for lines in journals for line in lines if line.new)
    assert new == {f"k{number}": 1 for number in range(300)}
    parts.check_log(300)
    assert parts.audit().good


def test_a_large_batch_is_not_outrun_by_small_ones(parts: Parts, nursery: Nursery) -> None:
    # the large one is sealed while the small ones take its keys, again and again: it must end all the same
    journals = nursery.together([job(parts, f"w{n}", stop=600, batch=batch) for n, batch in enumerate((600, 1))])
    large, small = ({(line.key, line.record_id, line.index) for line in lines} for lines in journals)
    assert large == small
    parts.check_log(600)
    assert parts.audit().good


def test_different_keys_from_four_processes_leave_no_gap(parts: Parts, nursery: Nursery) -> None:
    journals = nursery.together([job(parts, f"w{n}", prefix=f"w{n}-", stop=150, batch=5 + n) for n in range(4)])
    lines = [line for journal in journals for line in journal]
    assert sorted(line.index for line in lines) == list(range(600))
    parts.check_log(600)
    assert parts.audit().good


def test_two_logs_grow_side_by_side(parts: Parts, nursery: Nursery) -> None:
    jobs = [job(parts, d, department=d, stop=200, batch=9) for d in ("fire", "health")]
    assert [len(lines) for lines in nursery.together(jobs)] == [200, 200]
    for department in ("fire", "health"):
        with parts.database.reading() as connection:
            assert connection.scalar(select(func.count()).select_from(entries)) == 400
        assert parts.log(department).size == 200
        assert parts.audit(department).good


def test_the_same_ids_for_two_departments_at_once(parts: Parts, nursery: Nursery) -> None:
    # the second to come is refused by the database itself, between its own look and its own write
    jobs = [job(parts, d, department=d, stop=120, batch=40, fixed_ids=True) for d in ("fire", "health")]
    journals = nursery.together(jobs)
    taken = [line.record_id for lines in journals for line in lines if line.record_id]
    assert len(taken) == len(set(taken)) == 120
    assert {line.reason for lines in journals for line in lines if not line.record_id} <= {"conflict"}
    assert sum(len(lines) for lines in journals) == 240
    assert parts.audit("fire").good
    assert parts.audit("health").good


def _kill_while_submitting(parts: Parts, nursery: Nursery, kills: int, seed: int) -> None:
    """`kills` workers are started and killed at a random moment, two at a time on overlapping keys."""
    chance = random.Random(seed)
    file = parts.directory / "a.bin"
    parts.directory.mkdir()
    file.write_bytes(os.urandom(100_000))
    acknowledged: dict[str, Line] = {}
    started: set[str] = set()
    for turn in range(0, kills, 2):
        workers = []
        for number in range(turn, turn + 2):
            start = max(0, len(acknowledged) - chance.randrange(20))
            batch = chance.choice([1, 3, 20, 60, 200])
            stop = start + 2_000
            task = job(parts, f"w{number}", start=start, stop=stop, batch=batch, attach_every=25, file=str(file))
            workers.append((nursery.start(task), task))
        # by how far it has come, not by the clock: on a busy machine it would be killed before it begins
        workers[0][0].wrote(chance.choice([0, 1, 10, 100]))
        for worker, _ in chance.sample(workers, 2):
            time.sleep(chance.random() * chance.choice([0, 0.003, 0.02]))
            worker.kill()
        for worker, task in workers:
            lines = worker.lines()
            assert not worker.journal.with_suffix(".error").exists(), worker.journal.with_suffix(".error").read_text()
            assert len(lines) < task.stop - task.start, "the worker was done before it was killed"
            started |= {line.key for line in lines}
            for line in lines:
                known = acknowledged.setdefault(line.key, line)
                assert (known.record_id, known.index) == (line.record_id, line.index)
    assert len(acknowledged) > kills
    _check_after_kills(parts, acknowledged)


def _check_after_kills(parts: Parts, acknowledged: dict[str, Line]) -> None:
    # 1. everything acknowledged is there, once, where it was said to be; what else is there is whole
    size = parts.log().size
    parts.check_log(size)
    found = {row.key: row for row in _rows(parts)}
    assert len(found) == size >= len(acknowledged)
    for key, line in acknowledged.items():
        assert (found[key].position & 0xFFFFFFFF, found[key].record_id.hex()) == (
            line.index, line.record_id.replace("-", ""),
        )  # fmt: skip
    report = parts.audit()
    assert (report.good, report.records, report.payloads) == (True, size, size)
    # 2. the same batches come again and complete: what was there keeps its place, nothing comes twice
    keys = max(int(key[1:]) for key in found) + 1
    outcomes = parts.take([s for s in submissions(0, keys) if int(s.key[1:]) % 25])
    for outcome in outcomes:
        line = acknowledged.get(outcome.key)
        assert line is None or (outcome.record_id, outcome.index, outcome.new) == (line.record_id, line.index, False)
    assert len({row.key for row in _rows(parts)}) == parts.log().size
    assert parts.audit().good


def _rows(parts: Parts) -> list[object]:
    with parts.database.reading() as connection:
        return list(connection.execute(select(entries.c.key, entries.c.position, entries.c.record_id)))


def test_20_kills_lose_nothing(parts: Parts, nursery: Nursery) -> None:
    _kill_while_submitting(parts, nursery, 20, seed=1)


@pytest.mark.slow
def test_120_kills_lose_nothing(parts: Parts, nursery: Nursery) -> None:
    _kill_while_submitting(parts, nursery, 120, seed=2)


FORK = """
import os
from tests.fixtures.sealing import sealer
machine = sealer()
machine.draw_data_key()  # a page of random bytes is drawn now, most of it unused
reader, writer = os.pipe()
if os.fork() == 0:
    os.write(writer, machine.draw_data_key())
    os._exit(0)
os.wait()
assert os.read(reader, 32) != machine.draw_data_key(), "parent and child drew the same data key"
"""


def test_a_fork_draws_its_own_random_bytes() -> None:
    # in a process of its own: the test runner may have threads
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", FORK], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_journals_say_when_a_worker_fails(parts: Parts, nursery: Nursery) -> None:
    # the nursery itself: a test that cannot fail would prove nothing
    worker = nursery.start(job(parts, "w", department="nobody"))
    with pytest.raises(AssertionError, match="HistoryRefused"):
        worker.wait()
