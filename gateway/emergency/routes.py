"""`/v1/emergencies`: access without a grant when it cannot wait. See docs/recalls.md."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field

from gateway.access import allow
from gateway.caller import ADMIN, AUDITOR, COORDINATOR, OFFICER, PEER, REVIEWER, SUPERVISOR, SYSTEM, Caller
from gateway.emergency import reading, service
from gateway.emergency.reading import Emergency
from gateway.guarded import Guarded
from gateway.notices.shown import accept
from gateway.proceedings.views import Body, DepartmentId, Number, RecordId, RecordTypeName, Text, instant
from gateway.recalls.routes import Told
from gateway.site import SiteOf

router = APIRouter(prefix="/v1/emergencies", tags=["emergencies"], route_class=Guarded)

Asking = Annotated[Caller, allow(OFFICER, SUPERVISOR)]
Justifying = Annotated[Caller, allow(SUPERVISOR, REVIEWER)]
Looking = Annotated[Caller, allow(OFFICER, SUPERVISOR, REVIEWER, ADMIN, COORDINATOR, AUDITOR, SYSTEM)]
Peer = Annotated[Caller, allow(PEER)]


class Ask(Body):
    """What cannot wait: an open case or inspection of the caller's department and one of its participants. `types` left
    out: whatever the owner allows."""

    owner: DepartmentId
    kind: Literal["inspection", "case"]
    number: Number
    reason: Text
    deadline_hours: int = Field(default=24, ge=1, le=720)
    types: Annotated[list[RecordTypeName], Field(min_length=1, max_length=100)] | None = None


class Justify(Body):
    """What a second person finds."""

    outcome: Literal["justified", "not-justified"]
    justification: Text


@router.post("", summary="Ask for what no grant covers: seal emergency.used", status_code=201)
async def ask(caller: Asking, site: SiteOf, body: Ask) -> dict[str, Any]:
    """On record on both sides before anything is sent; then the records are in the dossier. Must be justified by
    another person before its deadline."""
    found, records = await service.request(
        site, caller, body.owner, body.kind, body.number, body.reason, body.deadline_hours, body.types
    )
    return emergency_json(found, site.clock()) | {"records": records}


@router.get("", summary="Emergency accesses by and to the caller's department, overdue ones first")
def list_emergencies(
    caller: Looking,
    site: SiteOf,
    cursor: Annotated[int, Query(ge=0, le=1_000_000_000, description="`next` of the page before")] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> dict[str, Any]:
    """Both sides of what the department's log tells."""
    site.projector.catch_up([caller.department])
    now = site.clock()
    with site.database.reading() as connection:
        found = reading.list_for(connection, caller.department, now, cursor, limit + 1)
    following = str(cursor + limit) if len(found) > limit else None
    return {"items": [emergency_json(each, now) for each in found[:limit]], "next": following}


@router.post("/{emergency}/justify", summary="Justify an emergency access: seal emergency.justified")
def justify(caller: Justifying, site: SiteOf, emergency: RecordId, body: Justify) -> dict[str, Any]:
    """By another account than the one that asked. The owner is told."""
    found = service.justify(site, caller, emergency, body.outcome, body.justification)
    return emergency_json(found, site.clock())


@router.post("/justifications", summary="Tell of a justification, between departments", status_code=204)
def justifications(caller: Peer, site: SiteOf, body: Told) -> Response:
    """Durable in the owner's log on answering; told again it changes nothing."""
    shown = accept(site, body.to, caller.department, body.record.presentation, body.record.receipt)
    service.hear_justified(site, body.to, shown)
    return Response(status_code=204)


def emergency_json(emergency: Emergency, now: float) -> dict[str, Any]:
    """An emergency access without its reason, which is in the records that `id` and `justified_by` name."""
    at = emergency.justified_at
    return {
        "id": emergency.emergency,
        "role": emergency.role,
        "owner": emergency.owner,
        "requester": emergency.requester,
        "kind": emergency.claim,
        "number": emergency.number,
        "lead": emergency.lead,
        "types": None if emergency.types is None else sorted(emergency.types),
        "used_at": instant(emergency.used_at),
        "due_at": instant(emergency.due_at),
        "overdue": emergency.is_overdue(now),
        "outcome": emergency.outcome,
        "justified_by": emergency.justified_by,
        "justified_at": None if at is None else instant(at),
        "late": emergency.late,
    }
