"""What goes over the wire, for the OpenAPI document; the code itself works on plain JSON, which is faster."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

RecordId = Annotated[str, Field(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", description="a UUIDv7")]
EXAMPLE_ID = "0193510b-8c00-7abc-8def-0123456789ab"

SUBMISSIONS: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["records"],
    "properties": {
        "records": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1000,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["key", "record"],
                "properties": {
                    "key": {
                        "type": "string",
                        "description": "idempotency key, 1 to 200 printable characters, unique within the department",
                    },
                    "record": {"type": "object", "description": "a record of a type that the node knows"},
                    "uploads": {
                        "type": "array",
                        "description": "finished uploads (`/v1/uploads`) that become the record's attachments",
                        "items": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["upload", "name", "media_type", "size", "sha256"],
                            "properties": {
                                "upload": {"type": "string", "description": "the upload's id"},
                                "name": {"type": "string"},
                                "media_type": {"type": "string"},
                                "size": {"type": "integer", "minimum": 1},
                                "sha256": {"type": "string", "description": "of the file, in lower-case hex"},
                                "role": {"type": "string", "enum": ["original", "thumbnail", "derivative"]},
                            },
                        },
                    },
                },
            },
        }
    },
    "example": {
        "records": [
            {
                "key": "visits/2026-00017",
                "record": {
                    "type": "note.added",
                    "v": 1,
                    "text": "已电话联系。",
                    "occurred_at": "2026-03-02T09:15:00+08:00",
                },
            }
        ]
    },
}


class OutcomeOf(BaseModel):
    """What became of one submission. `id`, `index`, `new` where acknowledged; `code`, `reason`, `detail` where not."""

    outcome: Literal["acknowledged", "refused"]
    key: str
    id: RecordId | None = None
    index: int | None = Field(None, ge=0)
    new: bool | None = None
    code: str | None = None
    reason: str | None = None
    detail: str | None = None


class Outcomes(BaseModel):
    """One outcome for each submission, in order."""

    outcomes: list[OutcomeOf]

    model_config = {
        "json_schema_extra": {
            "example": {
                "outcomes": [
                    {"outcome": "acknowledged", "key": "visits/2026-00017", "id": EXAMPLE_ID, "index": 0, "new": True}
                ]
            }
        }
    }


class ListedRecord(BaseModel):
    """A record's place, and what stands in clear in the log."""

    id: RecordId
    index: int = Field(ge=0)
    key: str
    acknowledged_at: str
    type: str
    v: int
    matter: str | None = None
    case: str | None = None
    inspection: str | None = None
    amends: RecordId | None = None


class RecordPage(BaseModel):
    """Newest first. `next` is the cursor of the next page, null where there is none."""

    records: list[ListedRecord]
    next: str | None


class RecordShown(BaseModel):
    """A record and its presentation (SD-JWT, RFC 9901), which verifies without this node."""

    id: RecordId
    index: int = Field(ge=0)
    acknowledged_at: str
    record: dict[str, Any]
    presentation: str
