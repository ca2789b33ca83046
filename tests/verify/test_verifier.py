"""What the recipe establishes when all is well."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest

from ledger.errors import AnchorInvalid, CheckpointInvalid, DisclosureInvalid, KeyRefused, Malformed
from ledger.formats.note import ED25519, VerifierKey
from ledger.formats.trust import Log, LogKey, Trust
from ledger.verify import Attachment, Cosigned, Unit, Verifier, verify_attachment
from ledger.verify.sentences import not_proven
from ledger.verify.verifier import CHUNK_BYTES, digest_of
from tests.verify.factory import (
    PHOTO,
    START,
    UNITS,
    department,
    evidence,
    extra_of,
    hint,
    key,
    log,
    public_of,
    record_id,
    seal,
    trust,
    trust_rotated,
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


@pytest.mark.parametrize(("ended", "found"), [(None, 2), (START + 101, 2), (START + 100, 1), (START, 1)])
def test_a_witness_s_earlier_key_counts_until_it_ended(ended: int | None, found: int) -> None:
    record, state = evidence()
    logged = Verifier(replace(trust_rotated(ended), quorum=1)).verify(record.present(), state.receipt(5)).logged
    assert logged is not None and len(logged.cosigned) == found
    if found == 1:
        with pytest.raises(CheckpointInvalid):
            Verifier(trust_rotated(ended)).verify(record.present(), state.receipt(5))


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


def test_a_refusal_is_remembered_and_stays_the_same() -> None:
    record, state = evidence()
    verifier = Verifier(trust())
    forged = replace(state.proof(5), checkpoint=state.checkpoint.replace(b"11", b"12", 1)).serialize()
    for _ in range(3):
        with pytest.raises(CheckpointInvalid):
            verifier.verify(record.present(), forged)
    facts = verifier.verify(record.present(), state.receipt(5))
    for _ in range(3):
        with pytest.raises(Malformed):
            verifier.confirm(facts, b"{}")
        with pytest.raises(Malformed):
            verifier.date(facts, b"0")


def test_an_attachment_is_found_by_its_content() -> None:
    facts = Verifier(trust()).verify(evidence()[0].present(), None)
    assert verify_attachment(facts, io.BytesIO(PHOTO)).unit == "attachment-1"


CHANGED = {"a flipped bit": bytes([PHOTO[0] ^ 1]) + PHOTO[1:], "cut": PHOTO[:-1], "longer": PHOTO + b"\0", "none": b""}


@pytest.mark.parametrize("data", CHANGED.values(), ids=CHANGED)
def test_another_attachment_is_refused(data: bytes) -> None:
    facts = Verifier(trust()).verify(evidence()[0].present(), None)
    with pytest.raises(DisclosureInvalid, match="SHA-256"):
        verify_attachment(facts, io.BytesIO(data))


ATTACHMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"name": None}, "must have a name and a media type"),
    "a media type that is a number": ({"media_type": 1}, "must have a name and a media type"),
    "a size as text": ({"size": "3"}, "must have its size in bytes"),
    "a size of true": ({"size": True}, "must have its size in bytes"),
    "a size below zero": ({"size": -1}, "must have its size in bytes"),
    "a digest that is a number": ({"sha256": 0}, "must have its SHA-256"),
    "a digest in capitals": ({"sha256": "AB" * 32}, "must have its SHA-256"),
    "a digest with a line break": ({"sha256": "ab" * 32 + "\n"}, "must have its SHA-256"),
}


@pytest.mark.parametrize("name", ATTACHMENTS)
def test_an_attachment_that_is_described_wrong_is_malformed(name: str) -> None:
    changes, sentence = ATTACHMENTS[name]
    record = seal(units={"attachment-1": UNITS["attachment-1"] | changes})
    with pytest.raises(Malformed, match=sentence):
        Verifier(trust()).verify(record.present(), None)


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


# -- a log whose key was rotated --

ENDED = START + 200
"""After the witnesses of `factory.log` cosigned, which is at START + 100."""


def rotated(ended: int = ENDED, **changes: object) -> Trust:
    """The trust file after the fire department's log went over to a new key."""
    fire = department("fire")
    new = VerifierKey.of(fire.log.origin, ED25519, public_of("fire log 2"))
    old = LogKey(fire.log.vkey, START - 86_400, ended)
    departments = (replace(fire, log=Log(fire.log.origin, str(new), (old,))), department("market"))
    return trust(departments=departments, **changes)


def test_a_checkpoint_by_the_logs_earlier_key_stays_good() -> None:
    record, state = evidence()
    facts = Verifier(rotated()).verify(record.present(), state.receipt(5))
    assert facts.logged is not None
    assert (facts.logged.log_key_ended, facts.logged.size) == (ENDED, 11)
    assert not [line for line in not_proven(facts, [], "en") if "while the key it used was the log's" in line]


def test_the_report_says_when_nobody_saw_the_checkpoint_in_its_keys_time() -> None:
    record, state = evidence()
    for trusted in (rotated(START + 50), rotated(witnesses=(), quorum=0)):
        facts = Verifier(trusted).verify(record.present(), state.receipt(5))
        for lang, words in (("en", "while the key it used was the log's"), ("zh", "是否仍为该日志的有效密钥")):
            assert [line for line in not_proven(facts, [], lang) if words in line]


def test_a_receipt_may_carry_an_old_checkpoint_and_an_anchor_signed_since() -> None:
    record, state = evidence()
    extra = extra_of("fire", state.checkpoint, signer="fire log 2")
    receipt = replace(state, extra=extra).receipt(5)
    facts = Verifier(rotated()).verify(record.present(), receipt)
    assert facts.logged is not None and facts.logged.anchor == hint()
    with pytest.raises(AnchorInvalid):
        Verifier(trust()).verify(record.present(), receipt)


def test_a_checkpoint_by_a_key_the_log_never_had_is_refused() -> None:
    record, state = evidence()
    stranger = replace(rotated().departments[0].log.earlier[0], vkey=_vkey("nobody"))
    fire = replace(rotated().departments[0], log=replace(rotated().departments[0].log, earlier=(stranger,)))
    with pytest.raises(CheckpointInvalid):
        Verifier(trust(departments=(fire, department("market")))).verify(record.present(), state.receipt(5))


def test_an_ended_statement_key_that_nobody_saw_in_time_is_not_proven() -> None:
    record, state = evidence()
    ended = replace(department("fire"), keys=(key("fire", valid_to=START + 50),))
    trusted = trust(departments=(ended, department("market")), witnesses=(), quorum=0)
    facts = Verifier(trusted).verify(record.present(), state.receipt(5))
    assert [line for line in not_proven(facts, [], "en") if "could date a record back" in line]


def _vkey(name: str) -> str:
    return str(VerifierKey.of("yunxi.example/fire", ED25519, public_of(name)))
