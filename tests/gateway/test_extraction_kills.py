"""Kill -9 of either node at any moment of an extraction: no disclosure without its record, no dossier entry lost.

Two nodes, each served by its own process, are killed at random moments while inspections are opened and records come;
then both logs must agree page by page, and every record must be in every dossier.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from gateway.dossiers.models import dossier_entries
from gateway.extractions.models import extraction_pages, pulls
from gateway.grants.service import Grants
from ledger.disclosures import RECEIVED, Side, check_grants, read_sides, reconcile
from ledger.formats.identifiers import normalise
from ledger.node import Node
from ledger.store.reading import read_logs
from ledger.submission import Submission
from tests.fixtures.exchange import KIND, LEAD, OWNER, PURPOSE, until
from tests.fixtures.pair import Served, pair
from tests.fixtures.records import COMPANY, acknowledged, report
from tests.fixtures.servers import Servers

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("YUNXI_KILLS", "100"))
RECORDS_A_STEP = 3
STEP_S = 0.2
INSPECTIONS = 4
PATIENCE_S = 8.0


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    opened = Servers()
    yield opened
    opened.close()


@pytest.fixture
def two(tmp_path: Path, servers: Servers) -> Iterator[tuple[Served, Served]]:
    """The owner's node and the lead's, serving, on one chain; the owner has granted."""
    with pair(tmp_path, servers) as opened:
        yield opened.owner, opened.lead


def feed(owner: Node, lead: Node, stop: threading.Event, taken: list[str], opened: list[str]) -> None:
    """Opens an inspection now and then, and lets records come all the time, past the services that are killed."""
    for step in range(10_000):
        if stop.is_set():
            return
        if step % 150 == 0 and len(opened) < INSPECTIONS:
            opened.append(inspect(lead, f"JC-{step}"))
        batch = [Submission(f"s{step}-{n}", report(step * 1_000 + n)) for n in range(RECORDS_A_STEP)]
        taken += [each.record_id for each in acknowledged(owner.intake.submit(OWNER, batch))]
        stop.wait(STEP_S)


def inspect(lead: Node, number: str) -> str:
    record = {
        "type": "inspection.opened", "v": 1, "inspection": number, "kind": KIND, "purpose": PURPOSE,
        "subjects": [COMPANY | {"value": normalise("uscc", COMPANY["value"])}], "participants": [OWNER],
        "occurred_at": "2026-03-02T09:15:00+08:00", "request": number,
    }  # fmt: skip
    acknowledged(lead.intake.submit(LEAD, [Submission(f"inspection/{number}", record, by_service=True)]))
    return number


def kill(
    served: Served, servers: Servers, kills: int, most: float, progress: Callable[[], int], seed: int
) -> threading.Thread:
    """Kills it again and again: half of the times when it has served for as long as chance will have it, half of them
    right after it got on by a page (or not at all for some seconds, while the other is down)."""
    dice = random.Random(seed)

    def run() -> None:
        for number in range(kills):
            until(served.server.answers, 60)
            if number % 2:
                before, last = progress(), time.monotonic() + PATIENCE_S
                while progress() == before and time.monotonic() < last:
                    time.sleep(0.01)
                time.sleep(dice.uniform(0.0, 0.3))
            else:
                time.sleep(dice.uniform(0.0, most))
            served.restart(servers)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def pages_made(owner: Node) -> int:
    with owner.database.reading() as connection:
        return connection.scalar(select(func.count()).select_from(extraction_pages)) or 0


def pages_taken(lead: Node) -> int:
    with lead.database.reading() as connection:
        return connection.scalar(select(func.sum(pulls.c.page))) or 0


def dossier(lead: Node, number: str) -> set[str]:
    with lead.database.reading() as connection:
        return set(connection.scalars(select(dossier_entries.c.record_id).where(dossier_entries.c.number == number)))


def sides_of(node: Node) -> list[Side]:
    with node.database.reading() as connection:
        return [side for log in read_logs(connection) for side in read_sides(connection, node.reader, log)]


def test_killed_at_any_moment_nothing_is_lost_and_nothing_unrecorded(
    two: tuple[Served, Served], servers: Servers
) -> None:
    owner, lead = two
    stop, taken, opened = threading.Event(), list[str](), list[str]()
    feeding = threading.Thread(target=feed, args=(owner.node, lead.node, stop, taken, opened), daemon=True)
    feeding.start()
    until(lambda: taken and owner.server.answers() and lead.server.answers())
    killing = [
        kill(owner, servers, KILLS * 3 // 4, 1.5, lambda: pages_made(owner.node), seed=1),
        # its work begins anew only when the lease of the one that was killed is over, so it lives a little longer
        kill(lead, servers, KILLS - KILLS * 3 // 4, 5.0, lambda: pages_taken(lead.node), seed=2),
    ]
    for thread in killing:
        thread.join()
    stop.set()
    feeding.join()
    assert owner.kills + lead.kills == KILLS

    until(lambda: all(dossier(lead.node, number) >= set(taken) for number in opened), 180)
    until(lambda: pages_made(owner.node) == pages_taken(lead.node), 60)
    mine, theirs = sides_of(owner.node), sides_of(lead.node)
    result = reconcile([*mine, *theirs], [OWNER, LEAD])
    assert result.differences == []
    assert result.made == result.received > len(opened)
    grants = Grants(owner.node, owner.node.connect, lambda _department, _batch: [])
    assert list(check_grants(mine, grants.find)) == []
    for number in opened:
        assert dossier(lead.node, number) == set(taken)
    pages = sorted((side.page[2], side.page[3]) for side in theirs if side.kind == RECEIVED)
    for extraction in {name for name, _ in pages}:
        here = [page for name, page in pages if name == extraction]
        assert here == list(range(1, len(here) + 1)), "a page is missing or stands twice"
    print(f"\n{KILLS} kills, {len(taken)} records, {len(opened)} inspections, {result.made} pages")
