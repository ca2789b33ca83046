"""Pooling: many callers hand in one item each, one thread works on them by the batch."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gateway.problems import Problem

Item = TypeVar("Item")
Result = TypeVar("Result")

Waiting = Future[Result] | asyncio.Future[Result]
"""Where a caller waits: a thread, or a task of an event loop."""


class Pool(Generic[Item, Result]):
    """Gathers items of any threads and hands them, in the order of their coming, to `work` on a thread of its own.

    `work` takes at most `batch` items, is never called twice at the same time, and returns one result for each; what it
    raises, every caller of that batch is told. A batch waits until it is full or its first item `seconds` old. At most
    `capacity` items wait; who brings one more is refused. `weigh` says how many items one counts for.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        batch: int,
        seconds: float,
        capacity: int,
        weigh: Callable[[Item], int] = lambda _item: 1,
    ) -> None:
        self._name, self._work, self._weigh = name, work, weigh
        self._batch, self._seconds, self._capacity = batch, seconds, capacity
        self._waiting: deque[tuple[float, int, Item, Waiting[Result]]] = deque()
        self._weight = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    @property
    def depth(self) -> int:
        """How much waits now."""
        return self._weight

    def put(self, item: Item) -> Future[Result]:
        """The result to come. Raises Problem `overloaded` when too much waits, `stopping` once `close` was called."""
        future = Future[Result]()
        self._add(item, future)
        return future

    async def ask(self, item: Item) -> Result:
        """The result, for callers on an event loop; raises as `put`, and what `work` raised."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._add(item, future)
        return await future

    def _add(self, item: Item, future: Waiting[Result]) -> None:
        weight = self._weigh(item)
        with self._changed:
            if self._closing:
                raise Problem(
                    "stopping", "this node is stopping: send the same again to it in a minute", retry_after=60
                )
            if self._weight and self._weight + weight > self._capacity:
                raise Problem("overloaded", "too much waits to be written: send the same again later", retry_after=1)
            self._waiting.append((time.monotonic(), weight, item, future))
            self._weight += weight
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            # the thread need not be woken for every item: only for the first, and when the batch is full
            if len(self._waiting) == 1 or self._weight >= self._batch:
                self._changed.notify()

    def close(self) -> None:
        """Takes nothing more, works on what waits, and returns when that is done."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            futures = [future for _, future in batch]
            try:
                results = self._work([item for item, _ in batch])
            except BaseException as error:  # noqa: BLE001  handed on to whoever waits, whatever it is
                _answer([(future, _Failed(error)) for future in futures])
                continue
            _answer(list(zip(futures, results, strict=True)))

    def _next(self) -> list[tuple[Item, Waiting[Result]]] | None:
        """The next batch, empty where nobody waits for it any more; None when closed and nothing is left."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            if not self._waiting:
                return None
            while not self._closing and self._weight < self._batch:
                left = self._waiting[0][0] + self._seconds - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            taken: list[tuple[Item, Waiting[Result]]] = []
            room = self._batch
            while self._waiting and (not taken or self._waiting[0][1] <= room):
                _, weight, item, future = self._waiting.popleft()
                room -= weight
                self._weight -= weight
                waits = not future.cancelled() if isinstance(future, asyncio.Future) else _begin(future)
                if waits:
                    taken.append((item, future))
            return taken


@dataclass(frozen=True, slots=True)
class _Failed:
    error: BaseException


def _begin(future: Future[Any]) -> bool:
    return future.set_running_or_notify_cancel()


def _answer(pairs: Sequence[tuple[Waiting[Any], Any]]) -> None:
    """Gives every caller its answer; event loops are woken once for all of theirs, which costs as much as for one."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Waiting[Any], Any]]] = {}
    for future, answer in pairs:
        if isinstance(future, asyncio.Future):
            by_loop.setdefault(future.get_loop(), []).append((future, answer))
        else:
            _set(future, answer)
    for loop, theirs in by_loop.items():
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            loop.call_soon_threadsafe(_set_all, theirs)


def _set_all(pairs: Sequence[tuple[Waiting[Any], Any]]) -> None:
    for future, answer in pairs:
        if not future.done():  # a caller may have gone meanwhile
            _set(future, answer)


def _set(future: Waiting[Any], answer: Any) -> None:
    if isinstance(answer, _Failed):
        future.set_exception(answer.error)
    else:
        future.set_result(answer)
