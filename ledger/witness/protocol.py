"""The add-checkpoint request of C2SP tlog-witness, and what a witness answers when it does not cosign.

    request = "old " decimal newline  *63(base64(hash[32]) newline)  newline  checkpoint
    answer  = 200 1*(signature line)                                   cosigned
              400 malformed, or old size above the checkpoint's        Malformed
              403 no good signature by a key of the log                CheckpointInvalid
              404 the witness does not know the log                    LogUnknown
              409 decimal newline, text/x.tlog.size                    SizeConflict: ask again from that size
              422 the histories do not fit together                    ConsistencyInvalid

An answer of 5xx, or none that can be read, is WitnessUnreachable: nothing was decided, ask again later.
"""

from __future__ import annotations

from dataclasses import dataclass

from ledger.errors import CouldNotRun, HistoryRefused, KeyRefused, Malformed
from ledger.formats.checkpoint import Checkpoint, parse_decimal
from ledger.formats.encoding import b64decode, b64encode
from ledger.formats.merkle import HASH_SIZE, MAX_SIZE
from ledger.formats.note import MAX_NOTE_BYTES, Note, decode_lines

MAX_PROOF_LINES = 63
MAX_REQUEST_BYTES = MAX_NOTE_BYTES + 4 * 1024
"""A note, and 63 hashes of 45 bytes each with the lines around them."""

SIZE_TYPE = "text/x.tlog.size"

_WHAT = "add-checkpoint request"


class LogUnknown(KeyRefused):
    """The witness has no key for the checkpoint's origin."""


class SizeConflict(HistoryRefused):
    """The request's old size is not the one that the witness cosigned last; `size` is that one."""

    def __init__(self, size: int) -> None:
        super().__init__(f"The witness last cosigned size {size:,} of this log; send a consistency proof from there.")
        self.size = size


class WitnessUnreachable(CouldNotRun):
    """The witness did not answer, not in time, or not as the protocol says. Nothing was decided."""


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request: the consistency `proof` leads from the tree of `old` leaves to the tree of the checkpoint `note`.

    `text` and `checkpoint` are what the note says, not verified. Raises Malformed for values that no request can have;
    that `old` is not above the checkpoint's size is left to the witness, which looks at signatures first.
    """

    old: int
    proof: tuple[bytes, ...]
    note: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.old <= MAX_SIZE:
            raise Malformed(_WHAT, "the old size is not between 0 and 2^63-1")
        if len(self.proof) > MAX_PROOF_LINES or any(len(value) != HASH_SIZE for value in self.proof):
            raise Malformed(_WHAT, "the proof is not made of up to 63 hashes of 32 bytes")
        Checkpoint.parse(Note.parse(self.note).text)

    @property
    def checkpoint(self) -> Checkpoint:
        """The note's values, not verified."""
        return Checkpoint.parse(Note.parse(self.note).text)

    @classmethod
    def parse(cls, body: bytes) -> AddCheckpoint:
        """Reads a request of up to 68 KiB; `serialize` gives `body` again. Raises Malformed."""
        if len(body) > MAX_REQUEST_BYTES:
            raise Malformed(_WHAT, f"{len(body):,} bytes is more than the {MAX_REQUEST_BYTES:,} allowed")
        head, blank, note = body.partition(b"\n\n")
        if not blank:
            raise Malformed(_WHAT, "has no blank line before the checkpoint")
        old, *proof = decode_lines(head + b"\n", _WHAT)
        if not old.startswith("old "):
            raise Malformed(_WHAT, "does not begin with the old size")
        if len(proof) > MAX_PROOF_LINES:
            raise Malformed(_WHAT, f"has {len(proof)} proof lines, more than 63")
        size = parse_decimal(old.removeprefix("old "), "old size")
        return cls(size, tuple(b64decode(line, "consistency proof") for line in proof), note)

    def serialize(self) -> bytes:
        """The request's bytes."""
        lines = [f"old {self.old}", *map(b64encode, self.proof)]
        return "\n".join(lines).encode() + b"\n\n" + self.note


def parse_size(body: bytes) -> int:
    """The size in the body of a 409. Raises Malformed."""
    lines = decode_lines(body, "size of the witness")
    if len(lines) != 1:
        raise Malformed("size of the witness", "is not one line")
    return parse_decimal(lines[0], "size of the witness")
