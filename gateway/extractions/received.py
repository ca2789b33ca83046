"""The requester's side of a page: open it, believe nothing of it, put its receipt on record, keep it.

open with the department's key ─► every presentation and its place in the owner's log ─► disclosure.received,
with the page as its attachment, durable ─► acknowledged by asking for the next one
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.extractions.drafts import Shown
from gateway.extractions.pages import Page, Place, SealedPage, parse_plaintext
from gateway.extractions.reference import logs_only
from gateway.extractions.refusals import Submit, instant, take
from gateway.problems import Problem
from ledger.errors import Conflict, Refusal
from ledger.formats.encoding import b64encode, b64url_encode
from ledger.formats.sdjwt import parse_statement
from ledger.formats.trust import Trust
from ledger.keys import KeyAgent
from ledger.submission import AttachmentSource, Submission
from ledger.verify.facts import Facts
from ledger.verify.verifier import Verifier

RECEIVED = "disclosure.received"
PRESENTATIONS, RECEIPTS = "presentations.txt", "receipts.json"
"""Names of the attachments: presentations joined by line feeds (their SHA-256 is the disclosure's); a JSON list."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a requester asked an owner for, and under what; see `standing.Extraction`."""

    extraction: str
    owner: str
    requester: str
    lead: str
    claim: str
    number: str
    reference: str
    purpose: str
    case_kind: str
    subjects: frozenset[bytes]
    types: frozenset[str] | None = None
    units: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """A page that verified: its content, its records as both logs list them, and the newest checkpoint shown with it
    (size in entries, 32-byte root)."""

    page: Page
    records: tuple[Shown, ...]
    size: int
    root: bytes


def verify_page(page: Page, sealed: SealedPage, wanted: Wanted, trust: Trust) -> Verified:
    """Holds an opened page against what was asked for.

        1. as many records as the line said, and the digest that it named
        2. each presentation: signed by a key of the owner that was valid then, and in the owner's log (`Verifier`)
        3. each concerns a subject, and shows no type and no unit that was not asked for
        4. no record twice, in the log's order

    Raises Problem `page-invalid`.
    """
    # 1
    if len(page.presentations) != sealed.records or page.sha256 != sealed.sha256:
        raise _invalid("it does not hold what its line says")
    # 2
    verifier = Verifier(logs_only(trust))
    try:
        facts = [verifier.verify(p, r) for p, r in zip(page.presentations, page.receipts, strict=True)]
    except Refusal as error:
        raise _invalid(str(error)) from error
    # 3
    records = [_shown(wanted, presentation, fact) for presentation, fact in zip(page.presentations, facts, strict=True)]
    # 4
    indexes = [record.index for record in records]
    if indexes != sorted(set(indexes)):
        raise _invalid("its records are not in the order of the owner's log")
    size, root = max((fact.logged.size, fact.logged.root) for fact in facts if fact.logged is not None)
    return Verified(page, tuple(records), size, root)


def _shown(wanted: Wanted, presentation: bytes, facts: Facts) -> Shown:
    assert facts.logged is not None  # a receipt was given, so it was verified
    units = tuple(unit.name for unit in facts.units)
    if facts.department.id != wanted.owner:
        raise _invalid(f"record {facts.record_id} is another department's")
    if (wanted.types is not None and facts.type not in wanted.types) or not _within(units, wanted.units):
        raise _invalid(f"record {facts.record_id} shows what was not asked for")
    subjects = parse_statement(presentation.strip(b"\n").partition(b"~")[0]).payload["subj"]
    if not _concerns(subjects, wanted.subjects):
        raise _invalid(f"record {facts.record_id} concerns none of the subjects")
    return Shown(facts.record_id, facts.logged.index, facts.type, presentation, units)


class Receiver:
    """Takes pages in for departments of this node. Thread-safe."""

    def __init__(self, agent: KeyAgent, submit: Submit, trust: Callable[[], Trust], clock: Callable[[], float]) -> None:
        self._agent = agent
        self._submit = submit
        self._trust = trust
        self._clock = clock

    def receive(self, wanted: Wanted, number: int, sealed: SealedPage) -> int:
        """Opens, verifies and records page `number`; durable on return. How many records it has.

        A page that is on record already changes nothing. Raises Problem `page-invalid`, ChainUnreachable, CouldNotRun.
        """
        if sealed.number != number:
            raise _invalid(f"it is page {sealed.number}, asked for was {number}")
        place = Place(wanted.extraction, number, wanted.owner, wanted.requester)
        try:
            plaintext = self._agent.open_sealed(wanted.requester, sealed.sealed, place.info, sealed.kid)
            page = parse_plaintext(plaintext)
        except Refusal as error:
            raise _invalid(str(error)) from error
        verified = verify_page(page, sealed, wanted, self._trust())
        files = (
            AttachmentSource(page.joined, PRESENTATIONS, "text/plain"),
            AttachmentSource(orjson.dumps([r.decode("utf-8") for r in page.receipts]), RECEIPTS, "application/json"),
        )
        record = self._record(wanted, number, verified)
        # Die here: nothing is on record, and the same page is asked for again.
        with suppress(Conflict):  # it was on record, with the time of then
            take(
                self._submit(
                    wanted.requester,
                    [Submission(received_key(wanted.extraction, number), record, files, by_service=True)],
                )
            )
        # Die here: it is on record, and whoever goes on looks there first.
        return len(verified.records)

    def _record(self, wanted: Wanted, number: int, verified: Verified) -> dict[str, Any]:
        record = {
            "type": RECEIVED,
            "v": 1,
            wanted.claim: wanted.number,
            "occurred_at": instant(self._clock()),
            "extraction": wanted.extraction,
            "page": number,
            "owner": wanted.owner,
            "reference": wanted.reference,
            "lead": wanted.lead,
            "purpose": wanted.purpose,
            "records": [one.listed for one in verified.records],
            "sha256": verified.page.sha256,
            "owner_log": {"size": verified.size, "root": b64encode(verified.root)},
        }
        return record | ({"case_kind": wanted.case_kind} if wanted.case_kind else {})


def received_key(extraction: str, number: int) -> str:
    """The idempotency key of a page's receipt."""
    return f"received/{extraction}/{number}"


def _concerns(texts: Sequence[str], subjects: frozenset[bytes]) -> bool:
    return not {b64url_encode(subject) for subject in subjects}.isdisjoint(texts)


def _within(units: Sequence[str], asked: frozenset[str] | None) -> bool:
    return asked is None or asked.issuperset(units)


def _invalid(why: str) -> Problem:
    return Problem("page-invalid", f"the page does not verify: {why}")
