"""Proofs in a Merkle-Patricia trie (Ethereum yellow paper, appendix D): that a root holds a value under a key.

    node      = branch | extension | leaf                   as RLP lists
    branch    = [child × 16, value]                         one child for each next nibble of the key
    extension = [path, child]                               a stretch of the key that all below share
    leaf      = [path, value]                               the rest of the key
    path      = nibbles, two a byte, after a first nibble of flags: 1 odd number of nibbles, 2 leaf
    child     = Keccak-256 of a node of 32 bytes or more | the node itself, if shorter | empty

A proof is the nodes from the root to the value, without those that stand inside others: what `eth_getProof` returns.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.errors import AnchorInvalid, Malformed
from ledger.formats import rlp
from ledger.formats.keccak import keccak256

HASH_SIZE = 32
MAX_NODES = 64
"""As many as a key of 32 bytes can need."""

_ODD, _LEAF = 1, 2
_WHAT = "trie proof"


def proven_value(root: bytes, key: bytes, nodes: Sequence[bytes]) -> bytes:
    """The value, never empty, that the trie with `root` (32 bytes) holds under `key`.

    `nodes`: RLP, from the root on, all of them needed. Raises AnchorInvalid where a node is not the one that the node
    above it names, or the trie has no such key; Malformed for nodes that no trie has, and for nodes left over.
    """
    if len(nodes) > MAX_NODES:
        raise Malformed(_WHAT, f"has more than {MAX_NODES} nodes")
    rest: list[int] | None = _nibbles(key)
    found: rlp.Item = root
    used = 0
    while rest is not None:
        if isinstance(found, bytes):
            found = _named(found, nodes, used)
            used += 1
        rest, found = _step(rlp.items(found, _WHAT, 2, 17), rest)
    if used != len(nodes):
        raise Malformed(_WHAT, "has nodes that lead nowhere")
    return rlp.string(found, _WHAT)


def _named(digest: bytes, nodes: Sequence[bytes], used: int) -> rlp.Item:
    if used == len(nodes):
        raise AnchorInvalid("The trie proof ends before it reaches the value; fetch the evidence again.")
    if keccak256(nodes[used]) != digest:
        raise AnchorInvalid(f"Node {used + 1} of the trie proof is not the one that the trie has there.")
    return rlp.decode(nodes[used], _WHAT)


def _step(node: tuple[rlp.Item, ...], path: list[int]) -> tuple[list[int] | None, rlp.Item]:
    """(the rest of the path, the child to follow), or (None, the value)."""
    if len(node) == 17:
        if not path:
            return None, _value(node[16])
        return path[1:], _child(node[path[0]])
    shared, is_leaf = _shared(node[0])
    if path[: len(shared)] != shared:
        raise _absent()
    rest = path[len(shared) :]
    if not is_leaf:
        return rest, _child(node[1])
    if rest:
        raise _absent()
    return None, _value(node[1])


def _shared(item: rlp.Item) -> tuple[list[int], bool]:
    flags, *nibbles = _nibbles(rlp.string(item, _WHAT)) or [0xF]
    if flags & ~(_ODD | _LEAF) or (not flags & _ODD and nibbles.pop(0) != 0):
        raise Malformed(_WHAT, "has a path with flags that do not exist")
    if not flags & _LEAF and not nibbles:
        raise Malformed(_WHAT, "has an extension that extends nothing")
    return nibbles, bool(flags & _LEAF)


def _child(item: rlp.Item) -> rlp.Item:
    if item == b"":
        raise _absent()
    if isinstance(item, bytes):
        return rlp.string(item, _WHAT, HASH_SIZE)
    if len(rlp.encode(item)) >= HASH_SIZE:
        raise Malformed(_WHAT, "holds a node of 32 bytes or more inside another, where its hash belongs")
    return item


def _value(item: rlp.Item) -> bytes:
    value = rlp.string(item, _WHAT)
    if not value:
        raise _absent()
    return value


def _nibbles(data: bytes) -> list[int]:
    return [nibble for byte in data for nibble in (byte >> 4, byte & 0xF)]


def _absent() -> AnchorInvalid:
    return AnchorInvalid("The trie does not hold what the proof is said to lead to.")
