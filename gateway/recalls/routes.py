"""`/v1/recalls`: what a department recalled or corrected, and what it was told of. See docs/recalls.md."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response

from gateway.access import allow
from gateway.caller import ADMIN, AUDITOR, COORDINATOR, OFFICER, PEER, REVIEWER, SUPERVISOR, SYSTEM, Caller
from gateway.extractions.routes import ReferenceShown
from gateway.guarded import Guarded
from gateway.notices.shown import accept
from gateway.proceedings.views import Body, DepartmentId, RecordId, Text, instant
from gateway.recalls import reading, service
from gateway.recalls.reading import Given, Received, Recipient
from gateway.site import SiteOf

router = APIRouter(prefix="/v1/recalls", tags=["recalls"], route_class=Guarded)

Recalling = Annotated[Caller, allow(OFFICER, SUPERVISOR, SYSTEM)]
Looking = Annotated[Caller, allow(OFFICER, SUPERVISOR, REVIEWER, ADMIN, COORDINATOR, AUDITOR, SYSTEM)]
Acknowledging = Annotated[Caller, allow(OFFICER, SUPERVISOR)]
Peer = Annotated[Caller, allow(PEER)]
Cursor = Annotated[int, Query(ge=0, le=1_000_000_000, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=1_000)]


class Recall(Body):
    """A recall. `replaced_by`: the record to use instead, of the same department."""

    record: RecordId
    reason_kind: Literal["error", "unlawful", "duplicate", "withdrawn", "other"]
    reason: Text
    asks: Literal["stop-using", "replace", "delete"] = "stop-using"
    replaced_by: RecordId | None = None


class Acknowledge(Body):
    """What the recipient did with the record."""

    done: Literal["stopped-using", "replaced", "deleted", "not-used"]
    note: Text | None = None


class Told(Body):
    """A record of the caller's log, told to department `to`."""

    to: DepartmentId
    record: ReferenceShown


@router.post("", summary="Recall a record: seal record.recalled", status_code=201)
def recall(
    caller: Recalling,
    site: SiteOf,
    body: Recall,
    response: Response,
    idempotency_key: Annotated[
        str | None, Header(alias="Idempotency-Key", pattern=r"^[\x21-\x7e]{1,64}$", description="visible characters")
    ] = None,
) -> dict[str, Any]:
    """Every department that extracted the record is told until it has heard; 200 where this key recalled it before."""
    given, new = service.recall(site, caller, body.model_dump(), idempotency_key or secrets.token_urlsafe(16))
    response.status_code = 201 if new else 200
    return given_json(given)


@router.get("", summary="Recalls and corrections of the caller's department, open ones first")
def list_given(caller: Looking, site: SiteOf, cursor: Cursor = 0, limit: Limit = 100) -> dict[str, Any]:
    """With the state of every department that extracted the record: waiting, unreachable, refused, received,
    acknowledged. A correction is listed when the record that it amends was disclosed."""
    site.projector.catch_up([caller.department])
    with site.database.reading() as connection:
        found = reading.given(connection, caller.department, cursor, limit + 1)
    return {"items": [given_json(each) for each in found[:limit]], "next": _next(found, cursor, limit)}


@router.get("/received", summary="Recalls and corrections of others, those to be acknowledged first")
def list_received(caller: Looking, site: SiteOf, cursor: Cursor = 0, limit: Limit = 100) -> dict[str, Any]:
    """What the caller's department was told of."""
    site.projector.catch_up([caller.department])
    with site.database.reading() as connection:
        found = reading.received(connection, caller.department, cursor, limit + 1)
    return {"items": [received_json(each) for each in found[:limit]], "next": _next(found, cursor, limit)}


@router.post("/received/{received}/acknowledge", summary="Acknowledge: seal recall.acknowledged")
def acknowledge(caller: Acknowledging, site: SiteOf, received: RecordId, body: Acknowledge) -> dict[str, Any]:
    """By a person. The owner is told; acknowledging again changes nothing."""
    return received_json(service.acknowledge(site, caller, received, body.done, body.note))


@router.post("/notices", summary="Tell of a recall or correction, between departments")
def notices(caller: Peer, site: SiteOf, body: Told) -> dict[str, Any]:
    """Answers with the recipient's own record of it, durable in its log; told again it answers the same."""
    shown = accept(site, body.to, caller.department, body.record.presentation, body.record.receipt)
    return {"received": service.receive(site, body.to, shown)}


@router.post("/acknowledgements", summary="Tell that a recall was acknowledged, between departments", status_code=204)
def acknowledgements(caller: Peer, site: SiteOf, body: Told) -> Response:
    """Durable in the owner's log on answering; told again it changes nothing."""
    shown = accept(site, body.to, caller.department, body.record.presentation, body.record.receipt)
    service.hear_acknowledged(site, body.to, shown)
    return Response(status_code=204)


def given_json(given: Given) -> dict[str, Any]:
    """A recall or correction with its recipients."""
    return {
        "id": given.notice,
        "kind": given.kind,
        "record": given.record_id,
        "made_at": instant(given.made_at),
        "open": given.is_open,
        "recipients": [_recipient_json(each) for each in given.recipients],
    }


def received_json(received: Received) -> dict[str, Any]:
    """A notice that came. `id` is the department's own record of it, `notice` the owner's record."""
    at = received.acknowledged_at
    return {
        "id": received.received,
        "notice": received.notice,
        "kind": received.kind,
        "owner": received.owner,
        "record": received.record_id,
        "asks": received.asks,
        "reason_kind": received.reason_kind,
        "replaced_by": received.replaced_by,
        "received_at": instant(received.received_at),
        "open": received.acknowledgement is None,
        "done": received.done,
        "acknowledgement": received.acknowledgement,
        "acknowledged_at": None if at is None else instant(at),
    }


def _recipient_json(recipient: Recipient) -> dict[str, Any]:
    return {
        "department": recipient.department,
        "state": recipient.state,
        "since": None if recipient.since is None else instant(recipient.since),
        "code": recipient.code,
        "attempts": recipient.attempts,
        "received": recipient.received,
        "done": recipient.done,
        "acknowledgement": recipient.acknowledgement,
    }


def _next(found: list[Any], cursor: int, limit: int) -> str | None:
    return str(cursor + limit) if len(found) > limit else None
