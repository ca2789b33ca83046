"""The witness itself: it cosigns a log's checkpoint if, and only if, that continues the last one it cosigned.

The steps of `add_checkpoint`, in the order in which C2SP tlog-witness gives them:

1. The request has its form (400).
2. The witness knows the log: it has keys for the checkpoint's origin (404).
3. One of these keys signed the checkpoint, and no signature in their name is bad (403).
4. The old size is not above the checkpoint's (400), and is the size cosigned last, 0 for none (409).
5. A tree of size 0 has the root of the empty tree; the proof leads from the last root to the new one, and is empty
   from size 0 and between equal sizes, where the roots are the same (422).
6. The clock has not gone back behind the last cosignature of the log.
7. The new head is written and durable, and only then the cosignature leaves.

Signed checkpoints that fail 4 or 5 are kept, because they may be evidence against the log: the log's key has signed
them. Two of one size with different roots prove a split view to anybody (`proven`). One whose proof does not verify is
a suspicion only, for whoever sent it may have damaged the proof.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from ledger.errors import CheckpointInvalid, ConsistencyInvalid, CouldNotRun, Malformed, SignatureInvalid
from ledger.formats.checkpoint import Checkpoint
from ledger.formats.cosignature import cosign
from ledger.formats.merkle import EMPTY_ROOT, verify_consistency
from ledger.formats.note import COSIGNATURE_ED25519, Note, Signature, VerifierKey, parse_signatures
from ledger.keys import Signer
from ledger.witness.protocol import AddCheckpoint, LogUnknown, SizeConflict

MAX_STEP_BACK_S = 60
"""How far the clock may go back, as time services correct it; until it has caught up the last time is used again."""

Logs = Mapping[str, Sequence[VerifierKey]]
"""The logs that a witness serves: the keys of each origin."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a witness cosigned last of a log. `note` carries the log's signatures and the witness's own; `time` is in
    seconds since 1970."""

    size: int
    root: bytes
    time: int
    note: bytes


@dataclass(frozen=True, slots=True)
class Conflict:
    """A checkpoint that the log's key signed and the witness refused, with the `head` it stood at (None for none).

    `proven`: both have the same size and different roots, so the two notes alone show that the log has two histories.
    """

    origin: str
    size: int
    root: bytes
    note: bytes
    head: bytes | None
    proven: bool
    time: int


class Slot(Protocol):
    """One log's place in a witness's state, held alone until its transaction ends."""

    def head(self) -> Head | None:
        """What was cosigned last."""

    def advance(self, old: Head | None, new: Head) -> None:
        """Puts `new` in the place of `old`. A suspicion of the same size is settled by it: proven where the root is
        another, dropped where it is the same. Raises StorageFailed, and all is lost, if `old` is not there any more."""

    def keep(self, conflict: Conflict) -> None:
        """Keeps a conflict; one with the same size and root is kept once."""


class Store(Protocol):
    """A witness's state."""

    def open(self, origin: str) -> AbstractContextManager[Slot]:
        """A transaction on one log: alone with it from start to end, and durable when the block ends without an error.
        Raises StorageFailed."""

    def head(self, origin: str) -> Head | None:
        """What was cosigned last, without waiting for anybody."""

    def conflicts(self) -> list[Conflict]:
        """Everything kept, oldest first."""


class Witness:
    """A witness of several logs. May be called from several threads, and by several processes over one store."""

    def __init__(self, name: str, signer: Signer, logs: Logs, store: Store, clock: Callable[[], float]) -> None:
        self.vkey = VerifierKey.of(name, COSIGNATURE_ED25519, signer.public)
        self.store = store
        self._signer = signer
        self._logs = logs
        self._clock = clock
        self._origins = {sha256(origin.encode()).hexdigest(): origin for origin in logs}

    def add_checkpoint(self, request: AddCheckpoint) -> bytes:
        """The cosignature line, with its newline; on return the new head is durable. Step 1 is `AddCheckpoint.parse`.

        Raises LogUnknown (2), CheckpointInvalid (3), Malformed or SizeConflict (4), ConsistencyInvalid (5), CouldNotRun
        (6) or StorageFailed (7): then nothing was signed, and the head is what it was.
        """
        checkpoint, note = request.checkpoint, Note.parse(request.note)
        # 2, 3
        signatures = check_signed(note, self._logs.get(checkpoint.origin, ()))
        refused: SizeConflict | ConsistencyInvalid | None = None
        line = b""
        with self.store.open(checkpoint.origin) as slot:
            head = slot.head()
            try:
                # 4, 5
                check_continues(request, checkpoint, head)
            except (SizeConflict, ConsistencyInvalid) as error:
                refused = error
                self._keep(slot, Note(note.text, signatures), head, error)
            else:
                # 6
                time = next_time(int(self._clock()), head)
                line = cosign(note.text, time, self.vkey.name, self._signer.public, self._signer.sign)
                cosigned = Note(note.text, (*signatures, *parse_signatures(line))).serialize()
                slot.advance(head, Head(checkpoint.size, checkpoint.root, time, cosigned))
            # 7. Die before the block ends: nothing happened, and the line was in no hands but ours.
        # Die here: the head stands and nobody has the line; the log asks again from this size and gets another.
        if refused is not None:
            raise refused
        return line

    def checkpoint(self, origin_hash: str) -> bytes | None:
        """The last cosigned checkpoint of the log whose origin has this SHA-256 (lowercase hex), or None."""
        origin = self._origins.get(origin_hash)
        head = self.store.head(origin) if origin is not None else None
        return head.note if head is not None else None

    def _keep(self, slot: Slot, note: Note, head: Head | None, error: Exception) -> None:
        if head is None or head.size == 0:
            return  # nothing was cosigned that it could contradict
        checkpoint = Checkpoint.parse(note.text)
        proven = checkpoint.size == head.size and checkpoint.root != head.root
        # a wrong old size alone is no fault: the log may not know yet how far we are
        if proven or (isinstance(error, ConsistencyInvalid) and checkpoint.size > head.size):
            now = int(self._clock())
            kept = (checkpoint.origin, checkpoint.size, checkpoint.root, note.serialize(), head.note, proven, now)
            slot.keep(Conflict(*kept))


def check_signed(note: Note, keys: Sequence[VerifierKey]) -> tuple[Signature, ...]:
    """The signatures by `keys`, the log's, all verified; others are left out. Steps 2 and 3.

    Raises LogUnknown without keys; CheckpointInvalid when none of them signed or any signature in their name is bad.
    """
    origin = Checkpoint.parse(note.text).origin
    if not keys:
        raise LogUnknown(f"This witness does not serve the log {origin[:100]!r}; its operator has to add its key.")
    found: list[Signature] = []
    for key in keys:
        claimed = note.signatures_by(key)
        if not claimed:
            continue
        try:
            note.verify(key)
        except SignatureInvalid as error:
            raise CheckpointInvalid(f"The checkpoint carries a bad signature in the name of {key.name}.") from error
        found += claimed
    if not found:
        raise CheckpointInvalid(f"The checkpoint is not signed by a key that this witness knows for {origin[:100]}.")
    return tuple(found)


def check_continues(request: AddCheckpoint, checkpoint: Checkpoint, head: Head | None) -> None:
    """Steps 4 and 5: the checkpoint continues `head`. Raises Malformed, SizeConflict or ConsistencyInvalid."""
    size, root = (head.size, head.root) if head is not None else (0, EMPTY_ROOT)
    # 4
    if request.old > checkpoint.size:
        raise Malformed("add-checkpoint request", "the old size is above the checkpoint's")
    if request.old != size:
        raise SizeConflict(size)
    # 5
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise ConsistencyInvalid("The empty tree has one root, the SHA-256 of nothing; this is another.")
    verify_consistency(size, root, checkpoint.size, checkpoint.root, request.proof)


def next_time(now: int, head: Head | None) -> int:
    """When to say that a head was cosigned: `now`, or the last time where the clock has gone back a little. Step 6.

    Two cosignatures say which head was the largest at which time, so their times must rise with it.
    Raises CouldNotRun for a clock before 1970, and for one more than `MAX_STEP_BACK_S` behind `head`.
    """
    last = head.time if head is not None else 1
    if now < 1 or now < last - MAX_STEP_BACK_S:
        raise CouldNotRun(f"The clock says {now}, the last cosignature {last}: one of them is wrong; set the clock.")
    return max(now, last)
