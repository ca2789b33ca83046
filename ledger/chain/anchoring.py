"""Anchoring one log: one step, safe to run again at any moment, that ends with the chain holding the log's checkpoint.

There is no other path: a lost or stuck transaction, a gap in the account's nonces, a second anchorer, a node restarted,
a reorganisation that dropped the anchor, a node that lied about a receipt, all end by running the step again. It keeps
no state of its own. What it believes is the contract's state, read after the fact; answers to `send` and receipts are
hints. What it cannot see through is a node that lies about state: that takes the validators' seals and a storage proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ledger.chain.client import RpcError, Signer
from ledger.chain.contracts import AnchoredRoot, EvidenceLogContract, Head, block_of, pauses
from ledger.errors import ChainUnreachable, HistoryRefused

FINAL = "final"
PENDING = "pending"

WAIT_SECONDS = 30.0

# wei a gas, on top of what the block asks: tried in turn when an older transaction of ours is stuck at the same nonce
_EXTRA_FEES = (0, 10**9, 10**10)


class AnchorableLog(Protocol):
    """A checkpoint to anchor, and the log behind it.

    `size` and `root` are the checkpoint's and do not change while the step runs; the log behind it may grow.
    `log_id` is 32 bytes, `root` and every hash 32 bytes.
    """

    @property
    def log_id(self) -> bytes: ...

    @property
    def size(self) -> int: ...

    @property
    def root(self) -> bytes: ...

    def root_at(self, size: int) -> bytes | None:
        """The root of the log's first `size` entries; None if the log, read afresh, has fewer entries than that."""

    def consistency_path(self, old: int, new: int) -> list[bytes]:
        """RFC 9162 section 2.1.4 between two sizes, 0 < old < new <= `size`."""


@dataclass(frozen=True, slots=True)
class Anchored:
    """The anchor that holds a checkpoint: usually of its own size, a larger one if another anchorer was ahead.

    `tx_hash` is None if the node has the state but not the event. `finality` is `final` once the anchor's block has
    the confirmations that were asked for, else `pending`. `timestamp` is the block's, seconds since 1970.
    """

    size: int
    root: bytes
    chain_id: int
    contract: str
    block_number: int
    block_hash: bytes
    tx_hash: bytes | None
    timestamp: int
    finality: str


def anchor_once(
    log: AnchorableLog,
    contract: EvidenceLogContract,
    account: Signer,
    *,
    confirmations: int = 0,
    wait_seconds: float = WAIT_SECONDS,
) -> Anchored | None:
    """Bring the chain to hold `log`'s checkpoint, and say where it does. None if the log is empty.

    `confirmations`: blocks that must follow the anchor's before it counts as final (0 where blocks are final at once).
    Returns with finality `pending` if they did not come within `wait_seconds`; run again later. Raises HistoryRefused
    if the chain is another one, or holds a history that is not this log's; KeyRefused if the account may not anchor;
    ChainUnreachable if the node does not answer or no block took the transaction in time: run again.
    """
    if log.size == 0:
        return None
    # 1. Is this still our chain? (die here: nothing happened)
    contract.client.check_identity()
    sent_on: Head | None = None
    for _ in pauses(wait_seconds):
        # 2. What does the chain hold? An anchor at or past our size was made before, by us or by another anchorer, or
        #    is what we sent in step 3: the state says so, no receipt is asked (die here: as before the step began)
        head = contract.head(log.log_id)
        anchored = _standing(log, contract, head)
        if anchored is not None:
            # 4. Say where it stands, and how final it is (die here: the next run ends here with the same answer)
            return _located(log, contract, anchored, confirmations, wait_seconds)
        # 3. Send, unless that is done on this very head: a head that moved and is still behind us means that another
        #    transaction came first (die before: nothing happened; die after, at any point: the transaction is in a
        #    pool, in a block or lost, and nobody need know which: the next run reads the head and finds it or sends)
        if head != sent_on:
            sent_on = head if _send(log, contract, account, head) else None
    raise ChainUnreachable(
        f"The anchor of {log.size} entries was sent, but the chain at {contract.client.url} does not hold it after "
        f"{wait_seconds:g} seconds; it will be tried again."
    )


def check_against(log: AnchorableLog, head: Head) -> None:
    """Whether the chain's head is a point of this log's own history. Raises HistoryRefused, naming both, if not."""
    if head.size == 0:
        return
    local = log.root if head.size == log.size else log.root_at(head.size)
    name = log.log_id.rstrip(b"\x00").decode("ascii", "replace")
    if local is None:
        raise HistoryRefused(
            f"The chain holds {head.size} entries of log {name!r} (root {head.root.hex()}), the local log only "
            f"{log.size}: the local log was rolled back or is another one; nothing was sent."
        )
    if local != head.root:
        raise HistoryRefused(
            f"At {head.size} entries of log {name!r} the chain holds root {head.root.hex()}, the local log "
            f"{local.hex()}: the local log was rewritten or is another one; nothing was sent."
        )


def _standing(log: AnchorableLog, contract: EvidenceLogContract, head: Head) -> AnchoredRoot | None:
    check_against(log, head)
    if head.size < log.size:
        return None
    # past our size and consistent with us: our entries are under that root. Prefer the anchor of exactly our size
    exact = contract.root_at(log.log_id, log.size) if head.size > log.size else None
    if exact is not None and exact.root != log.root:
        raise HistoryRefused(f"At {log.size} entries the chain holds root {exact.root.hex()}, we {log.root.hex()}.")
    return exact or AnchoredRoot(head.size, head.root, head.previous_size, head.block_number, head.timestamp)


def _send(log: AnchorableLog, contract: EvidenceLogContract, account: Signer, head: Head) -> bool:
    """Whether the anchor is on its way. False: look again, then send; somebody else's transaction came between, or an
    older one of ours waits at the same nonce, we hold too little to outbid it, and it has to go through first."""
    proof = log.consistency_path(head.size, log.size) if head.size else []
    try:
        contract.simulate_anchor(account, log.log_id, log.size, log.root, proof)
    except HistoryRefused:
        if contract.head(log.log_id) == head:
            raise
        return False
    # the nonce is the next one not yet in a block: a transaction of ours that is stuck there, or was never passed on,
    # is replaced, and a gap is filled
    for extra_fee in _EXTRA_FEES:
        raw, _ = contract.sign_anchor(account, log.log_id, log.size, log.root, proof, extra_fee=extra_fee)
        try:
            contract.client.send_raw(raw)
        except RpcError as error:
            text = error.text.lower()
            if "underpriced" in text:
                continue
            if "nonce too low" in text:
                return False
            if extra_fee and "funds" in text:
                return False
            if not ("known" in text or "already imported" in text):
                raise
        return True
    return False


def _located(
    log: AnchorableLog, contract: EvidenceLogContract, anchored: AnchoredRoot, confirmations: int, seconds: float
) -> Anchored:
    final = False
    for _ in pauses(seconds):
        latest = contract.client.block("latest")
        final = latest is not None and latest.number - anchored.block_number >= confirmations
        again = anchored if confirmations == 0 else _still_standing(log, contract, anchored.size)
        if final and again == anchored:
            break
        final, anchored = False, again  # in another block after a reorganisation: count from there
    event = contract.anchored_event(log.log_id, anchored.size, anchored.block_number)
    return Anchored(
        size=anchored.size,
        root=anchored.root,
        chain_id=contract.client.chain_id(),
        contract=contract.address,
        block_number=anchored.block_number,
        block_hash=block_of(contract.client, anchored.block_number).hash,
        tx_hash=None if event is None else event.tx_hash,
        timestamp=anchored.timestamp,
        finality=FINAL if final else PENDING,
    )


def _still_standing(log: AnchorableLog, contract: EvidenceLogContract, size: int) -> AnchoredRoot:
    anchored = contract.root_at(log.log_id, size)
    if anchored is None:
        raise ChainUnreachable(
            f"The chain at {contract.client.url} dropped the anchor of {size} entries in a reorganisation; "
            "it will be sent again."
        )
    return anchored
