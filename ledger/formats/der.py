"""Reading DER, the one encoding of ASN.1 values (ITU-T X.690 section 10): what certificates are made of.

    value  = tag length content
    tag    = one byte: class (2 bits), constructed (1 bit), number below 31 (5 bits)
    length = n                       n below 128
           | 0x80 + k, n in k bytes  the shortest that holds n

Read, never written. Only what time-stamp tokens need: no indefinite lengths, no tags of several bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.errors import Malformed

INTEGER, BIT_STRING, OCTETS, OID, SEQUENCE, SET, GENERALIZED_TIME = 0x02, 0x03, 0x04, 0x06, 0x30, 0x31, 0x18
MAX_VALUES = 10_000
"""How many values one reading may split into: a token with a long chain of certificates has a few hundred."""

_LONG = 0x80
_MAX_LENGTH_BYTES = 4


def context(number: int) -> int:
    """The tag of a constructed, context-specific value."""
    return 0xA0 | number


@dataclass(frozen=True, slots=True)
class Value:
    """One value. `content` is what follows tag and length, `encoded` all of it; `what` names the format in errors."""

    tag: int
    content: bytes
    encoded: bytes
    what: str

    def values(self) -> list[Value]:
        """The values that a constructed value holds. Raises Malformed."""
        return _split(self.content, self.what)

    def of(self, tag: int) -> Value:
        """This value, which must have this tag. Raises Malformed."""
        if self.tag != tag:
            raise Malformed(self.what, f"has tag 0x{self.tag:02x} where 0x{tag:02x} belongs")
        return self

    def fields(self, tag: int = SEQUENCE) -> Fields:
        """The values of a sequence or set, to be taken one after the other. Raises Malformed."""
        return Fields(self.of(tag).values(), self.what)

    def integer(self) -> int:
        """A whole number. Raises Malformed unless it is one, in the fewest bytes."""
        content = self.of(INTEGER).content
        short = len(content) == 1 or (len(content) > 1 and not (content[0] == 0 and content[1] < 0x80))
        if not short or (len(content) > 1 and content[0] == 0xFF and content[1] >= 0x80):
            raise Malformed(self.what, "has a number that is not written in the fewest bytes")
        return int.from_bytes(content, "big", signed=True)

    def oid(self) -> str:
        """An object identifier, dotted. Raises Malformed."""
        return _dotted(self.of(OID).content, self.what)


class Fields:
    """The values of a sequence in their order: `take` the next, `maybe` the next if it has this tag, `end`."""

    def __init__(self, values: Sequence[Value], what: str) -> None:
        self._values = list(values)
        self._what = what

    def take(self, tag: int | None = None) -> Value:
        """The next value, which must be there, with this tag. Raises Malformed."""
        if not self._values:
            raise Malformed(self._what, "ends where another value belongs")
        value = self._values.pop(0)
        return value if tag is None else value.of(tag)

    def maybe(self, tag: int) -> Value | None:
        """The next value if it has this tag."""
        return self._values.pop(0) if self._values and self._values[0].tag == tag else None

    def end(self) -> None:
        """Raises Malformed where values are left."""
        if self._values:
            raise Malformed(self._what, f"has {len(self._values)} more values than its format knows")


def read_der(data: bytes, what: str) -> Value:
    """The one value that `data` is, wholly. Raises Malformed, naming `what`."""
    values = _split(data, what)
    if len(values) != 1:
        raise Malformed(what, "is not one DER value")
    return values[0]


def _split(data: bytes, what: str) -> list[Value]:
    values: list[Value] = []
    position = 0
    while position < len(data):
        if len(values) == MAX_VALUES:
            raise Malformed(what, f"holds more than {MAX_VALUES:,} values")
        start, tag = position, data[position]
        if tag & 0x1F == 0x1F:
            raise Malformed(what, "has a tag of several bytes")
        length, position = _length(data, position + 1, what)
        if position + length > len(data):
            raise Malformed(what, "ends in the middle of a value")
        values.append(Value(tag, data[position : position + length], data[start : position + length], what))
        position += length
    return values


def _length(data: bytes, position: int, what: str) -> tuple[int, int]:
    if position >= len(data):
        raise Malformed(what, "ends where a length belongs")
    first = data[position]
    if first < _LONG:
        return first, position + 1
    count = first - _LONG
    digits = data[position + 1 : position + 1 + count]
    if not 1 <= count <= _MAX_LENGTH_BYTES or len(digits) != count:
        raise Malformed(what, "has a length that is indefinite, cut off, or of more than four bytes")
    length = int.from_bytes(digits, "big")
    if digits[0] == 0 or length < _LONG:
        raise Malformed(what, "has a length that is not written in the fewest bytes")
    return length, position + 1 + count


def _dotted(content: bytes, what: str) -> str:
    if not content or content[-1] & 0x80 or len(content) > 32:
        raise Malformed(what, "has an object identifier that is empty, cut off or too long")
    numbers, number, fresh = [], 0, True
    for byte in content:
        if fresh and byte == 0x80:
            raise Malformed(what, "has an object identifier that is not written in the fewest bytes")
        number, fresh = number << 7 | byte & 0x7F, not byte & 0x80
        if fresh:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))
