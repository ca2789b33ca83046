"""What a document of record is made of: pages (`ledger.paper.sheet`) or HTML (`ledger.paper.html`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ledger.paper.qr import QrCode


@dataclass(frozen=True, slots=True)
class Bilingual:
    """The same said in Chinese and in English."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Hash:
    """Digests and other ids: small, broken anywhere."""

    text: str


@dataclass(frozen=True, slots=True)
class Strong:
    """What must not be overlooked."""

    text: Bilingual


@dataclass(frozen=True, slots=True)
class Link:
    """A file beside the document: `href` relative to it, a plain path. On paper only its text stands."""

    text: str
    href: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A QR code of `side` mm."""

    code: QrCode
    side: float = 28.0


Part = str | Bilingual | Strong | Hash | Link | Picture
Cell = Part | Sequence[Part]
"""What stands in a table's cell; a sequence is one below the other."""

Rows = Iterable[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Column:
    """A column, `width` in mm on paper."""

    title: Bilingual
    width: float


class Paper(Protocol):
    """A document while it is written, from top to bottom."""

    def title(self, text: Bilingual) -> None:
        """The document's name, large."""

    def heading(self, text: Bilingual) -> None:
        """A heading."""

    def paragraph(self, *parts: Part) -> None:
        """Text over the whole width."""

    def numbered(self, texts: Iterable[Bilingual]) -> None:
        """A numbered list."""

    def table(
        self, columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, empty: Bilingual | None = None
    ) -> None:
        """A table; `empty` is said where there are no rows."""
