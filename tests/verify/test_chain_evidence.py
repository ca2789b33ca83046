"""Anchor evidence, steps 12 to 15: what it adds to the facts, and every way in which it must not.

The blocks are made by `sealed` from the published formats. Those of a real chain are in tests/chain/test_evidence.py.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, derive_private_key
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import AnchorInvalid, Malformed, Refusal, TrustRefused
from ledger.formats import jwk, rlp
from ledger.formats.evidence import AnchorClaim, AnchorEvidence
from ledger.formats.trust import Trust
from ledger.verifier_zipapp import build_verifier
from ledger.verify import Facts, OnChain, Sealer, Verifier
from ledger.verify.__main__ import run
from ledger.verify.chain_evidence import NO_TRANSACTION
from tests.verify.factory import CHAIN_ID, EVIDENCE_LOG, START, department, evidence, log, seal, trust
from tests.verify.sealed import (
    BLOCK,
    CONTRACT,
    ENGINES,
    THRESHOLD,
    TIME,
    VALIDATORS,
    Made,
    Said,
    address,
    anchored,
    key,
    log_id,
    made,
    proof,
    receipt,
    transaction,
    trust_of,
)


@cache
def block(engine: str) -> Made:
    return made(engine, evidence()[1])


@cache
def good_file(engine: str) -> bytes:
    return block(engine).file()


@cache
def good_receipt(engine: str) -> bytes:
    return block(engine).receipt_of(evidence()[1], 5)


def verify(engine: str, file: bytes, trusted: Trust | None = None, of: Made | None = None) -> Facts:
    """The good record and a receipt that names the block, with `file` as evidence."""
    record, state = evidence()
    presented = good_receipt(engine) if of in (None, block(engine)) else of.receipt_of(state, 5)
    return Verifier(trusted or trust_of(engine)).verify(record.present(), presented, file)


# --- what it adds ---


@pytest.mark.parametrize("engine", ENGINES)
def test_the_facts(engine: str) -> None:
    found = verify(engine, block(engine).file())
    assert found.logged is not None
    assert found.logged.on_chain == OnChain(
        contract=EVIDENCE_LOG,
        block_number=BLOCK,
        block_hash="0x" + block(engine).block_hash.hex(),
        time=TIME,
        transaction="0x" + keccak(transaction(2)).hex(),
        sealed_by=(Sealer(address(0), "Fire Department"), Sealer(address(1), ""), Sealer(address(2), "")),
        threshold=THRESHOLD,
        validators=VALIDATORS,
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_more_validators_than_needed(engine: str) -> None:
    more = replace(block(engine), sealers=(3, 2, 1, 0))
    found = verify(engine, more.file(), of=more)
    assert found.logged is not None
    assert found.logged.on_chain is not None
    # in the trust file's order, whoever came first
    assert [sealer.address for sealer in found.logged.on_chain.sealed_by] == [address(n) for n in range(4)]


def test_a_clique_validator_may_seal_again_but_counts_once() -> None:
    again = replace(block("clique"), sealers=(0, 1, 0, 1, 2))
    found = verify("clique", again.file(), of=again)
    assert found.logged is not None
    assert found.logged.on_chain is not None
    assert len(found.logged.on_chain.sealed_by) == 3


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("transactions", [1, 2, 16, 130])
def test_blocks_of_every_size(engine: str, transactions: int) -> None:
    state = evidence()[1]
    good = block(engine)
    others = [receipt([anchored(n + 1000, bytes(32))]) for n in range(transactions - 1)]
    sized = replace(
        good,
        transactions=tuple(transaction(n) for n in range(transactions)),
        receipts=(*others, receipt([anchored(good.claim.size, good.claim.root, state.department)])),
        index=transactions - 1,
    )
    assert verify(engine, sized.file(), of=sized).logged is not None


@pytest.mark.parametrize("engine", ENGINES)
def test_one_transaction_may_anchor_several_logs(engine: str) -> None:
    good = block(engine)
    own = anchored(good.claim.size, good.claim.root)
    receipts = (*good.receipts[:2], receipt([anchored(3, bytes(32), "market"), own]), *good.receipts[3:])
    several = replace(good, receipts=receipts)
    assert verify(engine, several.file(), of=several).logged is not None


@pytest.mark.parametrize("engine", ENGINES)
def test_a_receipt_from_before_anchoring_is_helped_too(engine: str) -> None:
    record, state = evidence()
    plain = replace(state.proof(5), extra=None).serialize()
    found = Verifier(trust_of(engine)).verify(record.present(), plain, block(engine).file())
    assert found.logged is not None
    assert (found.logged.anchor, found.logged.on_chain is not None) == (None, True)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_receipt_that_does_not_know_its_transaction(engine: str) -> None:
    record, state = evidence()
    extra = block(engine).extra(state, transaction=NO_TRANSACTION)
    presented = replace(state.proof(5), extra=extra).serialize()
    assert Verifier(trust_of(engine)).verify(record.present(), presented, block(engine).file()).logged is not None


def test_addresses_are_compared_whatever_their_case() -> None:
    upper = tuple("0x" + address(n)[2:].upper() for n in range(VALIDATORS))
    names = {upper[1]: "Court"}
    found = verify("qbft", block("qbft").file(), trust_of("qbft", addresses=upper, unknown={"names": names}))
    assert found.logged is not None
    assert found.logged.on_chain is not None
    assert found.logged.on_chain.sealed_by[1] == Sealer(address(1), "Court")


# --- what is refused: each changes one thing ---

Attack = Callable[[str], tuple[bytes, Made]]
"""From the engine to the file, and the block that the receipt names."""


def only(file: Callable[[Made], bytes]) -> Callable[[str], tuple[bytes, Made]]:
    """An attack on the file alone: the receipt names the good block."""
    return lambda engine: (file(block(engine)), block(engine))


def rebuilt(**changes: Any) -> Callable[[str], tuple[bytes, Made]]:
    """An attack by whoever makes blocks, and the receipt with them."""

    def attack(engine: str) -> tuple[bytes, Made]:
        other = replace(block(engine), **changes)
        return other.file(), other

    return attack


def claiming(**changes: Any) -> Callable[[str], tuple[bytes, Made]]:
    return only(lambda good: good.file(claim=replace(good.claim, **changes)))


def with_receipt(data: Callable[[Made], bytes]) -> Callable[[str], tuple[bytes, Made]]:
    """The transaction's receipt is another one, in a block that was sealed like that."""

    def attack(engine: str) -> tuple[bytes, Made]:
        good = block(engine)
        other = replace(good, receipts=(*good.receipts[:2], data(good), *good.receipts[3:]))
        return other.file(), other

    return attack


def with_headers(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[str], tuple[bytes, Made]]:
    return only(lambda good: good.file(headers=tuple(change(list(good.headers)))))


def flipped(data: bytes, bit: int = -9) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def state_of(good: Made, **changes: Any) -> bytes:
    """A receipt whose event differs."""
    event = anchored(good.claim.size, good.claim.root)
    return receipt([replace(event, **changes)])


ATTACKS: dict[str, Attack] = {
    # who sealed
    "one validator too few": rebuilt(sealers=(0, 1)),
    "one validator alone": rebuilt(sealers=(0,)),
    "the same validator as often as needed": rebuilt(sealers=(0, 0, 0)),
    "two validators, one of them twice": rebuilt(sealers=(0, 1, 0)),
    "validators that the trust file does not name": rebuilt(sealers=(4, 5, 6)),
    "enough validators and a stranger": rebuilt(sealers=(0, 1, 2, 4)),
    "a stranger among the validators": rebuilt(sealers=(0, 4, 1)),
    # the block
    "the block of another chain of events": rebuilt(fields={0: b"q" * 32, 5: b"r" * 32}),
    "another block than the receipt names": lambda engine: (
        replace(block(engine), fields={0: b"q" * 32}).file(),
        block(engine),
    ),
    "a block with another time than the receipt names": lambda engine: (
        replace(block(engine), fields={11: (TIME - 60).to_bytes(4, "big")}).file(),
        block(engine),
    ),
    "the headers of another block": lambda engine: (
        block(engine).file(headers=replace(block(engine), fields={5: b"r" * 32}).headers),
        block(engine),
    ),
    "a header of the other engine": lambda engine: (
        block(engine).file(headers=block(ENGINES[1 - ENGINES.index(engine)]).headers),
        block(engine),
    ),
    "a flipped bit in the header": with_headers(lambda headers: [flipped(headers[0], 9 * 8), *headers[1:]]),
    "a flipped bit in the last seal": with_headers(lambda headers: [*headers[:-1], flipped(headers[-1], -60 * 8)]),
    "a header that does not follow": with_headers(lambda headers: [*headers, headers[-1]]),
    "headers in another order": with_headers(lambda headers: [*headers[1:], headers[0], headers[0]]),
    "a header with a byte after its end": with_headers(lambda headers: [headers[0] + b"\x00", *headers[1:]]),
    "a header that is not the shortest RLP": with_headers(
        lambda headers: [b"\xfa\x00" + headers[0][1:], *headers[1:]],
    ),
    "a header that is lists in lists": with_headers(lambda headers: [b"\xc1" * 5_000, *headers[1:]]),
    "a header that claims to be endless": with_headers(lambda headers: [b"\xff" * 9, *headers[1:]]),
    "as many headers as allowed, all the same": with_headers(lambda headers: headers[:1] * 128),
    # what it is about
    "a claim of another chain": claiming(chain_id=CHAIN_ID + 1),
    "a claim of another contract": claiming(contract=b"\x66" * 20),
    "a claim of another log": claiming(log_id=log_id("market")),
    "a claim of another size": claiming(size=12),
    "a claim of another root": claiming(root=bytes(32)),
    # the transaction
    "a transaction signed for another chain": rebuilt(
        transactions=tuple(transaction(n, CHAIN_ID + 1) for n in range(20))
    ),
    "another transaction of the block": only(lambda good: good.file(index=3)),
    "an index that is not in the block": only(lambda good: good.file(index=20)),
    "a transaction of another block": only(
        lambda good: good.file(transaction_proof=proof(tuple(transaction(n + 1) for n in range(20)), 2))
    ),
    "a flipped bit in the transaction": only(
        lambda good: good.file(transaction_proof=(*good.evidence().transaction_proof[:-1], flipped(_last(good))))
    ),
    "a proof cut short": only(lambda good: good.file(transaction_proof=good.evidence().transaction_proof[:-1])),
    "a proof with a node left over": only(
        lambda good: good.file(receipt_proof=(*good.evidence().receipt_proof, b"\xc0"))
    ),
    "a receipt passed off as a transaction": only(
        lambda good: good.file(transaction_proof=good.evidence().receipt_proof)
    ),
    # the event
    "a receipt of another transaction": only(
        lambda good: good.file(receipt_proof=proof(good.receipts, 3)),
    ),
    "an event of another contract": with_receipt(lambda good: state_of(good, address=b"\x66" * 20)),
    "an event of another kind": with_receipt(lambda good: state_of(good, topics=(bytes(32),) * 4)),
    "an event of another log": with_receipt(
        lambda good: receipt([anchored(good.claim.size, good.claim.root, "market")])
    ),
    "an event of another size": with_receipt(lambda good: receipt([anchored(12, good.claim.root)])),
    "an event of another root": with_receipt(lambda good: receipt([anchored(good.claim.size, bytes(32))])),
    "a transaction that failed": with_receipt(
        lambda good: receipt([anchored(good.claim.size, good.claim.root)], status=b"")
    ),
    "a transaction without events": with_receipt(lambda good: receipt([])),
    "a receipt that is no receipt": with_receipt(lambda good: rlp.encode((b"\x01",))),
    "a receipt from before Byzantium": with_receipt(
        lambda good: receipt([anchored(good.claim.size, good.claim.root)], status=bytes(32))
    ),
}


def _last(good: Made) -> bytes:
    return good.evidence().transaction_proof[-1]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_attack_is_refused(attack: Attack, engine: str) -> None:
    file, named = attack(engine)
    with pytest.raises(AnchorInvalid) as refused:
        verify(engine, file, of=named)
    # in both languages, by the recipe
    assert refused.value.__notes__


STRANGE = b"\x66" * 20
TRULY_OF_ANOTHER: dict[str, tuple[dict[str, Any], Callable[[AnchorClaim], Said], str]] = {
    "another contract": (
        {"contract": STRANGE}, lambda c: anchored(c.size, c.root, contract=STRANGE), "anchor in contract 0x66"
    ),
    "another log": (
        {"log_id": log_id("market")}, lambda c: anchored(c.size, c.root, "market"), "for another log than that of"
    ),
    "another size": ({"size": 12}, lambda c: anchored(12, c.root), "another state of the log .12 entries."),
    "another root": ({"root": bytes(32)}, lambda c: anchored(c.size, bytes(32)), "state of the log .11 entries."),
}  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", TRULY_OF_ANOTHER)
def test_evidence_that_fits_together_and_is_about_something_else(name: str, engine: str) -> None:
    """Nothing in the file contradicts it: only the comparison with the trust file and the receipt refuses it."""
    changes, event, sentence = TRULY_OF_ANOTHER[name]
    good = block(engine)
    receipts = (*good.receipts[:2], receipt([event(good.claim)]), *good.receipts[3:])
    other = replace(good, claim=replace(good.claim, **changes), receipts=receipts)
    with pytest.raises(AnchorInvalid, match=sentence):
        verify(engine, other.file(), of=other)


@pytest.mark.parametrize("engine", ENGINES)
def test_another_transaction_of_the_block_that_anchors_the_same(engine: str) -> None:
    good = block(engine)
    both = replace(good, receipts=(*good.receipts[:3], good.receipts[2], *good.receipts[4:]))
    other = replace(both, index=3)
    assert verify(engine, both.file(), of=both).logged is not None
    assert verify(engine, other.file(), of=other).logged is not None
    with pytest.raises(AnchorInvalid, match=r"is about transaction 0x.* but the receipt names transaction 0x"):
        verify(engine, other.file(), of=both)


def test_a_qbft_block_with_a_seal_twice_is_refused_however_many_others_there_are() -> None:
    twice = replace(block("qbft"), sealers=(0, 1, 2, 2))
    with pytest.raises(AnchorInvalid, match="two seals"):
        verify("qbft", twice.file(), of=twice)


def test_a_storage_proof_style_key_is_no_key_of_these_tries() -> None:
    # a longer encoding of the index must not lead to the same place
    good = block("qbft")
    with pytest.raises(Malformed):
        verify("qbft", good.file().replace(b'"index":2', b'"index":02'))


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_anywhere_is_refused(engine: str, data: st.DataObject) -> None:
    file = good_file(engine)
    bit = data.draw(st.integers(0, len(file) * 8 - 1))
    with pytest.raises((AnchorInvalid, Malformed)):
        verify(engine, flipped(file, bit))


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_inside_is_refused_as_an_invalid_anchor(engine: str, data: st.DataObject) -> None:
    good = AnchorEvidence.parse(good_file(engine))
    name = data.draw(st.sampled_from(["headers", "transaction_proof", "receipt_proof"]))
    parts = list(getattr(good, name))
    n = data.draw(st.integers(0, len(parts) - 1))
    parts[n] = flipped(parts[n], data.draw(st.integers(0, len(parts[n]) * 8 - 1)))
    with pytest.raises(AnchorInvalid):
        verify(engine, replace(good, **{name: tuple(parts)}).serialize())


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_every_single_bit_of_the_last_seal(engine: str) -> None:
    # in a block that is not the last of its evidence the next one's parent hash tells already
    good = AnchorEvidence.parse(good_file(engine))
    header = good.headers[-1]
    # the seal ends the extra data, and mix hash, nonce and base fee follow
    end = len(header) - 33 - 9 - 1
    for bit in range((end - 65) * 8, end * 8):
        headers = (*good.headers[:-1], flipped(header, bit))
        with pytest.raises(AnchorInvalid):
            verify(engine, replace(good, headers=headers).serialize())


# --- the trust file ---


def test_the_embedded_chain_has_no_such_proof() -> None:
    with pytest.raises(AnchorInvalid, match="no proof by validators exists"):
        verify("qbft", block("qbft").file(), trust_of("embedded"))


def test_a_trust_file_without_a_threshold_cannot_judge() -> None:
    with pytest.raises(TrustRefused):
        verify("qbft", block("qbft").file(), trust_of("qbft", threshold=0))


def test_the_threshold_is_the_trust_files() -> None:
    four = trust_of("qbft", threshold=4)
    with pytest.raises(AnchorInvalid, match="4 different validators"):
        verify("qbft", block("qbft").file(), four)
    all_four = replace(block("qbft"), sealers=(0, 1, 2, 3))
    assert verify("qbft", all_four.file(), four, of=all_four).logged is not None


def validator_jwk(number: int) -> dict[str, str]:
    private = derive_private_key(int.from_bytes(key(number).to_bytes(), "big"), SECP256K1())
    return jwk.from_public_key(private.public_key())


def test_validators_keys_are_compared_with_their_addresses() -> None:
    listed = [validator_jwk(n) for n in range(VALIDATORS)]
    assert verify("qbft", block("qbft").file(), trust_of("qbft", unknown={"keys": listed})).logged is not None


BAD_VALIDATORS: dict[str, dict[str, Any]] = {
    "a key of a stranger": {"keys": [validator_jwk(4)]},
    "a key of another kind": {"keys": [department("fire").keys[0].jwk]},
    "a key that is a text": {"keys": ["0x04"]},
    "keys that are an object": {"keys": {}},
    "a name of a stranger": {"names": {address(4): "Mallory"}},
    "a name that is a number": {"names": {address(0): 1}},
    "a name that moves the cursor": {"names": {address(0): "Court\x1b[2J"}},
    "two names of one": {"names": {address(0): "Court", "0x" + address(0)[2:].upper(): "Mallory"}},
    "names that are a list": {"names": []},
}


@pytest.mark.parametrize("unknown", BAD_VALIDATORS.values(), ids=BAD_VALIDATORS)
def test_validators_that_do_not_fit_together_are_refused_at_once(unknown: dict[str, Any], tmp_path: Path) -> None:
    trusted = trust_of("qbft", unknown=unknown)
    with pytest.raises((TrustRefused, Malformed)):
        Verifier(trusted)
    (tmp_path / "trust.json").write_bytes(trusted.serialize())
    (tmp_path / "a.sd-jwt").write_bytes(evidence()[0].present())
    out = io.StringIO()
    assert run([str(tmp_path / "a.sd-jwt"), "--trust", str(tmp_path / "trust.json"), "--json"], out) == 1
    assert json.loads(out.getvalue())["files"] == []


# --- a verifier that remembers ---


def test_evidence_that_passed_once_does_not_help_another_record_or_anchor() -> None:
    record, state = evidence()
    good, verifier = block("qbft"), Verifier(trust_of("qbft"))
    facts = verifier.verify(record.present(), good.receipt_of(state, 5), good.file())
    assert facts.logged is not None
    # another record of the same checkpoint: good
    other = seal(number=6)
    assert verifier.verify(other.present(), good.receipt_of(state, 6), good.file()).logged is not None
    # the same checkpoint, said to be anchored in another block
    elsewhere = replace(state.proof(5), extra=good.extra(state, block_number=BLOCK + 1)).serialize()
    with pytest.raises(AnchorInvalid):
        verifier.verify(record.present(), elsewhere, good.file())
    # another checkpoint
    larger = log([*state.entries, seal(number=11).ascii])
    with pytest.raises(AnchorInvalid):
        verifier.verify(record.present(), larger.receipt(5), good.file())


def test_evidence_needs_a_receipt() -> None:
    with pytest.raises(AnchorInvalid):
        Verifier(trust_of("qbft")).verify(evidence()[0].present(), None, block("qbft").file())


# --- the command ---


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with good evidence of two records, which is the working directory."""
    state, good = evidence()[1], block(request.param)
    (tmp_path / "trust.json").write_bytes(trust_of(request.param).serialize())
    for name, number in (("a", 5), ("b", 6)):
        (tmp_path / f"{name}.sd-jwt").write_bytes(seal(number=number).present())
        (tmp_path / f"{name}.tlog-proof").write_bytes(good.receipt_of(state, number))
    (tmp_path / "x.anchor.json").write_bytes(good.file())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(*names: str) -> tuple[int, dict[str, Any]]:
    out = io.StringIO()
    code = run([*names, "--trust", "trust.json", "--json"], out)
    return code, json.loads(out.getvalue())


def codes(report: dict[str, Any]) -> list[str | None]:
    return [file["error"] and file["error"]["code"] for file in report["files"]]


def text(lang: str, *names: str) -> str:
    out = io.StringIO()
    run([*names, "--trust", "trust.json", "--lang", lang], out)
    return out.getvalue()


FILES = ("a.sd-jwt", "a.tlog-proof", "x.anchor.json")


def test_files_in_any_order_under_any_name(place: Path) -> None:
    for order in (FILES, FILES[::-1]):
        code, report = answer(*order)
        assert (code, codes(report)) == (0, [None] * 3)
    (place / "x.anchor.json").rename(place / "photo.png")
    code, report = answer("photo.png", "a.tlog-proof", "a.sd-jwt")
    assert code == 0
    assert [file["facts"]["kind"] for file in report["files"]] == ["evidence", "receipt", "record"]


def test_the_json_report(place: Path) -> None:
    _, report = answer(*FILES)
    on_chain = report["files"][0]["facts"]["log"]["on_chain"]
    assert (on_chain["block_number"], on_chain["time"], on_chain["threshold"]) == (BLOCK, TIME, THRESHOLD)
    assert on_chain["sealed_by"][0] == {"address": address(0), "name": "Fire Department"}
    for file in report["files"][1:]:
        assert file["facts"]["log"]["on_chain"] == on_chain
    assert answer("a.sd-jwt", "a.tlog-proof")[1]["files"][0]["facts"]["log"]["on_chain"] is None


SAID = {"en": ("Fire Department (0x", "By the validators' word"), "zh": ("Fire Department（0x", "据各验证节点确认")}
OPEN = {"en": "act independently of one another", "zh": "各验证节点相互之间"}
NOT_ASKED = {"en": "No valid anchor evidence", "zh": "未提交对应的有效锚定证据"}


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_the_report_says(place: Path, lang: str) -> None:
    said = text(lang, *FILES)
    for part in (*SAID[lang], OPEN[lang], address(1)):
        assert part in said
    assert NOT_ASKED[lang] not in said
    without = text(lang, "a.sd-jwt", "a.tlog-proof")
    assert NOT_ASKED[lang] in without
    assert OPEN[lang] not in without


def test_without_witnesses_the_chain_still_dates_the_record(place: Path) -> None:
    (place / "trust.json").write_bytes(
        replace(Trust.parse((place / "trust.json").read_bytes()), witnesses=(), quorum=0).serialize()
    )
    assert "Nobody outside the department confirmed a time" in text("en", "a.sd-jwt", "a.tlog-proof")
    said = text("en", *FILES)
    assert "Nobody outside the department confirmed a time" not in said
    assert "only one version of its log" not in said
    assert f"came {TIME - START - 5 - 60} seconds later" in said.replace("1 minute, ", "")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_on_the_embedded_chain_the_report_says_that_there_is_no_such_proof(place: Path, lang: str) -> None:
    (place / "trust.json").write_bytes(trust_of("embedded").serialize())
    code, report = answer(*FILES)
    assert (code, codes(report)) == (1, [None, None, "anchor-invalid"])
    part = {"en": "A proof by the chain's validators does not exist", "zh": "不存在由验证节点作出的证明"}[lang]
    assert part in text(lang, "a.sd-jwt", "a.tlog-proof")


def test_one_file_of_evidence_serves_all_records_of_the_checkpoint(place: Path) -> None:
    code, report = answer("a.sd-jwt", "b.sd-jwt", "x.anchor.json", "a.tlog-proof", "b.tlog-proof")
    assert (code, codes(report)) == (0, [None] * 5)
    assert all(report["files"][n]["facts"]["log"]["on_chain"] for n in (0, 1))


def test_bad_evidence_is_a_finding_and_takes_nothing_from_the_record(place: Path) -> None:
    (place / "x.anchor.json").write_bytes(flipped((place / "x.anchor.json").read_bytes(), 900 * 8))
    code, report = answer(*FILES)
    assert (code, report["verdict"]) == (1, "bad")
    assert [file["verdict"] for file in report["files"]] == ["good", "good", "bad"]
    assert report["files"][0]["facts"]["log"]["on_chain"] is None


def test_bad_evidence_beside_good(place: Path) -> None:
    good = AnchorEvidence.parse((place / "x.anchor.json").read_bytes())
    (place / "y.anchor.json").write_bytes(replace(good, index=3).serialize())
    for order in ((*FILES, "y.anchor.json"), ("y.anchor.json", *FILES)):
        code, report = answer(*order)
        by_name = {file["file"]: file["verdict"] for file in report["files"]}
        assert code == 1
        assert by_name == dict.fromkeys(FILES, "good") | {"y.anchor.json": "bad"}
        assert all(f["facts"]["log"]["on_chain"] for f in report["files"] if f["file"] in FILES)


def test_evidence_of_another_log(place: Path) -> None:
    other = log([seal(number=1).ascii])
    (place / "x.anchor.json").write_bytes(made("qbft", other).file())
    code, report = answer(*FILES)
    assert (code, codes(report)) == (1, [None, None, "anchor-invalid"])


def test_evidence_alone_and_without_its_receipt(place: Path) -> None:
    assert codes(answer("x.anchor.json")[1]) == ["anchor-invalid"]
    assert codes(answer("a.sd-jwt", "x.anchor.json")[1]) == ["not-proven", "anchor-invalid"]


def test_evidence_of_a_receipt_that_is_not_verified(place: Path) -> None:
    assert codes(answer("b.sd-jwt", "a.tlog-proof", "x.anchor.json")[1])[2] == "not-proven"


GARBAGE = {
    "only its head": b'{"format":"yunxi.anchor-evidence/v1"',
    "a later version": block("qbft").file().replace(b"/v1", b"/v2"),
    "a megabyte that begins like it": block("qbft").file() + b" " * 1_000_000,
    "half a megabyte of brackets": b'{"format":"yunxi.anchor-evidence/v1"' + b"[" * 500_000,
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_a_finding_not_a_crash(place: Path, data: bytes) -> None:
    (place / "x.anchor.json").write_bytes(data)
    code, report = answer(*FILES)
    assert (code, [file["verdict"] for file in report["files"]]) == (1, ["good", "good", "bad"])


def test_the_zipapp_checks_it_without_a_network(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    built = build_verifier(tmp_path_factory.mktemp("dist") / "yunxi-verify.pyz")
    unshare = shutil.which("unshare")
    probe = [unshare or "false", "-rn", "true"]
    offline = [unshare, "-rn"] if unshare and subprocess.run(probe, check=False).returncode == 0 else []
    command = [*offline, sys.executable, "-I", "-W", "error", str(built), *FILES, "--trust", "trust.json"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Fire Department (0x" in done.stdout


def test_what_is_wrong_is_one_kind_of_refusal_or_the_other() -> None:
    # a file of another form is malformed; whatever a file of this form says wrongly is an invalid anchor
    with pytest.raises(Malformed):
        verify("qbft", block("qbft").file() + b"\n")
    with pytest.raises(Refusal) as refused:
        verify("qbft", replace(block("qbft").evidence(), headers=(b"\xc0",)).serialize())
    assert type(refused.value) is AnchorInvalid


def test_the_helper_names_the_contract_of_the_trust_file() -> None:
    assert "0x" + CONTRACT.hex() == trust().chain.contracts["EvidenceLog"]
