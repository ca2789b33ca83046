"""Checkpoints as C2SP tlog-checkpoint defines them: a log's signed tree head.

    note text = origin newline  size newline  base64(root) newline  *(extension newline)

A checkpoint says what the log said. That the log never said otherwise is what consistency paths, witnesses and anchors
are for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ledger.errors import CheckpointInvalid, Malformed, SignatureInvalid
from ledger.formats.encoding import b64decode, b64encode
from ledger.formats.merkle import HASH_SIZE, MAX_SIZE
from ledger.formats.note import Note, Sign, VerifierKey, check_line, decode_lines, parse_signatures
from ledger.formats.note import sign as sign_note

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: `size` leaves, below 2^63, with `root` (32 bytes), of the log `origin`. Raises Malformed otherwise.

    `extensions` are further lines, kept as they are and not understood.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for line in (self.origin, *self.extensions):
            if not line:
                raise Malformed("checkpoint", "has an empty line")
            check_line(line, "checkpoint")
        if not 0 <= self.size <= MAX_SIZE:
            raise Malformed("checkpoint", "the tree size is not between 0 and 2^63-1")
        if len(self.root) != HASH_SIZE:
            raise Malformed("checkpoint", f"the root hash is {len(self.root)} bytes, not 32")

    @classmethod
    def parse(cls, text: bytes) -> Checkpoint:
        """Reads a note's text; `.text` gives the same bytes again. Raises Malformed."""
        lines = decode_lines(text, "checkpoint")
        if len(lines) < 3:
            raise Malformed("checkpoint", "needs three lines: origin, size and root hash")
        origin, size, root, *extensions = lines
        return cls(origin, parse_decimal(size, "tree size"), b64decode(root, "root hash"), tuple(extensions))

    @property
    def text(self) -> bytes:
        """The text that is signed, with its last newline."""
        lines = (self.origin, str(self.size), b64encode(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines).encode()


def sign_checkpoint(origin: str, size: int, root: bytes, public: bytes, sign: Sign) -> bytes:
    """The whole note: `sign` is the log's Ed25519 key, `public` its 32 bytes; the key's name is the origin.

    Never call it for a head that does not extend every head signed before: a log that does has forked.
    Raises Malformed for values that no checkpoint can have, and for an origin with a space or plus.
    """
    text = Checkpoint(origin, size, root).text
    return text + b"\n" + sign_note(text, origin, sign, public)


def open_checkpoint(note: bytes, vkey: VerifierKey) -> Checkpoint:
    """The checkpoint in `note`, once shown to be the statement of the log whose key is `vkey`.

    1. The bytes are a note. 2. Every signature that names `vkey` verifies, and there is one. 3. The text is a
    checkpoint. 4. Its origin is the key's name. Cosignatures, and whether it is the newest, are not checked.
    Raises Malformed (1, 3), CheckpointInvalid (2, 4), KeyRefused for a key that is not ED25519.
    """
    # 1
    opened = Note.parse(note)
    # 2
    try:
        opened.verify(vkey)
    except SignatureInvalid as error:
        raise CheckpointInvalid(f"The checkpoint is not one of {vkey.name}: {error}") from error
    # 3
    checkpoint = Checkpoint.parse(opened.text)
    # 4
    if checkpoint.origin != vkey.name:
        raise CheckpointInvalid(f"The checkpoint is of {checkpoint.origin}, not of {vkey.name}; use that log's key.")
    return checkpoint


def open_checkpoint_by(note: bytes, vkeys: Sequence[VerifierKey]) -> tuple[Checkpoint, VerifierKey]:
    """The checkpoint in `note`, once shown to be the statement of the log that has had the keys `vkeys` (one or more),
    and the first of them that signed it. Every signature that names one of them must verify. Raises as
    `open_checkpoint`."""
    parsed = Note.parse(note)
    named = [vkey for vkey in vkeys if parsed.signatures_by(vkey)] or list(vkeys[:1])
    opened = [open_checkpoint(note, vkey) for vkey in named]
    return opened[0], named[0]


def add_signatures(note: bytes, lines: Iterable[bytes]) -> bytes:
    """The note with more signatures after those it has; each of `lines` is one or more whole signature lines.

    A line that the note has already is not repeated. None is verified. Raises Malformed for a note, a line, or a sum of
    both that breaks the format: whoever sends lines cannot change the text.
    """
    opened = Note.parse(note)
    added = (signature for part in lines for signature in parse_signatures(part))
    signatures = tuple(dict.fromkeys((*opened.signatures, *added)))
    return Note.parse(Note(opened.text, signatures).serialize()).serialize()


def parse_decimal(text: str, what: str) -> int:
    """A number from 0 to 2^63-1 in ASCII without leading zeros. Raises Malformed, naming `what`, otherwise."""
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_SIZE:
        raise Malformed(what, "is not a number below 2^63 without leading zeros")
    return int(text)
