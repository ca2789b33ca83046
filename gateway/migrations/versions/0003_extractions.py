"""Standing extractions, their pages, and what the requester's side pulls."""

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Creates the tables. Spelled out: the models go on changing, this does not."""
