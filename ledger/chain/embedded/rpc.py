"""JSON-RPC 2.0 over the embedded chain: the Ethereum methods that web3 and the ledger's client use.

There are no accounts here: `eth_sendRawTransaction` is the only method that changes anything. Quantities are hex
without leading zeros, data is hex of whole bytes, as the Ethereum JSON-RPC specification has them.
"""

from __future__ import annotations

import inspect
import re
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any

import rlp  # type: ignore[import-untyped]
from eth.abc import BlockHeaderAPI
from eth_utils.crypto import keccak
from trie.exceptions import MissingTrieNode

from ledger.chain.embedded.directory import WARNING
from ledger.chain.embedded.evm import (
    TRANSACTION_GAS,
    CallRequest,
    DevelopmentChain,
    Included,
    Reverted,
    TransactionRefused,
)
from ledger.chain.embedded.store import StoredLog
from ledger.errors import StorageFailed

MAX_LOG_BLOCKS = 100_000
MAX_LOGS = 10_000
MAX_BATCH = 200

_QUANTITY = re.compile(r"0x(0|[1-9a-fA-F][0-9a-fA-F]{0,63})")
_DATA = re.compile(r"0x([0-9a-fA-F]{2})*")


class RpcFailure(Exception):
    """A JSON-RPC error object: code, message and, for reverts, the contract's data as hex."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data

    def as_object(self) -> dict[str, Any]:
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        return body if self.data is None else {**body, "data": self.data}


class Rpc:
    """Answers requests on one chain, one at a time. `instance` and `on_shutdown` serve `stop`."""

    def __init__(self, chain: DevelopmentChain, instance: str, on_shutdown: Callable[[], None]) -> None:
        self._chain = chain
        self._lock = threading.Lock()
        self._instance = instance
        self._on_shutdown = on_shutdown
        self._methods: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: "yunxi-embedded/1 (development only)",
            "net_version": lambda: str(chain.chain_id),
            "net_listening": lambda: True,
            "eth_syncing": lambda: False,
            "eth_accounts": lambda: [],
            "eth_chainId": lambda: quantity(chain.chain_id),
            "eth_gasPrice": lambda: "0x0",
            "eth_maxPriorityFeePerGas": lambda: "0x0",
            "eth_blockNumber": lambda: quantity(chain.head().block_number),
            "eth_feeHistory": self._fee_history,
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBalance": lambda address, tag="latest": quantity(self._state(tag).get_balance(_address(address))),
            "eth_getCode": lambda address, tag="latest": data(self._state(tag).get_code(_address(address))),
            "eth_getTransactionCount": lambda address, tag="latest": quantity(
                self._state(tag).get_nonce(_address(address))
            ),
            "eth_getStorageAt": self._storage,
            "eth_call": lambda request, tag="latest": data(chain.call(_call(request), self._context(tag))),
            "eth_estimateGas": lambda request, tag="latest": quantity(
                chain.estimate_gas(_call(request), self._context(tag))
            ),
            "eth_sendRawTransaction": lambda raw: data(chain.send_raw(_bytes(raw))),
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getLogs": self._logs,
            "yunxi_describe": lambda: {"warning": WARNING, "createdAt": chain.created_at, "instance": instance[:16]},
            "yunxi_shutdown": self._shutdown,
        }

    def answer(self, request: object) -> object:
        """The response to a decoded JSON body: an object, or a list for a batch."""
        if not isinstance(request, list):
            return self._answer_one(request)
        if not 0 < len(request) <= MAX_BATCH:
            return _failed(None, RpcFailure(-32600, f"a batch holds 1 to {MAX_BATCH} requests"))
        return [self._answer_one(item) for item in request]

    def close(self) -> None:
        """Wait for the request in hand and answer none after it."""
        self._lock.acquire()

    def _answer_one(self, request: object) -> object:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _failed(None, RpcFailure(-32600, "not a JSON-RPC request"))
        try:
            result = self._run(request["method"], request.get("params", []))
        except RpcFailure as failure:
            return _failed(request.get("id"), failure)
        return {"jsonrpc": "2.0", "id": request.get("id"), "result": result}

    def _run(self, name: str, params: object) -> Any:
        method = self._methods.get(name)
        if method is None:
            raise RpcFailure(-32601, f"the method {name[:64]} does not exist here")
        if not isinstance(params, list) or not _fits(method, len(params)):
            raise RpcFailure(-32602, f"wrong number of parameters for {name}")
        try:
            with self._lock:
                return method(*params)
        except Reverted as error:
            raise RpcFailure(3, str(error), data(error.data)) from error
        except TransactionRefused as error:
            raise RpcFailure(-32000, str(error)) from error
        except StorageFailed as error:
            raise RpcFailure(-32603, str(error)) from error
        except (sqlite3.Error, MissingTrieNode) as error:
            raise RpcFailure(-32603, f"the chain's file is damaged: {error}") from error

    def _header(self, tag: object) -> BlockHeaderAPI:
        if tag in ("latest", "pending", "safe", "finalized"):
            return self._chain.head()
        if isinstance(tag, dict):
            tag = tag.get("blockHash", tag.get("blockNumber"))
        try:
            if isinstance(tag, str) and len(tag) == 66:
                return self._chain.header_by_hash(_bytes(tag))
            return self._chain.header(0 if tag == "earliest" else _number(tag))
        except KeyError as error:
            raise RpcFailure(-32001, "block not found") from error

    def _context(self, tag: object) -> BlockHeaderAPI:
        # an idle chain's last block may be hours old; a call at "latest" asks what would happen now
        return self._chain.next_header() if tag in ("latest", "pending") else self._header(tag)

    def _state(self, tag: object) -> Any:
        return self._chain.state(self._header(tag))

    def _storage(self, address: object, slot: object, tag: object = "latest") -> str:
        if not isinstance(slot, str) or not re.fullmatch(r"0x[0-9a-fA-F]{1,64}", slot):
            raise RpcFailure(-32602, "a storage slot is up to 32 bytes of hex")
        return data(self._state(tag).get_storage(_address(address), int(slot, 16)).to_bytes(32, "big"))

    def _block_by_number(self, tag: object, full: object = False) -> Any:
        try:
            return self._block(self._header(tag), full is True)
        except RpcFailure as failure:
            if failure.code == -32001:
                return None
            raise

    def _block_by_hash(self, block_hash: object, full: object = False) -> Any:
        try:
            return self._block(self._chain.header_by_hash(_bytes(block_hash)), full is True)
        except KeyError:
            return None

    def _block(self, header: BlockHeaderAPI, full: bool) -> dict[str, Any]:
        block = self._chain.block(header)
        hashes = [data(transaction.hash) for transaction in block.transactions]
        return {
            **_header_object(header),
            "size": quantity(len(rlp.encode(block))),
            "uncles": [],
            "transactions": [self._transaction(tx_hash) for tx_hash in hashes] if full else hashes,
        }

    def _transaction(self, tx_hash: object) -> dict[str, Any] | None:
        found = self._chain.included(_bytes(tx_hash))
        return None if found is None else _transaction_object(found)

    def _receipt(self, tx_hash: object) -> dict[str, Any] | None:
        found = self._chain.included(_bytes(tx_hash))
        return None if found is None else _receipt_object(found)

    def _logs(self, query: object) -> list[dict[str, Any]]:
        if not isinstance(query, dict):
            raise RpcFailure(-32602, "a log filter is an object")
        if "blockHash" in query:
            first = last = int(self._header(query["blockHash"]).block_number)
        else:
            first, last = (_bound(self._header, query.get(name, "latest")) for name in ("fromBlock", "toBlock"))
        last = min(last, self._chain.head().block_number)
        if last - first >= MAX_LOG_BLOCKS:
            raise RpcFailure(-32005, f"a log filter spans at most {MAX_LOG_BLOCKS:,} blocks")
        addresses = [_address(item) for item in _choices(query.get("address"))]
        topics = [[_word(item) for item in _choices(position)] for position in _topics(query)]
        found = self._chain.store.find_logs(first, last, addresses, topics, MAX_LOGS + 1)
        if len(found) > MAX_LOGS:
            raise RpcFailure(-32005, f"more than {MAX_LOGS:,} logs; ask for fewer blocks")
        return [_log_object(log) for log in found]

    def _fee_history(self, count: object, newest: object, percentiles: object = None) -> dict[str, Any]:
        last = self._header(newest).block_number
        blocks = max(1, min(count if isinstance(count, int) else _number(count), last + 1, 1024))
        tips = len(percentiles) if isinstance(percentiles, list) else 0
        return {
            "oldestBlock": quantity(last - blocks + 1),
            "baseFeePerGas": ["0x0"] * (blocks + 1),
            "gasUsedRatio": [0.0] * blocks,
            **({"reward": [["0x0"] * tips] * blocks} if tips else {}),
        }

    def _shutdown(self, instance: object) -> bool:
        if instance != self._instance:
            raise RpcFailure(-32000, "not this daemon's instance")
        self._on_shutdown()
        return True


def quantity(value: int) -> str:
    return hex(value)


def data(value: bytes) -> str:
    return "0x" + value.hex()


def _failed(request_id: object, failure: RpcFailure) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "error": failure.as_object()}


def _fits(method: Callable[..., Any], count: int) -> bool:
    parameters = inspect.signature(method).parameters.values()
    return sum(p.default is p.empty for p in parameters) <= count <= len(parameters)


def _bytes(value: object) -> bytes:
    if not isinstance(value, str) or not _DATA.fullmatch(value):
        raise RpcFailure(-32602, "expected 0x and whole bytes of hex")
    return bytes.fromhex(value[2:])


def _address(value: object) -> bytes:
    address = _bytes(value)
    if len(address) != 20:
        raise RpcFailure(-32602, "an address is 20 bytes")
    return address


def _word(value: object) -> bytes:
    word = _bytes(value)
    if len(word) != 32:
        raise RpcFailure(-32602, "a topic is 32 bytes")
    return word


def _number(value: object) -> int:
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise RpcFailure(-32602, "expected a block tag or a hex number without leading zeros")
    return int(value, 16)


def _bound(header: Callable[[object], BlockHeaderAPI], tag: object) -> int:
    number: int = _number(tag) if isinstance(tag, str) and tag.startswith("0x") else header(tag).block_number
    return number


def _choices(value: object) -> list[object]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _topics(query: dict[str, object]) -> list[object]:
    topics = _choices(query.get("topics"))
    if len(topics) > 4:
        raise RpcFailure(-32602, "a log has at most four topics")
    return topics


def _call(request: object) -> CallRequest:
    if not isinstance(request, dict):
        raise RpcFailure(-32602, "a call is an object")
    payload = request.get("input", request.get("data", "0x"))
    return CallRequest(
        sender=_address(request.get("from") or "0x" + "00" * 20),
        to=_address(request["to"]) if request.get("to") else b"",
        data=_bytes(payload),
        value=_number(request.get("value", "0x0")),
        gas=_number(request.get("gas", quantity(TRANSACTION_GAS))),
    )


def _header_object(header: BlockHeaderAPI) -> dict[str, Any]:
    return {
        "number": quantity(header.block_number),
        "hash": data(header.hash),
        "parentHash": data(header.parent_hash),
        "nonce": data(header.nonce),
        "mixHash": data(header.mix_hash),
        "sha3Uncles": data(header.uncles_hash),
        "logsBloom": data(header.bloom.to_bytes(256, "big")),
        "transactionsRoot": data(header.transaction_root),
        "stateRoot": data(header.state_root),
        "receiptsRoot": data(header.receipt_root),
        "miner": data(header.coinbase),
        "difficulty": quantity(header.difficulty),
        "totalDifficulty": quantity(header.block_number + 1),
        "extraData": data(header.extra_data),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "baseFeePerGas": quantity(header.base_fee_per_gas or 0),
    }


def _transaction_object(found: Included) -> dict[str, Any]:
    transaction = found.transaction
    kind = getattr(transaction, "type_id", None) or 0
    body = {
        "hash": data(transaction.hash),
        "type": quantity(kind),
        "nonce": quantity(transaction.nonce),
        "blockHash": data(found.header.hash),
        "blockNumber": quantity(found.header.block_number),
        "transactionIndex": "0x0",
        "from": data(transaction.sender),
        "to": data(transaction.to) if transaction.to else None,
        "value": quantity(transaction.value),
        "gas": quantity(transaction.gas),
        "gasPrice": quantity(_price(found)),
        "input": data(transaction.data),
        "chainId": quantity(transaction.chain_id or 0),
        "r": quantity(transaction.r),
        "s": quantity(transaction.s),
    }
    if kind == 0:
        return {**body, "v": quantity(transaction.v)}  # type: ignore[attr-defined]
    body |= {"v": quantity(transaction.y_parity), "yParity": quantity(transaction.y_parity)}
    if kind == 2:
        body["maxFeePerGas"] = quantity(transaction.max_fee_per_gas)
        body["maxPriorityFeePerGas"] = quantity(transaction.max_priority_fee_per_gas)
    return {**body, "accessList": [_access(entry) for entry in transaction.access_list]}


def _access(entry: tuple[bytes, Sequence[int]]) -> dict[str, Any]:
    address, slots = entry
    return {"address": data(address), "storageKeys": [data(slot.to_bytes(32, "big")) for slot in slots]}


def _receipt_object(found: Included) -> dict[str, Any]:
    transaction, receipt, header = found.transaction, found.receipt, found.header
    created = None if transaction.to else keccak(rlp.encode([transaction.sender, transaction.nonce]))[12:]
    return {
        "transactionHash": data(transaction.hash),
        "transactionIndex": "0x0",
        "blockHash": data(header.hash),
        "blockNumber": quantity(header.block_number),
        "from": data(transaction.sender),
        "to": data(transaction.to) if transaction.to else None,
        "contractAddress": None if created is None else data(created),
        "cumulativeGasUsed": quantity(receipt.gas_used),
        "gasUsed": quantity(receipt.gas_used),
        "effectiveGasPrice": quantity(_price(found)),
        "status": "0x1" if receipt.state_root == b"\x01" else "0x0",
        "type": quantity(getattr(transaction, "type_id", None) or 0),
        "logsBloom": data(receipt.bloom.to_bytes(256, "big")),
        "logs": [_log_object(log) for log in found.logs],
    }


def _price(found: Included) -> int:
    base = found.header.base_fee_per_gas or 0
    fee, tip = found.transaction.max_fee_per_gas, found.transaction.max_priority_fee_per_gas
    return min(fee, base + tip)


def _log_object(log: StoredLog) -> dict[str, Any]:
    return {
        "address": data(log.address),
        "topics": [data(topic) for topic in log.topics],
        "data": data(log.data),
        "blockNumber": quantity(log.block),
        "blockHash": data(log.block_hash),
        "transactionHash": data(log.tx_hash),
        "transactionIndex": "0x0",
        "logIndex": quantity(log.position),
        "removed": False,
    }
