"""QR codes (ISO/IEC 18004), error correction M: as pictures for paper and as SVG or PNG for elsewhere."""

from __future__ import annotations

import io
from functools import cached_property

import segno
from PIL import Image, ImageOps

from ledger.errors import Malformed

QUIET = 4
"""Empty modules around a code, as the standard asks."""

MAX_BYTES = 1_000
"""More makes modules too small for paper."""

_INK = bytes([255, 0]) + bytes(254)  # 0 is a light module, 1 a dark one


class QrCode:
    """One code. The same text gives the same code."""

    def __init__(self, text: str) -> None:
        """Raises Malformed for a text of more than MAX_BYTES bytes of UTF-8, or none."""
        data = text.encode("utf-8", "replace")
        if not 0 < len(data) <= MAX_BYTES:
            raise Malformed("QR code", f"would hold {len(data):,} bytes: it holds from 1 to {MAX_BYTES:,}")
        self.text = text
        # as bytes: some texts of UTF-8 are kanji too, and would come out as those; what is not ASCII is said to be
        # UTF-8 (ECI 26), else readers guess; a fixed mask: weighing all eight takes ten times as long
        eci = not text.isascii()
        self._code = segno.make_qr(data, "m", mask=3, mode="byte", encoding="utf-8", eci=eci, boost_error=False)

    @cached_property
    def rows(self) -> tuple[bytes, ...]:
        """The modules without the quiet zone: rows of 0 and 1 (dark)."""
        return tuple(bytes(row) for row in self._code.matrix)

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
        self._code.save(out, kind="svg", border=QUIET, scale=4, xmldecl=True, svgns=True, light="white", nl=False)
        return out.getvalue()
