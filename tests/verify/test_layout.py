"""Breaking lines by columns."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger.verify.layout import Layout, columns, wrap


def test_english_breaks_at_spaces() -> None:
    assert wrap("the quick brown fox", 10) == ["the quick", "brown fox"]


def test_chinese_breaks_anywhere_but_before_punctuation() -> None:
    assert wrap("记录内容，未被改动。", 9) == ["记录内", "容，未被", "改动。"]


def test_a_long_word_is_cut() -> None:
    assert wrap("a" * 25, 10) == ["a" * 10, "a" * 10, "a" * 5]


def test_nothing_is_one_line() -> None:
    assert wrap("", 10) == [""]


def test_further_lines_stand_under_the_first() -> None:
    assert Layout(width=24).item("  1. ", "one two three four five") == ["  1. one two three four", "     five"]


def test_without_width_there_is_one_line() -> None:
    assert Layout().item("  1. ", "x " * 100) == ["  1. " + "x " * 100]


@given(st.text(alphabet="ab 记录，。（） “”1", max_size=200), st.integers(20, 60))
def test_nothing_is_lost_and_no_line_is_too_long(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(columns(line) <= width for line in lines)
