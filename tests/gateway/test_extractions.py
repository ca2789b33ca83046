"""Extraction from end to end over signed HTTP, asked for by hand: pages, resuming, what both logs say."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import delete

from gateway.extractions.models import extractions
from gateway.extractions.pages import End, Page, Place, SealedPage, parse_line, parse_plaintext
from gateway.extractions.projection import used_today
from ledger.formats.sdjwt import parse_presentation
from ledger.submission import Submission
from ledger.trust import export_trust
from ledger.verify.verifier import Verifier
from tests.fixtures.exchange import LEAD, OTHER, OWNER, TYPE, UNITS, Exchange, exchange
from tests.fixtures.records import COMPANY, acknowledged


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    """250 reports of `fire` on COMPANY, granted to `licensing`."""
    with exchange(tmp_path_factory.mktemp("exchange") / "node") as opened:
        opened.submit(250)
        opened.grant()
        yield opened


def lines(content: bytes) -> list[SealedPage | End | Any]:
    return [parse_line(line) for line in content.splitlines()]


def opened(world: Exchange, extraction: str, sealed: SealedPage) -> Page:
    place = Place(extraction, sealed.number, OWNER, LEAD)
    return parse_plaintext(world.site.node.agent.open_sealed(LEAD, sealed.sealed, place.info, sealed.kid))


def test_everything_granted_arrives_masked_and_proven(world: Exchange) -> None:
    number = world.inspect()
    extraction = world.extract(number)
    *sealed, end = lines(world.pages(extraction).content)
    assert [each.records for each in sealed] == [100, 100, 50]
    assert end == End(more=False)
    verifier = Verifier(export_trust(world.site.node))
    seen = []
    for each in sealed:
        page = opened(world, extraction, each)
        assert page.sha256 == each.sha256
        for presentation, receipt in zip(page.presentations, page.receipts, strict=True):
            facts = verifier.verify(presentation, receipt)
            assert facts.department.id == OWNER
            assert {unit.name for unit in facts.units} <= set(UNITS)
            assert facts.masked > 0
            seen.append(facts.record_id)
    assert len(seen) == len(set(seen)) == 250


def test_the_log_says_what_was_sent(world: Exchange) -> None:
    number = world.inspect()
    extraction = world.extract(number)
    sealed = lines(world.pages(extraction).content)[:-1]
    made = [each for each in world.records(OWNER, "disclosure.made") if each["extraction"] == extraction]
    assert [(each["page"], each["sha256"]) for each in made] == [(each.number, each.sha256) for each in sealed]
    for each, record in zip(sealed, made, strict=True):
        shown = [parse_presentation(p) for p in opened(world, extraction, each).presentations]
        assert [entry["id"] for entry in record["records"]] == [p.statement.record_id for p in shown]
        assert [entry["units"] for entry in record["records"]] == [[d.unit for d in p.disclosures] for p in shown]
        assert (record["requester"], record["inspection"], record["purpose"]) == (LEAD, number, "joint-inspection")


def test_what_another_departments_log_says_of_an_extraction_does_not_count(world: Exchange) -> None:
    extraction = world.extract(world.inspect())
    (one,) = lines(world.pages(extraction, limit=1).content)[:1]
    (said,) = [each for each in world.records(OWNER, "disclosure.made") if each["extraction"] == extraction]
    content = {name: value for name, value in said.items() if name not in ("id", "department")}
    everything = [{**each, "index": each["index"] + 10_000} for each in said["records"]]
    for page, records in ((1, said["records"]), (2, everything)):
        forged = Submission(f"forged/{page}", {**content, "page": page, "records": records}, by_service=True)
        acknowledged(world.site.intake.submit(OTHER, [forged]))
    world.site.projector.catch_up()
    *sealed, end = lines(world.pages(extraction).content)
    assert [each.number for each in sealed] == [1, 2, 3]
    assert (sealed[0].sha256, end) == (one.sha256, End(more=False))
    with world.site.database.reading() as connection:
        grants = {grant["id"] for grant in said["grants"]}
        assert [used_today(connection, OTHER, grant, time.time()) for grant in grants] == [200] * len(grants)
        assert all(used_today(connection, OWNER, grant, time.time()) % 250 == 0 for grant in grants)


def test_keys_that_a_department_takes_hold_up_no_page(world: Exchange) -> None:
    """Whoever may submit records for the owner, and knows the extraction, cannot keep its pages from being made."""
    number = world.inspect()
    extraction = world.extract(number)
    keys = [f"disclosure/{extraction}/1", f"received/{extraction}/1", f"inspection/{number}/close"]
    note = {"type": "note.added", "v": 1, "text": "x", "occurred_at": "2026-03-02T09:15:00+08:00"}
    for department in (OWNER, LEAD):
        acknowledged(world.site.intake.submit(department, [Submission(key, note) for key in keys]))
    *sealed, end = lines(world.pages(extraction).content)
    assert ([each.number for each in sealed], end) == ([1, 2, 3], End(more=False))
    closed = world.gateway.client(LEAD).post(f"/v1/inspections/{number}/close", json={"outcome": "completed"})
    assert closed.status_code in (200, 201), closed.text


def test_asking_again_gives_the_same_and_writes_nothing(world: Exchange) -> None:
    extraction = world.extract(world.inspect())
    first = [opened(world, extraction, each).joined for each in lines(world.pages(extraction).content)[:-1]]
    size = len(world.records(OWNER, "disclosure.made"))
    again = [opened(world, extraction, each).joined for each in lines(world.pages(extraction).content)[:-1]]
    second = [opened(world, extraction, each).joined for each in lines(world.pages(extraction, 1, 1).content)[:-1]]
    assert again == first
    assert second == first[1:2]
    assert len(world.records(OWNER, "disclosure.made")) == size


def test_a_limited_stream_says_that_there_is_more(world: Exchange) -> None:
    extraction = world.extract(world.inspect())
    assert [type(each).__name__ for each in lines(world.pages(extraction, 0, 2).content)] == ["SealedPage"] * 2 + [
        "End"
    ]
    assert lines(world.pages(extraction, 2, 2).content)[-1] == End(more=False)


def test_the_same_request_has_the_same_id_even_when_the_owner_forgot(world: Exchange) -> None:
    number = world.inspect()
    extraction = world.extract(number)
    before = lines(world.pages(extraction).content)
    with world.site.database.writing() as connection:
        connection.execute(delete(extractions).where(extractions.c.extraction == extraction))
    assert world.pages(extraction).status_code == 404
    assert world.extract(number) == extraction
    after = lines(world.pages(extraction).content)
    assert [each.sha256 for each in after[:-1]] == [each.sha256 for each in before[:-1]]


def test_a_page_that_was_never_made_is_not_asked_for(world: Exchange) -> None:
    extraction = world.extract(world.inspect())
    assert world.pages(extraction, after=7).json()["code"] == "bad-request"


def test_a_rebuild_gives_the_same_pages(world: Exchange) -> None:
    extraction = world.extract(world.inspect())
    before = [each.sha256 for each in lines(world.pages(extraction).content)[:-1]]
    world.site.projector.rebuild()
    assert [each.sha256 for each in lines(world.pages(extraction).content)[:-1]] == before


def test_news_come_as_the_next_page(world: Exchange) -> None:
    extraction = world.extract(world.inspect())
    pages = len(lines(world.pages(extraction).content)) - 1
    client = world.gateway.client(LEAD)
    cursor = client.get(f"/v1/extractions/news?owner={OWNER}&after={2**40}").json()["cursor"]
    assert client.get(f"/v1/extractions/news?owner={OWNER}&after={cursor}").json()["extractions"] == []
    world.submit(1, prefix="news")
    assert extraction in client.get(f"/v1/extractions/news?owner={OWNER}&after={cursor}&wait=10").json()["extractions"]
    sealed, _ = lines(world.pages(extraction, pages).content)
    assert (sealed.number, sealed.records) == (pages + 1, 1)


def test_cancelled_by_the_requester_and_opened_again(world: Exchange) -> None:
    number = world.inspect()
    extraction = world.extract(number)
    assert world.gateway.client(LEAD).delete(f"/v1/extractions/{extraction}").json()["state"] == "cancelled"
    assert world.pages(extraction).json()["code"] == "extraction-ended"
    assert world.extract(number) == extraction
    assert world.pages(extraction).status_code == 200


def test_ended_by_the_owner_for_good(world: Exchange) -> None:
    number = world.inspect()
    extraction = world.extract(number)
    assert world.gateway.client(OWNER).delete(f"/v1/extractions/{extraction}").json()["state"] == "ended"
    assert world.ask(world.request(number)).json()["code"] == "extraction-ended"


def test_a_unit_that_some_grants_lack_is_withheld_by_type(world: Exchange) -> None:
    number = world.inspect()
    answer = world.ask(world.request(number, types=[TYPE, "note.added"])).json()
    assert answer["granted"].keys() == {TYPE}
    assert answer["withheld"] == {"note.added": "no-grant"}


def test_only_the_days_that_are_wanted(world: Exchange) -> None:
    extraction = world.extract(world.inspect(days=1))
    assert len(lines(world.pages(extraction).content)) > 1
    found = world.gateway.client(LEAD).get(f"/v1/extractions/{extraction}").json()
    assert found["state"] == "standing"


def test_other_subjects_give_nothing(world: Exchange) -> None:
    other = {"kind": "licence", "value": "L-NOBODY"}
    assert lines(world.pages(world.extract(world.inspect(subjects=[other]))).content) == [End(more=False)]


def test_hosted_elsewhere_is_not_asked_here(world: Exchange) -> None:
    body = world.request(world.inspect(), owner="streets")
    assert world.ask(body).json()["code"] == "not-found"


def test_lists(world: Exchange) -> None:
    extraction = world.extract(world.inspect())
    for department in (LEAD, OWNER):
        items = world.gateway.client(department).get("/v1/extractions?limit=1000").json()["items"]
        assert extraction in {each["id"] for each in items}
    assert world.gateway.client(OTHER).get("/v1/extractions").json()["items"] == []


def test_the_case_of_a_page_stands_in_the_clear(world: Exchange) -> None:
    number = world.inspect()
    world.pages(world.extract(number))
    from gateway.projections.subjects import SubjectIndex

    world.site.projector.catch_up()
    with world.site.database.reading() as connection:
        found = SubjectIndex.referring(connection, OWNER, "inspection", number)
    assert {each.type for each in found} == {"disclosure.made"}
    assert json.dumps(COMPANY["value"]) not in json.dumps(world.records(OWNER, "disclosure.made"))
