"""Nonces of signed requests: each taken once, by whichever process of the node sees it first.

Most are taken by the batch in transactions of their own, before the request does anything. Those of submissions are
taken in the transaction that makes the records durable (`intake_queue`): both or neither, and one commit less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, delete
from sqlalchemy.exc import IntegrityError

from gateway.models import request_nonces
from gateway.pool import Pool
from ledger.errors import RequestRefused, YunxiError
from ledger.store.database import Database, insert_rows

BATCH = 256
CAPACITY = 10_000
SWEEP_SECONDS = 60

Nonce = tuple[str, str, int]
"""Key id, nonce, and until when it is kept: seconds since 1970, past the time at which the signature has expired."""


class Replayed(Exception):
    """One of several nonces was taken before; the transaction is to be rolled back."""


class Nonces:
    """The table `request_nonces`, written by the batch: a transaction for each request would cost more than it all."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock
        self._swept = 0.0
        self._pool: Pool[Nonce, bool | YunxiError] = Pool(
            "yunxi-nonces", self.take_all, batch=BATCH, seconds=0, capacity=CAPACITY
        )

    async def take(self, nonce: Nonce) -> None:
        """Takes a nonce, durable on return. Raises RequestRefused `replayed`, StorageFailed, Problem `overloaded`."""
        taken = await self._pool.ask(nonce)
        if isinstance(taken, YunxiError):
            raise taken
        if not taken:
            raise replayed()

    def take_with(self, connection: Connection, nonces: Sequence[Nonce]) -> None:
        """Takes different nonces in the transaction of `connection`. Raises Replayed when one was taken before."""
        self._sweep(connection)
        try:
            insert_rows(connection, request_nonces, sorted(nonces))
        except IntegrityError as error:
            raise Replayed from error

    def close(self) -> None:
        """Takes nothing more."""
        self._pool.close()

    def take_all(self, takings: Sequence[Nonce]) -> list[bool | YunxiError]:
        """Takes each nonce, durable on return; False for one that was taken before."""
        fresh = {(kid, nonce): until for kid, nonce, until in reversed(takings)}  # twice in one batch: the first has it
        # sorted, so that two processes that take the same ones never wait for each other crosswise
        rows = [(kid, nonce, until) for (kid, nonce), until in sorted(fresh.items())]
        try:
            taken = self._insert(rows)
        except YunxiError as error:
            return [error] * len(takings)
        answers: list[bool | YunxiError] = []
        for kid, nonce, _ in takings:
            answers.append((kid, nonce) in taken)
            taken.discard((kid, nonce))
        return answers

    def _insert(self, rows: list[Nonce]) -> set[tuple[str, str]]:
        """Those that were new. All at once, because replays are rare; one by one where one of them is no news."""
        try:
            with self._database.writing() as connection:
                self._sweep(connection)
                insert_rows(connection, request_nonces, rows)
            return {(kid, nonce) for kid, nonce, _ in rows}
        except IntegrityError:
            middle = len(rows) // 2
            halves = [rows[:middle], rows[middle:]] if middle else []
            return set().union(*map(self._insert, halves))

    def _sweep(self, connection: Connection) -> None:
        now = self._clock()
        if now - self._swept > SWEEP_SECONDS:
            connection.execute(delete(request_nonces).where(request_nonces.c.expires_at < int(now)))
            self._swept = now


def replayed() -> RequestRefused:
    """The refusal of a request that came before."""
    return RequestRefused("replayed", "this very request came before: sign again, with another nonce")
