"""How a node stands: each log's backlog and its age, whether the chain answers, and how far the witnesses have come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sqlalchemy import Connection, func, select

from ledger.chain.client import Block
from ledger.chain.contracts import department_bytes
from ledger.errors import KeyRefused, YunxiError
from ledger.formats.note import VerifierKey
from ledger.matters import newest_list
from ledger.node import Node
from ledger.settings import EMBEDDED
from ledger.store.models import anchors, entries, position_of
from ledger.store.reading import LogRow, anchored_size, read_logs
from ledger.witness.book import cosigned_size, cosigned_time, last_call, size_to_show
from ledger.witness.departments import department_vkey, witness_name

STANDSTILL_SECONDS = 30
"""A consortium's chain whose newest block is older has stopped."""


@dataclass(frozen=True, slots=True)
class LogStatus:
    """One log. `backlog` records are acknowledged but not anchored, the oldest for `backlog_age` seconds; `chain_size`
    is what the chain holds (None: not asked); `last_anchor` in seconds since 1970 (None: never). `suspended`: the
    consortium takes no anchors of the department for now. `matters`: version of its list of matters, 0 where it never
    published one, so that its records are taken under any matter."""

    department: str
    origin: str
    size: int
    anchored_size: int
    backlog: int
    backlog_age: float
    last_anchor: float | None
    chain_size: int | None
    halted: str | None
    suspended: bool = False
    matters: int = 0

    @property
    def behind_chain(self) -> bool:
        """The chain holds more of this log than the node does: its database was put back to an older state."""
        return self.chain_size is not None and self.chain_size > self.size


@dataclass(frozen=True, slots=True)
class WitnessStatus:
    """A witness and one log. `behind` of the entries that it should have seen it has not cosigned; `cosigned_at` is in
    seconds since 1970 by its clock (None: never); `problem` is why the last asking failed, `refused` that it decided
    against the log rather than not answer; `here`: it runs on this node, under this node's operator."""

    name: str
    department: str
    here: bool
    required: bool
    cosigned_size: int
    behind: int
    cosigned_at: int | None
    problem: str | None
    refused: bool


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The node. `chain_problem` is why the chain could not be asked, or takes nothing, or None."""

    consortium: str
    engine: str
    chain_id: int
    chain_problem: str | None
    logs: tuple[LogStatus, ...]
    witnesses: tuple[WitnessStatus, ...] = ()

    @property
    def good(self) -> bool:
        """Whether the chain answers and is not ahead, no log is halted, no department suspended, no witness refuses; a
        backlog alone is no fault."""
        refused = any(witness.refused for witness in self.witnesses)
        standing = all(log.halted is None and not log.suspended and not log.behind_chain for log in self.logs)
        return self.chain_problem is None and not refused and standing


def node_status(node: Node) -> NodeStatus:
    """Reads the node's state; changes nothing. The chain's trouble is in the answer, never raised."""
    with node.database.reading() as connection:
        rows = read_logs(connection)
    sizes, suspended, problem = _ask_chain(node, [row.department for row in rows])
    now = node.clock()
    with node.database.reading() as connection:
        found = tuple(
            replace(_log_status(connection, row, sizes.get(row.department), now), suspended=row.department in suspended)
            for row in rows
        )
        witnesses = tuple(_witness_status(connection, node, rows, int(now)))
    chain = node.settings.chain
    return NodeStatus(node.settings.consortium, chain.engine, chain.id, problem, found, witnesses)


def _ask_chain(node: Node, departments: list[str]) -> tuple[dict[str, int], set[str], str | None]:
    try:
        link = node.connect()
        contract = link.evidence_log
        contract.client.check_identity()
        sizes = {name: contract.head(department_bytes(name)).size for name in departments}
        suspended = {name for name in departments if link.consortium.state(name) == "suspended"}
        return sizes, suspended, _standstill(node, contract.client.block())
    except YunxiError as error:
        return {}, set(), str(error)


def _standstill(node: Node, newest: Block | None) -> str | None:
    # validators seal empty blocks too; the embedded chain makes one only when there is something to put into it
    seconds = node.clock() - newest.timestamp if newest else 0
    if node.settings.chain.engine == EMBEDDED or seconds < STANDSTILL_SECONDS:
        return None
    return f"the chain makes no blocks, its newest is {seconds:.0f} seconds old: too few validators are running"


def _witness_status(connection: Connection, node: Node, rows: list[LogRow], now: int) -> Iterator[WitnessStatus]:
    for witness in node.settings.witnesses:
        for log in rows:
            yield _witnessed(connection, witness.key, log, now, here=False, required=witness.required)
    for department in rows if len(rows) > 1 else ():
        try:
            vkey = department_vkey(node, department.department, department.origin)
        except KeyRefused as error:
            name, words = witness_name(department.origin), str(error)
            yield WitnessStatus(name, department.department, True, False, 0, 0, None, words, False)
            continue
        for log in rows:
            if log.number != department.number:
                yield _witnessed(connection, vkey, log, now, here=True, required=False)


def _witnessed(
    connection: Connection, vkey: VerifierKey, log: LogRow, now: int, *, here: bool, required: bool
) -> WitnessStatus:
    size, call = cosigned_size(connection, log.number, vkey), last_call(connection, log.number, vkey)
    return WitnessStatus(
        name=vkey.name,
        department=log.department,
        here=here,
        required=required,
        cosigned_size=size,
        behind=max(0, size_to_show(connection, log.number, now) - size),
        cosigned_at=cosigned_time(connection, log.number, vkey),
        problem=call.problem if call is not None else None,
        refused=call is not None and call.refused,
    )


def _log_status(connection: Connection, log: LogRow, chain_size: int | None, now: float) -> LogStatus:
    anchored = anchored_size(connection, log.number)
    oldest = connection.scalar(
        select(entries.c.acknowledged_at).where(entries.c.position == position_of(log.number, anchored))
    )
    last = connection.scalar(select(func.max(anchors.c.anchored_at)).where(anchors.c.log == log.number))
    return LogStatus(
        department=log.department,
        origin=log.origin,
        size=log.size,
        anchored_size=anchored,
        backlog=log.size - anchored,
        backlog_age=now - oldest / 1000 if oldest is not None else 0.0,
        last_anchor=last / 1000 if last is not None else None,
        chain_size=chain_size,
        halted=log.halted,
        matters=0 if (head := newest_list(connection, log.number)) is None else head.version,
    )
