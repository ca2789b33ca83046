"""What goes into intake and what comes back: the only words that adapters, terminals and the gateway share with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger.errors import RecordRefused

MAX_KEY_CHARS = 200


@dataclass(frozen=True, slots=True)
class AttachmentSource:
    """A file to be sealed with its record; read once, in constant memory, while the batch is taken in."""

    path: Path
    name: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Submission:
    """One record on its way in.

    `key` is the submitter's idempotency key, unique within the department: the same key with the same content always
    yields the same record, with other content a Conflict. `record` is the plaintext record; `id` may be left out
    (intake draws a UUIDv7), `department` must be the department that intake was called for.
    """

    key: str
    record: dict[str, Any]
    attachments: tuple[AttachmentSource, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The record is durable and has its place in the log. `new` is False where the key was known already."""

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

Submit = Callable[[Sequence[Submission]], list[Outcome]]
"""Takes a batch of one department; one outcome per submission, in order. Raises CouldNotRun: then nothing was taken."""
