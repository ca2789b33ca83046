"""Who is calling: what authentication found out, and all that authorisation may ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SYSTEM, PEER, TERMINAL = "system", "peer", "terminal"
OFFICER, SUPERVISOR, REVIEWER = "officer", "supervisor", "legal-reviewer"
ADMIN, COORDINATOR, AUDITOR = "department-admin", "coordinator", "auditor"

REQUEST_ROLES = frozenset({SYSTEM, PEER, TERMINAL})
"""Roles of callers that sign their requests with a department's key."""

PERSON_ROLES = frozenset({OFFICER, SUPERVISOR, REVIEWER, ADMIN, COORDINATOR, AUDITOR})
"""Roles of people who signed in."""


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. `subject` is the id of the request key or of the account, never a name."""

    kind: Literal["department", "person"]
    department: str
    roles: frozenset[str]
    subject: str
