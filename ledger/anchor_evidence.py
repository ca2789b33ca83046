"""Anchor evidence of a record: the chain's own proof of the anchor that the record's receipt names."""

from __future__ import annotations

from ledger.errors import CouldNotRun
from ledger.formats.checkpoint import Checkpoint
from ledger.formats.evidence import AnchorEvidence
from ledger.formats.note import Note
from ledger.node import Node
from ledger.receipts import make_receipt


def make_evidence(node: Node, record_id: str, sealers: int | None = None) -> AnchorEvidence:
    """The evidence for the receipt that the record gets now; `sealers` as in `ledger.chain.evidence.collect`.

    Raises RecordRefused for an unknown record, CouldNotRun where it is not anchored yet, and what `collect` raises.
    """
    from ledger.chain.contracts import department_bytes
    from ledger.chain.evidence import collect

    with node.database.writing() as connection:
        proof = make_receipt(connection, node.agent, record_id, int(node.clock()), node.settings.policy)
    if proof.extra is None:
        raise CouldNotRun(f"Record {record_id} is not anchored yet: run `yunxi anchor`, then fetch the evidence again.")
    checkpoint = Checkpoint.parse(Note.parse(proof.checkpoint).text)
    log_id = department_bytes(checkpoint.origin.removeprefix(f"{node.settings.consortium}/"))
    return collect(node.connect().evidence_log, log_id, checkpoint.size, node.settings.chain.engine, sealers)
