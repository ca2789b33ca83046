"""What a department does with its inspections and cases. Each step is one record in its own log; what stands in the
projection afterwards is the answer, so a step that came too late for the log's order is refused although its record
stays.

Numbers are unique within a department and kind: a number is the opening record's idempotency key, which intake takes
once. A repeated request (the same `Idempotency-Key`) is found by the mark that the record itself carries.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from gateway.caller import Caller
from gateway.grants.purposes import purposes
from gateway.problems import Problem
from gateway.proceedings import reading
from gateway.proceedings.consortium import is_admitted
from gateway.proceedings.forms import ATTACHED, Form
from gateway.proceedings.models import proceedings
from gateway.proceedings.reading import Proceeding
from gateway.projections.projector import read_claims
from gateway.site import Site
from ledger.errors import Conflict, RecordRefused
from ledger.formats.identifiers import normalise
from ledger.formats.merkle import leaf_hash
from ledger.store.models import logs
from ledger.store.reading import find_entry, read_logs
from ledger.submission import Acknowledged, Refused, Submission

MAX_ATTEMPTS = 20
_REQUEST = re.compile(r"[\x21-\x7e]{1,64}")
_NUMBER_DIGITS = 6
_PER_REQUEST = ("id", "occurred_at", "request", "account")

Members = Mapping[str, Any]


def open_proceeding(
    site: Site, form: Form, caller: Caller, members: Members, number: str | None = None, request: str | None = None
) -> tuple[Proceeding, bool]:
    """Opens one for the caller's department; `members` are the opening record's. True where it is new.

    `number` None draws the next of `<department>-<year>-000001`. Raises Problem `number-taken`, `not-admitted`,
    `purpose-unknown`, `bad-request`, `conflict` (the same request with other content), RecordRefused for what the
    record type refuses.
    """
    if number is not None and not number.isprintable():
        raise Problem(
            "bad-request", "a number holds printable characters only: leave out what is invisible", field="number"
        )
    record, last = _opening(site, form, caller, members, request), None
    for _ in range(MAX_ATTEMPTS):
        site.projector.catch_up([caller.department])
        with site.database.reading() as connection:
            earlier = _by_request(connection, form, caller.department, record["request"])
            drawn = number or _next_number(connection, form, caller.department, site.clock())
            taken = reading.find(connection, form.kind, drawn, caller.department)
        if earlier is not None:
            return _require_same(site, earlier, record, number), False
        if taken is not None or drawn == last:
            raise _number_taken(drawn)
        last = drawn
        try:
            opened = _submit(site, caller, f"{form.kind}/{drawn}", record | {form.kind: drawn})
        except Conflict:
            continue  # another request took the number, or it is this very one at another worker: look again
        with site.database.reading() as connection:
            found = reading.find(connection, form.kind, drawn, caller.department)
        if found is None or found.opened != opened.record_id:
            raise _number_taken(drawn)
        return found, opened.new
    raise Problem("overloaded", "other requests keep taking the next number: send the same again", retry_after=1)


def change_participants(
    site: Site, form: Form, caller: Caller, number: str, join: Collection[str], leave: Collection[str]
) -> Proceeding:
    """Lets departments join and leave, by a record that amends the opening one; the same again changes nothing.

    Raises Problem `not-found`, `forbidden`, `proceeding-closed`, `not-admitted`.
    """
    _require_admitted(site, join)
    for _ in range(MAX_ATTEMPTS):
        found = _own(site, form, caller, number)
        wanted = (set(found.participants) | set(join)) - set(leave) - {caller.department}
        if wanted == set(found.participants):
            return found
        with site.database.reading() as connection:
            current = site.node.reader.open(connection, found.reference).record()
        changed = {name: value for name, value in current.items() if name not in _PER_REQUEST}
        changed |= {"amends": found.reference, "participants": sorted(wanted), **_by(site, caller)}
        try:
            _submit(site, caller, f"{form.kind}/{number}/amend/{found.reference}", changed)
        except Conflict:
            site.projector.catch_up([caller.department])  # somebody else amended the same state: begin with theirs
    raise Problem("overloaded", "others keep changing the participants: send the same again", retry_after=1)


def attach(
    site: Site,
    form: Form,
    caller: Caller,
    number: str,
    record_id: str,
    owner: str | None = None,
    leaf: str | None = None,
    note: str | None = None,
) -> tuple[Proceeding, bool]:
    """Attaches a record: one of the caller's own by its id, another department's with `owner` and `leaf` (the RFC 9162
    leaf hash of its statement, hex). That a foreign record exists is not checked here; its presentation shows it.

    Raises Problem `not-found`, `forbidden`, `proceeding-closed`, `bad-request`; RecordRefused `unknown-record`.
    """
    found = _own(site, form, caller, number)
    record = _attachment(site, caller, record_id, owner, leaf) | {"type": ATTACHED, "v": 1, form.kind: number}
    record |= {**_by(site, caller), **({"note": note} if note else {})}
    new = True
    try:
        _submit(site, caller, f"{form.kind}/{number}/record/{record_id}", record)
    except Conflict:
        new = False  # the same record again
        site.projector.catch_up([caller.department])
    with site.database.reading() as connection:
        if record_id not in {each.record_id for each in reading.attached_to(connection, found)}:
            raise _closed(number)  # it was closed meanwhile
    return found, new


def close(
    site: Site, form: Form, caller: Caller, number: str, members: Members, request: str | None = None
) -> tuple[Proceeding, bool]:
    """Closes it; `members` are the closing record's (`outcome`, `reason`, …). True where this call closed it.

    Raises Problem `not-found`, `forbidden` (only the lead closes), `proceeding-closed`.
    """
    mark = _mark(request)
    found = _own(site, form, caller, number, is_open=False)
    if found.is_open:
        record = {**members, "type": form.closed, "v": 1, form.kind: number, "request": mark, **_by(site, caller)}
        try:
            _submit(site, caller, f"{form.kind}/{number}/close", record)
        except Conflict:
            site.projector.catch_up([caller.department])
        new = True
        found = _own(site, form, caller, number, is_open=False)
    else:
        new = False
    if found.close_request != mark:
        raise _closed(number)
    return found, new


def look(site: Site, form: Form, caller: Caller, number: str, lead: str | None = None) -> Proceeding:
    """The proceeding of that number that the caller's department leads or takes part in; `lead` where several have the
    number. Raises Problem `not-found`: also for those that do not concern the caller."""
    site.projector.catch_up()
    with site.database.reading() as connection:
        found = [p for p in reading.find_any(connection, form.kind, number) if p.concerns(caller.department)]
    own = [p for p in found if p.lead == (lead or caller.department)]
    chosen = own or ([] if lead else found)
    if len(chosen) > 1:
        raise Problem("conflict", "several departments use this number: say which one leads it, as `lead`")
    if not chosen:
        raise _not_found(form)
    return chosen[0]


# ---- the records ----


def _opening(site: Site, form: Form, caller: Caller, members: Members, request: str | None) -> dict[str, Any]:
    record = {name: value for name, value in members.items() if value is not None}
    record |= {"type": form.opened, "v": 1, "request": _mark(request)}
    record = _by(site, caller) | record
    if "purpose" in record:
        _require_purpose(record["purpose"])
    participants = sorted(set(record.get("participants", ())) - {caller.department})
    _require_admitted(site, participants)
    if "participants" in record:
        record["participants"] = participants
    record["subjects"] = _subjects(record.get("subjects", ()))
    return record


def _subjects(subjects: Collection[Any]) -> list[dict[str, Any]]:
    """Each subject once, by its normal form; intake looks at check digits."""
    unique: dict[tuple[str, str], dict[str, Any]] = {}
    for subject in subjects:
        normal = normalise(subject["kind"], subject["value"])
        unique.setdefault((subject["kind"], normal), {**subject, "value": normal})
    return list(unique.values())


def _attachment(site: Site, caller: Caller, record_id: str, owner: str | None, leaf: str | None) -> dict[str, Any]:
    if owner is not None and owner != caller.department:
        if leaf is None:
            raise Problem("bad-request", "another department's record is attached with its leaf hash", field="leaf")
        _require_admitted(site, [owner])
        return {"record": record_id, "owner": owner, "leaf": leaf}
    with site.database.reading() as connection:
        entry = find_entry(connection, record_id)
        log = read_logs(connection, caller.department)[0]
    if entry.log != log.number:
        raise RecordRefused("unknown-record", f"record {record_id} is not the department's own: name its `owner`")
    claims = read_claims(entry.statement) or {}
    return {
        "record": record_id,
        "owner": caller.department,
        "leaf": leaf_hash(entry.statement).hex(),
        "record_type": claims["type"],
    }


def _by(site: Site, caller: Caller) -> dict[str, Any]:
    now = datetime.fromtimestamp(site.clock()).astimezone()
    return {"occurred_at": now.isoformat(timespec="seconds"), "account": caller.subject[:64]}


def _submit(site: Site, caller: Caller, key: str, record: dict[str, Any]) -> Acknowledged:
    """Seals a record of the caller's department and projects it. Raises its refusal."""
    outcome = site.intake.submit(caller.department, [Submission(key, record, by_service=True)])[0]
    if isinstance(outcome, Refused):
        raise outcome.error
    site.projector.catch_up([caller.department])
    return outcome


# ---- numbers and repeated requests ----


def _mark(request: str | None) -> str:
    if request is None:
        return secrets.token_urlsafe(16)
    if not _REQUEST.fullmatch(request):
        raise Problem(
            "bad-request", "Idempotency-Key must be 1 to 64 visible ASCII characters", field="Idempotency-Key"
        )
    return request


def _by_request(connection: Connection, form: Form, department: str, request: str) -> Proceeding | None:
    query = (
        select(proceedings.c.number)
        .join_from(proceedings, logs, proceedings.c.log == logs.c.log)
        .where(logs.c.department == department, proceedings.c.kind == form.kind, proceedings.c.request == request)
    )
    number = connection.scalar(query)
    return None if number is None else reading.find(connection, form.kind, number, department)


def _next_number(connection: Connection, form: Form, department: str, now: float) -> str:
    prefix = f"{department}-{datetime.fromtimestamp(now).astimezone():%Y}-"
    column = proceedings.c.number
    query = select(column).where(
        proceedings.c.kind == form.kind,
        proceedings.c.lead == department,
        # characters, not patterns: `_` and `%` cannot stand in a department's id
        column.like(prefix + "_" * _NUMBER_DIGITS),
    )
    drawn = [n for n in connection.scalars(query.order_by(column.desc()).limit(50)) if n[len(prefix) :].isdecimal()]
    last = int(drawn[0][len(prefix) :]) if drawn else 0
    if last >= 10**_NUMBER_DIGITS - 1:
        raise Problem("conflict", "this year's numbers are used up: give a `number` of your own")
    return f"{prefix}{last + 1:0{_NUMBER_DIGITS}}"


def _require_same(site: Site, earlier: Proceeding, record: dict[str, Any], number: str | None) -> Proceeding:
    with site.database.reading() as connection:
        before = site.node.reader.open(connection, earlier.opened).record()
    ignored = {*_PER_REQUEST, "department", earlier.kind}
    same = {k: v for k, v in before.items() if k not in ignored} == {
        k: v for k, v in record.items() if k not in ignored
    }
    if not same or number not in (None, earlier.number):
        raise Problem("conflict", "this Idempotency-Key was used with other content: draw a new one")
    return earlier


# ---- who and what ----


def _own(site: Site, form: Form, caller: Caller, number: str, *, is_open: bool = True) -> Proceeding:
    site.projector.catch_up([caller.department])
    with site.database.reading() as connection:
        found = reading.find(connection, form.kind, number, caller.department)
        others = [] if found else reading.find_any(connection, form.kind, number)
    if found is None:
        if any(other.concerns(caller.department) for other in others):
            raise Problem("forbidden", "only the department that leads it may do this: ask the lead")
        raise _not_found(form)
    if is_open and not found.is_open:
        raise _closed(number)
    return found


def _require_admitted(site: Site, departments: Collection[str]) -> None:
    for department in departments:
        if not is_admitted(site, department):
            raise Problem("not-admitted", f"{department[:31]} is not admitted to the consortium: correct its id")


def _require_purpose(purpose: str) -> None:
    known = purposes()
    if purpose not in known:
        raise Problem("purpose-unknown", f"a purpose is one of: {', '.join(sorted(known))}", field="purpose")


def _not_found(form: Form) -> Problem:
    return Problem("not-found", f"there is no {form.kind} of this number that concerns your department")


def _closed(number: str) -> Problem:
    return Problem("proceeding-closed", f"{number} is closed: nothing can be added to it or changed")


def _number_taken(number: str) -> Problem:
    return Problem("number-taken", f"number {number} is taken: choose another, or leave it out to have one drawn")
