"""Recalling a record, hearing of a recall, and acknowledging it.

owner: record.recalled, or a record that amends ─► told to all who extracted it (gateway/notices)
recipient: recall.received, durable ─► its copies are stale ─► a person: recall.acknowledged ─► told to the owner
owner: recall.acknowledged, its own record of that
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, select

from gateway.caller import Caller
from gateway.dossiers.models import dossier_entries
from gateway.extractions.refusals import instant
from gateway.notices.shown import Shown, seal_once, verify_shown
from gateway.notices.teller import Telling
from gateway.problems import Problem
from gateway.recalls import reading
from gateway.recalls.models import recall_answers, recall_notices, received_recalls
from gateway.recalls.projection import ACKNOWLEDGED, CORRECTION, RECALL, RECALLED, RECEIVED
from gateway.recalls.reading import Given, Received
from ledger.errors import RecordRefused
from ledger.formats.sdjwt import parse_statement
from ledger.listing import case_of
from ledger.store.models import logs
from ledger.store.reading import find_entry, read_logs

if TYPE_CHECKING:
    from gateway.site import Site

NOTICES, ACKNOWLEDGEMENTS = "/v1/recalls/notices", "/v1/recalls/acknowledgements"
_CARRIED = ("asks", "reason_kind", "reason", "replaced_by")
_TOLD_UNITS = frozenset(("kind", "reason", "asks", "replacement", "record-type"))


class Notices:
    """Tells recipients of recalls, or of corrections, of which nothing is shown but what they amend."""

    path = NOTICES

    def __init__(self, site: Site, kind: str) -> None:
        self._site, self.kind = site, kind
        self.units: frozenset[str] | None = _TOLD_UNITS if kind == RECALL else frozenset()

    def wanted(self) -> Select[Any]:
        """Every notice that was not acknowledged."""
        n, a = recall_notices.c, recall_answers.c
        known = (a.log == n.log) & (a.notice == n.notice) & (a.department == n.department)
        return (
            select(logs.c.department.label("sender"), n.department.label("peer"), n.notice.label("record_id"))
            .join_from(recall_notices, logs, logs.c.log == n.log)
            .outerjoin(recall_answers, known)
            .where(n.kind == self.kind, a.log.is_(None))
        )

    def confirm(self, telling: Telling, answer: dict[str, Any], /) -> str | None:
        """The recipient's recall.received, which must be in its log."""
        shown = answer.get("received")
        if not isinstance(shown, dict) or not all(isinstance(shown.get(n), str) for n in ("presentation", "receipt")):
            raise Problem("peer-refused", "the recipient's answer shows no record of having received the notice")
        presentation, receipt = shown["presentation"].encode(), shown["receipt"].encode()
        proof = verify_shown(self._site.peers.trust(), telling.peer, presentation, receipt)
        if proof.facts.type != RECEIVED or proof.members.get("notice") != telling.record_id:
            raise Problem("peer-refused", "the recipient's answer shows another record than that of this notice")
        return proof.facts.record_id


class Acknowledgements:
    """Tells owners that a person has acknowledged."""

    kind = "acknowledgement"
    path = ACKNOWLEDGEMENTS
    units: frozenset[str] | None = frozenset(("when", "role", "notice", "parties", "record", "done", "note"))

    def wanted(self) -> Select[Any]:
        """Every acknowledgement of a department of this node."""
        r = received_recalls.c
        return (
            select(logs.c.department.label("sender"), r.owner.label("peer"), r.acknowledgement.label("record_id"))
            .join_from(received_recalls, logs, logs.c.log == r.log)
            .where(r.acknowledgement.is_not(None))
        )

    def confirm(self, _: Telling, __: dict[str, Any], /) -> str | None:
        """The owner keeps a record of its own, which it need not show."""
        return None


def recall(site: Site, caller: Caller, members: dict[str, Any], request: str) -> tuple[Given, bool]:
    """Recalls a record of the caller's department; `members` are those of record.recalled, `record` what it is about.
    The same `request` again changes nothing. True where it is new. Raises RecordRefused `unknown-record`."""
    members = {name: value for name, value in members.items() if value is not None}
    about = members.pop("record")
    named = _own_type(site, caller, about)
    if "replaced_by" in members:
        _own_type(site, caller, members["replaced_by"])
    record = {"type": RECALLED, "v": 1, "amends": about, "record_type": named, **members, **_case(site, about)}
    record |= {"occurred_at": instant(site.clock()), "account": caller.subject[:64], "request": request}
    notice, new = seal_once(site, caller.department, f"recalled/{about}/{request}", record)
    with site.database.reading() as connection:
        return reading.given(connection, caller.department, 0, 1, notice)[0], new


def receive(site: Site, to: str, shown: Shown) -> dict[str, str]:
    """Takes a notice in, durable on return; the department's own record of it, as it is shown to the owner. Whether the
    department has the record does not matter: a page with it may still be on its way. Raises Problem
    `reference-invalid`."""
    about = shown.facts.references.get("amends")
    if about is None:
        raise Problem("reference-invalid", "the record neither recalls another one nor amends it")
    kind = RECALL if shown.facts.type == RECALLED else CORRECTION
    record = {
        "type": RECEIVED, "v": 1, "occurred_at": instant(site.clock()), "notice": shown.facts.record_id, "kind": kind,
        "owner": shown.department, "record": about, "owner_log": shown.log,
    }  # fmt: skip
    if kind == RECALL:
        record |= {name: shown.members[name] for name in _CARRIED if name in shown.members}
    else:
        record |= {"replaced_by": shown.facts.record_id}
    record |= _case_that_received(site, to, about)
    key = f"recall/{shown.department}/{shown.facts.record_id}"
    received, _ = seal_once(site, to, key, record, shown.files)
    return site.extractions.requester.show(received, frozenset(("when", "notice", "owner", "record")))


def acknowledge(site: Site, caller: Caller, received: str, done: str, note: str | None) -> Received:
    """Acknowledges a notice for the caller's department; again it changes nothing. Raises Problem `not-found`."""
    found = _find_received(site, caller, received)
    if found.acknowledgement is not None:
        return found
    record = {
        "type": ACKNOWLEDGED, "v": 1, "occurred_at": instant(site.clock()), "role": "recipient",
        "notice": found.notice, "owner": found.owner, "recipient": caller.department, "record": found.record_id,
        "done": done, "account": caller.subject[:64], "roles": sorted(caller.roles), **_case(site, received),
    }  # fmt: skip
    seal_once(
        site, caller.department, f"recall-acknowledged/{received}", record | ({"note": note} if note else {})
    )  # fmt: skip
    return _find_received(site, caller, received)


def hear_acknowledged(site: Site, to: str, shown: Shown) -> None:
    """Takes an acknowledgement into the owner's log. Raises Problem `reference-invalid`, `not-found`."""
    said = shown.members
    if shown.facts.type != ACKNOWLEDGED or said.get("role") != "recipient" or said.get("owner") != to:
        raise Problem("reference-invalid", "the record acknowledges no recall of this department")
    site.projector.catch_up([to])
    with site.database.reading() as connection:
        if not reading.is_recipient(connection, to, said.get("notice", ""), said.get("record", ""), shown.department):
            raise Problem("reference-invalid", "the record acknowledges what the department was not told")
    record = {
        "type": ACKNOWLEDGED, "v": 1, "occurred_at": instant(site.clock()), "role": "owner",
        "notice": said["notice"], "owner": to, "recipient": shown.department, "record": said["record"],
        "done": said["done"], "acknowledgement": shown.facts.record_id, **_case(site, said["record"]),
    }  # fmt: skip
    record |= {"note": said["note"]} if "note" in said else {}
    seal_once(site, to, f"recall-answered/{said['notice']}/{shown.department}", record, shown.files)


def _case(site: Site, record_id: str) -> dict[str, str]:
    """The case that the record belongs to, as a member: what is said about the record belongs to it too."""
    with site.database.reading() as connection:
        case = case_of(connection, record_id)
    return {} if case is None else {"case": case}


def _case_that_received(site: Site, department: str, foreign: str) -> dict[str, str]:
    """The case for which the department received a foreign record; nothing where it was none, or several."""
    c = dossier_entries.c
    query = (
        select(c.number)
        .distinct()
        .join(logs, logs.c.log == c.log)
        .where(logs.c.department == department, c.kind == "case", c.record_id == foreign)
    )
    with site.database.reading() as connection:
        found = list(connection.scalars(query.limit(2)))
    return {"case": found[0]} if len(found) == 1 else {}


def _find_received(site: Site, caller: Caller, received: str) -> Received:
    site.projector.catch_up([caller.department])
    with site.database.reading() as connection:
        found = reading.find_received(connection, caller.department, received)
    if found is None:
        raise Problem("not-found", "your department received no such recall: see GET /v1/recalls/received")
    return found


def _own_type(site: Site, caller: Caller, record_id: str) -> str:
    """The type of a record of the caller's department. Raises RecordRefused."""
    with site.database.reading() as connection:
        entry = find_entry(connection, record_id)
        log = next((log.number for log in read_logs(connection, caller.department)), -1)
    if entry.log != log:
        raise RecordRefused("unknown-record", f"record {record_id} is not the department's own")
    return parse_statement(entry.statement).type
