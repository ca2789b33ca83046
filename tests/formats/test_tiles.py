"""C2SP tlog-tiles: paths, bundles, proofs read from tiles, and the edge, held against RFC 9162's definitions."""

import random

import pytest

from ledger.errors import Malformed
from ledger.formats.merkle import EMPTY_ROOT, leaf_hash, root_of, verify_consistency, verify_inclusion
from ledger.formats.tiles import (
    MAX_LEVELS,
    Edge,
    TileAddress,
    TileWrite,
    TreeView,
    consistency_path,
    decode_bundle,
    encode_bundle,
    entries_path,
    inclusion_path,
    level_count,
    parse_tile_path,
    partial_width,
    tile_path,
    tree_root,
)

BOUNDARIES = [0, 1, 2, 255, 256, 257, 511, 512, 513, 65535, 65536, 65537]
LARGEST = 66_000

LEAVES = [leaf_hash(number.to_bytes(4, "big")) for number in range(LARGEST)]


class MemoryTiles:
    """A tile store that grows by an edge's writes, and counts what is read from it."""

    def __init__(self) -> None:
        self.tiles: dict[tuple[int, int], bytes] = {}
        self.reads: list[tuple[int, int]] = []

    def write(self, writes: list[TileWrite]) -> None:
        for tile in writes:
            self.tiles[tile.level, tile.index] = tile.data

    def tile(self, level: int, index: int, width: int) -> bytes:
        self.reads.append((level, index))
        return self.tiles[level, index][: 32 * width]


def grown(size: int) -> MemoryTiles:
    store = MemoryTiles()
    store.write(Edge().append(LEAVES[:size]))
    return store


@pytest.fixture(scope="module")
def store() -> MemoryTiles:
    return grown(LARGEST)


# -- which tiles a tree has --


def test_the_specification_s_tree_of_70000():
    edge = Edge()
    writes = edge.append([leaf_hash(b"")] * 70_000)
    by_level = [[tile.width for tile in writes if tile.level == level] for level in range(4)]
    assert by_level == [[256] * 273 + [112], [256, 17], [1], []]
    assert [partial_width(level, 70_000) for level in range(4)] == [112, 17, 1, 0]
    assert level_count(70_000) == 3


def test_the_specification_s_tree_of_256():
    writes = Edge().append(LEAVES[:256])
    assert writes == [TileWrite(0, 0, b"".join(LEAVES[:256])), TileWrite(1, 0, root_of(LEAVES[:256]))]
    assert [partial_width(level, 256) for level in range(3)] == [0, 1, 0]


@pytest.mark.parametrize(
    ("size", "levels"), [(0, 0), (1, 1), (255, 1), (256, 2), (65535, 2), (65536, 3), (2**63 - 1, MAX_LEVELS)]
)
def test_level_count(size, levels):
    assert level_count(size) == levels


# -- paths --

PATHS = {
    "tile/0/x001/x234/067": TileAddress(0, 1_234_067, 256),
    "tile/0/x001/x234/067.p/112": TileAddress(0, 1_234_067, 112),
    "tile/0/000": TileAddress(0, 0, 256),
    "tile/0/000.p/1": TileAddress(0, 0, 1),
    "tile/0/999.p/255": TileAddress(0, 999, 255),
    "tile/0/x001/000": TileAddress(0, 1_000, 256),
    "tile/63/x001/x000/000": TileAddress(63, 1_000_000, 256),
    "tile/0/x036/x028/x797/x018/x963/967": TileAddress(0, 36_028_797_018_963_967, 256),
    "tile/entries/x273/112.p/17": TileAddress(None, 273_112, 17),
    "tile/entries/000": TileAddress(None, 0, 256),
}


@pytest.mark.parametrize(("path", "address"), PATHS.items())
def test_path(path, address):
    assert parse_tile_path(path) == address
    if address.level is None:
        assert entries_path(address.index, address.width) == path
    else:
        assert tile_path(address.level, address.index, address.width) == path


BAD_PATHS = {
    "nothing": "",
    "only the prefix": "tile/0",
    "absolute": "/tile/0/000",
    "with an address before it": "log/tile/0/000",
    "with a newline after it": "tile/0/000\n",
    "level with a leading zero": "tile/00/000",
    "level 64": "tile/64/000",
    "negative level": "tile/-1/000",
    "unknown kind": "tile/data/000",
    "index of one digit": "tile/0/1",
    "index of four digits": "tile/0/1234",
    "leading group without need": "tile/0/x000/001",
    "group without its x": "tile/0/001/234",
    "last group with an x": "tile/0/x001",
    "index above any tree": "tile/0/x036/x028/x797/x018/x963/968",
    "digits of another script": "tile/0/٠٠١",
    "width 0": "tile/0/000.p/0",
    "width 256 spelt out": "tile/0/000.p/256",
    "width with a leading zero": "tile/0/000.p/01",
    "width missing": "tile/0/000.p/",
    "climbing out": "tile/0/../../secret",
}


@pytest.mark.parametrize("path", BAD_PATHS.values(), ids=BAD_PATHS.keys())
def test_path_refused(path):
    with pytest.raises(Malformed, match="tile path"):
        parse_tile_path(path)


@pytest.mark.parametrize("place", [(64, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257), (0, 2**55, 1)])
def test_no_path_for_a_tile_that_no_tree_has(place):
    with pytest.raises(ValueError, match=r"level|tile|width"):
        tile_path(*place)


# -- entry bundles --


def test_bundle_bytes():
    assert encode_bundle([b"ab", b"", b"\xff"]) == b"\x00\x02ab\x00\x00\x00\x01\xff"


@pytest.mark.parametrize(
    "entries", [[b""], [b"x" * 65_535], [b"entry"] * 255, [b"entry"] * 256], ids=["empty", "largest", "255", "256"]
)
def test_bundle_round_trip(entries):
    assert decode_bundle(encode_bundle(entries)) == entries


BAD_BUNDLES = {
    "nothing": b"",
    "half a length": b"\x00",
    "a length and no entry": b"\x00\x01",
    "an entry one byte short": b"\x00\x03ab",
    "half a length after an entry": b"\x00\x01a\x00",
    "one byte after the last entry": b"\x00\x01ab",
    "257 entries": b"\x00\x00" * 257,
}


@pytest.mark.parametrize("data", BAD_BUNDLES.values(), ids=BAD_BUNDLES.keys())
def test_bundle_refused(data):
    with pytest.raises(Malformed, match="entry bundle"):
        decode_bundle(data)


@pytest.mark.parametrize("entries", [[], [b"x" * 65_536], [b""] * 257], ids=["none", "too long", "257"])
def test_bundle_not_written(entries):
    with pytest.raises(Malformed, match="entry bundle"):
        encode_bundle(entries)


# -- the edge --


def check_log(edge: Edge, store: MemoryTiles) -> None:
    """Everything that must hold after every step: root, tiles, and that the edge can be loaded from its tiles alone."""
    size = edge.size
    root = root_of(LEAVES[:size])
    assert edge.root() == root
    assert tree_root(size, store) == root
    for level in range(level_count(size)):
        last = (size >> 8 * level) // 256
        assert store.tiles.get((level, last), b"") == edge.tiles[level]
        assert len(edge.tiles[level]) == 32 * partial_width(level, size)
    loaded = Edge.load(size, edge.tiles)
    assert (loaded.root(), loaded.tiles) == (root, edge.tiles)


@pytest.mark.parametrize("size", BOUNDARIES)
def test_root_at_boundaries(size):
    edge, store = Edge(), MemoryTiles()
    store.write(edge.append(LEAVES[:size]))
    check_log(edge, store)
    store.write(edge.append(LEAVES[size : size + 1]))
    check_log(edge, store)


def test_leaf_by_leaf():
    edge, store = Edge(), MemoryTiles()
    check_log(edge, store)
    for leaf in LEAVES[:600]:
        store.write(edge.append([leaf]))
        check_log(edge, store)


@pytest.mark.parametrize("seed", range(8))
def test_random_batches(seed):
    chance = random.Random(seed)
    edge, store = Edge(), MemoryTiles()
    while edge.size < 3_000:
        batch = chance.choice([0, 1, 2, 7, 100, 255, 256, 257, 700])
        store.write(edge.append(LEAVES[edge.size : edge.size + batch]))
        check_log(edge, store)
    assert store.tiles == grown(edge.size).tiles


@pytest.mark.parametrize("size", [size for size in BOUNDARIES if size > 255])
def test_a_loaded_edge_goes_on_as_if_never_stopped(size):
    # one leaf is appended to a loaded edge of one less, so that every level that overflows does so from loaded tiles
    before = Edge()
    before.append(LEAVES[: size - 1])
    loaded = Edge.load(size - 1, before.tiles)
    assert loaded.append(LEAVES[size - 1 : size + 300]) == before.append(LEAVES[size - 1 : size + 300])
    assert loaded.root() == before.root() == root_of(LEAVES[: size + 300])


def test_writes_are_only_what_changed():
    edge = Edge()
    edge.append(LEAVES[:300])
    writes = edge.append(LEAVES[300:301])
    assert writes == [TileWrite(0, 1, b"".join(LEAVES[256:301]))]
    assert [(tile.level, tile.index, tile.width) for tile in edge.append(LEAVES[301:520])] == [
        (0, 1, 256),
        (0, 2, 8),
        (1, 0, 2),
    ]


def test_appending_nothing_changes_nothing():
    edge = Edge()
    assert edge.append([]) == []
    assert (edge.size, edge.root(), edge.tiles) == (0, EMPTY_ROOT, (b"",) * MAX_LEVELS)


def test_a_copy_is_apart():
    edge = Edge()
    edge.append(LEAVES[:255])
    copy = edge.copy()
    copy.append(LEAVES[255:600])
    assert (edge.size, edge.root(), edge.tiles[0]) == (255, root_of(LEAVES[:255]), b"".join(LEAVES[:255]))
    assert (copy.size, copy.root()) == (600, root_of(LEAVES[:600]))


def test_a_bad_leaf_changes_nothing():
    edge = Edge()
    edge.append(LEAVES[:3])
    with pytest.raises(ValueError, match="32 bytes"):
        edge.append([LEAVES[3], b"short"])
    assert (edge.size, edge.root()) == (3, root_of(LEAVES[:3]))


def test_the_callers_list_is_left_alone():
    leaves = LEAVES[:5]
    edge = Edge()
    edge.append(leaves[:1])
    edge.append(leaves)
    assert leaves == LEAVES[:5]


def test_the_largest_tree_takes_no_more():
    tiles = [bytes(32 * partial_width(level, 2**63 - 1)) for level in range(MAX_LEVELS)]
    edge = Edge.load(2**63 - 1, tiles)
    assert len(edge.root()) == 32
    with pytest.raises(ValueError, match="at most"):
        edge.append(LEAVES[:1])


BAD_TILES = {
    "a hash too few": (300, [bytes(32 * 43), bytes(32)]),
    "a hash too many": (300, [bytes(32 * 45), bytes(32)]),
    "half a hash": (300, [bytes(32 * 44 - 16), bytes(32)]),
    "a level missing": (300, [bytes(32 * 44)]),
    "a level too many": (300, [bytes(32 * 44), bytes(32), bytes(32)]),
    "a ninth level": (300, [bytes(32 * 44), bytes(32), *[b""] * 6, bytes(32)]),
    "levels exchanged": (300, [bytes(32), bytes(32 * 44)]),
    "a full tile for the partial one": (256, [bytes(8192), bytes(32)]),
}


@pytest.mark.parametrize(("size", "tiles"), BAD_TILES.values(), ids=BAD_TILES.keys())
def test_load_refused(size, tiles):
    with pytest.raises(Malformed, match="partial tile"):
        Edge.load(size, tiles)


def test_load_takes_fewer_levels_where_they_are_empty():
    assert Edge.load(0, []).root() == EMPTY_ROOT
    assert Edge.load(1, [LEAVES[0]]).root() == LEAVES[0]
    assert Edge.load(256, [b"", LEAVES[0]]).tiles == (b"", LEAVES[0], b"", b"", b"", b"", b"", b"")


@pytest.mark.parametrize("size", [-1, 2**63])
def test_no_tree_has_this_size(size, store):
    with pytest.raises(ValueError, match="no tree"):
        Edge.load(size, [])
    with pytest.raises(ValueError, match="no tree"):
        tree_root(size, store)


# -- proofs from tiles --


def check_inclusion(index: int, size: int, store: MemoryTiles, root: bytes) -> None:
    store.reads.clear()
    verify_inclusion(LEAVES[index], index, size, inclusion_path(index, size, store), root)
    check_reads(size, store)


def check_consistency(old_size: int, size: int, store: MemoryTiles, root: bytes) -> None:
    store.reads.clear()
    path = consistency_path(old_size, size, store)
    verify_consistency(old_size, root_of(LEAVES[:old_size]), size, root, path)
    check_reads(size, store)


def check_reads(size: int, store: MemoryTiles) -> None:
    assert len(store.reads) == len(set(store.reads)) <= 2 * level_count(size)


@pytest.mark.parametrize("size", range(41))
def test_every_proof_of_small_trees(size, store):
    root = root_of(LEAVES[:size])
    assert tree_root(size, store) == root
    for index in range(size):
        check_inclusion(index, size, store, root)
    for old_size in range(size + 1):
        check_consistency(old_size, size, store, root)


@pytest.mark.parametrize("size", [size for size in BOUNDARIES if size])
def test_proofs_at_boundaries(size, store):
    # the store has grown past `size`: tiles that were partial then are wider or full now
    root = root_of(LEAVES[:size])
    places = sorted({place for near in (*BOUNDARIES, size) for place in (near - 1, near) if 0 <= place <= size})
    for index in places:
        if index < size:
            check_inclusion(index, size, store, root)
    for old_size in places:
        check_consistency(old_size, size, store, root)


def test_a_view_reads_every_tile_once(store):
    store.reads.clear()
    view = TreeView(LARGEST, store)
    for index in range(1_000):
        verify_inclusion(LEAVES[index], index, LARGEST, view.inclusion_path(index), view.root())
    assert len(store.reads) == len(set(store.reads)) <= 10


def test_a_tile_of_the_wrong_length_is_named():
    store = grown(300)
    store.tiles[0, 1] = store.tiles[0, 1][:-1]
    with pytest.raises(Malformed, match=r"tile tile/0/001\.p/44: 1407 bytes"):
        inclusion_path(5, 300, store)


def test_a_flipped_tile_gives_another_root():
    store = grown(300)
    store.tiles[0, 1] = store.tiles[0, 1][:-1] + bytes([store.tiles[0, 1][-1] ^ 1])
    assert tree_root(300, store) != root_of(LEAVES[:300])


@pytest.mark.parametrize("index", [-1, 300, 301])
def test_no_path_to_an_entry_outside(index, store):
    with pytest.raises(ValueError, match="no entry"):
        inclusion_path(index, 300, store)


@pytest.mark.parametrize("old_size", [-1, 301])
def test_no_path_from_a_tree_that_was_not(old_size, store):
    with pytest.raises(ValueError, match="has not grown"):
        consistency_path(old_size, 300, store)
