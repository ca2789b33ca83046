"""Base64 and hex that have exactly one text for every byte string (RFC 4648 sections 3.5, 4, 5).

Decoders refuse what Python's own would let pass (missing or wrong padding, line breaks, foreign characters, non-zero
trailing bits): otherwise a flipped bit in a text could leave the bytes, and so the verdict, unchanged.
"""

from __future__ import annotations

import base64
import binascii

from ledger.errors import Malformed


def b64encode(data: bytes) -> str:
    """Standard alphabet, with padding (RFC 4648 section 4)."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def b64decode(text: str, what: str) -> bytes:
    """The inverse of `b64encode`. Raises Malformed, naming `what`, unless `text` is the one encoding of its bytes."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Malformed(what, "not base64") from error
    if b64encode(data) != text:
        raise Malformed(what, "base64 with stray bits or padding")
    return data


def b64url_encode(data: bytes) -> str:
    """URL-safe alphabet, no padding (RFC 7515 appendix C)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def b64url_decode(text: str, what: str) -> bytes:
    """The inverse of `b64url_encode`. Raises Malformed, naming `what`, unless `text` is its bytes' one encoding."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise Malformed(what, "not base64url") from error
    if b64url_encode(data) != text:
        raise Malformed(what, "base64url with stray bits or padding")
    return data


def hex_decode(text: str, size: int, what: str) -> bytes:
    """Lowercase hex of exactly `size` bytes. Raises Malformed, naming `what`, otherwise."""
    try:
        data = bytes.fromhex(text)
    except ValueError as error:
        raise Malformed(what, "not hex") from error
    if len(data) != size or data.hex() != text:
        raise Malformed(what, f"expected {size} bytes in lowercase hex")
    return data
