"""Stamping by clock, beside anchoring and never in its way.

A log's newest anchored checkpoint is stamped, at most one in `every_seconds`. The authorities are asked in the order
of node.toml until enough different ones have given a token; one that fails is left alone for a while, and the next is
asked. Everything may be cut off and run again: a token is kept once.

    1. which checkpoint lacks tokens?   Die here: nothing happened.
    2. ask an authority                 Die here: its token is lost; the next round gets another.
    3. keep the token                   Die here: it is there, and the next round sees it.
"""

from __future__ import annotations

import threading
import time

from ledger.checkpoints import sign_at
from ledger.errors import CouldNotRun, YunxiError
from ledger.formats.renewal import leaf_hash, root_of
from ledger.node import Node
from ledger.store.reading import LogRow, read_logs
from ledger.timestamps.authority import ask
from ledger.timestamps.book import all_tokens, keep_token, newest_stamp, note_call, size_to_stamp, stamped_by
from ledger.timestamps.settings import AuthoritySettings

PAUSE_SECONDS = 60.0
"""How long an authority that failed is left alone."""


class Timestamping:
    """Stamps and renews for every log of a node."""

    def __init__(self, node: Node, pause: float = PAUSE_SECONDS) -> None:
        self._node = node
        self._settings = node.settings.timestamps
        self._pause = pause
        self._paused: dict[str, float] = {}

    def run(self, stop: threading.Event, interval: float) -> None:
        """Rounds every `interval` seconds until `stop` is set. Without authorities it ends at once."""
        while self._settings.authorities and not stop.wait(interval):
            try:
                self.round()
            except CouldNotRun:
                continue  # the database could not be read; `yunxi status` tells how old the last stamp is

    def round(self) -> int:
        """Stamps what is due in every log; how many tokens came. Trouble with an authority is noted for `yunxi status`,
        never raised."""
        if not self._settings.authorities:
            return 0
        with self._node.database.reading() as connection:
            logs = read_logs(connection)
        return sum(self._stamp(log) for log in logs)

    def renew(self, log: LogRow) -> YunxiError | None:
        """Has all tokens of a log covered by a fresh one, from the first authority that answers; the last one's trouble
        where none does. Nothing to do for a log without tokens."""
        with self._node.database.reading() as connection:
            tokens = all_tokens(connection, log.number)
        if not tokens:
            return None
        root, trouble = root_of([leaf_hash(row.token) for row in tokens]), None
        for authority in self._settings.authorities:
            trouble = self._ask(authority, log, len(tokens), root, renewal=True)
            if trouble is None:
                return None
        return trouble or CouldNotRun(
            "no time-stamping authority is named in node.toml: add [[timestamps.authorities]]"
        )

    def _stamp(self, log: LogRow) -> int:
        # 1
        due = self._due(log)
        if due is None:
            return 0
        size, text, given = due
        missing = [authority for authority in self._settings.authorities if authority.name not in given]
        got, wanted = 0, self._settings.required - len(given)
        for authority in missing:
            if got < wanted and self._paused.get(authority.name, 0) <= time.monotonic():
                got += self._ask(authority, log, size, text) is None
        return got

    def _due(self, log: LogRow) -> tuple[int, bytes, set[str]] | None:
        """The size to be stamped, its checkpoint's text, and who stamped it already; None where nothing is due."""
        now = self._node.clock()
        with self._node.database.writing() as connection:
            newest = newest_stamp(connection, log.number)
            recent = newest is not None and now < newest.time + self._settings.every_seconds
            # what was begun is completed first: else a busy log would have one token at each of many sizes
            size = newest.size if newest is not None and recent else size_to_stamp(connection, log.number)
            given = {kept.authority for kept in stamped_by(connection, log.number, size)}
            if size == 0 or len(given) >= self._settings.required:
                return None
            signer = self._node.agent.log_signer(log.department, now)
            return size, sign_at(connection, log, size, signer, int(now)).checkpoint.text, given

    def _ask(
        self, authority: AuthoritySettings, log: LogRow, size: int, stamped: bytes, *, renewal: bool = False
    ) -> YunxiError | None:
        trouble: YunxiError | None = None
        try:
            # 2
            token, stamp = ask(authority, stamped)
        except YunxiError as error:
            trouble = error
            self._paused[authority.name] = time.monotonic() + self._pause
        with self._node.database.writing() as connection:
            # 3
            if trouble is None:
                keep_token(connection, log.number, size, authority.name, token, stamp, renewal=renewal)
            note_call(connection, authority.name, int(self._node.clock()), None if trouble is None else str(trouble))
        return trouble
