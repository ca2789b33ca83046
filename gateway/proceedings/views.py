"""Inspections and cases as JSON, and the bodies of requests about them.

No subjects are shown: whoever may read them opens the record named in `opened_record`, and that reading is logged.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.proceedings.forms import Form
from gateway.proceedings.reading import Attached, Proceeding

DepartmentId = Annotated[str, Field(pattern="^[a-z][a-z0-9-]{1,30}$", examples=["public-health"])]
Code = Annotated[str, Field(pattern="^[a-z][a-z0-9-]*$", max_length=64)]
Number = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^./\x00-\x1f\x7f\s][^/\x00-\x1f\x7f]*$")]
"""Of an inspection or a case. It stands in paths, where `.` and `..` would be somewhere else."""
RecordId = Annotated[str, Field(pattern="^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")]
RecordTypeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(\.[a-z][a-z0-9-]*)+$", max_length=64)]
Line = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(min_length=1, max_length=4000)]


class Body(BaseModel):
    """A request's body: members that are not named are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Subject(Body):
    """An identifier, as in records. It stands in request bodies only, never in a URL."""

    kind: Code = Field(examples=["uscc"])
    value: Line = Field(examples=["91350100M000100Y43"])
    name: Line | None = None
    role: Annotated[str, Field(min_length=1, max_length=64)] | None = None


class Officer(Body):
    """An officer by certificate number."""

    id: Annotated[str, Field(min_length=1, max_length=64)]
    name: Annotated[str, Field(min_length=1, max_length=100)]


class OpenInspection(Body):
    """A joint inspection: whom, why, with whom."""

    number: Number | None = None
    kind: Code = Field(examples=["joint"])
    matter: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=64)] | None = None
    purpose: Code = Field(examples=["joint-inspection"])
    subjects: Annotated[list[Subject], Field(min_length=1, max_length=50)]
    participants: Annotated[list[DepartmentId], Field(max_length=50)] = []
    types: Annotated[list[RecordTypeName], Field(min_length=1, max_length=100)] | None = None
    days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    title: Line | None = None
    officers: Annotated[list[Officer], Field(max_length=20)] | None = None
    occurred_at: Annotated[str, Field(max_length=40)] | None = None


class FileCase(Body):
    """A case: against whom, for what, filed by two officers at least (行政处罚法 42)."""

    number: Number | None = None
    kind: Code | None = Field(default=None, examples=["ordinary"])
    matter: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=64)]
    purpose: Code | None = Field(default=None, examples=["case-investigation"])
    subjects: Annotated[list[Subject], Field(min_length=1, max_length=50)]
    participants: Annotated[list[DepartmentId], Field(max_length=50)] = []
    officers: Annotated[list[Officer], Field(min_length=2, max_length=20)]
    cause: Line
    cause_code: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    facts: Text | None = None
    basis: Annotated[list[Line], Field(min_length=1, max_length=50)] | None = None
    approved_by: Officer | None = None
    approved_on: Annotated[str, Field(max_length=10)] | None = None
    origin: Literal["inspection", "complaint", "transfer", "assignment", "electronic-device", "other"] | None = None
    decide_by: Annotated[str, Field(max_length=10)] | None = None
    evidence: Annotated[list[RecordId], Field(max_length=500)] | None = None
    inspection: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    occurred_at: Annotated[str, Field(max_length=40)] | None = None


class CloseInspection(Body):
    """How it ended; a merged one names the inspection that goes on and who leads it."""

    outcome: Literal["completed", "merged", "cancelled"]
    reason: Text | None = None
    merged_into: Number | None = None
    merged_lead: DepartmentId | None = None


class CloseCase(Body):
    """How it ended; a merged one names the case that goes on and who leads it."""

    outcome: Literal["decided", "no-penalty", "transferred", "merged", "withdrawn"]
    reason: Text | None = None
    merged_into: Number | None = None
    merged_lead: DepartmentId | None = None


class ChangeParticipants(Body):
    """Departments that join and that leave."""

    join: Annotated[list[DepartmentId], Field(max_length=50)] = []
    leave: Annotated[list[DepartmentId], Field(max_length=50)] = []


class AttachRecord(Body):
    """An own record by its id; another department's with its owner and its statement's leaf hash."""

    record: RecordId
    owner: DepartmentId | None = None
    leaf: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    note: Text | None = None


class Search(Body):
    """What to look for. `cursor` is the `next` of the page before."""

    state: Literal["open", "closed"] | None = None
    subject: Subject | None = None
    cursor: Annotated[str, Field(pattern="^[0-9]{1,18}$")] | None = None
    limit: Annotated[int, Field(ge=1, le=10_000)] | None = None


def proceeding_json(form: Form, found: Proceeding, attached: Sequence[Attached] | None = None) -> dict[str, Any]:
    """A proceeding as JSON; with the records that are attached to it where they are given."""
    view: dict[str, Any] = {
        "number": found.number,
        "lead": found.lead,
        "state": "open" if found.is_open else "closed",
        "kind": found.case_kind,
        "matter": found.matter,
        "purpose": found.purpose,
        "participants": list(found.participants),
        "types": None if found.types is None else list(found.types),
        "days": found.days,
        "opened_at": instant(found.opened_at),
        "opened_record": found.opened,
        "reference_record": found.reference,
        "href": f"{form.path}/{found.number}",
    }
    if not found.is_open:
        view |= {"closed_at": instant(found.closed_at or 0), "closed_record": found.closed, "outcome": found.outcome}
        view |= {"merged_into": found.merged_into, "merged_lead": found.merged_lead}
    if attached is not None:
        view["records"] = [attached_json(each) for each in attached]
    return view


def attached_json(attached: Attached) -> dict[str, Any]:
    """An attached record as JSON."""
    return {
        "record": attached.record_id,
        "owner": attached.owner,
        "leaf": attached.leaf,
        "type": attached.type,
        "attached_at": instant(attached.attached_at),
        "attached_record": attached.attached,
    }


def instant(seconds: float) -> str:
    """A time in RFC 3339, to the second, in UTC."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
