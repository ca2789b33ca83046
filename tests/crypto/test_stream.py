"""The attachment stream: every border of a segment, every way to cut and shuffle it, and Tink's own reader."""

from __future__ import annotations

import io
import itertools
import os
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.crypto.stream import SEGMENT_BYTES, open_stream, seal_stream
from ledger.errors import Malformed, PayloadInvalid

KEY, CONTEXT = bytes(range(32)), b"attachment 1 of record 7"
FIRST = SEGMENT_BYTES - 40 - 16
"""Plaintext bytes in the first segment."""
LATER = SEGMENT_BYTES - 16
"""Plaintext bytes in every other full segment."""

SIZES = {
    "nothing": 0,
    "one byte": 1,
    "first segment less one": FIRST - 1,
    "first segment": FIRST,
    "first segment and one": FIRST + 1,
    "a segment of ciphertext": SEGMENT_BYTES,
    "1 MiB less one": SEGMENT_BYTES - 1,
    "1 MiB and one": SEGMENT_BYTES + 1,
    "two segments less one": FIRST + LATER - 1,
    "two segments": FIRST + LATER,
    "two segments and one": FIRST + LATER + 1,
}

BYTES = os.urandom(FIRST + 2 * LATER)


def sealed(plaintext: bytes) -> bytes:
    return b"".join(seal_stream(KEY, [plaintext], CONTEXT))


def opened(stream: bytes, key: bytes = KEY, context: bytes = CONTEXT) -> bytes:
    return b"".join(open_stream(key, [stream], context))


@pytest.mark.parametrize("name", SIZES)
def test_there_and_back(name: str) -> None:
    plaintext = BYTES[: SIZES[name]]
    stream = sealed(plaintext)
    segments = 1 if len(plaintext) <= FIRST else 1 + -(-(len(plaintext) - FIRST) // LATER)
    assert len(stream) == 4 + 40 + len(plaintext) + 16 * segments
    assert opened(stream) == plaintext


@pytest.mark.parametrize("size", [1, 3, 43, 44, 45, 65_536, SEGMENT_BYTES, 3 * SEGMENT_BYTES])
def test_chunks_of_any_size_give_the_same(size: int) -> None:
    plaintext = BYTES[: 2_000 if size < 100 else FIRST + LATER + 1]

    def cut(data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    stream = b"".join(seal_stream(KEY, cut(plaintext), CONTEXT))
    assert b"".join(open_stream(KEY, cut(stream), CONTEXT)) == plaintext


def test_empty_chunks_are_nothing() -> None:
    stream = b"".join(seal_stream(KEY, [b"", b"ab", b"", b"c", b""], CONTEXT))
    assert b"".join(open_stream(KEY, [b"", stream[:50], b"", stream[50:]], CONTEXT)) == b"abc"
    assert opened(b"".join(seal_stream(KEY, [], CONTEXT))) == b""


def test_salt_and_prefix_are_fresh() -> None:
    assert len({sealed(b"")[5:44] for _ in range(20)}) == 20


# ---- the format, written a second time ---------------------------------------------------------------------------


def by_hand(stream: bytes) -> bytes:
    """Tink's AES-GCM-HKDF streaming format, read from its description: wire format of 1 MiB segments."""
    assert stream[:4] == b"YXS\x01"
    body = io.BytesIO(stream[4:])
    assert body.read(1)[0] == 1 + 32 + 7
    salt, prefix = body.read(32), body.read(7)
    key = AESGCM(HKDF(SHA256(), 32, salt, CONTEXT).derive(KEY))
    segments = [body.read(SEGMENT_BYTES - 40)]
    while segment := body.read(SEGMENT_BYTES):
        segments.append(segment)
    return b"".join(
        key.decrypt(prefix + number.to_bytes(4, "big") + bytes([number == len(segments) - 1]), segment, None)
        for number, segment in enumerate(segments)
    )


@pytest.mark.parametrize("name", SIZES)
def test_another_reader_by_hand(name: str) -> None:
    plaintext = BYTES[: SIZES[name]]
    assert by_hand(sealed(plaintext)) == plaintext


def tink_primitive() -> Any:
    """Tink's own StreamingAead with our key."""
    tink = pytest.importorskip("tink", reason="the PyPI package `tink` is not installed: pip install tink")
    from tink import cleartext_keyset_handle, streaming_aead
    from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

    streaming_aead.register()
    params = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=SEGMENT_BYTES, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
    )
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, params=params, key_value=KEY)
    data = tink_pb2.KeyData(
        type_url="type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey",
        value=key.SerializeToString(),
        key_material_type=tink_pb2.KeyData.SYMMETRIC,
    )
    inside = tink_pb2.Keyset.Key(key_data=data, status=tink_pb2.ENABLED, key_id=1, output_prefix_type=tink_pb2.RAW)
    keyset = tink_pb2.Keyset(primary_key_id=1, key=[inside])
    handle = cleartext_keyset_handle.read(tink.BinaryKeysetReader(keyset.SerializeToString()))
    return handle.primitive(streaming_aead.StreamingAead)


@pytest.mark.parametrize("name", SIZES)
def test_tink_reads_ours_and_we_read_tinks(name: str) -> None:
    primitive = tink_primitive()
    plaintext = BYTES[: SIZES[name]]
    with primitive.new_decrypting_stream(io.BytesIO(sealed(plaintext)[4:]), CONTEXT) as reader:
        assert reader.read() == plaintext
    target = io.BytesIO()
    target.close = lambda: None  # type: ignore[method-assign]  # tink closes what it writes to
    with primitive.new_encrypting_stream(target, CONTEXT) as writer:
        writer.write(plaintext)
    assert opened(b"YXS\x01" + target.getvalue()) == plaintext


def test_tink_refuses_a_tampered_one_too() -> None:
    tink, primitive = pytest.importorskip("tink"), tink_primitive()
    body = bytearray(sealed(b"abc")[4:])
    body[-1] ^= 1
    with primitive.new_decrypting_stream(io.BytesIO(bytes(body)), CONTEXT) as reader, pytest.raises(tink.TinkError):
        reader.read()


# ---- tampering ---------------------------------------------------------------------------------------------------

PLAIN = BYTES[: FIRST + LATER + 100]
STREAM = sealed(PLAIN)
END_1, END_2 = 4 + SEGMENT_BYTES, 4 + 2 * SEGMENT_BYTES
SEGMENT_1, SEGMENT_2, SEGMENT_3 = STREAM[44:END_1], STREAM[END_1:END_2], STREAM[END_2:]
OTHER = sealed(PLAIN)


def flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


TAMPERED: dict[str, tuple[bytes, str]] = {
    "last segment gone": (STREAM[:END_2], f"between bytes {END_1:,} and {END_2:,}"),
    "last two segments gone": (STREAM[:END_1], f"between bytes 44 and {END_1:,}"),
    "all segments gone": (STREAM[:44], "between bytes 44 and 44"),
    "last byte gone": (STREAM[:-1], f"between bytes {END_2:,} and {len(STREAM) - 1:,}"),
    "cut inside the second segment": (STREAM[: END_1 + 500], f"between bytes {END_1:,} and {END_1 + 500:,}"),
    "a byte too many": (STREAM + b"\x00", f"between bytes {END_2:,} and {len(STREAM) + 1:,}"),
    "first segment gone": (STREAM[:44] + SEGMENT_2 + SEGMENT_3, "between bytes 44 and"),
    "second segment gone": (STREAM[:END_1] + SEGMENT_3, f"between bytes {END_1:,} and"),
    "second segment twice": (STREAM[:END_2] + SEGMENT_2 + SEGMENT_3, f"between bytes {END_2:,} and"),
    "second segment of another stream": (STREAM[:END_1] + OTHER[END_1:END_2] + SEGMENT_3, f"between bytes {END_1:,}"),
    "salt changed": (flip(STREAM, 5), "between bytes 44 and"),
    "prefix changed": (flip(STREAM, 43), "between bytes 44 and"),
    "first byte of the first segment changed": (flip(STREAM, 44), "between bytes 44 and"),
    "a byte of the second segment changed": (flip(STREAM, END_1 + 7), f"between bytes {END_1:,} and {END_2:,}"),
    "last byte changed": (flip(STREAM, len(STREAM) - 1), f"between bytes {END_2:,} and {len(STREAM):,}"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampering_is_found_and_its_place_named(name: str) -> None:
    stream, words = TAMPERED[name]
    with pytest.raises(PayloadInvalid, match=words):
        opened(stream)


def test_reordered_full_segments() -> None:
    plain = BYTES[: FIRST + 2 * LATER]
    stream = sealed(plain)
    third = stream[END_2 : END_2 + SEGMENT_BYTES]
    with pytest.raises(PayloadInvalid, match=f"between bytes {END_1:,} and {END_2:,}"):
        opened(stream[:END_1] + third + stream[END_1:END_2])


HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda stream: b"",
    "magic only": lambda stream: stream[:4],
    "header cut": lambda stream: stream[:43],
    "another magic": lambda stream: b"YXP" + stream[3:],
    "another suite": lambda stream: stream[:3] + b"\x04" + stream[4:],
    "another header length": lambda stream: stream[:4] + b"\x29" + stream[5:],
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_is_not_ours(name: str) -> None:
    with pytest.raises(Malformed, match=r"^attachment stream: "):
        opened(HEADERS[name](STREAM))


def test_another_key_or_place_does_not_open() -> None:
    stream = sealed(b"abc")
    for key, context in ((bytes(32), CONTEXT), (KEY, b"attachment 2 of record 7"), (KEY, b"")):
        with pytest.raises(PayloadInvalid):
            opened(stream, key, context)


@settings(max_examples=40)
@given(st.integers(0, (44 + 5 + 16) * 8 - 1))
def test_one_flipped_bit(bit: int) -> None:
    changed = bytearray(sealed(b"abcde"))
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Malformed if bit < 40 else PayloadInvalid):
        opened(bytes(changed))


def test_constant_memory() -> None:
    chunks = itertools.repeat(bytes(SEGMENT_BYTES), 24)
    tracemalloc.start()
    try:
        total = sum(len(piece) for piece in open_stream(KEY, seal_stream(KEY, chunks, CONTEXT), CONTEXT))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 24 * SEGMENT_BYTES
    assert peak < 12 * SEGMENT_BYTES
