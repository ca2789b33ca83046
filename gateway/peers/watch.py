"""What contracts say, kept until they say something new: one question a block instead of hundreds a request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from ledger.chain.client import Block, ChainClient
from ledger.errors import ChainUnreachable

Value = TypeVar("Value")

MAX_AGE_S = 0.2
"""How long an answer of the chain counts without asking again: far less than any block takes."""


class Watched(Generic[Value]):
    """A value made of what contracts hold, read anew when one of them has emitted an event since. Thread-safe.

    It is never older than the newest block of `MAX_AGE_S` ago. Where the chain does not answer there is no value: what
    was true before says nothing about now.
    """

    def __init__(
        self, client: Callable[[], ChainClient], addresses: Callable[[], list[str]], read: Callable[[], Value]
    ) -> None:
        """`addresses` says which contracts to watch; it is asked after each reading."""
        self._client, self._addresses, self._read = client, addresses, read
        self._lock = threading.Lock()
        self._value: Value | None = None
        self._last: Value | None = None
        self._seen: Block | None = None
        self._watching: list[str] = []
        self._asked = 0.0

    def get(self) -> Value:
        """The value. Raises ChainUnreachable, and what `read` raises."""
        with self._lock:
            if self._value is None or time.monotonic() - self._asked > MAX_AGE_S:
                self._renew()
            assert self._value is not None
            return self._value

    def last(self) -> Value | None:
        """The newest value there ever was, however old; None where there was none. Says nothing about now."""
        return self._last

    def forget(self) -> None:
        """Reads anew next time: whoever has just changed the contracts sees it."""
        with self._lock:
            self._value = None

    def _renew(self) -> None:
        asked, client = time.monotonic(), self._client()
        newest = client.block("latest")
        if newest is None:
            raise ChainUnreachable(f"The chain at {client.url} has no newest block.")
        if self._value is None or self._changed(client, newest):
            self._value = None  # if reading fails there is none
            self._value = self._last = self._read()
            self._watching = self._addresses()
        self._seen, self._asked = newest, asked

    def _changed(self, client: ChainClient, newest: Block) -> bool:
        seen = self._seen
        if seen is None or newest.hash == seen.hash:
            return seen is None
        before = client.block(seen.number)
        if before is None or before.hash != seen.hash:
            return True  # blocks were replaced, and with them perhaps what they held
        return any(client.logs(address, [], seen.number + 1, newest.number) for address in self._watching)
