"""Streams of suite 2: segments sealed as they arrive, opened as one; what is changed, moved or cut off shows."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.crypto.stream import ARRIVING_PREFIX, ArrivingStream, open_stream, unwrap_stream_key, wrap_stream_key
from ledger.errors import PayloadInvalid

KEY, CONTEXT = bytes(range(32)), b"upload 7"
PLAIN = ArrivingStream.PLAIN_BYTES
WHOLE = PLAIN + ArrivingStream.OVERHEAD
BYTES = os.urandom(2 * PLAIN + 100)


def sealed(plaintext: bytes) -> bytes:
    stream = ArrivingStream(KEY, CONTEXT)
    pieces = [plaintext[start : start + PLAIN] for start in range(0, len(plaintext), PLAIN)]
    segments = [stream.seal(i, piece, last=i == len(pieces) - 1) for i, piece in enumerate(pieces)]
    return ARRIVING_PREFIX + b"".join(segments)


def opened(stream: bytes, key: bytes = KEY, context: bytes = CONTEXT) -> bytes:
    return b"".join(open_stream(key, [stream], context))


STREAM = sealed(BYTES)
SEGMENTS = [STREAM[4 : 4 + WHOLE], STREAM[4 + WHOLE : 4 + 2 * WHOLE], STREAM[4 + 2 * WHOLE :]]


@pytest.mark.parametrize("size", [1, PLAIN - 1, PLAIN, PLAIN + 1, 2 * PLAIN, len(BYTES)])
def test_there_and_back(size: int) -> None:
    stream = sealed(BYTES[:size])
    assert len(stream) == 4 + size + -(-size // PLAIN) * ArrivingStream.OVERHEAD
    assert opened(stream) == BYTES[:size]


def test_every_segment_lies_where_its_index_says() -> None:
    assert [ArrivingStream.place_of(i) for i in range(3)] == [4, 4 + WHOLE, 4 + 2 * WHOLE]


def test_a_segment_may_be_sealed_again_and_never_looks_the_same() -> None:
    stream = ArrivingStream(KEY, CONTEXT)
    once, again = (stream.seal(0, b"abc", last=True) for _ in range(2))
    assert once != again
    assert opened(ARRIVING_PREFIX + once) == opened(ARRIVING_PREFIX + again) == b"abc"


def joined(*segments: bytes) -> bytes:
    return ARRIVING_PREFIX + b"".join(segments)


def flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


TAMPERED = {
    "nothing behind the prefix": (ARRIVING_PREFIX, "segment 1, between bytes 4 and 4"),
    "shorter than a nonce": (ARRIVING_PREFIX + b"abc", "segment 1, between bytes 4 and 7"),
    "last segment gone": (joined(*SEGMENTS[:2]), f"segment 2, between bytes {4 + WHOLE:,} and {4 + 2 * WHOLE:,}"),
    "first segment gone": (joined(*SEGMENTS[1:]), "segment 1, "),
    "two segments changed places": (joined(SEGMENTS[1], SEGMENTS[0], SEGMENTS[2]), "segment 1, "),
    "a byte too many": (STREAM + b"\0", "segment 3, "),
    "a byte of the second nonce": (flip(STREAM, 4 + WHOLE), "segment 2, "),
    "a byte of the second segment": (flip(STREAM, 4 + WHOLE + 500_000), "segment 2, "),
    "the last byte": (flip(STREAM, len(STREAM) - 1), "segment 3, "),
    "a segment under another key": (
        joined(ArrivingStream(bytes(32), CONTEXT).seal(0, b"abc", last=True)),
        "segment 1, ",
    ),
    "the rest instead of the segment": (joined(ArrivingStream(KEY, CONTEXT).seal_rest(0, b"abc")), "segment 1, "),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampering_is_found_and_its_place_named(name: str) -> None:
    stream, words = TAMPERED[name]
    with pytest.raises(PayloadInvalid, match=words):
        opened(stream)


def test_another_key_or_context_does_not_open() -> None:
    for key, context in ((bytes(32), CONTEXT), (KEY, b"upload 8")):
        with pytest.raises(PayloadInvalid):
            opened(sealed(b"abc"), key, context)


def test_the_rest_opens_in_its_place_only() -> None:
    stream = ArrivingStream(KEY, CONTEXT)
    rest = stream.seal_rest(3, b"so far")
    assert stream.open_rest(3, rest) == b"so far"
    for index, data in ((4, rest), (3, flip(rest, 20)), (3, rest[:5]), (3, stream.seal(3, b"so far", last=False))):
        with pytest.raises(PayloadInvalid):
            stream.open_rest(index, data)


@settings(max_examples=30)
@given(st.integers(0, 40 * 8 - 1))
def test_a_wrapped_key_opens_for_its_record_and_place_only(bit: int) -> None:
    data_key, place = bytes(range(32, 64)), b"attachment 1 of record 7"
    wrapped = wrap_stream_key(data_key, KEY, place)
    assert len(wrapped) == 40
    assert unwrap_stream_key(data_key, wrapped, place) == KEY
    changed = flip(wrapped, bit // 8) if bit % 8 == 0 else wrapped[: bit // 8]
    for other in ((data_key, wrapped, b"attachment 2"), (KEY, wrapped, place), (data_key, changed, place)):
        with pytest.raises(PayloadInvalid):
            unwrap_stream_key(*other)
