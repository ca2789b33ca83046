"""A row becomes a record: the mapping's rules, compiled once, applied to one row at a time. Pure but for attachments.

Attachment paths are resolved against the file system, so that nothing outside their base directory can be named.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters import conversions
from adapters.attachment_urls import Fetcher, UrlRule, name_of
from adapters.conversions import Convert, Invalid, to_text
from adapters.files import file_digest
from adapters.keys import idempotency_key, row_key
from adapters.mapping import AttachmentRule, Entry, FeedMapping, Rule
from adapters.source import Beside
from ledger.errors import RecordRefused
from ledger.formats import identifiers
from ledger.submission import AttachmentSource, Submission

MAX_ATTACHMENTS = 50

MEDIA_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".heic": "image/heic",
    ".pdf": "application/pdf",
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".json": "application/json",
    ".xml": "application/xml",
    ".zip": "application/zip",
}


class _Absent:
    """What a rule gives when its member is left out: because the value was blank, or because it was invalid."""


BLANK = _Absent()
INVALID = _Absent()

Read = Callable[[Mapping[str, Any]], Any]
BuildEntries = Callable[[Mapping[str, Any], list[str]], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Mapped:
    """What became of a row. `omitted` names the members left out because their value was invalid."""

    submission: Submission
    omitted: tuple[str, ...]


class Transform:
    """A mapping, ready to run. Holds no state between rows and may be used by several threads, but for `fetching`."""

    def __init__(self, mapping: FeedMapping) -> None:
        self._mapping = mapping
        self._head = {"type": mapping.record_type, "v": mapping.v, "department": mapping.department}
        if mapping.matter is not None:
            self._head["matter"] = mapping.matter
        self._source = {"system": mapping.system, "mapping": mapping.name, "version": str(mapping.version)}
        self._prefix = len(mapping.name) + 1
        self._fetchers: dict[UrlRule, Fetcher] = {}
        self._fields = [
            (target, tuple(target.split(".")), _compile(rule, mapping.blanks))
            for target, rule in mapping.fields.items()
        ]
        self._subjects = [_compile_entry("subjects", entry, mapping.blanks) for entry in mapping.subjects]
        self._lists = [
            (name, [_compile_entry(name, entry, mapping.blanks) for entry in entries])
            for name, entries in mapping.lists.items()
        ]

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """While it lasts, attachments that rows name by URL are fetched, and lie there until it ends; elsewhere their
        URLs are only checked. Raises CouldNotRun where there is no room."""
        rules = [rule.url for rule in self._mapping.attachments if rule.url is not None]
        if not rules:
            yield
            return
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="yunxi-fetch-")))
            for number, rule in enumerate(rules):
                (directory / str(number)).mkdir()
                self._fetchers[rule] = stack.enter_context(closing(Fetcher(rule, directory / str(number))))
            try:
                yield
            finally:
                self._fetchers.clear()

    def key(self, values: Mapping[str, Any]) -> str:
        """The row's idempotency key. Raises RecordRefused where the row has none."""
        return idempotency_key(self._mapping.name, row_key(self._mapping.key, values, self._mapping.blanks))

    def __call__(self, key: str, values: Mapping[str, Any], beside: Beside | None = None) -> Mapped:
        """The record of a row whose key is known. Raises RecordRefused with a stable reason and one sentence."""
        omitted: list[str] = []
        record: dict[str, Any] = dict(self._head)
        found: dict[str, Any] = {}
        for target, path, read in self._fields:
            value = read(values)
            if value is INVALID:
                omitted.append(target)
            elif value is not BLANK:
                found[target] = value
                if len(path) == 1:
                    record[target] = value
        for group in self._mapping.together:
            self._keep_whole(group, found, record)
        for target, path, _ in self._fields:
            if len(path) > 1 and target in found:
                _put(record, path, found[target])
        subjects = [subject for entry in self._subjects for subject in entry(values, omitted)]
        if subjects:
            record["subjects"] = subjects
        for name, entries in self._lists:
            if items := [item for entry in entries for item in entry(values, omitted)]:
                record[name] = items
        record["source"] = {**self._source, "row": key[self._prefix :]}
        attachments = self._attachments(values, beside) if self._mapping.attachments else ()
        return Mapped(Submission(key, record, attachments), tuple(omitted))

    @staticmethod
    def _keep_whole(group: tuple[str, ...], found: dict[str, Any], record: dict[str, Any]) -> None:
        if all(target in found for target in group):
            return
        for target in group:
            found.pop(target, None)
            record.pop(target, None)

    def _attachments(self, values: Mapping[str, Any], beside: Beside | None) -> tuple[AttachmentSource, ...]:
        found: list[AttachmentSource] = []
        for rule in self._mapping.attachments:
            found.extend(_find_attachments(rule, values, self._mapping, beside, self._fetchers))
        if len(found) > MAX_ATTACHMENTS:
            detail = f"the row names {len(found)} attachments, a record holds at most {MAX_ATTACHMENTS}"
            raise RecordRefused("too-many-attachments", detail)
        return tuple(found)


def _put(record: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    place = record
    for name in path[:-1]:
        place = place.setdefault(name, {})
    place[path[-1]] = value


def _compile(rule: Rule, blanks: frozenset[str]) -> Read:
    """The rule as a function of a row's values. It gives a value, BLANK or INVALID, or raises RecordRefused."""
    blanks = blanks | rule.blanks
    if not rule.columns:
        constant = rule.constant
        return lambda _: constant
    fetch = _fetch_one(rule, blanks) if len(rule.columns) == 1 else _fetch_joined(rule, blanks)
    convert = _converter(rule)
    if rule.after is not None or rule.before is not None:
        convert = _cutting(conversions.cut(rule.after, rule.before), convert)
    if rule.split is not None:
        convert = _splitting(rule.split, convert)
    name = " + ".join(rule.columns)

    def blank() -> Any:
        if rule.default is not None:
            return rule.default
        if rule.omit_blank:
            return BLANK
        raise RecordRefused("blank", f'column "{name}" is blank, and the mapping asks for a value')

    def read(values: Mapping[str, Any]) -> Any:
        try:
            value = fetch(values)
            return blank() if value is None else convert(value)
        except Invalid as error:
            if rule.invalid == "omit":
                return INVALID
            raise RecordRefused(error.reason, f'column "{name}" {error}') from None

    return read


def _look_up(values: Mapping[str, Any], column: str) -> Any:
    """A column; where there is none of that name, the members so named of the objects in a list: one value where the
    list has one entry, else a list."""
    if column in values or "." not in column:
        return values.get(column)
    start = column.find(".")
    while start > 0:
        inner, rest = values.get(column[:start]), column[start + 1 :]
        if isinstance(inner, Mapping):
            return _look_up(inner, rest)
        if isinstance(inner, list):
            found = [_look_up(entry, rest) for entry in inner if isinstance(entry, Mapping)]
            return found[0] if len(found) == 1 else (found or None)
        start = column.find(".", start + 1)
    return None


def _fetch_one(rule: Rule, blanks: frozenset[str]) -> Read:
    column, strip = rule.columns[0], rule.strip

    def fetch(values: Mapping[str, Any]) -> Any:
        value = _look_up(values, column)
        if value.__class__ is str:
            bare = value.strip()
            if bare in blanks:
                return None
            return bare if strip else value
        return value

    return fetch


def _fetch_joined(rule: Rule, blanks: frozenset[str]) -> Read:
    def fetch(values: Mapping[str, Any]) -> Any:
        texts = [to_text(value) for column in rule.columns if (value := _look_up(values, column)) is not None]
        kept = [text.strip() if rule.strip else text for text in texts if text.strip() not in blanks]
        return rule.join.join(kept) if kept else None

    return fetch


def _splitting(separator: str, convert: Convert) -> Convert:
    def split(value: Any) -> list[Any]:
        return [convert(part.strip()) for part in to_text(value).split(separator) if part.strip()]

    return split


def _cutting(cut: Callable[[str], str], convert: Convert) -> Convert:
    return lambda value: convert(cut(to_text(value)))


def _converter(rule: Rule) -> Convert:
    convert = _plain_converter(rule)
    if rule.table is None:
        return convert
    looked_up = conversions.enumeration(rule.table, keep=rule.invalid == "keep")
    if rule.kind == "text":
        return looked_up
    return lambda value: convert(looked_up(value))


def _plain_converter(rule: Rule) -> Convert:
    match rule.kind:
        case "integer":
            return conversions.integer(rule.low, rule.high, rule.thousands)
        case "decimal":
            return conversions.decimal(rule.low, rule.high, rule.places, rule.multiply, rule.thousands, rule.rounded)
        case "money":
            return conversions.money(rule.unit, rule.low, rule.high, rule.thousands)
        case "boolean":
            return conversions.boolean
        case "day":
            return conversions.day(rule.formats)
        case "date":
            assert rule.zone is not None
            return conversions.midnight(rule.formats, rule.zone)
        case "datetime":
            return conversions.moment(rule.formats, rule.zone)
        case _:
            return conversions.text(rule.max_chars, one_line=rule.one_line, exact=rule.exact)


def _compile_entry(where: str, entry: Entry, blanks: frozenset[str]) -> BuildEntries:
    """The objects that an entry makes of a row: one, or one for each entry of its list."""
    build, each = _compile_object(where, entry, blanks), entry.each

    def build_all(values: Mapping[str, Any], omitted: list[str]) -> list[dict[str, Any]]:
        rows = [values] if each is None else _inner_rows(each, entry.split, _look_up(values, each), blanks)
        return [item for row in rows if _is_meant(entry.where, row) and (item := build(row, omitted)) is not None]

    return build_all


def _is_meant(where: Mapping[str, frozenset[str]], values: Mapping[str, Any]) -> bool:
    for column, texts in where.items():
        value = _look_up(values, column)
        if ("" if value is None else to_text(value).strip()) not in texts:
            return False
    return True


def _inner_rows(column: str, split: str | None, value: Any, blanks: frozenset[str]) -> list[Mapping[str, Any]]:
    """The entries of a list as rows of their own; a text is one entry, or several with `split`."""
    if value is None or (isinstance(value, str) and value.strip() in blanks):
        return []
    if isinstance(value, str):
        parts = value.split(split) if split is not None else [value]
        return [{"#text": part} for part in parts if part.strip() not in blanks]
    if not isinstance(value, list):
        raise RecordRefused("nested", f'column "{column}" must hold a list for "each"')
    return [item if isinstance(item, dict) else {"#text": item} for item in value]


def _compile_object(where: str, entry: Entry, blanks: frozenset[str]) -> Callable[[Mapping[str, Any], list[str]], Any]:
    """One object of a list: None where the subject's value, or every column of another entry, was left out."""
    rules = [(name, _compile(rule, blanks), bool(rule.columns)) for name, rule in entry.rules.items()]
    kind = entry.kind
    # kinds without a check digit or a shape are left to intake, which normalises them anyway
    checked = kind if kind is not None and identifiers.KINDS[kind].check is not None else None
    drop_invalid = kind is not None and entry.rules["value"].invalid == "omit"
    exact = kind is None or entry.rules["value"].exact

    def build(values: Mapping[str, Any], omitted: list[str]) -> Any:
        item: dict[str, Any] = {} if kind is None else {"kind": kind}
        filled = False
        for name, read, from_row in rules:
            value = read(values)
            if value is INVALID:
                omitted.append(f"{where}.{name}")
            elif value is not BLANK:
                item[name] = value
                filled = filled or from_row
        if not filled or (kind is not None and "value" not in item):
            return None
        if checked is not None:
            try:
                if not exact:
                    _check_rounded(checked, item["value"])
                identifiers.check(checked, item["value"])
            except RecordRefused:
                if not drop_invalid:
                    raise
                omitted.append(f"{where}.value")
                return None
        return item

    return build


def _check_rounded(kind: str, value: Any) -> None:
    """Refuses a resident id that a spreadsheet program cut to 15 digits: in one of eleven the check digit fits."""
    if kind == "resident-id" and isinstance(value, str) and re.fullmatch(r"\s*\d{15}000\s*", value):
        detail = (
            "resident-id ends in 000, as one does that a spreadsheet program cut to 15 digits; export the column as "
            "text, or set exact = true where the source certainly keeps all digits"
        )
        raise RecordRefused("rounded-number", detail)


def _find_attachments(
    rule: AttachmentRule,
    values: Mapping[str, Any],
    mapping: FeedMapping,
    beside: Beside | None,
    fetchers: Mapping[UrlRule, Fetcher],
) -> list[AttachmentSource]:
    names = _names(rule, rule.column, values, mapping.blanks)
    if not names:
        if rule.omit_blank:
            return []
        raise RecordRefused("blank", f'column "{rule.column}" is blank, and the mapping asks for a file')
    if rule.url is not None:
        found = [_fetched(rule.url, fetchers.get(rule.url), name, rule.media_type) for name in names]
    else:
        base = _base_of(rule, mapping, beside)
        found = [_attachment(base, name, rule, beside) for name in names]
    if rule.sha256 is not None:
        _check_digests(found, _names(rule, rule.sha256, values, mapping.blanks))
    return found


def _base_of(rule: AttachmentRule, mapping: FeedMapping, beside: Beside | None) -> Path:
    if rule.base is not None:
        return (mapping.base / rule.base).resolve()
    assert beside is not None, "a mapping without a base is refused for other kinds of source"
    return beside.directory.resolve()


def _fetched(rule: UrlRule, fetcher: Fetcher | None, url: str, media_type: str | None) -> AttachmentSource:
    """The file behind a URL; where nothing is fetched now, an empty one in its place."""
    name = name_of(url)
    kind = media_type or MEDIA_TYPES.get(Path(name).suffix.lower(), "application/octet-stream")
    if fetcher is None:
        rule.check(url)
        return AttachmentSource(b"", name, kind)
    return AttachmentSource(fetcher.fetch(url), name, kind)


def _names(rule: AttachmentRule, column: str, values: Mapping[str, Any], blanks: frozenset[str]) -> list[str]:
    """The texts of a column: one, several with `split`, or a list that the source gave."""
    value = _look_up(values, column)
    try:
        texts = [to_text(item) for item in (value if isinstance(value, list) else [value]) if item is not None]
    except Invalid as error:
        raise RecordRefused(error.reason, f'column "{column}" {error}') from None
    if rule.split is not None:
        texts = [part for text in texts for part in text.split(rule.split)]
    return [text.strip() for text in texts if text.strip() and text.strip() not in blanks]


def _check_digests(found: list[AttachmentSource], digests: list[str]) -> None:
    if len(found) != len(digests):
        detail = f"the row names {len(found)} attachments and {len(digests)} digests"
        raise RecordRefused("attachment-digest", detail)
    for source, digest in zip(found, digests, strict=True):
        if isinstance(source.path, bytes):
            continue  # nothing was fetched
        try:
            actual = file_digest(source.path)
        except OSError:
            actual = ""
        if actual != digest.lower():
            detail = f'attachment "{source.name[:80]}" is not the file whose digest the row gives'
            raise RecordRefused("attachment-digest", detail)


def _attachment(base: Path, name: str, rule: AttachmentRule, beside: Beside | None) -> AttachmentSource:
    """The file `name` below `base`. What leads out of `base` is refused before it is opened."""
    relative = name.replace("\\", "/")
    shown = name[:80]
    where = "" if rule.base is None else f'; it is looked for below "{rule.base}", beside the mapping file'
    if "\0" in relative or len(relative) > 1000:
        raise RecordRefused("bad-attachment", "an attachment's name is no file name")
    if relative.startswith(("http://", "https://")):
        detail = "an attachment's name is a URL; say under [attachments.url] from where files may be fetched"
        raise RecordRefused("bad-attachment", detail)
    try:
        path = (base / relative).resolve()  # follows symbolic links, so a link out of base shows too
        if not path.is_relative_to(base) or path == base:
            detail = f'attachment "{shown}" leads outside its directory'
            raise RecordRefused("attachment-outside", detail)
        present = path.is_file()
        growing = present and beside is not None and not beside.is_whole(path)
    except (OSError, ValueError, RuntimeError):
        present = growing = False
    if growing:
        raise RecordRefused("attachment-missing", f'attachment "{shown}" is still being written')
    if not present:
        raise RecordRefused("attachment-missing", f'attachment "{shown}" is not there, or is no file{where}')
    kind = rule.media_type or MEDIA_TYPES.get(path.suffix.lower(), "application/octet-stream")
    return AttachmentSource(path, path.name, kind)
