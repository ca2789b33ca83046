"""One value of a source becomes one value of a record. Pure; nothing is guessed and no float is ever made.

Every converter takes a value as its source gave it and raises Invalid, whose text ends the sentence "column x …".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from adapters.source import Serial1904, Unusable

Convert = Callable[[Any], Any]
D = TypeVar("D", date, datetime)

MAX_INTEGER = 2**53 - 1
FEN = {"fen": Decimal(1), "jiao": Decimal(10), "yuan": Decimal(100), "wan": Decimal(1_000_000)}
UNIX = {"unix": 1000, "unix-ms": 1}
"""Formats of a datetime that count from 1970, and the milliseconds that one step is."""
EXCEL = "excel"
"""The format of a spreadsheet program's serial number: days since 1899-12-30, or since 1904-01-01 where the workbook
counts so; a time of day is their fraction."""
SEPARATORS = (",", "，", " ", "'")
"""What may stand between groups of three digits."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,17}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?")
_SERIAL = re.compile(r"[1-9][0-9]{1,6}(?:\.[0-9]{1,15})?")
_SINCE_1904 = 1462  # days from 1899-12-30, where serial numbers begin, to 1904-01-01
_FIRST_SERIAL = 61  # 1900-03-01: before it, spreadsheet programs count a day that never was
# numbers of 12 digits and more in the default format of a spreadsheet program; the digits are gone
_ROUNDED = re.compile(r"-?[0-9](?:\.[0-9]+)?E\+(?:1[1-9]|[2-9][0-9]|[0-9]{3})")
_LOST = 12
_AMOUNT = re.compile(r"[￥¥]?\s*([+-]?[0-9][0-9.,，' ]*?)\s*([^0-9.,，' ]*)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WIDE = Context(prec=100)  # more digits than any number here has
_CACHE = 8192
_HALF_WIDTH = str.maketrans("０１２３４５６７８９．，－＋", "0123456789.,-+")
_HAN_DIGITS = "〇一二三四五六七八九"
_HAN = re.compile("[〇零○一二三四五六七八九十]+")
_HAN_TENS = re.compile("([二三四五六七八九])?十([一二三四五六七八九])?")
_WORD = re.compile(r"%.|[^%]+", re.DOTALL)
_WIDTHS = {"%Y": 4, "%y": 2, "%m": 2, "%d": 2, "%H": 2, "%I": 2, "%M": 2, "%S": 2, "%j": 3}


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
        if value.is_finite() and int(value.as_tuple().exponent) > 0 and value.adjusted() >= _LOST - 1:
            raise rounded_number()
        return format(value, "f")
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, int):
        return str(value)
    raise Invalid("nested", f"holds a {type(value).__name__}, not a single value")


def _float_text(value: float) -> str:
    if not math.isfinite(value):
        raise Invalid("not-a-number", "is NaN or infinite")
    if abs(value) > MAX_INTEGER:
        raise rounded_number()
    # the shortest text that names the same double; 60614.0 is how spreadsheets and drivers hand out 60614
    return str(int(value)) if value.is_integer() else format(Decimal(repr(value)), "f")


def rounded_number() -> Invalid:
    """For a number whose last digits were lost before it came here. It may be a person's, so it is not shown."""
    detail = "holds a number like 1.23E+17, whose last digits a program has rounded away; export the column as text"
    return Invalid("rounded-number", detail)


def check_digits(source: str) -> str:
    """`source`, unless it is what a spreadsheet program leaves of a long number: 1.23E+17."""
    if "E+" in source and _ROUNDED.fullmatch(source.strip()):
        raise rounded_number()
    return source


def text(max_chars: int | None, *, one_line: bool = False, exact: bool = False) -> Convert:
    """Text of at most `max_chars` characters; with `one_line` every run of white space in it becomes one space.

    What looks like a rounded number is refused, unless the source is known to be `exact`.
    """

    def convert(value: Any) -> str:
        result = to_text(value) if exact else check_digits(to_text(value))
        if one_line:
            result = " ".join(result.split())
        if max_chars is None:
            return result
        if len(result) > max_chars:
            raise Invalid("too-long", f"has {len(result)} characters, allowed are {max_chars}")
        return result

    return convert


def cut(after: str | None, before: str | None) -> Callable[[str], str]:
    """What stands behind the first `after`, and of that what stands in front of the first `before`."""

    def convert(source: str) -> str:
        for mark, behind in ((after, True), (before, False)):
            if mark is not None:
                front, found, back = source.partition(mark)
                if not found:
                    raise Invalid("unknown-value", f'is {_shown(source)}, without "{mark}"')
                source = back if behind else front
        return source.strip()

    return convert


def integer(low: int | None, high: int | None, thousands: str | None = None) -> Convert:
    """Whole numbers within bounds and within 2^53-1; `thousands` may stand between their groups of three digits."""

    @lru_cache(_CACHE)
    def parse(source: str) -> int:
        source = _ungrouped(source, thousands)
        if not _INTEGER.fullmatch(source):
            raise Invalid("bad-integer", f"is {_shown(source)}, not a whole number")
        number = int(source)
        if abs(number) > MAX_INTEGER:
            raise Invalid("bad-integer", "is beyond 2^53-1; map it as text")
        _within(Decimal(number), low, high)
        return number

    return lambda value: parse(to_text(value))


def decimal(
    low: Any,
    high: Any,
    places: int | None,
    multiply: Decimal | None,
    thousands: str | None = None,
    rounded: int | None = None,
) -> Convert:
    """Decimal text with the digits of the source, or their exact product with `multiply`.

    What has more than `rounded` places is rounded to that many, halves away from zero.
    """
    low, high = _bound(low), _bound(high)

    def parse(source: str) -> str:
        number = _decimal(_ungrouped(source, thousands))
        if multiply is not None:
            number *= multiply
        if rounded is not None and number.as_tuple().exponent < -rounded:  # type: ignore[operator]
            number = number.quantize(Decimal(1).scaleb(-rounded), ROUND_HALF_UP, _WIDE)
        exponent = number.as_tuple().exponent
        if places is not None and isinstance(exponent, int) and -exponent > places:
            raise Invalid("bad-decimal", f"is {_shown(source)}, more than {places} decimal places")
        _within(number, low, high)
        return format(number, "f")

    return lambda value: parse(to_text(value))


def money(unit: str | Mapping[str, str], low: int | None, high: int | None, thousands: str | None = None) -> Convert:
    """Whole fen from an amount in `unit`, or in the unit that `unit` gives for the text behind the number.

    In the second case a yuan sign may stand before the number.
    """
    known = "" if isinstance(unit, str) else ", ".join(f'"{suffix}"' for suffix in unit)

    def split(source: str) -> tuple[str, str]:
        if isinstance(unit, str):
            return source, unit
        found = _AMOUNT.fullmatch(source.translate(_HALF_WIDTH))
        if found is None or found[2] not in unit:
            raise Invalid("bad-money", f"is {_shown(source)}, not a number with one of these units: {known}")
        return found[1], unit[found[2]]

    def parse(source: str) -> int:
        number, name = split(source)
        amount = _decimal(_ungrouped(number, thousands)) * FEN[name]
        if amount != amount.to_integral_value() or abs(amount) > MAX_INTEGER:
            raise Invalid("bad-money", f"is {_shown(source)} in {name}, not a whole number of fen")
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


def day(patterns: tuple[str, ...]) -> Convert:
    """A day as `YYYY-MM-DD`. Here as below, no pattern is ISO 8601; where several fit, they must agree."""

    @lru_cache(_CACHE)
    def parse(source: str, first: int) -> str:
        return _parse_date(source, patterns, first).isoformat()

    def convert(value: Any) -> str:
        if isinstance(value, date):
            return _as_date(value, patterns).isoformat()
        return parse(to_text(value), _first_of(value))

    return convert


def midnight(patterns: tuple[str, ...], zone: ZoneInfo) -> Convert:
    """A day as RFC 3339 at its local midnight."""

    @lru_cache(_CACHE)
    def parse(source: str, first: int) -> str:
        return _in_zone(datetime.combine(_parse_date(source, patterns, first), time()), zone)

    def convert(value: Any) -> str:
        if isinstance(value, date):
            return _in_zone(datetime.combine(_as_date(value, patterns), time()), zone)
        return parse(to_text(value), _first_of(value))

    return convert


def moment(patterns: tuple[str, ...], zone: ZoneInfo | None) -> Convert:
    """A time as RFC 3339 with offset: its own, or that of `zone`. `UNIX` times are given in `zone`, else in UTC."""

    def finish(value: datetime) -> str:
        if value.tzinfo is not None:
            return _rfc3339(value)
        if zone is None:
            raise Invalid("no-offset", "is a time without offset; name its zone in the mapping")
        return _in_zone(value, zone)

    def convert(value: Any) -> str:
        if isinstance(value, datetime):
            return finish(value)
        if isinstance(value, date):
            raise Invalid("bad-time", "is a day without a time; map it as a date")
        return finish(_parse_time(to_text(value), patterns, zone, _first_of(value)))

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


def _ungrouped(source: str, separator: str | None) -> str:
    """`source` in half width, without separators between groups of three digits where they are just there."""
    source = source.translate(_HALF_WIDTH)
    separator = None if separator is None else separator.translate(_HALF_WIDTH)
    if separator is None or separator not in source:
        return source
    group = re.escape(separator)
    proper = re.fullmatch(rf"[+-]?[0-9]{{1,3}}(?:{group}[0-9]{{3}})+(?:\.[0-9]+)?", source)
    return source.replace(separator, "") if proper else source


def _bound(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def _within(number: Decimal, low: Any, high: Any) -> None:
    if (low is not None and number < low) or (high is not None and number > high):
        raise Invalid("out-of-range", f"is {number}, outside {low} to {high}")


def _as_date(value: date, patterns: tuple[str, ...]) -> date:
    if not isinstance(value, datetime):
        return value
    if value.time() != time() and not any(names_hour(pattern) for pattern in patterns):
        detail = "carries a time of day; map it as a datetime, or give a format with an hour, and the time is dropped"
        raise Invalid("bad-date", detail)
    return value.date()


def names_hour(pattern: str) -> bool:
    """Whether the format tells a time of day."""
    return pattern == EXCEL or "%H" in pattern or "%I" in pattern


def _first_of(value: Any) -> int:
    """What the day 0 of a serial number is, in days from 1899-12-30."""
    return _SINCE_1904 if isinstance(value, Serial1904) else 0


def _parse_date(source: str, patterns: tuple[str, ...], first: int) -> date:
    if patterns:
        found = {value.date() for value in _matching(source, patterns, first)}
        return _only(found, "bad-date", source, "day", patterns)
    try:
        if len(source) != 10 or not _is_extended(source):
            raise ValueError
        return date.fromisoformat(source)
    except ValueError:
        detail = f"is {_shown(source)}, not a day of the form YYYY-MM-DD; for another form give a format"
        raise Invalid("bad-date", detail) from None


def _matching(source: str, patterns: tuple[str, ...], first: int) -> Iterator[datetime]:
    for pattern in patterns:
        with suppress(ValueError, OverflowError):
            yield _from_serial(source, first) if pattern == EXCEL else read_time(source, pattern)


def read_time(source: str, pattern: str) -> datetime:
    """`strptime`, but that 上午 and 下午 are %p too, 二〇二六 and 二十五 are numbers, and that numbers without anything
    between them have their full width: it would read 2026115 as a day of January or November. Raises ValueError."""
    source, pattern = (_HAN.sub(_from_han, text.translate(_HALF_WIDTH)) for text in (source, pattern))
    if "%p" in pattern:
        source = source.replace("上午", "AM").replace("下午", "PM")
    words = _WORD.findall(pattern)
    fixed = _fixed_widths(pattern)
    if fixed is not None:
        found = fixed.fullmatch(source)
        if found is None:
            raise ValueError
        source, pattern = "|".join(found.groups()), "|".join(words)
    return datetime.strptime(source, pattern)  # noqa: DTZ007 - the zone is the caller's


def _from_han(found: re.Match[str]) -> str:
    """Digits for a number in Chinese characters: one by one, or up to 99 with 十. Left as it is where it is neither."""
    text = found[0].replace("零", "〇").replace("○", "〇")
    if "十" not in text:
        return "".join(str(_HAN_DIGITS.index(digit)) for digit in text)
    tens = _HAN_TENS.fullmatch(text)
    return text if tens is None else str(10 * _HAN_DIGITS.index(tens[1] or "一") + _HAN_DIGITS.index(tens[2] or "〇"))


@lru_cache(256)
def _fixed_widths(pattern: str) -> re.Pattern[str] | None:
    """What a source must look like where directives follow each other directly; None where none do."""
    words = _WORD.findall(pattern)
    is_number = [word in _WIDTHS or word == "%f" for word in words]
    if not any(a and b for a, b in pairwise(is_number)):
        return None
    beside = [a or b for a, b in zip([False, *is_number], [*is_number[1:], False, False], strict=True)]
    parts = []
    for word, number, tight in zip(words, is_number, beside, strict=False):
        if number and tight:
            parts.append("([0-9]{1,6})" if word == "%f" else f"([0-9]{{{_WIDTHS[word]}}})")
        elif number:
            parts.append("([0-9]{1,6})")
        else:
            parts.append("(.+?)" if word.startswith("%") else f"({re.escape(word)})")
    return re.compile("".join(parts), re.DOTALL)


def _from_serial(source: str, first: int) -> datetime:
    if not _SERIAL.fullmatch(source) or Decimal(source) + first < _FIRST_SERIAL:
        raise ValueError
    seconds = ((Decimal(source) + first) * 86_400).quantize(Decimal(1), ROUND_HALF_UP)
    return datetime(1899, 12, 30) + timedelta(seconds=int(seconds))  # noqa: DTZ001 - the zone is the caller's


def _only(found: Collection[D], reason: str, source: str, what: str, patterns: tuple[str, ...]) -> D:
    if len(found) > 1:
        raise Invalid(reason, f"is {_shown(source)}, which the formats read as different {what}s")
    for value in found:
        return value
    raise Invalid(reason, f"is {_shown(source)}, not a {what} of the form {' or '.join(patterns)}")


def _is_extended(source: str) -> bool:
    # the interpreter also takes 20130131 and 2013-W05-4
    return source[4] == "-" and source[7] == "-"


def _parse_time(source: str, patterns: tuple[str, ...], zone: ZoneInfo | None, first: int) -> datetime:
    if patterns and patterns[0] in UNIX:
        return _since_1970(source, patterns[0], zone)
    if patterns:
        return _only(set(_matching(source, patterns, first)), "bad-time", source, "time", patterns)
    try:
        if len(source) < 16 or not _is_extended(source):
            raise ValueError
        return datetime.fromisoformat(source)
    except ValueError:
        detail = f"is {_shown(source)}, not a time of the form ISO 8601; for another form give a format"
        raise Invalid("bad-time", detail) from None


def _since_1970(source: str, unit: str, zone: ZoneInfo | None) -> datetime:
    if not _INTEGER.fullmatch(source):
        raise Invalid("bad-time", f"is {_shown(source)}, not a whole number of the form {unit}")
    try:
        moment = _EPOCH + timedelta(milliseconds=int(source) * UNIX[unit])
        return moment if zone is None else moment.astimezone(zone)
    except OverflowError:
        detail = f"is {_shown(source)}, beyond the year 9999; unix counts seconds, unix-ms thousandths"
        raise Invalid("bad-time", detail) from None


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
