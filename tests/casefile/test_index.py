"""The index of a case file: what stands in it, in which list, under which links; hostile names; many items."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pypdfium2
import pytest

from ledger.casefile.index import Labels, index_html, qr_text, write_index_pdf
from ledger.casefile.index_words import AS_ITEMS, HOW, NO_GAPS, REPLACED, VERDICTS
from ledger.formats.casefile import (
    CaseAttachment,
    CaseFile,
    Decision,
    Gap,
    Item,
    attachment_path,
    is_path,
    manifest_path,
    receipt_path,
    record_path,
    role_of,
)
from ledger.paper import sheet
from ledger.paper.parts import Bilingual

LABELS = Labels(
    {"photo.taken": Bilingual("现场照片", "Photo taken")},
    {"fire": Bilingual("区消防救援大队", "Fire and Rescue")},
    "12" * 32,
)
TYPES = (
    "case.filed",
    "photo.taken",
    "inspection.finding",
    "media.derived",
    "decision.made",
    "note.added",
    "case.closed",
)
DECIDED = TYPES.index("decision.made") + 1


def item(n: int, record_type: str, **changes: object) -> Item:
    """Item `n`, before the decision where its number is lower."""
    attachments = ()
    if record_type == "photo.taken":
        digest = hashlib.sha256(b"%d" % n).hexdigest()
        given = CaseAttachment(1, "东门.jpg", "image/jpeg", 12_345, digest, attachment_path(n, 1, "image/jpeg"))
        attachments = (given, replace(given, ordinal=2, path=None))
    made = Item(
        n=n,
        role=role_of(record_type),
        record_id=f"0198c0de-0000-7000-8333-{n:012x}",
        type=record_type,
        v=1,
        department="fire",
        index=n * 3,
        leaf=hashlib.sha256(b"leaf %d" % n).hexdigest(),
        sealed_at=1_763_800_000 + n,
        before_decision=n < DECIDED,
        amends=None,
        name=f"第{n}份材料",
        source="执法记录仪 ZF-0012",
        purpose="证明疏散通道被占用",
        date="2026-10-02",
        page="14-15",
        record=record_path(n),
        receipt=receipt_path(n),
        anchor=None,
        times=(),
        attachments=attachments,
        forgotten=False,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def case_file(*items: Item, gaps: tuple[Gap, ...] = ()) -> CaseFile:
    """A case file of these items, or of one of each type."""
    found = items or tuple(item(n, name) for n, name in enumerate(TYPES, 1))
    decisions = tuple(
        Decision(each.n, manifest_path(each.n), each.n - 1, "ab" * 32, 99, "cd" * 32)
        for each in found
        if each.type == "decision.made"
    )
    return CaseFile("杭消罚决字〔2026〕第12号", "district.example", "fire", "某某法院", 30, 1, found, decisions, gaps)


def pdf_of(found: CaseFile) -> bytes:
    """index.pdf."""
    out = io.BytesIO()
    write_index_pdf(lambda _: out, found, LABELS)
    return out.getvalue()


def pages_of(found: CaseFile) -> list[str]:
    """The text of each page of the only volume, without white space."""
    return pages_in(pdf_of(found))


def pages_in(pdf: bytes) -> list[str]:
    """The same of a PDF."""
    document = pypdfium2.PdfDocument(pdf)
    texts = [re.sub(r"\s", "", page.get_textpage().get_text_range()) for page in document]
    document.close()
    return texts


def volumes_of(found: CaseFile) -> list[list[str]]:
    """The same of every volume."""
    streams: list[io.BytesIO] = []

    def begin(number: int) -> io.BytesIO:
        assert number == len(streams) + 1
        streams.append(io.BytesIO())
        return streams[-1]

    write_index_pdf(begin, found, LABELS)
    return [pages_in(stream.getvalue()) for stream in streams]


class Reader(HTMLParser):
    """What a browser would follow, run and load."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") or name in ("src", "style", "srcset") for name, _ in attrs)
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_first_page_tells_the_clerk_how_to_verify() -> None:
    first = pages_of(case_file())[0]
    for text in [*HOW, *(part for row in VERDICTS for part in row)]:
        assert re.sub(r"\s", "", text.zh) in first
        assert re.sub(r"\s", "", text.en) in first
    assert "区消防救援大队" in first
    assert "12" * 32 in first


def test_before_and_after_the_decision_stand_apart() -> None:
    text = "".join(pages_of(case_file()))
    lists = text.split("证据清单（一）")[1].split("保管与派生经过")[0]
    before, after = lists.split("证据清单（二）")
    assert [int(n) for n in re.findall(r"第(\d)份材料", before)] == [2, 3, 4]
    assert [int(n) for n in re.findall(r"第(\d)份材料", after)] == [6]


def test_of_several_decisions_the_first_is_meant() -> None:
    kinds = ("photo.taken", "decision.made", "note.added", "decision.made")
    text = "".join(pages_of(case_file(*(item(n, kind) for n, kind in enumerate(kinds, 1)))))
    assert "本案有2份决定，所称决定以前、以后，均以最先的一份（第2项）为准。" in text


def test_without_a_decision_nothing_is_said_to_be_before_or_after() -> None:
    items = [replace(item(n, name), before_decision=None) for n, name in enumerate(TYPES[:4], 1)]
    text = "".join(pages_of(case_file(*items)))
    assert "证据清单（一）" not in text
    assert "提交部门（签名或者盖章）" in text
    assert [int(n) for n in re.findall(r"第(\d)份材料", text.split("证据清单")[1].split("保管")[0])] == [2, 3, 4]


def test_gaps_are_shown_as_gaps() -> None:
    shown = Gap("hearing-missing", "fire", None, "没有听证记录。", "There is no record of a hearing.")
    with_gap, without = pages_of(case_file(gaps=(shown,))), pages_of(case_file())
    assert "没有听证记录。" in "".join(with_gap)
    assert "Thereisnorecordofahearing." in "".join(with_gap)
    assert NO_GAPS.zh in "".join(without)


def test_what_is_not_stated_or_gone_is_said() -> None:
    bare = item(
        1, "note.added", source=None, purpose=None, date=None, page=None, forgotten=True, index=None, receipt=None
    )
    text = "".join(pages_of(case_file(bare)))
    assert text.count("未载明") >= 4
    assert "内容已依法销毁" in text
    assert "尚无回执" in text


def test_every_item_has_its_ids_and_its_attachments_their_digests() -> None:
    found = case_file()
    text = "".join(pages_of(found))
    for each in found.items:
        assert each.record_id in text
        assert each.leaf in text
        assert all(attachment.sha256 in text for attachment in each.attachments)
    assert "未提交" in text


def test_the_code_of_an_item_says_case_number_record_and_leaf_and_no_address() -> None:
    found = case_file()
    text = qr_text(found, found.items[2])
    assert all(part in text for part in (found.case, "item 3", found.items[2].record_id, found.items[2].leaf))
    assert "://" not in text


def test_the_same_model_gives_the_same_bytes() -> None:
    assert pdf_of(case_file()) == pdf_of(case_file())
    assert index_html(case_file(), LABELS) == index_html(case_file(), LABELS)


def test_a_character_that_cannot_be_printed_is_explained() -> None:
    odd = "".join(pages_of(case_file(item(1, "note.added", name="吉𠮷 ᠮᠣᠩᠭᠣᠯ"))))
    assert "吉〔U+20BB7〕〔U+182E〕" in odd
    assert re.sub(r"\s", "", REPLACED.zh) in odd
    assert REPLACED.zh not in "".join(pages_of(case_file()))
    assert "吉𠮷 ᠮᠣᠩᠭᠣᠯ".encode() in index_html(case_file(item(1, "note.added", name="吉𠮷 ᠮᠣᠩᠭᠣᠯ")), LABELS)


def test_pages_of_records_of_others_are_not_called_withheld() -> None:
    page = CaseAttachment(1, "presentations.txt", "text/plain", 9, "ab" * 32, None)
    text = "".join(pages_of(case_file(item(1, "disclosure.received", attachments=(page,)))))
    assert AS_ITEMS.zh in text
    assert "未提交" not in text


def test_html_links_to_files_of_the_bag_and_runs_nothing() -> None:
    found = case_file()
    reader = Reader(index_html(found, LABELS))
    files = [link for link in reader.links if not link.startswith("#")]
    assert all(is_path(f"data/{link}") for link in files)
    assert {f"data/{link}" for link in files} == set(found.paths()) - {
        "data/trust.json", "data/index.html", "data/index.pdf", "data/custody.jsonld",
    }  # fmt: skip
    assert reader.tags.isdisjoint({"script", "iframe", "object", "embed", "form", "img", "link", "base"})


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "</title><img src=x onerror=alert(1)>",
        "a\u202egpj.exe",
        "'\"&<",
        "W" * 2_000,
        "\u200b",
    ],
)
def test_hostile_names_are_harmless_in_both(name: str) -> None:
    each = item(1, "photo.taken", name=name, source=name, purpose=name, page=name)
    hostile = replace(case_file(each), case=name[:200], exported_for=name)
    reader = Reader(index_html(hostile, LABELS))
    assert reader.tags.isdisjoint({"script", "img"})
    shown = re.sub(r"\s", "", name.replace("\u202e", "〔U+202E〕").replace("\u200b", "〔U+200B〕"))
    assert any(shown in re.sub(r"\s", "", text) for text in reader.texts)
    assert shown in "".join(pages_of(hostile))


def test_what_was_corrected_says_by_which_item_and_when() -> None:
    first = item(1, "photo.taken")
    second = item(2, "note.added", amends=first.record_id)
    third = item(3, "note.added", amends="0198c0de-0000-7000-8333-00000000ffff")
    found = case_file(first, second, third)
    for text in ("".join(pages_of(found)), re.sub(r"\s", "", "".join(Reader(index_html(found, LABELS)).texts))):
        assert "已由第2项（北京时间2025年11月22日16时26分42秒）更正或者撤回" in text
        assert "correctedorwithdrawnbyitem2,2025-11-2208:26:42UTC" in text
        assert "更正或者撤回第1项" in text
        assert "更正或者撤回不在本卷宗内的记录" in text


def test_volumes_continue_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "VOLUME_PAGES", 3)
    found = case_file(*(item(n, "photo.taken" if n % 2 else "note.added") for n in range(1, 121)))
    volumes = volumes_of(found)
    assert [len(pages) for pages in volumes[:-1]] == [3] * (len(volumes) - 1)
    assert 1 <= len(volumes[-1]) <= 3
    for number, pages in enumerate(volumes, 1):
        assert f"第{number}册volume{number}·第{len(pages)}页，共{len(pages)}页" in pages[-1]
        assert ("接第" in pages[0]) == (number > 1)
        assert (f"接第{number + 1}册continuedinvolume{number + 1}" in pages[-1]) == (number < len(volumes))
        assert "杭消罚决字〔2026〕第12号" in pages[0]
    text = "".join("".join(pages) for pages in volumes)
    assert all(each.record_id in text for each in found.items)
    assert all(file.sha256 in text for each in found.items for file in each.attachments)
    assert volumes_of(found) == volumes


@pytest.mark.slow
def test_ten_thousand_items() -> None:
    found = case_file(*(item(n, "photo.taken" if n % 2 else "note.added") for n in range(1, 10_001)))
    volumes = volumes_of(found)
    assert [len(pages) for pages in volumes[:-1]] == [200] * (len(volumes) - 1)
    assert sum(map(len, volumes)) > 1_000
    assert found.items[-1].record_id in volumes[-1][-1]
