"""Receipts: proofs of inclusion for offline use, as C2SP tlog-proof (v1) defines them.

    "c2sp.org/tlog-proof@v1" newline
    ["extra " base64 newline]               not authenticated: a hint, never a fact
    "index " decimal newline
    *(base64(hash[32]) newline)             from the leaf's sibling up
    newline
    checkpoint                              the signed note, byte for byte

Only the form is read here. What a receipt proves is for `merkle`, `checkpoint` and `cosignature` to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ledger.errors import Malformed
from ledger.formats.checkpoint import Checkpoint, parse_decimal
from ledger.formats.encoding import b64decode, b64encode
from ledger.formats.merkle import HASH_SIZE, MAX_PATH, MAX_SIZE
from ledger.formats.note import Note, decode_lines

MAX_PROOF_BYTES = 256 * 1024

_HEADER = "c2sp.org/tlog-proof@v1"
_WHAT = "tlog-proof"


@dataclass(frozen=True, slots=True)
class TlogProof:
    """Entry `index` (from 0) of the tree in `checkpoint` (a whole note), with its inclusion `path` of 32-byte hashes.

    `extra` is None where there is none; it is never empty. Raises Malformed for values that no proof can have. Not
    checked: signatures, and that index and path fit the checkpoint's tree.
    """

    extra: bytes | None
    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes

    def __post_init__(self) -> None:
        if self.extra == b"":
            raise Malformed(_WHAT, "has an extra line without data; leave the line out")
        if not 0 <= self.index < MAX_SIZE:
            raise Malformed(_WHAT, "the index is not between 0 and 2^63-2")
        if len(self.path) > MAX_PATH or any(len(value) != HASH_SIZE for value in self.path):
            raise Malformed(_WHAT, "the path is not made of up to 64 hashes of 32 bytes")
        _check_checkpoint(self.checkpoint)

    @classmethod
    def parse(cls, data: bytes) -> TlogProof:
        """Reads a proof of up to 256 KiB; `serialize` gives `data` again. Raises Malformed."""
        _check_size(data)
        head, blank, checkpoint = data.partition(b"\n\n")
        if not blank:
            raise Malformed(_WHAT, "has no blank line before the checkpoint")
        header, *lines = decode_lines(head + b"\n", _WHAT)
        if header != _HEADER:
            raise Malformed(_WHAT, f"does not begin with {_HEADER}")
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = b64decode(lines.pop(0).removeprefix("extra "), "tlog-proof extra")
        if not lines or not lines[0].startswith("index "):
            raise Malformed(_WHAT, "has no index line where it belongs")
        index = parse_decimal(lines.pop(0).removeprefix("index "), "tlog-proof index")
        return cls(extra, index, tuple(b64decode(line, "tlog-proof path") for line in lines), checkpoint)

    def serialize(self) -> bytes:
        """The proof's bytes. Raises Malformed when they are more than 256 KiB: the extra data is too long."""
        lines = [_HEADER]
        if self.extra is not None:
            lines.append(f"extra {b64encode(self.extra)}")
        lines.append(f"index {self.index}")
        lines += map(b64encode, self.path)
        data = "\n".join(lines).encode() + b"\n\n" + self.checkpoint
        _check_size(data)
        return data


@lru_cache(maxsize=64)
def _check_checkpoint(note: bytes) -> None:
    # receipts come in lists under one checkpoint; only a good one is remembered
    Checkpoint.parse(Note.parse(note).text)


def _check_size(data: bytes) -> None:
    if len(data) > MAX_PROOF_BYTES:
        raise Malformed(_WHAT, f"{len(data):,} bytes is more than the {MAX_PROOF_BYTES:,} allowed")
