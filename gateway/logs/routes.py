"""`/v1/logs/{department}/…`: a log's prefix in the words of C2SP tlog-tiles.

Checkpoints and hash tiles are for everybody: they hold nothing but hashes. Entries are statements, blinded but with
types, numbers and blind indexes in the clear, so they are for auditors and members.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from gateway.access import allow, public
from gateway.caller import AUDITOR, PEER, SYSTEM, Caller
from gateway.guarded import Guarded
from gateway.logs import service
from gateway.site import SiteOf

router = APIRouter(prefix="/v1/logs", tags=["logs"], route_class=Guarded)

Anybody = Annotated[Caller | None, public()]
Member = Annotated[Caller, allow(AUDITOR, PEER, SYSTEM)]
Department = Annotated[str, Path(pattern="^[a-z][a-z0-9-]{1,30}$", description="a department of this node")]
Rest = Annotated[str, Path(max_length=80, description="index, in groups of three digits, with .p/WIDTH if partial")]

_BYTES = "application/octet-stream"


@router.get(
    "/{department}/checkpoint",
    summary="The newest checkpoint",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "a signed note"}},
)
def checkpoint(_: Anybody, site: SiteOf, department: Department) -> Response:
    """A C2SP tlog-checkpoint with its cosignatures."""
    return Response(
        service.newest_checkpoint(site, department), headers=_NO_STORE, media_type="text/plain; charset=utf-8"
    )


@router.get(
    "/{department}/tile/entries/{rest:path}",
    summary="A bundle of up to 256 entries",
    response_class=Response,
    responses={
        200: {"content": {_BYTES: {"schema": {"type": "string", "format": "binary"}}}, "description": "entries"}
    },
)
def entries(_: Member, site: SiteOf, department: Department, rest: Rest) -> Response:
    """The statements, each behind its length."""
    return _tile(*service.tile(site, department, f"tile/entries/{rest}"))


@router.get(
    "/{department}/tile/{level}/{rest:path}",
    summary="A tile of up to 256 hashes",
    response_class=Response,
    responses={200: {"content": {_BYTES: {"schema": {"type": "string", "format": "binary"}}}, "description": "hashes"}},
)
def tile(
    _: Anybody,
    site: SiteOf,
    department: Department,
    level: Annotated[str, Path(pattern="^[0-9]{1,2}$", description="0 for leaves")],
    rest: Rest,
) -> Response:
    """Hashes of 32 bytes, from left to right."""
    return _tile(*service.tile(site, department, f"tile/{level}/{rest}"))


_NO_STORE = {"Cache-Control": "no-store"}


def _tile(data: bytes, full: bool) -> Response:
    headers = {"Cache-Control": "public, max-age=31536000, immutable"} if full else _NO_STORE
    return Response(data, headers=headers, media_type=_BYTES)
