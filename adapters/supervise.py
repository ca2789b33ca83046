"""Many feeds at once, for as long as wanted: a folder of mapping files, each its own feed, none in another's way.

A turn of a feed reads what is new, for at most `TURN_SECONDS`; then the others have theirs. A few turns run at once;
one that takes longer than `PATIENCE_SECONDS` no longer counts among them, so servers that do not answer take no place
from the rest. A feed that fails is tried again after a pause that grows from `interval` to `MAX_PAUSE_SECONDS`. One
that is read at times of the day is also read at the start, for what was missed meanwhile. Mapping files that appear,
change or go are noticed within a tick; one that is wrong leaves the feed at its last good mapping. A stop ends every
turn behind the page in hand: nothing is half done, and the next start goes on there.

Turns run in threads; the ledger takes one batch at a time, in whichever order the feeds come.
"""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from adapters.mapping import FeedMapping, load_mapping, open_source
from adapters.run import RunReport, run
from adapters.state import AdapterState
from adapters.versions import check_version
from ledger.errors import CouldNotRun, Malformed, YunxiError
from ledger.feeds import FeedBook
from ledger.submission import Outcome, Submission, Submit

INTERVAL_SECONDS = 5.0
TURN_SECONDS = 30.0
MAX_PAUSE_SECONDS = 300.0
WORKERS = 4
PATIENCE_SECONDS = 2.0
MAX_TURNS = 64
SETTLE_SECONDS = 1.0
"""How long a mapping file that appears or changes must lie still before it is read: half a file may be good TOML."""
RETRY_SECONDS = 5.0
_TICK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """How a feed is doing. Counters are since the start; times are seconds.

    `state`: `new`, `running`, `waiting` for its next turn, `failing` (`trouble` says why, `failures` in a row), or
    `unreadable` where its mapping never was good. `lag`: since it last read its source to the end. `age`: since a new
    record last came, which tells a source that fell silent. None where it never did.
    """

    file: str
    feed: str | None
    version: int | None
    state: str
    turns: int
    read: int
    sealed: int
    known: int
    quarantined: int
    failures: int
    trouble: str | None
    lag: float | None
    age: float | None


@dataclass(slots=True)
class _Feed:
    path: Path
    seen: tuple[int, ...] | None = None
    seen_at: float = 0.0
    stamp: tuple[int, ...] | None = None
    read_at: float = 0.0
    mapping: FeedMapping | None = None
    misread: str | None = None
    trouble: str | None = None
    due: float = 0.0
    failures: int = 0
    turns: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("read", "sealed", "known", "quarantined"), 0))
    ended_at: float | None = None
    sealed_at: float | None = None
    began_at: float = 0.0
    work: Future[tuple[RunReport, bool]] | None = None


class Supervisor:
    """The feeds of one directory. `submit_to(department)` gives the ledger's intake for it."""

    def __init__(
        self,
        directory: Path,
        submit_to: Callable[[str], Submit],
        state: AdapterState,
        *,
        environ: Mapping[str, str] | None = None,
        interval: float = INTERVAL_SECONDS,
        workers: int = WORKERS,
        patience: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        book_of: Callable[[str], FeedBook] | None = None,
        eager: bool = False,
        settle: float = SETTLE_SECONDS,
    ) -> None:
        """`book_of(department)` and `eager`: see run. Mapping files that are there at the start
        are taken to be whole. Raises CouldNotRun where the directory is not there."""
        if not directory.is_dir():
            raise CouldNotRun(f"{directory} is no directory; name the one that holds the mapping files")
        self._directory = directory
        self._submit_to = submit_to
        self._state = state
        self._environ = dict(os.environ if environ is None else environ)
        self._interval = interval
        self._workers = workers
        self._patience = patience
        self._clock = clock
        self._wall = wall
        self._book_of = book_of
        self._eager = eager
        self._settle = settle
        self._taking = threading.Lock()
        self._ended = threading.Event()
        self._reloaded_at = -math.inf
        self._feeds: dict[Path, _Feed] = {}

    def run(
        self,
        stop: threading.Event,
        *,
        follow: bool = True,
        report: Callable[[Sequence[FeedStatus]], None] | None = None,
    ) -> list[FeedStatus]:
        """Runs until `stop` is set; without `follow`, until every feed was read to its end or failed once.

        `report` is called after every turn that ended, in the calling thread. Returns how the feeds are at the end.
        """
        with ThreadPoolExecutor(MAX_TURNS, thread_name_prefix="feed") as pool:
            while not stop.is_set():
                self._ended.clear()
                if time.monotonic() - self._reloaded_at >= _TICK_SECONDS:
                    self._reload()
                self._begin_turns(pool, stop, follow=follow)
                ended = self._end_turns()
                if ended and report is not None:
                    report(self.statuses())
                if not follow and all(self._is_through(feed) for feed in self._feeds.values()):
                    break
                # the end of a turn makes room for the next at once; everything else can wait for the tick
                self._ended.wait(_TICK_SECONDS)
        self._end_turns()
        return self.statuses()

    def statuses(self) -> list[FeedStatus]:
        """All feeds, in the order of their files."""
        return [self._status(self._feeds[path]) for path in sorted(self._feeds)]

    # -- mappings --

    def _reload(self) -> None:
        first, now = math.isinf(self._reloaded_at), time.monotonic()
        self._reloaded_at = now
        present = set()
        for path in sorted(self._directory.glob("*.toml")):
            try:
                status = path.stat()
            except OSError:
                continue
            present.add(path)
            feed = self._feeds.setdefault(path, _Feed(path))
            # the time of change too: what could not be read may be readable since
            stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
            if stamp != feed.seen:
                feed.seen, feed.seen_at = stamp, now
            is_still = first or now - feed.seen_at >= self._settle
            # what was refused may be good by now without a change of its own: another file had its feed
            is_new = stamp != feed.stamp or (feed.misread is not None and now - feed.read_at >= RETRY_SECONDS)
            if is_still and is_new and feed.work is None:
                feed.stamp, feed.read_at = stamp, now
                self._load(feed)
        for path in [path for path in self._feeds if path not in present]:
            if self._feeds[path].work is None:
                del self._feeds[path]

    def _load(self, feed: _Feed) -> None:
        try:
            mapping = self._read(feed)
        except YunxiError as error:
            feed.misread = str(error)
            return
        for other in self._feeds.values():
            if other is not feed and other.mapping is not None and other.mapping.feed == mapping.feed:
                feed.misread = f"{feed.path.name}: {mapping.feed} is the feed of {other.path.name} already"
                return
        feed.mapping, feed.misread, feed.trouble = mapping, None, None
        feed.due, feed.failures = 0.0, 0

    def _read(self, feed: _Feed) -> FeedMapping:
        """The mapping in the feed's file. Raises YunxiError where it is not good, or may not follow what there was."""
        if not feed.path.resolve().is_relative_to(self._directory.resolve()):
            raise Malformed(feed.path.name, "is a link that leads out of the directory; put the file itself there")
        mapping = load_mapping(feed.path)
        if feed.mapping is not None and mapping.feed != feed.mapping.feed:
            reason = f"was the feed {feed.mapping.feed}, whose name stays; put another feed into a file of its own"
            raise Malformed(feed.path.name, reason)
        check_version(mapping, self._state.held(mapping.feed))
        return mapping

    # -- turns --

    def _begin_turns(self, pool: ThreadPoolExecutor, stop: threading.Event, *, follow: bool) -> None:
        now = self._clock()
        waiting = [feed for feed in self._feeds.values() if feed.work is None and feed.mapping is not None]
        for feed in sorted(waiting, key=lambda feed: feed.due):
            if feed.due <= now and (follow or not self._is_through(feed)) and self._busy() < self._workers:
                assert feed.mapping is not None
                feed.began_at = time.monotonic()
                feed.work = pool.submit(self._turn, feed.mapping, stop)
                feed.work.add_done_callback(lambda _: self._ended.set())

    def _busy(self) -> int:
        since = time.monotonic() - self._patience
        return sum(feed.work is not None and feed.began_at > since for feed in self._feeds.values())

    def _turn(self, mapping: FeedMapping, stop: threading.Event) -> tuple[RunReport, bool]:
        """One run of a feed, and whether it was cut short."""
        until = time.monotonic() + TURN_SECONDS
        cut = False

        def enough() -> bool:
            nonlocal cut
            cut = stop.is_set() or time.monotonic() > until
            return cut

        target = self._submit_to(mapping.department)

        def submit(batch: Sequence[Submission]) -> list[Outcome]:
            with self._taking:
                return target(batch)

        # a source that waits for its server wakes up for the stop
        source = open_source(mapping, environ=self._environ, sleep=stop.wait)
        book = None if self._book_of is None else self._book_of(mapping.department)
        return run(mapping, source, self._state, submit, enough=enough, book=book, eager=self._eager), cut

    def _end_turns(self) -> bool:
        ended = [feed for feed in self._feeds.values() if feed.work is not None and feed.work.done()]
        for feed in ended:
            self._end_turn(feed)
        return bool(ended)

    def _end_turn(self, feed: _Feed) -> None:
        work, feed.work = feed.work, None
        assert work is not None and feed.mapping is not None
        now = self._clock()
        feed.turns += 1
        # whatever went wrong in one feed is its own matter, also what nobody foresaw
        error = work.exception()
        if error is None:
            done, cut = work.result()
            for name in feed.counts:
                feed.counts[name] += getattr(done, name)
            if done.sealed:
                feed.sealed_at = now
            error = done.stopped
            if error is None:
                feed.failures, feed.trouble = 0, None
                feed.ended_at = feed.ended_at if cut else now
                feed.due = now if cut else now + self._pause(feed.mapping)
                return
        feed.failures += 1
        known = isinstance(error, YunxiError)
        feed.trouble = str(error) if known else f"unexpected {type(error).__name__}: {error}"[:500]
        pause = min(MAX_PAUSE_SECONDS, self._interval * 2.0 ** min(feed.failures, 30))
        feed.due = now + pause * random.uniform(0.8, 1.0)  # noqa: S311 - spreads the feeds, hides nothing

    def _pause(self, mapping: FeedMapping) -> float:
        if mapping.schedule is not None:
            return mapping.schedule.seconds_until_next(self._wall())
        return mapping.poll_seconds or self._interval

    def _is_through(self, feed: _Feed) -> bool:
        if feed.work is not None:
            return False
        return feed.mapping is None or feed.failures > 0 or feed.ended_at is not None

    def _status(self, feed: _Feed) -> FeedStatus:
        now = self._clock()
        state = "new"
        if feed.work is not None:
            state = "running"
        elif feed.mapping is None:
            state = "unreadable"
        elif feed.failures:
            state = "failing"
        elif feed.turns:
            state = "waiting"
        return FeedStatus(
            file=feed.path.name,
            feed=None if feed.mapping is None else feed.mapping.feed,
            version=None if feed.mapping is None else feed.mapping.version,
            state=state,
            turns=feed.turns,
            failures=feed.failures,
            trouble=feed.misread or feed.trouble,
            lag=None if feed.ended_at is None else now - feed.ended_at,
            age=None if feed.sealed_at is None else now - feed.sealed_at,
            **feed.counts,
        )
