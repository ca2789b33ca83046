"""The requester's side of an extraction: ask an owner, and take page after page until there are no more.

Everything here can be cut off anywhere and done again: an extraction's id follows from the request, and which pages are
here says the log.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread
import orjson
from anyio import CapacityLimiter

from gateway.extractions import pulls
from gateway.extractions.models import pulls as table
from gateway.extractions.pages import MAX_LINE_BYTES, End, SealedPage, Stopped, is_extraction_id, parse_line
from gateway.extractions.pulls import Case, Pull
from gateway.extractions.received import Receiver, Wanted
from gateway.extractions.reference import SHOWN
from gateway.extractions.refusals import RefusalBook
from gateway.extractions.standing import Request, extraction_id
from gateway.peers.client import PeerClient
from gateway.peers.errors import PeerRefused, PeerUnreachable
from gateway.problems import Problem
from gateway.proceedings.reading import subjects_of
from ledger.errors import CouldNotRun, Malformed
from ledger.formats.encoding import b64url_encode
from ledger.formats.strictjson import loads_object
from ledger.keys import KeyAgent
from ledger.receipts import make_receipt
from ledger.records import RecordReader
from ledger.store.database import Database

GONE = "page-gone"
PAGES_A_CALL = 4
"""They are in memory together; more make fewer calls."""
PAGES_S = 120.0
"""How long an owner may take for them."""
_MAX_ANSWER_BYTES = 4 * MAX_LINE_BYTES
_PASSING = frozenset(("unauthenticated", "not-found", "stopping", "overloaded"))
"""Refusals that say nothing of the extraction."""
_THREADS = 8

T = TypeVar("T")


class Refused(Exception):
    """The owner said no. `code` is its problem's."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Requester:
    """Pulls from owners for departments of this node."""

    def __init__(
        self,
        database: Database,
        reader: RecordReader,
        agent: KeyAgent,
        peers: PeerClient,
        receiver: Receiver,
        refusals: RefusalBook,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._reader = reader
        self._agent = agent
        self._peers = peers
        self._receiver = receiver
        self._refusals = refusals
        self._clock = clock
        self._limiter: CapacityLimiter | None = None

    async def advance(self, case: Case, again_in: float) -> None:
        """Brings one case up to what its owner has now: opens the extraction unless it stands, takes every page; notes
        that it is asked for again in `again_in` seconds even without news.

        Raises Refused where the owner refuses, Problem `page-invalid` (then on record) for what does not verify,
        CouldNotRun where the owner or this node cannot do it now. What was received before stays.
        """
        wanted = await self._thread(self._wanted, case)
        pull = await self._thread(pulls.begin, self._database, case, self._clock())
        if pull.extraction != wanted.extraction or pull.reference != case.reference or pull.state in (
            pulls.WAITING, pulls.REFUSED,
        ):  # fmt: skip
            await self._open(case, wanted)
        page = await self._thread(self._page, wanted, pull)
        more = True
        while more:
            try:
                page, more = await self._pages(case, wanted, page)
            except Refused as refused:
                if refused.code != GONE:
                    raise
                page = await self._pass_over(case, wanted, str(refused))
        now = int(self._clock())
        done = {"state": pulls.FOLLOWING, "code": None, "detail": None, "page": page, "attempts": 0}
        await self._set(case, retry_at=now + int(again_in), last_success_at=now, **done)

    async def _open(self, case: Case, wanted: Wanted) -> None:
        body = await self._thread(self._request_json, wanted)
        said = _object(await self._call(case, "POST", "/v1/extractions", body))
        if said.get("id") != wanted.extraction or not isinstance(said.get("withheld"), dict):
            raise Problem("page-invalid", "the owner's answer names another extraction than the one asked for")
        withheld = {str(name): str(code) for name, code in said["withheld"].items()}
        await self._set(
            case, extraction=wanted.extraction, reference=case.reference, state=pulls.PULLING, code=None, detail=None,
            withheld=withheld,
        )  # fmt: skip

    async def _pages(self, case: Case, wanted: Wanted, page: int) -> tuple[int, bool]:
        """Takes the next pages; the number of the last one, and whether there are more."""
        path = f"/v1/extractions/{wanted.extraction}/pages?after={page}&limit={PAGES_A_CALL}"
        for line in _lines(await self._call(case, "GET", path, timeout=PAGES_S)):
            match await self._thread(parse_line, line):
                case SealedPage() as sealed:
                    page += 1
                    records = await self._thread(self._receive, wanted, page, sealed)
                    await self._set(case, page=page, records=table.c.records + records)
                case End(more):
                    return page, more
                case Stopped(code, detail):
                    raise Refused(code, detail)
        raise CouldNotRun("the owner's answer was cut off")

    def _receive(self, wanted: Wanted, page: int, sealed: SealedPage) -> int:
        try:
            return self._receiver.receive(wanted, page, sealed)
        except Problem as problem:
            context = {"extraction": wanted.extraction, "page": page, "reference": wanted.reference}
            context |= {"owner": wanted.owner, wanted.claim: wanted.number}
            self._refusals.record(wanted.requester, "requester", problem.code, str(problem), **context)
            raise

    async def _pass_over(self, case: Case, wanted: Wanted, detail: str) -> int:
        """Goes on past a page that its owner can no longer make, which is put on record; the number of that page."""
        pull = await self._thread(pulls.begin, self._database, case, self._clock())
        gone = await self._thread(self._page, wanted, pull) + 1
        context = {"extraction": wanted.extraction, "page": gone, "reference": wanted.reference, "owner": wanted.owner}
        await self._thread(partial(self._refusals.record, wanted.requester, "requester", GONE, detail, **context))
        await self._set(case, page=gone)
        return gone

    async def tell_closed(self, pull: Pull, closing: str) -> None:
        """Tells an owner that a case is closed: `closing` is the id of the lead's own record of it. Raises as
        `advance`."""
        body = await self._thread(self._closing_json, pull, closing)
        await self._call(pull, "POST", "/v1/extractions/closings", body)

    async def news(self, requester: str, owner: str, after: int, wait: int) -> tuple[int, frozenset[str]]:
        """Waits at the owner, `wait` seconds at most, for records past index `after` of its log; from where to ask the
        next time, and which extractions they belong to."""
        path = f"/v1/extractions/news?owner={owner}&after={after}&wait={wait}"
        said = _object(await self._ask(requester, owner, "GET", path, b"", wait + 15))
        cursor, found = said.get("cursor"), said.get("extractions")
        if not isinstance(cursor, int) or not isinstance(found, list):
            raise CouldNotRun("the owner's answer is not what this route answers")
        return cursor, frozenset(str(each) for each in found if is_extraction_id(str(each)))

    async def fail(self, case: Case, state: str, code: str, detail: str, retry_in: float) -> None:
        """Notes a failure, and when it is tried again."""
        now = self._clock()
        await self._thread(pulls.begin, self._database, case, now)
        members = {"state": state, "code": code, "detail": detail[:500], "retry_at": int(now + retry_in)}
        await self._set(case, attempts=table.c.attempts + 1, **members)

    async def end(self, pull: Pull) -> None:
        """Notes that the case is closed and its owner knows."""
        await self._set(pull, state=pulls.ENDED, code=None, detail=None)

    async def _call(self, case: Case | Pull, method: str, path: str, body: bytes = b"", timeout: float = 30) -> bytes:
        return await self._ask(case.requester, case.owner, method, path, body, timeout)

    async def _ask(self, requester: str, owner: str, method: str, path: str, body: bytes, timeout: float) -> bytes:
        try:
            answer = await self._peers.request(
                owner, method, path, as_department=requester, body=body, timeout=timeout, max_bytes=_MAX_ANSWER_BYTES
            )
        except PeerUnreachable as error:
            raise CouldNotRun(str(error)) from error
        except PeerRefused as error:
            if error.answered >= 500 or error.refusal in _PASSING:
                raise CouldNotRun(str(error)) from error
            raise Refused(error.refusal, str(error.problem.get("detail", ""))) from error
        return answer.content

    # -- blocking parts --

    def _wanted(self, case: Case) -> Wanted:
        with self._database.reading() as connection:
            subjects = tuple(sorted(set(subjects_of(connection, case.reference))))
        request = Request(case.owner, case.purpose, b"", None, subjects, case.types)
        return Wanted(
            extraction=extraction_id(case.requester, case.lead, case.claim, case.number, request),
            owner=case.owner,
            requester=case.requester,
            lead=case.lead,
            claim=case.claim,
            number=case.number,
            reference=case.reference,
            purpose=case.purpose,
            case_kind=case.case_kind,
            subjects=frozenset(subjects),
            types=case.types,
        )

    def request_json(self, case: Case) -> bytes:
        """The body that asks for a case's extraction. Blocks."""
        return self._request_json(self._wanted(case))

    def _request_json(self, wanted: Wanted) -> bytes:
        reference = self.show(wanted.reference, SHOWN)
        subjects = [b64url_encode(subject) for subject in sorted(wanted.subjects)]
        body = {"owner": wanted.owner, "purpose": wanted.purpose, "reference": reference, "subjects": subjects}
        return orjson.dumps(body if wanted.types is None else body | {"types": sorted(wanted.types)})

    def _closing_json(self, pull: Pull, closing: str) -> bytes:
        return orjson.dumps({"owner": pull.owner, "reference": self.show(closing, ())})

    def show(self, record_id: str, units: Container[str] | None) -> dict[str, str]:
        """A record of this node as a reference shows it: presentation and receipt; `units` None shows all. Blocks."""
        with self._database.writing() as connection:
            receipt = make_receipt(connection, self._agent, record_id, int(self._clock())).serialize()
            presentation = next(self._reader.present_list(connection, [record_id], units))
        return {"presentation": presentation.decode("ascii"), "receipt": receipt.decode("utf-8")}

    def _page(self, wanted: Wanted, pull: Pull) -> int:
        known = pull.page if pull.extraction == wanted.extraction else 0
        with self._database.reading() as connection:
            return pulls.pages_received(connection, wanted.requester, wanted.extraction, known)

    async def _set(self, case: Case | Pull, **members: Any) -> None:
        await self._thread(partial(pulls.change, self._database, case, self._clock(), **members))

    async def _thread(self, function: Callable[..., T], *arguments: Any) -> T:
        # threads of its own: a flood of requests to this node must not keep it from pulling
        if self._limiter is None:
            self._limiter = CapacityLimiter(_THREADS)
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._limiter)


def _object(content: bytes) -> dict[str, Any]:
    try:
        return loads_object(content, what="answer", max_bytes=_MAX_ANSWER_BYTES)
    except Malformed as error:
        raise CouldNotRun("the owner's answer is not what this route answers") from error


def _lines(body: bytes) -> list[bytes]:
    lines = body.split(b"\n")
    if lines.pop() != b"" or any(len(line) > MAX_LINE_BYTES for line in lines):
        raise CouldNotRun("the owner's answer was cut off")
    return lines
