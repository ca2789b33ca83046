"""Bodies and answers of the lookups."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from gateway.lookups.duplicates import Found
from gateway.lookups.tracker import Access
from gateway.proceedings.views import Body, DepartmentId, Line, Subject, instant
from ledger.record_types import RecordTypes

MatterCode = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=64)]
BlindIndex = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{21}[AQgw]$", description="16 bytes, base64url")]


class Track(Body):
    """Whose data, and what for. `cursor` is the `next` of the page before."""

    subject: Subject
    purpose: Line | None = None
    cursor: Annotated[str, Field(pattern="^[0-9]{1,18}$")] | None = None
    limit: Annotated[int, Field(ge=1, le=10_000)] | None = None


class CheckDuplicates(Body):
    """Whom, on which matters, how far back; `departments` None asks all."""

    subjects: Annotated[list[Subject], Field(min_length=1, max_length=50)]
    matters: Annotated[list[MatterCode], Field(min_length=1, max_length=50)]
    days: Annotated[int, Field(ge=1, le=3_650)] = 365
    departments: Annotated[list[DepartmentId], Field(min_length=1, max_length=100)] | None = None


class AnswerDuplicates(Body):
    """The same question between departments: blind indexes only."""

    owner: DepartmentId
    indexes: Annotated[list[BlindIndex], Field(min_length=1, max_length=50)]
    matters: Annotated[list[MatterCode], Field(min_length=1, max_length=50)]
    days: Annotated[int, Field(ge=1, le=3_650)]


def access_json(access: Access, types: RecordTypes) -> dict[str, Any]:
    """An access: who, when, for what, and which kinds of data; no officer."""
    return {
        "at": instant(access.at),
        "action": access.action,
        "department": access.department,
        "authority": access.authority,
        "purpose": access.purpose,
        access.claim or "inspection": access.number,
        "lead": access.lead,
        "code": access.code,
        "kinds": [
            {"type": name, "title": _title(types, name), "units": None if units is None else sorted(units)}
            for name, units in sorted(access.kinds.items())
        ],
    }


def found_json(department: str, found: Found) -> dict[str, Any]:
    """A yes; `merge` says where one can ask to join, where that inspection goes on."""
    merge = None
    if found.is_open:
        href = f"/v1/inspections/{found.inspection}/participants"
        merge = {"lead": department, "inspection": found.inspection, "href": href}
    return {"matter": found.matter, "on": found.on, "inspection": found.inspection, "merge": merge}


def _title(types: RecordTypes, name: str) -> dict[str, str] | None:
    newest = max((kind for kind in types if kind.name == name), key=lambda kind: kind.version, default=None)
    return None if newest is None else dict(newest.title)
