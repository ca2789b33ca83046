"""The owner's side: decide, put on record, and only then send.

    open      decide on a request; what is accepted stands until its case closes or one side ends it
    pages     fix the next page ─► disclosure.made into the log, durable ─► send; an old page is made again from the log

A page is what the log says it is: the record under the key `disclosure/<extraction>/<page>` names its records and its
digest. Presentations are stored with their salts, so asking again gives the same bytes, whoever died in between.
"""

from __future__ import annotations

import functools
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from gateway.caller import Caller
from gateway.extractions import standing
from gateway.extractions.decision import Decision, Grant, decide
from gateway.extractions.drafts import PAGE_RECORDS, Shown, draft, has_news, page_of, remake
from gateway.extractions.models import closed_references
from gateway.extractions.pages import Place, end_line, problem_line, seal_page
from gateway.extractions.projection import MADE, last_page, note_usage, used_by, used_today
from gateway.extractions.reference import Reference, logs_only, verify_closing, verify_reference
from gateway.extractions.refusals import RefusalBook, instant, take
from gateway.extractions.standing import CANCELLED, ENDED, STANDING, Extraction, Request, extraction_id
from gateway.problems import Problem
from gateway.proceedings import reading
from gateway.projections.projector import Projector
from ledger.errors import ChainUnreachable, Conflict, Refusal
from ledger.formats.trust import Trust
from ledger.keys import KeyAgent
from ledger.receipts import make_receipts
from ledger.records import RecordReader
from ledger.store.database import Database
from ledger.store.models import position_of
from ledger.store.reading import LogRow, newest_checkpoint, read_logs
from ledger.submission import Outcome, Submission
from ledger.verify.verifier import Verifier

if TYPE_CHECKING:
    from gateway.emergency.owner import EmergencyBook


class _Overdrawn(Exception):
    """A page takes more than is left of a grant's day by now."""


class SubmitBeside(Protocol):
    """`Intake.submit` for any thread."""

    def __call__(
        self,
        department: str,
        batch: Sequence[Submission],
        *,
        beside: Callable[[Connection], None] | None = None,
    ) -> list[Outcome]: ...


class Registry(Protocol):
    """What the chain's registry says, at most one block old. Raises ChainUnreachable."""

    def trust(self) -> Trust:
        """Every department and key; the same object as long as nothing changed."""

    def standing(self, department: str) -> str:
        """`admitted`, `suspended` or `unknown`."""


class GrantBook(Protocol):
    """The grants on the chain, at most one block old. Raises ChainUnreachable."""

    def between(self, owner: str, grantee: str) -> Sequence[Grant]:
        """Every grant that the owner ever gave the grantee, also those that ended."""

    def restricted(self, owner: str, types: Collection[str]) -> frozenset[str]:
        """Those of `types` that the law keeps the owner from passing on."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The owner's yes: the extraction, what of it is granted and withheld now, and the number of its newest page."""

    extraction: Extraction
    decision: Decision
    pages: int


class Owner:
    """Serves extractions from the departments of this node. Any number may work on one database; thread-safe."""

    def __init__(
        self,
        database: Database,
        reader: RecordReader,
        agent: KeyAgent,
        submit: SubmitBeside,
        projector: Projector,
        registry: Registry,
        grants: GrantBook,
        refusals: RefusalBook,
        emergencies: EmergencyBook,
        hosted: frozenset[str],
        clock: Callable[[], float],
        page_records: int = PAGE_RECORDS,
    ) -> None:
        self._page_records = page_records
        self._database = database
        self._reader = reader
        self._agent = agent
        self._submit = submit
        self._projector = projector
        self._registry = registry
        self._grants = grants
        self._refusals = refusals
        self._emergencies = emergencies
        self._hosted = hosted
        self._clock = clock
        self._verifier: tuple[Trust, Verifier] | None = None
        self._pairs: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)

    # -- opening and ending --

    def open(self, caller: Caller, request: Request) -> Opened:
        """Decides on a request, in this order, and keeps what is accepted; the same request has the same id for ever.

            1. the caller is admitted, not suspended     caller-suspended
            2. the reference verifies, is known, open    reference-invalid, reference-unknown, reference-closed
            3. caller and owner take part in it          not-a-participant
            4. it concerns every subject                 subject-not-concerned
            5. purpose, and then grants by type          wrong-purpose, and see `decision`

        Raises Problem; then the refusal is in the owner's log already. Raises CouldNotRun where that cannot be.
        """
        self._require_hosted(request.owner)
        context: dict[str, Any] = {"asked": sorted(request.types)[:100] if request.types else None}
        with self._recording(request.owner, caller, context):
            self._require_standing(caller.department)
            reference = verify_reference(self._verify(), request.presentation, request.receipt)
            context |= {"reference": reference.record_id, reference.claim: reference.number[:100]}
            context |= {"purpose": request.purpose[:64] or None, "case_kind": reference.kind or None}
            extraction = self._extraction(caller.department, reference, request)
            granted = self._granted(extraction)
            self._catch_up(extraction)
            with self._database.reading() as connection:
                self._require_open(connection, extraction)
                _require_participants(reference, caller.department, request.owner)
                _require_subjects(reference, request)
                decision = self._decide(connection, extraction, granted)
            if request.emergency is not None:
                self._emergencies.use(self._verify(), caller, extraction, decision, request.emergency)
                with self._database.reading() as connection:
                    decision = self._decide(connection, extraction, granted)
            decision.require()
            # Die here: nothing is kept, and the same request comes to the same id.
            return self._keep(extraction, decision)

    def _extraction(self, requester: str, reference: Reference, request: Request) -> Extraction:
        return Extraction(
            id=extraction_id(requester, reference.lead, reference.claim, reference.number, request),
            owner=request.owner,
            requester=requester,
            lead=reference.lead,
            claim=reference.claim,
            number=reference.number,
            reference=reference.record_id,
            purpose=reference.purpose,
            case_kind=reference.kind,
            subjects=request.subjects,
            types=_narrowed(request.types, reference.types),
            units=request.units,
            since=0 if reference.days is None else reference.issued_at - 86_400 * reference.days,
            state=STANDING,
            opened_at=int(self._clock()),
        )

    def _keep(self, extraction: Extraction, decision: Decision) -> Opened:
        with self._database.writing() as connection:
            known = standing.find(connection, extraction.id)
            if known is not None:
                if known.state == ENDED:
                    raise Problem("extraction-ended", "the owner has ended this extraction: ask the owner")
                extraction = replace(extraction, opened_at=known.opened_at, since=known.since)
            standing.keep(connection, extraction)
            return Opened(extraction, decision, last_page(connection, extraction))

    def get(self, caller: Caller, extraction: str) -> Opened:
        """An extraction as it stands, for its requester or its owner. Raises Problem, on record, for anybody else."""
        found = self._of(caller, extraction, also_owner=True)
        granted = self._granted(found)
        self._catch_up(found)
        with self._database.reading() as connection:
            decision = self._decide(connection, found, granted)
            return Opened(found, decision, last_page(connection, found))

    def end(self, caller: Caller, extraction: str) -> Extraction:
        """Ends an extraction: cancelled where its requester asks, who may open it again; for good where its owner does.
        Raises Problem, on record, for anybody else."""
        found = self._of(caller, extraction, also_owner=True)
        state = ENDED if caller.department == found.owner or found.state == ENDED else CANCELLED
        with self._database.writing() as connection:
            standing.set_state(connection, extraction, state)
        return replace(found, state=state)

    def close_reference(self, caller: Caller, owner: str, presentation: bytes, receipt: bytes | None) -> None:
        """Takes note that a case or inspection was closed: whoever may tell, only its lead's own record counts.
        Raises Problem, on record."""
        self._require_hosted(owner)
        with self._recording(owner, caller, {}):
            self._require_standing(caller.department)
            closing = verify_closing(self._verify(), presentation, receipt)
        row: dict[str, Any] = {"lead": closing.lead, "claim": closing.claim, "number": closing.number}
        row |= {"record_id": closing.record_id, "closed_at": int(self._clock())}
        try:
            with self._database.writing() as connection:
                connection.execute(insert(closed_references).values(row))
        except IntegrityError:
            return  # told before

    def news(self, caller: Caller, owner: str, after: int) -> tuple[int, list[str]]:
        """From which index of the owner's log to ask the next time, and which of the caller's standing extractions have
        a record that came at index `after` or later. Says nothing of grants: the page does."""
        self._require_hosted(owner)
        self._projector.catch_up([owner])
        with self._database.reading() as connection:
            log = read_logs(connection, owner)[0]
            if log.size <= after:
                return log.size, []
            known = standing.standing_for(connection, owner, caller.department)
            before = position_of(log.number, after) - 1
            return log.size, [each.id for each in known if has_news(connection, each, before)]

    # -- pages --

    def pages(self, caller: Caller, extraction: str, after: int, limit: int) -> Iterator[bytes]:
        """The lines of the pages past number `after`, at most `limit` of them, and the line that ends the stream; one
        page in memory at a time. A refusal raises Problem before the first line and is the last line after it; either
        way it is on record."""
        sent = False
        try:
            found = self._of(caller, extraction)
            for number in range(after + 1, after + 1 + limit):
                line = self._line(caller, found, number)
                if line is None:
                    yield end_line(more=False)
                    return
                yield line
                sent = True
            yield end_line(more=True)
        except Problem as problem:
            if not sent:
                raise
            yield problem_line(problem.code, str(problem))

    def _line(self, caller: Caller, extraction: Extraction, number: int) -> bytes | None:
        """The line of a page, None where there is none yet."""
        with self._recording(extraction.owner, caller, _context(extraction, number)):
            self._require_standing(caller.department)
            kid, recipient = self._recipient(extraction.requester)
            # or two pages at once would both be drawn up, and one of them in vain
            with self._pairs[extraction.owner, extraction.requester]:
                self._catch_up(extraction)
                with self._database.reading() as connection:
                    shown = remake(connection, self._reader, extraction, number)
                if shown is None:
                    shown = self._make(caller, extraction, number)
        if not shown:
            return None
        page = page_of(shown, self._receipts(extraction.owner, [one.index for one in shown]))
        place = Place(extraction.id, number, extraction.owner, extraction.requester)
        return seal_page(page, place, kid, recipient)

    def _make(self, caller: Caller, extraction: Extraction, number: int) -> list[Shown] | None:
        """Fixes the next page and puts it on record; empty where nothing is new."""
        while True:
            try:
                return self._make_once(caller, extraction, number)
            except _Overdrawn:
                continue  # others made pages meanwhile: with what they left of the day it is decided anew

    def _make_once(self, caller: Caller, extraction: Extraction, number: int) -> list[Shown] | None:
        granted = self._granted(extraction)
        with self._database.reading() as connection:
            _require_in_force(connection, extraction)
            self._require_open(connection, extraction)
            decision = self._decide(connection, extraction, granted).require()
            if number != last_page(connection, extraction) + 1:
                raise Problem("bad-request", "`after` names a page that was never made: ask from the last one received")
            shown = draft(connection, self._reader, extraction, decision.allowed, self._page_records)
        if not shown:
            return None
        record = self._record(caller, extraction, number, decision, shown)
        # Die here: nothing is on record and nothing was sent; the page is made anew, perhaps with more in it.
        submission = Submission(f"disclosure/{extraction.id}/{number}", record, by_service=True)
        count = functools.partial(self._count, owner=extraction.owner, record=record, grants=granted[0])
        try:
            take(self._submit(extraction.owner, [submission], beside=count))
        except Conflict:
            # another process made this page meanwhile: the log has it, with its own content
            self._catch_up(extraction)
            with self._database.reading() as connection:
                return remake(connection, self._reader, extraction, number)
        # Die here: the page is on record and was not sent; asked for again it is made from the log.
        return shown

    def _count(self, connection: Connection, owner: str, record: dict[str, Any], grants: Sequence[Grant]) -> None:
        """Counts a page on its grants' days, in the transaction that puts it on record. That one holds the head of the
        owner's log: so one page after the other, whichever process makes it. Raises _Overdrawn."""
        now = self._clock()
        most = {grant.id: grant.per_day for grant in grants}
        for grant, given in used_by(record).items():
            if used_today(connection, owner, grant, now) + given > most[grant]:
                raise _Overdrawn
        note_usage(connection, read_logs(connection, owner)[0].number, record, int(now * 1000))

    def _record(
        self, caller: Caller, extraction: Extraction, number: int, decision: Decision, shown: Sequence[Shown]
    ) -> dict[str, Any]:
        grants: dict[int, list[str]] = {}
        for name, allowed in decision.allowed.items():
            for grant in allowed.grants:
                grants.setdefault(grant, []).append(name)
        record = {
            "type": MADE,
            "v": 1,
            extraction.claim: extraction.number,
            "occurred_at": instant(self._clock()),
            "extraction": extraction.id,
            "page": number,
            "requester": extraction.requester,
            "request_key": caller.subject[:64],
            "reference": extraction.reference,
            "lead": extraction.lead,
            "purpose": extraction.purpose,
            "grants": [{"id": grant, "types": names} for grant, names in sorted(grants.items())],
            "records": [one.listed for one in shown],
            "sha256": page_of(shown).sha256,
        }
        urgent = {name: each.emergency for name, each in decision.allowed.items() if each.emergency is not None}
        if urgent:
            record["emergency"] = {"id": next(iter(urgent.values())), "types": sorted(urgent)}
        return record | ({"case_kind": extraction.case_kind} if extraction.case_kind else {})

    def _receipts(self, owner: str, indexes: Sequence[int]) -> list[bytes]:
        with self._database.reading() as connection:
            log = read_logs(connection, owner)[0]
            signed = newest_checkpoint(connection, log.number)
            if signed > max(indexes):
                # one that is signed already will do: signing one for each page would cost a commit each
                return self._prove(connection, replace(log, size=signed), indexes)
        with self._database.writing() as connection:
            return self._prove(connection, read_logs(connection, owner)[0], indexes)

    def _prove(self, connection: Connection, log: LogRow, indexes: Sequence[int]) -> list[bytes]:
        made = make_receipts(connection, self._agent, log, indexes, int(self._clock()))
        return [receipt.serialize() for receipt in made]

    # -- what is asked for every page again --

    def _granted(self, extraction: Extraction) -> tuple[Sequence[Grant], frozenset[str]]:
        """Every grant between the two, and the types that the law keeps back."""
        with _asking_the_chain():
            try:
                grants = self._grants.between(extraction.owner, extraction.requester)
            except Refusal:
                grants = ()  # the consortium has no contract for grants: nothing is granted
            named = {name for grant in grants for name in grant.record_types} | (extraction.types or frozenset())
            return grants, self._grants.restricted(extraction.owner, named)

    def _decide(
        self, connection: Connection, extraction: Extraction, granted: tuple[Sequence[Grant], frozenset[str]]
    ) -> Decision:
        now, (grants, restricted) = self._clock(), granted
        used = functools.partial(used_today, connection, extraction.owner, now=now)
        found = decide(grants, extraction.asked, now, used, restricted)
        return self._emergencies.extend(connection, extraction, found, now)

    def _catch_up(self, extraction: Extraction) -> None:
        """So that what was durable before counts: pages and their grants' days, and whether the case is open."""
        self._projector.catch_up({extraction.owner, extraction.lead} & self._hosted)

    def _require_standing(self, department: str) -> None:
        with _asking_the_chain():
            state = self._registry.standing(department)
        if state != "admitted":
            raise Problem(
                "caller-suspended", "the consortium has suspended the caller's department, or never admitted it"
            )

    def _require_open(self, connection: Connection, extraction: Extraction) -> None:
        """That the case is open, as far as this node can know: from its own log where it hosts the lead, or because it
        was told of the closing."""
        lead, claim, number = extraction.lead, extraction.claim, extraction.number
        table = closed_references.c
        here = (table.lead == lead) & (table.claim == claim) & (table.number == number)
        told = connection.scalar(select(table.record_id).where(here)) is not None
        found = reading.find(connection, claim, number, lead) if lead in self._hosted else None
        if told or (found is not None and not found.is_open):
            raise Problem("reference-closed", "the case or inspection is closed: what follows it is another one")
        if lead not in self._hosted:
            return
        if found is None:
            raise Problem(
                "reference-unknown", "the log of the department that leads it knows no such case or inspection"
            )
        if not found.concerns(extraction.requester) or not found.concerns(extraction.owner):
            raise Problem(
                "not-a-participant", "the caller or the owner takes no part in this case or inspection any more"
            )

    def _require_hosted(self, owner: str) -> None:
        if owner not in self._hosted:
            raise Problem("not-found", "the department that is asked is not on this node: look its node up again")

    def _recipient(self, department: str) -> tuple[str, X25519PublicKey]:
        now = int(self._clock())
        with _asking_the_chain():
            trust = self._registry.trust()
        keys = next((found.keys for found in trust.departments if found.id == department), ())
        fit = [key for key in keys if key.use == "encryption" and key.valid_at(now)]
        if not fit or not isinstance(fit[-1].public, X25519PublicKey):
            raise Problem("key-refused", "the caller's department has no encryption key in force: register one")
        return fit[-1].kid, fit[-1].public

    def _verify(self) -> Verifier:
        with _asking_the_chain():
            trust = self._registry.trust()
        if self._verifier is None or self._verifier[0] is not trust:
            self._verifier = (trust, Verifier(logs_only(trust)))
        return self._verifier[1]

    def _of(self, caller: Caller, extraction: str, *, also_owner: bool = False) -> Extraction:
        with self._database.reading() as connection:
            found = standing.find(connection, extraction)
        if found is None:
            raise Problem("not-found", "there is no such extraction on this node: open it first")
        if caller.department != found.requester and not (also_owner and caller.department == found.owner):
            with self._recording(found.owner, caller, {"extraction": found.id}):
                raise Problem("not-a-participant", "this extraction is another department's")
        return found

    @contextmanager
    def _recording(self, owner: str, caller: Caller, context: Mapping[str, Any]) -> Iterator[None]:
        """Puts a Problem that leaves the block on record, durable before it goes on; `context` may grow inside."""
        try:
            yield
        except Problem as problem:
            who = {"requester": caller.department, "request_key": caller.subject[:64]}
            self._refusals.record(owner, "owner", problem.code, str(problem), **who, **context)
            raise


@contextmanager
def _asking_the_chain() -> Iterator[None]:
    try:
        yield
    except ChainUnreachable as error:
        raise Problem("chain-unreachable", "the owner's node cannot ask the chain: try again later") from error


def _require_in_force(connection: Connection, extraction: Extraction) -> None:
    now = standing.find(connection, extraction.id)
    if now is None or now.state != STANDING:
        raise Problem("extraction-ended", "this extraction was cancelled or ended: open it again, or ask the owner")


def _context(extraction: Extraction, number: int) -> dict[str, Any]:
    return {
        "extraction": extraction.id,
        "page": number,
        "reference": extraction.reference,
        "purpose": extraction.purpose,
        "case_kind": extraction.case_kind or None,
        extraction.claim: extraction.number,
    }


def _require_participants(reference: Reference, requester: str, owner: str) -> None:
    if requester not in reference.participants or owner not in reference.participants:
        raise Problem("not-a-participant", "the caller or the owner takes no part in this case or inspection")


def _require_subjects(reference: Reference, request: Request) -> None:
    if not set(request.subjects) <= reference.subjects:
        raise Problem("subject-not-concerned", "the case or inspection does not concern one of the subjects asked for")
    if request.purpose != reference.purpose:
        raise Problem("wrong-purpose", "the case or inspection was opened for another purpose")


def _narrowed(asked: frozenset[str] | None, wanted: frozenset[str] | None) -> frozenset[str] | None:
    if asked is None or wanted is None:
        return wanted if asked is None else asked
    return asked & wanted
