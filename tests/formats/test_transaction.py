"""What a proof reads of transactions and receipts: signed by eth_account, encoded by py-evm, refused if odd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eth.vm.forks.london.receipts import LondonReceiptBuilder
from eth_account import Account
from eth_hash.auto import keccak

from ledger.chain.evidence import encode_transaction
from ledger.errors import Malformed
from ledger.formats import rlp
from ledger.formats.transaction import Event, chain_id, parse_receipt, trie_key

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "chain" / "qbft_block.json").read_text("utf-8"))
BASE: dict[str, Any] = {"nonce": 0, "gas": 21_000, "to": "0x" + "11" * 20, "value": 0, "data": b"\x01\x02"}
KINDS: dict[str, dict[str, Any]] = {
    "legacy": {"gasPrice": 0},
    "with access list": {"gasPrice": 0, "type": 1, "accessList": [{"address": "0x" + "22" * 20, "storageKeys": []}]},
    "with dynamic fee": {"maxFeePerGas": 0, "maxPriorityFeePerGas": 0},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("number", [1, 1337, 2**53 - 1])
def test_the_chain_that_a_transaction_was_signed_for(kind: dict[str, Any], number: int) -> None:
    signed = Account.from_key(b"\x01" * 32).sign_transaction(BASE | kind | {"chainId": number})
    assert chain_id(bytes(signed.raw_transaction)) == number


def test_a_transaction_of_a_real_chain() -> None:
    raw = encode_transaction(VECTOR["transaction"])
    assert "0x" + keccak(raw).hex() == VECTOR["transaction"]["hash"]
    assert chain_id(raw) == int(VECTOR["transaction"]["chainId"], 16)


LEGACY = [b""] * 9
REFUSED_TRANSACTIONS = {
    "nothing": b"",
    "signed for no chain": rlp.encode([*LEGACY[:6], b"\x1b", b"", b""]),
    "with 10 fields": rlp.encode([*LEGACY, b""]),
    "of type 5": b"\x05" + rlp.encode([b"\x01"]),
    "of type 0": b"\x00" + rlp.encode([b"\x01"]),
    "a string": b"\x80",
    "typed and empty": b"\x02" + rlp.encode([]),
    "typed, without RLP": b"\x02",
    "with a chain id of 33 bytes": b"\x02" + rlp.encode([b"\x01" * 33]),
}


@pytest.mark.parametrize("data", REFUSED_TRANSACTIONS.values(), ids=REFUSED_TRANSACTIONS)
def test_refused_transactions(data: bytes) -> None:
    with pytest.raises(Malformed):
        chain_id(data)


EVENT = Event(b"\x11" * 20, (b"\x22" * 32, b"\x33" * 32), b"data")


@pytest.mark.parametrize("kind", [0, 1, 2])
@pytest.mark.parametrize("status", [b"", b"\x01"])
def test_receipts_as_py_evm_writes_them(kind: int, status: bytes) -> None:
    from eth.rlp.logs import Log
    from eth.rlp.receipts import Receipt

    log = Log(EVENT.address, [int.from_bytes(topic, "big") for topic in EVENT.topics], EVENT.data)
    receipt: Any = Receipt(status, 21_000, [log], None)
    if kind:
        receipt = LondonReceiptBuilder.typed_receipt_class(kind, receipt)
    found = parse_receipt(receipt.encode())
    assert (found.succeeded, found.events) == (status == b"\x01", (EVENT,))


def receipt(
    status: rlp.Item = b"\x01", gas: rlp.Item = b"\x01", bloom: rlp.Item = bytes(256), logs: rlp.Item = ()
) -> bytes:
    return rlp.encode((status, gas, bloom, logs))


REFUSED_RECEIPTS = {
    "nothing": b"",
    "from before Byzantium": receipt(status=bytes(32)),
    "with status 2": receipt(status=b"\x02"),
    "with a short bloom": receipt(bloom=bytes(255)),
    "with five items": rlp.encode((b"\x01", b"", bytes(256), (), b"")),
    "of type 5": b"\x05" + receipt(),
    "of type 127": b"\x7f" + receipt(),
    "with a log of two": receipt(logs=((bytes(20), ()),)),
    "with an address of 21 bytes": receipt(logs=((bytes(21), (), b""),)),
    "with a topic of 31 bytes": receipt(logs=((bytes(20), (bytes(31),), b""),)),
    "with five topics": receipt(logs=((bytes(20), (bytes(32),) * 5, b""),)),
    "with data that is a list": receipt(logs=((bytes(20), (), ()),)),
    "with a byte after its end": receipt() + b"\x00",
}


@pytest.mark.parametrize("data", REFUSED_RECEIPTS.values(), ids=REFUSED_RECEIPTS)
def test_refused_receipts(data: bytes) -> None:
    assert parse_receipt(receipt()).succeeded
    with pytest.raises(Malformed):
        parse_receipt(data)


def test_keys_of_the_tries() -> None:
    assert [trie_key(n) for n in (0, 1, 127, 128, 256)] == [b"\x80", b"\x01", b"\x7f", b"\x81\x80", b"\x82\x01\x00"]
