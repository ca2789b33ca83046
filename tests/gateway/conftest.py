"""The gateway over a temporary node: without a chain on every database, and with one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.node import Node
from tests.fixtures.gateway import Gateway, node_without_chain, serving
from tests.fixtures.parts import PostgresServer, SqliteFiles, Template


@pytest.fixture
def gateway(server: SqliteFiles | PostgresServer, template: Template, tmp_path: Path) -> Iterator[Gateway]:
    """A serving site with departments `fire` and `health` and no chain; on each database in turn."""
    node = node_without_chain(tmp_path / "node", server.new(tmp_path), template.agent)
    with serving(node) as opened:
        yield opened


@pytest.fixture
def gateway_on_chain(own_node: Node) -> Iterator[Gateway]:
    """The same over a node with a running embedded chain and anchored records."""
    with serving(own_node) as opened:
        yield opened
