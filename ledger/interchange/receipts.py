"""Receipts and statements of a node's records, in COSE."""

from __future__ import annotations

from typing import Literal

from ledger.checkpoints import vkeys_of
from ledger.formats.checkpoint import open_checkpoint_by
from ledger.interchange.cose_receipt import cose_receipt
from ledger.interchange.scitt import transparent_statement
from ledger.node import Node
from ledger.receipts import make_receipt
from ledger.store.reading import find_entry, read_logs

Format = Literal["cose", "scitt"]


def export_receipt(node: Node, record_id: str, form: Format) -> bytes:
    """A record's receipt as COSE (`cose`), or statement and receipt together (`scitt`). Raises RecordRefused for an
    unknown record, KeyRefused where the department's keys are elsewhere, and as `cose_receipt`."""
    now = node.clock()
    with node.database.writing() as connection:
        row = find_entry(connection, record_id)
        log = next(log for log in read_logs(connection) if log.number == row.log)
        proof = make_receipt(connection, node.agent, record_id, int(now), node.settings.policy)
    signer = node.agent.log_signer(log.department, now)
    # only what the log's key signed before is signed again
    checkpoint, _ = open_checkpoint_by(proof.checkpoint, vkeys_of(log.origin, signer))
    receipt = cose_receipt(row.statement, proof, checkpoint, record_id, signer)
    if form == "cose":
        return receipt
    department = node.agent.statement_signer(log.department, now)
    return transparent_statement(row.statement, log.origin, record_id, department, [receipt])
