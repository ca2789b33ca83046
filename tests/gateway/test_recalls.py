"""Recalls and corrections follow the data: told, received, acknowledged, stale, whoever was down meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, select, update

from gateway.notices.models import tellings
from gateway.recalls.models import recall_answers, recall_notices, recalls, received_recalls
from ledger.node import Node
from ledger.submission import Acknowledged, Submission
from tests.fixtures.exchange import LEAD, OTHER, OWNER, Exchange, exchange, make_node, reopened, until
from tests.fixtures.gateway import Gateway, serving
from tests.fixtures.nodes import end_chain
from tests.fixtures.proceedings import NOW, made, take
from tests.fixtures.records import report

ABSENT = "streets"
"""A member whose node has no address."""
OFFICER, SUPERVISOR = frozenset({"officer"}), frozenset({"supervisor"})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with exchange(tmp_path_factory.mktemp("exchange") / "node", automatic=True) as opened:
        opened.grant()
        yield opened


def officer(world: Exchange, department: str) -> httpx.Client:
    return world.gateway.client(department, OFFICER)


def disclosed(world: Exchange, prefix: str) -> tuple[str, str]:
    """A record of the owner in the lead's dossier; its id, and the number of the inspection."""
    (record,) = world.submit(1, prefix=prefix)
    number = world.inspect()
    until(lambda: record.record_id in entries(world, number))
    return record.record_id, number


def entries(world: Exchange, number: str) -> dict[str, dict[str, Any]]:
    answer = officer(world, LEAD).get(f"/v1/inspections/{number}/dossier?limit=1000")
    assert answer.status_code == 200, answer.text
    return {each["record"]: each for each in answer.json()["entries"]}


def recall(world: Exchange, record: str, **changes: Any) -> dict[str, Any]:
    body = {"record": record, "reason_kind": "error", "reason": "测量仪器未校准。", "asks": "stop-using"}
    answer = officer(world, OWNER).post("/v1/recalls", json=body | changes)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def given(world: Exchange, notice: str, department: str = OWNER) -> dict[str, Any]:
    items = officer(world, department).get("/v1/recalls?limit=1000").json()["items"]
    found: dict[str, Any] = next(each for each in items if each["id"] == notice)
    return found


def states(world: Exchange, notice: str) -> dict[str, str]:
    return {each["department"]: each["state"] for each in given(world, notice)["recipients"]}


def received(world: Exchange, notice: str, department: str = LEAD) -> dict[str, Any] | None:
    items = officer(world, department).get("/v1/recalls/received?limit=1000").json()["items"]
    return next((each for each in items if each["notice"] == notice), None)


def test_a_recall_reaches_who_extracted_it_and_is_acknowledged(world: Exchange) -> None:
    record, number = disclosed(world, "recalled")
    assert entries(world, number)[record]["stale"] == []
    notice = recall(world, record, asks="delete")["id"]
    came = until(lambda: received(world, notice))
    assert (came["kind"], came["owner"], came["record"], came["asks"], came["open"]) == (
        "recall", OWNER, record, "delete", True,
    )  # fmt: skip
    (mark,) = entries(world, number)[record]["stale"]
    assert (mark["recall"], mark["kind"], mark["acknowledged"]) == (came["id"], "recall", False)
    until(lambda: states(world, notice) == {LEAD: "received"})
    assert given(world, notice)["recipients"][0]["received"] == came["id"], "with the recipient's own record as proof"

    path = f"/v1/recalls/received/{came['id']}/acknowledge"
    assert world.gateway.client(LEAD).post(path, json={"done": "deleted"}).status_code == 403, "a person must"
    assert officer(world, OTHER).post(path, json={"done": "deleted"}).status_code == 404
    answer = officer(world, LEAD).post(path, json={"done": "deleted", "note": "已删除。"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["acknowledgement"] is not None
    assert officer(world, LEAD).post(path, json={"done": "not-used"}).json() == answer.json(), "once"
    until(lambda: states(world, notice) == {LEAD: "acknowledged"})
    assert given(world, notice)["open"] is False
    assert entries(world, number)[record]["stale"][0]["acknowledged"] is True
    assert [each["role"] for each in world.records(LEAD, "recall.acknowledged")] == ["recipient"]
    (told,) = [each for each in world.records(OWNER, "recall.acknowledged") if each["notice"] == notice]
    assert (told["role"], told["done"], told["acknowledgement"]) == (
        "owner",
        "deleted",
        answer.json()["acknowledgement"],
    )


def test_a_correction_is_noticed_by_itself_and_shows_nothing(world: Exchange) -> None:
    record, number = disclosed(world, "corrected")
    (amending,) = world.submit(1, prefix="amending", amends=record, summary="改正后的结论")
    came = until(lambda: received(world, amending.record_id))
    assert (came["kind"], came["record"], came["replaced_by"]) == ("correction", record, amending.record_id)
    assert entries(world, number)[record]["stale"][0]["kind"] == "correction"
    with world.site.database.reading() as connection:
        shown = b"".join(world.site.node.reader.attachment(connection, came["id"], 1))
    assert shown.count(b"~") == 1, "the amending record came without a unit of it"


def test_who_extracts_it_after_the_recall_is_told_too(world: Exchange) -> None:
    (record,) = world.submit(1, prefix="later")
    notice = recall(world, record.record_id)["id"]
    before = {name for name, _ in states(world, notice).items()}
    number = world.inspect()
    until(lambda: record.record_id in entries(world, number))
    until(lambda: states(world, notice).get(LEAD) == "received")
    assert before <= {LEAD}
    assert entries(world, number)[record.record_id]["stale"]


def test_what_nobody_extracted_concerns_nobody(world: Exchange) -> None:
    (record,) = world.submit(1, department=OTHER, prefix="own")
    body = {"record": record.record_id, "reason_kind": "duplicate", "reason": "重复"}
    client = world.gateway.client(OTHER)
    first = client.post("/v1/recalls", json=body, headers={"Idempotency-Key": "once"})
    again = client.post("/v1/recalls", json=body, headers={"Idempotency-Key": "once"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert (first.json()["recipients"], first.json()["open"]) == ([], False)


REFUSED: dict[str, Callable[[Exchange], str]] = {
    "another department's record": lambda world: world.submit(1, department=OTHER, prefix="theirs")[0].record_id,
    "no record": lambda _: "0193510b-8c00-7abc-8def-0123456789ab",
}


@pytest.mark.parametrize("case", REFUSED)
def test_only_ones_own_records_are_recalled(world: Exchange, case: str) -> None:
    body = {"record": REFUSED[case](world), "reason_kind": "error", "reason": "x"}
    answer = officer(world, OWNER).post("/v1/recalls", json=body)
    assert (answer.status_code, answer.json()["reason"]) == (422, "unknown-record")


def notice_of(world: Exchange, record: str, units: Any = None) -> dict[str, str]:
    return world.site.extractions.requester.show(record, units)


def tell(world: Exchange, shown: dict[str, str], by: str = OWNER, to: str = LEAD) -> httpx.Response:
    return world.gateway.client(by).post("/v1/recalls/notices", json={"to": to, "record": shown})


def test_only_the_owners_own_word_in_its_own_log_counts(world: Exchange) -> None:
    # of somebody whom no inspection is about: the workers take it nowhere
    (record,) = world.submit(1, prefix="forged", subjects=[{"kind": "licence", "value": "L-forged"}])
    shown = notice_of(world, recall(world, record.record_id)["id"])
    count = len(world.records(LEAD, "recall.received"))
    text = shown["presentation"]
    forged = text[:-20] + ("A" if text[-20] != "A" else "B") + text[-19:]
    attempts = {
        "told by another department": (shown, OTHER),
        "without a receipt": (shown | {"receipt": None}, OWNER),
        "with another record's receipt": (shown | {"receipt": notice_of(world, record.record_id)["receipt"]}, OWNER),
        "changed": (shown | {"presentation": forged}, OWNER),
        "amends nothing": (notice_of(world, record.record_id), OWNER),
    }
    for case, (what, by) in attempts.items():
        answer = tell(world, what, by)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["code"]) == (422, "reference-invalid"), case
    assert tell(world, shown, to=ABSENT).status_code == 404
    assert len(world.records(LEAD, "recall.received")) == count


def test_told_twice_it_is_on_record_once(world: Exchange) -> None:
    (record,) = world.submit(1, prefix="twice")
    shown = notice_of(world, recall(world, record.record_id)["id"])
    answers = [tell(world, shown) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    first, second = (answer.json()["received"]["presentation"] for answer in answers)
    assert first == second


def test_a_recipient_cannot_acknowledge_for_another(world: Exchange) -> None:
    record, _ = disclosed(world, "for-another")
    notice = recall(world, record)["id"]
    came = until(lambda: received(world, notice))
    officer(world, LEAD).post(f"/v1/recalls/received/{came['id']}/acknowledge", json={"done": "not-used"})
    until(lambda: states(world, notice) == {LEAD: "acknowledged"})
    mine = world.records(LEAD, "recall.acknowledged")[-1]["id"]
    shown = notice_of(world, mine)
    for by in (OTHER, OWNER):
        answer = world.gateway.client(by).post("/v1/recalls/acknowledgements", json={"to": OWNER, "record": shown})
        assert answer.status_code == 422, by


def test_an_acknowledgement_belongs_to_the_record_that_the_notice_is_about(world: Exchange) -> None:
    record, _ = disclosed(world, "about-this")
    other, _ = disclosed(world, "about-that")
    notice = recall(world, record)["id"]
    until(lambda: received(world, notice))
    said = {"type": "recall.acknowledged", "v": 1, "occurred_at": NOW, "role": "recipient", "notice": notice}
    said |= {"owner": OWNER, "recipient": LEAD, "record": other, "done": "not-used"}
    made_up = world.site.node.intake.submit(LEAD, [Submission("made up", said, by_service=True)])[0]
    assert isinstance(made_up, Acknowledged)
    body = {"to": OWNER, "record": notice_of(world, made_up.record_id)}
    answer = world.gateway.client(LEAD).post("/v1/recalls/acknowledgements", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "reference-invalid")
    assert states(world, notice) == {LEAD: "received"}


def rows(world: Exchange) -> list[Any]:
    """The projections of recalls, whole."""
    with world.site.database.reading() as connection:
        return [
            sorted(map(str, connection.execute(select(table)).all()))
            for table in (recalls, recall_notices, recall_answers, received_recalls)
        ]


def test_a_rebuild_makes_the_same_tables(world: Exchange) -> None:
    world.site.projector.catch_up()
    before = rows(world)
    assert all(before)
    world.site.projector.rebuild()
    assert rows(world) == before


def test_a_lost_table_of_tellings_is_told_again_and_changes_nothing(world: Exchange) -> None:
    record, _ = disclosed(world, "lost")
    notice = recall(world, record)["id"]
    until(lambda: states(world, notice) == {LEAD: "received"})
    count = len(world.records(LEAD, "recall.received"))
    with world.site.database.writing() as connection:
        connection.execute(delete(tellings).where(tellings.c.record_id == notice))
    until(lambda: states(world, notice) == {LEAD: "received"})
    assert len(world.records(LEAD, "recall.received")) == count


def test_a_recipient_that_is_down_is_shown_and_told_when_it_is_back(world: Exchange) -> None:
    record, _ = disclosed(world, "down")
    hosted = world.site.hosted
    world.site.hosted = hosted - {LEAD}  # its own node is elsewhere now, and the registry has no address of it
    try:
        notice = recall(world, record)["id"]
        until(lambda: states(world, notice) == {LEAD: "unreachable"})
        first = given(world, notice)["recipients"][0]
        until(lambda: given(world, notice)["recipients"][0]["attempts"] > first["attempts"])
        again = given(world, notice)["recipients"][0]
        assert (again["since"], again["code"]) == (first["since"], "peer-unreachable"), "its age goes on counting"
    finally:
        world.site.hosted = hosted
    with world.site.database.writing() as connection:  # back-off is not what is tested
        connection.execute(update(tellings).values(retry_at=0))
    until(lambda: states(world, notice) == {LEAD: "received"})


def test_open_ones_come_first_and_pages_go_on(world: Exchange) -> None:
    client = officer(world, LEAD)
    items = client.get("/v1/recalls/received?limit=1000").json()["items"]
    flags = [each["open"] for each in items]
    assert flags == sorted(flags, reverse=True)
    assert True in flags
    assert False in flags
    first = client.get("/v1/recalls/received?limit=2").json()
    second = client.get(f"/v1/recalls/received?limit=1000&cursor={first['next']}").json()
    assert [each["id"] for each in first["items"] + second["items"]] == [each["id"] for each in items]


@pytest.mark.slow
def test_killed_between_disclosure_and_notice_it_is_told_after_the_restart(tmp_path: Any) -> None:
    """The first process has no workers: it dies with everything on record and nothing told."""
    directory = tmp_path / "node"
    node = make_node(directory, [OWNER, OTHER])
    try:
        with serving(node) as gateway:
            record = take(gateway, report(1), "r", OWNER)
            take(gateway, made([record]), "disclosure/1", OWNER)
            take(gateway, report(2, amends=record), "r2", OWNER)
        with reopened(Node.open(directory)) as again:
            until(lambda: again.records(OTHER, "recall.received"))
            (item,) = officer(again, OWNER).get("/v1/recalls").json()["items"]
            until(lambda: states(again, item["id"]) == {OTHER: "received"})
            time.sleep(0.5)
            assert len(again.records(OTHER, "recall.received")) == 1
    finally:
        end_chain(directory)


def test_what_the_logs_tell_is_listed_on_every_database(gateway: Gateway) -> None:
    record = take(gateway, report(1), "r", "fire")
    later = take(gateway, report(2), "later", "fire")
    take(gateway, made([record]), "disclosure/1")
    first = take(gateway, report(3, amends=record), "first")
    second = take(gateway, report(4, amends=later), "second")
    take(gateway, made([record, later], page=2), "disclosure/2")
    client = gateway.client("fire", OFFICER)
    items = client.get("/v1/recalls").json()["items"]
    assert [(each["id"], each["record"], each["open"]) for each in items] == [
        (second, later, True),
        (first, record, True),
    ]
    assert [each["recipients"][0]["state"] for each in items] == ["waiting", "waiting"]
    said = {"type": "recall.acknowledged", "v": 1, "occurred_at": NOW, "owner": "fire", "recipient": "health"}
    answered = {"role": "owner", "notice": second, "record": later, "done": "replaced", "acknowledgement": record}
    take(gateway, said | answered, "answered")
    assert [each["id"] for each in client.get("/v1/recalls").json()["items"]] == [first, second], "open ones first"
    came = {"type": "recall.received", "v": 1, "occurred_at": NOW, "kind": "correction", "owner": "fire"}
    log = {"size": 9, "root": "A" * 43 + "="}
    for n, notice in enumerate((first, second)):
        take(gateway, came | {"notice": notice, "record": record, "owner_log": log}, f"came{n}", "health")
    done = {"role": "recipient", "notice": second, "record": record, "done": "replaced"}
    take(gateway, said | done, "done", "health")
    listed = gateway.client("health", OFFICER).get("/v1/recalls/received").json()["items"]
    assert [(each["notice"], each["open"]) for each in listed] == [(first, True), (second, False)]
    parts = gateway.client(None).get("/readyz").json()["parts"]["recalls"]["departments"]
    assert parts == {"fire": {"given": 1, "received": 0}, "health": {"given": 0, "received": 1}}
