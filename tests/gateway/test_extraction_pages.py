"""The page format: what was sealed opens again, for its place only, and odd lines are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.extractions.pages import (
    MAX_RECORDS,
    End,
    Page,
    Place,
    SealedPage,
    Stopped,
    end_line,
    parse_line,
    parse_plaintext,
    problem_line,
    seal_page,
)
from ledger.crypto.envelope import open_sealed
from ledger.errors import Malformed, PayloadInvalid

KEY = X25519PrivateKey.generate()
PLACE = Place("0" * 31 + "1", 7, "fire", "licensing")
PAGE = Page((b"a.b.c~d~", b"e.f.g~"), (b"c2sp.org/tlog-proof@v1\nindex 1\n\n\xe2\x80\x94 x\n", b"second"))


def line(page: Page = PAGE, place: Place = PLACE) -> bytes:
    return seal_page(page, place, "kid-1", KEY.public_key())


def sealed(data: bytes) -> SealedPage:
    found = parse_line(data)
    assert isinstance(found, SealedPage)
    return found


def test_a_page_opens_to_what_was_sealed() -> None:
    data = line()
    assert data.endswith(b"\n") and data.count(b"\n") == 1
    found = sealed(data)
    assert (found.number, found.records, found.sha256, found.kid) == (7, 2, PAGE.sha256, "kid-1")
    assert parse_plaintext(open_sealed(found.sealed, KEY, PLACE.info)) == PAGE


def test_the_same_page_is_never_sealed_to_the_same_bytes() -> None:
    assert line() != line()


def test_receipts_are_not_in_the_digest() -> None:
    assert replace(PAGE, receipts=(b"x", b"y")).sha256 == PAGE.sha256


@pytest.mark.parametrize(
    "place",
    [
        replace(PLACE, extraction="0" * 32),
        replace(PLACE, number=8),
        replace(PLACE, owner="health"),
        replace(PLACE, requester="streets"),
    ],
)
def test_a_page_opens_in_its_place_only(place: Place) -> None:
    with pytest.raises(PayloadInvalid):
        open_sealed(sealed(line()).sealed, KEY, place.info)


@given(st.integers(min_value=0), st.integers(0, 7))
def test_a_flipped_bit_never_opens(at: int, bit: int) -> None:
    data = bytearray(sealed(line()).sealed)
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(PayloadInvalid):
        open_sealed(bytes(data), KEY, PLACE.info)


def test_the_last_lines() -> None:
    assert parse_line(end_line(more=True)) == End(True)
    assert parse_line(end_line(more=False)) == End(False)
    assert parse_line(problem_line("grant-revoked", "the owner has revoked the grant")) == Stopped(
        "grant-revoked", "the owner has revoked the grant"
    )


Change = Callable[[dict[str, Any]], Any]

ODD_LINES: dict[str, Change] = {
    "page 0": lambda m: m.update(page=0),
    "a page beyond the last": lambda m: m.update(page=2**31),
    "page true": lambda m: m.update(page=True),
    "no records": lambda m: m.update(records=0),
    "too many records": lambda m: m.update(records=MAX_RECORDS + 1),
    "a digest in upper case": lambda m: m.update(sha256=m["sha256"].upper()),
    "a short digest": lambda m: m.update(sha256=m["sha256"][2:]),
    "an encapsulated key of 31 bytes": lambda m: m.update(enc=m["enc"][:-2]),
    "no room for a tag": lambda m: m.update(ciphertext="AAAA"),
    "padding": lambda m: m.update(ciphertext=m["ciphertext"] + "="),
    "a number for a text": lambda m: m.update(kid=3),
    "a missing member": lambda m: m.pop("kid"),
    "a member too many": lambda m: m.update(extra=1),
    "page and end at once": lambda m: m.update(end=True, more=False),
    "page and problem at once": lambda m: m.update(problem="x", detail=""),
}


@pytest.mark.parametrize("change", ODD_LINES.values(), ids=ODD_LINES)
def test_odd_lines_are_refused(change: Change) -> None:
    members = json.loads(line())
    change(members)
    with pytest.raises(Malformed):
        parse_line(json.dumps(members).encode())


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"null", b"{", b'{"end": true}', b'{"end": 1, "more": false}', b'{"end": true, "more": 0}',
     b'{"problem": "UPPER", "detail": ""}', b'{"problem": "x", "detail": 1}', b'{"page": 1, "page": 1}', b"\xff"],
)  # fmt: skip
def test_other_lines_are_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_line(data)


@pytest.mark.parametrize(
    "content",
    [
        {"v": 2, "presentations": ["a~"], "receipts": ["b"]},
        {"v": True, "presentations": ["a~"], "receipts": ["b"]},
        {"v": 1, "presentations": [], "receipts": []},
        {"v": 1, "presentations": ["a~"], "receipts": []},
        {"v": 1, "presentations": ["a~", "b~"], "receipts": ["c"]},
        {"v": 1, "presentations": ["a~\nb~"], "receipts": ["c"]},
        {"v": 1, "presentations": [""], "receipts": ["c"]},
        {"v": 1, "presentations": "a~", "receipts": ["c"]},
        {"v": 1, "presentations": [1], "receipts": ["c"]},
        {"v": 1, "presentations": ["a~"], "receipts": ["c"], "more": 1},
        {"v": 1, "presentations": ["a~"] * (MAX_RECORDS + 1), "receipts": ["c"] * (MAX_RECORDS + 1)},
    ],
)
def test_odd_plaintexts_are_refused(content: Any) -> None:
    with pytest.raises(Malformed):
        parse_plaintext(json.dumps(content).encode())
