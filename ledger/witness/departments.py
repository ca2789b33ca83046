"""The departments of a node witness each other's logs, in this process: the same `core.Witness`, without HTTP.

Their state lies in the node's own database and moves in the transaction that remembers an anchor, so every anchored
checkpoint carries their cosignatures. This shows a fork to whoever holds receipts of both sides, and costs a forger
every department's witness key; it is no independence: keys, storage and clock are those of one operator, and a node
that is put back to an old state takes its witnesses back with it. Only witnesses elsewhere, and the chain, answer that.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from ledger.checkpoints import SignedCheckpoint, vkeys_of
from ledger.errors import StorageFailed, YunxiError
from ledger.formats.note import COSIGNATURE_ED25519, VerifierKey
from ledger.formats.tiles import consistency_path
from ledger.node import Node
from ledger.settings import Settings
from ledger.store.models import logs
from ledger.store.reading import LogRow, StoredTiles
from ledger.witness.book import keep_cosignature, note_call
from ledger.witness.client import ask
from ledger.witness.core import Witness
from ledger.witness.store import SqlStore


def witness_name(origin: str) -> str:
    """The key name of the witness of the department whose log has this origin."""
    return f"{origin}/witness"


def node_operator(settings: Settings, hosted: Collection[str]) -> str:
    """Who runs the node, as the trust file says it: node.toml's words, or a name that shows what is in one hand."""
    first, *more = sorted(hosted) or ["-"]
    return settings.operator or f"{settings.consortium} [{first}{f' +{len(more)}' if more else ''}]"


def department_vkey(node: Node, department: str, origin: str) -> VerifierKey:
    """The verifier key of a department's witness now. Raises KeyRefused when its keys are elsewhere."""
    return _vkey(origin, node.agent.witness_signer(department, node.clock()).public)


def _vkey(origin: str, public: bytes) -> VerifierKey:
    return VerifierKey.of(witness_name(origin), COSIGNATURE_ED25519, public)


def cosign_here(connection: Connection, node: Node, log: LogRow, signed: SignedCheckpoint) -> None:
    """Lets every other department of the node cosign the checkpoint and keeps the lines, within the caller's write
    transaction. What a witness refuses is noted for `yunxi status` and stops nothing. Raises StorageFailed."""
    keys = vkeys_of(log.origin, node.agent.log_signer(log.department, node.clock()))
    tiles, size = StoredTiles(connection, log.number), signed.checkpoint.size
    others = select(logs.c.department, logs.c.origin).where(logs.c.log != log.number).order_by(logs.c.log)
    for department, origin in connection.execute(others).all():
        vkey: VerifierKey | None = None
        problem: YunxiError | None = None
        try:
            signer = node.agent.witness_signer(department, node.clock())
            vkey = _vkey(origin, signer.public)
            store = SqlStore.within(vkey, connection)
            # what it saw under its earlier keys binds it under this one
            store.take_over([_vkey(origin, public) for public in signer.others], log.origin)
            head = store.head(log.origin)
            if head is not None and head.size > size:
                continue  # an anchor that was found again: its successor is cosigned already
            witness = Witness(vkey.name, signer, {log.origin: keys}, store, node.clock)
            old = head.size if head is not None else 0
            cosignature = ask(witness, vkey, signed.note, size, old, lambda a, b: consistency_path(a, b, tiles))
            keep_cosignature(connection, log.number, size, cosignature)
        except StorageFailed:
            raise
        except YunxiError as error:
            problem = error
        if vkey is not None:
            note_call(connection, log.number, vkey, int(node.clock()), problem)
