"""The audit of one log: its stretches put together, and what only the whole log can say."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlalchemy import Connection, func, select

from ledger.audit.bench import STRETCH, Bench, HoldEvent, Stretch
from ledger.audit.chain import AnchoredRoots, LogKeys
from ledger.audit.findings import LogReport, in_order
from ledger.audit.stretch import LATE_S, StretchAudit, check_history, check_tile, dated_back
from ledger.formats.merkle import EMPTY_ROOT, node_hash
from ledger.formats.tiles import MAX_LEVELS, Edge, TileWrite, tile_path
from ledger.keks import KekRing
from ledger.keys import KeyAgent
from ledger.store.blobs import Blobs
from ledger.store.models import (
    INDEX_BITS,
    anchors,
    attachments,
    case_entries,
    checkpoints,
    cosignatures,
    destructions,
    entries,
    holds,
    index_of,
    position_of,
    tiles,
    vault,
)
from ledger.store.reading import LogRow, read_logs, read_positions
from ledger.terminals import statement_keys

UPPER = 2
"""The level whose hashes are roots of whole stretches."""


def stretches_of(size: int) -> Iterator[tuple[int, int]]:
    """The stretches of a log of `size` entries, in order."""
    for start in range(0, size, STRETCH):
        yield start, min(start + STRETCH, size)


def reach(connection: Connection, log: LogRow) -> int:
    """How far there is something to audit, entries or leaves: the log's size, unless the head was made to say more."""
    first, last = position_of(log.number, 0), position_of(log.number, max(log.size, 1) - 1)
    newest = connection.scalar(select(func.max(entries.c.position)).where(entries.c.position.between(first, last)))
    of_entries = 0 if newest is None else index_of(newest) + 1
    here = (tiles.c.log == log.number) & (tiles.c.level == 0) & (tiles.c.tile <= log.size // 256)
    query = select(tiles.c.tile, func.length(tiles.c.hashes)).where(here).order_by(tiles.c.tile.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    of_leaves = 0 if row is None else row[0] * 256 + min(256, row[1] // 32)
    return min(log.size, max(of_entries, of_leaves))


class LogAudit:
    """The audit of one log over one read transaction, in this process. `chain` None: it could not be asked, and the
    report says so."""

    def __init__(
        self,
        connection: Connection,
        log: LogRow,
        agent: KeyAgent,
        keks: KekRing,
        blobs: Blobs,
        chain: AnchoredRoots | None,
        *,
        check_signatures: bool = True,
        progress: Callable[[int], None] = lambda _: None,
        keys: LogKeys | None = None,
    ) -> None:
        """`keys` None: as the key agent holds them, which knows of no intervals."""
        known = keys or LogKeys.held(agent, log, statement_keys(connection, log.department))
        self._bench = Bench(log, agent, keks, blobs, known, chain, check_signatures)
        self._connection = connection
        self._progress = progress

    def run(self) -> LogReport:
        """Audits the whole log. Raises CouldNotRun when database or key agent fail; everything else is a finding."""
        return audit_log(self._connection, self._bench, self._progress).report


def audit_log(connection: Connection, bench: Bench, progress: Callable[[int], None]) -> Whole:
    """Audits a log, stretch by stretch. Raises as `LogAudit.run`."""
    whole = Whole(connection, bench)
    for start, end in stretches_of(reach(connection, bench.log)):
        whole.take(StretchAudit(connection, bench, start, end, progress).run())
    whole.finish()
    return whole


class Whole:
    """Takes the stretches of one log in their order, and judges what they could not."""

    def __init__(self, connection: Connection, bench: Bench) -> None:
        self._connection = connection
        self._bench = bench
        self._log = bench.log
        self.report = bench.new_report()
        self.exchanges: list[int] = []
        self.holds: dict[str, HoldEvent] = {}
        self._table: dict[int, tuple[str | int | None, ...]] = {}
        self._destroyed: dict[int, str] = {}
        self._upper = Edge()
        self._full: list[tuple[int, bytes]] = []
        self._rest: bytes | None = None
        self._newest_time = 0

    @classmethod
    def over(cls, connection: Connection, bench: Bench, report: LogReport) -> Whole:
        """For an audit that has a report and no stretches: `check_ends` adds to it."""
        whole = cls(connection, bench)
        whole.report = report
        return whole

    def take(self, stretch: Stretch) -> None:
        """The next stretch."""
        for stop in stretch.stops:
            root = self._root_with(stop.root, stop.size - stretch.start)
            for claim in stop.claims:
                if claim.root != root:
                    stretch.report.add(claim.kind, claim.where, claim.sentence, claim.size)
        self._check_old_keys(stretch)
        for event in stretch.holds:
            self._follow(event, stretch.report)
        self.exchanges += stretch.exchanges
        self.report.take(stretch.report)
        self._grow(stretch)

    def finish(self) -> None:
        """What is to be said once every stretch was taken: head, ends, what is too much."""
        there = reach(self._connection, self._log)
        if there < self._log.size:
            gone = self._log.size - there
            sentence = f"entry {there:,} of the log is gone" + (f", and {gone - 1:,} after it" if gone > 1 else "")
            self.report.add("entry-missing", f"entry {there}", sentence, there)
            self.report.counts["entry-missing"] += gone - 1
        if self._root() != self._log.root:
            sentence = "the head's root is not the one that the stored statements give"
            self.report.add("head-differs", f"size {self._log.size}", sentence, self._log.size)
        self._check_holds()
        self._check_destructions()
        self._check_history(there)
        self.check_ends()

    def check_ends(self) -> None:
        """That nothing was cut off, and nothing lies beyond the end."""
        self._check_rolled_back()
        now = next((log for log in read_logs(self._connection, self._log.department)), self._log)
        self._check_overhang(now)
        self._check_beyond(now)
        self.report.findings = in_order(self.report.findings)

    # -- roots --

    def _grow(self, stretch: Stretch) -> None:
        if stretch.end - stretch.start < STRETCH:
            self._rest = stretch.root
            return
        for write in self._upper.append([stretch.root]):
            check_tile(
                self._connection, self._bench, self.report, TileWrite(write.level + UPPER, write.index, write.data)
            )
        height, node = 0, stretch.root
        while self._full and self._full[-1][0] == height:
            node, height = node_hash(self._full.pop()[1], node), height + 1
        self._full.append((height, node))

    def _root_with(self, rest: bytes, size: int) -> bytes:
        """The root of what was taken and `size` entries more, whose own root is `rest`."""
        nodes, height = list(self._full), 0
        if size == STRETCH:
            while nodes and nodes[-1][0] == height:
                rest, height = node_hash(nodes.pop()[1], rest), height + 1
        for _, node in reversed(nodes):
            rest = node_hash(node, rest)
        return rest

    def _root(self) -> bytes:
        if self._rest is not None:
            return self._root_with(self._rest, 0)
        if not self._full:
            return EMPTY_ROOT
        root = self._full[-1][1]
        for _, node in reversed(self._full[:-1]):
            root = node_hash(node, root)
        return root

    # -- what one stretch could not know --

    def _check_old_keys(self, stretch: Stretch) -> None:
        for old in stretch.old_keys.values():
            if self._newest_time < old.ends + LATE_S:
                continue
            stretch.report.add("dated-back", f"entry {old.index}", dated_back(old.record_id), old.index, old.record_id)
            stretch.report.counts["dated-back"] += old.count - 1
        self._newest_time = max(self._newest_time, stretch.newest_time)

    def _follow(self, event: HoldEvent, report: LogReport) -> None:
        """Keeps the holds in force; says where a record was destroyed under one."""
        if event.kind == "placed":
            self.holds[event.record_id] = event
            self._table[event.index] = (*event.values, None)
        elif event.kind == "lifted":
            ended = self.holds.pop(event.values[0], None)
            if ended is not None:
                self._table[ended.index] = (*ended.values, event.index)
        else:
            name, *parts = event.values
            covered = set(zip(parts[::2], parts[1::2], strict=True))
            self._destroyed[event.index] = name
            hold = next((hold for hold in self.holds.values() if hold.values in covered), None)
            if hold is not None:
                sentence = f"record {name} was destroyed while it was under legal hold {hold.record_id}"
                where = f"entry {event.index}"
                report.add("destroyed-on-hold", where, sentence, event.index, event.record_id)

    def _check_holds(self) -> None:
        """The table of holds, which forgetting asks, against what the log says of holds."""
        number, size = self._log.number, self._log.size
        rows = self._connection.execute(select(holds).where(holds.c.log == number).order_by(holds.c.position))
        there = {
            index_of(row.position): (row.scope, row.value, _lifted(row.lifted_by, size))
            for row in rows
            if index_of(row.position) < size
        }
        for index in sorted(self._table.keys() | there.keys()):
            if self._table.get(index) != there.get(index):
                sentence = f"the table of legal holds does not say of entry {index:,} what the log says"
                self.report.add("holds-differ", f"entry {index}", sentence, index)

    def _check_destructions(self) -> None:
        """The table of what was forgotten, by which a record counts as forgotten, against the certificates."""
        number, size = self._log.number, self._log.size
        now = next((log.size for log in read_logs(self._connection, self._log.department)), size)
        first, last = position_of(number, 0), position_of(number, (1 << INDEX_BITS) - 1)
        here = select(destructions).where(destructions.c.position.between(first, last))
        for position, by in self._connection.execute(here.order_by(destructions.c.position)).all():
            if position_of(number, size) <= by < position_of(number, now):
                continue  # forgotten since the audit began
            gone = read_positions(self._connection, [position])
            name = gone[0].record_id if gone else None
            if not first <= by or self._destroyed.get(index_of(by)) != name:
                index = index_of(position)
                sentence = f"the table of forgotten records has entry {index:,}, and no certificate says so"
                certificates = read_positions(self._connection, [by])
                said = certificates[0].record_id if certificates else None
                self.report.add("destruction-differs", f"entry {index}", sentence, index, said)

    def _check_history(self, there: int) -> None:
        """Of what the chain holds beyond the last entry that is there; the stretches looked at the rest."""
        if self._bench.chain is not None:
            beyond = (anchored.size for anchored in self._bench.chain.between(there, self._log.size))
            check_history(self._connection, self._bench, self.report, beyond)

    # -- ends --

    def _check_rolled_back(self) -> None:
        number, size = self._log.number, self._log.size
        newest = self._bench.chain.size() if self._bench.chain else 0
        self.report.anchored_size = newest
        now = next((log.size for log in read_logs(self._connection, self._log.department)), size)
        ends = [self._connection.scalar(select(func.max(t.c.size)).where(t.c.log == number)) for t in _SIGNED]
        beyond = max(newest, *(end or 0 for end in ends))
        if beyond > max(size, now):
            sentence = f"the log was cut: it has {size:,} entries, but {beyond:,} were signed or anchored"
            self.report.add("rolled-back", f"size {size}", sentence, size)

    def _check_overhang(self, now: LogRow) -> None:
        # tiles were compared as far as the tree has them; here, that they hold nothing more
        rows = select(tiles.c.level, tiles.c.tile, func.length(tiles.c.hashes)).where(tiles.c.log == now.number)
        for level, tile, length in self._connection.execute(rows.order_by(tiles.c.level, tiles.c.tile)):
            if not 0 <= level < MAX_LEVELS or not 0 <= tile <= now.size:
                sentence = f"the table of tiles has tile {tile} of level {level}, which no tree of this size has"
                self.report.add("tile-changed", f"tile {level} {tile}", sentence, now.size)
                continue
            width = min(256, max(0, (now.size >> 8 * level) - 256 * tile))
            if length > 32 * width:
                path = tile_path(level, tile, 256)
                sentence = f"{path} holds {length:,} bytes, the tree has {32 * width:,} there"
                index = (tile * 256 + width) * 256**level
                self.report.add("tile-changed", f"{path} byte {32 * width}", sentence, index)

    def _check_beyond(self, now: LogRow) -> None:
        beyond = entries.c.position.between(
            position_of(now.number, now.size), position_of(now.number, (1 << INDEX_BITS) - 1)
        )
        extra = self._connection.scalar(select(func.count()).select_from(entries).where(beyond))
        if extra:
            sentence = f"{extra:,} entries lie beyond the head's size"
            self.report.add("entry-beyond-head", f"entry {now.size}", sentence, now.size)
            return
        for table in (vault, attachments, case_entries, destructions, holds):
            start, end = position_of(now.number, now.size), position_of(now.number, (1 << INDEX_BITS) - 1)
            rows = select(table.c.position).where(table.c.position.between(start, end)).limit(1)
            if self._connection.scalar(rows) is not None:
                sentence = f"table {table.name} has rows beyond the head's size"
                self.report.add("rows-beyond-head", f"table {table.name}", sentence, now.size)


def _lifted(position: int | None, size: int) -> int | None:
    return None if position is None or index_of(position) >= size else index_of(position)


_SIGNED = (checkpoints, anchors, cosignatures)
