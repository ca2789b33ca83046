"""Probes: rows that somebody plants at the source and that must come out, which tests a feed from end to end.

A probe is a row whose declared column holds `<prefix><token>`, and nothing else of it matters. Its token says when it
was made, `20260311T080000Z-` and 16 hex digits, so a probe that arrives tells how long it took. It is sealed as
feed.probe.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapters.conversions import Invalid, to_text
from adapters.csv_files import CsvOptions
from adapters.folder import FolderOptions
from adapters.jsonl_files import JsonlOptions
from adapters.mapping import FeedMapping
from adapters.sql_tables import SqlOptions
from ledger.errors import CouldNotRun, Malformed, RecordRefused
from ledger.feeds import probe_key
from ledger.submission import Submission

_TOKEN = re.compile(r"([0-9]{8}T[0-9]{6}Z)-[0-9a-f]{16}")
_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Planting:
    """A row to plant. `text` is the row as a person puts it into the source, `where` says where; `file` is its name in
    a drop folder, None where we do not write to the source."""

    token: str
    values: Mapping[str, str]
    where: str
    text: str
    file: str | None


def make_token(now: datetime) -> str:
    """A new token, made at `now`."""
    return f"{now.astimezone(UTC):{_TIME}}-{secrets.token_hex(8)}"


def token_digest(token: str) -> str:
    """What stands in the log for a token: its SHA-256 in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_probe(mapping: FeedMapping, values: Mapping[str, Any], now: datetime) -> Submission | None:
    """The feed.probe record of a row that is a probe, None of one that is not.

    Raises RecordRefused, reason `bad-probe`, where the row is marked as a probe and its token is none.
    """
    rule = mapping.probe
    text = None if rule is None else _text(values.get(rule.column))
    if rule is None or text is None or not text.startswith(rule.prefix):
        return None
    token = text[len(rule.prefix) :].strip()
    matched = _TOKEN.fullmatch(token)
    try:
        planted = datetime.strptime(matched[1], _TIME).replace(tzinfo=UTC) if matched else None
    except ValueError:
        planted = None
    if planted is None:
        raise RecordRefused("bad-probe", f'column "{rule.column}" marks a probe, but holds no token of one')
    digest = token_digest(token)
    record = {
        "type": "feed.probe",
        "v": 1,
        "department": mapping.department,
        "occurred_at": planted.isoformat(),
        "source": {"system": mapping.system, "mapping": mapping.name, "version": str(mapping.version)},
        "feed": mapping.name,
        "token_sha256": digest,
        "arrived_at": now.astimezone(UTC).isoformat(timespec="seconds"),
    }
    return Submission(probe_key(mapping.name, digest), record, by_service=True)


def planting(mapping: FeedMapping, token: str) -> Planting:
    """What to plant for `token`, and where. Raises Malformed where the mapping declares no probe."""
    rule = mapping.probe
    if rule is None:
        raise Malformed(
            mapping.file, 'declares no [probe]; give it a column, a prefix and "every", see docs/mappings.md'
        )
    # the key columns too: a row without a key or a cursor may not be read at all
    values = dict.fromkeys(mapping.key, f"probe-{token}") | {rule.column: f"{rule.prefix}{token}"}
    options = mapping.options
    if isinstance(options, SqlOptions):
        where = f"in the table {options.table}" if options.table else "in the tables of the query"
        hint = f"; let {', '.join(options.cursor)} be what a new row has"
        return Planting(token, values, where + hint, _insert(options.table or "TABLE", values), None)
    if isinstance(options, FolderOptions) and (file := _file(mapping, options, values)) is not None:
        return Planting(token, values, "as a file of its own in the drop folder", file[1], f"probe-{token}{file[0]}")
    return Planting(token, values, "as one more row at the end of the source", _json(values), None)


def plant_file(mapping: FeedMapping, plan: Planting, environ: Mapping[str, str]) -> Path:
    """Writes the probe's file into the mapping's drop folder, whole at once. Raises CouldNotRun."""
    options = mapping.options
    assert isinstance(options, FolderOptions) and plan.file is not None
    folder, ready = options.directory(mapping.base, environ), options.ready
    path = folder / plan.file
    try:
        hidden = folder / f".{plan.file}.tmp"
        hidden.write_text(plan.text, encoding="utf-8")
        hidden.rename(path)
        if ready is not None:
            path.with_name(path.name + ready).touch()
    except OSError as error:
        raise CouldNotRun(f"{path} cannot be written ({error.strerror}); plant the row yourself") from error
    return path


def _file(mapping: FeedMapping, options: FolderOptions, values: Mapping[str, str]) -> tuple[str, str] | None:
    """Suffix and content of a file with the one row; None where the format has no plain form of its own."""
    if isinstance(options.each, JsonlOptions):
        return ".jsonl", _json(values) + "\n"
    if isinstance(options.each, CsvOptions) and options.each.columns is None:
        buffer = io.StringIO()
        writer = csv.writer(buffer, delimiter=options.each.delimiter, lineterminator="\n")
        # a file without a column that the mapping reads would be refused as a whole
        columns = sorted(mapping.columns)
        writer.writerows([columns, [values.get(column, "") for column in columns]])
        return ".csv", buffer.getvalue()
    return None


def _insert(table: str, values: Mapping[str, str]) -> str:
    names = ", ".join(values)
    texts = ", ".join("'" + value.replace("'", "''") + "'" for value in values.values())
    return f"INSERT INTO {table} ({names}) VALUES ({texts})"  # noqa: S608 - printed, never run


def _json(values: Mapping[str, str]) -> str:
    return json.dumps(dict(values), ensure_ascii=False)


def _text(value: Any) -> str | None:
    try:
        return None if value is None else to_text(value).strip()
    except Invalid:
        return None
