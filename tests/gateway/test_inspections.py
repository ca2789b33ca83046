"""Joint inspections over HTTP: opened once, joined, added to, closed once, by those who may."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest

from ledger.formats.merkle import leaf_hash
from ledger.store.reading import find_entry
from tests.fixtures.gateway import Gateway
from tests.fixtures.proceedings import (
    ELSEWHERE,
    INSPECTIONS,
    NOW,
    code,
    officer,
    opened,
    opening,
    size,
    take,
)
from tests.fixtures.records import COMPANY, report

LEAF = "ab" * 32


def test_opening_seals_a_record_that_shows_no_subject(gateway: Gateway) -> None:
    made = opened(gateway, number="综查〔2026〕1号", types=["inspection.report"], days=365)
    assert (made["number"], made["lead"], made["state"]) == ("综查〔2026〕1号", "fire", "open")
    assert (made["participants"], made["types"], made["days"]) == (["health"], ["inspection.report"], 365)
    with gateway.site.database.reading() as connection:
        presentation = gateway.site.node.reader.open(connection, made["opened_record"])
    record = presentation.record()
    assert (record["type"], record["inspection"], record["subjects"]) == (
        "inspection.opened",
        made["number"],
        [COMPANY],
    )
    assert len(presentation.statement.payload["subj"]) == 1
    assert COMPANY["value"] not in str(made)
    assert COMPANY["value"].encode() not in presentation.statement.ascii


def test_numbers_are_drawn_in_order_and_never_twice(gateway: Gateway) -> None:
    first, second = opened(gateway), opened(gateway)
    opened(gateway, number="J-9")
    third = opened(gateway)
    numbers = [each["number"] for each in (first, second, third)]
    assert [n[-7:] for n in numbers] == ["-000001", "-000002", "-000003"]
    assert all(n.startswith("fire-20") for n in numbers)


def test_many_at_once_draw_different_numbers(gateway: Gateway) -> None:
    answers: list[httpx.Response] = []
    client = officer(gateway)

    def work() -> None:
        answers.extend(client.post(INSPECTIONS, json=opening()) for _ in range(3))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["number"] for answer in answers}) == 12


def test_a_taken_number_is_refused(gateway: Gateway) -> None:
    opened(gateway, number="J-1")
    before = size(gateway)
    assert code(officer(gateway).post(INSPECTIONS, json=opening(number="J-1"))) == (409, "number-taken")
    assert size(gateway) == before
    own = officer(gateway, "health").post(INSPECTIONS, json=opening(number="J-1", participants=["fire"]))
    assert own.status_code == 201  # numbers are each department's own


def test_the_same_request_again_opens_nothing_new(gateway: Gateway) -> None:
    client, key = officer(gateway), {"Idempotency-Key": "r-1"}
    first = client.post(INSPECTIONS, json=opening(), headers=key)
    again = client.post(INSPECTIONS, json=opening(), headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert size(gateway) == 1
    other = client.post(INSPECTIONS, json=opening(participants=[]), headers=key)
    assert code(other) == (409, "conflict")
    assert client.post(INSPECTIONS, json=opening(), headers={"Idempotency-Key": "r-2"}).json()["number"][-1] == "2"


def test_the_same_request_at_once_opens_one(gateway: Gateway) -> None:
    answers: list[httpx.Response] = []
    client, start = officer(gateway), threading.Barrier(4)

    def work() -> None:
        start.wait()
        answers.append(client.post(INSPECTIONS, json=opening(), headers={"Idempotency-Key": "r-1"}))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({answer.json()["opened_record"] for answer in answers}) == 1


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "a participant that nobody admitted": ({"participants": ["nobody"]}, 422, "not-admitted"),
    "a purpose that is not on the list": ({"purpose": "curiosity"}, 422, "purpose-unknown"),
    "a wrong check digit": ({"subjects": [{"kind": "uscc", "value": "91350100M000100Y44"}]}, 422, "record-refused"),
    "a kind of subject that does not exist": ({"subjects": [{"kind": "shoe", "value": "44"}]}, 422, "record-refused"),
    "no subjects": ({"subjects": []}, 400, "bad-request"),
    "51 subjects": ({"subjects": [{"kind": "licence", "value": f"L-{n}"} for n in range(51)]}, 400, "bad-request"),
    "no kind": ({"kind": ""}, 400, "bad-request"),
    "a member that nobody knows": ({"colour": "blue"}, 400, "bad-request"),
    "an account that is not the caller's": ({"account": "somebody"}, 400, "bad-request"),
    "a time to come": ({"occurred_at": "2099-01-01T00:00:00+08:00"}, 422, "record-refused"),
    "a number with a slash": ({"number": "a/b"}, 400, "bad-request"),
    "a number that is no place in a path": ({"number": ".."}, 400, "bad-request"),
    "a number that turns the direction of writing": ({"number": "1\u202e2"}, 400, "bad-request"),
    "a number of 101 characters": ({"number": "n" * 101}, 400, "bad-request"),
}


@pytest.mark.parametrize(("changes", "status", "name"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_opened(gateway: Gateway, changes: dict[str, Any], status: int, name: str) -> None:
    assert code(officer(gateway).post(INSPECTIONS, json=opening(**changes))) == (status, name)
    assert size(gateway) == 0


def test_a_subject_twice_in_two_writings_counts_once(gateway: Gateway) -> None:
    twice = [COMPANY, {**COMPANY, "value": COMPANY["value"].lower()}]
    made = opened(gateway, subjects=twice)
    with gateway.site.database.reading() as connection:
        record = gateway.site.node.reader.open(connection, made["opened_record"]).record()
    assert record["subjects"] == [COMPANY]


@pytest.mark.parametrize("key", ["", "x" * 65, "with space"])
def test_an_idempotency_key_has_a_form(gateway: Gateway, key: str) -> None:
    answer = officer(gateway).post(INSPECTIONS, json=opening(), headers={"Idempotency-Key": key})
    assert code(answer) == (400, "bad-request")


# ---- participants ----


def test_departments_join_and_leave_by_amendments(gateway: Gateway) -> None:
    made = opened(gateway, participants=[])
    path = f"{INSPECTIONS}/{made['number']}/participants"
    joined = officer(gateway).post(path, json={"join": ["health"]}).json()
    assert joined["participants"] == ["health"]
    assert (joined["opened_record"], joined["state"]) == (made["opened_record"], "open")
    assert joined["reference_record"] != made["reference_record"]
    again = officer(gateway).post(path, json={"join": ["health", "fire"]}).json()
    assert again == joined
    left = officer(gateway).post(path, json={"leave": ["health"]}).json()
    assert left["participants"] == []
    assert size(gateway) == 3
    assert code(officer(gateway).post(path, json={"join": ["nobody"]})) == (422, "not-admitted")
    assert code(officer(gateway, "health").post(path, json={"join": ["health"]})) == (404, "not-found")


def test_an_amendment_keeps_purpose_and_subjects(gateway: Gateway) -> None:
    made = opened(gateway, days=30, title="冬季")
    path = f"{INSPECTIONS}/{made['number']}/participants"
    left = officer(gateway).post(path, json={"leave": ["health"]}).json()
    same = ("number", "kind", "matter", "purpose", "types", "days", "opened_at", "opened_record")
    assert {name: left[name] for name in same} == {name: made[name] for name in same}
    with gateway.site.database.reading() as connection:
        reader = gateway.site.node.reader
        before, after = (reader.open(connection, each["reference_record"]).record() for each in (made, left))
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed - {"occurred_at"} == {"id", "amends", "participants", "request"}


# ---- records ----


def test_own_records_are_attached_by_id_with_their_leaf(gateway: Gateway) -> None:
    made, record = opened(gateway), take(gateway, report(1))
    path = f"{INSPECTIONS}/{made['number']}/records"
    answer = officer(gateway).post(path, json={"record": record})
    again = officer(gateway).post(path, json={"record": record, "note": "again"})
    assert (answer.status_code, again.status_code) == (201, 200)
    with gateway.site.database.reading() as connection:
        leaf = leaf_hash(find_entry(connection, record).statement).hex()
    (attached,) = answer.json()["records"]
    assert (attached["record"], attached["owner"], attached["leaf"]) == (record, "fire", leaf)
    assert attached["type"] == "inspection.report"
    assert again.json()["records"] == [attached]


def test_foreign_records_are_attached_with_owner_and_leaf(gateway: Gateway) -> None:
    made = opened(gateway)
    path = f"{INSPECTIONS}/{made['number']}/records"
    client = officer(gateway)
    answer = client.post(path, json={"record": ELSEWHERE, "owner": "health", "leaf": LEAF})
    assert [each["leaf"] for each in answer.json()["records"]] == [LEAF]
    assert code(client.post(path, json={"record": ELSEWHERE, "owner": "health"})) == (400, "bad-request")
    assert code(client.post(path, json={"record": ELSEWHERE, "owner": "nobody", "leaf": LEAF})) == (422, "not-admitted")
    assert code(client.post(path, json={"record": ELSEWHERE})) == (422, "record-refused")
    theirs = take(gateway, report(1), department="health")
    assert code(client.post(path, json={"record": theirs})) == (422, "record-refused")


# ---- closing ----


def test_closing_is_the_leads_alone_and_happens_once(gateway: Gateway) -> None:
    made = opened(gateway)
    path = f"{INSPECTIONS}/{made['number']}/close"
    body = {"outcome": "completed", "reason": "四个部门均已到场。"}
    assert code(officer(gateway, "health").post(path, json=body)) == (403, "forbidden")
    closed = officer(gateway).post(path, json=body, headers={"Idempotency-Key": "c-1"})
    again = officer(gateway).post(path, json=body, headers={"Idempotency-Key": "c-1"})
    assert closed.json() == again.json()
    assert (closed.json()["state"], closed.json()["outcome"]) == ("closed", "completed")
    assert code(officer(gateway).post(path, json=body)) == (409, "proceeding-closed")
    assert size(gateway) == 2


def test_nothing_is_added_to_a_closed_one(gateway: Gateway) -> None:
    made, record = opened(gateway), take(gateway, report(1))
    path, client = f"{INSPECTIONS}/{made['number']}", officer(gateway)
    client.post(f"{path}/close", json={"outcome": "merged", "merged_into": "J-2", "merged_lead": "health"})
    before = size(gateway)
    assert code(client.post(f"{path}/records", json={"record": record})) == (409, "proceeding-closed")
    assert code(client.post(f"{path}/participants", json={"leave": ["health"]})) == (409, "proceeding-closed")
    assert size(gateway) == before
    view = client.get(path).json()
    assert (view["outcome"], view["merged_into"], view["merged_lead"]) == ("merged", "J-2", "health")


AFTERWARDS: dict[str, dict[str, Any]] = {
    "an amendment": {"type": "inspection.opened", **opening(participants=[]), "occurred_at": NOW},
    "a second closing": {"type": "inspection.closed", "outcome": "cancelled", "occurred_at": NOW},
    "an attachment": {
        "type": "record.attached", "record": ELSEWHERE, "owner": "health", "leaf": LEAF, "occurred_at": NOW,
    },
}  # fmt: skip


@pytest.mark.parametrize("record", AFTERWARDS.values(), ids=AFTERWARDS)
def test_what_is_sealed_past_the_rules_has_no_effect(gateway: Gateway, record: dict[str, Any]) -> None:
    made = opened(gateway, number="J-1")
    officer(gateway).post(f"{INSPECTIONS}/J-1/close", json={"outcome": "completed"})
    before = officer(gateway).get(f"{INSPECTIONS}/J-1").json()
    amends = {"amends": made["opened_record"]} if record["type"] == "inspection.opened" else {}
    take(gateway, {**record, **amends, "v": 1, "inspection": "J-1"}, "past the rules")
    assert officer(gateway).get(f"{INSPECTIONS}/J-1").json() == before
    # and neither has what another department says of this number
    take(gateway, {**record, "v": 1, "inspection": "J-1"}, "elsewhere", "health")
    assert officer(gateway).get(f"{INSPECTIONS}/J-1").json() == before


# ---- reading ----


def test_those_concerned_see_it_and_others_do_not(gateway: Gateway) -> None:
    made, alone = opened(gateway), opened(gateway, participants=[])
    assert officer(gateway, "health").get(f"{INSPECTIONS}/{made['number']}").json()["lead"] == "fire"
    assert code(officer(gateway, "health").get(f"{INSPECTIONS}/{alone['number']}")) == (404, "not-found")
    assert code(officer(gateway).get(f"{INSPECTIONS}/fire-1999-000001")) == (404, "not-found")
    seen = officer(gateway, "health").get(INSPECTIONS).json()["items"]
    assert [each["number"] for each in seen] == [made["number"]]


def test_the_lead_is_named_where_two_use_one_number(gateway: Gateway) -> None:
    opened(gateway, number="J-1")
    theirs = officer(gateway, "health").post(INSPECTIONS, json=opening(number="J-1", participants=["fire"])).json()
    assert officer(gateway).get(f"{INSPECTIONS}/J-1").json()["lead"] == "fire"
    assert officer(gateway).get(f"{INSPECTIONS}/J-1", params={"lead": "health"}).json() == {**theirs, "records": []}


def test_lists_by_state_and_page(gateway: Gateway) -> None:
    numbers = [opened(gateway)["number"] for _ in range(5)]
    officer(gateway).post(f"{INSPECTIONS}/{numbers[1]}/close", json={"outcome": "cancelled"})
    client, seen, after = officer(gateway), [], None
    while True:
        page = client.get(
            INSPECTIONS, params={"limit": 2, "state": "open"} | ({"cursor": after} if after else {})
        ).json()
        seen += [each["number"] for each in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert seen == [numbers[0], *numbers[2:]]
    assert [each["number"] for each in client.get(INSPECTIONS, params={"state": "closed"}).json()["items"]] == [
        numbers[1]
    ]


def test_search_by_subject_in_any_writing(gateway: Gateway) -> None:
    made = opened(gateway)
    opened(gateway, subjects=[{"kind": "licence", "value": "L-1"}])
    client = officer(gateway)
    spaced = {"kind": "uscc", "value": COMPANY["value"].lower()}
    found = client.post(f"{INSPECTIONS}/search", json={"subject": spaced}).json()["items"]
    assert [each["number"] for each in found] == [made["number"]]
    assert client.post(f"{INSPECTIONS}/search", json={"subject": spaced, "state": "closed"}).json()["items"] == []


@pytest.mark.parametrize("roles", [{"auditor"}, {"coordinator"}, {"legal-reviewer"}, {"peer"}])
def test_readers_do_not_act(gateway: Gateway, roles: set[str]) -> None:
    made = opened(gateway)
    client = gateway.client("fire", roles=roles)
    assert client.get(f"{INSPECTIONS}/{made['number']}").status_code == 200
    for path in (INSPECTIONS, f"{INSPECTIONS}/{made['number']}/records", f"{INSPECTIONS}/{made['number']}/close"):
        assert client.post(path, json={}).status_code in (400, 403)
    assert code(client.post(INSPECTIONS, json=opening())) == (403, "forbidden")
    assert code(client.post(f"{INSPECTIONS}/{made['number']}/close", json={"outcome": "completed"})) == (
        403,
        "forbidden",
    )


def test_nobody_else_reads(gateway: Gateway) -> None:
    assert gateway.client(None).get(INSPECTIONS).status_code == 401
    assert code(gateway.client("fire", roles={"terminal"}).get(INSPECTIONS)) == (403, "forbidden")
