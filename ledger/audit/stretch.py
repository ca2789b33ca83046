"""The audit of one stretch of a log: entries, tiles of levels 0 and 1, checkpoints, anchors. See `ledger.audit`, 1-7.

A stretch needs nothing of the ones before it: it hashes its own entries, and says what roots are claimed at which
sizes; `ledger.audit.logs` puts the stretches together and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, LargeBinary, String, Table, func, select, union_all
from sqlalchemy import cast as sql_cast

from ledger.audit.bench import STRETCH, Bench, Beside, Claim, OldKey, Stop, Stretch
from ledger.audit.beside import split_view
from ledger.audit.chain import Anchored, Location, Near, in_force
from ledger.audit.clocks import AnchorTime, Clocks, Moment, checkpoint_anomalies
from ledger.audit.statements import Claimed, StatementReader
from ledger.audit.vault import VaultAudit
from ledger.disclosures import APART_S
from ledger.errors import Malformed, NotProven, YunxiError
from ledger.formats.checkpoint import Checkpoint
from ledger.formats.merkle import leaf_hash
from ledger.formats.note import VerifierKey
from ledger.formats.tiles import Edge, TileWrite, tile_path
from ledger.formats.trust import Key
from ledger.store.models import (
    anchors,
    attachments,
    case_entries,
    checkpoints,
    cosignatures,
    entries,
    index_of,
    position_of,
    tiles,
    witness_conflicts,
    witness_heads,
)
from ledger.store.reading import EntryRow, StoredTiles, read_entries
from ledger.witness.client import accept

STRIDE = 2_048
"""Entries held in memory at a time: eight tiles."""

LATE_S = 3_600
"""How long a batch may have been on its way into the log when its key ended."""


class StretchAudit:
    """Audits entries `start` to `end` - 1 over one read transaction; `start` is a multiple of `STRETCH`."""

    def __init__(
        self, connection: Connection, bench: Bench, start: int, end: int, progress: Callable[[int], None]
    ) -> None:
        if start % STRETCH or not start < end <= start + STRETCH:
            raise ValueError(f"{start} to {end} is no stretch")
        self._connection = connection
        self._bench = bench
        self._log = bench.log
        self._progress = progress
        self._edge = Edge()
        self._found = Stretch(start, end, bench.new_report())
        self._report = self._found.report
        self._reader = StatementReader()
        self._vault = VaultAudit(connection, bench, self._found)
        self._own = bench.own_kids()
        self._anchored: dict[int, Anchored] = {}
        self._told_upto = 0  # what is anchored meanwhile, `_anchored` does not tell
        self._clocks = Clocks([], None)

    def run(self) -> Stretch:
        """Audits it. Raises CouldNotRun when database, chain or key agent fail; everything else is a finding."""
        self._ask_chain()
        stops = self._stops()
        for start, end in _spans(self._found.start, self._found.end, stops):
            self._check_span(start, end)
            if end in stops:
                self._found.stops.append(Stop(end, self._edge.root(), tuple(self._claims(end, stops[end]))))
            self._progress(end - start)
        self._found.root = self._edge.root()
        check_history(self._connection, self._bench, self._report, self._anchored)
        return self._found

    def some(self, indexes: list[int]) -> Stretch:
        """Audits these entries of the stretch alone, each against its leaf in the tile. Raises as `run`."""
        self._ask_chain()
        for index in indexes:
            rows = list(read_entries(self._connection, self._log.number, index, index + 1))
            beside = self._beside(index, index + 1)
            if rows:
                cases: dict[int, str | None] = {}
                leaf = self._stored_leaves(index, index + 1)[0]
                if self._check_entry(rows[0], leaf, beside[index], cases) != leaf:
                    self._add(rows[0], "tile-changed", f"the tile's leaf of entry {index:,} is not its statement's")
                self._check_cases(index, index + 1, cases)
            else:
                self._report.add("entry-missing", f"entry {index}", f"entry {index:,} of the log is gone", index)
            self._progress(1)
        return self._found

    def claims_at(self, size: int) -> Stretch:
        """What is claimed of the root at one size of the stretch; nothing else is looked at. Raises as `run`."""
        note = self._stops(size).get(size)
        self._found.stops.append(Stop(size, b"", tuple(self._claims(size, note))))
        return self._found

    # -- 1 to 4: entries and tiles --

    def _check_span(self, start: int, end: int) -> None:
        stored = self._stored_leaves(start, end)
        leaves = list(stored)
        rows = {row.index: row for row in read_entries(self._connection, self._log.number, start, end)}
        beside = self._beside(start, end)
        cases: dict[int, str | None] = {}
        for index in range(start, end):
            row = rows.get(index)
            if row is None:
                self._report.add("entry-missing", f"entry {index}", f"entry {index:,} of the log is gone", index)
                continue
            leaves[index - start] = self._check_entry(row, stored[index - start], beside[index], cases)
        self._check_cases(start, end, cases)
        for write in self._edge.append(leaves):
            self._check_tile(write)

    def _stored_leaves(self, start: int, end: int) -> list[bytes]:
        tiles_here, leaves = StoredTiles(self._connection, self._log.number), []
        for tile in range(start // 256, (end + 255) // 256):
            first, last = max(start, tile * 256), min(end, tile * 256 + 256)
            try:
                data = tiles_here.tile(0, tile, last - tile * 256)[(first - tile * 256) * 32 :]
            except NotProven:
                data = bytes(32 * (last - first))  # 4 names the tile as missing or short
            leaves += [data[i : i + 32] for i in range(0, len(data), 32)]
        return leaves

    def _beside(self, start: int, end: int) -> dict[int, Beside]:
        here = self._span(attachments.c.position, start, end)
        query = select(attachments.c.position, func.count()).where(here).group_by(attachments.c.position)
        blobs = {row[0]: row[1] for row in self._connection.execute(query)}
        # SQLite keeps whatever somebody puts there
        mark, key = sql_cast(entries.c.content_mark, LargeBinary), sql_cast(entries.c.key, String)
        found = select(entries.c.position, mark, key, entries.c.log).where(self._span(entries.c.position, start, end))
        return {
            index_of(position): Beside(mark, key, number, blobs.get(position, 0))
            for position, mark, key, number in self._connection.execute(found)
        }

    def _check_entry(self, row: EntryRow, stored_leaf: bytes, beside: Beside, cases: dict[int, str | None]) -> bytes:
        """The leaf hash to go on with: the statement's own, unless the statement is what was changed."""
        self._report.records += 1
        if beside.log != self._log.number:
            self._add(row, "entry-changed", f"the row of record {row.record_id} says that it is of another log")
        leaf = leaf_hash(row.statement)
        claimed = self._check_statement(row, verify=self._bench.check_signatures or leaf != stored_leaf)
        if claimed is None:
            return stored_leaf if leaf != stored_leaf else leaf
        self._found.types[claimed.type] += 1
        cases[row.index] = claimed.claims.get("case")
        self._vault.check(row, claimed, beside)
        return leaf

    def _check_statement(self, row: EntryRow, *, verify: bool) -> Claimed | None:
        """The statement where it is good. Its times are looked at where its signature is."""
        self._report.signatures += verify
        try:
            claimed = self._reader.read(row.statement)
            key = self._bench.keys.statement.get(claimed.kid)
            if key is None:
                raise Malformed("statement", f"names key {claimed.kid[:64]}, which is not the department's")
            if verify:
                claimed.verify(cast(Ed25519PublicKey, key.public))
            if claimed.record_id != row.record_id or claimed.issuer != self._log.department:
                raise Malformed("statement", "is another record's")
        except YunxiError as error:
            self._add(row, "statement-changed", f"the statement of record {row.record_id} was changed: {error}")
            return None
        self._check_time(row, key, claimed.issued_at)
        here = claimed.kid in self._own
        for kind, sentence in self._clocks.follow(
            Moment(row.record_id, row.index, claimed.issued_at, row.acknowledged_at, here)
        ):
            self._add(row, kind, sentence)
        return claimed

    def _check_time(self, row: EntryRow, key: Key, issued_at: int) -> None:
        self._found.newest_time = max(self._found.newest_time, issued_at)
        if not key.valid_at(issued_at):
            sentence = f"record {row.record_id} is dated outside the interval in which its key was registered"
            self._add(row, "key-not-valid", sentence)
        elif key.valid_to is not None and self._found.newest_time >= key.valid_to + LATE_S:
            self._add(row, "dated-back", dated_back(row.record_id))
        elif key.valid_to is not None:
            # whether later records stand in front of it only the stretches before can tell
            old = self._found.old_keys.setdefault(key.kid, OldKey(key.valid_to, 0, row.index, row.record_id))
            old.count += 1

    def _check_cases(self, start: int, end: int, cases: Mapping[int, str | None]) -> None:
        span = self._span(case_entries.c.position, start, end)
        query = select(case_entries.c.position, case_entries.c.case).where(span, case_entries.c.log == self._log.number)
        rows = ((index_of(position), case) for position, case in self._connection.execute(query))
        there = {(index, case) for index, case in rows if index in cases}
        wanted = {(index, case) for index, case in cases.items() if case is not None}
        for index, case in sorted(wanted ^ there):
            said = "lacks" if (index, case) in wanted else "has"
            sentence = f"the table of cases {said} entry {index:,} under {case[:100]}, and the entry says otherwise"
            self._report.add("case-entry-differs", f"entry {index}", sentence, index)

    def _check_tile(self, write: TileWrite) -> None:
        # a tile that grows over several spans is checked at every width it passes through, from its start;
        # tiles of level 2 and above hold several stretches, and are checked where these are put together
        if write.level > 1:
            return
        number = write.index + (self._found.start // 256 >> 8 * write.level)
        check_tile(self._connection, self._bench, self._report, TileWrite(write.level, number, write.data))

    # -- 5: roots --

    def _stops(self, only: int | None = None) -> dict[int, bytes | None]:
        """Sizes of this stretch where a root is claimed: the checkpoint's note where there is one."""
        start, end = (self._found.start, self._found.end) if only is None else (only - 1, only)
        signed = checkpoints.c.size.between(start + 1, end) & (checkpoints.c.log == self._log.number)
        anchored = anchors.c.size.between(start + 1, end) & (anchors.c.log == self._log.number)
        stops: dict[int, bytes | None] = dict.fromkeys(self._connection.scalars(select(anchors.c.size).where(anchored)))
        note = sql_cast(checkpoints.c.note, LargeBinary).label("note")
        rows = self._connection.execute(select(checkpoints.c.size, note).where(signed))
        stops |= {row.size: row.note for row in rows}
        shown = self._connection.scalars(union_all(*(select(t.c.size).where(self._shown(t)) for t, _, _ in _SHOWN)))
        here = cosignatures.c.size.between(start + 1, end) & (cosignatures.c.log == self._log.number)
        signed_by_others = self._connection.scalars(select(cosignatures.c.size).where(here).distinct())
        newest = self._bench.chain.size() if self._bench.chain else 0
        for size in (newest, *self._anchored, *shown, *signed_by_others):
            if start < size <= end:
                stops.setdefault(size, None)
        return dict(sorted(stops.items()))

    def _claims(self, size: int, note: bytes | None) -> Iterator[Claim]:
        anchor = self._anchor_row(size)
        if note is not None:
            yield from self._check_note(size, note, anchor)
        elif self._is_cosigned(size):
            sentence = f"there are cosignatures for size {size:,}, and no checkpoint that they would be of"
            self._report.add("cosignature-changed", f"checkpoint {size}", sentence, size)
        yield from self._shown_to_witnesses(size)
        if self._bench.chain is None:
            return
        anchored = self._root_at(size)
        if anchored is not None:
            self._report.anchors += 1
            sentence = f"the chain holds another root for size {size:,} than the stored statements give"
            yield Claim(size, "root-differs-from-chain", f"size {size}", sentence, anchored)
            self._check_anchor_row(size, anchor)
        elif anchor is not None:
            sentence = f"the node says size {size:,} is anchored, the chain does not know it"
            self._report.add("anchor-not-on-chain", f"size {size}", sentence, size)

    def _check_note(self, size: int, note: bytes, anchor: Any) -> Iterator[Claim]:
        where = f"checkpoint {size}"
        try:
            checkpoint, vkey = self._bench.keys.open(note)
        except YunxiError as error:
            self._report.add("checkpoint-changed", where, f"the checkpoint of size {size:,}: {error}", size)
            return
        self._report.checkpoints += 1
        sentence = f"the checkpoint of size {size:,} does not have the root that the stored statements give"
        if checkpoint == Checkpoint(self._log.origin, size, checkpoint.root):
            yield Claim(size, "checkpoint-differs", where, sentence, checkpoint.root)
        else:
            self._report.add("checkpoint-differs", where, sentence, size)
        cosigned = list(self._check_cosignatures(size, note, where))
        here = (checkpoints.c.log == self._log.number) & (checkpoints.c.size == size)
        signed_at = self._connection.scalar(select(checkpoints.c.signed_at).where(here)) or 0
        interval = self._bench.keys.intervals.get(vkey.public)
        if interval is not None and not in_force(interval, signed_at, APART_S):
            sentence = f"the checkpoint of size {size:,} is by a key that was not the log's when it was signed"
            self._report.add("key-not-valid", where, sentence, size)
        block_time = self._block_time(size, anchor.block_time) if anchor is not None else None
        for kind, said in checkpoint_anomalies(size, signed_at, block_time, cosigned):
            self._report.add(kind, where, said, size)

    def _is_cosigned(self, size: int) -> bool:
        here = (cosignatures.c.log == self._log.number) & (cosignatures.c.size == size)
        return self._connection.scalar(select(cosignatures.c.size).where(here).limit(1)) is not None

    def _check_cosignatures(self, size: int, note: bytes, where: str) -> Iterator[int]:
        here = (cosignatures.c.log == self._log.number) & (cosignatures.c.size == size)
        line = sql_cast(cosignatures.c.line, LargeBinary)
        query = select(cosignatures.c.witness, line.label("line"), cosignatures.c.time)
        for row in self._connection.execute(query.where(here)):
            try:
                found = accept(row.line, VerifierKey.parse(row.witness), note)
                if found.time != row.time:
                    raise Malformed("cosignature", "its row names another time than the witness did")
            except YunxiError as error:
                sentence = f"the cosignature of {row.witness[:100]} at size {size:,}: {error}"
                self._report.add("cosignature-changed", where, sentence, size)
                continue
            self._report.cosignatures += 1
            key = self._bench.witnesses.get(VerifierKey.parse(row.witness).public)
            if key is not None and not in_force(key.interval, found.time, APART_S):
                sentence = f"{row.witness[:100]} cosigned size {size:,} while its key was not registered"
                self._report.add("key-not-valid", where, sentence, size)
            yield found.time

    def _shown(self, table: Table) -> Any:
        return table.c.origin == self._log.origin

    def _shown_to_witnesses(self, size: int) -> Iterator[Claim]:
        """Roots that this node's witnesses stand at, or were shown and refused."""
        where = f"size {size}"
        for table, kind, words in _SHOWN:
            query = select(table.c.witness, sql_cast(table.c.root, LargeBinary).label("root"))
            for row in self._connection.execute(query.where(self._shown(table), table.c.size == size)):
                yield Claim(size, kind, where, words(row.witness, size), row.root)

    def _check_anchor_row(self, size: int, row: Any) -> None:
        # receipts sign what this row says, so it must be what the chain says
        location = self._location(size)
        if location is None or row is None:
            return
        said = Location(row.block_number, row.block_hash, row.transaction, row.block_time)
        place = self._bench.place
        if said != location or (place is not None and (row.chain_id, row.contract.lower()) not in _places(place)):
            sentence = f"the node says the anchor of size {size:,} stands elsewhere than where the chain holds it"
            self._report.add("anchor-row-changed", f"size {size}", sentence, size)

    # -- what it is read with --

    def _anchor_row(self, size: int) -> Any:
        here = (anchors.c.log == self._log.number) & (anchors.c.size == size)
        return self._connection.execute(select(anchors).where(here)).one_or_none()

    def _anchor_times(self) -> list[AnchorTime]:
        start, end = self._found.start, self._found.end
        here = select(anchors.c.size, anchors.c.block_time).where(anchors.c.log == self._log.number)
        before = here.where(anchors.c.size <= start).order_by(anchors.c.size.desc()).limit(1)
        within = here.where(anchors.c.size > start, anchors.c.size <= end).order_by(anchors.c.size)
        behind = here.where(anchors.c.size > end).order_by(anchors.c.size).limit(1)
        found = [row for query in (before, within, behind) for row in self._connection.execute(query)]
        return [AnchorTime(row.size, self._block_time(row.size, row.block_time)) for row in found]

    def _block_time(self, size: int, said: int) -> int:
        """What the chain says, where it can be asked; the row is held against that as well."""
        location = self._location(size)
        return said if location is None else location.block_time

    def _ask_chain(self) -> None:
        """All that the chain holds of the stretch, at most an anchor for each of its entries."""
        start, end = self._found.start, self._found.end
        if self._bench.chain is not None:
            there = self._bench.chain.between(start, end, self._near())
            self._anchored = {anchored.size: anchored for anchored in there}
            self._told_upto = min(end, self._bench.chain.size())
        self._clocks = Clocks(self._anchor_times(), self._acknowledged_before())

    def _near(self) -> Near:
        """Where the node says that the anchors around the stretch stand."""
        here = select(anchors.c.size, anchors.c.block_number).where(anchors.c.log == self._log.number)
        before = here.where(anchors.c.size <= self._found.start).order_by(anchors.c.size.desc()).limit(1)
        behind = here.where(anchors.c.size >= self._found.end).order_by(anchors.c.size).limit(1)
        block = self._connection.execute(before).one_or_none()
        above = self._connection.execute(behind).one_or_none()
        # SQLite keeps whatever somebody puts there
        number = block.block_number if block is not None and type(block.block_number) is int else 0
        return Near(max(0, number), above.size if above is not None else 0)

    def _root_at(self, size: int) -> bytes | None:
        if self._bench.chain is None:
            return None
        if not self._is_told(size):
            return self._bench.chain.root_at(size)
        found = self._anchored.get(size)
        return None if found is None else found.root

    def _location(self, size: int) -> Location | None:
        if self._bench.chain is None:
            return None
        if not self._is_told(size):
            return self._bench.chain.location_of(size)
        found = self._anchored.get(size)
        return None if found is None else found.location

    def _is_told(self, size: int) -> bool:
        return self._found.start < size <= self._told_upto

    def _acknowledged_before(self) -> int | None:
        if self._found.start == 0:
            return None
        here = entries.c.position == position_of(self._log.number, self._found.start - 1)
        return self._connection.scalar(select(entries.c.acknowledged_at).where(here))

    def _span(self, column: Any, start: int, end: int) -> Any:
        return column.between(position_of(self._log.number, start), position_of(self._log.number, end) - 1)

    def _add(self, row: EntryRow, kind: str, sentence: str) -> None:
        self._report.add(kind, f"entry {row.index}", sentence, row.index, row.record_id)


def _other_history(witness: str, size: int) -> str:
    return f"witness {witness[:60]} stands at another root for size {size:,} than the stored statements give"


_SHOWN: tuple[tuple[Table, str, Callable[[str, int], str]], ...] = (
    (witness_heads, "witness-head-changed", _other_history),
    (witness_conflicts, "split-view", split_view),
)


def check_tile(connection: Connection, bench: Bench, report: Any, write: TileWrite) -> None:
    """Holds what the statements give against what is stored, and adds a finding where it differs."""
    here = (tiles.c.log == bench.log.number) & (tiles.c.level == write.level) & (tiles.c.tile == write.index)
    stored = connection.scalar(select(sql_cast(tiles.c.hashes, LargeBinary)).where(here)) or b""
    stored = stored[: len(write.data)]
    if stored == write.data:
        return
    byte = next((i for i, (a, b) in enumerate(zip(stored, write.data, strict=False)) if a != b), len(stored))
    path = tile_path(write.level, write.index, 256)
    index = (write.index * 256 + byte // 32) * 256**write.level
    report.add("tile-changed", f"{path} byte {byte}", f"{path} differs at byte {byte:,}", index)


def check_history(connection: Connection, bench: Bench, report: Any, anchored: Iterable[int]) -> None:
    """That the node still has what it signed: every anchor on the chain is of a checkpoint that was signed here."""
    sizes = sorted(anchored)
    if not sizes:
        return
    signed, known = (set(connection.scalars(_sizes(table, bench, sizes))) for table in (checkpoints, anchors))
    for size in sizes:
        if size not in signed:
            sentence = f"the chain holds an anchor of size {size:,}, and the node's checkpoint of that size is gone"
            report.add("checkpoint-missing", f"size {size}", sentence, size)
        elif size not in known:
            sentence = f"the chain holds an anchor of size {size:,} that the node does not know of"
            report.add("anchor-forgotten", f"size {size}", sentence, size)


def _sizes(table: Table, bench: Bench, span: Sequence[int]) -> Any:
    return select(table.c.size).where(table.c.log == bench.log.number, table.c.size.between(span[0], span[-1]))


def dated_back(record_id: str) -> str:
    """The sentence of a `dated-back` finding."""
    return f"record {record_id} is dated before its key ended, but stands behind records from later"


def _places(place: tuple[int, frozenset[str]]) -> set[tuple[int, str]]:
    return {(place[0], contract) for contract in place[1]}


def _spans(start: int, end: int, stops: Mapping[int, bytes | None]) -> Iterator[tuple[int, int]]:
    """Cuts `start` to `end` into spans of at most `STRIDE` that end at every stop."""
    for stop in [*stops, end]:
        while start < stop:
            until = min(stop, (start // STRIDE + 1) * STRIDE)
            yield start, until
            start = until
