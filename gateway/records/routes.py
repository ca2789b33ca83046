"""`/v1/records`: a department's own records, in and out."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from gateway.access import allow
from gateway.caller import ADMIN, AUDITOR, OFFICER, REVIEWER, SUPERVISOR, SYSTEM, Caller
from gateway.direct import Direct
from gateway.guarded import Guarded
from gateway.problems import Problem
from gateway.records import service
from gateway.records.schemas import SUBMISSIONS, Outcomes, RecordPage, RecordShown
from gateway.site import SiteOf
from ledger.errors import RequestRefused
from ledger.submission import Acknowledged

router = APIRouter(prefix="/v1/records", tags=["records"], route_class=Guarded)
submitting = APIRouter(prefix="/v1/records", tags=["records"], route_class=Direct)

JSON = "application/json"
_READERS = frozenset({SYSTEM, OFFICER, SUPERVISOR, REVIEWER, ADMIN})

Submitter = Annotated[Caller, allow(SYSTEM, takes_nonce=False)]
Reader = Annotated[Caller, allow(*_READERS)]
ReaderOrAuditor = Annotated[Caller, allow(*_READERS, AUDITOR)]

RecordId = Annotated[str, Path(description="the record's id", max_length=36)]
Purpose = Annotated[
    str | None,
    Query(
        description="what for; goes into the log",
        max_length=200,
        pattern=r"^[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$",
    ),
]


@submitting.post(
    "",
    summary="Submit records",
    responses={200: {"model": Outcomes, "description": "One outcome for each submission"}},
    openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": SUBMISSIONS}}}},
)
async def submit(caller: Submitter, site: SiteOf, request: Request) -> Response:
    """Up to 1,000 submissions of the caller's department; one outcome for each, in order, once all are durable.

    A refused submission does not hold up the others. What was not answered may be sent again under the same keys.
    """
    try:
        submissions = service.parse_submissions(await request.body())
    except Problem:
        await site.authenticator.take_nonce(request)  # no transaction will
        raise
    try:
        outcomes = await site.intake.submit_async(caller.department, submissions, request.state.nonce)
    except RequestRefused as refusal:
        raise await site.authenticator.refused(request, refusal) from refusal
    taken = sum(isinstance(outcome, Acknowledged) for outcome in outcomes)
    site.metrics.records.labels(caller.department, "acknowledged").inc(taken)
    site.metrics.records.labels(caller.department, "refused").inc(len(outcomes) - taken)
    return _json({"outcomes": [service.outcome_json(outcome) for outcome in outcomes]})


@router.get("", summary="List records", responses={200: {"model": RecordPage}})
def records(
    caller: ReaderOrAuditor,
    site: SiteOf,
    cursor: Annotated[str | None, Query(max_length=15, description="`next` of the page before")] = None,
    limit: Annotated[int | None, Query(ge=1, le=1_000, description="how many at the most")] = None,
    key: Annotated[str | None, Query(min_length=1, max_length=200, description="only the one of this key")] = None,
) -> Response:
    """The records of the caller's department, newest first, without their content."""
    size = site.settings.page_size if limit is None else min(limit, site.settings.max_page_size)
    return _json(service.list_page(site, caller, cursor, size, key))


@router.get("/{record_id}", summary="Read a record", responses={200: {"model": RecordShown}})
def record(
    caller: ReaderOrAuditor, site: SiteOf, request: Request, record_id: RecordId, purpose: Purpose = None
) -> Response:
    """A record of the caller's department, whole. That it was read is in the log before the answer; who is an auditor
    only sees the statement, with every unit withheld, and leaves no trace because nothing was shown."""
    if caller.roles & _READERS:
        return _json(service.read_record(site, caller, record_id, purpose, request.state.request_id))
    return _json(service.read_statement(site, caller, record_id))


@router.get(
    "/{record_id}/receipt",
    summary="The receipt of a record",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "C2SP tlog-proof"}},
)
def receipt(caller: ReaderOrAuditor, site: SiteOf, record_id: RecordId) -> Response:
    """The proof that the record is in the log, for anyone to check offline. Better once the record is anchored."""
    return Response(service.read_receipt(site, caller, record_id), media_type="text/plain")


@router.get(
    "/{record_id}/attachments/{number}",
    summary="An attachment of a record",
    response_class=Response,
    responses={
        200: {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}, "description": "the file"}
    },
)
def attachment(
    caller: Reader,
    site: SiteOf,
    request: Request,
    record_id: RecordId,
    number: Annotated[int, Path(ge=1, le=50, description="from 1")],
    purpose: Purpose = None,
) -> Response:
    """A sealed file, decrypted. That it was read is in the log before the answer."""
    file = service.read_attachment(site, caller, record_id, number, purpose, request.state.request_id)
    # characters that turn the direction of writing would show another ending than the file has
    name = "".join(each if each.isprintable() else "_" for each in file.name)
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Length": str(file.size),
    }
    return StreamingResponse(file.pieces, 200, headers, file.media_type)


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type=JSON)
