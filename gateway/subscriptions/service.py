"""Subscriptions: making, listing and ending them; what is outstanding, and dead letters."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from gateway.caller import Caller
from gateway.problems import Problem
from gateway.subscriptions.events import Wanted, event_id, newest, read_events
from gateway.subscriptions.models import deliveries, subscriptions
from gateway.subscriptions.signing import draw_secret, open_secret, seal_secret, secret_text
from gateway.subscriptions.targets import require_allowed
from ledger.store.database import Database

if TYPE_CHECKING:
    from gateway.site import Site

ACTIVE, DISABLED = "active", "disabled"
MAX_SUBSCRIPTIONS = 50
MAX_OUTSTANDING = 10_000
"""Of one subscription, dead letters among them; past that the rest waits in the log."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription. `cursor`: up to there events became deliveries; times in seconds since 1970."""

    id: str
    department: str
    url: str
    wanted: Wanted
    secret: bytes
    cursor: int
    state: str
    created_at: int
    delivered: int
    delivered_at: int | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that a subscriber has not taken yet. `retry_at` in milliseconds since 1970, `failed_at` in seconds."""

    subscription: str
    position: int
    n: int
    attempts: int
    retry_at: int
    dead: bool
    code: str | None
    failed_at: int | None

    @property
    def event(self) -> str:
        """The id of the event."""
        return event_id(self.position, self.n)

    @property
    def here(self) -> ColumnElement[bool]:
        """The condition that finds its row."""
        c = deliveries.c
        return (c.subscription == self.subscription) & (c.position == self.position) & (c.n == self.n)


def create(site: Site, caller: Caller, url: str, wanted: Wanted) -> tuple[Subscription, str]:
    """A new subscription of the caller's department to what comes from now on, and its secret (whsec_…), which is told
    this once. Raises Problem `target-not-allowed`, `conflict` (it has too many)."""
    require_allowed(url, site.settings.webhooks)
    subscription, secret = secrets.token_urlsafe(16), draw_secret()
    with site.database.writing() as connection:
        query = select(func.count()).where(subscriptions.c.department == caller.department)
        if (connection.scalar(query) or 0) >= MAX_SUBSCRIPTIONS:
            raise Problem("conflict", f"a department has at most {MAX_SUBSCRIPTIONS} subscriptions: delete one")
        row = {
            "subscription": subscription, "department": caller.department, "url": url,
            "events": orjson.dumps(sorted(wanted.events)).decode(),
            "types": None if wanted.types is None else orjson.dumps(sorted(wanted.types)).decode(),
            "claim": wanted.claim, "number": wanted.number, "cursor": newest(connection, caller.department)[0],
            "secret": seal_secret(secret, subscription, site.node.agent.operator_key()), "state": ACTIVE,
            "created_at": int(site.clock()), "created_by": caller.subject[:64], "delivered": 0,
        }  # fmt: skip
        connection.execute(insert(subscriptions).values(row))
        return _find(connection, caller.department, subscription), secret_text(secret)


def list_for(connection: Connection, department: str | None = None) -> list[Subscription]:
    """The department's subscriptions, or all of this node, oldest first."""
    query = select(subscriptions).order_by(subscriptions.c.created_at, subscriptions.c.subscription)
    if department is not None:
        query = query.where(subscriptions.c.department == department)
    return [_subscription(row) for row in connection.execute(query)]


def find(database: Database, department: str, subscription: str) -> Subscription:
    """The department's subscription. Raises Problem `not-found`."""
    with database.reading() as connection:
        return _find(connection, department, subscription)


def remove(database: Database, department: str, subscription: str) -> None:
    """Ends a subscription, with what is outstanding. Raises Problem `not-found`."""
    with database.writing() as connection:
        _find(connection, department, subscription)
        connection.execute(delete(deliveries).where(deliveries.c.subscription == subscription))
        connection.execute(delete(subscriptions).where(subscriptions.c.subscription == subscription))


def enable(database: Database, department: str, subscription: str) -> Subscription:
    """Lets a disabled one go on where it stopped. Raises Problem `not-found`."""
    with database.writing() as connection:
        _find(connection, department, subscription)
        here = subscriptions.c.subscription == subscription
        connection.execute(update(subscriptions).where(here).values(state=ACTIVE))
        return _find(connection, department, subscription)


def outstanding(connection: Connection, subscription: str) -> tuple[int, int]:
    """How many deliveries wait, and how many are dead."""
    c = deliveries.c
    rows = connection.execute(select(c.dead, func.count()).where(c.subscription == subscription).group_by(c.dead))
    counts = {bool(dead): count for dead, count in rows}
    return counts.get(False, 0), counts.get(True, 0)


def dead_letters(connection: Connection, subscription: str, after: tuple[int, int], limit: int) -> list[Delivery]:
    """Those given up, in the log's order past the place `after`."""
    c = deliveries.c
    past = (c.position > after[0]) | ((c.position == after[0]) & (c.n > after[1]))
    query = select(deliveries).where(c.subscription == subscription, c.dead.is_(True), past)
    return [_delivery(row) for row in connection.execute(query.order_by(c.position, c.n).limit(limit))]


def replay(database: Database, subscription: str, places: Collection[tuple[int, int]] | None) -> int:
    """Tries dead letters again from the first attempt on: those at `places`, or all; how many."""
    c = deliveries.c
    here = (c.subscription == subscription) & c.dead.is_(True)
    fresh = {"dead": False, "attempts": 0, "retry_at": 0}
    with database.writing() as connection:
        if places is None:
            return connection.execute(update(deliveries).where(here).values(fresh)).rowcount
        chosen = [here & (c.position == position) & (c.n == n) for position, n in places]
        return sum(connection.execute(update(deliveries).where(each).values(fresh)).rowcount for each in chosen)


# -- what the worker does --


def take_up(site: Site, subscription: Subscription) -> Subscription:
    """Makes deliveries of the events since its cursor, and moves the cursor, in one transaction."""
    with site.database.reading() as connection:
        if sum(outstanding(connection, subscription.id)) >= MAX_OUTSTANDING:
            return subscription
        after = subscription.cursor, 9
        found, place = read_events(
            connection, site.node.reader, subscription.department, subscription.wanted, after
        )  # fmt: skip
    if place[0] <= subscription.cursor:
        return subscription
    fresh = {"subscription": subscription.id, "attempts": 0, "retry_at": 0, "dead": False}
    here = (subscriptions.c.subscription == subscription.id) & (subscriptions.c.cursor == subscription.cursor)
    # Die here: the cursor is where it was, and the same events are read again.
    with site.database.writing() as connection:
        moved = connection.execute(update(subscriptions).where(here).values(cursor=place[0])).rowcount
        if moved and found:
            connection.execute(insert(deliveries), [fresh | {"position": e.position, "n": e.n} for e in found])
    return find(site.database, subscription.department, subscription.id)


def due(connection: Connection, subscription: str, now_ms: int, limit: int) -> list[Delivery]:
    """What is to be sent now, the oldest first."""
    c = deliveries.c
    query = select(deliveries).where(c.subscription == subscription, c.dead.is_(False), c.retry_at <= now_ms)
    return [_delivery(row) for row in connection.execute(query.order_by(c.position, c.n).limit(limit))]


def settle(database: Database, delivery: Delivery, now: int) -> None:
    """The subscriber took it."""
    c = subscriptions.c
    with database.writing() as connection:
        if connection.execute(delete(deliveries).where(delivery.here)).rowcount:
            here = update(subscriptions).where(c.subscription == delivery.subscription)
            connection.execute(here.values(delivered=c.delivered + 1, delivered_at=now))


def note_failure(database: Database, delivery: Delivery, **members: Any) -> None:
    """What became of an attempt."""
    with database.writing() as connection:
        connection.execute(update(deliveries).where(delivery.here).values(members))


def disable(database: Database, subscription: str) -> None:
    """Nothing more is sent."""
    with database.writing() as connection:
        here = subscriptions.c.subscription == subscription
        connection.execute(update(subscriptions).where(here).values(state=DISABLED))


def secret_of(site: Site, subscription: Subscription) -> bytes:
    """The secret that its deliveries are signed with. Raises CouldNotRun."""
    return open_secret(subscription.secret, subscription.id, site.node.agent.operator_key())


def _find(connection: Connection, department: str, subscription: str) -> Subscription:
    c = subscriptions.c
    query = select(subscriptions).where(c.subscription == subscription, c.department == department)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise Problem("not-found", "your department has no such subscription: see GET /v1/subscriptions")
    return _subscription(row)


def _subscription(row: Any) -> Subscription:
    types = None if row.types is None else frozenset(orjson.loads(row.types))
    return Subscription(
        id=row.subscription,
        department=row.department,
        url=row.url,
        wanted=Wanted(frozenset(orjson.loads(row.events)), types, row.claim, row.number),
        secret=row.secret,
        cursor=row.cursor,
        state=row.state,
        created_at=row.created_at,
        delivered=row.delivered,
        delivered_at=row.delivered_at,
    )


def _delivery(row: Any) -> Delivery:
    return Delivery(**row._mapping)
