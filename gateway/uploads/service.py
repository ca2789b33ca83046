"""Uploads as tus 1.0.0 speaks of them: its header fields in, the ledger's uploads behind, its header fields out."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime

from gateway.caller import TERMINAL, Caller
from gateway.problems import Problem
from ledger.errors import RecordRefused
from ledger.uploads import Upload, Uploads

TUS = "1.0.0"
EXTENSIONS = "creation,expiration,termination"
MEDIA_TYPE = "application/offset+octet-stream"

_CODES = {"unknown-upload": "not-found", "upload-offset": "conflict", "upload-size": "too-large"}
_METADATA = frozenset({"sha256", "filename", "filetype"})


def begin(uploads: Uploads, caller: Caller, length: str | None, metadata: str | None) -> Upload:
    """A new upload of the caller's department. What a terminal sends is ciphertext, and is stored as it comes.

    `sha256` in the metadata is checked when the last byte has come; `filename` and `filetype`, which clients send by
    themselves, are not kept. Raises Problem `bad-request`, `too-large`, `record-refused` (`upload-limit`).
    """
    size = _number(length, "Upload-Length")
    sha256 = parse_metadata(metadata).get("sha256")
    try:
        return uploads.begin(caller.department, size, sealed=TERMINAL in caller.roles, sha256=sha256)
    except RecordRefused as error:
        raise _problem(error) from error


def find(uploads: Uploads, caller: Caller, name: str) -> Upload:
    """An upload of the caller's department. Raises Problem `not-found`; `record-refused` when its end was cut off and
    the file turns out to be another than was declared."""
    try:
        return uploads.find(caller.department, name)
    except RecordRefused as error:
        raise _problem(error) from error


def append(uploads: Uploads, caller: Caller, name: str, offset: str | None, body: bytes) -> Upload:
    """Appends a request's body; durable on return.

    Raises Problem `not-found`, `conflict` (with the `offset` that is durable), `too-large` (more than was declared),
    `record-refused` (`upload-digest`: the whole is another file than was declared, and was thrown away).
    """
    at = _number(offset, "Upload-Offset")
    try:
        return uploads.append(caller.department, name, at, [body])
    except RecordRefused as error:
        if error.reason == "upload-offset":
            raise Problem("conflict", str(error), offset=find(uploads, caller, name).received) from error
        raise _problem(error) from error


def cancel(uploads: Uploads, caller: Caller, name: str) -> None:
    """Throws an upload away. Raises Problem `not-found`."""
    try:
        uploads.cancel(caller.department, name)
    except RecordRefused as error:
        raise _problem(error) from error


def fields_of(upload: Upload) -> dict[str, str]:
    """The header fields that say how an upload stands."""
    expires = format_datetime(datetime.fromtimestamp(upload.expires_at, UTC), usegmt=True)
    return {
        "Tus-Resumable": TUS,
        "Upload-Offset": str(upload.received),
        "Upload-Length": str(upload.size),
        "Upload-Expires": expires,
    }


def parse_metadata(text: str | None) -> Mapping[str, str]:
    """The pairs of `Upload-Metadata`: `name base64,name base64,…`. Raises Problem `bad-request`."""
    found: dict[str, str] = {}
    for pair in (text or "").split(","):
        name, _, encoded = pair.strip().partition(" ")
        if not name:
            continue
        if name not in _METADATA or name in found:
            raise Problem("bad-request", "Upload-Metadata takes sha256, filename and filetype, each once")
        try:
            found[name] = base64.b64decode(encoded, validate=True).decode("utf-8")
        except ValueError as error:  # binascii's, of text that is not UTF-8, of base64 that is not ASCII
            raise Problem("bad-request", f"the value of {name} in Upload-Metadata must be base64 of text") from error
    return found


def require_version(version: str | None) -> None:
    """Raises Problem `bad-request` for another protocol than ours."""
    if version != TUS:
        raise Problem("bad-request", f"Tus-Resumable must be {TUS}")


def _number(text: str | None, name: str) -> int:
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise Problem("bad-request", f"{name} must be a number of bytes", field=name)
    return int(text)


def _problem(error: RecordRefused) -> Problem:
    code = _CODES.get(error.reason)
    return Problem(code, str(error)) if code else Problem("record-refused", str(error), reason=error.reason)
