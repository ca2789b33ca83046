"""What an audit finds: findings with a severity, and which of them is the cause of which.

critical   somebody changed, removed or forged something, or gave what was not granted; an honest node never shows it
warning    it can happen to the honest, but somebody has to explain it
notice     in order as far as anybody can tell; worth a look

Only critical findings and warnings make an audit not good.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

CRITICAL, WARNING, NOTICE = "critical", "warning", "notice"
SEVERITIES = (CRITICAL, WARNING, NOTICE)

MAX_FINDINGS_KEPT = 100

WARNINGS = frozenset(
    (
        "clock-back",
        "clock-apart",
        "dated-behind-anchor",
        "checkpoint-missing",
        "feed-counts-differ",
        "feed-mapping-changed",
        "feed-period-gap",
        "feed-report-unreadable",
        "feed-rows-missing",
        "feed-silent",
        "feed-totals-differ",
        "feed-unaccounted",
        "not-received",
        "policy-differs",
        "rate-exceeded",
        "receipts-withheld",
        "terminal-ended",
        "time-ended",
        "time-overdue",
        "unwitnessed",
        "witness-suspicion",
    )
)
NOTICES = frozenset(
    (
        "anchor-forgotten",
        "feed-back-dated",
        "feed-late-rows",
        "feed-probe-overdue",
        "feed-report-overdue",
        "feed-source-shrank",
        "in-flight",
        "receipts-closed",
        "statements-closed",
        "witness-behind",
    )
)
"""Every kind that is in neither set is critical."""

_NODE = ("chain-replaced", "trust-differs")
_WHOLE_LOG = ("log-missing", "log-twice", "rolled-back")
_ROOTS = ("root-differs-from-chain", "checkpoint-differs", "head-differs", "witness-head-changed")
_RECORD_GONE = (
    *_WHOLE_LOG, "entry-missing", "statement-changed", "payload-missing", "payload-changed", "record-invalid",
    "type-unknown", "kept-destroyed",
)  # fmt: skip
_BY_RECORDS = ("not-received", "not-made")
_ATTACHED = ("attachment-changed", "attachment-missing")
_OF_CASES = ("entry-missing", "statement-changed", "tile-changed", "case-entry-differs", *_ATTACHED)
_AT_ENTRY = ("checkpoint-missing", "destruction-differs", "projection-differs")
_TABLES = (
    "case-entry-differs",
    "checkpoint-missing",
    "destruction-differs",
    "holds-differ",
    "matters-differ",
    "projection-differs",
)
"""What tables and proofs beside the log lack or have too much, mostly because of what the log lacks."""


def severity_of(kind: str) -> str:
    """One of `SEVERITIES`."""
    return WARNING if kind in WARNINGS else NOTICE if kind in NOTICES else CRITICAL


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not fit. `where` is precise enough to go there: a record, a tile and byte, a size.

    `thing`: what else is broken when this is (a key of many records); findings with the same one have one cause.
    `others`: further departments that it concerns.
    """

    department: str
    kind: str
    where: str
    sentence: str
    index: int | None = None
    record_id: str | None = None
    severity: str = CRITICAL
    thing: str | None = None
    others: tuple[str, ...] = ()


@dataclass(slots=True)
class LogReport:
    """What the audit of one log found. `findings` holds the first `MAX_FINDINGS_KEPT` of each kind, by place;
    `counts` all, by kind; `notices` those that do not count. `sampled`: how many entries were drawn (None: every one
    was looked at)."""

    department: str
    origin: str
    size: int
    records: int = 0
    payloads: int = 0
    attachments: int = 0
    forgotten: int = 0
    sealed_elsewhere: int = 0
    signatures: int = 0
    anchors: int = 0
    anchored_size: int = 0
    chain_asked: bool = False
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    notices: list[Finding] = field(default_factory=list)
    checkpoints: int = 0
    cosignatures: int = 0
    tokens: int = 0
    manifests: int = 0
    disclosures: int = 0
    receipts: int = 0
    sampled: int | None = None

    @property
    def good(self) -> bool:
        """Whether nothing was found but notices."""
        return not self.counts

    def add(
        self,
        kind: str,
        where: str,
        sentence: str,
        index: int | None = None,
        record_id: str | None = None,
        *,
        thing: str | None = None,
        others: tuple[str, ...] = (),
    ) -> None:
        """Counts a finding and keeps it while there is room."""
        found = Finding(
            self.department, kind, where, sentence, index, record_id, severity_of(kind), thing, tuple(others)
        )
        if found.severity == NOTICE:
            if len(self.notices) < MAX_FINDINGS_KEPT:
                self.notices.append(found)
            return
        self.counts[kind] += 1
        # by kind: many of one must not push out the few of another, which may be the cause
        if self.counts[kind] <= MAX_FINDINGS_KEPT:
            self.findings.append(found)

    def take(self, other: LogReport) -> None:
        """Adds what was found in a later part of the log, or beside it."""
        for name in TALLIES:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.counts += other.counts
        self.findings = _kept([*self.findings, *other.findings])
        self.notices = in_order([*self.notices, *other.notices])[:MAX_FINDINGS_KEPT]


TALLIES = (
    "records",
    "payloads",
    "attachments",
    "forgotten",
    "sealed_elsewhere",
    "signatures",
    "anchors",
    "checkpoints",
    "cosignatures",
    "tokens",
    "manifests",
    "disclosures",
    "receipts",
)
"""The members of a report that add up over the parts of a log."""


def _kept(findings: Iterable[Finding]) -> list[Finding]:
    """In order, the first `MAX_FINDINGS_KEPT` of each kind."""
    seen: Counter[str] = Counter()
    kept = []
    for finding in in_order(findings):
        seen[finding.kind] += 1
        if seen[finding.kind] <= MAX_FINDINGS_KEPT:
            kept.append(finding)
    return kept


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """By place: what concerns the whole log, then along its entries, then what has no place."""
    return sorted(findings, key=_place)


def _place(finding: Finding) -> tuple[bool, bool, int]:
    # a tile above level 0 comes behind all that it covers: where it differs, something there may be why
    behind = 256 ** _level(finding) - 1
    return finding.kind not in (*_NODE, *_WHOLE_LOG), finding.index is None, (finding.index or 0) + behind


def _level(finding: Finding) -> int:
    """The level of the tile that a finding is about, 0 for none."""
    found = re.match(r"tile/(\d+)/", finding.where)
    return int(found[1]) if found else 0


@dataclass(slots=True)
class Cause:
    """A finding that no other explains, and what follows from it, counted by kind."""

    first: Finding
    consequences: Counter[str] = field(default_factory=Counter)


def causes_of(reports: Sequence[LogReport]) -> list[Cause]:
    """The findings that were kept, each under what explains it; critical causes first, then by log and place."""
    causes: list[Cause] = []
    findings = [finding for report in reports for finding in report.findings]
    for finding in sorted(findings, key=_rank):
        cause = next((cause for cause in causes if explains(cause.first, finding)), None)
        if cause is None:
            causes.append(Cause(finding))
        else:
            cause.consequences[finding.kind] += 1
    order = {report.department: number for number, report in enumerate(reports)}
    return sorted(
        causes,
        key=lambda cause: (
            SEVERITIES.index(cause.first.severity),
            order[cause.first.department],
            _place(cause.first),
        ),
    )


def _rank(found: Finding) -> tuple[bool, bool, bool, bool]:
    """What may be the cause of others comes before them."""
    late = found.kind in (*_BY_RECORDS, *_TABLES, "manifest-wrong")
    return found.kind not in _NODE, found.index is None, late, found.kind == "manifest-wrong"


def explains(cause: Finding, finding: Finding) -> bool:
    """Whether `finding` is what `cause` makes one expect: no proof, but where to look first."""
    if cause.thing is not None and cause.thing == finding.thing:
        return True
    if cause.kind in _NODE:
        return finding.department in (cause.department, *cause.others)
    if cause.department != finding.department:
        return finding.kind in _BY_RECORDS and cause.kind in _RECORD_GONE and cause.department in finding.others
    if cause.kind in _WHOLE_LOG:
        return True
    if cause.record_id is not None and cause.record_id == finding.record_id:
        return True
    if cause.kind in _ROOTS and finding.kind in _ROOTS:
        return True
    if _level(finding) and cause.kind in ("tile-changed", "payload-changed", "statement-changed"):
        return True
    if finding.kind in ("case-entry-differs", "holds-differ") and cause.index == finding.index is not None:
        return True
    if finding.kind in _AT_ENTRY and cause.index == finding.index:
        return True
    if finding.kind == "holds-differ" and cause.kind == "kept-destroyed":
        return True
    if finding.kind == "matters-differ" and cause.kind in (*_RECORD_GONE, "key-changed", *_ATTACHED):
        return True
    if finding.kind == "manifest-wrong" and cause.kind in _OF_CASES:
        return True
    gone = cause.kind in ("entry-missing", "statement-changed")
    return gone and (finding.kind.startswith("feed-") or finding.kind in _BY_RECORDS)
