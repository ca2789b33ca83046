"""From capture to anchor: when a record was captured, sealed, acknowledged and anchored, and by whose clock.

Courts weigh what came before anchoring by other means than what came after; the delays are shown, not judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from ledger.errors import SealedElsewhere
from ledger.formats.sdjwt import parse_statement
from ledger.record_types import parse_instant
from ledger.records import RecordReader
from ledger.store.models import anchors
from ledger.store.reading import find_entry


@dataclass(frozen=True, slots=True)
class Delays:
    """The four times of a record, in seconds since 1970; None: not known. `captured_at` and `sealed_at` are by the
    sealing machine's own clock, `acknowledged_at` by the node's, `anchored_at` by the chain's. `capture` is what the
    record says of device, operator and clock; `opened`: the record could be read."""

    record_id: str
    opened: bool
    occurred_at: float | None
    captured_at: float | None
    sealed_at: float
    acknowledged_at: float
    anchored_at: float | None
    capture: dict[str, Any] | None


def read_delays(connection: Connection, reader: RecordReader, record_id: str) -> Delays:
    """The times of a record of this node. What a terminal sealed shows its own two times only to a `reader` that has
    the department's recipient key. Raises as `RecordReader.open`, but not SealedElsewhere."""
    row = find_entry(connection, record_id)
    try:
        record: dict[str, Any] | None = reader.open(connection, record_id).record()
    except SealedElsewhere:
        record = None
    here = (anchors.c.log == row.log) & (anchors.c.size > row.index)
    anchored = connection.scalar(select(anchors.c.block_time).where(here).order_by(anchors.c.size).limit(1))
    return Delays(
        record_id=row.record_id,
        opened=record is not None,
        occurred_at=_time(record, "occurred_at"),
        captured_at=_time(record, "captured_at"),
        sealed_at=_time(record, "sealed_at") or float(parse_statement(row.statement).issued_at),
        acknowledged_at=row.acknowledged_at / 1000,
        anchored_at=None if anchored is None else float(anchored),
        capture=None if record is None else record.get("capture"),
    )


def _time(record: dict[str, Any] | None, member: str) -> float | None:
    text = (record or {}).get(member)
    return None if text is None else parse_instant(text).timestamp()
