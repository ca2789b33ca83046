"""A grant's day is exact whoever counts: two processes of a node, stood for by two sites that share nothing but the
directory and the database, give from one grant at the same time."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway.caller import PEER, Caller
from gateway.extractions.models import extraction_usage
from gateway.extractions.owner import Owner, SubmitBeside
from gateway.extractions.pages import SealedPage, parse_line
from gateway.extractions.projection import used_today
from gateway.problems import Problem
from gateway.site import Site
from ledger.node import Node
from ledger.submission import Outcome
from tests.fixtures.exchange import LEAD, OWNER, SETTINGS, Exchange, exchange

PER_DAY, PAGE = 10, 7
CALLER = Caller("department", LEAD, frozenset({PEER}), "test")


def pull(owner: Owner, extraction: str, given: list[int], stopped: list[str]) -> None:
    """Pages, one after the other, until there is nothing more or the owner stops."""
    page = 0
    while True:
        try:
            found = parse_line(next(iter(owner.pages(CALLER, extraction, page, 1))))
        except Problem as problem:
            stopped.append(problem.code)
            return
        if not isinstance(found, SealedPage):
            return
        page = found.number
        given.append(found.records)


def meet_before_the_first(owners: list[Owner]) -> None:
    """Has every owner draw up its first page before any of them puts one on record."""
    barrier = threading.Barrier(len(owners))

    def after_all(submit: SubmitBeside) -> SubmitBeside:
        met: list[int] = []

        def waiting(*args: Any, **more: Any) -> list[Outcome]:
            if not met:
                met.append(barrier.wait(60))
            return submit(*args, **more)

        return waiting

    for owner in owners:
        owner._submit = after_all(owner._submit)
        owner._page_records = PAGE


@pytest.mark.slow
def test_two_processes_never_give_more_than_a_grants_day(tmp_path: Path) -> None:
    with exchange(tmp_path / "node") as world:
        world.submit(2 * PAGE)
        grant = world.grant(per_day=PER_DAY)
        extractions = [world.extract(world.inspect()) for _ in range(2)]
        other = Site(Node.open(tmp_path / "node"), SETTINGS)
        try:
            owners = [world.site.extractions.owner, other.extractions.owner]
            meet_before_the_first(owners)
            given, stopped = pull_all(owners, extractions)
        finally:
            other.close()
        assert sorted(given) == [PER_DAY - PAGE, PAGE]
        assert stopped == ["rate-exceeded"] * 2
        made = world.records(OWNER, "disclosure.made")
        assert sum(len(each["records"]) for each in made) == PER_DAY
        check_usage(world, grant.id)


def pull_all(owners: list[Owner], extractions: list[str]) -> tuple[list[int], list[str]]:
    """One extraction from each owner, both at once; records by page, and why they were stopped."""
    given: list[int] = []
    stopped: list[str] = []
    threads = [
        threading.Thread(target=pull, args=(owner, extraction, given, stopped))
        for owner, extraction in zip(owners, extractions, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return given, stopped


def check_usage(world: Exchange, grant: int) -> None:
    """What was counted in passing is what the projection makes of the log."""
    world.site.projector.catch_up()
    with world.site.database.reading() as connection:
        assert used_today(connection, OWNER, grant, time.time()) == PER_DAY
    before = usage(world)
    world.site.projector.rebuild()
    assert usage(world) == before


def usage(world: Exchange) -> list[tuple[Any, ...]]:
    with world.site.database.reading() as connection:
        rows = connection.execute(select(extraction_usage).order_by(*extraction_usage.primary_key.columns))
        return [tuple(row) for row in rows]
