"""`/v1/sealed-records` and `/v1/time`: what terminals need of their node, beside `/v1/uploads`."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter
from starlette.responses import Response

from gateway.access import RawBody, allow, public
from gateway.caller import TERMINAL, Caller
from gateway.guarded import Guarded
from gateway.site import SiteOf
from ledger.sealed_format import encode_outcomes
from ledger.submission import Acknowledged

router = APIRouter(prefix="/v1", tags=["terminals"], route_class=Guarded)

_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"description": "One outcome for each", "content": {"application/json": {"schema": {"type": "object"}}}}
}
_TIME: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"schema": {"type": "object", "example": {"now_ms": 1_772_414_100_000}}}}}
}


@router.post(
    "/sealed-records",
    summary="Submit what a terminal sealed",
    response_class=Response,
    responses=_ANSWER,
    openapi_extra=_BODY,
)
async def submit(caller: Annotated[Caller, allow(TERMINAL)], site: SiteOf, body: RawBody) -> Response:
    """Up to 500 records that the node cannot read; one outcome for each, in order, once all are durable."""
    outcomes = await site.terminals.submit(caller.department, caller.subject, body)
    taken = sum(isinstance(outcome, Acknowledged) for outcome in outcomes)
    site.metrics.records.labels(caller.department, "acknowledged").inc(taken)
    site.metrics.records.labels(caller.department, "refused").inc(len(outcomes) - taken)
    return Response(encode_outcomes(outcomes), media_type="application/json")


@router.get("/time", summary="What time is it here?", response_class=Response, responses=_TIME)
def time(_: Annotated[Caller | None, public()], site: SiteOf) -> Response:
    """`{"now_ms": n}`, milliseconds since 1970. For anybody: whose clock is wrong cannot sign a request in force."""
    return Response(orjson.dumps({"now_ms": int(site.clock() * 1000)}), media_type="application/json")
