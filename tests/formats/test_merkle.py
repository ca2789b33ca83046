"""RFC 9162 section 2.1: published vectors, every proof of every small tree, and what must be refused."""

import json
from base64 import b64decode
from hashlib import sha256
from pathlib import Path

import pytest

from ledger.errors import ConsistencyInvalid, InclusionInvalid
from ledger.formats.merkle import (
    EMPTY_ROOT,
    MAX_SIZE,
    leaf_hash,
    node_hash,
    parents,
    root_of,
    split,
    verify_consistency,
    verify_inclusion,
)

VECTORS = Path(__file__).parent.parent / "vectors"

# The eight entries, and the roots over the first 0 to 8 of them, that Certificate Transparency's implementations have
# shared since RFC 6962 (github.com/transparency-dev/merkle, testonly/constants.go, Apache-2.0).
ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

LEAVES = [leaf_hash(b"entry %d" % number) for number in range(40)]


def path_of(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 9162 section 2.1.3.1, by its definition."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*path_of(index, leaves[:k]), root_of(leaves[k:])]
    return [*path_of(index - k, leaves[k:]), root_of(leaves[:k])]


def proof_of(old_size: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 9162 section 2.1.4.1, by its definition."""
    if old_size == len(leaves):
        return [] if whole else [root_of(leaves)]
    k = split(len(leaves))
    if old_size <= k:
        return [*proof_of(old_size, leaves[:k], whole), root_of(leaves[k:])]
    return [*proof_of(old_size - k, leaves[k:], False), root_of(leaves[:k])]


def probes(kind: str):
    vectors = json.loads((VECTORS / f"rfc6962_{kind}.json").read_text("utf-8"))["probes"]
    return [pytest.param(probe, id=name) for name, probe in vectors.items()]


# -- hashes and roots --


@pytest.mark.parametrize("size", range(9))
def test_published_root(size):
    assert root_of([leaf_hash(entry) for entry in ENTRIES[:size]]).hex() == ROOTS[size]


def test_hashes_are_prefixed_sha256():
    assert leaf_hash(b"entry") == sha256(b"\x00entry").digest()
    assert node_hash(LEAVES[0], LEAVES[1]) == sha256(b"\x01" + LEAVES[0] + LEAVES[1]).digest()
    assert sha256().digest() == EMPTY_ROOT


def test_an_entry_cannot_pass_for_a_node():
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != node_hash(LEAVES[0], LEAVES[1])


def test_parents_leave_an_odd_last_node_out():
    assert parents(LEAVES[:5]) == [node_hash(LEAVES[0], LEAVES[1]), node_hash(LEAVES[2], LEAVES[3])]
    assert parents(LEAVES[:1]) == parents([]) == []


@pytest.mark.parametrize(("size", "left"), [(2, 1), (3, 2), (4, 2), (5, 4), (256, 128), (257, 256), (MAX_SIZE, 2**62)])
def test_split(size, left):
    assert split(size) == left


# -- published proofs --


@pytest.mark.parametrize("probe", probes("inclusion"))
def test_published_inclusion(probe):
    path = [b64decode(value) for value in probe["proof"] or ()]
    leaf, root = b64decode(probe["leafHash"] or ""), b64decode(probe["root"] or "")
    if probe["wantErr"]:
        with pytest.raises(InclusionInvalid):
            verify_inclusion(leaf, probe["leafIdx"], probe["treeSize"], path, root)
    else:
        verify_inclusion(leaf, probe["leafIdx"], probe["treeSize"], path, root)


@pytest.mark.parametrize("probe", probes("consistency"))
def test_published_consistency(probe):
    path = [b64decode(value) for value in probe["proof"] or ()]
    roots = b64decode(probe["root1"] or ""), b64decode(probe["root2"] or "")
    # stricter than the vectors' origin in one thing: a root that is not a SHA-256 hash is refused, even beside itself
    if probe["wantErr"] or {len(root) for root in roots} != {32}:
        with pytest.raises(ConsistencyInvalid):
            verify_consistency(probe["size1"], roots[0], probe["size2"], roots[1], path)
    else:
        verify_consistency(probe["size1"], roots[0], probe["size2"], roots[1], path)


# -- every proof of every small tree --


@pytest.mark.parametrize("size", range(1, len(LEAVES) + 1))
def test_every_inclusion(size):
    leaves = LEAVES[:size]
    root = root_of(leaves)
    for index in range(size):
        path = path_of(index, leaves)
        verify_inclusion(leaves[index], index, size, path, root)
        for other in range(size):
            if other != index:
                with pytest.raises(InclusionInvalid):
                    verify_inclusion(leaves[index], other, size, path, root)


@pytest.mark.parametrize("size", range(1, len(LEAVES) + 1))
def test_every_consistency(size):
    roots = [root_of(LEAVES[:count]) for count in range(size + 1)]
    for old_size in range(size + 1):
        path = proof_of(old_size, LEAVES[:size]) if old_size else []
        verify_consistency(old_size, roots[old_size], size, roots[size], path)
        for other in range(size + 1):
            if other != old_size:
                with pytest.raises(ConsistencyInvalid):
                    verify_consistency(old_size, roots[other], size, roots[size], path)


def test_the_largest_tree_verifies_and_the_next_does_not():
    root = leaf = LEAVES[0]
    path = (LEAVES * 2)[1:64]
    for sibling in path:
        root = node_hash(root, sibling)
    verify_inclusion(leaf, 0, MAX_SIZE, path, root)
    verify_consistency(1, leaf, MAX_SIZE, root, path)
    with pytest.raises(InclusionInvalid, match="no entry"):
        verify_inclusion(leaf, 0, MAX_SIZE + 1, path, root)
    with pytest.raises(ConsistencyInvalid, match="cannot have grown"):
        verify_consistency(1, leaf, MAX_SIZE + 1, root, path)


def test_only_the_checkpoint_binds_the_size():
    # the first leaf's path has the same form in all trees of 5 to 8 leaves: not a flaw, but a reason for the docstring
    path, root = path_of(0, LEAVES[:8]), root_of(LEAVES[:8])
    for size in (5, 6, 7, 8):
        verify_inclusion(LEAVES[0], 0, size, path, root)
    for size in (4, 9):
        with pytest.raises(InclusionInvalid):
            verify_inclusion(LEAVES[0], 0, size, path, root)


# -- what must be refused --

SIZE, INDEX = 7, 4
ROOT, PATH = root_of(LEAVES[:SIZE]), path_of(INDEX, LEAVES[:SIZE])

BAD_INCLUSION = {
    "index equal to the size": (LEAVES[INDEX], SIZE, SIZE, PATH, ROOT),
    "negative index": (LEAVES[INDEX], -1, SIZE, PATH, ROOT),
    "empty tree": (LEAVES[INDEX], 0, 0, [], EMPTY_ROOT),
    "the neighbour's leaf": (LEAVES[INDEX + 1], INDEX, SIZE, PATH, ROOT),
    "the entry instead of its hash": (b"entry 4", INDEX, SIZE, PATH, ROOT),
    "no path": (LEAVES[INDEX], INDEX, SIZE, [], ROOT),
    "path without its last hash": (LEAVES[INDEX], INDEX, SIZE, PATH[:-1], ROOT),
    "path with the root on top": (LEAVES[INDEX], INDEX, SIZE, [*PATH, ROOT], ROOT),
    "path upside down": (LEAVES[INDEX], INDEX, SIZE, PATH[::-1], ROOT),
    "path with a short hash": (LEAVES[INDEX], INDEX, SIZE, [*PATH[:-1], PATH[-1][:31]], ROOT),
    "two hashes run together": (LEAVES[INDEX], INDEX, SIZE, [PATH[0] + PATH[1], *PATH[2:]], ROOT),
    "a path of 65 hashes": (LEAVES[INDEX], INDEX, SIZE, [ROOT] * 65, ROOT),
    "root of the tree before": (LEAVES[INDEX], INDEX, SIZE, PATH, root_of(LEAVES[: SIZE - 1])),
    "empty root": (LEAVES[INDEX], INDEX, SIZE, PATH, b""),
    "an inner node as leaf, its path cut to match": (node_hash(LEAVES[4], LEAVES[5]), INDEX, SIZE, PATH[1:], ROOT),
}


@pytest.mark.parametrize("arguments", BAD_INCLUSION.values(), ids=BAD_INCLUSION.keys())
def test_inclusion_refused(arguments):
    verify_inclusion(LEAVES[INDEX], INDEX, SIZE, PATH, ROOT)
    with pytest.raises(InclusionInvalid):
        verify_inclusion(*arguments)


def test_no_forged_leaf_by_cutting_a_node_elsewhere():
    # the parent hashes leaf and sibling run together: a byte moved from one to the other leaves it as it is
    path = [PATH[0][1:], *PATH[1:]]
    with pytest.raises(InclusionInvalid, match="32 bytes"):
        verify_inclusion(LEAVES[INDEX] + PATH[0][:1], INDEX, SIZE, path, ROOT)


def test_no_path_goes_beyond_its_root():
    above = node_hash(LEAVES[20], ROOT)
    with pytest.raises(InclusionInvalid, match="too long"):
        verify_inclusion(LEAVES[INDEX], INDEX, SIZE, [*PATH, LEAVES[20]], above)
    old_above, new_above = node_hash(LEAVES[20], OLD_ROOT), node_hash(LEAVES[20], NEW_ROOT)
    with pytest.raises(ConsistencyInvalid, match="too long"):
        verify_consistency(6, old_above, 11, new_above, [*PROOF, LEAVES[20]])


def test_long_paths_are_not_hashed():
    with pytest.raises(InclusionInvalid, match="up to 64"):
        verify_inclusion(LEAVES[INDEX], INDEX, SIZE, [ROOT] * 65, ROOT)
    with pytest.raises(ConsistencyInvalid, match="up to 64"):
        verify_consistency(6, OLD_ROOT, 11, NEW_ROOT, [ROOT] * 65)


OLD_ROOT, NEW_ROOT, PROOF = root_of(LEAVES[:6]), root_of(LEAVES[:11]), proof_of(6, LEAVES[:11])
FORKED_ROOT = root_of([*LEAVES[:5], LEAVES[20]])

BAD_CONSISTENCY = {
    "a smaller tree after a larger": (11, NEW_ROOT, 6, OLD_ROOT, PROOF),
    "negative size": (-1, EMPTY_ROOT, 11, NEW_ROOT, []),
    "one entry rewritten": (6, FORKED_ROOT, 11, NEW_ROOT, PROOF),
    "another new root": (6, OLD_ROOT, 11, FORKED_ROOT, PROOF),
    "roots exchanged": (6, NEW_ROOT, 11, OLD_ROOT, PROOF),
    "no path": (6, OLD_ROOT, 11, NEW_ROOT, []),
    "no path from a power of two": (8, root_of(LEAVES[:8]), 11, NEW_ROOT, []),
    "path without its last hash": (6, OLD_ROOT, 11, NEW_ROOT, PROOF[:-1]),
    "path without its first hash": (6, OLD_ROOT, 11, NEW_ROOT, PROOF[1:]),
    "path with a hash more": (6, OLD_ROOT, 11, NEW_ROOT, [*PROOF, NEW_ROOT]),
    "path with a short hash": (6, OLD_ROOT, 11, NEW_ROOT, [*PROOF[:-1], PROOF[-1][:31]]),
    "a path of 65 hashes": (6, OLD_ROOT, 11, NEW_ROOT, [NEW_ROOT] * 65),
    "old root that is no hash": (6, b"", 11, NEW_ROOT, PROOF),
    "same size, other root": (6, OLD_ROOT, 6, FORKED_ROOT, []),
    "same size with a path": (6, OLD_ROOT, 6, OLD_ROOT, PROOF),
    "empty tree with a path": (0, EMPTY_ROOT, 11, NEW_ROOT, PROOF),
    "empty tree with a root of its own": (0, bytes(32), 11, NEW_ROOT, []),
    "two empty trees with a root of their own": (0, bytes(32), 0, bytes(32), []),
}


@pytest.mark.parametrize("arguments", BAD_CONSISTENCY.values(), ids=BAD_CONSISTENCY.keys())
def test_consistency_refused(arguments):
    verify_consistency(6, OLD_ROOT, 11, NEW_ROOT, PROOF)
    with pytest.raises(ConsistencyInvalid):
        verify_consistency(*arguments)


def test_the_empty_tree_is_consistent_with_all():
    verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    verify_consistency(0, EMPTY_ROOT, 11, NEW_ROOT, [])
