"""What of a log is served: its newest signed checkpoint, and the tiles and entry bundles of the tree under it."""

from __future__ import annotations

from sqlalchemy import Connection, select

from gateway.problems import Problem
from gateway.site import Site
from ledger.checkpoints import SignedCheckpoint, cosigned_note
from ledger.errors import Malformed
from ledger.formats.checkpoint import Checkpoint
from ledger.formats.tiles import TILE_HEIGHT, TILE_WIDTH, TileAddress, encode_bundle, parse_tile_path
from ledger.store.models import checkpoints
from ledger.store.reading import LogRow, StoredTiles, read_entries, read_logs


def newest_checkpoint(site: Site, department: str) -> bytes:
    """The note, with the cosignatures it has by now. Raises Problem `not-found` for a log that is not here or has no
    checkpoint yet."""
    with site.database.reading() as connection:
        log = _log(connection, site, department)
        signed = _newest(connection, log)
        return cosigned_note(connection, log.number, signed)


def tile(site: Site, department: str, path: str) -> tuple[bytes, bool]:
    """A tile or an entry bundle by its path (`tile/…`), and whether it is full and so never changes.

    Raises Malformed for a path that names none, Problem `not-found` for one that the newest checkpoint does not cover.
    """
    address = parse_tile_path(path)
    with site.database.reading() as connection:
        log = _log(connection, site, department)
        size = _newest(connection, log).checkpoint.size
        _require_covered(address, size)
        if address.level is not None:
            data = StoredTiles(connection, log.number).tile(address.level, address.index, address.width)
        else:
            start = address.index * TILE_WIDTH
            data = encode_bundle(
                row.statement for row in read_entries(connection, log.number, start, start + address.width)
            )
        return data, address.width == TILE_WIDTH


def _require_covered(address: TileAddress, size: int) -> None:
    nodes = size >> TILE_HEIGHT * (address.level or 0)
    if address.index * TILE_WIDTH + address.width > nodes:
        raise Problem("not-found", "the newest checkpoint does not cover this tile: ask for what it covers")


def _log(connection: Connection, site: Site, department: str) -> LogRow:
    found = read_logs(connection, department) if department in site.hosted else []
    if not found:
        raise Problem("not-found", "there is no log of this department here: ask its own node")
    return found[0]


def _newest(connection: Connection, log: LogRow) -> SignedCheckpoint:
    query = select(checkpoints.c.note).where(checkpoints.c.log == log.number).order_by(checkpoints.c.size.desc())
    note = connection.scalar(query.limit(1))
    if note is None:
        raise Problem("not-found", "the log has no checkpoint yet: ask again once something was anchored")
    text, end, _ = note.partition(b"\n\n")
    if not end:
        raise Malformed("checkpoint", "has no signatures: run `yunxi audit`")
    return SignedCheckpoint(Checkpoint.parse(text + b"\n"), note)
