"""Keccak-256 against two implementations that are not ours: hashlib's permutation, and the library that chains use."""

from __future__ import annotations

import hashlib

import pytest
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from ledger.formats.keccak import RATE, SHA3, keccak256, sponge

BOUNDARIES = {
    "empty": 0,
    "one byte": 1,
    "one lane": 8,
    "room for two bytes of padding": RATE - 2,
    "room for one byte of padding": RATE - 1,
    "one block": RATE,
    "one block and a byte": RATE + 1,
    "two blocks": 2 * RATE,
    "a header": 600,
}


@pytest.mark.parametrize("size", BOUNDARIES.values(), ids=BOUNDARIES)
def test_at_the_boundaries(size: int) -> None:
    data = bytes(n % 251 for n in range(size))
    assert sponge(data, SHA3) == hashlib.sha3_256(data).digest()
    assert keccak256(data) == keccak(data)


@given(st.binary(max_size=3 * RATE))
def test_the_permutation_is_that_of_sha3(data: bytes) -> None:
    assert sponge(data, SHA3) == hashlib.sha3_256(data).digest()


@given(st.binary(max_size=3 * RATE))
def test_the_hash_is_that_of_evm_chains(data: bytes) -> None:
    assert keccak256(data) == keccak(data)


def test_known_digests() -> None:
    # of nothing (yellow paper: the code hash of an account without code), and of the RLP of nothing (its empty trie)
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"\x80").hex() == "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
