"""Ends of files that look like a zip's."""

from __future__ import annotations

import io
import zlib

import pytest

from ledger.errors import CaseFileInvalid
from ledger.formats.zipfiles import Entry, ZipReader, central_header, ending, local_header

END = b"PK\x05\x06" + bytes(18)
WIDE_END = b"PK\x05\x06" + bytes(4) + b"\xff" * 12 + bytes(2)
TAILS = {
    "nothing": b"",
    "an end cut short": END[:-1],
    "a wide end and nothing before it": WIDE_END,
    "a wide end after the first four bytes of a record": b"PK\x06\x06" + bytes(4) + WIDE_END,
    "a record one byte short": b"PK\x06\x06" + bytes(71) + WIDE_END,
}


@pytest.mark.parametrize("name", TAILS)
def test_what_only_ends_like_a_zip(name: str) -> None:
    with pytest.raises(CaseFileInvalid, match="zip"):
        ZipReader(io.BytesIO(TAILS[name]))


def zipped(**files: bytes) -> bytes:
    """A zip as the format has it, of files in their order."""
    body, entries = b"", []
    for path, data in files.items():
        entries.append(Entry(path, len(data), zlib.crc32(data), len(body)))
        body += local_header(entries[-1]) + data
    directory = b"".join(map(central_header, entries))
    return body + directory + ending(len(entries), len(body), len(directory))


GOOD = zipped(a=b"first", b=b"second")
DIRECTORY = GOOD.index(b"PK\x01\x02")


def with_byte(at: int, value: int) -> bytes:
    data = bytearray(GOOD)
    assert data[at] != value
    data[at] = value
    return bytes(data)


WRONG: dict[str, tuple[bytes, str]] = {
    "a disk number in the end": (with_byte(len(GOOD) - 22 + 4, 1), "zip-end"),
    "a comment that the end announces": (with_byte(len(GOOD) - 2, 1), "zip-end"),
    "an entry of the directory that is none": (with_byte(DIRECTORY + 3, 3), "zip-directory"),
    "a comment of an entry that reaches beyond the directory": (with_byte(DIRECTORY + 47 + 32, 9), "zip-directory"),
    "one entry more than may be": (ending(500_001, 0, 0), "zip-many"),
    "as many entries as may be, none of them there": (ending(500_000, 0, 0), "zip-directory"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_written_as_case_files_are(name: str) -> None:
    data, reason = WRONG[name]
    assert [entry.path for entry in ZipReader(io.BytesIO(GOOD)).entries] == ["a", "b"]
    with pytest.raises(CaseFileInvalid) as caught:
        ZipReader(io.BytesIO(data))
    assert caught.value.reason == reason


def test_a_file_larger_than_any_case_file_is_not_read() -> None:
    class Endless(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            return 2**46 + 1 if whence == 2 else super().seek(offset, whence)

    with pytest.raises(CaseFileInvalid) as caught:
        ZipReader(Endless(GOOD))
    assert caught.value.reason == "zip-large"


def test_a_file_that_is_cut_after_it_was_opened() -> None:
    stream = io.BytesIO(GOOD)
    reader = ZipReader(stream)
    assert reader.read("a", 5) == b"first"
    with pytest.raises(CaseFileInvalid) as caught:
        reader.read("a", 4)
    assert caught.value.reason == "file-large"
    stream.truncate(33)
    with pytest.raises(CaseFileInvalid) as caught:
        reader.read("a", 5)
    assert caught.value.reason == "zip-end"
