"""A sampled audit: entries drawn at random, each shown to stand under the head, and the roots of some old sizes.

What it says of the entries that it drew is as sure as the full audit. Of the others it says how likely a hole would
have been met: where one entry in `k` is bad, `n` draws miss it with (1 - 1/k)^n. The draw is made anew each time unless
its seed is given again, so that nobody knows before what will be looked at.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import TypeVar

from sqlalchemy import Connection, select

from ledger.audit.bench import STRETCH, Bench
from ledger.audit.findings import LogReport
from ledger.audit.logs import Whole, reach
from ledger.audit.stretch import StretchAudit
from ledger.errors import NotProven, YunxiError
from ledger.formats.merkle import verify_inclusion
from ledger.formats.tiles import TileReader, TreeView, tree_root
from ledger.store.models import anchors, checkpoints
from ledger.store.reading import StoredTiles

MAX_OLD_SIZES = 100
_PROOFS_A_VIEW = 256

T = TypeVar("T")


def sample_log(
    connection: Connection, bench: Bench, count: int, seed: int, progress: Callable[[int], None]
) -> LogReport:
    """Audits `count` entries of a log, all where it has no more. Raises as the full audit does."""
    log, report = bench.log, bench.new_report()
    tiles = StoredTiles(connection, log.number)
    drawn = draw(reach(connection, log), count, f"{seed}/{log.origin}")
    for number, indexes in groupby(drawn, key=lambda index: index // STRETCH):
        start = number * STRETCH
        chosen = list(indexes)
        stretch = StretchAudit(connection, bench, start, min(start + STRETCH, log.size), progress).some(chosen)
        report.take(stretch.report)
    _check_included(report, bench, tiles, drawn)
    _check_old_roots(report, connection, bench, tiles, random.Random(seed))  # noqa: S311  the draw is no secret after it
    report.sampled = len(drawn)
    Whole.over(connection, bench, report).check_ends()
    return report


def draw(size: int, count: int, seed: str) -> list[int]:
    """Indexes drawn without return, in order."""
    return sorted(random.Random(seed).sample(range(size), min(count, size)))  # noqa: S311


def some_of(items: Iterable[T], count: int, chance: random.Random) -> list[T]:
    """`count` of the items, each as likely as the others, and the last one; in their order. Holds no others."""
    kept: list[tuple[int, T]] = []
    last: list[tuple[int, T]] = []
    for number, item in enumerate(items):
        last = [(number, item)]
        place = number if number < count else chance.randrange(number + 1)
        if place < count:
            kept[place : place + 1] = last
    return [item for _, item in sorted([*kept, *(one for one in last if one not in kept)], key=lambda one: one[0])]


def _check_included(report: LogReport, bench: Bench, tiles: TileReader, drawn: list[int]) -> None:
    log = bench.log
    for place in range(0, len(drawn), _PROOFS_A_VIEW):
        view = TreeView(log.size, tiles)
        for index in drawn[place : place + _PROOFS_A_VIEW]:
            try:
                leaf = tiles.tile(0, index // 256, index % 256 + 1)[-32:]
                verify_inclusion(leaf, index, log.size, view.inclusion_path(index), log.root)
            except YunxiError as error:
                report.add("tile-changed", f"entry {index}", f"entry {index:,} is not under the head: {error}", index)


def _check_old_roots(
    report: LogReport, connection: Connection, bench: Bench, tiles: TileReader, chance: random.Random
) -> None:
    number, size = bench.log.number, bench.log.size
    chosen: set[int] = set()
    for table in (checkpoints, anchors):
        query = select(table.c.size).where(table.c.log == number, table.c.size <= size).order_by(table.c.size)
        chosen |= set(some_of(connection.scalars(query), MAX_OLD_SIZES // 2, chance))
    newest = bench.chain.size() if bench.chain else 0
    chosen |= {newest} & set(range(1, size + 1))
    for old in sorted(chosen):
        start = (old - 1) // STRETCH * STRETCH
        found = StretchAudit(connection, bench, start, min(start + STRETCH, size), lambda _: None).claims_at(old)
        try:
            root = tree_root(old, tiles)
        except NotProven as error:
            report.add("tile-changed", f"size {old}", f"the tree of size {old:,} cannot be made: {error}", old)
            continue
        report.take(found.report)
        for stop in found.stops:
            for claim in stop.claims:
                if claim.root != root:
                    report.add(claim.kind, claim.where, claim.sentence, claim.size)
