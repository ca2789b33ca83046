"""Uploads a file and submits its record, dying at the n-th step that touches disk or database; another goes on.

    python -m tests.ledger.upload_worker KEYS URL DIRECTORY      prints how many steps there are to die at

Every step gets an upload, a record and a death (SIGKILL, by the process itself) of its own. Whoever comes after finds
only what lies on disk: it asks for the offset, goes on from there, and submits the same record under the same key.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import event

from ledger.errors import RecordRefused
from ledger.keys import FileKeyAgent
from ledger.submission import Acknowledged, Submission, UploadedSource
from ledger.uploads import Uploads
from tests.fixtures.parts import Parts
from tests.fixtures.records import report

FILE = bytes(range(251)) * 10_500  # 2.6 MB: two whole segments and a rest
PIECE = 900_000
DONE = 100


class Mortal:
    """Counts steps and kills the process before the one it is told; 0: never."""

    def __init__(self, last: int) -> None:
        self._left = last

    def step(self, *_: Any) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, parts: Parts) -> None:
        for name in ("pwrite", "fsync", "rename", "unlink"):
            setattr(os, name, self._counted(getattr(os, name)))
        event.listen(parts.database.engine, "commit", self.step)
        event.listen(parts.database.engine, "begin", self.step)

    def _counted(self, call: Any) -> Any:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.step()
            return call(*arguments, **options)

        return counted


def upload(parts: Parts, name_file: Path, sealed: Uploads) -> str:
    """Goes on with the upload that `name_file` names, or begins one."""
    try:
        name = name_file.read_text()
        found = sealed.find("fire", name)
    except (FileNotFoundError, RecordRefused):
        name = sealed.begin("fire", len(FILE), sha256=hashlib.sha256(FILE).hexdigest()).id
        name_file.write_text(name)
        found = sealed.find("fire", name)
    while found.received < len(FILE):
        found = sealed.append("fire", name, found.received, [FILE[found.received : found.received + PIECE]])
    return name


def work(parts: Parts, number: int) -> None:
    uploads = Uploads(parts.database, parts.blobs, parts.keks, parts.directory / "uploads")
    name_file = parts.directory / f"name-{number}"
    name = upload(parts, name_file, uploads)
    source = UploadedSource(name, "a.mp4", "video/mp4", len(FILE), hashlib.sha256(FILE).hexdigest())
    [outcome] = parts.submit([Submission(f"k{number}", report(number), uploads=(source,))])
    assert isinstance(outcome, Acknowledged), outcome


def resume(parts: Parts, number: int) -> None:
    """As a client that lost every answer: the record may be there already, and then the upload is gone."""
    name_file = parts.directory / f"name-{number}"
    digest = hashlib.sha256(FILE).hexdigest()
    if name_file.exists():
        source = UploadedSource(name_file.read_text(), "a.mp4", "video/mp4", len(FILE), digest)
        [outcome] = parts.submit([Submission(f"k{number}", report(number), uploads=(source,))])
        if isinstance(outcome, Acknowledged):
            return
    work(parts, number)


def fork(agent: FileKeyAgent, url: str, directory: Path, number: int, last: int) -> int:
    """A process that works until the `last` step; how it ended."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            parts = Parts.open(directory, url, agent)
            if last:
                Mortal(last).watch(parts)
                work(parts, number)
            else:
                resume(parts, number)
            code = DONE
        finally:
            sys.stderr.flush()
            os._exit(code) if code == DONE else None
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    """Dies at step 1, 2, 3 … until a run came to its end without dying."""
    keys, url, directory = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    agent = FileKeyAgent.open(keys)
    for number in range(1, 1000):
        ended = fork(agent, url, directory, number, number)
        if ended == DONE:
            print(number)
            return
        assert ended == -signal.SIGKILL, ended
        assert fork(agent, url, directory, number, 0) == DONE, f"nobody could go on after step {number}"


if __name__ == "__main__":
    main()
