"""What every kind of source offers: rows in a stable order, page by page, each page with the mark from which to go on.

A source is read forward and holds at most one page. What cannot be read as a row becomes a BadRow and the reading goes
on behind it. The next page is asked for only after the mark of the page before it was saved durably. A source that
must acknowledge to its sender (a queue, an inbox) is Acknowledging: it does so when it is told, and only then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

PAGE_ROWS = 1000
EXCERPT_CHARS = 4096


@dataclass(frozen=True, slots=True)
class Beside:
    """Where a row's own files lie: the directory that its file came in. `is_whole`: nobody writes the file any more."""

    directory: Path
    is_whole: Callable[[Path], bool]


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `position` says where a person finds it; a value is text, a number, a date, None, Unusable or a list."""

    position: str
    values: Mapping[str, Any]
    beside: Beside | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """Something that should have been a row. `raw` is an excerpt, `reason` a stable code, `detail` one sentence."""

    position: str
    raw: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Unusable:
    """A cell that holds no value of its own (a formula, an error, bytes); it harms only rules that need its column."""

    reason: str
    detail: str


class Serial1904(Decimal):
    """A number in a workbook that counts its days from 1904-01-01: where a rule reads it as a day, it is 1,462 more."""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows that follow each other in one part (a file, a table) of a source.

    `mark` is where to go on once these rows are settled; None leaves the saved mark as it is. `waiting_mark` is saved
    instead of it where a row of this part, in this run, lacks an attachment that may still come. `restarted`: this is
    the first page of a part that is read from its start. `columns` are the part's own, None where rows carry their
    names. `fraction` of the part that is read, 0 to 1, None if unknown. `replaces` names the entries of the quarantine
    that these rows are, where they come from there.
    """

    part: str
    rows: tuple[Row | BadRow, ...]
    mark: str | None
    restarted: bool = False
    columns: tuple[str, ...] | None = None
    fraction: float | None = None
    waiting_mark: str | None = None
    replaces: tuple[str, ...] = ()


class Source(Protocol):
    """A place that rows come from."""

    def pages(self, marks: Mapping[str, str], size: int) -> Generator[Page]:
        """Pages of at most `size` rows (a few more where rows share a place) behind `marks` (part to mark).

        Parts and rows come in a stable order. Closing the generator closes files and connections.
        Raises CouldNotRun where the source cannot be reached, or is damaged behind the last page; marks stay valid.
        """


@runtime_checkable
class Acknowledging(Protocol):
    """A source whose sender keeps rows until they are acknowledged. Whoever only looks never calls `settled`."""

    def settled(self) -> None:
        """The page handed out last is durable, mark and quarantine included. Raises CouldNotRun."""


@runtime_checkable
class Ordered(Protocol):
    """A source whose rows have a place in an order that only grows at its end; places are written as text."""

    def place(self, row: Row) -> str | None:
        """Where the row stands, None where that cannot be said."""

    def is_before(self, a: str, b: str) -> bool:
        """Whether place `a` lies before place `b`; False where they cannot be compared."""

    def show_place(self, place: str) -> str:
        """The place as a person reads it."""


@runtime_checkable
class Countable(Protocol):
    """A source that can say cheaply how many rows it has."""

    def count(self) -> dict[str, int]:
        """Rows at the source, by part. Raises CouldNotRun."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a source may make us hold or read; beyond it a row is a BadRow, a file is refused."""

    row_bytes: int = 1 << 20
    field_chars: int = 131_072  # the csv module's own limit
    columns: int = 1000
    quoted_lines: int = 500
    file_bytes: int = 64 << 30
    body_bytes: int = 32 << 20  # of one HTTP answer, unpacked
    workbook_bytes: int = 512 << 20
    old_workbook_bytes: int = 64 << 20  # .xls: held in memory, and about four times as much once it is read
    workbook_texts_bytes: int = 64 << 20  # held in memory: the format points into a table of texts
    workbook_parts: int = 2000
    workbook_elements: int = 2_000_000  # of the parts that are held in memory: a million texts
    merged_ranges: int = 100_000


@dataclass(frozen=True, slots=True)
class Opening:
    """What opening a source needs beside its options: no option of a mapping file is a secret or a machine's path."""

    base: Path
    needed: frozenset[str]
    key: tuple[str, ...] = ()
    each: frozenset[str] = frozenset()  # columns whose entries are rows of their own
    override: Path | None = None
    part: str | None = None  # what an overriding file is called; its name if not given
    environ: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], object] = time.sleep


class SourceOptions(Protocol):
    """The `[source]` table of one kind, checked."""

    def open(self, opening: Opening) -> Source:
        """The source. Raises CouldNotRun where it is not there."""


def excerpt(raw: bytes | str) -> str:
    """The beginning of `raw` as printable text, at most EXCERPT_CHARS."""
    text = raw if isinstance(raw, str) else raw[:EXCERPT_CHARS].decode("utf-8", "backslashreplace")
    return text.rstrip("\r\n")[:EXCERPT_CHARS].replace("\0", "\\x00")
