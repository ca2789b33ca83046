"""When a feed is read: at times of the day, for sources that may not be asked during office hours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
MAX_TIMES = 96


@dataclass(frozen=True, slots=True)
class Schedule:
    """Times of the day in a zone, ascending, at least one. A time that a change of the clocks leaves out is taken an
    hour later, one that it repeats once."""

    times: tuple[time, ...]
    zone: ZoneInfo

    def seconds_until_next(self, now: float) -> float:
        """From `now`, in seconds since 1970, to the next of the times; more than 0."""
        today = datetime.fromtimestamp(now, self.zone).date()
        moments = (
            datetime.combine(today + timedelta(days=day), at, self.zone).astimezone(UTC).timestamp()
            for day in range(3)
            for at in self.times
        )
        return min(moment for moment in moments if moment > now) - now


def parse_times(texts: Sequence[object]) -> tuple[time, ...]:
    """Times like "02:30", in order and each once. Raises ValueError for anything else."""
    found = set()
    for text in texts:
        match = _TIME.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError("times are written like 02:30, from 00:00 to 23:59")
        found.add(time(int(match[1]), int(match[2])))
    if not 0 < len(found) <= MAX_TIMES:
        raise ValueError(f"name 1 to {MAX_TIMES} times")
    return tuple(sorted(found))
