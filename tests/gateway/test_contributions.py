"""The contribution ledger: counted from the logs, by department, within a time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fixtures.gateway import Gateway
from tests.fixtures.proceedings import ELSEWHERE, NOW, code, made, opened, receive, take, theirs
from tests.fixtures.records import report

PATH = "/v1/contributions"
EVER, NEVER = "1970-01-01T00:00:00Z", "2099-01-01T00:00:00Z"


def accounts(
    gateway: Gateway, roles: frozenset[str] = frozenset({"supervisor"}), start: str = EVER, end: str = NEVER
) -> dict[str, Any]:
    answer = gateway.client("fire", roles=roles).get(PATH, params={"from": start, "to": end})
    assert answer.status_code == 200, answer.text
    return {each["department"]: each for each in answer.json()["contributions"]}


def refusal(key: str, gateway: Gateway, **changes: Any) -> None:
    record = {
        "type": "disclosure.refused", "v": 1, "role": "owner", "code": "no-grant", "detail": "d", "requester": "health",
        "reference": ELSEWHERE, "occurred_at": NOW, **changes,
    }  # fmt: skip
    take(gateway, record, key)


def test_nothing_is_an_account_too(gateway: Gateway) -> None:
    assert accounts(gateway) == {"fire": {"department": "fire", "exchanges": {}, "reads": 0}}


def test_given_got_refused_and_how_fast(gateway: Gateway, tmp_path: Any) -> None:
    mine = [take(gateway, report(n), f"f{n}") for n in range(3)]
    take(gateway, made(mine[:2]), "made1")
    take(gateway, made(mine[2:], page=2), "made2")
    refusal("r1", gateway)
    refusal("r2", gateway, repeats=4, since=NOW)
    refusal("r3", gateway, code="rate-exceeded")
    inspection = opened(gateway)
    receive(gateway, tmp_path, inspection["number"], theirs(gateway, 3))
    gateway.client("fire", roles={"officer"}).get(f"/v1/records/{mine[0]}")
    exchange = accounts(gateway)["fire"]["exchanges"]["health"]
    assert 0 <= exchange.pop("median_seconds") == exchange.pop("slowest_seconds") < 60
    assert exchange == {
        "given_records": 3, "given_pages": 2, "got_records": 3, "got_pages": 1, "answers": 1,
        "refused": {"no-grant": 6, "rate-exceeded": 1}, "checks": 0,
    }  # fmt: skip
    assert accounts(gateway)["fire"]["reads"] == 1


def test_only_within_the_time(gateway: Gateway) -> None:
    take(gateway, made([take(gateway, report(1))]), "made")
    assert accounts(gateway, start="2000-01-01T00:00:00Z")["fire"]["exchanges"]
    assert not accounts(gateway, end="2000-01-01T00:00:00Z")["fire"]["exchanges"]
    assert not accounts(gateway, start="2090-01-01T00:00:00Z")["fire"]["exchanges"]


@pytest.mark.parametrize("text", ["yesterday", "2026-03-02", "2026-03-02T09:15:00"])
def test_times_need_an_offset(gateway: Gateway, text: str) -> None:
    answer = gateway.client("fire", roles={"supervisor"}).get(PATH, params={"from": text})
    assert code(answer) == (400, "bad-request")


def test_a_coordinator_sees_every_department_of_the_node(gateway: Gateway) -> None:
    assert set(accounts(gateway, frozenset({"coordinator"}))) == {"fire", "health"}
    assert set(accounts(gateway, frozenset({"auditor"}))) == {"fire"}
    assert code(gateway.client("fire", roles={"officer"}).get(PATH)) == (403, "forbidden")
