"""Anchor evidence: what a chain itself says about an anchor, in one file (`….anchor.json`), for use without a network.

    evidence = {"format": "yunxi.anchor-evidence/v1",
                "anchor": {"chain_id": number, "contract": address, "log_id": hash, "size": number, "root": hash},
                "headers": [bytes …],              block headers in RLP: the anchor's block, then its descendants
                "index": number,                   of the transaction that anchored, in its block
                "transaction_proof": [bytes …],    from the first header's transactionsRoot to that transaction
                "receipt_proof": [bytes …]}        from its receiptsRoot to that transaction's receipt
    address  = "0x" and 40 lowercase hex digits    hash = "0x" and 64 of them    bytes = "0x" and pairs of them

JSON in ASCII, members in this order and no others, no white space, one newline at the end: there is one file for each
content, at most 512 KiB long. What is in `anchor` is a label, to find the receipt that the file belongs to: it counts
for nothing until the proofs lead to an event that says the same.

    event    = Anchored(bytes32 indexed logId, uint64 indexed size, bytes32 root, uint64 previousSize,
                        address indexed account), by the contract EvidenceLog (contracts/interfaces/IEvidenceLog.sol)
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from ledger.errors import Malformed
from ledger.formats.header import MAX_HEADER_BYTES
from ledger.formats.keccak import keccak256
from ledger.formats.strictjson import MAX_INTEGER, loads_object
from ledger.formats.transaction import Event
from ledger.formats.trie import MAX_NODES

FORMAT = "yunxi.anchor-evidence/v1"
MAX_EVIDENCE_BYTES = 512 * 1024
MAX_HEADERS = 128
MAX_INDEX = 2**32 - 1
HEAD = b'{"format":"yunxi.anchor-evidence/'
"""How a file of any version begins."""

ANCHORED = keccak256(b"Anchored(bytes32,uint64,bytes32,uint64,address)")

_WHAT = "anchor evidence"
_ANCHOR = ("chain_id", "contract", "log_id", "size", "root")
_LISTS = ("headers", "transaction_proof", "receipt_proof")
_MEMBERS = ("format", "anchor", "headers", "index", "transaction_proof", "receipt_proof")
_BYTES = re.compile(r"0x(?:[0-9a-f]{2})+")


@dataclass(frozen=True, slots=True)
class AnchorClaim:
    """What is said to stand on the chain. `contract` is 20 bytes, `log_id` and `root` are 32."""

    chain_id: int
    contract: bytes
    log_id: bytes
    size: int
    root: bytes

    def __post_init__(self) -> None:
        _check_number(self.chain_id, "chain_id", MAX_INTEGER)
        _check_number(self.size, "size", MAX_INTEGER)
        if (len(self.contract), len(self.log_id), len(self.root)) != (20, 32, 32):
            raise Malformed(_WHAT, "contract, log_id and root must have 20, 32 and 32 bytes")

    def stated_by(self, event: Event) -> bool:
        """Whether `event` is the contract's word that it accepted this root, at this size, for this log."""
        topics = (ANCHORED, self.log_id, self.size.to_bytes(32, "big"))
        # data: root, previous size
        return (event.address, event.topics[:3], event.data[:32], len(event.topics), len(event.data)) == (
            self.contract,
            topics,
            self.root,
            4,
            64,
        )


@dataclass(frozen=True, slots=True)
class AnchorEvidence:
    """A file of evidence, taken apart. Headers and nodes are RLP, not read yet.

    Raises Malformed for values that no file can have. Nothing is proven by it: see `ledger.verify.chain_evidence`.
    """

    claim: AnchorClaim
    headers: tuple[bytes, ...]
    index: int
    transaction_proof: tuple[bytes, ...]
    receipt_proof: tuple[bytes, ...]

    def __post_init__(self) -> None:
        _check_number(self.index, "index", MAX_INDEX)
        if not 0 < len(self.headers) <= MAX_HEADERS:
            raise Malformed(_WHAT, f"must have 1 to {MAX_HEADERS} headers")
        if any(len(header) > MAX_HEADER_BYTES for header in self.headers):
            raise Malformed(_WHAT, f"has a header of more than {MAX_HEADER_BYTES:,} bytes")
        for name in _LISTS[1:]:
            if not 0 < len(getattr(self, name)) <= MAX_NODES:
                raise Malformed(_WHAT, f"{name} must have 1 to {MAX_NODES} nodes")

    @classmethod
    def parse(cls, data: bytes) -> AnchorEvidence:
        """Reads a file; `serialize` gives `data` again. Raises Malformed."""
        value = loads_object(data, what=_WHAT, max_bytes=MAX_EVIDENCE_BYTES)
        if value.get("format") != FORMAT:
            raise Malformed(_WHAT, f"format must be {FORMAT}")
        anchor = value.get("anchor")
        if not isinstance(anchor, dict) or set(value) != set(_MEMBERS) or set(anchor) != set(_ANCHOR):
            raise Malformed(_WHAT, f"must have {', '.join(_MEMBERS)}, and anchor {', '.join(_ANCHOR)}")
        contract, log_id, root = (_bytes(anchor[name], name) for name in ("contract", "log_id", "root"))
        headers, transactions, receipts = (_byte_strings(value[name], name) for name in _LISTS)
        claim = AnchorClaim(anchor["chain_id"], contract, log_id, anchor["size"], root)
        evidence = cls(claim, headers, value["index"], transactions, receipts)
        if evidence.serialize() != data:
            raise Malformed(_WHAT, "not in its one form: members in order, ASCII, no white space, a newline at the end")
        return evidence

    def serialize(self) -> bytes:
        """The file's bytes. Raises Malformed when they are more than 512 KiB."""
        claim = self.claim
        value = {
            "format": FORMAT,
            "anchor": {
                "chain_id": claim.chain_id,
                "contract": _hex(claim.contract),
                "log_id": _hex(claim.log_id),
                "size": claim.size,
                "root": _hex(claim.root),
            },
            "headers": [_hex(header) for header in self.headers],
            "index": self.index,
            "transaction_proof": [_hex(node) for node in self.transaction_proof],
            "receipt_proof": [_hex(node) for node in self.receipt_proof],
        }
        data = json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"
        if len(data) > MAX_EVIDENCE_BYTES:
            raise Malformed(_WHAT, f"{len(data):,} bytes is more than the {MAX_EVIDENCE_BYTES:,} allowed")
        return data


def _check_number(value: Any, name: str, largest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise Malformed(_WHAT, f"{name} must be a whole number from 0 to {largest}")


def _byte_strings(value: Any, name: str) -> tuple[bytes, ...]:
    if not isinstance(value, list):
        raise Malformed(_WHAT, f"{name} must be a list")
    return tuple(_bytes(item, name) for item in value)


def _bytes(value: Any, name: str) -> bytes:
    if not isinstance(value, str) or not _BYTES.fullmatch(value):
        raise Malformed(_WHAT, f"{name} must be 0x and pairs of lowercase hex digits")
    return bytes.fromhex(value[2:])


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
