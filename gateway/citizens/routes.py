"""`/c`: the page behind the code on a served decision, and what it asks for; and the codes themselves.

The page and the decision are for everybody who holds a token. Who guesses tokens finds nothing in the life of the
universe; who asks too often from one address waits.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Request
from pydantic import Field
from starlette.responses import Response

from gateway.access import allow, public
from gateway.caller import OFFICER, SUPERVISOR, SYSTEM, Caller
from gateway.citizens import links
from gateway.citizens.links import Link
from gateway.citizens.page import citizens_page
from gateway.citizens.reading import Served, served
from gateway.guarded import Guarded
from gateway.operations.remote import address_of
from gateway.peers.directory import PeerDirectory
from gateway.problems import Problem
from gateway.proceedings.views import Body
from gateway.records.schemas import RecordId as RecordIdText
from gateway.records.service import instant
from gateway.site import SiteOf, require_hosted
from ledger.errors import ChainUnreachable, CouldNotRun
from ledger.paper.qr import QrCode

router = APIRouter(tags=["citizens"], route_class=Guarded)

Anybody = Annotated[Caller | None, public()]
Issuer = Annotated[Caller, allow(OFFICER, SUPERVISOR, SYSTEM)]
RecordId = Annotated[UUID, Path(description="the id of a decision")]
LinkId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="the id of a link, which opens nothing")]

_PAGE: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}


class Asked(Body):
    """The token of a code."""

    token: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{21}[AQgw]$", description="16 bytes, base64url")]


class Bound(Body):
    """The decision that a code leads to."""

    record: RecordIdText


class NewLink(Body):
    """Where people reach the node, and the decision if it is sealed already."""

    record: RecordIdText | None = None
    address: Annotated[str, Field(max_length=200, pattern=r"^https://[^\x00-\x20/?#@]+/?$")]


@router.get(links.PAGE, summary="The page behind the code on a decision", response_class=Response, responses=_PAGE)
def page(_: Anybody) -> Response:
    """The same page for everybody: it holds no data, loads nothing, and keeps the chosen file on the device."""
    found = citizens_page()
    headers = {"Content-Security-Policy": found.policy}
    return Response(found.html, headers=headers, media_type="text/html; charset=utf-8")


@router.post("/v1/citizens/decision", summary="A served decision, by the token of its code")
def decision(_: Anybody, site: SiteOf, request: Request, asked: Asked) -> dict[str, Any]:
    """What the decision's record says of serving and objecting, what became of it, the digests of its documents, and
    which departments had it, how often. No subject, no officer, no reason."""
    site.citizen_limits.take(address_of(request, site.settings.proxies))
    with site.database.reading() as connection:
        link = links.find_link(connection, asked.token)
    site.projector.catch_up([link.department])
    with site.database.reading() as connection:
        found = served(connection, site.node.reader, link)
    return _served_json(found, _names(site.peers, found), site.clock())


@router.post("/v1/citizen-links", status_code=201, summary="A code for a decision that is about to be served")
def make(caller: Issuer, site: SiteOf, asked: NewLink) -> dict[str, Any]:
    """A new link and its QR code (SVG), to be printed on the decision before that is sealed; without `record` it leads
    nowhere until it is bound. The token in it is told this once; earlier codes go on working."""
    require_hosted(site, caller.department)
    try:
        origin = links.origin_of(asked.address)
    except CouldNotRun as error:
        raise Problem("bad-request", str(error), field="address") from error
    with site.database.writing() as connection:
        link, token = links.make_link(connection, caller.department, caller.subject, site.clock())
        if asked.record is not None:
            link = links.bind_link(connection, caller.department, link.link, asked.record)
    url = links.link_url(origin, token)
    return _link_json(link) | {"url": url, "svg": QrCode(url).svg().decode()}


@router.put("/v1/citizen-links/{link}/record", summary="Lead a code to its decision")
def bind(caller: Issuer, site: SiteOf, link: LinkId, asked: Bound) -> dict[str, Any]:
    """Once and for good; the same again does nothing."""
    with site.database.writing() as connection:
        return _link_json(links.bind_link(connection, caller.department, link, asked.record))


@router.get("/v1/records/{record_id}/citizen-links", summary="The codes of a decision")
def show(caller: Issuer, site: SiteOf, record_id: RecordId) -> dict[str, Any]:
    """The links to a decision of the caller's department, without their tokens."""
    with site.database.reading() as connection:
        found = links.links_of(connection, caller.department, str(record_id))
    return {"links": [_link_json(each) for each in found]}


@router.delete("/v1/citizen-links/{link}", status_code=204, summary="Withdraw a code")
def revoke(caller: Issuer, site: SiteOf, link: LinkId) -> Response:
    """From now on the code says that it was withdrawn."""
    with site.database.writing() as connection:
        links.revoke_link(connection, caller.department, link, site.clock())
    return Response(status_code=204)


def _served_json(found: Served, names: dict[str, str], now: float) -> dict[str, Any]:
    return {
        "department": {"id": found.department, "name": names.get(found.department)},
        "asked_at": instant(now),
        "sealed_on": found.sealed_on,
        "forgotten": found.forgotten,
        "decision": dict(found.said),
        "status": found.status,
        "changes": [{"kind": each.kind, "on": each.on, "number": each.number} for each in found.changes],
        "documents": [
            {"number": each.number, "media_type": each.media_type, "size": each.size, "sha256": each.sha256}
            for each in found.documents
        ],
        "seen": [
            {
                "department": {"id": each.department, "name": names.get(each.department)},
                "disclosed": each.disclosed,
                "read": each.read,
                "last": each.last,
            }
            for each in found.seen
        ],
    }


def _names(peers: PeerDirectory, found: Served) -> dict[str, str]:
    """Names of the departments in an answer; none while the chain, which has them, does not answer."""
    try:
        known = {peer.id: peer.name for peer in peers.all()}
    except ChainUnreachable:
        return {}
    wanted = {found.department, *(each.department for each in found.seen)}
    return {name: known[name] for name in wanted if name in known}


def _link_json(link: Link) -> dict[str, Any]:
    return {
        "link": link.link,
        "record": link.record_id,
        "made_at": instant(link.made_at),
        "revoked_at": None if link.revoked_at is None else instant(link.revoked_at),
    }
