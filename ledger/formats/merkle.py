"""The Merkle tree of RFC 9162 section 2.1 (the same tree as RFC 6962), SHA-256: hashes, roots and the two proof checks.

    MTH({})     = SHA-256()
    MTH({d})    = SHA-256(0x00 || d)
    MTH(D[0:n]) = SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n])),  k = the largest power of two below n

A leaf hash, a node and a root are each 32 bytes. The different first bytes keep an entry from passing for a node.
Making proofs is the matter of `tiles`; here they are only checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from ledger.errors import ConsistencyInvalid, InclusionInvalid

HASH_SIZE = 32
MAX_SIZE = 2**63 - 1
"""The largest tree: 63 nodes high."""

MAX_PATH = 64
"""The longest path in it: one of consistency, which can begin with a node of its own. Inclusion needs at most 63."""

EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """The leaf of `entry`, which may have any length."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The parent of two nodes of 32 bytes each; their lengths are not checked."""
    return sha256(b"\x01" + left + right).digest()


def parents(nodes: Sequence[bytes]) -> list[bytes]:
    """The row above `nodes`, which begin at an even place. An odd last node has no parent yet and is left out."""
    pairs = zip(nodes[::2], nodes[1::2], strict=False)
    return [sha256(b"\x01" + left + right).digest() for left, right in pairs]


def split(size: int) -> int:
    """How many of `size` >= 2 leaves stand under the root's left child: the largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over `leaf_hashes`, by the definition above. Holds and hashes everything: the reference, not the way."""
    if not leaf_hashes:
        return EMPTY_ROOT
    if len(leaf_hashes) == 1:
        return leaf_hashes[0]
    middle = split(len(leaf_hashes))
    return node_hash(root_of(leaf_hashes[:middle]), root_of(leaf_hashes[middle:]))


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Checks that the leaf hash `leaf` is number `index`, from 0, in the tree of `size` leaves with `root`.

    RFC 9162 section 2.1.3.2. `path` leads from the leaf's sibling up. Not checked: who says that this is the root of a
    tree of this size. One path can fit several sizes, so take `size` and `root` from the same checkpoint.
    Raises InclusionInvalid when `index` is not below `size`, `size` is above `MAX_SIZE`, a hash is not 32 bytes, the
    path is too short or too long, or it leads to another root.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise InclusionInvalid(f"There is no entry {index} in a tree of {size}; take the receipt of this entry.")
    if len(path) > MAX_PATH or any(len(value) != HASH_SIZE for value in (leaf, root, *path)):
        raise InclusionInvalid(
            "The inclusion path is not made of up to 64 hashes of 32 bytes; fetch the receipt again."
        )
    fn, sn, node = index, size - 1, leaf
    for sibling in path:
        if sn == 0:
            raise InclusionInvalid(f"The inclusion path is too long for a tree of {size}; fetch the receipt again.")
        if fn & 1 or fn == sn:
            node = node_hash(sibling, node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = node_hash(node, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise InclusionInvalid(f"The inclusion path is too short for a tree of {size}; fetch the receipt again.")
    if node != root:
        raise InclusionInvalid("The inclusion path leads to another root: this entry is not the one that was logged.")


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Checks that the tree of `new_size` leaves with `new_root` begins with the tree of `old_size` with `old_root`.

    RFC 9162 section 2.1.4.2. From the empty tree and between equal sizes the path is empty; the empty tree has the root
    `EMPTY_ROOT` and no other. Not checked: who says that these are the roots of trees of these sizes; take each size
    and its root from the same checkpoint.
    Raises ConsistencyInvalid when the new tree is the smaller one or above `MAX_SIZE`, a hash is not 32 bytes, the path
    is too short or too long, or it leads to another old or new root.
    """
    if not 0 <= old_size <= new_size <= MAX_SIZE:
        raise ConsistencyInvalid(f"A tree of {old_size} cannot have grown into one of {new_size}; ask the log why.")
    if len(path) > MAX_PATH or any(len(value) != HASH_SIZE for value in (old_root, new_root, *path)):
        raise ConsistencyInvalid("The consistency path is not made of up to 64 hashes of 32 bytes; fetch it again.")
    if old_size in (0, new_size):
        _check_trivial(old_size, old_root, new_size, new_root, path)
        return
    if not path:
        raise ConsistencyInvalid(f"There is no path from {old_size} to {new_size} leaves; fetch the consistency proof.")
    # a tree of a power of two is itself a node of the new one, and its root is not repeated in the path
    steps = list(path) if old_size & (old_size - 1) else [old_root, *path]
    fn, sn = old_size - 1, new_size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old_node = new_node = steps[0]
    for sibling in steps[1:]:
        if sn == 0:
            raise ConsistencyInvalid(f"The path from {old_size} to {new_size} leaves is too long; fetch it again.")
        if fn & 1 or fn == sn:
            old_node, new_node = node_hash(sibling, old_node), node_hash(sibling, new_node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new_node = node_hash(new_node, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise ConsistencyInvalid(f"The path from {old_size} to {new_size} leaves is too short; fetch it again.")
    if old_node != old_root or new_node != new_root:
        raise ConsistencyInvalid(f"The first {old_size} entries are not those signed before: the log was rewritten.")


def _check_trivial(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]) -> None:
    if path:
        raise ConsistencyInvalid(
            f"From {old_size} to {new_size} leaves there is nothing to prove; leave the path empty."
        )
    if old_size == new_size and old_root != new_root:
        raise ConsistencyInvalid(f"Two roots for the same {new_size} entries: the log was rewritten.")
    if old_size == 0 and old_root != EMPTY_ROOT:
        raise ConsistencyInvalid("The empty tree has one root, the SHA-256 of nothing; this is another.")
