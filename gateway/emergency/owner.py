"""The owner's side: whether an emergency lets a requester have what no grant covers.

1. the requester's own emergency.used, in its log, for this owner and this case   reference-invalid
2. no earlier one of the requester is overdue                                     emergency-unjustified
3. the settings name the requester and a type that is withheld, and no law        emergency-not-allowed
   restricts it (whatever other law the owner may have named), for no more hours
4. emergency.used in the owner's log, durable; then pages may go, until the deadline
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from gateway.caller import Caller
from gateway.emergency import reading
from gateway.emergency.projection import USED
from gateway.extractions.decision import Allowed, Decision
from gateway.extractions.refusals import Submit, instant, take
from gateway.extractions.standing import Extraction
from gateway.grants.restrictions import restriction
from gateway.problems import Problem
from gateway.projections.projector import Projector
from gateway.settings import EmergencySettings
from ledger.errors import Conflict, Refusal
from ledger.node import Node
from ledger.submission import Submission
from ledger.verify.facts import Facts
from ledger.verify.verifier import Verifier

UNBOUNDED = 1 << 40
SHOWN = frozenset(("role", "parties", "reference", "reason", "types", "deadline"))
"""Units of emergency.used that an owner needs to see."""


class EmergencyBook:
    """What the owners of this node let others have in an emergency. Thread-safe."""

    def __init__(self, node: Node, settings: EmergencySettings, submit: Submit, projector: Projector) -> None:
        self._node = node
        self._settings = settings
        self._submit = submit
        self._projector = projector

    def use(
        self, verifier: Verifier, caller: Caller, extraction: Extraction, decision: Decision, shown: tuple[bytes, bytes]
    ) -> None:
        """Puts an emergency on record in the owner's log, durable on return; the same again changes nothing. `shown`:
        presentation and receipt of the requester's own record. Raises Problem as the module's text says."""
        facts, said = _verify(verifier, shown)
        self._check_shown(facts, said, caller, extraction)
        self._projector.catch_up([extraction.owner])
        now = self._node.clock()
        with self._node.database.reading() as connection:
            if reading.find(connection, extraction.owner, facts.record_id) is not None:
                return
            if reading.overdue(connection, extraction.owner, caller.department, now) is not None:
                raise Problem(
                    "emergency-unjustified", "an earlier emergency access is overdue: have a second person justify it"
                )
        due_at = int(datetime.fromisoformat(said["due_at"]).timestamp())
        wanted = frozenset(said["types"]) if "types" in said else None
        self._check_allowed(extraction, decision, wanted, due_at - now, said["hours"])
        record = {
            "type": USED, "v": 1, extraction.claim: extraction.number, "occurred_at": instant(now), "role": "owner",
            "emergency": facts.record_id, "extraction": extraction.id, "account": caller.subject[:64],
            **{name: said[name] for name in ("owner", "requester", "reference", "lead", "reason", "hours", "due_at")},
        }  # fmt: skip
        record |= {"types": said["types"]} if "types" in said else {}
        try:
            key = f"emergency/{facts.record_id}"
            take(self._submit(extraction.owner, [Submission(key, record, by_service=True)]))
        except Conflict:
            pass  # another request was faster, by another clock
        self._projector.catch_up([extraction.owner])

    def extend(self, connection: Connection, extraction: Extraction, decision: Decision, now: float) -> Decision:
        """The decision with what an emergency in force adds to it."""
        found = reading.in_force(connection, extraction.owner, extraction.id, now)
        if found is None:
            return decision
        names = self._covered(extraction, decision, found.types)
        if not names:
            return decision
        added = {name: Allowed(self._units(extraction, name), (), UNBOUNDED, found.emergency) for name in names}
        withheld = {name: code for name, code in decision.withheld.items() if name not in added}
        return replace(decision, allowed={**decision.allowed, **added}, withheld=withheld)

    def _covered(self, extraction: Extraction, decision: Decision, wanted: frozenset[str] | None) -> list[str]:
        """The types that no grant covers, that were asked for, and that the settings let this requester have."""
        if extraction.requester not in self._settings.allow:
            return []
        names = set(self._settings.types) - decision.allowed.keys()
        for narrower in (wanted, extraction.types):
            names &= narrower if narrower is not None else names
        return sorted(name for name in names if restriction(self._node.types, name) is None)

    def _check_shown(self, facts: Facts, said: Mapping[str, Any], caller: Caller, extraction: Extraction) -> None:
        named = {"role": "requester", "owner": extraction.owner, "requester": caller.department}
        named |= {"reference": extraction.reference, "emergency": facts.record_id}
        if facts.type != USED or facts.department.id != caller.department:
            raise _invalid("it is not the caller's own emergency.used")
        if any(said.get(name) != value for name, value in named.items()) or "due_at" not in said:
            raise _invalid("it is for another owner or another case, or does not show what it is for")

    def _check_allowed(
        self, extraction: Extraction, decision: Decision, wanted: frozenset[str] | None, left_s: float, hours: int
    ) -> None:
        if not self._covered(extraction, decision, wanted):
            raise Problem(
                "emergency-not-allowed",
                "the owner lets this department have nothing more in an emergency: ask for a grant",
            )
        most = self._settings.hours
        if hours > most or not 0 < left_s <= most * 3600 + 300:
            raise Problem("emergency-not-allowed", f"the owner allows {most} hours until it is justified: ask for less")

    def _units(self, extraction: Extraction, name: str) -> frozenset[str]:
        units = {unit for kind in self._node.types if kind.name == name for unit in kind.units}
        return frozenset(units if extraction.units is None else units & extraction.units)


def _verify(verifier: Verifier, shown: tuple[bytes, bytes]) -> tuple[Facts, dict[str, Any]]:
    try:
        facts = verifier.verify(*shown)
    except Refusal as error:
        raise _invalid(str(error)) from error
    return facts, {name: value for unit in facts.units for name, value in unit.members.items()}


def _invalid(why: str) -> Problem:
    return Problem("reference-invalid", f"the record of the emergency does not verify: {why}")
