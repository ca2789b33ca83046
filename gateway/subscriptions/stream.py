"""Events as they come, as server-sent events: resumed by Last-Event-ID, bounded, let go of when the service ends."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import anyio.to_thread

from gateway.problems import Problem
from gateway.subscriptions.events import Event, Wanted, event_id, read_events

if TYPE_CHECKING:
    from gateway.site import Site

HEARTBEAT_S = 15.0
MAX_STREAMS, MAX_OF_DEPARTMENT = 100, 10
"""In one process."""

Place = tuple[int, int]


class Streams:
    """The open streams of one process."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._open: Counter[str] = Counter()

    def require_room(self, department: str) -> None:
        """Raises Problem `overloaded` where there are too many."""
        if self._open.total() >= MAX_STREAMS or self._open[department] >= MAX_OF_DEPARTMENT:
            raise Problem("overloaded", "there are too many open streams: close one", retry_after=30)

    async def lines(
        self, department: str, wanted: Wanted, after: Place, seconds: float, may_go_on: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        """Events past `after`, for so many seconds; a heartbeat carries the place where a resumed stream goes on. Ends
        when the caller is no longer let in: `may_go_on` is asked before anything is told."""
        until, place = time.monotonic() + seconds, after
        try:
            self.require_room(department)  # once more: several may have been let in at the same time
        except Problem:
            yield b"retry: 30000\n\n"
            return
        self._open[department] += 1
        stopping = asyncio.ensure_future(self._site.stopping.wait())
        try:
            with self._site.bell.listening(department) as rung:
                yield b"retry: 2000\n\n"
                while not stopping.done() and (left := until - time.monotonic()) > 0:
                    rung.clear()
                    before = place
                    found, place = await anyio.to_thread.run_sync(self._read, department, wanted, place)
                    # behind the read: what came in after the caller was shut out is in no answer
                    if not await anyio.to_thread.run_sync(may_go_on):
                        return
                    for event in found:
                        yield _lines(event)
                    if place != before:
                        continue
                    ringing = asyncio.ensure_future(rung.wait())
                    done, _ = await asyncio.wait(
                        {ringing, stopping}, timeout=min(left, HEARTBEAT_S), return_when=asyncio.FIRST_COMPLETED
                    )
                    ringing.cancel()
                    if not done:
                        yield f"id: {event_id(*place)}\n: still here\n\n".encode()
        finally:
            stopping.cancel()
            self._open[department] -= 1

    def _read(self, department: str, wanted: Wanted, place: Place) -> tuple[list[Event], Place]:
        with self._site.database.reading() as connection:
            return read_events(connection, self._site.node.reader, department, wanted, place)


def _lines(event: Event) -> bytes:
    # JSON as orjson writes it has no line break
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.name.encode(), event.to_json())
