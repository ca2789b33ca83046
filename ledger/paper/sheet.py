"""Pages of a document of record: A4, Chinese first and English below it, page numbers, tables whose rows wrap.

    with Sheet(stream, Bilingual("卷宗目录", "Case file index"), "杭消罚决字〔2026〕第12号") as sheet:
        sheet.heading(Bilingual("证据清单", "List of evidence"))
        sheet.table([Column(Bilingual("编号", "No."), 14), …], rows)

What stands in a document comes from outside, so nothing in it is trusted: see `ledger.paper.lines`. The file says no
time and has a fixed id: the same calls with the same font (and the same versions of fpdf2, fontTools, Pillow and zlib)
give the same bytes. Pages are kept in memory until the document, or its volume, ends: about 4 KB for a full page of
text, 1 KB for a QR code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import BinaryIO, Self

from fpdf import FPDF
from fpdf.enums import TextMode, XPos, YPos
from fpdf.fonts import TTFFont
from fpdf.prefs import ViewerPreferences

from ledger.paper.fonts import FontFile, check_font, find_font
from ledger.paper.lines import MARK, break_lines, printable
from ledger.paper.parts import Bilingual, Cell, Column, Hash, Link, Part, Picture, Rows, Strong

TOP, RIGHT, BOTTOM, LEFT = 19.0, 14.0, 16.0, 24.0
"""Margins in mm; the left one is where a file is bound."""
WIDTH = 210 - LEFT - RIGHT
BODY, SMALL, HASH = 9.0, 7.5, 7.0
"""Sizes of type in points."""

VOLUME_PAGES = 200
"""What is bound as one volume: 10 mm printed on both sides, 20 mm on one."""

_PAD = 1.2
_LEADING = 1.42
_POINT = 25.4 / 72
_PAGES = "{pages}"
_EPOCH = datetime(1980, 1, 1, tzinfo=UTC)
_KNOWN = 4_096
"""Wrapped texts that are kept: titles, names of departments and the like come again and again."""
_NEEDED = "".join(map(chr, range(0x20, 0x7F))) + "〔〕…，·第页共"
"""Stands on every page, or in place of what cannot be printed."""
_INK, _GREY, _RULE, _SHADE = 0, 90, 170, 236


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    size: float
    grey: int
    bold: bool = False

    @property
    def height(self) -> float:
        return self.size * _POINT * _LEADING


@dataclass(frozen=True, slots=True)
class _Code:
    picture: Picture

    @property
    def height(self) -> float:
        return self.picture.side


_Lines = Sequence[_Line | _Code]


class _Pages(FPDF):
    """The library's document with our head and foot on every page."""

    def __init__(self, file: FontFile) -> None:
        """`file` is one that `check_font` lets pass."""
        super().__init__(format="A4")
        self.head = "", ""
        self.volume = ""
        """Stands before the page number."""
        self.continued = ""
        """Stands after it on the page that is to end."""
        self.set_auto_page_break(False)
        self.set_image_filter("FlateDecode")  # the other one is slower and bigger for QR codes
        self.alias_nb_pages(_PAGES)
        self.set_margins(LEFT, TOP, RIGHT)
        self.set_lang("zh-CN")
        self.set_producer("Yunxi")
        self.set_creation_date(_EPOCH)
        self.viewer_preferences = ViewerPreferences(display_doc_title=True)
        self.add_font("paper", "", file.path, collection_font_number=file.number)

    @property
    def face(self) -> TTFFont:
        """The one font."""
        font = self.fonts["paper"]
        assert isinstance(font, TTFFont)  # we added it ourselves
        return font

    def header(self) -> None:
        title, subject = self.head
        self.set_font("paper", size=SMALL)
        self.set_text_color(_GREY)
        self.text(LEFT, TOP - 7, title)
        self.text(210 - RIGHT - self.get_string_width(subject), TOP - 7, subject)
        self.set_draw_color(_RULE)
        self.line(LEFT, TOP - 5, 210 - RIGHT, TOP - 5)

    def footer(self) -> None:
        self.set_font("paper", size=SMALL)
        self.set_text_color(_GREY)
        self.set_xy(LEFT, 297 - BOTTOM + 4)
        number = f"第 {self.page_no()} 页，共 {_PAGES} 页 · page {self.page_no()} of {_PAGES}"
        text = f"{self.volume}{number}{self.continued}"
        self.cell(WIDTH, 5, text, align="C", new_x=XPos.LEFT, new_y=YPos.TOP)


class Sheet:
    """A document while it is written, from top to bottom; leaving the `with` block finishes it."""

    def __init__(
        self,
        stream: BinaryIO,
        title: Bilingual,
        subject: str,
        font: FontFile | None = None,
        volumes: Callable[[int], BinaryIO] | None = None,
    ) -> None:
        """`stream` stays the caller's to close; `title` and `subject` (a case number, say) stand on every page.
        `volumes` gives the stream of volume 2, 3, … where VOLUME_PAGES are not enough, and what was written to the
        one before is finished then; without it there is one document, however long. Raises CouldNotRun without a font,
        or one that `check_font` refuses."""
        self._file = font or find_font()
        self._stream = stream
        self._volumes = volumes
        self._name, self._subject = title, subject
        check_font(self._file, _NEEDED)
        self.volume = 1
        """The volume that is being written."""
        self.replaced = False
        """Whether characters of the text were replaced so far (`ledger.paper.lines.printable`)."""
        self._wrapped = lru_cache(_KNOWN)(self._wrap_text)
        self._em = lru_cache(1 << 16)(self._width)
        self._pending: list[_Line] = []
        self._section: list[_Line] = []
        self._style: tuple[float, int] | None = None
        self._y = TOP
        self._open()
        self._new_page()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._face.close()  # the library reads from it until the end

    @property
    def pages(self) -> int:
        """How many pages the volume has so far."""
        return self._pdf.page_no()

    def title(self, text: Bilingual) -> None:
        """The document's name, large."""
        self._lines([_Line(text.zh, 18, _INK, True), _Line(text.en, 11, _GREY)], LEFT, WIDTH)
        self._y += 2

    def heading(self, text: Bilingual) -> None:
        """A heading; it stands on the page where what follows it begins."""
        self._begin(0)
        self._pending = [_Line(text.zh, 12.5, _INK, True), _Line(text.en, SMALL, _GREY)]

    def paragraph(self, *parts: Part) -> None:
        """Text over the whole width."""
        for part in parts:
            self._begin(12)
            self._lines(self._of(part), LEFT, WIDTH)
            self._y += 1

    def numbered(self, texts: Iterable[Bilingual]) -> None:
        """A numbered list."""
        for number, text in enumerate(texts, 1):
            lines = self._wrap(self._of(text), WIDTH - 8)
            self._begin(sum(line.height for line in lines))
            top = self._y
            self._draw(_Line(f"{number}.", BODY, _INK, True), LEFT)
            self._y = top
            self._lines(lines, LEFT + 8, WIDTH - 8)
            self._y += 0.6

    def table(self, columns: Sequence[Column], rows: Rows, *, empty: Bilingual | None = None) -> None:
        """A table whose head stands again on every page; no head where no column has a title. `empty` is said where
        there are no rows; widths are mm and should come to WIDTH together."""
        begun = False
        for row in rows:
            cells = [self._wrap(self._of(cell), c.width - 2 * _PAD) for c, cell in zip(columns, row, strict=True)]
            if not begun:
                self._begin(min(_height(cells), 60) + 12)
                self._head(columns)
                begun = True
            self._row(columns, cells)
        if not begun and empty is not None:
            self.paragraph(empty)
        self._y += 2

    def _finish(self) -> None:
        self._begin(0)
        self._pdf.output(self._stream)

    # -- rows --

    def _head(self, columns: Sequence[Column]) -> None:
        if not any(column.title.zh for column in columns):
            return
        cells = [[_Line(c.title.zh, 8, _INK, True), _Line(c.title.en, 6.5, _GREY)] for c in columns]
        wrapped = [self._wrap(lines, c.width - 2 * _PAD) for c, lines in zip(columns, cells, strict=True)]
        self._band(columns, wrapped, shade=True)

    def _row(self, columns: Sequence[Column], cells: Sequence[_Lines]) -> None:
        if self._left < min(_height(cells), 297 - TOP - BOTTOM - 20):
            self._turn(columns)
        rest = list(cells)
        while any(rest):  # a row taller than a page goes on overleaf
            part = [_take(lines, self._left - 2 * _PAD) for lines in rest]
            self._band(columns, part)
            rest = [lines[len(taken) :] for lines, taken in zip(rest, part, strict=True)]
            if any(rest):
                self._turn(columns)

    def _turn(self, columns: Sequence[Column]) -> None:
        self._new_page()
        self._head(columns)

    def _band(self, columns: Sequence[Column], cells: Sequence[_Lines], *, shade: bool = False) -> None:
        top, height, x = self._y, _height(cells), LEFT
        if shade:
            self._pdf.set_fill_color(_SHADE)
            self._pdf.rect(LEFT, top, sum(column.width for column in columns), height, style="F")
        for column, lines in zip(columns, cells, strict=True):
            self._y = top + _PAD
            for line in lines:
                self._draw(line, x + _PAD)
            x += column.width
        self._y = top + height
        self._pdf.set_draw_color(_RULE)
        self._pdf.line(LEFT, self._y, x, self._y)

    # -- lines --

    def _of(self, cell: Cell) -> list[_Line | _Code]:
        match cell:
            case str():
                return [_Line(cell, BODY, _INK)]
            case Bilingual(zh, en):
                return [_Line(zh, BODY, _INK), _Line(en, SMALL, _GREY)] if zh != en else [_Line(zh, BODY, _INK)]
            case Strong(text):
                return [_Line(text.zh, BODY, _INK, True), _Line(text.en, SMALL, _INK, True)]
            case Hash(text) | Link(text, _):
                return [_Line(text, HASH, _INK)]
            case Picture():
                return [_Code(cell)]
            case _:
                return [line for part in cell for line in self._of(part)]

    def _lines(self, lines: _Lines, x: float, width: float) -> None:
        for line in self._wrap(lines, width):
            self._room(line.height)
            self._draw(line, x)

    def _wrap(self, lines: _Lines, width: float) -> list[_Line | _Code]:
        wrapped: list[_Line | _Code] = []
        for line in lines:
            if isinstance(line, _Code):
                wrapped.append(line)
                continue
            parts = self._wrapped(line.text, width / (line.size * _POINT))
            wrapped += [_Line(part, line.size, line.grey, line.bold) for part in parts]
        return wrapped

    def _wrap_text(self, text: str, width: float) -> list[str]:
        shown = printable(text, self._has)
        self.replaced |= shown != text and MARK in shown
        return break_lines(shown, width, self._em)

    def _draw(self, line: _Line | _Code, x: float) -> None:
        if isinstance(line, _Code):
            side = line.picture.side
            # grey: the library writes pictures of one bit wrongly under this filter
            self._pdf.image(line.picture.code.picture().convert("L"), x, self._y, side, side)
        elif line.text:
            self._print(line, x)
        self._y += line.height

    def _print(self, line: _Line, x: float) -> None:
        if self._style != (line.size, line.grey):  # asking the library takes as long as printing
            self._style = line.size, line.grey
            self._pdf.set_font("paper", size=line.size)
            self._pdf.set_text_color(line.grey)
        place = x, self._y + line.height * 0.74, line.text
        if not line.bold:
            self._pdf.text(*place)
            return
        # there is one weight: bold is the outline drawn with it
        with self._pdf.local_context(text_mode=TextMode.FILL_STROKE, draw_color=line.grey, line_width=line.size / 28):
            self._pdf.text(*place)

    def _has(self, point: int) -> bool:
        return point in self._face.cmap

    def _width(self, character: str) -> float:
        """Of a character that the font has, as a part of the size of type."""
        return float(self._face.cw[ord(character)]) / 1000

    def _cut(self, text: str, width: float) -> str:
        line = printable(text.replace("\n", " "), self._has)
        first, *more = break_lines(line, width / (SMALL * _POINT) - 1, self._em)
        return f"{first}…" if more else first

    # -- volumes --

    def _open(self) -> None:
        self._pdf = _Pages(self._file)
        self._face: TTFFont = self._pdf.face
        title, volume = self._name, ""
        if self.volume > 1:
            volume = f"第{self.volume}册 "
            self._pdf.volume = f"第 {self.volume} 册 volume {self.volume} · "
        self._pdf.head = (
            self._cut(f"{title.zh} {volume}{title.en}", WIDTH * 0.4),
            self._cut(self._subject, WIDTH * 0.55),
        )
        self._pdf.set_title(" ".join(self._pdf.head))

    def _turn_volume(self) -> None:
        assert self._volumes is not None  # the caller asked
        before, self.volume = self.volume, self.volume + 1
        if before == 1:
            self._pdf.volume = "第 1 册 volume 1 · "
        self._pdf.continued = f" · 接第 {self.volume} 册 continued in volume {self.volume}"
        self._pdf.output(self._stream)
        self._face.close()
        self._stream = self._volumes(self.volume)
        self._open()
        self._add_page()
        name = self._name
        self.title(Bilingual(f"{name.zh} 第{self.volume}册", f"{name.en}, volume {self.volume}"))
        self._lines([_Line(self._subject, 12.5, _INK), *self._of(_continues(before))], LEFT, WIDTH)
        self._y += 3
        if self._section and not self._pending:
            self._head_section([_Line(f"{self._section[0].text}（续）", 12.5, _INK, True), *self._section[1:]])

    # -- pages --

    @property
    def _left(self) -> float:
        return 297 - BOTTOM - self._y

    def _begin(self, height: float) -> None:
        """Makes room for what comes next, `height` mm of it, and for the heading above it."""
        heading, self._pending = self._pending, []
        self._room(height + sum(line.height for line in heading) + 6 if heading else height)
        if heading:
            self._y += 3 if self._y > TOP else 0
            self._section = heading
            self._head_section(heading)

    def _head_section(self, heading: list[_Line]) -> None:
        self._pdf.set_y(self._y)
        self._pdf.start_section(" ".join(printable(line.text, self._has) for line in heading))
        self._lines(heading, LEFT, WIDTH)
        self._y += 1.5

    def _room(self, height: float) -> None:
        if self._left < height:
            self._new_page()

    def _new_page(self) -> None:
        if self._volumes is not None and self._pdf.page_no() == VOLUME_PAGES:
            self._turn_volume()
        else:
            self._add_page()

    def _add_page(self) -> None:
        self._pdf.add_page()
        self._y = TOP
        self._style = None


def _continues(before: int) -> Bilingual:
    return Bilingual(
        f"接第 {before} 册。怎样核验见第 1 册首页。",
        f"Continues volume {before}. How to verify: see the first page of volume 1.",
    )


def _height(cells: Sequence[_Lines]) -> float:
    return max(sum(line.height for line in lines) for lines in cells) + 2 * _PAD


def _take(lines: _Lines, room: float) -> list[_Line | _Code]:
    """The first lines that fit in `room` mm, at least one: a picture taller than a page would never fit."""
    taken: list[_Line | _Code] = []
    for line in lines:
        room -= line.height
        if room < 0 and taken:
            break
        taken.append(line)
    return taken
