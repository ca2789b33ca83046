"""The service's own records get keys that nobody can hand in: `yunxi:` and the key that they had."""

import json
from base64 import urlsafe_b64decode

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_ROWS = 1000
_PREFIX = "yunxi:"
_BY_SERVICE = {
    "audit.reported",
    "casefile.exported",
    "disclosure.made",
    "disclosure.received",
    "disclosure.refused",
    "duplicate.checked",
    "emergency.justified",
    "emergency.used",
    "feed.probe",
    "feed.report",
    "feed.withdrawn",
    "grant.changed",
    "hold.lifted",
    "hold.placed",
    "inspection.closed",
    "inspection.opened",
    "matters.published",
    "participant.missing",
    "recall.acknowledged",
    "recall.received",
    "record.attached",
    "record.destroyed",
    "record.read",
    "sharing.basis",
    "tracker.searched",
}
"""The types that departments could not hand in. Cases and recalls they could: those keep their keys."""


def upgrade() -> None:
    """Reads every statement once. Spelled out: the code goes on changing, this does not."""
    connection = op.get_bind()
    after = -1
    query = sa.text("SELECT position, statement FROM entries WHERE position > :after ORDER BY position LIMIT :rows")
    change = sa.text("UPDATE entries SET key = :prefix || key WHERE position = :position AND key NOT LIKE 'yunxi:%'")
    while rows := connection.execute(query, {"after": after, "rows": _ROWS}).all():
        after = rows[-1].position
        found = [
            {"prefix": _PREFIX, "position": row.position} for row in rows if _type_of(row.statement) in _BY_SERVICE
        ]
        if found:
            connection.execute(change, found)


def _type_of(statement: object) -> object:
    """The claim `type` of a statement; None for what is damaged, which the audit names."""
    try:
        payload = bytes(statement).split(b".")[1]  # type: ignore[call-overload]
        name = json.loads(urlsafe_b64decode(payload + b"=="))["type"]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return name if isinstance(name, str) else None
