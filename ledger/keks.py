"""Key-encryption keys of the departments, one after the other by epoch; opened through the key agent, kept in memory.

HPKE costs as much as sealing a record, so a KEK is opened once a process and epoch, never once a record.
"""

from __future__ import annotations

import os

from sqlalchemy import Connection, func, insert, select

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
            wrapped = connection.scalar(select(keks.c.wrapped).where(keks.c.log == log, keks.c.epoch == epoch))
            if wrapped is None:
                raise PayloadInvalid(f"the key-encryption key of epoch {epoch} is missing")
            kept = self._open[log, epoch] = self._agent.unwrap_kek(department, wrapped, kek_info(department, epoch))
        return kept

    def begin_epoch(self, connection: Connection, log: int, department: str, now: int) -> Kek:
        """Draws the next KEK, wraps it to the department's encryption key and stores it; the caller commits."""
        epoch = (connection.scalar(select(func.max(keks.c.epoch)).where(keks.c.log == log)) or 0) + 1
        key, recipient = os.urandom(KEY_BYTES), self._agent.encryption_key(department)
        wrapped = wrap_kek(key, recipient, kek_info(department, epoch))
        row = {"log": log, "epoch": epoch, "recipient": kid_of(recipient), "wrapped": wrapped, "created_at": now}
        connection.execute(insert(keks).values(row))
        self._open[log, epoch] = key
        return Kek(epoch, key)
