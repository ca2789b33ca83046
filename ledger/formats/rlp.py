"""Recursive Length Prefix, the encoding of everything on an EVM chain (Ethereum yellow paper, appendix B).

    item   = string | list
    string = byte below 0x80
           | 0x80 + n, n bytes                  n below 56
           | 0xb7 + k, n in k bytes, n bytes    n from 56
    list   = 0xc0 + n, items of n bytes together              n below 56
           | 0xf7 + k, n in k bytes, items of n bytes together   n from 56

A number is a string: big-endian without leading zeros, zero the empty string. Decoding takes the one encoding that
`encode` gives and nothing else, so that what hashes alike reads alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from ledger.errors import Malformed

MAX_DEPTH = 16
"""How deep lists may stand in lists: the deepest in use, an access list in a transaction, has 4."""

Item: TypeAlias = "bytes | Sequence[Item]"

_STRING, _LIST, _SHORT = 0x80, 0xC0, 55


def encode(item: Item) -> bytes:
    """The encoding of a byte string or of a (nested) sequence of them."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < _STRING:
            return item
        return _head(len(item), _STRING) + item
    body = b"".join(map(encode, item))
    return _head(len(body), _LIST) + body


def from_int(value: int) -> bytes:
    """The string that stands for a number, which is not negative."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def decode(data: bytes, what: str) -> Item:
    """The item that `data` is, wholly; lists come as tuples.

    Raises Malformed, naming `what`, for bytes left over or missing, for an encoding that is not the shortest, and for
    more than `MAX_DEPTH` lists in each other.
    """
    item, end = _item(data, 0, what, MAX_DEPTH)
    if end != len(data):
        raise Malformed(what, f"{len(data) - end} bytes follow the end of its RLP")
    return item


def items(item: Item, what: str, *counts: int) -> tuple[Item, ...]:
    """The items of a list, which must be one of `counts` where any are given. Raises Malformed, naming `what`."""
    if isinstance(item, bytes):
        raise Malformed(what, "has a string where a list belongs")
    if counts and len(item) not in counts:
        raise Malformed(what, f"has a list of {len(item)} items; it must have {' or '.join(map(str, counts))}")
    return tuple(item)


def string(item: Item, what: str, size: int | None = None) -> bytes:
    """A string, of exactly `size` bytes where given. Raises Malformed, naming `what`."""
    if not isinstance(item, bytes):
        raise Malformed(what, "has a list where a string belongs")
    if size is not None and len(item) != size:
        raise Malformed(what, f"has {len(item)} bytes where {size} belong")
    return item


def number(item: Item, what: str) -> int:
    """A number below 2^256. Raises Malformed, naming `what`, for leading zeros too."""
    data = string(item, what)
    if len(data) > 32 or data[:1] == b"\x00":
        raise Malformed(what, "has a number that is too large or has leading zeros")
    return int.from_bytes(data, "big")


def _head(length: int, offset: int) -> bytes:
    if length <= _SHORT:
        return bytes([offset + length])
    digits = from_int(length)
    return bytes([offset + _SHORT + len(digits)]) + digits


def _item(data: bytes, at: int, what: str, depth: int) -> tuple[Item, int]:
    """The item that begins at `at`, and where it ends."""
    if at >= len(data):
        raise Malformed(what, "its RLP is cut short")
    first = data[at]
    if first < _STRING:
        return data[at : at + 1], at + 1
    start, end = _body(data, at, what)
    if first < _LIST:
        if end - start == 1 and data[start] < _STRING:
            raise Malformed(what, "its RLP is not the shortest: a byte below 128 stands for itself")
        return data[start:end], end
    if depth == 0:
        raise Malformed(what, f"its RLP has more than {MAX_DEPTH} lists in each other")
    found: list[Item] = []
    while start < end:
        item, start = _item(data, start, what, depth - 1)
        found.append(item)
    if start != end:
        raise Malformed(what, "an item of its RLP is longer than the list around it")
    return tuple(found), end


def _body(data: bytes, at: int, what: str) -> tuple[int, int]:
    """Where the content of the string or list at `at` begins and ends."""
    length = data[at] - (_STRING if data[at] < _LIST else _LIST)
    start = at + 1
    if length > _SHORT:
        digits = data[start : start + length - _SHORT]
        start, length = start + len(digits), int.from_bytes(digits, "big")
        if digits[:1] in (b"", b"\x00") or length <= _SHORT:
            raise Malformed(what, "its RLP is not the shortest: a length has too many bytes")
    if start + length > len(data):
        raise Malformed(what, "its RLP is cut short")
    return start, start + length
