"""Statements, disclosures, presentations: what is taken, what is refused, by which error."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.errors import DisclosureInvalid, Malformed, NotProven, SignatureInvalid
from ledger.formats.encoding import b64url_decode, b64url_encode
from ledger.formats.sdjwt import (
    MAX_DISCLOSURES,
    MAX_STATEMENT_BYTES,
    disclosure_digest,
    open_disclosures,
    parse_disclosure,
    parse_presentation,
    parse_statement,
    serialize_presentation,
)
from tests.fixtures.records import report
from tests.fixtures.sealing import PUBLIC, RECORD_ID, TYPES, decode_salt, disclosures_of, opened, records, seal, signed

SEALED = seal()
TEXTS = disclosures_of(SEALED)
HEADER, PAYLOAD = opened(SEALED.statement)


def disclosure(salt: Any, unit: Any, members: Any) -> str:
    return b64url_encode(json.dumps([salt, unit, members]).encode())


SALT = b64url_encode(bytes(16))

# RFC 9901 section 4.2.1 and 4.2.3: the example disclosure and its digest
RFC9901_DISCLOSURE = "WyI2cU1RdlJMNWhhaiIsICJmYW1pbHlfbmFtZSIsICJNw7ZiaXVzIl0"
RFC9901_DIGEST = "uutlBuYeMDyjLLTpf6Jxi7yNkEF35jdyWMn9U7b_RYY"


def test_rfc9901_digest_of_the_example_disclosure() -> None:
    assert disclosure_digest(RFC9901_DISCLOSURE) == RFC9901_DIGEST


def test_a_sealed_record_reads_back() -> None:
    statement = parse_statement(SEALED.statement)
    statement.verify_signature(PUBLIC)
    assert (statement.issuer, statement.record_id, statement.type, statement.version) == (
        "fire", RECORD_ID, "inspection.report", 1,
    )  # fmt: skip
    shown = parse_presentation(serialize_presentation(SEALED.statement, TEXTS))
    assert shown.masked == 0
    assert shown.record() == {"id": RECORD_ID, "department": "fire", **report(1)}


@pytest.mark.parametrize("count", [0, 1, len(TEXTS) - 1])
def test_masked_units_are_counted(count: int) -> None:
    shown = parse_presentation(serialize_presentation(SEALED.statement, TEXTS[:count]))
    assert (len(shown.disclosures), shown.masked) == (count, len(TEXTS) - count)


def test_salts_are_long_and_all_different() -> None:
    salts = [decode_salt(text) for sealed in (SEALED, seal(), seal()) for text in disclosures_of(sealed)]
    assert {len(salt) for salt in salts} == {16}
    assert len(set(salts)) == len(salts)


def test_digests_are_sorted_so_their_order_says_nothing() -> None:
    assert PAYLOAD["_sd"] == sorted(PAYLOAD["_sd"])
    assert len(PAYLOAD["_sd"]) == len(TEXTS)


# ---- statements that are refused ---------------------------------------------------------------------------------


def with_payload(**changes: Any) -> bytes:
    payload = {**copy.deepcopy(PAYLOAD), **changes}
    return signed(HEADER, {name: value for name, value in payload.items() if value is not ...})


def with_header(**changes: Any) -> bytes:
    return signed({name: value for name, value in {**HEADER, **changes}.items() if value is not ...}, PAYLOAD)


HEAD, BODY, SIGNATURE = SEALED.statement.split(b".")

STATEMENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "three parts"),
    "two parts": (HEAD + b"." + BODY, "three parts"),
    "four parts": (SEALED.statement + b".e30", "three parts"),
    "not ASCII": (SEALED.statement[:-1] + "é".encode(), "not ASCII"),
    "longer than a log entry": (b"e" * (MAX_STATEMENT_BYTES + 1), "longer than 65,535"),
    "padded header": (HEAD + b"=." + BODY + b"." + SIGNATURE, "base64url"),
    "a line break at its end": (SEALED.statement + b"\n", "base64url"),
    "a header that is a list": (b"W10." + BODY + b"." + SIGNATURE, "must be a JSON object"),
    "a payload that is not JSON": (HEAD + b".e30h." + SIGNATURE, "not JSON"),
    "a payload with a member twice": (
        HEAD + b"." + b64url_encode(b'{"iss":"fire","iss":"health"}').encode() + b"." + SIGNATURE, "stands twice"),
    "a signature of 63 bytes": (HEAD + b"." + BODY + b"." + b64url_encode(bytes(63)).encode(), "64 bytes"),
    "no signature": (HEAD + b"." + BODY + b".", "64 bytes"),
    "alg none": (with_header(alg="none"), "alg EdDSA"),
    "alg HS256": (with_header(alg="HS256"), "alg EdDSA"),
    "alg as a list": (with_header(alg=["EdDSA"]), "alg EdDSA"),
    "another typ": (with_header(typ="dc+sd-jwt"), "typ must be"),
    "typ missing": (with_header(typ=...), "typ must be"),
    "something critical": (with_header(crit=["exp"], exp=1), "nothing critical"),
    "kid missing": (with_header(kid=...), "member kid"),
    "kid empty": (with_header(kid=""), "member kid"),
    "iss missing": (with_payload(iss=...), "member iss"),
    "iss a number": (with_payload(iss=1), "member iss"),
    "iss of 201 characters": (with_payload(iss="x" * 201), "member iss"),
    "jti a UUIDv4": (with_payload(jti="0193510b-8c00-4abc-8def-0123456789ab"), "UUIDv7"),
    "jti in upper case": (with_payload(jti=RECORD_ID.upper()), "UUIDv7"),
    "iat missing": (with_payload(iat=...), "member iat"),
    "iat a float": (with_payload(iat=1.5), "member iat"),
    "iat true": (with_payload(iat=True), "member iat"),
    "iat negative": (with_payload(iat=-1), "member iat"),
    "iat beyond 2^53": (with_payload(iat=2**53), "beyond 2"),
    "v a text": (with_payload(v="1"), "member v"),
    "type missing": (with_payload(type=...), "member type"),
    "case a number": (with_payload(case=1), "member case"),
    "matter a list": (with_payload(matter=["a"]), "member matter"),
    "inspection empty": (with_payload(inspection=""), "member inspection"),
    "amends null": (with_payload(amends=None), "member amends"),
    "_sd_alg missing": (with_payload(_sd_alg=...), "_sd_alg must be sha-256"),
    "_sd_alg sha-512": (with_payload(_sd_alg="sha-512"), "_sd_alg must be sha-256"),
    "_sd missing": (with_payload(_sd=...), "member _sd"),
    "_sd an object": (with_payload(_sd={}), "member _sd"),
    "_sd with a number": (with_payload(_sd=[1]), "member _sd"),
    "_sd with a short digest": (with_payload(_sd=["abc"]), "distinct SHA-256"),
    "_sd with a digest twice": (with_payload(_sd=[PAYLOAD["_sd"][0]] * 2), "distinct SHA-256"),
    "subj missing": (with_payload(subj=...), "member subj"),
    "subj with a number": (with_payload(subj=[1]), "member subj"),
    "parts hidden in a member": (with_payload(place={"_sd": [PAYLOAD["_sd"][0]]}), "hidden parts inside"),
    "an element hidden in a list": (with_payload(officers=[{"...": PAYLOAD["_sd"][0]}]), "hidden parts inside"),
    "a member named ...": (with_payload(**{"...": "x"}), "hidden parts inside"),
}  # fmt: skip


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement_refused(name: str) -> None:
    data, words = STATEMENTS[name]
    with pytest.raises(Malformed, match=words):
        parse_statement(data)


def test_unknown_members_survive() -> None:
    statement = parse_statement(with_payload(later={"a": 1}))
    assert statement.payload["later"] == {"a": 1}
    statement.verify_signature(PUBLIC)


def test_another_key_does_not_verify() -> None:
    with pytest.raises(SignatureInvalid, match=RECORD_ID):
        parse_statement(SEALED.statement).verify_signature(Ed25519PrivateKey.generate().public_key())


# ---- disclosures and presentations that are refused --------------------------------------------------------------

DISCLOSURES: dict[str, tuple[str, str]] = {
    "not base64url": ("a b", "base64url"),
    "padded": (disclosure(SALT, "result", {}) + "=", "base64url"),
    "not JSON": ("e30h", "not JSON"),
    "an object": ("e30", "must be \\[salt, unit, members\\]"),
    "two parts, an array element's": (b64url_encode(json.dumps([SALT, {}]).encode()), "must be \\[salt"),
    "four parts": (b64url_encode(json.dumps([SALT, "a", {}, 1]).encode()), "must be \\[salt"),
    "a value that is no object": (disclosure(SALT, "result", "pass"), "a string, a string and an object"),
    "a unit that is a number": (disclosure(SALT, 1, {}), "a string, a string and an object"),
    "an empty unit": (disclosure(SALT, "", {}), "no unit may be named"),
    "a unit named _sd": (disclosure(SALT, "_sd", {}), "no unit may be named"),
    "a unit named ...": (disclosure(SALT, "...", {}), "no unit may be named"),
    **{
        f"a unit named {name}": (disclosure(SALT, name, {}), "no unit may be named")
        for name in ("iss", "jti", "iat", "type", "v", "matter", "case", "inspection", "amends", "subj", "_sd_alg")
    },
    "a salt that is a number": (disclosure(1, "result", {}), "a string, a string and an object"),
    "a salt of 15 bytes": (disclosure(b64url_encode(bytes(15)), "result", {}), "fewer than 16"),
    "a salt that is not base64url": (disclosure("!!", "result", {}), "base64url"),
    "a member twice": (b64url_encode(f'["{SALT}","result",{{"a":1,"a":2}}]'.encode()), "stands twice"),
    "parts hidden inside": (disclosure(SALT, "result", {"a": [{"_sd": []}]}), "hidden parts inside"),
    "parts hidden at the top": (disclosure(SALT, "result", {"_sd": ["x"]}), "hidden parts inside"),
    "an element hidden inside": (disclosure(SALT, "result", {"a": [1, {"...": "x"}]}), "hidden parts inside"),
    "NaN inside": (b64url_encode(f'["{SALT}","result",{{"a":NaN}}]'.encode()), "NaN"),
}


@pytest.mark.parametrize("name", DISCLOSURES)
def test_disclosure_refused(name: str) -> None:
    text, words = DISCLOSURES[name]
    with pytest.raises(Malformed, match=words):
        parse_disclosure(text)


def test_a_disclosure_that_nobody_committed_to() -> None:
    forged = disclosure(SALT, "result", {"result": "pass"})
    with pytest.raises(DisclosureInvalid, match="not in the statement"):
        parse_presentation(serialize_presentation(SEALED.statement, [*TEXTS[:-1], forged]))


def test_another_records_disclosure() -> None:
    with pytest.raises(DisclosureInvalid):
        parse_presentation(serialize_presentation(SEALED.statement, disclosures_of(seal())[:1]))


def test_a_disclosure_twice() -> None:
    with pytest.raises(DisclosureInvalid, match="shown twice"):
        parse_presentation(serialize_presentation(SEALED.statement, [TEXTS[0], TEXTS[0]]))


def test_one_unit_in_two_disclosures() -> None:
    texts = [disclosure(SALT, "result", {"result": result}) for result in ("pass", "fail")]
    statement = parse_statement(with_payload(_sd=[disclosure_digest(text) for text in texts]))
    assert open_disclosures(statement, texts[0].encode() + b"~")
    with pytest.raises(DisclosureInvalid, match="shown twice"):
        open_disclosures(statement, "~".join([*texts, ""]).encode())


def test_a_unit_named_like_a_claim_that_stands_in_clear() -> None:
    # RFC 9901 section 7.1 step 3: a claim name that is there already refuses the whole
    text = disclosure(SALT, "later", {"a": 1})
    statement = parse_statement(with_payload(later={"a": 2}, _sd=[disclosure_digest(text)]))
    with pytest.raises(DisclosureInvalid, match="'later' is also a claim"):
        open_disclosures(statement, text.encode() + b"~")


def test_sizes_are_counted_before_anything_is_read() -> None:
    with pytest.raises(Malformed, match="longer than 2,097,152 bytes"):
        parse_disclosure("A" * (2 * 1024 * 1024 + 1))
    with pytest.raises(Malformed, match="longer than 16,777,216 bytes"):
        parse_presentation(b"~" * (16 * 1024 * 1024 + 1))
    with pytest.raises(Malformed, match="more than 1,000 disclosures"):
        open_disclosures(parse_statement(SEALED.statement), b"WyI~" * 1_001)
    with pytest.raises(DisclosureInvalid, match="not in the statement"):
        open_disclosures(parse_statement(SEALED.statement), b"WyI~" * 1_000)


PRESENTATIONS: dict[str, tuple[Callable[[bytes], bytes], type[Exception]]] = {
    "no tilde at all": (lambda data: data.split(b"~")[0], Malformed),
    "last tilde missing": (lambda data: data[:-1], Malformed),
    "a tilde too many": (lambda data: data + b"~", NotProven),
    "two tildes inside": (lambda data: data.replace(b"~", b"~~", 1), NotProven),
    "a key binding JWT behind it": (lambda data: data + SEALED.statement, Malformed),
    "a space before it": (lambda data: b" " + data, Malformed),
    "CRLF behind it": (lambda data: data + b"\r\n", Malformed),
    "a NUL behind it": (lambda data: data + b"\x00", Malformed),
    "cut in a disclosure": (lambda data: data[:-30] + b"~", NotProven),
    "JSON serialization": (lambda data: b'{"payload":""}', Malformed),
    "more disclosures than are read": (lambda data: data + b"WyI~" * MAX_DISCLOSURES, Malformed),
}


@pytest.mark.parametrize("name", PRESENTATIONS)
def test_presentation_refused(name: str) -> None:
    change, error = PRESENTATIONS[name]
    with pytest.raises((error, Malformed)):
        parse_presentation(change(serialize_presentation(SEALED.statement, TEXTS)))


def test_line_breaks_of_an_editor_are_no_part_of_it() -> None:
    data = serialize_presentation(SEALED.statement, TEXTS)
    assert parse_presentation(data + b"\n") == parse_presentation(data)


# ---- properties --------------------------------------------------------------------------------------------------


@given(st.integers(0, len(SEALED.statement) * 8 - 1))
def test_one_flipped_bit_of_a_statement(bit: int) -> None:
    changed = bytearray(SEALED.statement)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises((Malformed, SignatureInvalid)):
        parse_statement(bytes(changed)).verify_signature(PUBLIC)


@given(st.data())
def test_one_flipped_bit_of_a_disclosure(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(TEXTS) - 1))
    changed = bytearray(TEXTS[place].encode())
    bit = data.draw(st.integers(0, len(changed) * 8 - 1))
    changed[bit // 8] ^= 1 << bit % 8
    joined = b"~".join([*(t.encode() for t in TEXTS[:place]), bytes(changed), b""])
    with pytest.raises((Malformed, DisclosureInvalid)):
        open_disclosures(parse_statement(SEALED.statement), joined)


@pytest.mark.parametrize("name", sorted({kind.name for kind in TYPES}))
def test_any_record_opens_to_itself(name: str) -> None:
    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(records(name))
    def opens_to_itself(record: dict[str, Any]) -> None:
        sealed = seal(record)
        texts = disclosures_of(sealed)
        shown = parse_presentation(serialize_presentation(sealed.statement, texts))
        shown.statement.verify_signature(PUBLIC)
        assert shown.record() == record
        # and nothing of it but the clear members stands in the statement
        _, payload = opened(sealed.statement)
        clear = {"iss", "jti", "iat", "type", "v", "subj", "_sd_alg", "_sd"}
        assert payload.keys() - clear <= {"matter", "case", "inspection", "amends"}
        assert b64url_decode(texts[0], "first")

    opens_to_itself()
