"""What a node writes down about its witnesses: their cosignatures, and how asking them went."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from ledger.errors import Refusal, YunxiError
from ledger.formats.note import VerifierKey
from ledger.store.models import anchors, checkpoints, cosignatures
from ledger.store.models import witness_calls as calls
from ledger.witness.client import Cosignature

UNANCHORED_S = 30
"""After so long without an anchor a checkpoint is shown to witnesses all the same, for them to date it."""


@dataclass(frozen=True, slots=True)
class Call:
    """How asking a witness for a log went last. `refused`: it decided against us, rather than not answering."""

    asked_at: int
    problem: str | None
    refused: bool


def keep_cosignature(connection: Connection, log: int, size: int, cosignature: Cosignature) -> None:
    """Attaches a verified cosignature to the checkpoint at `size`. The first one stays: it is the earliest time."""
    witness = str(cosignature.witness)
    if connection.scalar(select(cosignatures.c.size).where(_at(log, size, witness))) is None:
        row = {"log": log, "size": size, "witness": witness, "line": cosignature.line, "time": cosignature.time}
        connection.execute(insert(cosignatures).values(row))


def cosigned_size(connection: Connection, log: int, witness: VerifierKey) -> int:
    """The largest size of a log that we hold this witness's cosignature for, 0 for none."""
    here = (cosignatures.c.log == log) & (cosignatures.c.witness == str(witness))
    return connection.scalar(select(func.max(cosignatures.c.size)).where(here)) or 0


def cosigned_time(connection: Connection, log: int, witness: VerifierKey) -> int | None:
    """When it cosigned that, in seconds since 1970 by its own clock; None for never."""
    here = (cosignatures.c.log == log) & (cosignatures.c.witness == str(witness))
    return connection.scalar(select(cosignatures.c.time).where(here).order_by(cosignatures.c.size.desc()).limit(1))


def note_call(connection: Connection, log: int, witness: VerifierKey, now: int, problem: YunxiError | None) -> None:
    """Remembers how asking went, in the place of the time before."""
    here = (calls.c.log == log) & (calls.c.witness == str(witness))
    connection.execute(delete(calls).where(here))
    row = {"log": log, "witness": str(witness), "asked_at": now, "refused": isinstance(problem, Refusal)}
    connection.execute(insert(calls).values(row | {"problem": None if problem is None else str(problem)[:500]}))


def last_call(connection: Connection, log: int, witness: VerifierKey) -> Call | None:
    """How asking went last; None for never asked."""
    here = (calls.c.log == log) & (calls.c.witness == str(witness))
    row = connection.execute(select(calls).where(here)).one_or_none()
    return None if row is None else Call(row.asked_at, row.problem, bool(row.refused))


def size_to_show(connection: Connection, log: int, now: int) -> int:
    """The checkpoint that witnesses are to see next: the newest anchored one, because receipts are made under these; a
    newer one only when it has waited long for its anchor. 0 for none."""
    anchored = connection.scalar(select(func.max(anchors.c.size)).where(anchors.c.log == log)) or 0
    waiting = (checkpoints.c.log == log) & (checkpoints.c.signed_at <= now - UNANCHORED_S)
    return max(anchored, connection.scalar(select(func.max(checkpoints.c.size)).where(waiting)) or 0)


def _at(log: int, size: int, witness: str) -> ColumnElement[bool]:
    here = (cosignatures.c.log == log) & (cosignatures.c.size == size)
    return here & (cosignatures.c.witness == witness)
