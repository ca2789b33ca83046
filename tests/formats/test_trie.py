"""Merkle-Patricia proofs, made by py-trie, checked here: the value comes out, and nothing else ever does."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import rlp as pyrlp
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st
from trie import HexaryTrie

from ledger.errors import AnchorInvalid, Malformed, Refusal
from ledger.formats import rlp
from ledger.formats.trie import MAX_NODES, proven_value

Proof = tuple[bytes, bytes, list[bytes]]
"""Root, key, nodes."""


def trie_of(values: Mapping[bytes, bytes]) -> HexaryTrie:
    made = HexaryTrie({})
    for key, value in values.items():
        made[key] = value
    return made


def proof_of(values: Mapping[bytes, bytes], key: bytes) -> Proof:
    made = trie_of(values)
    nodes = [pyrlp.encode(node) for node in made.get_proof(key)]
    return made.root_hash, key, [node for n, node in enumerate(nodes) if n == 0 or len(node) >= 32]


SIZES = {"one": 1, "two": 2, "a branch": 16, "a branch and one": 17, "one byte of index": 128, "and one": 129}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("length", [1, 300], ids=["values inside nodes", "values of their own"])
def test_every_entry_of_tries_as_blocks_have_them(size: int, length: int) -> None:
    values = {rlp.encode(rlp.from_int(n)): (n + 1).to_bytes(2, "big") * length for n in range(size)}
    for key, value in values.items():
        assert proven_value(*proof_of(values, key)) == value


TRIES = st.dictionaries(st.binary(min_size=1, max_size=5), st.binary(min_size=1, max_size=60), min_size=1, max_size=40)


@settings(deadline=None)
@given(TRIES, st.data())
def test_any_trie(values: dict[bytes, bytes], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(values)))
    assert proven_value(*proof_of(values, key)) == values[key]


@settings(deadline=None)
@given(TRIES, st.data())
def test_a_flipped_bit_is_refused(values: dict[bytes, bytes], data: st.DataObject) -> None:
    root, key, nodes = proof_of(values, data.draw(st.sampled_from(sorted(values))))
    joined = bytearray(root + b"".join(nodes))
    bit = data.draw(st.integers(0, len(joined) * 8 - 1))
    joined[bit // 8] ^= 1 << bit % 8
    rest = memoryview(joined)[len(root) :]
    changed = []
    for node in nodes:
        changed.append(bytes(rest[: len(node)]))
        rest = rest[len(node) :]
    with pytest.raises(Refusal):
        proven_value(bytes(joined[: len(root)]), key, changed)


@settings(deadline=None)
@given(TRIES, st.binary(max_size=6))
def test_a_key_that_is_not_there_is_never_proven(values: dict[bytes, bytes], key: bytes) -> None:
    # py-trie gives the nodes that show its absence; they must not pass for a proof of presence
    if key not in values:
        with pytest.raises(Refusal):
            proven_value(*proof_of(values, key))


# --- by name ---

VALUES = {rlp.encode(rlp.from_int(n)): bytes([n]) * 40 for n in range(20)}
KEY = rlp.encode(rlp.from_int(17))


def other_key() -> Proof:
    root, _, nodes = proof_of(VALUES, KEY)
    return root, rlp.encode(rlp.from_int(18)), nodes


def absent_key() -> Proof:
    return proof_of(VALUES, rlp.encode(rlp.from_int(20)))


def longer_key() -> Proof:
    root, key, nodes = proof_of(VALUES, KEY)
    return root, key + b"\x00", nodes


def shorter_key() -> Proof:
    root, _, nodes = proof_of({b"ab": b"x" * 40, b"abcd": b"y" * 40}, b"abcd")
    return root, b"a", nodes


def other_root() -> Proof:
    _, key, nodes = proof_of(VALUES, KEY)
    return bytes(32), key, nodes


def last_node_missing() -> Proof:
    root, key, nodes = proof_of(VALUES, KEY)
    return root, key, nodes[:-1]


def first_node_missing() -> Proof:
    root, key, nodes = proof_of(VALUES, KEY)
    return root, key, nodes[1:]


def no_nodes() -> Proof:
    root, key, _ = proof_of(VALUES, KEY)
    return root, key, []


def nodes_in_another_order() -> Proof:
    root, key, nodes = proof_of(VALUES, KEY)
    return root, key, nodes[::-1]


def node_left_over() -> Proof:
    root, key, nodes = proof_of(VALUES, KEY)
    return root, key, [*nodes, nodes[-1]]


def empty_trie() -> Proof:
    return HexaryTrie({}).root_hash, KEY, [b"\x80"]


def forged(node: rlp.Item, key: bytes = b"\x80") -> Proof:
    """A root that somebody made up, with a node that no trie has."""
    encoded = rlp.encode(node)
    return keccak(encoded), key, [encoded]


def leaf_with_flags_that_do_not_exist() -> Proof:
    return forged((b"\x40\x80", b"value"))


def leaf_with_half_a_byte_of_padding() -> Proof:
    return forged((b"\x21\x80", b"value"))


def leaf_without_a_path() -> Proof:
    return forged((b"", b"value"))


def leaf_without_a_value() -> Proof:
    return forged((b"\x20\x80", b""))


def leaf_whose_value_is_a_list() -> Proof:
    return forged((b"\x20\x80", (b"value",)))


def extension_that_extends_nothing() -> Proof:
    return forged((b"\x00", (b"\x20\x80", b"value")))


def extensions_beyond_the_end_of_the_key() -> Proof:
    node: rlp.Item = (b"\x20", b"v")
    for _ in range(3):
        node = (b"\x11", node)
    return forged(node, b"\x80")


def child_of_31_bytes() -> Proof:
    return forged((b"\x00\x80", b"x" * 31))


def child_of_33_bytes() -> Proof:
    return forged((b"\x00\x80", b"x" * 33))


def long_node_inside_another() -> Proof:
    return forged((b"\x18", (b"\x30", b"v" * 40)))


def branch_of_16() -> Proof:
    return forged((b"",) * 16)


def branch_of_18() -> Proof:
    return forged((b"",) * 18)


def node_of_three() -> Proof:
    return forged((b"\x20\x80", b"value", b""))


def node_that_is_a_string() -> Proof:
    return forged(b"value")


def node_that_is_no_rlp() -> Proof:
    return keccak(b"\xc8\x01"), KEY, [b"\xc8\x01"]


def node_with_trailing_bytes() -> Proof:
    data = rlp.encode((b"\x20\x80", b"value")) + b"\x00"
    return keccak(data), b"\x80", [data]


def branch_with_a_value_that_is_a_list() -> Proof:
    return forged((*(b"",) * 16, (b"v",)), b"")


def more_nodes_than_any_key_needs() -> Proof:
    root, key, nodes = proof_of(VALUES, KEY)
    return root, key, nodes * MAX_NODES


REFUSED: dict[Callable[[], Proof], type[Refusal]] = {
    other_key: AnchorInvalid,
    absent_key: AnchorInvalid,
    longer_key: AnchorInvalid,
    shorter_key: AnchorInvalid,
    other_root: AnchorInvalid,
    last_node_missing: AnchorInvalid,
    first_node_missing: AnchorInvalid,
    no_nodes: AnchorInvalid,
    nodes_in_another_order: AnchorInvalid,
    node_left_over: Malformed,
    empty_trie: Malformed,
    leaf_with_flags_that_do_not_exist: Malformed,
    leaf_with_half_a_byte_of_padding: Malformed,
    leaf_without_a_path: Malformed,
    leaf_without_a_value: AnchorInvalid,
    leaf_whose_value_is_a_list: Malformed,
    extension_that_extends_nothing: Malformed,
    extensions_beyond_the_end_of_the_key: AnchorInvalid,
    child_of_31_bytes: Malformed,
    child_of_33_bytes: Malformed,
    long_node_inside_another: Malformed,
    branch_of_16: Malformed,
    branch_of_18: Malformed,
    node_of_three: Malformed,
    node_that_is_a_string: Malformed,
    node_that_is_no_rlp: Malformed,
    node_with_trailing_bytes: Malformed,
    branch_with_a_value_that_is_a_list: Malformed,
    more_nodes_than_any_key_needs: Malformed,
}


@pytest.mark.parametrize("made", REFUSED, ids=lambda made: made.__name__)
def test_refused(made: Callable[[], Proof]) -> None:
    with pytest.raises(Refusal) as refused:
        proven_value(*made())
    assert type(refused.value) is REFUSED[made]


def test_the_forged_nodes_differ_from_good_ones_in_one_point() -> None:
    assert proven_value(*forged((b"\x20\x80", b"value"))) == b"value"
    assert proven_value(*forged((b"\x18", (b"\x30", b"value")))) == b"value"
    assert proven_value(*forged((*(b"",) * 16, b"value"), b"")) == b"value"
