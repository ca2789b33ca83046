"""Receipts: from a record's place in the log to a proof that verifies without this node."""

from __future__ import annotations

from sqlalchemy import Connection, Row, select

from ledger.checkpoints import SignedCheckpoint, sign_head, vkey_of
from ledger.errors import KeyRefused
from ledger.formats.checkpoint import open_checkpoint
from ledger.formats.receipt import AnchorHint, encode_extra
from ledger.formats.tiles import inclusion_path
from ledger.formats.tlogproof import TlogProof
from ledger.keys import KeyAgent, Signer
from ledger.store.models import anchors, checkpoints
from ledger.store.reading import LogRow, StoredTiles, find_entry, read_logs


def make_receipt(connection: Connection, agent: KeyAgent, record_id: str, now: int) -> TlogProof:
    """The receipt of a record, under the earliest anchored checkpoint that holds it, because that dates it best.

    Where none is anchored yet: under the newest checkpoint, signed now if need be, without an anchor. `connection`
    is a write transaction, committed by the caller; `now` in seconds since 1970. Raises RecordRefused for an unknown
    record, KeyRefused when the log's key is elsewhere.
    """
    row = find_entry(connection, record_id)
    log = next(log for log in read_logs(connection) if log.number == row.log)
    signer = agent.log_signer(log.department)
    anchor = connection.execute(
        select(anchors).where(anchors.c.log == log.number, anchors.c.size > row.index).order_by(anchors.c.size).limit(1)
    ).one_or_none()
    signed = (
        sign_head(connection, log, signer, now) if anchor is None else _stored(connection, log, signer, anchor.size)
    )
    assert signed is not None  # the log has at least this entry
    path = inclusion_path(row.index, signed.checkpoint.size, StoredTiles(connection, log.number))
    extra = encode_extra(hint_of(anchor), signed.checkpoint, signer.sign) if anchor is not None else None
    return TlogProof(extra, row.index, tuple(path), signed.note)


def hint_of(anchor: Row[tuple[object, ...]]) -> AnchorHint:
    """What a receipt says of a row of `anchors`."""
    return AnchorHint(
        chain_id=anchor.chain_id,
        contract=anchor.contract,
        block_number=anchor.block_number,
        block_hash="0x" + anchor.block_hash.hex(),
        transaction="0x" + anchor.transaction.hex(),
        time=anchor.block_time,
    )


def _stored(connection: Connection, log: LogRow, signer: Signer, size: int) -> SignedCheckpoint:
    note = connection.scalar(
        select(checkpoints.c.note).where(checkpoints.c.log == log.number, checkpoints.c.size == size)
    )
    if note is None:
        raise KeyRefused(f"the checkpoint of {log.origin} at size {size:,} is missing: run `yunxi audit`")
    return SignedCheckpoint(open_checkpoint(note, vkey_of(log.origin, signer)), note)
