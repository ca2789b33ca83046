"""The worker that anchors: a round of the ledger's anchorer every so often."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio.to_thread
import structlog

if TYPE_CHECKING:
    from gateway.site import Site

log = structlog.get_logger("yunxi.gateway")


class Anchoring:
    """Anchors whatever is acknowledged and not anchored yet; trouble with the chain is logged and tried again."""

    name = "anchoring"

    def __init__(self, site: Site) -> None:
        self._site = site
        self._troubled: dict[str, str] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Rounds until `stop` is set, and a last one then."""
        from ledger.anchor import Anchorer  # brings the chain's client, which takes a second to import

        anchorer, ending = Anchorer(self._site.node), False
        while not ending:
            ending = stop.is_set()
            for outcome in await anyio.to_thread.run_sync(anchorer.round):
                self._tell(outcome.department, outcome.problem.code if outcome.problem else "")
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._site.settings.anchoring_seconds)

    def _tell(self, department: str, code: str) -> None:
        # said when it begins and when it ends, not every half second
        if self._troubled.get(department, "") != code:
            self._troubled[department] = code
            log.warning("not anchored" if code else "anchored again", department=department, code=code or None)
