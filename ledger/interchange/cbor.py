"""Deterministic CBOR (RFC 8949 section 4.2.1), as much of it as COSE needs, and COSE_Sign1 (RFC 9052 section 4).

COSE_Sign1    = 18([protected: bytes of a map, unprotected: map, payload: bytes / null, signature: bytes])
Sig_structure = ["Signature1", protected, external_aad: h'', payload]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

COSE_SIGN1 = 18
ALG, CONTENT_TYPE, KID, CWT_CLAIMS = 1, 3, 4, 15
EDDSA = -8
"""Labels and values of the IANA registries "COSE Header Parameters" and "COSE Algorithms"."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """A tagged value (RFC 8949 section 3.4)."""

    tag: int
    value: Any


def encode(value: Any) -> bytes:
    """The one encoding of whole numbers below 2^64, bytes, text, None, lists, maps and `Tagged`; maps are sorted by
    their keys' encodings. Raises TypeError for anything else, floats among it, and ValueError for larger numbers."""
    if value is None:
        return b"\xf6"
    if isinstance(value, Tagged):
        return _head(6, value.tag) + encode(value.value)
    if isinstance(value, bool) or not isinstance(value, int | bytes | str | list | tuple | Mapping):
        raise TypeError(f"no CBOR is made of {type(value).__name__}")
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    if isinstance(value, Mapping):
        members = sorted((encode(key), encode(member)) for key, member in value.items())
        return _head(5, len(members)) + b"".join(key + member for key, member in members)
    return _head(4, len(value)) + b"".join(map(encode, value))


def sign1(
    protected: Mapping[int, Any],
    unprotected: Mapping[int, Any],
    payload: bytes,
    sign: Callable[[bytes], bytes],
    *,
    detached: bool = False,
) -> bytes:
    """A tagged COSE_Sign1 over `payload`, which is left out where `detached`. `sign` takes the bytes to be signed."""
    header = encode(protected)
    signature = sign(encode(["Signature1", header, b"", payload]))
    return encode(Tagged(COSE_SIGN1, [header, unprotected, None if detached else payload, signature]))


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * size:
            return bytes([major << 5 | info]) + argument.to_bytes(size, "big")
    raise ValueError("CBOR's numbers end below 2^64")
