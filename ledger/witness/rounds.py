"""Asking the witnesses outside this node, by clock, beside anchoring and never in its way.

Each witness is asked in a thread of its own for the newest anchored checkpoint of each log that it has not cosigned. A
witness that is down is asked again after `RETRY_S`, and then for the newest checkpoint, not for all it has missed. What
it cosigns is stored with the checkpoint it belongs to, however late. Everything may be cut off and run again, in
several processes at once: the witness decides which size comes next, and a cosignature is kept once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from ledger.errors import YunxiError
from ledger.formats.tiles import consistency_path
from ledger.node import Node
from ledger.settings import WitnessSettings
from ledger.store.models import checkpoints
from ledger.store.reading import LogRow, StoredTiles, read_logs
from ledger.witness.book import cosigned_size, keep_cosignature, last_call, note_call, size_to_show
from ledger.witness.client import TIMEOUT_S, HttpWitness, ask
from ledger.witness.protocol import WitnessUnreachable

RETRY_S = 15
ROUND_S = 10.0
"""How long a round waits for its witnesses; a slower one goes on by itself, and its cosignatures come late."""


@dataclass(frozen=True, slots=True)
class _Task:
    log: LogRow
    size: int
    note: bytes
    old: int


class Witnessing:
    """Asks every witness of node.toml for every log of the node."""

    def __init__(self, node: Node, timeout: float = TIMEOUT_S, retry: float | None = None) -> None:
        self._node = node
        self._timeout = timeout
        self._retry = RETRY_S if retry is None else retry
        self._asking: dict[str, threading.Thread] = {}

    def round(self, wait: float = ROUND_S) -> None:
        """Asks all that lack something and waits up to `wait` seconds. Trouble is noted for `yunxi status`, never
        raised, but for StorageFailed when the tasks cannot be read."""
        for witness in self._node.settings.witnesses:
            running = self._asking.get(witness.vkey)
            if (running is not None and running.is_alive()) or not (tasks := self._tasks(witness)):
                continue
            thread = threading.Thread(target=self._ask, args=(witness, tasks), daemon=True)
            self._asking[witness.vkey] = thread
            thread.start()
        deadline = time.monotonic() + wait
        for thread in self._asking.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def run(self, stop: threading.Event, interval: float) -> None:
        """Rounds every `interval` seconds until `stop` is set."""
        while not stop.wait(interval):
            self.round()

    def _tasks(self, witness: WitnessSettings) -> list[_Task]:
        now, tasks = int(self._node.clock()), []
        with self._node.database.reading() as connection:
            for log in read_logs(connection):
                call = last_call(connection, log.number, witness.key)
                if call is not None and call.problem is not None and 0 <= now - call.asked_at < self._retry:
                    continue
                size = size_to_show(connection, log.number, now)
                old = cosigned_size(connection, log.number, witness.key)
                query = select(checkpoints.c.note).where(checkpoints.c.log == log.number, checkpoints.c.size == size)
                note = connection.scalar(query) if size > old else None
                if note is not None:
                    tasks.append(_Task(log, size, note, old))
        return tasks

    def _ask(self, witness: WitnessSettings, tasks: Sequence[_Task]) -> None:
        for task in tasks:
            try:
                problem = self._ask_one(witness, task)
            except YunxiError:
                return  # our own database: whoever writes records is told, and the next round tries again
            if isinstance(problem, WitnessUnreachable):
                return

    def _ask_one(self, witness: WitnessSettings, task: _Task) -> YunxiError | None:
        number, cosignature, problem = task.log.number, None, None
        try:
            asked = HttpWitness(witness.url, self._timeout)
            cosignature = ask(asked, witness.key, task.note, task.size, task.old, lambda a, b: self._path(number, a, b))
        except YunxiError as error:
            problem = error
        with self._node.database.writing() as connection:
            # Die before this commits: the witness has gone on without us, says so with 409 and signs again.
            if cosignature is not None:
                keep_cosignature(connection, number, task.size, cosignature)
            note_call(connection, number, witness.key, int(self._node.clock()), problem)
        return problem

    def _path(self, log: int, old: int, new: int) -> list[bytes]:
        with self._node.database.reading() as connection:
            return consistency_path(old, new, StoredTiles(connection, log))
