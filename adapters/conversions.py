"""One value of a source becomes one value of a record. Pure; nothing is guessed and no float is ever made.

Every converter takes a value as its source gave it and raises Invalid, whose text ends the sentence "column x …".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from adapters.source import Unusable

Convert = Callable[[Any], Any]

MAX_INTEGER = 2**53 - 1
FEN = {"fen": Decimal(1), "jiao": Decimal(10), "yuan": Decimal(100)}

_INTEGER = re.compile(r"[+-]?[0-9]{1,17}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?")
_CACHE = 8192


class Invalid(ValueError):
    """The value is not what its rule asks for. `reason` is a stable code."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def to_text(value: Any) -> str:
    """Text as the source wrote it; numbers and dates of typed sources in their plain form."""
    if value.__class__ is str:
        return value
    if isinstance(value, Unusable):
        raise Invalid(value.reason, value.detail)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, int):
        return str(value)
    raise Invalid("nested", f"holds a {type(value).__name__}, not a single value")


def _float_text(value: float) -> str:
    if not math.isfinite(value):
        raise Invalid("not-a-number", "is NaN or infinite")
    # the shortest text that names the same double; 60614.0 is how spreadsheets and drivers hand out 60614
    return str(int(value)) if value.is_integer() and abs(value) <= MAX_INTEGER else format(Decimal(repr(value)), "f")


def text(max_chars: int | None) -> Convert:
    """Text of at most `max_chars` characters."""
    if max_chars is None:
        return to_text

    def convert(value: Any) -> str:
        result = to_text(value)
        if len(result) > max_chars:
            raise Invalid("too-long", f"has {len(result)} characters, allowed are {max_chars}")
        return result

    return convert


def integer(low: int | None, high: int | None) -> Convert:
    """Whole numbers without separators, within bounds and within 2^53-1."""

    @lru_cache(_CACHE)
    def parse(source: str) -> int:
        if not _INTEGER.fullmatch(source):
            raise Invalid("bad-integer", f"is {_shown(source)}, not a whole number")
        number = int(source)
        if abs(number) > MAX_INTEGER:
            raise Invalid("bad-integer", "is beyond 2^53-1; map it as text")
        _within(Decimal(number), low, high)
        return number

    return lambda value: parse(to_text(value))


def decimal(low: Any, high: Any, places: int | None, multiply: Decimal | None) -> Convert:
    """Decimal text with the digits of the source, or their exact product with `multiply`."""
    low, high = _bound(low), _bound(high)

    def parse(source: str) -> str:
        number = _decimal(source)
        if multiply is not None:
            number *= multiply
        exponent = number.as_tuple().exponent
        if places is not None and isinstance(exponent, int) and -exponent > places:
            raise Invalid("bad-decimal", f"is {_shown(source)}, more than {places} decimal places")
        _within(number, low, high)
        return format(number, "f")

    return lambda value: parse(to_text(value))


def money(unit: str, low: int | None, high: int | None) -> Convert:
    """Whole fen from an amount in `unit`."""
    factor = FEN[unit]

    def parse(source: str) -> int:
        amount = _decimal(source) * factor
        if amount != amount.to_integral_value() or abs(amount) > MAX_INTEGER:
            raise Invalid("bad-money", f"is {_shown(source)} {unit}, not a whole number of fen")
        _within(amount, low, high)
        return int(amount)

    return lambda value: parse(to_text(value))


def boolean(value: Any) -> bool:
    """True and false, as such or as these words."""
    if isinstance(value, bool):
        return value
    word = to_text(value).lower()
    if word not in ("true", "false"):
        raise Invalid("bad-boolean", f"is {_shown(word)}, neither true nor false; give a map")
    return word == "true"


def day(pattern: str | None) -> Convert:
    """A day as `YYYY-MM-DD`."""

    @lru_cache(_CACHE)
    def parse(source: str) -> str:
        return _parse_date(source, pattern).isoformat()

    return lambda value: _as_date(value).isoformat() if isinstance(value, date) else parse(to_text(value))


def midnight(pattern: str | None, zone: ZoneInfo) -> Convert:
    """A day as RFC 3339 at its local midnight."""

    @lru_cache(_CACHE)
    def parse(source: str) -> str:
        return _in_zone(datetime.combine(_parse_date(source, pattern), time()), zone)

    def convert(value: Any) -> str:
        if isinstance(value, date):
            return _in_zone(datetime.combine(_as_date(value), time()), zone)
        return parse(to_text(value))

    return convert


def moment(pattern: str | None, zone: ZoneInfo | None) -> Convert:
    """A time as RFC 3339 with offset: its own, or that of `zone`."""

    def finish(value: datetime) -> str:
        if value.tzinfo is not None:
            return _rfc3339(value)
        if zone is None:
            raise Invalid("no-offset", "is a time without offset; name its zone in the mapping")
        return _in_zone(value, zone)

    def parse(source: str) -> str:
        return finish(_parse_time(source, pattern))

    def convert(value: Any) -> str:
        if isinstance(value, datetime):
            return finish(value)
        if isinstance(value, date):
            raise Invalid("bad-time", "is a day without a time; map it as a date")
        return parse(to_text(value))

    return convert


def enumeration(table: Mapping[str, Any], keep: bool) -> Convert:
    """The entry of `table`; for other texts the text itself if `keep`."""

    def convert(value: Any) -> Any:
        source = to_text(value)
        if source in table:
            return table[source]
        if keep:
            return source
        raise Invalid("unknown-value", f"is {_shown(source)}, which the map does not name")

    return convert


def _shown(source: str) -> str:
    return f'"{source[:40]}"' if len(source) <= 40 else f'"{source[:40]}…"'


def _decimal(source: str) -> Decimal:
    if not _DECIMAL.fullmatch(source):
        raise Invalid("bad-decimal", f"is {_shown(source)}, not a plain decimal number")
    return Decimal(source)


def _bound(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def _within(number: Decimal, low: Any, high: Any) -> None:
    if (low is not None and number < low) or (high is not None and number > high):
        raise Invalid("out-of-range", f"is {number}, outside {low} to {high}")


def _as_date(value: date) -> date:
    if not isinstance(value, datetime):
        return value
    if value.time() != time():
        raise Invalid("bad-date", "carries a time of day; map it as a datetime")
    return value.date()


def _parse_date(source: str, pattern: str | None) -> date:
    try:
        if pattern is not None:
            return datetime.strptime(source, pattern).date()  # noqa: DTZ007 - the zone is the caller's
        if len(source) != 10 or not _is_extended(source):
            raise ValueError
        return date.fromisoformat(source)
    except ValueError:
        wanted = pattern or "YYYY-MM-DD"
        raise Invalid("bad-date", f"is {_shown(source)}, not a day of the form {wanted}") from None


def _is_extended(source: str) -> bool:
    # the interpreter also takes 20130131 and 2013-W05-4
    return source[4] == "-" and source[7] == "-"


def _parse_time(source: str, pattern: str | None) -> datetime:
    try:
        if pattern is not None:
            return datetime.strptime(source, pattern)  # noqa: DTZ007 - the zone is the caller's
        if len(source) < 16 or not _is_extended(source):
            raise ValueError
        return datetime.fromisoformat(source)
    except ValueError:
        wanted = pattern or "ISO 8601"
        raise Invalid("bad-time", f"is {_shown(source)}, not a time of the form {wanted}") from None


def _in_zone(value: datetime, zone: ZoneInfo) -> str:
    early, late = value.replace(tzinfo=zone, fold=0), value.replace(tzinfo=zone, fold=1)
    # the two folds differ exactly where a clock change skips or repeats this local time (PEP 495)
    if early.utcoffset() != late.utcoffset():
        raise Invalid("bad-time", f"is {_shown(value.isoformat(' '))}, which a clock change skips or repeats in {zone}")
    return _rfc3339(early)


def _rfc3339(value: datetime) -> str:
    # RFC 3339 section 5.6 has offsets in whole minutes; old local mean times had seconds
    offset = value.utcoffset()
    if offset is None or offset.seconds % 60:
        raise Invalid("bad-time", "has an offset that is not in whole minutes")
    return value.isoformat()
