"""A ledger to feed, in memory or on disk, with intake's own rules; run as a program, it feeds one until it is killed.

python worker.py MAPPING STATE.db LEDGER.db BATCH
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import create_engine

from adapters.mapping import load_mapping, open_source
from adapters.run import RunReport, run
from adapters.state import AdapterState
from ledger.errors import Conflict
from ledger.submission import Acknowledged, Outcome, Refused, Submission


class SimulatedLedger:
    """The idempotency rules of intake over SQLite: same key and content, same record; other content, Conflict.

    Content is everything but `id` and `source`, and what was attached. A batch is one transaction.
    """

    def __init__(self, path: str = ":memory:") -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS log (position INTEGER PRIMARY KEY, key UNIQUE, content, record)")
        self.batches: list[int] = []

    def __call__(self, batch: Sequence[Submission]) -> list[Outcome]:
        """A Submit."""
        self.batches.append(len(batch))
        self._db.execute("BEGIN IMMEDIATE")
        outcomes = [self._take(item) for item in batch]
        self._db.execute("COMMIT")
        return outcomes

    def _take(self, item: Submission) -> Outcome:
        content = {name: value for name, value in item.record.items() if name not in ("id", "source")}
        attached = [(attachment.name, str(attachment.path)) for attachment in item.attachments]
        text = json.dumps([content, attached], sort_keys=True)
        known = self._db.execute("SELECT position, content FROM log WHERE key = ?", (item.key,)).fetchone()
        if known is None:
            record = json.dumps(item.record)
            cursor = self._db.execute(
                "INSERT INTO log (key, content, record) VALUES (?, ?, ?)", (item.key, text, record)
            )
            return Acknowledged(item.key, f"record-{cursor.lastrowid}", int(cursor.lastrowid or 0), new=True)
        if known[1] == text:
            return Acknowledged(item.key, f"record-{known[0]}", known[0], new=False)
        return Refused(item.key, Conflict("conflict", f"key {item.key!r} is taken by a record with other content"))

    def keys(self) -> list[str]:
        """The rows' own keys in the order of the log."""
        return [key.partition("/")[2] for (key,) in self._db.execute("SELECT key FROM log ORDER BY position")]

    def records(self) -> list[dict[str, object]]:
        """The records in the order of the log."""
        return [json.loads(record) for (record,) in self._db.execute("SELECT record FROM log ORDER BY position")]

    def content(self) -> list[tuple[object, ...]]:
        """Everything, for comparing two ledgers."""
        return self._db.execute("SELECT position, key, content, record FROM log ORDER BY position").fetchall()


def feed(mapping: Path, state: Path, ledger: Path, batch: int, pause: float = 0.0) -> RunReport:
    """One run with everything on disk."""
    loaded = load_mapping(mapping)
    source = open_source(loaded, environ=os.environ)

    def submit(items: Sequence[Submission]) -> list[Outcome]:
        outcomes = target(items)
        time.sleep(pause)  # so that a kill also falls between acknowledgement and settling
        return outcomes

    target = SimulatedLedger(str(ledger))
    return run(loaded, source, AdapterState(create_engine(f"sqlite:///{state}")), submit, batch=batch)


if __name__ == "__main__":
    print("started", flush=True)
    report = feed(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), pause=0.003)
    print(json.dumps({"read": report.read, "stopped": str(report.stopped or "")}), flush=True)
