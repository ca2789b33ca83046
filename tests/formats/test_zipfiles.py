"""Ends of files that look like a zip's."""

from __future__ import annotations

import io

import pytest

from ledger.errors import CaseFileInvalid
from ledger.formats.zipfiles import ZipReader

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
