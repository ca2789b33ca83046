"""`/v1/subscriptions` and `/v1/events`: see docs/subscriptions.md."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from gateway.access import allow
from gateway.caller import ADMIN, AUDITOR, COORDINATOR, OFFICER, SUPERVISOR, SYSTEM, Caller
from gateway.guarded import Guarded
from gateway.people.sessions import session_token
from gateway.problems import Problem
from gateway.proceedings.views import Body, Number, RecordTypeName, instant
from gateway.site import Site, SiteOf, require_hosted
from gateway.subscriptions import service
from gateway.subscriptions.events import EVENTS, Wanted, newest, parse_id
from gateway.subscriptions.service import Delivery, Subscription

router = APIRouter(prefix="/v1", tags=["subscriptions"], route_class=Guarded)

EVENT_STREAM = "text/event-stream"
_EVENT = {"type": "object", "properties": {name: {"type": "string"} for name in ("id", "event", "data")}}
MAX_SECONDS = 3_600

Managing = Annotated[Caller, allow(SYSTEM, ADMIN)]
Listening = Annotated[Caller, allow(SYSTEM, OFFICER, SUPERVISOR, ADMIN, COORDINATOR, AUDITOR)]
Id = Annotated[str, Path(pattern="^[A-Za-z0-9_-]{22}$")]
EventName = Literal[
    "record.sealed", "dossier.entry.arrived", "participant.missing", "recall.received", "emergency.used",
    "disclosure.refused", "grant.changed",
]  # fmt: skip
EventId = Annotated[str, Field(pattern="^[0-9]{1,18}-[0-9]$")]


class Subscribe(Body):
    """What to tell, and where. `types` narrows by record type, `inspection` or `case` by number."""

    url: str = Field(min_length=1, max_length=500, examples=["https://hooks.example.org/yunxi"])
    events: list[EventName] = Field(min_length=1, max_length=20)
    types: Annotated[list[RecordTypeName], Field(min_length=1, max_length=100)] | None = None
    inspection: Number | None = None
    case: Number | None = None


class Replay(Body):
    """Which dead letters to try again; left out: all."""

    events: Annotated[list[EventId], Field(min_length=1, max_length=1_000)] | None = None


@router.post("/subscriptions", summary="Subscribe a webhook", status_code=201)
def subscribe(caller: Managing, site: SiteOf, body: Subscribe) -> dict[str, Any]:
    """To what comes from now on. The answer holds the secret that deliveries are signed with, this once."""
    require_hosted(site, caller.department)
    wanted = _wanted(frozenset(body.events), body.types, body.inspection, body.case)
    made, secret = service.create(site, caller, body.url, wanted)
    return _subscription_json(site, made) | {"secret": secret}


@router.get("/subscriptions", summary="List the department's subscriptions")
def list_subscriptions(caller: Managing, site: SiteOf) -> dict[str, Any]:
    """With what was delivered, what waits and what is dead."""
    with site.database.reading() as connection:
        found = service.list_for(connection, caller.department)
    return {"items": [_subscription_json(site, each) for each in found]}


@router.get("/subscriptions/{subscription}", summary="One subscription")
def get_subscription(caller: Managing, site: SiteOf, subscription: Id) -> dict[str, Any]:
    """Likewise."""
    return _subscription_json(site, service.find(site.database, caller.department, subscription))


@router.delete("/subscriptions/{subscription}", summary="End a subscription", status_code=204)
def unsubscribe(caller: Managing, site: SiteOf, subscription: Id) -> Response:
    """With what is outstanding."""
    service.remove(site.database, caller.department, subscription)
    return Response(status_code=204)


@router.post("/subscriptions/{subscription}/enable", summary="Let a disabled subscription go on")
def enable(caller: Managing, site: SiteOf, subscription: Id) -> dict[str, Any]:
    """One whose target answered 410; it goes on in the log where it stopped."""
    return _subscription_json(site, service.enable(site.database, caller.department, subscription))


@router.get("/subscriptions/{subscription}/dead", summary="List dead letters")
def dead(
    caller: Managing,
    site: SiteOf,
    subscription: Id,
    cursor: Annotated[str | None, Query(pattern="^[0-9]{1,18}-[0-9]$", description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> dict[str, Any]:
    """Events that the target did not take after so many attempts, in the log's order, with the last failure."""
    found = service.find(site.database, caller.department, subscription)
    after = _place(cursor) if cursor is not None else (-1, 0)
    with site.database.reading() as connection:
        letters = service.dead_letters(connection, found.id, after, limit + 1)
    following = letters[limit - 1].event if len(letters) > limit else None
    return {"items": [_delivery_json(each) for each in letters[:limit]], "next": following}


@router.post("/subscriptions/{subscription}/dead/replay", summary="Try dead letters again")
def replay(caller: Managing, site: SiteOf, subscription: Id, body: Replay) -> dict[str, Any]:
    """Under the same webhook-ids, from the first attempt on."""
    found = service.find(site.database, caller.department, subscription)
    places = None if body.events is None else [_place(each) for each in body.events]
    return {"replayed": service.replay(site.database, found.id, places)}


@router.get(
    "/events",
    summary="Events of the department, as they come",
    response_class=StreamingResponse,
    responses={200: {"content": {EVENT_STREAM: {"schema": _EVENT}}, "description": "server-sent events"}},
)
async def events(
    caller: Listening,
    site: SiteOf,
    request: Request,
    events: Annotated[list[EventName] | None, Query(max_length=20)] = None,
    types: Annotated[list[RecordTypeName] | None, Query(max_length=100)] = None,
    inspection: Annotated[str | None, Query(max_length=100)] = None,
    case: Annotated[str | None, Query(max_length=100)] = None,
    seconds: Annotated[int, Query(ge=1, le=MAX_SECONDS, description="after which it ends")] = MAX_SECONDS,
    last_event_id: Annotated[str | None, Header(pattern="^[0-9]{1,18}-[0-9]$")] = None,
) -> StreamingResponse:
    """Server-sent events whose data are CloudEvents. With Last-Event-ID everything since, without it from now on."""
    wanted = _wanted(frozenset(events or EVENTS), types, inspection, case)
    require_hosted(site, caller.department)
    site.streams.require_room(caller.department)
    place = _place(last_event_id) if last_event_id else await anyio.to_thread.run_sync(_now, site, caller.department)
    may_go_on = partial(site.authenticator.still, caller, session_token(request))
    lines = site.streams.lines(caller.department, wanted, place, seconds, may_go_on)
    return StreamingResponse(lines, media_type=EVENT_STREAM)


def _now(site: Site, department: str) -> tuple[int, int]:
    with site.database.reading() as connection:
        return newest(connection, department)


def _place(text: str) -> tuple[int, int]:
    place = parse_id(text)
    if place is None:
        raise Problem("bad-request", "an event's id is a position and a number", field="id")
    return place


def _wanted(events: frozenset[str], types: list[str] | None, inspection: str | None, case: str | None) -> Wanted:
    if inspection is not None and case is not None:
        raise Problem("bad-request", "name an inspection or a case, not both", field="case")
    claim = "inspection" if inspection is not None else "case" if case is not None else None
    return Wanted(events, None if types is None else frozenset(types), claim, inspection or case)


def _subscription_json(site: Site, found: Subscription) -> dict[str, Any]:
    with site.database.reading() as connection:
        waiting, given_up = service.outstanding(connection, found.id)
    wanted, at = found.wanted, found.delivered_at
    return {
        "id": found.id,
        "url": found.url,
        "events": sorted(wanted.events),
        "types": None if wanted.types is None else sorted(wanted.types),
        "inspection": wanted.number if wanted.claim == "inspection" else None,
        "case": wanted.number if wanted.claim == "case" else None,
        "state": found.state,
        "created_at": instant(found.created_at),
        "delivered": found.delivered,
        "delivered_at": None if at is None else instant(at),
        "waiting": waiting,
        "dead": given_up,
    }


def _delivery_json(delivery: Delivery) -> dict[str, Any]:
    at = delivery.failed_at
    return {
        "event": delivery.event,
        "attempts": delivery.attempts,
        "code": delivery.code,
        "failed_at": None if at is None else instant(at),
    }
