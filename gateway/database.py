"""The gateway's tables, beside the ledger's in the node's database; each domain's `models.py` adds its own here.

What is a projection can be dropped and rebuilt from the logs (`yunxi rebuild`); each `models.py` says what is not.
"""

from __future__ import annotations

from sqlalchemy import MetaData

from ledger.store.database import Database
from ledger.store.schema import Migrations, require_current, upgrade

MIGRATIONS = Migrations("gateway:migrations", "gateway_version")

metadata = MetaData()


def prepare(database: Database) -> None:
    """Creates or migrates the gateway's tables. Safe to run again."""
    upgrade(database, MIGRATIONS)


def require_prepared(database: Database) -> None:
    """Raises CouldNotRun unless the gateway's tables stand at the newest revision."""
    require_current(database, MIGRATIONS)
