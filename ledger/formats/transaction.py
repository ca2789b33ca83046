"""Transactions and their receipts as they stand in a block's tries (EIP-2718), as far as a proof needs to read them.

    key         = RLP of the transaction's index in the block
    transaction = type byte 1 to 4, RLP list that begins with the chain id (EIP-2930, 1559, 4844, 7702)
                | RLP list of 9, of which the 7th is 35 or 36 + 2 × chain id (EIP-155)
    receipt     = [type byte 1 to 4], RLP [status, cumulative gas, bloom[256], [log …]]
    log         = [address[20], [topic[32] …], data]

A transaction's signature is not checked: its place in a sealed block says that the validators did.
"""

from __future__ import annotations

from dataclasses import dataclass

from ledger.errors import Malformed
from ledger.formats import rlp

_TYPES = range(1, 5)
_LEGACY_FIELDS = 9
_MAX_TOPICS = 4


@dataclass(frozen=True, slots=True)
class Event:
    """A log entry: the contract that made it (20 bytes), topics of 32 bytes, data."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class TransactionReceipt:
    """Whether the transaction did its work, and what contracts it called said."""

    succeeded: bool
    events: tuple[Event, ...]


def trie_key(index: int) -> bytes:
    """Where the transaction with this index in its block, and its receipt, stand in their tries."""
    return rlp.encode(rlp.from_int(index))


def chain_id(transaction: bytes) -> int:
    """The chain that the sender signed the transaction for. Raises Malformed for one that names no chain."""
    what = "transaction"
    kind, body = _typed(transaction, what)
    fields = rlp.items(rlp.decode(body, what), what)
    if kind:
        return rlp.number(fields[0], what) if fields else _no_chain()
    if len(fields) != _LEGACY_FIELDS:
        raise Malformed(what, f"has {len(fields)} fields, not {_LEGACY_FIELDS}")
    found = (rlp.number(fields[6], what) - 35) // 2
    return found if found >= 0 else _no_chain()


def parse_receipt(data: bytes) -> TransactionReceipt:
    """A receipt of any type. Raises Malformed; receipts from before Byzantium, which have no status, too."""
    what = "transaction receipt"
    _, body = _typed(data, what)
    status, gas, bloom, logs = rlp.items(rlp.decode(body, what), what, 4)
    if status not in (b"", b"\x01"):
        raise Malformed(what, "has a status that is neither 0 nor 1")
    rlp.number(gas, what)
    rlp.string(bloom, what, 256)
    return TransactionReceipt(status == b"\x01", tuple(_event(log, what) for log in rlp.items(logs, what)))


def _event(item: rlp.Item, what: str) -> Event:
    address, topics, data = rlp.items(item, what, 3)
    listed = tuple(rlp.string(topic, what, 32) for topic in rlp.items(topics, what, *range(_MAX_TOPICS + 1)))
    return Event(rlp.string(address, what, 20), listed, rlp.string(data, what))


def _typed(data: bytes, what: str) -> tuple[int, bytes]:
    """The type, 0 where there is none, and the RLP."""
    first = data[0] if data else 0
    if first in _TYPES:
        return first, data[1:]
    if first < 0xC0:
        raise Malformed(what, f"is of type {first}, which is not known here")
    return 0, data


def _no_chain() -> int:
    raise Malformed("transaction", "does not say for which chain it was signed")
