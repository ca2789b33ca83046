"""Running a feed: read a page, map it, submit it, settle it, and only then ask for the next.

Crash points of a page, all recovered by running again:
  a. before submit: nothing happened, the page comes again.
  b. after submit, before settle: the records are durable, mark and quarantine are old. The page comes again, the ledger
     recognises every key, and the quarantine's entries have the same identity.
  c. after settle: the mark is behind the page.
Rows are sealed in the order of the source: one page at a time, in one thread.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from adapters.changes import amending, find_newest
from adapters.completeness import PageCount, Reporter, Taken
from adapters.mapping import FeedMapping
from adapters.probes import read_probe
from adapters.raw_rows import raw_line, raw_row
from adapters.reconcile import withdraw
from adapters.sections import nearest
from adapters.source import PAGE_ROWS, Acknowledging, BadRow, Ordered, Page, Row, Source
from adapters.state import CONFLICT, AdapterState, Rejected, Settled
from adapters.transform import Mapped, Transform
from adapters.versions import check_version, hold_version
from ledger.errors import Conflict, CouldNotRun, RecordRefused
from ledger.feeds import FeedBook
from ledger.submission import Acknowledged, AttachmentSource, Outcome, Refused, Submission, Submit

CHECK_ROWS = 1000
ATTACHMENT_MISSING = "attachment-missing"
FETCHED_ROWS = 20
"""Rows a page where attachments are fetched: those of a page lie on the disk at once."""
MAX_ROUNDS = 10

Validate = Callable[[dict[str, Any]], object]
"""Raises RecordRefused where the record is not of its type."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `fraction` is of the part being read, 0 to 1, None if unknown."""

    part: str
    read: int
    sealed: int
    known: int
    quarantined: int
    fraction: float | None


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did: read == sealed + known + quarantined.

    `known` rows were in the ledger already. `by_reason` counts the quarantined; `omitted` counts, by member, values
    that were left out as invalid from records that were sealed or known. `unmapped` are columns that the mapping
    neither uses nor ignores. `withdrawn` rows were found to be gone from the source. `stopped` is why the run ended
    early (the mark is behind the last settled page), or None.
    """

    feed: str
    read: int
    sealed: int
    known: int
    quarantined: int
    by_reason: Mapping[str, int]
    omitted: Mapping[str, int]
    unmapped: tuple[str, ...]
    stopped: CouldNotRun | None
    withdrawn: int = 0


@dataclass(frozen=True, slots=True)
class Previewed:
    """A row beside its record, or beside the refusal; `values` is empty where it could not be read as a row."""

    position: str
    values: Mapping[str, Any]
    record: Mapping[str, Any] | None
    attachments: tuple[str, ...]
    omitted: tuple[str, ...]
    refusal: RecordRefused | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to do about a mapping. `level` is `error` (rows are or would be refused) or `warning`."""

    level: str
    code: str
    sentence: str
    position: str | None = None


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a sample of `rows` rows shows about a mapping; `good` of them would be sealed."""

    rows: int
    good: int
    findings: tuple[Finding, ...] = field(default=())

    @property
    def clean(self) -> bool:
        """No findings."""
        return not self.findings


def run(
    mapping: FeedMapping,
    source: Source,
    state: AdapterState,
    submit: Submit,
    progress: Callable[[Progress], None] | None = None,
    *,
    batch: int = PAGE_ROWS,
    limit: int | None = None,
    afresh: bool = False,
    enough: Callable[[], bool] | None = None,
    book: FeedBook | None = None,
    eager: bool = True,
) -> RunReport:
    """Takes everything new in `source` into the ledger, page by page, at most `batch` rows each.

    `afresh` reads from the start, as after a change of the mapping: known rows are recognised, quarantined ones tried
    again. Ends after the page in which `limit` rows are reached, or behind which `enough` says so. When the ledger, the
    state or the source cannot go on (CouldNotRun), the report says so in `stopped`; everything counted is durable.
    Refusals of the whole feed (HistoryRefused, Malformed) are raised; marks are then where the last settled page left
    them.

    `book` is what the ledger tells the feed: with it rows are counted and reports made (see adapters.completeness;
    `eager`: at the end of every run), changed rows amended and deleted ones noticed where the mapping says so.
    """
    if book is None and (mapping.changes == "amend" or mapping.deletes == "report"):
        raise CouldNotRun(f"{mapping.feed} amends or withdraws records, which needs the ledger beside the intake")
    check_version(mapping, state.held(mapping.feed))
    reporter = None if book is None else Reporter(mapping, state, submit, book, eager=eager)
    runner = _Run(mapping, source, state, submit, book, reporter)
    if any(rule.url is not None for rule in mapping.attachments):
        batch = min(batch, FETCHED_ROWS)
    size = batch if limit is None else max(1, min(batch, limit))
    reached_end = True
    try:
        if reporter is not None:
            reporter.begin()
        marks = {} if afresh else state.marks(mapping.feed)
        with closing(source.pages(marks, size)) as pages:
            for page in pages:
                runner.settle(page)
                if isinstance(source, Acknowledging):
                    source.settled()
                if progress is not None:
                    progress(runner.progress(page))
                if (limit is not None and runner.read >= limit) or (enough is not None and enough()):
                    reached_end = False
                    break
                if reporter is not None and reporter.is_due(reached_end=False):
                    reporter.report(source, reached_end=False)
        if reporter is not None and book is not None and reporter.is_due(reached_end=reached_end):
            if reached_end and mapping.deletes == "report":
                runner.withdrawn = withdraw(mapping, source, book, submit, state.now())
            reporter.report(source, reached_end=reached_end)
    except CouldNotRun as error:
        return runner.report(error)
    return runner.report(None)


def preview(mapping: FeedMapping, source: Source, count: int, *, validate: Validate | None = None) -> list[Previewed]:
    """The first `count` rows of the source beside the records they become. Nothing is saved or submitted."""
    transform = Transform(mapping)
    with closing(source.pages({}, max(1, min(count, PAGE_ROWS)))) as pages:
        rows = islice(chain.from_iterable(page.rows for page in pages), count)
        return [_preview(transform, row, validate) for row in rows]


def check(
    mapping: FeedMapping, source: Source, *, validate: Validate | None = None, sample: int = CHECK_ROWS
) -> CheckReport:
    """Tries the mapping on the first `sample` rows and says what is not right yet. Nothing is saved or submitted."""
    transform = Transform(mapping)
    rows = good = 0
    seen: set[str] = set()
    keys = _Keys()
    first: dict[tuple[str, str], tuple[int, Previewed]] = {}
    with closing(source.pages({}, min(sample, PAGE_ROWS))) as pages:
        for page in pages:
            seen |= _columns(page)
            for row in page.rows:
                rows += 1
                keys.add(transform, row)
                shown = _preview(transform, row, validate)
                if shown.refusal is None:
                    good += 1
                else:
                    slot = (shown.refusal.reason, _subject(shown.refusal))
                    count, example = first.get(slot, (0, shown))
                    first[slot] = (count + 1, example)
            if rows >= sample:
                break
    findings = [*_unmapped(mapping, seen), *_doubtful_rules(mapping), *keys.findings(), *_refusals(first, rows)]
    if not rows:
        findings.append(Finding("warning", "empty", "the source has no rows, so nothing was tried"))
    return CheckReport(rows, good, tuple(findings))


class _Run:
    """The counters of one run, and what is done with a page."""

    def __init__(
        self,
        mapping: FeedMapping,
        source: Source,
        state: AdapterState,
        submit: Submit,
        book: FeedBook | None,
        reporter: Reporter | None,
    ) -> None:
        self._mapping = mapping
        self._order = source if isinstance(source, Ordered) else None
        self._state = state
        self._submit = submit
        self._book = book
        self._reporter = reporter
        self._transform = Transform(mapping)
        self._by_reason: Counter[str] = Counter()
        self._omitted: Counter[str] = Counter()
        self._columns: set[str] = set()
        self._waiting: set[str] = set()
        self._held = False
        self.read = self.withdrawn = self._sealed = self._known = self._quarantined = 0

    def settle(self, page: Page) -> None:
        """Maps, submits and settles one page. Raises CouldNotRun with nothing counted and the mark where it was."""
        with self._transform.fetching():
            self._settle(page)

    def _settle(self, page: Page) -> None:
        mapped, rejected = self._map(page)
        if mapped and not self._held:
            # before the first record: die behind this, and the version stands for its content all the same
            hold_version(self._mapping, self._state)
            self._held = True
        # crash point a
        outcomes = self._submit([item.submission for _, item in mapped]) if mapped else []
        if self._mapping.changes == "amend":
            outcomes = self._amend([item.submission for _, item in mapped], outcomes)
        settled = self._sort(mapped, outcomes, rejected)
        if any(row.reason == ATTACHMENT_MISSING for row in rejected):
            self._waiting.add(page.part)
        waits = page.waiting_mark is not None and page.part in self._waiting
        # crash point b
        self._state.settle(
            self._mapping.feed,
            page.part,
            mark=page.waiting_mark if waits else page.mark,
            version=self._mapping.version,
            settled=settled,
            rejected=rejected,
            restarted=page.restarted,
            replaces=page.replaces,
            count=None if self._reporter is None else self._page_count(page, mapped, outcomes, rejected),
            is_before=_never if self._order is None else self._order.is_before,
        )
        # crash point c
        self._count(page, mapped, outcomes, rejected)

    def _map(self, page: Page) -> tuple[list[tuple[Row, Mapped]], list[Rejected]]:
        transform = self._transform
        mapped: list[tuple[Row, Mapped]] = []
        rejected: list[Rejected] = []
        for row in page.rows:
            if isinstance(row, BadRow):
                rejected.append(Rejected(row.position, None, row.reason, row.detail, raw_line(row.raw)))
                continue
            key = None
            try:
                probe = (
                    None if self._mapping.probe is None else read_probe(self._mapping, row.values, self._state.now())
                )
                if probe is not None:
                    mapped.append((row, Mapped(probe, ())))
                    continue
                key = transform.key(row.values)
                mapped.append((row, transform(key, row.values, row.beside)))
            except RecordRefused as refusal:
                rejected.append(_reject(row, key, refusal))
        return mapped, rejected

    def _amend(self, rows: list[Submission], outcomes: list[Outcome]) -> list[Outcome]:
        """The outcomes, after rows that the ledger has with other content were submitted as amendments.

        Looked up is also what the ledger has under its key as it is: a later version may have said otherwise since.
        """
        assert self._book is not None
        answers, first = [*outcomes], {row.key: place for place, row in reversed([*enumerate(rows)])}
        asked = [
            p for p, row in enumerate(rows) if first[row.key] == p and _is_held(outcomes[p]) and not _is_probe(row)
        ]
        for _ in range(MAX_ROUNDS):
            stale = []
            for place, newest in zip(asked, find_newest(self._book.look_up, [rows[p] for p in asked]), strict=True):
                if newest is not None and newest.held.same:
                    held = newest.held
                    answers[place] = Acknowledged(rows[place].key, held.record_id, held.index, new=False)
                elif newest is not None:
                    stale.append((place, newest))
            if not stale:
                break
            amended = self._submit([amending(rows[place], newest) for place, newest in stale])
            # die here: the page comes again, and finds the amendments as the newest versions
            answers_now = dict(zip([place for place, _ in stale], amended, strict=True))
            for place, answer in answers_now.items():
                answers[place] = answer
            # another run may have amended the same row meanwhile: then it is looked up again
            asked = [p for p, answer in answers_now.items() if isinstance(answer, Refused) and _is_held(answer)]
        for place, row in enumerate(rows):
            # of two rows of one page under one key neither is the newer: only where they are equal the second is known
            same = answers[first[row.key]]
            if first[row.key] != place and isinstance(same, Acknowledged) and row.record == rows[first[row.key]].record:
                answers[place] = Acknowledged(row.key, same.record_id, same.index, new=False)
        return answers

    def _page_count(
        self, page: Page, mapped: list[tuple[Row, Mapped]], outcomes: list[Outcome], rejected: list[Rejected]
    ) -> PageCount:
        lowest, highest, before = self._places(page)
        taken, probes = [], 0
        for (row, item), outcome in zip(mapped, outcomes, strict=True):
            if _is_probe(item.submission):
                probes += _went_well(item, outcome)
            elif isinstance(outcome, Acknowledged):
                occurred_at = item.submission.record["occurred_at"]
                taken.append(Taken(outcome.index, occurred_at, late=row.position in before))
        reasons = Counter(row.reason for row in rejected)
        return PageCount(len(page.rows), taken, reasons, probes, lowest, highest)

    def _places(self, page: Page) -> tuple[str | None, str | None, frozenset[str]]:
        """The page's lowest and highest place, and the positions of rows behind what the last report was read to."""
        rows = [row for row in page.rows if isinstance(row, Row)]
        if self._order is None or self._reporter is None or not rows:
            return None, None, frozenset()
        high, order = self._reporter.high_before(page.part), self._order
        before = set()
        for row in rows if high is not None else ():
            place = order.place(row)
            # rows of an ordered source come in its order, so those behind it are the first ones
            if place is None or high is None or not order.is_before(place, high):
                break
            before.add(row.position)
        return order.place(rows[0]), order.place(rows[-1]), frozenset(before)

    def _sort(
        self, mapped: list[tuple[Row, Mapped]], outcomes: list[Outcome], rejected: list[Rejected]
    ) -> list[Settled]:
        settled = []
        for (row, item), outcome in zip(mapped, outcomes, strict=True):
            if _went_well(item, outcome):
                settled.append(Settled(row.position, item.submission.key))
                if _is_probe(item.submission):
                    record = item.submission.record
                    self._state.arrived(self._mapping.feed, record["token_sha256"], record["arrived_at"])
            elif isinstance(outcome, Refused):
                rejected.append(_reject(row, item.submission.key, outcome.error, item.submission.record))
        return settled

    def _count(
        self, page: Page, mapped: list[tuple[Row, Mapped]], outcomes: list[Outcome], rejected: list[Rejected]
    ) -> None:
        self.read += len(page.rows)
        self._quarantined += len(rejected)
        self._by_reason.update(row.reason for row in rejected)
        for (_, item), outcome in zip(mapped, outcomes, strict=True):
            if _went_well(item, outcome):
                new = isinstance(outcome, Acknowledged) and outcome.new
                self._sealed += new
                self._known += not new
                if item.omitted:
                    self._omitted.update(item.omitted)
        if page.columns is not None or not self._columns:
            self._columns |= _columns(page)

    def progress(self, page: Page) -> Progress:
        """The counters, after `page`."""
        return Progress(page.part, self.read, self._sealed, self._known, self._quarantined, page.fraction)

    def report(self, stopped: CouldNotRun | None) -> RunReport:
        """The counters, at the end."""
        return RunReport(
            feed=self._mapping.feed,
            read=self.read,
            sealed=self._sealed,
            known=self._known,
            quarantined=self._quarantined,
            by_reason=dict(self._by_reason.most_common()),
            omitted=dict(self._omitted.most_common()),
            unmapped=_unmapped_columns(self._mapping, self._columns),
            stopped=stopped,
            withdrawn=self.withdrawn,
        )


def _never(_a: str, _b: str) -> bool:
    return False


def _is_probe(submission: Submission) -> bool:
    return submission.record.get("type") == "feed.probe"


def _went_well(item: Mapped, outcome: Outcome) -> bool:
    """Whether the row needs nothing more. A probe that came before differs in its time of arrival only."""
    if isinstance(outcome, Acknowledged):
        return True
    return _is_probe(item.submission) and isinstance(outcome.error, Conflict)


def _is_held(outcome: Outcome) -> bool:
    """Whether the ledger had a record under this key before."""
    return not outcome.new if isinstance(outcome, Acknowledged) else isinstance(outcome.error, Conflict)


def _reject(row: Row, key: str | None, refusal: RecordRefused, record: Mapping[str, Any] | None = None) -> Rejected:
    if not isinstance(refusal, Conflict):
        return Rejected(row.position, key, refusal.reason, str(refusal), raw_row(row.values))
    # as intake compares content: where the row was found makes no other record of it
    content = {name: value for name, value in (record or {}).items() if name != "source"}
    rival = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return Rejected(row.position, key, CONFLICT, str(refusal), raw_row(row.values), rival)


def _preview(transform: Transform, row: Row | BadRow, validate: Validate | None) -> Previewed:
    if isinstance(row, BadRow):
        return Previewed(row.position, {}, None, (), (), RecordRefused(row.reason, row.detail))
    try:
        mapped = transform(transform.key(row.values), row.values, row.beside)
        submission: Submission = mapped.submission
        if validate is not None:
            validate(_as_taken_in(submission))
    except RecordRefused as refusal:
        return Previewed(row.position, row.values, None, (), (), refusal)
    names = tuple(attachment.name for attachment in submission.attachments)
    return Previewed(row.position, row.values, submission.record, names, mapped.omitted, None)


def _as_taken_in(submission: Submission) -> dict[str, Any]:
    """The record with its attachments described as intake will, but for their digests: a look reads no whole video."""
    if not submission.attachments:
        return submission.record
    described = [
        {"name": item.name, "media_type": item.media_type, "size": _size_of(item), "sha256": "0" * 64}
        for item in submission.attachments
    ]
    return {**submission.record, "attachments": described}


def _size_of(source: AttachmentSource) -> int:
    return len(source.path) if isinstance(source.path, bytes) else source.path.stat().st_size


def _columns(page: Page) -> set[str]:
    if page.columns is not None:
        return set(page.columns)
    return {name for row in page.rows if isinstance(row, Row) for name in row.values}


def _unmapped_columns(mapping: FeedMapping, seen: set[str]) -> tuple[str, ...]:
    return tuple(sorted(seen - mapping.columns - mapping.ignore - mapping.order_columns))


def _unmapped(mapping: FeedMapping, seen: set[str]) -> Iterator[Finding]:
    for name in _unmapped_columns(mapping, seen):
        sentence = f'column "{name}" is neither used nor listed under "ignore"; add it to one of them'
        yield Finding("error", "unmapped-column", sentence)
    for name in sorted(_asked_for(mapping) - seen) if seen else ():
        # a name with dots may lead into the entries of a list
        if not any(name.startswith(f"{other}.") for other in seen):
            sentence = f'no row of the sample has a column "{name}"{nearest(name, seen)}'
            yield Finding("warning", "unknown-column", sentence)
    for name in sorted(mapping.ignore - seen) if seen else ():
        yield Finding("warning", "unknown-ignore", f'"ignore" names "{name}", which the source does not have')


def _asked_for(mapping: FeedMapping) -> set[str]:
    """The columns without which something is missing."""
    rules = [rule for rule in mapping.fields.values() if not rule.omit_blank and rule.default is None]
    return {column for rule in rules if len(rule.columns) == 1 for column in rule.columns} | mapping.each_columns


class _Keys:
    """The keys of a sample, and what is doubtful about them: they name a row for ever."""

    def __init__(self) -> None:
        self._by_fold: dict[str, str] = {}
        self._alike: tuple[str, str, str] | None = None
        self._long: list[bool] = []

    def add(self, transform: Transform, row: Row | BadRow) -> None:
        """Looks at the row's key, where it has one."""
        try:
            key = transform.key(row.values).partition("/")[2] if isinstance(row, Row) else ""
        except RecordRefused:
            return
        fold = "".join(unicodedata.normalize("NFKC", key).casefold().split())
        other = self._by_fold.setdefault(fold, key)
        if other != key and self._alike is None:
            self._alike = other, key, row.position
        if re.fullmatch("[0-9]{17,}", key):
            self._long.append(not key[15:].strip("0"))

    def findings(self) -> Iterator[Finding]:
        """What was found."""
        if self._alike is not None:
            a, b, position = self._alike
            sentence = f'the keys "{a[:60]}" and "{b[:60]}" differ only in case, width or spaces; they are two rows'
            yield Finding("warning", "keys-alike", sentence, position)
        if len(self._long) > 1 and all(self._long):
            sentence = (
                f"all {len(self._long)} keys of more than 16 digits end in zeros behind the 15th, as a spreadsheet "
                "program leaves them; if so, export the column as text"
            )
            yield Finding("warning", "rounded-keys", sentence)


def _doubtful_rules(mapping: FeedMapping) -> Iterator[Finding]:
    for target, rule in mapping.fields.items():
        if any("%y" in pattern for pattern in rule.formats):
            sentence = f'"fields.{target}" reads years of two digits; the century is guessed, so prefer %Y'
            yield Finding("warning", "two-digit-year", sentence)


def _subject(refusal: RecordRefused) -> str:
    """What tells refusals with one reason apart: the column or member named first, not the value."""
    if refusal.reason.startswith("attachment-"):  # they name the file, another one in each row
        return ""
    if refusal.reason == "bad-identifier":  # the kind comes first
        return str(refusal).partition(" ")[0]
    return str(refusal).split('"')[1] if str(refusal).count('"') >= 2 else ""


def _refusals(first: Mapping[tuple[str, str], tuple[int, Previewed]], rows: int) -> Iterator[Finding]:
    for (reason, _), (count, example) in first.items():
        sentence = f"{count} of {rows} rows: {example.refusal}"
        yield Finding("error", reason, sentence, example.position)
