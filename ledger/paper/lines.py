"""Text into lines: what cannot be printed is shown by its number, and nothing runs over its width.

No letters are joined or turned round: text that reads from right to left, and scripts whose letters change their form,
come out as code points where the font has no glyphs for them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache

from ledger.formats.texts import BLANKS, is_blank

MAX_TEXT = 20_000
"""Characters of one text; the rest is counted, not printed."""

MARK = "〔U+"
"""How a replacement begins."""

_NOT_FIRST = frozenset("，。、；：！？）》」』】〕〉”’…—·,.;:!?)]}%％")
_NOT_LAST = frozenset("（《「『【〔〈“‘([{")
_WIDE = frozenset("WF")


_MARKS = 8
"""Marks on one letter; no script puts more there."""


def printable(text: str, has_glyph: Callable[[int], bool]) -> str:
    """The text with a visible replacement, such as 〔U+202E〕, for each character that is unseen, steers the direction
    of writing, has no glyph, or is a mark that stands on no letter or on a heap of others; for every character of a
    text of which nobody would see anything. Line feeds stay; a tab becomes a space. Never raises.

    `has_glyph` is asked about each character but those of ASCII, which every font has."""
    if text and is_blank(text[:MAX_TEXT]):
        shown = "".join(map(_code, text[:MAX_TEXT]))
    elif len(text) <= MAX_TEXT and text.isascii() and text.isprintable():
        return text
    else:
        shown = "".join(_each_shown(text[:MAX_TEXT], has_glyph))
    return shown if len(text) <= MAX_TEXT else f"{shown}…〔+{len(text) - MAX_TEXT:,}〕"


def _each_shown(text: str, has_glyph: Callable[[int], bool]) -> Iterator[str]:
    marks = _MARKS  # nothing to stand on yet
    for character in text:
        is_mark = character > "\u02ff" and unicodedata.category(character)[0] == "M"
        marks = marks + 1 if is_mark else 0
        shown = _code(character) if marks > _MARKS else _shown(character, has_glyph)
        if character in " \n" or len(shown) > 1:
            marks = _MARKS
        yield shown


def _code(character: str) -> str:
    return f"{MARK}{ord(character):04X}〕"


def _shown(character: str, has_glyph: Callable[[int], bool]) -> str:
    if character == "\n":
        return character
    if character in "\t\u00a0\u3000":
        return " "
    # Cc, Cf, Cs, Co, Cn: controls, marks of direction, halves of pairs, private and unassigned; Z*: other spaces
    unseen = (unicodedata.category(character)[0] in "CZ" and character != " ") or character in BLANKS
    return _code(character) if unseen or not has_glyph(ord(character)) else character


def break_lines(text: str, width: float, width_of: Callable[[str], float]) -> list[str]:
    """Lines of at most `width`, in the unit of `width_of` (the width of one character).

    Breaks at spaces and beside Chinese characters, punctuation staying where it belongs; a word that is wider than a
    line is broken anywhere. A character wider than a line has a line of its own. An empty text is one empty line.
    """
    return [line for paragraph in text.split("\n") for line in _wrapped(paragraph, width, width_of)]


def _wrapped(text: str, width: float, width_of: Callable[[str], float]) -> Iterator[str]:
    if sum(map(width_of, text)) <= width:
        yield text.rstrip(" ")
        return
    line, used = "", 0.0
    for piece in _pieces(text):
        wide = sum(map(width_of, piece))
        if line and used + wide > width + 1e-6:
            yield line.rstrip(" ")
            line, used = "", 0.0
            piece = piece.lstrip(" ")
            wide = sum(map(width_of, piece))
        if wide <= width:
            line, used = line + piece, used + wide
            continue
        for character in piece:  # one word that is wider than a line
            one = width_of(character)
            if line and used + one > width + 1e-6:
                yield line
                line, used = "", 0.0
            line, used = line + character, used + one
    yield line.rstrip(" ")


def _pieces(text: str) -> Iterator[str]:
    """What stays on one line: words, single Chinese characters with their punctuation, runs of spaces."""
    start = 0
    for at in range(1, len(text)):
        if _may_break(text[at - 1], text[at]):
            yield text[start:at]
            start = at
    if text[start:]:
        yield text[start:]


@lru_cache(maxsize=1 << 16)
def _may_break(before: str, after: str) -> bool:
    if after in _NOT_FIRST or before in _NOT_LAST or after == " ":
        return after == " " and before != " "
    return before == " " or _is_wide(before) or _is_wide(after)


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in _WIDE
