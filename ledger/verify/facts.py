"""What a verification established. Nothing here is true unless `Verifier` handed it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger.formats.receipt import AnchorHint
from ledger.formats.trust import Department, Key, Validators


@dataclass(frozen=True, slots=True)
class Unit:
    """One revealed disclosure unit, exactly as it was sealed."""

    name: str
    members: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that a revealed unit names. That anybody has it is not said here: see `verify_attachment`."""

    unit: str
    name: str
    media_type: str
    size: int
    sha256: str
    """Of the plain file, 64 lowercase hex digits."""


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A witness of the trust file that cosigned the checkpoint, and when by its own clock (seconds since 1970)."""

    name: str
    operator: str
    time: int


@dataclass(frozen=True, slots=True)
class Sealer:
    """A validator of the trust file. `address` is 0x and lowercase hex; `name` is empty where the file gives none."""

    address: str
    name: str


@dataclass(frozen=True, slots=True)
class OnChain:
    """The trust file's contract accepted the log's state in this block, and the chain's validators sealed it."""

    contract: str
    block_number: int
    block_hash: str
    time: int
    """Of the block, in seconds since 1970, by its validators' clocks."""
    transaction: str
    sealed_by: tuple[Sealer, ...]
    """In the trust file's order: those who sealed the block or one on top of it; at least `threshold`."""
    threshold: int
    validators: int
    """How many the trust file names."""


@dataclass(frozen=True, slots=True)
class Stamped:
    """A time-stamping authority that the trust file leads to stamped the log's state. Times in seconds since 1970."""

    authority: str
    """The subject of its certificate (RFC 4514)."""
    root: str
    time: int
    renewed: tuple[int, ...]
    """When later tokens covered this one, the first renewal first."""
    good_until: int
    """When the first certificate behind the last of them ends; it must be renewed before."""


@dataclass(frozen=True, slots=True)
class Logged:
    """The record stands in its department's log, and the department signed the log's state."""

    origin: str
    index: int
    """Counted from 0."""
    size: int
    root: bytes
    cosigned: tuple[Cosigned, ...]
    """In the trust file's order; it met the quorum and holds every required witness."""
    quorum: int
    anchor: AnchorHint | None
    """Signed by the log's key and on the trust file's chain and contract; that it stands there is what `on_chain` says.
    None: the receipt names no anchor."""
    log_key_ended: int | None = None
    """When the key that signed the log's state ended, seconds since 1970; None: it is the log's present one."""
    on_chain: OnChain | None = None
    """None: no evidence was given."""
    times: tuple[Stamped, ...] = ()
    """Of the time stamps that were given and hold."""

    @property
    def seen_at(self) -> int | None:
        """The earliest time at which somebody outside the department, a witness, the chain's validators or a
        time-stamping authority, confirmed the log with the record in it; None without any."""
        times = [c.time for c in self.cosigned] + ([self.on_chain.time] if self.on_chain else [])
        return min(times + [stamped.time for stamped in self.times], default=None)


@dataclass(frozen=True, slots=True)
class Facts:
    """One record. `logged` is None where no receipt was given: then only content and signature were checked."""

    record_id: str
    type: str
    version: int
    references: dict[str, str]
    """The clear members among matter, case, inspection and amends that the statement has."""
    consortium: str
    engine: str
    """Of the trust file's chain."""
    validators: Validators
    department: Department
    key: Key
    sealed_at: int
    """Seconds since 1970 by the department's own clock."""
    units: tuple[Unit, ...]
    masked: int
    """How many units of the record were not shown."""
    attachments: tuple[Attachment, ...]
    """Named by the revealed units."""
    logged: Logged | None
