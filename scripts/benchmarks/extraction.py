"""Extraction: pages at the owner, taking them in, memory while streaming, time into an open dossier."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

from anyio.from_thread import start_blocking_portal
from sqlalchemy import func, select

from benchmarks.base import Options, Row, Times, interleave, record
from gateway.app import create_app
from gateway.caller import PEER, Caller
from gateway.database import prepare
from gateway.dossiers.models import dossier_entries
from gateway.extractions import standing
from gateway.extractions.drafts import PAGE_RECORDS, draft, page_of
from gateway.extractions.owner import Opened
from gateway.extractions.pages import Place, SealedPage, parse_line, seal_page
from gateway.extractions.received import Wanted
from gateway.extractions.reference import SHOWN
from gateway.extractions.standing import Request
from gateway.proceedings.reading import find, subjects_of
from gateway.settings import GatewaySettings
from gateway.site import Site
from ledger.chain import embedded
from ledger.chain.sharing_grants import Terms
from ledger.departments import add_department
from ledger.node import Node, create_node
from ledger.receipts import make_receipts
from ledger.store.reading import read_logs
from ledger.submission import Acknowledged, Submission

NAME = "extract"
OWNER, LEAD = "market", "licensing"
COMPANY = {"kind": "uscc", "value": "91350100M000100Y43"}
UNITS = ("subjects", "result", "violations")
STREAMED = 100_000
ARRIVALS = 40
LIST = PAGE_RECORDS
CALLER = Caller("department", LEAD, frozenset([PEER]), "bench")


@dataclass(slots=True)
class World:
    """One node that hosts both departments; everything is granted."""

    site: Site
    submitted: int = 0
    inspections: int = 0

    def fill(self, count: int) -> list[str]:
        """Takes in records on COMPANY; their ids."""
        ids: list[str] = []
        while count > 0:
            size = min(1_000, count)
            batch = [Submission(f"row-{n}", _report(n)) for n in range(self.submitted, self.submitted + size)]
            outcomes = self.site.intake.submit(OWNER, batch)
            ids += [each.record_id for each in outcomes if isinstance(each, Acknowledged)]
            self.submitted, count = self.submitted + size, count - size
        self.site.projector.catch_up()
        return ids

    def inspect(self) -> str:
        """A fresh inspection; its number."""
        self.inspections += 1
        number = f"I-{self.inspections}"
        opening = {
            "type": "inspection.opened", "v": 1, "inspection": number, "kind": "food", "purpose": "joint-inspection",
            "subjects": [COMPANY], "participants": [OWNER], "occurred_at": "2026-03-02T09:15:00+08:00",
            "request": number,
        }  # fmt: skip
        self.site.intake.submit(LEAD, [Submission(f"inspection/{number}", opening, by_service=True)])
        self.site.projector.catch_up()
        return number

    def open(self) -> Opened:
        """A fresh extraction."""
        number = self.inspect()
        with self.site.database.reading() as connection:
            found = find(connection, "inspection", number, LEAD)
            assert found is not None
            subjects = tuple(sorted(subjects_of(connection, found.reference)))
        shown = self.site.extractions.requester.show(found.reference, SHOWN)
        receipt = shown["receipt"].encode()
        request = Request(OWNER, "joint-inspection", shown["presentation"].encode(), receipt, subjects)
        return self.site.extractions.owner.open(CALLER, request)


@contextmanager
def new_world(*, automatic: bool) -> Iterator[World]:
    """A site on an embedded chain in a directory that goes away again, served in this process."""
    with TemporaryDirectory(prefix="yunxi-bench-") as name:
        directory = Path(name) / "node"
        create_node(directory, consortium="bench.example")
        node = Node.open(directory)
        for department in (OWNER, LEAD):
            add_department(node, department, department)
        prepare(node.database)
        site = Site(node, GatewaySettings(authorities=("bench.example",)))
        now = int(time.time())
        terms = Terms(
            LEAD, now - 1, now + 86_400, 2**31, ("inspection.report",), UNITS, ("joint-inspection",), ("food",)
        )
        site.grants.give(OWNER, terms, by="bench")
        try:
            app = create_app(site, background=automatic)
            with start_blocking_portal() as portal, portal.wrap_async_context_manager(app.router.lifespan_context(app)):
                yield World(site)
        finally:
            embedded.stop(directory / "chain")


def measure(options: Options) -> Iterator[Row]:
    """Without HTTP, then with everything."""
    with new_world(automatic=False) as world:
        world.fill(LIST * max(options.rounds, 5) * 2)
        yield from _pages(world, options.rounds)
        world.fill(max(0, (STREAMED if options.records >= 20_000 else 10 * options.records) - world.submitted))
        yield from _stream(world)
    with new_world(automatic=True) as world:
        yield from _arrivals(world)


def _pages(world: World, rounds: int) -> Iterator[Row]:
    site, opened = world.site, world.open()
    extraction, allowed = opened.extraction, opened.decision.allowed
    owner, requester = site.extractions.owner, site.extractions.requester
    wanted = _wanted(extraction)
    pages = [0]
    lines: list[bytes] = []

    def page() -> None:
        lines[:] = list(owner.pages(CALLER, extraction.id, pages[0], 1))
        pages[0] += 1

    def take() -> None:
        sealed = parse_line(lines[0])
        assert isinstance(sealed, SealedPage)
        requester._receiver.receive(wanted, sealed.number, sealed)

    with site.database.reading() as connection:
        shown = draft(connection, site.node.reader, extraction, allowed)
        log = read_logs(connection, OWNER)[0]
    kid, recipient = owner._recipient(LEAD)
    place = Place(extraction.id, 1, OWNER, LEAD)

    def present() -> None:
        with site.database.reading() as connection:
            draft(connection, site.node.reader, extraction, allowed)

    def prove() -> list[bytes]:
        with site.database.writing() as connection:
            made = make_receipts(connection, site.node.agent, log, [one.index for one in shown], int(time.time()))
            return [receipt.serialize() for receipt in made]

    receipts = prove()
    times = interleave(
        rounds,
        {
            f"owner: page of {LIST}, decided, on record, sealed": page,
            "  of which found and presented": present,
            "  of which receipts": prove,
            "  of which digest and HPKE": lambda: seal_page(page_of(shown, receipts), place, kid, recipient),
            "requester: opened, verified, on record": take,
        },
    )
    for name, taken in times.items():
        yield taken.cost(NAME, name, LIST, target="≤ 100" if name.startswith("owner") else "")


def _stream(world: World) -> Iterator[Row]:
    extraction = world.open().extraction.id
    resident, count, began = [], 0, perf_counter()
    for line in world.site.extractions.owner.pages(CALLER, extraction, 0, 100_000):
        found = parse_line(line)
        count += found.records if isinstance(found, SealedPage) else 0
        if count % 10_000 == 0 or not isinstance(found, SealedPage):
            resident.append(_resident_mib())
    took = perf_counter() - began
    yield Times((took,)).cost(NAME, f"owner: stream of {count:,}, parsed again", count)
    grown = resident[-1] - resident[min(1, len(resident) - 1)]
    row = Row(NAME, f"memory grown over the stream of {count:,}", "MiB", grown, grown, 1, "flat")
    yield row
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield Row(NAME, "peak memory of the process", "MiB", peak, peak, 1)


def _arrivals(world: World) -> Iterator[Row]:
    world.fill(300)
    began, number = perf_counter(), world.inspect()
    _until(lambda: _entries(world, number) == 300)
    first = perf_counter() - began
    yield Row(NAME, "opening to a dossier of 300", "s", first, first, 1, "", "one node, signed HTTP in process")
    waits = []
    for _ in range(ARRIVALS):
        (new,) = world.fill(1)
        began = perf_counter()
        _until(lambda new=new: _has(world, number, new))  # type: ignore[misc]
        waits.append(perf_counter() - began)
        sleep(0.05)
    waits.sort()
    p95 = waits[int(len(waits) * 0.95) - 1]
    yield Row(NAME, "new record to open dossier, p50", "s", waits[0], statistics.median(waits), len(waits))
    yield Row(NAME, "new record to open dossier, p95", "s", p95, p95, len(waits), "≤ 3")


def _wanted(extraction: standing.Extraction) -> Wanted:
    return Wanted(
        extraction=extraction.id, owner=OWNER, requester=LEAD, lead=LEAD, claim=extraction.claim,
        number=extraction.number, reference=extraction.reference, purpose=extraction.purpose,
        case_kind=extraction.case_kind, subjects=frozenset(extraction.subjects),
    )  # fmt: skip


def _report(number: int) -> dict[str, object]:
    made = record(number)
    return made | {"subjects": [*made["subjects"], COMPANY]}


def _entries(world: World, number: str) -> int:
    with world.site.database.reading() as connection:
        query = select(func.count()).select_from(dossier_entries).where(dossier_entries.c.number == number)
        return connection.scalar(query) or 0


def _has(world: World, number: str, record_id: str) -> bool:
    here = (dossier_entries.c.number == number) & (dossier_entries.c.record_id == record_id)
    with world.site.database.reading() as connection:
        return connection.scalar(select(dossier_entries.c.record_id).where(here)) is not None


def _until(condition: object) -> None:
    deadline = perf_counter() + 60
    while not condition():  # type: ignore[operator]
        assert perf_counter() < deadline, "it did not arrive"
        sleep(0.005)


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
