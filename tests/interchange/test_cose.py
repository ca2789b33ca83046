"""COSE receipts and transparent statements: two outside libraries and a recomputation from the RFCs say yes, and no
to each tampering."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cwt import COSE, COSEKey
from hypothesis import given
from hypothesis import strategies as st
from scitt_cose import parse_signed_statement, verify_receipt

from ledger.errors import CouldNotRun, InclusionInvalid
from ledger.formats.checkpoint import Checkpoint
from ledger.formats.merkle import leaf_hash, root_of
from ledger.formats.tlogproof import TlogProof
from ledger.interchange import cbor
from ledger.interchange.cose_receipt import cose_receipt
from ledger.interchange.receipts import export_receipt
from ledger.keys import Signer
from ledger.node import Node
from ledger.store.reading import find_entry
from tests.fixtures.nodes import SIZE, Built

# --- the encoder ---

ANY = st.recursive(
    st.none() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=300) | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.integers(-(2**64), 2**64 - 1) | st.text(), inner),
    max_leaves=60,
)


@given(ANY)
def test_an_outside_library_reads_what_is_encoded(value: Any) -> None:
    assert cbor2.loads(cbor.encode(value)) == value


def test_the_examples_of_rfc_8949() -> None:
    # appendix A, those of the kinds in use; and section 4.2.1's order of keys
    for value, text in {
        0: "00", 23: "17", 24: "1818", 1000: "1903e8", 1000000: "1a000f4240", 2**64 - 1: "1bffffffffffffffff",
        -1: "20", -1000: "3903e7", -(2**64): "3bffffffffffffffff", b"\1\2\3\4": "4401020304", "水": "63e6b0b4",
    }.items():  # fmt: skip
        assert cbor.encode(value).hex() == text
    assert cbor.encode([1, [2, 3], None]).hex() == "8301820203f6"
    assert cbor.encode({"z": 1, -1: 2, 100: 3, 10: 4, "aa": 5}).hex() == "a50a0418640320026" + "17a0162616105"


@pytest.mark.parametrize("value", [1.5, True, {1}, 2**64, -(2**64) - 1])
def test_what_is_not_encoded(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        cbor.encode(value)


# --- a node's receipts ---


@dataclass(frozen=True)
class Exported:
    statement: bytes
    receipt: bytes
    scitt: bytes
    log_key: bytes
    statement_key: bytes
    record_id: str


@pytest.fixture(scope="module")
def exported(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    node = built.open(built.copy(tmp_path_factory.mktemp("cose") / "node"))
    record_id = built.records[7].record_id
    with node.database.reading() as connection:
        statement = find_entry(connection, record_id).statement
    yield Exported(
        statement,
        export_receipt(node, record_id, "cose"),
        export_receipt(node, record_id, "scitt"),
        node.agent.log_signer("fire").public,
        node.agent.statement_signer("fire").public,
        record_id,
    )
    node.close()


def test_the_labels_and_values_of_the_rfcs(exported: Exported) -> None:
    tagged = cbor2.loads(exported.receipt)
    protected, unprotected, payload, signature = tagged.value
    assert (tagged.tag, payload, len(signature)) == (18, None, 64)
    header = cbor2.loads(protected)
    assert (header[1], header[395]) == (-8, 1)
    assert header[15] == {1: "test.example/fire", 2: exported.record_id}
    assert unprotected.keys() == {396} and unprotected[396].keys() == {-1}
    (proof,) = unprotected[396][-1]
    size, index, path = cbor2.loads(proof)
    assert (index, size > index, {len(node) for node in path}) == (7, True, {32})
    envelope = cbor2.loads(exported.scitt).value
    assert cbor2.loads(envelope[0])[3] == "application/jwt"
    assert envelope[1].keys() == {394} and isinstance(envelope[1][394][0], bytes)
    assert envelope[2] == exported.statement


def root_in(receipt: bytes, entry: bytes) -> bytes:
    """The root that a receipt's proof leads to (RFC 9162 section 2.1.3.2, written down anew)."""
    protected, unprotected, payload, _ = cbor2.loads(receipt).value
    assert payload is None and cbor2.loads(protected)[395] == 1
    size, index, path = cbor2.loads(unprotected[396][-1][0])
    assert index < size
    node, fn, sn = hashlib.sha256(b"\0" + entry).digest(), index, size - 1
    for sibling in path:
        assert sn
        if fn & 1 or fn == sn:
            node = hashlib.sha256(b"\1" + sibling + node).digest()
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = hashlib.sha256(b"\1" + node + sibling).digest()
        fn, sn = fn >> 1, sn >> 1
    assert sn == 0
    return node


def from_the_rfcs(receipt: bytes, entry: bytes, key: bytes) -> None:
    """RFC 9942 section 5.2.1 and RFC 9052 section 4.4. Raises where it does not hold."""
    protected, _, _, signature = cbor2.loads(receipt).value
    signed = cbor2.dumps(["Signature1", protected, b"", root_in(receipt, entry)])
    Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)


def pem(key: bytes) -> bytes:
    return Ed25519PublicKey.from_public_bytes(key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def accepted_by_scitt_cose(receipt: bytes, entry: bytes, key: bytes) -> bool:
    return bool(verify_receipt(receipt, leaf_entry_hex=entry.hex(), log_public_key_pem=pem(key)).ok)


def accepted_from_the_rfcs(receipt: bytes, entry: bytes, key: bytes) -> bool:
    try:
        from_the_rfcs(receipt, entry, key)
    except (AssertionError, InvalidSignature, ValueError, TypeError, KeyError, IndexError):
        return False
    return True


JUDGES: dict[str, Callable[[bytes, bytes, bytes], bool]] = {
    "scitt-cose": accepted_by_scitt_cose,
    "the RFCs": accepted_from_the_rfcs,
}


def changed(receipt: bytes, change: Callable[[list[Any], list[Any]], None]) -> bytes:
    """The receipt with `change` done to [protected, unprotected, payload, signature] and [size, index, path]."""
    parts = list(cbor2.loads(receipt).value)
    proof = cbor2.loads(parts[1][396][-1][0])
    change(parts, proof)
    parts[1] = {396: {-1: [cbor2.dumps(proof)]}}
    return cbor2.dumps(cbor2.CBORTag(18, parts))


def put(values: list[Any], place: int, value: Any) -> None:
    values[place] = value


def flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


TAMPERED: dict[str, Callable[[list[Any], list[Any]], None]] = {
    "another place in the log": lambda parts, proof: put(proof, 1, 8),
    "a larger log": lambda parts, proof: put(proof, 0, proof[0] * 2),
    "a bit of the path": lambda parts, proof: put(proof[2], 0, flip(proof[2][0])),
    "a shorter path": lambda parts, proof: proof[2].pop(),
    "a bit of the signature": lambda parts, proof: put(parts, 3, flip(parts[3])),
    "another record named": lambda parts, proof: put(
        parts, 0, cbor2.dumps(cbor2.loads(parts[0]) | {15: {1: "test.example/fire", 2: "another"}})
    ),
}


@pytest.mark.parametrize("judge", JUDGES)
def test_a_receipt(exported: Exported, judge: str) -> None:
    accepts = JUDGES[judge]
    assert accepts(exported.receipt, exported.statement, exported.log_key)
    assert accepts(changed(exported.receipt, lambda *_: None), exported.statement, exported.log_key)
    assert not accepts(exported.receipt, exported.statement + b".", exported.log_key)
    assert not accepts(exported.receipt, exported.statement, exported.statement_key)


@pytest.mark.parametrize("case", TAMPERED)
@pytest.mark.parametrize("judge", JUDGES)
def test_a_tampered_receipt(exported: Exported, judge: str, case: str) -> None:
    tampered = changed(exported.receipt, TAMPERED[case])
    assert not JUDGES[judge](tampered, exported.statement, exported.log_key)


def test_cwt_verifies_the_signature_over_the_root(exported: Exported) -> None:
    root = root_in(exported.receipt, exported.statement)
    key = COSEKey.from_jwk(jwk(exported.log_key))
    assert COSE().decode(exported.receipt, key, detached_payload=root) == root
    with pytest.raises(Exception, match="verify"):
        COSE().decode(exported.receipt, key, detached_payload=flip(root))


def jwk(key: bytes) -> dict[str, Any]:
    from ledger.formats.jwk import from_public_key, kid_of

    public = Ed25519PublicKey.from_public_bytes(key)
    return from_public_key(public) | {"kid": kid_of(public), "alg": "EdDSA", "use": "sig", "key_ops": ["verify"]}


# --- transparent statements ---


def test_a_transparent_statement(exported: Exported) -> None:
    found = parse_signed_statement(exported.scitt, public_key_pem=pem(exported.statement_key))
    assert found["signature_verified"] is True
    assert (found["issuer"], found["subject"]) == ("test.example/fire", exported.record_id)
    assert found["payload"] == exported.statement
    (receipt,) = cbor2.loads(exported.scitt).value[1][394]
    assert accepted_by_scitt_cose(receipt, found["payload"], exported.log_key)


def test_a_tampered_statement(exported: Exported) -> None:
    parts = list(cbor2.loads(exported.scitt).value)
    for place in (0, 2, 3):
        bad = [*parts]
        bad[place] = flip(bad[place][::-1])[::-1]
        tampered = cbor2.dumps(cbor2.CBORTag(18, bad))
        found = parse_signed_statement(tampered, public_key_pem=pem(exported.statement_key))
        assert found["signature_verified"] is False


# --- what is not made ---


def test_only_a_proof_that_leads_to_the_root_is_signed(exported: Exported) -> None:
    entries = [b"one", b"two", b"three"]
    leaves = [leaf_hash(entry) for entry in entries]
    checkpoint = Checkpoint("test.example/fire", 3, root_of(leaves))
    path = (leaves[1], leaves[2])

    def refuse(_: bytes) -> bytes:
        raise AssertionError("nothing is signed")

    signer = Signer("kid", b"", refuse)
    proof = TlogProof(None, 0, path, b"test.example/fire\n3\n" + b"A" * 43 + b"=\n\n\xe2\x80\x94 x AAAAAAA=\n")
    with pytest.raises(InclusionInvalid):
        cose_receipt(b"other", proof, checkpoint, "x", signer)
    alone = Checkpoint("test.example/fire", 1, leaves[0])
    with pytest.raises(CouldNotRun):
        cose_receipt(b"one", TlogProof(None, 0, (), proof.checkpoint), alone, "x", signer)


def test_of_a_record_under_no_anchor_yet(built: Built, tmp_path: Path) -> None:
    node: Node = built.open(built.copy(tmp_path / "node"))
    receipt = export_receipt(node, built.records[SIZE - 1].record_id, "cose")
    assert cbor2.loads(cbor2.loads(receipt).value[1][396][-1][0])[:2] == [SIZE, SIZE - 1]
    node.close()
