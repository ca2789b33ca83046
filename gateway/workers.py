"""Background work: each worker is a task of the application. Some run in every process, the others under the lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

import anyio.to_thread
import structlog
from fastapi import FastAPI

from gateway.operations.logs import places
from gateway.site import Site, Worker
from ledger.errors import YunxiError

log = structlog.get_logger("yunxi.gateway")

PAUSE_SECONDS = 2.0


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Runs the site's workers while the application serves; closes the site when it ends."""
    site: Site = app.state.site
    if not app.state.background:
        yield
        site.stopping.set()
        await site.peer_client.close()
        await anyio.to_thread.run_sync(site.close)
        return
    everywhere = _Crew(site, site.everywhere)
    everywhere.start()
    leased = asyncio.create_task(_under_lease(site))
    try:
        yield
    finally:
        site.stopping.set()
        await leased
        await everywhere.stop()
        await site.peer_client.close()
        await anyio.to_thread.run_sync(site.close)


async def _under_lease(site: Site) -> None:
    """Runs the leased workers whenever this process holds the lease, until the service ends."""
    crew = _Crew(site, site.workers)
    while not site.stopping.is_set():
        try:
            await anyio.to_thread.run_sync(site.lease.take)
        except YunxiError as error:
            log.error("the lease cannot be renewed", code=error.code)
        if site.lease.held:
            crew.start()
        else:
            await crew.stop()
        await pause(site.stopping, site.lease.seconds / 4)
    await crew.stop()
    with suppress(YunxiError):  # it ends by itself
        await anyio.to_thread.run_sync(site.lease.release)


class _Crew:
    """Workers that start and stop together."""

    def __init__(self, site: Site, workers: Iterable[Worker]) -> None:
        self._site, self._workers = site, tuple(workers)
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts them unless they run."""
        if not self._tasks:
            self._stop = asyncio.Event()
            self._tasks = [asyncio.create_task(self._keep(worker)) for worker in self._workers]

    async def stop(self) -> None:
        """Returns when they have ended."""
        self._stop.set()
        await asyncio.gather(*self._tasks)
        self._tasks = []

    async def _keep(self, worker: Worker) -> None:
        up = self._site.metrics.workers.labels(worker.name)
        while not self._stop.is_set():
            up.set(1)
            try:
                await worker.run(self._stop)
            except Exception as error:  # noqa: BLE001  a worker that fails is started again, and the others go on
                log.error("worker failed", worker=worker.name, error=type(error).__name__, at=places(error))
                up.set(0)
                await pause(self._stop, PAUSE_SECONDS)
        up.set(0)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Waits so long, or until `stop` is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
