"""What the recipe establishes when all is well."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from ledger.errors import DisclosureInvalid, KeyRefused
from ledger.verify import Attachment, Cosigned, Unit, Verifier, verify_attachment
from ledger.verify.verifier import CHUNK_BYTES, digest_of
from tests.verify.factory import (
    PHOTO,
    START,
    UNITS,
    department,
    evidence,
    hint,
    key,
    log,
    record_id,
    seal,
    trust,
)


def test_the_facts_of_a_whole_record() -> None:
    record, state = evidence()
    facts = Verifier(trust()).verify(record.present(), state.receipt(5))
    assert (facts.record_id, facts.type, facts.version) == (record_id(5), "inspection.finding", 1)
    assert facts.references == {"matter": "FIRE-0042"}
    assert (facts.consortium, facts.engine) == ("yunxi.example", "qbft")
    assert (facts.department.id, facts.key, facts.sealed_at) == ("fire", key("fire"), START + 5)
    assert facts.units == tuple(Unit(name, members) for name, members in UNITS.items())
    assert facts.masked == 0
    photo = UNITS["attachment-1"]
    expected = Attachment("attachment-1", "exit.png", "image/png", len(PHOTO), photo["sha256"])
    assert facts.attachments == (expected,)
    logged = facts.logged
    assert logged is not None
    assert (logged.origin, logged.index, logged.size, logged.quorum) == ("yunxi.example/fire", 5, 11, 2)
    assert logged.cosigned == (
        Cosigned("court.example/witness", "District People's Court", START + 100),
        Cosigned("notary.example/witness", "Notary Office", START + 101),
    )
    assert logged.seen_at == START + 100
    assert logged.anchor == hint()


def test_masked_units_are_counted_and_nothing_else_is_known_of_them() -> None:
    record, state = evidence()
    facts = Verifier(trust()).verify(record.present("place"), state.receipt(5))
    assert [unit.name for unit in facts.units] == ["place"]
    assert (facts.masked, facts.attachments) == (4, ())


def test_all_units_masked() -> None:
    record, state = evidence()
    facts = Verifier(trust()).verify(record.ascii + b"~", state.receipt(5))
    assert (facts.units, facts.masked) == ((), 5)


def test_a_record_without_units() -> None:
    record = seal(units={})
    facts = Verifier(trust()).verify(record.present(), log([record.ascii]).receipt(0))
    assert (facts.units, facts.masked) == ((), 0)


def test_without_a_receipt_the_facts_say_so() -> None:
    assert Verifier(trust()).verify(evidence()[0].present(), None).logged is None


def test_a_receipt_without_extra_is_not_anchored_yet() -> None:
    record = seal()
    facts = Verifier(trust()).verify(record.present(), log([record.ascii], anchored=False).receipt(0))
    assert facts.logged is not None
    assert facts.logged.anchor is None


def test_without_witnesses_nobody_saw_it() -> None:
    record = seal()
    facts = Verifier(trust(witnesses=(), quorum=0)).verify(record.present(), log([record.ascii]).receipt(0))
    assert facts.logged is not None
    assert (facts.logged.cosigned, facts.logged.seen_at) == ((), None)


def test_contract_addresses_are_compared_whatever_their_case() -> None:
    record, state = evidence()
    chain = trust().chain
    upper = {name: "0x" + address[2:].upper() for name, address in chain.contracts.items()}
    Verifier(trust(chain=replace(chain, contracts=upper))).verify(record.present(), state.receipt(5))


def test_an_old_key_still_verifies_what_was_sealed_in_its_time() -> None:
    keys = (key("fire", valid_to=START + 10), key("fire next", valid_from=START + 10))
    trusted = trust(departments=(replace(department("fire"), keys=keys),))
    facts = Verifier(trusted).verify(seal(number=9).present(), None)
    assert facts.key.valid_to == START + 10
    later = seal(number=10, header={"kid": key("fire next").kid}, signer="fire next statement")
    assert Verifier(trusted).verify(later.present(), None).key.valid_from == START + 10


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257])
def test_logs_of_every_awkward_size(size: int) -> None:
    records = [seal(number=n, units={}) for n in range(size)]
    state = log([record.ascii for record in records])
    verifier = Verifier(trust())
    for index in {0, size // 2, size - 1}:
        facts = verifier.verify(records[index].present(), state.receipt(index))
        assert facts.logged is not None
        assert (facts.logged.index, facts.logged.size) == (index, size)


def test_more_checkpoints_than_are_remembered() -> None:
    record = seal(units={})
    verifier = Verifier(trust(witnesses=(), quorum=0))
    for size in range(1, 300):
        entries = [seal(number=n, units={}).ascii for n in range(1)] * (size - 1)
        receipt = log([record.ascii, *entries], witnesses=(), anchored=size % 2 == 0).receipt(0)
        facts = verifier.verify(record.present(), receipt)
        assert facts.logged is not None
        assert facts.logged.size == size


def test_an_attachment_is_found_by_its_content() -> None:
    facts = Verifier(trust()).verify(evidence()[0].present(), None)
    assert verify_attachment(facts, io.BytesIO(PHOTO)).unit == "attachment-1"


CHANGED = {"a flipped bit": bytes([PHOTO[0] ^ 1]) + PHOTO[1:], "cut": PHOTO[:-1], "longer": PHOTO + b"\0", "none": b""}


@pytest.mark.parametrize("data", CHANGED.values(), ids=CHANGED)
def test_another_attachment_is_refused(data: bytes) -> None:
    facts = Verifier(trust()).verify(evidence()[0].present(), None)
    with pytest.raises(DisclosureInvalid, match="SHA-256"):
        verify_attachment(facts, io.BytesIO(data))


def test_a_masked_attachment_cannot_be_compared() -> None:
    facts = Verifier(trust()).verify(evidence()[0].present("place"), None)
    with pytest.raises(DisclosureInvalid):
        verify_attachment(facts, io.BytesIO(PHOTO))


def test_attachments_are_read_in_chunks() -> None:
    class Stream(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size == CHUNK_BYTES
            return super().read(size)

    assert digest_of(Stream(bytes(3 * CHUNK_BYTES + 1)))[1] == 3 * CHUNK_BYTES + 1


def test_the_verifier_of_another_consortium_knows_nobody() -> None:
    strangers = trust(departments=(department("market"),))
    with pytest.raises(KeyRefused):
        Verifier(strangers).verify(evidence()[0].present(), None)
