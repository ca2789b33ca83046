"""The data tracker and the duplicate check: what they tell, to whom, and what they leave behind in the logs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from gateway.proceedings.views import Subject
from ledger.crypto.blind import blind_index
from ledger.formats.encoding import b64url_encode
from ledger.formats.identifiers import normalise
from ledger.store.reading import read_logs
from tests.fixtures.gateway import Gateway
from tests.fixtures.proceedings import INSPECTIONS, NOW, code, made, officer, opened, size, take
from tests.fixtures.records import COMPANY, report

SUBJECT = {"kind": COMPANY["kind"], "value": COMPANY["value"]}
MATTER = "330299-XF-001"


def supervisor(gateway: Gateway, department: str = "fire") -> httpx.Client:
    return gateway.client(department, roles={"supervisor"})


def tracked(gateway: Gateway, subject: dict[str, str] = SUBJECT, department: str = "fire", **body: Any) -> Any:
    answer = supervisor(gateway, department).post("/v1/tracker", json={"subject": subject, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def recent(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")


# ---- the tracker ----


def test_a_disclosure_is_told_with_authority_purpose_number_and_kinds(gateway: Gateway) -> None:
    record = take(gateway, report(1))
    take(gateway, made([record]), "made")
    (access,) = tracked(gateway)["accesses"]
    assert access.pop("at").endswith("Z")
    assert access == {
        "action": "disclosed", "department": "fire", "authority": "health", "purpose": "joint-inspection",
        "inspection": "J-1", "lead": "health", "code": None,
        "kinds": [{
            "type": "inspection.report", "units": ["result"],
            "title": {"zh": "检查结果（系统接入）", "en": "Inspection report taken over from a department's system"},
        }],
    }  # fmt: skip


def test_reads_are_told_without_who_read(gateway: Gateway) -> None:
    record = take(gateway, report(1))
    reader = officer(gateway)
    assert reader.get(f"/v1/records/{record}").status_code == 200
    (access,) = tracked(gateway)["accesses"]
    assert (access["action"], access["authority"]) == ("read", "fire")
    assert access["kinds"][0]["units"] is None
    kid = gateway.signer("fire", {"officer"}).kid
    assert kid not in json.dumps(access)


def test_a_refusal_is_told_where_the_reference_is_known_here(gateway: Gateway) -> None:
    opening = opened(gateway)
    refused = {
        "type": "disclosure.refused", "v": 1, "role": "owner", "code": "no-grant", "detail": "d", "requester": "health",
        "reference": opening["opened_record"], "occurred_at": NOW,
    }  # fmt: skip
    take(gateway, refused, "refused")
    (access,) = tracked(gateway)["accesses"]
    assert (access["action"], access["authority"], access["code"], access["kinds"]) == (
        "refused",
        "health",
        "no-grant",
        [],
    )


def test_each_search_is_itself_on_record_before_its_answer(gateway: Gateway) -> None:
    assert tracked(gateway, purpose="申请人查询")["accesses"] == []
    assert size(gateway) == 1
    (searched,) = tracked(gateway)["accesses"]
    assert (searched["action"], searched["authority"], searched["purpose"]) == ("searched", "fire", "申请人查询")
    kid = gateway.signer("fire", {"supervisor"}).kid
    assert kid not in json.dumps(searched)


def test_only_this_subject_and_only_ones_own_log(gateway: Gateway) -> None:
    mine, other = (
        take(gateway, report(1)),
        take(gateway, report(2, subjects=[{"kind": "licence", "value": "X-1"}]), "k2"),
    )
    take(gateway, made([mine, other]), "made")
    theirs = take(gateway, report(3), "k3", "health")
    take(gateway, made([theirs], requester="fire"), "made", "health")
    assert [each["authority"] for each in tracked(gateway)["accesses"]] == ["health"]
    assert [len(each["kinds"]) for each in tracked(gateway, {"kind": "licence", "value": "X-1"})["accesses"]] == [1]
    assert tracked(gateway, {"kind": "licence", "value": "X-2"})["accesses"] == []
    assert [each["authority"] for each in tracked(gateway, department="health")["accesses"]] == ["fire"]


def test_pages_of_accesses_newest_first(gateway: Gateway) -> None:
    record = take(gateway, report(1))
    for n in range(1, 6):
        take(gateway, made([record], page=n, inspection=f"J-{n}"), f"made{n}")
    first = tracked(gateway, limit=2)
    assert [each["inspection"] for each in first["accesses"]] == ["J-5", "J-4"]
    second = tracked(gateway, limit=2, cursor=first["next"])
    assert [each["inspection"] for each in second["accesses"]] == ["J-3", "J-2"]
    third = tracked(gateway, limit=2, cursor=second["next"])
    assert ([each["inspection"] for each in third["accesses"]], third["next"]) == (["J-1"], None)


def test_the_tracker_is_for_those_who_answer_for_data(gateway: Gateway) -> None:
    body = {"subject": SUBJECT}
    assert code(officer(gateway).post("/v1/tracker", json=body)) == (403, "forbidden")
    assert code(gateway.client("fire", roles={"peer"}).post("/v1/tracker", json=body)) == (403, "forbidden")
    bad = {"subject": {"kind": "uscc", "value": "91350100M000100Y44"}}
    answer = supervisor(gateway).post("/v1/tracker", json=bad)
    assert code(answer) == (422, "record-refused")
    assert "91350100M000100Y44" not in answer.text
    assert size(gateway) == 0


# ---- duplicates ----


def check(gateway: Gateway, department: str = "fire", **changes: Any) -> Any:
    body = {"subjects": [SUBJECT], "matters": [MATTER], "days": 90, **changes}
    answer = officer(gateway, department).post("/v1/duplicate-checks", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_inspection_elsewhere_is_found_without_a_record_shown(gateway: Gateway) -> None:
    take(gateway, report(1, occurred_at=recent(10), inspection="H-7"), department="health")
    answer = check(gateway, matters=[MATTER, "330299-XF-002"])
    assert answer["matters"] == {MATTER: {"inspected": True}, "330299-XF-002": {"inspected": False}}
    (found,) = answer["found"]
    day = recent(10)[:10]
    assert found == {"matter": MATTER, "on": day, "inspection": "H-7", "merge": None, "department": "health"}
    assert "餐饮店" not in json.dumps(answer, ensure_ascii=False)


WINDOWS = {"a day inside": (89, True), "a day outside": (91, False)}


@pytest.mark.parametrize(("days", "inspected"), WINDOWS.values(), ids=WINDOWS)
def test_the_day_it_took_place_counts_not_the_day_it_was_sealed(gateway: Gateway, days: int, inspected: bool) -> None:
    take(gateway, report(1, occurred_at=recent(days)), department="health")
    assert check(gateway)["matters"][MATTER]["inspected"] is inspected


OTHERS: dict[str, dict[str, Any]] = {
    "another company": {"subjects": [{"kind": "licence", "value": "X-1"}]},
    "another matter": {"matter": "330299-XF-002"},
}


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_what_is_no_duplicate(gateway: Gateway, changes: dict[str, Any]) -> None:
    take(gateway, report(1, occurred_at=recent(1), **changes), department="health")
    assert check(gateway)["matters"][MATTER]["inspected"] is False


def test_an_open_inspection_offers_to_be_joined_and_a_closed_one_does_not(gateway: Gateway) -> None:
    opened(gateway, number="J-1")
    merge = check(gateway, "health")["found"][0]["merge"]
    assert merge == {"lead": "fire", "inspection": "J-1", "href": f"{INSPECTIONS}/J-1/participants"}
    officer(gateway).post(f"{INSPECTIONS}/J-1/close", json={"outcome": "completed"})
    (found,) = check(gateway, "health")["found"]
    assert (found["inspection"], found["merge"]) == ("J-1", None)


def test_every_answer_is_on_record_where_it_was_given_without_the_identifier(gateway: Gateway) -> None:
    take(gateway, report(1, occurred_at=recent(1)), department="health")
    check(gateway)
    assert (size(gateway), size(gateway, "health")) == (1, 2)
    with gateway.site.database.reading() as connection:
        log = read_logs(connection, "health")[0]
        assert log.size == 2
    newest = officer(gateway, "health").get("/v1/records").json()["records"][0]["id"]
    with gateway.site.database.reading() as connection:
        record = gateway.site.node.reader.open(connection, newest).record()
    index = b64url_encode(blind_index(gateway.site.node.agent.index_key(), "uscc", normalise("uscc", COMPANY["value"])))
    assert (record["type"], record["requester"], record["indexes"]) == ("duplicate.checked", "fire", [index])
    assert record["found"] == [{"matter": MATTER, "on": recent(1)[:10]}]
    assert COMPANY["value"] not in json.dumps(record)
    asked = [each for each in tracked(gateway, department="health")["accesses"] if each["action"] == "checked"]
    assert [each["authority"] for each in asked] == ["fire"]


def test_one_that_cannot_be_asked_is_said_and_holds_nobody_up(gateway: Gateway) -> None:
    take(gateway, report(1, occurred_at=recent(1)), department="health")
    answer = check(gateway, departments=["health", "nobody"])
    states = {each["department"]: (each["answered"], each["code"]) for each in answer["departments"]}
    assert states == {"health": (True, None), "nobody": (False, "not-admitted")}
    assert answer["matters"][MATTER]["inspected"] is True


def test_peers_ask_by_blind_index_only(gateway: Gateway) -> None:
    take(gateway, report(1, occurred_at=recent(1)))
    index = b64url_encode(blind_index(gateway.site.node.agent.index_key(), "uscc", normalise("uscc", COMPANY["value"])))
    body = {"owner": "fire", "indexes": [index], "matters": [MATTER], "days": 30}
    peer = gateway.client("health")
    path = "/v1/duplicate-checks/answers"
    assert [each["matter"] for each in peer.post(path, json=body).json()["found"]] == [MATTER]
    assert size(gateway) == 2
    assert code(peer.post(path, json={**body, "owner": "elsewhere"})) == (404, "not-found")
    assert code(peer.post(path, json={**body, "indexes": ["short"]})) == (400, "bad-request")
    assert code(officer(gateway, "health").post(path, json=body)) == (403, "forbidden")
    assert size(gateway) == 2


@pytest.mark.parametrize("changes", [{"days": 0}, {"matters": []}, {"subjects": []}, {"subjects": [SUBJECT] * 51}])
def test_questions_have_bounds(gateway: Gateway, changes: dict[str, Any]) -> None:
    body = {"subjects": [SUBJECT], "matters": [MATTER], "days": 90, **changes}
    assert code(officer(gateway).post("/v1/duplicate-checks", json=body)) == (400, "bad-request")


def test_a_subject_in_a_body_has_no_member_that_records_do_not_have() -> None:
    assert set(Subject.model_fields) == {"kind", "value", "name", "role"}
