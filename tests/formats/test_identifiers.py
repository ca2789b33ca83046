"""Identifiers: check digits against published samples and a second computation, normal forms, discreet messages."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ledger.errors import RecordRefused
from ledger.formats.identifiers import (
    KINDS,
    MAX_CHARS,
    check,
    mask,
    normalise,
    resident_check_digit,
    uscc_check_digit,
)

# Sample codes that many public validators use in their own tests: 91350100M000100Y43 (hutool), 91110000600037341L
# (python-stdnum), 91440300708461136T; resident ids 11010519491231002X and 440524188001010014 are the examples that
# circulate with GB 11643-1999, 360426199101010071 is python-stdnum's.
PUBLISHED = [
    ("uscc", "91350100M000100Y43"),
    ("uscc", "91110000600037341L"),
    ("uscc", "91440300708461136T"),
    ("resident-id", "11010519491231002X"),
    ("resident-id", "440524188001010014"),
    ("resident-id", "360426199101010071"),
]

USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"

uscc_bodies = st.tuples(
    st.text(USCC_ALPHABET, min_size=2, max_size=2),
    st.text("0123456789", min_size=6, max_size=6),
    st.text(USCC_ALPHABET, min_size=9, max_size=9),
).map("".join)
resident_bodies = st.tuples(
    st.integers(100000, 999999), st.dates().map(lambda d: f"{d:%Y%m%d}".zfill(8)), st.integers(0, 999)
).map(lambda parts: f"{parts[0]}{parts[1]}{parts[2]:03d}")


@pytest.mark.parametrize(("kind", "value"), PUBLISHED)
def test_published_samples_pass_in_any_writing(kind: str, value: str) -> None:
    full_width = "".join(chr(ord(character) + 0xFEE0) for character in value)
    for writing in (value, value.lower(), f" {value[:6]} {value[6:]} ", full_width, f"{value[:8]}-{value[8:]}"):
        check(kind, writing)
        assert normalise(kind, writing) == value


@given(uscc_bodies)
def test_uscc_check_digit_makes_the_weighted_sum_a_multiple_of_31(body: str) -> None:
    # the congruence that GB 32100 defines, evaluated by Horner's rule from the right: no table of weights
    total = 0
    for character in reversed(body + uscc_check_digit(body)):
        total = (total * 3 + USCC_ALPHABET.index(character)) % 31
    # the check digit itself has weight 3^17; the standard's weight is 1, so it is taken out and put in again
    value = USCC_ALPHABET.index(uscc_check_digit(body))
    assert (total - value * pow(3, 17, 31) + value) % 31 == 0
    check("uscc", body + uscc_check_digit(body))


@given(resident_bodies)
def test_resident_check_digit_is_iso_7064_mod_11_2(body: str) -> None:
    # ISO 7064 section 9.2, the recursive method; GB 11643 gives the polynomial one
    remainder = 0
    for digit in body:
        remainder = (remainder + int(digit)) * 2 % 11
    assert resident_check_digit(body) == "0123456789X"[(12 - remainder) % 11]
    check("resident-id", body + resident_check_digit(body))


@given(uscc_bodies, st.integers(0, 17), st.integers(1, 30))
def test_uscc_any_one_character_changed_is_refused(body: str, place: int, shift: int) -> None:
    good = body + uscc_check_digit(body)
    other = USCC_ALPHABET[(USCC_ALPHABET.index(good[place]) + shift) % 31]
    refused("uscc", good[:place] + other + good[place + 1 :])


@given(resident_bodies, st.integers(0, 17), st.sampled_from("0123456789X"))
def test_resident_id_any_one_character_changed_is_refused(body: str, place: int, other: str) -> None:
    good = body + resident_check_digit(body)
    assume(other != good[place])
    refused("resident-id", good[:place] + other + good[place + 1 :])


PLATES = {
    "blue": "浙Y12345",
    "letters inside": "沪A0B1C2",
    "with the dot of the real plate": "浙Y·12345",
    "small new-energy": "浙YD12345",
    "small new-energy, second letter": "京ADA1234",
    "large new-energy": "浙Y12345D",
    "police": "浙Y1234警",
    "trailer": "鲁B1234挂",
    "driving school": "苏A1234学",
    "Hong Kong": "粤Z1234港",
    "consulate": "沪A1234领",
    "embassy": "使014578",
    "fire and rescue": "浙X1234应急",
}

BAD = {
    "uscc of 17 characters": ("uscc", "91350100M000100Y4"),
    "uscc with letter I": ("uscc", "91350100M000I00Y43"),
    "uscc with letters in the region": ("uscc", "913501A0M000100Y43"),
    "uscc, two neighbours swapped": ("uscc", "19350100M000100Y43"),
    "old resident id of 15 digits": ("resident-id", "110105491231002"),
    "resident id, 30 February": ("resident-id", "110105194902300021"),
    "resident id, month 13": ("resident-id", "110105194913310025"),
    "resident id, year 0000": ("resident-id", "110105000012310020"),
    "resident id, X inside": ("resident-id", "1101051949123X0020"),
    "resident id, region starting with 0": ("resident-id", "010105194912310025"),
    "resident id in Arabic-Indic digits": ("resident-id", "١١٠١٠٥١٩٤٩١٢٣١٠٠٢X"),
    "plate without province": ("plate", "Y12345"),
    "plate with letter O": ("plate", "浙YO2345"),
    "plate with letter I": ("plate", "浙Y1234I"),
    "plate of 6 characters": ("plate", "浙Y1234"),
    "plate of 9 characters": ("plate", "浙Y1234567"),
    "plate of 8 characters, not new-energy": ("plate", "浙Y123456"),
    "army plate": ("plate", "WJ浙1234X"),
    "nothing": ("name", ""),
    "only spaces": ("address", "   "),
    "only separators": ("plate", "-·-"),
    "line break inside": ("address", "望澜路 1 号\n2 楼"),
    "NUL": ("licence", "A\x0012"),
    "right-to-left override": ("licence", "A\u202e12"),
    "zero-width space": ("name", "某\u200b某"),
    "lone surrogate": ("name", "某\ud800"),
    "too long": ("name", "某" * (MAX_CHARS + 1)),
    "too long once normalised": ("name", "\ufdfa" * 20),
    "a number": ("licence", 12),
    "null": ("licence", None),
    "unknown kind": ("phone", "000"),
}


@pytest.mark.parametrize("value", PLATES.values(), ids=PLATES.keys())
def test_plate_shapes(value: str) -> None:
    check("plate", value)


@pytest.mark.parametrize(("kind", "value"), BAD.values(), ids=BAD.keys())
def test_refused(kind: str, value: str) -> None:
    refused(kind, value)


@pytest.mark.parametrize(
    ("kind", "left", "right"),
    [
        ("plate", "浙Y·12345", "浙 y-12345"),
        ("plate", "浙Y・12345", "浙Ｙ１２３４５"),
        ("licence", "望 食经许 0012", "望食经许００１２"),
        ("address", " 望澜区　桃溪路１２号 ", "望澜区 桃溪路12号"),
        ("address", "12  Main St", "12 MAIN ST"),
        ("name", "某某（望澜）有限公司", "某某(望澜)有限公司"),
        ("name", "阿某•某某", "阿某·某某"),
    ],
)
def test_writings_of_one_identifier_meet(kind: str, left: str, right: str) -> None:
    assert normalise(kind, left) == normalise(kind, right)


@pytest.mark.parametrize(
    ("kind", "left", "right"),
    [("address", "12 号", "1 2号"), ("name", "甲 乙", "甲乙"), ("licence", "A-1", "A1"), ("licence", "01", "1")],
)
def test_different_identifiers_stay_apart(kind: str, left: str, right: str) -> None:
    assert normalise(kind, left) != normalise(kind, right)


@given(st.sampled_from(sorted(KINDS)), st.text(max_size=60))
def test_normal_form_is_stable_and_bounded(kind: str, value: str) -> None:
    try:
        normal = normalise(kind, value)
    except RecordRefused as error:
        assert error.reason == "bad-identifier"
        return
    assert normalise(kind, normal) == normal
    assert 1 <= len(normal) <= MAX_CHARS


@given(st.sampled_from(["uscc", "resident-id", "plate"]), st.text(USCC_ALPHABET + "浙", min_size=4, max_size=20))
def test_a_message_shows_at_most_half_of_the_value(kind: str, value: str) -> None:
    try:
        check(kind, value)
    except RecordRefused as error:
        assert value not in str(error)
        normal = normalise(kind, value)
        assert sum(map(len, mask(normal).split("…"))) <= min(6, len(normal) // 2)


def test_mask() -> None:
    assert mask("11010519491231002X") == "110…02X"
    assert mask("浙Y12345") == "浙…5"
    assert mask("甲乙") == "…"


def refused(kind: str, value: str) -> None:
    with pytest.raises(RecordRefused) as caught:
        check(kind, value)
    assert caught.value.reason == "bad-identifier"
