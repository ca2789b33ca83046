"""The report of an audit: JSON and PDF, sealed as a record that the ordinary verifier checks; and which cause comes
first."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import orjson
import pytest

from ledger.audit import CRITICAL, WARNING, Finding, LogReport, NodeAudit, audit_nodes
from ledger.audit.findings import causes_of, severity_of
from ledger.audit.report import FULL, Circumstances, make_report, seal_report, write_pdf, write_report
from ledger.formats.sdjwt import parse_presentation
from ledger.store.models import position_of
from ledger.trust import export_trust
from ledger.verify import Verifier
from tests.fixtures.nodes import SIZE, Built, Rows

AROUND = Circumstances("test.example", "health", 1_780_000_000, 1_780_000_100, FULL)


def damaged() -> NodeAudit:
    report = LogReport("fire", "test.example/fire", 10, records=10, chain_asked=True)
    report.add("root-differs-from-chain", "size 8", "the chain holds another root for size 8", 8)
    report.add("root-differs-from-chain", "size 10", "the chain holds another root for size 10", 10)
    report.add("clock-back", "entry 3", "record 3 was acknowledged before the one in front of it", 3)
    report.add("in-flight", "page 1", "not there yet")
    return NodeAudit((report,), None)


def test_the_report_says_what_was_found_and_what_follows_from_what() -> None:
    report = make_report(damaged(), AROUND)
    value = report.value
    assert (value["verdict"], value["critical"], value["warnings"], value["notices"]) == ("findings", 2, 1, 1)
    causes = [(each["kind"], each["consequences"]) for each in value["causes"]]
    assert causes == [("root-differs-from-chain", {"root-differs-from-chain": 1}), ("clock-back", {})]
    assert json.loads(report.json) == value
    assert report.json == orjson.dumps(value, option=orjson.OPT_SORT_KEYS) + b"\n"
    assert report.sha256 == hashlib.sha256(report.json).hexdigest()


def test_without_the_chain_nothing_is_concluded() -> None:
    found = NodeAudit((LogReport("fire", "test.example/fire", 0),), "it does not answer")
    assert make_report(found, AROUND).value["verdict"] == "undecided"


def test_the_pdf_is_one_and_the_same(tmp_path: Path) -> None:
    report = make_report(damaged(), AROUND)
    pdf = write_pdf(report)
    assert pdf.startswith(b"%PDF-")
    assert pdf == write_pdf(report)
    assert [path.name for path in write_report(tmp_path / "new", report, pdf)] == ["report.json", "report.pdf"]
    assert (tmp_path / "new" / "report.json").read_bytes() == report.json


def test_the_report_is_a_record_that_binds_its_files(built: Built, tampered: Path) -> None:
    Rows(tampered).flip("vault", "payload", f"position = {position_of(1, 7)}")
    node = built.open(tampered)
    try:
        report = make_report(audit_nodes([node]), AROUND)
        sealed = seal_report(node.intake, report, b"%PDF-1.7")
        again = seal_report(node.intake, report, b"%PDF-1.7")
        assert (sealed.record_id, again.new) == (again.record_id, False)
        with node.database.reading() as connection:
            presentation = node.reader.present(connection, sealed.record_id, None)
            file = b"".join(node.reader.attachment(connection, sealed.record_id, 1))
        Verifier(export_trust(node)).verify(presentation, None)
        record = parse_presentation(presentation).record()
        assert file == report.json
        assert (record["type"], record["department"], record["verdict"]) == ("audit.reported", "health", "findings")
        assert record["report_sha256"] == report.sha256 == record["attachments"][0]["sha256"]
        assert record["first_cause"].startswith("fire, entry 7: the stored ciphertext")
        assert record["logs"][0] == {"department": "fire", "size": SIZE, "findings": 1}
    finally:
        node.close()


# ---- which cause comes first ---------------------------------------------------------------------------------------


def report_of(department: str, *findings: tuple[str, int | None, str | None]) -> LogReport:
    report = LogReport(department, f"test.example/{department}", 100)
    for kind, index, record_id in findings:
        report.add(kind, "somewhere", kind, index, record_id)
    return report


def causes(*reports: LogReport) -> list[tuple[str, str]]:
    return [(cause.first.department, cause.first.kind) for cause in causes_of(reports)]


def test_a_log_that_was_cut_explains_what_is_missing_in_it() -> None:
    cut = report_of("fire", ("rolled-back", 50, None), ("head-differs", 50, None), ("entry-missing", 50, None))
    assert causes(cut) == [("fire", "rolled-back")]


def test_a_record_that_was_changed_explains_what_it_said() -> None:
    one = report_of("fire", ("statement-changed", 7, "a"), ("feed-report-unreadable", None, "a"))
    assert causes(one) == [("fire", "statement-changed")]


def test_a_log_that_is_gone_explains_what_the_other_side_lacks() -> None:
    gone = report_of("fire", ("log-missing", 0, None))
    other = LogReport("health", "test.example/health", 10)
    other.add("not-made", "page 1", "health got it, fire does not say so", 3, "b", others=("fire",))
    other.add("not-made", "page 2", "health got it, water does not say so", 4, "c", others=("water",))
    found = causes_of([gone, other])
    assert [(cause.first.kind, dict(cause.consequences)) for cause in found] == [
        ("log-missing", {"not-made": 1}),
        ("not-made", {}),
    ]


def test_a_root_that_differs_explains_later_roots_and_no_payload() -> None:
    roots = report_of(
        "fire", ("payload-changed", 3, "a"), ("root-differs-from-chain", 50, None), ("head-differs", 100, None)
    )
    assert causes(roots) == [("fire", "payload-changed"), ("fire", "root-differs-from-chain")]


def test_critical_causes_come_before_warnings() -> None:
    one = report_of("fire", ("clock-back", 1, "a"))
    other = report_of("health", ("payload-changed", 9, "b"))
    assert causes(one, other) == [("health", "payload-changed"), ("fire", "clock-back")]


@pytest.mark.parametrize(("kind", "severity"), [("clock-back", WARNING), ("anything-new", CRITICAL)])
def test_what_is_not_known_to_be_harmless_is_critical(kind: str, severity: str) -> None:
    assert severity_of(kind) == severity


def test_many_of_one_kind_leave_room_for_another() -> None:
    report = report_of("fire", *[("payload-changed", n, None) for n in range(300)], ("statement-changed", 299, "x"))
    assert (report.counts.total(), len(report.findings)) == (301, 101)
    assert isinstance(report.findings[-1], Finding) and report.findings[-1].kind == "statement-changed"
