"""The pool in front of intake: everybody gets their own answers, whatever shares their batch and however it ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.intake_queue import IntakeQueue
from gateway.pool import Pool
from gateway.problems import Problem
from gateway.settings import GatewaySettings
from ledger.errors import HistoryRefused, StorageFailed
from ledger.submission import Acknowledged, Outcome, Submission
from tests.fixtures.parts import Parts
from tests.fixtures.records import acknowledged, report, submissions


@pytest.fixture
def queue(parts: Parts) -> Iterator[IntakeQueue]:
    made = IntakeQueue(parts.intake, GatewaySettings())
    yield made
    made.close()


def test_one_caller_gets_outcomes_in_order(queue: IntakeQueue, parts: Parts) -> None:
    outcomes = queue.submit("fire", submissions(0, 5))
    assert [(o.key, o.index) for o in acknowledged(outcomes)] == [(f"k{n}", n) for n in range(5)]
    parts.check_log(5)


def test_nothing_submitted_is_nothing_answered(queue: IntakeQueue) -> None:
    assert queue.submit("fire", []) == []


def test_many_threads_and_departments_share_batches(parts: Parts) -> None:
    sizes: list[int] = []
    queue = IntakeQueue(parts.intake, GatewaySettings(), sizes.append)
    with ThreadPoolExecutor(32) as threads:
        jobs = {
            (department, number): threads.submit(queue.submit, department, submissions(number * 10, 1 + number % 7))
            for number in range(60)
            for department in ("fire", "health")
        }
        for (_, number), job in jobs.items():
            outcomes = acknowledged(job.result(60))
            assert [o.key for o in outcomes] == [f"k{number * 10 + n}" for n in range(1 + number % 7)]
            assert all(o.new for o in outcomes)
    queue.close()
    total = sum(1 + number % 7 for number in range(60))
    parts.check_log(total)
    parts.check_log(total, "health")
    assert sum(sizes) == 2 * total
    assert len(sizes) < 120  # they did share


def test_the_same_key_from_two_callers_at_once_is_one_record(queue: IntakeQueue, parts: Parts) -> None:
    with ThreadPoolExecutor(16) as threads:
        answers = [job.result(60) for job in [threads.submit(queue.submit, "fire", submissions(0, 3))] * 1]
        answers += [
            job.result(60) for job in [threads.submit(queue.submit, "fire", submissions(0, 3)) for _ in range(15)]
        ]
    found = [acknowledged(answer) for answer in answers]
    assert len({tuple(o.record_id for o in answer) for answer in found}) == 1
    assert sum(o.new for answer in found for o in answer) == 3
    parts.check_log(3)


def test_a_conflict_is_the_callers_own(queue: IntakeQueue, parts: Parts) -> None:
    with ThreadPoolExecutor(2) as threads:
        good = threads.submit(queue.submit, "fire", [Submission("a", report(1))])
        bad = threads.submit(queue.submit, "fire", [Submission("a", report(2)), Submission("b", report(3))])
        outcomes = [*good.result(60), *bad.result(60)]
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Acknowledged", "Acknowledged", "Refused"]
    parts.check_log(2)


def test_an_unknown_department_does_not_harm_the_others(queue: IntakeQueue, parts: Parts) -> None:
    with ThreadPoolExecutor(2) as threads:
        bad = threads.submit(queue.submit, "streets", submissions(0, 1))
        good = threads.submit(queue.submit, "fire", submissions(0, 1))
        assert isinstance(good.result(60)[0], Acknowledged)
        with pytest.raises(HistoryRefused, match="streets"):
            bad.result(60)
    parts.check_log(1)


def test_what_the_storage_refuses_every_caller_of_the_batch_is_told(parts: Parts) -> None:
    queue = IntakeQueue(parts.intake, GatewaySettings(pool_milliseconds=200))
    queue.submit("fire", submissions(0, 1))
    with parts.database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE vault RENAME TO vault_away")
    with ThreadPoolExecutor(4) as threads:
        jobs = [threads.submit(queue.submit, "fire", submissions(10 + n, 1)) for n in range(4)]
        for job in jobs:
            with pytest.raises(StorageFailed):
                job.result(60)
    with parts.database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE vault_away RENAME TO vault")
    assert isinstance(queue.submit("fire", submissions(10, 1))[0], Acknowledged)
    queue.close()
    parts.check_log(2)


def test_a_halted_log_is_said_to_be_halted(queue: IntakeQueue, parts: Parts) -> None:
    with parts.database.writing() as connection:
        connection.exec_driver_sql("UPDATE logs SET halted = 'rolled back' WHERE department = 'fire'")
    with pytest.raises(HistoryRefused):
        queue.submit("fire", submissions(0, 1))
    assert isinstance(queue.submit("health", submissions(0, 1))[0], Acknowledged)


def test_closing_writes_what_waits_and_takes_nothing_more(parts: Parts) -> None:
    queue = IntakeQueue(parts.intake, GatewaySettings(pool_milliseconds=1_000))
    with ThreadPoolExecutor(20) as threads:
        waiting = [threads.submit(queue.submit, "fire", submissions(n, 1)) for n in range(20)]
        while queue.depth < 20:
            time.sleep(0.001)
        queue.close()
        assert all(isinstance(future.result(60)[0], Acknowledged) for future in waiting)
    parts.check_log(20)
    with pytest.raises(Problem) as refusal:
        queue.submit("fire", submissions(99, 1))
    assert refusal.value.code == "stopping"
    queue.close()


# ---- the pool itself ---------------------------------------------------------------------------------------------


class Gate:
    """Work that waits until it is let through."""

    def __init__(self) -> None:
        self.open, self.entered = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.entered.set()
        assert self.open.wait(30)
        self.batches.append(list(items))
        return [item * 2 for item in items]


def test_who_comes_when_too_much_waits_is_pushed_back() -> None:
    gate = Gate()
    pool = Pool("test", gate, batch=2, seconds=0, capacity=5)
    first = pool.put(0)
    assert gate.entered.wait(30)
    futures = [first, *(pool.put(number) for number in range(1, 6))]
    assert pool.depth == 5
    with pytest.raises(Problem) as refusal:
        pool.put(6)
    assert (refusal.value.code, refusal.value.members["retry_after"]) == ("overloaded", 1)
    gate.open.set()
    assert [future.result(30) for future in futures] == [0, 2, 4, 6, 8, 10]
    assert pool.put(7).result(30) == 14
    pool.close()
    assert all(len(batch) <= 2 for batch in gate.batches)


def test_one_item_larger_than_a_batch_goes_alone_and_larger_than_the_pool_when_it_is_empty() -> None:
    batches: list[list[int]] = []

    def work(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        return list(items)

    pool = Pool("test", work, batch=10, seconds=0.5, capacity=20, weigh=lambda item: item)
    assert pool.put(50).result(30) == 50
    futures = [pool.put(item) for item in (4, 4, 4, 3)]
    assert [future.result(30) for future in futures] == [4, 4, 4, 3]
    pool.close()
    assert batches[:2] == [[50], [4, 4]]


def test_a_batch_does_not_wait_longer_than_it_should() -> None:
    pool: Pool[int, float] = Pool(
        "test", lambda items: [time.monotonic()] * len(items), batch=1_000, seconds=0.05, capacity=1_000
    )
    began = time.monotonic()
    worked = pool.put(1).result(30)
    pool.close()
    assert worked - began >= 0.04


def test_who_no_longer_waits_is_left_out() -> None:
    gate = Gate()
    pool = Pool("test", gate, batch=10, seconds=0, capacity=100)
    pool.put(0)
    assert gate.entered.wait(30)
    gone, stays = pool.put(1), pool.put(2)
    assert gone.cancel()
    gate.open.set()
    assert stays.result(30) == 4
    only = pool.put(3)
    only.cancel()
    assert pool.put(4).result(30) == 8  # the thread lives on after a batch of which nobody was left
    pool.close()
    assert 1 not in [item for batch in gate.batches for item in batch]


def test_work_that_fails_in_an_unforeseen_way_is_told_and_the_next_batch_goes_on() -> None:
    def work(items: Sequence[int]) -> list[int]:
        return [100 // item for item in items]

    pool = Pool("test", work, batch=1, seconds=0, capacity=100)
    with pytest.raises(ZeroDivisionError):
        pool.put(0).result(30)
    assert pool.put(5).result(30) == 20
    pool.close()


@settings(deadline=None, max_examples=60)
@given(
    items=st.lists(st.integers(1, 9), max_size=80),
    batch=st.integers(1, 20),
    threads=st.integers(1, 8),
)
def test_everybody_gets_the_answer_to_what_they_brought(items: list[int], batch: int, threads: int) -> None:
    seen: list[int] = []
    running = threading.Lock()

    def work(taken: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        assert running.acquire(blocking=False), "work is never called twice at the same time"
        assert sum(weight for _, weight in taken) <= max(batch, taken[0][1])
        seen.extend(number for number, _ in taken)
        running.release()
        return [(number, weight * 1_000) for number, weight in taken]

    pool = Pool("test", work, batch=batch, seconds=0.001, capacity=10_000, weigh=lambda item: item[1])
    with ThreadPoolExecutor(threads) as executor:
        futures = list(executor.map(lambda each: pool.put(each), enumerate(items)))
    pool.close()
    assert [future.result(30) for future in futures] == [(n, weight * 1_000) for n, weight in enumerate(items)]
    assert sorted(seen) == list(range(len(items)))
    assert pool.depth == 0


def test_tasks_of_an_event_loop_wait_beside_threads() -> None:
    gate = Gate()
    pool = Pool("test", gate, batch=10, seconds=0, capacity=100)

    async def ask() -> list[object]:
        first = asyncio.create_task(pool.ask(0))
        while not gate.entered.is_set():
            await asyncio.sleep(0.001)
        tasks = [asyncio.create_task(pool.ask(number)) for number in range(1, 5)]
        while pool.depth < 4:
            await asyncio.sleep(0.001)
        tasks[1].cancel()
        thread = pool.put(9)
        gate.open.set()
        found: list[object] = list(await asyncio.gather(first, *tasks, return_exceptions=True))
        return [*found, thread.result(30)]

    found = asyncio.run(ask())
    assert [found[0], found[1], *found[3:]] == [0, 2, 6, 8, 18]
    assert isinstance(found[2], asyncio.CancelledError)
    pool.close()
    assert 2 not in [item for batch in gate.batches for item in batch]


def test_a_task_is_told_what_went_wrong_and_a_loop_that_ended_harms_nobody() -> None:
    gate = Gate()
    pool = Pool("test", lambda items: [100 // item for item in gate(items)], batch=10, seconds=0, capacity=100)

    async def leave() -> None:
        asyncio.get_running_loop().create_task(pool.ask(1))
        while not gate.entered.is_set():
            await asyncio.sleep(0.001)

    asyncio.run(leave())
    gate.open.set()

    async def fail() -> None:
        with pytest.raises(ZeroDivisionError):
            await pool.ask(0)
        assert await pool.ask(5) == 10

    asyncio.run(fail())
    pool.close()


def test_outcomes_of_a_share_are_a_list_of_its_own(queue: IntakeQueue) -> None:
    with ThreadPoolExecutor(8) as threads:
        jobs = [threads.submit(queue.submit, "fire", submissions(n * 10, n)) for n in range(8)]
        lengths: list[list[Outcome]] = [job.result(60) for job in jobs]
    assert [len(outcomes) for outcomes in lengths] == list(range(8))
