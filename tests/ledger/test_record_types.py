"""Record types: what intake lets through, what it refuses and in which words, and what a node will not load."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import Malformed, RecordRefused
from ledger.formats.identifiers import KINDS
from ledger.record_types import (
    ATTACHMENTS,
    BUILT_IN,
    CLEAR,
    MAX_RECORD_BYTES,
    RecordTypes,
    parse_instant,
)

Record = dict[str, Any]
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC).timestamp()
TYPES = RecordTypes.load(BUILT_IN)
ANOTHER = "0193510b-8c00-7abc-9def-00000000000a"

OFFICERS = [{"id": "XF0001", "name": "甲一"}, {"id": "XF0002", "name": "乙二"}]
COMPANY = {"kind": "uscc", "value": "91350100M000100Y43", "name": "望澜某某有限公司", "role": "被检查单位"}
ENVELOPE: Record = {
    "id": "0193510b-8c00-7abc-8def-0123456789ab",
    "v": 1,
    "department": "fire",
    "matter": "330299-XF-001",
    "subjects": [COMPANY],
    "place": {"address": "望澜区桃溪路12号", "latitude": "29.912345", "longitude": "121.512345", "datum": "GCJ-02"},
    "occurred_at": "2026-03-02T09:15:00+08:00",
    "source": {"system": "消防监督系统", "mapping": "fire-findings", "version": "1", "row": "line 12"},
}
PHOTO = {"name": "a.png", "media_type": "image/png", "size": 3, "sha256": "00" * 32}

ROWS = {"read": 3, "sealed": 2, "known": 0, "quarantined": 1, "probes": 0, "late": 0, "back_dated": 0}

CAPTURE: Record = {
    "capture": {
        "device": "PDA-07",
        "operator": "XF0001",
        "confirmed_by": ["XF0001", "XF0002"],
        "clock": "measured",
        "clock_offset_ms": -120,
        "clock_error_ms": 35,
        "clock_age_s": 7200,
    },
    "captured_at": "2026-03-02T09:15:10+08:00",
    "sealed_at": "2026-03-02T09:16:00+08:00",
}

# one full record of every type
GOOD: dict[str, Record] = {
    "inspection.finding": {
        **CAPTURE,
        "inspection": "综查〔2026〕12号",
        "occurred_precision": "minute",
        "officers": OFFICERS,
        "item": "疏散通道",
        "requirement": "消防法第二十八条",
        "result": "fail",
        "severity": "serious",
        "observation": "二层疏散通道堆放货物。\n占用约三分之一宽度。",
        "measurements": [{"quantity": "通道净宽", "value": "0.82", "unit": "m", "limit": "1.10", "instrument": "卷尺"}],
        "measures": "责令立即清理。",
        "rectify_by": "2026-03-09",
        "recordings": ["REC-0915"],
        "party_statement": "当天到货。",
        "attachments": [PHOTO, PHOTO],
    },
    "inspection.report": {
        **CAPTURE,
        "facility_name": "某某餐饮店",
        "facility_kind": "餐饮",
        "risk": "B",
        "inspection_kind": "双随机",
        "result": "基本符合",
        "violations": [{"code": "3.1", "text": "留样不全", "severity": "minor"}],
        "critical_violations": 0,
        "serious_violations": 0,
        "minor_violations": 1,
        "summary": "基本符合要求。",
        "follow_up": "限期整改。",
        "rectify_by": "2026-03-20",
    },
    "licence.issued": {
        "licence_number": "WL-2026-0001",
        "licence_code": "SPJY",
        "description": "食品经营许可证",
        "legal_name": "望澜某某有限公司",
        "trading_name": "某某小馆",
        "account_number": "0001",
        "activity": "热食类食品制售",
        "application_type": "新办",
        "term_start": "2026-03-01",
        "term_end": "2031-02-28",
        "status": "有效",
        "conditions": "不含冷食。",
    },
    "complaint.received": {
        "complaint_number": "TS-1",
        "channel": "12345",
        "nature": "消防通道被占",
        "description": "经常有车停放。",
        "complainant": {"name": "丙三", "phone": "000-0001"},
        "status": "已办结",
        "closed_on": "2026-03-02",
        "handled_by": "桃溪中队",
        "reply": "已清理。",
    },
    "traffic.violation": {
        **CAPTURE,
        "subjects": [COMPANY, {"kind": "plate", "value": "浙Y·12345"}],
        "violation_code": "1039",
        "violation": "违法停车",
        "vehicle": {"kind": "重型罐式货车", "colour": "白", "plate_colour": "yellow"},
        "cargo": {"goods": "汽油", "un_number": "UN1203", "permit": "WL-7", "quantity": "18 t"},
        "device": {"id": "CAM-1", "kind": "固定", "location_published": True},
        "measurement": {"quantity": "停留时间", "value": "7", "unit": "min", "limit": "0"},
        "legal_review": "passed",
        "technical_review": "pending",
        "notified_at": "2026-03-02T09:15:07+08:00",
        "notice_channel": "短信",
        "fine_fen": 20000,
        "points": 3,
    },
    "photo.taken": {
        **CAPTURE,
        "caption": "消防通道",
        "shows": "scene",
        "device": {"id": "CAM-1", "operator": "甲一", "clock_offset_seconds": -2},
        "concerns": [ANOTHER],
        "attachments": [PHOTO],
    },
    "media.captured": {
        **CAPTURE,
        "caption": "消防通道",
        "shows": "scene",
        "concerns": [ANOTHER],
        "media_facts": [
            {
                "attachment": 1,
                "format": "JPEG",
                "width": 4000,
                "height": 3000,
                "orientation": 6,
                "taken_at": "2026-03-02T09:15:00.120+08:00",
                "make": "某牌",
                "model": "X1",
                "serial": "SN-1",
                "software": "1.0",
            },
            {"attachment": 2, "format": "MP4", "duration_ms": 5000, "container_time": "2026-03-02T01:15:00Z"},
        ],
        "media_places": [
            {
                "attachment": 1,
                "latitude": "29.912345",
                "longitude": "121.5",
                "datum": "undeclared",
                "altitude_m": "-3.5",
            }
        ],
        "attachments": [{**PHOTO, "role": "original"}, {**PHOTO, "role": "thumbnail"}],
    },
    "media.derived": {
        "original": {"record": ANOTHER, "attachment": 1, "sha256": "11" * 32},
        "operations": [
            {"operation": "turn-upright"},
            {"operation": "blur", "regions": 1, "parameters": ["region=10,20,30,40"]},
        ],
        "tool": {"name": "yunxi+pillow", "version": "13.0.0"},
        "made_by": OFFICERS[0],
        "reason": "对外公开前遮挡号牌。",
        "attachments": [{**PHOTO, "role": "derivative"}],
    },
    "case.filed": {
        "case": "望消立〔2026〕1号",
        "officers": OFFICERS,
        "cause": "占用消防车通道",
        "cause_code": "XF-28",
        "facts": "见检查记录。",
        "basis": ["消防法第二十八条", "消防法第六十条"],
        "approved_by": {"id": "XF0009", "name": "丁四"},
        "approved_on": "2026-03-02",
        "origin": "inspection",
        "decide_by": "2026-05-31",
        "evidence": [ANOTHER],
        "kind": "ordinary",
        "purpose": "case-investigation",
        "participants": ["health"],
        "account": "a-1",
        "request": "r-1",
    },
    "decision.made": {
        "case": "望消立〔2026〕1号",
        "amends": ANOTHER,
        "officers": OFFICERS,
        "decision_number": "望消罚〔2026〕1号",
        "outcomes": ["fine", "order-to-rectify"],
        "fine_fen": 500000,
        "confiscated_fen": 0,
        "pay_by": "2026-03-17",
        "facts": "占用消防车通道。",
        "reasons": "初次违法。",
        "basis": ["消防法第六十条"],
        "informed_on": "2026-02-20",
        "hearing": "waived",
        "legal_review": {"reviewer": {"id": "FZ01", "name": "戊五"}, "on": "2026-02-28", "opinion": "agree"},
        "service_method": "in-person",
        "served_on": "2026-03-02",
        "remedies": "六十日内可申请行政复议。",
        "manifest": {"size": 7, "root": "ab" * 32, "count": 2, "sha256": "cd" * 32},
    },
    "record.read": {
        "occurred_precision": "second",
        "reader_kind": "person",
        "reader": "a-1",
        "roles": ["officer"],
        "records": [ANOTHER],
        "part": "attachment",
        "attachment": 2,
        "purpose": "核查",
        "channel": "api",
        "request": "r-1",
    },
    "inspection.opened": {
        "inspection": "综查〔2026〕12号",
        "kind": "joint",
        "purpose": "joint-inspection",
        "participants": ["health"],
        "types": ["inspection.report"],
        "days": 365,
        "title": "冬季消防联合检查",
        "account": "a-1",
        "request": "r-1",
    },
    "inspection.closed": {
        "inspection": "综查〔2026〕12号",
        "outcome": "merged",
        "reason": "并入卫健牵头的检查。",
        "merged_into": "综查〔2026〕13号",
        "merged_lead": "health",
        "account": "a-1",
        "request": "r-2",
    },
    "case.closed": {
        "case": "望消立〔2026〕1号",
        "outcome": "decided",
        "reason": "已执行完毕。",
        "account": "a-1",
        "request": "r-3",
    },
    "record.attached": {
        "inspection": "综查〔2026〕12号",
        "record": ANOTHER,
        "owner": "health",
        "leaf": "ab" * 32,
        "record_type": "inspection.report",
        "note": "同一主体。",
        "account": "a-1",
        "request": "r-4",
    },
    "casefile.exported": {
        "case": "望消立〔2026〕1号",
        "occurred_precision": "second",
        "log_size": 345,
        "items": 12,
        "media": True,
        "revealed": ["all"],
        "exported_for": "望澜区人民法院",
        "recipient": "A" * 43,
        "sha256": "ab" * 32,
        "account": "a-1",
        "request": "r-5",
    },
    "disclosure.made": {
        "inspection": "综查〔2026〕12号",
        "occurred_precision": "second",
        "extraction": "0" * 32,
        "page": 1,
        "requester": "health",
        "request_key": "k-1",
        "reference": ANOTHER,
        "lead": "health",
        "purpose": "joint-inspection",
        "case_kind": "food",
        "grants": [{"id": 0, "types": ["inspection.report"]}],
        "records": [{"id": ANOTHER, "index": 0, "type": "inspection.report", "units": ["when", "result"]}],
        "sha256": "00" * 32,
    },
    "disclosure.received": {
        "inspection": "综查〔2026〕12号",
        "occurred_precision": "second",
        "extraction": "0" * 32,
        "page": 1,
        "owner": "health",
        "reference": ANOTHER,
        "lead": "fire",
        "purpose": "joint-inspection",
        "case_kind": "food",
        "records": [{"id": ANOTHER, "index": 0, "type": "inspection.report", "units": []}],
        "sha256": "00" * 32,
        "owner_log": {"size": 1, "root": "A" * 43 + "="},
        "attachments": [PHOTO, PHOTO],
    },
    "disclosure.refused": {
        "inspection": "综查〔2026〕12号",
        "occurred_precision": "second",
        "role": "owner",
        "code": "no-grant",
        "detail": "there is no grant",
        "requester": "health",
        "request_key": "k-1",
        "owner": "fire",
        "extraction": "0" * 32,
        "page": 2,
        "reference": ANOTHER,
        "purpose": "joint-inspection",
        "case_kind": "food",
        "asked": ["inspection.report"],
        "repeats": 3,
        "since": "2026-03-02T09:14:00+08:00",
    },
    "duplicate.checked": {
        "requester": "health",
        "request_key": "k-1",
        "indexes": ["A" * 22],
        "matters": ["330299-XF-001"],
        "days": 90,
        "found": [{"matter": "330299-XF-001", "on": "2026-03-02", "inspection": "综查〔2026〕12号"}],
    },
    "tracker.searched": {
        "account": "a-1",
        "roles": ["supervisor"],
        "purpose": "当事人查询",
        "found": 3,
        "request": "r-5",
    },
    "matters.published": {
        "occurred_precision": "second",
        "list_version": 2,
        "as_of": "2026-03-01",
        "list_sha256": "00" * 32,
        "previous_sha256": "11" * 32,
        "matters": 1200,
        "added": 3,
        "changed": 40,
        "ended": 2,
        "removed": 0,
        "retracted": ["330299-XF-001"],
        "backdated": ["330299-XF-002"],
        "file_name": "清单.xlsx",
        "file_sha256": "22" * 32,
        "attachments": [{**PHOTO, "name": "matters.json", "media_type": "application/json"}],
    },
    "note.added": {"text": "已电话联系。", "author": OFFICERS[0], "concerns": [ANOTHER]},
    "sharing.basis": {
        "occurred_precision": "second",
        "shared_type": "police.public-security",
        "grantee": "health",
        "basis": "某某条例第三条",
        "account": "a-1",
    },
    "feed.report": {
        "feed": "fire-findings",
        "seq": 2,
        "since": "2026-03-01T09:15:00+08:00",
        "reached_end": True,
        "next_due": "2026-03-03T09:15:00+08:00",
        "counts": ROWS,
        "totals": ROWS,
        "reasons": [{"reason": "bad-date", "rows": 1}],
        "in_quarantine": 1,
        "parts": [{"part": "a.csv", "read": 3, "late": 0, "at_source": 3, "lowest": "1", "highest": "3"}],
        "further_parts": 0,
        "earliest": "2026-03-01T10:00:00+08:00",
        "latest": "2026-03-02T09:00:00+08:00",
        "log_from": 0,
        "log_to": 9,
        "log_rows": 2,
        "digest": "00" * 32,
        "probe_every": 86400,
    },
    "feed.probe": {"feed": "fire-findings", "token_sha256": "00" * 32, "arrived_at": "2026-03-02T09:20:00+08:00"},
    "feed.withdrawn": {"feed": "fire-findings", "record": ANOTHER},
    "grant.changed": {
        "occurred_precision": "second",
        "change": "revoked",
        "grant": 3,
        "owner": "fire",
        "grantee": "health",
        "granted_at": "2026-03-01T09:15:00+08:00",
        "valid_from": "2026-03-01T09:15:00+08:00",
        "valid_to": "2027-03-01T09:15:00+08:00",
        "revoked_at": "2026-03-02T09:15:00+08:00",
    },
    "record.recalled": {
        "amends": ANOTHER,
        "reason_kind": "error",
        "reason": "当事人登记有误。",
        "asks": "replace",
        "replaced_by": ANOTHER,
        "record_type": "inspection.report",
        "account": "a-1",
        "request": "r-7",
    },
    "recall.received": {
        "notice": ANOTHER,
        "kind": "recall",
        "owner": "health",
        "record": ANOTHER,
        "asks": "stop-using",
        "reason_kind": "unlawful",
        "reason": "取证程序有误。",
        "replaced_by": ANOTHER,
        "owner_log": {"size": 1, "root": "A" * 43 + "="},
    },
    "recall.acknowledged": {
        "role": "owner",
        "notice": ANOTHER,
        "owner": "fire",
        "recipient": "health",
        "record": ANOTHER,
        "done": "stopped-using",
        "note": "已停止使用。",
        "account": "a-1",
        "roles": ["supervisor"],
        "acknowledgement": ANOTHER,
    },
    "emergency.used": {
        "inspection": "综查〔2026〕12号",
        "role": "owner",
        "emergency": ANOTHER,
        "owner": "fire",
        "requester": "health",
        "reference": ANOTHER,
        "lead": "health",
        "extraction": "0" * 32,
        "reason": "现场有人中毒。",
        "types": ["inspection.report"],
        "hours": 24,
        "due_at": "2026-03-03T09:15:00+08:00",
        "account": "a-1",
        "roles": ["officer"],
    },
    "emergency.justified": {
        "role": "owner",
        "emergency": ANOTHER,
        "owner": "fire",
        "requester": "health",
        "outcome": "justified",
        "justification": "情况属实。",
        "late": False,
        "account": "a-2",
        "roles": ["supervisor"],
        "justified_by": ANOTHER,
    },
    "participant.missing": {
        "inspection": "综查〔2026〕12号",
        "participant": "health",
        "lead": "fire",
        "reference": ANOTHER,
        "state": "unreachable",
        "code": "chain-unreachable",
        "missing_since": "2026-03-02T08:15:00+08:00",
        "last_success_at": "2026-03-02T08:00:00+08:00",
    },
    "hold.placed": {"officers": OFFICERS, "scope": "case", "value": "望消立〔2026〕1号", "reason": "法院调取。"},
    "hold.lifted": {"officers": OFFICERS, "hold": ANOTHER, "reason": "案件审结。"},
    "record.destroyed": {
        "officers": OFFICERS,
        "record": ANOTHER,
        "leaf": "00" * 32,
        "record_type": "inspection.report",
        "reason_kind": "retention",
        "basis": "保存期限届满。",
        "files": [{"number": 1, "sha256": "00" * 32}],
        "remains": ["statement", "log-entry"],
    },
    "audit.reported": {
        "begun_at": "2026-03-02T08:15:00+08:00",
        "mode": "full",
        "verdict": "findings",
        "logs": [{"department": "fire", "size": 345, "findings": 1}],
        "records": 345,
        "critical": 1,
        "warnings": 0,
        "notices": 2,
        "first_cause": "fire, entry 7: the statement was changed",
        "report_sha256": "00" * 32,
        "attachments": [PHOTO],
    },
}


def good(name: str) -> Record:
    known = TYPES.get(name, 1).schema["properties"]  # the service's own types have no place, officers or subjects
    shared = {member: value for member, value in ENVELOPE.items() if member in known}
    return copy.deepcopy({**shared, "type": name, **GOOD[name]})


def refusal(record: Any, now: float = NOW) -> RecordRefused:
    with pytest.raises(RecordRefused) as caught:
        TYPES.validate(record, now, by_service=True)
    return caught.value


# ---- the types that ship -----------------------------------------------------------------------------------------


def test_every_type_has_a_good_record_and_no_other_type_exists() -> None:
    assert {kind.name for kind in TYPES} == GOOD.keys()


@pytest.mark.parametrize("name", GOOD)
def test_full_record_is_accepted_and_not_changed(name: str) -> None:
    record = good(name)
    before = copy.deepcopy(record)
    kind = TYPES.validate(record, NOW, by_service=True)
    assert (kind.name, kind.version) == (name, 1)
    assert record == before


BY_SERVICE = {
    "disclosure.made", "disclosure.received", "disclosure.refused", "duplicate.checked", "record.read", "sharing.basis",
    "tracker.searched", "matters.published", "feed.report", "feed.probe", "feed.withdrawn", "inspection.opened",
    "inspection.closed", "record.attached", "recall.received", "recall.acknowledged", "emergency.used",
    "emergency.justified", "participant.missing", "grant.changed", "hold.placed", "hold.lifted",
    "record.destroyed", "casefile.exported", "audit.reported",
}  # fmt: skip


def test_what_only_the_service_seals() -> None:
    assert {kind.name for kind in TYPES if kind.by_service} == BY_SERVICE


@pytest.mark.parametrize("name", sorted(BY_SERVICE))
def test_nobody_hands_in_what_only_the_service_seals(name: str) -> None:
    for record in (good(name), {"type": name, "v": 1}):
        with pytest.raises(RecordRefused, match="only the service seals one") as caught:
            TYPES.validate(record, NOW)
        assert caught.value.reason == "reserved-type"


@pytest.mark.parametrize("name", GOOD)
def test_the_example_uses_every_unit(name: str) -> None:
    kind = TYPES.get(name, 1)
    shown = {kind.member_unit[member] for member in good(name) if member in kind.member_unit}
    assert kind.units.keys() - shown <= {"officers"}


@pytest.mark.parametrize("name", GOOD)
def test_units_divide_the_members(name: str) -> None:
    kind = TYPES.get(name, 1)
    inside = [member for members in kind.units.values() for member in members]
    assert sorted([*inside, *CLEAR, ATTACHMENTS]) == sorted(kind.schema["properties"])
    assert kind.clear == CLEAR
    assert {member: unit for unit, members in kind.units.items() for member in members} == kind.member_unit
    assert (1 if kind.by_service else 8) <= len(kind.units) <= 16
    assert kind.unit_titles.keys() == kind.units.keys()
    assert all(title["zh"] and title["en"] for title in [kind.title, *kind.unit_titles.values()])


@pytest.mark.parametrize("name", GOOD)
def test_every_required_member_is_required(name: str) -> None:
    for member in TYPES.get(name, 1).schema["required"]:
        record = good(name)
        del record[member]
        error = refusal(record)
        assert error.reason == ("unknown-type" if member in ("type", "v") else "schema")


@pytest.mark.parametrize("name", GOOD)
def test_no_type_takes_an_unknown_member(name: str) -> None:
    assert "'colour_of_sky'" in str(refusal(good(name) | {"colour_of_sky": "blue"}))


def _integers(value: Any, path: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _integers(inner, f"{path}/{step}")
    elif isinstance(value, int) and not isinstance(value, bool):
        yield path[1:], value


@pytest.mark.parametrize("name", GOOD)
def test_no_type_takes_a_whole_number_that_is_a_float(name: str) -> None:
    for path, value in [*_integers(good(name))]:
        record = good(name)
        put(path, float(value))(record)
        assert "must not be a floating-point number" in str(refusal(record)), path


# ---- refusals by name --------------------------------------------------------------------------------------------

Change = Callable[[Record], Any]


def put(path: str, value: Any) -> Change:
    """A change that sets the place `path` (slashes between names, numbers for places) to `value`."""

    def change(record: Any) -> None:
        *outer, last = [int(step) if step.isdigit() else step for step in path.split("/")]
        for step in outer:
            record = record[step]
        record[last] = value

    return change


def drop(path: str) -> Change:
    def change(record: Any) -> None:
        *outer, last = path.split("/")
        for step in outer:
            record = record[step]
        del record[last]

    return change


REFUSED: dict[str, tuple[Change, str, str]] = {
    "unknown type": (put("type", "weather.report"), "unknown-type", "'weather.report'"),
    "unknown version": (put("v", 2), "unknown-type", "version 2"),
    "type is a list": (put("type", ["inspection.finding"]), "unknown-type", "inspection.finding v1"),
    "version is true": (put("v", True), "schema", "$.v must be 1"),
    "version is 1.0": (put("v", 1.0), "schema", "$.v must not be a floating-point"),
    "id is not a UUID": (put("id", "12"), "schema", "$.id must be a UUIDv7"),
    "id is a UUIDv4": (put("id", "0193510b-8c00-4abc-8def-0123456789ab"), "schema", "$.id must be a UUIDv7"),
    "id in upper case": (put("id", "0193510B-8C00-7ABC-8DEF-0123456789AB"), "schema", "$.id"),
    "department in capitals": (put("department", "Fire"), "schema", "$.department must be a department id"),
    "matter with a space": (put("matter", "A 1"), "schema", "$.matter must be a matter code"),
    "empty case number": (put("case", ""), "schema", "$.case"),
    "a clock offset without its error": (drop("capture/clock_error_ms"), "schema", "$.capture"),
    "a capture without a word on the clock": (
        drop("capture/clock"),
        "schema",
        "$.capture must have the member 'clock'",
    ),
    "captured in the future": (
        put("captured_at", "2027-01-01T00:00:00Z"),
        "bad-time",
        "$.captured_at lies in the future",
    ),
    "one officer": (lambda r: r["officers"].pop(), "schema", "$.officers must have at least 2 entries"),
    "one officer twice": (put("officers/1", OFFICERS[0]), "schema", "$.officers"),
    "one certificate under two names": (put("officers/1/id", "XF0001"), "schema", "$.officers must name each officer"),
    "officer without name": (put("officers/0", {"id": "1"}), "schema", "'name'"),
    "officer with more": (put("officers/0/phone", "000"), "schema", "$.officers[0] must not have the member 'phone'"),
    "51 subjects": (put("subjects", [COMPANY] * 51), "schema", "$.subjects must have at most 50 entries"),
    "no subject": (put("subjects", []), "schema", "$.subjects must have at least 1 entry"),
    "unknown identifier kind": (put("subjects/0/kind", "phone"), "bad-identifier", "$.subjects[0]"),
    "wrong check digit": (put("subjects/0/value", "91350100M000100Y44"), "bad-identifier", "wrong check digit"),
    "latitude as a number": (put("place/latitude", 29.9), "schema", "$.place.latitude must not be a floating-point"),
    "latitude of 91": (put("place/latitude", "91"), "schema", "$.place.latitude must be decimal degrees"),
    "longitude of 181": (put("place/longitude", "181.0"), "schema", "$.place.longitude must be decimal degrees"),
    "coordinates without datum": (drop("place/datum"), "schema", "$.place must have the member 'datum'"),
    "unknown datum": (put("place/datum", "BD-09"), "schema", "must be one of: WGS-84, GCJ-02, CGCS2000"),
    "place without content": (put("place", {}), "schema", "$.place must not be empty"),
    "unknown result": (put("result", "合格"), "schema", "must be one of: pass, fail"),
    "text of 201 characters in a line": (put("item", "x" * 201), "schema", "$.item must have at most 200 characters"),
    "line break in a line": (put("item", "a\nb"), "schema", "$.item must be one line of text"),
    "text of 4,001 characters": (put("measures", "x" * 4001), "schema", "at most 4000 characters"),
    "control character in a text": (put("measures", "a\x00b"), "schema", "$.measures must be text"),
    "a day that does not exist": (put("rectify_by", "2026-02-30"), "schema", "$.rectify_by must be a day that exists"),
    "a day in the year 26": (put("rectify_by", "0026-02-20"), "schema", "$.rectify_by must be a day that exists"),
    "reading as a number": (put("measurements/0/value", 1), "schema", "$.measurements[0].value must be text"),
    "null": (put("item", None), "schema", "$.item must be text"),
    "lone surrogate": (put("item", "\ud800"), "schema", "not JSON"),
    "bytes": (put("item", b"x"), "schema", "not JSON"),
    "a Python date": (put("occurred_at", datetime(2026, 3, 2, tzinfo=UTC)), "schema", "not JSON"),
    "not a number": (put("source/row", float("nan")), "schema", "$.source.row"),
    "integer beyond 2^53": (put("attachments/0/size", 2**53), "schema", "$.attachments[0].size must be at most"),
    "digest in upper case": (put("attachments/0/sha256", "AA" * 32), "schema", "$.attachments[0].sha256"),
    "time without offset": (put("occurred_at", "2026-03-02T09:15:00"), "bad-time", "$.occurred_at must be a time"),
    "time with a space": (put("occurred_at", "2026-03-02 09:15:00+08:00"), "bad-time", "RFC 3339"),
    "30 February": (put("occurred_at", "2026-02-30T09:15:00+08:00"), "bad-time", "a time that exists"),
    "hour 24": (put("occurred_at", "2026-03-01T24:00:00+08:00"), "bad-time", "a time that exists"),
    "leap second": (put("occurred_at", "2016-12-31T23:59:60Z"), "bad-time", "a time that exists"),
    "unknown offset": (put("occurred_at", "2026-03-02T09:15:00-00:00"), "bad-time", "RFC 3339"),
    "the future": (put("occurred_at", "2026-03-02T12:05:01Z"), "bad-time", "lies in the future"),
    "the future in another zone": (put("occurred_at", "2026-03-02T20:05:01+08:00"), "bad-time", "future"),
    "before the Republic": (put("occurred_at", "1949-09-30T23:59:59Z"), "bad-time", "is absurd"),
    "too large": (put("observation", "x" * MAX_RECORD_BYTES), "too-large", "1,048,576"),
    "too large, not even the right shape": (put("zzz", ["x" * MAX_RECORD_BYTES]), "too-large", "1,048,576"),
}


@pytest.mark.parametrize(("change", "reason", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(change: Change, reason: str, words: str) -> None:
    record = good("inspection.finding")
    change(record)
    error = refusal(record)
    assert error.reason == reason
    assert words in str(error)


@pytest.mark.parametrize("value", [None, [], "record", 3])
def test_a_record_that_is_no_object(value: Any) -> None:
    assert refusal(value).reason == "schema"


def test_a_record_may_be_exactly_as_large_as_allowed() -> None:
    record = good("complaint.received")
    record["padding"] = ""
    size = len(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode())
    record["padding"] = "x" * (MAX_RECORD_BYTES - size)
    assert refusal(record).reason == "schema"
    record["padding"] += "x"
    assert refusal(record).reason == "too-large"


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-02T12:05:00Z",
        "1949-10-01T00:00:00Z",
        "2026-03-02T09:15:00.123456789-14:00",
        "2013-01-31T00:00:00-06:00",
    ],
)
def test_times_at_the_edge_are_taken(text: str) -> None:
    TYPES.validate(good("inspection.finding") | {"occurred_at": text}, datetime(2026, 3, 3, 12, tzinfo=UTC).timestamp())
    if text.startswith("2026-03-02T12:05"):
        TYPES.validate(good("inspection.finding") | {"occurred_at": text}, NOW)


def test_other_times_are_checked_too() -> None:
    record = good("traffic.violation") | {"notified_at": "2026-03-03T00:00:00Z"}
    assert str(refusal(record)).startswith("$.notified_at lies in the future")


def test_a_traffic_violation_needs_a_plate() -> None:
    error = refusal(good("traffic.violation") | {"subjects": [COMPANY]})
    assert "$.subjects must be a list of subjects with at least one plate" in str(error)


def test_a_photo_needs_its_file() -> None:
    assert "$.attachments must have at least 1 entry" in str(refusal(good("photo.taken") | {"attachments": []}))


SECRETS = {
    "a resident id": ("subjects/0", {"kind": "resident-id", "value": "110105194912310020"}),
    "a name in the wrong place": ("result", "张某某"),
    "a text that is too long": ("item", "张某某" * 80),
    "a statement as a list": ("party_statement", ["张某某"]),
}


@pytest.mark.parametrize(("path", "value"), SECRETS.values(), ids=SECRETS.keys())
def test_messages_do_not_repeat_values(path: str, value: Any) -> None:
    record = good("inspection.finding")
    put(path, value)(record)
    error = refusal(record)
    assert "张" not in str(error)
    assert "110105194912310020" not in str(error)
    # a traceback in a log must not carry the record either
    assert error.__cause__ is None
    assert error.__suppress_context__


@given(st.datetimes(min_value=datetime(1950, 1, 1), max_value=datetime(2026, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
def test_instants_agree_with_the_library(moment: datetime, minutes: int) -> None:
    sign, hours, rest = "+-"[minutes < 0], *divmod(abs(minutes), 60)
    text = f"{moment.isoformat(timespec='microseconds')}{sign}{hours:02d}:{rest:02d}"
    if text.endswith("-00:00"):
        return
    assert parse_instant(text).timestamp() == pytest.approx(moment.replace(tzinfo=UTC).timestamp() - minutes * 60)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "2026-03-02T09:15:00+0800",
        "2026-03-02t09:15:00z",
        "２026-03-02T09:15:00Z",
        "2026-03-02T09:15:00+14:60",
        "2026-03-02T09:15:00Z\n",
    ],
)
def test_instants_that_are_not_rfc_3339(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        parse_instant(text)


# ---- a department's own types ------------------------------------------------------------------------------------


def definition() -> Record:
    """A small sound type, as docs/record-types.md builds it."""
    envelope = ["id", "department", "matter", "case", "inspection", "amends", "officers", "occurred_at", "attachments"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "x-title": {"zh": "消防演练", "en": "Fire drill"},
        "type": "object",
        "additionalProperties": False,
        "required": ["type", "v", "department", "occurred_at", "held_at"],
        "properties": {
            "type": {"const": "fire.drill"},
            "v": {"const": 1},
            **{member: {"$ref": f"envelope.json#/$defs/{member}"} for member in envelope},
            "held_at": {"$ref": "#/$defs/hall"},
            "people": {"type": "integer", "minimum": 0, "maximum": 10000},
            "next_drill_at": {"$ref": "envelope.json#/$defs/instant"},
        },
        "$defs": {"hall": {"type": "string", "maxLength": 80, "description": "the name of the hall"}},
        "x-units": {"drill": ["held_at", "people", "next_drill_at"], "when": ["occurred_at"], "officers": ["officers"]},
        "x-unit-titles": {
            "drill": {"zh": "演练", "en": "Drill"},
            "when": {"zh": "时间", "en": "When"},
            "officers": {"zh": "人员", "en": "Officers"},
        },
    }


def write(directory: Path, schema: Any, name: str = "fire.drill.v1.json") -> Path:
    text = schema if isinstance(schema, str) else json.dumps(schema, ensure_ascii=False)
    (directory / name).write_text(text, "utf-8")
    return directory


def test_a_department_adds_a_type_without_code(tmp_path: Path) -> None:
    types = RecordTypes.load(BUILT_IN, write(tmp_path, definition()))
    record = {
        "type": "fire.drill",
        "v": 1,
        "department": "fire",
        "occurred_at": "2026-03-02T09:15:00+08:00",
        "held_at": "一号礼堂",
        "next_drill_at": "2027-03-02T09:15:00+08:00",
    }
    kind = types.validate(record, NOW)
    assert kind.units["drill"] == ("held_at", "people", "next_drill_at")
    assert len(types) == len(TYPES) + 1
    with pytest.raises(RecordRefused, match=r"\$\.held_at must have at most 80 characters"):
        types.validate(record | {"held_at": "x" * 81}, NOW)


def test_the_example_of_the_guide_is_sound(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "record-types.md").read_text("utf-8")
    example = guide.split("```json\n")[1].split("```")[0]
    (kind,) = RecordTypes.load(write(tmp_path, example))
    assert (kind.name, len(kind.units), kind.times["next_drill_at"]) == ("fire.drill", 8, "any")


def test_the_guide_names_every_type_kind_and_building_block() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "record-types.md").read_text("utf-8")
    envelope = json.loads((BUILT_IN / "envelope.json").read_text("utf-8"))
    inside = {"subject", "attachment"}
    for word in [*GOOD, *KINDS, *envelope["properties"], *(envelope["$defs"].keys() - inside)]:
        assert f"`{word}`" in guide, word


def test_a_second_version_stands_beside_the_first(tmp_path: Path) -> None:
    write(tmp_path, definition())
    second = definition()
    second["properties"]["v"] = {"const": 2}
    types = RecordTypes.load(write(tmp_path, second, "fire.drill.v2.json"))
    assert (types.get("fire.drill", 1).version, types.get("fire.drill", 2).version) == (1, 2)


def test_a_copy_of_the_envelope_may_lie_beside_the_types(tmp_path: Path) -> None:
    write(tmp_path, (BUILT_IN / "envelope.json").read_text("utf-8"), "envelope.json")
    assert len(RecordTypes.load(write(tmp_path, definition()))) == 1


UNSOUND: dict[str, tuple[Change, str]] = {
    "unit lists an unknown member": (put("x-units/drill", ["held_at", "people", "next_drill_at", "cake"]), "'cake'"),
    "member in two units": (put("x-units/when", ["occurred_at", "people"]), "'people' stands in two units"),
    "member twice in one unit": (put("x-units/when", ["occurred_at", "occurred_at"]), "two units, 'when' and 'when'"),
    "member in no unit": (put("x-units/drill", ["held_at", "people"]), "'next_drill_at' belongs to no unit"),
    "clear member in a unit": (put("x-units/when", ["occurred_at", "matter"]), "always stands in clear"),
    "attachments in a unit": (put("x-units/when", ["occurred_at", "attachments"]), "a unit of its own"),
    "unit without members": (put("x-units/extra", []), "must list its members"),
    "no units": (put("x-units", {}), "at least one unit"),
    "unit with a capital": (put("x-units/Drill", ["held_at"]), "lower-case"),
    **{
        f"unit named {name}": (put(f"x-units/{name}", ["held_at"]), "collide")
        for name in ("type", "case", "iss", "subj", "_sd", "_sd_alg", "...", "attachments", "attachment-1")
    },
    "unit without title": (drop("x-unit-titles/when"), "x-unit-titles"),
    "sealed by whom": (put("x-sealed-by", "anybody"), 'x-sealed-by must be "service"'),
    "title in one language": (put("x-title", {"en": "Drill"}), "x-title"),
    "empty title": (put("x-unit-titles/when", {"zh": " ", "en": "When"}), "'when'"),
    "reference to the network": (put("properties/held_at", {"$ref": "https://example.org/hall.json"}), "$ref"),
    "reference to another file": (put("properties/held_at", {"$ref": "hall.json#/$defs/hall"}), "$ref"),
    "reference to nothing": (put("properties/held_at", {"$ref": "#/$defs/hal"}), "leads nowhere"),
    "reference to a place in the envelope": (
        put("properties/held_at", {"$ref": "envelope.json#/properties/id"}),
        "$ref",
    ),
    "reference to itself": (put("$defs/hall", {"$ref": "#/$defs/hall"}), "back to itself"),
    "$id": (put("$id", "https://example.org/"), "'$id'"),
    "misspelt keyword": (put("properties/people/maximun", 3), "'maximun'"),
    "own keyword inside": (put("properties/people/x-secret", True), "'x-secret'"),
    "text without bound": (drop("$defs/hall/maxLength"), "without maxLength"),
    "integer without bound": (drop("properties/people/maximum"), "without maximum"),
    "integer beyond 2^53": (put("properties/people/maximum", 2**53), "2^53"),
    "number": (put("properties/people/type", "number"), "one type of"),
    "several types": (put("properties/people/type", ["string", "integer"]), "one type of"),
    "one of several, a float": (put("properties/people", {"enum": [1, 1.5]}), "floating-point"),
    "a constant with a float inside": (put("properties/people", {"const": {"ratio": [0.5]}}), "floating-point"),
    "no type": (put("properties/people", {"minimum": 0}), "must have a type"),
    "list without bound": (
        put("properties/people", {"type": "array", "items": {"$ref": "#/$defs/hall"}}),
        "without maxItems",
    ),
    "open object": (put("properties/people", {"type": "object", "properties": {}}), "additionalProperties"),
    "open record": (drop("additionalProperties"), "additionalProperties"),
    "time inside an object": (
        put(
            "properties/people",
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {"at": {"$ref": "envelope.json#/$defs/instant"}},
            },
        ),
        "time inside another member",
    ),
    "unknown x-time": (put("properties/held_at", {"type": "string", "maxLength": 40, "x-time": "soon"}), "x-time"),
    "type of another name": (put("properties/type/const", "fire.drills"), "as the file's name says"),
    "version of another number": (put("properties/v/const", 2), "as the file's name says"),
    "envelope member redefined": (put("properties/officers", {"$ref": "#/$defs/hall"}), "belongs to the envelope"),
    "envelope member left out": (drop("properties/amends"), "'amends'"),
    "occurred_at not required": (put("required", ["type", "v", "department"]), "must require occurred_at"),
    "member name with a capital": (put("properties/Hall", {"$ref": "#/$defs/hall"}), "lower-case"),
    "pattern that is no pattern": (put("$defs/hall/pattern", "("), "sound JSON Schema"),
    "pattern that looks back": (put("$defs/hall/pattern", "(?<=a)b"), "sound JSON Schema"),
    "unknown format": (put("$defs/hall/format", "hall-name"), "sound JSON Schema"),
    "keyword of the wrong kind": (put("$defs/hall/maxLength", "80"), "sound JSON Schema"),
}


@pytest.mark.parametrize(("change", "words"), UNSOUND.values(), ids=UNSOUND.keys())
def test_unsound_definition_is_refused_and_named(tmp_path: Path, change: Change, words: str) -> None:
    schema = definition()
    change(schema)
    with pytest.raises(Malformed) as caught:
        RecordTypes.load(write(tmp_path, schema))
    assert str(caught.value).startswith("record type fire.drill.v1.json: ")
    assert words in str(caught.value)


FILES: dict[str, tuple[str, str, str]] = {
    "no version in the name": ("fire.drill.json", json.dumps(definition()), "must be named"),
    "version 0": ("fire.drill.v0.json", json.dumps(definition()), "must be named"),
    "not JSON": ("fire.drill.v1.json", "{", "not JSON"),
    "a list": ("fire.drill.v1.json", "[]", "object"),
    "member twice": ("fire.drill.v1.json", '{"type": "object", "type": "object"}', "twice"),
    "another envelope": ("envelope.json", "{}", "differs from the ledger's own"),
    "a built-in type again": (
        "note.added.v1.json",
        (BUILT_IN / "note.added.v1.json").read_text("utf-8"),
        "defined twice",
    ),
}


@pytest.mark.parametrize(("name", "text", "words"), FILES.values(), ids=FILES.keys())
def test_unsound_file_is_refused_and_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(Malformed) as caught:
        RecordTypes.load(BUILT_IN, write(tmp_path, text, name))
    assert name in str(caught.value)
    assert words in str(caught.value)
