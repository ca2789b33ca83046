"""Which of a node's processes does the background work: a row in the database, held for some seconds at a time."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from sqlalchemy import delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.models import leases
from ledger.store.database import Database


class Lease:
    """A lease under a name. Whoever holds it renews it well before it ends; one that is not renewed falls to another.

    Between machines the clocks must agree to a few seconds. Two holders at once, after a stop of the machine longer
    than the lease, do no harm: every worker's step may be done twice.
    """

    def __init__(self, database: Database, name: str, clock: Callable[[], float], seconds: float) -> None:
        self._database, self._name, self._clock = database, name, clock
        self.seconds = seconds
        self.holder = secrets.token_hex(16)
        self._until = 0.0

    @property
    def held(self) -> bool:
        """Whether this process holds it, by its own monotonic clock."""
        return time.monotonic() < self._until

    def take(self) -> bool:
        """Takes or renews it; False while another holds it. Raises StorageFailed; `held` then stays until it ends."""
        began, now = time.monotonic(), int(self._clock() * 1000)
        ends = now + int(self.seconds * 1000)
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        row = {"name": self._name, "holder": self.holder, "expires_at": ends}
        mine_or_over = or_(leases.c.holder == self.holder, leases.c.expires_at < now)
        with self._database.writing() as connection:
            connection.execute(insert(leases).values(row).on_conflict_do_nothing())
            here = update(leases).where(leases.c.name == self._name, mine_or_over)
            taken = connection.execute(here.values(holder=self.holder, expires_at=ends)).rowcount == 1
        self._until = began + self.seconds if taken else 0.0
        return taken

    def release(self) -> None:
        """Gives it up, so that another process need not wait."""
        self._until = 0.0
        with self._database.writing() as connection:
            connection.execute(delete(leases).where(leases.c.name == self._name, leases.c.holder == self.holder))

    def somebody_holds(self) -> bool:
        """Whether any process holds it now. Raises StorageFailed."""
        with self._database.reading() as connection:
            ends = connection.scalar(select(leases.c.expires_at).where(leases.c.name == self._name))
        return ends is not None and ends >= int(self._clock() * 1000)
