"""`/v1/extractions`: what others may have of this node's records, page by page; `/v1/pulls`: the other side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from gateway.access import allow
from gateway.caller import ADMIN, AUDITOR, COORDINATOR, PEER, SUPERVISOR, SYSTEM, Caller
from gateway.extractions import pulls as pulling
from gateway.extractions import standing
from gateway.extractions.owner import Opened
from gateway.extractions.pages import MAX_PAGE, MEDIA_TYPE
from gateway.extractions.standing import Extraction, Request
from gateway.guarded import Guarded
from gateway.problems import Problem
from gateway.site import SiteOf
from ledger.errors import Malformed
from ledger.formats.encoding import b64url_decode

router = APIRouter(prefix="/v1/extractions", tags=["extractions"], route_class=Guarded)
pulls_router = APIRouter(prefix="/v1/pulls", tags=["extractions"], route_class=Guarded)

NEWS_LOOK_S = 0.1
"""How often a waiting request looks whether the log has grown."""

MAX_WAITING = 50
"""Requests of one department that wait for news in a process; further ones are answered at once."""

Peer = Annotated[Caller, allow(PEER)]
Looking = Annotated[Caller, allow(PEER, SYSTEM, ADMIN, SUPERVISOR, AUDITOR, COORDINATOR)]
Ending = Annotated[Caller, allow(PEER, ADMIN)]
Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", max_length=32)]
Department = Annotated[str, Query(pattern="^[a-z][a-z0-9-]{1,30}$", max_length=31)]
TypeName = Annotated[str, Field(pattern="^[a-z][a-z0-9]*(\\.[a-z][a-z0-9-]*)+$", max_length=64)]
UnitName = Annotated[str, Field(pattern="^[a-z][a-z0-9-]{0,40}$", max_length=41)]


class ReferenceShown(BaseModel):
    """A record of the lead's log: its presentation, with purpose, participants, kind and what is wanted, but without
    the subjects; and its receipt (C2SP tlog-proof)."""

    model_config = ConfigDict(extra="forbid")
    presentation: str = Field(min_length=1, max_length=1 << 20)
    receipt: str | None = Field(default=None, max_length=1 << 18)


class ExtractionAsked(BaseModel):
    """A request. `subjects`: blind indexes, base64url; `types`, `units` left out: whatever is granted."""

    model_config = ConfigDict(extra="forbid")
    owner: str = Field(pattern="^[a-z][a-z0-9-]{1,30}$", max_length=31)
    purpose: str = Field(min_length=1, max_length=64)
    reference: ReferenceShown
    subjects: list[Annotated[str, Field(pattern="^[A-Za-z0-9_-]{22}$")]] = Field(min_length=1, max_length=50)
    types: list[TypeName] | None = Field(default=None, min_length=1, max_length=100)
    units: list[UnitName] | None = Field(default=None, min_length=1, max_length=100)
    emergency: ReferenceShown | None = None
    """The requester's own emergency.used, which must be in its log; see docs/recalls.md."""


class ClosingTold(BaseModel):
    """The lead's own record that a case or inspection is closed."""

    model_config = ConfigDict(extra="forbid")
    owner: str = Field(pattern="^[a-z][a-z0-9-]{1,30}$", max_length=31)
    reference: ReferenceShown


@router.post("", summary="Open an extraction")
def open_extraction(caller: Peer, site: SiteOf, body: ExtractionAsked) -> dict[str, Any]:
    """The owner decides; a refusal is in its log before it is answered. The same request has the same id for ever."""
    return _opened_json(site.extractions.owner.open(caller, _request(body)))


@router.post("/closings", summary="Tell that a case or inspection is closed", status_code=204)
def close_reference(caller: Peer, site: SiteOf, body: ClosingTold) -> Response:
    """Ends what stands on it; told again it changes nothing."""
    presentation, receipt = _shown(body.reference)
    site.extractions.owner.close_reference(caller, body.owner, presentation, receipt)
    return Response(status_code=204)


@router.get("", summary="List extractions from and by the caller's department")
def list_extractions(
    caller: Looking,
    site: SiteOf,
    after: Annotated[str, Query(max_length=32)] = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> dict[str, Any]:
    """By id past `after`; `next` is the `after` of the next page, null on the last."""
    with site.database.reading() as connection:
        found = standing.list_for(connection, caller.department, after, limit + 1)
    following = found[limit - 1].id if len(found) > limit else None
    return {"items": [_extraction_json(each) for each in found[:limit]], "next": following}


@router.get("/news", summary="Wait for new records in standing extractions")
async def news(
    caller: Peer,
    site: SiteOf,
    owner: Department,
    after: Annotated[int, Query(ge=0, le=1 << 40)] = 0,
    wait: Annotated[int, Query(ge=0, le=30)] = 0,
) -> dict[str, Any]:
    """Answers as soon as a record past index `after` of the owner's log belongs to one of the caller's standing
    extractions, and after `wait` seconds at the latest; `cursor` is the `after` of the next request."""
    waiting = site.extractions.waiting
    until = time.monotonic() + (wait if waiting[caller.department] < MAX_WAITING else 0)
    waiting[caller.department] += 1
    try:
        while True:
            cursor, found = await anyio.to_thread.run_sync(site.extractions.owner.news, caller, owner, after)
            if found or time.monotonic() >= until or site.stopping.is_set():
                return {"cursor": cursor, "extractions": found}
            after = cursor  # nothing up to there is the caller's
            await asyncio.sleep(NEWS_LOOK_S)
    finally:
        waiting[caller.department] -= 1


@router.get("/{extraction}", summary="One extraction, and what of it is granted now")
def get_extraction(caller: Looking, site: SiteOf, extraction: Id) -> dict[str, Any]:
    """For its requester and its owner; anybody else's question is on record."""
    return _opened_json(site.extractions.owner.get(caller, extraction))


@router.get(
    "/{extraction}/pages",
    summary="Pages of an extraction",
    response_class=Response,
    responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}, "description": "a line for each page"}},
)
def pages(
    caller: Peer,
    site: SiteOf,
    extraction: Id,
    after: Annotated[int, Query(ge=0, lt=MAX_PAGE)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10,
) -> Response:
    """NDJSON, encrypted to the caller's department (see docs/extractions.md). Each page is in the owner's log before it
    is sent; asked for again it is the same. Streams in constant memory."""
    lines = site.extractions.owner.pages(caller, extraction, after, limit)
    first = next(lines)  # a refusal here is an answer of its own; later it is the stream's last line
    return StreamingResponse(_closing(chain([first], lines), lines), media_type=MEDIA_TYPE)


@router.delete("/{extraction}", summary="End an extraction")
def end_extraction(caller: Ending, site: SiteOf, extraction: Id) -> dict[str, Any]:
    """By its requester, who may open it again, or by its owner, for good."""
    return _extraction_json(site.extractions.owner.end(caller, extraction))


@pulls_router.get("", summary="What this department extracts from others, and what is missing")
def list_pulls(
    caller: Looking,
    site: SiteOf,
    after: Annotated[str, Query(max_length=100)] = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 1_000,
) -> dict[str, Any]:
    """By number of the case past `after`; `state`, since when, how much came, and when it came last."""
    with site.database.reading() as connection:
        found = pulling.list_for(connection, caller.department, after, limit)
    names = ("owner", "lead", "number", "extraction", "state", "code", "detail", "withheld", "page", "records", "since")
    shown = [{name: getattr(each, name) for name in names} | {"kind": each.claim} for each in found]
    return {"items": shown, "next": found[-1].number if len(found) == limit else None}


def _request(body: ExtractionAsked) -> Request:
    presentation, receipt = _shown(body.reference)
    try:
        subjects = tuple(sorted({b64url_decode(text, "subject") for text in body.subjects}))
    except Malformed as error:
        raise Problem("bad-request", "a subject is a blind index of 16 bytes, base64url", field="subjects") from error
    types = None if body.types is None else frozenset(body.types)
    units = None if body.units is None else frozenset(body.units)
    emergency = None
    if body.emergency is not None:
        told, proof = _shown(body.emergency)
        emergency = told, proof or b""
    return Request(body.owner, body.purpose, presentation, receipt, subjects, types, units, emergency)


def _shown(reference: ReferenceShown) -> tuple[bytes, bytes | None]:
    receipt = None if reference.receipt is None else reference.receipt.encode("utf-8", "replace")
    return reference.presentation.encode("utf-8", "replace"), receipt


def _closing(lines: Iterator[bytes], source: Iterator[bytes]) -> Iterator[bytes]:
    # whoever hangs up ends the stream here, not when the collector comes by
    try:
        yield from lines
    finally:
        source.close()  # type: ignore[attr-defined]  # it is a generator


def _extraction_json(extraction: Extraction) -> dict[str, Any]:
    names = ("id", "owner", "requester", "lead", "number", "reference", "purpose", "case_kind", "state", "opened_at")
    shown = {name: getattr(extraction, name) for name in names} | {"kind": extraction.claim}
    return shown | {"types": None if extraction.types is None else sorted(extraction.types)}


def _opened_json(opened: Opened) -> dict[str, Any]:
    granted = {
        name: {"units": sorted(allowed.units), "grants": list(allowed.grants), "emergency": allowed.emergency}
        for name, allowed in opened.decision.allowed.items()
    }
    shown = {"granted": granted, "withheld": dict(opened.decision.withheld), "pages": opened.pages}
    return _extraction_json(opened.extraction) | shown
