"""One node for all tests of the command, made by the command; and one on a chain that can be stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import ChainServer, Yunxi, made_node
from tests.fixtures.records import report


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Yunxi:
    """The command in a directory without any node."""
    return Yunxi(tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="session")
def yunxi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yunxi]:
    """The command on a node with the department `fire`."""
    with made_node(tmp_path_factory.mktemp("cli"), "fire") as made:
        yield made


@pytest.fixture(scope="session")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Yunxi, ChainServer]]:
    """The command on a node whose chain is given by URL, and that chain, running."""
    directory = tmp_path_factory.mktemp("remote")
    server = ChainServer(directory / "chain")
    server.start()
    try:
        with made_node(directory, "fire", chain=server.url) as made:
            yield made, server
    finally:
        server.stop()


@pytest.fixture
def write(yunxi: Yunxi) -> Callable[..., str]:
    """`write(name, **changes)`: the file of a record beside the node, valid but for the changes (None: left out)."""

    def write(name: str, number: int = 1, **changes: Any) -> str:
        record = {"department": "fire", **report(number), **changes}
        content = {member: value for member, value in record.items() if value is not None}
        (yunxi.directory / name).write_text(json.dumps(content, ensure_ascii=False), "utf-8")
        return name

    return write


def record_file(directory: Path, name: str, number: int) -> str:
    """A valid record in a file."""
    content = {"department": "fire", **report(number)}
    (directory / name).write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    return name
