"""The embedded chain itself: py-evm on the SQLite store, one block for every transaction, London rules.

It differs from a public London chain in five ways, all because nobody mines it: no proof of work and no reward; the
base fee is always zero, so accounts without funds can send; two blocks may carry the same second, so that time never
runs ahead of the clock; a transaction may use at most half of a block (more would raise the base fee for ever);
there is no pool, so a transaction whose nonce is not the next one is refused.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import rlp  # type: ignore[import-untyped]
from eth.abc import BlockAPI, BlockHeaderAPI, ComputationAPI, ReceiptAPI, SignedTransactionAPI, StateAPI
from eth.chains.base import Chain
from eth.consensus.noproof import NoProofConsensus
from eth.constants import ZERO_ADDRESS
from eth.db.atomic import AtomicDB
from eth.db.backends.base import BaseDB
from eth.estimators.gas import binary_gas_search_1000_tolerance
from eth.exceptions import HeaderNotFound, PyEVMError, TransactionNotFound, VMError
from eth.typing import HeaderParams
from eth.vm.chain_context import ChainContext
from eth.vm.forks.london import LondonVM
from eth.vm.spoof import SpoofTransaction
from eth_typing import BlockNumber, Hash32
from eth_utils.exceptions import ValidationError
from trie.exceptions import MissingTrieNode

from ledger.chain.embedded.directory import DATABASE, INFO, ChainInfo, write_info
from ledger.chain.embedded.store import ChainStore, StoredLog
from ledger.errors import StorageFailed

BLOCK_GAS = 60_000_000
TRANSACTION_GAS = BLOCK_GAS // 2

# py-evm logs the whole write batch of a failed block; the store already says what failed
logging.getLogger("eth").setLevel(logging.CRITICAL)


class TransactionRefused(Exception):
    """The chain will not take this transaction; the text follows go-ethereum's where clients look at it."""


class Reverted(Exception):
    """Execution ended in a revert or another EVM error. `data` is what the contract returned, maybe empty."""

    def __init__(self, reason: str, data: bytes) -> None:
        super().__init__(reason)
        self.data = data


class DevelopmentVM(LondonVM):
    """London without miners."""

    consensus_class = NoProofConsensus

    def _assign_block_rewards(self, block: BlockAPI) -> None:
        pass

    @classmethod
    def validate_header(cls, header: BlockHeaderAPI, parent_header: BlockHeaderAPI) -> None:
        cls.validate_gas(header, parent_header)
        if header.timestamp < parent_header.timestamp:
            raise ValidationError("a block cannot be older than its parent")


class _Pairs(BaseDB):
    """py-evm's view of the store: a dictionary of bytes. Writes belong to the block that is open."""

    def __init__(self, store: ChainStore) -> None:
        self._store = store

    def __getitem__(self, key: bytes) -> bytes:
        value = self._store.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._store.put(key, value)

    def __delitem__(self, key: bytes) -> None:
        if not self._store.remove(key):
            raise KeyError(key)

    def _exists(self, key: bytes) -> bool:
        return self._store.get(key) is not None


@dataclass(frozen=True, slots=True)
class Included:
    """A transaction with its receipt, the header of its block, and its logs."""

    transaction: SignedTransactionAPI
    receipt: ReceiptAPI
    header: BlockHeaderAPI
    logs: list[StoredLog]


@dataclass(frozen=True, slots=True)
class CallRequest:
    """What `eth_call` and `eth_estimateGas` run. Addresses are 20 bytes; `to` is empty for a creation."""

    sender: bytes
    to: bytes
    data: bytes
    value: int = 0
    gas: int = TRANSACTION_GAS


class DevelopmentChain:
    """The chain in an open store. Every method needs the caller's one lock; what `send_raw` returned is durable."""

    def __init__(self, store: ChainStore, *, clock: Callable[[], float] = time.time) -> None:
        """Raises StorageFailed if the store is damaged."""
        self.store = store
        self.chain_id, self.created_at = self.store.read_identity()
        self._clock = clock
        self._context = ChainContext(self.chain_id)
        self._chain = _chain_class(self.chain_id)(AtomicDB(_Pairs(store)))
        try:
            self.genesis_hash: bytes = self.header(0).hash
            self.state(self.head()).get_nonce(ZERO_ADDRESS)
        except (KeyError, sqlite3.Error, PyEVMError, MissingTrieNode, rlp.exceptions.RLPException) as error:
            raise StorageFailed(f"The chain's file {store.path} is damaged: {error}.") from error

    def head(self) -> BlockHeaderAPI:
        return self._chain.get_canonical_head()

    def header(self, number: int) -> BlockHeaderAPI:
        """Raises KeyError if there is no such block."""
        try:
            return self._chain.get_canonical_block_header_by_number(BlockNumber(number))
        except (HeaderNotFound, ValidationError) as error:
            raise KeyError(number) from error

    def header_by_hash(self, block_hash: bytes) -> BlockHeaderAPI:
        """Raises KeyError if there is no such block."""
        try:
            return self._chain.get_block_header_by_hash(Hash32(block_hash))
        except (HeaderNotFound, ValidationError) as error:
            raise KeyError(block_hash.hex()) from error

    def block(self, header: BlockHeaderAPI) -> BlockAPI:
        return self._chain.get_block_by_header(header)

    def next_header(self) -> BlockHeaderAPI:
        """The block that a transaction would make now, still empty: a call sees the time that a transaction would."""
        parent = self.head()
        now = max(int(self._clock()), parent.timestamp)  # a clock set back must not stop the chain
        header: BlockHeaderAPI = DevelopmentVM.create_header_from_parent(
            parent, timestamp=now, difficulty=1, gas_limit=parent.gas_limit, coinbase=ZERO_ADDRESS
        )
        return header

    def state(self, header: BlockHeaderAPI) -> StateAPI:
        """The state that `header` names, in its block's context; changes to it go nowhere."""
        hashes = DevelopmentVM.get_prev_hashes(header.parent_hash, self._chain.chaindb) or ()
        return DevelopmentVM.build_state(self._chain.chaindb.db, header, self._context, hashes)

    def call(self, request: CallRequest, header: BlockHeaderAPI) -> bytes:
        """Run `request` on the state and in the context of `header`; nothing of it stays. Raises Reverted."""
        state = self.state(header)
        try:
            computation = state.apply_transaction(_spoofed(request, state))
        except ValidationError as error:
            raise TransactionRefused(str(error)) from error
        _raise_if_reverted(computation)
        return computation.output

    def estimate_gas(self, request: CallRequest, header: BlockHeaderAPI) -> int:
        """Gas that suffices, within 1,000 of the least. Raises Reverted if no amount does."""
        self.call(request, header)
        state = self.state(header)
        estimate: int = binary_gas_search_1000_tolerance(state, _spoofed(request, state))
        return estimate

    def send_raw(self, raw: bytes) -> bytes:
        """Execute a signed transaction in a block of its own; returns its 32-byte hash once that block is durable.

        A transaction that reverts is included, with status 0. Raises TransactionRefused if it is malformed, unsigned,
        for another chain, already known, has not the next nonce or too much gas; StorageFailed if the disk refused.
        """
        transaction = self._decode(raw)
        self._check(transaction)
        # die before COMMIT: the block never was, the sender asks again; die after: it stands, and the sender, who got
        # no answer, finds it by hash or in the contract's state
        with self.store.block():
            return self._mine(transaction)

    def included(self, tx_hash: bytes) -> Included | None:
        """A transaction with its receipt and block, by index, or None."""
        try:
            number, position = self._chain.get_canonical_transaction_index(tx_hash)  # type: ignore[arg-type]
        except TransactionNotFound:
            return None
        header = self.header(number)
        transaction = self._chain.get_canonical_transaction_by_index(number, position)
        receipt = self._chain.get_transaction_receipt_by_index(number, position)
        logs = self.store.find_logs(number, number, [], [], limit=1_000_000)
        return Included(transaction, receipt, header, logs)

    def _decode(self, raw: bytes) -> SignedTransactionAPI:
        try:
            transaction = DevelopmentVM.get_transaction_builder().decode(raw)
            transaction.validate()
            transaction.check_signature_validity()
        except (rlp.exceptions.RLPException, ValidationError, PyEVMError, TypeError, ValueError, IndexError) as error:
            raise TransactionRefused(f"invalid transaction: {error}") from error
        return transaction

    def _check(self, transaction: SignedTransactionAPI) -> None:
        if self.included(transaction.hash) is not None:
            raise TransactionRefused("already known")
        if transaction.chain_id != self.chain_id:
            raise TransactionRefused(f"invalid chain id: have {transaction.chain_id}, want {self.chain_id}")
        if transaction.gas > TRANSACTION_GAS:
            raise TransactionRefused(f"exceeds block gas limit: {transaction.gas} > {TRANSACTION_GAS}")
        if transaction.gas < transaction.intrinsic_gas:
            raise TransactionRefused(f"intrinsic gas too low: have {transaction.gas}, want {transaction.intrinsic_gas}")
        expected = self.state(self.head()).get_nonce(transaction.sender)
        if transaction.nonce != expected:
            word = "low" if transaction.nonce < expected else "high"
            raise TransactionRefused(f"nonce too {word}: next is {expected}, transaction has {transaction.nonce}")

    def _mine(self, transaction: SignedTransactionAPI) -> bytes:
        header = self.next_header()
        vm = self._chain.get_vm(header)
        try:
            new_header, receipts, _ = vm.apply_all_transactions([transaction], header)
        except ValidationError as error:
            raise TransactionRefused(_funds(str(error))) from error
        filled = vm.set_block_transactions_and_withdrawals(vm.get_block(), new_header, (transaction,), receipts)
        block = vm.mine_block(filled).block
        self._chain.chaindb.persist_block(block)
        self.store.add_logs(_logs(block.header, transaction, receipts[0]))
        return transaction.hash


def create_chain(directory: Path, *, clock: Callable[[], float] = time.time) -> ChainInfo:
    """Make a new chain in `directory`, with a random id and genesis. Raises StorageFailed if one is there already."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / DATABASE
    if path.exists():
        raise StorageFailed(f"{directory} already holds a chain; nothing was changed.")
    chain_id, created_at = secrets.randbelow(2**48 - 2**40) + 2**40, int(clock())
    # built beside and renamed last: a chain that exists is whole
    temporary = directory / f"{DATABASE}.new"
    for leftover in directory.glob(f"{DATABASE}.new*"):
        leftover.unlink()
    store = ChainStore(temporary, create=True)
    with store.block():
        store.write_identity(chain_id, created_at)
        chain = _chain_class(chain_id).from_genesis(AtomicDB(_Pairs(store)), _genesis(created_at), {})
    genesis_hash = chain.get_canonical_head().hash
    store.close()
    info = ChainInfo(chain_id, "0x" + genesis_hash.hex(), created_at)
    (directory / INFO).unlink(missing_ok=True)
    write_info(directory, info)
    temporary.rename(path)
    return info


def _chain_class(chain_id: int) -> type[Chain]:
    return Chain.configure("EmbeddedChain", vm_configuration=((0, DevelopmentVM),), chain_id=chain_id)


def _genesis(created_at: int) -> dict[str, HeaderParams]:
    return {
        "difficulty": 1,
        "gas_limit": BLOCK_GAS,
        "timestamp": created_at,
        "coinbase": ZERO_ADDRESS,
        "extra_data": secrets.token_bytes(32),  # no two chains share a genesis hash
        "base_fee_per_gas": 0,
    }


def _spoofed(request: CallRequest, state: StateAPI) -> SignedTransactionAPI:
    transaction = DevelopmentVM.create_unsigned_transaction(
        nonce=state.get_nonce(request.sender),  # type: ignore[arg-type]
        gas_price=0,
        gas=min(request.gas, TRANSACTION_GAS),
        to=request.to,  # type: ignore[arg-type]
        value=request.value,
        data=request.data,
    )
    return SpoofTransaction(transaction, from_=request.sender)  # type: ignore[return-value]


def _raise_if_reverted(computation: ComputationAPI) -> None:
    if computation.is_error:
        error: VMError = computation.error
        name = "execution reverted" if type(error).__name__ == "Revert" else f"execution failed: {type(error).__name__}"
        raise Reverted(name, computation.output)


def _funds(text: str) -> str:
    return f"insufficient funds for gas * price + value ({text})" if "afford" in text or "balance" in text else text


def _logs(header: BlockHeaderAPI, transaction: SignedTransactionAPI, receipt: ReceiptAPI) -> list[StoredLog]:
    return [
        StoredLog(
            block=header.block_number,
            position=position,
            tx_hash=transaction.hash,
            block_hash=header.hash,
            address=log.address,
            topics=tuple(topic.to_bytes(32, "big") for topic in log.topics),
            data=log.data,
        )
        for position, log in enumerate(receipt.logs)
    ]
