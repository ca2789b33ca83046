"""Source and ledger side by side: the whole source is read again, nothing is sealed, and what differs is named.

Keys lie in a temporary SQLite file meanwhile, so memory does not grow with the source. Rows that arrive while it is
read count as missing until the feed has run.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from adapters.changes import find_newest
from adapters.mapping import FeedMapping
from adapters.probes import read_probe
from adapters.source import PAGE_ROWS, BadRow, Page, Row, Source
from adapters.state import AdapterState
from adapters.transform import Transform
from ledger.errors import Malformed, RecordRefused
from ledger.feeds import FeedBook, FeedEntry, withdrawn_key
from ledger.submission import Acknowledged, Submission, Submit

SHOWN = 20
KINDS = ("missing", "changed", "refused", "gone")


@dataclass(frozen=True, slots=True)
class Difference:
    """One row. `kind`: `missing` in the ledger, `changed` at the source, `refused` by the mapping as it is now while
    the ledger has its key, or `gone` from the source. `position` is where the source has it, None where it is gone;
    `record_id` what the ledger has, None where it is missing or refused."""

    kind: str
    position: str | None
    key: str | None
    record_id: str | None


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Source against ledger, in rows: at_source == fitting + in_quarantine + missing + changed + refused + probes.

    `in_ledger` counts rows, `amendments` their later versions; `gone` are those that the source no longer has,
    `withdrawn` of those for which a feed.withdrawn record says so. `differences` holds the first of each kind.
    """

    feed: str
    at_source: int
    fitting: int
    in_quarantine: int
    probes: int
    missing: int
    changed: int
    refused: int
    in_ledger: int
    amendments: int
    gone: int
    withdrawn: int
    differences: tuple[Difference, ...]

    @property
    def fits(self) -> bool:
        """Whether every row is in the ledger as it is or set aside, and nothing went unsaid."""
        return not self.missing and not self.changed and not self.refused and self.gone == self.withdrawn


def reconcile(
    mapping: FeedMapping, source: Source, state: AdapterState, book: FeedBook, *, shown: int = SHOWN
) -> Reconciled:
    """Compares every row by key and content. Raises CouldNotRun; Malformed for a source that only gives what is new."""
    if getattr(mapping.options, "only_new", False):
        raise Malformed(
            mapping.file, "this kind of source gives each message once, so there is nothing to compare with"
        )
    size = book.size()
    with closing(_Offered()) as offered:
        count = _Comparison(mapping, state, book, offered, shown)
        with closing(source.pages({}, PAGE_ROWS)) as pages:
            for page in pages:
                count.page(page)
        count.decide()
        for batch in _batches(_not_offered(mapping, book, offered, size, count.first_versions)):
            count.gone(batch)
    return count.result()


def withdraw(mapping: FeedMapping, source: Source, book: FeedBook, submit: Submit, now: datetime) -> int:
    """Seals a feed.withdrawn record, once, for each row in the ledger that the source no longer has; returns how many.

    Nothing is withdrawn where the source gives no row at all, or has a place that cannot be read: rows could be there.
    Die anywhere: what was sealed is found by its key the next time. Raises CouldNotRun, RecordRefused.
    """
    size, transform = book.size(), Transform(mapping)
    withdrawn = 0
    with closing(_Offered()) as offered:
        with closing(source.pages({}, PAGE_ROWS)) as pages:
            for page in pages:
                if any(isinstance(row, BadRow) and row.reason != "blank-cursor" for row in page.rows):
                    return 0
                offered.add([(key, "", 0, 0, None) for row in page.rows if (key := _key(transform, row))])
        if not offered.count():
            return 0
        for batch in _batches(_not_offered(mapping, book, offered, size)):
            notes = {withdrawn_key(mapping.name, entry.record_id): entry for entry in batch}
            for known in book.known(list(notes), by_service=True):
                del notes[known]
            outcomes = submit([_withdrawal(mapping, key, entry, now) for key, entry in notes.items()]) if notes else []
            # one that is refused was noticed by another run at the same time
            withdrawn += sum(isinstance(outcome, Acknowledged) and outcome.new for outcome in outcomes)
    return withdrawn


def _withdrawal(mapping: FeedMapping, key: str, entry: FeedEntry, now: datetime) -> Submission:
    row = entry.key.partition("/")[2]
    record = {
        "type": "feed.withdrawn",
        "v": 1,
        "department": mapping.department,
        "occurred_at": now.astimezone(UTC).isoformat(timespec="seconds"),
        "source": {
            "system": mapping.system, "mapping": mapping.name, "version": str(mapping.version), "row": row
        },
        "feed": mapping.name,
        "record": entry.record_id,
    }  # fmt: skip
    return Submission(key, record, by_service=True)


class _Comparison:
    """The counters, and what is done with a page."""

    def __init__(
        self, mapping: FeedMapping, state: AdapterState, book: FeedBook, offered: _Offered, shown: int
    ) -> None:
        self._mapping = mapping
        self._state = state
        self._book = book
        self._offered = offered
        self._shown = shown
        self._transform = Transform(mapping)
        self._counts: Counter[str] = Counter()
        self._differences: dict[str, list[Difference]] = {kind: [] for kind in KINDS}
        self.first_versions: Counter[str] = Counter()

    def page(self, page: Page) -> None:
        """Compares the rows of one page with the ledger."""
        with self._transform.fetching():
            self._page(page)

    def _page(self, page: Page) -> None:
        submissions: dict[int, Submission] = {}
        refused: dict[int, str | None] = {}
        for place, row in enumerate(page.rows):
            self._counts["at_source"] += 1
            try:
                if isinstance(row, BadRow):
                    refused[place] = None
                elif read_probe(self._mapping, row.values, self._state.now()) is not None:
                    self._counts["probes"] += 1
                else:
                    refused[place] = key = self._transform.key(row.values)
                    submissions[place] = self._transform(key, row.values, row.beside).submission
                    del refused[place]
            except RecordRefused:
                refused.setdefault(place, None)
        newest = dict(zip(submissions, find_newest(self._book.look_up, list(submissions.values())), strict=True))
        places = [*refused, *[place for place, held in newest.items() if held is None or not held.held.same]]
        keys = refused | {place: row.key for place, row in submissions.items()}
        aside = self._set_aside(page, places, keys)
        known = self._book.known([key for key in refused.values() if key is not None])
        for place in places:
            if newest.get(place) is None:
                kind = "refused" if keys[place] in known else "missing"
                self._absent(kind, page.rows[place], keys[place], aside[place])
        self._counts["fitting"] += sum(held is not None and held.held.same for held in newest.values())
        rows: list[tuple[str, str, int, int, str | None]]
        rows = [(key, page.rows[place].position, 0, 0, None) for place, key in refused.items() if key is not None]
        for place, held in newest.items():
            same = held is not None and held.held.same
            differs = 0 if held is None or same else 1 + aside[place]
            position, record_id = page.rows[place].position, None if held is None else held.held.record_id
            rows.append((submissions[place].key, position, int(same), differs, record_id))
        self._offered.add(rows)

    def _set_aside(self, page: Page, places: list[int], keys: dict[int, str | None]) -> dict[int, bool]:
        asked = [(page.rows[place].position, keys[place]) for place in places]
        return dict(zip(places, self._state.is_set_aside(self._mapping.feed, asked), strict=True))

    def _absent(self, kind: str, row: Row | BadRow, key: str | None, aside: bool) -> None:
        if aside:
            self._counts["in_quarantine"] += 1
        else:
            self._differ(Difference(kind, row.position, key, None))

    def decide(self) -> None:
        """Of rows with other content than the ledger's: the only one under its key changed; beside one that fits it is
        a rival, which belongs into quarantine."""
        for key, position, same, aside, record_id in self._offered.differing():
            if same and aside:
                self._counts["in_quarantine"] += 1
            else:
                self._differ(Difference("missing" if same else "changed", position, key, record_id))

    def gone(self, batch: list[FeedEntry]) -> None:
        """Rows in the ledger that the source does not have."""
        notes = {withdrawn_key(self._mapping.name, entry.record_id): entry for entry in batch}
        known = self._book.known(list(notes), by_service=True)
        self._counts["withdrawn"] += len(known)
        self._counts["gone"] += len(known)
        for key, entry in notes.items():
            if key not in known:
                self._differ(Difference("gone", None, entry.key, entry.record_id))

    def _differ(self, difference: Difference) -> None:
        self._counts[difference.kind] += 1
        if len(self._differences[difference.kind]) < self._shown:
            self._differences[difference.kind].append(difference)

    def result(self) -> Reconciled:
        """What was counted."""
        counts = self._counts
        return Reconciled(
            feed=self._mapping.feed,
            at_source=counts["at_source"],
            fitting=counts["fitting"],
            in_quarantine=counts["in_quarantine"],
            probes=counts["probes"],
            missing=counts["missing"],
            changed=counts["changed"],
            refused=counts["refused"],
            in_ledger=self.first_versions["rows"],
            amendments=self.first_versions["amendments"],
            gone=counts["gone"],
            withdrawn=counts["withdrawn"],
            differences=tuple(difference for kind in KINDS for difference in self._differences[kind]),
        )


class _Offered:
    """The keys that a source offers, in a temporary file: each once, with how many of its rows fit and differ."""

    def __init__(self) -> None:
        # an empty name is a file that SQLite makes, and deletes when it is closed
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("CREATE TABLE offered (key TEXT PRIMARY KEY, same INTEGER NOT NULL) WITHOUT ROWID")
        self._db.execute("CREATE TABLE differing (key TEXT, position TEXT, aside INTEGER, record_id TEXT)")
        self._db.execute("BEGIN")

    def add(self, rows: Iterable[tuple[str, str, int, int, str | None]]) -> None:
        """Rows as key, position, 1 where it fits the ledger, 1 where it differs (2: set aside too), and record id."""
        kept = list(rows)
        same = "INSERT INTO offered VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET same = max(same, excluded.same)"
        self._db.executemany(same, [(_storable(key), fits) for key, _, fits, _, _ in kept])
        other = [(_storable(key), where, differs - 1, record) for key, where, _, differs, record in kept if differs]
        self._db.executemany("INSERT INTO differing VALUES (?, ?, ?, ?)", other)

    def count(self) -> int:
        """How many keys there are."""
        return int(self._db.execute("SELECT count(*) FROM offered").fetchone()[0])

    def __contains__(self, key: str) -> bool:
        return self._db.execute("SELECT 1 FROM offered WHERE key = ?", (_storable(key),)).fetchone() is not None

    def differing(self) -> Iterator[tuple[str, str, bool, bool, str]]:
        """Key, position, whether another row of the key fits, whether it is set aside, and the record's id."""
        query = (
            "SELECT key, position, same, aside, record_id FROM differing JOIN offered USING (key) "
            "ORDER BY differing.rowid"
        )
        for key, position, same, aside, record_id in self._db.execute(query):
            yield key, position, bool(same), bool(aside), record_id

    def close(self) -> None:
        """Deletes the file."""
        self._db.close()


def _storable(key: str) -> str:
    return key.encode("utf-8", "backslashreplace").decode()


def _key(transform: Transform, row: Row | BadRow) -> str | None:
    try:
        return transform.key(row.values) if isinstance(row, Row) else None
    except RecordRefused:
        return None


def _not_offered(
    mapping: FeedMapping, book: FeedBook, offered: _Offered, size: int, count: Counter[str] | None = None
) -> Iterator[FeedEntry]:
    """First versions of rows, of the first `size` records of the log, that the source does not offer."""
    for entry in book.entries(mapping.name, 0, size):
        is_first = entry.key.startswith(f"{mapping.name}/")
        if count is not None:
            count["rows" if is_first else "amendments"] += 1
        if is_first and entry.key not in offered:
            yield entry


def _batches(items: Iterator[Any]) -> Iterator[list[Any]]:
    while batch := list(islice(items, 500)):
        yield batch
