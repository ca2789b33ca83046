"""What a log's size does to append, proof and lookup. The logs are made up: real trees and indexes, no payloads."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from random import Random
from uuid import UUID

from sqlalchemy import update

from benchmarks.base import Ledger, Options, Row, Run, interleave, interleave_prepared, new_ledger
from ledger.admission import find_known
from ledger.formats.tiles import Edge, inclusion_path
from ledger.store.database import insert_rows
from ledger.store.models import entries, logs, position_of, tiles
from ledger.store.reading import StoredTiles, find_entry

NAME = "growth"
SPAN = 16_384
PROOFS = 50
NOTE = "made-up log without payloads"


def measure(options: Options) -> Iterator[Row]:
    """Each size in a ledger of its own."""
    for size in options.growth:
        with new_ledger() as ledger:
            _grow(ledger, size)
            yield from _at(ledger, size, options)


def _at(ledger: Ledger, size: int, options: Options) -> Iterator[Row]:
    draw, log = Random(size), ledger.log()  # noqa: S311  for even spread
    indexes = [draw.randrange(size) for _ in range(PROOFS)]
    ids = [str(UUID(bytes=_record_id(index))) for index in indexes]
    keys = [f"row-{draw.randrange(size):012d}" for _ in range(500)]
    with ledger.database.reading() as connection:
        reader = StoredTiles(connection, log.number)
        times = interleave(
            options.rounds,
            {
                "inclusion proof, one": lambda: [inclusion_path(i, size, reader) for i in indexes],
                "find a record by id": lambda: [find_entry(connection, record_id) for record_id in ids],
            },
        )
        known = interleave(options.rounds, {"": lambda: find_known(connection, log.number, keys)})[""]
    # keys of their own: the made-up entries hold those that the ledger's counter would give
    ledger.skip(size)
    append = interleave_prepared(options.rounds, {"": lambda: _submission(ledger, options.batch)})[""]
    yield append.cost(NAME, f"append, log of {size:,}", options.batch, note=NOTE)
    for name, taken in times.items():
        yield taken.cost(NAME, f"{name}, log of {size:,}", PROOFS, note=NOTE)
    yield known.cost(NAME, f"find known keys, 500 a query, log of {size:,}", len(keys), note=NOTE)


def _submission(ledger: Ledger, size: int) -> Run:
    batch = ledger.batch(size)
    return lambda: ledger.submit(batch)


def _grow(ledger: Ledger, size: int) -> None:
    edge = Edge()
    for start in range(0, size, SPAN):
        indexes = range(start, min(start + SPAN, size))
        written = edge.append([_leaf(index) for index in indexes])
        with ledger.database.writing() as connection:
            for write in written:
                here = (tiles.c.log == 1) & (tiles.c.level == write.level) & (tiles.c.tile == write.index)
                connection.execute(tiles.delete().where(here))
            insert_rows(connection, tiles, [(1, write.level, write.index, write.data) for write in written])
            insert_rows(connection, entries, [_entry(index) for index in indexes])
            connection.execute(update(logs).values(size=edge.size, root=edge.root()))


def _entry(index: int) -> tuple[object, ...]:
    return (position_of(1, index), _record_id(index), f"row-{index:012d}", bytes(16), 0, b"", 1)


def _record_id(index: int) -> bytes:
    """In the order of a UUIDv7, as real ones come."""
    return index.to_bytes(6, "big") + b"\x70" + sha256(b"id%d" % index).digest()[:9]


def _leaf(index: int) -> bytes:
    return sha256(b"leaf%d" % index).digest()
