"""The tree as C2SP tlog-tiles stores it: tiles of 256 hashes, entry bundles, proofs read from tiles, the growing edge.

Tile `n` of level `l` holds the nodes `256 n` to `256 n + 255` of height `8 l`, 32 bytes each, from left to right; its
*width* is how many of them there are, 1 to 256. Nodes of the heights between are hashed from these when needed.

    tree of 70,000    level 0: 273 full tiles, one of width 112    level 1: 1 full, one of width 17    level 2: width 1
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ledger.errors import Malformed
from ledger.formats.merkle import EMPTY_ROOT, HASH_SIZE, MAX_SIZE, node_hash, parents, split

TILE_HEIGHT = 8
TILE_WIDTH = 256
TILE_BYTES = TILE_WIDTH * HASH_SIZE
MAX_LEVELS = 8
"""Levels that the largest tree (`merkle.MAX_SIZE`) has hashes on."""

MAX_ENTRY_BYTES = 65_535


# -- which tiles a tree has --


def level_count(size: int) -> int:
    """How many levels a tree of `size` leaves has: 0 for none, 1 up to 255, 2 from 256, 3 from 65,536."""
    return -(-size.bit_length() // TILE_HEIGHT)


def partial_width(level: int, size: int) -> int:
    """How many hashes the last, partial tile of `level` has in a tree of `size`: 0 (there is no such tile) to 255."""
    return (size >> TILE_HEIGHT * level) % TILE_WIDTH


# -- paths --


@dataclass(frozen=True, slots=True)
class TileAddress:
    """What a tile path names. `level` is None for an entry bundle; `width` is 1 to 256."""

    level: int | None
    index: int
    width: int


_PATH = re.compile(r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([0-9]{1,3}))?")


def tile_path(level: int, index: int, width: int) -> str:
    """`tile/<L>/<N>[.p/<W>]`, relative to the log's prefix. Raises ValueError for a tile that no tree can have."""
    if not 0 <= level <= 63:
        raise ValueError(f"level {level} is not between 0 and 63")
    return f"tile/{level}/{_index_path(index, width)}"


def entries_path(index: int, width: int) -> str:
    """`tile/entries/<N>[.p/<W>]`, relative to the log's prefix. Raises ValueError as `tile_path` does."""
    return f"tile/entries/{_index_path(index, width)}"


def parse_tile_path(path: str) -> TileAddress:
    """The inverse of `tile_path` and `entries_path`. Raises Malformed unless `path` is the one path of its tile."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise Malformed("tile path", "is not tile/<level>/<index> or tile/entries/<index>")
    level, index, width = match.groups()
    address = TileAddress(
        level=None if level == "entries" else int(level),
        index=int(index.replace("x", "").replace("/", "")),
        width=TILE_WIDTH if width is None else int(width),
    )
    try:
        canonical = _path_of(address)
    except ValueError as error:
        raise Malformed("tile path", str(error)) from error
    if canonical != path:
        raise Malformed("tile path", f"not the shortest form, {canonical}")
    return address


def _path_of(address: TileAddress) -> str:
    if address.level is None:
        return entries_path(address.index, address.width)
    return tile_path(address.level, address.index, address.width)


def _index_path(index: int, width: int) -> str:
    if not 0 <= index <= MAX_SIZE // TILE_WIDTH:
        raise ValueError(f"no tree has a tile {index}")
    if not 1 <= width <= TILE_WIDTH:
        raise ValueError(f"width {width} is not between 1 and 256")
    path = f"{index % 1000:03}"
    while index := index // 1000:
        path = f"x{index % 1000:03}/{path}"
    return path if width == TILE_WIDTH else f"{path}.p/{width}"


# -- entry bundles --


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """1 to 256 entries of up to 65,535 bytes, each behind its big-endian uint16 length. Raises Malformed otherwise."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise Malformed("entry bundle", f"an entry of {len(entry):,} bytes is more than the 65,535 allowed")
        parts += (len(entry).to_bytes(2, "big"), entry)
    _check_bundle_width(len(parts) // 2)
    return b"".join(parts)


def decode_bundle(data: bytes) -> list[bytes]:
    """The inverse of `encode_bundle`. Raises Malformed for no entry, more than 256, and a cut or overlong bundle."""
    entries: list[bytes] = []
    position = 0
    while position < len(data):
        start = position + 2
        position = start + int.from_bytes(data[position:start], "big")
        if position > len(data):
            raise Malformed("entry bundle", f"cut off in entry {len(entries)}")
        entries.append(data[start:position])
        if len(entries) > TILE_WIDTH:
            break
    _check_bundle_width(len(entries))
    return entries


def _check_bundle_width(width: int) -> None:
    if not 1 <= width <= TILE_WIDTH:
        raise Malformed("entry bundle", "must have 1 to 256 entries")


# -- reading --


class TileReader(Protocol):
    """Where tiles come from. What it returns is not trusted: a wrong hash gives a proof that does not verify."""

    def tile(self, level: int, index: int, width: int) -> bytes:
        """Exactly 32 x `width` bytes: the first `width` hashes of the tile, which may have grown wider since."""


class TreeView:
    """The tree of one size, read through its tiles; every tile is read and hashed once in the life of the view.

    A proof reads at most two tiles a level. The view keeps what it read (about 40 KB a tile), so make one for each
    request or batch of proofs, not one for good. `size` may be any that the log has passed, not only its current one.
    Methods raise Malformed for a tile of the wrong length, ValueError for a place outside the tree, and what the reader
    raises.
    """

    __slots__ = ("_edges", "_reader", "_tiles", "size")

    def __init__(self, size: int, reader: TileReader) -> None:
        if not 0 <= size <= MAX_SIZE:
            raise ValueError(f"no tree has {size} leaves")
        self.size = size
        self._reader = reader
        self._tiles: dict[tuple[int, int], list[list[bytes]]] = {}
        self._edges: dict[tuple[int, int], bytes] = {}

    def root(self) -> bytes:
        """MTH(D[0:size])."""
        return self._hash(0, self.size) if self.size else EMPTY_ROOT

    def inclusion_path(self, index: int) -> list[bytes]:
        """PATH(index, D[0:size]) of RFC 9162 section 2.1.3.1: the sibling of leaf `index`, then on up to the root."""
        if not 0 <= index < self.size:
            raise ValueError(f"no entry {index} in a tree of {self.size}")
        path: list[bytes] = []
        start, end = 0, self.size
        while end - start > 1:
            middle = start + split(end - start)
            if index < middle:
                path.append(self._hash(middle, end))
                end = middle
            else:
                path.append(self._hash(start, middle))
                start = middle
        path.reverse()
        return path

    def consistency_path(self, old_size: int) -> list[bytes]:
        """PROOF(old_size, D[0:size]) of RFC 9162 section 2.1.4.1; empty from size 0 and from the same size."""
        if not 0 <= old_size <= self.size:
            raise ValueError(f"a tree of {self.size} has not grown from {old_size}")
        path: list[bytes] = []
        start, end = 0, self.size if old_size else 0
        while old_size != end:
            middle = start + split(end - start)
            if old_size <= middle:
                path.append(self._hash(middle, end))
                end = middle
            else:
                path.append(self._hash(start, middle))
                start = middle
        if start:
            path.append(self._hash(start, end))
        path.reverse()
        return path

    def _hash(self, start: int, end: int) -> bytes:
        """MTH(D[start:end]) of a range that RFC 9162 splits this tree into: it starts at a multiple of its size."""
        size = end - start
        if size & (size - 1):
            edge = self._edges.get((start, end))
            if edge is None:
                middle = start + split(size)
                edge = self._edges[start, end] = node_hash(self._hash(start, middle), self._hash(middle, end))
            return edge
        height = size.bit_length() - 1
        level, row = divmod(height, TILE_HEIGHT)
        tile, place = divmod(start >> height, TILE_WIDTH >> row)
        return self._rows(level, tile)[row][place]

    def _rows(self, level: int, index: int) -> list[list[bytes]]:
        rows = self._tiles.get((level, index))
        if rows is None:
            width = min(TILE_WIDTH, (self.size >> TILE_HEIGHT * level) - TILE_WIDTH * index)
            data = self._reader.tile(level, index, width)
            if len(data) != HASH_SIZE * width:
                raise Malformed(f"tile {tile_path(level, index, width)}", f"{len(data)} bytes, not 32 x {width}")
            rows = self._tiles[level, index] = _rows_over(hashes_of(data))
        return rows


def tree_root(size: int, reader: TileReader) -> bytes:
    """The root of the tree of `size`. Errors as in `TreeView`, also below."""
    return TreeView(size, reader).root()


def inclusion_path(index: int, size: int, reader: TileReader) -> list[bytes]:
    """The path of leaf `index` in the tree of `size`, for `merkle.verify_inclusion`. For many, use a `TreeView`."""
    return TreeView(size, reader).inclusion_path(index)


def consistency_path(old_size: int, new_size: int, reader: TileReader) -> list[bytes]:
    """The path from the tree of `old_size` to that of `new_size`, for `merkle.verify_consistency`."""
    return TreeView(new_size, reader).consistency_path(old_size)


def hashes_of(data: bytes) -> list[bytes]:
    """A tile's hashes, from left to right. The length of `data` is not checked."""
    return [data[place : place + HASH_SIZE] for place in range(0, len(data), HASH_SIZE)]


def _rows_over(hashes: list[bytes]) -> list[list[bytes]]:
    """The nodes of heights 0 to 7 above a tile's hashes, as far as their leaves are there."""
    rows = [hashes]
    while len(rows) < TILE_HEIGHT:
        rows.append(parents(rows[-1]))
    return rows


# -- growing --


@dataclass(frozen=True, slots=True)
class TileWrite:
    """The whole new content of one tile: `data` is 32 bytes for each of its 1 to 256 hashes."""

    level: int
    index: int
    data: bytes

    @property
    def width(self) -> int:
        return len(self.data) // HASH_SIZE


class Edge:
    """The right edge of a growing tree: all that is needed to append, and nothing else. No I/O.

    State: the partial tile of every level, and the *frontier*: the nodes that still wait for their right sibling, one
    for each bit that is set in `size`, by height. Both are small for any size: at most 8 tiles of 8,160 bytes and 63
    hashes. `Edge()` is the empty tree. Not for several threads; to append and perhaps think better of it, `copy()`.
    """

    __slots__ = ("_frontier", "_size", "_tiles")

    def __init__(self) -> None:
        self._size = 0
        self._tiles = [b""] * MAX_LEVELS
        self._frontier: dict[int, bytes] = {}

    @classmethod
    def load(cls, size: int, tiles: Sequence[bytes]) -> Edge:
        """The edge of the tree of `size`; `tiles[l]` is the partial tile of level `l`, empty where it has none.

        Missing levels count as empty. Hashes up to 247 nodes a level, so keep an edge rather than load one for every
        batch. That the tiles belong to the log is not checked: compare `root()` with the log's head.
        Raises Malformed when a tile's length does not fit `size`, ValueError for a size that no tree has.
        """
        if not 0 <= size <= MAX_SIZE:
            raise ValueError(f"no tree has {size} leaves")
        edge = cls()
        edge._size = size
        edge._tiles = [*tiles, *[b""] * (MAX_LEVELS - len(tiles))]
        for level, tile in enumerate(edge._tiles):
            width = partial_width(level, size)
            if len(tile) != HASH_SIZE * width:
                raise Malformed(f"partial tile of level {level}", f"{len(tile)} bytes; at {size} it has {width} hashes")
            edge._frontier |= _waiting(level, hashes_of(tile))
        return edge

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return self._size

    @property
    def tiles(self) -> tuple[bytes, ...]:
        """The partial tile of each of the 8 levels, possibly empty: what `load` takes."""
        return tuple(self._tiles)

    def copy(self) -> Edge:
        """An edge of its own, equal now."""
        edge = Edge()
        edge._size, edge._tiles, edge._frontier = self._size, self._tiles.copy(), self._frontier.copy()
        return edge

    def root(self) -> bytes:
        """MTH of all leaves so far; at most 62 hashes."""
        if not self._frontier:
            return EMPTY_ROOT
        heights = sorted(self._frontier)
        node = self._frontier[heights[0]]
        for height in heights[1:]:
            node = node_hash(self._frontier[height], node)
        return node

    def append(self, leaf_hashes: Sequence[bytes]) -> list[TileWrite]:
        """Adds leaves and returns every tile whose content changed, full or partial, by level, then index.

        A tile that has become full is among them once, whole; the partial rows or files it grew out of may go. Costs
        about one node hash for each leaf. Raises ValueError, and changes nothing, for a leaf hash that is not 32 bytes
        and beyond `merkle.MAX_SIZE` leaves.
        """
        if any(len(leaf) != HASH_SIZE for leaf in leaf_hashes):
            raise ValueError("a leaf hash is 32 bytes")
        if self._size + len(leaf_hashes) > MAX_SIZE:
            raise ValueError(f"a tree has at most {MAX_SIZE} leaves")
        frontier = self._frontier
        writes: list[TileWrite] = []
        row, start, height = list(leaf_hashes), self._size, 0
        # `row` is what the batch adds at `height`, from place `start` on
        while row:
            if height % TILE_HEIGHT == 0:
                writes += self._extend(height // TILE_HEIGHT, start // TILE_WIDTH, row)
            if height in frontier:
                row.insert(0, frontier.pop(height))
            if len(row) % 2:
                frontier[height] = row[-1]
            row, start, height = parents(row), start >> 1, height + 1
        self._size += len(leaf_hashes)
        return writes

    def _extend(self, level: int, index: int, hashes: list[bytes]) -> list[TileWrite]:
        """Adds `hashes` to the partial tile of `level`, which is tile `index`, and to as many after it as they fill."""
        data = self._tiles[level] + b"".join(hashes)
        starts = range(0, len(data), TILE_BYTES)
        writes = [TileWrite(level, index + n, data[start : start + TILE_BYTES]) for n, start in enumerate(starts)]
        self._tiles[level] = b"" if len(data) % TILE_BYTES == 0 else writes[-1].data
        return writes


def _waiting(level: int, hashes: list[bytes]) -> dict[int, bytes]:
    """The nodes over a partial tile that have no right sibling, by height: one for each bit set in its width."""
    waiting: dict[int, bytes] = {}
    row = hashes
    for height in range(TILE_HEIGHT * level, TILE_HEIGHT * (level + 1)):
        if len(row) % 2:
            waiting[height] = row[-1]
        row = parents(row)
    return waiting
