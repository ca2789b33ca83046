"""The two forms of a proceeding and the names that go with each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ATTACHED = "record.attached"


@dataclass(frozen=True, slots=True)
class Form:
    """`kind` is also the clear claim that carries the number; `opened` and `closed` are record types."""

    kind: Literal["inspection", "case"]
    opened: str
    closed: str
    path: str


INSPECTION = Form("inspection", "inspection.opened", "inspection.closed", "/v1/inspections")
CASE = Form("case", "case.filed", "case.closed", "/v1/cases")
FORMS: dict[str, Form] = {form.kind: form for form in (INSPECTION, CASE)}
