"""What the audit asks of the chain: the keys of a department with their intervals, and the roots that were anchored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.chain.contracts import ConsortiumContract, EvidenceLogContract, department_bytes
from ledger.checkpoints import vkeys_of
from ledger.errors import KeyRefused
from ledger.formats.checkpoint import Checkpoint, open_checkpoint_by
from ledger.formats.jwk import from_public_key, kid_of
from ledger.formats.note import ED25519, VerifierKey
from ledger.formats.trust import Key
from ledger.keys import KeyAgent
from ledger.store.reading import LogRow
from ledger.trust import key_of

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


def in_force(interval: Interval, at: int, tolerance_s: int) -> bool:
    """Whether a key was in force at a time, give or take what clocks are apart."""
    begins, ends = interval
    return begins <= at + tolerance_s and (ends is None or at < ends + tolerance_s)


def _log_keys(keys: Sequence[tuple[Any, ...]], vkeys: Sequence[str], intervals: Mapping[bytes, Interval]) -> LogKeys:
    statement = {key[0]: Key(*key) for key in keys}
    return LogKeys(statement, tuple(VerifierKey.parse(vkey) for vkey in vkeys), intervals)


@dataclass(frozen=True, slots=True)
class Location:
    """Where the chain holds an anchor: block number, hash (32 bytes), time (seconds), transaction (32 bytes)."""

    block_number: int
    block_hash: bytes
    transaction: bytes
    block_time: int


class AnchoredRoots(Protocol):
    """What the audit asks of the chain about one log."""

    def size(self) -> int:
        """The newest anchored size, 0 for none."""

    def root_at(self, size: int) -> bytes | None:
        """The root anchored at `size`, or None when none was."""

    def sizes(self) -> Iterable[int]:
        """Every size that was anchored, up to `size()`."""

    def location_of(self, size: int) -> Location | None:
        """Where the anchor of `size` stands, or None where the chain's node has its state but not its event."""


@dataclass(frozen=True, slots=True)
class ChainRoots:
    """The `AnchoredRoots` of one department's log, asked from the contract itself."""

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

    def sizes(self) -> Iterable[int]:
        """Every size that was anchored when the chain was asked, newest first; one call each."""
        history = self.contract.history(department_bytes(self.department))
        return (anchored.size for anchored in history if anchored.size <= self.newest)

    def location_of(self, size: int) -> Location | None:
        """Where the anchor stands, by the contract's state, the block's header and the contract's event."""
        log_id = department_bytes(self.department)
        anchored = self.contract.root_at(log_id, size)
        block = self.contract.client.block(anchored.block_number) if anchored is not None else None
        event = self.contract.anchored_event(log_id, size, anchored.block_number) if anchored is not None else None
        if anchored is None or block is None or event is None:
            return None
        return Location(anchored.block_number, block.hash, event.tx_hash, anchored.timestamp)
