"""Properties of the log's formats: one changed bit is refused, by the right error; what parses has one form only."""

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pytest import raises

from ledger.errors import CheckpointInvalid, ConsistencyInvalid, InclusionInvalid, Malformed, SignatureInvalid
from ledger.formats.checkpoint import Checkpoint, add_signatures, open_checkpoint, sign_checkpoint
from ledger.formats.cosignature import cosign, verify_cosignature
from ledger.formats.merkle import leaf_hash, root_of, verify_consistency, verify_inclusion
from ledger.formats.note import COSIGNATURE_ED25519, ED25519, Note, VerifierKey
from ledger.formats.tiles import (
    Edge,
    TileAddress,
    TreeView,
    decode_bundle,
    encode_bundle,
    entries_path,
    parse_tile_path,
    tile_path,
)
from ledger.formats.tlogproof import TlogProof

LARGEST = 1_000
LEAVES = [leaf_hash(number.to_bytes(4, "big")) for number in range(LARGEST)]


class MemoryTiles:
    def __init__(self) -> None:
        self.tiles = {(tile.level, tile.index): tile.data for tile in Edge().append(LEAVES)}

    def tile(self, level: int, index: int, width: int) -> bytes:
        return self.tiles[level, index][: 32 * width]


TILES = MemoryTiles()

ORIGIN = "yunxi.example/fire"
LOG = Ed25519PrivateKey.from_private_bytes(b"l" * 32)
LOG_PUBLIC = LOG.public_key().public_bytes_raw()
LOG_KEY = VerifierKey.of(ORIGIN, ED25519, LOG_PUBLIC)
WITNESS = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
WITNESS_PUBLIC = WITNESS.public_key().public_bytes_raw()
WITNESS_KEY = VerifierKey.of("court.example", COSIGNATURE_ED25519, WITNESS_PUBLIC)

SIZE, INDEX, TIME = 700, 300, 1_679_315_147
NOTE = sign_checkpoint(ORIGIN, SIZE, root_of(LEAVES[:SIZE]), LOG_PUBLIC, LOG.sign)
WITNESS_LINE = cosign(Note.parse(NOTE).text, TIME, WITNESS_KEY.name, WITNESS_PUBLIC, WITNESS.sign)
COSIGNED = add_signatures(NOTE, [WITNESS_LINE])
PROOF = TlogProof(b'{"anchor":{}}', INDEX, tuple(TreeView(SIZE, TILES).inclusion_path(INDEX)), NOTE)
RECEIPT = PROOF.serialize()

SIZES = st.integers(1, LARGEST)
BITS = st.integers(0, 2**20)
FAR_BITS = st.integers(0, 70)


def flipped(data: bytes, bit: int) -> bytes:
    place, within = divmod(bit % (8 * len(data)), 8)
    return data[:place] + bytes([data[place] ^ (1 << within)]) + data[place + 1 :]


def flipped_path(path: list[bytes], bit: int) -> list[bytes]:
    joined = flipped(b"".join(path), bit)
    return [joined[start : start + 32] for start in range(0, len(joined), 32)]


def flips_of(data: bytes) -> st.SearchStrategy[bytes]:
    return st.integers(0, 8 * len(data) - 1).map(lambda bit: flipped(data, bit))


def mutations_of(data: bytes) -> st.SearchStrategy[bytes]:
    """Near misses: a slice of the data replaced by another slice of it, or by a few bytes."""
    place = st.integers(0, len(data))
    filler = st.one_of(
        st.binary(max_size=4),
        st.sampled_from([b"\n", b"\n\n", b" ", b"=", b"+", b"0", b"A", b"extra AA==\n", b"x000/", b".p/0"]),
        st.tuples(place, place).map(lambda ends: data[min(ends) : max(ends)]),
    )
    return st.tuples(place, st.integers(0, 8), filler).map(
        lambda cut: data[: cut[0]] + cut[2] + data[cut[0] + cut[1] :]
    )


# -- trees --


@st.composite
def inclusions(draw: Callable) -> tuple[int, int]:
    size = draw(SIZES)
    return draw(st.integers(0, size - 1)), size


@st.composite
def growths(draw: Callable) -> tuple[int, int]:
    size = draw(st.integers(2, LARGEST))
    return draw(st.integers(1, size - 1)), size


@given(st.lists(st.integers(0, 300), max_size=8))
@example([255, 1, 1])
@example([256, 0, 257])
@settings(deadline=None)
def test_batches_make_no_difference(batches):
    edge, tiles = Edge(), {}
    for batch in batches:
        batch = min(batch, LARGEST - edge.size)
        reloaded = Edge.load(edge.size, edge.tiles)
        leaves = LEAVES[edge.size : edge.size + batch]
        writes = edge.append(leaves)
        assert reloaded.append(leaves) == writes
        assert all(tiles.get((tile.level, tile.index), b"") != tile.data for tile in writes)
        assert len({(tile.level, tile.index) for tile in writes}) == len(writes)
        tiles |= {(tile.level, tile.index): tile.data for tile in writes}
    assert edge.root() == root_of(LEAVES[: edge.size])
    assert tiles == {(tile.level, tile.index): tile.data for tile in Edge().append(LEAVES[: edge.size])}


@given(inclusions(), BITS, BITS, BITS)
@settings(deadline=None)
def test_inclusion_bits(place, leaf_bit, path_bit, root_bit):
    index, size = place
    leaf, root = LEAVES[index], root_of(LEAVES[:size])
    path = TreeView(size, TILES).inclusion_path(index)
    verify_inclusion(leaf, index, size, path, root)
    with raises(InclusionInvalid):
        verify_inclusion(flipped(leaf, leaf_bit), index, size, path, root)
    with raises(InclusionInvalid):
        verify_inclusion(leaf, index, size, path, flipped(root, root_bit))
    if path:
        with raises(InclusionInvalid):
            verify_inclusion(leaf, index, size, flipped_path(path, path_bit), root)


@given(inclusions(), FAR_BITS)
@settings(deadline=None)
def test_inclusion_index_bits(place, bit):
    index, size = place
    path, root = TreeView(size, TILES).inclusion_path(index), root_of(LEAVES[:size])
    with raises(InclusionInvalid):
        verify_inclusion(LEAVES[index], index ^ (1 << bit), size, path, root)


@given(inclusions(), FAR_BITS)
@settings(deadline=None)
def test_inclusion_size_bits(place, bit):
    # a path can have the same form in trees of several sizes; where it has another, the size is refused too
    index, size = place
    other = size ^ (1 << bit)
    assume(other >= 2**63 or turns(index, other) != turns(index, size))
    path, root = TreeView(size, TILES).inclusion_path(index), root_of(LEAVES[:size])
    with raises(InclusionInvalid):
        verify_inclusion(LEAVES[index], index, other, path, root)


def turns(index: int, size: int) -> list[bool] | None:
    """On which side the siblings of leaf `index` stand, from the root down; None where there is no such leaf."""
    if index >= size:
        return None
    sides = []
    while size > 1:
        left = 1 << ((size - 1).bit_length() - 1)
        sides.append(index < left)
        index, size = (index, left) if index < left else (index - left, size - left)
    return sides


@given(growths(), BITS, BITS, BITS)
@settings(deadline=None)
def test_consistency_bits(sizes, old_bit, new_bit, path_bit):
    old_size, new_size = sizes
    old_root, new_root = root_of(LEAVES[:old_size]), root_of(LEAVES[:new_size])
    path = TreeView(new_size, TILES).consistency_path(old_size)
    verify_consistency(old_size, old_root, new_size, new_root, path)
    for changed in (
        (flipped(old_root, old_bit), new_root, path),
        (old_root, flipped(new_root, new_bit), path),
        (old_root, new_root, flipped_path(path, path_bit)),
    ):
        with raises(ConsistencyInvalid):
            verify_consistency(old_size, changed[0], new_size, changed[1], changed[2])


@given(growths(), st.integers(0, LARGEST - 1), BITS)
@settings(deadline=None)
def test_no_rewritten_entry_is_consistent(sizes, place, bit):
    old_size, new_size = sizes
    place %= old_size
    rewritten = [*LEAVES[:place], flipped(LEAVES[place], bit), *LEAVES[place + 1 : new_size]]
    path = TreeView(new_size, TILES).consistency_path(old_size)
    with raises(ConsistencyInvalid):
        verify_consistency(old_size, root_of(rewritten[:old_size]), new_size, root_of(LEAVES[:new_size]), path)
    with raises(ConsistencyInvalid):
        verify_consistency(old_size, root_of(LEAVES[:old_size]), new_size, root_of(rewritten), path)


# -- one bit of a signed artefact --


@given(flips_of(NOTE))
@settings(deadline=None, max_examples=300)
def test_checkpoint_bits(note):
    with raises((Malformed, CheckpointInvalid)):
        open_checkpoint(note, LOG_KEY)


@given(flips_of(COSIGNED))
@settings(deadline=None, max_examples=300)
def test_cosignature_bits(note):
    # a flip in name or key id makes it the line of another witness; one in the log's line is not the witness's matter
    try:
        time = verify_cosignature(note, WITNESS_KEY)
    except (Malformed, SignatureInvalid):
        return
    assert time is None or note.endswith(WITNESS_LINE)
    assert Note.parse(note).text == Note.parse(COSIGNED).text


@given(flips_of(RECEIPT))
@settings(deadline=None, max_examples=400)
def test_receipt_bits(data):
    try:
        proof = TlogProof.parse(data)
    except Malformed:
        return
    if proof.extra != PROOF.extra:  # only a hint, and not signed
        assert (proof.index, proof.path, proof.checkpoint) == (PROOF.index, PROOF.path, PROOF.checkpoint)
        return
    with raises((Malformed, CheckpointInvalid, InclusionInvalid)):
        checkpoint = open_checkpoint(proof.checkpoint, LOG_KEY)
        verify_inclusion(LEAVES[INDEX], proof.index, checkpoint.size, proof.path, checkpoint.root)


# -- what parses has one form --


@given(st.one_of(mutations_of(COSIGNED), flips_of(COSIGNED), st.binary(max_size=200)))
@settings(deadline=None, max_examples=300)
def test_notes_are_canonical(data):
    try:
        note = Note.parse(data)
    except Malformed:
        return
    assert note.serialize() == data


@given(st.one_of(mutations_of(Note.parse(NOTE).text), st.binary(max_size=100)))
@settings(deadline=None, max_examples=300)
def test_checkpoint_texts_are_canonical(data):
    try:
        checkpoint = Checkpoint.parse(data)
    except Malformed:
        return
    assert checkpoint.text == data


@given(st.one_of(mutations_of(RECEIPT), flips_of(RECEIPT), st.binary(max_size=200)))
@settings(deadline=None, max_examples=300)
def test_proofs_are_canonical(data):
    try:
        proof = TlogProof.parse(data)
    except Malformed:
        return
    assert proof.serialize() == data


@given(mutations_of(str(LOG_KEY).encode()).map(lambda data: data.decode("utf-8", "replace")))
@settings(deadline=None, max_examples=300)
def test_verifier_keys_are_canonical(text):
    try:
        key = VerifierKey.parse(text)
    except Malformed:
        return
    assert str(key) == text


@given(mutations_of(b"tile/0/x001/x234/067.p/112").map(lambda data: data.decode("utf-8", "replace")))
@settings(deadline=None, max_examples=300)
def test_tile_paths_are_canonical(text):
    try:
        address = parse_tile_path(text)
    except Malformed:
        return
    if address.level is None:
        assert entries_path(address.index, address.width) == text
    else:
        assert tile_path(address.level, address.index, address.width) == text


@given(st.integers(0, 63), st.integers(0, 2**55 - 1), st.integers(1, 256))
def test_tile_paths_round_trip(level, index, width):
    assert parse_tile_path(tile_path(level, index, width)) == TileAddress(level, index, width)
    assert parse_tile_path(entries_path(index, width)) == TileAddress(None, index, width)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_bundles_round_trip(entries):
    assert decode_bundle(encode_bundle(entries)) == entries


@given(st.binary(max_size=300))
def test_bundles_are_canonical(data):
    try:
        entries = decode_bundle(data)
    except Malformed:
        return
    assert encode_bundle(entries) == data
