"""Attachments where they lie: which blob, under which key, and how they are opened and named when they do not open.

A file that came with its record is sealed under the record's data key. One that was uploaded before its record was
known is sealed under a stream key of its own, which stands beside the blob's name, wrapped by the record's data key:
the bytes stay as they are when the record takes them, and forgetting the record forgets them too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, LargeBinary, String, cast, select

from ledger.crypto.stream import open_stream, unwrap_stream_key
from ledger.errors import PayloadInvalid, RecordRefused, Refusal
from ledger.store.blobs import CHUNK_BYTES, Blobs
from ledger.store.models import attachments
from ledger.submission import AttachmentSource, Submission, UploadedSource


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """What a record's row says of one attachment. `wrapped_key`: 40 bytes where the stream has a key of its own, None
    where it is sealed under the record's data key. `upload`: the upload that the record takes with this, if any."""

    name: str
    wrapped_key: bytes | None = None
    upload: str | None = None


def attachment_context(record_id: str, number: int) -> bytes:
    """What binds an attachment's ciphertext to its place: `number` counts from 1 within the record."""
    return f"yunxi attachment v1\x1f{record_id}\x1f{number}".encode()


def upload_context(upload: str) -> bytes:
    """What binds an upload's ciphertext to its blob, whose name is the upload's id."""
    return f"yunxi upload v1\x1f{upload}".encode()


def find_blob(connection: Connection, position: int, number: int) -> StoredBlob | None:
    """The blob of attachment `number` (from 1) of the entry at `position`; None where there is no row."""
    here = (attachments.c.position == position) & (attachments.c.ordinal == number)
    # SQLite gives back whatever type was put there, and the audit must live to name it
    row = connection.execute(
        select(cast(attachments.c.blob, String), cast(attachments.c.wrapped_key, LargeBinary)).where(here)
    ).one_or_none()
    return None if row is None else StoredBlob(*row)


def list_blobs(connection: Connection, position: int) -> list[StoredBlob]:
    """The blobs of the entry at `position`, in order, as `find_blob` gives them."""
    numbers = connection.scalars(
        select(attachments.c.ordinal).where(attachments.c.position == position).order_by(attachments.c.ordinal)
    ).all()
    return [blob for number in numbers if (blob := find_blob(connection, position, number)) is not None]


def open_attachment(blobs: Blobs, blob: StoredBlob, data_key: bytes, record_id: str, number: int) -> Iterator[bytes]:
    """The plaintext, in pieces of 1 MiB; what was yielded before an error is authentic but incomplete.

    `data_key`: the record's, 32 bytes. Raises PayloadInvalid naming record, attachment, blob and segment. That size and
    digest are those of the record's disclosure is not checked here.
    """
    place = attachment_context(record_id, number)
    try:
        key, context = data_key, place
        if blob.wrapped_key is not None:
            key, context = unwrap_stream_key(data_key, blob.wrapped_key, place), upload_context(blob.name)
        yield from open_stream(key, blobs.get(blob.name), context)
    except Refusal as error:
        raise PayloadInvalid(f"attachment {number} of record {record_id} (blob {blob.name}): {error}") from error


def describe(submission: Submission) -> list[dict[str, Any]]:
    """The members `attachments` of the record: files first, each read and hashed, then uploads as they are declared.

    Raises RecordRefused (`attachments`) for a file that cannot be read.
    """
    return [*map(_describe_file, submission.attachments), *map(_describe_upload, submission.uploads)]


def unchanged(source: AttachmentSource, described: dict[str, Any]) -> Iterator[bytes]:
    """The file's bytes. Raises RecordRefused (`attachments`) at the end where they are not what was described."""
    digest = hashlib.sha256()
    for chunk in _read(source.path):
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != described["sha256"]:
        raise RecordRefused(
            "attachments", f"attachment {source.name} changed while it was read; submit the record again"
        )


def _describe_file(source: AttachmentSource) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    for chunk in _read(source.path):
        digest.update(chunk)
        size += len(chunk)
    return _members(source, size, digest.hexdigest())


def _describe_upload(source: UploadedSource) -> dict[str, Any]:
    return _members(source, source.size, source.sha256)


def _members(source: AttachmentSource | UploadedSource, size: int, sha256: str) -> dict[str, Any]:
    members = {"name": source.name, "media_type": source.media_type, "size": size, "sha256": sha256}
    return members if source.role is None else {**members, "role": source.role}


def _read(path: Path | bytes) -> Iterator[bytes]:
    if isinstance(path, bytes):
        yield path
        return
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise RecordRefused("attachments", f"attachment {path.name} cannot be read: {error.strerror}") from error
