"""Receipts: from a record's place in the log to a proof that verifies without this node."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from ledger.checkpoints import sign_at
from ledger.formats.receipt import AnchorHint, encode_extra
from ledger.formats.tiles import inclusion_path
from ledger.formats.tlogproof import TlogProof
from ledger.keys import KeyAgent
from ledger.store.models import anchors
from ledger.store.reading import StoredTiles, find_entry, read_logs


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
    signed = sign_at(connection, log, log.size if anchor is None else anchor.size, signer, now)
    path = inclusion_path(row.index, signed.checkpoint.size, StoredTiles(connection, log.number))
    extra = encode_extra(hint_of(anchor), signed.checkpoint, signer.sign) if anchor is not None else None
    return TlogProof(extra, row.index, tuple(path), signed.note)


def hint_of(anchor: Any) -> AnchorHint:
    """What a receipt says of a row of `anchors`."""
    return AnchorHint(
        chain_id=anchor.chain_id,
        contract=anchor.contract,
        block_number=anchor.block_number,
        block_hash="0x" + anchor.block_hash.hex(),
        transaction="0x" + anchor.transaction.hex(),
        time=anchor.block_time,
    )
