"""The trust file: shape, meaning, round trip, look-ups."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import KeyRefused, Malformed, Refusal, TrustRefused
from ledger.formats.encoding import b64url_encode
from ledger.formats.jwk import thumbprint
from ledger.formats.note import COSIGNATURE_ED25519, ED25519, VerifierKey
from ledger.formats.trust import Trust, format_time, parse_time
from tests.verify.factory import START, department, key, public_of, trust

Document = dict[str, Any]


def document() -> Document:
    return json.loads(trust().serialize())


def first_key(d: Document) -> Document:
    return d["departments"][0]["keys"][0]


def statement_key(d: Document) -> Document:
    return next(k for k in d["departments"][0]["keys"] if k["use"] == "statement")


def put(path: str, value: object) -> Callable[[Document], None]:
    """Sets a member; list places are numbers in the dotted path."""

    def change(d: Document) -> None:
        at: Any = d
        *steps, last = path.split(".")
        for step in steps:
            at = at[int(step)] if isinstance(at, list) else at[step]
        if isinstance(at, list):
            at[int(last)] = value
        else:
            at[last] = value

    return change


def drop(path: str) -> Callable[[Document], None]:
    def change(d: Document) -> None:
        at: Any = d
        *steps, last = path.split(".")
        for step in steps:
            at = at[int(step)] if isinstance(at, list) else at[step]
        del at[last]

    return change


def no_statement_key(d: Document) -> None:
    keys = d["departments"][0]["keys"]
    d["departments"][0]["keys"] = [k for k in keys if k["use"] != "statement"]


def same_key_twice(d: Document) -> None:
    d["departments"][1]["keys"].append(statement_key(d))


def kid_of_another(d: Document) -> None:
    statement_key(d)["kid"] = "A" * 43


def ends_before_it_begins(d: Document) -> None:
    first_key(d)["valid_to"] = "2020-01-01T00:00:00Z"


def secret_part(d: Document) -> None:
    statement_key(d)["jwk"]["d"] = "A" * 43


def encryption_key_for_statements(d: Document) -> None:
    keys = {k["use"]: k for k in d["departments"][0]["keys"]}
    keys["statement"].update(kid=key("mallory", "encryption").kid, jwk=key("mallory", "encryption").jwk)


def log_key_of_another_name(d: Document) -> None:
    d["departments"][0]["log"]["origin"] = "yunxi.example/other"


def log_key_of_a_witness_type(d: Document) -> None:
    vkey = VerifierKey.of("yunxi.example/fire", COSIGNATURE_ED25519, public_of("fire log"))
    d["departments"][0]["log"]["vkey"] = str(vkey)


def witness_key_of_a_log_type(d: Document) -> None:
    d["witnesses"][0]["vkey"] = str(VerifierKey.of("w.example", ED25519, public_of("w")))


def one_key_for_two_witnesses(d: Document) -> None:
    vkey = VerifierKey.of("other.example", COSIGNATURE_ED25519, public_of("court.example/witness"))
    d["witnesses"][1].update(name="other.example", vkey=str(vkey))


def log_that_witnesses_itself(d: Document) -> None:
    d["witnesses"][0]["vkey"] = str(VerifierKey.of("w.example", COSIGNATURE_ED25519, public_of("fire log")))


def statement_key_of(name: str) -> Callable[[Document], None]:
    """The statement key of the first department is the Ed25519 key of `name`, whatever that signs besides."""

    def change(d: Document) -> None:
        members = {"kty": "OKP", "crv": "Ed25519", "x": b64url_encode(public_of(name))}
        statement_key(d).update(jwk=members, kid=thumbprint(members))

    return change


def same_log_twice(d: Document) -> None:
    d["departments"][1]["log"] = d["departments"][0]["log"]


def same_origin_twice(d: Document) -> None:
    vkey = VerifierKey.of("yunxi.example/fire", ED25519, public_of("market log"))
    d["departments"][1]["log"].update(origin="yunxi.example/fire", vkey=str(vkey))


CANNOT_DECIDE: dict[str, Callable[[Document], None]] = {
    "no departments": put("departments", []),
    "two departments of one id": put("departments.1.id", "fire"),
    "two departments of one log": same_log_twice,
    "two departments of one origin, each with a key": same_origin_twice,
    "no statement key": no_statement_key,
    "no key at all": put("departments.0.keys", []),
    "one key for two departments": same_key_twice,
    "a kid that is not the thumbprint": kid_of_another,
    "a key that ends before it begins": ends_before_it_begins,
    "a key with its secret part": secret_part,
    "an encryption key for statements": encryption_key_for_statements,
    "a log key of another name": log_key_of_another_name,
    "a log key that is a witness's": log_key_of_a_witness_type,
    "a witness key that is a log's": witness_key_of_a_log_type,
    "one key for two witnesses": one_key_for_two_witnesses,
    "a log that witnesses itself": log_that_witnesses_itself,
    "a department that signs records with its log's key": statement_key_of("fire log"),
    "a department that signs records with a witness's key": statement_key_of("court.example/witness"),
    "two witnesses of one name": put("witnesses.1.name", "court.example/witness"),
    "a quorum above the witnesses": put("quorum", 3),
    "a quorum below zero": put("quorum", -1),
    "a quorum without witnesses": put("witnesses", []),
    "no address of the log contract": drop("chain.contracts.EvidenceLog"),
    "a threshold above the validators": put("chain.validators.threshold", 3),
    "a validator twice": put("chain.validators.addresses", ["0x" + "aB" * 20, "0x" + "Ab" * 20]),
}

OF_ANOTHER_SHAPE: dict[str, Callable[[Document], None]] = {
    "no consortium": drop("consortium"),
    "an empty consortium": put("consortium", ""),
    "a consortium that turns the text around": put("consortium", "yunxi\u202eexample"),
    "no chain": drop("chain"),
    "an unknown engine": put("chain.engine", "raft"),
    "a chain id as text": put("chain.id", "1"),
    "a chain id below zero": put("chain.id", -1),
    "a chain id of true": put("chain.id", True),
    "contracts as a list": put("chain.contracts", []),
    "a contract that is no address": put("chain.contracts.EvidenceLog", "0x12"),
    "a contract that is no text": put("chain.contracts.EvidenceLog", 12),
    "no validators": drop("chain.validators"),
    "a validator that is no address": put("chain.validators.addresses", ["fire"]),
    "a validator that is a number": put("chain.validators.addresses", [1]),
    "departments as an object": put("departments", {}),
    "a department that is a text": put("departments.0", "fire"),
    "a department id in capitals": put("departments.0.id", "FIRE"),
    "a department id of one letter": put("departments.0.id", "f"),
    "a department id of 32 letters": put("departments.0.id", "f" * 32),
    "a department without a Chinese name": drop("departments.0.name.zh"),
    "a department without an English name": drop("departments.0.name.en"),
    "a name with a line break": put("departments.0.name.en", "Fire\nVERIFIED"),
    "no log": drop("departments.0.log"),
    "a vkey that is none": put("departments.0.log.vkey", "yunxi.example/fire"),
    "a key of another use": put("departments.0.keys.0.use", "log"),
    "a key without use": drop("departments.0.keys.0.use"),
    "a key without jwk": drop("departments.0.keys.0.jwk"),
    "a jwk of RSA": put("departments.0.keys.0.jwk", {"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
    "a key without an end": drop("departments.0.keys.0.valid_to"),
    "an end of false": put("departments.0.keys.0.valid_to", False),
    "an end of nothing": put("departments.0.keys.0.valid_to", ""),
    "a key without a beginning": put("departments.0.keys.0.valid_from", None),
    "a time as a number": put("departments.0.keys.0.valid_from", 1),
    "a time with an offset": put("departments.0.keys.0.valid_from", "2026-01-01T00:00:00+00:00"),
    "a time with fractions": put("departments.0.keys.0.valid_from", "2026-01-01T00:00:00.5Z"),
    "hour 24": put("departments.0.keys.0.valid_from", "2026-02-27T24:00:00Z"),
    "a leap second": put("departments.0.keys.0.valid_from", "2016-12-31T23:59:60Z"),
    "a name in private characters": put("departments.0.name.zh", "\ue000\ue001"),
    "a name with a tag that nobody sees": put("departments.0.name.en", "Fire\U000e0041"),
    "the 30th of February": put("departments.0.keys.0.valid_from", "2026-02-30T00:00:00Z"),
    "a time in full-width digits": put("departments.0.keys.0.valid_from", "２０２６-01-01T00:00:00Z"),
    "a witness that is perhaps required": put("witnesses.0.required", "yes"),
    "a witness without operator": drop("witnesses.0.operator"),
    "no witnesses member": drop("witnesses"),
    "a quorum of a half": put("quorum", 0.5),
    "a quorum of true": put("quorum", True),
    "a time-stamp root that is no certificate": put("tsa_roots", ["-----BEGIN X509 CRL-----"]),
    "a time-stamp root that is a number": put("tsa_roots", [1]),
    "time-stamp roots as text": put("tsa_roots", "-----BEGIN CERTIFICATE-----"),
}


# refused for this reason, and not for another one that hides a check that is gone
BECAUSE: dict[str, str] = {
    "no departments": "names no department",
    "two departments of one id": "department id 'fire' twice",
    "two departments of one log": "log origin 'yunxi.example/fire' twice",
    "two departments of one origin, each with a key": "log origin 'yunxi.example/fire' twice",
    "no statement key": "has no statement key",
    "no key at all": "has no statement key",
    "one key for two departments": "the kid .* twice",
    "a kid that is not the thumbprint": "not the thumbprint",
    "a key that ends before it begins": "ends before it begins",
    "a key with its secret part": "holds its secret part",
    "an encryption key for statements": "is no key for statement",
    "a log key of another name": "another name than the log.s origin",
    "a log key that is a witness's": "not an Ed25519 note key",
    "a witness key that is a log's": "not an Ed25519 cosignature key",
    "one key for two witnesses": "the signing key .* twice",
    "a log that witnesses itself": "the signing key .* twice",
    "a department that signs records with its log's key": "the signing key .* twice",
    "a department that signs records with a witness's key": "the signing key .* twice",
    "two witnesses of one name": "witness name .* twice",
    "a quorum above the witnesses": "quorum of 3 cannot be met",
    "a quorum below zero": "quorum of -1 cannot be met",
    "a quorum without witnesses": "cannot be met by the 0 witnesses",
    "no address of the log contract": "no address of the contract EvidenceLog",
    "a threshold above the validators": "threshold of 3 is more than",
    "a validator twice": "the validator .* twice",
}


@pytest.mark.parametrize("name", CANNOT_DECIDE)
def test_a_file_that_cannot_decide_is_refused(name: str) -> None:
    changed = document()
    CANNOT_DECIDE[name](changed)
    with pytest.raises(TrustRefused, match=BECAUSE[name]):
        Trust.parse(json.dumps(changed).encode())


@pytest.mark.parametrize("change", OF_ANOTHER_SHAPE.values(), ids=OF_ANOTHER_SHAPE)
def test_a_file_of_another_shape_is_malformed(change: Callable[[Document], None]) -> None:
    changed = document()
    change(changed)
    with pytest.raises(Malformed):
        Trust.parse(json.dumps(changed).encode())


BYTES = {
    "nothing": b"",
    "not JSON": b"trust me",
    "a list": b"[]",
    "an empty object": b"{}",
    "null": b"null",
    "a member twice": b'{"consortium": "a", "consortium": "b"}',
    "not UTF-8": b'{"consortium": "\xff"}',
    "four megabytes and one": b"{" + b" " * 4 * 1024 * 1024 + b"}",
    "a nested bomb": b'{"x":' * 100_000,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
}


@pytest.mark.parametrize("data", BYTES.values(), ids=BYTES)
def test_other_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        Trust.parse(data)


def test_an_empty_policy_cannot_be_built_in_code_either() -> None:
    with pytest.raises(TrustRefused):
        trust(departments=())
    with pytest.raises(TrustRefused):
        trust(quorum=3)


def test_round_trip() -> None:
    once = Trust.parse(trust().serialize())
    assert Trust.parse(once.serialize()) == once
    assert Trust.parse(trust().serialize()).serialize() == trust().serialize()


def test_the_order_it_was_built_in_does_not_show() -> None:
    fire, market = department("fire"), department("market")
    turned = replace(fire, keys=fire.keys[::-1])
    assert trust(departments=(market, turned)).serialize() == trust(departments=(fire, market)).serialize()
    assert trust(witnesses=trust().witnesses[::-1]).serialize() == trust().serialize()


UNKNOWN_PLACES = (
    "x-new",
    "chain.x-new",
    "chain.validators.x-new",
    "chain.contracts.SharingGrants",
    "departments.0.x-new",
    "departments.0.name.fr",
    "departments.0.log.x-new",
    "departments.0.keys.0.x-new",
    "departments.0.keys.0.jwk.x-new",
    "witnesses.0.x-new",
)


@pytest.mark.parametrize("place", UNKNOWN_PLACES)
def test_unknown_members_survive(place: str) -> None:
    changed = document()
    text = "0x" + "1d" * 20
    put(place, text)(changed)
    assert json.loads(Trust.parse(json.dumps(changed).encode()).serialize()) == changed


def test_addresses_keep_their_case() -> None:
    changed = document()
    changed["chain"]["contracts"]["EvidenceLog"] = "0x" + "aB" * 20
    assert Trust.parse(json.dumps(changed).encode()).chain.contracts["EvidenceLog"] == "0x" + "aB" * 20


def test_look_ups() -> None:
    trusted = trust()
    assert trusted.department("fire").name["zh"] == "消防救援大队"
    assert trusted.log_by_origin("yunxi.example/market").id == "market"
    owner, found = trusted.statement_key(key("fire").kid)
    assert (owner.id, found) == ("fire", key("fire"))
    with pytest.raises(TrustRefused):
        trusted.department("police")
    with pytest.raises(TrustRefused):
        trusted.log_by_origin("yunxi.example/police")
    with pytest.raises(KeyRefused, match="encryption"):
        trusted.statement_key(key("fire", "encryption").kid)
    with pytest.raises(KeyRefused):
        trusted.statement_key("A" * 43)


def test_a_key_that_never_was_valid_may_be_named() -> None:
    empty = key("fire", valid_to=START - 86_400)
    assert empty.valid_from == empty.valid_to
    trusted = trust(departments=(replace(department("fire"), keys=(empty,)),))
    assert not trusted.statement_key(empty.kid)[1].valid_at(START - 86_400)


def test_validity_includes_its_beginning_and_not_its_end() -> None:
    some = key("fire", valid_from=10, valid_to=20)
    assert [some.valid_at(t) for t in (9, 10, 19, 20)] == [False, True, True, False]
    assert key("fire", valid_from=10).valid_at(2**60)


@given(st.integers(-62_135_596_800, 253_402_300_799))
def test_times_round_trip(seconds: int) -> None:
    assert parse_time(format_time(seconds)) == seconds


@settings(max_examples=200, deadline=None)
@given(st.integers(min_value=0), st.integers(0, 7))
def test_a_flipped_bit_never_crashes_it(place: int, bit: int) -> None:
    data = bytearray(trust().serialize())
    data[place % len(data)] ^= 1 << bit
    try:
        Trust.parse(bytes(data))
    except Refusal:
        return


# --- the keys that a log had earlier ---


def earlier(name: str = "fire log 1", **changes: object) -> Document:
    vkey = VerifierKey.of("yunxi.example/fire", ED25519, public_of(name))
    member: Document = {"vkey": str(vkey), "valid_from": "2025-01-01T00:00:00Z", "valid_to": "2026-01-01T00:00:00Z"}
    return {k: v for k, v in (member | changes).items() if v != "absent"}


def with_earlier(*keys: object) -> bytes:
    changed = document()
    changed["departments"][0]["log"]["earlier"] = list(keys)
    return json.dumps(changed).encode()


def test_earlier_log_keys_round_trip_with_what_is_unknown_in_them() -> None:
    newer = earlier("fire log 2", valid_from="2026-01-01T00:00:00Z", valid_to="2026-02-01T00:00:00Z")
    parsed = Trust.parse(with_earlier(newer, earlier(**{"x-why": "yearly"})))
    log = parsed.department("fire").log
    assert [key.public for key in log.vkeys] == [public_of(n) for n in ("fire log", "fire log 2", "fire log 1")]
    assert log.ended(log.key) is None
    assert log.ended(log.vkeys[2]) == parse_time("2026-01-01T00:00:00Z")
    again = json.loads(parsed.serialize())["departments"][0]["log"]["earlier"]
    assert again == [earlier(**{"x-why": "yearly"}), newer], "by the beginning of their validity"
    assert Trust.parse(parsed.serialize()).serialize() == parsed.serialize()


def test_a_log_with_one_key_has_no_such_member() -> None:
    assert "earlier" not in document()["departments"][0]["log"]
    assert Trust.parse(with_earlier()).serialize() == trust().serialize()


EARLIER_OF_ANOTHER_SHAPE = {
    "a text": "yunxi.example/fire+00000000+AA==",
    "a vkey that is none": earlier(vkey="yunxi.example/fire"),
    "no vkey": earlier(vkey="absent"),
    "no beginning": earlier(valid_from="absent"),
    "a beginning of null": earlier(valid_from=None),
    "no end": earlier(valid_to="absent"),
    "an end with fractions": earlier(valid_to="2026-01-01T00:00:00.0Z"),
}
EARLIER_CANNOT_DECIDE = {
    "one of another name": earlier(vkey=str(VerifierKey.of("yunxi.example/market", ED25519, public_of("x")))),
    "one of a witness's type": earlier(
        vkey=str(VerifierKey.of("yunxi.example/fire", COSIGNATURE_ED25519, public_of("x")))
    ),
    "the present key again": earlier("fire log"),
    "another log's key": earlier("market log"),
    "a witness's key": earlier("court.example/witness"),
    "one that ends before it begins": earlier(valid_to="2024-01-01T00:00:00Z"),
}


@pytest.mark.parametrize("key", EARLIER_OF_ANOTHER_SHAPE.values(), ids=EARLIER_OF_ANOTHER_SHAPE)
def test_an_earlier_key_of_another_shape_is_malformed(key: object) -> None:
    with pytest.raises(Malformed):
        Trust.parse(with_earlier(key))


@pytest.mark.parametrize("key", EARLIER_CANNOT_DECIDE.values(), ids=EARLIER_CANNOT_DECIDE)
def test_an_earlier_key_that_cannot_decide_is_refused(key: object) -> None:
    with pytest.raises(TrustRefused):
        Trust.parse(with_earlier(key))


# --- the keys that a witness had earlier ---


def earlier_witness(name: str = "court 1", kind: int = COSIGNATURE_ED25519, **changes: object) -> Document:
    vkey = VerifierKey.of("court.example/witness", kind, public_of(name))
    member: Document = {"vkey": str(vkey), "valid_from": "2025-01-01T00:00:00Z", "valid_to": "2026-01-01T00:00:00Z"}
    return {k: v for k, v in (member | changes).items() if v != "absent"}


def with_earlier_witness(*keys: object) -> bytes:
    changed = document()
    changed["witnesses"][0]["earlier"] = list(keys)
    return json.dumps(changed).encode()


def test_earlier_witness_keys_round_trip() -> None:
    newer = earlier_witness("court 2", valid_from="2026-01-01T00:00:00Z", valid_to=None)
    parsed = Trust.parse(with_earlier_witness(newer, earlier_witness(**{"x-why": "yearly"})))
    (found,) = (witness for witness in parsed.witnesses if witness.earlier)
    assert [key.key.public for key in found.earlier] == [public_of("court 2"), public_of("court 1")]
    assert Trust.parse(parsed.serialize()).serialize() == parsed.serialize()
    assert Trust.parse(with_earlier_witness()).serialize() == trust().serialize()


EARLIER_WITNESS_REFUSED = {
    "a text": ("court", Malformed),
    "no end": (earlier_witness(valid_to="absent"), Malformed),
    "one of a log's type": (earlier_witness(kind=ED25519), TrustRefused),
    "the present key again": (earlier_witness("court.example/witness"), TrustRefused),
    "another witness's key": (earlier_witness("notary.example/witness"), TrustRefused),
    "a log's key": (earlier_witness("fire log"), TrustRefused),
    "one that ends before it begins": (earlier_witness(valid_to="2024-01-01T00:00:00Z"), TrustRefused),
}


@pytest.mark.parametrize("case", EARLIER_WITNESS_REFUSED)
def test_an_earlier_witness_key_that_is_refused(case: str) -> None:
    key, error = EARLIER_WITNESS_REFUSED[case]
    with pytest.raises(error):
        Trust.parse(with_earlier_witness(key))


def test_anchors_may_stand_on_the_contracts_that_came_before() -> None:
    changed = document()
    changed["chain"]["contracts"] |= {
        name: "0x" + digits * 20
        for name, digits in {
            "EvidenceLog-1": "AA",
            "EvidenceLog-x": "bb",
            "EvidenceLog-1x": "cc",
            "EvidenceLog-0": "dd",
        }.items()
    }
    chain = Trust.parse(json.dumps(changed).encode()).chain
    assert chain.evidence_logs == (chain.contracts["EvidenceLog"].lower(), "0x" + "aa" * 20)
