"""The index of a case file: index.pdf for the clerk's desk and index.html for the screen, from the same rows.

Both say only what case.json says, so neither proves anything; the first page says how to verify. The same model and
labels give the same bytes. Text of the case file may be hostile: `ledger.paper.lines` shows what cannot be printed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from ledger.casefile import index_words as words
from ledger.disclosures import RECEIVED
from ledger.formats.casefile import CaseAttachment, CaseFile, Decision, Gap, Item, amendments, index_path
from ledger.formats.trust import Trust
from ledger.paper.html import HtmlPage
from ledger.paper.parts import Bilingual, Cell, Column, Hash, Link, Paper, Part, Picture, Strong
from ledger.paper.qr import QrSeries
from ledger.paper.sheet import Sheet
from ledger.record_types import RecordTypes
from ledger.verify.words import Moment, say


@dataclass(frozen=True, slots=True)
class Labels:
    """What case.json does not say: titles of record types and names of departments, by id, and the SHA-256 (hex) of
    data/trust.json. What is not in them is shown by its id."""

    types: Mapping[str, Bilingual] = field(default_factory=dict)
    departments: Mapping[str, Bilingual] = field(default_factory=dict)
    trust_sha256: str | None = None

    @staticmethod
    def of(types: RecordTypes, trust: Trust) -> Labels:
        """The labels of a node's record types and of the trust file that goes into the case file."""
        return Labels(
            types={kind.name: Bilingual(kind.title["zh"], kind.title["en"]) for kind in types},
            departments={each.id: Bilingual(each.name["zh"], each.name["en"]) for each in trust.departments},
            trust_sha256=hashlib.sha256(trust.serialize()).hexdigest(),
        )

    def type(self, name: str) -> Bilingual:
        """A record type's title."""
        return self.types.get(name, Bilingual(name, name))

    def department(self, name: str) -> Bilingual:
        """A department's name."""
        return self.departments.get(name, Bilingual(name, name))


def write_index_pdf(volumes: Callable[[int], BinaryIO], case_file: CaseFile, labels: Labels) -> None:
    """Writes index.pdf in volumes, one after the other: `volumes` gives the stream of each, from 1. Raises CouldNotRun
    where no font is installed. About 1 ms an item; the memory of one volume."""
    with Sheet(volumes(1), words.TITLE, case_file.case, volumes=volumes) as sheet:
        _write(sheet, case_file, labels)
        if sheet.replaced:
            sheet.paragraph(words.REPLACED)
        sheet.heading(words.ITEMS)
        sheet.paragraph(words.ITEMS_NOTE)
        sheet.table(_CARDS, _cards(case_file, labels))


def index_html(case_file: CaseFile, labels: Labels) -> bytes:
    """index.html, which lies in data/ of the bag: its links are relative to that."""
    page = HtmlPage(words.TITLE, case_file.case)
    _write(page, case_file, labels)
    page.heading(words.ITEM_FILES)
    page.table(_FILES, (_files(item, labels) for item in case_file.items))
    return page.bytes()


def qr_text(case_file: CaseFile, item: Item) -> str:
    """What the QR code of an item says: plain text, no address."""
    return f"云玺卷宗 Yunxi case file\n{case_file.case}\nitem {item.n}\nrecord {item.record_id}\nleaf {item.leaf}"


def _write(paper: Paper, case_file: CaseFile, labels: Labels) -> None:
    names = _Names(case_file, labels)
    _front(paper, case_file, labels)
    _steps(paper, case_file, labels, names)
    _evidence(paper, case_file, names)
    _history(paper, case_file, labels, names)
    _attachments(paper, case_file)
    _decisions(paper, case_file)


# -- the first page --


def _front(paper: Paper, case_file: CaseFile, labels: Labels) -> None:
    paper.title(words.TITLE)
    paper.table(_FACTS, _facts(case_file, labels))
    paper.paragraph(Strong(words.READING_ONLY))
    paper.heading(words.HOW_TITLE)
    paper.numbered(words.HOW)
    paper.heading(words.VERDICTS_TITLE)
    paper.table(_VERDICTS, words.VERDICTS)


def _facts(case_file: CaseFile, labels: Labels) -> Iterator[Sequence[Cell]]:
    yield _one_line(words.CASE), case_file.case
    yield _one_line(words.DEPARTMENT), _one_line(labels.department(case_file.department))
    yield _one_line(words.CONSORTIUM), case_file.consortium
    if case_file.exported_for is not None:
        yield _one_line(words.FOR), case_file.exported_for
    yield _one_line(words.COVERS), _contents(case_file)
    yield _one_line(words.AS_OF), _instant(max(item.sealed_at for item in case_file.items))
    if case_file.volumes > 1:
        yield _one_line(words.PRINTED), [_link(index_path(k)) for k in range(1, case_file.volumes + 1)]
    if labels.trust_sha256 is not None:
        yield _one_line(words.TRUST_COPY), [Hash(labels.trust_sha256), _one_line(words.TRUST_WARNING)]


def _contents(case_file: CaseFile) -> Bilingual:
    files = [each for item in case_file.items for each in item.attachments]
    given = sum(each.path is not None for each in files)
    items, gaps = len(case_file.items), len(case_file.gaps)
    return Bilingual(
        f"记录 {items} 项；附件 {len(files)} 个，随卷 {given} 个；缺口 {gaps} 处；部门日志前 {case_file.log_size} 条",
        f"items {items:,}; attachments {len(files):,}, {given:,} of them enclosed; gaps {gaps:,}; "
        f"the log's first {case_file.log_size:,} entries",
    )


# -- the lists --


class _Names:
    """What an item is called in the lists: name, type, and what must not be overlooked of it."""

    def __init__(self, case_file: CaseFile, labels: Labels) -> None:
        self._items, self._labels = case_file.items, labels
        self._amended = amendments(case_file.items)
        self._amends = {by: n for n, all_by in self._amended.items() for by in all_by}

    def of(self, item: Item) -> list[Part]:
        title = self._labels.type(item.type)
        said = (title.zh, title.en, _one_line(title))
        parts: list[Part] = [item.name, *([_one_line(title)] if item.name not in said else [])]
        parts += [Strong(words.amended_by(n, self._items[n - 1].sealed_at)) for n in self._amended.get(item.n, ())]
        if item.amends is not None:
            parts.append(words.amends(self._amends.get(item.n)))
        if item.forgotten:
            parts.append(Strong(words.FORGOTTEN))
        if item.receipt is None:
            parts.append(Strong(words.NO_RECEIPT))
        return parts


def _steps(paper: Paper, case_file: CaseFile, labels: Labels, names: _Names) -> None:
    steps = sorted((i for i in case_file.items if i.role in ("step", "decision")), key=lambda i: (i.sealed_at, i.n))
    paper.heading(words.STEPS)
    paper.table(_STEPS, (_step(item, labels, names) for item in steps), empty=words.NONE)
    paper.heading(words.GAPS)
    paper.paragraph(words.GAPS_NOTE)
    paper.table(_GAPS, (_gap(gap, labels) for gap in case_file.gaps), empty=words.NO_GAPS)


def _evidence(paper: Paper, case_file: CaseFile, names: _Names) -> None:
    # as the verifier's page lists it: a copy with faces blurred is handed in as evidence too
    items = [item for item in case_file.items if item.role in ("evidence", "derived")]
    if all(item.before_decision is None for item in items):
        paper.heading(words.EVIDENCE)
        paper.paragraph(words.UNDECIDED_NOTE, words.OWN_WORDS)
        paper.table(_EVIDENCE, (_exhibit(item, names) for item in items), empty=words.NONE)
        paper.paragraph(words.SIGNED)
        return
    before = [item for item in items if item.before_decision]
    after = [item for item in items if not item.before_decision]
    paper.heading(words.EVIDENCE_BEFORE)
    paper.paragraph(words.BEFORE_NOTE, words.OWN_WORDS, *_several(case_file))
    paper.table(_EVIDENCE, (_exhibit(item, names) for item in before), empty=words.NONE)
    paper.heading(words.EVIDENCE_AFTER)
    paper.paragraph(words.AFTER_NOTE)
    paper.table(_EVIDENCE, (_exhibit(item, names) for item in after), empty=words.NONE)
    paper.paragraph(words.SIGNED)


def _several(case_file: CaseFile) -> list[Bilingual]:
    """Which decision is meant, where there are more."""
    if len(case_file.decisions) < 2:
        return []
    first = case_file.decisions[0].n
    return [
        Bilingual(
            f"本案有 {len(case_file.decisions)} 份决定，所称决定以前、以后，均以最先的一份（第 {first} 项）为准。",
            f"There are {len(case_file.decisions)} decisions: before and after refer to the first, item {first}.",
        )
    ]


def _history(paper: Paper, case_file: CaseFile, labels: Labels, names: _Names) -> None:
    items = sorted((i for i in case_file.items if i.role in ("custody", "derived")), key=lambda i: (i.sealed_at, i.n))
    paper.heading(words.CUSTODY)
    paper.table(_STEPS, (_step(item, labels, names) for item in items), empty=words.NONE)


def _attachments(paper: Paper, case_file: CaseFile) -> None:
    # a decision's manifest is an attachment of its record, and lies where manifests do
    manifests = {(each.n, each.sha256): each.manifest for each in case_file.decisions}
    rows = (_attachment(item, each, manifests) for item in case_file.items for each in item.attachments)
    paper.heading(words.ATTACHMENTS)
    paper.table(_ATTACHMENTS, rows, empty=words.NONE)


def _decisions(paper: Paper, case_file: CaseFile) -> None:
    paper.heading(words.DECISIONS)
    paper.table(_DECISIONS, map(_decision, case_file.decisions), empty=words.NONE)


# -- rows --


def _step(item: Item, labels: Labels, names: _Names) -> Sequence[Cell]:
    on = item.date or words.NOT_STATED
    return str(item.n), names.of(item), on, _instant(item.sealed_at), _who(item, labels), _when(item)


def _exhibit(item: Item, names: _Names) -> Sequence[Cell]:
    said = (item.source, item.purpose, item.date, item.page)
    return str(item.n), names.of(item), *(each or words.NOT_STATED for each in said)


def _instant(seconds: int) -> Bilingual:
    return Bilingual(say(Moment(seconds), "zh"), say(Moment(seconds), "en"))


def _who(item: Item, labels: Labels) -> list[Part]:
    return [labels.department(item.department), *_place(item)]


def _place(item: Item) -> list[Bilingual]:
    # counted from 1, as the verifiers say it
    if item.index is None:
        return []
    return [Bilingual(f"日志第{item.index + 1}条", f"log entry {item.index + 1:,}")]


def _when(item: Item) -> Cell:
    if item.role == "decision":
        return words.THE_DECISION
    return "—" if item.before_decision is None else words.BEFORE if item.before_decision else words.AFTER


def _gap(gap: Gap, labels: Labels) -> Sequence[Cell]:
    record: Cell = Hash(gap.record_id) if gap.record_id else "—"
    return Bilingual(gap.zh, gap.en), labels.department(gap.department) if gap.department else "—", record


def _decision(each: Decision) -> Sequence[Cell]:
    manifest: list[Part] = [_link(each.manifest), Hash(each.sha256)]
    state: list[Part] = [f"{each.size:,}", Hash(each.root)]
    return str(each.n), f"{each.count:,}", manifest, state


def _attachment(item: Item, each: CaseAttachment, manifests: Mapping[tuple[int, str], str]) -> Sequence[Cell]:
    path = each.path or manifests.get((item.n, each.sha256))
    missing = words.AS_ITEMS if item.type == RECEIVED else words.NOT_GIVEN
    place: Part = missing if path is None else _link(path)
    return f"{item.n}-{each.ordinal}", each.name, [each.media_type, f"{each.size:,} B"], [Hash(each.sha256), place]


def _cards(case_file: CaseFile, labels: Labels) -> Iterator[Sequence[Cell]]:
    """Two items beside each other."""
    codes = QrSeries()
    for at in range(0, len(case_file.items), 2):
        pair = case_file.items[at : at + 2]
        cells: list[Cell] = []
        for item in pair:
            cells += [Picture(codes.code(qr_text(case_file, item))), _card(item, labels)]
        yield cells if len(pair) == 2 else [*cells, "", ""]


def _card(item: Item, labels: Labels) -> list[Part]:
    return [
        f"{item.n}. {labels.type(item.type).zh}",
        Hash(f"{labels.department(item.department).zh} {''.join(each.zh for each in _place(item))}"),
        Hash(_one_line(words.RECORD_ID)),
        Hash(item.record_id),
        Hash(_one_line(words.LEAF)),
        Hash(item.leaf),
    ]


def _files(item: Item, labels: Labels) -> Sequence[Cell]:
    ids: list[Part] = [_one_line(labels.type(item.type)), Hash(item.record_id), Hash(item.leaf)]
    links: list[Part] = [_link(path) for path in dict.fromkeys(item.paths())]
    return str(item.n), ids, _who(item, labels), links


def _link(path: str) -> Link:
    return Link(path, path.removeprefix("data/"))


def _one_line(text: Bilingual) -> str:
    return text.zh if text.zh == text.en else f"{text.zh} {text.en}"


# -- columns, 172 mm --

_UNTITLED = Bilingual("", "")
_FACTS = (Column(_UNTITLED, 46), Column(_UNTITLED, 126))
_VERDICTS = (Column(_UNTITLED, 30), Column(_UNTITLED, 142))
_STEPS = (
    Column(words.NUMBER, 12),
    Column(words.NAME, 58),
    Column(words.DATE, 20),
    Column(words.SEALED, 40),
    Column(words.WHO, 26),
    Column(words.WHEN, 16),
)
_GAPS = (Column(words.WHAT, 104), Column(words.WHO, 28), Column(words.RECORD, 40))
_EVIDENCE = (
    Column(words.NUMBER, 12),
    Column(words.NAME, 50),
    Column(words.SOURCE, 34),
    Column(words.PURPOSE, 40),
    Column(words.DATE, 20),
    Column(words.PAGE, 16),
)
_ATTACHMENTS = (Column(words.NUMBER, 14), Column(words.NAME, 54), Column(words.MEDIA, 30), Column(words.DIGEST, 74))
_DECISIONS = (Column(words.NUMBER, 12), Column(words.COUNT, 20), Column(words.MANIFEST, 72), Column(words.ROOT, 68))
_CARDS = (Column(words.CODE, 31), Column(words.RECORD, 55), Column(words.CODE, 31), Column(words.RECORD, 55))
_FILES = (Column(words.NUMBER, 12), Column(words.RECORD, 70), Column(words.WHO, 30), Column(words.FILES, 60))
