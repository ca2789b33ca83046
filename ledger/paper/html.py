"""The same document as one static HTML file: no script, nothing loaded, links to files beside it only."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from html import escape

from ledger.paper.lines import printable
from ledger.paper.parts import Bilingual, Cell, Column, Hash, Link, Part, Picture, Rows, Strong

_HREF = re.compile(r"(?:\.\./)?[a-z0-9][a-z0-9_-]*(?:[./][a-z0-9_-]+)*")
"""A path beside or one above the document; nothing that names a host, a scheme or a script."""

_STYLE = """
:root { color-scheme: light; font: 15px/1.55 system-ui, "Noto Sans SC", "Microsoft YaHei", sans-serif; color: #1a1a1a; }
body { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; margin: 0 0 .8rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
h1 small, h2 small { display: block; font-weight: 400; }
small, .en { color: #555; font-size: .85em; } .en { display: block; }
.strong { font-weight: 700; color: #8a1500; } .strong .en { font-weight: 400; color: inherit; }
.scroll { overflow-x: auto; } @media screen { .wide { min-width: 46rem; } }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid #ccc; padding: .4rem .5rem; text-align: left; vertical-align: top; }
thead th { background: #eee; white-space: nowrap; }
tbody th { font-weight: 400; min-width: 6.5rem; }
td > div, th > div, p { unicode-bidi: isolate; overflow-wrap: anywhere; white-space: pre-line; }
code { font-size: .8em; overflow-wrap: anywhere; }
img { image-rendering: pixelated; width: 8rem; }
a { color: #0a4b8f; } ol li { margin: .4rem 0; }
nav { columns: 20rem; margin: 0 0 1rem; } nav a { display: block; padding: .15rem 0; }
@page { margin: 14mm; @bottom-center { content: counter(page) " / " counter(pages); font-size: 9pt; } }
@media print { nav { display: none; } .scroll { overflow: visible; } tr, li { break-inside: avoid; }
  h2 { break-after: avoid; } a { color: inherit; text-decoration: none; } }
"""

_POLICY = "default-src 'none'; style-src {style}; img-src data:; base-uri 'none'; form-action 'none'"


class HtmlPage:
    """A document while it is written. See `ledger.paper.parts.Paper`."""

    def __init__(self, title: Bilingual, subject: str) -> None:
        self._name = f"{title.zh} {title.en} {subject}"
        self._parts: list[str] = []
        self._headings: list[Bilingual] = []

    def title(self, text: Bilingual) -> None:
        """The document's name, large."""
        self._parts.append(f'<h1>{_text(text.zh)} <small lang="en">{_text(text.en)}</small></h1>\n')

    def heading(self, text: Bilingual) -> None:
        """A heading; the list of contents leads to it."""
        self._headings.append(text)
        number = len(self._headings)
        self._parts.append(f'<h2 id="s{number}">{_text(text.zh)} <small lang="en">{_text(text.en)}</small></h2>\n')

    def paragraph(self, *parts: Part) -> None:
        """Text over the whole width."""
        self._parts.extend(f"<p>{_part(part)}</p>\n" for part in parts)

    def numbered(self, texts: Iterable[Bilingual]) -> None:
        """A numbered list."""
        self._parts.append("<ol>\n" + "".join(f"<li>{_part(text)}</li>\n" for text in texts) + "</ol>\n")

    def table(self, columns: Sequence[Column], rows: Rows, *, empty: Bilingual | None = None) -> None:
        """A table; `empty` is said where there are no rows."""
        named = any(column.title.zh for column in columns)
        body = [_row(row, headed=not named) for row in rows]
        if not body:
            self.paragraph(*([empty] if empty else []))
            return
        head = "".join(f'<th scope="col">{_part(column.title)}</th>' for column in columns)
        thead = f"<thead><tr>{head}</tr></thead>" if named else ""
        # a narrow screen moves it sideways, by keyboard too
        label = _text(self._headings[-1].zh if self._headings else self._name)
        region = f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">'
        table = '<table class="wide">' if named else "<table>"
        self._parts += [f"{region}{table}{thead}<tbody>\n", *body, "</tbody></table></div>\n"]

    def bytes(self) -> bytes:
        """The finished file, UTF-8."""
        style = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
        policy = escape(_POLICY.format(style=f"'sha256-{style}'"))
        links = "".join(f'<a href="#s{n}">{_text(h.zh)} {_text(h.en)}</a>' for n, h in enumerate(self._headings, 1))
        head = (
            '<!doctype html>\n<html lang="zh-CN">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="referrer" content="no-referrer">\n'
            f"<title>{_text(self._name)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        )
        first, *rest = self._parts or [""]
        return "".join([head, first, f"<nav>{links}</nav>\n", *rest, "</body>\n</html>\n"]).encode()


def _row(row: Sequence[Cell], *, headed: bool) -> str:
    """`headed`: the first cell says what the row is."""
    first = f'<th scope="row">{_cell(row[0])}</th>' if headed else f"<td>{_cell(row[0])}</td>"
    return f"<tr>{first}" + "".join(f"<td>{_cell(cell)}</td>" for cell in row[1:]) + "</tr>\n"


def _cell(cell: Cell) -> str:
    parts = cell if isinstance(cell, Sequence) and not isinstance(cell, str) else [cell]
    return "".join(f"<div>{_part(part)}</div>" for part in parts)


def _part(part: Part) -> str:
    match part:
        case str():
            return _text(part)
        case Bilingual(zh, en):
            return _text(zh) + (f' <span class="en" lang="en">{_text(en)}</span>' if en != zh else "")
        case Strong(text):
            return f'<span class="strong">{_part(text)}</span>'
        case Hash(text):
            return f"<code>{_text(text)}</code>"
        case Link(text, href):
            return f'<a href="{href}">{_text(text)}</a>' if _HREF.fullmatch(href) else _text(text)
        case Picture(code, _):
            data = base64.b64encode(code.png(1)).decode()
            return f'<img alt="{_text(code.text)}" src="data:image/png;base64,{data}">'


def _text(text: str) -> str:
    return escape(printable(text, lambda _: True), quote=True)
