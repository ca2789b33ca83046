"""Key-encryption keys of the departments, one after the other by epoch; opened through the key agent, kept in memory.

HPKE costs as much as sealing a record, so a KEK is opened once a process and epoch, never once a record. KEKs that
terminals drew stand here too, wrapped to a key that no node has: they are kept, never opened and never moved.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from sqlalchemy import ColumnElement, Connection, ScalarSelect, bindparam, func, insert, select, update

from ledger.crypto.envelope import KEY_BYTES, kek_info, terminal_kek_info, unwrap_kek, wrap_kek
from ledger.errors import PayloadInvalid, SealedElsewhere
from ledger.formats.jwk import kid_of
from ledger.keys import KeyAgent
from ledger.seal import Kek
from ledger.store.models import keks


@dataclass(frozen=True, slots=True)
class StoredKek:
    """A wrapped KEK. `recipient` is the kid it is wrapped to. A terminal's names the terminal (the kid of its statement
    key) and itself (16 random bytes); both are None for the node's own."""

    recipient: str
    wrapped: bytes
    terminal: str | None
    name: bytes | None


class EpochGone(Exception):
    """The key-encryption key of a batch was destroyed while the batch was sealed: it is to be sealed anew."""


def newest_epoch(log: ColumnElement[int]) -> ScalarSelect[Any]:
    """The epoch of a log's newest KEK of the node's own, as a part of a query; NULL for none."""
    return select(func.max(keks.c.epoch)).where(keks.c.log == log, keks.c.terminal.is_(None)).scalar_subquery()


_NEWEST_EPOCH = select(newest_epoch(bindparam("of_log")))
_HELD_EPOCH = select(keks.c.epoch).where(keks.c.log == bindparam("of_log"), keks.c.epoch == bindparam("of_epoch"))


class KekRing:
    """The opened KEKs of one process. Not trusted: a wrong wrapping does not open."""

    def __init__(self, agent: KeyAgent, recipient: X25519PrivateKey | None = None) -> None:
        """`recipient`: a department's own key, where the department lends it; it opens what its terminals sealed."""
        self._agent = agent
        self._recipient = recipient
        self._recipient_kid = kid_of(recipient.public_key()) if recipient else None
        self._open: dict[tuple[int, int], bytes] = {}

    def current(self, connection: Connection, log: int, department: str) -> Kek:
        """The newest KEK of a department. Raises PayloadInvalid when there is none or it does not open."""
        return self.of_epoch(connection, log, department, connection.scalar(_NEWEST_EPOCH, {"of_log": log}))

    def of_epoch(self, connection: Connection, log: int, department: str, epoch: int | None) -> Kek:
        """The same where `newest_epoch` was read already."""
        if epoch is None:
            raise PayloadInvalid(f"department {department} has no key-encryption key: run `yunxi department add` again")
        return Kek(epoch, self.key(connection, log, department, epoch))

    def key(self, connection: Connection, log: int, department: str, epoch: int) -> bytes:
        """The 32-byte KEK of one epoch. Raises PayloadInvalid when it is missing or does not open, SealedElsewhere when
        a terminal drew it."""
        kept = self._open.get((log, epoch))
        if kept is None:
            row = self.stored(connection, log, epoch)
            if row.terminal is None or row.name is None:
                info = kek_info(department, epoch)
                kept = self._agent.unwrap_kek(department, row.wrapped, info, row.recipient)
            else:
                kept = self._open_terminals(department, row.terminal, row.name, row)
            self._open[log, epoch] = kept
        return kept

    def _open_terminals(self, department: str, terminal: str, name: bytes, row: StoredKek) -> bytes:
        if self._recipient is None or row.recipient != self._recipient_kid:
            raise SealedElsewhere(
                f"the record was sealed by a terminal for department {department}'s own key ({row.recipient[:12]}…), "
                "which is not on this node: open it with `yunxi terminal open`"
            )
        return unwrap_kek(row.wrapped, self._recipient, terminal_kek_info(department, terminal, name))

    def stored(self, connection: Connection, log: int, epoch: int) -> StoredKek:
        """A KEK as it lies in the database. Raises PayloadInvalid when it is missing."""
        here = (keks.c.log == log) & (keks.c.epoch == epoch)
        row = connection.execute(select(keks.c.recipient, keks.c.wrapped, keks.c.terminal, keks.c.name).where(here))
        found = row.one_or_none()
        if found is None:
            raise PayloadInvalid(f"the key-encryption key of epoch {epoch} is missing")
        return StoredKek(*found)

    def require(self, connection: Connection, log: int, epoch: int) -> None:
        """Raises EpochGone where the epoch's KEK is not stored any more. Certain while the log's head is locked."""
        if connection.scalar(_HELD_EPOCH, {"of_log": log, "of_epoch": epoch}) is None:
            raise EpochGone

    def keep(self, connection: Connection, log: int, kek: StoredKek, now: int) -> int:
        """The epoch of a KEK that a terminal drew, stored with the next number unless it is there; the caller holds the
        log's head and commits. Raises PayloadInvalid when the terminal gave the same name to another wrapping."""
        here = (keks.c.log == log) & (keks.c.terminal == kek.terminal) & (keks.c.name == kek.name)
        row = connection.execute(select(keks.c.epoch, keks.c.wrapped, keks.c.recipient).where(here)).one_or_none()
        if row is None:
            epoch: int = (connection.scalar(select(func.max(keks.c.epoch)).where(keks.c.log == log)) or 0) + 1
            connection.execute(insert(keks).values(log=log, epoch=epoch, created_at=now, **asdict(kek)))
            return epoch
        if (row.wrapped, row.recipient) != (kek.wrapped, kek.recipient):
            raise PayloadInvalid("the terminal has named two key-encryption keys alike: enrol it anew")
        return int(row.epoch)

    def begin_epoch(
        self, connection: Connection, log: int, department: str, now: int, recipient: X25519PublicKey | None = None
    ) -> Kek:
        """Draws the next KEK, wraps it to `recipient` (None: the encryption key in force `now`) and stores it; the
        caller commits."""
        epoch = (connection.scalar(select(func.max(keks.c.epoch)).where(keks.c.log == log)) or 0) + 1
        key = os.urandom(KEY_BYTES)
        recipient = recipient or self._agent.encryption_key(department, now)
        wrapped = wrap_kek(key, recipient, kek_info(department, epoch))
        row = {"log": log, "epoch": epoch, "recipient": kid_of(recipient), "wrapped": wrapped, "created_at": now}
        connection.execute(insert(keks).values(row))
        # not kept open: should the caller not commit, another process may give this epoch another key
        return Kek(epoch, key)

    def is_behind(self, connection: Connection, log: int, kid: str) -> bool:
        """Whether a KEK of the log is wrapped to another key than `kid`."""
        here = (keks.c.log == log) & (keks.c.recipient != kid) & keks.c.terminal.is_(None)
        return connection.scalar(select(func.count()).select_from(keks).where(here)) != 0

    def move(self, connection: Connection, log: int, department: str, now: int, recipient: X25519PublicKey) -> bool:
        """Begins an epoch under `recipient` and wraps every older KEK to it, unless that is done; the caller commits.

        Returns whether there was anything to do. The KEKs themselves stay, so no record is touched, and where a
        wrapping does not open nothing is changed: raises PayloadInvalid then.
        """
        kid = kid_of(recipient)
        own = (keks.c.log == log) & keks.c.terminal.is_(None)
        old = connection.scalars(select(keks.c.epoch).where(own, keks.c.recipient != kid).order_by(keks.c.epoch)).all()
        if not old:
            return False
        newest = connection.scalar(select(func.max(keks.c.epoch)).where(own))
        for epoch in old:
            wrapped = wrap_kek(self.key(connection, log, department, epoch), recipient, kek_info(department, epoch))
            here = (keks.c.log == log) & (keks.c.epoch == epoch)
            connection.execute(update(keks).where(here).values(recipient=kid, wrapped=wrapped))
        if newest == old[-1]:
            self.begin_epoch(connection, log, department, now, recipient)
        return True
