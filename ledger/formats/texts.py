"""Which characters a text for people may have, the same under every version of Unicode and so in every verifier.

Refused are controls, formats (they turn the reading direction, or are not seen), surrogates, private use, letters and
signs that are blank, and white space but the plain one. A character that this version of Python does not know yet is
taken: names of people and places in China use ones that came late.
"""

from __future__ import annotations

import unicodedata

_NOT_FOR_PEOPLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Zs"})
_NEVER_SEEN = (
    range(0x2065, 0x2066),
    range(0xFDD0, 0xFDF0),
    range(0xFFF0, 0xFFF9),
    range(0x13430, 0x13440),
    range(0xE0000, 0xE1000),
)
"""Among those that stand for nothing yet: reserved for characters that are not seen, or for none."""

BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters (fillers of Hangul) and a sign (Braille without a dot) that nobody sees."""


def is_printable(text: str) -> bool:
    """Whether all of `text` can be shown as it is."""
    return (text.isprintable() and BLANKS.isdisjoint(text)) or all(map(_is_printable, text))


def folded(name: str) -> str:
    """The same for names that a reader takes for the same."""
    return " ".join(unicodedata.normalize("NFKC", name).lower().split())


def is_blank(text: str) -> bool:
    """Whether nobody would see anything of `text`, an empty one included: it is of spaces, of characters that are not
    printable, and of marks that stand on nothing."""
    return all(unicodedata.category(each)[0] in "ZM" or not _is_printable(each) for each in text)


def _is_printable(character: str) -> bool:
    if character == " ":
        return True
    if character in BLANKS:
        return False
    category, code = unicodedata.category(character), ord(character)
    if category == "Cn":
        return code & 0xFFFE != 0xFFFE and not any(code in never for never in _NEVER_SEEN)
    return category not in _NOT_FOR_PEOPLE
