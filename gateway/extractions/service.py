"""The room put together for a site."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import orjson
from sqlalchemy import Connection

from gateway.access import Attempt
from gateway.emergency.owner import EmergencyBook
from gateway.extractions import standing
from gateway.extractions.owner import Owner
from gateway.extractions.received import Receiver
from gateway.extractions.refusals import RefusalBook
from gateway.extractions.requester import Requester
from gateway.extractions.workers import AutomaticExtraction
from ledger.intake import Intake
from ledger.submission import Outcome, Submission

if TYPE_CHECKING:
    from gateway.site import Site

_EXTRACTION = re.compile(r"/v1/extractions/([0-9a-f]{32})(?:/|$)")


class Direct:
    """An intake for pages, receipts and refusals. They are large or rare and each is waited for, so they do not wait in
    the pool for others; any number of threads may submit, one after the other."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._one = threading.Lock()

    def submit(
        self,
        department: str,
        batch: Sequence[Submission],
        *,
        beside: Callable[[Connection], None] | None = None,
    ) -> list[Outcome]:
        """As `Intake.submit`."""
        with self._one:
            return self._intake.submit(department, batch, beside=beside)


class Extractions:
    """Owner, requester and worker of one site."""

    def __init__(self, site: Site) -> None:
        node, clock = site.node, site.clock
        self._site = site
        intake = Intake(node.database, node.blobs, node.agent, node.keks, node.types, clock)
        submit = Direct(intake).submit
        self.refusals = RefusalBook(submit, clock)
        emergencies = EmergencyBook(node, site.settings.emergency, submit, site.projector)
        self.owner = Owner(
            site.database, node.reader, node.agent, submit, site.projector, site.peers, site.grants,
            self.refusals, emergencies, site.hosted, clock, site.settings.extraction_page,
        )  # fmt: skip
        receiver = Receiver(node.agent, submit, site.peers.trust, clock)
        self.requester = Requester(
            site.database, node.reader, node.agent, site.peer_client, receiver, self.refusals, clock
        )
        self.waiting: Counter[str] = Counter()
        """Requests for news that wait, by department."""
        self.worker = AutomaticExtraction(site.database, site.projector, self.requester, site.hosted, clock)

    def authentication_failed(self, attempt: Attempt) -> None:
        """Puts a request that failed authentication on record in the log of the department that was asked: the one that
        its body or its extraction names, or else the first of this node. What it claims is only counted, or a flood
        of invented keys would fill the log."""
        detail = f"{attempt.method[:10]} was refused before anything of it was believed"
        self.refusals.record(self._asked(attempt), "owner", attempt.reason, detail, requester=attempt.department)

    def _asked(self, attempt: Attempt) -> str:
        hosted = self._site.hosted
        named = _EXTRACTION.match(attempt.path)
        if named is not None:
            with self._site.database.reading() as connection:
                found = standing.find(connection, named[1])
            if found is not None:
                return found.owner
        try:
            body = orjson.loads(attempt.body)
            owner = body.get("owner") if isinstance(body, dict) else None
        except orjson.JSONDecodeError:
            owner = None
        return owner if isinstance(owner, str) and owner in hosted else min(hosted)
