"""Blind indexes and content marks against HMAC and HKDF as the RFCs write them."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from ledger.crypto.blind import blind_index, content_key, content_mark

KEY = bytes(range(32))


def test_blind_index_is_hmac_cut_to_16_bytes() -> None:
    message = b"plate\x1f" + "浙B12345".encode()
    assert blind_index(KEY, "plate", "浙B12345") == hmac.new(KEY, message, hashlib.sha256).digest()[:16]


# RFC 4231 test case 2, through the same call: key "Jefe", text "what do ya want for nothing?"
def test_rfc4231_case_2() -> None:
    assert content_mark(b"Jefe", b"what do ya want for nothing?").hex() == "5bdcc146bf60754e6a042426089575c7"


def test_content_key_is_rfc5869() -> None:
    info = b"yunxi content mark v1\x1ffire"
    extracted = hmac.new(bytes(32), KEY, hashlib.sha256).digest()
    assert content_key(KEY, "fire") == hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


@pytest.mark.parametrize(
    ("kind", "value"), [("plate", "浙B12346"), ("licence", "浙B12345"), ("plat", "e\x1f浙B12345"), ("plate", "")]
)
def test_other_identifiers_have_other_indexes(kind: str, value: str) -> None:
    assert blind_index(KEY, kind, value) != blind_index(KEY, "plate", "浙B12345")


def test_departments_and_consortia_have_other_keys() -> None:
    assert len({content_key(KEY, "fire"), content_key(KEY, "health"), content_key(bytes(32), "fire"), KEY}) == 4
