"""What the service itself keeps: nonces, sessions, accounts, leases."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables. Spelled out: the models go on changing, this does not."""
