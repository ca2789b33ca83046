"""Cursors of the projector, the subject index, inspections, cases, dossiers."""

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Creates the tables. Spelled out: the models go on changing, this does not."""
