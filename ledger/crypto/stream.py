"""Streaming AEAD for attachments of any size in constant memory.

    stream  = "YXS" ‖ suite (1 byte) ‖ body
    body    = header ‖ segment*                        Tink's AES256-GCM-HKDF streaming format, 1 MiB segments
    header  = 0x28 ‖ salt (32) ‖ nonce prefix (7)
    key     = HKDF-SHA256(input key, salt, info = associated data), 32 bytes
    segment = AES-256-GCM(key, prefix ‖ index (4, big endian) ‖ last (1), ≤ 1 MiB of ciphertext with its 16-byte tag);
              the first is shorter by the header's 40 bytes

The `last` byte makes truncation at a segment border show; the index makes reordering show.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ledger.errors import Malformed, PayloadInvalid

AES_256_GCM_HKDF_1MB = 0x01
MAGIC = b"YXS"
SEGMENT_BYTES = 1024 * 1024

_PREFIX = MAGIC + bytes([AES_256_GCM_HKDF_1MB])
_HEADER_BYTES = 40
_TAG_BYTES = 16
_MAX_SEGMENTS = 2**32


def seal_stream(key: bytes, chunks: Iterable[bytes], associated: bytes) -> Iterator[bytes]:
    """The stream for the concatenated `chunks` (any sizes). `key`: 32 bytes; salt and nonce prefix are drawn here."""
    salt, prefix = os.urandom(32), os.urandom(7)
    yield _PREFIX + bytes([_HEADER_BYTES]) + salt + prefix
    aead = AESGCM(_segment_key(key, salt, associated))
    first = SEGMENT_BYTES - _HEADER_BYTES - _TAG_BYTES
    for index, (segment, last) in enumerate(_cut(chunks, first, SEGMENT_BYTES - _TAG_BYTES)):
        yield aead.encrypt(_nonce(prefix, index, last), segment, None)


def open_stream(key: bytes, chunks: Iterable[bytes], associated: bytes) -> Iterator[bytes]:
    """The plaintext, segment by segment; what was yielded before an error is authentic but incomplete.

    Raises Malformed for an unknown suite, PayloadInvalid naming the segment where key, order, length or any byte
    differs from what was sealed.
    """
    head, rest = _take(chunks, len(_PREFIX) + _HEADER_BYTES)
    if head[:4] != _PREFIX or len(head) < len(_PREFIX) + _HEADER_BYTES or head[4] != _HEADER_BYTES:
        raise Malformed("attachment stream", "not an AES-256-GCM stream of this ledger")
    salt, prefix = head[5:37], head[37:44]
    aead = AESGCM(_segment_key(key, salt, associated))
    offset = len(head)
    for index, (segment, last) in enumerate(_cut(rest, SEGMENT_BYTES - _HEADER_BYTES, SEGMENT_BYTES)):
        try:
            yield aead.decrypt(_nonce(prefix, index, last), segment, None)
        except InvalidTag as error:
            end = offset + len(segment)
            raise PayloadInvalid(f"the attachment is damaged between bytes {offset:,} and {end:,}") from error
        offset += len(segment)


def _segment_key(key: bytes, salt: bytes, associated: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=salt, info=associated).derive(key)


def _nonce(prefix: bytes, index: int, last: bool) -> bytes:
    if index >= _MAX_SEGMENTS:
        raise Malformed("attachment stream", "longer than 2^32 segments")
    return prefix + index.to_bytes(4, "big") + bytes([last])


def _cut(chunks: Iterable[bytes], first: int, rest: int) -> Iterator[tuple[bytes, bool]]:
    # one segment is held back, because only the end of the input tells which is the last
    buffer = bytearray()
    size = first
    for chunk in chunks:
        buffer += chunk
        while len(buffer) > size:
            yield bytes(buffer[:size]), False
            del buffer[:size]
            size = rest
    yield bytes(buffer), True


def _take(chunks: Iterable[bytes], count: int) -> tuple[bytes, Iterator[bytes]]:
    iterator = iter(chunks)
    buffer = bytearray()
    for chunk in iterator:
        buffer += chunk
        if len(buffer) >= count:
            break

    def remaining() -> Iterator[bytes]:
        yield bytes(buffer[count:])
        yield from iterator

    return bytes(buffer[:count]), remaining()
