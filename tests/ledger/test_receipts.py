"""Receipts and presentations made by a node, verified by the court's verifier with the exported trust file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.chain.contracts import department_bytes
from ledger.errors import (
    AnchorInvalid,
    HistoryRefused,
    InclusionInvalid,
    KeyRefused,
    Malformed,
    NotProven,
    PayloadInvalid,
    RecordRefused,
)
from ledger.formats.tlogproof import TlogProof
from ledger.formats.trust import Trust
from ledger.node import Node
from ledger.receipts import make_receipt, make_receipts
from ledger.store.models import position_of
from ledger.store.reading import read_logs
from ledger.trust import export_trust
from ledger.verify.verifier import Verifier, verify_attachment
from tests.fixtures.nodes import FIRST_ANCHOR, SECOND_ANCHOR, SIZE, WITH_ATTACHMENT, Built, Rows
from tests.fixtures.records import report

NOW = 1_800_000_000


@pytest.fixture
def node(built: Built, tampered: Path) -> Iterator[Node]:
    opened = built.open(tampered)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def trust(built: Built) -> Trust:
    opened = built.open(built.directory)
    try:
        return Trust.parse(export_trust(opened).serialize())
    finally:
        opened.close()


def receipt_of(node: Node, record_id: str) -> bytes:
    with node.database.writing() as connection:
        return make_receipt(connection, node.agent, record_id, NOW).serialize()


def presentation_of(node: Node, record_id: str, units: list[str] | None) -> bytes:
    with node.database.reading() as connection:
        return node.reader.present(connection, record_id, units)


UNDER: dict[str, tuple[int, int, bool]] = {
    "the first": (0, FIRST_ANCHOR, True),
    "the last under the first anchor": (FIRST_ANCHOR - 1, FIRST_ANCHOR, True),
    "the first under the second": (FIRST_ANCHOR, SECOND_ANCHOR, True),
    "the last under the second": (SECOND_ANCHOR - 1, SECOND_ANCHOR, True),
    "one that is not anchored yet": (SECOND_ANCHOR, SIZE, False),
    "the newest": (SIZE - 1, SIZE, False),
}


@pytest.mark.parametrize("name", UNDER)
@pytest.mark.parametrize("units", [None, [], ["result"]], ids=["full", "bare", "masked"])
def test_verifies_under_the_earliest_anchor(
    built: Built, node: Node, trust: Trust, name: str, units: list[str] | None
) -> None:
    index, size, anchored = UNDER[name]
    record_id = built.records[index].record_id
    facts = Verifier(trust).verify(presentation_of(node, record_id, units), receipt_of(node, record_id))
    assert (facts.record_id, facts.department.id, facts.engine) == (record_id, "fire", "embedded")
    assert facts.logged is not None
    assert (facts.logged.index, facts.logged.size, facts.logged.origin) == (index, size, "test.example/fire")
    assert (facts.logged.anchor is not None) == anchored
    if units is not None:
        assert {unit.name for unit in facts.units} == set(units)
    shown = {name: value for unit in facts.units for name, value in unit.members.items()}
    assert shown.get("result") == (None if units == [] else report(index)["result"])


def test_the_anchor_named_is_the_chains(built: Built, node: Node, trust: Trust) -> None:
    record_id = built.records[7].record_id
    facts = Verifier(trust).verify(presentation_of(node, record_id, None), receipt_of(node, record_id))
    assert facts.logged is not None
    hint = facts.logged.anchor
    assert hint is not None
    link = node.connect()
    held = link.evidence_log.root_at(department_bytes("fire"), FIRST_ANCHOR)
    assert held is not None
    assert (held.root, held.block_number, held.timestamp) == (facts.logged.root, hint.block_number, hint.time)
    block = link.client.block(hint.block_number)
    assert block is not None
    assert "0x" + block.hash.hex() == hint.block_hash
    link.client.close()


def test_many_receipts_are_the_same_receipts(built: Built, node: Node) -> None:
    indexes = [SIZE - 1, 0, 299, 300, 7, 7, 339, 340]
    with node.database.writing() as connection:
        log = read_logs(connection, "fire")[0]
        made = make_receipts(connection, node.agent, log, indexes, NOW)
    assert [proof.index for proof in made] == indexes
    for proof in made:
        assert proof.serialize() == receipt_of(node, built.records[proof.index].record_id)


def test_a_receipt_is_made_the_same_again(built: Built, node: Node) -> None:
    for index in (7, SIZE - 1):
        record_id = built.records[index].record_id
        assert receipt_of(node, record_id) == receipt_of(node, record_id)


def test_the_attachment_that_comes_back_is_the_one_that_was_sealed(built: Built, node: Node, trust: Trust) -> None:
    record_id = built.records[WITH_ATTACHMENT].record_id
    facts = Verifier(trust).verify(presentation_of(node, record_id, None), receipt_of(node, record_id))
    with node.database.reading() as connection:
        for number in (1, 2):
            data = b"".join(node.reader.attachment(connection, record_id, number))
            assert verify_attachment(facts, io.BytesIO(data)).unit == f"attachment-{number}"


def test_another_records_receipt_proves_nothing(built: Built, node: Node, trust: Trust) -> None:
    one, two = built.records[7].record_id, built.records[8].record_id
    with pytest.raises(InclusionInvalid):
        Verifier(trust).verify(presentation_of(node, one, None), receipt_of(node, two))


def test_an_anchor_of_another_receipt_proves_nothing(built: Built, node: Node, trust: Trust) -> None:
    anchored = TlogProof.parse(receipt_of(node, built.records[7].record_id))
    record_id = built.records[SIZE - 1].record_id
    other = TlogProof.parse(receipt_of(node, record_id))
    mixed = TlogProof(anchored.extra, other.index, other.path, other.checkpoint)
    with pytest.raises(AnchorInvalid):
        Verifier(trust).verify(presentation_of(node, record_id, None), mixed.serialize())


def test_every_byte_of_a_receipt_counts(built: Built, node: Node, trust: Trust) -> None:
    record_id = built.records[7].record_id
    presentation, receipt = presentation_of(node, record_id, ["result"]), receipt_of(node, record_id)
    cosigned = receipt.index(b"\n\n", receipt.index(b"\n\n") + 2)  # unknown signatures behind it may say anything
    for place in range(0, cosigned, 7):
        changed = bytearray(receipt)
        changed[place] ^= 1
        with pytest.raises((NotProven, Malformed)):
            Verifier(trust).verify(presentation, bytes(changed))


def test_a_wrong_trust_file(built: Built, node: Node, own_trust: Trust) -> None:
    record_id = built.records[7].record_id
    with pytest.raises(KeyRefused):
        Verifier(own_trust).verify(presentation_of(node, record_id, None), None)


@pytest.fixture
def own_trust(trust: Trust) -> Trust:
    """A trust file that knows the other department only."""
    return replace(trust, departments=tuple(d for d in trust.departments if d.id == "health"))


def test_no_receipt_for_a_record_that_is_not_there(node: Node) -> None:
    with pytest.raises(RecordRefused, match="this node has no record"):
        receipt_of(node, "0193510b-8c00-7abc-8def-0123456789ab")


def test_no_checkpoint_is_signed_over_a_damaged_tree(node: Node, built: Built, tampered: Path) -> None:
    Rows(tampered).flip("tiles", "hashes", "log = 1 AND level = 0 AND tile = 1")
    with pytest.raises(HistoryRefused, match="is damaged at size 345: run `yunxi audit`; nothing was signed"):
        receipt_of(node, built.records[SIZE - 1].record_id)


def test_a_lost_tile_is_no_receipt(node: Node, built: Built, tampered: Path) -> None:
    Rows(tampered).do("DELETE FROM tiles WHERE log = 1 AND level = 0 AND tile = 0")
    with pytest.raises(InclusionInvalid, match="tile 0/0 of the log is missing or cut short: run `yunxi audit`"):
        receipt_of(node, built.records[7].record_id)


def test_a_damaged_record_is_not_presented(node: Node, built: Built, tampered: Path) -> None:
    rows = Rows(tampered)
    rows.flip("vault", "payload", f"position = {position_of(1, 7)}")
    rows.do(f"UPDATE vault SET wrapped_key = NULL WHERE position = {position_of(1, 8)}")
    rows.do(f"DELETE FROM vault WHERE position = {position_of(1, 9)}")
    with pytest.raises(PayloadInvalid, match="not the one that was sealed"):
        presentation_of(node, built.records[7].record_id, None)
    with pytest.raises(RecordRefused, match="was forgotten: its key is destroyed, its proof stays"):
        presentation_of(node, built.records[8].record_id, None)
    with pytest.raises(PayloadInvalid, match="is missing from the vault: run `yunxi audit`"):
        presentation_of(node, built.records[9].record_id, None)
    # the proof of a forgotten record stays
    assert receipt_of(node, built.records[8].record_id)
