"""What the audit asks of the chain: the keys of a department with their intervals, and the roots that were anchored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.chain.client import Block
from ledger.chain.contracts import (
    AnchoredEvent,
    AnchoredRoot,
    ConsortiumContract,
    EvidenceLogContract,
    department_bytes,
)
from ledger.checkpoints import vkeys_of
from ledger.errors import ChainUnreachable, KeyRefused
from ledger.formats.checkpoint import Checkpoint, open_checkpoint_by
from ledger.formats.jwk import from_public_key, kid_of
from ledger.formats.note import ED25519, VerifierKey
from ledger.formats.trust import Key
from ledger.keys import KeyAgent
from ledger.store.reading import LogRow
from ledger.trust import key_of

MAX_BLOCKS = 10_000
"""Blocks whose events are asked for at a time."""
HEADERS = 100
"""Block headers that are asked for at a time."""

Interval = tuple[int, int | None]
"""When a key is in force: from, and until just before; seconds since 1970, None for not ended."""


@dataclass(frozen=True, slots=True)
class LogKeys:
    """Every key that a department ever had for its log: statement keys by kid, and the keys of its checkpoints, with
    their intervals by raw key where the registry was asked."""

    statement: Mapping[str, Key]
    log: tuple[VerifierKey, ...]
    intervals: Mapping[bytes, Interval] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Any, ...]:
        # opened keys do not go from one process to another
        keys = [(key.kid, key.use, key.jwk, key.valid_from, key.valid_to) for key in self.statement.values()]
        return _log_keys, (keys, [str(vkey) for vkey in self.log], dict(self.intervals))

    def open(self, note: bytes) -> tuple[Checkpoint, VerifierKey]:
        """As `open_checkpoint_by`. Raises KeyRefused too, where the log never had a key."""
        if not self.log:
            raise KeyRefused("the registry has no key for this log")
        return open_checkpoint_by(note, self.log)

    @classmethod
    def registered(cls, consortium: ConsortiumContract, department: str, origin: str) -> LogKeys:
        """As the chain's registry has them, with their intervals. Raises TrustRefused, ChainUnreachable."""
        keys = consortium.keys(department)
        statement = {found.kid: found for found in (key_of(key) for key in keys if key.use == "statement")}
        vkeys = [VerifierKey.of(origin, ED25519, key.public_key) for key in keys if key.use == "log"]
        intervals = {key.public_key: (key.valid_from, key.valid_to) for key in keys if key.use == "log"}
        return cls(statement, tuple(reversed(vkeys)), intervals)

    @classmethod
    def held(cls, agent: KeyAgent, log: LogRow, terminals: Mapping[str, Key]) -> LogKeys:
        """As the key agent holds them: without intervals, for when the chain cannot be asked; with those of the
        `terminals` that this node enrolled."""
        signer = agent.statement_signer(log.department)
        publics = [Ed25519PublicKey.from_public_bytes(raw) for raw in (signer.public, *signer.others)]
        keys = [Key(kid_of(public), "statement", dict(from_public_key(public)), 0) for public in publics]
        return cls(
            {**terminals, **{key.kid: key for key in keys}}, vkeys_of(log.origin, agent.log_signer(log.department))
        )


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A department's witness key as the registry has it."""

    department: str
    interval: Interval


def in_force(interval: Interval, at: int, tolerance_s: int) -> bool:
    """Whether a key was in force at a time, give or take what clocks are apart."""
    begins, ends = interval
    return begins <= at + tolerance_s and (ends is None or at < ends + tolerance_s)


def _log_keys(keys: Sequence[tuple[Any, ...]], vkeys: Sequence[str], intervals: Mapping[bytes, Interval]) -> LogKeys:
    statement = {key[0]: Key(*key) for key in keys}
    return LogKeys(statement, tuple(VerifierKey.parse(vkey) for vkey in vkeys), intervals)


@dataclass(frozen=True, slots=True)
class Near:
    """Where somebody says that anchors stand: a block at or before the first one looked for, and an anchored size at
    or above the last (0 for neither)."""

    block: int = 0
    above: int = 0


NOWHERE = Near()


@dataclass(frozen=True, slots=True)
class Location:
    """Where the chain holds an anchor: block number, hash (32 bytes), time (seconds), transaction (32 bytes)."""

    block_number: int
    block_hash: bytes
    transaction: bytes
    block_time: int


@dataclass(frozen=True, slots=True)
class Anchored:
    """One anchor of a log, and when its block was made, in seconds since 1970; `location` None where the chain's node
    has its state but not its event."""

    size: int
    root: bytes
    time: int
    location: Location | None


class AnchoredRoots(Protocol):
    """What the audit asks of the chain about one log."""

    def size(self) -> int:
        """The newest anchored size, 0 for none."""

    def root_at(self, size: int) -> bytes | None:
        """The root anchored at `size`, or None when none was."""

    def between(self, after: int, upto: int, near: Near = NOWHERE) -> Iterator[Anchored]:
        """Every anchor of a size above `after` up to `upto` and `size()`, in order."""

    def location_of(self, size: int) -> Location | None:
        """Where the anchor of `size` stands, or None where the chain's node has its state but not its event."""


@dataclass(frozen=True, slots=True)
class ChainRoots:
    """The `AnchoredRoots` of one department's log, asked from the contract itself: its state where one anchor is
    meant, its events where many are, a range of blocks at a time. Every anchor names the one before it, so that an
    event that is not given shows, and the state is asked for what it lacks."""

    contract: EvidenceLogContract
    department: str
    newest: int

    @classmethod
    def ask(cls, contract: EvidenceLogContract, department: str) -> ChainRoots:
        """As of now. Ask before the log is read: what is anchored later may be more than the reader sees."""
        return cls(contract, department, contract.head(department_bytes(department)).size)

    def size(self) -> int:
        """The newest size that was anchored when the chain was asked, 0 for none."""
        return self.newest

    def root_at(self, size: int) -> bytes | None:
        """The root anchored at `size`, or None."""
        anchored = self.contract.root_at(department_bytes(self.department), size)
        return None if anchored is None else anchored.root

    def between(self, after: int, upto: int, near: Near = NOWHERE) -> Iterator[Anchored]:
        """See `AnchoredRoots`. `near` saves asking and is not believed. Holds the events of one range of blocks.
        Raises ChainUnreachable, and HistoryRefused where the chain contradicts itself."""
        upto, last = min(upto, self.newest), after
        if last >= upto:
            return
        for event in self._behind(after, near):
            yield from self._without_event(last, min(event.previous_size, upto), event.previous_size)
            if event.size > upto:
                return
            yield event.anchored
            last = event.size
            if last == upto:
                return
        above = near.above if near.above >= upto and self.root_at(near.above) is not None else self.newest
        yield from self._without_event(last, upto, above)

    def location_of(self, size: int) -> Location | None:
        """Where the anchor stands, by the contract's state, the block's header and the contract's event."""
        log_id = department_bytes(self.department)
        anchored = self.contract.root_at(log_id, size)
        block = self.contract.client.block(anchored.block_number) if anchored is not None else None
        event = self.contract.anchored_event(log_id, size, anchored.block_number) if anchored is not None else None
        if anchored is None or block is None or event is None:
            return None
        return Location(anchored.block_number, block.hash, event.tx_hash, anchored.timestamp)

    def _behind(self, after: int, near: Near) -> Iterator[_Event]:
        """The events of all anchors above `after`, rising. Looked for from block `near.block` on, and from the first
        one on where that was too far."""
        for first in dict.fromkeys((near.block, 0)):
            last, events = after, self._events(first)
            found = next((event for event in events if event.size > after), None)
            if found is None or (found.previous_size > after and first > 0):
                continue
            for event in chain((found,), events):
                if event.size > last:
                    yield event
                    last = event.size
            return

    def _events(self, first: int) -> Iterator[_Event]:
        client, log_id = self.contract.client, department_bytes(self.department)
        lineage = self.contract.lineage()
        newest = client.block("latest")
        for found in in_ranges(
            lambda start, end: self.contract.anchored_events(log_id, start, end, lineage),
            first,
            newest.number if newest is not None else 0,
            client.check_identity,
        ):
            for place in range(0, len(found), HEADERS):
                some = found[place : place + HEADERS]
                numbers = sorted({event.block_number for event in some})
                headers = {header.number: header for header in client.blocks(numbers) if header is not None}
                for event in some:
                    yield self._event(event, headers.get(event.block_number))

    def _event(self, said: AnchoredEvent, header: Block | None) -> _Event:
        if header is None or header.hash != said.block_hash:  # the chain went on another way since
            there = next(self._history(said.size, said.size - 1))
            return _Event(said.size, there.previous_size, self._of(there))
        location = Location(said.block_number, said.block_hash, said.transaction, header.timestamp)
        return _Event(said.size, said.previous_size, Anchored(said.size, said.root, header.timestamp, location))

    def _without_event(self, after: int, upto: int, size: int) -> Iterator[Anchored]:
        """The anchors from above `after` to `upto`, by the contract's state alone: from `size`, which is anchored, back
        to the one before it, and so on."""
        for there in reversed([found for found in self._history(size, after) if found.size <= upto]):
            yield self._of(there)

    def _history(self, size: int, after: int = 0) -> Iterator[AnchoredRoot]:
        return self.contract.history(department_bytes(self.department), size, after)

    def _of(self, there: AnchoredRoot) -> Anchored:
        return Anchored(there.size, there.root, there.timestamp, self.location_of(there.size))


@dataclass(frozen=True, slots=True)
class _Event:
    size: int
    previous_size: int
    anchored: Anchored


T = TypeVar("T")


def in_ranges(
    ask: Callable[[int, int], list[T]], first: int, last: int, check: Callable[[], None]
) -> Iterator[list[T]]:
    """What `ask` gives for the blocks `first` to `last`, a range at a time. Where a chain's node gives no answer for a
    range (too many blocks, too many events, too slow), half of it is asked for; after eight answers, twice as many.
    `check` raises ChainUnreachable where the node does not answer at all; so does this for a single block."""
    width, answers = MAX_BLOCKS, 0
    while first <= last:
        end = min(last, first + width - 1)
        try:
            found = ask(first, end)
        except ChainUnreachable:
            if end == first:
                raise
            check()
            width, answers = max(1, (end - first + 1) // 2), 0
            continue
        yield found
        first, answers = end + 1, answers + 1
        if answers % 8 == 0:
            width = min(MAX_BLOCKS, width * 2)
