"""Single values of the database changed at random: each is found, and its row is named.

`YUNXI_CORRUPTIONS` says how many (100), `YUNXI_CORRUPTIONS_SEED` which. Every column of the ledger's tables is either
drawn from here or stands in `UNPROVEN` with the reason why nothing can be said of it, or in `NOT_HERE` where the node
that is tampered with has no such rows and other tests change them.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, Table, and_, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from ledger.audit import Finding, NodeAudit, audit_node
from ledger.node import Node
from ledger.store.models import index_of, metadata
from tests.fixtures.nodes import Built

COUNT = int(os.environ.get("YUNXI_CORRUPTIONS", "100"))
SEED = int(os.environ.get("YUNXI_CORRUPTIONS_SEED", "20260302"))

DRAWN = (
    "logs", "entries", "vault", "attachments", "tiles", "checkpoints", "anchors", "cosignatures", "keks",
    "witness_heads",
)  # fmt: skip

UNPROVEN = {
    "entries.key": "a submitter's name for the row; where a feed made it, the feed's reports bind it",
    "entries.acknowledged_at": "the node's own clock; only what its neighbours and the anchors allow can be said of it",
    "checkpoints.signed_at": "the same",
    "anchors.anchored_at": "when the node learned of its anchor; the block has the time that counts",
    "keks.created_at": "the node's own clock, for people",
    "logs.halted": "whether the node takes records in, for its operator",
}
"""Columns that no proof covers."""

NOT_HERE = {
    "case_entries": "tests/attacks/test_audit_forgeries.py",
    "destructions": "tests/ledger/test_forgetting.py",
    "holds": "tests/attacks/test_audit_forgeries.py",
    "terminals": "tests/attacks/test_audit_forgeries.py",
    "timestamps": "tests/attacks/test_audit_forgeries.py",
    "witness_conflicts": "tests/attacks/test_audit_forgeries.py",
}

OPERATIONAL = {
    "uploads": "files on their way in; what a record took of them is its attachment",
    "matters": "rebuilt from the log by `yunxi matters rebuild`",
    "matter_lists": "rebuilt from the log by `yunxi matters rebuild`",
    "shreds": "how far a shredding came",
    "timestamp_calls": "how asking went",
    "witness_calls": "how asking went",
}
"""Tables that hold no evidence."""


def columns() -> list[Column[Any]]:
    return [c for name in DRAWN for c in metadata.tables[name].columns if f"{name}.{c.name}" not in UNPROVEN]


def test_every_column_is_drawn_or_said_to_be_unproven() -> None:
    assert {*DRAWN, *NOT_HERE, *OPERATIONAL} == metadata.tables.keys()
    assert UNPROVEN.keys() <= {f"{name}.{c.name}" for name in DRAWN for c in metadata.tables[name].columns}


@dataclass(frozen=True, slots=True)
class Corruption:
    """One value of one row, and what it was changed to."""

    column: Column[Any]
    row: dict[str, Any]
    value: Any

    def __str__(self) -> str:
        keys = {c.name: self.row[c.name] for c in self.column.table.primary_key.columns}
        return (
            f"{self.column.table.name}.{self.column.name} of {keys}: {self.row[self.column.name]!r} -> {self.value!r}"
        )

    def apply(self, node: Node) -> None:
        self._set(node, self.row, self.value)

    def undo(self, node: Node) -> None:
        self._set(node, {**self.row, self.column.name: self.value}, self.row[self.column.name])

    def _set(self, node: Node, row: dict[str, Any], value: Any) -> None:
        table = self.column.table
        assert isinstance(table, Table)
        here = and_(*(c == row[c.name] for c in table.primary_key.columns))
        with node.database.writing() as connection:
            assert connection.execute(update(table).where(here).values({self.column.name: value})).rowcount == 1

    def is_named_by(self, finding: Finding) -> bool:
        """Whether whoever reads the finding comes to this row, or to the hole that it left."""
        name, row = self.column.table.name, self.row
        if name == "logs" or finding.kind == "orphan-rows":
            return True  # the row of a log is named by its department
        if name in ("entries", "vault", "attachments"):
            return finding.index == index_of(row["position"])
        if name == "keks":
            return finding.thing == f"kek {row['epoch']}"
        if name == "tiles":
            first, width = row["tile"] * 256 ** (row["level"] + 1), 256 ** (row["level"] + 1)
            return finding.index is not None and first <= finding.index < first + width
        sizes = {row["size"], self.value if self.column.name == "size" else row["size"]}
        witnesses = name in ("witness_heads", "cosignatures") and "witness" in finding.kind
        return finding.index in sizes or finding.kind == "rolled-back" or witnesses


def draw(node: Node, chance: random.Random) -> Corruption:
    """A value that is there, changed: one bit of bytes or of a number, one letter of a text."""
    while True:
        column = chance.choice(columns())
        with node.database.reading() as connection:
            rows = connection.execute(select(column.table)).mappings().all()
        row = dict(chance.choice(rows))
        before = row[column.name]
        if before is not None and before not in (b"", ""):
            return Corruption(column, row, changed(column, before, chance))


def changed(column: Column[Any], before: Any, chance: random.Random) -> Any:
    if isinstance(column.type, LargeBinary):
        data = bytearray(before)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        return bytes(data)
    if isinstance(column.type, Boolean):
        return not before
    if isinstance(column.type, Integer | BigInteger):
        return before ^ 1 << chance.randrange(20)
    place = chance.randrange(len(before))
    return before[:place] + chr((ord(before[place]) + 1 - 32) % 95 + 32) + before[place + 1 :]


def audit(node: Node) -> NodeAudit:
    return audit_node(node)


@pytest.mark.slow
def test_every_random_corruption_is_found_and_named(built: Built, tampered: Path) -> None:
    node, chance, done = built.open(tampered), random.Random(SEED), 0
    try:
        while done < COUNT:
            corruption = draw(node, chance)
            try:
                corruption.apply(node)
            except (IntegrityError, DBAPIError):
                continue  # the database itself does not take it
            done += 1
            found = audit(node)
            assert not found.good, f"seed {SEED}, number {done}: {corruption}"
            first = found.causes()[0].first
            findings = [finding for log in found.logs for finding in log.findings]
            assert any(map(corruption.is_named_by, findings)), f"seed {SEED}, number {done}: {corruption}: {first}"
            assert "\n" not in first.sentence
            corruption.undo(node)
        last = audit(node)
        assert last.good, last.first()
    finally:
        node.close()


def test_what_is_drawn_is_changed_and_put_back(built: Built, tampered: Path) -> None:
    node, chance = built.open(tampered), random.Random(1)
    try:
        corruption = draw(node, chance)
        assert corruption.value != corruption.row[corruption.column.name]
    finally:
        node.close()
