"""Delivers events to webhooks: at least once, each subscription by itself, in no promised order.

log ─► deliveries (with the cursor, one transaction) ─► signed POST ─► 2xx: taken
                                ▲ back-off with jitter ◄┘ else; after so many attempts: a dead letter
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import defaultdict
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import httpx
import structlog

from gateway.problems import Problem
from gateway.subscriptions import service
from gateway.subscriptions.events import Event, read_event
from gateway.subscriptions.service import ACTIVE, Delivery, Subscription
from gateway.subscriptions.signing import sign_webhook
from gateway.subscriptions.targets import require_allowed
from ledger.errors import CouldNotRun

if TYPE_CHECKING:
    from gateway.site import Site

LOOK_S = 1.0
AT_ONCE = 8
"""Requests to one target at a time; one, while it takes nothing."""
AT_ONCE_OF_DEPARTMENT = 64
"""More than there are subscriptions of one, so that those that fail leave room for those that do not."""
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 3_600.0
MEDIA_TYPE = "application/cloudevents+json"

log = structlog.get_logger("yunxi.subscriptions")


class Webhooks:
    """The worker. Of several processes on one database one runs it."""

    name = "webhooks"

    def __init__(self, site: Site) -> None:
        self._site = site
        self._dice = random.Random()  # noqa: S311  jitter
        self._failing: set[str] = set()
        self._turns: defaultdict[str, anyio.Semaphore] = defaultdict(lambda: anyio.Semaphore(AT_ONCE_OF_DEPARTMENT))

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set. Each subscription has its own task: a slow target holds up nobody else."""
        tasks: dict[str, asyncio.Task[None]] = {}
        tls = ssl.create_default_context()
        # neither the environment's proxies nor a redirect may lead anywhere that the settings do not name; how long and
        # how many is counted here, by department: a pool that all share would be anybody's to fill
        shared = httpx.Limits(max_connections=None, max_keepalive_connections=AT_ONCE_OF_DEPARTMENT)
        client = httpx.AsyncClient(verify=tls, trust_env=False, follow_redirects=False, limits=shared)
        try:
            with self._site.bell.listening() as rung:
                while not stop.is_set():
                    rung.clear()
                    with suppress(CouldNotRun):
                        for each in await anyio.to_thread.run_sync(self._active):
                            if each.id not in tasks or _ended(tasks[each.id]):
                                tasks[each.id] = asyncio.create_task(self._serve(client, each))
                    await _first(LOOK_S, rung, stop)
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
            await client.aclose()

    async def _serve(self, client: httpx.AsyncClient, subscription: Subscription) -> None:
        """Sends what is due, until nothing is."""
        secret = await anyio.to_thread.run_sync(service.secret_of, self._site, subscription)
        while True:
            before = subscription.cursor
            try:
                subscription = await anyio.to_thread.run_sync(self._take_up, subscription)
            except Problem:
                return  # it was deleted
            if subscription.state != ACTIVE:
                return
            waiting = await anyio.to_thread.run_sync(self._due, subscription)
            if not waiting:
                if subscription.cursor == before:
                    return
                continue
            sending = [self._deliver(client, subscription, secret, *each) for each in waiting]
            await asyncio.gather(*sending)

    async def _deliver(
        self,
        client: httpx.AsyncClient,
        subscription: Subscription,
        secret: bytes,
        delivery: Delivery,
        event: Event | None,
    ) -> None:
        database = self._site.database
        if event is None:  # its entry cannot be read any more: the audit says so
            await anyio.to_thread.run_sync(service.settle, database, delivery, int(self._site.clock()))
            return
        async with self._turns[subscription.department]:
            now = int(self._site.clock())
            code = await self._send(client, subscription, secret, event, now)
        # Die here: it is sent again, under the same webhook-id.
        if code is None:
            self._failing.discard(subscription.id)
            await anyio.to_thread.run_sync(service.settle, database, delivery, now)
            return
        if code == "http-410":
            await anyio.to_thread.run_sync(service.disable, database, subscription.id)
        self._failing.add(subscription.id)
        attempts = delivery.attempts + 1
        later = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(delivery.attempts, 20)) * self._dice.uniform(0.5, 1.0)
        members: dict[str, Any] = {
            "attempts": attempts, "code": code, "failed_at": now, "retry_at": int((self._site.clock() + later) * 1000),
            "dead": attempts >= self._site.settings.webhooks.attempts,
        }  # fmt: skip
        await anyio.to_thread.run_sync(partial(service.note_failure, database, delivery, **members))

    async def _send(
        self, client: httpx.AsyncClient, subscription: Subscription, secret: bytes, event: Event, now: int
    ) -> str | None:
        """None where the target took it, else why not, as a code."""
        body = event.to_json()
        headers = sign_webhook(secret, f"msg_{subscription.id}_{event.id}", now, body)
        headers |= {"content-type": MEDIA_TYPE, "user-agent": "yunxi"}
        seconds = self._site.settings.webhooks.timeout_seconds
        try:
            require_allowed(subscription.url, self._site.settings.webhooks)
            with anyio.fail_after(seconds):
                # the answer's body is nobody's business here and is not read
                said = client.stream("POST", subscription.url, content=body, headers=headers, timeout=seconds)
                async with said as answer:
                    return None if answer.is_success else f"http-{answer.status_code}"
        except Problem as problem:
            return problem.code
        except (TimeoutError, httpx.TimeoutException):
            return "timeout"
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError):
            return "unreachable"

    # -- blocking parts --

    def _active(self) -> list[Subscription]:
        with self._site.database.reading() as connection:
            return [each for each in service.list_for(connection) if each.state == ACTIVE]

    def _take_up(self, subscription: Subscription) -> Subscription:
        # read again: an answer may have disabled it since
        now = service.find(self._site.database, subscription.department, subscription.id)
        return service.take_up(self._site, now) if now.state == ACTIVE else now

    def _due(self, subscription: Subscription) -> list[tuple[Delivery, Event | None]]:
        reader, now = self._site.node.reader, int(self._site.clock() * 1000)
        at_once = 1 if subscription.id in self._failing else AT_ONCE
        with self._site.database.reading() as connection:
            return [
                (
                    each,
                    read_event(
                        connection, reader, subscription.department, subscription.wanted, (each.position, each.n)
                    ),
                )
                for each in service.due(connection, subscription.id, now, at_once)
            ]


def _ended(task: asyncio.Task[None]) -> bool:
    if not task.done():
        return False
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("delivering webhooks failed", error=type(error).__name__)
    return True


async def _first(seconds: float, *events: asyncio.Event) -> None:
    """Until one of `events` is set or the time is over."""
    tasks = [asyncio.ensure_future(each.wait()) for each in events]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
