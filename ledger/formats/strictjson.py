"""JSON (RFC 8259) as evidence needs it: one reading only, bounded in size and depth.

Refused: bytes that are not UTF-8, a byte order mark, duplicate member names, NaN and infinities (1e999 is one to most
readers), lone surrogates, integers beyond 2^53-1 (other readers would round them), nesting deeper than `MAX_DEPTH`, and
more values than the caller allows: a few bytes each in the text, they are up to 240 in memory.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from ledger.errors import Malformed

MAX_DEPTH = 32
MAX_INTEGER = 2**53 - 1
MAX_VALUES = 500_000
"""Commas and opening brackets outside of texts: as many as a text holds values, or a few more."""

# a string that does not end is taken whole as well: skipping its first quote would make the search quadratic
_DEEPER = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
_BEFORE_VALUES = frozenset((b"[", b"{", b","))
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)


def loads(data: bytes, *, what: str, max_bytes: int, max_values: int = MAX_VALUES) -> Any:
    """The value that `data` holds. Raises Malformed, naming `what`, for anything the module's text refuses."""
    if len(data) > max_bytes:
        raise Malformed(what, f"{len(data):,} bytes is more than the {max_bytes:,} allowed")
    _check_shape(data, what, max_values)
    try:
        text = data.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_unique(what),
            parse_constant=_no_constant(what),
            parse_int=_integer(what),
            parse_float=_finite(what),
        )
    except UnicodeDecodeError as error:
        raise Malformed(what, f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise Malformed(what, f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}") from error
    if "\\u" in text:
        _check_surrogates(value, what)
    return value


def loads_object(data: bytes, *, what: str, max_bytes: int, max_values: int = MAX_VALUES) -> dict[str, Any]:
    """Like `loads`, for formats whose top is an object."""
    value = loads(data, what=what, max_bytes=max_bytes, max_values=max_values)
    if not isinstance(value, dict):
        raise Malformed(what, "must be a JSON object")
    return value


def _check_shape(data: bytes, what: str, max_values: int) -> None:
    # before parsing: the parser recurses, and its limits are the interpreter's and the machine's, not ours
    opened = data.count(b"[") + data.count(b"{")
    if opened <= MAX_DEPTH and opened + data.count(b",") <= max_values:
        return
    depth = values = 0
    for found in _TOKENS.finditer(data):
        token = found.group()
        depth += _DEEPER.get(token, 0)
        values += token in _BEFORE_VALUES
        if depth > MAX_DEPTH:
            raise Malformed(what, f"nested deeper than {MAX_DEPTH}")
        if values > max_values:
            raise Malformed(what, f"holds more than {max_values:,} values")


def _unique(what: str) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            _refuse_twice(pairs, what)
        return value

    return build


def _refuse_twice(pairs: list[tuple[str, Any]], what: str) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise Malformed(what, f"member {name[:64]!r} stands twice")
        seen.add(name)


def _no_constant(what: str) -> Callable[[str], NoReturn]:
    def refuse(name: str) -> NoReturn:
        raise Malformed(what, f"{name} is not a JSON number")

    return refuse


def _integer(what: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
            raise Malformed(what, f"integer {text[:20]} is beyond 2^53-1; write it as a string")
        return int(text)

    return parse


def _finite(what: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if math.isinf(value):
            raise Malformed(what, f"number {text[:20]} is beyond what a double holds; write it as a string")
        return value

    return parse


def _check_surrogates(value: Any, what: str) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise Malformed(what, "a lone surrogate is not text") from error
