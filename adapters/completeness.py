"""Saying what a feed did, so that what it did not do shows: numbered reports in the department's log.

Every page is counted in the transaction that saves its mark. When a report is due, the period's counts become a
feed.report record (see ledger/feeds.py), in three steps:

  1. In one transaction: the report is written down, its number taken, and a new period begins at zero.
  2. The report is submitted under `feed-report/<mapping>/<seq>`.
  3. It is crossed out.

Dying between them loses and doubles nothing: whoever comes next finds the report of step 1 and submits the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from adapters.mapping import FeedMapping
from adapters.source import Countable, Ordered, Source
from ledger.errors import Conflict, StorageFailed
from ledger.feeds import FeedBook, chain_start, report_key
from ledger.submission import Refused, Submission, Submit

if TYPE_CHECKING:
    from adapters.state import AdapterState, SavedPeriod

MAX_PARTS = 100
MAX_REASONS = 100
MAX_ATTEMPTS = 10

_COUNTS = ("read", "sealed", "known", "quarantined", "probes", "late", "back_dated")


@dataclass(frozen=True, slots=True)
class Taken:
    """A row that the ledger acknowledged: its record's index and `occurred_at`. `late`: it lies behind the place that
    the last report was read to."""

    index: int
    occurred_at: str
    late: bool = False


@dataclass(frozen=True, slots=True)
class PageCount:
    """What a page adds to its feed's period. `reasons` counts the rows set aside; places are as Ordered writes them."""

    read: int
    taken: Sequence[Taken]
    reasons: Mapping[str, int]
    probes: int = 0
    lowest: str | None = None
    highest: str | None = None


@dataclass(frozen=True, slots=True)
class Period:
    """What was counted since the last report. Indices are those of the log: records from `log_from` to before `covered`
    are counted. `seq` is the last report's number, 0 for none, `digest` its chain; times are RFC 3339."""

    seq: int
    since: str
    log_from: int
    covered: int
    digest: str
    counts: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))
    totals: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))
    reasons: Mapping[str, int] = field(default_factory=dict)
    earliest: str | None = None
    latest: str | None = None
    latest_before: str | None = None

    @classmethod
    def read(cls, text: str) -> Period:
        """What `write` wrote."""
        return cls(**json.loads(text))

    def write(self) -> str:
        """The period as one line of JSON."""
        return json.dumps(asdict(self))

    def plus(self, page: PageCount) -> Period:
        """The period with one page more.

        A record counts as sealed where its index was not covered before, whoever sealed it: a page that comes again
        after a crash is known to the ledger, but not to the count.
        """
        found = {row.index: row for row in page.taken if row.index >= self.covered}
        times = [datetime.fromisoformat(row.occurred_at) for row in found.values()]
        before = None if self.latest_before is None else datetime.fromisoformat(self.latest_before)
        quarantined = sum(page.reasons.values())
        added = {
            "read": page.read,
            "sealed": len(found),
            "known": page.read - len(found) - quarantined - page.probes,
            "quarantined": quarantined,
            "probes": page.probes,
            "late": sum(row.late for row in found.values()),
            "back_dated": 0 if before is None else sum(time < before for time in times),
        }
        return replace(
            self,
            covered=max([self.covered, *[index + 1 for index in found]]),
            counts={name: self.counts[name] + added[name] for name in _COUNTS},
            totals={name: self.totals[name] + added[name] for name in _COUNTS},
            reasons=dict(Counter(self.reasons) + Counter(page.reasons)),
            earliest=_pick(min, [self.earliest, *[row.occurred_at for row in found.values()]]),
            latest=_pick(max, [self.latest, *[row.occurred_at for row in found.values()]]),
        )

    def following(self, digest: str, now: str) -> Period:
        """The empty period behind the report that ended this one."""
        return Period(
            seq=self.seq + 1,
            since=now,
            log_from=self.covered,
            covered=self.covered,
            digest=digest,
            totals=self.totals,
            latest=self.latest,
            latest_before=self.latest,
        )


@dataclass(frozen=True, slots=True)
class PartCount:
    """One part in a period. Places as Ordered writes them; `high_before` is the highest of the reports before."""

    part: str
    read: int = 0
    late: int = 0
    lowest: str | None = None
    highest: str | None = None
    high_before: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a feed's reports stand: the last one's number and time (None: none was made yet), and when silence is a
    finding. Times are RFC 3339."""

    feed: str
    seq: int
    reported_at: str | None
    next_due: str

    def overdue(self, now: float) -> bool:
        """Whether a report should have been made before `now`, seconds since 1970."""
        return datetime.fromisoformat(self.next_due).timestamp() < now

    def sentence(self) -> str:
        """What to say of a feed that is overdue."""
        since = f"since {self.reported_at}" if self.reported_at else "ever"
        return f"{self.feed}: no report {since}; one was due {self.next_due}: see whether the feed runs"


def compose(
    mapping: FeedMapping,
    period: Period,
    parts: Sequence[PartCount],
    *,
    now: datetime,
    reached_end: bool,
    in_quarantine: int,
    log_rows: int,
    digest: str,
    at_source: Mapping[str, int] | None = None,
    show: Ordered | None = None,
    further_parts: int = 0,
) -> dict[str, Any]:
    """The report that ends `period` as a record. `at_source` counts rows at the source by part. Pure."""
    reasons = Counter(period.reasons).most_common()
    kept, others = reasons[: MAX_REASONS - 1], sum(count for _, count in reasons[MAX_REASONS - 1 :])
    record = {
        "type": "feed.report",
        "v": 1,
        "department": mapping.department,
        "occurred_at": _written(now),
        "source": {"system": mapping.system, "mapping": mapping.name, "version": str(mapping.version)},
        "feed": mapping.name,
        "mapping_digest": mapping.digest,
        "seq": period.seq + 1,
        "since": period.since,
        "reached_end": reached_end,
        "next_due": _written(now + timedelta(seconds=mapping.report_every)),
        "counts": dict(period.counts),
        "totals": dict(period.totals),
        "reasons": [{"reason": reason, "rows": count} for reason, count in [*kept, ("others", others)] if count],
        "in_quarantine": in_quarantine,
        "parts": [_part(part, at_source or {}, show) for part in parts],
        "further_parts": further_parts,
        "log_from": period.log_from,
        "log_to": period.covered,
        "log_rows": log_rows,
        "digest": digest,
    }
    record |= {name: value for name in ("earliest", "latest") if (value := getattr(period, name)) is not None}
    if mapping.probe is not None:
        record["probe_every"] = mapping.probe.every
    return record


class Reporter:
    """Makes one feed's reports. `eager` makes one at the end of every run that read something, otherwise only when
    half of `report_every` has passed: so that none is late, and a feed that is followed does not fill the log."""

    def __init__(
        self, mapping: FeedMapping, state: AdapterState, submit: Submit, book: FeedBook, *, eager: bool = True
    ) -> None:
        self._mapping = mapping
        self._state = state
        self._submit = submit
        self._book = book
        self._eager = eager
        self._highs: dict[str, str | None] = {}
        self._since: datetime | None = None

    def begin(self) -> None:
        """Called before the first page: begins the first period, and submits a report that was cut off."""
        if self._state.period(self._mapping.feed) is None:
            self._begin_anew()
        self._send_pending()

    def high_before(self, part: str) -> str | None:
        """The highest place of a part in the reports so far."""
        if part not in self._highs:
            self._highs[part] = self._state.part(self._mapping.feed, part).high_before
        return self._highs[part]

    def is_due(self, *, reached_end: bool) -> bool:
        """Whether a report is to be made now."""
        if reached_end:
            period = self._period().period
            if period.seq == 0 or (self._eager and period.counts["read"]):
                return True
        if self._since is None:
            self._since = datetime.fromisoformat(self._period().period.since)
        age = self._state.now() - self._since
        # on the way only when the end may come too late
        return age.total_seconds() >= self._mapping.report_every * (0.5 if reached_end else 0.75)

    def report(self, source: Source, *, reached_end: bool) -> None:
        """Ends the period with a report, durably. Raises CouldNotRun: then the next `begin` goes on here."""
        counted = source.count() if isinstance(source, Countable) else {}
        for _ in range(MAX_ATTEMPTS):
            if self._write_down(source, counted, reached_end):
                # die here: `begin` submits what was written down
                self._send_pending()
                self._highs.clear()
                self._since = None
                return
        raise StorageFailed("other runs of this feed keep counting; run it once at a time")

    def _write_down(self, source: Source, counted: Mapping[str, int], reached_end: bool) -> bool:
        """Step 1; False where another run counted something meanwhile."""
        feed, now = self._mapping.feed, self._state.now().astimezone(UTC)
        saved = self._period()
        period = saved.period
        rows, digest = self._book.chain(
            self._mapping.name, bytes.fromhex(period.digest), period.log_from, period.covered
        )
        parts, number = self._state.parts(feed, MAX_PARTS)
        record = compose(
            self._mapping,
            period,
            parts,
            now=now,
            reached_end=reached_end,
            in_quarantine=sum(self._state.quarantine_counts(feed).values()),
            log_rows=rows,
            digest=digest.hex(),
            at_source=counted,
            show=source if isinstance(source, Ordered) else None,
            further_parts=max(0, number - MAX_PARTS),
        )
        after = period.following(digest.hex(), record["occurred_at"])
        return self._state.write_report(feed, saved.version, record, after, is_before=_order_of(source))

    def _send_pending(self) -> None:
        """Steps 2 and 3."""
        saved = self._state.period(self._mapping.feed)
        if saved is None or saved.pending is None:
            return
        record = saved.pending
        outcome = self._submit([Submission(report_key(self._mapping.name, record["seq"]), record, by_service=True)])[0]
        if isinstance(outcome, Refused):
            if not isinstance(outcome.error, Conflict):
                raise outcome.error
            # the ledger has another report of this number: the memory here is older than the ledger
            self._begin_anew()
            return
        # die here: it is submitted again, and known
        self._state.cross_out(self._mapping.feed, record["seq"])

    def _begin_anew(self) -> None:
        beginning = self._book.beginning(self._mapping.name)
        start = chain_start(self._mapping.department, self._mapping.name).hex()
        now = self._state.now().astimezone(UTC)
        period = Period(beginning.seq, _written(now), beginning.size, beginning.size, start)
        due = _written(now + timedelta(seconds=self._mapping.report_every))
        self._state.begin_period(self._mapping.feed, period, due)

    def _period(self) -> SavedPeriod:
        saved = self._state.period(self._mapping.feed)
        assert saved is not None, "begin comes first"
        return saved


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def lower(a: str | None, b: str | None, is_before: Any) -> str | None:
    """The lower of two written places, either of which may be missing."""
    if a is None or b is None:
        return a if b is None else b
    return a if is_before(a, b) else b


def higher(a: str | None, b: str | None, is_before: Any) -> str | None:
    """The higher of two written places, either of which may be missing."""
    if a is None or b is None:
        return a if b is None else b
    return b if is_before(a, b) else a


def _order_of(source: Source) -> Any:
    return source.is_before if isinstance(source, Ordered) else lambda _a, _b: False


def _part(part: PartCount, at_source: Mapping[str, int], show: Ordered | None) -> dict[str, Any]:
    written: dict[str, Any] = {"part": _line(part.part), "read": part.read, "late": part.late}
    if part.part in at_source:
        written["at_source"] = at_source[part.part]
    for name in ("lowest", "highest"):
        place = getattr(part, name)
        if place is not None and show is not None:
            written[name] = _line(show.show_place(place))
    return written


def _line(text: str) -> str:
    """A text as a record can hold it: one line of at most 200 characters, cut if need be."""
    shown = "".join(character if character.isprintable() else "?" for character in text).strip()
    return shown[:200] or "-"


def _pick(choose: Any, texts: Sequence[str | None]) -> str | None:
    present = [text for text in texts if text is not None]
    return choose(present, key=datetime.fromisoformat) if present else None
