"""The first schema: logs, entries, vault, attachments, keks, tiles, checkpoints, anchors."""

from alembic import op

from ledger.store.models import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates every table. Later revisions spell their changes out."""
    metadata.create_all(op.get_bind())
