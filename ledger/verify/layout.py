"""Lines on a terminal: breaking by columns, where a Chinese character takes two, and colour where it is wanted."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

_NOT_FIRST = "，。；：、！？）】》”’…,.;:!?)]}"
"""No line begins with one of these."""
_NOT_LAST = "（【《“‘([{"
_MIN_COLUMNS = 20


@dataclass(frozen=True, slots=True)
class Layout:
    """How to set text: `width` in columns, 0 for one line an item; `colour` with ANSI sequences or without."""

    width: int = 0
    colour: bool = False

    def verdict(self, text: str, good: bool) -> str:
        """`text` in bold green or bold red."""
        return self._paint(text, "1;32" if good else "1;31")

    def heading(self, text: str) -> str:
        """`text` in bold."""
        return self._paint(text, "1")

    def item(self, head: str, text: str) -> list[str]:
        """`head` and `text`, the further lines indented to where `text` began."""
        indent = " " * columns(head)
        room = self.width - len(indent)
        if self.width == 0:
            return [head + text]
        first, *rest = wrap(text, max(room, _MIN_COLUMNS))
        return [head + first, *(indent + line for line in rest)]

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text


def columns(text: str) -> int:
    """How many columns `text` takes on a terminal."""
    return sum(_columns(character) for character in text)


def wrap(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` columns, broken at spaces and between Chinese characters; at least one line.
    A single word that is longer is broken anywhere."""
    lines, line, used = [], "", 0
    for piece in _pieces(text):
        size = columns(piece)
        if line and used + columns(piece.rstrip()) > width:
            lines.append(line.rstrip())
            line, used = "", 0
        while size > width:
            cut = max(1, _fitting(piece, width))
            lines.append(piece[:cut])
            piece = piece[cut:]
            size = columns(piece)
        line += piece
        used += size
    return [*lines, line.rstrip()] if line.rstrip() or not lines else lines


def _pieces(text: str) -> list[str]:
    """What must stay together: words with their space, Chinese characters with the punctuation that clings to them."""
    pieces: list[str] = []
    for character in text:
        if pieces and _clings(pieces[-1], character):
            pieces[-1] += character
        else:
            pieces.append(character)
    return pieces


def _clings(before: str, character: str) -> bool:
    last = before[-1]
    if character in _NOT_FIRST or last in _NOT_LAST or character == " ":
        return True
    return last != " " and _columns(last) == 1 and _columns(character) == 1


def _fitting(text: str, width: int) -> int:
    used = 0
    for number, character in enumerate(text):
        used += _columns(character)
        if used > width:
            return number
    return len(text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
