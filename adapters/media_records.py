"""Submissions made of media: a capture with its facts and thumbnail, and a derivative with its derivation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.media_derive import Derived, make_thumbnail
from adapters.media_facts import read_facts
from adapters.transform import MEDIA_TYPES
from ledger.errors import RecordRefused
from ledger.submission import AttachmentSource, Submission

CAPTURED = "media.captured"
THUMBNAIL_NAME = "thumbnail.jpg"


def capture_submission(key: str, record: Mapping[str, Any], original: Path) -> Submission:
    """A `media.captured` submission: `record` with what the file says of itself, the file, and a thumbnail of an image.

    Raises RecordRefused where `record` says that it is of another type, Malformed for a file that is no image or movie,
    or too large an image.
    """
    named = record.get("type", CAPTURED)
    if named != CAPTURED:
        raise RecordRefused("type", f"a photo or video becomes a {CAPTURED} record, not {named!r:.80}: take `type` out")
    media_type = MEDIA_TYPES.get(original.suffix.lower(), "application/octet-stream")
    sources = [AttachmentSource(original, original.name, media_type, "original")]
    found = read_facts(original)
    made: dict[str, Any] = {**record, "type": CAPTURED, "v": 1}
    made["media_facts"] = [{"attachment": 1, **found.facts}]
    if found.place is not None:
        made["media_places"] = [{"attachment": 1, **found.place}]
    if found.facts["format"] not in ("MP4", "MOV"):
        sources.append(AttachmentSource(make_thumbnail(original), THUMBNAIL_NAME, "image/jpeg", "thumbnail"))
    return Submission(key, made, tuple(sources))


def derivation_submission(
    derived: Derived, original: Mapping[str, Any], number: int, *, made_by: Mapping[str, str], reason: str, at: str
) -> Submission:
    """A `media.derived` submission. `original`: the record that the copy was made from, opened; `number`: which of its
    attachments, from 1; `made_by`: officer with id and name; `at`: RFC 3339 with offset.

    The key is made of the original's place and the copy's digest: the same copy is sealed once, whoever made it.
    """
    described = original["attachments"][number - 1]
    record: dict[str, Any] = {
        "type": "media.derived",
        "v": 1,
        "occurred_at": at,
        "original": {"record": original["id"], "attachment": number, "sha256": described["sha256"]},
        "operations": list(derived.operations),
        "tool": derived.tool,
        "made_by": dict(made_by),
        "reason": reason,
    }
    record |= {name: original[name] for name in ("department", "matter", "case", "inspection") if name in original}
    source = AttachmentSource(derived.path, derived.path.name, derived.media_type, "derivative")
    key = f"media/{original['id']}/{number}/{derived.sha256}"
    return Submission(key, record, (source,))
