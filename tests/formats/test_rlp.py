"""RLP: the yellow paper's encoding, read in one way only. pyrlp is the second opinion."""

from __future__ import annotations

import contextlib

import pytest
import rlp as pyrlp
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import Malformed
from ledger.formats import rlp

# Origin: the examples of the RLP page of the Ethereum wiki and of ethereum/tests RLPTests/rlptest.json (facts)
KNOWN: dict[str, tuple[rlp.Item, str]] = {
    "the empty string": (b"", "80"),
    "the byte 0": (b"\x00", "00"),
    "the byte 127": (b"\x7f", "7f"),
    "the byte 128": (b"\x80", "8180"),
    "dog": (b"dog", "83646f67"),
    "55 bytes": (b"a" * 55, "b7" + "61" * 55),
    "56 bytes": (b"a" * 56, "b838" + "61" * 56),
    "1024 bytes": (b"a" * 1024, "b90400" + "61" * 1024),
    "the empty list": ((), "c0"),
    "cat and dog": ((b"cat", b"dog"), "c88363617483646f67"),
    "the set of three": (((), ((),), ((), ((),))), "c7c0c1c0c3c0c1c0"),
    "a list of 55 bytes": ((b"a",) * 55, "f7" + "61" * 55),
    "a list of 56 bytes": ((b"a",) * 56, "f838" + "61" * 56),
}


@pytest.mark.parametrize(("item", "encoded"), KNOWN.values(), ids=KNOWN)
def test_known_encodings(item: rlp.Item, encoded: str) -> None:
    assert rlp.encode(item).hex() == encoded
    assert rlp.decode(bytes.fromhex(encoded), "test") == item


ITEMS = st.recursive(st.binary(max_size=70), lambda inner: st.lists(inner, max_size=6).map(tuple), max_leaves=30)


@given(ITEMS)
def test_there_and_back_and_as_pyrlp_says(item: rlp.Item) -> None:
    encoded = rlp.encode(item)
    assert encoded == pyrlp.encode(item)
    assert rlp.decode(encoded, "test") == item


@given(st.binary(max_size=80))
def test_what_decodes_is_the_one_encoding_and_nothing_else_does(data: bytes) -> None:
    try:
        item = rlp.decode(data, "test")
    except Malformed:
        return
    assert rlp.encode(item) == data


@given(ITEMS, st.data())
def test_a_flipped_bit_is_refused_or_is_another_item(item: rlp.Item, data: st.DataObject) -> None:
    encoded = bytearray(rlp.encode(item))
    bit = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(Malformed):
        assert rlp.decode(bytes(encoded), "test") != item


def nested(depth: int) -> bytes:
    item: rlp.Item = ()
    for _ in range(depth - 1):
        item = (item,)
    return rlp.encode(item)


REFUSED = {
    "nothing": "",
    "a string without its bytes": "83646f",
    "a string whose length is cut": "b9",
    "a list without its items": "c883636174",
    "a list whose item runs over its end": "c2836161",
    "bytes after the end": "8000",
    "a byte below 128 in two bytes": "8101",
    "a short string with a long length": "b80161",
    "55 bytes with a long length": "b837" + "61" * 55,
    "a length with a leading zero": "b90038" + "61" * 56,
    "a list with a leading zero in its length": "f90038" + "61" * 56,
    "a short list with a long length": "f803616161",
    "a length of 2^64 - 1": "bf" + "ff" * 8,
    "a list of 2^64 - 1 bytes": "ff" + "ff" * 8,
    "lists seventeen deep": nested(rlp.MAX_DEPTH + 1).hex(),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_refused(data: str) -> None:
    with pytest.raises(Malformed):
        rlp.decode(bytes.fromhex(data), "test")


def test_as_deep_as_allowed() -> None:
    assert rlp.encode(rlp.decode(nested(rlp.MAX_DEPTH), "test")) == nested(rlp.MAX_DEPTH)


def test_a_megabyte_of_opening_lists_ends_at_once() -> None:
    # each claims to hold the rest: a reader without a limit would recurse a million times
    with pytest.raises(Malformed, match="in each other"):
        rlp.decode(nested(900), "test")
    with pytest.raises(Malformed):
        rlp.decode(b"\xc1" * 1_000_000, "test")


def test_numbers() -> None:
    assert [rlp.from_int(n) for n in (0, 1, 255, 256)] == [b"", b"\x01", b"\xff", b"\x01\x00"]
    assert rlp.number(b"", "test") == 0
    assert rlp.number(b"\xff" * 32, "test") == 2**256 - 1
    for wrong in (b"\x00", b"\x00\x01", b"\x01" + bytes(32), ()):
        with pytest.raises(Malformed):
            rlp.number(wrong, "test")


def test_shapes() -> None:
    assert rlp.items((b"", ()), "test", 2, 17) == (b"", ())
    assert rlp.string(b"ab", "test", 2) == b"ab"
    for call in (
        lambda: rlp.items(b"ab", "test"),
        lambda: rlp.items((b"",), "test", 2, 17),
        lambda: rlp.string((), "test"),
        lambda: rlp.string(b"ab", "test", 3),
    ):
        with pytest.raises(Malformed):
            call()
