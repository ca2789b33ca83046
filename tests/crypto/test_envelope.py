"""Envelope encryption: published vectors, round trips, and every way in which something else must not open."""

from __future__ import annotations

import hashlib
import os

import pytest
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from ledger.crypto.envelope import (
    kek_info,
    open_payload,
    seal_payload,
    unwrap_data_key,
    unwrap_kek,
    wrap_data_key,
    wrap_kek,
)
from ledger.errors import Malformed, PayloadInvalid

KEY, NONCE, STATEMENT = bytes(range(32)), bytes(range(12)), b"header.payload.signature"

# RFC 3394 section 4.6: 256 bits of key data under a 256-bit key
RFC3394_KEK = bytes.fromhex("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F")
RFC3394_DATA = bytes.fromhex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
RFC3394_WRAPPED = bytes.fromhex("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21")


def test_rfc3394_section_4_6() -> None:
    assert wrap_data_key(RFC3394_KEK, RFC3394_DATA) == RFC3394_WRAPPED
    assert unwrap_data_key(RFC3394_KEK, RFC3394_WRAPPED) == RFC3394_DATA


@given(st.integers(0, 40 * 8 - 1))
def test_one_flipped_bit_of_a_wrapped_key(bit: int) -> None:
    changed = bytearray(RFC3394_WRAPPED)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(PayloadInvalid):
        unwrap_data_key(RFC3394_KEK, bytes(changed))


@pytest.mark.parametrize("wrapped", [b"", RFC3394_WRAPPED[:-1], RFC3394_WRAPPED[:32], RFC3394_WRAPPED + bytes(8)])
def test_a_wrapped_key_of_another_length(wrapped: bytes) -> None:
    with pytest.raises(PayloadInvalid):
        unwrap_data_key(RFC3394_KEK, wrapped)


def test_another_kek_does_not_unwrap() -> None:
    with pytest.raises(PayloadInvalid, match="key-encryption key"):
        unwrap_data_key(bytes(32), RFC3394_WRAPPED)


# ---- payloads ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 100_000])
def test_payload_there_and_back(size: int) -> None:
    plaintext = os.urandom(size)
    payload = seal_payload(KEY, NONCE, plaintext, STATEMENT)
    assert len(payload) == 4 + 12 + size + 16
    assert open_payload(KEY, payload, STATEMENT) == plaintext


def test_payload_is_what_the_format_says() -> None:
    payload = seal_payload(KEY, NONCE, b"abc", STATEMENT)
    assert payload[:16] == b"YXP\x01" + NONCE
    opened = Cipher(algorithms.AES(KEY), modes.GCM(NONCE, payload[-16:])).decryptor()
    opened.authenticate_additional_data(hashlib.sha256(STATEMENT).digest())
    assert opened.update(payload[16:-16]) + opened.finalize() == b"abc"


@given(st.integers(0, (4 + 12 + 3 + 16) * 8 - 1))
def test_one_flipped_bit_of_a_payload(bit: int) -> None:
    changed = bytearray(seal_payload(KEY, NONCE, b"abc", STATEMENT))
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Malformed if bit < 32 else PayloadInvalid):
        open_payload(KEY, bytes(changed), STATEMENT)


@pytest.mark.parametrize("size", [0, 3, 4, 16, 31])
def test_a_truncated_payload(size: int) -> None:
    with pytest.raises(Malformed, match=r"^payload: "):
        open_payload(KEY, seal_payload(KEY, NONCE, b"abc", STATEMENT)[:size], STATEMENT)


def test_another_statement_or_key_does_not_open() -> None:
    payload = seal_payload(KEY, NONCE, b"abc", STATEMENT)
    for key, statement in ((KEY, STATEMENT + b"x"), (KEY, b""), (bytes(32), STATEMENT)):
        with pytest.raises(PayloadInvalid, match="not the one that was sealed"):
            open_payload(key, payload, statement)


# ---- key-encryption keys -----------------------------------------------------------------------------------------

HOLDER, OTHER = X25519PrivateKey.generate(), X25519PrivateKey.generate()
INFO = kek_info("fire", 1)


def test_kek_there_and_back() -> None:
    wrapped = wrap_kek(KEY, HOLDER.public_key(), INFO)
    assert len(wrapped) == 80
    assert unwrap_kek(wrapped, HOLDER, INFO) == KEY
    assert wrap_kek(KEY, HOLDER.public_key(), INFO) != wrapped


def test_kek_is_rfc9180_base_mode_single_shot() -> None:
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    assert unwrap_kek(suite.encrypt(KEY, HOLDER.public_key(), info=INFO), HOLDER, INFO) == KEY


WRONG = {
    "another recipient": (OTHER, INFO),
    "another department": (HOLDER, kek_info("health", 1)),
    "another epoch": (HOLDER, kek_info("fire", 2)),
    "no info": (HOLDER, b""),
}


@pytest.mark.parametrize("name", WRONG)
def test_kek_does_not_open_for(name: str) -> None:
    holder, info = WRONG[name]
    with pytest.raises(PayloadInvalid, match="encryption key"):
        unwrap_kek(wrap_kek(KEY, HOLDER.public_key(), INFO), holder, info)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 48, 79])
def test_a_truncated_kek(size: int) -> None:
    with pytest.raises(PayloadInvalid):
        unwrap_kek(wrap_kek(KEY, HOLDER.public_key(), INFO)[:size], HOLDER, INFO)


@given(st.integers(0, 80 * 8 - 1))
def test_one_flipped_bit_of_a_kek(bit: int) -> None:
    changed = bytearray(wrap_kek(KEY, HOLDER.public_key(), INFO))
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(PayloadInvalid):
        unwrap_kek(bytes(changed), HOLDER, INFO)


@pytest.mark.parametrize("point", [bytes(32), (1).to_bytes(32, "little")])
def test_a_point_of_small_order_as_encapsulated_key(point: bytes) -> None:
    with pytest.raises(PayloadInvalid):
        unwrap_kek(point + bytes(48), HOLDER, INFO)


def test_infos_of_different_places_differ() -> None:
    places = [("fire", 1), ("fire", 11), ("fire1", 1), ("fire", 2)]
    assert len({kek_info(*place) for place in places}) == len(places)
