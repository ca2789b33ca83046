"""Bringing a database to the schema this code needs (Alembic)."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from ledger.errors import CouldNotRun
from ledger.store.database import Database

_LOCATION = "ledger.store:migrations"


def upgrade(database: Database) -> None:
    """Creates or migrates all tables, in one transaction where the database can. Safe to run again."""
    with database.writing() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def require_current(database: Database) -> None:
    """Raises CouldNotRun unless the database stands at the newest revision."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    with database.reading() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    if found != newest:
        raise CouldNotRun(
            f"the node's database is at schema {found or 'none'}, this version needs {newest}: run `yunxi upgrade`"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", _LOCATION)
    return config
