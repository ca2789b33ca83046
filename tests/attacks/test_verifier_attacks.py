"""Attacks on the verifier by name: each makes evidence and says which error must refuse it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from ledger.errors import (
    AnchorInvalid,
    CheckpointInvalid,
    DisclosureInvalid,
    InclusionInvalid,
    KeyRefused,
    Malformed,
    Refusal,
    SignatureInvalid,
)
from ledger.formats.checkpoint import add_signatures
from ledger.formats.encoding import b64encode, b64url_encode
from ledger.formats.merkle import leaf_hash
from ledger.formats.note import Signature, parse_signatures
from ledger.formats.receipt import decode_extra
from ledger.formats.sdjwt import disclosure_digest, serialize_presentation
from ledger.formats.trust import Trust
from ledger.verify import Facts, Verifier
from tests.verify.factory import (
    CHAIN_ID,
    START,
    UNITS,
    Sealed,
    checkpoint_of,
    cosignature,
    department,
    disclose,
    evidence,
    extra_of,
    hint,
    jws,
    key,
    log,
    public_of,
    record_id,
    seal,
    signing_key,
    trust,
    witness,
)

Evidence = tuple[bytes, bytes]
"""A presentation and a receipt."""

OTHER_LOG = [seal("market", n).ascii for n in range(4)]


def verify(presentation: bytes, receipt: bytes | None, trusted: Trust | None = None) -> Facts:
    return Verifier(trusted or trust()).verify(presentation, receipt)


def logged(record: Sealed) -> Evidence:
    """The record, honestly logged and shown whole: only what is wrong with the record itself can be refused."""
    return record.present(), log([seal(number=90).ascii, record.ascii]).receipt(1)


def with_proof(**changes: object) -> Evidence:
    """The good record with another receipt: parts of the good one replaced."""
    record, state = evidence()
    return record.present(), replace(state.proof(5), **changes).serialize()


def with_jws(header: bytes, payload: bytes) -> Evidence:
    """A record whose header and payload are these bytes, properly signed and logged."""
    return logged(Sealed(jws(header, payload, "fire statement"), {}))


def parts() -> tuple[dict[str, object], dict[str, object]]:
    """Header and payload of an honest record without disclosures."""
    header = {"alg": "EdDSA", "typ": "yunxi+sd-jwt", "kid": key("fire").kid}
    payload = {"iss": "fire", "jti": record_id(1), "iat": START, "type": "note.added", "v": 1}
    return header, payload | {"subj": [], "_sd_alg": "sha-256", "_sd": []}


def dumps(value: object) -> bytes:
    return json.dumps(value).encode()


# --- the record ---


def disclosures_swapped_between_records() -> Evidence:
    mine, other = seal(number=1), seal(number=2)
    shown = mine.disclosures | {"finding": other.disclosures["finding"]}
    return logged(Sealed(mine.ascii, shown))


def disclosure_twice() -> Evidence:
    record = seal()
    shown = [*record.disclosures.values(), record.disclosures["finding"]]
    return serialize_presentation(record.ascii, shown), log([record.ascii]).receipt(0)


def two_disclosures_of_one_unit() -> Evidence:
    first, second = (disclose(salt, "finding", {"result": result}) for salt, result in (("a", "pass"), ("b", "fail")))
    record = seal(payload={"_sd": sorted(disclosure_digest(text) for text in (first, second))})
    return logged(Sealed(record.ascii, {"a": first, "b": second}))


def disclosure_made_up() -> Evidence:
    record = seal()
    return logged(Sealed(record.ascii, record.disclosures | {"extra": disclose("new", "extra", {"note": "added"})}))


def disclosure_with_short_salt() -> Evidence:
    text = b64url_encode(b'["c2hvcnQ","finding",{"result":"pass"}]')
    return logged(Sealed(seal(payload={"_sd": [disclosure_digest(text)]}).ascii, {"finding": text}))


def disclosure_with_a_member_twice() -> Evidence:
    text = b64url_encode(b'["%s","finding",{"result":"fail","result":"pass"}]' % (b"A" * 22))
    return logged(Sealed(seal(payload={"_sd": [disclosure_digest(text)]}).ascii, {"finding": text}))


def disclosure_named_like_a_claim() -> Evidence:
    return logged(seal(units={"iss": {"iss": "market"}}))


def disclosure_nested_ten_thousand_deep() -> Evidence:
    text = b64url_encode(b'["%s","finding",{"x":' % (b"A" * 22) + b"[" * 10_000 + b"]" * 10_000 + b"}]")
    return logged(Sealed(seal(payload={"_sd": [disclosure_digest(text)]}).ascii, {"finding": text}))


def attachment_without_digest() -> Evidence:
    return logged(seal(units={"attachment-1": {"name": "a.png", "media_type": "image/png", "size": 3}}))


def attachment_with_digest_of_another_kind() -> Evidence:
    return logged(seal(units={"attachment-1": UNITS["attachment-1"] | {"sha256": "0" * 40}}))


def statement_cut_from_its_signature() -> Evidence:
    record = seal()
    return logged(Sealed(record.ascii.rpartition(b".")[0] + b".", record.disclosures))


def algorithm_none() -> Evidence:
    header, payload = parts()
    text = f"{b64url_encode(dumps(header | {'alg': 'none'}))}.{b64url_encode(dumps(payload))}.".encode()
    return logged(Sealed(text, {}))


def algorithm_none_signed_all_the_same() -> Evidence:
    return logged(seal(header={"alg": "none"}))


def algorithm_hs256_with_the_public_key_as_secret() -> Evidence:
    header, payload = parts()
    text = f"{b64url_encode(dumps(header | {'alg': 'HS256'}))}.{b64url_encode(dumps(payload))}".encode()
    mac = hmac.digest(public_of("fire statement"), text, hashlib.sha256)
    return logged(Sealed(text + b"." + b64url_encode(mac).encode(), {}))


def hs256_as_long_as_a_signature() -> Evidence:
    header, payload = parts()
    text = f"{b64url_encode(dumps(header))}.{b64url_encode(dumps(payload))}".encode()
    mac = hmac.digest(public_of("fire statement"), text, hashlib.sha512)
    return logged(Sealed(text + b"." + b64url_encode(mac).encode(), {}))


def critical_header_extension() -> Evidence:
    return logged(seal(header={"crit": ["b64"], "b64": False}))


def token_of_another_kind() -> Evidence:
    return logged(seal(header={"typ": "JWT"}))


def key_carried_in_the_header() -> Evidence:
    mallory = key("mallory")
    return logged(seal(header={"kid": mallory.kid, "jwk": mallory.jwk}, signer="mallory statement"))


def key_of_nobody() -> Evidence:
    return logged(seal(header={"kid": key("mallory").kid}, signer="mallory statement"))


def key_named_but_not_used() -> Evidence:
    return logged(seal(signer="mallory statement"))


def key_of_another_department() -> Evidence:
    return logged(seal("fire", header={"kid": key("market").kid}, signer="market statement"))


def department_that_is_not_in_the_trust_file() -> Evidence:
    return logged(seal(payload={"iss": "police"}))


def encryption_key_as_statement_key() -> Evidence:
    return logged(seal(header={"kid": key("fire", "encryption").kid}))


def anchor_key_as_statement_key() -> Evidence:
    return logged(seal(header={"kid": key("fire", "anchor").kid}))


def log_key_as_statement_key() -> Evidence:
    return logged(seal(header={"kid": key("fire log", "statement").kid}, signer="fire log"))


def sealed_before_the_key_was_valid() -> Evidence:
    return logged(seal(payload={"iat": START - 86_401}))


def sealed_at_no_time() -> Evidence:
    return logged(seal(payload={"iat": None}))


def sealed_before_1970() -> Evidence:
    return logged(seal(payload={"iat": -1}))


def sealed_at_a_fraction() -> Evidence:
    return logged(seal(payload={"iat": START + 0.5}))


def header_member_twice() -> Evidence:
    header, payload = parts()
    return with_jws(dumps(header)[:-1] + b', "kid": "%s"}' % key("market").kid.encode(), dumps(payload))


def payload_member_twice() -> Evidence:
    header, payload = parts()
    return with_jws(dumps(header), dumps(payload)[:-1] + b', "iss": "market"}')


def payload_member_twice_by_escape() -> Evidence:
    header, payload = parts()
    return with_jws(dumps(header), dumps(payload)[:-1] + rb', "\u0069ss": "market"}')


def payload_with_byte_order_mark() -> Evidence:
    header, payload = parts()
    return with_jws(dumps(header), b"\xef\xbb\xbf" + dumps(payload))


def payload_not_utf8() -> Evidence:
    header, payload = parts()
    return with_jws(dumps(header), dumps(payload)[:-1] + b', "x": "\xff"}')


def payload_nested_bomb() -> Evidence:
    header, payload = parts()
    return with_jws(dumps(header), dumps(payload)[:-1] + b', "x": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001)


def payload_with_an_integer_of_ten_thousand_digits() -> Evidence:
    header, payload = parts()
    return with_jws(dumps(header), dumps(payload)[:-1] + b', "x": ' + b"9" * 10_000 + b"}")


def payload_with_not_a_number() -> Evidence:
    header, payload = parts()
    return with_jws(dumps(header), dumps(payload)[:-1] + b', "x": NaN}')


def payload_with_a_number_beyond_every_double() -> Evidence:
    header, payload = parts()
    return with_jws(dumps(header), dumps(payload)[:-1] + b', "x": 1e999}')


def disclosure_with_a_million_quotes_and_no_end() -> Evidence:
    # a depth check that starts again at every quote would take hours
    text = b64url_encode(b"[" + b"[]," * 40 + b'"' + b'\\"' * 500_000)
    return logged(Sealed(seal(payload={"_sd": [disclosure_digest(text)]}).ascii, {"finding": text}))


def payload_with_the_same_digest_twice() -> Evidence:
    record = seal()
    digest = disclosure_digest(record.disclosures["finding"])
    return logged(Sealed(seal(payload={"_sd": [digest, digest]}).ascii, {}))


def digests_of_another_algorithm() -> Evidence:
    return logged(seal(payload={"_sd_alg": "md5"}))


def statement_longer_than_an_entry() -> Evidence:
    return logged(seal(payload={"x": "x" * 70_000}))


def presentation_of_twenty_million_bytes() -> Evidence:
    record, state = evidence()
    return record.present() + b"A" * 20_000_000 + b"~", state.receipt(5)


def ten_thousand_disclosures() -> Evidence:
    record, state = evidence()
    return record.ascii + b"~" + b"WzFd~" * 10_000, state.receipt(5)


def key_binding_jwt_at_the_end() -> Evidence:
    record, state = evidence()
    return record.present() + seal(number=2).ascii, state.receipt(5)


def presentation_without_tilde() -> Evidence:
    record, state = evidence()
    return record.ascii, state.receipt(5)


# --- the receipt ---


def receipt_of_another_record() -> Evidence:
    record, state = evidence()
    return record.present(), state.receipt(4)


def receipt_with_another_index() -> Evidence:
    return with_proof(index=4)


def receipt_beyond_the_tree() -> Evidence:
    return with_proof(index=11)


def receipt_with_a_huge_index() -> Evidence:
    return with_proof(index=2**63 - 2)


def receipt_without_path() -> Evidence:
    return with_proof(path=())


def receipt_with_a_path_too_long() -> Evidence:
    return with_proof(path=(*evidence()[1].path(5), bytes(32)))


def receipt_with_a_million_hashes() -> Evidence:
    record, state = evidence()
    return record.present(), state.receipt(5).replace(b"index 5\n", b"index 5\n" + b"A" * 43 + b"=\n" * 1_000_000)


def node_passed_off_as_a_leaf() -> Evidence:
    # the parent of two leaves as an "entry": RFC 9162's prefixes must keep it apart
    a, b = seal(number=1), seal(number=2)
    state = log([a.ascii, b.ascii])
    forged = Sealed(leaf_hash(a.ascii) + leaf_hash(b.ascii), {})
    return forged.present(), replace(state.proof(0), path=()).serialize()


def other_departments_log_with_the_same_entry() -> Evidence:
    record = seal()
    return record.present(), log([*OTHER_LOG, record.ascii], of="market").receipt(4)


def log_that_nobody_knows() -> Evidence:
    record = seal()
    return record.present(), log([record.ascii], of="mallory", anchored=False).receipt(0)


def checkpoint_signed_by_another_key() -> Evidence:
    record, state = evidence()
    note = state.checkpoint.replace(_log_line(state.checkpoint), _log_line(_forged(state.checkpoint)))
    return record.present(), replace(state.proof(5), checkpoint=note).serialize()


def checkpoint_renamed_to_the_issuers_log() -> Evidence:
    record = seal()
    state = log([record.ascii], of="market", anchored=False)
    note = state.checkpoint.replace(b"yunxi.example/market", b"yunxi.example/fire")
    return record.present(), replace(state.proof(0), checkpoint=note).serialize()


def checkpoint_without_the_logs_signature() -> Evidence:
    record, state = evidence()
    note = state.checkpoint.replace(_log_line(state.checkpoint), b"")
    return record.present(), replace(state.proof(5), checkpoint=note).serialize()


def checkpoint_with_one_good_and_one_bad_signature_of_the_log() -> Evidence:
    record, state = evidence()
    note = add_signatures(state.checkpoint, [_log_line(_forged(state.checkpoint))])
    return record.present(), replace(state.proof(5), checkpoint=note).serialize()


def checkpoint_of_a_larger_tree_with_the_old_signatures() -> Evidence:
    record, state = evidence()
    note = state.checkpoint.replace(b"\n11\n", b"\n12\n")
    return record.present(), replace(state.proof(5), checkpoint=note).serialize()


def statement_key_signed_the_checkpoint() -> Evidence:
    record, state = evidence()
    text = state.checkpoint[: state.checkpoint.rindex(b"\n\n") + 1]
    line = Signature(
        "yunxi.example/fire", department("fire").log.key.key_id, signing_key("fire statement").sign(text)
    ).line
    note = state.checkpoint.replace(_log_line(state.checkpoint), line)
    return record.present(), replace(state.proof(5), checkpoint=note).serialize()


def known_witness_with_a_bad_cosignature() -> Evidence:
    record, state = evidence()
    other = checkpoint_of("fire", 11, bytes(32))
    name = "court.example/witness"
    note = add_signatures(state.checkpoint, [cosignature(other, name)])
    return record.present(), replace(state.proof(5), checkpoint=note).serialize()


def known_witness_with_a_changed_time() -> Evidence:
    record, state = evidence()
    name = "court.example/witness"
    line = next(line for line in _lines(state.checkpoint) if name.encode() in line)
    earlier = (START - 3600).to_bytes(8, "big") + _data(line)[8:]
    note = state.checkpoint.replace(line, Signature(name, witness(name).key.key_id, earlier).line)
    return record.present(), replace(state.proof(5), checkpoint=note).serialize()


def quorum_not_met() -> Evidence:
    record = seal()
    return record.present(), log([record.ascii], witnesses=["court.example/witness"]).receipt(0)


def quorum_by_one_witness_twice() -> Evidence:
    record = seal()
    state = log([record.ascii], witnesses=["court.example/witness"])
    note = add_signatures(state.checkpoint, [cosignature(state.checkpoint, "court.example/witness", 60)])
    return record.present(), replace(state.proof(0), checkpoint=note).serialize()


def quorum_by_unknown_witnesses() -> Evidence:
    record = seal()
    return record.present(), log([record.ascii], witnesses=["a.example", "b.example", "c.example"]).receipt(0)


# --- the anchor ---


def anchor_on_another_chain() -> Evidence:
    return with_proof(extra=extra_of("fire", evidence()[1].checkpoint, chain_id=CHAIN_ID + 1))


def anchor_in_another_contract() -> Evidence:
    return with_proof(extra=extra_of("fire", evidence()[1].checkpoint, contract="0x" + "66" * 20))


def anchor_signed_by_another_log() -> Evidence:
    return with_proof(extra=extra_of("fire", evidence()[1].checkpoint, signer="market log"))


def anchor_signed_by_the_statement_key() -> Evidence:
    return with_proof(extra=extra_of("fire", evidence()[1].checkpoint, signer="fire statement"))


def anchor_moved_from_another_checkpoint() -> Evidence:
    return with_proof(extra=log([seal(number=n).ascii for n in range(12)]).extra)


def anchor_with_an_earlier_time() -> Evidence:
    extra = evidence()[1].extra
    return with_proof(extra=extra.replace(b'"time":%d' % (START + 105), b'"time":%d' % (START + 1)))


def anchor_with_an_added_member() -> Evidence:
    return with_proof(extra=evidence()[1].extra.replace(b'"time":', b'"tide":1,"time":'))


def anchor_with_white_space() -> Evidence:
    return with_proof(extra=evidence()[1].extra.replace(b'"time":', b'"time": '))


def anchor_without_signature() -> Evidence:
    return with_proof(extra=dumps({"anchor": hint().members()}))


def anchor_by_checkpoint_signature() -> Evidence:
    # the log signed the checkpoint; that signature must not count as one over an anchor
    state = evidence()[1]
    good = decode_extra(state.extra)
    extra = state.extra.replace(_b64(good[1]), _b64(_data(_log_line(state.checkpoint))))
    return with_proof(extra=extra)


def extra_that_is_no_json() -> Evidence:
    return with_proof(extra=b"anchored, honestly")


ATTACKS: dict[Callable[[], Evidence], type[Refusal]] = {
    disclosures_swapped_between_records: DisclosureInvalid,
    disclosure_twice: DisclosureInvalid,
    two_disclosures_of_one_unit: DisclosureInvalid,
    disclosure_made_up: DisclosureInvalid,
    disclosure_with_short_salt: Malformed,
    disclosure_with_a_member_twice: Malformed,
    disclosure_named_like_a_claim: Malformed,
    disclosure_nested_ten_thousand_deep: Malformed,
    attachment_without_digest: Malformed,
    attachment_with_digest_of_another_kind: Malformed,
    statement_cut_from_its_signature: Malformed,
    algorithm_none: Malformed,
    algorithm_none_signed_all_the_same: Malformed,
    algorithm_hs256_with_the_public_key_as_secret: Malformed,
    hs256_as_long_as_a_signature: SignatureInvalid,
    critical_header_extension: Malformed,
    token_of_another_kind: Malformed,
    key_carried_in_the_header: KeyRefused,
    key_of_nobody: KeyRefused,
    key_named_but_not_used: SignatureInvalid,
    key_of_another_department: KeyRefused,
    department_that_is_not_in_the_trust_file: KeyRefused,
    encryption_key_as_statement_key: KeyRefused,
    anchor_key_as_statement_key: KeyRefused,
    log_key_as_statement_key: KeyRefused,
    sealed_before_the_key_was_valid: KeyRefused,
    sealed_at_no_time: Malformed,
    sealed_before_1970: Malformed,
    sealed_at_a_fraction: Malformed,
    header_member_twice: Malformed,
    payload_member_twice: Malformed,
    payload_member_twice_by_escape: Malformed,
    payload_with_byte_order_mark: Malformed,
    payload_not_utf8: Malformed,
    payload_nested_bomb: Malformed,
    payload_with_an_integer_of_ten_thousand_digits: Malformed,
    payload_with_not_a_number: Malformed,
    payload_with_a_number_beyond_every_double: Malformed,
    disclosure_with_a_million_quotes_and_no_end: Malformed,
    payload_with_the_same_digest_twice: Malformed,
    digests_of_another_algorithm: Malformed,
    statement_longer_than_an_entry: Malformed,
    presentation_of_twenty_million_bytes: Malformed,
    ten_thousand_disclosures: Malformed,
    key_binding_jwt_at_the_end: Malformed,
    presentation_without_tilde: Malformed,
    receipt_of_another_record: InclusionInvalid,
    receipt_with_another_index: InclusionInvalid,
    receipt_beyond_the_tree: InclusionInvalid,
    receipt_with_a_huge_index: InclusionInvalid,
    receipt_without_path: InclusionInvalid,
    receipt_with_a_path_too_long: InclusionInvalid,
    receipt_with_a_million_hashes: Malformed,
    node_passed_off_as_a_leaf: Malformed,
    other_departments_log_with_the_same_entry: CheckpointInvalid,
    log_that_nobody_knows: CheckpointInvalid,
    checkpoint_signed_by_another_key: CheckpointInvalid,
    checkpoint_renamed_to_the_issuers_log: CheckpointInvalid,
    checkpoint_without_the_logs_signature: CheckpointInvalid,
    checkpoint_with_one_good_and_one_bad_signature_of_the_log: CheckpointInvalid,
    checkpoint_of_a_larger_tree_with_the_old_signatures: CheckpointInvalid,
    statement_key_signed_the_checkpoint: CheckpointInvalid,
    known_witness_with_a_bad_cosignature: CheckpointInvalid,
    known_witness_with_a_changed_time: CheckpointInvalid,
    quorum_not_met: CheckpointInvalid,
    quorum_by_one_witness_twice: CheckpointInvalid,
    quorum_by_unknown_witnesses: CheckpointInvalid,
    anchor_on_another_chain: AnchorInvalid,
    anchor_in_another_contract: AnchorInvalid,
    anchor_signed_by_another_log: AnchorInvalid,
    anchor_signed_by_the_statement_key: AnchorInvalid,
    anchor_moved_from_another_checkpoint: AnchorInvalid,
    anchor_with_an_earlier_time: AnchorInvalid,
    anchor_with_an_added_member: AnchorInvalid,
    anchor_with_white_space: Malformed,
    anchor_without_signature: Malformed,
    anchor_by_checkpoint_signature: AnchorInvalid,
    extra_that_is_no_json: Malformed,
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_attack_is_refused(attack: Callable[[], Evidence]) -> None:
    presentation, receipt = attack()
    with pytest.raises(Refusal) as refused:
        verify(presentation, receipt)
    assert type(refused.value) is ATTACKS[attack]


def test_the_evidence_that_the_attacks_change_is_good() -> None:
    record, state = evidence()
    verify(record.present(), state.receipt(5))
    verify(*logged(seal()))
    header, payload = parts()
    verify(*with_jws(dumps(header), dumps(payload)))


# --- what a verifier that remembers could get wrong ---


def test_a_checkpoint_that_passed_once_does_not_help_another_department() -> None:
    verifier = Verifier(trust())
    record, state = evidence()
    verifier.verify(record.present(), state.receipt(5))
    other = seal("market", 5)
    with pytest.raises(CheckpointInvalid):
        verifier.verify(other.present(), state.receipt(5))


def test_an_anchor_that_passed_once_does_not_help_another_checkpoint() -> None:
    verifier = Verifier(trust())
    record, state = evidence()
    verifier.verify(record.present(), state.receipt(5))
    larger = log([*state.entries, seal(number=11).ascii])
    with pytest.raises(AnchorInvalid):
        verifier.verify(record.present(), replace(larger.proof(5), extra=state.extra).serialize())


def test_a_refused_checkpoint_is_refused_again() -> None:
    verifier = Verifier(trust())
    presentation, receipt = checkpoint_signed_by_another_key()
    for _ in range(2):
        with pytest.raises(CheckpointInvalid):
            verifier.verify(presentation, receipt)


# --- keys and witnesses over time ---


def test_a_key_is_good_up_to_the_second_before_it_ends() -> None:
    ended = key("fire", valid_to=START + 5)
    trusted = trust(departments=(replace(department("fire"), keys=(ended,)), department("market")))
    verify(seal(number=4).present(), None, trusted)
    for number in (5, 6):
        with pytest.raises(KeyRefused):
            verify(seal(number=number).present(), None, trusted)


def test_the_key_of_another_department_is_refused_under_its_own_name_too() -> None:
    # market's record, honestly signed, with a trust file in which the key went to fire
    stolen = replace(department("fire"), keys=(key("fire"), key("market")))
    trusted = trust(departments=(stolen,))
    with pytest.raises(KeyRefused):
        verify(seal("market").present(), None, trusted)


def test_a_required_witness_must_be_there_whatever_the_quorum() -> None:
    record = seal()
    receipt = log([record.ascii], witnesses=["court.example/witness"]).receipt(0)
    court, notary = witness("court.example/witness"), witness("notary.example/witness")
    verify(record.present(), receipt, trust(witnesses=(court, notary), quorum=1))
    with pytest.raises(CheckpointInvalid):
        verify(record.present(), receipt, trust(witnesses=(court, replace(notary, required=True)), quorum=1))


HANDS: dict[str, tuple[str, str, int]] = {
    "two witnesses of one operator": ("Notary Office", "Notary Office", 2),
    "the same in wide letters and with more space": ("Ｎotary  office", "Notary Office", 2),
    "who keeps the log": ("District Data Bureau", "Notary Office", 2),
    "who keeps the log, under another name for the eye": ("district  data bureau", "Notary Office", 2),
    "the department whose log it is": ("消防救援大队", "Notary Office", 2),
    "nobody but who keeps the log": ("District Data Bureau", "District Data Bureau", 1),
}


@pytest.mark.parametrize("case", HANDS)
def test_a_quorum_is_not_made_of(case: str) -> None:
    first, second, quorum = HANDS[case]
    record, state = evidence()
    kept = (replace(department("fire"), operator="District Data Bureau"), department("market"))
    court, notary = witness("court.example/witness"), witness("notary.example/witness")
    own = (replace(court, operator=first), replace(notary, operator=second))
    verify(record.present(), state.receipt(5), trust(departments=kept, quorum=quorum))
    with pytest.raises(CheckpointInvalid, match=f"confirmation of {quorum - 1}"):
        verify(record.present(), state.receipt(5), trust(departments=kept, witnesses=own, quorum=quorum))


def test_unknown_signature_lines_are_ignored() -> None:
    record, state = evidence()
    lines = [Signature(f"future{n}.example", b"\x01\x02\x03\x04", bytes(n + 1)).line for n in range(20)]
    note = add_signatures(state.checkpoint, lines)
    facts = verify(record.present(), replace(state.proof(5), checkpoint=note).serialize())
    assert facts.logged is not None
    assert len(facts.logged.cosigned) == 2


def test_the_names_of_a_known_witness_with_another_key_are_ignored_not_counted() -> None:
    record = seal()
    state = log([record.ascii], witnesses=["court.example/witness"])
    impostor = Signature("notary.example/witness", b"\x00\x00\x00\x01", bytes(72)).line
    note = add_signatures(state.checkpoint, [impostor])
    receipt = replace(state.proof(0), checkpoint=note).serialize()
    with pytest.raises(CheckpointInvalid):
        verify(record.present(), receipt)
    facts = verify(record.present(), receipt, trust(quorum=1))
    assert facts.logged is not None
    assert [c.name for c in facts.logged.cosigned] == ["court.example/witness"]


# --- damage ---


def test_a_file_cut_at_any_tenth_byte_is_refused() -> None:
    record, state = evidence()
    presentation, receipt = record.present(), state.receipt(5)
    verifier = Verifier(trust())
    for end in range(0, len(receipt), 10):
        with pytest.raises(Refusal):
            verifier.verify(presentation, receipt[:end])
    shown = [presentation.index(text.encode()) + len(text) + 1 for text in record.disclosures.values()]
    whole = {len(record.ascii) + 1, *shown}
    for end in range(0, len(presentation), 10):
        # cut exactly after a disclosure it is a presentation that shows less, which is what SD-JWT is for
        if end not in whole:
            with pytest.raises(Refusal):
                verifier.verify(presentation[:end], receipt)


def _lines(note: bytes) -> list[bytes]:
    return note[note.rindex(b"\n\n") + 2 :].splitlines(keepends=True)


def _log_line(note: bytes) -> bytes:
    return next(line for line in _lines(note) if line.startswith("— yunxi.example/".encode()))


def _forged(note: bytes) -> bytes:
    """The same text, signed in the log's name and key id by somebody else."""
    text = note[: note.rindex(b"\n\n") + 1]
    log_key = department("fire").log.key
    line = Signature(log_key.name, log_key.key_id, signing_key("mallory").sign(text)).line
    return text + b"\n" + line


def _data(line: bytes) -> bytes:
    """What a signature line carries after the key id."""
    return parse_signatures(line)[0].signature


def _b64(data: bytes) -> bytes:
    return b64encode(data).encode()
