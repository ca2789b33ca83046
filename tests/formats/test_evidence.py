"""The file of anchor evidence: one text for each content, bounded, and nothing in it that is not understood."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.chain.abi import load_artifact
from ledger.errors import Malformed
from ledger.formats.evidence import (
    ANCHORED,
    HEAD,
    MAX_EVIDENCE_BYTES,
    MAX_HEADERS,
    AnchorClaim,
    AnchorEvidence,
)
from ledger.formats.header import MAX_HEADER_BYTES
from ledger.formats.transaction import Event
from ledger.formats.trie import MAX_NODES

CLAIM = AnchorClaim(1337, b"\x5e" * 20, b"fire".ljust(32, b"\x00"), 11, b"\x11" * 32)
EVIDENCE = AnchorEvidence(CLAIM, (b"header", b"next"), 2, (b"node", b"leaf"), (b"other",))

BYTES = st.binary(min_size=1, max_size=40)
LISTS = st.lists(BYTES, min_size=1, max_size=5).map(tuple)
CLAIMS = st.builds(
    AnchorClaim,
    st.integers(0, 2**53 - 1),
    st.binary(min_size=20, max_size=20),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**53 - 1),
    st.binary(min_size=32, max_size=32),
)


def test_the_file() -> None:
    data = EVIDENCE.serialize()
    assert data.startswith(HEAD)
    assert data.endswith(b'"receipt_proof":["0x6f74686572"]}\n')
    assert AnchorEvidence.parse(data) == EVIDENCE
    assert list(json.loads(data)) == ["format", "anchor", "headers", "index", "transaction_proof", "receipt_proof"]


@given(st.builds(AnchorEvidence, CLAIMS, LISTS, st.integers(0, 2**32 - 1), LISTS, LISTS))
def test_there_and_back(evidence: AnchorEvidence) -> None:
    assert AnchorEvidence.parse(evidence.serialize()) == evidence


@given(st.integers(0, len(EVIDENCE.serialize()) * 8 - 1))
def test_a_flipped_bit_is_refused_or_is_another_file(bit: int) -> None:
    data = bytearray(EVIDENCE.serialize())
    data[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(Malformed):
        assert AnchorEvidence.parse(bytes(data)) != EVIDENCE


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(EVIDENCE.serialize())
    change(value)
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


GOOD = EVIDENCE.serialize()
REFUSED: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"anchored, honestly",
    "a list": b"[]\n",
    "cut short": GOOD[:-2],
    "no newline at the end": GOOD[:-1],
    "a second newline": GOOD + b"\n",
    "white space": GOOD.replace(b":", b": ", 1),
    "another version": GOOD.replace(b"/v1", b"/v2"),
    "no version": changed(lambda v: v.pop("format")),
    "members in another order": changed(lambda v: v.update(format=v.pop("format"))),
    "a member twice": GOOD.replace(b'"index":2', b'"index":2,"index":2'),
    "a member of its own": changed(lambda v: v.update(note="trust me")),
    "a member of its own inside": changed(lambda v: v["anchor"].update(note="trust me")),
    "a member missing": changed(lambda v: v.pop("index")),
    "a member missing inside": changed(lambda v: v["anchor"].pop("root")),
    "an anchor that is a list": changed(lambda v: v.update(anchor=[])),
    "upper case hex": GOOD.replace(b"5e5e", b"5E5E", 1),
    "hex without 0x": changed(lambda v: v.update(headers=["00"])),
    "half a byte": changed(lambda v: v.update(headers=["0x0"])),
    "bytes that are a number": changed(lambda v: v.update(headers=[1])),
    "headers that are a text": changed(lambda v: v.update(headers="0x00")),
    "no headers": changed(lambda v: v.update(headers=[])),
    "an empty header": changed(lambda v: v.update(headers=["0x"])),
    "too many headers": changed(lambda v: v.update(headers=["0x00"] * (MAX_HEADERS + 1))),
    "a header that is too long": changed(lambda v: v.update(headers=["0x" + "00" * (MAX_HEADER_BYTES + 1)])),
    "no nodes": changed(lambda v: v.update(receipt_proof=[])),
    "too many nodes": changed(lambda v: v.update(transaction_proof=["0x00"] * (MAX_NODES + 1))),
    "a size that is true": changed(lambda v: v["anchor"].update(size=True)),
    "a size below zero": changed(lambda v: v["anchor"].update(size=-1)),
    "a size that is a text": changed(lambda v: v["anchor"].update(size="11")),
    "a size with a fraction": changed(lambda v: v["anchor"].update(size=11.0)),
    "a size beyond every reader": changed(lambda v: v["anchor"].update(size=2**53)),
    "an index beyond every block": changed(lambda v: v.update(index=2**32)),
    "a chain id that is null": changed(lambda v: v["anchor"].update(chain_id=None)),
    "a contract of 19 bytes": changed(lambda v: v["anchor"].update(contract="0x" + "5e" * 19)),
    "a root of 33 bytes": changed(lambda v: v["anchor"].update(root="0x" + "11" * 33)),
    "a log id of 31 bytes": changed(lambda v: v["anchor"].update(log_id="0x" + "11" * 31)),
    "escapes for plain letters": GOOD.replace(b"format", rb"\u0066ormat", 1),
    "nested ten thousand deep": GOOD[:-2] + b',"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}\n",
    "a node of a megabyte": changed(lambda v: v.update(receipt_proof=["0x" + "00" * 1_000_000])),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        AnchorEvidence.parse(data)


def test_it_is_never_longer_than_it_may_be() -> None:
    with pytest.raises(Malformed):
        replace(EVIDENCE, receipt_proof=(bytes(MAX_EVIDENCE_BYTES // 2),)).serialize()


# --- the event ---


def event(**changes: Any) -> Event:
    account = bytes(12) + b"\xaa" * 20
    topics = (ANCHORED, CLAIM.log_id, CLAIM.size.to_bytes(32, "big"), account)
    return replace(Event(CLAIM.contract, topics, CLAIM.root + (5).to_bytes(32, "big")), **changes)


def test_the_event_is_the_contracts() -> None:
    declared = load_artifact("EvidenceLog").events["Anchored"]
    assert declared.selector == ANCHORED
    assert declared.input_names == ("logId", "size", "root", "previousSize", "account")


def test_the_event_states_the_claim() -> None:
    assert CLAIM.stated_by(event())


TOPICS = event().topics
OTHER_EVENTS = {
    "another contract's": event(address=b"\x66" * 20),
    "another kind": event(topics=(b"\x01" * 32, *TOPICS[1:])),
    "another log": event(topics=(TOPICS[0], b"\x02" * 32, *TOPICS[2:])),
    "another size": event(topics=(*TOPICS[:2], (12).to_bytes(32, "big"), TOPICS[3])),
    "a size that wraps around": event(topics=(*TOPICS[:2], (2**64 + 11).to_bytes(32, "big"), TOPICS[3])),
    "another root": event(data=b"\x12" * 32 + bytes(32)),
    "three topics": event(topics=TOPICS[:3]),
    "no topics": event(topics=()),
    "data cut short": event(data=CLAIM.root),
    "more data": event(data=CLAIM.root + bytes(64)),
    "no data": event(data=b""),
}


@pytest.mark.parametrize("other", OTHER_EVENTS.values(), ids=OTHER_EVENTS)
def test_other_events_do_not(other: Event) -> None:
    assert not CLAIM.stated_by(other)
