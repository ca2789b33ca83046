"""The routes of one form of proceeding; `gateway/inspections` and `gateway/cases` say which."""
# no `from __future__ import annotations` here: FastAPI must see the models that the factory is given

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response

from gateway.access import allow
from gateway.caller import ADMIN, AUDITOR, COORDINATOR, OFFICER, PEER, REVIEWER, SUPERVISOR, SYSTEM, Caller
from gateway.dossiers.routes import add_dossier
from gateway.guarded import Guarded
from gateway.proceedings import reading, service
from gateway.proceedings.forms import Form
from gateway.proceedings.reading import Proceeding
from gateway.proceedings.views import AttachRecord, Body, ChangeParticipants, Search, proceeding_json
from gateway.site import Site, SiteOf
from ledger.crypto.blind import blind_index
from ledger.formats.identifiers import normalise

Acting = Annotated[Caller, allow(OFFICER, SUPERVISOR, SYSTEM)]
Reading = Annotated[Caller, allow(OFFICER, SUPERVISOR, REVIEWER, ADMIN, COORDINATOR, AUDITOR, SYSTEM, PEER)]
Cursor = Annotated[str | None, Query(pattern="^[0-9]{1,18}$", description="`next` of the page before")]
Limit = Annotated[int | None, Query(ge=1, le=10_000, description="how many at the most")]
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", description="1 to 64 visible characters")]


def router_of(form: Form, opening: type[Body], closing: type[Body]) -> APIRouter:
    """Open, list, search, look, attach, change participants, close."""
    router = APIRouter(prefix=form.path, tags=[form.path.rpartition("/")[2]], route_class=Guarded)

    @router.post("", summary=f"Open: seal {form.opened}", status_code=201)
    def open_one(
        caller: Acting,
        site: SiteOf,
        body: opening,  # type: ignore[valid-type]
        response: Response,
        idempotency_key: IdempotencyKey = None,
    ) -> dict[str, Any]:
        """Opened under the number given or the next one; 200 where this Idempotency-Key opened it before."""
        members = body.model_dump(exclude_none=True)  # type: ignore[attr-defined]
        number = members.pop("number", None)
        found, new = service.open_proceeding(site, form, caller, members, number, idempotency_key)
        response.status_code = 201 if new else 200
        return proceeding_json(form, found)

    @router.get("", summary="List those that the caller's department leads or takes part in")
    def list_them(
        caller: Reading,
        site: SiteOf,
        state: Literal["open", "closed"] | None = None,
        cursor: Cursor = None,
        limit: Limit = None,
    ) -> dict[str, Any]:
        """In the order of opening; `next` is the `cursor` of the next page, null on the last."""
        return _page(site, form, caller, Search(state=state, cursor=cursor, limit=limit))

    @router.post("/search", summary="List those that concern a subject")
    def search(caller: Reading, site: SiteOf, body: Search) -> dict[str, Any]:
        """As the list, by subject: an identifier never stands in a URL."""
        return _page(site, form, caller, body)

    @router.get("/{number}", summary="One of them, with the records attached to it")
    def look(caller: Reading, site: SiteOf, number: str, lead: str | None = None) -> dict[str, Any]:
        """`lead` says whose, where several departments use the same number."""
        return _view(site, form, service.look(site, form, caller, number, lead))

    @router.post("/{number}/records", summary="Attach a record: seal record.attached", status_code=201)
    def attach(caller: Acting, site: SiteOf, number: str, body: AttachRecord, response: Response) -> dict[str, Any]:
        """200 where it was attached before."""
        found, new = service.attach(site, form, caller, number, body.record, body.owner, body.leaf, body.note)
        response.status_code = 201 if new else 200
        return _view(site, form, found)

    @router.post("/{number}/participants", summary="Let departments join or leave, by an amending record")
    def change_participants(caller: Acting, site: SiteOf, number: str, body: ChangeParticipants) -> dict[str, Any]:
        """The lead's alone; what is so already is not done again."""
        return _view(site, form, service.change_participants(site, form, caller, number, body.join, body.leave))

    @router.post("/{number}/close", summary=f"Close: seal {form.closed}")
    def close(
        caller: Acting,
        site: SiteOf,
        number: str,
        body: closing,  # type: ignore[valid-type]
        idempotency_key: IdempotencyKey = None,
    ) -> dict[str, Any]:
        """The lead's alone; a second closing is refused, unless it repeats this Idempotency-Key."""
        members = body.model_dump(exclude_none=True)  # type: ignore[attr-defined]
        return _view(site, form, service.close(site, form, caller, number, members, idempotency_key)[0])

    add_dossier(router, form)
    return router


def _page(site: Site, form: Form, caller: Caller, wanted: Search) -> dict[str, Any]:
    limit = min(wanted.limit or site.settings.page_size, site.settings.max_page_size)
    subject = None
    if wanted.subject is not None:
        kind = wanted.subject.kind
        subject = blind_index(site.node.agent.index_key(), kind, normalise(kind, wanted.subject.value))
    site.projector.catch_up()
    with site.database.reading() as connection:
        found = reading.list_for(
            connection,
            form.kind,
            caller.department,
            is_open=None if wanted.state is None else wanted.state == "open",
            subject=subject,
            after=int(wanted.cursor or -1),
            limit=limit + 1,
        )
    following = str(found[limit - 1].position) if len(found) > limit else None
    return {"items": [proceeding_json(form, each) for each in found[:limit]], "next": following}


def _view(site: Site, form: Form, found: Proceeding) -> dict[str, Any]:
    with site.database.reading() as connection:
        return proceeding_json(form, found, reading.attached_to(connection, found))
