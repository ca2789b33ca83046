"""The anchor in a receipt's extra data."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import AnchorInvalid, Malformed
from ledger.formats.checkpoint import Checkpoint
from ledger.formats.encoding import b64encode
from ledger.formats.note import ED25519, VerifierKey
from ledger.formats.receipt import AnchorHint, decode_extra, encode_extra, signed_text, verify_anchor_hint
from tests.verify.factory import checkpoint, hint, public_of, signing_key

KEY = VerifierKey.of("yunxi.example/fire", ED25519, public_of("fire log"))
SIGN = signing_key("fire log").sign


def test_round_trip() -> None:
    extra = encode_extra(hint(), checkpoint(), SIGN)
    decoded, signature = decode_extra(extra)
    assert decoded == hint()
    verify_anchor_hint(decoded, signature, checkpoint(), KEY)


def test_no_extra_is_not_anchored_yet() -> None:
    assert decode_extra(None) is None


def test_the_text_that_is_signed() -> None:
    # written out once by hand: whoever writes another verifier signs and checks these very bytes
    some = AnchorHint(7, "0x" + "0a" * 20, 5, "0x" + "0b" * 32, "0x" + "0c" * 32, 9)
    assert signed_text(some, replace(checkpoint(3), root=bytes(32))) == (
        b"yunxi.anchor/v1\n"
        b"yunxi.example/fire\n"
        b"3\n"
        b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
        b'{"block_hash":"0x0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b","block_number":5,'
        b'"chain_id":7,"contract":"0x0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a","time":9,'
        b'"transaction":"0x0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c"}\n'
    )


OTHERS: dict[str, Any] = {
    "another size": replace(checkpoint(), size=21),
    "another root": replace(checkpoint(), root=bytes(32)),
    "another log": checkpoint(origin="yunxi.example/market"),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_it_belongs_to_one_checkpoint(other: Any) -> None:
    _, signature = decode_extra(encode_extra(hint(), checkpoint(), SIGN))
    with pytest.raises(AnchorInvalid):
        verify_anchor_hint(hint(), signature, other, KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {"chain_id": 1},
        {"contract": "0x" + "00" * 20},
        {"block_number": 78},
        {"block_hash": "0x" + "00" * 32},
        {"transaction": "0x" + "00" * 32},
        {"time": 0},
        {"unknown": {"more": 1}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_member_is_signed(changes: dict[str, Any]) -> None:
    _, signature = decode_extra(encode_extra(hint(), checkpoint(), SIGN))
    with pytest.raises(AnchorInvalid):
        verify_anchor_hint(hint(**changes), signature, checkpoint(), KEY)


def test_unknown_members_of_the_anchor_are_signed_and_survive() -> None:
    more = hint(unknown={"confirmations": 12, "备注": "中文"})
    decoded, signature = decode_extra(encode_extra(more, checkpoint(), SIGN))
    assert decoded == more
    verify_anchor_hint(decoded, signature, checkpoint(), KEY)


def test_unknown_members_beside_it_are_ignored() -> None:
    value = json.loads(encode_extra(hint(), checkpoint(), SIGN)) | {"token": "MAMC"}
    decoded, signature = decode_extra(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
    verify_anchor_hint(decoded, signature, checkpoint(), KEY)


def extra_with(**changes: object) -> bytes:
    value = {"anchor": hint().members(), "signature": b64encode(bytes(64))}
    value["anchor"] |= changes
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


GOOD = extra_with()
MALFORMED = {
    "nothing": b"",
    "a list": b"[]",
    "a contract that is a number": extra_with(contract=7),
    "no block hash": extra_with(block_hash=None),
    "no anchor": b'{"signature":"' + b64encode(bytes(64)).encode() + b'"}',
    "no signature": json.dumps({"anchor": hint().members()}, sort_keys=True, separators=(",", ":")).encode(),
    "a short signature": GOOD.replace(b64encode(bytes(64)).encode(), b64encode(bytes(63)).encode()),
    "a signature in base64url": GOOD.replace(b64encode(bytes(64)).encode(), b"_" * 86 + b"=="),
    "white space": GOOD.replace(b'"time":', b'"time": '),
    "a line break at the end": GOOD + b"\n",
    "members out of order": GOOD.replace(b'"anchor"', b'"zanchor"'),
    "a member twice": GOOD.replace(b'"time":', b'"time":1,"time":'),
    "an escape that is not needed": GOOD.replace(b'"time"', rb'"\u0074ime"'),
    "seventeen kilobytes": extra_with(unknown="x" * 17_000),
    "a number as text": extra_with(block_number="77"),
    "a number of true": extra_with(block_number=True),
    "a number below zero": extra_with(time=-1),
    "a time with fractions": extra_with(time=1.5),
    "a missing number": extra_with(chain_id=None),
    "an address in capitals": extra_with(contract="0x" + "AB" * 20),
    "a short hash": extra_with(block_hash="0x" + "ab" * 31),
    "a hash with a line break": extra_with(transaction="0x" + "ab" * 32 + "\n"),
    "a hash without 0x": extra_with(transaction="ab" * 33),
}


@pytest.mark.parametrize("extra", MALFORMED.values(), ids=MALFORMED)
def test_malformed(extra: bytes) -> None:
    decode_extra(GOOD)
    with pytest.raises(Malformed):
        decode_extra(extra)


@given(st.binary(max_size=200))
def test_other_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_extra(data)


def test_the_signed_text_is_no_checkpoint() -> None:
    for origin in ("yunxi.example/fire", "11", "cosignature/v1"):
        with pytest.raises(Malformed):
            Checkpoint.parse(signed_text(hint(), checkpoint(origin=origin)))
