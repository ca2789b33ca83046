"""What waits at a terminal goes to its node: attachments first, then the records, oldest first, until each is decided.

waiting ─► files sent ─► batch submitted ─► acknowledged (kept a week) | refused (kept) | waiting, to come again
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from adapters.terminal_clock import ClockKeeper
from adapters.terminal_queue import REFUSED, WAITING, Queue, QueuedFile
from adapters.terminal_transport import SealedFile, Transport
from ledger.errors import CouldNotRun, Malformed, RecordRefused, Refusal, StorageFailed
from ledger.sealed_format import MAX_BATCH_BYTES, SealedBatch, SealedSubmission
from ledger.submission import Acknowledged

BATCH = 100
BATCH_BYTES = MAX_BATCH_BYTES // 2
KEEP_S = 7 * 86_400
"""How long what was acknowledged is kept, to be submitted again should the node be restored from an older backup."""

BACK_OFF_S = (1.0, 300.0)

_UPLOAD_GONE = ("unknown-upload", "upload-digest")
_AGAIN_LATER = ("sealed-ahead", "upload-limit", "upload-offset", *_UPLOAD_GONE)


@dataclass(frozen=True, slots=True)
class Submitted:
    """What one pass over the queue did. `problem` is why it stopped early, or None."""

    acknowledged: int
    refused: int
    waiting: int
    problem: CouldNotRun | Refusal | None


class Outbox:
    """The queue of one department's terminal, and the directory of its sealed files, seen from the sending end."""

    def __init__(
        self, department: str, queue: Queue, files: Path, clock_keeper: ClockKeeper, clock: Callable[[], float]
    ) -> None:
        self._department = department
        self._queue = queue
        self._files = files
        self._clock_keeper = clock_keeper
        self._clock = clock

    def submit(self, transport: Transport) -> Submitted:
        """One pass over what waits, oldest first. What the node cannot decide now stays and comes again; one record
        that is refused holds up no other. Trouble on the way is in the answer, never raised; StorageFailed is."""
        done, refused, problem = 0, 0, None
        try:
            self._clock_keeper.measure(transport)
            after = 0
            while batch := self._queue.waiting(after, BATCH, BATCH_BYTES):
                after = batch[-1]
                acknowledged, failed = self._submit(transport, batch)
                done, refused = done + acknowledged, refused + failed
        except StorageFailed:
            raise
        except (CouldNotRun, Refusal) as error:
            problem = error
        self._drop()
        return Submitted(done, refused, self._queue.counts()[WAITING], problem)

    def follow(self, transport: Transport, stop: Event, told: Callable[[Submitted], None], interval: float = 5) -> None:
        """Submits until `stop` is set: every `interval` seconds, or after trouble with growing pauses."""
        pause = BACK_OFF_S[0]
        while not stop.is_set():
            result = self.submit(transport)
            told(result)
            if result.problem is None:
                pause = BACK_OFF_S[0]
                stop.wait(interval)
            else:
                stop.wait(pause * random.uniform(0.5, 1))  # noqa: S311  terminals should not come all at once
                pause = min(pause * 2, BACK_OFF_S[1])

    def again(self, state: str = REFUSED) -> int:
        """Puts what was refused (or what was acknowledged of late, after a restore of the node) back to waiting."""
        return self._queue.revive(state)

    def _submit(self, transport: Transport, batch: Sequence[int]) -> tuple[int, int]:
        ready, failed = self._ready(transport, batch)
        if not ready:
            return 0, failed
        try:
            submissions = tuple(submission for _, submission in ready)
            outcomes = transport.submit(SealedBatch(self._department, submissions))
        except Malformed as error:
            if len(ready) == 1:
                return 0, failed + self._take_refusal(ready[0][0], RecordRefused("malformed", str(error)))
            parts = [self._submit(transport, [seq]) for seq, _ in ready]  # to find the one that it is about
            return sum(done for done, _ in parts), failed + sum(more for _, more in parts)
        done = 0
        # Die here, or anywhere below: the node has them; they are submitted again and found by their keys.
        for (seq, _), outcome in zip(ready, outcomes, strict=True):
            if isinstance(outcome, Acknowledged):
                self._queue.acknowledge(seq, outcome.index, int(self._clock()))
                done += 1
            else:
                failed += self._take_refusal(seq, outcome.error)
        return done, failed

    def _ready(self, transport: Transport, batch: Sequence[int]) -> tuple[list[tuple[int, SealedSubmission]], int]:
        """The items whose attachments are sent, and how many can never be."""
        ready, failed = [], 0
        for seq in batch:
            try:
                for file in self._queue.files(seq):
                    self._send(transport, seq, file)
                ready.append((seq, self._queue.submission(seq)))
            except RecordRefused as error:
                failed += self._take_refusal(seq, error)
        return ready, failed

    def _send(self, transport: Transport, seq: int, file: QueuedFile) -> None:
        path = self._files / file.name
        if not path.is_file():
            raise RecordRefused("attachments", f"the sealed attachment {file.name} is gone from the terminal's disk")
        sealed = SealedFile(path, file.sha256, file.size, file.upload)
        try:
            transport.send_file(sealed, lambda upload: self._queue.set_upload(seq, file.sha256, upload))
        except RecordRefused as error:
            # an upload that is gone was taken by its record, whose acknowledgement was lost, or has expired: submitting
            # the record tells which
            if error.reason not in _UPLOAD_GONE or file.upload is None:
                raise

    def _take_refusal(self, seq: int, error: RecordRefused) -> int:
        """Keeps the item with the reason; 1 where that is final."""
        if error.reason in _UPLOAD_GONE:
            for file in self._queue.files(seq):
                self._queue.set_upload(seq, file.sha256, None)
        final = error.reason not in _AGAIN_LATER
        self._queue.refuse(seq, error.reason, str(error), final=final)
        return int(final)

    def _drop(self) -> None:
        for name in self._queue.drop(int(self._clock()) - KEEP_S):
            (self._files / name).unlink(missing_ok=True)
