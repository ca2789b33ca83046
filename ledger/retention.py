"""Retention: how long records of a type are kept, by `[retention]` in node.toml; a type that is not named is kept.

    [retention]
    "complaint.received" = "3y"       years, months (m) or days (d), counted from the day that the record was sealed

Records of providing data to others (`disclosure.…`) are kept at least 3 years (网络数据安全管理条例, and for personal
information the assessment records of 个人信息保护法 art. 56), so a shorter period is refused.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from ledger.formats.encoding import b64url_decode

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ledger.store.reading import EntryRow, LogRow

ALWAYS_KEPT = ("record.destroyed", "hold.", "matters.", "feed.", "audit.")
"""How the types begin that the log could not be read without."""

_PERIOD = re.compile(r"([1-9][0-9]{0,4})([ymd])")
_TYPE = re.compile(r"[a-z][a-z0-9]*(?:\.[a-z][a-z0-9-]*)+")
_PROVIDING = "disclosure."
_LEAST_PROVIDING_MONTHS = 36
_STRIDE = 2_000


@dataclass(frozen=True, slots=True)
class Period:
    """A period as the calendar counts it. `text` is how it was written."""

    text: str
    months: int
    days: int

    def end(self, start: int) -> int:
        """The moment when a period that began at `start` has ended; both in seconds since 1970, counted in UTC. A day
        that its month does not have is the month's last."""
        begun = datetime.fromtimestamp(start, UTC)
        month = begun.month - 1 + self.months
        year, month = begun.year + month // 12, month % 12 + 1
        day = min(begun.day, calendar.monthrange(year, month)[1])
        return int((begun.replace(year=year, month=month, day=day) + timedelta(days=self.days)).timestamp())


@dataclass(frozen=True, slots=True)
class Due:
    """A record whose period has ended. Times in seconds since 1970."""

    record_id: str
    department: str
    index: int
    type: str
    sealed_at: int
    ended_at: int


def retention_rules(values: Mapping[str, Any]) -> dict[str, Period]:
    """The periods by record type, from `[retention]` of node.toml. Raises ValueError with one sentence.

    That the types exist is not checked: a period may stand there before its type.
    """
    return {name: _rule(name, text) for name, text in values.items()}


def is_kept(kind: str, sealed_at: int, now: float) -> bool:
    """Whether a record of this type must not be forgotten, whatever the reason: what the log is read with never,
    records of providing data for 3 years from when they were sealed. Times in seconds since 1970."""
    young = kind.startswith(_PROVIDING) and now < Period("", _LEAST_PROVIDING_MONTHS, 0).end(sealed_at)
    return young or kind.startswith(ALWAYS_KEPT)


def find_due(connection: Connection, log: LogRow, rules: Mapping[str, Period], now: float) -> Iterator[Due]:
    """Records of the log whose period has ended and that are not forgotten, oldest first. Holds 2,000 entries at a time
    and reads the whole log. Holds are not asked here: forgetting asks them."""
    from ledger.store.reading import read_entries  # every command reads the settings, few read a log

    for start in range(0, log.size, _STRIDE) if rules else ():
        for row in list(read_entries(connection, log.number, start, min(start + _STRIDE, log.size))):
            due = _due(row, log, rules)
            if due is not None and due.ended_at <= now and row.wrapped_key is not None:
                yield due


def _rule(name: str, text: Any) -> Period:
    found = _PERIOD.fullmatch(text) if isinstance(text, str) else None
    if found is None or not _TYPE.fullmatch(name):
        raise ValueError(f'[retention] has lines like "complaint.received" = "3y" (y, m or d), not {name} = {text!r}')
    number, unit = int(found[1]), found[2]
    if number > {"y": 200, "m": 2_400, "d": 73_000}[unit]:
        raise ValueError(f"[retention] of {name}: no period is longer than 200 years")
    if name.startswith(ALWAYS_KEPT):
        raise ValueError(f"[retention] names {name}: such records are what the log is read with and are always kept")
    period = Period(text, *((number * (12 if unit == "y" else 1), 0) if unit != "d" else (0, number)))
    if name.startswith(_PROVIDING) and (period.months < _LEAST_PROVIDING_MONTHS and period.days < 1_096):
        raise ValueError(f"[retention] of {name}: records of providing data are kept at least 3 years, not {text}")
    return period


def _due(row: EntryRow, log: LogRow, rules: Mapping[str, Period]) -> Due | None:
    claims = orjson.loads(b64url_decode(row.statement.split(b".")[1].decode("ascii"), "statement"))
    period = rules.get(claims["type"])
    if period is None:
        return None
    sealed_at = int(claims["iat"])
    return Due(row.record_id, log.department, row.index, claims["type"], sealed_at, period.end(sealed_at))
