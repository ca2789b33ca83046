"""QR codes (ISO/IEC 18004), error correction M: as pictures for paper and as SVG or PNG for elsewhere."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import cached_property

import segno
from PIL import Image, ImageOps

from ledger.errors import Malformed

QUIET = 4
"""Empty modules around a code, as the standard asks."""

MAX_BYTES = 1_000
"""More makes modules too small for paper."""

_INK = bytes([255, 0]) + bytes(254)  # 0 is a light module, 1 a dark one
_WORTH = 400
"""So many codes of one length are made one by one: learning what their bits change takes as long as some 600."""


class QrCode:
    """One code. The same text gives the same code."""

    def __init__(self, text: str) -> None:
        """Raises Malformed for a text of more than MAX_BYTES bytes of UTF-8, or none."""
        self.text = text
        self._data = text.encode("utf-8", "replace")
        if not 0 < len(self._data) <= MAX_BYTES:
            raise Malformed("QR code", f"would hold {len(self._data):,} bytes: it holds from 1 to {MAX_BYTES:,}")

    @cached_property
    def rows(self) -> tuple[bytes, ...]:
        """The modules without the quiet zone: rows of 0 and 1 (dark)."""
        return tuple(bytes(row) for row in _make(self._data).matrix)

    def picture(self) -> Image.Image:
        """One pixel a module, quiet zone included, black on white."""
        side = len(self.rows)
        modules = Image.frombytes("L", (side, side), b"".join(self.rows).translate(_INK))
        return ImageOps.expand(modules, QUIET, fill=255).convert("1")

    def png(self, scale: int = 8) -> bytes:
        """A PNG file, `scale` pixels a module."""
        picture = self.picture()
        out = io.BytesIO()
        picture.resize((picture.width * scale, picture.height * scale)).save(out, "PNG", optimize=True)
        return out.getvalue()

    def svg(self) -> bytes:
        """An SVG file that names nothing outside of it."""
        out = io.BytesIO()
        _make(self._data).save(
            out, kind="svg", border=QUIET, scale=4, xmldecl=True, svgns=True, light="white", nl=False
        )
        return out.getvalue()


class QrSeries:
    """Many codes whose texts differ in a few places. They are those that `QrCode` gives, in a twentieth of the time.

    A code is linear over bits: its data, the check bytes (Reed-Solomon over GF(2^8)), their places and the mask. So two
    texts of one length, and with it of one version, differ by the exclusive-or of what each changed bit changes.
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[int, bool], _Kind] = {}

    def code(self, text: str) -> QrCode:
        """As `QrCode(text)`. Raises the same."""
        made = QrCode(text)
        kind = self._kinds.setdefault((len(made._data), text.isascii()), _Kind(made._data))
        kind.count += 1
        if kind.count > _WORTH:
            made.rows = kind.rows(made._data)
        return made


@dataclass(slots=True)
class _Kind:
    """Texts of one length: the first of them, and what was learned of its bits. A code is one number here, a byte a
    module."""

    first: bytes
    count: int = 0
    changes: dict[tuple[int, int], int] = field(default_factory=dict)
    side: int = 0
    base: int = 0

    def rows(self, data: bytes) -> tuple[bytes, ...]:
        if not self.side:
            self.side, self.base = len(_make(self.first).matrix), _number(self.first)
        code = self.base
        for place, (before, now) in enumerate(zip(self.first, data, strict=True)):
            bits = before ^ now
            while bits:
                code ^= self._change(place, bits & -bits)
                bits &= bits - 1
        modules = code.to_bytes(self.side**2)
        return tuple(modules[at : at + self.side] for at in range(0, len(modules), self.side))

    def _change(self, place: int, bit: int) -> int:
        """What the code changes where this bit of the byte at `place` does."""
        change = self.changes.get((place, bit))
        if change is None:
            other = bytearray(self.first)
            other[place] ^= bit
            change = self.changes[place, bit] = self.base ^ _number(bytes(other))
        return change


def _number(data: bytes) -> int:
    return int.from_bytes(b"".join(bytes(row) for row in _make(data).matrix))


def _make(data: bytes) -> segno.QRCode:
    # as bytes: some texts of UTF-8 are kanji too, and would come out as those; what is not ASCII is said to be
    # UTF-8 (ECI 26), else readers guess; a fixed mask: weighing all eight takes ten times as long
    return segno.make_qr(data, "m", mask=3, mode="byte", encoding="utf-8", eci=not data.isascii(), boost_error=False)
