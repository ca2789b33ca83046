"""The audit report: JSON for machines, PDF for people, and a sealed record that binds both to their department.

    report.json    {"format": "yunxi-audit-report", "v": 1, …}    canonical: sorted keys, no spaces, one line feed
    report.pdf     the same for people, Chinese and English
    record         audit.reported in the auditing department's log; the files are its attachments

Whoever has the record's presentation and receipt shows who reported what, and since when, with the ordinary verifier.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson

from ledger.audit.findings import CRITICAL, TALLIES, WARNING, Cause, Finding, severity_of
from ledger.audit.node import NodeAudit
from ledger.errors import CouldNotRun
from ledger.intake import Intake
from ledger.submission import Acknowledged, AttachmentSource, Refused, Submission

FORMAT = "yunxi-audit-report"
REPORTED = "audit.reported"

GOOD, FOUND, UNDECIDED = "good", "findings", "undecided"
FULL, SAMPLED, REMOTE = "full", "sampled", "remote"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Around an audit: who, when (seconds since 1970), how. `seed` of a sample, None for a full audit."""

    consortium: str
    auditor: str
    begun_at: float
    ended_at: float
    mode: str
    seed: int | None = None
    signatures: bool = True


@dataclass(frozen=True, slots=True)
class AuditReport:
    """A finished report. `value` is what `json` holds."""

    value: dict[str, Any]

    @property
    def json(self) -> bytes:
        """report.json."""
        return orjson.dumps(self.value, option=orjson.OPT_SORT_KEYS) + b"\n"

    @property
    def sha256(self) -> str:
        """The digest of report.json, in hex."""
        return hashlib.sha256(self.json).hexdigest()


def make_report(found: NodeAudit, around: Circumstances) -> AuditReport:
    """The report of an audit. Holds what the audit kept: up to 100 findings a log, and the counts of all."""
    counts: Counter[str] = Counter()
    for log in found.logs:
        for kind, number in log.counts.items():
            counts[severity_of(kind)] += number
    causes = found.causes()
    verdict = FOUND if not found.good else GOOD if found.chain_problem is None else UNDECIDED
    return AuditReport(
        {
            "format": FORMAT,
            "v": 1,
            "consortium": around.consortium,
            "auditor": around.auditor,
            "begun_at": _instant(around.begun_at),
            "ended_at": _instant(around.ended_at),
            "mode": around.mode,
            "seed": around.seed,
            "signatures_checked": around.signatures,
            "verdict": verdict,
            "chain_problem": found.chain_problem,
            "critical": counts[CRITICAL],
            "warnings": counts[WARNING],
            "notices": sum(len(log.notices) for log in found.logs),
            "logs": [_log(log) for log in found.logs],
            "causes": [_cause(cause) for cause in causes],
            "notice_list": [_finding(finding) for log in found.logs for finding in log.notices],
        }
    )


def write_pdf(report: AuditReport) -> bytes:
    """report.pdf. Raises CouldNotRun where the machine has no font with Chinese characters."""
    from ledger.paper.parts import Bilingual, Column, Hash, Strong
    from ledger.paper.sheet import Sheet

    value = report.value
    columns = (
        Column(Bilingual("部门", "Department"), 36),
        Column(Bilingual("记录数", "Entries"), 24),
        Column(Bilingual("已查", "Looked at"), 24),
        Column(Bilingual("已开启", "Opened"), 22),
        Column(Bilingual("锚定", "Anchors"), 22),
        Column(Bilingual("见证签名", "Cosignatures"), 22),
        Column(Bilingual("发现", "Findings"), 22),
    )
    wide = (
        Column(Bilingual("级别", "Severity"), 22),
        Column(Bilingual("位置", "Where"), 44),
        Column(Bilingual("内容", "What"), 82),
        Column(Bilingual("后果", "Follows"), 24),
    )
    none = Bilingual("没有。", "None.")
    stream = BytesIO()
    subject = f"{value['consortium']} · {value['auditor']}"
    with Sheet(stream, Bilingual("审计报告", "Audit report"), subject) as sheet:
        sheet.title(Bilingual("审计报告", "Audit report"))
        sheet.paragraph(Strong(Bilingual(*_VERDICTS[value["verdict"]])))
        if value["chain_problem"]:
            sheet.paragraph(
                Bilingual("链无法查询，未与链比对。", f"The chain could not be asked: {value['chain_problem']}")
            )
        sheet.paragraph(Bilingual(*_scope(value)))
        sheet.heading(Bilingual("日志", "Logs"))
        sheet.table(columns, [_log_row(log) for log in value["logs"]])
        sheet.heading(Bilingual("发现（按首要原因）", "Findings, by cause"))
        sheet.table(wide, [_cause_row(cause) for cause in value["causes"]], empty=none)
        sheet.heading(Bilingual("提示", "Notices"))
        sheet.table(wide[:3], [_cause_row(each)[:3] for each in value["notice_list"]], empty=none)
        sheet.heading(Bilingual("报告摘要值", "Digest of report.json"))
        sheet.paragraph(Hash(report.sha256))
    return stream.getvalue()


def seal_report(intake: Intake, report: AuditReport, pdf: bytes | None) -> Acknowledged:
    """Seals the report into the auditing department's log. The same report is the same record.

    Raises what `Intake.submit` raises, and RecordRefused.
    """
    value = report.value
    causes: Sequence[Any] = value["causes"]
    record = {
        "type": REPORTED,
        "v": 1,
        "occurred_at": value["ended_at"],
        "begun_at": value["begun_at"],
        "mode": value["mode"],
        "verdict": value["verdict"],
        "logs": [
            {"department": log["department"], "size": log["size"], "findings": sum(log["counts"].values())}
            for log in value["logs"]
        ],
        "records": sum(log["records"] for log in value["logs"]),
        "critical": value["critical"],
        "warnings": value["warnings"],
        "notices": value["notices"],
        "report_sha256": report.sha256,
    }
    if causes:
        record["first_cause"] = f"{causes[0]['department']}, {causes[0]['where']}: {causes[0]['sentence']}"[:1000]
    files = [AttachmentSource(report.json, "report.json", "application/json")]
    if pdf is not None:
        files.append(AttachmentSource(pdf, "report.pdf", "application/pdf"))
    submission = Submission(f"audit/{report.sha256}", record, tuple(files), by_service=True)
    outcome = intake.submit(value["auditor"], [submission])[0]
    if isinstance(outcome, Refused):
        raise outcome.error
    return outcome


def write_report(directory: Path, report: AuditReport, pdf: bytes | None) -> list[Path]:
    """Writes the files into `directory`, which is made. Raises CouldNotRun where it cannot."""
    files = {"report.json": report.json} | ({"report.pdf": pdf} if pdf is not None else {})
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (directory / name).write_bytes(data)
    except OSError as error:
        raise CouldNotRun(f"{error.filename or directory}: {error.strerror}; name another --report") from error
    return [directory / name for name in files]


_VERDICTS = {
    GOOD: ("未发现不符之处。", "Nothing was found that does not fit."),
    FOUND: ("发现不符之处，见下。", "Something was found that does not fit, see below."),
    UNDECIDED: ("未能与链比对，不作结论。", "The chain could not be asked, so nothing is concluded."),
}
_MODES = {
    FULL: ("逐条全部审计", "every entry"),
    SAMPLED: ("抽样审计", "a sample"),
    REMOTE: ("远程审计（不含内容）", "over the network, without content"),
}
_WORDS = {CRITICAL: "严重 critical", WARNING: "警告 warning", "notice": "提示 notice"}


def _scope(value: dict[str, Any]) -> tuple[str, str]:
    zh, en = _MODES[value["mode"]]
    signatures = value["signatures_checked"]
    return (
        f"范围：{zh}，{value['begun_at']} 至 {value['ended_at']}；{'逐条验签' if signatures else '未逐条验签'}；"
        f"严重 {value['critical']:,}，警告 {value['warnings']:,}，提示 {value['notices']:,}。",
        f"Scope: {en}, from {value['begun_at']} to {value['ended_at']}; "
        f"{'every signature checked' if signatures else 'signatures not checked'}; {value['critical']:,} critical, "
        f"{value['warnings']:,} warnings, {value['notices']:,} notices.",
    )


def _log_row(log: dict[str, Any]) -> list[str]:
    numbers = (log["size"], log["records"], log["payloads"], log["anchors"], log["cosignatures"])
    return [log["department"], *(f"{number:,}" for number in numbers), f"{sum(log['counts'].values()):,}"]


def _cause_row(found: dict[str, Any]) -> list[str]:
    follows = ", ".join(f"{number:,} x {kind}" for kind, number in found.get("consequences", {}).items())
    return [_WORDS[found["severity"]], f"{found['department']}, {found['where']}", found["sentence"], follows or "-"]


def _log(log: Any) -> dict[str, Any]:
    tallies = {name: getattr(log, name) for name in TALLIES}
    return tallies | {
        "department": log.department,
        "origin": log.origin,
        "size": log.size,
        "anchored_size": log.anchored_size,
        "chain_asked": log.chain_asked,
        "sampled": log.sampled,
        "counts": dict(log.counts),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity,
        "kind": finding.kind,
        "department": finding.department,
        "where": finding.where,
        "sentence": finding.sentence,
        "index": finding.index,
        "record_id": finding.record_id,
    }


def _cause(cause: Cause) -> dict[str, Any]:
    return _finding(cause.first) | {"consequences": dict(cause.consequences)}


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
