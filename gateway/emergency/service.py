"""The requester's side of an emergency, and its justification by a second person, told to the owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from anyio import to_thread
from sqlalchemy import Select, select

from gateway.caller import Caller
from gateway.emergency import reading
from gateway.emergency.models import emergencies
from gateway.emergency.owner import SHOWN
from gateway.emergency.projection import JUSTIFIED, USED
from gateway.emergency.reading import Emergency
from gateway.extractions import pulls
from gateway.extractions.pulls import Case
from gateway.extractions.refusals import instant
from gateway.extractions.requester import Refused
from gateway.extractions.workers import REFRESH_S
from gateway.notices.shown import Shown, seal_once
from gateway.notices.teller import Telling
from gateway.peers.errors import PeerRefused
from gateway.problems import Problem
from ledger.store.models import logs
from ledger.submission import draw_record_id

if TYPE_CHECKING:
    from gateway.site import Site

JUSTIFICATIONS = "/v1/emergencies/justifications"
_PASSING = frozenset(("unauthenticated", "not-found", "stopping", "overloaded", "chain-unreachable"))


class Justifications:
    """Tells owners that an emergency was justified, or was found not to be."""

    kind = "justification"
    path = JUSTIFICATIONS
    units: frozenset[str] | None = frozenset(
        ("when", "role", "emergency", "parties", "outcome", "justification", "late")
    )

    def wanted(self) -> Select[Any]:
        """Every justification of a department of this node."""
        c = emergencies.c
        return (
            select(logs.c.department.label("sender"), c.owner.label("peer"), c.justified_by.label("record_id"))
            .join_from(emergencies, logs, logs.c.log == c.log)
            .where(c.role == "requester", c.outcome.in_(("justified", "not-justified")))
        )

    def confirm(self, _: Telling, __: dict[str, Any], /) -> str | None:
        """The owner keeps a record of its own, which it need not show."""
        return None


async def request(
    site: Site, caller: Caller, owner: str, claim: str, number: str, reason: str, hours: int, types: list[str] | None
) -> tuple[Emergency, int]:
    """Asks an owner for what no grant covers, on record first, and takes what it gives into the dossier. The emergency,
    and how many records of the owner are in the pull by now.

    Raises Problem: `not-found` (no open case of that number with that participant, led by the caller's department),
    `emergency-unjustified`, and the owner's refusal, with its code; then the emergency is closed as refused. Where the
    owner cannot be reached it stays open, for a second person to close.
    """
    case = await to_thread.run_sync(_case, site, caller, owner, claim, number)
    emergency = await to_thread.run_sync(_seal_used, site, caller, case, reason, hours, types)
    # Die here: it is on record and nothing was asked; a second person closes it.
    body = await to_thread.run_sync(_body, site, case, emergency)
    try:
        await site.peer_client.request(owner, "POST", "/v1/extractions", as_department=caller.department, body=body)
    except PeerRefused as error:
        if error.answered < 500 and error.refusal not in _PASSING:
            await to_thread.run_sync(_seal_justified, site, caller, emergency, "refused", f"owner: {error.refusal}")
        raise
    try:
        await site.extractions.requester.advance(case, REFRESH_S)
    except Refused as error:
        raise Problem("peer-refused", f"the owner stopped giving: {error}", refusal=error.code) from error
    return emergency, await to_thread.run_sync(_records, site, case)


def justify(site: Site, caller: Caller, emergency: str, outcome: str, justification: str) -> Emergency:
    """Justifies an emergency access of the caller's department, or finds it not justified. Raises Problem `not-found`,
    `second-person-required`, `conflict` (it was done before)."""
    site.projector.catch_up([caller.department])
    with site.database.reading() as connection:
        found = reading.find(connection, caller.department, emergency)
        asked = None
        if found is not None and found.role == "requester":
            asked = site.node.reader.open(connection, emergency).record().get("account")
    if found is None or asked is None:
        raise Problem("not-found", "your department has used no such emergency access: see GET /v1/emergencies")
    if asked == caller.subject[:64]:
        raise Problem("second-person-required", "whoever asked for it cannot justify it: ask another supervisor")
    if found.outcome is not None:
        raise Problem("conflict", "this emergency access was closed before")
    return _seal_justified(site, caller, found, outcome, justification)


def hear_justified(site: Site, to: str, shown: Shown) -> None:
    """Takes a justification into the owner's log. Raises Problem `reference-invalid`."""
    said = shown.members
    if shown.facts.type != JUSTIFIED or (said.get("role"), said.get("owner")) != ("requester", to):
        raise Problem("reference-invalid", "the record justifies no emergency access to this department's records")
    site.projector.catch_up([to])
    with site.database.reading() as connection:
        found = reading.find(connection, to, said.get("emergency", ""))
    if found is None or found.requester != shown.department:
        raise Problem("reference-invalid", "the owner's log knows no such emergency access of this department")
    names = ("emergency", "owner", "requester", "outcome", "justification")
    record = {
        "type": JUSTIFIED, "v": 1, "occurred_at": instant(site.clock()), "role": "owner",
        "late": shown.facts.sealed_at > found.due_at, "justified_by": shown.facts.record_id,
        **{name: said[name] for name in names if name in said},
    }  # fmt: skip
    seal_once(site, to, f"emergency-justified/{found.emergency}", record, shown.files)


def _case(site: Site, caller: Caller, owner: str, claim: str, number: str) -> Case:
    site.projector.catch_up([caller.department])
    with site.database.reading() as connection:
        late = reading.overdue(connection, caller.department, caller.department, site.clock())
        cases = pulls.open_cases(connection, [caller.department])
    if late is not None:
        raise Problem(
            "emergency-unjustified", "an earlier emergency access is overdue: have a second person justify it"
        )
    found = next((each for each in cases if (each.owner, each.claim, each.number) == (owner, claim, number)), None)
    if found is None:
        raise Problem("not-found", f"your department leads no open {claim} of this number with {owner} and a purpose")
    return found


def _seal_used(site: Site, caller: Caller, case: Case, reason: str, hours: int, types: list[str] | None) -> Emergency:
    now = site.clock()
    emergency = draw_record_id(now)
    record = {
        "id": emergency, "type": USED, "v": 1, case.claim: case.number, "occurred_at": instant(now),
        "role": "requester", "emergency": emergency, "owner": case.owner, "requester": case.requester,
        "reference": case.reference, "lead": case.lead, "reason": reason, "hours": hours,
        "due_at": instant(now + hours * 3600), "account": caller.subject[:64], "roles": sorted(caller.roles),
    }  # fmt: skip
    seal_once(site, case.requester, f"emergency/{emergency}", record | ({"types": types} if types else {}))
    return _find(site, case.requester, emergency)


def _body(site: Site, case: Case, emergency: Emergency) -> bytes:
    requester = site.extractions.requester
    asked = orjson.loads(requester.request_json(case))
    return orjson.dumps(asked | {"emergency": requester.show(emergency.emergency, SHOWN)})


def _seal_justified(site: Site, caller: Caller, found: Emergency, outcome: str, justification: str) -> Emergency:
    now = site.clock()
    record = {
        "type": JUSTIFIED, "v": 1, "occurred_at": instant(now), "role": "requester", "emergency": found.emergency,
        "owner": found.owner, "requester": found.requester, "outcome": outcome, "justification": justification,
        "late": now >= found.due_at, "account": caller.subject[:64], "roles": sorted(caller.roles),
    }  # fmt: skip
    _, new = seal_once(site, caller.department, f"emergency-justified/{found.emergency}", record)
    if not new:
        raise Problem("conflict", "this emergency access was closed before")
    return _find(site, caller.department, found.emergency)


def _find(site: Site, department: str, emergency: str) -> Emergency:
    with site.database.reading() as connection:
        found = reading.find(connection, department, emergency)
    assert found is not None
    return found


def _records(site: Site, case: Case) -> int:
    with site.database.reading() as connection:
        found = pulls.find(connection, case)
    return 0 if found is None else found.records
