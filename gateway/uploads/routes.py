"""`/v1/uploads`: files of any size in pieces, resumable after every cut (tus 1.0.0 with creation, expiration and
termination). A finished upload becomes an attachment when a record names it.

Every piece is one signed request, so it has at most the bytes that a request may have; any number of pieces follow.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Request
from starlette.responses import Response

from gateway.access import RawBody, allow
from gateway.caller import OFFICER, SYSTEM, TERMINAL, Caller
from gateway.guarded import Guarded
from gateway.problems import Problem
from gateway.site import SiteOf
from gateway.uploads import service
from gateway.uploads.service import EXTENSIONS, MEDIA_TYPE, TUS

router = APIRouter(prefix="/v1/uploads", tags=["uploads"], route_class=Guarded)

_UPLOADERS = (SYSTEM, TERMINAL, OFFICER)
Uploader = Annotated[Caller, allow(*_UPLOADERS)]
UploadId = Annotated[str, Path(description="the upload's id", max_length=32)]
Version = Annotated[str | None, Header(alias="Tus-Resumable", description=TUS)]

_BYTES = {
    "requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}


@router.options(
    "", status_code=204, summary="What uploads can do", response_class=Response, dependencies=[allow(*_UPLOADERS)]
)
def options(site: SiteOf) -> Response:
    """The protocol's versions and extensions, and the most bytes that a file may have."""
    limit = str(site.node.uploads.limits.file_bytes)
    return Response(
        status_code=204,
        headers={"Tus-Resumable": TUS, "Tus-Version": TUS, "Tus-Extension": EXTENSIONS, "Tus-Max-Size": limit},
    )


@router.post("", status_code=201, summary="Begin an upload", response_class=Response)
def begin(
    caller: Uploader,
    site: SiteOf,
    version: Version = None,
    length: Annotated[str | None, Header(alias="Upload-Length", description="bytes of the whole file")] = None,
    metadata: Annotated[
        str | None,
        Header(alias="Upload-Metadata", description="`sha256 <base64 of the hex digest>`, checked at the end"),
    ] = None,
) -> Response:
    """`Location` is where the bytes go, its last part the upload's id. A terminal's uploads are ciphertext."""
    service.require_version(version)
    upload = service.begin(site.node.uploads, caller, length, metadata)
    return Response(status_code=201, headers={"Location": f"/v1/uploads/{upload.id}", **service.fields_of(upload)})


@router.head("/{upload}", summary="Where an upload stands", response_class=Response)
def head(caller: Uploader, site: SiteOf, upload: UploadId, version: Version = None) -> Response:
    """`Upload-Offset` bytes are durable; go on from there."""
    service.require_version(version)
    return Response(headers=service.fields_of(service.find(site.node.uploads, caller, upload)))


@router.patch(
    "/{upload}", status_code=204, summary="Append to an upload", response_class=Response, openapi_extra=_BYTES
)
def append(
    caller: Uploader,
    site: SiteOf,
    request: Request,
    upload: UploadId,
    body: RawBody,
    version: Version = None,
    offset: Annotated[str | None, Header(alias="Upload-Offset", description="where this piece begins")] = None,
) -> Response:
    """Durable when answered. 409 says where the upload stands when the piece begins elsewhere."""
    service.require_version(version)
    if request.headers.get("content-type") != MEDIA_TYPE:
        raise Problem("unsupported-media-type", f"a piece has the media type {MEDIA_TYPE}")
    found = service.append(site.node.uploads, caller, upload, offset, body)
    return Response(status_code=204, headers=service.fields_of(found))


@router.delete("/{upload}", status_code=204, summary="Cancel an upload", response_class=Response)
def cancel(caller: Uploader, site: SiteOf, upload: UploadId, version: Version = None) -> Response:
    """Throws away what came."""
    service.require_version(version)
    service.cancel(site.node.uploads, caller, upload)
    return Response(status_code=204, headers={"Tus-Resumable": TUS})
