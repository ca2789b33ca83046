"""Collecting anchor evidence over JSON-RPC: what shows a verifier without a network that the chain holds an anchor.

The proof is of the contract's event in the block's receipts, not of its storage: nodes keep receipts for as long as
blocks, but drop old state (go-ethereum after 128 blocks), and an event of a deployed contract says as much as the slot
that it wrote. Any node will do, honest or not: whatever it answers is hashed here up to a header, and the seals of the
header are for the verifier to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eth_utils.address import to_checksum_address
from trie.hexary import HexaryTrie

from ledger.chain.client import ChainClient, RpcError
from ledger.chain.contracts import AnchoredRoot, EvidenceLogContract
from ledger.crypto.secp256k1 import address_of, recover
from ledger.errors import AnchorInvalid, ChainUnreachable, CouldNotRun, HistoryRefused, Malformed, SignatureInvalid
from ledger.formats import rlp
from ledger.formats.evidence import MAX_HEADERS, AnchorClaim, AnchorEvidence
from ledger.formats.header import SEALINGS, Header, Sealing, clique_signers, qbft_validators
from ledger.formats.transaction import parse_receipt, trie_key

CLIQUE_EPOCH = 30_000
"""Every so many blocks a Clique header lists all signers (EIP-225; go-ethereum's and Besu's default)."""

_HEADER_DATA = ("parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom")
_HEADER_NUMBERS = ("difficulty", "number", "gasLimit", "gasUsed", "timestamp")
_HEADER_END = ("extraData", "mixHash", "nonce")
_LATER_NUMBERS = ("baseFeePerGas", "blobGasUsed", "excessBlobGas")
_LATER = (
    "baseFeePerGas",
    "withdrawalsRoot",
    "blobGasUsed",
    "excessBlobGas",
    "parentBeaconBlockRoot",
    "requestsHash",
)
_FEES = {0: ("gasPrice",), 1: ("gasPrice",), 2: ("maxPriorityFeePerGas", "maxFeePerGas")}


def collect(
    contract: EvidenceLogContract, log_id: bytes, size: int, engine: str, sealers: int | None = None
) -> AnchorEvidence:
    """The evidence that `contract` holds an anchor of log `log_id` (32 bytes) at `size`, sealed by the validators.

    `sealers` is how many different ones must have: a trust file's threshold. None: more than half of a Clique chain's
    signers; for QBFT the seals that the block has, which were enough for the chain itself. Raises AnchorInvalid for an
    engine without seals, HistoryRefused where there is no such anchor, ChainUnreachable where the node does not answer,
    answers what does not fit together, or does not have enough sealed blocks yet: try again later.
    """
    client = contract.client
    # 1. What is to be proven, by the state as it is now
    if engine not in SEALINGS:
        raise AnchorInvalid(
            f"The {engine} chain has no validators, so there is no evidence that they sealed an anchor."
        )
    anchored = contract.root_at(log_id, size)
    if anchored is None:
        raise HistoryRefused(f"The chain at {client.url} holds no anchor of that log at {size} entries.")
    claim = _claim(contract, log_id, anchored)
    # 2. Its block, and every transaction and receipt in it
    block = _block(client, anchored.block_number, whole=True)
    header, sealing = _header(client, block, engine)
    transactions = [encode_transaction(item) for item in _list(block, "transactions")]
    receipts = [encode_receipt(item) for item in _receipts(client, block)]
    # 3. Which of them anchored
    index = next((n for n, receipt in enumerate(receipts) if _anchors(receipt, claim)), None)
    if index is None:
        raise HistoryRefused(
            f"Block {header.number} does not show that contract {contract.address} took the anchor of {size} entries; "
            "ask for evidence with the contract that did."
        )
    # 4. The block's own and the following headers, until enough validators have sealed
    needed = (1 if engine == "qbft" else len(read_validators(client, engine)) // 2 + 1) if sealers is None else sealers
    return AnchorEvidence(
        claim=claim,
        headers=tuple(h.encode() for h in _sealed_headers(client, header, sealing, engine, needed)),
        index=index,
        transaction_proof=_proof(transactions, index, header.transactions_root, "transactions"),
        receipt_proof=_proof(receipts, index, header.receipts_root, "receipts"),
    )


def read_validators(client: ChainClient, engine: str) -> tuple[str, ...]:
    """The addresses, checksummed and in the chain's order, of those who seal blocks now: what a trust file's
    `validators` should hold, once compared with what the departments say.

    QBFT lists them in every header. A Clique node is asked (`clique_getSigners`); one that does not offer that method
    lists them in the newest epoch block, which knows nothing of votes since. Raises AnchorInvalid for an engine without
    validators, ChainUnreachable.
    """
    if engine == "qbft":
        found: Sequence[bytes] = qbft_validators(_header(client, _block(client, "latest"), engine)[0])
    elif engine == "clique":
        found = _clique_signers(client)
    else:
        raise AnchorInvalid(f"The {engine} chain has no validators.")
    return tuple(to_checksum_address(address) for address in found)


def _clique_signers(client: ChainClient) -> Sequence[bytes]:
    try:
        return [_bytes(address) for address in client.request("clique_getSigners", "latest")]
    except RpcError:
        latest = _block(client, "latest")
        epoch = _integer(latest.get("number")) // CLIQUE_EPOCH * CLIQUE_EPOCH
        return clique_signers(Header.parse(encode_header(_block(client, epoch))))


def _claim(contract: EvidenceLogContract, log_id: bytes, anchored: AnchoredRoot) -> AnchorClaim:
    return AnchorClaim(
        chain_id=contract.client.chain_id(),
        contract=_bytes(contract.address),
        log_id=log_id,
        size=anchored.size,
        root=anchored.root,
    )


def _anchors(receipt: bytes, claim: AnchorClaim) -> bool:
    try:
        return any(claim.stated_by(event) for event in parse_receipt(receipt).events)
    except Malformed as error:
        raise ChainUnreachable(f"The node gave a receipt that no block can hold: {error}.") from error


def _sealed_headers(
    client: ChainClient, header: Header, sealing: Sealing, engine: str, needed: int
) -> Iterator[Header]:
    first, sealers = header.number, _sealers(sealing)
    yield header
    for number in range(first + 1, first + MAX_HEADERS):
        if len(sealers) >= needed or engine == "qbft":
            break
        parent = sealing.block_hash
        following, sealing = _header(client, _block(client, number, sealers=(len(sealers), needed)), engine)
        if following.parent_hash != parent:
            raise ChainUnreachable(f"The chain at {client.url} was reorganised meanwhile; ask for the evidence again.")
        sealers |= _sealers(sealing)
        yield following
    if len(sealers) < needed:
        raise ChainUnreachable(
            f"Only {len(sealers)} of the {needed} validators asked for have sealed block {first} or the {MAX_HEADERS} "
            "after it; ask for fewer."
        )


def _sealers(sealing: Sealing) -> set[bytes]:
    try:
        return {address_of(recover(sealing.digest, seal)) for seal in sealing.seals}
    except SignatureInvalid as error:
        raise ChainUnreachable("The node gave a block with a seal that nobody can have made.") from error


def _proof(values: Sequence[bytes], index: int, root: bytes, what: str) -> tuple[bytes, ...]:
    trie = HexaryTrie({})
    for n, value in enumerate(values):
        trie[trie_key(n)] = value
    if trie.root_hash != root:
        raise ChainUnreachable(f"The {what} that the node gave are not those of the block; ask another node.")
    nodes = [rlp.encode(_plain(node)) for node in trie.get_proof(trie_key(index))]  # type: ignore[no-untyped-call]
    # a node below 32 bytes stands inside the one above it; only the root is on its own at any length
    return tuple(node for n, node in enumerate(nodes) if n == 0 or len(node) >= 32)


def _plain(node: Any) -> rlp.Item:
    return bytes(node) if isinstance(node, (bytes, bytearray)) else tuple(_plain(item) for item in node)


# -- what nodes answer


def _block(
    client: ChainClient, number: int | str, *, whole: bool = False, sealers: tuple[int, int] | None = None
) -> Mapping[str, Any]:
    tag = number if isinstance(number, str) else hex(number)
    block = client.request("eth_getBlockByNumber", tag, whole)
    if block is None and sealers is not None:
        raise ChainUnreachable(
            f"The chain ends at block {int(tag, 16) - 1}, and only {sealers[0]} of {sealers[1]} validators have sealed "
            "the anchor by then; ask for the evidence again after more blocks."
        )
    if not isinstance(block, Mapping):
        raise ChainUnreachable(f"The node at {client.url} does not have block {number}.")
    return block


def _header(client: ChainClient, block: Mapping[str, Any], engine: str) -> tuple[Header, Sealing]:
    """The block's header, shown to be the one that the node's hash of it names."""
    try:
        header = Header.parse(encode_header(block))
        sealing = SEALINGS[engine](header)
    except Malformed as error:
        raise ChainUnreachable(f"The block that the node at {client.url} gave is not a {engine} block.") from error
    if sealing.block_hash != _bytes(block.get("hash")):
        raise ChainUnreachable(
            f"Block {header.number} that the node at {client.url} gave has another hash than it says."
        )
    return header, sealing


def encode_header(block: Mapping[str, Any]) -> bytes:
    """A header's RLP from its JSON."""
    fields = [_bytes(block.get(name)) for name in _HEADER_DATA]
    fields += [_number(block.get(name)) for name in _HEADER_NUMBERS]
    fields += [_bytes(block.get(name)) for name in _HEADER_END]
    later = [name for name in _LATER if block.get(name) is not None]
    fields += [_number(block[name]) if name in _LATER_NUMBERS else _bytes(block[name]) for name in later]
    return rlp.encode(fields)


def encode_transaction(item: Any) -> bytes:
    """A transaction's EIP-2718 encoding from its JSON."""
    fields = _mapping(item)
    kind = _integer(fields.get("type") or "0x0")
    if kind not in _FEES:
        raise CouldNotRun(f"The block has a transaction of type {kind}, with which no evidence can be made yet.")
    body: list[rlp.Item] = [_number(fields.get("nonce")), *(_number(fields.get(name)) for name in _FEES[kind])]
    body += [_number(fields.get("gas")), _bytes(fields.get("to") or "0x"), _number(fields.get("value"))]
    body += [_bytes(fields.get("input"))]
    if kind:
        body = [_number(fields.get("chainId")), *body, [_access(entry) for entry in _list(fields, "accessList")]]
    body += [_number(fields.get(name)) for name in ("v", "r", "s")]
    return _typed(kind, body)


def _access(item: Any) -> rlp.Item:
    fields = _mapping(item)
    return [_bytes(fields.get("address")), [_bytes(key) for key in _list(fields, "storageKeys")]]


def _receipts(client: ChainClient, block: Mapping[str, Any]) -> list[Any]:
    try:
        found = client.request("eth_getBlockReceipts", block.get("number"))
    except RpcError:
        # younger than the rest of the interface; not every node has it
        hashes = [_mapping(item).get("hash") for item in _list(block, "transactions")]
        found = [client.request("eth_getTransactionReceipt", tx_hash) for tx_hash in hashes]
    return found if isinstance(found, list) else []


def encode_receipt(item: Any) -> bytes:
    """A receipt's EIP-2718 encoding from its JSON."""
    fields = _mapping(item)
    logs = [_log(log) for log in _list(fields, "logs")]
    status, gas = _number(fields.get("status")), _number(fields.get("cumulativeGasUsed"))
    return _typed(_integer(fields.get("type") or "0x0"), [status, gas, _bytes(fields.get("logsBloom")), logs])


def _log(item: Any) -> rlp.Item:
    fields = _mapping(item)
    topics = [_bytes(topic) for topic in _list(fields, "topics")]
    return [_bytes(fields.get("address")), topics, _bytes(fields.get("data"))]


def _typed(kind: int, body: Sequence[rlp.Item]) -> bytes:
    return (bytes([kind]) if kind else b"") + rlp.encode(body)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ChainUnreachable(f"The chain answered {str(value)[:80]!r} where an object was due.")
    return value


def _list(fields: Mapping[str, Any], name: str) -> list[Any]:
    value = fields.get(name)
    if not isinstance(value, list):
        raise ChainUnreachable(f"The chain answered {str(value)[:80]!r} for {name}, where a list was due.")
    return value


def _bytes(value: Any) -> bytes:
    try:
        return bytes.fromhex(value.removeprefix("0x"))
    except (AttributeError, ValueError) as error:
        raise ChainUnreachable(f"The chain answered {str(value)[:80]!r} where hex bytes were due.") from error


def _integer(value: Any) -> int:
    try:
        return int(value, 16)
    except (TypeError, ValueError) as error:
        raise ChainUnreachable(f"The chain answered {str(value)[:80]!r} where a hex number was due.") from error


def _number(value: Any) -> bytes:
    return rlp.from_int(_integer(value))
