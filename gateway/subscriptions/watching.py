"""Puts on record what happens outside the log, so that it has a place in it: participants that stay missing, and grants
that the chain says were given or revoked. Each is one record, however often it is looked at."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from sqlalchemy import select

from gateway.extractions import pulls as states
from gateway.extractions.models import pulls
from gateway.extractions.refusals import instant
from gateway.grants.service import grant_json
from gateway.notices.shown import seal_once
from ledger.chain.sharing_grants import Grant
from ledger.errors import CouldNotRun, Refusal

if TYPE_CHECKING:
    from gateway.site import Site

LOOK_S = 1.0
_MISSING = (states.WAITING, states.UNREACHABLE, states.DAMAGED)


class Watching:
    """The worker. Of several processes on one database one runs it."""

    name = "watching"

    def __init__(self, site: Site) -> None:
        self._site = site
        self._known: set[str] = set()
        """Keys that are in the log."""

    async def run(self, stop: asyncio.Event) -> None:
        """Looks until `stop` is set."""
        while not stop.is_set():
            for look in (self._look_for_missing, self._look_at_grants):
                with suppress(CouldNotRun, Refusal):  # the chain does not answer, or there is no contract for grants
                    await anyio.to_thread.run_sync(look)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_S)

    def _look_for_missing(self) -> None:
        since = int(self._site.clock() - self._site.settings.missing_seconds)
        query = select(pulls).where(pulls.c.state.in_(_MISSING), pulls.c.since <= since)
        with self._site.database.reading() as connection:
            rows = connection.execute(query.where(pulls.c.requester.in_(sorted(self._site.hosted)))).all()
        for row in rows:
            record = {
                "type": "participant.missing", "v": 1, row.claim: row.number, "participant": row.owner,
                "lead": row.lead, "reference": row.reference, "state": row.state, "missing_since": instant(row.since),
            }  # fmt: skip
            record |= {"code": row.code} if row.code else {}
            record |= {"last_success_at": instant(row.last_success_at)} if row.last_success_at else {}
            self._seal(row.requester, f"missing/{row.claim}/{row.number}/{row.owner}/{row.since}", record)

    def _look_at_grants(self) -> None:
        for department in sorted(self._site.hosted):
            grants = (*self._site.grants.given_by(department), *self._site.grants.received_by(department))
            for grant in grants:
                self._note_grant(department, grant, "given")
                if grant.revoked_at is not None:
                    self._note_grant(department, grant, "revoked")

    def _note_grant(self, department: str, grant: Grant, change: str) -> None:
        times = ("granted_at", "valid_from", "valid_to", "revoked_at")
        shown = {name: value for name, value in grant_json(grant).items() if name in times and value is not None}
        record = {"type": "grant.changed", "v": 1, "change": change, "grant": grant.id}
        record |= {"owner": grant.owner, "grantee": grant.grantee, **shown}
        self._seal(department, f"grant/{grant.id}/{grant.granted_at}/{change}", record)

    def _seal(self, department: str, key: str, record: dict[str, Any]) -> None:
        if f"{department} {key}" in self._known:
            return
        seal_once(self._site, department, key, record | {"occurred_at": instant(self._site.clock())})
        self._known.add(f"{department} {key}")
