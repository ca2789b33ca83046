"""Bringing a database to the schema this code needs (Alembic)."""

from __future__ import annotations

from dataclasses import dataclass

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from ledger.errors import CouldNotRun
from ledger.store.database import Database


@dataclass(frozen=True, slots=True)
class Migrations:
    """A chain of migrations: the package that holds it (`package:directory`), the table that says how far it ran."""

    location: str
    version_table: str


LEDGER = Migrations("ledger.store:migrations", "alembic_version")


def upgrade(database: Database, migrations: Migrations = LEDGER) -> None:
    """Creates or migrates all tables, in one transaction where the database can. Safe to run again."""
    with database.writing() as connection:
        config = _config(migrations)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def require_current(database: Database, migrations: Migrations = LEDGER) -> None:
    """Raises CouldNotRun unless the database stands at the newest revision."""
    newest = ScriptDirectory.from_config(_config(migrations)).get_current_head()
    with database.reading() as connection:
        options = {"version_table": migrations.version_table}
        found = MigrationContext.configure(connection, opts=options).get_current_revision()
    if found != newest:
        raise CouldNotRun(
            f"the node's database is at schema {found or 'none'}, this version needs {newest}: run `yunxi upgrade`"
        )


def _config(migrations: Migrations) -> Config:
    config = Config()
    config.set_main_option("script_location", migrations.location)
    config.attributes["version_table"] = migrations.version_table
    return config
