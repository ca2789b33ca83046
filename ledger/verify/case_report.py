"""The answer about a case file, as JSON for programs and as text for people.

    facts = {"kind": "case-file", "case", "department": {"id", "name"}, "consortium", "exported_for", "log_size",
             "signed_at", "key": {"kid", "valid_from", "valid_to"} | null, "files", "octets", "trust_same",
             "levels": [{"level", "state", "good", "bad", "absent", "sentences"} …],
             "items": [{"n", "record_id", "role", "type", "department", "name", "verdict", "error": error | null,
                        "before_decision", "amends", "amended_by": [number …], "sealed_at", "logged", "witnessed",
                        "seen_at", "anchored_at", "stamped_at", "shown", "masked",
                        "attachments": {"given", "withheld"}, "forgotten",
                        "capture": {"device", "operator", "offset_ms", "captured_at", "sealed_at"} | null} …],
             "decisions": [{"n", "count", "found", "missing"} …],
             "gaps": [{"kind", "department", "record_id", "zh", "en"} …],
             "control": [{"department", "rows": [{"part", "name", "controller", "independent"} …]} …],
             "findings": [error with "level" …], "findings_total": number}
    error = {"code", "message", "reason" | null, "path" | null, "item" | null}

Times are whole seconds since 1970, null where nothing proves them. State: good | bad | absent | not-applicable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from ledger.errors import Malformed
from ledger.verify.casefile import LEVELS, CaseFacts, CaseFinding, CaseResult, ItemReport
from ledger.verify.layout import Layout
from ledger.verify.levels import not_proven, say_level
from ledger.verify.refusals import explain
from ledger.verify.sentences import sentence
from ledger.verify.words import Moment, clean, fill, say

MAX_SHOWN_FINDINGS = 50
"""So many findings are shown as text; JSON has more."""

LABELS = {
    "case-file": {"en": "Case file", "zh": "卷宗"},
    "signed": {"en": "signed", "zh": "签署时间"},
    "items": {"en": "Items, as the department lists them", "zh": "证据目录（以部门所列为准）"},
    "findings": {"en": "What is wrong", "zh": "核验不通过的事项"},
    "findings-more": {"en": "… and {count} more; --json shows them", "zh": "……另有{count}处，使用 --json 可查看"},
    "gaps": {"en": "What the department says is missing", "zh": "部门载明的缺失事项"},
    "item": {"en": "Item {n}", "zh": "第{n}项"},
    "place": {"en": "{place}: {text}", "zh": "{place}：{text}"},
    "counts": {"en": "good {good}, bad {bad}, absent {absent}", "zh": "一致{good}，不一致{bad}，缺{absent}"},
    "ok": {"en": "verified", "zh": "通过"},
    "not-ok": {"en": "NOT VERIFIED", "zh": "不通过"},
    "before": {"en": "before the decision", "zh": "决定之前"},
    "after": {"en": "with the decision or after", "zh": "决定之时或之后"},
    "amended-by": {"en": "corrected or withdrawn by item {n}, {time}", "zh": "已由第{n}项（{time}）更正或者撤回"},
    "amends": {"en": "corrects or withdraws item {n}", "zh": "更正或者撤回第{n}项"},
    "amends-elsewhere": {
        "en": "corrects or withdraws a record that is not here",
        "zh": "更正或者撤回不在本卷宗内的记录",
    },
    "level-integrity": {"en": "Integrity", "zh": "完整未改"},
    "level-authorship": {"en": "Authorship", "zh": "签署主体"},
    "level-inclusion": {"en": "Inclusion in the log", "zh": "载入日志"},
    "level-completeness": {"en": "Completeness against what the decision fixed", "zh": "与决定所固定清单比对"},
    "level-witnesses": {"en": "Witnesses and their independence", "zh": "见证方及其独立性"},
    "level-chain": {"en": "Blockchain", "zh": "区块链锚定"},
    "level-time": {"en": "Trusted time", "zh": "可信时间"},
    "level-credibility": {
        "en": "Before sealing: source, device, clock, delays, storage",
        "zh": "存证之前：来源、设备、时钟、间隔、保管",
    },
    "state-good": {"en": "good", "zh": "一致"},
    "state-bad": {"en": "BAD", "zh": "不一致"},
    "state-absent": {"en": "in part or not there", "zh": "缺失或者部分缺失"},
    "state-not-applicable": {"en": "does not apply", "zh": "不适用"},
    "role-step": {"en": "step", "zh": "程序"},
    "role-evidence": {"en": "evidence", "zh": "证据"},
    "role-decision": {"en": "decision", "zh": "决定"},
    "role-custody": {"en": "custody", "zh": "保管"},
    "role-derived": {"en": "derived copy", "zh": "衍生件"},
}


def case_json(result: CaseResult, lang: str) -> dict[str, Any] | None:
    """The member `facts` of a case file; None where nothing could be read."""
    facts = result.facts
    if facts is None:
        return None
    case = facts.case
    key = facts.key
    return {
        "kind": "case-file",
        "case": case.case,
        "department": {"id": facts.department.id, "name": facts.department.name},
        "consortium": case.consortium,
        "exported_for": case.exported_for,
        "log_size": case.log_size,
        "signed_at": facts.signed_at,
        "key": None if key is None else {"kid": key.kid, "valid_from": key.valid_from, "valid_to": key.valid_to},
        "files": facts.files,
        "octets": facts.octets,
        "trust_same": facts.trust_same,
        "levels": [_level_json(facts, level, lang) for level in LEVELS],
        "items": [_item_json(facts, report, lang) for report in facts.items],
        "decisions": [
            {"n": d.decision.n, "count": d.decision.count, "found": d.found, "missing": d.missing}
            for d in facts.decisions
        ],
        "gaps": [asdict(gap) for gap in case.gaps],
        "control": [
            {"department": department, "rows": [row.members(lang) for row in rows]}
            for department, rows in sorted(facts.control.items())
        ],
        "findings": [{"level": finding.level} | finding_json(finding, lang) for finding in result.findings],
        "findings_total": result.total,
    }


def finding_json(finding: CaseFinding, lang: str) -> dict[str, Any]:
    """One finding. `message` says the place as well."""
    error = finding.error
    stable = None if isinstance(error, Malformed) else error.reason or None
    return {
        "code": error.code,
        "message": say_finding(finding, lang),
        "reason": stable,
        "path": None if finding.path is None else clean(finding.path),
        "item": finding.item,
    }


def say_finding(finding: CaseFinding, lang: str) -> str:
    """The finding as a sentence that begins with its place: item number and file, where there are any."""
    place = [] if finding.item is None else [fill(LABELS["item"][lang], lang, {"n": finding.item})]
    place += [] if finding.path is None else [clean(finding.path)]
    text = explain(finding.error, lang)
    if not place:
        return text
    return LABELS["place"][lang].format(place=("，" if lang == "zh" else ", ").join(place), text=text)


def case_proven(result: CaseResult, lang: str) -> list[str]:
    """The sentences of the levels that are good throughout."""
    facts = result.facts
    if facts is None:
        return []
    return [line for level in LEVELS if facts.counts[level].state == "good" for line in say_level(facts, level, lang)]


def case_not_proven(result: CaseResult, lang: str) -> list[str]:
    """The sentences of all other levels, and what no case file proves."""
    facts = result.facts
    levels = [] if facts is None else [level for level in LEVELS if facts.counts[level].state != "good"]
    lines = [line for level in levels for line in say_level(facts, level, lang)] if facts else []
    return list(dict.fromkeys(lines + not_proven(lang)))


def case_gaps(result: CaseResult, lang: str) -> list[str]:
    """For the end of the text report: what no case file proves; of what could not be read, that it proves nothing."""
    return not_proven(lang) if result.facts else [sentence("not-anything", lang)]


def case_text(result: CaseResult, lang: str, layout: Layout) -> Iterator[str]:
    """The part of the text report about one case file, a line each."""
    yield from _findings_text(result, lang, layout)
    facts = result.facts
    if facts is None:
        return
    colon = "：" if lang == "zh" else ": "
    yield from layout.item(f"  {LABELS['case-file'][lang]}{colon}", clean(facts.case.case))
    yield from layout.item("  ", f"{say(facts.department, lang)}, {say(Moment(facts.signed_at), lang)}")
    for number, level in enumerate(LEVELS, 1):
        count = facts.counts[level]
        state = layout.verdict(LABELS[f"state-{count.state}"][lang], count.state == "good")
        counts = fill(LABELS["counts"][lang], lang, {"good": count.good, "bad": count.bad, "absent": count.absent})
        yield ""
        yield f"  {number}. {layout.heading(LABELS[f'level-{level}'][lang])}{colon}{state} ({counts})"
        for line in say_level(facts, level, lang):
            yield from layout.item("     ", line)
    yield from ("", "  " + layout.heading(LABELS["items"][lang]))
    amends = {by: n for n, all_by in facts.amended.items() for by in all_by}
    for report in facts.items:
        yield from _item_text(report, _amended_text(facts, report, amends, lang), lang, layout)
    if facts.case.gaps:
        yield from ("", "  " + layout.heading(LABELS["gaps"][lang]))
        for gap in facts.case.gaps:
            yield from layout.item("    ", clean(gap.zh if lang == "zh" else gap.en))


def _findings_text(result: CaseResult, lang: str, layout: Layout) -> Iterator[str]:
    if not result.findings:
        return
    yield "  " + layout.heading(LABELS["findings"][lang])
    for finding in result.findings[:MAX_SHOWN_FINDINGS]:
        yield from layout.item("  - ", say_finding(finding, lang))
    if result.total > MAX_SHOWN_FINDINGS:
        yield "    " + fill(LABELS["findings-more"][lang], lang, {"count": result.total - MAX_SHOWN_FINDINGS})
    yield ""


def _amended_text(facts: CaseFacts, report: ItemReport, amends: Mapping[int, int], lang: str) -> list[str]:
    """What corrects the item, and what it corrects itself. `amends`: by item, the item that it corrects."""
    by = facts.amended.get(report.item.n, ())
    named = [{"n": n, "time": Moment(facts.items[n - 1].item.sealed_at)} for n in by]
    lines = [fill(LABELS["amended-by"][lang], lang, values) for values in named]
    if report.verified and report.item.amends is not None:
        before = amends.get(report.item.n)
        name = "amends-elsewhere" if before is None else "amends"
        lines.append(fill(LABELS[name][lang], lang, {} if before is None else {"n": before}))
    return lines


def _item_text(report: ItemReport, amended: list[str], lang: str, layout: Layout) -> list[str]:
    item = report.item
    good = report.finding is None
    parts = [LABELS[f"role-{item.role}"][lang], clean(item.name)]
    if item.before_decision is not None:
        parts.append(LABELS["before" if item.before_decision else "after"][lang])
    parts += amended
    parts.append(layout.verdict(LABELS["ok" if good else "not-ok"][lang], good))
    return layout.item(f"  {item.n:4}. ", (" · ").join(parts))


def _level_json(facts: CaseFacts, level: Any, lang: str) -> dict[str, Any]:
    count = facts.counts[level]
    return {
        "level": level,
        "state": count.state,
        "good": count.good,
        "bad": count.bad,
        "absent": count.absent,
        "sentences": say_level(facts, level, lang),
    }


def _item_json(facts: CaseFacts, report: ItemReport, lang: str) -> dict[str, Any]:
    item = report.item
    return {
        "n": item.n,
        "record_id": item.record_id,
        "role": item.role,
        "type": item.type,
        "department": item.department,
        "name": clean(item.name),
        "verdict": "bad" if report.finding else "good",
        "error": finding_json(report.finding, lang) if report.finding else None,
        "before_decision": item.before_decision,
        "amends": item.amends,
        "amended_by": list(facts.amended.get(item.n, ())),
        "sealed_at": item.sealed_at,
        "logged": report.logged,
        "witnessed": report.witnessed,
        "seen_at": report.seen_at,
        "anchored_at": report.anchored_at,
        "stamped_at": list(report.stamped_at),
        "shown": report.units,
        "masked": report.masked,
        "attachments": {"given": report.given, "withheld": len(item.attachments) - report.given},
        "forgotten": item.forgotten,
        "capture": None if report.capture is None else asdict(report.capture),
    }
