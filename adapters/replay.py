"""Trying the rows in quarantine again, as they were read, under the mapping as it is now; the source is not asked.

It is a run like any other (see adapters.run), over a source whose rows are the quarantine's: the same keys, the same
crash points. A row that goes well leaves quarantine; another stays with its new reason. Left as they are: what could
not be read as a row, rows too large to be kept whole, and rows whose files lie where only their source finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol, runtime_checkable

from adapters.mapping import FeedMapping
from adapters.raw_rows import read_raw
from adapters.run import Progress, RunReport, run
from adapters.source import PAGE_ROWS, Beside, Page, Row, Source
from adapters.state import AdapterState, Quarantined
from ledger.feeds import FeedBook
from ledger.submission import Submit


@runtime_checkable
class KnowsPlaces(Protocol):
    """A source that can say where the files of a row of a part lie."""

    def beside(self, part: str) -> Beside | None:
        """The directory, None where it is gone."""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What became of the rows: `run` counts those that were tried, `untried` those that only their source can offer."""

    run: RunReport
    untried: int


def replay(
    mapping: FeedMapping,
    source: Source | None,
    state: AdapterState,
    submit: Submit,
    progress: Callable[[Progress], None] | None = None,
    *,
    reason: str | None = None,
    batch: int = PAGE_ROWS,
    book: FeedBook | None = None,
) -> ReplayReport:
    """Tries the rows of the feed's quarantine again, or those set aside for `reason`. Ends and raises as `run`.

    `source` is asked where files lie and nothing else; None where the mapping attaches no files, or cannot be opened.
    """
    rows = _SetAside(mapping, source, state, reason)
    # these rows are not all that the source has: nothing may be called deleted, nor its end reached
    partial = replace(mapping, deletes="ignore")
    report = run(
        partial, rows, state, submit, progress, batch=batch, enough=lambda: rows.is_last, book=book, eager=False
    )
    return ReplayReport(report, rows.untried)


class _SetAside:
    """The quarantine of a feed as a source: its parts are those that the rows came from, its marks stay as they are."""

    def __init__(self, mapping: FeedMapping, source: Source | None, state: AdapterState, reason: str | None) -> None:
        self._feed = mapping.feed
        self._places = source if isinstance(source, KnowsPlaces) else None
        self._needs_place = any(rule.base is None for rule in mapping.attachments)
        self._state = state
        self._reason = reason
        self.is_last = False
        self.untried = 0

    def pages(self, marks: Mapping[str, str], size: int) -> Generator[Page]:  # noqa: ARG002 - nothing is resumed
        """See Source. What is in quarantine when this begins, oldest first in each part."""
        idents = self._state.set_aside(self._feed, self._reason)
        with closing(self._read(idents, size)) as entries:
            page = next(entries, None)
            while page is not None:
                following = next(entries, None)
                self.is_last = following is None
                yield page
                page = following

    def _read(self, idents: Sequence[tuple[str, str]], size: int) -> Generator[Page]:
        for part, group in groupby(idents, key=lambda entry: entry[0]):
            here = [ident for _, ident in group]
            beside = self._places.beside(part) if self._places is not None else None
            for start in range(0, len(here), size):
                found = self._state.entries(self._feed, here[start : start + size])
                tried = list(self._rows(found, beside))
                self.untried += len(found) - len(tried)
                if tried:
                    rows, replaces = zip(*tried, strict=True)
                    yield Page(part, rows, None, replaces=replaces)

    def _rows(self, found: Sequence[Quarantined], beside: Beside | None) -> Iterator[tuple[Row, str]]:
        for entry in found:
            values = read_raw(entry.raw)
            if values is not None and not (self._needs_place and beside is None):
                yield Row(entry.position, values, beside), entry.ident
