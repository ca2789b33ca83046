"""A department's own records over HTTP: submitted, listed, read; every reading is in the log before the answer."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from gateway.caller import AUDITOR, OFFICER, PEER, TERMINAL
from ledger.formats.sdjwt import parse_presentation
from ledger.formats.tlogproof import TlogProof
from ledger.store.models import entries
from ledger.store.reading import read_entries, read_logs
from ledger.submission import Submission
from tests.fixtures.gateway import Gateway
from tests.fixtures.records import acknowledged, attachment, report


def submit(gateway: Gateway, *numbers: int, department: str = "fire") -> httpx.Response:
    records = [{"key": f"k{number}", "record": report(number)} for number in numbers]
    return gateway.client(department).post("/v1/records", json={"records": records})


def submitted(gateway: Gateway, *numbers: int, department: str = "fire") -> list[str]:
    answer = submit(gateway, *numbers, department=department)
    assert answer.status_code == 200, answer.text
    return [outcome["id"] for outcome in answer.json()["outcomes"]]


def opened(gateway: Gateway, department: str = "fire") -> list[dict[str, Any]]:
    """Every record of a log, decrypted, in order."""
    with gateway.site.database.reading() as connection:
        log = read_logs(connection, department)[0]
        ids = [row.record_id for row in read_entries(connection, log.number, 0, log.size)]
        return [gateway.site.node.reader.open(connection, record_id).record() for record_id in ids]


def reads(gateway: Gateway, department: str = "fire") -> list[dict[str, Any]]:
    return [record for record in opened(gateway, department) if record["type"] == "record.read"]


# ---- in ----------------------------------------------------------------------------------------------------------


def test_what_is_answered_is_in_the_log(gateway: Gateway) -> None:
    answer = submit(gateway, 1, 2, 3)
    assert answer.status_code == 200
    outcomes = answer.json()["outcomes"]
    assert [(o["outcome"], o["key"], o["index"], o["new"]) for o in outcomes] == [
        ("acknowledged", "k1", 0, True),
        ("acknowledged", "k2", 1, True),
        ("acknowledged", "k3", 2, True),
    ]
    assert [record["id"] for record in opened(gateway)] == [o["id"] for o in outcomes]


def test_the_same_again_gives_the_same_record_and_other_content_a_conflict(gateway: Gateway) -> None:
    (first,) = submitted(gateway, 1)
    again = submit(gateway, 1).json()["outcomes"][0]
    assert (again["id"], again["new"]) == (first, False)
    other = {"records": [{"key": "k1", "record": report(2)}]}
    refused = gateway.client("fire").post("/v1/records", json=other).json()["outcomes"][0]
    assert (refused["outcome"], refused["code"]) == ("refused", "conflict")
    assert len(opened(gateway)) == 1


def test_one_bad_record_does_not_hold_up_the_others(gateway: Gateway) -> None:
    bad = [
        {"key": "a", "record": report(1)},
        {"key": "b", "record": report(2, result="x" * 5_000)},
        {"key": "c", "record": "not an object"},
        {"key": "", "record": report(3)},
        {"key": "d", "record": report(4, department="health")},
        {"key": "e", "record": report(5)},
    ]
    answer = gateway.client("fire").post("/v1/records", json={"records": bad})
    assert answer.status_code == 200
    outcomes = answer.json()["outcomes"]
    assert [o.get("reason", "") for o in outcomes] == ["", "schema", "not-json", "bad-key", "department", ""]
    assert "x" * 100 not in answer.text


def test_a_thousand_records_in_one_request(gateway: Gateway) -> None:
    assert len(submitted(gateway, *range(1_000))) == 1_000
    answer = submit(gateway, *range(1_001))
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


def test_nobody_but_the_service_says_what_the_service_did(gateway: Gateway) -> None:
    records = [
        {"key": "a", "record": report(1)},
        {"key": "b", "record": {"type": "record.read", "v": 1}},
        {"key": "c", "record": {"type": "disclosure.made", "v": 1}},
        {"key": "d", "record": report(2)},
        {"key": "yunxi:disclosure/e/1", "record": report(3)},
    ]
    outcomes = gateway.client("fire").post("/v1/records", json={"records": records}).json()["outcomes"]
    assert [(o["key"], o.get("reason")) for o in outcomes] == [
        ("a", None),
        ("b", "reserved-type"),
        ("c", "reserved-type"),
        ("d", None),
        ("yunxi:disclosure/e/1", "bad-key"),
    ]
    assert len(opened(gateway)) == 2
    only = {"records": records[1:3]}
    assert gateway.client("fire").post("/v1/records", json=only).status_code == 200


BAD_BODIES: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"records": "\xff"}',
    "a list": b"[]",
    "no records": b"{}",
    "no record at all": b'{"records": []}',
    "records that are no list": b'{"records": {}}',
    "a member more": b'{"records": [{"key": "a", "record": {}}], "x": 1}',
    "a submission that is none": b'{"records": [1]}',
    "a submission with a member more": b'{"records": [{"key": "a", "record": {}, "department": "health"}]}',
    "a key that is a number": b'{"records": [{"key": 1, "record": {}}]}',
    "nested beyond reason": b'{"records": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_body_of_another_shape_is_refused_whole(gateway: Gateway, case: str) -> None:
    answer = gateway.client("fire").post("/v1/records", content=BAD_BODIES[case])
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")
    assert "field" in answer.json()
    assert opened(gateway) == []


def test_many_at_once_share_batches_and_each_gets_its_own(gateway: Gateway) -> None:
    answers: dict[int, str] = {}

    def one(number: int) -> None:
        answers[number] = submit(gateway, number).json()["outcomes"][0]["id"]

    gateway.signer("fire")
    threads = [threading.Thread(target=one, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    by_id = {record["id"]: record["facility_name"] for record in opened(gateway)}
    assert {number: by_id[record_id] for number, record_id in answers.items()} == {
        number: f"第{number}餐饮店" for number in range(40)
    }


def test_a_department_of_another_node_cannot_submit_here(gateway: Gateway) -> None:
    answer = submit(gateway, 1, department="streets")
    assert (answer.status_code, answer.json()["code"]) == (409, "history-refused")


# ---- out ---------------------------------------------------------------------------------------------------------


def test_a_record_is_read_and_the_reading_was_logged_before(gateway: Gateway) -> None:
    (record_id,) = submitted(gateway, 7)
    client = gateway.client("fire", {OFFICER})
    answer = client.get(f"/v1/records/{record_id}", params={"purpose": "核查"}, headers={"X-Request-Id": "request-1"})
    assert answer.status_code == 200
    assert answer.json()["record"]["facility_name"] == "第7餐饮店"
    shown = parse_presentation(answer.json()["presentation"].encode())
    assert (shown.masked, shown.record()) == (0, answer.json()["record"])
    (read,) = reads(gateway)
    assert read["records"] == [record_id]
    assert (read["reader"], read["roles"]) == (gateway.signer("fire", {OFFICER}).kid, [OFFICER])
    assert (read["part"], read["purpose"], read["request"]) == ("content", "核查", "request-1")


def test_where_the_reading_cannot_be_logged_nothing_is_shown(gateway: Gateway) -> None:
    (record_id,) = submitted(gateway, 7)
    gateway.site.intake.close()
    answer = gateway.client("fire").get(f"/v1/records/{record_id}")
    assert (answer.status_code, answer.json()["code"]) == (503, "stopping")
    assert "餐饮店" not in answer.text


def test_an_auditor_sees_the_statement_and_proof_and_no_content(gateway: Gateway) -> None:
    (record_id,) = submitted(gateway, 7)
    auditor = gateway.client("fire", {AUDITOR})
    answer = auditor.get(f"/v1/records/{record_id}")
    shown = parse_presentation(answer.json()["presentation"].encode())
    assert shown.disclosures == ()
    assert "餐饮店" not in answer.text
    assert answer.json()["record"].keys() == {"id", "type", "v", "department", "matter"}
    assert auditor.get(f"/v1/records/{record_id}/receipt").status_code == 200
    assert auditor.get(f"/v1/records/{record_id}/attachments/1").json()["code"] == "forbidden"
    assert reads(gateway) == []


def test_the_receipt_proves_the_record(gateway: Gateway) -> None:
    _, record_id = submitted(gateway, 1, 2)
    answer = gateway.client("fire").get(f"/v1/records/{record_id}/receipt")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert TlogProof.parse(answer.content).index == 1


def test_a_file_is_not_named_so_that_its_ending_is_another(gateway: Gateway, tmp_path: Path) -> None:
    file = attachment(tmp_path / "photo\u202egnp.exe", b"x")
    (taken,) = acknowledged(gateway.site.intake.submit("fire", [Submission("k", report(1), (file,))]))
    answer = gateway.client("fire", {OFFICER}).get(f"/v1/records/{taken.record_id}/attachments/1")
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''photo_gnp.exe"


def test_attachments_come_decrypted_and_are_logged(gateway: Gateway, tmp_path: Path) -> None:
    data = bytes(range(256)) * 9_000
    file = attachment(tmp_path / "现场 1.png", data)
    (taken,) = acknowledged(gateway.site.intake.submit("fire", [Submission("a", report(1), (file,))]))
    answer = gateway.client("fire", {OFFICER}).get(f"/v1/records/{taken.record_id}/attachments/1")
    assert (answer.status_code, answer.content) == (200, data)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''%E7%8E%B0")
    (read,) = reads(gateway)
    assert (read["part"], read["attachment"]) == ("attachment", 1)
    assert gateway.client("fire", {OFFICER}).get(f"/v1/records/{taken.record_id}/attachments/2").status_code == 404
    assert len(reads(gateway)) == 1


def test_lists_go_on_where_the_last_page_ended_whatever_came_meanwhile(gateway: Gateway) -> None:
    ids = submitted(gateway, *range(7))
    submitted(gateway, *range(3), department="health")
    client = gateway.client("fire", {OFFICER})
    page = client.get("/v1/records", params={"limit": 3}).json()
    found = page["records"]
    submitted(gateway, 100)
    while page["next"] is not None:
        page = client.get("/v1/records", params={"limit": 3, "cursor": page["next"]}).json()
        found += page["records"]
    assert [record["id"] for record in found] == ids[::-1]
    assert found[0].keys() == {"id", "index", "key", "acknowledged_at", "type", "v", "matter"}
    assert [r["id"] for r in client.get("/v1/records", params={"key": "k3"}).json()["records"]] == [ids[3]]
    assert client.get("/v1/records", params={"key": "none"}).json() == {"records": [], "next": None}


NOT_THERE = {
    "another department's": None,
    "unknown": "0193510b-8c00-7abc-8def-0123456789ab",
    "no UUID": "x",
    "a UUID in braces": "{0193510b-8c00-7abc-8def-012345678}",
}


@pytest.mark.parametrize("case", NOT_THERE)
@pytest.mark.parametrize("rest", ["", "/receipt", "/attachments/1"])
def test_what_is_not_the_departments_own_is_not_there(gateway: Gateway, case: str, rest: str) -> None:
    (others,) = submitted(gateway, 1, department="health")
    submitted(gateway, 1)
    wanted = NOT_THERE[case] or others
    answer = gateway.client("fire", {OFFICER}).get(f"/v1/records/{wanted}{rest}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert answer.json()["detail"] == "the department has no such record"
    assert reads(gateway) == reads(gateway, "health") == []


@pytest.mark.parametrize("roles", [{PEER}, {TERMINAL}])
@pytest.mark.parametrize("path", ["", "/x", "/x/receipt", "/x/attachments/1"])
def test_peers_and_terminals_do_not_read_here(gateway: Gateway, roles: set[str], path: str) -> None:
    assert gateway.client("fire", roles).get(f"/v1/records{path}").json()["code"] == "forbidden"


@pytest.mark.parametrize(
    "query", ["cursor=x", "cursor=-1", "cursor=99999", "cursor=%D9%A1", "limit=0", "limit=1001", "limit=x", "key="]
)
def test_bad_parameters_are_named_and_not_repeated(gateway: Gateway, query: str) -> None:
    submitted(gateway, 1)
    answer = gateway.client("fire", {OFFICER}).get(f"/v1/records?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")
    assert query.split("=")[0] in answer.json()["field"]


def test_no_key_of_a_record_is_lost(gateway: Gateway) -> None:
    """Keys of readings never collide with what systems submit, and stand in the same log."""
    (record_id,) = submitted(gateway, 1)
    gateway.client("fire").get(f"/v1/records/{record_id}")
    with gateway.site.database.reading() as connection:
        keys = connection.scalars(select(entries.c.key).order_by(entries.c.position)).all()
    assert keys[0] == "k1"
    assert keys[1].startswith("yunxi:read/")
