"""Cases over HTTP: what differs from inspections."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.submission import Submission
from tests.fixtures.gateway import Gateway
from tests.fixtures.proceedings import code, officer, size
from tests.fixtures.records import COMPANY

PATH = "/v1/cases"
OFFICERS = [{"id": "XF0001", "name": "甲一"}, {"id": "XF0002", "name": "乙二"}]


def filing(**changes: Any) -> dict[str, Any]:
    return {
        "matter": "330299-XF-001",
        "subjects": [COMPANY],
        "officers": OFFICERS,
        "cause": "占用消防车通道",
        "kind": "ordinary",
        "purpose": "case-investigation",
        "participants": ["health"],
        **changes,
    }


def test_a_case_lives_and_ends(gateway: Gateway) -> None:
    client = officer(gateway)
    filed = client.post(PATH, json=filing(inspection="J-1")).json()
    assert (filed["kind"], filed["purpose"], filed["participants"]) == ("ordinary", "case-investigation", ["health"])
    path = f"{PATH}/{filed['number']}"
    left = client.post(f"{path}/participants", json={"leave": ["health"]}).json()
    assert left["participants"] == []
    attached = client.post(f"{path}/records", json={"record": filed["opened_record"]}).json()
    assert [each["type"] for each in attached["records"]] == ["case.filed"]
    closed = client.post(f"{path}/close", json={"outcome": "decided"}).json()
    assert (closed["state"], closed["outcome"]) == ("closed", "decided")
    assert code(client.post(f"{path}/close", json={"outcome": "decided"})) == (409, "proceeding-closed")
    assert size(gateway) == 4


def test_cases_and_inspections_do_not_share_numbers(gateway: Gateway) -> None:
    client = officer(gateway)
    opening = {"kind": "joint", "purpose": "joint-inspection", "subjects": [COMPANY]}
    assert client.post(PATH, json=filing(number="N-1")).status_code == 201
    assert client.post("/v1/inspections", json={**opening, "number": "N-1"}).status_code == 201
    assert client.get(f"{PATH}/N-1").json()["purpose"] == "case-investigation"


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "one officer": ({"officers": OFFICERS[:1]}, 400, "bad-request"),
    "the same officer twice": ({"officers": [OFFICERS[0], OFFICERS[0]]}, 422, "record-refused"),
    "no cause": ({"cause": ""}, 400, "bad-request"),
    "an outcome": ({"outcome": "decided"}, 400, "bad-request"),
    "a purpose that is not on the list": ({"purpose": "curiosity"}, 422, "purpose-unknown"),
}


@pytest.mark.parametrize(("changes", "status", "name"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_filed(gateway: Gateway, changes: dict[str, Any], status: int, name: str) -> None:
    assert code(officer(gateway).post(PATH, json=filing(**changes))) == (status, name)
    assert size(gateway) == 0


def test_a_case_that_came_from_the_departments_own_system_is_one_too(gateway: Gateway) -> None:
    bare = {name: value for name, value in filing().items() if name not in ("kind", "purpose", "participants")}
    record = {**bare, "type": "case.filed", "v": 1, "case": "望消立1号", "occurred_at": "2026-03-02T09:15:00+08:00"}
    gateway.site.intake.submit("fire", [Submission("cases/row-1", record)])
    found = officer(gateway).get(f"{PATH}/望消立1号").json()
    assert (found["state"], found["purpose"], found["participants"]) == ("open", None, [])
    assert code(officer(gateway).post(PATH, json=filing(number="望消立1号"))) == (409, "number-taken")
    assert code(officer(gateway, "health").get(f"{PATH}/望消立1号")) == (404, "not-found")
