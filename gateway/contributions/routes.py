"""`/v1/contributions`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from gateway.access import allow
from gateway.caller import ADMIN, AUDITOR, COORDINATOR, SUPERVISOR, SYSTEM, Caller
from gateway.contributions.service import contribution_of
from gateway.guarded import Guarded
from gateway.problems import Problem
from gateway.proceedings.views import instant
from gateway.site import SiteOf
from ledger.record_types import parse_instant

router = APIRouter(prefix="/v1/contributions", tags=["contributions"], route_class=Guarded)

Time = Annotated[str | None, Query(max_length=40, description="RFC 3339 with offset")]


@router.get("", summary="What departments gave, got and refused, and how fast")
def contributions(
    caller: Annotated[Caller, allow(SUPERVISOR, ADMIN, COORDINATOR, AUDITOR, SYSTEM)],
    site: SiteOf,
    start: Annotated[Time, Query(alias="from")] = None,
    end: Annotated[Time, Query(alias="to")] = None,
) -> dict[str, Any]:
    """The caller's department; to a coordinator every department of this node."""
    since, until = _seconds("from", start, 0), _seconds("to", end, int(site.clock()) + 1)
    departments = sorted(site.hosted) if COORDINATOR in caller.roles else [caller.department]
    site.projector.catch_up()
    with site.database.reading() as connection:
        found = [contribution_of(connection, department, since, until) for department in departments]
    return {"from": instant(since), "to": instant(until), "contributions": [asdict(each) for each in found]}


def _seconds(name: str, text: str | None, default: int) -> int:
    if text is None:
        return default
    try:
        seconds = int(parse_instant(text).timestamp())
        instant(seconds)  # it may lie past the calendar's ends in UTC
        return seconds
    except (ValueError, OverflowError) as error:
        example = "2026-03-02T09:15:00+08:00"
        raise Problem("bad-request", f"`{name}` must be a time with offset, such as {example}", field=name) from error
