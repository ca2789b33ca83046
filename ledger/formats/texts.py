"""Which characters a text for people may have, the same under every version of Unicode and so in every verifier.

Refused are controls, formats (they turn the reading direction, or are not seen), surrogates, private use, and white
space but the plain one. A character that this version of Python does not know yet is taken: names of people and places
in China use ones that came late.
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


def is_printable(text: str) -> bool:
    """Whether all of `text` can be shown as it is."""
    return text.isprintable() or all(map(_is_printable, text))


def _is_printable(character: str) -> bool:
    if character == " ":
        return True
    category, code = unicodedata.category(character), ord(character)
    if category == "Cn":
        return code & 0xFFFE != 0xFFFE and not any(code in never for never in _NEVER_SEEN)
    return category not in _NOT_FOR_PEOPLE
