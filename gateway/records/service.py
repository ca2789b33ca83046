"""A department's own records: submissions and outcomes as JSON, lists by cursor, and reading, which is logged first."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import orjson
from sqlalchemy import Connection

from gateway.caller import Caller
from gateway.problems import Problem
from gateway.site import Site
from ledger.errors import RecordRefused
from ledger.formats.sdjwt import Presentation, parse_statement, serialize_presentation
from ledger.listing import case_of, list_records
from ledger.receipts import make_receipt
from ledger.store.models import position_of
from ledger.store.reading import EntryRow, LogRow, find_entries, find_entry, read_logs
from ledger.submission import Acknowledged, Outcome, Refused, Submission, UploadedSource

MAX_SUBMISSIONS = 1_000

_CLEAR = ("type", "v", "matter", "case", "inspection", "amends")


@dataclass(frozen=True, slots=True)
class File:
    """An attachment on its way out: plaintext in pieces of at most 1 MiB, as its record describes it."""

    name: str
    media_type: str
    size: int
    pieces: Iterator[bytes]


# -- in --


def parse_submissions(body: bytes) -> list[Submission]:
    """The submissions of `{"records": [{"key": …, "record": {…}}, …]}`. Raises Problem `bad-request`, `too-large`.

    Names the member that is wrong, never its value. The records themselves are intake's to judge, one by one.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem("bad-request", "the body must be JSON", field="$") from error
    items = document.get("records") if isinstance(document, dict) and document.keys() == {"records"} else None
    if not isinstance(items, list) or not items:
        raise Problem("bad-request", 'the body must be {"records": [...]} with at least one', field="records")
    if len(items) > MAX_SUBMISSIONS:
        raise Problem("too-large", f"a request takes at most {MAX_SUBMISSIONS:,} records: split it", field="records")
    return [_submission(item, place) for place, item in enumerate(items)]


def _submission(item: Any, place: int) -> Submission:
    if not isinstance(item, dict) or item.keys() - {"uploads"} != {"key", "record"}:
        raise Problem("bad-request", 'a submission is {"key": ..., "record": {...}}', field=f"records[{place}]")
    if not isinstance(item["key"], str):
        raise Problem("bad-request", "a key is text", field=f"records[{place}].key")
    return Submission(
        item["key"], item["record"], uploads=_uploads(item.get("uploads", []), f"records[{place}].uploads")
    )


def _uploads(items: Any, field: str) -> tuple[UploadedSource, ...]:
    if not isinstance(items, list):
        raise Problem("bad-request", "uploads are a list", field=field)
    return tuple(_upload(item, f"{field}[{place}]") for place, item in enumerate(items))


def _upload(item: Any, field: str) -> UploadedSource:
    if not isinstance(item, dict) or item.keys() - {"role"} != {"upload", "name", "media_type", "size", "sha256"}:
        raise Problem("bad-request", "an upload is named with upload, name, media_type, size and sha256", field=field)
    if type(item["size"]) is not int or not all(isinstance(v, str) for n, v in item.items() if n != "size"):
        raise Problem("bad-request", "size is a number of bytes, everything else of an upload is text", field=field)
    return UploadedSource(**item)


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """An outcome as a JSON object: `acknowledged` with the record's place, or `refused` with code, reason, detail."""
    if isinstance(outcome, Acknowledged):
        place = {"id": outcome.record_id, "index": outcome.index, "new": outcome.new}
        return {"outcome": "acknowledged", "key": outcome.key, **place}
    error = outcome.error
    why = {"code": error.code, "reason": error.reason, "detail": str(error)}
    return {"outcome": "refused", "key": outcome.key, **why}


# -- out --


def list_page(site: Site, caller: Caller, cursor: str | None, limit: int, key: str | None) -> dict[str, Any]:
    """A page of the caller's department's records, newest first, without content: what stands in clear in the log."""
    with site.database.reading() as connection:
        log = _log_of(connection, caller)
        before = None if cursor is None else position_of(log.number, parse_cursor(cursor, log.size))
        found = list_records(connection, caller.department, key, limit, before)
        rows = find_entries(connection, [each.record_id for each in found[:500]])
        rows += find_entries(connection, [each.record_id for each in found[500:]])
    items = [
        {"id": each.record_id, "index": each.index, "key": each.key, "acknowledged_at": instant(each.sealed_at)}
        | _clear_members(row)
        for each, row in zip(found, rows, strict=True)
    ]
    more = len(found) == limit and found[-1].index > 0 and key is None
    return {"records": items, "next": str(found[-1].index) if more else None}


def parse_cursor(text: str, size: int) -> int:
    """The index that a cursor of ours stands for. Raises Problem `bad-request` for another text."""
    if not (text.isascii() and text.isdigit() and len(text) <= 15 and int(text) <= size):
        raise Problem("bad-request", "the cursor must be the `next` of an earlier page", field="cursor")
    return int(text)


def read_record(site: Site, caller: Caller, record_id: str, purpose: str | None, request_id: str) -> dict[str, Any]:
    """A record of the caller's department, whole; that it was read is in the log before this returns."""
    with site.database.reading() as connection:
        row = _own_entry(connection, caller, record_id)
        opened = site.node.reader.open(connection, row.record_id)
    write_read(site, caller, row.record_id, purpose, request_id)
    texts = [disclosure.text for disclosure in opened.disclosures]
    presentation = serialize_presentation(opened.statement.ascii, texts).decode("ascii")
    return _place(row) | {"record": opened.record(), "presentation": presentation}


def read_statement(site: Site, caller: Caller, record_id: str) -> dict[str, Any]:
    """The same without content, as an auditor may see it: the signed statement, every unit withheld."""
    with site.database.reading() as connection:
        row = _own_entry(connection, caller, record_id)
    opened = Presentation(parse_statement(row.statement), ())
    return _place(row) | {"record": opened.record(), "presentation": row.statement.decode("ascii") + "~"}


def read_receipt(site: Site, caller: Caller, record_id: str) -> bytes:
    """The receipt of a record of the caller's department (C2SP tlog-proof)."""
    with site.database.writing() as connection:
        row = _own_entry(connection, caller, record_id)
        policy = site.node.settings.policy
        return make_receipt(connection, site.node.agent, row.record_id, int(site.clock()), policy).serialize()


def read_attachment(
    site: Site, caller: Caller, record_id: str, number: int, purpose: str | None, request_id: str
) -> File:
    """An attachment of a record of the caller's department; that it was read is in the log before this returns."""
    with site.database.reading() as connection:
        row = _own_entry(connection, caller, record_id)
        opened = site.node.reader.open(connection, row.record_id)
        described = next((d.members for d in opened.disclosures if d.unit == f"attachment-{number}"), None)
        if described is None:
            raise Problem("not-found", "the record has no attachment of that number")
        pieces = site.node.reader.attachment(connection, row.record_id, number)
        first = next(pieces, b"")  # a file that is missing or damaged is found before the answer begins
    write_read(site, caller, row.record_id, purpose, request_id, attachment=number)
    return File(described["name"], described["media_type"], described["size"], chain([first], pieces))


def write_read(
    site: Site, caller: Caller, record_id: str, purpose: str | None, request_id: str, attachment: int | None = None
) -> None:
    """Writes the record `record.read` to the log of the caller's department; durable on return. Raises what intake
    raises, and Problem `could-not-run` when the log does not take it: then nothing may be shown."""
    record: dict[str, Any] = {
        "type": "record.read",
        "v": 1,
        "reader_kind": caller.kind,
        "reader": caller.subject,
        "roles": sorted(caller.roles),
        "records": [record_id],
        "part": "content" if attachment is None else "attachment",
        "channel": "api",
        "request": request_id,
        "occurred_at": instant(site.clock()),
    }
    with site.database.reading() as connection:
        case = case_of(connection, record_id)
    record |= {"case": case} if case is not None else {}
    record |= {"attachment": attachment} if attachment is not None else {}
    record |= {"purpose": purpose} if purpose is not None else {}
    outcome = site.intake.submit(caller.department, [Submission(f"read/{uuid.uuid4()}", record, by_service=True)])[0]
    if isinstance(outcome, Refused):
        raise Problem("could-not-run", "that you read it could not be logged, so it is not shown") from outcome.error


def instant(seconds: float) -> str:
    """A moment as RFC 3339 text in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _log_of(connection: Connection, caller: Caller) -> LogRow:
    found = read_logs(connection, caller.department)
    if not found:
        raise Problem("not-found", "this node does not host the caller's department: ask its own node")
    return found[0]


def _own_entry(connection: Connection, caller: Caller, record_id: str) -> EntryRow:
    """The entry of a record of the caller's department; another's is as if it were not there."""
    log = _log_of(connection, caller)
    try:
        row = find_entry(connection, str(uuid.UUID(record_id)))
    except (ValueError, RecordRefused) as error:
        raise Problem("not-found", "the department has no such record") from error
    if row.log != log.number:
        raise Problem("not-found", "the department has no such record")
    return row


def _place(row: EntryRow) -> dict[str, Any]:
    return {"id": row.record_id, "index": row.index, "acknowledged_at": instant(row.acknowledged_at / 1000)}


def _clear_members(row: EntryRow) -> dict[str, Any]:
    payload = parse_statement(row.statement).payload
    return {name: payload[name] for name in _CLEAR if name in payload}
