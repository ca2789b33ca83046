"""Recovering keys from signatures: eth_keys signs, we recover; nothing else than the signature leads to the signer."""

from __future__ import annotations

import contextlib

import pytest
from eth_keys import keys
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger.crypto.secp256k1 import address_of, recover
from ledger.errors import SignatureInvalid

N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
PRIVATE = st.integers(1, N - 1).map(lambda n: n.to_bytes(32, "big"))
DIGEST = st.binary(min_size=32, max_size=32)


@settings(max_examples=40, deadline=None)
@given(PRIVATE, DIGEST)
@example((1).to_bytes(32, "big"), bytes(32))
@example((N - 1).to_bytes(32, "big"), b"\xff" * 32)
def test_the_signer_is_found(private: bytes, digest: bytes) -> None:
    key = keys.PrivateKey(private)
    found = recover(digest, key.sign_msg_hash(digest).to_bytes())
    numbers = found.public_numbers()
    assert numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big") == key.public_key.to_bytes()
    assert address_of(found) == key.public_key.to_canonical_address()


@settings(max_examples=60, deadline=None)
@given(PRIVATE, DIGEST, st.integers(0, 65 * 8 - 1))
def test_a_flipped_bit_leads_to_somebody_else_or_nobody(private: bytes, digest: bytes, bit: int) -> None:
    key = keys.PrivateKey(private)
    signature = bytearray(key.sign_msg_hash(digest).to_bytes())
    signature[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(SignatureInvalid):
        assert address_of(recover(digest, bytes(signature))) != key.public_key.to_canonical_address()


def test_the_other_half_of_s_is_the_same_signer() -> None:
    key, digest = keys.PrivateKey(b"\x07" * 32), b"d" * 32
    signature = key.sign_msg_hash(digest)
    mirrored = keys.Signature(vrs=(1 - signature.v, signature.r, N - signature.s)).to_bytes()
    assert address_of(recover(digest, mirrored)) == key.public_key.to_canonical_address()


ONE, NONE, ORDER = ((1).to_bytes(32, "big"), bytes(32), N.to_bytes(32, "big"))
REFUSED = {
    "64 bytes": (bytes(32), ONE + ONE),
    "66 bytes": (bytes(32), ONE + ONE + b"\x00\x00"),
    "a digest of 31 bytes": (bytes(31), ONE + ONE + b"\x00"),
    "r is zero": (bytes(32), NONE + ONE + b"\x00"),
    "s is zero": (bytes(32), ONE + NONE + b"\x00"),
    "r is the order": (bytes(32), ORDER + ONE + b"\x00"),
    "s is the order": (bytes(32), ONE + ORDER + b"\x00"),
    "a parity of 2": (bytes(32), ONE + ONE + b"\x02"),
    "a parity of 27, as in transactions": (bytes(32), ONE + ONE + b"\x1b"),
    "no point has this x": (bytes(32), (5).to_bytes(32, "big") + ONE + b"\x00"),
}


@pytest.mark.parametrize(("digest", "signature"), REFUSED.values(), ids=REFUSED)
def test_refused(digest: bytes, signature: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        recover(digest, signature)


def test_a_signature_by_nobody() -> None:
    # R = G and s = e: the key would be the point at infinity
    x = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798
    with pytest.raises(SignatureInvalid):
        recover(ONE, x.to_bytes(32, "big") + ONE + b"\x00")
