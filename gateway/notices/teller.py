"""Tells peers what they must hear, for as long as it takes.

    what is to be told (projections of the logs) ─► tellings, one row each ─► signed POST ─► told
                                                        ▲ back-off, for ever ◄┘ unreachable, refused

A row that is lost is made again from the projections, and whoever is told the same twice answers the same.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import anyio.to_thread
import orjson
import structlog
from sqlalchemy import Connection, Select, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.notices.models import tellings
from gateway.peers.errors import PeerRefused, PeerUnreachable
from gateway.problems import Problem
from ledger.errors import CouldNotRun, Refusal

if TYPE_CHECKING:
    from gateway.site import Site

WAITING, UNREACHABLE, REFUSED, TOLD = "waiting", "unreachable", "refused", "told"
LOOK_S = 1.0
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 60.0
FIRST_REFUSED_S, LAST_REFUSED_S = 5.0, 3_600.0
AT_ONCE = 200
MAX_ANSWER_BYTES = 1 << 20
_PASSING = frozenset(("unauthenticated", "not-found", "stopping", "overloaded"))
"""Refusals that say nothing of what was told."""

log = structlog.get_logger("yunxi.notices")


class Topic(Protocol):
    """Something that is told: `kind` names it, `path` is where, `units` are shown of the record (None: all)."""

    kind: str
    path: str
    units: frozenset[str] | None

    def wanted(self) -> Select[Any]:
        """Selects what is to be told, by now: columns `sender`, `peer`, `record_id`."""

    def confirm(self, telling: Telling, answer: dict[str, Any], /) -> str | None:
        """The id of the peer's own record of it, from its answer, None where it makes none. May block. Raises Refusal
        for an answer that shows nothing: it is then told again."""


@dataclass(frozen=True, slots=True)
class Telling:
    """A row of `tellings`. Times in seconds since 1970, `retry_at` in milliseconds."""

    sender: str
    peer: str
    kind: str
    record_id: str
    state: str
    code: str | None
    detail: str | None
    since: int
    retry_at: int
    attempts: int
    answer: str | None


class Teller:
    """The worker. Of several processes on one database one runs it."""

    name = "notices"

    def __init__(self, site: Site) -> None:
        self._site = site
        self._dice = random.Random()  # noqa: S311  jitter
        self.topics: dict[str, Topic] = {}

    def add(self, topic: Topic) -> None:
        """Adds something to tell."""
        self.topics[topic.kind] = topic

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set. Each peer has its own task, so that one that is down holds up nobody else."""
        tasks: dict[str, asyncio.Task[None]] = {}
        try:
            while not stop.is_set():
                with suppress(CouldNotRun):
                    due = await anyio.to_thread.run_sync(self._due)
                    for peer, mine in due.items():
                        if peer not in tasks or tasks[peer].done():
                            tasks[peer] = asyncio.create_task(self._tell_all(mine))
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), LOOK_S if not tasks else LOOK_S / 4)
                tasks = {peer: task for peer, task in tasks.items() if not self._ended(task)}
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> bool:
        if not task.done():
            return False
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("telling a peer failed", error=type(error).__name__)
        return True

    async def _tell_all(self, mine: Sequence[Telling]) -> None:
        for telling in mine:
            if not await self._tell(telling):
                # the others of this peer would only wait as long
                for other in mine[mine.index(telling) + 1 :]:
                    await self._fail(other, UNREACHABLE, "peer-unreachable", "its node does not answer", other.attempts)
                return

    async def _tell(self, telling: Telling) -> bool:
        """Tells one; False where its peer cannot be reached."""
        topic = self.topics[telling.kind]
        try:
            body = await anyio.to_thread.run_sync(self._body, telling, topic)
            answer = await self._site.peer_client.request(
                telling.peer, "POST", topic.path, as_department=telling.sender, body=body, max_bytes=MAX_ANSWER_BYTES
            )
            said = _object(answer.content)
            proof = await anyio.to_thread.run_sync(topic.confirm, telling, said)
        except PeerRefused as error:
            if error.answered >= 500 or error.refusal in _PASSING:
                await self._fail(telling, UNREACHABLE, error.refusal, str(error), telling.attempts)
                return True
            await self._fail(telling, REFUSED, error.refusal, str(error), telling.attempts)
        except (PeerUnreachable, CouldNotRun) as error:
            await self._fail(telling, UNREACHABLE, error.code, str(error), telling.attempts)
            return False
        except Refusal as error:
            await self._fail(telling, REFUSED, error.code, str(error), telling.attempts)
        else:
            await self._set(telling, state=TOLD, code=None, detail=None, answer=proof)
        return True

    async def _fail(self, telling: Telling, state: str, code: str, detail: str, attempts: int) -> None:
        first, last = (FIRST_REFUSED_S, LAST_REFUSED_S) if state == REFUSED else (FIRST_RETRY_S, LAST_RETRY_S)
        later = min(last, first * 2 ** min(attempts, 20)) * self._dice.uniform(0.5, 1.0)
        retry_at = int((self._site.clock() + later) * 1000)
        members: dict[str, Any] = {"code": code[:64], "detail": detail[:500], "retry_at": retry_at}
        await self._set(telling, state=state, attempts=attempts + 1, **members)

    async def _set(self, telling: Telling, **members: Any) -> None:
        await anyio.to_thread.run_sync(partial(self._change, telling, members))

    # -- blocking parts --

    def _body(self, telling: Telling, topic: Topic) -> bytes:
        shown = self._site.extractions.requester.show(telling.record_id, topic.units)
        return orjson.dumps({"to": telling.peer, "record": shown})

    def _change(self, telling: Telling, members: dict[str, Any]) -> None:
        now = int(self._site.clock())
        here = _is(telling.sender, telling.peer, telling.kind, telling.record_id)
        with self._site.database.writing() as connection:
            connection.execute(update(tellings).where(here, tellings.c.state != members["state"]).values(since=now))
            connection.execute(update(tellings).where(here).values(members))

    def _due(self) -> dict[str, list[Telling]]:
        """What is to be told now, by peer; new ones are noted first."""
        self._site.projector.catch_up()
        for topic in self.topics.values():
            self._note_new(topic)
        query = select(tellings).where(tellings.c.state != TOLD, tellings.c.retry_at <= int(self._site.clock() * 1000))
        found: dict[str, list[Telling]] = {}
        with self._site.database.reading() as connection:
            for row in connection.execute(query.order_by(tellings.c.retry_at).limit(AT_ONCE)):
                if row.kind in self.topics:
                    found.setdefault(row.peer, []).append(Telling(**row._mapping))
        return found

    def _note_new(self, topic: Topic) -> None:
        wanted = topic.wanted().subquery()
        known = (
            (tellings.c.sender == wanted.c.sender)
            & (tellings.c.peer == wanted.c.peer)
            & (tellings.c.record_id == wanted.c.record_id)
            & (tellings.c.kind == topic.kind)
        )
        query = select(wanted).outerjoin(tellings, known).where(tellings.c.sender.is_(None)).limit(AT_ONCE)
        with self._site.database.reading() as connection:
            fresh = connection.execute(query).all()
        if not fresh:
            return
        more = {"kind": topic.kind, "state": WAITING, "since": int(self._site.clock()), "retry_at": 0, "attempts": 0}
        with suppress(IntegrityError), self._site.database.writing() as connection:  # or another process noted them
            connection.execute(insert(tellings), [{**row._mapping, **more} for row in fresh])


def find_tellings(
    connection: Connection, sender: str, kinds: Sequence[str], record_ids: Sequence[str]
) -> list[Telling]:
    """The tellings of records of `sender`."""
    c = tellings.c
    query = select(tellings).where(c.sender == sender, c.kind.in_(kinds), c.record_id.in_(record_ids))
    return [Telling(**row._mapping) for row in connection.execute(query.order_by(c.peer))]


def _is(sender: str, peer: str, kind: str, record_id: str) -> Any:
    c = tellings.c
    return (c.sender == sender) & (c.peer == peer) & (c.kind == kind) & (c.record_id == record_id)


def _object(content: bytes) -> dict[str, Any]:
    if not content:
        return {}
    try:
        said = orjson.loads(content)
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        raise Problem("peer-refused", "the peer's answer is not what this route answers")
    return said
