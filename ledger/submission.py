"""What goes into intake and what comes back: the only words that adapters, terminals and the gateway share with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ledger.errors import RecordRefused

MAX_KEY_CHARS = 200

SERVICE_KEYS = "yunxi:"
"""What the keys of the service's own records begin with in a log, and no key that is handed in."""


@dataclass(frozen=True, slots=True)
class AttachmentSource:
    """A file to be sealed with its record; read in constant memory while the batch is taken in. `role` says what it is
    to the record where that is more than one of its files, e.g. `thumbnail`. `path` is where it lies, or its bytes
    where they are at hand and few."""

    path: Path | bytes
    name: str
    media_type: str
    role: str | None = None


@dataclass(frozen=True, slots=True)
class UploadedSource:
    """A file that was uploaded before (`ledger.uploads`). Size and SHA-256 (hex) are the submitter's own figures of the
    file, so that a submission that comes again is recognised when the upload is long gone."""

    upload: str
    name: str
    media_type: str
    size: int
    sha256: str
    role: str | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """One record on its way in.

    `key` is the submitter's idempotency key, unique within the department: the same key with the same content always
    yields the same record, with other content a Conflict. `record` is the plaintext record; `id` may be left out
    (intake draws a UUIDv7), `department` must be the department that intake was called for. `uploads` become the
    attachments behind the files. `by_service`: the service itself says it, not a department's system, terminal or
    officer; only then may the type be one that the service alone seals. Its `key` has a name space of its own.
    """

    key: str
    record: dict[str, Any]
    attachments: tuple[AttachmentSource, ...] = field(default=())
    uploads: tuple[UploadedSource, ...] = field(default=())
    by_service: bool = False

    @property
    def stored_key(self) -> str:
        """The key that the log has it under."""
        return service_key(self.key) if self.by_service else self.key


def service_key(key: str) -> str:
    """The key that the log has a record under which the service submitted as `key`."""
    return SERVICE_KEYS + key


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The record is durable and has its place in the log, under `key` there. `new` is False where the key was known
    already."""

    key: str
    record_id: str
    index: int
    new: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """The record was not taken; the others of its batch were."""

    key: str
    error: RecordRefused


Outcome = Acknowledged | Refused


@dataclass(frozen=True, slots=True)
class Held:
    """What the log holds under a key already. `same`: with the content of the submission that asks."""

    record_id: str
    index: int
    same: bool


_NOT_CONTENT = ("id", "source")
"""Members that may differ between two deliveries of the same content: the drawn id, and which mapping read the row."""


def content_of(record: Mapping[str, Any]) -> bytes:
    """The JSON that tells whether two records have the same content: sorted, without `id` and `source`. Raises
    RecordRefused, reason `not-json`."""
    content = dict(record)
    for name in _NOT_CONTENT:
        content.pop(name, None)
    try:
        return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise RecordRefused("not-json", f"the record is not JSON: {error}") from error


Submit = Callable[[Sequence[Submission]], list[Outcome]]
"""Takes a batch of one department; one outcome per submission, in order. Raises CouldNotRun: then nothing was taken."""


def draw_record_id(now: float) -> str:
    """A time-ordered UUID (RFC 9562 section 5.7): 48 bits of milliseconds, 74 random bits."""
    milliseconds, drawn = f"{int(now * 1000):012x}", os.urandom(10).hex()
    variant = "89ab"[int(drawn[3], 16) & 3]
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7{drawn[:3]}-{variant}{drawn[4:7]}-{drawn[7:19]}"
