"""What the readers of workbooks share: a sheet as numbered rows of values, and cells without a value of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from adapters.source import Serial1904, Unusable

FORMULA = Unusable("formula", 'holds a formula; paste values, or set formulas = "cached" in the mapping')
MERGED = Unusable("merged-cell", 'is covered by a merged cell; unmerge it, or set merged = "fill" in the mapping')
ROUNDED = Unusable(
    "rounded-number",
    "holds a number of more than 15 digits, which spreadsheet programs round; make the cell text and enter it again",
)
_TOO_LONG = 10**15  # a spreadsheet program keeps 15 digits

Range = tuple[int, int, int, int]  # first row, first column, last row, last column, from 1


class Odd(Exception):
    """The workbook is refused as a whole; the text says why."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """One sheet: every row from the first on with its number (from 1), and the merged ranges."""

    title: str
    rows: Iterator[tuple[int, list[Any]]]
    merged: list[Range]


def number(value: float, *, since_1904: bool) -> Any:
    """A number of a cell, which may turn out to be a day."""
    if abs(value) >= _TOO_LONG:
        return ROUNDED
    return Serial1904(Decimal(repr(value))) if since_1904 else value


def error(name: object) -> Unusable:
    """A cell that shows `name`, such as #N/A."""
    return Unusable("error-cell", f"holds the error {name}")
