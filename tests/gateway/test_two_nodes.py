"""After the fact, between two nodes that share nothing but the chain: recalls, emergencies, subscriptions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.adapters.http_server import Said, Server
from tests.fixtures.exchange import KIND, LEAD, OWNER, PURPOSE, TYPE, until
from tests.fixtures.pair import Pair, pair
from tests.fixtures.records import COMPANY, report
from tests.fixtures.servers import Servers

pytestmark = pytest.mark.slow

ALLOW = f'[gateway.emergency]\nallow = ["{LEAD}"]\ntypes = ["{TYPE}"]\nhours = 24\n'
HOOKS = "[gateway.webhooks]\nloopback = true\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    servers = Servers()
    try:
        with pair(tmp_path_factory.mktemp("pair"), servers, owner=ALLOW, lead=HOOKS) as two:
            until(lambda: two.owner.server.answers() and two.lead.server.answers())
            yield two
    finally:
        servers.close()


def submit(world: Pair, number: int) -> str:
    """A report of the owner on COMPANY; its id."""
    body = {"records": [{"key": f"row-{number}", "record": report(number)}]}
    (outcome,) = json_of(world.owner.system(OWNER).post("/v1/records", json=body))["outcomes"]
    return str(outcome["id"])


def inspect(world: Pair, kind: str = KIND) -> str:
    """An inspection of the lead in which the owner takes part; its number."""
    body = {"kind": kind, "purpose": PURPOSE, "subjects": [COMPANY], "participants": [OWNER]}
    return str(json_of(world.lead.system(LEAD).post("/v1/inspections", json=body), 201)["number"])


def dossier(world: Pair, number: str) -> dict[str, Any]:
    answer = world.lead.person(LEAD, "officer").get(f"/v1/inspections/{number}/dossier?limit=1000")
    return {each["record"]: each for each in json_of(answer)["entries"]}


def json_of(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def listed(client: httpx.Client, path: str, name: str, value: str) -> dict[str, Any] | None:
    items = json_of(client.get(f"{path}?limit=1000"))["items"]
    return next((each for each in items if each[name] == value), None)


def test_a_recall_follows_the_record_to_the_other_node_and_is_acknowledged(world: Pair) -> None:
    record, number = submit(world, 1), inspect(world)
    until(lambda: record in dossier(world, number))
    giver, taker = world.owner.person(OWNER, "officer"), world.lead.person(LEAD, "officer")
    body = {"record": record, "reason_kind": "error", "reason": "测量仪器未校准。", "asks": "stop-using"}
    notice = json_of(giver.post("/v1/recalls", json=body), 201)["id"]
    came = until(lambda: listed(taker, "/v1/recalls/received", "notice", notice))
    assert (came["owner"], came["record"], came["open"]) == (OWNER, record, True)
    assert [mark["recall"] for mark in dossier(world, number)[record]["stale"]] == [came["id"]]
    done = taker.post(f"/v1/recalls/received/{came['id']}/acknowledge", json={"done": "stopped-using"})
    acknowledgement = json_of(done)["acknowledgement"]

    def closed() -> Any:
        found = listed(giver, "/v1/recalls", "id", notice)
        return found if found is not None and not found["open"] else None

    (recipient,) = until(closed)["recipients"]
    assert (recipient["department"], recipient["state"], recipient["received"], recipient["acknowledgement"]) == (
        LEAD, "acknowledged", came["id"], acknowledgement,
    )  # fmt: skip


def test_an_emergency_is_given_by_the_other_node_and_justified_before_both(world: Pair) -> None:
    record, number = submit(world, 2), inspect(world, kind="construction")
    asking, giver = world.lead.person(LEAD, "officer"), world.owner.person(OWNER, "officer")
    body = {"owner": OWNER, "kind": "inspection", "number": number, "reason": "燃气泄漏，人员被困。"}
    made = json_of(asking.post("/v1/emergencies", json=body), 201)
    assert record in dossier(world, number)
    theirs = listed(giver, "/v1/emergencies", "id", made["id"])
    assert theirs is not None
    assert (theirs["role"], theirs["requester"], theirs["number"], theirs["outcome"]) == ("owner", LEAD, number, None)
    finding = {"outcome": "justified", "justification": "核实属实。"}
    path = f"/v1/emergencies/{made['id']}/justify"
    assert asking.post(path, json=finding).status_code == 403  # not the one that asked
    json_of(world.lead.person(LEAD, "supervisor").post(path, json=finding))
    until(lambda: (listed(giver, "/v1/emergencies", "id", made["id"]) or {})["outcome"] == "justified")


def test_a_subscriber_hears_of_what_arrives_from_the_other_node(world: Pair) -> None:
    submit(world, 3)
    number = inspect(world)
    until(lambda: dossier(world, number))
    target = Server(lambda _: Said(status=204))
    try:
        client = world.lead.system(LEAD)
        hook = {"url": f"{target.url}/hook", "events": ["dossier.entry.arrived"], "inspection": number}
        subscription = json_of(client.post("/v1/subscriptions", json=hook), 201)["id"]
        record = submit(world, 4)
        (event,) = until(lambda: [json.loads(asked.body) for asked in list(target.asked)])
        assert (event["type"], event["data"]["owner"]) == ("yunxi.dossier.entry.arrived", OWNER)
        assert record in dossier(world, number)
        assert client.delete(f"/v1/subscriptions/{subscription}").status_code == 204
    finally:
        target.close()
