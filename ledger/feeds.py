"""What a feed leaves in its department's log, and what an auditor reads from it: nothing skipped, nothing silent.

    key                                        record
    <mapping>/<row>                            of the row, the first version
    <mapping>~<n>/<row>                        the n-th version of the row, from 2; it amends the one before
    yunxi:feed-report/<mapping>/<seq>          feed.report: what was read in a period
    yunxi:feed-withdrawn/<mapping>/<record id> feed.withdrawn: the row is no longer at its source
    yunxi:feed-probe/<mapping>/<token digest>  feed.probe: a planted row came out

A report covers the records of the feed in a span of the log, end to end with the report before. Its digest is a chain
over them, so it also binds the idempotency keys, which stand beside the statements and not in them:

    h = SHA-256("yunxi feed v1" 0x1f department 0x1f mapping), then for each record  h = SHA-256(h ‖ id, 16 bytes ‖ key)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, or_, select

from ledger.errors import HistoryRefused, YunxiError
from ledger.intake import Intake
from ledger.record_types import RecordTypes, parse_instant
from ledger.records import RecordReader
from ledger.store.database import Database
from ledger.store.models import entries, index_of, position_of
from ledger.store.reading import LogRow, read_logs
from ledger.submission import MAX_KEY_CHARS, SERVICE_KEYS, Held, Submission, service_key

REPORT, WITHDRAWN, PROBE = "feed-report", "feed-withdrawn", "feed-probe"
RESERVED = (REPORT, WITHDRAWN, PROBE)
"""Names that no mapping can have: they begin the keys of what feeds say about themselves."""

SILENCE = ("report-overdue", "probe-overdue")
"""Findings about what has not come yet, which every feed has that was given up."""

_HASHED = "sha256:"
_ENTRIES_A_QUERY = 5_000
_KEYS_A_QUERY = 500


def report_key(mapping: str, seq: int) -> str:
    """The idempotency key of report number `seq`, from 1."""
    return f"{REPORT}/{mapping}/{seq}"


def withdrawn_key(mapping: str, record_id: str) -> str:
    """The idempotency key of the note that a record's row is gone."""
    return f"{WITHDRAWN}/{mapping}/{record_id}"


def probe_key(mapping: str, token_sha256: str) -> str:
    """The idempotency key of a probe; `token_sha256` in hex."""
    return f"{PROBE}/{mapping}/{token_sha256}"


def version_key(key: str, version: int) -> str:
    """The idempotency key of a row's n-th version; `key` is that of the first, `<mapping>/<row>`."""
    if version == 1:
        return key
    mapping, _, row = key.partition("/")
    made = f"{mapping}~{version}/{row}"
    if len(made) <= MAX_KEY_CHARS:
        return made
    return f"{mapping}~{version}/{_HASHED}{hashlib.sha256(row.encode()).hexdigest()}"


def chain_start(department: str, mapping: str) -> bytes:
    """The 32 bytes before the first record of a feed."""
    return hashlib.sha256(f"yunxi feed v1\x1f{department}\x1f{mapping}".encode()).digest()


def chain_next(digest: bytes, record_id: str, key: str) -> bytes:
    """The 32 bytes after one more record."""
    return hashlib.sha256(digest + UUID(record_id).bytes + key.encode()).digest()


# ---- what a feed asks -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """A record of a feed: its index in the log, its idempotency key and its id."""

    index: int
    key: str
    record_id: str


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a feed without a memory of its own goes on: the newest report's number (0: none), and the log's size."""

    seq: int
    size: int


class FeedBook:
    """What one department's log tells its feeds. Reads only; like the intake behind it, it serves one thread."""

    def __init__(self, database: Database, intake: Intake, department: str) -> None:
        self._database = database
        self._intake = intake
        self._department = department

    def look_up(self, batch: Sequence[Submission]) -> list[Held | None]:
        """See Intake.look_up."""
        return self._intake.look_up(self._department, batch)

    def beginning(self, mapping: str) -> Beginning:
        """Raises HistoryRefused where the department has no log, StorageFailed."""
        with self._database.reading() as connection:
            log = self._log(connection)
            prefix = service_key(report_key(mapping, 0))[:-1]
            numbers = [e.key[len(prefix) :] for e in read_keys(connection, log.number, (prefix,), 0, log.size)]
        return Beginning(max((int(n) for n in numbers if n.isdecimal()), default=0), log.size)

    def size(self) -> int:
        """How many records the log has. Raises as `beginning`."""
        with self._database.reading() as connection:
            return self._log(connection).size

    def entries(self, mapping: str, start: int = 0, end: int | None = None) -> Iterator[FeedEntry]:
        """The records of the feed's rows, all versions, from index `start` to before `end`, in the log's order.

        Holds some thousands at a time and no transaction between them. Raises as `beginning`.
        """
        with self._database.reading() as connection:
            log = self._log(connection)
        end = log.size if end is None else end
        while start < end:
            with self._database.reading() as connection:
                prefixes = (f"{mapping}/", f"{mapping}~")
                found = list(read_keys(connection, log.number, prefixes, start, end, _ENTRIES_A_QUERY))
            yield from found
            if len(found) < _ENTRIES_A_QUERY:
                return
            start = found[-1].index + 1

    def chain(self, mapping: str, digest: bytes, start: int, end: int) -> tuple[int, bytes]:
        """How many records of the feed's rows a span of the log has, and the chain after them."""
        count = 0
        for entry in self.entries(mapping, start, end):
            digest = chain_next(digest, entry.record_id, entry.key)
            count += 1
        return count, digest

    def known(self, keys: Sequence[str], *, by_service: bool = False) -> set[str]:
        """Those of the keys that the log has, of the service's own records or of the others."""
        if by_service:
            stored = {service_key(key): key for key in keys}
            return {stored[key] for key in self.known(list(stored))}
        found: set[str] = set()
        with self._database.reading() as connection:
            log = self._log(connection).number
            for place in range(0, len(keys), _KEYS_A_QUERY):
                here = entries.c.key.in_(keys[place : place + _KEYS_A_QUERY])
                found |= set(connection.scalars(select(entries.c.key).where(entries.c.log == log, here)))
        return found

    def _log(self, connection: Connection) -> LogRow:
        found = read_logs(connection, self._department)
        if not found:
            raise HistoryRefused(
                f"there is no log of department {self._department!r}: run `yunxi department add {self._department}`"
            )
        return found[0]


def read_keys(
    connection: Connection, log: int, prefixes: Sequence[str], start: int, end: int, limit: int | None = None
) -> Iterator[FeedEntry]:
    """Entries from `start` to before `end` whose idempotency keys begin with one of `prefixes`, in order."""
    c = entries.c
    span = c.position.between(position_of(log, start), position_of(log, end) - 1)
    begins = or_(*[c.key.startswith(prefix, autoescape=True) for prefix in prefixes])
    query = select(c.position, c.key, c.record_id).where(span, begins).order_by(c.position).limit(limit)
    for position, key, record_id in connection.execute(query):
        # SQLite's LIKE takes capitals for small letters; no mapping has any
        if key.startswith(tuple(prefixes)):
            yield FeedEntry(index_of(position), key, str(UUID(bytes=record_id)))


# ---- what an auditor finds ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FeedFinding:
    """One thing about a feed. `level`: `error`, or `notice` for what can be in order but should be looked at."""

    level: str
    kind: str
    sentence: str
    seq: int | None = None
    record_id: str | None = None


@dataclass(slots=True)
class FeedSummary:
    """One feed as its reports show it. `last` is the newest that could be opened, None for none."""

    department: str
    feed: str
    reports: int = 0
    last: Mapping[str, Any] | None = None
    last_probe: str | None = None
    findings: list[FeedFinding] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether there are no errors; notices do not count."""
        return all(finding.level != "error" for finding in self.findings)

    @property
    def sound(self) -> bool:
        """Whether what was reported fits; a feed that only fell silent is sound."""
        return all(finding.level != "error" or finding.kind in SILENCE for finding in self.findings)

    def add(self, kind: str, sentence: str, report: Mapping[str, Any] | None = None, *, level: str = "error") -> None:
        """Adds a finding about a report, or about the feed as a whole."""
        seq, record_id = (None, None) if report is None else (report["seq"], report["id"])
        self.findings.append(FeedFinding(level, kind, sentence, seq, record_id))


def check_feeds(
    connection: Connection, reader: RecordReader, log: LogRow, now: float, types: RecordTypes | None = None
) -> list[FeedSummary]:
    """Holds the reports of every feed of one log against each other, the clock (seconds since 1970) and the log.

    1. Every report opens, says what its key says, and the numbers go 1, 2, 3 … without a gap.
    2. Each period begins where the one before ended, and no report came later than the one before had promised.
    3. Rows read are rows sealed, known, quarantined and probes; totals go on from the totals before; and there were
       not more rows at the source than came out.
    4. Each span of the log begins where the one before ended, and has the records and the digest that the report says.
    5. A version of the mapping is one content.
    6. Rows that came late or back-dated, and sources that shrank, are named as notices.
    7. The newest report is not overdue, nor is a probe.

    `types`: reports are held against their type, as whoever has the department's keys can seal anything.

    Reads the log's keys twice, in constant memory but for the reports. Not checked: the reports' proofs (the audit does
    that), and the source itself (`yunxi adapter reconcile` does). Raises StorageFailed, KeyRefused.
    """
    feeds: dict[str, FeedSummary] = {}
    reports: dict[str, list[dict[str, Any]]] = {}
    told = service_key(f"{REPORT}/"), service_key(f"{PROBE}/")
    for entry in read_keys(connection, log.number, told, 0, log.size):
        word, _, rest = entry.key.removeprefix(SERVICE_KEYS).partition("/")
        feed = rest.partition("/")[0]
        summary = feeds.setdefault(feed, FeedSummary(log.department, feed))
        record = _open(connection, reader, entry, summary, types, now)
        if record is None:
            continue
        if word == PROBE:
            summary.last_probe = max(record["arrived_at"], summary.last_probe or "", key=_time_or_zero)
        elif (record["type"], f"{record['feed']}/{record['seq']}") == ("feed.report", rest):
            summary.reports += 1
            reports.setdefault(feed, []).append(record)
        else:
            sentence = f"entry {entry.index:,} is not the report that its key names"
            summary.findings.append(FeedFinding("error", "report-renamed", sentence, None, entry.record_id))
    chains = {feed: _Chain(log.department, feed, found) for feed, found in reports.items()}
    for entry in read_keys(
        connection, log.number, [p for f in chains for p in (f"{f}/", f"{f}~")] or [REPORT], 0, log.size
    ):
        chain = chains.get(entry.key.partition("/")[0].partition("~")[0])
        if chain is not None:
            chain.take(entry)
    for feed, found in reports.items():
        summary = feeds[feed]
        summary.last = found[-1]
        for before, report in zip([None, *found], found, strict=False):
            _check_order(summary, before, report)
            _check_counts(summary, before, report)
            _notice(summary, before, report)
        _check_versions(summary, found)
        chains[feed].check(summary)
        _check_due(summary, now)
    return [feeds[feed] for feed in sorted(feeds)]


def _open(
    connection: Connection,
    reader: RecordReader,
    entry: FeedEntry,
    summary: FeedSummary,
    types: RecordTypes | None,
    now: float,
) -> dict[str, Any] | None:
    try:
        record = {**reader.open(connection, entry.record_id).record(), "id": entry.record_id}
        if types is not None:
            types.validate(record, now, by_service=True)
        return record
    except YunxiError as error:
        sentence = f"entry {entry.index:,} cannot be read: {error}"
        summary.findings.append(FeedFinding("error", "report-unreadable", sentence, None, entry.record_id))
        return None


def _check_order(summary: FeedSummary, before: Mapping[str, Any] | None, report: Mapping[str, Any]) -> None:
    expected = 1 if before is None else before["seq"] + 1
    if report["seq"] > expected:
        last = report["seq"] - 1
        which = f"report {last} is" if last == expected else f"reports {expected} to {last} are"
        summary.add("report-missing", f"{which} missing before report {report['seq']}", report)
    elif report["seq"] < expected:
        summary.add("report-order", f"report {report['seq']} stands behind report {expected - 1}", report)
    if before is None:
        return
    if report["seq"] == expected and report["since"] != before["occurred_at"]:
        sentence = (
            f"report {report['seq']} begins at {report['since']}, the one before ended at {before['occurred_at']}"
        )
        summary.add("period-gap", sentence, report)
    if _time(report["occurred_at"]) > _time(before["next_due"]):
        sentence = (
            f"no report from {before['occurred_at']} to {report['occurred_at']}; one was due {before['next_due']}"
        )
        summary.add("silent", sentence, report)


def _check_versions(summary: FeedSummary, reports: Iterable[Mapping[str, Any]]) -> None:
    digests: dict[str, str] = {}
    for report in reports:
        version = report["source"].get("version")
        if version is None or "mapping_digest" not in report:
            continue
        if digests.setdefault(version, report["mapping_digest"]) != report["mapping_digest"]:
            sentence = f"report {report['seq']}: version {version} of the mapping does not say what it said before"
            summary.add("mapping-changed", sentence, report)


def _check_counts(summary: FeedSummary, before: Mapping[str, Any] | None, report: Mapping[str, Any]) -> None:
    counts, totals = report["counts"], report["totals"]
    if counts["read"] != sum(counts[name] for name in ("sealed", "known", "quarantined", "probes")):
        summary.add("counts-differ", f"report {report['seq']}: rows read are not the rows accounted for", report)
    if sum(item["rows"] for item in report.get("reasons", ())) != counts["quarantined"]:
        summary.add(
            "counts-differ", f"report {report['seq']}: the reasons do not add up to the quarantined rows", report
        )
    earlier = dict.fromkeys(totals, 0) if before is None else before["totals"]
    follows = report["seq"] == (1 if before is None else before["seq"] + 1)
    if follows and any(totals[name] != earlier[name] + counts[name] for name in totals):
        summary.add(
            "totals-differ", f"report {report['seq']}: the totals are not those before and the period's", report
        )
    if counts["sealed"] != report["log_rows"]:
        sentence = (
            f"report {report['seq']}: the feed counted {counts['sealed']:,} rows as sealed, the log had "
            f"{report['log_rows']:,} under its name: somebody else sealed there, or two runs at the same time"
        )
        summary.add("unaccounted", sentence, report)
    at_source = [part["at_source"] for part in report.get("parts", ()) if "at_source" in part]
    accounted = totals["sealed"] + totals["known"] + totals["probes"] + report["in_quarantine"]
    if report["reached_end"] and len(at_source) == 1 and at_source[0] > accounted:
        sentence = f"report {report['seq']}: {at_source[0]:,} rows at the source, at the most {accounted:,} came out"
        summary.add("rows-missing", sentence, report)


def _notice(summary: FeedSummary, before: Mapping[str, Any] | None, report: Mapping[str, Any]) -> None:
    counts, seq = report["counts"], report["seq"]
    if counts["late"]:
        sentence = f"report {seq}: {_rows(counts['late'])} came in behind the place that was read to before"
        summary.add("late-rows", sentence, report, level="notice")
    if counts["back_dated"]:
        sentence = f"report {seq}: {_rows(counts['back_dated'])} are dated before the latest of the report before"
        summary.add("back-dated", sentence, report, level="notice")
    sizes = {} if before is None else {part["part"]: part.get("at_source", 0) for part in before.get("parts", ())}
    for part in report.get("parts", ()):
        gone = sizes.get(part["part"], 0) - part.get("at_source", 0)
        if "at_source" in part and gone > 0:
            sentence = f"report {seq}: {part['part']} has {_rows(gone)} less than at the report before"
            summary.add("source-shrank", sentence, report, level="notice")


def _check_due(summary: FeedSummary, now: float) -> None:
    last = summary.last
    assert last is not None
    if now > _time(last["next_due"]):
        sentence = (
            f"no report since {last['occurred_at']}; the next was due {last['next_due']}: see whether the feed runs"
        )
        summary.add("report-overdue", sentence)
    if (every := last.get("probe_every")) is not None:
        seen = summary.last_probe or last["occurred_at"]
        if now > _time(seen) + every:
            told = f"no probe arrived since {seen}" if summary.last_probe else "no probe ever arrived"
            summary.add("probe-overdue", f"{told}; one is expected every {every:,} seconds: plant one and look for it")


class _Chain:
    """The records of one feed, counted and chained again, and held against the reports at the ends of their spans.

    A feed that lost its memory begins its chain anew, one whose report is missing does not: so both are followed where
    a span does not begin at the end of the one before.
    """

    def __init__(self, department: str, feed: str, reports: Iterable[Mapping[str, Any]]) -> None:
        self._start = chain_start(department, feed)
        self._reports = sorted(reports, key=lambda report: (report["log_to"], report["seq"]))
        self._next = 0
        self._digest = self._anew = self._start
        self._count = self._skipped = 0
        self._before: Mapping[str, Any] | None = None
        self._wrong: list[tuple[str, str, Mapping[str, Any]]] = []

    def take(self, entry: FeedEntry) -> None:
        """One more record of the feed, in the log's order."""
        while self._next < len(self._reports) and entry.index >= self._reports[self._next]["log_to"]:
            self._close()
        if self._next == len(self._reports):
            return
        self._digest = chain_next(self._digest, entry.record_id, entry.key)
        if entry.index < self._reports[self._next]["log_from"]:
            self._skipped += 1
        else:
            self._anew = chain_next(self._anew, entry.record_id, entry.key)
            self._count += 1

    def _close(self) -> None:
        report, before = self._reports[self._next], self._before
        seq, reported = report["seq"], bytes.fromhex(report["digest"])
        continues = before is not None and report["log_from"] == before["log_to"]
        follows = before is not None and seq == before["seq"] + 1
        good = reported == self._digest or (not continues and reported == self._anew)
        if self._skipped and follows:
            told = f"{self._skipped:,} records of the feed before report {seq} stand in no report"
            self._wrong.append(("unreported", told, report))
        if not good or self._count != report["log_rows"]:
            told = f"report {seq} does not fit the log: {report['log_rows']:,} records reported, {self._count:,} there"
            self._wrong.append(("digest-differs", told, report))
        # one finding a place: go on as the report says
        self._digest, self._anew, self._before = reported, self._start, report
        self._count = self._skipped = 0
        self._next += 1

    def check(self, summary: FeedSummary) -> None:
        """Adds what was found, after the last record."""
        while self._next < len(self._reports):
            self._close()
        for kind, sentence, report in self._wrong:
            summary.add(kind, sentence, report)


def _time(text: str) -> float:
    return parse_instant(text).timestamp()


def _time_or_zero(text: str) -> float:
    return _time(text) if text else 0.0


def _rows(number: int) -> str:
    return f"{number:,} row{'s' * (number != 1)}"
