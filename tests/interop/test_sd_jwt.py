"""The IETF's reference library, PyPI `sd-jwt`, verifies what this ledger presents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from jwcrypto.common import JWException
from jwcrypto.jwk import JWK
from sd_jwt.verifier import SDJWTVerifier

from ledger.formats.jwk import from_public_key
from ledger.formats.sdjwt import parse_presentation, serialize_presentation
from ledger.submission import Submission
from tests.fixtures.parts import TYPES, Parts
from tests.fixtures.records import attachment, report
from tests.fixtures.sealing import PUBLIC, disclosures_of, records, seal

CLEAR = {"iss", "jti", "iat", "type", "v", "subj", "matter", "case", "inspection", "amends"}


def verified(presentation: bytes, jwk: dict[str, str]) -> dict[str, Any]:
    """The claims that the library gives out, with the department's registered key."""

    def issuer_key(issuer: str, header: dict[str, Any]) -> JWK:
        key = JWK(**jwk)
        if (issuer, header["typ"], header["kid"]) != ("fire", "yunxi+sd-jwt", key.thumbprint()):
            raise KeyError("no such key")
        return key

    payload: dict[str, Any] = SDJWTVerifier(presentation.decode("ascii"), issuer_key).get_verified_payload()
    return payload


def ours(presentation: bytes) -> dict[str, Any]:
    """The same claims as this ledger's own reader sees them."""
    shown = parse_presentation(presentation)
    claims = {name: value for name, value in shown.statement.payload.items() if name not in ("_sd", "_sd_alg")}
    return claims | {disclosure.unit: disclosure.members for disclosure in shown.disclosures}


@pytest.fixture
def present(sqlite_parts: Parts, tmp_path: Path) -> tuple[Any, dict[str, str]]:
    """`present(units)` of a stored record with two attachments, and its department's key."""
    files = (attachment(tmp_path / "a.png", b"abc"), attachment(tmp_path / "b.pdf", b"", "application/pdf"))
    taken = sqlite_parts.take([Submission("k", report(1, case="望消立〔2026〕1号"), files)])[0]

    def present(units: list[str] | None) -> bytes:
        with sqlite_parts.database.reading() as connection:
            return sqlite_parts.reader.present(connection, taken.record_id, units)

    public = sqlite_parts.agent.create_department("fire").statement
    return present, from_public_key(public)


@pytest.mark.parametrize(
    "units", [None, [], ["result"], ["attachment-2"], ["place", "subjects", "attachment-1"]], ids=str
)
def test_verifies_with_the_same_claims(present: tuple[Any, dict[str, str]], units: list[str] | None) -> None:
    presentation = present[0](units)
    claims = verified(presentation, present[1])
    assert claims == ours(presentation)
    if units is not None:
        assert claims.keys() - CLEAR == set(units)


def test_a_full_presentation_is_the_record(present: tuple[Any, dict[str, str]]) -> None:
    claims = verified(present[0](None), present[1])
    assert claims["facility"] == {"facility_name": "第1餐饮店"}
    assert claims["result"] == {"result": "基本符合"}
    assert claims["attachment-1"]["size"] == 3
    assert claims["attachment-2"]["media_type"] == "application/pdf"
    assert claims["case"] == "望消立〔2026〕1号"


def test_masked_fields_are_nowhere_in_it(present: tuple[Any, dict[str, str]]) -> None:
    claims = verified(present[0](["result"]), present[1])
    assert "第1餐饮店" not in str(claims)
    assert "91350100M000100Y43" not in str(claims)


@pytest.mark.parametrize("part", [0, 1, 2], ids=["header", "payload", "signature"])
def test_a_changed_statement_is_refused(present: tuple[Any, dict[str, str]], part: int) -> None:
    statement, rest = present[0](None).split(b"~", 1)
    parts = statement.split(b".")
    middle = len(parts[part]) // 2
    parts[part] = parts[part][:middle] + bytes([parts[part][middle] ^ 1]) + parts[part][middle + 1 :]
    with pytest.raises((JWException, ValueError, KeyError)):
        verified(b".".join(parts) + b"~" + rest, present[1])


def test_another_key_is_refused(present: tuple[Any, dict[str, str]], sqlite_parts: Parts) -> None:
    other = JWK(**from_public_key(sqlite_parts.agent.create_department("health").statement))
    with pytest.raises(JWException):
        SDJWTVerifier(present[0](None).decode(), lambda *_: other)


def test_a_changed_disclosure_shows_nothing(present: tuple[Any, dict[str, str]]) -> None:
    # the library leaves out what it finds no digest for; this ledger refuses it aloud
    statement, text, _ = present[0](["result"]).split(b"~")
    changed = bytearray(text)
    changed[-5] ^= 1
    tampered = b"~".join([statement, bytes(changed), b""])
    try:
        claims = verified(tampered, present[1])
    except ValueError:
        return
    assert claims.keys() <= CLEAR


@pytest.mark.parametrize("name", sorted(kind.name for kind in TYPES))
def test_any_record_of_any_type(name: str) -> None:
    @settings(max_examples=15, suppress_health_check=list(HealthCheck))
    @given(records(name))
    def verifies(record: dict[str, Any]) -> None:
        sealed = seal(record)
        texts = disclosures_of(sealed)
        for shown in (texts, texts[::2]):
            presentation = serialize_presentation(sealed.statement, shown)
            assert verified(presentation, from_public_key(PUBLIC)) == ours(presentation)

    verifies()
