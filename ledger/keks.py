"""Key-encryption keys of the departments, one after the other by epoch; opened through the key agent, kept in memory.

HPKE costs as much as sealing a record, so a KEK is opened once a process and epoch, never once a record.
"""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from sqlalchemy import Connection, func, insert, select, update

from ledger.crypto.envelope import KEY_BYTES, kek_info, wrap_kek
from ledger.errors import PayloadInvalid
from ledger.formats.jwk import kid_of
from ledger.keys import KeyAgent
from ledger.seal import Kek
from ledger.store.models import keks


class KekRing:
    """The opened KEKs of one process. Not trusted: a wrong wrapping does not open."""

    def __init__(self, agent: KeyAgent) -> None:
        self._agent = agent
        self._open: dict[tuple[int, int], bytes] = {}

    def current(self, connection: Connection, log: int, department: str) -> Kek:
        """The newest KEK of a department. Raises PayloadInvalid when there is none or it does not open."""
        epoch = connection.scalar(select(func.max(keks.c.epoch)).where(keks.c.log == log))
        if epoch is None:
            raise PayloadInvalid(f"department {department} has no key-encryption key: run `yunxi department add` again")
        return Kek(epoch, self.key(connection, log, department, epoch))

    def key(self, connection: Connection, log: int, department: str, epoch: int) -> bytes:
        """The 32-byte KEK of one epoch. Raises PayloadInvalid when it is missing or does not open."""
        kept = self._open.get((log, epoch))
        if kept is None:
            query = select(keks.c.wrapped, keks.c.recipient).where(keks.c.log == log, keks.c.epoch == epoch)
            row = connection.execute(query).one_or_none()
            if row is None:
                raise PayloadInvalid(f"the key-encryption key of epoch {epoch} is missing")
            info = kek_info(department, epoch)
            kept = self._open[log, epoch] = self._agent.unwrap_kek(department, row.wrapped, info, row.recipient)
        return kept

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
        here = (keks.c.log == log) & (keks.c.recipient != kid)
        return connection.scalar(select(func.count()).select_from(keks).where(here)) != 0

    def move(self, connection: Connection, log: int, department: str, now: int, recipient: X25519PublicKey) -> bool:
        """Begins an epoch under `recipient` and wraps every older KEK to it, unless that is done; the caller commits.

        Returns whether there was anything to do. The KEKs themselves stay, so no record is touched, and where a
        wrapping does not open nothing is changed: raises PayloadInvalid then.
        """
        kid = kid_of(recipient)
        query = select(keks.c.epoch).where(keks.c.log == log, keks.c.recipient != kid).order_by(keks.c.epoch)
        old = connection.scalars(query).all()
        if not old:
            return False
        newest = connection.scalar(select(func.max(keks.c.epoch)).where(keks.c.log == log))
        for epoch in old:
            wrapped = wrap_kek(self.key(connection, log, department, epoch), recipient, kek_info(department, epoch))
            here = (keks.c.log == log) & (keks.c.epoch == epoch)
            connection.execute(update(keks).where(here).values(recipient=kid, wrapped=wrapped))
        if newest == old[-1]:
            self.begin_epoch(connection, log, department, now, recipient)
        return True
