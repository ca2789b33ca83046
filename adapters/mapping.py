"""Mapping files: which column of a source becomes which member of a record, as checked data. See docs/mappings.md."""

from __future__ import annotations

import hashlib
import json
import re
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from adapters.attachment_urls import UrlRule
from adapters.conversions import EXCEL, FEN, SEPARATORS, UNIX, read_time
from adapters.files import open_regular
from adapters.kinds import KINDS
from adapters.schedule import Schedule, parse_times
from adapters.sections import Section, nearest
from adapters.source import Opening, Source, SourceOptions
from ledger.errors import CouldNotRun, Malformed, NodeMissing
from ledger.feeds import RESERVED
from ledger.formats import identifiers

MAX_FILE_BYTES = 1 << 20
MAX_RULES = 500

CONVERSIONS = ("text", "integer", "decimal", "money", "boolean", "date", "day", "datetime")
OWN_MEMBERS = ("id", "type", "v", "department", "source", "subjects", "attachments")

_NO_CONTENT = frozenset(("version", "former_key", "description", "poll_seconds", "read_at", "report_every", "probe"))
_NAME = re.compile(r"[a-z][a-z0-9-]{1,63}")
_DEPARTMENT = re.compile(r"[a-z][a-z0-9-]{1,30}")
_TARGET = re.compile(r"[a-z][a-z0-9_]{0,63}(?:\.[a-z][a-z0-9_]{0,63}){0,3}")
_PATTERN_WORDS = frozenset(f"%{letter}" for letter in "YymdHIMSfjpzbBaA%")
_DURATION = re.compile(r"([0-9]{1,8})(s|min|h|d)")
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_ONLY_FOR = {
    "format": ("date", "day", "datetime"),
    "zone": ("date", "datetime"),
    "unit": ("money",),
    "multiply": ("decimal",),
    "places": ("decimal",),
    "min": ("integer", "decimal", "money"),
    "max": ("integer", "decimal", "money"),
    "max_chars": ("text",),
    "one_line": ("text",),
    "exact": ("text",),
    "round": ("decimal",),
    "thousands": ("integer", "decimal", "money"),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """How one value is made. `columns` is empty exactly where `constant` is set; see docs/mappings.md for the words."""

    columns: tuple[str, ...] = ()
    constant: Any = None
    join: str = " "
    kind: str = "text"
    formats: tuple[str, ...] = ()
    zone: ZoneInfo | None = None
    unit: str | Mapping[str, str] = "fen"
    thousands: str | None = None
    multiply: Decimal | None = None
    low: Any = None
    high: Any = None
    places: int | None = None
    rounded: int | None = None
    max_chars: int | None = None
    one_line: bool = False
    exact: bool = False
    table: Mapping[str, Any] | None = None
    after: str | None = None
    before: str | None = None
    split: str | None = None
    strip: bool = True
    omit_blank: bool = False
    blanks: frozenset[str] = frozenset()
    default: Any = None
    invalid: str = "refuse"


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a list in the record: fixed members and rules. `kind` is set for subjects.

    With `each` there is one object for every entry of the list in that column, and the rules read the entry: its
    members, or `#text` where it is a text. `split` cuts a text into such entries. `where`: only rows or entries in
    which each of these columns holds one of its texts.
    """

    rules: Mapping[str, Rule]
    kind: str | None = None
    each: str | None = None
    split: str | None = None
    where: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttachmentRule:
    """Where a row names its files. `base` is relative to the mapping file's directory; None: beside the row's own file.

    `sha256` is the column that holds their digests, where the source knows them. `url`: they are named by URL.
    """

    column: str
    base: str | None
    split: str | None
    media_type: str | None
    omit_blank: bool
    sha256: str | None = None
    url: UrlRule | None = None


@dataclass(frozen=True, slots=True)
class ProbeRule:
    """A row whose `column` begins with `prefix` is a probe; one must arrive every `every` seconds."""

    column: str
    prefix: str
    every: int


@dataclass(frozen=True, slots=True)
class FeedMapping:
    """A whole mapping file. `base` is its directory; `digest` covers everything in it that makes records what they are,
    not layout and comments, nor when it is read and reported."""

    file: str
    base: Path
    name: str
    version: int
    department: str
    record_type: str
    v: int
    matter: str | None
    system: str
    key: tuple[str, ...]
    ignore: frozenset[str]
    blanks: frozenset[str]
    options: SourceOptions
    fields: Mapping[str, Rule]
    together: tuple[tuple[str, ...], ...] = ()
    subjects: tuple[Entry, ...] = ()
    lists: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)
    attachments: tuple[AttachmentRule, ...] = ()
    poll_seconds: int | None = None
    schedule: Schedule | None = None
    changes: str = "quarantine"
    deletes: str = "ignore"
    report_every: int = 86_400
    probe: ProbeRule | None = None
    former_key: tuple[str, ...] = ()
    digest: str = ""

    @property
    def feed(self) -> str:
        """The name under which cursors and quarantine are kept: `<department>/<mapping>`."""
        return f"{self.department}/{self.name}"

    @property
    def columns(self) -> frozenset[str]:
        """Every column that the mapping reads."""
        rules = [*self.fields.values()]
        lists = {entry.each for entry in self._entries() if entry.each is not None}
        for entry in self._entries():
            # where there is one object an entry, the rules name members of entries
            rules.extend(entry.rules.values() if entry.each is None else ())
            lists.update(entry.where if entry.each is None else ())
        named = {column for rule in rules for column in rule.columns} | lists | self._skip_columns
        files = {column for rule in self.attachments for column in (rule.column, rule.sha256) if column is not None}
        probe = set() if self.probe is None else {self.probe.column}
        return frozenset(named | set(self.key) | files | probe)

    @property
    def each_columns(self) -> frozenset[str]:
        """The columns that must come as lists of entries."""
        return frozenset(entry.each for entry in self._entries() if entry.each is not None)

    @property
    def _skip_columns(self) -> frozenset[str]:
        """The columns by which the source tells rows from what is none."""
        return frozenset(getattr(self.options, "skip", {}))

    @property
    def order_columns(self) -> frozenset[str]:
        """The columns by which the source knows where to go on; they need not be mapped."""
        since: str | None = getattr(self.options, "since", None)
        cursor: tuple[str, ...] = getattr(self.options, "cursor", ())
        return frozenset(cursor if since is None else (*cursor, since))

    def _entries(self) -> Iterator[Entry]:
        yield from self.subjects
        for entries in self.lists.values():
            yield from entries


def load_mapping(path: Path) -> FeedMapping:
    """Reads and checks a mapping file. Raises NodeMissing where there is none, Malformed for everything else."""
    try:
        with open_regular(path) as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (CouldNotRun, OSError) as error:
        cause = error.__cause__ or error
        reason = (
            f"cannot be read ({cause.strerror})" if isinstance(cause, OSError) else "is no file but a pipe or the like"
        )
        raise NodeMissing(f"{path}: {reason}; give the path of a mapping file") from error
    return parse_mapping(data, path.name, path.absolute().parent)


def parse_mapping(data: bytes, name: str, base: Path) -> FeedMapping:
    """The mapping that `data` (TOML, UTF-8) holds; `name` is for messages, `base` for relative paths.

    Raises Malformed with one sentence that names the file, the key and, for an unknown word, the nearest known one.
    """
    if len(data) > MAX_FILE_BYTES:
        raise Malformed(name, f"is larger than {MAX_FILE_BYTES:,} bytes")
    try:
        content = tomllib.loads(data.decode("utf-8-sig"))
        top = Section(name, "", content)
    except UnicodeDecodeError as error:
        raise Malformed(name, f"is not UTF-8 at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        hint = "; a name with other than a-z, 0-9, _ and - needs quotes" if "nvalid statement" in str(error) else ""
        raise Malformed(name, f"is not TOML: {error}{hint}") from error
    return replace(_Reader(name, top).read(base), digest=_digest(content))


def _digest(content: Mapping[str, Any]) -> str:
    kept = {name: value for name, value in content.items() if name not in _NO_CONTENT}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def open_source(
    mapping: FeedMapping,
    *,
    override: Path | None = None,
    environ: Mapping[str, str] | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> Source:
    """The mapping's source. `override` replaces its path; `environ` is where its `_env` options look; `sleep` waits.

    Raises CouldNotRun where the source is not there and Malformed where its options do not fit `override`.
    """
    opening = Opening(
        mapping.base, mapping.columns, mapping.key, mapping.each_columns, override=override,
        environ=dict(environ or {}), sleep=sleep,
    )  # fmt: skip
    return mapping.options.open(opening)


class _Reader:
    """Goes through one file; holds what every rule needs to know of the head."""

    def __init__(self, file: str, top: Section) -> None:
        self._file = file
        self._top = top
        self._zone = self._read_zone(top)
        self._tables: dict[str, dict[str, Any]] = top.get("tables", dict, {})
        self._tables_used: set[str] = set()

    def read(self, base: Path) -> FeedMapping:
        top = self._top
        options = self._read_source()
        fields = self._read_fields()
        mapping = FeedMapping(
            file=self._file,
            base=base,
            name=self._matching("mapping", _NAME, "2 to 64 of a-z, 0-9 and hyphen, a letter first"),
            version=self._positive("version"),
            department=self._matching("department", _DEPARTMENT, "2 to 31 of a-z, 0-9 and hyphen, a letter first"),
            record_type=top.require("type", str),
            v=self._positive("v"),
            matter=top.optional("matter", str),
            system=top.require("system", str),
            key=top.texts("key"),
            ignore=frozenset(top.texts("ignore", ())),
            blanks=frozenset(top.texts("blank_values", ("",))) | {""},
            options=options,
            fields=fields,
            together=self._read_together(fields),
            subjects=tuple(self._read_entries("subjects", top.get("subjects", list, []), subject=True)),
            lists=self._read_lists(fields),
            attachments=tuple(self._read_attachments()),
            poll_seconds=top.optional("poll_seconds", int),
            schedule=self._read_schedule(top),
            changes=top.choice("changes", ("quarantine", "amend"), "quarantine"),
            deletes=top.choice("deletes", ("ignore", "report"), "ignore"),
            report_every=self._duration(top, "report_every", "1d"),
            probe=self._read_probe(),
            former_key=top.texts("former_key", ()),
        )
        top.get("description", str, "")
        top.done()
        self._check_whole(mapping)
        return mapping

    # -- head --

    def _matching(self, key: str, pattern: re.Pattern[str], form: str) -> str:
        value = self._top.require(key, str)
        if not pattern.fullmatch(value):
            self._top.refuse(f'"{key}" must be {form}')
        return value

    def _positive(self, key: str) -> int:
        value = self._top.require(key, int)
        if not 1 <= value <= 9999:
            self._top.refuse(f'"{key}" must be from 1 to 9999')
        return value

    def _read_zone(self, section: Section) -> ZoneInfo | None:
        name = section.optional("zone", str)
        if name is None:
            return None
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            section.refuse(f'"{section.where("zone")}" is "{name}", which is no IANA time zone, e.g. Asia/Shanghai')

    def _read_source(self) -> SourceOptions:
        section = Section(self._file, "source", self._top.require("source", dict))
        kind = section.choice("kind", tuple(KINDS))
        options = KINDS[kind](section)
        section.done()
        return options

    def _read_schedule(self, section: Section) -> Schedule | None:
        texts = section.optional("read_at", list)
        if texts is None:
            return None
        if self._zone is None:
            section.refuse('"read_at" needs a zone; set "zone" at the head of the file')
        try:
            return Schedule(parse_times(texts), self._zone)
        except ValueError as error:
            section.refuse(f'"read_at": {error}')

    def _duration(self, section: Section, key: str, default: str | None = None) -> int:
        """Seconds from a minute to a year."""
        text = section.require(key, str) if default is None else section.get(key, str, default)
        matched = _DURATION.fullmatch(text)
        seconds = int(matched[1]) * _UNITS[matched[2]] if matched else 0
        if not 1 <= seconds <= 366 * 86_400:
            section.refuse(f'"{section.where(key)}" must be a time such as "30min", "12h" or "1d", at most 366 days')
        return seconds

    def _read_probe(self) -> ProbeRule | None:
        if "probe" not in self._top:
            return None
        section = self._top.table("probe")
        rule = ProbeRule(
            section.require("column", str), section.require("prefix", str), self._duration(section, "every")
        )
        if len(rule.prefix.strip()) < 4:
            section.refuse('"probe.prefix" must be at least 4 characters that no real row begins with')
        section.done()
        return rule

    def _check_whole(self, mapping: FeedMapping) -> None:
        if mapping.name in RESERVED:
            self._top.refuse(f'"mapping" must not be "{mapping.name}": feeds speak about themselves under it')
        if mapping.changes == "amend" and "amends" in mapping.fields:
            self._top.refuse('"changes" is "amend", so the adapter sets "amends"; take it out of [fields]')
        # a broker and an inbox hand over what is new, and never again what there is
        if mapping.deletes == "report" and getattr(mapping.options, "only_new", False):
            self._top.refuse('"deletes" needs a source that can be read as a whole')
        if not mapping.key:
            self._top.refuse('"key" must name at least one column')
        if mapping.poll_seconds is not None and mapping.schedule is not None:
            self._top.refuse('"poll_seconds" and "read_at" exclude each other')
        if mapping.poll_seconds is not None and not 1 <= mapping.poll_seconds <= 86_400:
            self._top.refuse('"poll_seconds" must be from 1 to 86400')
        for number, rule in enumerate(mapping.attachments, 1):
            # only a drop folder's rows have a directory of their own
            if rule.base is None and rule.url is None and not getattr(mapping.options, "beside", False):
                self._top.refuse(f'"attachments[{number}].base" is missing')
        both = sorted(mapping.columns & mapping.ignore)
        if both:
            self._top.refuse(f'column "{both[0]}" is used and also stands under "ignore"')
        if mapping.matter is not None and "matter" in mapping.fields:
            self._top.refuse('"matter" stands in the head and under [fields]; keep one')
        unused = sorted(self._tables.keys() - self._tables_used)
        if unused:
            self._top.refuse(f'table "tables.{unused[0]}" is not used by any field')

    # -- fields --

    def _read_fields(self) -> dict[str, Rule]:
        rules: dict[str, Rule] = {}
        for target, value in self._flatten("", self._top.require("fields", dict)):
            if not _TARGET.fullmatch(target):
                self._top.refuse(f'"fields.{target}" is no place in a record: lower-case names with dots between them')
            if target.split(".")[0] in OWN_MEMBERS:
                self._top.refuse(f'"fields.{target}": the adapter sets this member; see docs/mappings.md')
            if target in rules:
                self._top.refuse(f'"fields.{target}" is set twice')
            rules[target] = self._read_rule(f"fields.{target}", value)
        self._check_targets(rules)
        return rules

    def _flatten(self, prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        # TOML reads an unquoted place.address as nested tables; both spellings mean the same here
        for name, value in table.items():
            target = f"{prefix}{name}"
            if _is_group(value) and _TARGET.fullmatch(target):
                yield from self._flatten(f"{target}.", value)
            else:
                yield target, value

    def _check_targets(self, rules: Mapping[str, Rule]) -> None:
        if len(rules) > MAX_RULES:
            self._top.refuse(f"has more than {MAX_RULES} fields")
        for target in rules:
            parts = target.split(".")
            for length in range(1, len(parts)):
                outer = ".".join(parts[:length])
                if outer in rules:
                    self._top.refuse(f'"fields.{outer}" and "fields.{target}" cannot both be set')

    def _read_rule(self, where: str, value: Any) -> Rule:
        section = Section(self._file, where, {"column": value} if isinstance(value, str) else value)
        if "constant" in section:
            return self._constant_rule(section)
        columns, join = self._read_columns(section)
        kind = section.choice("as", CONVERSIONS, "text")
        for word, kinds in _ONLY_FOR.items():
            if word in section and kind not in kinds:
                section.refuse(f'"{section.where(word)}" has no meaning with as = "{kind}"')
        table = self._read_table(section)
        blank = section.choice("blank", ("refuse", "omit"), "refuse")
        default = section.raw("default")
        if default is not None and "blank" in section:
            section.refuse(f'"{where}" has both "blank" and "default"; keep one')
        if default is not None and not isinstance(default, (str, int)):
            section.refuse(f'"{section.where("default")}" must be text, an integer, true or false')
        zone = self._read_zone(section) or self._zone
        if kind == "date" and zone is None:
            section.refuse(f'"{where}" needs a zone; set "zone" at the head of the file')
        rule = Rule(
            columns=columns,
            join=join,
            kind=kind,
            formats=self._read_formats(section, kind),
            zone=zone,
            unit=self._read_unit(section) if kind == "money" else "fen",
            thousands=self._read_separator(section),
            multiply=self._read_factor(section),
            low=self._read_bound(section, "min", kind),
            high=self._read_bound(section, "max", kind),
            places=section.optional("places", int),
            rounded=self._read_rounding(section),
            max_chars=section.optional("max_chars", int),
            one_line=section.get("one_line", bool, False),
            exact=section.get("exact", bool, False),
            table=table,
            after=section.optional("after", str),
            before=section.optional("before", str),
            split=section.optional("split", str),
            strip=section.get("strip", bool, True),
            omit_blank=blank == "omit",
            blanks=frozenset(section.texts("blank_values", ())),
            default=default,
            invalid=section.choice("invalid", ("refuse", "omit", "keep"), "refuse"),
        )
        if rule.invalid == "keep" and table is None:
            section.refuse(f'"{section.where("invalid")}" may be "keep" only with a map')
        for word in ("split", "after", "before"):
            if getattr(rule, word) == "":
                section.refuse(f'"{section.where(word)}" must not be empty')
        section.done("constant")
        return rule

    def _constant_rule(self, section: Section) -> Rule:
        constant = section.raw("constant")
        if not isinstance(constant, (str, int)):
            section.refuse(f'"{section.where("constant")}" must be text, an integer, true or false')
        section.done()
        return Rule(constant=constant)

    def _read_columns(self, section: Section) -> tuple[tuple[str, ...], str]:
        if "columns" in section:
            columns = section.texts("columns")
            if not columns or "column" in section:
                section.refuse(f'"{section.where("columns")}" must name columns, and "column" must not stand beside it')
            return columns, section.get("join", str, " ")
        return (section.require("column", str),), " "

    def _read_table(self, section: Section) -> dict[str, Any] | None:
        table = section.raw("map")
        if table is None:
            return None
        if isinstance(table, str):
            name = table
            table = self._tables.get(name)
            if table is None:
                section.refuse(f'"{section.where("map")}": there is no "tables.{name}"{nearest(name, self._tables)}')
            self._tables_used.add(name)
        if not isinstance(table, dict) or not all(isinstance(item, (str, int)) for item in table.values()):
            section.refuse(f'"{section.where("map")}" must be a table of texts, integers, true or false')
        return table

    def _read_factor(self, section: Section) -> Decimal | None:
        text = section.optional("multiply", str)
        if text is None:
            return None
        if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", text):
            section.refuse(f'"{section.where("multiply")}" must be a decimal number as text, e.g. "0.3048"')
        return Decimal(text)

    def _read_formats(self, section: Section, kind: str) -> tuple[str, ...]:
        if not isinstance(section.raw("format"), list):
            formats = tuple(filter(None, [section.optional("format", str)]))
        elif not (formats := section.texts("format")):
            section.refuse(f'"{section.where("format")}" must name at least one form')
        if UNIX.keys() & set(formats) and (kind != "datetime" or len(formats) > 1):
            section.refuse(f'"{section.where("format")}": unix and unix-ms stand alone, with as = "datetime"')
        for pattern in formats:
            if pattern not in UNIX and pattern != EXCEL and (wrong := _unfit_pattern(pattern)):
                section.refuse(f'"{section.where("format")}" is "{pattern}", which {wrong}')
        return formats

    def _read_unit(self, section: Section) -> str | Mapping[str, str]:
        if not isinstance(section.raw("unit"), dict):
            return section.choice("unit", tuple(FEN))
        table = section.table("unit")
        units = {text: table.choice(text, tuple(FEN)) for text in table.rest()}
        if not units:
            section.refuse(f'"{section.where("unit")}" must name at least one unit')
        return units

    def _read_separator(self, section: Section) -> str | None:
        return section.choice("thousands", SEPARATORS) if "thousands" in section else None

    def _read_rounding(self, section: Section) -> int | None:
        places = section.optional("round", int)
        if places is not None and not 0 <= places <= 20:
            section.refuse(f'"{section.where("round")}" must be from 0 to 20')
        return places

    def _read_bound(self, section: Section, key: str, kind: str) -> int | Decimal | None:
        value = section.raw(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind == "decimal" else int):
            section.refuse(f'"{section.where(key)}" must be {"a number" if kind == "decimal" else "an integer"}')
        return value if isinstance(value, int) else Decimal(repr(value))

    # -- the other tables --

    def _read_together(self, fields: Mapping[str, Rule]) -> tuple[tuple[str, ...], ...]:
        groups = []
        for number, data in enumerate(self._top.get("together", list, []), 1):
            section = Section(self._file, f"together[{number}]", data)
            targets = section.texts("targets")
            section.done()
            for target in targets:
                if target not in fields:
                    section.refuse(f'"together" names "{target}", which is no field{nearest(target, fields)}')
            groups.append(targets)
        return tuple(groups)

    def _read_entries(self, name: str, tables: Any, *, subject: bool) -> Iterator[Entry]:
        for number, data in enumerate(tables, 1):
            where = f"{name}[{number}]"
            section = Section(self._file, where, data)
            kind = section.choice("kind", tuple(identifiers.KINDS)) if subject else None
            if subject and "value" not in section:
                section.refuse(f'"{where}.value" is missing')
            each, split = section.optional("each", str), section.optional("split", str)
            if split is not None and (each is None or not split):
                section.refuse(f'"{where}.split" must be a text that stands between the entries of "each"')
            only = self._read_where(section)
            rules = {member: self._read_rule(f"{where}.{member}", value) for member, value in section.rest().items()}
            if not any(rule.columns for rule in rules.values()):
                section.refuse(f'"{where}" must take at least one member from a column')
            yield Entry(rules, kind, each, split, only)

    def _read_where(self, section: Section) -> dict[str, frozenset[str]]:
        if "where" not in section:
            return {}
        table = section.table("where")
        return {column: frozenset(table.texts(column)) for column in table.rest()}

    def _read_lists(self, fields: Mapping[str, Rule]) -> dict[str, tuple[Entry, ...]]:
        lists = {}
        for name, tables in self._top.get("lists", dict, {}).items():
            if name in OWN_MEMBERS or any(target.split(".")[0] == name for target in fields):
                self._top.refuse(f'"lists.{name}": this member is set elsewhere')
            if not isinstance(tables, list):
                self._top.refuse(f'"lists.{name}" must be written as [[lists.{name}]]')
            lists[name] = tuple(self._read_entries(f"lists.{name}", tables, subject=False))
        return lists

    def _read_attachments(self) -> Iterator[AttachmentRule]:
        for number, data in enumerate(self._top.get("attachments", list, []), 1):
            section = Section(self._file, f"attachments[{number}]", data)
            if "url" in section and "base" in section:
                section.refuse(f'"{section.where("url")}" and "base" cannot both be set')
            yield AttachmentRule(
                column=section.require("column", str),
                base=section.optional("base", str),
                split=section.optional("split", str),
                media_type=section.optional("media_type", str),
                omit_blank=section.choice("blank", ("refuse", "omit"), "refuse") == "omit",
                sha256=section.optional("sha256", str),
                url=UrlRule.read(section.table("url")) if "url" in section else None,
            )
            section.done()


def _unfit_pattern(pattern: str) -> str | None:
    """Why a pattern cannot tell a day or time without a guess, as the end of a sentence; None where it can."""
    words = set(re.findall("%.", pattern))
    if odd := sorted(words - _PATTERN_WORDS):
        return f'has "{odd[0]}"; known are {" ".join(sorted(_PATTERN_WORDS))}'
    if not (
        words & {"%Y", "%y"} and (words >= {"%m", "%d"} or words >= {"%b", "%d"} or "%B" in words or "%j" in words)
    ):
        return 'does not tell year, month and day; write it like "%Y-%m-%d", "%Y年%m月%d日" or "%Y%m%d%H%M%S"'
    if re.search("[上下]午", pattern):
        return "names 上午 or 下午; write %p in its place, and %I for the hour"
    if ("%p" in words) != ("%I" in words) or words >= {"%H", "%I"}:
        return "must have %p (AM, PM, 上午, 下午) and %I (hour to 12) together, or else %H"
    try:
        sample = datetime(2013, 11, 22, 14, 15, 16, tzinfo=UTC)
        read_time(sample.strftime(pattern), pattern)
    except (ValueError, re.error):
        return "cannot be read back; name each part once"
    return None


def _is_group(value: Any) -> bool:
    """Whether a table under [fields] is a part of a dotted name, not a rule."""
    if not isinstance(value, dict) or not value or value.keys() & {"column", "columns", "constant"}:
        return False
    return all(isinstance(inner, (dict, str)) for inner in value.values()) and not value.keys() & {"as", "blank"}
