"""How values stand in sentences: times, names, numbers, and texts from evidence, which may try to fool a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from ledger.formats.texts import is_blank, is_printable
from ledger.formats.trust import Department

LANGUAGES = ("en", "zh")
_BEIJING = timedelta(hours=8)
_LAST = 253_402_300_799 - 86_400
"""A day before the year 10000, where the calendar of `datetime` ends."""


class Moment(int):
    """Seconds since 1970: said as UTC in English and as Beijing time in Chinese."""


class Span(tuple[int, "int | None"]):
    """A key's validity in seconds since 1970; the second is None where it has not ended."""

    __slots__ = ()


class Duration(int):
    """Seconds between two moments, not negative."""


Value = str | int | Moment | Duration | Span | Department


class _Number(str):
    """A number as it is said. `{size:entry,entries}` in a template gives it its noun or verb: 1 entry, 2 entries."""

    __slots__ = ()

    def __format__(self, words: str) -> str:
        one, _, many = words.partition(",")
        return f"{self} {one if self == '1' else many}" if words else str(self)


def fill(template: str, lang: str, values: Mapping[str, Value]) -> str:
    """The template of `lang` with its values said in that language."""
    said = {name: say(value, lang) for name, value in values.items()}
    return template.format(**{n: _Number(text) if type(values[n]) is int else text for n, text in said.items()})


def say(value: Value, lang: str) -> str:
    """One value as a reader of `lang` expects it."""
    if isinstance(value, Moment):
        return _moment(value, lang)
    if isinstance(value, Duration):
        return _duration(value, lang)
    if isinstance(value, Span):
        return _span(value, lang)
    if isinstance(value, Department):
        return clean(value.name[lang])
    if isinstance(value, int):
        return f"{value:,}" if lang == "en" else str(value)
    return clean(value)


def clean(text: str) -> str:
    """`text` without characters that move the cursor, change colours or turn the reading direction around; one of which
    nobody would see anything is shown by its code points."""
    blank = is_blank(text)
    return "".join(f"\\u{{{ord(c):x}}}" if blank or not is_printable(c) else c for c in text)


def _moment(seconds: int, lang: str) -> str:
    if not 0 <= seconds <= _LAST:
        return f"{seconds} seconds after 1970" if lang == "en" else f"1970年起第{seconds}秒"
    if lang == "en":
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    t = datetime.fromtimestamp(seconds, UTC) + _BEIJING
    return f"北京时间{t.year}年{t.month}月{t.day}日{t.hour}时{t.minute:02}分{t.second:02}秒"


def _span(span: Span, lang: str) -> str:
    start, end = span
    if lang == "en":
        return f"valid from {_moment(start, lang)} " + (f"until {_moment(end, lang)}" if end is not None else "onwards")
    return f"自{_moment(start, lang)}起" + (f"，至{_moment(end, lang)}止" if end is not None else "，未载明终止时间")


def _duration(seconds: int, lang: str) -> str:
    hours, rest = divmod(seconds, 3600)
    days, hours = divmod(hours, 24)
    parts = (days, hours, *divmod(rest, 60))
    if lang == "zh":
        return "".join(f"{n}{unit}" for n, unit in zip(parts, ("天", "小时", "分", "秒"), strict=True) if n) or "0秒"
    units = ("day", "hour", "minute", "second")
    named = [f"{n:,} {unit}{'s' * (n != 1)}" for n, unit in zip(parts, units, strict=True) if n]
    return ", ".join(named) or "0 seconds"
