"""The font of documents of record: Noto Sans SC (SIL Open Font License 1.1), of which a subset goes into each document.

It comes with the package `pylopdf-fonts-zh-cn`; Debian's `fonts-noto-cjk` has the same glyphs. A font named in
`YUNXI_PAPER_FONT` goes before both. Another font gives other bytes, so who compares documents keeps to one.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import CouldNotRun

FONT_VARIABLE = "YUNXI_PAPER_FONT"

_PACKAGE, _FILE = "pylopdf_fonts_zh_cn", "NotoSansSC-Regular.otf"
_DEBIAN = Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc")
_DEBIAN_SC = 2  # Simplified Chinese within Debian's collection


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
