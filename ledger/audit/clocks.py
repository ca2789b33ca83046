"""Clocks held against each other: the sealer's, the node's, the chain's. A clock proves nothing alone; what counts is
where two of them contradict each other by more than clocks do.

    anchored before at t0  ◄──  sealed_at (iat)  ≤  acknowledged_at  ──►  anchored after at t1
         (block time)            the sealer's        the node's             (block time)

A terminal may have been without a network for days, so its records may be dated before t0; nobody's may be dated after
t1, and nothing may be acknowledged before t0 or after t1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ledger.disclosures import APART_S

BACK_S = 60
"""How far a clock may step back, as time services correct it."""

Anomaly = tuple[str, str]
"""A kind of finding, and its sentence."""


class Moment(NamedTuple):
    """What the clocks said of one entry. `sealed_at` in seconds, `acknowledged_at` in milliseconds since 1970; `here`:
    the node sealed it itself, at the moment it took it in."""

    record_id: str
    entry: int
    sealed_at: int
    acknowledged_at: int
    here: bool


@dataclass(frozen=True, slots=True)
class AnchorTime:
    """An anchor's size and the time of its block, in seconds since 1970."""

    size: int
    time: int


class Clocks:
    """Follows the entries of one log in their order. `anchors` by size: at least the last one at or before the first
    entry, and those up to the first one behind the last entry. `before`: when the entry in front was acknowledged."""

    def __init__(self, anchors: list[AnchorTime], before: int | None) -> None:
        self._anchors = anchors
        self._before = before
        self._next = 0

    def follow(self, moment: Moment) -> Iterator[Anomaly]:
        """What is odd about the next entry."""
        while self._next < len(self._anchors) and self._anchors[self._next].size <= moment.entry:
            self._next += 1
        taken = moment.acknowledged_at / 1000
        name = f"record {moment.record_id}"
        before, self._before = self._before, moment.acknowledged_at
        if before is not None and moment.acknowledged_at < before - BACK_S * 1000:
            back = (before - moment.acknowledged_at) / 1000
            yield "clock-back", f"{name} was acknowledged {back:,.0f} s before the entry in front of it"
        if moment.sealed_at > taken + APART_S:
            yield "clock-apart", f"{name} is dated {moment.sealed_at - taken:,.0f} s after it was acknowledged"
        elif moment.here and moment.sealed_at < taken - APART_S:
            yield "clock-apart", f"{name} is dated {taken - moment.sealed_at:,.0f} s before it was acknowledged"
        yield from self._against_anchors(moment, taken, name)

    def _against_anchors(self, moment: Moment, taken: float, name: str) -> Iterator[Anomaly]:
        if self._next:
            earlier = self._anchors[self._next - 1]
            said = min(taken, moment.sealed_at) if moment.here else taken
            if said < earlier.time - APART_S:
                gap = f"{earlier.time - said:,.0f} s"
                yield (
                    "dated-behind-anchor",
                    f"{name} is dated {gap} before the anchor of size {earlier.size:,}, which does not hold it yet",
                )
        if self._next < len(self._anchors):
            later = self._anchors[self._next]
            said = max(taken, moment.sealed_at)
            if said > later.time + APART_S:
                gap = f"{said - later.time:,.0f} s"
                yield "clock-apart", f"{name} is dated {gap} after the anchor of size {later.size:,}, which holds it"


def checkpoint_anomalies(size: int, signed_at: int, block_time: int | None, cosigned: list[int]) -> Iterator[Anomaly]:
    """What is odd about the times of one checkpoint, all in seconds since 1970. A checkpoint may be anchored and
    cosigned long after it was signed, when chain or witnesses were away; never before."""
    if block_time is not None and block_time < signed_at - APART_S:
        late = f"{signed_at - block_time:,} s"
        yield "clock-apart", f"the checkpoint of size {size:,} is dated {late} after the block that anchors it"
    for seen in cosigned:
        if seen < signed_at - APART_S:
            late = f"{signed_at - seen:,} s"
            yield "clock-apart", f"the checkpoint of size {size:,} is dated {late} after a witness cosigned it"
