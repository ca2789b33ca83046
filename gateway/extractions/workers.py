"""Automatic extraction: what the open cases of this node entitle it to arrives by itself.

One task for each pair of a hosted lead and a participant, so that one that is down holds up nobody else:

    bring every case that is due up to date ─► wait: for news at the owner, a new case here, a retry ─► again

What is kept stands in the table `pulls` and in the logs; a task holds nothing that a restart would miss.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import structlog

from gateway.extractions import pulls
from gateway.extractions.pulls import Case, Pull
from gateway.extractions.requester import Refused, Requester
from gateway.problems import Problem
from gateway.proceedings import reading
from gateway.projections.projector import Projector
from ledger.errors import CouldNotRun
from ledger.store.database import Database

log = structlog.get_logger("yunxi.extractions")

Pair = tuple[str, str]
"""Requester and owner."""

Names = frozenset[tuple[str, ...]]
"""The open cases of a pair: claim, number, reference."""

LOOK_S = 1.0
"""How often this node's own cases are looked at where nothing says that one is new."""
NEWS_WAIT_S = 20
REFRESH_S = 60.0
"""How often a case is asked for without news: because of grants given, and days begun, since."""
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 30.0
FIRST_REFUSED_S, LAST_REFUSED_S = 5.0, 900.0
BEYOND = 1 << 40
"""No log is that long: whoever asks for news past it is told where the log ends."""


@dataclass(frozen=True, slots=True)
class _Work:
    """What a pair has to do: its open cases, each with its pull, and pulls whose cases are closed, each with the id of
    the closing record."""

    cases: Sequence[tuple[Case, Pull | None]]
    closed: Sequence[tuple[Pull, str | None]]


class AutomaticExtraction:
    """The worker. Of several processes on one database one runs it."""

    name = "extractions"

    def __init__(
        self,
        database: Database,
        projector: Projector,
        requester: Requester,
        hosted: frozenset[str],
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._projector = projector
        self._requester = requester
        self._hosted = hosted
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set; its tasks end with it."""
        changed, loop = asyncio.Event(), asyncio.get_running_loop()

        def on_new(_: frozenset[str]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed.set)

        self._projector.on_new(on_new)
        known: dict[Pair, Names] = {}
        tasks: dict[Pair, asyncio.Task[None]] = {}
        followers: dict[Pair, Follower] = {}
        try:
            while not stop.is_set():
                changed.clear()
                with suppress(CouldNotRun):
                    before, known = known, await anyio.to_thread.run_sync(self._pairs)
                    for pair, names in known.items():
                        if pair not in tasks or _ended(tasks[pair]):
                            followers[pair] = Follower(self._database, self._requester, self._clock, pair)
                            tasks[pair] = asyncio.create_task(followers[pair].run())
                        elif names != before.get(pair):
                            followers[pair].wake.set()
                await _first(LOOK_S, stop.wait(), changed.wait())
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    def _pairs(self) -> dict[Pair, Names]:
        # no catching up here: whoever waits for news that its own catching up makes never rests while records come in
        with self._database.reading() as connection:
            found: dict[Pair, set[tuple[str, ...]]] = {pair: set() for pair in pulls.pairs(connection, self._hosted)}
            for case in pulls.open_cases(connection, self._hosted):
                found.setdefault((case.requester, case.owner), set()).add((case.claim, case.number, case.reference))
        return {pair: frozenset(names) for pair, names in found.items()}


class Follower:
    """Keeps the cases of one pair up to date."""

    def __init__(self, database: Database, requester: Requester, clock: Callable[[], float], pair: Pair) -> None:
        self.wake = asyncio.Event()
        self._database = database
        self._requester = requester
        self._clock = clock
        self._pair = pair
        self._dice = random.Random()  # noqa: S311  jitter
        self._cursor: int | None = None
        self._fresh: frozenset[str] = frozenset()
        self._failures = 0  # in a row, of this process: one that has just begun tries soon

    async def run(self) -> None:
        """Works until there is nothing left to do for the pair, or until it is cancelled."""
        news: asyncio.Task[tuple[int, frozenset[str]]] | None = None
        try:
            while True:
                self.wake.clear()
                work = await anyio.to_thread.run_sync(self._work)
                if not work.cases and not work.closed:
                    return
                try:
                    if news is not None and news.done():
                        done, news = news, None
                        self._cursor, self._fresh = done.result()
                    await self._round(work)
                    self._failures = 0
                    assert self._cursor is not None
                    news = news or asyncio.create_task(
                        self._requester.news(*self._pair, after=self._cursor, wait=NEWS_WAIT_S)
                    )
                    await self._wait(news)
                except CouldNotRun as error:
                    await self._wait_out(work, error)
        finally:
            if news is not None:
                news.cancel()
                await asyncio.gather(news, return_exceptions=True)

    async def _round(self, work: _Work) -> None:
        if self._cursor is None:
            # first where the log ends, then the pages: what comes in between is then asked for twice, never missed
            self._cursor, _ = await self._requester.news(*self._pair, after=BEYOND, wait=0)
        fresh, self._fresh = self._fresh, frozenset()
        try:
            for pull, closing in work.closed:
                await self._end(pull, closing)
            for case, known in work.cases:
                if self._is_due(case, known, fresh):
                    await self._advance(case, known)
        except CouldNotRun:
            self._fresh |= fresh  # they are still to be fetched
            raise

    async def _advance(self, case: Case, pull: Pull | None) -> None:
        attempts = pull.attempts if pull is not None else 0
        try:
            await self._requester.advance(case, self._jittered(REFRESH_S))
        except Refused as refused:
            later = self._back_off(FIRST_REFUSED_S, LAST_REFUSED_S, attempts)
            await self._requester.fail(case, pulls.REFUSED, refused.code, str(refused), later)
        except Problem as problem:
            later = self._back_off(FIRST_REFUSED_S, LAST_REFUSED_S, attempts)
            await self._requester.fail(case, pulls.DAMAGED, problem.code, str(problem), later)

    async def _end(self, pull: Pull, closing: str | None) -> None:
        if closing is not None and pull.extraction is not None:
            with suppress(Refused):  # it has heard of it
                await self._requester.tell_closed(pull, closing)
        await self._requester.end(pull)

    async def _wait_out(self, work: _Work, error: CouldNotRun) -> None:
        """Notes for each case that its owner cannot be reached, and waits for the next try."""
        later = self._back_off(FIRST_RETRY_S, LAST_RETRY_S, self._failures)
        self._failures += 1
        log.info("owner cannot be reached", requester=self._pair[0], owner=self._pair[1], code=error.code, retry=later)
        with suppress(CouldNotRun):
            for case, _ in work.cases:
                await self._requester.fail(case, pulls.UNREACHABLE, error.code, str(error), later)
        await asyncio.sleep(later)

    async def _wait(self, news: asyncio.Task[Any]) -> None:
        """Until there are news, a case is new here, or one is to be tried again."""
        wake = asyncio.ensure_future(self.wake.wait())
        try:
            await asyncio.wait({news, wake}, timeout=LOOK_S * 5, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wake.cancel()

    def _is_due(self, case: Case, pull: Pull | None, fresh: frozenset[str]) -> bool:
        if pull is None or pull.state in (pulls.WAITING, pulls.PULLING) or pull.reference != case.reference:
            return True
        return pull.state == pulls.UNREACHABLE or pull.extraction in fresh or pull.retry_at <= self._clock()

    def _work(self) -> _Work:
        requester, owner = self._pair
        with self._database.reading() as connection:
            cases = [case for case in pulls.open_cases(connection, [requester]) if case.owner == owner]
            known = pulls.going_on(connection, requester, owner)
            named = {(case.claim, case.number) for case in cases}
            over = [pull for pull in known if (pull.claim, pull.number) not in named]
            closed = [(each, reading.find(connection, each.claim, each.number, each.lead)) for each in over]
        by_name = {(pull.claim, pull.number): pull for pull in known}
        return _Work(
            [(case, by_name.get((case.claim, case.number))) for case in cases],
            [(each, found.closed if found is not None else None) for each, found in closed],
        )

    def _back_off(self, first: float, last: float, attempts: int) -> float:
        return self._jittered(min(last, first * 2 ** min(attempts, 20)))

    def _jittered(self, seconds: float) -> float:
        return seconds * self._dice.uniform(0.5, 1.0)


def _ended(task: asyncio.Task[None]) -> bool:
    if not task.done():
        return False
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("following an owner failed", error=type(error).__name__, exc_info=error)
    return True


async def _first(seconds: float, *waits: Awaitable[Any]) -> None:
    """Until one of `waits` is done or the time is over."""
    tasks = [asyncio.ensure_future(each) for each in waits]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
