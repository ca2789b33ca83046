"""Checkpoints: the log's signed word on how far it has come. Signed by clock, not by record."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import Connection, bindparam, insert, select

from ledger.errors import HistoryRefused
from ledger.formats.checkpoint import Checkpoint, add_signatures, open_checkpoint_by, sign_checkpoint
from ledger.formats.note import ED25519, VerifierKey
from ledger.formats.tiles import tree_root
from ledger.keys import Signer
from ledger.store.models import checkpoints, cosignatures, logs
from ledger.store.reading import LogRow, StoredTiles

# made once, because a receipt asks both; and a note that was found good is not verified for each receipt again
_NOTE = select(checkpoints.c.note).where(
    checkpoints.c.log == bindparam("of_log"), checkpoints.c.size == bindparam("of_size")
)
_COSIGNATURES = select(cosignatures.c.witness, cosignatures.c.line).where(
    cosignatures.c.log == bindparam("of_log"), cosignatures.c.size == bindparam("of_size")
)
_open_checkpoint_by = lru_cache(maxsize=64)(open_checkpoint_by)


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint and the note that carries it."""

    checkpoint: Checkpoint
    note: bytes


def vkey_of(origin: str, signer: Signer) -> VerifierKey:
    """The verifier key of a log's checkpoints."""
    return VerifierKey.of(origin, ED25519, signer.public)


def vkeys_of(origin: str, signer: Signer) -> tuple[VerifierKey, ...]:
    """The same, and after it those of the log's other keys: what was signed before a rotation stays."""
    return tuple(VerifierKey.of(origin, ED25519, public) for public in (signer.public, *signer.others))


def sign_at(connection: Connection, log: LogRow, size: int, signer: Signer, now: int) -> SignedCheckpoint:
    """The checkpoint of the log's first `size` entries (1 to the head's size), signed and stored unless it was before.

    The root is recomputed from the tiles; at the head's size it must be the head's, so that no damaged tree is ever
    signed: raises HistoryRefused then. The caller commits; `now` in seconds since 1970.
    """
    here = {"of_log": log.number, "of_size": size}
    note = connection.scalar(_NOTE, here)
    if note is None:
        lock_log(connection, log.number)
        note = connection.scalar(_NOTE, here)
    if note is not None:
        return SignedCheckpoint(_open_checkpoint_by(note, vkeys_of(log.origin, signer))[0], note)
    root = tree_root(size, StoredTiles(connection, log.number))
    if size == log.size and root != log.root:
        raise HistoryRefused(f"log {log.origin} is damaged at size {size:,}: run `yunxi audit`; nothing was signed")
    note = sign_checkpoint(log.origin, size, root, signer.public, signer.sign)
    connection.execute(insert(checkpoints).values(log=log.number, size=size, note=note, signed_at=now))
    return SignedCheckpoint(Checkpoint(log.origin, size, root), note)


def cosigned_note(connection: Connection, log: int, signed: SignedCheckpoint) -> bytes:
    """The checkpoint's note with every cosignature that witnesses gave to it so far."""
    found = connection.execute(_COSIGNATURES, {"of_log": log, "of_size": signed.checkpoint.size})
    # sorted here: databases differ in how they order text, and the same state is to give the same receipts
    kept = sorted((witness, line) for witness, line in found)
    return add_signatures(signed.note, [line for _, line in kept]) if kept else signed.note


def lock_log(connection: Connection, number: int) -> None:
    """Waits until nobody else appends to a log, signs or anchors it, and keeps it so until the transaction ends."""
    connection.execute(select(logs.c.log).where(logs.c.log == number).with_for_update())
