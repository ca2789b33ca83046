"""`/v1/tracker` and `/v1/duplicate-checks`. Identifiers stand in bodies, never in a URL."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import anyio
import orjson
from anyio import to_thread
from fastapi import APIRouter, Request

from gateway.access import allow
from gateway.caller import ADMIN, AUDITOR, OFFICER, PEER, REVIEWER, SUPERVISOR, SYSTEM, Caller
from gateway.guarded import Guarded
from gateway.lookups.duplicates import Question, answer
from gateway.lookups.tracker import NEWEST, accesses_to
from gateway.lookups.views import AnswerDuplicates, CheckDuplicates, Track, access_json, found_json
from gateway.problems import Problem, problem_of
from gateway.proceedings.consortium import admitted, is_admitted
from gateway.proceedings.views import Subject
from gateway.records.service import instant
from gateway.site import Site, SiteOf
from ledger.crypto.blind import blind_index
from ledger.errors import YunxiError
from ledger.formats.encoding import b64url_decode, b64url_encode
from ledger.formats.identifiers import check, normalise
from ledger.submission import Refused, Submission

router = APIRouter(prefix="/v1", tags=["lookups"], route_class=Guarded)

ANSWERS = "/v1/duplicate-checks/answers"
ASKING_S = 10.0


@router.post("/tracker", summary="Who looked at somebody's data")
def tracker(
    caller: Annotated[Caller, allow(SUPERVISOR, REVIEWER, ADMIN, AUDITOR)], site: SiteOf, request: Request, body: Track
) -> dict[str, Any]:
    """Disclosures, refusals, reads, duplicate checks and earlier searches that the department's log tells of, newest
    first. This search is in the log before its answer."""
    subject = index_of(site, body.subject)
    limit = min(body.limit or site.settings.page_size, site.settings.max_page_size)
    site.projector.catch_up([caller.department])
    with site.database.reading() as connection:
        before, reader = int(body.cursor or NEWEST), site.node.reader
        found = accesses_to(connection, reader, caller.department, subject, before, limit + 1)
    shown = found[:limit]
    _log_search(site, caller, body, request.state.request_id, len(shown))
    following = str(shown[-1].position) if len(found) > limit else None
    return {"accesses": [access_json(each, site.node.types) for each in shown], "next": following}


@router.post("/duplicate-checks", summary="Was somebody inspected on these matters already?")
async def duplicate_checks(
    caller: Annotated[Caller, allow(OFFICER, SUPERVISOR, SYSTEM)], site: SiteOf, body: CheckDuplicates
) -> dict[str, Any]:
    """Asks every department at once, or those named; one that does not answer is said and holds nobody up. Each answer
    is a record in the log of the department that gave it."""
    question = await to_thread.run_sync(_question, site, body)
    departments = sorted(set(body.departments)) if body.departments else await to_thread.run_sync(admitted, site)
    answers: dict[str, dict[str, Any]] = {}

    async def ask(department: str) -> None:
        answers[department] = await _ask(site, caller, department, question)

    async with anyio.create_task_group() as group:
        for department in departments:
            group.start_soon(ask, department)
    found = [each | {"department": name} for name in departments for each in answers[name]["found"]]
    matters = {
        matter: {"inspected": any(each["matter"] == matter for each in found)} for matter in sorted(question.matters)
    }
    return {"matters": matters, "found": found, "departments": [answers[name] for name in departments]}


@router.post("/duplicate-checks/answers", summary="The same, between departments")
def duplicate_answers(caller: Annotated[Caller, allow(PEER)], site: SiteOf, body: AnswerDuplicates) -> dict[str, Any]:
    """What the asked department's log says; yes or no for each matter, the day and the number, and no record."""
    if body.owner not in site.hosted:
        raise Problem("not-found", "the department that is asked is not on this node")
    indexes = tuple(sorted({b64url_decode(index, "blind index") for index in body.indexes}))
    question = Question(indexes, tuple(sorted(set(body.matters))), body.days)
    found = answer(site, body.owner, caller.department, caller.subject, question)
    return {"found": [found_json(body.owner, each) for each in found]}


def index_of(site: Site, subject: Subject) -> bytes:
    """The blind index of an identifier. Raises RecordRefused for one that cannot be."""
    check(subject.kind, subject.value)
    return blind_index(site.node.agent.index_key(), subject.kind, normalise(subject.kind, subject.value))


def _question(site: Site, body: CheckDuplicates) -> Question:
    indexes = tuple(sorted({index_of(site, subject) for subject in body.subjects}))
    return Question(indexes, tuple(sorted(set(body.matters))), body.days)


async def _ask(site: Site, caller: Caller, department: str, question: Question) -> dict[str, Any]:
    """What a department answered, or why it did not."""
    try:
        if department in site.hosted:
            found = await to_thread.run_sync(answer, site, department, caller.department, caller.subject, question)
            items = [found_json(department, each) for each in found]
        else:
            items = await _ask_peer(site, caller, department, question)
    except YunxiError as error:
        return {"department": department, "answered": False, "code": problem_of(error).code, "found": []}
    return {"department": department, "answered": True, "code": None, "found": items}


async def _ask_peer(site: Site, caller: Caller, department: str, question: Question) -> list[dict[str, Any]]:
    if not await to_thread.run_sync(is_admitted, site, department):
        raise Problem("not-admitted", "the department is not admitted to the consortium")
    body = AnswerDuplicates(
        owner=department,
        indexes=[b64url_encode(index) for index in question.indexes],
        matters=list(question.matters),
        days=question.days,
    )
    answered = await site.peer_client.request(
        department,
        "POST",
        ANSWERS,
        as_department=caller.department,
        body=body.model_dump_json().encode(),
        timeout=ASKING_S,
    )
    return _peer_items(department, answered.content)


def _peer_items(department: str, content: bytes) -> list[dict[str, Any]]:
    # the other side's word: only members that we know go on to the caller
    try:
        items = orjson.loads(content)["found"]
        return [{name: item.get(name) for name in ("matter", "on", "inspection", "merge")} for item in items]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problem("peer-refused", f"the node of {department} answered with something else") from error


def _log_search(site: Site, caller: Caller, body: Track, request_id: str, found: int) -> None:
    record: dict[str, Any] = {
        "type": "tracker.searched",
        "v": 1,
        "subjects": [{"kind": body.subject.kind, "value": normalise(body.subject.kind, body.subject.value)}],
        "account": caller.subject[:64],
        "roles": sorted(caller.roles),
        "found": found,
        "request": request_id,
        "occurred_at": instant(site.clock()),
    }
    record |= {"purpose": body.purpose} if body.purpose else {}
    outcome = site.intake.submit(
        caller.department, [Submission(f"tracker/{secrets.token_hex(16)}", record, by_service=True)]
    )[0]
    if isinstance(outcome, Refused):
        raise outcome.error
