"""An example of every request body, by operation, for the OpenAPI document. A test holds them against the schemas."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_RECORD = "0193510b-8c00-7abc-8def-0123456789ab"
_COMPANY = {"kind": "uscc", "value": "91350100M000100Y43"}
_OFFICERS = [{"id": "330299-0101", "name": "王小明"}, {"id": "330299-0102", "name": "李华"}]
_REFERENCE = {"presentation": "eyJhbGciOiJFZERTQSJ9.eyJfc2QiOltdfQ.c2ln~", "receipt": "c2sp.org/tlog-proof@v1\n"}
_TOLD = {"to": "public-health", "record": _REFERENCE}
_INDEX = "c3ViamVjdC1pbmRleC0xMg"
_ATTACH = {"record": _RECORD, "note": "现场检查记录"}
_PARTICIPANTS = {"join": ["public-health"], "leave": []}
_SEARCH = {"state": "open", "subject": _COMPANY}

EXAMPLES: Mapping[str, Any] = MappingProxyType(
    {
        "POST /v1/sign-in": {"login": "wang@fire.example", "password": "three words and more", "code": "123456"},
        "POST /v1/password": {
            "login": "wang@fire.example",
            "password": "three words and more",
            "code": "123456",
            "new_password": "four other words then",
        },
        "POST /v1/accounts": {
            "login": "wang@fire.example",
            "roles": ["officer"],
            "password": "three words and more",
        },
        "PATCH /v1/accounts/{login}": {"roles": ["officer", "supervisor"], "disabled": False},
        "POST /v1/sealed-records": {
            "department": "fire",
            "records": [
                {
                    "key": "terminal-7/17",
                    "mark": _INDEX,
                    "statement": "eyJhbGciOiJFZERTQSJ9.eyJfc2QiOltdfQ.c2ln",
                    "payload": "AAEB",
                    "wrapped_key": "A" * 54,
                    "kek": {
                        "name": _INDEX,
                        "recipient": "uUYRwPafxP1X5ZppzWSJUSt6o9_PgVh4fYBkhj5B4vM",
                        "wrapped": "A" * 107,
                    },
                    "blobs": [],
                }
            ],
        },
        "POST /v1/citizens/decision": {"token": _INDEX},
        "POST /v1/citizen-links": {"record": _RECORD, "address": "https://ledger.example.org"},
        "PUT /v1/citizen-links/{link}/record": {"record": _RECORD},
        "POST /v1/cases/{number}/casefile": {
            "reveal": ["all", "complaint.received=when,nature"],
            "exported_for": "望澜区人民法院",
            "evidence": [{"record_id": _RECORD, "name": "现场照片", "purpose": "证明通道被占用", "page": "3"}],
        },
        "POST /v1/inspections": {
            "kind": "joint",
            "matter": "330299-XF-001",
            "purpose": "joint-inspection",
            "subjects": [_COMPANY],
            "participants": ["public-health"],
            "days": 30,
        },
        "POST /v1/inspections/search": _SEARCH,
        "POST /v1/inspections/{number}/records": _ATTACH,
        "POST /v1/inspections/{number}/participants": _PARTICIPANTS,
        "POST /v1/inspections/{number}/close": {"outcome": "completed", "reason": "检查完毕"},
        "POST /v1/cases": {
            "kind": "ordinary",
            "matter": "330299-XF-001",
            "purpose": "case-investigation",
            "subjects": [_COMPANY],
            "participants": ["public-health"],
            "officers": _OFFICERS,
            "cause": "占用疏散通道",
        },
        "POST /v1/cases/search": _SEARCH,
        "POST /v1/cases/{number}/records": _ATTACH,
        "POST /v1/cases/{number}/participants": _PARTICIPANTS,
        "POST /v1/cases/{number}/close": {"outcome": "decided", "reason": "已作出处罚决定"},
        "POST /v1/tracker": {"subject": _COMPANY, "purpose": "答复当事人查询", "limit": 20},
        "POST /v1/duplicate-checks": {"subjects": [_COMPANY], "matters": ["330299-XF-001"], "days": 365},
        "POST /v1/duplicate-checks/answers": {
            "owner": "public-health",
            "indexes": [_INDEX],
            "matters": ["330299-XF-001"],
            "days": 365,
        },
        "POST /v1/grants": {
            "grantee": "public-health",
            "record_types": ["inspection.report"],
            "units": ["facility", "result"],
            "purposes": ["joint-inspection"],
            "case_kinds": ["joint"],
            "per_day": 1_000,
            "valid_to": "2027-01-01T00:00:00+08:00",
        },
        "POST /v1/extractions": {
            "owner": "fire",
            "purpose": "joint-inspection",
            "reference": _REFERENCE,
            "subjects": [_INDEX],
            "types": ["inspection.report"],
        },
        "POST /v1/extractions/closings": {"owner": "fire", "reference": _REFERENCE},
        "POST /v1/recalls": {"record": _RECORD, "reason_kind": "error", "reason": "登记错误", "asks": "stop-using"},
        "POST /v1/recalls/received/{received}/acknowledge": {"done": "stopped-using"},
        "POST /v1/recalls/notices": _TOLD,
        "POST /v1/recalls/acknowledgements": _TOLD,
        "POST /v1/emergencies": {
            "owner": "public-health",
            "kind": "inspection",
            "number": "LH-2026-0012",
            "reason": "现场人员受伤，需立即核实",
        },
        "POST /v1/emergencies/{emergency}/justify": {"outcome": "justified", "justification": "情况属实"},
        "POST /v1/emergencies/justifications": _TOLD,
        "POST /v1/subscriptions": {
            "url": "https://hooks.example.org/yunxi",
            "events": ["record.sealed"],
            "types": ["inspection.report"],
        },
        "POST /v1/subscriptions/{subscription}/dead/replay": {"events": ["1099511627776-0"]},
    }
)
