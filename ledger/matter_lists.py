"""Lists of matters (事项清单): what a department may do, under which law, from which day to which. Pure.

A delivered list (rows of a workbook or a CSV) is read against the headings that such lists have, in Chinese or English;
every row that is not right is named, and one such row refuses the whole list. What is published is the delivered list
*merged* into the one before, because a list of today says little about the past:

    days before `as_of` that the new list does not mention   stay as the list before had them
    a matter that the new list leaves out                    ends on the day before `as_of`
    an end day in the list that lies in the past             takes days back: refused unless that is said aloud

So the newest list holds every matter with all days on which it was held, and leaving a row out removes no past.

A published list is canonical JSON (members sorted, no white space, rows by code and first day):

    {"as_of": "2025-06-01", "department": "fire", "matters": [{"code", "effective_from", "effective_to", "kind",
     "legal_basis", "level", "name"}, …], "version": 3}

`effective_from` and `effective_to` are the first and the last day in force, YYYY-MM-DD; the latter null: no end known.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from itertools import pairwise

import orjson

from ledger.errors import Malformed

OPEN = date.max
"""The last day of what has no end."""

KINDS = {
    "licence": "行政许可",
    "penalty": "行政处罚",
    "coercion": "行政强制",
    "levy": "行政征收",
    "requisition": "行政征用",
    "payment": "行政给付",
    "ruling": "行政裁决",
    "confirmation": "行政确认",
    "reward": "行政奖励",
    "inspection": "行政检查",
    "other": "其他行政权力",
}

HEADINGS = {
    "code": "事项编码 事项代码 权力编码 权力事项编码 职权编码 基本编码 实施编码 编码 代码 code",
    "name": "事项名称 权力事项名称 权力名称 职权名称 监管事项名称 执法事项名称 名称 name",
    "kind": "事项类型 事项类别 权力类型 权力类别 职权类型 职权类别 执法类别 类型 类别 kind",
    "legal_basis": "法律依据 法定依据 实施依据 设定依据 执法依据 职权依据 依据 legal_basis",
    "department": "实施主体 实施机关 实施部门 执法主体 行使主体 责任部门 主管部门 部门 单位 department",
    "level": "行使层级 实施层级 执法层级 权力层级 层级 level",
    "effective_from": "生效日期 生效时间 实施日期 施行日期 起始日期 开始日期 有效期起 effective_from",
    "effective_to": "有效期止 有效期至 截止日期 终止日期 effective_to",
    "void_from": "失效日期 废止日期 取消日期 void_from",
}
"""The headings of each column. `effective_to` is the last day in force, `void_from` the first day out of force."""

MAX_MATTERS = 100_000
MAX_FAULTS = 1000

_COLUMN_OF = {heading: column for column, headings in HEADINGS.items() for heading in headings.split()}
_KIND_OF = {word: kind for kind, title in KINDS.items() for word in (kind, title)} | {
    "行政强制措施": "coercion",
    "行政强制执行": "coercion",
    "行政监督检查": "inspection",
    "其他权力": "other",
    "其他职权": "other",
    "其他": "other",
}
_MAX_CHARS = {"name": 500, "legal_basis": 20_000, "level": 100}
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")  # as the envelope of record types has it
_DAY = (
    re.compile(r"(\d{4})([-/.])(\d\d?)\2(\d\d?)(?:[T ]00:00(?::00)?)?", re.ASCII),
    re.compile(r"(\d{4})(年)(\d\d?)月(\d\d?)日", re.ASCII),
    re.compile(r"(\d{4})()(\d\d)(\d\d)", re.ASCII),
)
_NO_END = {"", "-", "—", "无", "长期", "长期有效", "永久", "至今"}
_EARLIEST, _LATEST = date(1949, 10, 1), date(2099, 12, 31)


@dataclass(frozen=True, slots=True)
class Matter:
    """One matter over days on which nothing of it changed. `effective_to` is the last of them, `OPEN` for no end."""

    code: str
    name: str
    kind: str
    legal_basis: str
    level: str
    effective_from: date
    effective_to: date


@dataclass(frozen=True, slots=True)
class ListRow:
    """A row as it was delivered: its cells by heading, stripped, and where a person finds it."""

    position: str
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Delivered:
    """A list as it was read: each department's rows with their positions; `unused` headings; what is wrong, by row."""

    rows: Mapping[str, tuple[tuple[str, Matter], ...]]
    unused: tuple[str, ...]
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MatterList:
    """A published list: `matters` by code and first day."""

    department: str
    version: int
    as_of: date
    matters: tuple[Matter, ...]

    def serialize(self) -> bytes:
        """The canonical bytes."""
        rows = [{**asdict(m), "effective_to": None if m.effective_to == OPEN else m.effective_to} for m in self.matters]
        whole = {"department": self.department, "version": self.version, "as_of": self.as_of, "matters": rows}
        return orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a matter: `added`, `removed`, `ended` (an earlier last day, nothing else), or `changed`."""

    code: str
    what: str
    before: tuple[Matter, ...]
    after: tuple[Matter, ...]


@dataclass(frozen=True, slots=True)
class Merged:
    """A delivered list on top of the one before. `retracted` and `backdated`: codes that lost or won past days."""

    matters: tuple[Matter, ...]
    changes: tuple[Change, ...]
    retracted: tuple[str, ...]
    backdated: tuple[str, ...]
    faults: tuple[str, ...] = field(default=())


# ---- reading a delivered list ------------------------------------------------------------------------------------


def column_of(heading: str) -> str | None:
    """Which column of a list a heading names, or None. White space and what stands in brackets does not count."""
    bare = re.sub(r"[\s*＊]+|[（(].*?[)）]", "", heading).lower() if not heading.isascii() else heading.strip().lower()
    return _COLUMN_OF.get(bare.replace(" ", "_"))


def read_list(
    headings: Sequence[str],
    rows: Iterable[ListRow],
    *,
    department: str | None,
    departments: Mapping[str, str],
    effective_from: date | None = None,
) -> Delivered:
    """Reads a list of `department`, or of several (None) that each row names. Nothing is compared with earlier lists.

    `departments`: ids by every word that names them, the ids too. `effective_from`: for rows that give none.
    """
    columns, faults = _columns(headings, department, effective_from)
    unused = tuple(h for h in headings if h and column_of(h) is None)
    if faults:
        return Delivered({}, unused, tuple(faults))
    found: dict[str, list[tuple[str, Matter]]] = {}
    for number, row in enumerate(rows):
        if number == MAX_MATTERS:
            faults.append(f"{row.position}: a list holds at most {MAX_MATTERS:,} rows; divide it by department")
            break
        reading = _Reading({column: row.cells.get(heading, "") for column, heading in columns.items()})
        holder = reading.department(department, departments)
        matter = reading.matter(effective_from)
        if reading.faults:
            faults.extend(f"{row.position}: {fault}" for fault in reading.faults)
        elif holder is not None and matter is not None:
            found.setdefault(holder, []).append((row.position, matter))
    for listed in found.values():
        faults.extend(_doubles(listed))
    if not found and not faults:
        faults.append("the list has no rows; nothing can be published from it")
    return Delivered({name: tuple(found[name]) for name in sorted(found)}, unused, tuple(faults))


def _columns(
    headings: Sequence[str], department: str | None, effective_from: date | None
) -> tuple[dict[str, str], list[str]]:
    """The heading of each column that stands in the list, and what is wrong with the headings."""
    columns: dict[str, str] = {}
    faults = []
    for heading in headings:
        column = column_of(heading)
        if column in columns:
            faults.append(f'headings "{columns[column]}" and "{heading}" both give the {column}; remove one of them')
        elif column is not None:
            columns[column] = heading
    needed = ["code", "name", "kind", "legal_basis"]
    needed += ["department"] if department is None else []
    needed += ["effective_from"] if effective_from is None else []
    for column in needed:
        if column not in columns:
            known = ", ".join(HEADINGS[column].split())
            faults.append(f"no heading gives the {column}; it is one of: {known}{_INSTEAD.get(column, '')}")
    return columns, faults


_INSTEAD = {
    "department": "; or name the department with --department",
    "effective_from": "; or give the day for rows without one with --from",
}


class _Reading:
    """One row on its way. What is wrong is collected, so that a row is mended once and not once a fault."""

    def __init__(self, cells: Mapping[str, str]) -> None:
        self._cells = cells
        self.faults: list[str] = []

    def department(self, department: str | None, departments: Mapping[str, str]) -> str | None:
        """The department's id, or None and a fault."""
        named = self._cells.get("department", "")
        if not named:
            if department is None:
                self.faults.append("the row names no department")
            return department
        holder = departments.get(named)
        if holder is None:
            self.faults.append(f'no department of this node is called "{named}"; give its id, or --alias "{named}=ID"')
        elif department not in (None, holder):
            self.faults.append(f'the row belongs to "{named}", not to {department}; import the list without it')
        return holder

    def matter(self, default: date | None) -> Matter | None:
        """The matter, or None and at least one fault."""
        code, kind = self._cells["code"], _KIND_OF.get(self._cells["kind"].lower())
        if not _CODE.fullmatch(code):
            self.faults.append(f'code "{code[:80]}" must be 1 to 64 of A-Z, a-z, 0-9, ".", "_", "/" and "-"')
        if kind is None:
            self.faults.append(f'kind "{self._cells["kind"][:40]}" is none of: {", ".join(KINDS.values())}')
        texts = {name: self._text(name) for name in ("name", "legal_basis", "level")}
        first, last = self._first(default), self._last()
        if first is not None and last is not None and last < first:
            self.faults.append(f"the last day in force, {last}, lies before the first, {first}")
        if self.faults or kind is None or first is None or last is None:
            return None
        return Matter(code=code, kind=kind, effective_from=first, effective_to=last, **texts)

    def _text(self, name: str) -> str:
        text = self._cells.get(name, "")
        if not text and name != "level":
            self.faults.append(f"the {name} is blank")
        if len(text) > _MAX_CHARS[name]:
            self.faults.append(f"the {name} has {len(text):,} characters, allowed are {_MAX_CHARS[name]:,}")
        return text

    def _first(self, default: date | None) -> date | None:
        text = self._cells.get("effective_from", "")
        if text:
            return self._day(text)
        if default is None:
            self.faults.append("the first day in force is blank; fill it in, or give --from for such rows")
        return default

    def _last(self) -> date | None:
        last, void = self._cells.get("effective_to", ""), self._cells.get("void_from", "")
        if last not in _NO_END and void not in _NO_END:
            self.faults.append("the row gives both a last day in force and a day from which it is void; keep one")
        if last not in _NO_END:
            return self._day(last)
        if void in _NO_END:
            return OPEN
        day = self._day(void)
        return None if day is None else day - timedelta(1)

    def _day(self, text: str) -> date | None:
        try:
            return parse_day(text)
        except ValueError as error:
            self.faults.append(str(error))
            return None


def parse_day(text: str) -> date:
    """A day written year first, as 2025-06-01, 2025/6/1, 2025.6.1, 2025年6月1日 or 20250601. ValueError otherwise."""
    found = next(filter(None, (pattern.fullmatch(text) for pattern in _DAY)), None)
    try:
        if found is None:
            raise ValueError
        day = date(int(found[1]), int(found[3]), int(found[4]))
    except ValueError:
        raise ValueError(f'"{text[:40]}" is no day; write it year first, such as 2025-06-01') from None
    if not _EARLIEST <= day <= _LATEST:
        raise ValueError(f'"{text}" is no day that a matter begins or ends; they lie from {_EARLIEST} to {_LATEST}')
    return day


def _doubles(listed: Sequence[tuple[str, Matter]]) -> Iterator[str]:
    """Rows of one department that name one code for the same days."""
    before: tuple[str, Matter] | None = None
    for position, matter in sorted(listed, key=lambda row: (row[1].code, row[1].effective_from)):
        if before is not None and before[1].code == matter.code and matter.effective_from <= before[1].effective_to:
            where = f"it stands at {before[0]} already"
            yield f"{position}: matter {matter.code} is there twice for {matter.effective_from}; {where}"
        before = (position, matter)


# ---- merging into the list before --------------------------------------------------------------------------------


def merge(
    before: Sequence[Matter],
    delivered: Sequence[tuple[str, Matter]],
    *,
    as_of: date,
    today: date,
    retroactive: bool = False,
    allow_gaps: bool = False,
) -> Merged:
    """What is in force once the `delivered` list rules from `as_of` on; see the module. `today` parts past from future.

    `faults` name rows that would take back days before `today`, unless `retroactive`, or open a gap between the days of
    a matter, unless `allow_gaps`.
    """
    old, new = _by_code(before), _by_code(matter for _, matter in delivered)
    where: dict[str, str] = {}
    for position, matter in delivered:
        where.setdefault(matter.code, f"{position}: ")
    matters: list[Matter] = []
    faults = []
    for code in sorted({*old, *new}):
        rows, kept = new.get(code, []), list(_kept(old.get(code, []), new.get(code, []), as_of))
        result = _joined([*rows, *kept])
        matters.extend(result)
        if not retroactive and (lost := _days_before(today, _without(old.get(code, []), result))):
            said = f"matter {code} was published as held on {lost}"
            faults.append(f"{where.get(code, '')}{said}, and this would take it back; if so, say --retroactive")
        if not allow_gaps and (days := _gap(result, old.get(code, []))):
            faults.append(f"{where.get(code, '')}nobody would hold matter {code} {days}; if so, say --allow-gaps")
    return Merged(tuple(matters), diff(before, matters), *past_days(before, matters, today), tuple(faults))


def past_days(
    before: Collection[Matter], after: Collection[Matter], today: date
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The codes that lose days before `today` from one list to the next, and those that win some; the first list has
    nothing to win them over."""
    old, new = _by_code(before), _by_code(after)
    codes = sorted({*old, *new})
    lost = [code for code in codes if _days_before(today, _without(old.get(code, []), new.get(code, [])))]
    won = [code for code in codes if _days_before(today, _without(new.get(code, []), old.get(code, [])))]
    return tuple(lost), tuple(won if before else ())


def _kept(old: Sequence[Matter], new: Sequence[Matter], as_of: date) -> Iterator[Matter]:
    """What the list before says about days before `as_of` on which the new one is silent."""
    day_before = as_of - timedelta(1)
    ends = [row.effective_to for row in new]
    for piece in _without(old, new):
        # behind a last day that the list itself gives, silence means no
        if piece.effective_from <= day_before and not any(end < piece.effective_from for end in ends):
            yield replace(piece, effective_to=min(piece.effective_to, day_before))


def _without(these: Sequence[Matter], others: Sequence[Matter]) -> list[Matter]:
    """The days of `these` that no row of `others` covers; all of one code."""
    pieces = list(these)
    for other in others:
        cut = []
        for piece in pieces:
            if other.effective_to < piece.effective_from or piece.effective_to < other.effective_from:
                cut.append(piece)
                continue
            if piece.effective_from < other.effective_from:
                cut.append(replace(piece, effective_to=other.effective_from - timedelta(1)))
            if (follows := _next_day(other.effective_to)) is not None and follows <= piece.effective_to:
                cut.append(replace(piece, effective_from=follows))
        pieces = cut
    return pieces


def _joined(rows: Sequence[Matter]) -> list[Matter]:
    """Rows of one code in order; those that follow each other and differ in nothing else become one."""
    joined: list[Matter] = []
    for row in sorted(rows, key=lambda row: row.effective_from):
        last = joined[-1] if joined else None
        same = last is not None and replace(row, effective_from=last.effective_from) == replace(
            last, effective_to=row.effective_to
        )
        if last is not None and same and _next_day(last.effective_to) == row.effective_from:
            joined[-1] = replace(last, effective_to=row.effective_to)
        else:
            joined.append(row)
    return joined


def _gap(rows: Sequence[Matter], old: Sequence[Matter]) -> str:
    """The first days between `rows` on which the matter rests, in words; what rested in `old` was accepted then."""
    rested = {(one.effective_to, other.effective_from) for one, other in pairwise(old)}
    for one, other in pairwise(rows):
        follows = _next_day(one.effective_to)
        if follows is not None and follows < other.effective_from:
            if (one.effective_to, other.effective_from) in rested:
                continue
            return f"from {follows} to {other.effective_from - timedelta(1)}"
    return ""


def _days_before(today: date, pieces: Sequence[Matter]) -> str:
    """The first stretch of `pieces` that lies before `today` in words, or nothing."""
    for piece in pieces:
        if piece.effective_from < today:
            last = min(piece.effective_to, today - timedelta(1))
            return f"{piece.effective_from}" if last == piece.effective_from else f"{piece.effective_from} to {last}"
    return ""


def diff(before: Sequence[Matter], after: Sequence[Matter]) -> tuple[Change, ...]:
    """The matters that differ between two lists, by code."""
    old, new = _by_code(before), _by_code(after)
    return tuple(
        Change(code, _what(old.get(code, []), new.get(code, [])), tuple(old.get(code, ())), tuple(new.get(code, ())))
        for code in sorted({*old, *new})
        if old.get(code) != new.get(code)
    )


def _what(old: Sequence[Matter], new: Sequence[Matter]) -> str:
    if not old or not new:
        return "removed" if old else "added"
    shortened = new[-1].effective_to < old[-1].effective_to
    same = [*new[:-1], replace(new[-1], effective_to=old[-1].effective_to)] == [*old]
    return "ended" if shortened and same else "changed"


def _by_code(matters: Iterable[Matter]) -> dict[str, list[Matter]]:
    found: dict[str, list[Matter]] = {}
    for matter in matters:
        found.setdefault(matter.code, []).append(matter)
    return found


def _next_day(day: date) -> date | None:
    return None if day == OPEN else day + timedelta(1)


# ---- published lists ---------------------------------------------------------------------------------------------


def parse_list(data: bytes) -> MatterList:
    """The list in canonical bytes. Raises Malformed for anything that `serialize` would not have written."""
    try:
        whole = orjson.loads(data)
        matters = tuple(
            Matter(
                code=row["code"],
                name=row["name"],
                kind=row["kind"],
                legal_basis=row["legal_basis"],
                level=row["level"],
                effective_from=date.fromisoformat(row["effective_from"]),
                effective_to=OPEN if row["effective_to"] is None else date.fromisoformat(row["effective_to"]),
            )
            for row in whole["matters"]
        )
        found = MatterList(whole["department"], whole["version"], date.fromisoformat(whole["as_of"]), matters)
        if found.serialize() != data or type(found.version) is not int:
            raise ValueError("not canonical")
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise Malformed("list of matters", f"is not what was published ({type(error).__name__})") from None
    return found
