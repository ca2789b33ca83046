"""The audit: recompute everything from what is stored, believe nothing, and name the first thing that does not fit.

For each log, entry by entry, in constant memory:

1. Every index from 0 to the head's size - 1 has an entry, and none lies beyond.
2. The entry's statement hashes to its leaf in the level-0 tile. Where it does not, the statement's own signature tells
   which of the two was changed.
3. The statement is signed by a statement key of the department, at a time within that key's interval in the chain's
   registry, and its record id is the row's. A statement by an ended key does not stand behind later ones: nobody dates
   back with an old key.
4. Every tile, recomputed from the statements, is the stored one, byte for byte.
5. At every size that a checkpoint was signed for or an anchor taken at: the recomputed root is the checkpoint's, the
   stored anchor's and the chain's own, and at the end the head's. The chain is asked, not the anchors table. Every
   stored cosignature of the checkpoint is good.
6. The payload opens under its data key with the statement's hash, and its disclosures are the statement's, all of them.
7. Every attachment opens and has the size and SHA-256 that its disclosure names.
8. The reports that feeds left in the log fit each other and the log (see ledger.feeds); one overdue is no finding.
9. A key or payload that is gone has its certificate (`record.destroyed`) later in the same log, of this record and its
   leaf; what a certificate names is gone, and was under no legal hold when the certificate came into the log.

A record with a certificate skips 6 and 7 and is counted as forgotten; so is one that a terminal sealed for its
department, unless the department lends its recipient key. Nothing is written.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlalchemy import Connection, func, select

from ledger.attachments import find_blob, list_blobs, open_attachment
from ledger.chain.contracts import ConsortiumContract, EvidenceLogContract, department_bytes
from ledger.checkpoints import vkeys_of
from ledger.crypto.envelope import check_payload, open_payload, unwrap_data_key
from ledger.errors import Malformed, NotProven, RecordRefused, Refusal, SealedElsewhere, YunxiError
from ledger.feeds import SILENCE, FeedSummary, check_feeds
from ledger.forgetting import DESTROYED, find_destruction, is_emptied
from ledger.formats.checkpoint import Checkpoint, open_checkpoint_by
from ledger.formats.encoding import b64url_decode
from ledger.formats.jwk import from_public_key, kid_of
from ledger.formats.merkle import leaf_hash
from ledger.formats.note import ED25519, VerifierKey
from ledger.formats.sdjwt import Presentation, open_disclosures, parse_statement
from ledger.formats.tiles import Edge, TileWrite, tile_path
from ledger.formats.trust import Key
from ledger.holds import LIFTED, PLACED, scopes_of
from ledger.keks import KekRing
from ledger.keys import KeyAgent
from ledger.node import ChainLink, Node
from ledger.records import RecordReader, split_disclosures
from ledger.store.blobs import Blobs
from ledger.store.models import INDEX_BITS, anchors, checkpoints, cosignatures, entries, position_of, tiles
from ledger.store.reading import EntryRow, LogRow, StoredTiles, find_entry, read_entries, read_logs
from ledger.terminals import statement_keys
from ledger.trust import key_of
from ledger.witness.client import accept

STRIDE = 2_048
"""Entries held in memory at a time: eight tiles."""

MAX_FINDINGS_KEPT = 100


LATE_S = 3_600
"""How long a batch may have been on its way into the log when its key ended."""


@dataclass(frozen=True, slots=True)
class LogKeys:
    """Every key that a department ever had for its log: statement keys by kid, and the keys of its checkpoints."""

    statement: Mapping[str, Key]
    log: tuple[VerifierKey, ...]

    @classmethod
    def registered(cls, consortium: ConsortiumContract, log: LogRow) -> LogKeys:
        """As the chain's registry has them, with their intervals. Raises TrustRefused, ChainUnreachable."""
        keys = consortium.keys(log.department)
        statement = {found.kid: found for found in (key_of(key) for key in keys if key.use == "statement")}
        vkeys = [VerifierKey.of(log.origin, ED25519, key.public_key) for key in keys if key.use == "log"]
        return cls(statement, tuple(reversed(vkeys)))

    @classmethod
    def held(cls, agent: KeyAgent, log: LogRow, terminals: Mapping[str, Key]) -> LogKeys:
        """As the key agent holds them: without intervals, for when the chain cannot be asked; with those of the
        `terminals` that this node enrolled."""
        signer = agent.statement_signer(log.department)
        publics = [Ed25519PublicKey.from_public_bytes(raw) for raw in (signer.public, *signer.others)]
        keys = [Key(kid_of(public), "statement", dict(from_public_key(public)), 0) for public in publics]
        return cls(
            {**terminals, **{key.kid: key for key in keys}}, vkeys_of(log.origin, agent.log_signer(log.department))
        )


@dataclass(frozen=True, slots=True)
class Location:
    """Where the chain holds an anchor: block number, hash (32 bytes), time (seconds), transaction (32 bytes)."""

    block_number: int
    block_hash: bytes
    transaction: bytes
    block_time: int


class AnchoredRoots(Protocol):
    """What the audit asks of the chain about one log."""

    def size(self) -> int:
        """The newest anchored size, 0 for none."""

    def root_at(self, size: int) -> bytes | None:
        """The root anchored at `size`, or None when none was."""

    def location_of(self, size: int) -> Location | None:
        """Where the anchor of `size` stands, or None where the chain's node has its state but not its event."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not fit. `where` is precise enough to go there: a record, a tile and byte, a size."""

    department: str
    kind: str
    where: str
    sentence: str
    index: int | None = None
    record_id: str | None = None


@dataclass(slots=True)
class LogReport:
    """What the audit of one log found. `findings` holds the first `MAX_FINDINGS_KEPT`; `counts` all, by kind."""

    department: str
    origin: str
    size: int
    records: int = 0
    payloads: int = 0
    attachments: int = 0
    forgotten: int = 0
    sealed_elsewhere: int = 0
    signatures: int = 0
    anchors: int = 0
    anchored_size: int = 0
    chain_asked: bool = False
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def good(self) -> bool:
        """Whether nothing was found."""
        return not self.counts

    def add(self, kind: str, where: str, sentence: str, index: int | None = None, record_id: str | None = None) -> None:
        """Counts a finding and keeps it while there is room."""
        self.counts[kind] += 1
        if len(self.findings) < MAX_FINDINGS_KEPT:
            self.findings.append(Finding(self.department, kind, where, sentence, index, record_id))


class LogAudit:
    """The audit of one log over one read transaction. `chain` None: it could not be asked, and the report says so."""

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
        self._connection = connection
        self._log = log
        self._agent = agent
        self._keks = keks
        self._blobs = blobs
        self._chain = chain
        self._check_signatures = check_signatures
        self._progress = progress
        self._log_keys = keys or LogKeys.held(agent, log, statement_keys(connection, log.department))
        self._newest_time = 0
        self._edge = Edge()
        self._holds: dict[str, tuple[str, str]] = {}
        self._keks_open: dict[int, bytes] = {}
        self._report = LogReport(log.department, log.origin, log.size, chain_asked=chain is not None)

    def run(self) -> LogReport:
        """Audits the whole log. Raises CouldNotRun when database or key agent fail; everything else is a finding."""
        stops = self._stops()
        for start, end in _spans(self._log.size, stops):
            self._check_span(start, end)
            if end in stops:
                self._check_root(end, stops[end])
            self._progress(end - start)
        self._check_ends()
        return self._report

    # -- 1 to 4: entries and tiles --

    def _check_span(self, start: int, end: int) -> None:
        stored = self._stored_leaves(start, end)
        leaves = list(stored)
        rows = {row.index: row for row in read_entries(self._connection, self._log.number, start, end)}
        for index in range(start, end):
            row = rows.get(index)
            if row is None:
                self._report.add("entry-missing", f"entry {index}", f"entry {index:,} of the log is gone", index)
                continue
            leaves[index - start] = self._check_entry(row, stored[index - start])
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

    def _check_entry(self, row: EntryRow, stored_leaf: bytes) -> bytes:
        """The leaf hash to go on with: the statement's own, unless the statement is what was changed."""
        self._report.records += 1
        leaf = leaf_hash(row.statement)
        signed = self._check_statement(row) if self._check_signatures or leaf != stored_leaf else True
        if leaf != stored_leaf and not signed:
            return stored_leaf
        if signed:
            self._check_payload(row)
        return leaf

    def _check_statement(self, row: EntryRow) -> bool:
        self._report.signatures += 1
        try:
            statement = parse_statement(row.statement)
            key = self._log_keys.statement.get(statement.kid)
            if key is None:
                raise Malformed("statement", f"names key {statement.kid[:64]}, which is not the department's")
            statement.verify_signature(cast(Ed25519PublicKey, key.public))
            if statement.record_id != row.record_id or statement.issuer != self._log.department:
                raise Malformed("statement", "is another record's")
        except YunxiError as error:
            self._found(row, "statement-changed", f"the statement of record {row.record_id} was changed: {error}")
            return False
        self._check_time(row, key, statement.issued_at)
        return True

    def _check_time(self, row: EntryRow, key: Key, issued_at: int) -> None:
        self._newest_time = max(self._newest_time, issued_at)
        if not key.valid_at(issued_at):
            sentence = f"record {row.record_id} is dated outside the interval in which its key was registered"
            self._found(row, "key-not-valid", sentence)
        elif key.valid_to is not None and self._newest_time >= key.valid_to + LATE_S:
            sentence = f"record {row.record_id} is dated before its key ended, but stands behind records from later"
            self._found(row, "dated-back", sentence)

    def _check_tile(self, write: TileWrite) -> None:
        # a tile that grows over several spans is checked at every width it passes through, from its start
        here = (tiles.c.log == self._log.number) & (tiles.c.level == write.level) & (tiles.c.tile == write.index)
        stored = (self._connection.scalar(select(tiles.c.hashes).where(here)) or b"")[: len(write.data)]
        if stored == write.data:
            return
        byte = next((i for i, (a, b) in enumerate(zip(stored, write.data, strict=False)) if a != b), len(stored))
        path = tile_path(write.level, write.index, 256)
        index = (write.index * 256 + byte // 32) * 256**write.level
        self._report.add("tile-changed", f"{path} byte {byte}", f"{path} differs at byte {byte:,}", index)

    # -- 5: roots --

    def _stops(self) -> dict[int, bytes | None]:
        """Sizes where a root can be compared: the checkpoint's note where there is one."""
        number, size = self._log.number, self._log.size
        notes = self._connection.execute(
            select(checkpoints.c.size, checkpoints.c.note).where(checkpoints.c.log == number)
        )
        stops: dict[int, bytes | None] = dict.fromkeys(
            self._connection.scalars(select(anchors.c.size).where(anchors.c.log == number))
        )
        stops |= {row.size: row.note for row in notes}
        newest = self._chain.size() if self._chain else 0
        self._report.anchored_size = newest
        if newest:
            stops.setdefault(newest, None)
        beyond = [stop for stop in stops if stop > size]
        if beyond:
            sentence = f"the log was cut: it has {size:,} entries, but {max(beyond):,} were signed or anchored"
            self._report.add("rolled-back", f"size {size}", sentence, size)
        return {stop: note for stop, note in sorted(stops.items()) if 0 < stop <= size}

    def _check_root(self, size: int, note: bytes | None) -> None:
        root = self._edge.root()
        if note is not None:
            self._check_note(size, root, note)
        if self._chain is None:
            return
        anchored = self._chain.root_at(size)
        if anchored is not None:
            self._report.anchors += 1
            if anchored != root:
                sentence = f"the chain holds another root for size {size:,} than the stored statements give"
                self._report.add("root-differs-from-chain", f"size {size}", sentence, size)
            self._check_anchor_row(size)
        elif self._anchor_row(size) is not None:
            sentence = f"the node says size {size:,} is anchored, the chain does not know it"
            self._report.add("anchor-not-on-chain", f"size {size}", sentence, size)

    def _check_note(self, size: int, root: bytes, note: bytes) -> None:
        try:
            checkpoint, _ = open_checkpoint_by(note, self._log_keys.log)
        except YunxiError as error:
            self._report.add(
                "checkpoint-changed", f"checkpoint {size}", f"the checkpoint of size {size:,}: {error}", size
            )
            return
        if checkpoint != Checkpoint(self._log.origin, size, root):
            sentence = f"the checkpoint of size {size:,} does not have the root that the stored statements give"
            self._report.add("checkpoint-differs", f"checkpoint {size}", sentence, size)
        here = (cosignatures.c.log == self._log.number) & (cosignatures.c.size == size)
        for row in self._connection.execute(select(cosignatures.c.witness, cosignatures.c.line).where(here)):
            try:
                accept(row.line, VerifierKey.parse(row.witness), note)
            except YunxiError as error:
                sentence = f"the cosignature of {row.witness[:100]} at size {size:,}: {error}"
                self._report.add("cosignature-changed", f"checkpoint {size}", sentence, size)

    def _check_anchor_row(self, size: int) -> None:
        # receipts sign what this row says, so it must be what the chain says
        row = self._anchor_row(size)
        location = self._chain.location_of(size) if self._chain is not None and row is not None else None
        if location is not None and row != location:
            sentence = f"the node says the anchor of size {size:,} stands elsewhere than where the chain holds it"
            self._report.add("anchor-row-changed", f"size {size}", sentence, size)

    def _anchor_row(self, size: int) -> Location | None:
        here = (anchors.c.log == self._log.number) & (anchors.c.size == size)
        row = self._connection.execute(select(anchors).where(here)).one_or_none()
        return Location(row.block_number, row.block_hash, row.transaction, row.block_time) if row is not None else None

    def _check_ends(self) -> None:
        if self._edge.root() != self._log.root:
            sentence = "the head's root is not the one that the stored statements give"
            self._report.add("head-differs", f"size {self._log.size}", sentence, self._log.size)
        self._check_overhang()
        beyond = entries.c.position.between(
            position_of(self._log.number, self._log.size), position_of(self._log.number, (1 << INDEX_BITS) - 1)
        )
        extra = self._connection.scalar(select(func.count()).select_from(entries).where(beyond))
        if extra:
            sentence = f"{extra:,} entries lie beyond the head's size"
            self._report.add("entry-beyond-head", f"entry {self._log.size}", sentence, self._log.size)

    def _check_overhang(self) -> None:
        # 4 compared what the tree has; here, that its tiles hold nothing more
        rows = select(tiles.c.level, tiles.c.tile, func.length(tiles.c.hashes)).where(tiles.c.log == self._log.number)
        for level, tile, length in self._connection.execute(rows.order_by(tiles.c.level, tiles.c.tile)):
            width = min(256, max(0, (self._log.size >> 8 * level) - 256 * tile))
            if length > 32 * width:
                path = tile_path(level, tile, 256)
                sentence = f"{path} holds {length:,} bytes, the tree has {32 * width:,} there"
                index = (tile * 256 + width) * 256**level
                self._report.add("tile-changed", f"{path} byte {32 * width}", sentence, index)

    # -- 6 and 7: what lies in the vault --

    def _check_payload(self, row: EntryRow) -> None:
        if not row.payload or row.epoch is None or row.wrapped_key is None:
            self._check_forgotten(row)
            return
        try:
            data_key = unwrap_data_key(self._kek(row.epoch), row.wrapped_key)
        except SealedElsewhere:
            self._check_unopened(row)
            return
        except YunxiError as error:
            self._found(row, "payload-changed", f"the stored ciphertext of record {row.record_id}: {error}")
            return
        try:
            joined = open_payload(data_key, row.payload, row.statement)
            described = _check_disclosures(row.statement, joined)
        except YunxiError as error:
            self._found(row, "payload-changed", f"the stored ciphertext of record {row.record_id}: {error}")
            return
        self._report.payloads += 1
        self._follow(row, joined)
        for number, members in enumerate(described, 1):
            self._check_attachment(row, number, members, data_key)

    # -- 9: what was forgotten, and what must not be --

    def _check_forgotten(self, row: EntryRow) -> None:
        """The certificate comes later in the log: the table says where, the log says whether it is one."""
        found = find_destruction(self._connection, row)
        if found is not None and row.index < found.by_index < self._log.size:
            with suppress(YunxiError):
                certificate = find_entry(self._connection, found.by_record)
                statement = parse_statement(certificate.statement)
                if (certificate.log, statement.type) == (row.log, DESTROYED):
                    record = self._record(certificate)
                    if (record.get("record"), record.get("leaf")) == (row.record_id, leaf_hash(row.statement).hex()):
                        self._report.forgotten += 1
                        return
        sentence = f"{_lost(row)} of record {row.record_id} is gone, and no certificate says that it was destroyed"
        self._found(row, "payload-missing", sentence)

    def _record(self, row: EntryRow) -> dict[str, Any]:
        data_key = unwrap_data_key(self._kek(row.epoch or 0), row.wrapped_key or b"")
        return _record_of(row.statement, open_payload(data_key, row.payload or b"", row.statement))

    def _follow(self, row: EntryRow, joined: bytes) -> None:
        """Keeps the holds in force, and looks at what a certificate says is gone."""
        kind = _claims_of(row.statement)["type"]
        if kind == PLACED:
            record = _record_of(row.statement, joined)
            self._holds[row.record_id] = (str(record.get("scope")), str(record.get("value")))
        elif kind == LIFTED:
            self._holds.pop(str(_record_of(row.statement, joined).get("hold")), None)
        elif kind == DESTROYED:
            self._check_certificate(row, _record_of(row.statement, joined))

    def _check_certificate(self, row: EntryRow, record: dict[str, Any]) -> None:
        name = str(record.get("record"))
        try:
            gone = find_entry(self._connection, name)
        except RecordRefused:
            gone = None
        if (
            gone is None
            or gone.log != row.log
            or gone.index >= row.index
            or leaf_hash(gone.statement).hex() != record.get("leaf")
        ):
            self._found(row, "certificate-wrong", f"certificate {row.record_id} is of no earlier record of this log")
            return
        if not is_emptied(self._connection, gone):
            self._found(row, "not-destroyed", f"record {name} is stored, but {row.record_id} certifies its destruction")
        covered = scopes_of(name, _claims_of(gone.statement))
        hold = next((hold for hold, scope in self._holds.items() if scope in covered), None)
        if hold is not None:
            sentence = f"record {name} was destroyed while it was under legal hold {hold}"
            self._found(row, "destroyed-on-hold", sentence)

    def _check_unopened(self, row: EntryRow) -> None:
        """What can be said of a record that a terminal sealed: its ciphertexts are there and have their form."""
        try:
            check_payload(row.payload or b"")
            for blob in list_blobs(self._connection, position_of(row.log, row.index)):
                next(self._blobs.get(blob.name), b"")
        except YunxiError as error:
            self._found(row, "payload-changed", f"the stored ciphertext of record {row.record_id}: {error}")
            return
        self._report.sealed_elsewhere += 1

    def _kek(self, epoch: int) -> bytes:
        key = self._keks_open.get(epoch)
        if key is None:
            key = self._keks.key(self._connection, self._log.number, self._log.department, epoch)
            self._keks_open[epoch] = key
        return key

    def _check_attachment(self, row: EntryRow, number: int, members: dict[str, Any], data_key: bytes) -> None:
        blob = find_blob(self._connection, position_of(row.log, row.index), number)
        what = f"attachment {number} of record {row.record_id}"
        if blob is None:
            self._found(row, "attachment-missing", f"{what} has no row in the vault")
            return
        digest, size = hashlib.sha256(), 0
        try:
            for piece in open_attachment(self._blobs, blob, data_key, row.record_id, number):
                digest.update(piece)
                size += len(piece)
        except YunxiError as error:
            self._found(row, "attachment-changed", str(error))
            return
        self._report.attachments += 1
        if (size, digest.hexdigest()) != (members.get("size"), members.get("sha256")):
            self._found(row, "attachment-changed", f"{what} (blob {blob.name}) is not the file that was sealed")

    def _found(self, row: EntryRow, kind: str, sentence: str) -> None:
        self._report.add(kind, f"entry {row.index}", sentence, row.index, row.record_id)


def _lost(row: EntryRow) -> str:
    """What of an entry's vault row is not there. Forgetting takes key and ciphertext and leaves the row."""
    if row.payload is None:
        return "the vault row"
    if row.payload:
        return "the data key"
    return "the payload" if row.wrapped_key is None else "the ciphertext (but not the data key)"


def _check_disclosures(statement: bytes, joined: bytes) -> list[dict[str, Any]]:
    """The attachments' descriptions, after every disclosure was found in the statement and none is missing."""
    texts = split_disclosures(statement, joined)
    decoded = (base64.urlsafe_b64decode(text + b"==") for text in texts)
    opened = [orjson.loads(disclosure) for disclosure in decoded if b'"attachment-' in disclosure]
    return [members for _, unit, members in opened if unit.startswith("attachment-")]


def _claims_of(statement: bytes) -> dict[str, Any]:
    """The payload of a statement that was found in the log and signed."""
    claims: dict[str, Any] = orjson.loads(b64url_decode(statement.split(b".")[1].decode("ascii"), "statement"))
    return claims


def _record_of(statement: bytes, joined: bytes) -> dict[str, Any]:
    opened = parse_statement(statement)
    return Presentation(opened, open_disclosures(opened, joined)).record()


def _spans(size: int, stops: dict[int, bytes | None]) -> Iterator[tuple[int, int]]:
    """Cuts 0 to `size` into spans of at most `STRIDE` that end at every stop."""
    start = 0
    for stop in [*stops, size]:
        while start < stop:
            end = min(stop, (start // STRIDE + 1) * STRIDE)
            yield start, end
            start = end


@dataclass(frozen=True, slots=True)
class ChainRoots:
    """The `AnchoredRoots` of one department's log, asked from the contract itself."""

    contract: EvidenceLogContract
    department: str
    newest: int

    @classmethod
    def ask(cls, contract: EvidenceLogContract, department: str) -> ChainRoots:
        """As of now. Ask before the log is read: what is anchored later may be more than the reader sees."""
        return cls(contract, department, contract.head(department_bytes(department)).size)

    def size(self) -> int:
        """The newest size that was anchored when the chain was asked, 0 for none."""
        return self.newest

    def root_at(self, size: int) -> bytes | None:
        """The root anchored at `size`, or None."""
        anchored = self.contract.root_at(department_bytes(self.department), size)
        return None if anchored is None else anchored.root

    def location_of(self, size: int) -> Location | None:
        """Where the anchor stands, by the contract's state, the block's header and the contract's event."""
        log_id = department_bytes(self.department)
        anchored = self.contract.root_at(log_id, size)
        block = self.contract.client.block(anchored.block_number) if anchored is not None else None
        event = self.contract.anchored_event(log_id, size, anchored.block_number) if anchored is not None else None
        if anchored is None or block is None or event is None:
            return None
        return Location(anchored.block_number, block.hash, event.tx_hash, anchored.timestamp)


@dataclass(frozen=True, slots=True)
class NodeAudit:
    """The audit of a node. `chain_problem` says why the chain could not be asked; then nothing is proven against it."""

    logs: tuple[LogReport, ...]
    chain_problem: str | None

    @property
    def good(self) -> bool:
        """Whether nothing was found; says nothing of `chain_problem`."""
        return all(log.good for log in self.logs)

    def first(self) -> Finding | None:
        """The first thing that does not fit, by log and then by place in it."""
        return next((log.findings[0] for log in self.logs if log.findings), None)


def audit_node(
    node: Node,
    department: str | None = None,
    *,
    check_signatures: bool = True,
    recipient: X25519PrivateKey | None = None,
    begin: Callable[[LogRow], Callable[[int], None]] = lambda _: lambda _: None,
) -> NodeAudit:
    """Audits every log of the node, or one department's. `begin` is told each log and returns its progress callback,
    told how many entries were done. `recipient`: a department's own key, to open what its terminals sealed. Raises
    Refusal for an unknown department, CouldNotRun as `LogAudit.run`."""
    link, problem = _connect(node)
    with node.database.reading() as connection:
        asked = read_logs(connection, department) if link is not None else []
    chains = {log.department: ChainRoots.ask(link.evidence_log, log.department) for log in asked if link is not None}
    keys = {log.department: LogKeys.registered(link.consortium, log) for log in asked if link is not None}
    ring = KekRing(node.agent, recipient)  # opened anew: the node's own may have been opened before a tampering
    with node.database.reading() as connection:
        found = read_logs(connection, department)
        reports = _missing_logs(node, link, {log.department for log in found}, department)
        if not found and not reports:
            raise Refusal(
                f"there is no log of {department or 'any department'} on this node: run `yunxi department add`"
            )
        for log in found:
            audit = LogAudit(
                connection,
                log,
                node.agent,
                ring,
                node.blobs,
                chains.get(log.department),
                check_signatures=check_signatures,
                progress=begin(log),
                keys=keys.get(log.department),
            )
            report = audit.run()
            _add_feeds(report, check_feeds(connection, RecordReader(ring, node.blobs), log, node.clock()))
            reports.append(report)
    return NodeAudit(tuple(reports), problem)


def _add_feeds(report: LogReport, feeds: list[FeedSummary]) -> None:
    for feed in feeds:
        for finding in feed.findings:
            if finding.level == "error" and finding.kind not in SILENCE:
                where = f"feed {feed.feed}" + ("" if finding.seq is None else f", report {finding.seq}")
                report.add(f"feed-{finding.kind}", where, finding.sentence, record_id=finding.record_id)


def _missing_logs(node: Node, link: ChainLink | None, there: set[str], only: str | None) -> list[LogReport]:
    """A report for each department whose keys are here and whose log the chain knows, but the database does not."""
    held = [name for name in node.agent.departments() if only in (None, name)] if link is not None else []
    reports = []
    for name in held:
        size = link.evidence_log.head(department_bytes(name)).size if link is not None and name not in there else 0
        if size:
            report = LogReport(name, f"{node.settings.consortium}/{name}", 0, anchored_size=size, chain_asked=True)
            report.add("log-missing", "size 0", f"the whole log is gone, the chain holds {size:,} entries of it", 0)
            reports.append(report)
    return reports


def _connect(node: Node) -> tuple[ChainLink | None, str | None]:
    try:
        link = node.connect()
        link.evidence_log.client.check_identity()
    except YunxiError as error:
        return None, str(error)
    return link, None
