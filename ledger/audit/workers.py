"""Several processes that audit stretches. Each opens the node itself; what it is told and what it answers is data.

A worker ends when its pipe does, so none outlives the process that asked, however that ended.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ledger.audit.bench import Bench, Stretch
from ledger.audit.chain import ChainRoots, LogKeys, WitnessKey
from ledger.audit.stretch import StretchAudit
from ledger.errors import CouldNotRun, YunxiError
from ledger.keks import KekRing
from ledger.node import Node
from ledger.store.reading import LogRow


@dataclass(frozen=True, slots=True)
class Job:
    """One stretch to audit. `newest`: what the chain held when it was asked (None: it could not be)."""

    log: LogRow
    newest: int | None
    keys: LogKeys
    place: tuple[int, frozenset[str]] | None
    witnesses: Mapping[bytes, WitnessKey]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Workers:
    """Up to `count` processes over the node in `directory`."""

    directory: Path
    count: int
    check_signatures: bool
    recipient: X25519PrivateKey | None

    def run(self, jobs: Sequence[Job]) -> Iterator[Stretch]:
        """The stretches, in the order in which they are done. Raises CouldNotRun when a worker cannot go on."""
        waiting = list(reversed(jobs))
        workers = [self._start() for _ in range(min(self.count, len(jobs)))]
        try:
            busy = {}
            for process, pipe in workers:
                pipe.send(waiting.pop())
                busy[pipe] = process
            while busy:
                for ready in wait(list(busy)):
                    assert isinstance(ready, Pipe)
                    yield _answer(ready)
                    if waiting:
                        ready.send(waiting.pop())
                    else:
                        del busy[ready]
        finally:
            for process, pipe in workers:
                pipe.close()
                process.join(10)
                if process.is_alive():
                    process.terminate()

    def _start(self) -> tuple[SpawnProcess, Pipe]:
        # spawned, not forked: open databases and their locks do not survive a fork
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        recipient = self.recipient.private_bytes_raw() if self.recipient is not None else None
        process = context.Process(
            target=_serve, args=(there, self.directory, self.check_signatures, recipient), daemon=True
        )
        process.start()
        there.close()
        return process, here


def _answer(pipe: Pipe) -> Stretch:
    try:
        answer = pipe.recv()
    except (EOFError, OSError) as error:
        raise CouldNotRun("a process of the audit died: run the same again, with fewer --jobs") from error
    if isinstance(answer, Stretch):
        return answer
    raise CouldNotRun(str(answer))


def _serve(pipe: Pipe, directory: Path, check_signatures: bool, recipient: bytes | None) -> None:
    try:
        node = Node.open(directory)
        private = X25519PrivateKey.from_private_bytes(recipient) if recipient is not None else None
        keks = KekRing(node.agent, private)
        while True:
            pipe.send(_audit(node, keks, pipe.recv(), check_signatures))
    except YunxiError as error:
        pipe.send(str(error))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return  # whoever asked has gone


def _audit(node: Node, keks: KekRing, job: Job, check_signatures: bool) -> Stretch:
    chain = None
    if job.newest is not None:
        chain = ChainRoots(node.connect().evidence_log, job.log.department, job.newest)
    known = job.place, node.types, job.witnesses
    bench = Bench(job.log, node.agent, keks, node.blobs, job.keys, chain, check_signatures, *known)
    with node.database.reading() as connection:
        return StretchAudit(connection, bench, job.start, job.end, lambda _: None).run()
