"""Small drawn photos for the demonstration: scenes made of rectangles and lines, written as PNG (ISO/IEC 15948).

Drawn, not photographed, so that no real person, vehicle or place can be in them. The same arguments and the same zlib
give the same bytes.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

WIDTH, HEIGHT = 192, 108

_PALETTE = (
    (150, 190, 220), (95, 98, 102), (178, 160, 138), (60, 80, 105), (200, 40, 40), (235, 205, 60), (245, 245, 245),
    (25, 25, 28), (40, 90, 170), (70, 140, 80), (240, 130, 40), (215, 210, 200),
)  # fmt: skip
SKY, ROAD, WALL, GLASS, RED, YELLOW, WHITE, BLACK, BLUE, GREEN, ORANGE, PLASTER = range(len(_PALETTE))
_CARS = (WHITE, BLACK, BLUE, RED, GREEN)

# three columns by five rows, one octal digit a row
_GLYPHS = {
    "0": 0o75557, "1": 0o26227, "2": 0o71747, "3": 0o71717, "4": 0o55711, "5": 0o74717, "6": 0o74757, "7": 0o71111,
    "8": 0o75757, "9": 0o75717, "-": 0o00700, ":": 0o02020, " ": 0,
}  # fmt: skip


class Canvas:
    """WIDTH by HEIGHT pixels, one palette index each. What is drawn outside is cut off."""

    def __init__(self, background: int) -> None:
        self._rows = [bytearray([background] * WIDTH) for _ in range(HEIGHT)]

    def box(self, left: int, top: int, width: int, height: int, colour: int) -> None:
        """A filled rectangle."""
        left, right = max(left, 0), min(left + width, WIDTH)
        for row in self._rows[max(top, 0) : max(top + height, 0)]:
            row[left:right] = bytes([colour]) * max(right - left, 0)

    def text(self, left: int, top: int, words: str, colour: int) -> None:
        """Digits, colons and hyphens, 6 by 10 pixels each."""
        for place, character in enumerate(words):
            glyph = _GLYPHS[character]
            for bit in range(15):
                if glyph >> (14 - bit) & 1:
                    self.box(left + place * 8 + bit % 3 * 2, top + bit // 3 * 2, 2, 2, colour)

    def png(self) -> bytes:
        """The picture: 8-bit palette, no filter, one IDAT chunk."""
        header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 3, 0, 0, 0)
        pixels = b"".join(b"\0" + row for row in self._rows)
        palette = b"".join(map(bytes, _PALETTE))
        chunks = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(pixels, 9)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def draw(scene: str, stamp: str, chance: random.Random) -> bytes:
    """A PNG of `scene` (a key of SCENES) with the digits of `stamp` in its corner."""
    canvas = SCENES[scene](chance)
    canvas.box(2, 2, len(stamp) * 8 + 4, 14, BLACK)
    canvas.text(5, 4, stamp, YELLOW)
    return canvas.png()


def _fire_lane(chance: random.Random) -> Canvas:
    canvas = Canvas(SKY)
    canvas.box(0, 20, WIDTH, 45, WALL)
    for place in range(8):
        canvas.box(8 + place * 23, 28, 14, 12, GLASS)
    canvas.box(0, 65, WIDTH, 43, ROAD)
    for place in range(0, WIDTH, 16):
        canvas.box(place, 96, 8, 6, YELLOW)
        canvas.box(place + 8, 96, 8, 6, RED)
    _car(canvas, chance.randrange(10, 110), 68, chance.choice(_CARS))
    return canvas


def _tanker(chance: random.Random) -> Canvas:
    canvas = Canvas(SKY)
    canvas.box(0, 62, WIDTH, 46, ROAD)
    for place in range(chance.randrange(20), WIDTH, 36):
        canvas.box(place, 86, 18, 3, WHITE)
    left = chance.randrange(5, 60)
    canvas.box(left, 40, 84, 30, WHITE)
    canvas.box(left + 88, 46, 24, 24, chance.choice(_CARS))
    canvas.box(left + 96, 50, 14, 9, GLASS)
    canvas.box(left + 32, 50, 18, 10, ORANGE)
    for wheel in (8, 22, 60, 92):
        canvas.box(left + wheel, 68, 10, 10, BLACK)
    return canvas


def _cracked_wall(chance: random.Random) -> Canvas:
    canvas = Canvas(PLASTER)
    for place in range(0, WIDTH, 24):
        canvas.box(place, 0, 1, HEIGHT, WALL)
    for place in range(0, HEIGHT, 24):
        canvas.box(0, place, WIDTH, 1, WALL)
    x = chance.randrange(40, 150)
    for y in range(18, HEIGHT, 2):
        x += chance.randrange(-3, 4)
        canvas.box(x, y, 2, 2, BLACK)
    return canvas


SCENES: dict[str, Callable[[random.Random], Canvas]] = {
    "fire-lane": _fire_lane,
    "tanker": _tanker,
    "cracked-wall": _cracked_wall,
}


def _car(canvas: Canvas, left: int, top: int, colour: int) -> None:
    canvas.box(left + 12, top, 42, 12, colour)
    canvas.box(left + 16, top + 3, 34, 8, GLASS)
    canvas.box(left, top + 11, 68, 14, colour)
    canvas.box(left + 28, top + 18, 14, 5, BLUE)
    canvas.box(left + 10, top + 22, 10, 8, BLACK)
    canvas.box(left + 48, top + 22, 10, 8, BLACK)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
