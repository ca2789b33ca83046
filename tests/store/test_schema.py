"""The migrations lead to the schema that the code describes."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from ledger.errors import CouldNotRun
from ledger.store import schema
from ledger.store.database import Database
from ledger.store.models import metadata


def test_migrations_give_the_tables_of_the_models(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    schema.upgrade(database)
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    database.close()


def test_upgrade_twice_changes_nothing(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    schema.upgrade(database)
    schema.upgrade(database)
    schema.require_current(database)
    database.close()


def test_a_database_without_schema_is_refused_with_the_remedy(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    with pytest.raises(CouldNotRun, match="yunxi upgrade"):
        schema.require_current(database)
    database.close()
