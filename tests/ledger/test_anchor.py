"""Anchoring over a real embedded chain: a chain that is gone, that comes back, that is another; a log rolled back."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select, update

from ledger.anchor import Anchorer
from ledger.audit import audit_node
from ledger.chain import embedded
from ledger.chain.client import ChainClient
from ledger.errors import CouldNotRun, HistoryRefused, Refusal
from ledger.node import Node
from ledger.status import LogStatus, node_status
from ledger.store.models import logs, position_of
from tests.fixtures.node_databases import ON_POSTGRES
from tests.fixtures.nodes import SECOND_ANCHOR, SIZE, Built, Rows, check_round, end_chain
from tests.fixtures.records import acknowledged, submissions


def fire(node: Node) -> LogStatus:
    return next(log for log in node_status(node).logs if log.department == "fire")


def test_the_status_of_a_node(built: Built, tampered: Path) -> None:
    opened = built.open(tampered, lambda: 2_000_000_000.0)
    status = node_status(opened)
    opened.close()
    assert (status.good, status.chain_problem, status.consortium) == (True, None, "test.example")
    log = status.logs[0]
    assert (log.size, log.anchored_size, log.chain_size) == (SIZE, SECOND_ANCHOR, SECOND_ANCHOR)
    assert log.backlog == SIZE - SECOND_ANCHOR
    newest = max(r.index for r in built.records)
    assert newest == SIZE - 1
    oldest = Rows(tampered).get("SELECT acknowledged_at FROM entries WHERE position = ?", position_of(1, SECOND_ANCHOR))
    assert log.backlog_age == pytest.approx(2_000_000_000.0 - oldest / 1000)
    assert status.logs[1].backlog == 0
    assert status.logs[1].backlog_age == 0


def test_a_chain_away_holds_up_no_record_and_anchors_catch_up(own_node: Node, tmp_path: Path) -> None:
    chain = own_node.settings.directory / "chain"
    anchorer = Anchorer(own_node)
    check_round(anchorer, 1)
    assert fire(own_node).backlog == 0
    # the chain is killed and cannot come back: its directory is elsewhere
    end_chain(own_node.settings.directory)
    chain.rename(tmp_path / "elsewhere")
    acknowledged(own_node.intake.submit("fire", submissions(SIZE, 20)))
    (outcome,) = anchorer.round()
    assert outcome.anchored is None
    assert isinstance(outcome.problem, CouldNotRun)
    status = node_status(own_node)
    assert not status.good
    assert status.chain_problem is not None
    log = fire(own_node)
    assert (log.backlog, log.chain_size, log.halted) == (20, None, None)
    assert 0 < log.backlog_age < 60
    # more records, still no chain; then it is back, and one round anchors all of it at once
    acknowledged(own_node.intake.submit("fire", submissions(SIZE + 20, 20)))
    (tmp_path / "elsewhere").rename(chain)
    check_round(anchorer, 1)
    log = fire(own_node)
    assert (log.size, log.backlog, log.backlog_age, log.chain_size) == (SIZE + 40, 0, 0, SIZE + 40)
    assert anchorer.round() == []
    audit = audit_node(own_node)
    assert audit.good, audit.first()
    assert audit.logs[0].anchors == 4


def test_the_daemon_killed_between_rounds_is_no_trouble(own_node: Node) -> None:
    anchorer = Anchorer(own_node)
    check_round(anchorer, 1)
    end_chain(own_node.settings.directory)
    acknowledged(own_node.intake.submit("fire", submissions(SIZE, 1)))
    outcomes = anchorer.round() + anchorer.round()  # the link is old once, and made anew
    assert outcomes[-1].problem is None
    assert fire(own_node).backlog == 0


def test_a_second_anchorer_finds_the_work_done(own_node: Node) -> None:
    other = Node(own_node.settings, own_node.agent)
    check_round(Anchorer(own_node), 1)
    assert Anchorer(other).round() == []
    # it did not know, because the note about it was lost: it asks the chain and finds the anchor
    Rows(own_node.settings.directory).do("DELETE FROM anchors WHERE log = 1")
    check_round(Anchorer(other), 1)
    assert fire(other).anchored_size == SIZE
    other.close()


sqlite_only = pytest.mark.skipif(ON_POSTGRES, reason="copies a database as a file, which SQLite's is")


def older_copy(node: Node, path: Path) -> None:
    with (
        closing(sqlite3.connect(node.settings.directory / "ledger.sqlite")) as live,
        closing(sqlite3.connect(path)) as to,
    ):
        live.backup(to)


def restore(node: Node, path: Path) -> Node:
    """The same node over an older database."""
    node.close()
    for leftover in node.settings.directory.glob("ledger.sqlite*"):
        leftover.unlink()
    shutil.copyfile(path, node.settings.directory / "ledger.sqlite")
    return Node(node.settings, node.agent)


@sqlite_only
def test_a_database_rolled_back_to_an_older_copy_is_halted(own_node: Node, tmp_path: Path) -> None:
    older_copy(own_node, tmp_path / "backup.sqlite")
    acknowledged(own_node.intake.submit("fire", submissions(SIZE, 10)))
    check_round(Anchorer(own_node), 1)
    old = restore(own_node, tmp_path / "backup.sqlite")
    (outcome,) = Anchorer(old).round()
    assert isinstance(outcome.problem, HistoryRefused)
    assert str(outcome.problem).startswith(f"The chain holds {SIZE + 10} entries of log 'fire' (root ")
    assert "the local log was rolled back or is another one; nothing was sent" in str(outcome.problem)
    with pytest.raises(HistoryRefused, match=r"log test.example/fire takes nothing: The chain holds 355 entries"):
        old.intake.submit("fire", submissions(SIZE, 1))
    assert not node_status(old).good
    assert "rolled back" in str(fire(old).halted)
    acknowledged(old.intake.submit("health", submissions(3, 1)))  # the other department goes on
    first = audit_node(old).first()
    assert first is not None
    assert (first.kind, first.department) == ("rolled-back", "fire")
    old.close()


@sqlite_only
def test_a_rolled_back_log_that_grew_again_is_halted_too(own_node: Node, tmp_path: Path) -> None:
    older_copy(own_node, tmp_path / "backup.sqlite")
    acknowledged(own_node.intake.submit("fire", submissions(SIZE, 10)))
    check_round(Anchorer(own_node), 1)
    old = restore(own_node, tmp_path / "backup.sqlite")
    acknowledged(old.intake.submit("fire", submissions(1000, 30)))
    (outcome,) = Anchorer(old).round()
    assert isinstance(outcome.problem, HistoryRefused)
    assert f"At {SIZE + 10} entries of log 'fire' the chain holds root" in str(outcome.problem)
    assert fire(old).halted is not None
    assert audit_node(old).logs[0].counts["root-differs-from-chain"] == 1
    old.close()


@sqlite_only
def test_a_rollback_shows_before_the_next_record(own_node: Node, tmp_path: Path) -> None:
    check_round(Anchorer(own_node), 1)
    older_copy(own_node, tmp_path / "backup.sqlite")
    acknowledged(own_node.intake.submit("fire", submissions(SIZE, 10)))
    check_round(Anchorer(own_node), 1)
    old = restore(own_node, tmp_path / "backup.sqlite")
    try:
        (outcome,) = Anchorer(old).round()
        assert isinstance(outcome.problem, HistoryRefused)
        assert not node_status(old).good and "rolled back" in str(fire(old).halted)
    finally:
        old.close()


def test_a_halted_log_goes_on_once_its_entries_are_back(own_node: Node, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="is not halted"):
        Anchorer(own_node).resume("fire")
    with pytest.raises(HistoryRefused, match="no log of department"):
        Anchorer(own_node).resume("nobody")
    check_round(Anchorer(own_node), 1)
    with own_node.database.writing() as connection:
        here = logs.c.department == "fire"
        root = connection.scalar(select(logs.c.root).where(here))
        connection.execute(update(logs).where(here).values(size=SIZE - 1, root=bytes(32)))
    assert Anchorer(own_node).round()[0].problem is not None
    with pytest.raises(HistoryRefused, match="rolled back"):
        Anchorer(own_node).resume("fire")
    assert fire(own_node).halted is not None
    with own_node.database.writing() as connection:
        connection.execute(update(logs).where(here).values(size=SIZE, root=root))
    Anchorer(own_node).resume("fire")
    assert fire(own_node).halted is None
    acknowledged(own_node.intake.submit("fire", submissions(SIZE, 1)))


def test_another_chain_in_its_place_gets_nothing(own_node: Node, tmp_path: Path) -> None:
    chain = own_node.settings.directory / "chain"
    end_chain(own_node.settings.directory)
    chain.rename(tmp_path / "real")
    embedded.create(chain)
    outcomes = Anchorer(own_node).round()
    assert {type(outcome.problem) for outcome in outcomes} == {HistoryRefused}, outcomes
    assert all("chain" in str(outcome.problem) for outcome in outcomes)
    assert fire(own_node).halted is None  # the log is as it was; only the chain is not ours
    client = ChainClient(embedded.ensure_running(chain))
    newest = client.block("latest")
    client.close()
    assert newest is not None
    assert newest.number == 0  # not one transaction was sent
    audit = audit_node(own_node)
    assert audit.chain_problem is not None
    # the real one comes back
    end_chain(own_node.settings.directory)
    shutil.rmtree(chain)
    (tmp_path / "real").rename(chain)
    check_round(Anchorer(own_node), 1)
