"""The font of documents of record: Noto Sans SC (SIL Open Font License 1.1), of which a subset goes into each document.

It comes with the package `pylopdf-fonts-zh-cn`; Debian's `fonts-noto-cjk` has the same glyphs. A font named in
`YUNXI_PAPER_FONT` goes before both. Another font gives other bytes, so who compares documents keeps to one.
"""

from __future__ import annotations

import importlib.util
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from fontTools.ttLib import TTFont, TTLibError  # type: ignore[import-untyped]

from ledger.errors import CouldNotRun

FONT_VARIABLE = "YUNXI_PAPER_FONT"

_PACKAGE, _FILE = "pylopdf_fonts_zh_cn", "NotoSansSC-Regular.otf"
_DEBIAN = Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc")
_DEBIAN_SC = 2  # Simplified Chinese within Debian's collection
_SUFFIXES = (".otf", ".ttf", ".otc", ".ttc")
_TABLES = frozenset(("OS/2", "cmap", "head", "hhea", "hmtx", "maxp", "name", "post"))
"""What the library for PDF reads besides the outlines."""


@dataclass(frozen=True, slots=True)
class FontFile:
    """A TrueType or OpenType font; `number` is its place in a collection, 0 elsewhere."""

    path: Path
    number: int = 0


def find_font() -> FontFile:
    """The font to print with. Raises CouldNotRun where there is none."""
    named = os.environ.get(FONT_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise CouldNotRun(f"there is no font file {named}: correct {FONT_VARIABLE}, or do without it")
        return FontFile(Path(named))
    package = importlib.util.find_spec(_PACKAGE)
    if package is not None and package.origin is not None:
        found = Path(package.origin).with_name(_FILE)
        if found.is_file():
            return FontFile(found)
    if _DEBIAN.is_file():
        return FontFile(_DEBIAN, _DEBIAN_SC)
    raise CouldNotRun(
        "no font with Chinese characters is installed: run `pip install pylopdf-fonts-zh-cn`, "
        "or install Debian's fonts-noto-cjk"
    )


def check_font(file: FontFile, needed: str) -> None:
    """Raises CouldNotRun for a file that is no TrueType or OpenType font, is damaged, or lacks one of these characters.
    Outlines are not read."""
    if file.path.suffix.lower() not in _SUFFIXES:
        raise CouldNotRun(f"{file.path} is no font: name a file whose name ends in {', '.join(_SUFFIXES)}")
    try:
        with file.path.open("rb") as stream, TTFont(stream, fontNumber=file.number, lazy=True) as font:
            tables, known = set(font.keys()), font.getBestCmap() or {}
            for name in _TABLES & tables:
                font[name]  # raises where it is damaged
    except OSError as error:
        raise CouldNotRun(f"the font {file.path} cannot be read: {error.strerror}") from error
    except (TTLibError, KeyError, ValueError, struct.error) as error:
        raise CouldNotRun(f"{file.path} is no font: name another") from error
    if not tables >= _TABLES or tables.isdisjoint({"CFF ", "glyf"}) or not {*map(ord, needed)} <= known.keys():
        raise CouldNotRun(f"{file.path} is no font for Chinese and English text in a PDF: name another")
