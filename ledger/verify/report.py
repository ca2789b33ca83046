"""The verifier's answer, as JSON for programs and as text for people.

    {"verdict": "good" | "bad" | "could-not-run",
     "error": {"code", "message"} | null          where no file was examined at all
     "trust": {"file", "sha256", "consortium"} | null,
     "files": [{"file", "verdict", "error": {"code", "message"} | null, "facts": {…} | null,
                "proven": [sentence …], "not_proven": [sentence …]}]}

For case files `facts` and `error` are those of ledger/verify/case_report.py.

Times in `facts` are whole seconds since 1970, roots and digests lowercase hex. Sentences are in the language asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ledger.errors import YunxiError
from ledger.verify import case_report
from ledger.verify.bundle import Finding
from ledger.verify.control import control
from ledger.verify.facts import Attachment, Cosigned, Facts, Logged, Unit
from ledger.verify.layout import Layout
from ledger.verify.refusals import explain
from ledger.verify.sentences import not_proven, proven, sentence
from ledger.verify.words import clean, say

Verdict = Literal["good", "bad", "could-not-run"]

MAX_SHOWN_CHARACTERS = 500
"""How much of one value the text report shows; JSON has all of it."""

_LABELS = {
    "good": {"en": "VERIFIED", "zh": "核验通过"},
    "bad": {"en": "NOT VERIFIED", "zh": "核验不通过"},
    "could-not-run": {"en": "COULD NOT RUN", "zh": "未能核验"},
    "proven": {"en": "What is proven", "zh": "已证明的事项"},
    "still_proven": {"en": "What is proven nevertheless", "zh": "虽未通过核验，仍可证明的事项"},
    "not_proven": {"en": "What is NOT proven", "zh": "未能证明的事项"},
    "control": {"en": "Who controls what, as the trust file says it", "zh": "各环节由谁控制（以信任文件所载为准）"},
    "content": {"en": "What the record says, as far as it is shown", "zh": "记录内容（已出示部分）"},
    "trust": {"en": "Trust file", "zh": "信任文件"},
    "consortium": {"en": "consortium", "zh": "所属联盟"},
    "result": {"en": "Result", "zh": "核验结论"},
    "record": {"en": "Record", "zh": "记录"},
    "type": {"en": "type", "zh": "类型"},
    "department": {"en": "department", "zh": "部门"},
    "matter": {"en": "matter", "zh": "事项"},
    "case": {"en": "case", "zh": "案件"},
    "inspection": {"en": "inspection", "zh": "联合检查"},
    "amends": {"en": "amends record", "zh": "更正的记录"},
    "id": {"en": " ({})", "zh": "（{}）"},
    "colon": {"en": ": ", "zh": "："},
    "comma": {"en": ", ", "zh": "，"},
    "more": {"en": "… ({} more characters; --json shows all)", "zh": "……（另有{}个字符，使用 --json 可查看全文）"},
    "all-good": {
        "en": "All files handed in are verified ({total}).",
        "zh": "所提交的文件全部核验通过（共{total}个）。",
    },
    "some-bad": {
        "en": "{bad} of {total} files are NOT verified.",
        "zh": "所提交的{total}个文件中，{bad}个核验不通过。",
    },
    "nothing": {"en": "No file was examined. ", "zh": "未对任何文件进行核验。"},
} | case_report.LABELS


@dataclass(frozen=True, slots=True)
class TrustFile:
    """Which trust file the answer rests on."""

    file: str
    sha256: str
    consortium: str


@dataclass(frozen=True, slots=True)
class Report:
    """The whole answer. With an `error` of its own, no file was examined."""

    trust: TrustFile | None
    findings: tuple[Finding, ...] = ()
    error: YunxiError | None = None

    @property
    def verdict(self) -> Verdict:
        """Good only if every file is."""
        if self.error is not None:
            return "bad" if self.error.exit_code == 1 else "could-not-run"
        return "bad" if not self.findings or any(f.error for f in self.findings) else "good"

    @property
    def exit_code(self) -> int:
        """0 good, 1 a finding, 2 could not run."""
        return {"good": 0, "bad": 1, "could-not-run": 2}[self.verdict]


def to_json(report: Report, lang: str) -> dict[str, Any]:
    """The answer in the shape that this module's text fixes."""
    return {
        "verdict": report.verdict,
        "error": _error_json(report.error, lang),
        "trust": asdict(report.trust) if report.trust else None,
        "files": [_finding_json(finding, lang) for finding in report.findings],
    }


def to_text(report: Report, lang: str, layout: Layout) -> str:
    """The answer for people, ending in a newline."""
    lines: list[str] = []
    if report.trust is not None:
        lines += _trust_text(report.trust, lang, layout)
    for finding in report.findings:
        lines += ["", *_finding_text(finding, lang, layout)]
    lines += ["", *_result_text(report, lang, layout)]
    return "\n".join(lines).lstrip("\n") + "\n"


# --- sentences of one file ---


def _proven(finding: Finding, lang: str) -> list[str]:
    facts, attachment = finding.facts, finding.attachment
    if finding.case is not None:
        return case_report.case_proven(finding.case, lang)
    if facts is None:
        return []
    if finding.given.kind == "record":
        return proven(facts, finding.attachments, lang)
    if finding.given.kind == "evidence":
        return [sentence("evidence-of", lang, record=facts.record_id)]
    if finding.given.kind in ("time", "renewals"):
        return [sentence(f"{finding.given.kind}-of", lang, record=facts.record_id)]
    if attachment is None:
        return [sentence("receipt-of", lang, record=facts.record_id)]
    return [sentence("attachment-of", lang, name=attachment.name, record=facts.record_id)]


def _not_proven(finding: Finding, lang: str) -> list[str]:
    if finding.case is not None and finding.case.facts is not None:
        return case_report.case_not_proven(finding.case, lang)
    if finding.facts is None:
        return [sentence("not-anything", lang)]
    if finding.given.kind == "record":
        return not_proven(finding.facts, finding.attachments, lang)
    return [sentence("not-see-record", lang)]


# --- JSON ---


def _finding_json(finding: Finding, lang: str) -> dict[str, Any]:
    return {
        "file": clean(finding.given.name),
        "verdict": "bad" if finding.error else "good",
        "error": _cause_json(finding, lang),
        "facts": _facts_json(finding, lang),
        "proven": _proven(finding, lang),
        "not_proven": _not_proven(finding, lang),
    }


def _error_json(error: YunxiError | None, lang: str) -> dict[str, str] | None:
    return {"code": error.code, "message": explain(error, lang)} if error else None


def _cause_json(finding: Finding, lang: str) -> dict[str, Any] | None:
    if finding.case is not None and finding.case.findings:
        return case_report.finding_json(finding.case.findings[0], lang)
    return _error_json(finding.error, lang)


def _facts_json(finding: Finding, lang: str) -> dict[str, Any] | None:
    facts = finding.facts
    if finding.case is not None:
        return case_report.case_json(finding.case, lang)
    if facts is None:
        return None
    if finding.attachment is not None:
        return {"kind": "attachment", "record_id": facts.record_id} | asdict(finding.attachment)
    if finding.given.kind == "receipt":
        return {"kind": "receipt", "record_id": facts.record_id, "log": _logged_json(facts.logged)}
    if finding.given.kind in ("evidence", "time", "renewals"):
        return {"kind": finding.given.kind, "record_id": facts.record_id, "log": _logged_json(facts.logged)}
    return {
        "kind": "record",
        "record_id": facts.record_id,
        "type": facts.type,
        "version": facts.version,
        "references": facts.references,
        "consortium": facts.consortium,
        "department": {"id": facts.department.id, "name": facts.department.name},
        "key": {"kid": facts.key.kid, "valid_from": facts.key.valid_from, "valid_to": facts.key.valid_to},
        "sealed_at": facts.sealed_at,
        "units": [_unit_json(unit) for unit in facts.units],
        "masked": facts.masked,
        "attachments": [_attachment_json(a, finding.attachments) for a in facts.attachments],
        "engine": facts.engine,
        "log": _logged_json(facts.logged),
        "control": [row.members(lang) for row in control(facts)],
    }


def _unit_json(unit: Unit) -> dict[str, Any]:
    return {"name": unit.name, "members": unit.members}


def _attachment_json(attachment: Attachment, handed_in: Sequence[tuple[str, Attachment]]) -> dict[str, Any]:
    return asdict(attachment) | {"files": [clean(name) for name, other in handed_in if other == attachment]}


def _logged_json(logged: Logged | None) -> dict[str, Any] | None:
    if logged is None:
        return None
    return {
        "origin": logged.origin,
        "index": logged.index,
        "size": logged.size,
        "root": logged.root.hex(),
        "cosigned": [_cosigned_json(c) for c in logged.cosigned],
        "quorum": logged.quorum,
        "anchor": logged.anchor.members() if logged.anchor else None,
        "on_chain": asdict(logged.on_chain) if logged.on_chain else None,
        "times": [asdict(stamped) for stamped in logged.times],
    }


def _cosigned_json(cosigned: Cosigned) -> dict[str, Any]:
    return asdict(cosigned)


# --- text ---


def _label(name: str, lang: str) -> str:
    return _LABELS[name][lang]


def _trust_text(trust: TrustFile, lang: str, layout: Layout) -> list[str]:
    colon = _label("colon", lang)
    lines = layout.item(_label("trust", lang) + colon, clean(trust.file))
    lines += layout.item("  " + _label("consortium", lang) + colon, clean(trust.consortium))
    return lines + layout.item("  SHA-256" + colon, trust.sha256)


def _finding_text(finding: Finding, lang: str, layout: Layout) -> Iterator[str]:
    verdict: Verdict = "bad" if finding.error else "good"
    yield layout.verdict(_label(verdict, lang), verdict == "good") + "  " + clean(finding.given.name)
    if finding.case is not None:
        yield from case_report.case_text(finding.case, lang, layout)
        yield from ("", "  " + layout.heading(_label("not_proven", lang)))
        for number, text in enumerate(case_report.case_gaps(finding.case, lang), 1):
            yield from layout.item(f"  {number:2}. ", text)
        return
    if finding.error is not None:
        yield from layout.item("  ", explain(finding.error, lang))
    if finding.given.kind == "record" and finding.facts is not None:
        yield from _record_text(finding, finding.facts, lang, layout)
        return
    for text in _proven(finding, lang) + _not_proven(finding, lang):
        yield from layout.item("  ", text)


def _record_text(finding: Finding, facts: Facts, lang: str, layout: Layout) -> Iterator[str]:
    yield from layout.item("  ", _title(facts, lang))
    proven_heading = "still_proven" if finding.error else "proven"
    for heading, sentences in ((proven_heading, _proven(finding, lang)), ("not_proven", _not_proven(finding, lang))):
        yield from ("", "  " + layout.heading(_label(heading, lang)))
        for number, text in enumerate(sentences, 1):
            yield from layout.item(f"  {number:2}. ", text)
    yield from ("", "  " + layout.heading(_label("control", lang)))
    for part, hands in (row.text(lang) for row in control(facts)):
        yield from layout.item(f"    {part}{_label('colon', lang)}", hands)
    if facts.units:
        yield from ("", "  " + layout.heading(_label("content", lang)))
        yield from _content(facts, lang, layout)


def _title(facts: Facts, lang: str) -> str:
    colon, comma = _label("colon", lang), _label("comma", lang)
    department_id = _label("id", lang).format(facts.department.id)
    parts = [
        f"{_label('record', lang)} {facts.record_id}",
        f"{_label('type', lang)}{colon}{clean(facts.type)} v{facts.version}",
        f"{_label('department', lang)}{colon}{say(facts.department, lang)}{department_id}",
    ]
    return comma.join(parts + [f"{_label(n, lang)}{colon}{clean(v)}" for n, v in facts.references.items()])


def _content(facts: Facts, lang: str, layout: Layout) -> Iterator[str]:
    for unit in facts.units:
        yield f"    {clean(unit.name)}"
        for name, value in unit.members.items():
            yield from layout.item(f"      {clean(name)}: ", _shown(value, lang))


def _shown(value: Any, lang: str) -> str:
    text = clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    if len(text) <= MAX_SHOWN_CHARACTERS:
        return text
    return text[:MAX_SHOWN_CHARACTERS] + _label("more", lang).format(len(text) - MAX_SHOWN_CHARACTERS)


def _result_text(report: Report, lang: str, layout: Layout) -> list[str]:
    good = report.verdict == "good"
    bad, total = sum(1 for finding in report.findings if finding.error), len(report.findings)
    if report.error is not None:
        text = _label("nothing", lang) + explain(report.error, lang)
    else:
        text = _label("all-good" if good else "some-bad", lang).format(total=total, bad=bad)
    head = _label("result", lang) + _label("colon", lang)
    return [layout.verdict(head + _label(report.verdict, lang), good), *layout.item("", text)]
