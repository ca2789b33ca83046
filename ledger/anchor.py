"""Anchoring by clock: sign a checkpoint at each log's head, bring it to the chain, remember where it stands.

One anchor of the newest checkpoint per department and round, never a queue. Everything here may be cut off anywhere
and run again, in several processes at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import insert, select, update

from ledger.chain.anchoring import FINAL, Anchored, anchor_once, check_against
from ledger.chain.contracts import EvidenceLogContract, department_bytes
from ledger.checkpoints import lock_log, sign_at
from ledger.errors import ChainUnreachable, CouldNotRun, HistoryRefused, Refusal, YunxiError
from ledger.formats.tiles import consistency_path, tree_root
from ledger.node import ChainLink, Node
from ledger.rotation import settle_all
from ledger.store.models import anchors, logs
from ledger.store.reading import LogRow, StoredTiles, anchored_size, read_logs
from ledger.timestamps.rounds import Timestamping
from ledger.witness.departments import cosign_here
from ledger.witness.rounds import Witnessing


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round did for one log. `anchored` is None where `problem` says why not; `size` is the checkpoint's."""

    department: str
    size: int
    anchored: Anchored | None
    problem: YunxiError | None


class Anchorer:
    """Anchors every log of a node, and has what is anchored cosigned."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._link: ChainLink | None = None
        self._witnessing = Witnessing(node)
        self._timestamping = Timestamping(node)
        self._compared: set[int] = set()

    def round(self) -> list[Outcome]:
        """One round over all logs that have something new; trouble with the chain is in the outcomes, never raised.
        Then the witnesses and the time-stamping authorities are asked; how that went, `yunxi status` tells."""
        outcomes = self._anchor_all()
        self._witnessing.round()
        self._timestamping.round()
        return outcomes

    def resume(self, department: str) -> None:
        """Lets a halted log take records again, after its missing or right entries were restored.

        Raises HistoryRefused where it still contradicts the chain (or is unknown), ChainUnreachable, and Refusal for a
        log that is not halted.
        """
        with self._node.database.reading() as connection:
            found = read_logs(connection, department)
        if not found:
            raise HistoryRefused(f"there is no log of department {department!r}")
        if found[0].halted is None:
            raise Refusal(f"log {found[0].origin} is not halted: there is nothing to resume")
        self._checked(found[0])
        with self._node.database.writing() as connection:
            here = (logs.c.log == found[0].number) & (logs.c.size == found[0].size) & (logs.c.root == found[0].root)
            connection.execute(update(logs).where(here).values(halted=None))

    def _anchor_all(self) -> list[Outcome]:
        with self._node.database.reading() as connection:
            found = [(log, log.size > anchored_size(connection, log.number)) for log in read_logs(connection)]
        outcomes = [self._anchor(log) if behind else self._compare(log) for log, behind in found]
        return [outcome for outcome in outcomes if outcome is not None]

    def run(self, stop: threading.Event, interval: float, report: Callable[[Outcome], None]) -> None:
        """Rounds every `interval` seconds until `stop` is set, and a last one then; no anchor waits for a witness or a
        time-stamping authority."""
        beside = [
            threading.Thread(target=work, args=(stop, interval), daemon=True)
            for work in (self._witnessing.run, self._timestamping.run)
        ]
        for thread in beside:
            thread.start()
        ending = False
        while not ending:
            ending = stop.wait(interval)
            try:
                outcomes = self._anchor_all()
            except CouldNotRun:
                continue  # the database could not be read; whoever writes to it is told why, and we try again
            for outcome in outcomes:
                report(outcome)
        for thread in beside:
            thread.join()
        self._witnessing.round()
        self._timestamping.round()

    def _anchor(self, log: LogRow) -> Outcome:
        node = self._node
        try:
            settle_all(node, log.department)
            # 1. Die here: nothing happened.
            with node.database.writing() as connection:
                now = node.clock()
                sign_at(connection, log, log.size, node.agent.log_signer(log.department, now), int(now))
            # 2. Die here: a signed checkpoint that nobody has seen; the next round takes it, or a newer one.
            anchored = self._bring_to_chain(log)
            # 3. Die here: the chain holds the anchor and the node does not know; the next round asks and finds it.
            if anchored.finality == FINAL:
                self._remember(log, anchored)
            return Outcome(log.department, log.size, anchored, None)
        except ChainUnreachable as error:
            self._link = None
            return Outcome(log.department, log.size, None, error)
        except YunxiError as error:
            return Outcome(log.department, log.size, None, error)

    def _compare(self, log: LogRow) -> Outcome | None:
        """Once in this anchorer's life, for a log with nothing to anchor: is the chain ahead of it, or against it? A
        database that was put back to an older state shows here, before the next record forks its log."""
        if log.number in self._compared or log.halted is not None:
            return None
        try:
            self._checked(log)
        except ChainUnreachable:
            self._link = None
            return None
        except YunxiError as error:
            return Outcome(log.department, log.size, None, error)
        return None

    def _checked(self, log: LogRow) -> EvidenceLogContract:
        """The contract, after the log was found to continue what it holds. Halts the log and raises otherwise."""
        if self._link is None:
            self._link = self._node.connect()
        contract = self._link.evidence_log
        contract.client.check_identity()
        view = _LogOnDisk(self._node, log)
        head = contract.head(view.log_id)
        try:
            check_against(view, head)
        except HistoryRefused as error:
            self._halt(log, str(error))
            raise
        self._compared.add(log.number)
        return contract

    def _bring_to_chain(self, log: LogRow) -> Anchored:
        contract, view = self._checked(log), _LogOnDisk(self._node, log)
        account = self._node.agent.anchor_key(log.department, self._node.clock())
        anchored = anchor_once(view, contract, account, confirmations=self._node.settings.chain.confirmations)
        assert anchored is not None  # only logs with entries come here
        return anchored

    def _halt(self, log: LogRow, reason: str) -> None:
        # what the chain holds cannot be undone, so a log that contradicts it must not go on growing
        with self._node.database.writing() as connection:
            connection.execute(update(logs).where(logs.c.log == log.number).values(halted=reason))

    def _remember(self, log: LogRow, anchored: Anchored) -> None:
        now = self._node.clock()
        with self._node.database.writing() as connection:
            lock_log(connection, log.number)
            fresh = read_logs(connection, log.department)[0]
            signer = self._node.agent.log_signer(log.department, now)
            signed = sign_at(connection, fresh, anchored.size, signer, int(now))
            here = (anchors.c.log == log.number) & (anchors.c.size == anchored.size)
            if connection.scalar(select(anchors.c.size).where(here)) is None:
                connection.execute(insert(anchors).values(_row(log, anchored, int(now * 1000))))
                cosign_here(connection, self._node, fresh, signed)


@dataclass(frozen=True, slots=True)
class _LogOnDisk:
    """The `chain.anchoring.AnchorableLog` of a log row."""

    node: Node
    row: LogRow

    @property
    def log_id(self) -> bytes:
        return department_bytes(self.row.department)

    @property
    def size(self) -> int:
        return self.row.size

    @property
    def root(self) -> bytes:
        return self.row.root

    def root_at(self, size: int) -> bytes | None:
        with self.node.database.reading() as connection:
            if size > read_logs(connection, self.row.department)[0].size:
                return None
            return tree_root(size, StoredTiles(connection, self.row.number))

    def consistency_path(self, old: int, new: int) -> list[bytes]:
        with self.node.database.reading() as connection:
            return consistency_path(old, new, StoredTiles(connection, self.row.number))


def _row(log: LogRow, anchored: Anchored, now_ms: int) -> dict[str, object]:
    return {
        "log": log.number,
        "size": anchored.size,
        "chain_id": anchored.chain_id,
        "contract": anchored.contract.lower(),
        "block_number": anchored.block_number,
        "block_hash": anchored.block_hash,
        "transaction": anchored.tx_hash or bytes(32),
        "block_time": anchored.timestamp,
        "anchored_at": now_ms,
    }
