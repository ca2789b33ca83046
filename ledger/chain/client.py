"""One JSON-RPC connection to one EVM chain, and the refusal to talk to another.

web3 does transport and ABI coding; its per-call conveniences (proxy look-up, request validation, gas estimation, name
service, attribute dictionaries) cost 3 to 8 ms a call and are left out. No key ever goes to the node: transactions are
signed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import is_address, to_checksum_address
from requests.adapters import HTTPAdapter
from web3 import HTTPProvider
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint

from ledger.errors import ChainUnreachable, HistoryRefused

Signer = LocalAccount | bytes

DEFAULT_TIMEOUT = 10.0
_OTHER_FORMS = (ValueError, TypeError, AttributeError, KeyError)
"""What comes of a batch's answer that is not a list of answers."""
GAS_MARGIN_PERCENT = 25


class RpcError(ChainUnreachable):
    """The node answered with an error of its own. `data` is the raw revert data where there is some."""

    def __init__(self, sentence: str, code: int, text: str, data: bytes) -> None:
        super().__init__(sentence)
        self.rpc_code, self.text, self.data = code, text, data

    @property
    def reverted(self) -> bool:
        return self.rpc_code == 3 or bool(self.data) or "revert" in self.text.lower()


@dataclass(frozen=True, slots=True)
class Block:
    """A block's header. Hashes are 32 bytes, `timestamp` seconds since 1970, `base_fee` wei (0 where there is none)."""

    number: int
    hash: bytes
    parent_hash: bytes
    timestamp: int
    base_fee: int
    gas_limit: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the node says became of a transaction: a hint, not a fact. `contract` is the created address or None."""

    tx_hash: bytes
    block_number: int
    block_hash: bytes
    succeeded: bool
    gas_used: int
    contract: str | None


@dataclass(frozen=True, slots=True)
class EventLog:
    """One event. `address` is checksummed hex, topics 32 bytes each."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: bytes
    tx_hash: bytes


class ChainClient:
    """JSON-RPC to the chain at `url`. May be shared by threads; nothing is sent until the first call.

    Every method raises ChainUnreachable if the node does not answer within `timeout` seconds or answers nonsense,
    RpcError (a ChainUnreachable) if it answers with an error, and HistoryRefused if the chain behind `url` is not the
    expected one: asked before the first call and again before every transaction, since a node can be replaced.
    """

    def __init__(
        self,
        url: str,
        expected_chain_id: int | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        *,
        expected_genesis: bytes | None = None,
    ) -> None:
        """`expected_chain_id` None: whatever id the first answer gives, and that one from then on."""
        session = requests.Session()
        session.trust_env = False
        session.mount("http://", HTTPAdapter(pool_maxsize=16))
        self.url = url
        self._provider = HTTPProvider(
            url, request_kwargs={"timeout": timeout}, session=session, exception_retry_configuration=None
        )
        self._session = session
        self._chain_id = expected_chain_id
        self._genesis = expected_genesis
        self._checked = False

    def close(self) -> None:
        self._session.close()

    # -- who is there

    def chain_id(self) -> int:
        """The chain's id, which is the expected one."""
        self._require_checked()
        assert self._chain_id is not None
        return self._chain_id

    def genesis_hash(self) -> bytes:
        """32 bytes: the hash of block 0, which is the expected one if one was expected."""
        self._require_checked()
        return self._genesis if self._genesis is not None else self._block_zero()

    def check_identity(self) -> None:
        """Ask the node again which chain it serves. Raises HistoryRefused if it is not the expected one."""
        actual = _integer(self._ask("eth_chainId"))
        if self._chain_id is not None and actual != self._chain_id:
            raise HistoryRefused(
                f"The node at {self.url} serves chain {actual}, not chain {self._chain_id} on which this "
                "ledger anchors; nothing was sent."
            )
        genesis = self._block_zero() if self._genesis is not None or not self._checked else None
        if self._genesis is not None and genesis != self._genesis:
            raise HistoryRefused(
                f"Chain {actual} at {self.url} begins with block 0x{genesis.hex() if genesis else ''}, not with "
                f"0x{self._genesis.hex()}: it was reset or replaced; nothing was sent."
            )
        # without an expectation the first answer becomes one
        self._chain_id = actual
        self._genesis = self._genesis or genesis
        self._checked = True

    def _require_checked(self) -> None:
        if not self._checked:
            self.check_identity()

    def _block_zero(self) -> bytes:
        return _block(self._ask("eth_getBlockByNumber", "0x0", False)).hash

    # -- reading

    def request(self, method: str, *params: Any) -> Any:
        """One JSON-RPC call's result, as it came."""
        self._require_checked()
        return self._ask(method, *params)

    def block(self, number: int | str = "latest") -> Block | None:
        """A block by number or tag, or None if the node has none there."""
        found = self.request("eth_getBlockByNumber", _tag(number), False)
        return None if found is None else _block(found)

    def call(self, to: str, data: bytes, *, sender: str | None = None, block: int | str = "latest") -> bytes:
        """Run a contract's function without a transaction. Raises RpcError with `.reverted` if the contract refuses."""
        call = {"to": to, "data": "0x" + data.hex(), **({"from": sender} if sender else {})}
        return _bytes(self.request("eth_call", call, _tag(block)))

    def code(self, address: str) -> bytes:
        return _bytes(self.request("eth_getCode", address, "latest"))

    def balance(self, address: str) -> int:
        """Wei."""
        return _integer(self.request("eth_getBalance", address, "latest"))

    def nonce(self, address: str) -> int:
        """How many of the account's transactions are in blocks: the next nonce, whatever lies stuck in a pool."""
        return _integer(self.request("eth_getTransactionCount", address, "latest"))

    def receipt(self, tx_hash: bytes) -> Receipt | None:
        found = self.request("eth_getTransactionReceipt", "0x" + tx_hash.hex())
        return None if found is None else _receipt(found)

    def blocks(self, numbers: Sequence[int]) -> list[Block | None]:
        """As `block` for each of up to 100 numbers, in one request where the node takes several in one."""
        self._require_checked()
        calls = [(RPCEndpoint("eth_getBlockByNumber"), [_tag(number), False]) for number in numbers]
        try:
            answers = self._provider.make_batch_request(calls)
            found = [_block(answer["result"]) for answer in answers]  # type: ignore[index]  # an error is an object
        except (requests.exceptions.RequestException, Web3Exception, ChainUnreachable, *_OTHER_FORMS):
            found = []  # asked one by one it says what is the matter
        if [block.number for block in found] == list(numbers):
            return list(found)
        return [self.block(number) for number in numbers]

    def logs(
        self, address: str | Sequence[str], topics: Sequence[bytes | None], first: int, last: int
    ) -> list[EventLog]:
        """Events of one contract, or of several, in blocks first..last, oldest first; a topic None admits any."""
        query = {
            "address": address,
            "topics": [None if topic is None else "0x" + topic.hex() for topic in topics],
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }
        found = self.request("eth_getLogs", query)
        return [_event(item) for item in found]

    # -- writing

    def sign(
        self,
        account: Signer,
        to: str | None,
        data: bytes,
        *,
        gas: int | None = None,
        nonce: int | None = None,
        extra_fee: int = 0,
    ) -> tuple[bytes, bytes]:
        """(raw transaction, its 32-byte hash), for this chain id, at the fee the newest block asks for.

        `gas` None: the node's estimate and a margin. `nonce` None: the next one. `extra_fee` is wei on top, to
        replace a transaction that is stuck. Raises RpcError with `.reverted` if the estimate already fails.
        """
        self.check_identity()
        signer = local_account(account)
        fields: dict[str, Any] = {
            "chainId": self.chain_id(),
            "nonce": self.nonce(signer.address) if nonce is None else nonce,
            "data": data,
            "value": 0,
            "gas": gas or self._estimate(signer.address, to, data),
            **self._fees(extra_fee),
            **({"to": to} if to else {}),
        }
        signed = signer.sign_transaction(fields)
        return bytes(signed.raw_transaction), bytes(signed.hash)

    def send_raw(self, raw: bytes) -> None:
        """Hand a signed transaction to the node. Its answer promises nothing."""
        self.request("eth_sendRawTransaction", "0x" + raw.hex())

    def _estimate(self, sender: str, to: str | None, data: bytes) -> int:
        call = {"from": sender, "data": "0x" + data.hex(), **({"to": to} if to else {})}
        estimate = _integer(self.request("eth_estimateGas", call))
        return estimate + estimate * GAS_MARGIN_PERCENT // 100

    def _fees(self, extra: int) -> dict[str, int]:
        latest = self.block("latest")
        base_fee = latest.base_fee if latest else 0
        if base_fee == 0:
            return {"maxFeePerGas": extra, "maxPriorityFeePerGas": extra}
        # twice the base fee outlasts six full blocks
        return {"maxFeePerGas": 2 * base_fee + extra, "maxPriorityFeePerGas": extra}

    # -- transport

    def _ask(self, method: str, *params: Any) -> Any:
        try:
            answer: Mapping[str, Any] = self._provider.make_request(RPCEndpoint(method), list(params))
        except requests.exceptions.Timeout as error:
            raise ChainUnreachable(f"The chain at {self.url} did not answer {method} in time.") from error
        except requests.exceptions.HTTPError as error:
            raise ChainUnreachable(f"The chain at {self.url} refused {method}: {error}.") from error
        except requests.exceptions.RequestException as error:
            raise ChainUnreachable(f"The chain at {self.url} cannot be reached; is its node running?") from error
        except (Web3Exception, ValueError) as error:
            raise ChainUnreachable(
                f"The chain at {self.url} answered {method} with something else than JSON."
            ) from error
        if not isinstance(answer, Mapping):
            raise ChainUnreachable(f"The chain at {self.url} answered {method} with something else than JSON-RPC.")
        if answer.get("error") is not None:
            raise self._rpc_error(method, answer["error"])
        if "result" not in answer:
            raise ChainUnreachable(f"The chain at {self.url} answered {method} with neither result nor error.")
        return answer["result"]

    def _rpc_error(self, method: str, error: Any) -> RpcError:
        error = error if isinstance(error, Mapping) else {"message": str(error)}
        text, code = str(error.get("message", ""))[:300], error.get("code", 0)
        sentence = f"The chain at {self.url} refused {method}: {text}."
        return RpcError(sentence, code if isinstance(code, int) else 0, text, _revert_data(error.get("data")))


def local_account(account: Signer) -> LocalAccount:
    """A LocalAccount from itself or from 32 raw bytes of a secp256k1 key."""
    return Account.from_key(account) if isinstance(account, bytes) else account


def _tag(number: int | str) -> str:
    return number if isinstance(number, str) else hex(number)


def _integer(value: Any) -> int:
    try:
        return int(value, 16)
    except (TypeError, ValueError) as error:
        raise ChainUnreachable(f"The chain answered {str(value)[:80]!r} where a hex number was due.") from error


def _address(value: Any) -> str:
    if not is_address(value):
        raise ChainUnreachable(f"The chain answered {str(value)[:80]!r} where an address was due.")
    return to_checksum_address(value)


def _bytes(value: Any) -> bytes:
    try:
        return bytes.fromhex(value.removeprefix("0x"))
    except (AttributeError, ValueError) as error:
        raise ChainUnreachable(f"The chain answered {str(value)[:80]!r} where hex bytes were due.") from error


def _fields(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ChainUnreachable(f"The chain answered {str(value)[:80]!r} where a {what} was due.")
    return value


def _block(value: Any) -> Block:
    header = _fields(value, "block")
    return Block(
        number=_integer(header.get("number")),
        hash=_bytes(header.get("hash")),
        parent_hash=_bytes(header.get("parentHash")),
        timestamp=_integer(header.get("timestamp")),
        base_fee=_integer(header.get("baseFeePerGas") or "0x0"),
        gas_limit=_integer(header.get("gasLimit")),
    )


def _receipt(value: Any) -> Receipt:
    fields = _fields(value, "receipt")
    return Receipt(
        tx_hash=_bytes(fields.get("transactionHash")),
        block_number=_integer(fields.get("blockNumber")),
        block_hash=_bytes(fields.get("blockHash")),
        succeeded=_integer(fields.get("status")) == 1,
        gas_used=_integer(fields.get("gasUsed")),
        contract=fields.get("contractAddress"),
    )


def _event(value: Any) -> EventLog:
    fields = _fields(value, "log")
    return EventLog(
        address=_address(fields.get("address")),
        topics=tuple(_bytes(topic) for topic in fields.get("topics", [])),
        data=_bytes(fields.get("data")),
        block_number=_integer(fields.get("blockNumber")),
        block_hash=_bytes(fields.get("blockHash")),
        tx_hash=_bytes(fields.get("transactionHash")),
    )


def _revert_data(value: Any) -> bytes:
    # geth and Besu give hex, Hardhat an object that holds it, Ganache's heirs an object keyed by transaction
    if isinstance(value, Mapping):
        value = value.get("data", value.get("result"))
    if isinstance(value, str) and value.startswith("0x"):
        return _bytes(value)
    return b""
