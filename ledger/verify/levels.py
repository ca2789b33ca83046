"""What a case file shows at each level, in sentences that a clerk can read into the record."""

from __future__ import annotations

from collections.abc import Iterator

from ledger.verify.casefile import CaseFacts, Confirmed, Count, ItemReport, Level
from ledger.verify.control import in_other_hands
from ledger.verify.sentences import sentence
from ledger.verify.words import Duration, Moment, Span

_GAPS = ("not-truth", "not-persons", "not-key-alone", "case-not-complete", "case-not-index", "not-trust", "not-weight")


def say_level(facts: CaseFacts, level: Level, lang: str) -> list[str]:
    """The sentences of one level; at least one."""
    count = facts.counts[level]
    lines = list(_SAY[level](facts, count, lang))
    if count.bad and level != "integrity":
        lines.append(sentence("case-bad", lang, bad=count.bad))
    return lines


def not_proven(lang: str) -> list[str]:
    """What no case file proves."""
    return [sentence(name, lang) for name in _GAPS]


def _integrity(facts: CaseFacts, count: Count, lang: str) -> Iterator[str]:
    if count.bad:
        yield sentence("case-integrity-bad", lang, bad=count.bad)
    else:
        yield sentence("case-integrity", lang, files=facts.files)
    if facts.amended:
        yield sentence("case-amended", lang, count=len(facts.amended))
    naming = sum(report.verified and report.item.amends is not None for report in facts.items)
    elsewhere = naming - sum(map(len, facts.amended.values()))
    if elsewhere:
        yield sentence("case-amends-elsewhere", lang, count=elsewhere)
    yield sentence("case-trust-same" if facts.trust_same else "case-trust-other", lang)


def _authorship(facts: CaseFacts, _: Count, lang: str) -> Iterator[str]:
    if facts.key is None:
        yield sentence("case-not-signed", lang, department=facts.department)
    else:
        validity = Span((facts.key.valid_from, facts.key.valid_to))
        time = Moment(facts.signed_at)
        yield sentence("case-signed", lang, department=facts.department, validity=validity, time=time)
    if facts.items:
        good = sum(report.verified for report in facts.items)
        yield sentence("case-authors", lang, good=good, total=len(facts.items))


def _inclusion(facts: CaseFacts, count: Count, lang: str) -> Iterator[str]:
    yield sentence("case-logged", lang, good=count.good, total=len(facts.items))
    if count.absent:
        yield sentence("case-unlogged", lang, absent=count.absent)


def _completeness(facts: CaseFacts, count: Count, lang: str) -> Iterator[str]:
    for frozen in facts.decisions:
        n, total = frozen.decision.n, frozen.decision.count
        yield sentence("case-frozen", lang, n=n, count=total, found=frozen.found)
        if frozen.missing:
            yield sentence("case-frozen-missing", lang, n=n, missing=frozen.missing)
    if facts.decisions:
        before = sum(report.item.before_decision is True for report in facts.items)
        n = facts.decisions[0].decision.n
        yield sentence("case-before", lang, n=n, before=before, after=len(facts.items) - before)
    if count.absent:
        yield sentence("case-decision-open", lang, absent=count.absent)
    if not count.applies:
        yield sentence("case-no-decision", lang)
    yield sentence("case-not-complete", lang)


def _witnesses(facts: CaseFacts, count: Count, lang: str) -> Iterator[str]:
    for operator, found in sorted(facts.witnesses.items()):
        apart = in_other_hands(operator, facts.department)
        name = "case-witness-same" if apart is False else "case-witness"
        names = _joined(sorted(found.names), lang)
        time = {} if apart is False else {"time": _first(found)}
        yield sentence(name, lang, operator=operator, count=found.count, names=names, **time)
        if apart is None:
            yield sentence("case-witness-unknown", lang, operator=operator)
    if count.absent or not facts.witnesses:
        yield sentence("case-unwitnessed", lang, absent=count.absent)
    rows = facts.control.get(facts.department.id, ())
    own = [row.text(lang)[0] for row in rows if row.part in ("node", "keys", "time") or row.apart is False]
    if own:
        parts = _joined(list(dict.fromkeys(own)), lang)
        yield sentence("case-control", lang, department=facts.department, parts=parts)


def _chain(facts: CaseFacts, count: Count, lang: str) -> Iterator[str]:
    times = [report.anchored_at for report in facts.items if report.anchored_at is not None]
    if times:
        first, last = Moment(min(times)), Moment(max(times))
        yield sentence("case-on-chain", lang, good=count.good, total=len(facts.items), first=first, last=last)
    if count.absent or not times:
        yield sentence("case-off-chain", lang, absent=count.absent)
    if facts.engine == "embedded":
        yield sentence("case-embedded", lang)


def _time(facts: CaseFacts, count: Count, lang: str) -> Iterator[str]:
    for authority, found in sorted(facts.stamps.items()):
        until = Moment(found.until or 0)
        yield sentence("case-stamped", lang, authority=authority, count=found.count, time=_first(found), until=until)
    if count.absent or not facts.stamps:
        yield sentence("case-unstamped", lang, absent=count.absent)
    if not facts.authorities:
        yield sentence("case-no-authorities", lang)


def _credibility(facts: CaseFacts, count: Count, lang: str) -> Iterator[str]:
    if not count.applies:
        yield sentence("case-no-evidence", lang)
        return
    captured = [report for report in facts.items if report.is_captured]
    if captured:
        yield from _captured(captured, count, lang)
    if count.absent:
        yield sentence("case-uncaptured", lang, absent=count.absent)
    seals = [delay for report in captured if (delay := report.seal_delay) is not None]
    if any(delay >= 0 for delay in seals):
        yield sentence("case-delay-seal", lang, delay=Duration(max(seals)))
    if wrong := sum(delay < 0 for delay in seals):
        yield sentence("case-order", lang, count=wrong)
    seen = [
        r.seen_at - r.item.sealed_at for r in facts.items if r.seen_at is not None and r.seen_at >= r.item.sealed_at
    ]
    if seen:
        yield sentence("case-delay-seen", lang, delay=Duration(max(seen)))
    if facts.department.operator is None:
        yield sentence("case-storage-unknown", lang)
    else:
        yield sentence("case-storage", lang, who=facts.department.operator)


def _captured(captured: list[ItemReport], count: Count, lang: str) -> Iterator[str]:
    said = [report.capture for report in captured if report.capture is not None]
    devices = {capture.device for capture in said}
    operators = {capture.operator for capture in said if capture.operator is not None}
    total = count.good + count.absent
    numbers = {"devices": len(devices), "operators": len(operators)}
    yield sentence("case-captured", lang, good=count.good, total=total, **numbers)
    offsets = [abs(capture.offset_ms) for capture in said if capture.offset_ms is not None]
    if offsets:
        yield sentence("case-clock", lang, count=len(offsets), offset=max(offsets))
    if len(offsets) < len(said):
        yield sentence("case-clock-unknown", lang, count=len(said) - len(offsets))


def _first(found: Confirmed) -> Moment:
    return Moment(found.first or 0)


def _joined(names: list[str], lang: str) -> str:
    return ("、" if lang == "zh" else ", ").join(names)


_SAY = {
    "integrity": _integrity,
    "authorship": _authorship,
    "inclusion": _inclusion,
    "completeness": _completeness,
    "witnesses": _witnesses,
    "chain": _chain,
    "time": _time,
    "credibility": _credibility,
}
