"""Case entries: which records carry a case's number, filled from the statements that are there."""

import json
from base64 import urlsafe_b64decode

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_INDEX_BITS = 40
_ROWS = 1000


def upgrade() -> None:
    """Creates the table and reads every statement once. Spelled out: the code goes on changing, this does not."""
    op.create_table(
        "case_entries",
        sa.Column("log", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("case", sa.String(100), primary_key=True),
        sa.Column("position", sa.BigInteger(), primary_key=True, autoincrement=False),
    )
    connection = op.get_bind()
    after = -1
    query = sa.text("SELECT position, statement FROM entries WHERE position > :after ORDER BY position LIMIT :rows")
    add = sa.text('INSERT INTO case_entries (log, "case", position) VALUES (:log, :number, :position)')
    while rows := connection.execute(query, {"after": after, "rows": _ROWS}).all():
        after = rows[-1].position
        found = [
            {"log": row.position >> _INDEX_BITS, "number": number, "position": row.position}
            for row in rows
            if (number := _case_of(row.statement)) is not None
        ]
        if found:
            connection.execute(add, found)


def _case_of(statement: object) -> str | None:
    """The claim `case` of a statement; None too for what is damaged, which the audit names."""
    try:
        payload = bytes(statement).split(b".")[1]  # type: ignore[call-overload]
        number = json.loads(urlsafe_b64decode(payload + b"=="))["case"]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return number if isinstance(number, str) else None
