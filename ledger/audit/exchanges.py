"""Disclosures: both sides' logs, and the grants on the chain. See `ledger.audit`, 13, and `ledger.disclosures`.

The audit of a log has said where it speaks of disclosures; only these entries are opened again. A page with a
department whose log is not at hand cannot be compared, and is only held against the grants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from ledger.audit.findings import LogReport
from ledger.disclosures import MADE, Difference, Grant, Side, check_grants, reconcile, side_of
from ledger.errors import YunxiError
from ledger.records import RecordReader
from ledger.store.models import position_of
from ledger.store.reading import LogRow, read_positions

FLIGHT_S = 3_600
"""How long a page may be on its way before the other side must know of it."""

_ROWS = 500


@dataclass(frozen=True, slots=True)
class Speaking:
    """A log, and the indexes of its entries that speak of disclosures."""

    connection: Connection
    reader: RecordReader
    log: LogRow
    indexes: Sequence[int]

    def sides(self) -> Iterator[Side]:
        """What it says, in its order. What cannot be opened is left out: the audit of the log has named it."""
        for place in range(0, len(self.indexes), _ROWS):
            positions = [position_of(self.log.number, index) for index in self.indexes[place : place + _ROWS]]
            for row in read_positions(self.connection, positions):
                try:
                    side = side_of(self.reader.open(self.connection, row.record_id), row.index)
                except YunxiError:
                    continue
                if side is not None:
                    yield side


def check_exchanges(
    logs: Sequence[Speaking],
    reports: Mapping[str, LogReport],
    grant_at: Callable[[int], Grant] | None,
    now: float,
) -> None:
    """Adds what does not fit to the report of the log whose record says so, and counts disclosures there.

    `grant_at` None: the chain cannot be asked, and grants are not looked at. Holds some 200 bytes a page.
    Raises what database, key agent and chain raise.
    """
    within = {speaking.log.department for speaking in logs}
    for speaking in logs:
        report = reports[speaking.log.department]
        report.disclosures += sum(side.kind == MADE for side in speaking.sides())
        if grant_at is not None:
            for difference in check_grants(speaking.sides(), grant_at):
                _add(report, difference)
    for difference in reconcile((side for speaking in logs for side in speaking.sides()), within).differences:
        if difference.kind == "not-received" and difference.at > now - FLIGHT_S:
            difference = replace(difference, kind="in-flight")
        _add(reports[difference.teller], difference)


def _add(report: LogReport, found: Difference) -> None:
    owner, requester, extraction, page = found.page
    others = tuple(name for name in (owner, requester) if name != report.department)
    where = f"page {page} of extraction {extraction} from {owner} to {requester}"
    report.add(found.kind, where, found.sentence, found.index, found.record_id, others=others)
