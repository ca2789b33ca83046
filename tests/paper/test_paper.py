"""Documents of record: text that comes back, hostile text, long rows, the same bytes, no font."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pypdfium2
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import CouldNotRun, Malformed
from ledger.paper import fonts, qr
from ledger.paper.html import HtmlPage
from ledger.paper.lines import MAX_TEXT, break_lines, printable
from ledger.paper.parts import Bilingual, Cell, Column, Hash, Link, Picture, Strong
from ledger.paper.qr import MAX_BYTES, QrCode, QrSeries
from ledger.paper.sheet import Sheet

COLUMNS = (Column(Bilingual("名称", "Name"), 60), Column(Bilingual("来源", "Source"), 112))


def pdf_of(*rows: tuple[Cell, Cell], subject: str = "杭消罚决字〔2026〕第12号") -> bytes:
    """A document with one table of these rows."""
    out = io.BytesIO()
    with Sheet(out, Bilingual("目录", "Index"), subject) as sheet:
        sheet.title(Bilingual("目录", "Index"))
        sheet.heading(Bilingual("清单", "List"))
        sheet.table(COLUMNS, rows, empty=Bilingual("无。", "None."))
    return out.getvalue()


def pages_of(pdf: bytes) -> list[str]:
    """What somebody else's reader takes out of each page, without white space."""
    document = pypdfium2.PdfDocument(pdf)
    texts = [re.sub(r"\s", "", page.get_textpage().get_text_range()) for page in document]
    document.close()
    return texts


def text_of(pdf: bytes) -> str:
    """The same of all pages."""
    return "".join(pages_of(pdf))


def all_shown(_: int) -> bool:
    return True


def test_chinese_text_comes_back() -> None:
    text = text_of(pdf_of(("灭火器压力不足，龘𬬻", Bilingual("现场检查", "inspection"))))
    for expected in ("灭火器压力不足，龘𬬻", "现场检查", "inspection", "杭消罚决字〔2026〕第12号", "第1页，共1页"):
        assert expected in text


def test_the_same_calls_give_the_same_bytes_without_a_time_in_them() -> None:
    row = ("名称", [Hash("ab" * 32), Picture(QrCode("text"))])
    one, two = pdf_of(row), pdf_of(row)
    assert one == two
    assert re.findall(rb"D:(\d{4})", one) == [b"1980"]


HOSTILE = {
    "the direction of writing turned round": ("a\u202egpj.exe", "a〔U+202E〕gpj.exe"),
    "an isolate left open": ("\u2067abc", "〔U+2067〕abc"),
    "nothing to be seen": ("a\u200bb", "a〔U+200B〕b"),
    "a terminal's colours": ("\x1b[31mred", "〔U+001B〕[31mred"),
    "the end of a string": ("a\x00b", "a〔U+0000〕b"),
    "half a pair": ("\ud800", "〔U+D800〕"),
    "a private character": ("\ue000", "〔U+E000〕"),
    "no glyph: a picture": ("👍", "〔U+1F44D〕"),
    "no glyph: Arabic": ("ع", "〔U+0639〕"),
    "the mark of the number of pages": ("{pages}{nb}", "{pages}{nb}"),
    "a mark on nothing": ("\u0301e\u0301", "〔U+0301〕e\u0301"),
    "letters that nobody sees": ("a\u3164\u2800b", "a〔U+3164〕〔U+2800〕b"),
    "blanks alone": ("\u3000 \u00a0", "〔U+3000〕〔U+0020〕〔U+00A0〕"),
    "operators of PDF": (") Tj ET Q", ")TjETQ"),
}


@pytest.fixture(scope="module")
def hostile() -> str:
    """One document with all of them, in its rows and in its head."""
    rows = [(text, f"row{number}") for number, (text, _) in enumerate(HOSTILE.values())]
    return text_of(pdf_of(*rows, subject="".join(text for text, _ in HOSTILE.values())))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_shown_and_harmless(hostile: str, name: str) -> None:
    assert f"{HOSTILE[name][1]}row{list(HOSTILE).index(name)}" in hostile
    assert hostile.endswith("第1页，共1页·page1of1")


def test_headings_are_bookmarks_of_their_pages() -> None:
    out = io.BytesIO()
    with Sheet(out, Bilingual("目录", "Index"), "") as sheet:
        for part in ("甲", "乙"):
            sheet.heading(Bilingual(part, "part"))
            sheet.table(COLUMNS, ((f"{n}", "") for n in range(60)))
    document = pypdfium2.PdfDocument(out.getvalue())
    marks = [(mark.get_title(), mark.get_dest().get_index()) for mark in document.get_toc()]
    assert [title for title, _ in marks] == ["甲 part", "乙 part"]
    assert all(title[0] in document[page].get_textpage().get_text_range() for title, page in marks)
    document.close()


def test_a_word_wider_than_its_column_is_broken_and_whole() -> None:
    assert "W" * 500 in text_of(pdf_of(("W" * 500, "")))


def test_a_row_taller_than_a_page_goes_on_under_the_same_head() -> None:
    pdf = pdf_of(("长" * 9_000, "W"), ("尾", ""))
    pages, text = pages_of(pdf), text_of(pdf)
    assert len(pages) > 2
    assert text.count("长") == 9_000
    assert text.endswith(f"第{len(pages)}页，共{len(pages)}页·page{len(pages)}of{len(pages)}")
    assert all("名称" in page for page in pages)


def test_a_long_subject_leaves_the_title_alone() -> None:
    text = text_of(pdf_of(("a", "b"), subject="案" * 100))
    assert text.startswith("目录Index" + "案" * 20)
    assert "案…" in text
    assert text.count("案") < 40


def test_no_heap_of_marks_covers_a_line() -> None:
    assert printable("e" + "\u0301" * 10, all_shown) == "e" + "\u0301" * 8 + "〔U+0301〕" * 2


def test_a_text_without_end_is_cut_and_says_so() -> None:
    assert printable("x" * (MAX_TEXT + 1_234), all_shown).endswith("x…〔+1,234〕")


def test_an_empty_table_says_so() -> None:
    assert "无。" in text_of(pdf_of())


def test_every_kind_of_part_is_printed() -> None:
    parts = ["普通", Strong(Bilingual("注意", "beware")), Hash("ab" * 32), Link("data/x.pdf", "x.pdf")]
    text = text_of(pdf_of((parts, "")))
    assert "无。" not in text
    assert all(expected in text for expected in ("普通", "注意", "beware", "ab" * 32, "data/x.pdf"))


@given(st.text(max_size=200), st.integers(1, 40))
def test_lines_keep_within_their_width_and_lose_only_spaces(text: str, width: int) -> None:
    shown = printable(text, all_shown)
    lines = break_lines(shown, width, lambda _: 1.0)
    assert all(len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == shown.replace("\n", "").replace(" ", "")


def test_punctuation_does_not_begin_a_line() -> None:
    lines = break_lines("证明灭火器压力不足，通道被占用。（见照片）", 9, lambda _: 1.0)
    assert not any(line[0] in "，。）" for line in lines)
    assert not any(line[-1] == "（" for line in lines)


def test_the_picture_shows_every_module_with_its_quiet_zone() -> None:
    code = QrCode("云玺卷宗\n第 12 项")
    picture = code.picture()
    assert picture.size == (len(code.rows) + 8, len(code.rows) + 8)
    dark = [picture.getpixel((x + 4, y + 4)) == 0 for y in range(len(code.rows)) for x in range(len(code.rows))]
    assert dark == [bool(module) for row in code.rows for module in row]
    assert sum(picture.histogram()[:128]) == sum(dark)  # nothing dark around them
    assert code.png().startswith(b"\x89PNG")
    assert b"<svg" in code.svg()


BYTES, UTF8 = "0100", "0111" + "00011010"


@pytest.mark.parametrize(
    ("text", "head"),
    [("云玺", UTF8 + BYTES), ("第12项", UTF8 + BYTES), ("12345", BYTES), ("ABC-12", BYTES), ("https://a.cn", BYTES)],
)
def test_a_code_says_that_it_holds_bytes_of_utf_8(text: str, head: str) -> None:
    # as UTF-8 the first would be kanji too; the message begins in the lower right corner, two by two, under mask 3
    rows = QrCode(text).rows
    side = len(rows)
    places = [(side - row, side - column) for row in range(1, 9) for column in (1, 2)]
    bits = "".join(str(rows[row][column] ^ ((row + column) % 3 == 0)) for row, column in places)
    assert bits.startswith(head)


@pytest.mark.parametrize("head", ["案号\n", "case\n"])
def test_a_series_gives_the_codes_that_are_made_one_by_one(monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    monkeypatch.setattr(qr, "_WORTH", 1)
    series = QrSeries()
    for n in range(8, 14):  # two lengths
        text = f"{head}item {n} {hashlib.sha256(b'%d' % n).hexdigest()[:12]}"
        assert series.code(text).rows == QrCode(text).rows
        assert series.code(text).png() == QrCode(text).png()


def test_another_reader_reads_the_codes_of_a_printed_page(tmp_path: Path) -> None:
    zbarimg = shutil.which("zbarimg")
    if zbarimg is None:
        pytest.skip("no zbarimg on this machine; Debian's zbar-tools has it")
    texts = [f"云玺卷宗\n望消立〔2026〕7号\nitem {n}\nleaf {'3e' * 32}" for n in range(4)]
    texts += ["云玺", "x" * 600]
    document = pypdfium2.PdfDocument(pdf_of(*((Picture(QrCode(text)), text) for text in texts)))
    page = tmp_path / "page.png"
    document[0].render(scale=300 / 72).to_pil().save(page)
    document.close()
    read = subprocess.run([zbarimg, "-q", "--raw", page], capture_output=True, check=False).stdout.decode()
    assert sorted(read.splitlines()) == sorted("\n".join(texts).splitlines())


@pytest.mark.parametrize("text", ["", "x" * (MAX_BYTES + 1)])
def test_a_code_without_or_with_too_much_text_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="QR code"):
        QrCode(text)


def test_a_named_font_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(fonts.FONT_VARIABLE, str(tmp_path / "none.otf"))
    with pytest.raises(CouldNotRun, match=fonts.FONT_VARIABLE):
        fonts.find_font()


def test_a_named_font_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "none.otf").write_bytes(b"not a font")
    monkeypatch.setenv(fonts.FONT_VARIABLE, str(tmp_path / "none.otf"))
    with pytest.raises(CouldNotRun, match="is no font"):
        pdf_of(("a", "b"))


def make_font(path: Path, points: Iterable[int]) -> None:
    """A font of TrueType outlines and glyphs without names of their own."""
    glyphs = FontBuilder(1_000, isTTF=True)
    names = [".notdef", *(f"g{point}" for point in points)]
    pen = TTGlyphPen(None)
    for place in ((0, 0), (0, 700), (500, 700)):
        pen.lineTo(place) if place != (0, 0) else pen.moveTo(place)
    pen.closePath()
    glyphs.setupGlyphOrder(names)
    glyphs.setupCharacterMap({int(name[1:]): name for name in names[1:]})
    glyphs.setupGlyf(dict.fromkeys(names, pen.glyph()))
    glyphs.setupHorizontalMetrics(dict.fromkeys(names, (600, 0)))
    glyphs.setupHorizontalHeader(ascent=800, descent=-200)
    glyphs.setupNameTable({"fullName": "Made", "psName": "Made"})
    glyphs.setupOS2()
    glyphs.setupPost()
    glyphs.save(path)


def test_a_font_of_the_other_kind_prints_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_font(tmp_path / "made.ttf", [*range(32, 127), *map(ord, "〔〕…，·第页共")])
    monkeypatch.setenv(fonts.FONT_VARIABLE, str(tmp_path / "made.ttf"))
    assert "abcXYZ〔U+76EE〕" in text_of(pdf_of(("abcXYZ目", "row")))


def test_a_font_without_chinese_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_font(tmp_path / "latin.ttf", range(32, 127))
    monkeypatch.setenv(fonts.FONT_VARIABLE, str(tmp_path / "latin.ttf"))
    with pytest.raises(CouldNotRun, match="no font for Chinese"):
        pdf_of(("a", "b"))


def test_without_any_font_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(fonts.FONT_VARIABLE, raising=False)
    monkeypatch.setattr(fonts, "_PACKAGE", "no_such_package")
    monkeypatch.setattr(fonts, "_DEBIAN", tmp_path / "none.ttc")
    with pytest.raises(CouldNotRun, match="pip install pylopdf-fonts-zh-cn"):
        fonts.find_font()


def test_html_escapes_links_only_beside_itself_and_runs_nothing() -> None:
    page = HtmlPage(Bilingual("目录", "Index"), '"><script>alert(1)</script>')
    links = [Link("a", "records/000001.sd-jwt"), Link("up", "../case.json")]
    bad = [Link("b", "https://example.org"), Link("c", "javascript:alert(1)"), Link("d", "../../x"), Link("e", "//x")]
    page.title(Bilingual("<b>目录</b>", "Index"))
    page.heading(Bilingual("清单", "List"))
    page.table(COLUMNS, [("a\u202eb<img src=x>", [*links, *bad])])
    text = page.bytes().decode()
    assert "<script" not in text
    assert "<img" not in text
    assert "a〔U+202E〕b&lt;img src=x&gt;" in text
    assert re.findall(r'href="([^"]*)"', text) == ["#s1", "records/000001.sd-jwt", "../case.json"]
    assert "default-src &#x27;none&#x27;" in text
