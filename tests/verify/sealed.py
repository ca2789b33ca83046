"""Blocks of Clique and QBFT chains made from their published formats alone, with real keys: no node, none of our code.

pyrlp, py-trie, eth_hash and eth_keys build what ours then reads. Deterministic: keys come from numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from typing import Any

import rlp
from eth_account import Account
from eth_hash.auto import keccak
from eth_keys import keys
from trie import HexaryTrie

from ledger.formats.checkpoint import open_checkpoint
from ledger.formats.evidence import AnchorClaim, AnchorEvidence
from ledger.formats.trust import Chain, Trust, Validators
from tests.verify.factory import CHAIN_ID, EVIDENCE_LOG, START, LogState, department, extra_of, trust

ENGINES = ("clique", "qbft")
VALIDATORS = 4
THRESHOLD = 3
BLOCK = 77
TIME = START + 105
CONTRACT = bytes.fromhex(EVIDENCE_LOG[2:])
ANCHORED = keccak(b"Anchored(bytes32,uint64,bytes32,uint64,address)")
NO_BLOOM = bytes(256)


def key(number: int) -> keys.PrivateKey:
    """The key of validator `number`; those from `VALIDATORS` on are strangers."""
    return keys.PrivateKey(sha256(f"validator {number}".encode()).digest())


def address(number: int) -> str:
    return key(number).public_key.to_address()


def chain(engine: str, **changes: Any) -> Chain:
    """The trust file's chain with its validators, one of them named."""
    listed = tuple(address(n) for n in range(VALIDATORS))
    values = {"threshold": THRESHOLD, "addresses": listed, "unknown": {"names": {address(0): "Fire Department"}}}
    return replace(trust().chain, engine=engine, validators=Validators(**(values | changes)))


def trust_of(engine: str, **changes: Any) -> Trust:
    return trust(chain=chain(engine, **changes))


def log_id(name: str) -> bytes:
    return name.encode().ljust(32, b"\x00")


@dataclass(frozen=True)
class Said:
    """An event as it is put into a receipt."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


def anchored(size: int, root: bytes, of: str = "fire", contract: bytes = CONTRACT) -> Said:
    """The event with which the contract accepts a log's state."""
    account = bytes(12) + b"\xaa" * 20
    return Said(contract, (ANCHORED, log_id(of), size.to_bytes(32, "big"), account), root + bytes(32))


@cache
def transaction(number: int, chain_id: int = CHAIN_ID) -> bytes:
    """A signed transaction; what it calls does not matter, its receipt says what came of it."""
    fields = {"nonce": number, "gas": 500_000, "to": CONTRACT, "value": 0, "data": b"", "chainId": chain_id}
    fees = {"maxFeePerGas": 0, "maxPriorityFeePerGas": 0}
    return bytes(Account.from_key(b"\x01" * 32).sign_transaction(fields | fees).raw_transaction)


def receipt(events: Iterable[Said], status: bytes = b"\x01") -> bytes:
    logs = [[event.address, list(event.topics), event.data] for event in events]
    return b"\x02" + rlp.encode([status, b"\x52\x08", NO_BLOOM, logs])


@cache
def trie_of(values: tuple[bytes, ...]) -> HexaryTrie:
    made = HexaryTrie({})
    for n, value in enumerate(values):
        made[rlp.encode(n)] = value
    return made


def proof(values: tuple[bytes, ...], index: int) -> tuple[bytes, ...]:
    nodes = [rlp.encode(node) for node in trie_of(values).get_proof(rlp.encode(index))]
    return tuple(node for n, node in enumerate(nodes) if n == 0 or len(node) >= 32)


@dataclass(frozen=True)
class Made:
    """A block and what seals it: everything that evidence is made from, and that attacks replace."""

    engine: str
    claim: AnchorClaim
    transactions: tuple[bytes, ...]
    receipts: tuple[bytes, ...]
    index: int
    sealers: tuple[int, ...] = (0, 1, 2)
    """Clique: who made the block, and the ones after it. QBFT: who committed to it."""
    fields: dict[int, bytes] = field(default_factory=dict)
    """Header fields to replace, before it is sealed."""

    @property
    def headers(self) -> tuple[bytes, ...]:
        if self.engine == "qbft":
            return (self._qbft(self._header(0, b"p" * 32)),)
        headers: list[bytes] = []
        parent = b"p" * 32
        for n, sealer in enumerate(self.sealers):
            headers.append(self._clique(self._header(n, parent), sealer))
            parent = keccak(headers[-1])
        return tuple(headers)

    @property
    def block_hash(self) -> bytes:
        if self.engine == "clique":
            return keccak(self.headers[0])
        return self._with_extra(self._header(0, b"p" * 32), self._extra(b"", []))[1]

    def evidence(self, **changes: Any) -> AnchorEvidence:
        plain = AnchorEvidence(
            claim=self.claim,
            headers=self.headers,
            index=self.index,
            transaction_proof=proof(self.transactions, self.index),
            receipt_proof=proof(self.receipts, self.index),
        )
        return replace(plain, **changes)

    def file(self, **changes: Any) -> bytes:
        return self.evidence(**changes).serialize()

    def receipt_of(self, state: LogState, index: int) -> bytes:
        """The log's receipt, whose anchor is this block."""
        return replace(state.proof(index), extra=self.extra(state)).serialize()

    def extra(self, state: LogState, **changes: Any) -> bytes:
        values = {
            "block_number": BLOCK,
            "block_hash": "0x" + self.block_hash.hex(),
            "transaction": "0x" + keccak(self.transactions[self.index]).hex(),
            "time": TIME,
        }
        return extra_of(state.department, state.checkpoint, **(values | changes))

    def _header(self, number: int, parent: bytes) -> list[bytes]:
        """Without extra data."""
        here = number == 0
        fields = [
            parent,
            keccak(rlp.encode([])),
            bytes(20),
            b"s" * 32,
            trie_of(self.transactions).root_hash if here else bytes(32),
            trie_of(self.receipts).root_hash if here else bytes(32),
            NO_BLOOM,
            b"\x02",
            _integer(BLOCK + number),
            _integer(30_000_000),
            _integer(21_000),
            _integer(TIME + number),
            b"",
            bytes(32),
            bytes(8),
            b"",
        ]
        return [self.fields.get(n, value) if here else value for n, value in enumerate(fields)]

    def _clique(self, fields: list[bytes], sealer: int) -> bytes:
        vanity = b"vanity".ljust(32, b"\x00")
        fields[12] = vanity
        seal = key(sealer).sign_msg_hash(keccak(rlp.encode(fields))).to_bytes()
        fields[12] = vanity + seal
        return rlp.encode(fields)

    def _qbft(self, fields: list[bytes]) -> bytes:
        turn = b"\x05"
        digest = self._with_extra(fields, self._extra(turn, []))[1]
        seals = [key(sealer).sign_msg_hash(digest).to_bytes() for sealer in self.sealers]
        return self._with_extra(fields, self._extra(turn, seals))[0]

    def _extra(self, turn: bytes, seals: list[bytes]) -> bytes:
        listed = [bytes.fromhex(address(n)[2:]) for n in range(VALIDATORS)]
        return rlp.encode([bytes(32), listed, [], turn, seals])

    def _with_extra(self, fields: list[bytes], extra: bytes) -> tuple[bytes, bytes]:
        encoded = rlp.encode([*fields[:12], extra, *fields[13:]])
        return encoded, keccak(encoded)


def made(engine: str, state: LogState, **changes: Any) -> Made:
    """A block in which the third of twenty transactions anchored the log's state; three of four validators sealed."""
    checkpoint = open_checkpoint(state.checkpoint, department(state.department).log.key)
    claim = AnchorClaim(CHAIN_ID, CONTRACT, log_id(state.department), checkpoint.size, checkpoint.root)
    receipts = [receipt([anchored(n + 1000, bytes([n]) * 32)]) for n in range(20)]
    receipts[2] = receipt([anchored(claim.size, claim.root, state.department)])
    transactions = tuple(transaction(n) for n in range(20))
    return replace(Made(engine, claim, transactions, tuple(receipts), 2), **changes)


def _integer(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
