"""What the audit of one log works with, and the span of it that is audited at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.audit.chain import AnchoredRoots, LogKeys, WitnessKey
from ledger.audit.findings import LogReport
from ledger.chain.contracts import Addresses
from ledger.formats.jwk import kid_of
from ledger.keks import KekRing
from ledger.keys import KeyAgent
from ledger.record_types import RecordTypes
from ledger.store.blobs import Blobs
from ledger.store.reading import LogRow

STRETCH = 65_536
"""Entries that are audited as one piece of work: a whole tile of level 1. Pieces need nothing of each other."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What one log is audited with. `log` is the log as it stood when the audit began, however far it has come since;
    `chain` None: it could not be asked. `place`: chain id and contracts that anchors must name, where known. `types`
    None: records are not held against their types. `witnesses`: the departments' witness keys by raw key."""

    log: LogRow
    agent: KeyAgent
    keks: KekRing
    blobs: Blobs
    keys: LogKeys
    chain: AnchoredRoots | None
    check_signatures: bool = True
    place: tuple[int, frozenset[str]] | None = None
    types: RecordTypes | None = None
    witnesses: Mapping[bytes, WitnessKey] = field(default_factory=dict)

    def own_kids(self) -> frozenset[str]:
        """The statement keys that this node signs with; the department's others are its terminals'."""
        signer = self.agent.statement_signer(self.log.department)
        publics = (signer.public, *signer.others)
        return frozenset(kid_of(Ed25519PublicKey.from_public_bytes(raw)) for raw in publics)

    def new_report(self) -> LogReport:
        """An empty report of this log."""
        return LogReport(self.log.department, self.log.origin, self.log.size, chain_asked=self.chain is not None)


def place_of(chain_id: int, addresses: Addresses, earlier: list[str]) -> tuple[int, frozenset[str]]:
    """The `place` of a bench."""
    return chain_id, frozenset(address.lower() for address in (addresses.evidence_log, *earlier))


class Beside(NamedTuple):
    """What stands beside an entry and not in its statement: content mark, idempotency key, the column that repeats the
    log's number, and how many attachments are stored for it."""

    mark: bytes
    key: str
    log: int
    blobs: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that names a root for `size`; whether it is the right one shows once all stretches are put together."""

    size: int
    kind: str
    where: str
    sentence: str
    root: bytes


@dataclass(frozen=True, slots=True)
class Stop:
    """The root of a stretch's own entries up to `size`, and the roots that are claimed for the log at that size."""

    size: int
    root: bytes
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class HoldEvent:
    """Something about legal holds. `kind`: placed (`values` scope and value), lifted (the hold's id), or destroyed (the
    record that is gone, then scope and value of each hold that would cover it)."""

    kind: str
    index: int
    record_id: str
    values: tuple[str, ...]


@dataclass(slots=True)
class OldKey:
    """Statements of a stretch by a key that ends at `ends`, dated before its end and not shown to be dated back by the
    stretch itself: how many, and the first."""

    ends: int
    count: int
    index: int
    record_id: str


@dataclass(slots=True)
class Stretch:
    """What the audit of one stretch found, and what only the whole log can judge. `root` is of its own entries."""

    start: int
    end: int
    report: LogReport
    root: bytes = b""
    stops: list[Stop] = field(default_factory=list)
    newest_time: int = 0
    old_keys: dict[str, OldKey] = field(default_factory=dict)
    holds: list[HoldEvent] = field(default_factory=list)
    exchanges: list[int] = field(default_factory=list)
    types: Counter[str] = field(default_factory=Counter)
