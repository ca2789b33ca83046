"""`…/{number}/dossier`, on inspections and on cases alike."""
# no `from __future__ import annotations` here, see gateway/proceedings/routes.py

from collections.abc import Iterator
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import StreamingResponse

from gateway.access import allow
from gateway.caller import ADMIN, AUDITOR, COORDINATOR, OFFICER, REVIEWER, SUPERVISOR, SYSTEM, Caller
from gateway.dossiers.service import present, read_dossier
from gateway.dossiers.views import dossier_json, shown_json
from gateway.problems import problem_of
from gateway.proceedings import service as proceedings
from gateway.proceedings.consortium import verifier_of
from gateway.proceedings.forms import Form
from gateway.proceedings.reading import Proceeding
from gateway.site import Site, SiteOf
from ledger.errors import YunxiError

NDJSON = "application/x-ndjson"

Seeing = Annotated[Caller, allow(OFFICER, SUPERVISOR, REVIEWER, ADMIN, COORDINATOR, AUDITOR, SYSTEM)]
Opening = Annotated[Caller, allow(OFFICER, SUPERVISOR, REVIEWER, SYSTEM)]
Purpose = Annotated[str | None, Query(max_length=200, pattern=r"^[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$")]


def add_dossier(router: APIRouter, form: Form) -> None:
    """Adds the two routes to a form's own."""

    @router.get("/{number}/dossier", summary="What arrived, from whom, and what is missing")
    def dossier(
        caller: Seeing,
        site: SiteOf,
        number: str,
        lead: str | None = None,
        cursor: Annotated[str | None, Query(pattern="^[0-9]{1,18}$", description="`next` of the page before")] = None,
        limit: Annotated[int | None, Query(ge=1, le=10_000)] = None,
    ) -> dict[str, Any]:
        """The caller's department's dossier, without contents: entries, counts, and how far each participant is."""
        found = proceedings.look(site, form, caller, number, lead)
        size = min(limit or site.settings.page_size, site.settings.max_page_size)
        with site.database.reading() as connection:
            read = read_dossier(connection, caller.department, found, int(cursor or -1), size)
        return dossier_json(read, site.clock())

    @router.get(
        "/{number}/dossier/presentations",
        summary="The presentations that arrived, verified again",
        response_class=StreamingResponse,
        responses={200: {"content": {NDJSON: {}}, "description": "one JSON object a line, the last says `end`"}},
    )
    def presentations(
        caller: Opening,
        site: SiteOf,
        request: Request,
        number: str,
        lead: str | None = None,
        purpose: Purpose = None,
    ) -> StreamingResponse:
        """Every record of the dossier that came from elsewhere; each reading is logged before its lines are sent."""
        found = proceedings.look(site, form, caller, number, lead)
        return StreamingResponse(_lines(site, caller, found, request.state.request_id, purpose), media_type=NDJSON)


def _lines(site: Site, caller: Caller, found: Proceeding, request_id: str, purpose: str | None) -> Iterator[bytes]:
    count = 0
    verifier = verifier_of(site)
    try:
        for shown in present(site, caller, found, verifier, request_id, purpose):
            count += 1
            yield orjson.dumps(shown_json(shown)) + b"\n"
    except YunxiError as error:
        # the answer has begun: its last line says that it is not whole
        yield orjson.dumps({"problem": problem_of(error).code, "records": count}) + b"\n"
        return
    yield orjson.dumps({"end": True, "records": count, "signatures_checked": verifier is not None}) + b"\n"
