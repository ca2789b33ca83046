"""A decision's manifest: the entries of its case that stood in the department's log before it.

    manifest = *(index SP record-id SP leaf LF)       ASCII; by index, ascending
    index    = a decimal number without leading zeros; record-id is a UUID, leaf 64 digits of hex, both in lower case

The decision's record holds, in its unit `manifest`, {"size", "root", "count", "sha256"}: how many entries the log had
before the decision (its own index, therefore), the log's root at that size in hex, the number of lines, and the digest
of the text in hex. The text is the decision's last attachment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ledger.errors import Malformed

NAME = "manifest.txt"
MEDIA_TYPE = "text/plain"
UNIT = "manifest"
MAX_LINE_BYTES = 16 + 1 + 36 + 1 + 64 + 1

_LINE = re.compile(rb"(0|[1-9][0-9]{0,12}) ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) ([0-9a-f]{64})\n")


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of the case: its index in the log, and its leaf hash (32 bytes)."""

    index: int
    record_id: str
    leaf: bytes

    def encode(self) -> bytes:
        """The line with its line feed."""
        return f"{self.index} {self.record_id} {self.leaf.hex()}\n".encode("ascii")


def parse_lines(lines: Iterable[bytes]) -> Iterator[Line]:
    """What each line says, one at a time, so that a manifest of any size may be read. `lines` as a binary file gives
    them. Raises Malformed, while iterating, for a line of another form or one that is not behind the line before."""
    last = -1
    for number, data in enumerate(lines, 1):
        match = _LINE.fullmatch(data)
        if match is None or int(match[1]) <= last:
            raise Malformed("manifest", f"line {number:,} is not an index above the last, a record id and a leaf hash")
        last = int(match[1])
        yield Line(last, match[2].decode("ascii"), bytes.fromhex(match[3].decode("ascii")))
