"""Record types are data files: what a record of a type may contain, and which of its members are disclosed together.

A type is one file `<type>.v<N>.json`: a JSON Schema (2020-12) of the whole record with these members of our own:

    x-title         {"zh": …, "en": …}
    x-units         {unit: [member, …], …}, every member but the clear ones and `attachments` in exactly one unit
    x-unit-titles   {unit: {"zh": …, "en": …}, …}
    x-time          "past" or "any", on a member of the record that is an RFC 3339 time
    x-sealed-by     "service": the service says in such records what it did; nobody may hand one in

Members that every type shares are `{"$ref": "envelope.json#/$defs/<member>"}`; that file and `#/$defs/…` of the same
file are the only references there are, so nothing is ever fetched. docs/record-types.md is the guide for departments.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson

from ledger.errors import Malformed, RecordRefused
from ledger.formats import identifiers, strictjson

BUILT_IN: Traversable = files("ledger.types")
"""The types that the ledger ships, and the envelope that every other type refers to."""

CLEAR = ("id", "type", "v", "department", "matter", "case", "inspection", "amends")
"""Members that stand in the statement for all to see; they belong to no unit."""

ATTACHMENTS = "attachments"
"""Filled by intake; its entries become the units `attachment-1`, `attachment-2`, … in order."""

MAX_RECORD_BYTES = 1 << 20
FUTURE_TOLERANCE_SECONDS = 300
_NEAREST = 3  # types that a refusal names
EARLIEST = datetime(1949, 10, 1, tzinfo=UTC)
_EARLIEST_SECONDS = EARLIEST.timestamp()

_REQUIRED = ("type", "v", "department", "occurred_at")
# names that a unit cannot have: it stands as a claim beside these (RFC 7519, RFC 9901, DESIGN section 4)
_RESERVED = {
    *CLEAR,
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "cnf",
    "vct",
    "status",
    "subj",
    "_sd",
    "_sd_alg",
    "...",
}
_ENVELOPE = "envelope.json"
_BASE_URI = "yunxi:/types/"
_MAX_FILE_BYTES = 1 << 20
_FILE_NAME = re.compile(r"([a-z][a-z0-9]*(?:\.[a-z][a-z0-9-]*)+)\.v([1-9][0-9]{0,3})\.json")
_MEMBER_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_UNIT_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")
_REFERENCE = re.compile(r"(envelope\.json)?#/\$defs/([A-Za-z0-9_-]+)")
_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-](?:0\d|1[0-4]):[0-5]\d)", re.ASCII
)

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RecordType:
    """One type in one version. `units` keeps the order of the file; `member_unit` is its inverse. `by_service`: only
    the service itself seals such records."""

    name: str
    version: int
    title: Mapping[str, str]
    units: Mapping[str, tuple[str, ...]]
    member_unit: Mapping[str, str]
    unit_titles: Mapping[str, Mapping[str, str]]
    clear: tuple[str, ...]
    schema: Schema = field(repr=False)
    times: Mapping[str, str] = field(repr=False)
    by_service: bool
    _validator: jsonschema_rs.Draft202012Validator = field(repr=False, compare=False)

    def check_handed_in(self) -> None:
        """Accepts a type whose records a department hands in. Raises RecordRefused, reason `reserved-type`."""
        if self.by_service:
            raise RecordRefused(
                "reserved-type", f"a record of type {self.name} says what the service did: only the service seals one"
            )

    def validate(self, record: dict[str, Any], now: float) -> None:
        """Accepts a record that follows the type, has possible identifiers and sane times. Raises RecordRefused.

        Reasons: `too-large`, `schema`, `bad-identifier`, `bad-time`. `now`: seconds since 1970. The message names the
        place as a path from `$` and what was expected there, never the value (a time excepted).
        Not checked: that `department` is the caller's, that records named by id exist, that digests match.
        """
        data = _within_size(record)
        try:
            self._validator.validate(record)
        except jsonschema_rs.ValidationError as error:
            _refuse_floats(record, [])
            detail = f"{_path(error.instance_path)} {_expectation(error, self.schema)}"
            # the library's error holds the record itself; it must not travel along into a log
            raise RecordRefused("schema", detail) from None
        except ValueError:
            raise RecordRefused(
                "schema", "$ holds a value that is not JSON; use text, integers, lists and objects"
            ) from None
        # JSON Schema counts 1.0 as an integer, but its bytes differ from 1: two readers could disagree. No other float
        # follows a type, so the record is searched only where ".0" stands in it
        if b".0" in data:
            _refuse_floats(record, [])
        _check_officers(record.get("officers", ()))
        _check_subjects(record.get("subjects", ()))
        for member, rule in self.times.items():
            if member in record:
                _check_time(member, record[member], now if rule == "past" else None)

    def validate_clear(self, clear: dict[str, Any]) -> None:
        """Accepts the clear members of a record whose other members are sealed. Raises RecordRefused, reason `schema`.

        Rules of the type that span several members are not checked: they may speak of what is sealed.
        """
        for error in self._validator.iter_errors(clear):
            missing = isinstance(error.kind, _KINDS.Required) and error.kind.property in CLEAR
            if error.instance_path or missing or isinstance(error.kind, _KINDS.AdditionalProperties):
                detail = f"{_path(error.instance_path)} {_expectation(error, self.schema)}"
                raise RecordRefused("schema", detail) from None


class RecordTypes:
    """All types a node knows. Immutable once loaded; safe to share between threads."""

    def __init__(self, types: Mapping[tuple[str, int], RecordType]) -> None:
        self._types = dict(types)

    @classmethod
    def load(cls, *directories: Path | Traversable) -> RecordTypes:
        """Reads every `*.json` of each directory, usually `load(BUILT_IN, node / "types")`.

        Raises Malformed, naming the file, for the first definition that is not sound: not strict JSON, an unknown
        schema keyword, a reference elsewhere, a text, list or number without bounds, an object open to other members, a
        member in no unit or in two, an unknown member in a unit, a unit named like a claim, the same type twice.
        """
        envelope = _read(BUILT_IN / _ENVELOPE)
        types: dict[tuple[str, int], RecordType] = {}
        for directory in directories:
            for file in sorted(directory.iterdir(), key=lambda entry: entry.name):
                if not file.name.endswith(".json") or _is_envelope(file, envelope):
                    continue
                record_type = _built(file.name, _read(file), envelope)
                key = (record_type.name, record_type.version)
                if key in types:
                    raise Malformed(f"record type {file.name}", "is defined twice; raise its version instead")
                types[key] = record_type
        return cls(types)

    def __iter__(self) -> Iterator[RecordType]:
        return iter(self._types.values())

    def __len__(self) -> int:
        return len(self._types)

    def get(self, name: str, version: int) -> RecordType:
        """The type. Raises RecordRefused, reason `unknown-type`, if no file defines it."""
        try:
            return self._types[name, version]
        except (KeyError, TypeError):
            raise RecordRefused(
                "unknown-type",
                f"no record type {str(name)[:64]!r} in version {str(version)[:10]}; {self._nearest(str(name)[:64])}",
            ) from None

    def validate(self, record: dict[str, Any], now: float, *, by_service: bool = False) -> RecordType:
        """The type of `record`, once the record follows it. `by_service`: the service itself says it.

        Raises RecordRefused (see `get`, `RecordType.check_handed_in`, `RecordType.validate`).
        """
        if not isinstance(record, dict):
            raise RecordRefused("schema", "$ must be an object")
        record_type = self.get(record.get("type"), record.get("v"))  # type: ignore[arg-type]
        if not by_service:
            record_type.check_handed_in()
        record_type.validate(record, now)
        return record_type

    def _nearest(self, name: str) -> str:
        near = difflib.get_close_matches(name, {known for known, _ in self._types}, _NEAREST, cutoff=0.4)
        found = [f"{each} v{version}" for each in near for other, version in sorted(self._types) if other == each]
        return f"near it are {', '.join(found)}" if found else "docs/record-types.md says which there are"


def load_types(directory: Path) -> RecordTypes:
    """The built-in record types and those in the node directory's `types/`, if there is one. Raises Malformed."""
    own = directory / "types"
    return RecordTypes.load(BUILT_IN, *([own] if own.is_dir() else []))


def parse_instant(text: str) -> datetime:
    """An RFC 3339 date-time with `T`, seconds and a known offset, to the microsecond. ValueError for anything else.

    Refused although RFC 3339 has them: lower-case `t` and `z`, leap seconds, `-00:00` (offset unknown), offsets beyond
    14 hours.
    """
    if not _INSTANT.fullmatch(text) or text.endswith("-00:00"):
        raise ValueError("not an RFC 3339 time with offset")
    return datetime.fromisoformat(text)


# ---- what the schema cannot say ----------------------------------------------------------------------------------


def _within_size(record: dict[str, Any]) -> bytes:
    """The record as JSON."""
    try:
        data = orjson.dumps(record)
    except TypeError:
        raise RecordRefused(
            "schema", "$ holds a value that is not JSON; use text, integers, lists and objects"
        ) from None
    if len(data) > MAX_RECORD_BYTES:
        raise RecordRefused(
            "too-large", f"$ is {len(data):,} bytes as JSON, more than {MAX_RECORD_BYTES:,}; move bulk into attachments"
        )
    return data


def _refuse_floats(value: Any, path: list[str | int]) -> None:
    if isinstance(value, float):
        raise RecordRefused("schema", f"{_path(path)} must not be a floating-point number; write an integer or text")
    if isinstance(value, dict):
        for name, inner in value.items():
            _refuse_floats(inner, [*path, name])
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            _refuse_floats(inner, [*path, place])


def _check_officers(officers: list[dict[str, Any]]) -> None:
    if len(officers) > 1 and len({officer["id"] for officer in officers}) != len(officers):
        raise RecordRefused("schema", "$.officers must name each officer once, with a certificate number of their own")


def _check_subjects(subjects: list[dict[str, Any]]) -> None:
    for place, subject in enumerate(subjects):
        try:
            identifiers.check(subject["kind"], subject["value"])
        except RecordRefused as error:
            raise RecordRefused(error.reason, f"$.subjects[{place}]: {error}") from None


def _check_time(member: str, text: str, now: float | None) -> None:
    try:
        instant = parse_instant(text).timestamp()
    except ValueError:
        raise RecordRefused(
            "bad-time",
            f"$.{member} must be a time that exists, in RFC 3339 with offset such as 2026-03-02T09:15:00+08:00",
        ) from None
    if instant < _EARLIEST_SECONDS:
        raise RecordRefused(
            "bad-time", f"$.{member} is absurd: {text} lies before {EARLIEST:%Y-%m-%d}; correct the source"
        )
    if now is not None and instant > now + FUTURE_TOLERANCE_SECONDS:
        raise RecordRefused(
            "bad-time", f"$.{member} lies in the future: {text}; check the source's clock and time zone"
        )


# ---- plain words for the library's findings ----------------------------------------------------------------------

_KINDS = jsonschema_rs.ValidationErrorKind
_TYPE_WORDS = {
    "string": "text", "integer": "a whole number", "object": "an object", "array": "a list", "boolean": "true or false"
}  # fmt: skip


def _path(parts: list[str | int]) -> str:
    return "$" + "".join([f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts])


def _expectation(error: jsonschema_rs.ValidationError, schema: Schema) -> str:
    """What was expected, in words that need no knowledge of JSON Schema and repeat no value of the record."""
    match error.kind:
        case _KINDS.Required(name):
            return f"must have the member {name!r}"
        case _KINDS.AdditionalProperties(names):
            return f"must not have the member {str(names[0])[:64]!r}; this record type does not know it"
        case _KINDS.Type(types):
            return f"must be {' or '.join(_TYPE_WORDS.get(name, name) for name in types)}"
        case _KINDS.Enum(options):
            return f"must be one of: {', '.join(map(str, options))}"
        case _KINDS.Constant(value):
            return f"must be {value}"
        case _KINDS.MaxLength(limit):
            return f"must have at most {limit} characters"
        case _KINDS.MinLength(limit):
            return f"must have at least {limit} character{'s' * (limit != 1)}"
        case _KINDS.Minimum(limit):
            return f"must be at least {limit}"
        case _KINDS.Maximum(limit):
            return f"must be at most {limit}"
        case _KINDS.MinProperties():
            return "must not be empty"
        case _KINDS.MinItems(limit):
            return f"must have at least {limit} {'entry' if limit == 1 else 'entries'}"
        case _KINDS.MaxItems(limit):
            return f"must have at most {limit} entries"
        case _KINDS.UniqueItems():
            return "must not have the same entry twice"
    description = _description(error.evaluation_path, schema)
    return f"must be {description}" if description else f"does not keep the rule {error.kind.name!r} of its type"


def _description(evaluation_path: list[str | int], schema: Schema) -> str | None:
    envelope = _parse(_ENVELOPE, _read(BUILT_IN / _ENVELOPE))
    document: Schema = schema
    node: Any = schema
    for step in evaluation_path[:-1]:
        if step == "$ref":
            document, node = _resolve(node["$ref"], document, envelope)
        else:
            node = node[step]
    found = node.get("description") if isinstance(node, dict) else None
    return found if isinstance(found, str) else None


# ---- reading and checking a definition ---------------------------------------------------------------------------

# fmt: off
_KEYWORDS = frozenset({
    "$schema", "$ref", "$defs", "$comment", "title", "description", "examples",
    "type", "const", "enum",
    "properties", "required", "additionalProperties", "dependentRequired", "minProperties", "maxProperties",
    "items", "contains", "minContains", "maxContains", "minItems", "maxItems", "uniqueItems",
    "minLength", "maxLength", "pattern", "format",
    "minimum", "maximum", "multipleOf",
    "anyOf", "oneOf", "allOf", "not", "if", "then", "else",
})
# fmt: on
# schemas that only narrow what another has bounded already
_CONDITIONS = ("contains", "not", "if", "then", "else", "anyOf", "oneOf", "allOf")


def _read(file: Path | Traversable) -> bytes:
    with file.open("rb") as stream:
        return stream.read(_MAX_FILE_BYTES + 1)


def _parse(name: str, data: bytes) -> Schema:
    return strictjson.loads_object(data, what=f"record type {name}", max_bytes=_MAX_FILE_BYTES)


@lru_cache(maxsize=1024)  # a process may open many nodes, and a type is the same wherever its bytes are
def _built(name: str, data: bytes, envelope: bytes) -> RecordType:
    return _Definition(name, _parse(name, data), _parse(_ENVELOPE, envelope)).build()


def _is_envelope(file: Path | Traversable, envelope: bytes) -> bool:
    """True for the envelope itself and exact copies of it, which help editors to resolve references."""
    if file.name != _ENVELOPE:
        return False
    if _parse(_ENVELOPE, _read(file)) != _parse(_ENVELOPE, envelope):
        raise Malformed(
            f"record type {_ENVELOPE}", "differs from the ledger's own envelope; remove it or copy it unchanged"
        )
    return True


def _resolve(reference: Any, document: Schema, envelope: Schema) -> tuple[Schema, Schema]:
    """The document that `reference` leads to, and the schema in it. ValueError for a reference to anywhere else."""
    matched = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
    if not matched:
        raise ValueError(f"$ref {str(reference)[:100]!r} must be #/$defs/NAME or {_ENVELOPE}#/$defs/NAME")
    target = envelope if matched[1] else document
    schema = target.get("$defs", {}).get(matched[2])
    if not isinstance(schema, dict):
        raise ValueError(f"$ref {reference!r} leads nowhere")
    return target, schema


class _Definition:
    """One definition file on its way to a RecordType; every complaint names the file."""

    def __init__(self, name: str, schema: Schema, envelope: Schema) -> None:
        self._what = f"record type {name}"
        self._name = name
        self._envelope = envelope
        self._schema = schema

    def build(self) -> RecordType:
        # 1. the file's name says type and version, and the schema says the same
        name, version = self._identity()
        # 2. every schema inside is closed, bounded and local
        self._walk(self._schema, "$", top=True)
        members = self._members(name, version)
        # 3. units divide the members
        units = self._units(members)
        # 4. the library accepts it
        return RecordType(
            name=name,
            version=version,
            title=self._title(self._schema.get("x-title"), "x-title"),
            units=units,
            member_unit={member: unit for unit, inside in units.items() for member in inside},
            unit_titles=self._unit_titles(units),
            clear=tuple(member for member in CLEAR if member in members),
            schema=self._schema,
            times=self._times(members),
            by_service=self._by_service(),
            _validator=self._compile(),
        )

    def _by_service(self) -> bool:
        if self._schema.get("x-sealed-by", "service") != "service":
            raise self._refuse('x-sealed-by must be "service", or left out where departments hand such records in')
        return "x-sealed-by" in self._schema

    def _refuse(self, reason: str) -> Malformed:
        return Malformed(self._what, reason)

    def _identity(self) -> tuple[str, int]:
        matched = _FILE_NAME.fullmatch(self._name)
        if not matched:
            raise self._refuse("must be named <type>.v<N>.json, such as fire.drill.v1.json")
        return matched[1], int(matched[2])

    def _members(self, name: str, version: int) -> dict[str, Schema]:
        members: dict[str, Schema] = self._schema.get("properties", {})
        fixed = {"type": {"const": name}, "v": {"const": version}}
        for member in (*CLEAR, "occurred_at", ATTACHMENTS):
            if member not in members:
                raise self._refuse(f"lacks the member {member!r} of the envelope")
        for member, schema in members.items():
            if not _MEMBER_NAME.fullmatch(member):
                raise self._refuse(f"member {member[:64]!r} must be lower-case letters, digits and underscores")
            if member in fixed and schema != fixed[member]:
                raise self._refuse(f"member {member!r} must be {fixed[member]}, as the file's name says")
            if member in fixed or member not in self._envelope["properties"]:
                continue
            if schema.get("$ref") != f"{_ENVELOPE}#/$defs/{member}":
                raise self._refuse(f"member {member!r} belongs to the envelope; refer to {_ENVELOPE}#/$defs/{member}")
        missing = sorted(set(_REQUIRED) - set(self._schema.get("required", [])))
        if missing:
            raise self._refuse(f"must require {', '.join(missing)}")
        return members

    def _units(self, members: Mapping[str, Schema]) -> dict[str, tuple[str, ...]]:
        declared = self._schema.get("x-units")
        if not isinstance(declared, dict) or not declared:
            raise self._refuse("x-units must name at least one unit and its members")
        owner: dict[str, str] = {}
        for unit, inside in declared.items():
            self._check_unit_name(unit)
            if not isinstance(inside, list) or not inside:
                raise self._refuse(f"unit {unit!r} must list its members")
            for member in inside:
                self._check_unit_member(unit, member, members, owner)
                owner[member] = unit
        left = [member for member in members if member not in owner and member not in (*CLEAR, ATTACHMENTS)]
        if left:
            raise self._refuse(f"member {left[0]!r} belongs to no unit; list it in x-units")
        return {unit: tuple(inside) for unit, inside in declared.items()}

    def _check_unit_name(self, unit: str) -> None:
        if unit in _RESERVED or unit.startswith("attachment-") or unit == ATTACHMENTS:
            raise self._refuse(f"unit {unit!r} would collide with a claim of the statement; choose another name")
        if not _UNIT_NAME.fullmatch(unit):
            raise self._refuse(f"unit {unit[:64]!r} must be lower-case letters, digits and hyphens, a letter first")

    def _check_unit_member(self, unit: str, member: Any, members: Mapping[str, Schema], owner: dict[str, str]) -> None:
        if not isinstance(member, str) or member not in members:
            raise self._refuse(f"unit {unit!r} lists {str(member)[:64]!r}, which is not a member of the record")
        if member in CLEAR:
            raise self._refuse(f"unit {unit!r} lists {member!r}, which always stands in clear")
        if member == ATTACHMENTS:
            raise self._refuse(f"unit {unit!r} lists {member!r}; each attachment is a unit of its own already")
        if member in owner:
            raise self._refuse(f"member {member!r} stands in two units, {owner[member]!r} and {unit!r}")

    def _unit_titles(self, units: Mapping[str, tuple[str, ...]]) -> dict[str, Mapping[str, str]]:
        titles = self._schema.get("x-unit-titles")
        if not isinstance(titles, dict) or titles.keys() != units.keys():
            raise self._refuse("x-unit-titles must have one title for each unit of x-units and no others")
        return {unit: self._title(titles[unit], f"the title of unit {unit!r}") for unit in units}

    def _title(self, value: Any, where: str) -> dict[str, str]:
        texts = value if isinstance(value, dict) and value.keys() == {"zh", "en"} else {}
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts.values()):
            raise self._refuse(f'{where} must be {{"zh": …, "en": …}}')
        return dict(texts)

    def _times(self, members: Mapping[str, Schema]) -> dict[str, str]:
        found = {member: self._time_rule(schema) for member, schema in members.items()}
        return {member: rule for member, rule in found.items() if rule}

    def _time_rule(self, schema: Schema) -> str | None:
        document = self._schema
        for _ in range(strictjson.MAX_DEPTH):
            if "x-time" in schema:
                return str(schema["x-time"])
            if "$ref" not in schema:
                return None
            document, schema = self._follow(schema["$ref"], document)
        raise self._refuse("has a $ref that leads back to itself")

    def _follow(self, reference: Any, document: Schema) -> tuple[Schema, Schema]:
        try:
            return _resolve(reference, document, self._envelope)
        except ValueError as error:
            raise self._refuse(str(error)) from None

    def _compile(self) -> jsonschema_rs.Draft202012Validator:
        try:
            registry = jsonschema_rs.Registry(
                [(_BASE_URI + _ENVELOPE, self._envelope)], draft=jsonschema_rs.Draft202012
            )
            return jsonschema_rs.Draft202012Validator(
                self._schema,
                registry=registry,
                base_uri=_BASE_URI + self._name,
                offline=True,
                validate_formats=True,
                ignore_unknown_formats=False,
                # linear time: a department's pattern must not be able to stall intake
                pattern_options=jsonschema_rs.RegexOptions(),
            )
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            reason = error.message if isinstance(error, jsonschema_rs.ValidationError) else str(error)
            raise self._refuse(f"is not a sound JSON Schema: {reason[:300]}") from None

    # -- the walk: 2020-12 ignores what it does not know, so a typing error would silently allow everything --

    def _walk(self, schema: Any, where: str, *, top: bool = False, bounded: bool = True) -> None:
        if not isinstance(schema, dict):
            raise self._refuse(f"{where} must be an object with a schema")
        for keyword in schema:
            if keyword not in _KEYWORDS and not (keyword.startswith("x-") and (top or keyword == "x-time")):
                raise self._refuse(f"{where} has the unknown keyword {keyword[:64]!r}")
        self._check_place(schema, where, top=top)
        self._check_values(schema, where)
        if bounded:
            self._check_bounds(schema, where)
        self._walk_inside(schema, where, bounded=bounded)

    def _check_place(self, schema: Schema, where: str, *, top: bool) -> None:
        if "$defs" in schema and not top:
            raise self._refuse(f"{where} has $defs; they belong at the top of the file")
        if "$ref" in schema:
            self._follow(schema["$ref"], self._schema)
        # `$.name` is a member of the record; anything deeper would never be checked
        if where.count(".") + where.count("[") > 1 and self._time_rule(schema):
            raise self._refuse(f"{where} is a time inside another member; make it a member of the record itself")
        if schema.get("x-time", "any") not in ("past", "any"):
            raise self._refuse(f'{where} must have "past" or "any" as its x-time')

    def _check_values(self, schema: Schema, where: str) -> None:
        try:
            _refuse_floats([schema.get("const"), schema.get("enum")], [])
        except RecordRefused:
            raise self._refuse(
                f"{where} allows a floating-point number, which no record may hold; use integers or text"
            ) from None

    def _check_bounds(self, schema: Schema, where: str) -> None:
        needs: dict[Any, tuple[str, ...]] = {
            "string": ("maxLength",), "integer": ("minimum", "maximum"), "array": ("items", "maxItems"),
            "object": ("properties",), "boolean": (),
        }  # fmt: skip
        kind = schema.get("type")
        if kind is None:
            if not schema.keys() & {"$ref", "const", "enum"}:
                raise self._refuse(f"{where} must have a type, a $ref, a const or an enum")
            return
        if not isinstance(kind, str) or kind not in needs:
            raise self._refuse(f"{where} must have one type of string, integer, boolean, array and object")
        for keyword in needs[kind]:
            if keyword not in schema:
                raise self._refuse(f"{where} is {_TYPE_WORDS[kind]} without {keyword}")
        if kind == "integer" and not all(_is_safe(schema[limit]) for limit in needs[kind]):
            raise self._refuse(f"{where} must keep minimum and maximum within ±(2^53-1)")
        if kind == "object" and schema.get("additionalProperties") is not False:
            raise self._refuse(f'{where} must say "additionalProperties": false')

    def _walk_inside(self, schema: Schema, where: str, *, bounded: bool) -> None:
        for name, inner in schema.get("properties", {}).items():
            self._walk(inner, f"{where}.{name}", bounded=bounded)
        for name, inner in schema.get("$defs", {}).items():
            # a definition may be used as a member, so it counts as one here; its uses are walked where they stand
            self._walk(inner, f"$.{name}", bounded=bounded)
        if "items" in schema:
            self._walk(schema["items"], f"{where}[*]", bounded=bounded)
        for keyword in _CONDITIONS:
            inner = schema.get(keyword, [])
            for condition in inner if isinstance(inner, list) else [inner]:
                self._walk(condition, f"{where}.{keyword}", bounded=False)


def _is_safe(limit: Any) -> bool:
    return isinstance(limit, int) and abs(limit) <= strictjson.MAX_INTEGER
