"""XML files (XML 1.0): one element a row, wherever it stands. Its attributes and inner elements become columns.

    <report no="7"><shop>A</shop><place><street>S</street></place></report>   ->   @no, shop, place.street

Names are taken without their namespace. An element that stands several times gives a list. A file is read through
expat in constant memory, and is refused with the first document type declaration: so it has no entities, no external
parts and no defaults. Depth, sizes and the number of columns are bounded. Behind the first place that is not
well-formed there is no way to find the next row, so a damaged file ends there; the rows before it are whole.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat

from adapters.files import DAMAGE, FileOptions, FileRefused, is_ascii_compatible, open_stream
from adapters.sections import Section
from adapters.source import BadRow, Limits, Opening, Page, Row, excerpt

MAX_DEPTH = 64
MAX_ROW_DEPTH = 8

_CHUNK = 1 << 16
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_NAME = re.compile(r"[^\s/<>&@.]{1,100}")
_DECLARED = re.compile(rb"""<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]{0,40})["']""")
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True, slots=True)
class XmlOptions:
    """`[source]` with kind = "xml"."""

    files: FileOptions
    row: tuple[str, ...]

    @classmethod
    def parse(cls, section: Section) -> XmlOptions:
        """Takes the options of this kind from a `[source]` table."""
        row = tuple(section.require("row", str).split("/"))
        if not all(_NAME.fullmatch(name) for name in row) or len(row) > MAX_DEPTH:
            section.refuse('"source.row" must be the name of the row\'s element, or names with "/" between them')
        return cls(FileOptions.parse(section), row)

    def open(self, opening: Opening) -> XmlFiles:
        """The files; raises CouldNotRun where there is none."""
        return XmlFiles(self, self.files.find(opening), opening.each, opening.limits)


class XmlFiles:
    """A source of XML files."""

    def __init__(
        self, options: XmlOptions, files: list[tuple[str, Path]], each: frozenset[str], limits: Limits
    ) -> None:
        self._options = options
        self._files = files
        self._each = each
        self._limits = limits

    def pages(self, marks: Mapping[str, str], size: int) -> Generator[Page]:
        """See Source. A file that turns out to be damaged behind some rows ends there with a BadRow."""
        for part, path in self._files:
            try:
                yield from self._read(part, path, marks.get(part), size)
            except FileRefused as refused:
                yield Page(part, (refused.bad,), None)

    def _read(self, part: str, path: Path, mark: str | None, size: int) -> Iterator[Page]:
        document = _Document(part, self._options.row, self._each, self._limits)
        with open_stream(path) as (stream, fraction), closing(document) as rows:
            reading = rows.read(stream)
            if mark is None or rows.resume(reading, mark):
                restarted = mark is None
                while chunk := tuple(islice(reading, size)):
                    yield Page(part, chunk, rows.mark(), restarted, fraction=fraction())
                    restarted = False
                if rows.damage is not None:
                    raise FileRefused(rows.damage)
                return
        yield from self._read(part, path, None, size)


@dataclass(slots=True)
class _Element:
    """An element of a row that is not closed yet. `entry`: its attributes and inner elements, where they are wanted as
    an entry of a list."""

    column: str
    entry: dict[str, Any] | None = None
    nil: bool = False
    inner: bool = False
    texts: list[str] = field(default_factory=list)


class _Refused(Exception):
    """The file is refused from here on; the text says why."""


class _Document:
    """One file on its way. The digest covers every row that was taken, by its values."""

    def __init__(self, part: str, row: tuple[str, ...], each: frozenset[str], limits: Limits) -> None:
        self._part = part
        self._row = row
        self._each = each
        self._limits = limits
        self._path: list[str] = []
        self._done: deque[tuple[Row | BadRow, bytes]] = deque()
        self._fed = self._found = self._taken = 0
        self._hash = hashlib.sha256()
        self.damage: BadRow | None = None
        self._clear()
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self._parser.StartDoctypeDeclHandler = _refuse_doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text

    def _clear(self) -> None:
        self._open: list[_Element] = []
        self._values: dict[str, Any] = {}
        self._size = 0
        self._bad: tuple[str, str] | None = None

    def close(self) -> None:
        """Breaks the circle between the parser and this object."""
        parser = self._parser
        parser.StartElementHandler = parser.EndElementHandler = parser.CharacterDataHandler = None

    def read(self, stream: IO[bytes]) -> Iterator[Row | BadRow]:
        """The rows; ends early and sets `damage` where the file cannot be read further."""
        pieces = self._pieces(stream)
        while True:
            while self._done:
                row, digest = self._done.popleft()
                self._taken += 1
                self._hash.update(digest)
                yield row
            # the piece that failed may have completed rows before the damage
            if not next(pieces, False) and not self._done:
                return

    def mark(self) -> str:
        """Where to go on: behind the last row that was taken."""
        return json.dumps({"row": self._taken, "sha256": self._hash.hexdigest()})

    def resume(self, rows: Iterator[Row | BadRow], mark: str) -> bool:
        """Takes every row up to `mark`; False where the file holds something else there."""
        wanted = json.loads(mark)
        while self._taken < wanted["row"] and next(rows, None) is not None:
            pass
        return bool(json.loads(self.mark()) == wanted)

    def _pieces(self, stream: IO[bytes]) -> Iterator[bool]:
        """Feeds the parser, True after every piece."""
        encoding = "utf-8"
        try:
            # read1: what stands before a damage is handed out before the damage is found
            take: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
            head = take(_CHUNK)
            encoding = _encoding(head)
            decoder = codecs.getincrementaldecoder(encoding)("strict")
            size, piece = 0, head
            while piece:
                size += len(piece)
                if size > self._limits.file_bytes:
                    raise _Refused(f"holds more than the {self._limits.file_bytes:,} bytes allowed")
                self._decode(decoder, piece)
                yield True
                piece = take(_CHUNK)
            self._feed(decoder.decode(b"", final=True))
            self._parser.Parse("", True)
        except UnicodeDecodeError as error:
            self._end_with("encoding", f"the file is not {encoding} ({error.reason})")
        except expat.ExpatError as error:
            self._end_with("bad-xml", f"the file is not well-formed at line {error.lineno}: {expat_words(error)}")
        except (_Refused, *DAMAGE) as error:
            self._end_with("bad-xml", f"the file {error}")

    def _decode(self, decoder: codecs.IncrementalDecoder, piece: bytes) -> None:
        try:
            self._feed(decoder.decode(piece))
        except UnicodeDecodeError as error:
            # the decoder's own rest of the piece before stands in front
            good = error.start - (len(error.object) - len(piece))
            if good > 0:
                self._feed(decoder.decode(piece[:good]))
            raise

    def _feed(self, text: str) -> None:
        self._parser.Parse(text, False)
        self._fed += len(text.encode())
        # expat holds a token until it is whole, and one without end would be the whole file
        if self._fed - max(self._parser.CurrentByteIndex, 0) > self._limits.row_bytes + _CHUNK * 4:
            raise _Refused(f"has a tag of more than {self._limits.row_bytes:,} bytes")

    def _end_with(self, reason: str, detail: str) -> None:
        self.damage = BadRow(f"{self._part}:{self._found + 1}", "", reason, f"{detail}; rows before that are done")

    # -- expat's events --

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = _local(name)
        self._path.append(name)
        if len(self._path) > MAX_DEPTH:
            raise _Refused(f"is nested deeper than {MAX_DEPTH}")
        if not self._open and tuple(self._path[-len(self._row) :]) != self._row:
            return
        outer = self._open[-1] if self._open else None
        prefix = f"{outer.column}." if outer is not None and outer.column else ""
        element = _Element(f"{prefix}{name}" if outer is not None else "")
        self._grow(1)  # empty elements take room too
        if outer is not None:
            outer.inner = True
            self._begin_entry(outer)
        self._open.append(element)
        if attributes:
            self._begin_entry(element)
        if len(self._open) > MAX_ROW_DEPTH + 1:
            self._spoil("bad-xml", f"the row is nested deeper than {MAX_ROW_DEPTH}")
        dot = f"{element.column}." if element.column else ""
        for attribute, value in attributes.items():
            if attribute.startswith(_XSI):
                element.nil = element.nil or (_local(attribute) == "nil" and value.strip() in ("true", "1"))
            else:
                self._grow(len(value))
                self._set(f"{dot}@{_local(attribute)}", value)

    def _begin_entry(self, element: _Element) -> None:
        if element.entry is None and element.column in self._each:
            element.entry = {}

    def _text(self, text: str) -> None:
        if self._open:
            self._grow(len(text))
            if self._bad is None:
                self._open[-1].texts.append(text)

    def _end(self, _: str) -> None:
        self._path.pop()
        if not self._open:
            return
        element = self._open[-1]
        text = "".join(element.texts)
        # white space between inner elements is layout, other text beside them is content
        is_row = len(self._open) == 1
        name = "#text" if is_row or element.entry is not None else element.column
        name = f"{element.column}.#text" if name == "#text" and not is_row else name
        if (not element.inner and not is_row) or text.strip():
            self._set(name, None if element.nil else text)
        elif element.nil:
            self._set(name, None)
        self._open.pop()
        if element.entry is not None and self._bad is None:
            place, column = self._place(element.column)
            place.setdefault(column, []).append(element.entry)
        if not self._open:
            self._finish()

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limits.row_bytes:
            self._spoil("too-long", f"the row has more than {self._limits.row_bytes:,} characters")

    def _set(self, column: str, value: str | None) -> None:
        if self._bad is not None:
            return
        if value is not None and len(value) > self._limits.field_chars:
            self._spoil("too-long", f"a field has more than {self._limits.field_chars:,} characters")
        else:
            self._put(*self._place(column), value)

    def _place(self, column: str) -> tuple[dict[str, Any], str]:
        """Where a column belongs: into the innermost open entry, under what is left of its name, or into the row."""
        for element in reversed(self._open):
            if element.entry is not None:
                return element.entry, column[len(element.column) + 1 :]
        return self._values, column

    def _put(self, values: dict[str, Any], column: str, value: str | None) -> None:
        if column not in values:
            values[column] = value
            if len(values) > self._limits.columns:
                self._spoil("bad-xml", f"the row has more than {self._limits.columns} columns")
        elif isinstance(values[column], list):
            values[column].append(value)
        else:
            values[column] = [values[column], value]

    def _spoil(self, reason: str, detail: str) -> None:
        if self._bad is None:
            self._bad = (reason, detail)

    def _finish(self) -> None:
        self._found += 1
        position = f"{self._part}:{self._found}"
        digest = hashlib.sha256(repr((self._values, self._size, self._bad)).encode("utf-8", "surrogatepass")).digest()
        if self._bad is None:
            self._done.append((Row(position, self._values), digest))
        else:
            raw = excerpt(json.dumps(self._values, ensure_ascii=False)[:10_000])
            self._done.append((BadRow(position, raw, *self._bad), digest))
        self._clear()


def expat_words(error: expat.ExpatError) -> str:
    """What expat found, in its own words."""
    return expat.ErrorString(error.code)


def _refuse_doctype(*_: Any) -> None:
    raise _Refused("carries a document type declaration, which may define entities; export it without")


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _encoding(head: bytes) -> str:
    """The encoding of a file by its byte order mark or XML declaration (XML 1.0, appendix F); UTF-8 without."""
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return encoding
    if head.startswith((b"<\0", b"\0<")):
        return "utf-16-le" if head.startswith(b"<\0") else "utf-16-be"
    declared = _DECLARED.match(head[:1024])
    name = declared[1].decode("ascii") if declared else "utf-8"
    if not is_ascii_compatible(name):
        raise _Refused(f'says that it is "{name}", which it cannot be; save it as UTF-8')
    # what says GB2312 is written by programs that know GBK: both are parts of GB18030
    return "gb18030" if codecs.lookup(name).name in ("gb2312", "gbk") else name
