"""What a requester takes and what it does not: pages that were changed on the way, or are not what was asked for."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from gateway.extractions.pages import Page, Place, SealedPage, parse_line, parse_plaintext, seal_page
from gateway.extractions.received import PRESENTATIONS, Receiver, Wanted, verify_page
from gateway.problems import Problem
from ledger.formats.encoding import b64url_decode
from ledger.formats.trust import Trust
from ledger.trust import export_trust
from tests.fixtures.exchange import LEAD, OTHER, OWNER, TYPE, Exchange, exchange


@dataclass(frozen=True, slots=True)
class Arrived:
    """A page as it came, and what it was asked for with."""

    world: Exchange
    wanted: Wanted
    sealed: SealedPage
    page: Page
    trust: Trust
    foreign: Page


@pytest.fixture(scope="module")
def arrived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arrived]:
    """Five records of `fire`; `foreign` are records of `health`."""
    with exchange(tmp_path_factory.mktemp("exchange") / "node") as world:
        for department in (OWNER, OTHER):
            world.submit(5, department=department)
            world.grant(owner=department)
        number = world.inspect([OWNER, OTHER])
        body = world.request(number)
        subjects = frozenset(b64url_decode(text, "subject") for text in body["subjects"])

        def one(owner: str) -> tuple[str, SealedPage, Page]:
            extraction = world.ask(world.request(number, owner=owner)).json()["id"]
            sealed = parse_line(world.pages(extraction).content.splitlines()[0])
            assert isinstance(sealed, SealedPage)
            info = Place(extraction, 1, owner, LEAD).info
            agent = world.site.node.agent
            return extraction, sealed, parse_plaintext(agent.open_sealed(LEAD, sealed.sealed, info, sealed.kid))

        extraction, sealed, page = one(OWNER)
        wanted = Wanted(
            extraction, OWNER, LEAD, LEAD, "inspection", number, "0193510b-8c00-7abc-9def-00000000000a",
            "joint-inspection", "food", subjects,
        )  # fmt: skip
        yield Arrived(world, wanted, sealed, page, export_trust(world.site.node), one(OTHER)[2])


def test_what_was_asked_for_is_taken(arrived: Arrived) -> None:
    verified = verify_page(arrived.page, arrived.sealed, arrived.wanted, arrived.trust)
    assert [each.index for each in verified.records] == [0, 1, 2, 3, 4]
    assert verified.size >= 5


Change = Callable[[Arrived], tuple[Page, Wanted]]


def with_page(change: Callable[[Page, Page], Page]) -> Change:
    return lambda a: (change(a.page, a.foreign), a.wanted)


def with_wanted(**changes: object) -> Change:
    return lambda a: (a.page, replace(a.wanted, **changes))  # type: ignore[arg-type]


def put(page: Page, at: int, presentation: bytes, receipt: bytes | None = None) -> Page:
    presentations, receipts = list(page.presentations), list(page.receipts)
    presentations[at], receipts[at] = presentation, receipts[at] if receipt is None else receipt
    return Page(tuple(presentations), tuple(receipts))


REFUSED: dict[str, Change] = {
    "a record of another department": with_page(lambda p, f: put(p, 0, f.presentations[0], f.receipts[0])),
    "a record twice": with_page(lambda p, _: put(p, 1, p.presentations[0], p.receipts[0])),
    "out of order": with_page(lambda p, _: Page(p.presentations[::-1], p.receipts[::-1])),
    "receipts exchanged": with_page(lambda p, _: Page(p.presentations, p.receipts[1:] + p.receipts[:1])),
    "a receipt of nothing": with_page(lambda p, _: put(p, 0, p.presentations[0], b"c2sp.org/tlog-proof@v1\n")),
    "a statement with another signature": with_page(lambda p, _: put(p, 0, p.presentations[0].replace(b"~", b"A~", 1))),
    "a disclosure that is not the statement's": with_page(
        lambda p, f: put(p, 0, p.presentations[0] + f.presentations[0].split(b"~")[1] + b"~")
    ),
    "a type that was not asked for": with_wanted(types=frozenset(["note.added"])),
    "a unit that was not asked for": with_wanted(units=frozenset(["result"])),
    "a subject that was not asked for": with_wanted(subjects=frozenset([bytes(16)])),
    "another owner": with_wanted(owner=OTHER),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_what_was_not_asked_for_is_refused(arrived: Arrived, change: Change) -> None:
    page, wanted = change(arrived)
    sealed = replace(arrived.sealed, sha256=page.sha256, records=len(page.presentations))
    with pytest.raises(Problem) as caught:
        verify_page(page, sealed, wanted, arrived.trust)
    assert caught.value.code == "page-invalid"


@pytest.mark.parametrize("changes", [{"sha256": "00" * 32}, {"records": 4}])
def test_the_line_and_the_page_say_the_same(arrived: Arrived, changes: dict[str, object]) -> None:
    with pytest.raises(Problem, match="what its line says"):
        verify_page(arrived.page, replace(arrived.sealed, **changes), arrived.wanted, arrived.trust)  # type: ignore[arg-type]


def receiver(arrived: Arrived) -> Receiver:
    return arrived.world.site.extractions.requester._receiver


def test_a_page_of_another_place_does_not_open(arrived: Arrived) -> None:
    for number, extraction in ((2, arrived.wanted.extraction), (1, secrets.token_hex(16))):
        with pytest.raises(Problem) as caught:
            receiver(arrived).receive(replace(arrived.wanted, extraction=extraction), number, arrived.sealed)
        assert caught.value.code == "page-invalid"


def test_a_page_that_is_not_what_its_plaintext_should_be(arrived: Arrived) -> None:
    agent, wanted = arrived.world.site.node.agent, arrived.wanted
    place = Place(wanted.extraction, 1, OWNER, LEAD)
    page = Page((b"nothing",), (b"nothing",))
    line = parse_line(seal_page(page, place, arrived.sealed.kid, agent.encryption_key(LEAD)))
    assert isinstance(line, SealedPage)
    with pytest.raises(Problem) as caught:
        receiver(arrived).receive(wanted, 1, line)
    assert caught.value.code == "page-invalid"


def test_taken_twice_it_is_on_record_once_with_the_page_beside_it(arrived: Arrived) -> None:
    assert receiver(arrived).receive(arrived.wanted, 1, arrived.sealed) == 5
    assert receiver(arrived).receive(arrived.wanted, 1, arrived.sealed) == 5
    (record,) = arrived.world.records(LEAD, "disclosure.received")
    assert record["sha256"] == arrived.sealed.sha256
    first, _ = record["attachments"]
    assert (first["name"], first["sha256"]) == (PRESENTATIONS, record["sha256"])
    (made, *_) = [r for r in arrived.world.records(OWNER, "disclosure.made") if r["sha256"] == record["sha256"]]
    assert made["records"] == record["records"]
    assert {each["type"] for each in record["records"]} == {TYPE}
    with arrived.world.site.database.reading() as connection:
        kept = b"".join(arrived.world.site.node.reader.attachment(connection, record["id"], 1))
    assert kept == arrived.page.joined
