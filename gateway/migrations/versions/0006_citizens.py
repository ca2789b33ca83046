"""Links to served decisions."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Creates the table. Spelled out: the models go on changing, this does not."""
    op.create_table(
        "citizen_links",
        sa.Column("token", sa.LargeBinary(32), primary_key=True),
        sa.Column("link", sa.String(16), nullable=False, unique=True),
        sa.Column("department", sa.String(31), nullable=False),
        sa.Column("record_id", sa.String(36), nullable=True),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.String(100), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
    )
    op.create_index("citizen_links_record", "citizen_links", ["record_id"])
