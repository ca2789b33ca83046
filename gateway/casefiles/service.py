"""Ordering a case file, making it beside the requests, and handing it out.

    ordered ─► waiting ─► making ─► ready ─► deleted after KEPT_S
                             └────► failed   (the same, without a file)

Of several processes on one database one makes them, one after the other. It dies while making: the next one begins
anew; what it left of the file is removed with the order.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.engine import RowMapping

from gateway.caller import Caller
from gateway.casefiles.models import casefile_orders
from gateway.extractions.refusals import instant
from gateway.problems import Problem
from ledger.casefile.contents import find_log
from ledger.casefile.export import Exported, Order, export
from ledger.casefile.reveal import Reveal
from ledger.casefile.sealing import parse_recipient
from ledger.casefile.words import Words
from ledger.errors import CouldNotRun, YunxiError

if TYPE_CHECKING:
    from gateway.site import Site

DIRECTORY = "casefiles"
KEPT_S = 24 * 3600
MAX_OPEN = 20
"""Orders of a department that are not made yet."""
LOOK_S = 1.0

WAITING, MAKING, READY, FAILED = "waiting", "making", "ready", "failed"


def order(site: Site, caller: Caller, number: str, wanted: dict[str, Any], request_id: str) -> RowMapping:
    """Takes an order of the caller's department; what can be refused at once is. Raises Problem `not-found` for a case
    that the department's log does not have, `rate-exceeded` where too many wait, RecordRefused and Malformed for a
    wish that no case file can fulfil."""
    with site.database.reading() as connection:
        try:
            find_log(connection, number, caller.department)
        except CouldNotRun as error:
            raise Problem("not-found", "the department's log has no record of such a case") from error
        here = casefile_orders.c.department == caller.department
        unmade = casefile_orders.c.state.in_((WAITING, MAKING))
        if (connection.scalar(select(func.count()).select_from(casefile_orders).where(here, unmade)) or 0) >= MAX_OPEN:
            raise Problem("rate-exceeded", "other case files are still to be made: wait for them", retry_after=60)
    _order_of(site, number, caller.department, wanted)
    row = {
        "id": secrets.token_hex(16),
        "department": caller.department,
        "number": number,
        "wanted": json.dumps(wanted),
        "account": caller.subject[:64],
        "request": request_id[:64],
        "ordered_at": int(site.clock()),
        "state": WAITING,
    }
    with site.database.writing() as connection:
        connection.execute(insert(casefile_orders).values(row))
    return find(site, caller, number, str(row["id"]))


def find(site: Site, caller: Caller, number: str, order_id: str) -> RowMapping:
    """An order of the caller's department. Raises Problem `not-found`, also when it has expired."""
    c = casefile_orders.c
    here = (c.id == order_id) & (c.department == caller.department) & (c.number == number)
    with site.database.reading() as connection:
        row = connection.execute(select(casefile_orders).where(here)).mappings().one_or_none()
    if row is None:
        raise Problem("not-found", "there is no such order, or its case file was deleted again")
    return row


def is_sealed(row: RowMapping) -> bool:
    """Whether the case file of an order is sealed to a court's key."""
    return "recipient" in json.loads(row["wanted"])


def file_of(site: Site, row: RowMapping) -> Path:
    """The file of an order. Raises Problem `conflict` while it is not ready."""
    path = path_of(site, row["id"])
    if row["state"] != READY or not path.exists():
        raise Problem("conflict", "the case file is not ready: ask for its state first")
    return path


def order_json(row: RowMapping) -> dict[str, Any]:
    """An order for its department."""
    shown = {name: row[name] for name in ("id", "state", "code", "detail", "record_id", "log_size", "items", "later")}
    shown |= {"case": row["number"], "octets": row["octets"], "tagmanifest_sha256": row["sha256"]}
    ends = None if row["finished_at"] is None else instant(row["finished_at"] + KEPT_S)
    return shown | {"ordered_at": instant(row["ordered_at"]), "deleted_at": ends}


def path_of(site: Site, order_id: str) -> Path:
    """Where the file of an order lies."""
    return site.node.settings.directory / DIRECTORY / order_id


class Making:
    """The worker."""

    name = "casefiles"

    def __init__(self, site: Site) -> None:
        self._site = site

    async def run(self, stop: asyncio.Event) -> None:
        """Makes what is ordered until `stop` is set; one that was begun is finished first."""
        await anyio.to_thread.run_sync(self.begin_again)
        while not stop.is_set():
            if not await anyio.to_thread.run_sync(self.make_one):
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), LOOK_S)

    def begin_again(self) -> None:
        """Puts back what a process was making when it ended."""
        with self._site.database.writing() as connection:
            left = casefile_orders.c.state == MAKING
            connection.execute(update(casefile_orders).where(left).values(state=WAITING))

    def make_one(self) -> bool:
        """Makes the oldest order; whether there was one. What is wrong with it stands in its row, not in an error."""
        self.expire()
        row = self._oldest()
        if row is None:
            return False
        self._set(row["id"], state=MAKING)
        path = path_of(self._site, row["id"])
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._remove(row["id"])
        try:
            done = self._make(row, path)
        except YunxiError as error:
            self._set(row["id"], state=FAILED, code=error.code, detail=str(error), finished_at=self._now())
            return True
        self._set(
            row["id"],
            state=READY,
            record_id=done.record_id,
            log_size=done.log_size,
            items=done.items,
            later=done.later,
            octets=done.octets,
            sha256=done.sha256,
            finished_at=self._now(),
        )
        return True

    def expire(self) -> None:
        """Deletes files and rows of orders that were finished long enough ago."""
        old = casefile_orders.c.finished_at < self._now() - KEPT_S
        with self._site.database.reading() as connection:
            names = list(connection.scalars(select(casefile_orders.c.id).where(old)))
        for name in names:
            self._remove(name)
            with self._site.database.writing() as connection:
                connection.execute(delete(casefile_orders).where(casefile_orders.c.id == name))

    def _make(self, row: RowMapping, path: Path) -> Exported:
        wanted = _order_of(self._site, row["number"], row["department"], json.loads(row["wanted"]))
        placed = replace(wanted, account=row["account"], request=row["request"])
        return export(self._site.node, self._site.intake.submit, placed, path)

    def _oldest(self) -> RowMapping | None:
        c = casefile_orders.c
        query = select(casefile_orders).where(c.state == WAITING).order_by(c.ordered_at, c.id).limit(1)
        with self._site.database.reading() as connection:
            return connection.execute(query).mappings().one_or_none()

    def _set(self, order_id: str, **values: Any) -> None:
        here: ColumnElement[bool] = casefile_orders.c.id == order_id
        with self._site.database.writing() as connection:
            connection.execute(update(casefile_orders).where(here).values(**values))

    def _remove(self, order_id: str) -> None:
        """The file, and what a process left of it that was killed while it wrote."""
        path = path_of(self._site, order_id)
        for each in [path, *path.parent.glob(f".{order_id}.*")]:
            each.unlink(missing_ok=True)

    def _now(self) -> int:
        return int(self._site.clock())


def _order_of(site: Site, number: str, department: str, wanted: dict[str, Any]) -> Order:
    key = wanted.get("recipient")
    return Order(
        case=number,
        department=department,
        at=wanted.get("at"),
        reveal=Reveal.parse(wanted.get("reveal", ()), site.node.types),
        words={each["record_id"]: _words(each) for each in wanted.get("evidence", ())},
        media=wanted.get("media", True),
        exported_for=wanted.get("exported_for"),
        recipient=None if key is None else parse_recipient(json.dumps(key).encode()),
    )


def _words(row: dict[str, Any]) -> Words:
    return Words(**{name: value for name, value in row.items() if name != "record_id"})
