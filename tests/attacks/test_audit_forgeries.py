"""Forgeries that leave every hash right: clocks, witnesses, tables beside the log, keys of others. One command finds
each. What is wrong with bytes stands in `test_node_tampering`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledger.audit import CRITICAL, NOTICE, WARNING, NodeAudit, Options, audit_nodes
from ledger.formats.checkpoint import sign_checkpoint
from ledger.node import Node
from ledger.store.models import position_of
from tests.fixtures.nodes import FIRST_ANCHOR, SECOND_ANCHOR, SIZE, Built, Rows
from tests.fixtures.records import acknowledged, submissions

FIRE = 1


@dataclass(frozen=True, slots=True)
class Forger:
    """Who holds a copied node: its rows, and its keys."""

    built: Built
    directory: Path
    rows: Rows

    def open(self, clock: Callable[[], float] = time.time) -> Node:
        return self.built.open(self.directory, clock)

    def audit(self, clock: Callable[[], float] = time.time, **options: object) -> NodeAudit:
        node = self.open(clock)
        try:
            return audit_nodes([node], options=Options(**options))  # type: ignore[arg-type]
        finally:
            node.close()


@pytest.fixture
def forger(built: Built, tampered: Path) -> Forger:
    return Forger(built, tampered, Rows(tampered))


def at(index: int) -> str:
    return f"position = {position_of(FIRE, index)}"


# ---- the table ---------------------------------------------------------------------------------------------------


def run(statement: str) -> Callable[[Forger], None]:
    def change(forger: Forger) -> None:
        assert forger.rows.do(statement) >= 1

    return change


def seal_with_a_clock(forger: Forger, seconds: int, start: int) -> None:
    node = forger.open(lambda: time.time() + seconds)
    acknowledged(node.intake.submit("fire", submissions(start, 3)))
    node.close()


def seal_ahead_and_then_right(forger: Forger) -> None:
    seal_with_a_clock(forger, 600, SIZE)
    seal_with_a_clock(forger, 0, SIZE + 3)


def keep_a_second_history(forger: Forger) -> None:
    """A witness of this node was shown another root under the log's real key."""
    signer = forger.built.agent.log_signer("fire")
    root = secrets.token_bytes(32)
    note = sign_checkpoint("test.example/fire", FIRST_ANCHOR, root, signer.public, signer.sign)
    witness = forger.rows.get("SELECT witness FROM witness_heads WHERE origin = 'test.example/fire'")
    forger.rows.do(
        "INSERT INTO witness_conflicts VALUES (?, 'test.example/fire', ?, ?, ?, NULL, ?, 0)",
        witness, FIRST_ANCHOR, root, note, True,
    )  # fmt: skip


def enrol_a_terminal_that_nobody_registered(forger: Forger) -> None:
    forger.rows.do(
        "INSERT INTO terminals VALUES ('kid', 1, 'PDA-99', ?, 'request', ?, ?, 0, 0, NULL)",
        secrets.token_bytes(32), secrets.token_bytes(32), secrets.token_bytes(32),
    )  # fmt: skip


HEAD = "origin = 'test.example/fire'"

# a sentence -> (what is done, kind of the first cause, its severity, part of its sentence)
FORGERIES: dict[str, tuple[Callable[[Forger], object], str, str, str]] = {
    "an acknowledgement put back by an hour": (
        run(f"UPDATE entries SET acknowledged_at = acknowledged_at - 3600000 WHERE {at(7)}"),
        "clock-back",
        WARNING,
        "before the entry in front of it",
    ),
    "an acknowledgement put forward by an hour": (
        run(f"UPDATE entries SET acknowledged_at = acknowledged_at + 3600000 WHERE {at(7)}"),
        "clock-apart",
        WARNING,
        "before it was acknowledged",
    ),
    "records sealed by a clock that is ahead, and then by one that is right": (
        seal_ahead_and_then_right,
        "clock-back",
        WARNING,
        "before the entry in front of it",
    ),
    "records dated back to before the key was registered": (
        lambda forger: seal_with_a_clock(forger, -7200, SIZE),
        "key-not-valid",
        CRITICAL,
        "outside the interval",
    ),
    "a checkpoint dated a day ahead": (
        run(f"UPDATE checkpoints SET signed_at = signed_at + 86400 WHERE log = 1 AND size = {FIRST_ANCHOR}"),
        "clock-apart",
        WARNING,
        "after the block that anchors it",
    ),
    "a cosignature's time": (
        run(f'UPDATE cosignatures SET "time" = "time" + 1 WHERE log = 1 AND size = {FIRST_ANCHOR}'),
        "cosignature-changed",
        CRITICAL,
        "another time",
    ),
    "a witness's head put back": (
        run(f"UPDATE witness_heads SET size = {FIRST_ANCHOR} WHERE {HEAD}"),
        "witness-head-changed",
        CRITICAL,
        "another root",
    ),
    "a witness's head gone": (
        run(f"DELETE FROM witness_heads WHERE {HEAD}"),
        "witness-head-changed",
        CRITICAL,
        "was put back",
    ),
    "a witness's head at another time": (
        run(f'UPDATE witness_heads SET "time" = "time" - 60 WHERE {HEAD}'),
        "witness-head-changed",
        CRITICAL,
        "not that of the cosignature",
    ),
    "a second history under the log's key": (keep_a_second_history, "split-view", CRITICAL, "two histories"),
    "a content mark": (
        run(f"UPDATE entries SET content_mark = (SELECT content_mark FROM entries WHERE {at(8)}) WHERE {at(7)}"),
        "mark-changed",
        CRITICAL,
        "not that of its content",
    ),
    "a row that says it is of another log": (
        run(f"UPDATE entries SET log = 2 WHERE {at(7)}"),
        "entry-changed",
        CRITICAL,
        "of another log",
    ),
    "an entry put into a case": (
        run(f"INSERT INTO case_entries VALUES (1, 'X-1', {position_of(FIRE, 7)})"),
        "case-entry-differs",
        CRITICAL,
        "has entry 7 under X-1",
    ),
    "a legal hold that nobody placed": (
        run(f"INSERT INTO holds VALUES ({position_of(FIRE, 7)}, 1, 'case', 'X-1', NULL)"),
        "holds-differ",
        CRITICAL,
        "does not say of entry 7",
    ),
    "a terminal that nobody registered": (
        enrol_a_terminal_that_nobody_registered,
        "terminal-changed",
        CRITICAL,
        "PDA-99",
    ),
    "an anchor's contract": (
        run(f"UPDATE anchors SET contract = '0x{'11' * 20}' WHERE log = 1 AND size = {SECOND_ANCHOR}"),
        "anchor-row-changed",
        CRITICAL,
        "stands elsewhere",
    ),
    "an anchor's chain": (
        run(f"UPDATE anchors SET chain_id = chain_id + 1 WHERE log = 1 AND size = {SECOND_ANCHOR}"),
        "anchor-row-changed",
        CRITICAL,
        "stands elsewhere",
    ),
    "a checkpoint gone": (
        run(f"DELETE FROM checkpoints WHERE log = 1 AND size = {FIRST_ANCHOR}"),
        "cosignature-changed",
        CRITICAL,
        "no checkpoint that they would be of",
    ),
    "tiles of a log that is not": (
        run("UPDATE tiles SET log = 9 WHERE log = 1 AND level = 1"),
        "tile-changed",
        CRITICAL,
        "tile/1/000 differs",
    ),
    "the head of another department's log": (
        run("UPDATE logs SET department = 'water' WHERE log = 1"),
        "log-missing",
        CRITICAL,
        "the whole log is gone",
    ),
    "a time stamp that is none": (
        run(f"INSERT INTO timestamps VALUES (1, 0, {'FALSE'}, {FIRST_ANCHOR}, 'nobody', x'00', 0, 0)"),
        "token-changed",
        CRITICAL,
        "names no authority",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_one_command_finds(forger: Forger, name: str) -> None:
    forge, kind, severity, words = FORGERIES[name]
    forge(forger)
    found = forger.audit()
    causes = found.causes()
    assert not found.good
    first = causes[0].first
    assert (first.kind, first.severity) == (kind, severity), causes
    assert words in first.sentence, first.sentence


# ---- one cause, many consequences --------------------------------------------------------------------------------


def test_a_key_of_many_records_is_one_cause(forger: Forger) -> None:
    forger.rows.flip("keks", "wrapped", "log = 1")
    forger.rows.flip("entries", "statement", at(200))
    found = forger.audit()
    assert found.logs[0].counts == {"payload-changed": SIZE - 1, "statement-changed": 1}
    kinds = [(cause.first.kind, cause.first.index) for cause in found.causes()]
    assert kinds == [("payload-changed", 0), ("statement-changed", 200)]
    assert found.causes()[0].consequences == {"payload-changed": 99}  # of the hundred that were kept


def test_a_whole_log_gone_is_one_cause(forger: Forger) -> None:
    for table in ("logs", "keks", "tiles", "checkpoints", "anchors", "cosignatures"):
        forger.rows.do(f"DELETE FROM {table} WHERE log = 1")
    first = forger.audit().causes()[0].first
    assert (first.kind, first.department) == ("log-missing", "fire")


# ---- a sample ----------------------------------------------------------------------------------------------------


def test_a_sample_of_everything_finds_what_the_full_audit_finds(forger: Forger) -> None:
    forger.rows.flip("vault", "payload", at(7))
    found = forger.audit(sample=SIZE, seed=1).logs[0]
    assert (found.sampled, found.records, dict(found.counts)) == (SIZE, SIZE, {"payload-changed": 1})


def test_a_sample_looks_at_what_its_seed_draws(forger: Forger) -> None:
    forger.rows.flip("vault", "payload", at(7))
    found = {forger.audit(sample=60, seed=seed).good for seed in range(12)}
    assert found == {True, False}  # one entry of 345 is bad: some draws of 60 meet it, some do not
    one, again = forger.audit(sample=60, seed=3), forger.audit(sample=60, seed=3)
    assert one.logs[0].counts == again.logs[0].counts


def test_a_sample_finds_another_history_whatever_it_draws(forger: Forger) -> None:
    forger.rows.flip("tiles", "hashes", "log = 1 AND level = 1", 3)
    assert not forger.audit(sample=1, seed=1).good


# ---- what is overdue, and what is only worth a look ----------------------------------------------------------------


def test_an_untouched_node_has_neither_findings_nor_notices(forger: Forger) -> None:
    found = forger.audit()
    assert (found.good, found.first(), [log.notices for log in found.logs]) == (True, None, [[], []])
    assert found.logs[0].checkpoints == found.logs[0].cosignatures == 2
    assert NOTICE not in {finding.severity for log in found.logs for finding in log.findings}
