"""The proof that a log has two histories: two checkpoints that its key signed and that no one tree can give.

    proof = {"smaller": note, "larger": note, "root": base64(hash[32]), "path": [base64(hash[32]) …]}

`path` is the RFC 9162 consistency path that shows `root` to be what the larger checkpoint's first entries give; the
smaller checkpoint, of just as many entries, says another root. For two checkpoints of one size `root` is the larger's
own and the path is empty. Whoever has the log's key can check it; nothing else has to be believed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ledger.errors import Malformed, NotProven
from ledger.formats.checkpoint import Checkpoint
from ledger.formats.encoding import b64decode, b64encode
from ledger.formats.merkle import verify_consistency
from ledger.formats.note import Note
from ledger.formats.strictjson import loads_object
from ledger.witness.core import Logs, check_signed

MAX_PROOF_BYTES = 256 * 1024

_WHAT = "split view"

Tree = Callable[[int, int], tuple[bytes, Sequence[bytes]] | None]
"""Of a tree at hand: the root of its first entries and the consistency path from there to a larger size, or None where
it does not have so many."""


@dataclass(frozen=True, slots=True)
class SplitView:
    """A proof, see above. One that exists need not be good: `verify`."""

    smaller: bytes
    larger: bytes
    root: bytes
    path: tuple[bytes, ...] = ()

    def verify(self, logs: Logs) -> str:
        """The origin of the log that signed both. Raises LogUnknown or CheckpointInvalid for a checkpoint that a log's
        key did not sign, ConsistencyInvalid for a wrong path, NotProven when the two fit together."""
        smaller, larger = (_signed(note, logs) for note in (self.smaller, self.larger))
        if smaller.origin != larger.origin:
            raise NotProven("The two checkpoints are of different logs: that proves nothing.")
        verify_consistency(smaller.size, self.root, larger.size, larger.root, self.path)
        if smaller.root == self.root:
            raise NotProven("The two checkpoints fit together: the log has shown one history.")
        return smaller.origin

    @classmethod
    def parse(cls, data: bytes) -> SplitView:
        """Reads a proof of up to 256 KiB. Raises Malformed."""
        value = loads_object(data, what=_WHAT, max_bytes=MAX_PROOF_BYTES)
        smaller, larger, root, path = (value.get(name) for name in ("smaller", "larger", "root", "path"))
        if not (isinstance(smaller, str) and isinstance(larger, str) and isinstance(root, str)):
            raise Malformed(_WHAT, "smaller, larger and root must be texts")
        if not isinstance(path, list) or not all(isinstance(line, str) for line in path):
            raise Malformed(_WHAT, "path must be a list of texts")
        hashes = tuple(b64decode(line, _WHAT) for line in path)
        return cls(smaller.encode(), larger.encode(), b64decode(root, _WHAT), hashes)

    def serialize(self) -> bytes:
        """The proof as UTF-8 JSON."""
        members = {"smaller": self.smaller.decode(), "larger": self.larger.decode(), "root": b64encode(self.root)}
        value = members | {"path": [b64encode(line) for line in self.path]}
        return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"


def find_splits(logs: Logs, notes: Iterable[bytes], trees: Callable[[str], Tree | None]) -> list[SplitView]:
    """Every proof that these checkpoints give, each verified.

    Checkpoints of one size are compared with each other. Those of different sizes need the tree of the larger one:
    `trees` gives, by origin, one that is at hand. A tree that is not the larger checkpoint's proves nothing against it.
    Raises LogUnknown, CheckpointInvalid or Malformed for a note that is not signed by its log.
    """
    by_origin: dict[str, dict[tuple[int, bytes], bytes]] = {}
    for note in notes:
        checkpoint = _signed(note, logs)
        by_origin.setdefault(checkpoint.origin, {}).setdefault((checkpoint.size, checkpoint.root), note)
    found = []
    for origin, heads in by_origin.items():
        ordered = sorted(heads)
        for position, small in enumerate(ordered):
            for large in ordered[position + 1 :]:
                split = _compare(small, large, heads, trees(origin))
                if split is not None:
                    split.verify(logs)
                    found.append(split)
    return found


Head = tuple[int, bytes]


def _compare(small: Head, large: Head, heads: dict[Head, bytes], tree: Tree | None) -> SplitView | None:
    if small[0] == large[0]:
        return SplitView(heads[small], heads[large], large[1])
    known, whole = (tree(small[0], large[0]), tree(large[0], large[0])) if tree is not None else (None, None)
    if known is None or whole is None or whole[0] != large[1] or known[0] == small[1]:
        return None
    return SplitView(heads[small], heads[large], known[0], tuple(known[1]))


def _signed(note: bytes, logs: Logs) -> Checkpoint:
    opened = Note.parse(note)
    checkpoint = Checkpoint.parse(opened.text)
    check_signed(opened, logs.get(checkpoint.origin, ()))
    return checkpoint
