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
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from adapters.mapping import FeedMapping
from adapters.source import PAGE_ROWS, Acknowledging, BadRow, Page, Row, Source
from adapters.state import CONFLICT, AdapterState, Rejected, Settled, raw_row
from adapters.transform import Mapped, Transform
from ledger.errors import Conflict, CouldNotRun, RecordRefused
from ledger.submission import Acknowledged, Outcome, Submission, Submit

CHECK_ROWS = 1000
ATTACHMENT_MISSING = "attachment-missing"

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
    neither uses nor ignores. `stopped` is why the run ended early (the mark is behind the last settled page), or None.
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
) -> RunReport:
    """Takes everything new in `source` into the ledger, page by page, at most `batch` rows each.

    `afresh` reads from the start, as after a change of the mapping: known rows are recognised, quarantined ones tried
    again. Ends after the page in which `limit` rows are reached, or behind which `enough` says so. When the ledger, the
    state or the source cannot go on (CouldNotRun), the report says so in `stopped`; everything counted is durable.
    Refusals of the whole feed (HistoryRefused, Malformed) are raised; marks are then where the last settled page left
    them.
    """
    runner = _Run(mapping, state, submit)
    size = batch if limit is None else max(1, min(batch, limit))
    try:
        marks = {} if afresh else state.marks(mapping.feed)
        with closing(source.pages(marks, size)) as pages:
            for page in pages:
                runner.settle(page)
                if isinstance(source, Acknowledging):
                    source.settled()
                if progress is not None:
                    progress(runner.progress(page))
                if (limit is not None and runner.read >= limit) or (enough is not None and enough()):
                    break
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
    first: dict[tuple[str, str], tuple[int, Previewed]] = {}
    with closing(source.pages({}, min(sample, PAGE_ROWS))) as pages:
        for page in pages:
            seen |= _columns(page)
            for row in page.rows:
                rows += 1
                shown = _preview(transform, row, validate)
                if shown.refusal is None:
                    good += 1
                else:
                    slot = (shown.refusal.reason, _subject(shown.refusal))
                    count, example = first.get(slot, (0, shown))
                    first[slot] = (count + 1, example)
            if rows >= sample:
                break
    findings = [*_unmapped(mapping, seen), *_doubtful_rules(mapping), *_refusals(first, rows)]
    if not rows:
        findings.append(Finding("warning", "empty", "the source has no rows, so nothing was tried"))
    return CheckReport(rows, good, tuple(findings))


class _Run:
    """The counters of one run, and what is done with a page."""

    def __init__(self, mapping: FeedMapping, state: AdapterState, submit: Submit) -> None:
        self._mapping = mapping
        self._state = state
        self._submit = submit
        self._transform = Transform(mapping)
        self._by_reason: Counter[str] = Counter()
        self._omitted: Counter[str] = Counter()
        self._columns: set[str] = set()
        self._waiting: set[str] = set()
        self.read = self._sealed = self._known = self._quarantined = 0

    def settle(self, page: Page) -> None:
        """Maps, submits and settles one page. Raises CouldNotRun with nothing counted and the mark where it was."""
        mapped, rejected = self._map(page)
        # crash point a
        outcomes = self._submit([item.submission for _, item in mapped]) if mapped else []
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
        )
        # crash point c
        self._count(page, mapped, outcomes, rejected)

    def _map(self, page: Page) -> tuple[list[tuple[Row, Mapped]], list[Rejected]]:
        transform = self._transform
        mapped: list[tuple[Row, Mapped]] = []
        rejected: list[Rejected] = []
        for row in page.rows:
            if isinstance(row, BadRow):
                rejected.append(Rejected(row.position, None, row.reason, row.detail, raw_row({"line": row.raw})))
                continue
            key = None
            try:
                key = transform.key(row.values)
                mapped.append((row, transform(key, row.values, row.beside)))
            except RecordRefused as refusal:
                rejected.append(_reject(row, key, refusal))
        return mapped, rejected

    def _sort(
        self, mapped: list[tuple[Row, Mapped]], outcomes: list[Outcome], rejected: list[Rejected]
    ) -> list[Settled]:
        settled = []
        for (row, item), outcome in zip(mapped, outcomes, strict=True):
            if isinstance(outcome, Acknowledged):
                settled.append(Settled(row.position, item.submission.key))
            else:
                rejected.append(_reject(row, item.submission.key, outcome.error, item.submission.record))
        return settled

    def _count(
        self, page: Page, mapped: list[tuple[Row, Mapped]], outcomes: list[Outcome], rejected: list[Rejected]
    ) -> None:
        self.read += len(page.rows)
        self._quarantined += len(rejected)
        self._by_reason.update(row.reason for row in rejected)
        for (_, item), outcome in zip(mapped, outcomes, strict=True):
            if isinstance(outcome, Acknowledged):
                self._sealed += outcome.new
                self._known += not outcome.new
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
        )


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
        {"name": item.name, "media_type": item.media_type, "size": item.path.stat().st_size, "sha256": "0" * 64}
        for item in submission.attachments
    ]
    return {**submission.record, "attachments": described}


def _columns(page: Page) -> set[str]:
    if page.columns is not None:
        return set(page.columns)
    return {name for row in page.rows if isinstance(row, Row) for name in row.values}


def _unmapped_columns(mapping: FeedMapping, seen: set[str]) -> tuple[str, ...]:
    return tuple(sorted(seen - mapping.columns - mapping.ignore))


def _unmapped(mapping: FeedMapping, seen: set[str]) -> Iterator[Finding]:
    for name in _unmapped_columns(mapping, seen):
        sentence = f'column "{name}" is neither used nor listed under "ignore"; add it to one of them'
        yield Finding("error", "unmapped-column", sentence)
    for name in sorted(mapping.ignore - seen) if seen else ():
        yield Finding("warning", "unknown-ignore", f'"ignore" names "{name}", which the source does not have')


def _doubtful_rules(mapping: FeedMapping) -> Iterator[Finding]:
    for target, rule in mapping.fields.items():
        if rule.format is not None and "%y" in rule.format:
            sentence = f'"fields.{target}" reads years of two digits; the century is guessed, so prefer %Y'
            yield Finding("warning", "two-digit-year", sentence)


def _subject(refusal: RecordRefused) -> str:
    """What tells refusals with one reason apart: the column or member named first, not the value."""
    return str(refusal).split('"')[1] if str(refusal).count('"') >= 2 else ""


def _refusals(first: Mapping[tuple[str, str], tuple[int, Previewed]], rows: int) -> Iterator[Finding]:
    for (reason, _), (count, example) in first.items():
        sentence = f"{count} of {rows} rows: {example.refusal}"
        yield Finding("error", reason, sentence, example.position)
