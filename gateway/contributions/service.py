"""What a department gave, got and refused within a time, as its own log tells it.

"How fast" is what the receiving department saw: from the opening of its inspection or case to the first page that came
from another department. What was given is counted where it was given, what was got where it was received; an auditor
who has both logs can compare them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from sqlalchemy import ColumnElement, Connection, and_, func, select

from gateway.lookups.models import accesses
from gateway.proceedings.models import proceedings


@dataclass(frozen=True, slots=True)
class Exchange:
    """With one other department. `answers`: how many inspections or cases it gave something to; `median_seconds` and
    `slowest_seconds`: from their opening to the first page, None where nothing was got."""

    given_records: int
    given_pages: int
    got_records: int
    got_pages: int
    answers: int
    median_seconds: int | None
    slowest_seconds: int | None
    refused: Mapping[str, int]
    checks: int


@dataclass(frozen=True, slots=True)
class Contribution:
    """A department's account. `refused` in an exchange: how often this department refused the other one, by code;
    `reads`: how often its own people and systems read its records."""

    department: str
    exchanges: Mapping[str, Exchange]
    reads: int


def contribution_of(connection: Connection, department: str, start: int, end: int) -> Contribution:
    """The account of a department of this node for `start` <= time < `end`, seconds since 1970."""
    here = (accesses.c.department == department) & (accesses.c.at >= start) & (accesses.c.at < end)
    c = accesses.c
    query = select(c.action, c.other, c.code, func.count(), func.sum(c.records)).where(here)
    rows = connection.execute(query.group_by(c.action, c.other, c.code)).all()
    sums: defaultdict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    refused: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for action, other, code, pages, records in rows:
        if action == "refused":
            refused[other or ""][code or ""] = int(records)
        else:
            sums[other or ""][action] = int(pages), int(records)
    seconds = _seconds(connection, department, here)
    others = sorted({*sums, *refused, *seconds} - {""})
    exchanges = {other: _exchange(sums[other], refused[other], seconds.get(other, [])) for other in others}
    return Contribution(department, exchanges, sums[""].get("read", (0, 0))[0])


def _exchange(sums: Mapping[str, tuple[int, int]], refused: Mapping[str, int], seconds: list[int]) -> Exchange:
    given, got = sums.get("disclosed", (0, 0)), sums.get("received", (0, 0))
    return Exchange(
        given_records=given[1],
        given_pages=given[0],
        got_records=got[1],
        got_pages=got[0],
        answers=len(seconds),
        median_seconds=int(median(seconds)) if seconds else None,
        slowest_seconds=max(seconds) if seconds else None,
        refused=dict(sorted(refused.items())),
        checks=sums.get("checked", (0, 0))[0],
    )


def _seconds(connection: Connection, department: str, here: ColumnElement[bool]) -> dict[str, list[int]]:
    """By the department that gave: for each of our own inspections and cases how long its first page took."""
    c, p = accesses.c, proceedings.c
    query = (
        select(c.other, func.min(c.at) - p.opened_at)
        .join_from(
            accesses, proceedings, and_(p.log == c.log, p.kind == c.claim, p.number == c.number, p.lead == c.lead)
        )
        .where(here, c.action == "received", c.lead == department)
        .group_by(c.other, p.log, p.kind, p.number, p.opened_at)
    )
    found: dict[str, list[int]] = {}
    for other, taken in connection.execute(query):
        found.setdefault(other, []).append(max(0, int(taken)))
    return found
