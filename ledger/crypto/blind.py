"""Keyed digests of low-entropy text: blind indexes (DESIGN section 4) and content marks for idempotency.

Both are HMAC-SHA-256 (RFC 2104). Whoever holds the index key can test guesses, so it never leaves the nodes of the
consortium and never stands in a log, on the chain or in a case file.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

INDEX_BYTES = 16


def blind_index(index_key: bytes, kind: str, normalised: str) -> bytes:
    """16 bytes that are equal for equal identifiers of one kind: HMAC(index key, kind ‖ 0x1f ‖ identifier), cut.

    `index_key` is 32 random bytes; `normalised` is the output of `formats.identifiers.normalise`.
    """
    return _mac(index_key, kind.encode() + b"\x1f" + normalised.encode())[:INDEX_BYTES]


def content_key(index_key: bytes, department: str) -> bytes:
    """The 32-byte key of one department's content marks, derived from the index key (HKDF, RFC 5869)."""
    return HKDF(SHA256(), 32, salt=None, info=b"yunxi content mark v1\x1f" + department.encode()).derive(index_key)


def content_mark(key: bytes, canonical: bytes) -> bytes:
    """16 bytes that tell same content from other content under one idempotency key; `key` from `content_key`."""
    return _mac(key, canonical)[:INDEX_BYTES]


def _mac(key: bytes, message: bytes) -> bytes:
    mac = _keyed(key).copy()
    mac.update(message)
    return mac.finalize()


@lru_cache(maxsize=256)  # taking in a key costs twice what marking a record does; a process has one or two a department
def _keyed(key: bytes) -> HMAC:
    return HMAC(key, SHA256())
