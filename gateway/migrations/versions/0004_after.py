"""After the fact: subscriptions, deliveries, recalls, emergency accesses."""

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Creates the tables. Spelled out: the models go on changing, this does not."""
