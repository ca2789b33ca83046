"""Whether this node can do its work now, part by part, asked of the parts themselves."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete

from gateway.emergency.reading import open_counts as emergencies_open
from gateway.models import request_nonces
from gateway.recalls.reading import open_counts as recalls_open
from ledger.errors import YunxiError

if TYPE_CHECKING:
    from gateway.site import Site
    from ledger.status import NodeStatus

FRESH_SECONDS = 1.0


class Readiness:
    """Asks at most once a second, whoever wants to know, so that asking cannot become a load."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._found: dict[str, dict[str, Any]] = {}

    def parts(self) -> dict[str, dict[str, Any]]:
        """Each part with `ok` and figures. Holds no sentence: what is wrong in words, `yunxi status` tells."""
        with self._lock:
            if time.monotonic() - self._asked_at > FRESH_SECONDS:
                self._found = self._ask()
                self._asked_at = time.monotonic()
            return self._found

    def peers(self) -> dict[str, dict[str, Any]]:
        """How this process last got on with each other member: `reachable` is None where it never asked. Another's
        trouble makes no node unready. Empty where the chain does not say who they are."""
        try:
            members = [peer for peer in self._site.peers.all() if peer.id not in self._site.hosted]
        except YunxiError:
            return {}
        found = {}
        for member in members:
            reach = self._site.peer_client.reach(member.id)
            reachable = None if reach.since is None and reach.failed_at is None else reach.since is not None
            found[member.id] = {"admitted": member.standing == "admitted", "reachable": reachable}
        return found

    def _ask(self) -> dict[str, dict[str, Any]]:
        from ledger.status import node_status  # brings the chain's client, which takes a second to import

        database = self._database()
        queue = self._site.intake.depth
        parts: dict[str, dict[str, Any]] = {
            "database": {"ok": database},
            "intake": {"ok": queue < self._site.settings.pool_capacity, "waiting": queue},
        }
        if not database:
            return parts  # the others would only repeat it
        parts |= self._of_status(node_status(self._site.node)) | {"workers": {"ok": self._workers()}}
        return parts | self._of_people()

    def _of_people(self) -> dict[str, dict[str, Any]]:
        """What waits for people: recalls to be acknowledged, emergency accesses to be justified. It makes no node
        unready, but it is said."""
        with self._site.database.reading() as connection:
            recalls = recalls_open(connection)
            emergencies = emergencies_open(connection, self._site.clock())
        for department, counts in recalls.items():
            for side, count in counts.items():
                self._site.metrics.recalls.labels(department, side).set(count)
        for department, counts in emergencies.items():
            for state, count in counts.items():
                self._site.metrics.emergencies.labels(department, state).set(count)
        return {
            "recalls": {"ok": True, "departments": recalls},
            "emergencies": {"ok": True, "departments": emergencies},
        }

    def _database(self) -> bool:
        try:
            with self._site.database.writing() as connection:
                connection.execute(delete(request_nonces).where(request_nonces.c.expires_at < 0))
        except YunxiError:
            return False
        return True

    def _workers(self) -> bool:
        try:
            return self._site.lease.somebody_holds()
        except YunxiError:
            return False

    def _of_status(self, status: NodeStatus) -> dict[str, dict[str, Any]]:
        allowed = self._site.settings.backlog_seconds
        logs = {}
        for log in status.logs:
            self._site.metrics.backlog.labels(log.department).set(log.backlog)
            self._site.metrics.backlog_age.labels(log.department).set(log.backlog_age)
            sound = log.halted is None and not log.suspended and not log.behind_chain
            logs[log.department] = {
                "ok": sound and log.backlog_age <= allowed,
                "backlog": log.backlog,
                "backlog_seconds": round(log.backlog_age, 1),
            }
        return {
            "chain": {"ok": status.chain_problem is None},
            "logs": {"ok": all(log["ok"] for log in logs.values()), "departments": logs},
        }
