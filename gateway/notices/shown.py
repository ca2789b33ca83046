"""A record of another department's log that is shown to one of this node, and what is believed of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import select

from gateway.extractions.reference import logs_only
from gateway.problems import Problem
from ledger.errors import ChainUnreachable, Conflict, Refusal
from ledger.formats.encoding import b64encode
from ledger.formats.trust import Trust
from ledger.store.database import Database
from ledger.store.models import entries, logs
from ledger.submission import Acknowledged, AttachmentSource, Refused, Submission, service_key
from ledger.verify.facts import Facts
from ledger.verify.verifier import Verifier

if TYPE_CHECKING:
    from gateway.site import Site


@dataclass(frozen=True, slots=True)
class Shown:
    """A record that verified: signed by its department, and in that department's log. `members` are those of the units
    that were shown; `presentation` and `receipt` as they came."""

    facts: Facts
    members: dict[str, Any]
    presentation: bytes
    receipt: bytes

    @property
    def department(self) -> str:
        """Whose record it is."""
        return self.facts.department.id

    @property
    def log(self) -> dict[str, Any]:
        """The checkpoint that it was shown under: size, and root in base64."""
        assert self.facts.logged is not None  # a receipt was given, so it was verified
        return {"size": self.facts.logged.size, "root": b64encode(self.facts.logged.root)}

    @property
    def files(self) -> tuple[AttachmentSource, ...]:
        """What came, as attachments of the record that says so."""
        return (
            AttachmentSource(self.presentation, "presentation.txt", "text/plain"),
            AttachmentSource(self.receipt, "receipt.txt", "text/plain"),
        )


def verify_shown(trust: Trust, department: str, presentation: bytes, receipt: bytes | None) -> Shown:
    """Holds what was shown against the registry: signed by a key of `department` in force then, in its log (not yet
    anchored, perhaps; the audit compares later). Raises Problem `reference-invalid`."""
    if receipt is None:
        raise Problem("reference-invalid", "the record must come with the receipt that shows it in its log")
    try:
        facts = Verifier(logs_only(trust)).verify(presentation, receipt)
    except Refusal as error:
        raise Problem("reference-invalid", f"the record does not verify: {error}") from error
    if facts.department.id != department:
        raise Problem("reference-invalid", "the record is not that of the department that shows it")
    members = {name: value for unit in facts.units for name, value in unit.members.items()}
    return Shown(facts, members, presentation, receipt)


def accept(site: Site, to: str, caller: str, presentation: str, receipt: str | None) -> Shown:
    """What department `caller` shows to department `to` of this node. Raises Problem `not-found`, `reference-invalid`,
    `chain-unreachable`."""
    if to not in site.hosted:
        raise Problem("not-found", "the department that is told is not on this node: look its node up again")
    try:
        trust = site.peers.trust()
    except ChainUnreachable as error:
        raise Problem("chain-unreachable", "this node cannot ask the chain: try again later") from error
    came = None if receipt is None else receipt.encode("utf-8", "replace")
    return verify_shown(trust, caller, presentation.encode("utf-8", "replace"), came)


def seal_once(
    site: Site, department: str, key: str, record: dict[str, Any], files: Sequence[AttachmentSource] = ()
) -> tuple[str, bool]:
    """Seals a record under a key that names what it says; durable and projected on return. Its id, and whether it is
    new: what stands under the key already is left as it is. Raises what refuses it."""
    found = sealed_under(site.database, department, key)
    if found is not None:
        return found, False
    outcome = site.intake.submit(department, [Submission(key, record, tuple(files), by_service=True)])[0]
    if isinstance(outcome, Refused) and not isinstance(outcome.error, Conflict):
        raise outcome.error
    site.projector.catch_up([department])
    if isinstance(outcome, Acknowledged):
        return outcome.record_id, outcome.new
    # another process was faster, with the time of its own clock
    found = sealed_under(site.database, department, key)
    assert found is not None
    return found, False


def sealed_under(database: Database, department: str, key: str) -> str | None:
    """The id of the record that the service sealed for the department under an idempotency key, or None."""
    here = (logs.c.department == department) & (entries.c.key == service_key(key))
    query = select(entries.c.record_id).join_from(entries, logs, entries.c.log == logs.c.log).where(here)
    with database.reading() as connection:
        found = connection.scalar(query)
    return None if found is None else str(UUID(bytes=found))
