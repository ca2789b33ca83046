"""Who waits for news of a department's log is woken when the projector notices some."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.projections.projector import Projector


class Bell:
    """Rung from any thread; waited for on the event loop. A ring that nobody waits for is not kept: look first."""

    def __init__(self, projector: Projector) -> None:
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event, str | None]] = set()
        projector.on_new(self._ring)

    @contextmanager
    def listening(self, department: str | None = None) -> Iterator[asyncio.Event]:
        """An event that is set at every ring for the department (None: for any); whoever waits clears it."""
        here = asyncio.get_running_loop(), asyncio.Event(), department
        self._waiting.add(here)
        try:
            yield here[1]
        finally:
            self._waiting.discard(here)

    def _ring(self, departments: frozenset[str]) -> None:
        for loop, event, department in tuple(self._waiting):
            if (department is None or department in departments) and not loop.is_closed():
                loop.call_soon_threadsafe(event.set)
