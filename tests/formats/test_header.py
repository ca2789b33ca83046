"""Block headers and their seals: a real QBFT block, Besu's published extra data, and everything that is neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import rlp as pyrlp
from eth_hash.auto import keccak
from eth_keys import keys

from ledger.chain.evidence import encode_header
from ledger.crypto.secp256k1 import address_of, recover
from ledger.errors import Malformed
from ledger.formats import rlp
from ledger.formats.header import (
    MAX_HEADER_BYTES,
    Header,
    clique_sealing,
    clique_signers,
    qbft_sealing,
    qbft_validators,
)

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "chain" / "qbft_block.json").read_text("utf-8"))

# Origin: the known encoding in Hyperledger Besu's QbftExtraDataCodecTest (Apache-2.0; values only): validators 1 and 2,
# a vote to add 1, round 0xfedcba, seals (r 1, s 10) and (r 10, s 1)
BESU_EXTRA_DATA = bytes.fromhex(
    "f8f0a00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20ea94"
    + "00" * 19
    + "0194"
    + "00" * 19
    + "02d794"
    + "00" * 19
    + "0181ff83fedcbaf886b841"
    + "00" * 31
    + "01"
    + "00" * 31
    + "0a00b841"
    + "00" * 31
    + "0a"
    + "00" * 31
    + "0100"
)


def fields(**changes: Any) -> list[bytes]:
    """A header's fields by position, as f0, f1, …"""
    plain = [bytes([n]) * 32 for n in range(6)]
    plain[2] = bytes(20)
    plain += [bytes(256), b"\x02", b"\x4d", b"\x01\x00", b"", b"\x65\x00\x00\x00", bytes(97), bytes(32), bytes(8)]
    for name, value in changes.items():
        plain[int(name[1:])] = value
    return plain


def header(**changes: Any) -> Header:
    return Header.parse(pyrlp.encode(fields(**changes)))


def test_the_fields_of_a_header() -> None:
    found = header()
    assert (found.number, found.time) == (77, 0x65000000)
    assert (found.parent_hash, found.transactions_root, found.receipts_root) == (bytes(32), b"\4" * 32, b"\5" * 32)
    assert found.extra_data == bytes(97)
    assert found.encode() == pyrlp.encode(fields())


@pytest.mark.parametrize("count", [15, 16, 17, 20, 21])
def test_headers_grew_with_the_forks(count: int) -> None:
    data = pyrlp.encode([*fields(), *[b"\x07"] * (count - 15)])
    assert Header.parse(data).encode() == data


REFUSED = {
    "14 fields": pyrlp.encode(fields()[:14]),
    "22 fields": pyrlp.encode([*fields(), *[b""] * 7]),
    "nothing": b"",
    "a string": b"\x80",
    "a list in it": pyrlp.encode([*fields(), [b""]]),
    "a short parent hash": pyrlp.encode(fields(f0=bytes(31))),
    "a long root": pyrlp.encode(fields(f5=bytes(33))),
    "a short bloom": pyrlp.encode(fields(f6=bytes(255))),
    "a number with a leading zero": pyrlp.encode(fields(f8=b"\x00\x4d")),
    "a time of 33 bytes": pyrlp.encode(fields(f11=b"\x01" * 33)),
    "a nonce of 9 bytes": pyrlp.encode(fields(f14=bytes(9))),
    "a byte after its end": pyrlp.encode(fields()) + b"\x00",
    "a byte missing": pyrlp.encode(fields())[:-1],
    "extra data of 17 KiB": pyrlp.encode(fields(f12=bytes(MAX_HEADER_BYTES))),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_is_no_header(data: bytes) -> None:
    with pytest.raises(Malformed):
        Header.parse(data)


# --- Clique ---


def test_a_clique_seal_is_about_the_header_without_it() -> None:
    vanity, seal = b"v" * 32, b"s" * 65
    found = clique_sealing(header(f12=vanity + seal))
    assert found.seals == (seal,)
    assert found.block_hash == keccak(pyrlp.encode(fields(f12=vanity + seal)))
    assert found.digest == keccak(pyrlp.encode(fields(f12=vanity)))
    assert clique_signers(header(f12=vanity + seal)) == ()


def test_an_epoch_block_lists_the_signers() -> None:
    listed = b"a" * 20 + b"b" * 20
    assert clique_signers(header(f12=bytes(32) + listed + bytes(65))) == (b"a" * 20, b"b" * 20)


@pytest.mark.parametrize("size", [0, 32, 65, 96, 98, 116, 118])
def test_extra_data_that_is_not_cliques(size: int) -> None:
    with pytest.raises(Malformed):
        clique_sealing(header(f12=bytes(size)))


# --- QBFT ---


def test_a_real_qbft_block() -> None:
    block = Header.parse(encode_header(VECTOR["block"]))
    found = qbft_sealing(block)
    assert "0x" + found.block_hash.hex() == VECTOR["block"]["hash"]
    # its whole encoding has another hash: that is why QBFT needs a rule of its own
    assert keccak(block.encode()) != found.block_hash
    assert ["0x" + address_of(recover(found.digest, seal)).hex() for seal in found.seals] == [VECTOR["validator"]]
    assert ["0x" + address.hex() for address in qbft_validators(block)] == [VECTOR["validator"]]


def test_besus_known_extra_data() -> None:
    one, two = bytes(19) + b"\x01", bytes(19) + b"\x02"
    found = header(f12=BESU_EXTRA_DATA)
    assert qbft_validators(found) == (one, two)
    sealing = qbft_sealing(found)
    r, s = (n.to_bytes(32, "big") for n in (1, 10))
    assert sealing.seals == (r + s + b"\x00", s + r + b"\x00")
    vanity, vote = bytes(range(1, 33)), [one, b"\xff"]
    for digest, turn in ((sealing.digest, b"\xfe\xdc\xba"), (sealing.block_hash, b"")):
        extra = pyrlp.encode([vanity, [one, two], vote, turn, []])
        assert digest == keccak(pyrlp.encode(fields(f12=extra)))


def test_seals_and_round_do_not_change_the_block() -> None:
    validators = [b"a" * 20]
    hashes = set()
    for turn, seals in ((b"", []), (b"\x05", [b"s" * 65]), (b"\x05", [b"t" * 65, b"s" * 65])):
        extra = pyrlp.encode([bytes(32), validators, [], turn, seals])
        hashes.add(qbft_sealing(header(f12=extra)).block_hash)
    assert len(hashes) == 1


def extra_data(
    vanity: Any = bytes(32), validators: Any = (), vote: Any = (), turn: Any = b"", seals: Any = (), more: Any = ()
) -> bytes:
    return rlp.encode((vanity, validators, vote, turn, seals, *more))


NOT_QBFT = {
    "nothing": b"",
    "Clique's": bytes(97),
    "no seals": rlp.encode((bytes(32), (), (), b"")),
    "a sixth item": extra_data(more=(b"",)),
    "a short vanity": extra_data(vanity=bytes(31)),
    "a validator of 21 bytes": extra_data(validators=(bytes(21),)),
    "a vote that is a string, as in IBFT 2": extra_data(vote=b""),
    "a vote of three": extra_data(vote=(b"", b"", b"")),
    "a round of four bytes, as in IBFT 2": extra_data(turn=bytes(4)),
    "a seal of 64 bytes": extra_data(seals=(bytes(64),)),
    "a seal that is a list": extra_data(seals=((),)),
    "bytes after its end": extra_data() + b"\x00",
}


@pytest.mark.parametrize("extra", NOT_QBFT.values(), ids=NOT_QBFT)
def test_extra_data_that_is_not_qbfts(extra: bytes) -> None:
    qbft_sealing(header(f12=extra_data()))
    with pytest.raises(Malformed):
        qbft_sealing(header(f12=extra))


# --- who made a seal ---


def test_a_seal_leads_to_its_maker() -> None:
    for number in range(1, 9):
        key = keys.PrivateKey(number.to_bytes(32, "big"))
        digest = keccak(bytes([number]))
        assert (
            address_of(recover(digest, key.sign_msg_hash(digest).to_bytes())) == key.public_key.to_canonical_address()
        )
