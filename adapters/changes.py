"""Rows that changed at their source: the new content becomes a record of its own that amends the one before.

The n-th version of a row has the key `<mapping>~<n>/<row>`, so that versions are found by asking for one key after the
other, and content that comes back (A, B, A) is a version like any other. Which is the newest is asked of the ledger,
never remembered: a page that comes again after a crash finds its own amendments there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ledger.feeds import version_key
from ledger.submission import Held, Submission

LookUp = Callable[[Sequence[Submission]], list[Held | None]]


@dataclass(frozen=True, slots=True)
class Newest:
    """A row's newest version in the ledger, from 1. `held.same`: it has the content that the row has now."""

    version: int
    held: Held


def find_newest(look_up: LookUp, rows: Sequence[Submission]) -> list[Newest | None]:
    """The newest version of each row in the ledger, None where it has none. `rows` have the keys of first versions."""
    found: list[Newest | None] = [None] * len(rows)
    asked, version = dict(enumerate(rows)), 1
    while asked:
        held = dict(zip(asked, look_up(list(asked.values())), strict=True))
        for place, known in held.items():
            if known is not None:
                found[place] = Newest(version, known)
        asked = {place: amending(rows[place], newest) for place in asked if (newest := found[place]) and held[place]}
        version += 1
    return found


def amending(row: Submission, newest: Newest) -> Submission:
    """The row as the version after `newest`."""
    key = version_key(row.key, newest.version + 1)
    return replace(row, key=key, record={**row.record, "amends": newest.held.record_id})
