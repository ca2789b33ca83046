"""JSON Lines: one JSON object (RFC 8259) a line, UTF-8. Nested objects are flattened to columns with dots.

Refused, a line at a time: what is not JSON or not an object, duplicate member names, NaN and infinities, lone
surrogates, nesting deeper than `MAX_DEPTH`. Numbers with a fraction keep their digits (Decimal), no float is made.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from adapters.files import FileOptions, Overlong, Tape, line_pages
from adapters.sections import Section
from adapters.source import BadRow, Limits, Opening, Page, Row, excerpt

MAX_DEPTH = 8
_MAX_DIGITS = 40
_UTF8_BOM = b"\xef\xbb\xbf"
_ONE_A_LINE = "write each object on a line of its own, as jq -c does"


@dataclass(frozen=True, slots=True)
class JsonlOptions:
    """`[source]` with kind = "jsonl"."""

    files: FileOptions

    @classmethod
    def parse(cls, section: Section) -> JsonlOptions:
        """Takes the options of this kind from a `[source]` table."""
        return cls(FileOptions.parse(section))

    def open(self, opening: Opening) -> JsonlFiles:
        """The files; raises CouldNotRun where there is none."""
        return JsonlFiles(self.files.find(opening), opening.limits)


class JsonlFiles:
    """A source of JSON Lines files."""

    def __init__(self, files: list[tuple[str, Path]], limits: Limits) -> None:
        self._files = files
        self._limits = limits

    def pages(self, marks: Mapping[str, str], size: int) -> Generator[Page]:
        """See Source."""
        return line_pages(self._files, self, self._limits, marks, size)

    def begin(self, tape: Tape, part: str) -> _JsonlReading:
        """There is no header."""
        return _JsonlReading(tape, part, self._limits)


class _JsonlReading:
    columns: tuple[str, ...] | None = None

    def __init__(self, tape: Tape, part: str, limits: Limits) -> None:
        self._tape = tape
        self._part = part
        self._limits = limits

    def rows(self) -> Iterator[Row | BadRow]:
        """See LineReading."""
        tape, part = self._tape, self._part
        while (line := tape.peek()) is not None:
            tape.take()
            position = f"{part}:{tape.number}"
            if isinstance(line, Overlong):
                detail = f"the line has {line.size:,} bytes, more than the {self._limits.row_bytes:,} allowed"
                yield BadRow(position, excerpt(line.head), "too-long", detail)
            elif line.strip():
                # files put together carry a mark where the second begins
                yield json_row(position, line.removeprefix(_UTF8_BOM), self._limits.columns)


class BadJson(ValueError):
    """What was read is no row. `reason` is a stable code."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def json_row(position: str, line: bytes, max_columns: int) -> Row | BadRow:
    """One JSON object as a row: see the module."""
    try:
        text = line.decode("utf-8")
        value = _DECODER.decode(text)
        if not isinstance(value, dict):
            raise BadJson("bad-json", f"the line is not a JSON object; {_ONE_A_LINE}")
        if text.count("[") + text.count("{") > MAX_DEPTH:
            check_depth(value)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
        return Row(position, flatten(value, max_columns))
    except UnicodeDecodeError as error:
        return BadRow(position, excerpt(line), "encoding", f"the line is not utf-8 at byte {error.start}")
    except UnicodeEncodeError:
        return BadRow(position, excerpt(line), "encoding", "a lone surrogate is not text")
    except BadJson as error:
        return BadRow(position, excerpt(line), error.reason, str(error))
    except RecursionError:
        return BadRow(position, excerpt(line), "bad-json", f"the line is nested deeper than {MAX_DEPTH}")
    except json.JSONDecodeError as error:
        what = f"is not JSON at column {error.colno}: {error.msg}"
        if error.msg == "Extra data":
            what = f"goes on at column {error.colno}, behind its object; {_ONE_A_LINE}"
        elif line.strip() in (b"[", b"{", b"],", b"},", b"]", b"}"):
            what = f"is a piece of a larger text; {_ONE_A_LINE}"
        return BadRow(position, excerpt(line), "bad-json", f"the line {what}")


def check_depth(value: Any) -> None:
    """Raises BadJson where objects and lists are nested deeper than `MAX_DEPTH`."""
    level, depth = [value] if isinstance(value, (dict, list)) else [], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise BadJson("bad-json", f"the line is nested deeper than {MAX_DEPTH}")
        inner = [item.values() if isinstance(item, dict) else item for item in level]
        level = [item for items in inner for item in items if isinstance(item, (dict, list))]


def flatten(value: dict[str, Any], max_columns: int) -> dict[str, Any]:
    """Columns, with dots where objects are nested. Raises BadJson for too many, or one that two spellings name."""
    if not any(isinstance(item, dict) for item in value.values()) and len(value) <= max_columns:
        return value
    flat: dict[str, Any] = {}
    waiting = [("", value)]
    while waiting:
        prefix, table = waiting.pop()
        for name, item in table.items():
            if isinstance(item, dict):
                waiting.append((f"{prefix}{name}.", item))
            elif f"{prefix}{name}" in flat:
                raise BadJson("duplicate-column", f'column "{(prefix + name)[:64]}" stands twice')
            else:
                flat[f"{prefix}{name}"] = item
        if len(flat) > max_columns:
            raise BadJson("bad-json", f"the line has more than {max_columns} members")
    return flat


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadJson("duplicate-column", f'member "{twice[:64]}" stands twice')
    return value


def number_of(text: str, kind: type[int | float]) -> int | Decimal:
    """A JSON number with its own digits. Raises BadJson beyond all reason: 1e999999 as digits would be a megabyte."""
    if len(text) > _MAX_DIGITS:
        raise BadJson("bad-json", "a number has too many digits; write it as text")
    if kind is int:
        return int(text)
    number = Decimal(text)
    if abs(number.adjusted()) > _MAX_DIGITS:
        raise BadJson("bad-json", "a number has an exponent beyond reason; write it as text")
    return number


def _number(text: str) -> int | Decimal:
    return number_of(text, float)


def _integer(text: str) -> int | Decimal:
    return number_of(text, int)


def _constant(name: str) -> NoReturn:
    raise BadJson("not-a-number", f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_number, parse_int=_integer, parse_constant=_constant
)
