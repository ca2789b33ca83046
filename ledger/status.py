"""How a node stands: each log's backlog and its age, and whether the chain answers."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from ledger.chain.contracts import department_bytes
from ledger.errors import YunxiError
from ledger.node import Node
from ledger.store.models import anchors, entries, position_of
from ledger.store.reading import LogRow, anchored_size, read_logs


@dataclass(frozen=True, slots=True)
class LogStatus:
    """One log. `backlog` records are acknowledged but not anchored, the oldest for `backlog_age` seconds; `chain_size`
    is what the chain holds (None: not asked); `last_anchor` in seconds since 1970 (None: never)."""

    department: str
    origin: str
    size: int
    anchored_size: int
    backlog: int
    backlog_age: float
    last_anchor: float | None
    chain_size: int | None
    halted: str | None


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The node. `chain_problem` is why the chain could not be asked, or None."""

    consortium: str
    engine: str
    chain_id: int
    chain_problem: str | None
    logs: tuple[LogStatus, ...]

    @property
    def good(self) -> bool:
        """Whether the chain answers and no log is halted; a backlog alone is no fault."""
        return self.chain_problem is None and all(log.halted is None for log in self.logs)


def node_status(node: Node) -> NodeStatus:
    """Reads the node's state; changes nothing. The chain's trouble is in the answer, never raised."""
    with node.database.reading() as connection:
        rows = read_logs(connection)
    sizes, problem = _ask_chain(node, [row.department for row in rows])
    now = node.clock()
    with node.database.reading() as connection:
        found = tuple(_log_status(connection, row, sizes.get(row.department), now) for row in rows)
    chain = node.settings.chain
    return NodeStatus(node.settings.consortium, chain.engine, chain.id, problem, found)


def _ask_chain(node: Node, departments: list[str]) -> tuple[dict[str, int], str | None]:
    try:
        contract = node.connect().evidence_log
        contract.client.check_identity()
        return {name: contract.head(department_bytes(name)).size for name in departments}, None
    except YunxiError as error:
        return {}, str(error)


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
    )
