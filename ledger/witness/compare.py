"""Collecting what witnesses and others were shown of a log, and what this node itself holds, for `split` to compare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from ledger.checkpoints import vkeys_of
from ledger.errors import YunxiError
from ledger.formats.checkpoint import Checkpoint
from ledger.formats.note import Note
from ledger.formats.tiles import consistency_path, tree_root
from ledger.formats.tlogproof import TlogProof
from ledger.node import Node
from ledger.store.models import checkpoints
from ledger.store.reading import LogRow, StoredTiles, read_logs
from ledger.witness.client import HttpWitness
from ledger.witness.core import Logs
from ledger.witness.split import SplitView, Tree, find_splits


@dataclass(frozen=True, slots=True)
class Comparison:
    """`splits` are proofs; `problems` say which witnesses could not be asked, so that silence is no all-clear."""

    checkpoints: int
    splits: tuple[SplitView, ...]
    problems: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Everybody was asked and nothing contradicts."""
        return not self.splits and not self.problems


def compare(logs: Logs, notes: Iterable[bytes], urls: Sequence[str], node: Node | None = None) -> Comparison:
    """Compares collected notes, the newest checkpoints of the witnesses at `urls`, and those of `node`.

    Raises what `find_splits` raises for a collected note; a witness's bad note is a problem of that witness.
    """
    collected = list(notes)
    found, problems = _from_witnesses(logs, urls)
    collected += found
    if node is None:
        return Comparison(len(collected), tuple(find_splits(logs, collected, lambda _: None)), tuple(problems))
    with node.database.reading() as connection:
        rows = {log.origin: log for log in read_logs(connection) if log.origin in logs}
        problems += [text for note in found for text in _ahead(rows, note)]
        collected += [note for log in rows.values() for note in _own(connection, log, collected)]
        splits = find_splits(logs, collected, lambda origin: _tree(connection, rows.get(origin)))
    return Comparison(len(collected), tuple(splits), tuple(problems))


def compare_node(node: Node, department: str | None, urls: Sequence[str]) -> Comparison:
    """Compares the node's own logs, or one department's, with what the witnesses at `urls` were shown."""
    with node.database.reading() as connection:
        found = read_logs(connection, department)
    logs = {log.origin: vkeys_of(log.origin, node.agent.log_signer(log.department)) for log in found}
    return compare(logs, (), urls, node)


def note_in(data: bytes) -> bytes:
    """The checkpoint in a collected file: a note, or the receipt that carries it. Raises Malformed."""
    return TlogProof.parse(data).checkpoint if data.startswith(b"c2sp.org/tlog-proof") else data


def _from_witnesses(logs: Logs, urls: Sequence[str]) -> tuple[list[bytes], list[str]]:
    notes, problems = [], []
    for url in urls:
        try:
            asked = HttpWitness(url)
            shown = [asked.checkpoint(origin) for origin in logs]
            own = [note for note in shown if note is not None]
            find_splits(logs, own, lambda _: None)  # each must be signed by its log
        except YunxiError as error:
            problems.append(str(error))
            continue
        notes += own
    return notes, problems


def _ahead(rows: dict[str, LogRow], note: bytes) -> Iterator[str]:
    checkpoint = Checkpoint.parse(Note.parse(note).text)
    log = rows.get(checkpoint.origin)
    if log is not None and checkpoint.size > log.size:
        yield f"A witness has {checkpoint.size:,} entries of {log.origin}, this node {log.size:,}: was it put back?"


def _own(connection: Connection, log: LogRow, others: Sequence[bytes]) -> list[bytes]:
    """Our newest checkpoint, and those at every size that somebody else showed."""
    sizes = {Checkpoint.parse(Note.parse(note).text).size for note in others}
    query = select(checkpoints.c.note).where(checkpoints.c.log == log.number)
    newest = connection.scalars(query.order_by(checkpoints.c.size.desc()).limit(1)).all()
    return [*newest, *connection.scalars(query.where(checkpoints.c.size.in_(sizes)))]


def _tree(connection: Connection, log: LogRow | None) -> Tree | None:
    if log is None:
        return None
    tiles = StoredTiles(connection, log.number)

    def tree(size: int, larger: int) -> tuple[bytes, Sequence[bytes]] | None:
        if larger > log.size or size == 0:
            return None
        return tree_root(size, tiles), consistency_path(size, larger, tiles)

    return tree
