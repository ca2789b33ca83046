"""The reference: the record that opened a case or an inspection, shown to an owner as the reason of an extraction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.problems import Problem
from ledger.errors import CheckpointInvalid, InclusionInvalid, Malformed, Refusal
from ledger.formats.encoding import b64url_decode
from ledger.formats.sdjwt import parse_statement
from ledger.formats.trust import Trust
from ledger.verify.facts import Facts
from ledger.verify.verifier import Verifier

OPENING = {"inspection.opened": "inspection", "case.filed": "case"}
"""Record types that open something, and the claim that carries its number."""

CLOSING = {"inspection.closed": "inspection", "case.closed": "case"}
"""Likewise for those that close it."""

SHOWN = frozenset(("purpose", "participants", "kind", "wanted"))
"""Units of the opening record that an owner needs to see; the subjects stay masked."""

UNKNOWN = "nothing shows that this case or inspection exists in the log of the department that should have opened it"


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference that verified. `claim` is `case` or `inspection`, `number` its number; `subjects` are the blind
    indexes that the opening record names, 16 bytes each; `participants` include the `lead` that opened it. `types` and
    `days`: what is wanted, by type and by how many days back; None says nothing of it."""

    record_id: str
    type: str
    lead: str
    claim: str
    number: str
    purpose: str
    kind: str
    participants: frozenset[str]
    subjects: frozenset[bytes]
    types: frozenset[str] | None
    days: int | None
    issued_at: int


@dataclass(frozen=True, slots=True)
class Closing:
    """The lead's own word that a case or an inspection is closed."""

    record_id: str
    lead: str
    claim: str
    number: str


def logs_only(trust: Trust) -> Trust:
    """The same without witnesses: what is to be extracted within seconds cannot wait for them, and audits will not."""
    return replace(trust, witnesses=(), quorum=0)


def verify_reference(verifier: Verifier, presentation: bytes, receipt: bytes | None) -> Reference:
    """The reference that `presentation` and `receipt` show; `verifier` stands on `logs_only` trust.

    Raises Problem `reference-invalid` where they do not verify or do not open anything, `reference-unknown` where
    nothing shows that the lead's log holds it. Whether it is still open is not known here.
    """
    facts, claims = _verify(verifier, presentation, receipt)
    return _reference(facts, claims)


def verify_closing(verifier: Verifier, presentation: bytes, receipt: bytes | None) -> Closing:
    """The closing that `presentation` and `receipt` show. Raises as `verify_reference`."""
    facts, _ = _verify(verifier, presentation, receipt)
    claim = CLOSING.get(facts.type, "")
    if claim not in facts.references:
        raise Problem(
            "reference-invalid", f"a record of type {facts.type[:64]} closes neither a case nor an inspection"
        )
    return Closing(facts.record_id, facts.department.id, claim, facts.references[claim])


def _verify(verifier: Verifier, presentation: bytes, receipt: bytes | None) -> tuple[Facts, Mapping[str, Any]]:
    if receipt is None:
        raise Problem("reference-unknown", UNKNOWN)
    try:
        facts = verifier.verify(presentation, receipt)
        return facts, parse_statement(presentation.strip(b"\n").partition(b"~")[0]).payload
    except (InclusionInvalid, CheckpointInvalid) as error:
        raise Problem("reference-unknown", UNKNOWN) from error
    except Refusal as error:
        raise Problem("reference-invalid", f"the reference does not verify: {error}") from error


def _reference(facts: Facts, claims: Mapping[str, Any]) -> Reference:
    claim = OPENING.get(facts.type, "")
    if claim not in facts.references:
        raise Problem("reference-invalid", f"a record of type {facts.type[:64]} opens neither a case nor an inspection")
    shown = {name: value for unit in facts.units for name, value in unit.members.items()}
    purpose, kind, participants = shown.get("purpose"), shown.get("kind", ""), _texts(shown.get("participants"))
    if not isinstance(purpose, str) or not isinstance(kind, str) or participants is None:
        raise Problem("reference-invalid", "the reference must show its purpose, its kind and its participants")
    days, lead = shown.get("days"), facts.department.id
    return Reference(
        record_id=facts.record_id,
        type=facts.type,
        lead=lead,
        claim=claim,
        number=facts.references[claim],
        purpose=purpose,
        kind=kind,
        participants=participants | {lead},
        subjects=_subjects(claims),
        types=_texts(shown.get("types")),
        days=days if isinstance(days, int) else None,
        issued_at=facts.sealed_at,
    )


def _subjects(claims: Mapping[str, Any]) -> frozenset[bytes]:
    try:
        return frozenset(b64url_decode(text, "blind index") for text in claims["subj"])
    except Malformed as error:
        raise Problem("reference-invalid", "the reference names a subject that is no blind index") from error


def _texts(value: Any) -> frozenset[str] | None:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return frozenset(value)
