"""What terminals hand in, and the keys that their requests are signed with."""

from __future__ import annotations

from collections import Counter

from anyio import CapacityLimiter, to_thread

from gateway.access import RequestKey
from gateway.caller import TERMINAL
from gateway.problems import Problem
from ledger.node import Node
from ledger.sealed_format import decode_batch
from ledger.sealed_intake import SealedIntake
from ledger.submission import Outcome
from ledger.terminals import find_request_key

AT_ONCE = 2
"""Batches of one terminal: a good one sends the next when it has the answer, and has sent one in vain at most."""


class Terminals:
    """The terminals of a node. A book of request keys too, which is safe to share between threads."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._intake = SealedIntake.of(node)
        # one intake serves one thread; whole batches wait, and in nobody else's threads
        self._turn = CapacityLimiter(1)
        self._under_way: Counter[str] = Counter()

    def key(self, kid: str) -> RequestKey | None:
        """See KeyBook. A revoked terminal's key ends at once."""
        with self._node.database.reading() as connection:
            found = find_request_key(connection, kid)
        if found is None:
            return None
        roles = frozenset({TERMINAL})
        return RequestKey(kid, found.department, found.request, roles, found.valid_from, found.revoked_at)

    async def submit(self, department: str, kid: str, body: bytes) -> list[Outcome]:
        """Takes in a batch that the terminal of the request key `kid` sends. Raises Problem `forbidden` for a batch of
        another department, `overloaded` where it sends several at once; Malformed, and what `SealedIntake.submit`
        raises."""
        if self._under_way[kid] >= AT_ONCE:
            raise Problem("overloaded", "this terminal's other batches are under way: wait for them", retry_after=5)
        self._under_way[kid] += 1
        try:
            return await to_thread.run_sync(self._submit, department, body, limiter=self._turn)
        finally:
            self._under_way[kid] -= 1
            self._under_way += Counter()  # only those above zero stay

    def _submit(self, department: str, body: bytes) -> list[Outcome]:
        batch = decode_batch(body)
        if batch.department != department:
            raise Problem("forbidden", "a terminal submits records of its own department only")
        return self._intake.submit(department, batch.records)
