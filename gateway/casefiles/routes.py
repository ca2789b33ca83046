"""`/v1/cases/{number}/casefile`: for the department's legal reviewers and administrators alone."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import Field
from starlette.responses import FileResponse, Response

from gateway.access import allow
from gateway.caller import ADMIN, REVIEWER, Caller
from gateway.casefiles import service
from gateway.guarded import Guarded
from gateway.proceedings.views import Body, Line, RecordId
from gateway.site import SiteOf

router = APIRouter(prefix="/v1/cases/{number}/casefile", tags=["casefiles"], route_class=Guarded)

Exporting = Annotated[Caller, allow(REVIEWER, ADMIN)]
Number = Annotated[str, Path(max_length=100, description="the case number")]
OrderId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="the order's id")]
Words = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]


class Listed(Body):
    """A row of the evidence list: the department's own words about a record."""

    record_id: RecordId
    name: Words | None = None
    purpose: Words | None = None
    source: Words | None = None
    date: Annotated[str, Field(pattern=r"^(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])$")] | None = (
        None
    )
    page: Words | None = None


class OrderCaseFile(Body):
    """What is to be in it, as `yunxi casefile export` takes it."""

    reveal: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=1000)] | None = None
    media: bool = True
    exported_for: Line | None = None
    recipient: dict[str, str] | None = Field(None, description="the court's key, a JWK: seal it to that key")
    evidence: Annotated[list[Listed], Field(max_length=100_000)] | None = None
    at: Annotated[int, Field(ge=1)] | None = None


@router.post("", summary="Order a case file", status_code=202)
def order(caller: Exporting, site: SiteOf, request: Request, number: Number, body: OrderCaseFile) -> dict[str, Any]:
    """It is made in the background. That it was made will be a record of the case, with the caller's account."""
    wanted = body.model_dump(exclude_none=True)
    return service.order_json(service.order(site, caller, number, wanted, request.state.request_id))


@router.get("/{order_id}", summary="How an order stands")
def look(caller: Exporting, site: SiteOf, number: Number, order_id: OrderId) -> dict[str, Any]:
    """`state`: waiting, making, ready, or failed with `code` and `detail`."""
    return service.order_json(service.find(site, caller, number, order_id))


@router.get(
    "/{order_id}/file",
    summary="The case file",
    response_class=Response,
    responses={
        200: {
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            "description": "the file; with `Range` a part of it (206)",
        }
    },
)
def fetch(caller: Exporting, site: SiteOf, number: Number, order_id: OrderId) -> Response:
    """A zip, or sealed to the court's key. A download that was cut off goes on with `Range`."""
    row = service.find(site, caller, number, order_id)
    sealed = service.is_sealed(row)
    name = f"{order_id}.yunxi-sealed" if sealed else f"{order_id}.zip"
    media_type = "application/octet-stream" if sealed else "application/zip"
    return FileResponse(service.file_of(site, row), media_type=media_type, filename=name)
