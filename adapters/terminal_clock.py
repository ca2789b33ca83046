"""How a terminal's clock compares with its node's: measured when it submits, carried on while it is away.

A clock that nobody sets tells what has passed since, and by how much somebody set the other one meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adapters.terminal_queue import Queue
from adapters.terminal_transport import Transport

_PROCESS = f"process-{os.urandom(8).hex()}"

Steady = Callable[[], tuple[str, float]]
"""A clock that nobody sets, as (what it counts from, seconds)."""


@dataclass(frozen=True, slots=True)
class Clock:
    """How the terminal's clock compares with its node's: ahead by `offset_ms`, give or take `error_ms`, as measured
    `age_s` seconds ago; all None where it is not known."""

    offset_ms: int | None = None
    error_ms: int | None = None
    age_s: int | None = None


class ClockKeeper:
    """Keeps the last measurement in the terminal's queue."""

    def __init__(self, queue: Queue, clock: Callable[[], float], steady: Steady) -> None:
        self._queue = queue
        self._clock = clock
        self._steady = steady

    def measure(self, transport: Transport, rounds: int = 4) -> Clock:
        """Compares the terminal's clock with the node's; the exchange with the shortest way counts."""
        best: tuple[float, float] | None = None
        for _ in range(rounds):
            begin, start = self._clock(), self._steady()[1]
            theirs = transport.time_ms()
            way = (self._steady()[1] - start) * 1000
            ahead = begin * 1000 + way / 2 - theirs
            if best is None or way < best[0]:
                best = (way, ahead)
        assert best is not None
        boot, seconds = self._steady()
        fact = {"ahead_ms": round(best[1]), "error_ms": int(best[0] / 2) + 1, "at": self._clock()}
        self._queue.set_fact("clock", fact | {"boot": boot, "seconds": seconds})
        return self.now()

    def now(self) -> Clock:
        """What is known now. Where the clock was set since it was compared, the difference is added; after a restart
        of the device nothing is known until it is compared again."""
        fact = self._queue.fact("clock")
        boot, seconds = self._steady()
        if fact is None or fact["boot"] != boot:
            return Clock()
        passed = seconds - fact["seconds"]
        moved = (self._clock() - fact["at"]) - passed
        return Clock(round(fact["ahead_ms"] + moved * 1000), fact["error_ms"], int(passed))


def steady() -> tuple[str, float]:
    """Seconds that no setting of the clock moves, and the boot that they count from; elsewhere than on Linux they count
    from the start of the process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return boot, time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, AttributeError):
        return _PROCESS, time.monotonic()
