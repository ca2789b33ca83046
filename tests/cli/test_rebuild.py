"""`yunxi rebuild` and `yunxi contributions` as an operator runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.database import prepare
from gateway.projections.registry import projector_of
from ledger.node import Node
from tests.fixtures.command import Yunxi, made_node
from tests.fixtures.nodes import SIZE, Built, Rows


@pytest.fixture
def yunxi(built: Built, tmp_path: Path) -> Yunxi:
    directory = built.copy(tmp_path / "node")
    return Yunxi(tmp_path, YUNXI_NODE=str(directory))


def test_a_rebuild_makes_the_tables_and_the_same_again(yunxi: Yunxi, tmp_path: Path) -> None:
    assert yunxi.good("rebuild", "--json").json()["entries"] == SIZE + 3
    node = Node.open(tmp_path / "node")
    prepare(node.database)
    assert projector_of(node).catch_up() == 0
    node.close()
    rows = Rows(tmp_path / "node")
    before = rows.all("SELECT * FROM subject_entries ORDER BY 1, 2")
    rows.do("DELETE FROM subject_entries WHERE position % 2 = 0")
    again = yunxi.good("rebuild")
    assert again.out.startswith(f"Replayed {SIZE + 3} entries in ")
    assert rows.all("SELECT * FROM subject_entries ORDER BY 1, 2") == before


def test_contributions_of_a_node_that_never_served_ask_for_an_upgrade(tmp_path: Path) -> None:
    with made_node(tmp_path, "fire") as yunxi:
        result = yunxi("contributions")
    assert result.code == 2
    assert "yunxi upgrade" in result.sentence() or "yunxi rebuild" in result.sentence()


def test_contributions_are_shown_and_times_are_checked(yunxi: Yunxi) -> None:
    yunxi.good("rebuild")
    assert yunxi.good("contributions").out == (
        "fire: nothing given, got or refused.\nhealth: nothing given, got or refused.\n"
    )
    accounts = yunxi.good("contributions", "--json").json()["contributions"]
    assert [each["department"] for each in accounts] == ["fire", "health"]
    assert "--since must be a time with offset" in yunxi("contributions", "--since", "yesterday").sentence()
