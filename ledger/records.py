"""Reading one's own records: opening the vault, presenting what may be seen, attachments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, select

from ledger.crypto.envelope import open_payload, unwrap_data_key
from ledger.crypto.stream import open_stream
from ledger.errors import PayloadInvalid, RecordRefused
from ledger.formats.sdjwt import Presentation, open_disclosures, parse_statement, serialize_presentation
from ledger.intake import attachment_context
from ledger.keks import KekRing
from ledger.store.blobs import BlobStore
from ledger.store.models import attachments, position_of
from ledger.store.reading import EntryRow, find_entry, read_logs


class RecordReader:
    """Opens records of the departments whose keys this node holds."""

    def __init__(self, keks: KekRing, blobs: BlobStore) -> None:
        self._keks = keks
        self._blobs = blobs

    def open(self, connection: Connection, record_id: str) -> Presentation:
        """The whole record, every disclosure held against its statement.

        Raises RecordRefused for an unknown or forgotten record, PayloadInvalid or DisclosureInvalid when what is
        stored is not what was sealed, KeyRefused when the department's keys are elsewhere.
        """
        return self._open(connection, find_entry(connection, record_id))

    def present(self, connection: Connection, record_id: str, units: Sequence[str] | None) -> bytes:
        """A presentation that shows `units` and withholds the rest; None shows all. Raises as `open`, and
        RecordRefused for a unit that the record does not have."""
        opened = self.open(connection, record_id)
        there = [disclosure.unit for disclosure in opened.disclosures]
        for unit in units or ():
            if unit not in there:
                raise RecordRefused("unknown-unit", f"the record has no unit {unit!r}; it has: {', '.join(there)}")
        shown = [d.text for d in opened.disclosures if units is None or d.unit in units]
        return serialize_presentation(opened.statement.ascii, shown)

    def attachment(self, connection: Connection, record_id: str, number: int) -> Iterator[bytes]:
        """The plaintext of attachment `number` (from 1), in pieces of 1 MiB. Raises as `open`, while iterating."""
        row = find_entry(connection, record_id)
        position = position_of(row.log, row.index)
        here = (attachments.c.position == position) & (attachments.c.ordinal == number)
        blob = connection.scalar(select(attachments.c.blob).where(here))
        if blob is None:
            raise RecordRefused("unknown-attachment", f"record {record_id} has no attachment {number}")
        data_key = self._data_key(connection, row)
        return open_stream(data_key, self._blobs.get(blob), attachment_context(record_id, number))

    def _open(self, connection: Connection, row: EntryRow) -> Presentation:
        data_key = self._data_key(connection, row)
        statement = parse_statement(row.statement)
        joined = open_payload(data_key, row.payload or b"", row.statement)
        return Presentation(statement, open_disclosures(statement, joined))

    def _data_key(self, connection: Connection, row: EntryRow) -> bytes:
        if row.payload is None or row.epoch is None:
            raise PayloadInvalid(f"the payload of record {row.record_id} is missing from the vault: run `yunxi audit`")
        if row.wrapped_key is None:
            raise RecordRefused(
                "forgotten", f"record {row.record_id} was forgotten: its key is destroyed, its proof stays"
            )
        department = next(log.department for log in read_logs(connection) if log.number == row.log)
        kek = self._keks.key(connection, row.log, department, row.epoch)
        return unwrap_data_key(kek, row.wrapped_key)
