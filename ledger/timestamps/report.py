"""How trusted time stands at a node, and the evidence of one checkpoint's time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from ledger.errors import CouldNotRun
from ledger.formats.renewal import Renewal, RenewalChain, leaf_hash, path_of
from ledger.node import Node
from ledger.store.reading import LogRow, read_logs
from ledger.timestamps.book import all_tokens, has_renewals, last_problem, last_stamped, stamped_by, unstamped_since


@dataclass(frozen=True, slots=True)
class TimeStatus:
    """One log. `stamped_size` entries stand under a stamped checkpoint, stamped at `stamped_at`; the oldest entry that
    does not is `age` seconds old (None: none is). `renew_by` is when the first certificate behind a token that no
    renewal covers ends. Times in seconds since 1970."""

    department: str
    stamped_size: int
    stamped_at: int | None
    age: float | None
    renew_by: int | None


@dataclass(frozen=True, slots=True)
class TimeEvidence:
    """A token over a checkpoint, and how it was renewed (None: not yet)."""

    authority: str
    token: bytes
    renewals: RenewalChain | None


def time_status(node: Node) -> list[TimeStatus]:
    """How each log stands; empty where no authority is named."""
    settings = node.settings.timestamps
    if not settings.authorities:
        return []
    with node.database.reading() as connection:
        return [_status(connection, node, log, settings.required) for log in read_logs(connection)]


def authority_problems(node: Node) -> dict[str, str | None]:
    """Each authority of node.toml, and why the last asking failed."""
    with node.database.reading() as connection:
        return {a.name: last_problem(connection, a.name) for a in node.settings.timestamps.authorities}


def require_time(node: Node, department: str) -> None:
    """The stop rule: raises CouldNotRun where entries of the department have been without trusted time for longer than
    `stop_after_hours`. For acts that must be dated beyond doubt; records are taken in all the same."""
    settings = node.settings.timestamps
    hours = settings.stop_after_hours
    if not settings.authorities:
        return
    with node.database.reading() as connection:
        logs = read_logs(connection, department)
        waiting = [unstamped_since(connection, log.number, log.size, settings.required) for log in logs]
    for since in waiting:
        if since is not None and node.clock() - since > hours * 3600:
            raise CouldNotRun(
                f"no time-stamping authority has stamped the log of {department} for more than {hours:g} hours: "
                "nothing that must be dated beyond doubt is done until one answers; see `yunxi timestamp status`"
            )


def time_evidence(connection: Connection, log: int, size: int) -> list[TimeEvidence]:
    """The tokens over the checkpoint of a size, each with the shortest chain of renewals that leads to the newest."""
    kept = stamped_by(connection, log, size)
    rows = all_tokens(connection, log) if kept and has_renewals(connection, log) else []
    leaves = [leaf_hash(row.token) for row in rows]
    renewed = [row for row in rows if row.renewal]
    return [TimeEvidence(each.authority, each.token, _chain(each.number, renewed, leaves)) for each in kept]


def _chain(number: int, renewed: list[Any], leaves: list[bytes]) -> RenewalChain | None:
    steps, index = [], number
    for row in renewed:
        if row.size > index:  # the first renewal that covers it, and then the first that covers that one
            steps.append(Renewal(row.size, tuple(path_of(index, leaves[: row.size])), row.token, row.number))
            index = row.number
    return RenewalChain(number, tuple(steps)) if steps else None


def _status(connection: Connection, node: Node, log: LogRow, required: int) -> TimeStatus:
    last = last_stamped(connection, log.number, required)
    since = unstamped_since(connection, log.number, log.size, required)
    rows = all_tokens(connection, log.number)
    covered = max((row.size for row in rows if row.renewal), default=0)
    ends = [row.expires for row in rows if row.number >= covered]
    return TimeStatus(
        department=log.department,
        stamped_size=0 if last is None else last.size,
        stamped_at=None if last is None else last.time,
        age=None if since is None else max(0.0, node.clock() - since),
        renew_by=min(ends, default=None),
    )
