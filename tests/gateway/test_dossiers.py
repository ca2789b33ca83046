"""Dossiers: what came, what is missing and since when, and what is handed out of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from gateway.dossiers.models import dossier_entries
from gateway.extractions.models import pulls
from gateway.projections.registry import projector_of
from tests.fixtures.gateway import Gateway
from tests.fixtures.parts import TYPES
from tests.fixtures.proceedings import (
    INSPECTIONS,
    OFFICER,
    UNITS,
    code,
    officer,
    opened,
    opening,
    page,
    receive,
    take,
    theirs,
)
from tests.fixtures.records import report


def lines(gateway: Gateway, number: str) -> list[dict[str, Any]]:
    answer = officer(gateway).get(f"{INSPECTIONS}/{number}/dossier/presentations")
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def dossier(gateway: Gateway, number: str, **params: Any) -> dict[str, Any]:
    answer = officer(gateway).get(f"{INSPECTIONS}/{number}/dossier", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def pull(gateway: Gateway, number: str, **values: Any) -> None:
    row = {
        "requester": "fire", "owner": "health", "lead": "fire", "claim": "inspection", "number": number,
        "reference": "0193510b-8c00-7abc-8def-0123456789ab", "extraction": None, "state": "following",
        "code": None, "detail": None, "withheld": "{}", "page": 1, "records": 0, "since": 1_700_000_000,
        "retry_at": 0, "attempts": 0, "last_success_at": None, **values,
    }  # fmt: skip
    with gateway.site.database.writing() as connection:
        connection.execute(insert(pulls).values(row))


def test_a_new_dossier_says_what_is_missing_and_since_when(gateway: Gateway) -> None:
    made = opened(gateway)
    found = dossier(gateway, made["number"])
    (state,) = found["participants"]
    assert (state["department"], state["state"], state["code"]) == ("health", "missing", "not-asked")
    assert state["since"] == made["opened_at"]
    assert 0 <= state["age_seconds"] < 60
    assert (found["complete"], found["entries"], found["counts"]["received"]) == (False, [], 0)


STATES = {
    "waiting": ("missing", False),
    "pulling": ("filling", False),
    "following": ("complete", True),
    "ended": ("complete", True),
    "refused": ("refused", True),
    "unreachable": ("missing", False),
    "damaged": ("missing", False),
}


@pytest.mark.parametrize("state", STATES)
def test_what_became_of_asking_is_said_in_words_of_the_dossier(gateway: Gateway, state: str) -> None:
    made = opened(gateway)
    withheld = {"case.filed": "no-grant"}
    pull(gateway, made["number"], state=state, code="c", detail="d", withheld=json.dumps(withheld), records=3)
    found = dossier(gateway, made["number"])
    (shown,) = found["participants"]
    assert (shown["state"], found["complete"]) == STATES[state]
    assert (shown["code"], shown["detail"], shown["withheld"], shown["records"]) == ("c", "d", withheld, 3)
    assert (shown["since"], shown["age_seconds"] > 0) == ("2023-11-14T22:13:20Z", True)


def test_what_arrived_is_there_although_another_is_missing(gateway: Gateway, tmp_path: Path) -> None:
    made, ids = opened(gateway), theirs(gateway, 3)
    receipt = receive(gateway, tmp_path, made["number"], ids)
    pull(gateway, made["number"], state="unreachable", code="unreachable")
    found = dossier(gateway, made["number"])
    assert found["participants"][0]["state"] == "missing"
    assert sorted(each["record"] for each in found["entries"]) == sorted(ids)
    assert {each["received_record"] for each in found["entries"]} == {receipt}
    assert found["entries"][0]["units"] == UNITS
    assert found["counts"] == {"received": 3, "own": 0, "by_owner": {"health": {"inspection.report": 3}}}
    assert [each["problem"] for each in lines(gateway, made["number"])[:-1]] == [None] * 3


def test_own_records_on_the_subjects_and_attached_ones_are_listed(gateway: Gateway) -> None:
    own = take(gateway, report(1))
    take(gateway, report(2, subjects=[{"kind": "licence", "value": "L-2"}]), "k2")
    made = opened(gateway)
    officer(gateway).post(f"{INSPECTIONS}/{made['number']}/records", json={"record": own})
    found = dossier(gateway, made["number"])
    assert [each["record"] for each in found["own"]] == [own]
    assert [each["record"] for each in found["attached"]] == [own]


def test_entries_come_by_page_and_a_record_that_comes_again_counts_once(gateway: Gateway, tmp_path: Path) -> None:
    made, ids = opened(gateway), theirs(gateway, 5)
    receive(gateway, tmp_path, made["number"], ids[:2], n=1)
    receive(gateway, tmp_path, made["number"], ids[2:4], n=2)
    last = receive(gateway, tmp_path, made["number"], [ids[4], ids[0]], n=3)
    seen, cursor = [], None
    while True:
        found = dossier(gateway, made["number"], limit=1, **({"cursor": cursor} if cursor else {}))
        if not found["entries"]:
            break
        seen.append({each["record"] for each in found["entries"]})
        cursor = found["next"]
    assert seen == [{ids[1]}, set(ids[2:4]), {ids[4], ids[0]}]
    shown = lines(gateway, made["number"])
    assert sorted(each["record"] for each in shown[:-1]) == sorted(ids)
    assert [each["received_record"] for each in shown[:-1] if each["record"] == ids[0]] == [last]
    assert shown[-1] == {"end": True, "records": 5, "signatures_checked": False}


def test_presentations_are_those_that_were_received_and_reading_is_logged_first(
    gateway: Gateway, tmp_path: Path
) -> None:
    made, ids = opened(gateway), theirs(gateway, 2)
    receipt = receive(gateway, tmp_path, made["number"], ids)
    shown = lines(gateway, made["number"])
    assert "\n".join(each["presentation"] for each in shown[:-1]).encode() in (
        page(gateway, ids),
        page(gateway, ids[::-1]),
    )
    (read,) = reads_of(gateway)
    assert opened_record(gateway, read)["records"] == [receipt]


def reads_of(gateway: Gateway) -> list[str]:
    records = officer(gateway).get("/v1/records").json()["records"]
    return [each["id"] for each in records if each["type"] == "record.read"]


def opened_record(gateway: Gateway, record_id: str) -> dict[str, Any]:
    with gateway.site.database.reading() as connection:
        return gateway.site.node.reader.open(connection, record_id).record()


DAMAGED = {
    "another record's presentation": lambda good, other: other,
    "not a presentation": lambda good, other: b"nothing",
    "a disclosure of another record": lambda good, other: good + other.split(b"~")[1] + b"~",
    "nothing": lambda good, other: b"",
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_what_does_not_verify_again_is_named_and_holds_nothing_up(
    gateway: Gateway, tmp_path: Path, damage: Any
) -> None:
    made, ids = opened(gateway), theirs(gateway, 3)
    one, two, three = page(gateway, ids).split(b"\n")
    receive(gateway, tmp_path, made["number"], ids[:2], b"\n".join([damage(one, three), two]))
    problems = {each["record"]: each["problem"] for each in lines(gateway, made["number"])[:-1]}
    assert problems[ids[0]] in ("not-proven", "malformed", "disclosure-invalid")
    assert problems[ids[1]] is None


def test_a_page_that_is_not_what_the_receipt_says_is_named(gateway: Gateway, tmp_path: Path) -> None:
    made, ids = opened(gateway), theirs(gateway, 1)
    receive(gateway, tmp_path, made["number"], ids, sha256="0" * 64)
    (line, end) = lines(gateway, made["number"])
    assert (line["problem"], line["presentation"], end["records"]) == ("payload-invalid", "", 1)


def test_with_a_chain_signatures_are_checked_too(gateway_on_chain: Gateway, tmp_path: Path) -> None:
    gateway = gateway_on_chain
    made, ids = opened(gateway), theirs(gateway, 2)
    one, two = page(gateway, ids).split(b"\n")
    statement, _, rest = one.partition(b"~")
    forged = statement[:-4] + (b"AAAA" if statement[-4:] != b"AAAA" else b"BBBB") + b"~" + rest
    receive(gateway, tmp_path, made["number"], ids, b"\n".join([forged, two]))
    *shown, end = lines(gateway, made["number"])
    assert {each["record"]: each["problem"] for each in shown} == {ids[0]: "signature-invalid", ids[1]: None}
    assert end["signatures_checked"] is True
    assert code(officer(gateway).post(INSPECTIONS, json=opening(participants=["nobody"]))) == (422, "not-admitted")


def test_a_dossier_is_its_departments_own(gateway: Gateway, tmp_path: Path) -> None:
    made, ids = opened(gateway), theirs(gateway, 1)
    receive(gateway, tmp_path, made["number"], ids)
    path = f"{INSPECTIONS}/{made['number']}/dossier"
    assert officer(gateway, "health").get(path).json()["entries"] == []  # it takes part, and has nothing received
    alone = opened(gateway, participants=[])
    assert code(officer(gateway, "health").get(f"{INSPECTIONS}/{alone['number']}/dossier")) == (404, "not-found")
    assert code(gateway.client("fire", roles={"auditor"}).get(f"{path}/presentations")) == (403, "forbidden")
    assert gateway.client("fire", roles=OFFICER).get(f"{INSPECTIONS}/guessed/dossier").status_code == 404


def test_a_rebuild_gives_the_same_dossier(gateway: Gateway, tmp_path: Path) -> None:
    made, ids = opened(gateway), theirs(gateway, 4)
    receive(gateway, tmp_path, made["number"], ids[:3], n=1)
    receive(gateway, tmp_path, made["number"], ids[2:], n=2)
    before = dossier(gateway, made["number"])
    gateway.site.projector.rebuild()
    after = dossier(gateway, made["number"])
    for found in (before, after):
        found["participants"][0].pop("age_seconds")
    assert before == after
    assert len(before["entries"]) == 4
    assert {table.name for p in projector_of(gateway.site.node)._projections for table in p.tables} >= {
        dossier_entries.name
    }


def test_the_units_of_this_test_exist() -> None:
    assert set(UNITS) <= set(TYPES.get("inspection.report", 1).units)
