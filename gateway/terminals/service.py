"""What terminals hand in, and the keys that their requests are signed with."""

from __future__ import annotations

import threading

from gateway.access import RequestKey
from gateway.caller import TERMINAL
from gateway.problems import Problem
from ledger.node import Node
from ledger.sealed_format import decode_batch
from ledger.sealed_intake import SealedIntake
from ledger.submission import Outcome
from ledger.terminals import find_request_key


class Terminals:
    """The terminals of a node. A book of request keys too; safe to share between threads."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._intake = SealedIntake.of(node)
        self._lock = threading.Lock()  # one intake serves one thread; terminals come with whole batches

    def key(self, kid: str) -> RequestKey | None:
        """See KeyBook. A revoked terminal's key ends at once."""
        with self._node.database.reading() as connection:
            found = find_request_key(connection, kid)
        if found is None:
            return None
        roles = frozenset({TERMINAL})
        return RequestKey(kid, found.department, found.request, roles, found.valid_from, found.revoked_at)

    def submit(self, department: str, body: bytes) -> list[Outcome]:
        """Takes in a batch of the caller's department. Raises Problem `forbidden` for another's, Malformed, and what
        `SealedIntake.submit` raises."""
        batch = decode_batch(body)
        if batch.department != department:
            raise Problem("forbidden", "a terminal submits records of its own department only")
        with self._lock:
            return self._intake.submit(department, batch.records)
