"""Streaming AEAD for attachments of any size in constant memory.

    stream    = "YXS" ‖ suite (1 byte) ‖ body

    suite 1, sealed in one go:
    body      = header ‖ segment*                      Tink's AES256-GCM-HKDF streaming format, 1 MiB segments
    header    = 0x28 ‖ salt (32) ‖ nonce prefix (7)
    key       = HKDF-SHA256(input key, salt, info = associated data), 32 bytes
    segment   = AES-256-GCM(key, prefix ‖ index (4, big endian) ‖ last (1), ≤ 1 MiB of ciphertext with its 16-byte tag);
                the first is shorter by the header's 40 bytes

    suite 2, sealed as it arrives (uploads): a segment may have to be sealed again after a crash, with other bytes,
    so its nonce is drawn and not counted
    body      = segment*                               the input key seals this stream and no other
    key       = HKDF-SHA256(input key, no salt, info = associated data), 32 bytes
    segment   = nonce (12, random) ‖ AES-256-GCM(key, nonce, 1 MiB of plaintext, the last 1 byte to 1 MiB;
                associated data = index (8, big endian) ‖ last (1)), tag (16)

    A key of suite 2 is kept as AES-KW (RFC 3394, 40 bytes) under HKDF-SHA256(data key, info = "yunxi stream key v1" ‖
    0x1f ‖ the attachment's place): the record's data key opens it, and forgetting the record destroys it.

The `last` byte makes truncation at a segment border show; the index makes reordering show.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from ledger.errors import Malformed, PayloadInvalid

AES_256_GCM_HKDF_1MB = 0x01
AES_256_GCM_DRAWN_1MB = 0x02
MAGIC = b"YXS"
SEGMENT_BYTES = 1024 * 1024

ARRIVING_PREFIX = MAGIC + bytes([AES_256_GCM_DRAWN_1MB])
"""What a stream of suite 2 begins with; its first segment follows."""

_PREFIX = MAGIC + bytes([AES_256_GCM_HKDF_1MB])
_HEADER_BYTES = 40
_NONCE_BYTES = 12
_TAG_BYTES = 16
_KEY_INFO = b"yunxi stream key v1\x1f"
_REST = b"\x02"
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
    prefix, rest = _take(chunks, len(_PREFIX))
    if prefix == ARRIVING_PREFIX:
        yield from _open_arrived(key, rest, associated)
        return
    header, rest = _take(rest, _HEADER_BYTES)
    if prefix != _PREFIX or len(header) < _HEADER_BYTES or header[0] != _HEADER_BYTES:
        raise Malformed("attachment stream", "not an AES-256-GCM stream of this ledger")
    aead = AESGCM(_segment_key(key, header[1:33], associated))
    nonces = header[33:]
    offset = len(prefix) + len(header)
    for index, (segment, last) in enumerate(_cut(rest, SEGMENT_BYTES - _HEADER_BYTES, SEGMENT_BYTES)):
        try:
            yield aead.decrypt(_nonce(nonces, index, last), segment, None)
        except InvalidTag as error:
            raise _damaged(index, offset, len(segment)) from error
        offset += len(segment)


class ArrivingStream:
    """Seals the segments of one stream of suite 2, each when its bytes have arrived. `key`: 32 bytes that seal this
    stream and no other; a segment may be sealed any number of times (2^32 nonces are drawn safely)."""

    PLAIN_BYTES = 1024 * 1024
    """Plaintext of every segment but the last."""

    OVERHEAD = _NONCE_BYTES + _TAG_BYTES

    def __init__(self, key: bytes, associated: bytes) -> None:
        self._aead = AESGCM(_segment_key(key, None, associated))

    @classmethod
    def place_of(cls, index: int) -> int:
        """Where segment `index` begins in the stream, in bytes."""
        return len(ARRIVING_PREFIX) + index * (cls.PLAIN_BYTES + cls.OVERHEAD)

    def seal(self, index: int, plaintext: bytes | memoryview, *, last: bool) -> bytes:
        """Segment `index`; `plaintext`: 1 MiB, of the last segment 1 byte to 1 MiB."""
        return self._seal(index, plaintext, bytes([last]))

    def seal_rest(self, index: int, plaintext: bytes | memoryview) -> bytes:
        """What has arrived of segment `index` so far, to be kept until the segment is whole; no part of the stream."""
        return self._seal(index, plaintext, _REST)

    def open_rest(self, index: int, sealed: bytes) -> bytes:
        """The inverse of `seal_rest`. Raises PayloadInvalid."""
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], index.to_bytes(8, "big") + _REST)
        except (InvalidTag, ValueError) as error:
            raise PayloadInvalid("the unfinished segment of the upload is damaged; upload the file again") from error

    def _seal(self, index: int, plaintext: bytes | memoryview, kind: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plaintext, index.to_bytes(8, "big") + kind)


def wrap_stream_key(data_key: bytes, stream_key: bytes, place: bytes) -> bytes:
    """40 bytes; `place` is what binds the stream to its record and number. Both keys have 32 bytes."""
    return aes_key_wrap(_segment_key(data_key, None, _KEY_INFO + place), stream_key)


def unwrap_stream_key(data_key: bytes, wrapped: bytes, place: bytes) -> bytes:
    """The inverse of `wrap_stream_key`. Raises PayloadInvalid for another record, another place or a changed byte."""
    try:
        return aes_key_unwrap(_segment_key(data_key, None, _KEY_INFO + place), wrapped)
    except (InvalidUnwrap, ValueError) as error:
        raise PayloadInvalid("the stored stream key is not the one that was sealed with this record") from error


def _open_arrived(key: bytes, rest: Iterable[bytes], associated: bytes) -> Iterator[bytes]:
    aead = AESGCM(_segment_key(key, None, associated))
    size = ArrivingStream.PLAIN_BYTES + ArrivingStream.OVERHEAD
    offset = len(ARRIVING_PREFIX)
    for index, (segment, last) in enumerate(_cut(rest, size, size)):
        try:
            sealed = segment[_NONCE_BYTES:]
            yield aead.decrypt(segment[:_NONCE_BYTES], sealed, index.to_bytes(8, "big") + bytes([last]))
        except (InvalidTag, ValueError) as error:  # ValueError: shorter than a nonce
            raise _damaged(index, offset, len(segment)) from error
        offset += len(segment)


def _damaged(index: int, offset: int, length: int) -> PayloadInvalid:
    place = f"in segment {index + 1:,}, between bytes {offset:,} and {offset + length:,}"
    return PayloadInvalid(f"the attachment is damaged {place}")


def _segment_key(key: bytes, salt: bytes | None, associated: bytes) -> bytes:
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
