"""What may be shown as it is: the same under every version of Unicode."""

from __future__ import annotations

import pytest

from ledger.formats.texts import is_blank, is_printable

SHOWN = {
    "letters of two alphabets": "消防 Fire",
    "a character of a name that came late": "\U00031350\U000323af",
    "a character that stands for nothing yet": "\U000323b0\u0378",
    "a mark on a letter": "e\u0301",
    "a variant of a character": "\u9089\U000e0100",
    "an emoji": "\U0001f525",
    "nothing": "",
}
NOT_SHOWN = {
    "a line break": "a\nb",
    "an escape": "\x1b[31m",
    "what turns the reading direction": "\u202egnp.exe",
    "what nobody sees": "a\u200bb",
    "a tag": "\U000e0041",
    "what will be a tag": "\U000e0002",
    "a soft hyphen": "a\xadb",
    "a wide space": "a\u3000b",
    "a line separator": "a\u2028b",
    "a filler": "a\u3164b",
    "Braille without a dot": "\u2800",
    "private use": "\ue000",
    "half a pair": "\ud800",
    "no character for ever": "\uffff\ufdd0",
    "an Egyptian sign that joins others": "\U00013430\U0001343f",
}


@pytest.mark.parametrize("text", SHOWN.values(), ids=SHOWN)
def test_shown(text: str) -> None:
    assert is_printable(text)


@pytest.mark.parametrize("text", NOT_SHOWN.values(), ids=NOT_SHOWN)
def test_not_shown(text: str) -> None:
    assert not is_printable(text)


BLANK = {
    "nothing": "",
    "spaces": "   ",
    "wide spaces": "\u00a0\u3000",
    "line feeds": "\n\t",
    "no width": "\u200b\u2060\ufeff",
    "marks of direction": "\u200e\u202e\u2066",
    "fillers": "\u115f\u1160\u3164\uffa0",
    "Braille without a dot": "\u2800",
    "tags": "\U000e0041\U000e007f",
    "marks on nothing": "\ufe0f\u0301",
}


@pytest.mark.parametrize("text", BLANK.values(), ids=BLANK)
def test_blank(text: str) -> None:
    assert is_blank(text)
    assert not is_blank(f"{text}字")
