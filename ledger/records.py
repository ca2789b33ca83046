"""Reading one's own records: opening the vault, presenting what may be seen, attachments."""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Container, Iterator, Sequence

import orjson
from sqlalchemy import Connection

from ledger.attachments import find_blob, open_attachment
from ledger.crypto.envelope import open_payload, unwrap_data_key
from ledger.errors import DisclosureInvalid, PayloadInvalid, RecordRefused
from ledger.formats.sdjwt import Presentation, open_disclosures, parse_statement, serialize_presentation
from ledger.keks import KekRing
from ledger.store.blobs import Blobs
from ledger.store.models import position_of
from ledger.store.reading import EntryRow, find_entries, find_entry, read_logs

_IDS_A_QUERY = 500
_BEFORE_UNIT, _AFTER_SALT = 36, b"Iiwi"
"""A disclosure of ours begins with `["`, a salt of 22 characters and `","`: 27 bytes, 36 characters of base64url, of
which the last 4 are always these."""
_UNIT_CHARS = 44
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class RecordReader:
    """Opens records of the departments whose keys this node holds."""

    def __init__(self, keks: KekRing, blobs: Blobs) -> None:
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

    def bare(self, connection: Connection, record_id: str) -> bytes:
        """A presentation that withholds everything, also of a forgotten record. Raises RecordRefused for an unknown
        one."""
        return serialize_presentation(find_entry(connection, record_id).statement, [])

    def present_list(
        self, connection: Connection, record_ids: Sequence[str], units: Container[str] | None
    ) -> Iterator[bytes]:
        """Presentations of many records, in their order and as `present` gives them, at a seventh of its cost.

        Where a record lacks one of `units`, the others are shown: types differ and units are optional. Raises as
        `open`, while iterating. Holds 500 records at a time.
        """
        departments = {log.number: log.department for log in read_logs(connection)}
        for start in range(0, len(record_ids), _IDS_A_QUERY):
            for row in find_entries(connection, record_ids[start : start + _IDS_A_QUERY]):
                joined = self._open_payload(connection, row, departments[row.log])
                texts = split_disclosures(row.statement, joined)
                shown = texts if units is None else [text for text in texts if unit_of(text) in units]
                yield b"~".join([row.statement, *shown, b""])

    def texts(self, connection: Connection, row: EntryRow, department: str) -> list[bytes]:
        """The disclosures of an entry of the department's log, in their order, as `present_list` finds them; raises as
        `open`."""
        return split_disclosures(row.statement, self._open_payload(connection, row, department))

    def attachment(self, connection: Connection, record_id: str, number: int) -> Iterator[bytes]:
        """The plaintext of attachment `number` (from 1), in pieces of 1 MiB. Raises as `open`, while iterating."""
        row = find_entry(connection, record_id)
        blob = find_blob(connection, position_of(row.log, row.index), number)
        if blob is None:
            raise RecordRefused("unknown-attachment", f"record {record_id} has no attachment {number}")
        data_key = self._data_key(connection, row, _department_of(connection, row))
        return open_attachment(self._blobs, blob, data_key, record_id, number)

    def _open(self, connection: Connection, row: EntryRow) -> Presentation:
        statement = parse_statement(row.statement)
        joined = self._open_payload(connection, row, _department_of(connection, row))
        return Presentation(statement, open_disclosures(statement, joined))

    def _open_payload(self, connection: Connection, row: EntryRow, department: str) -> bytes:
        return open_payload(self._data_key(connection, row, department), row.payload or b"", row.statement)

    def _data_key(self, connection: Connection, row: EntryRow, department: str) -> bytes:
        if row.payload is None or row.epoch is None:
            raise PayloadInvalid(f"the payload of record {row.record_id} is missing from the vault: run `yunxi audit`")
        if row.wrapped_key is None:
            raise RecordRefused(
                "forgotten", f"record {row.record_id} was forgotten: its key is destroyed, its proof stays"
            )
        kek = self._keks.key(connection, row.log, department, row.epoch)
        return unwrap_data_key(kek, row.wrapped_key)


def split_disclosures(statement: bytes, joined: bytes, digests: Sequence[str] | None = None) -> list[bytes]:
    """The disclosures in an opened payload, after each was found in the statement and none is missing.

    `digests`: the statement's `_sd`, where the caller has read it. The payload opened under the statement's hash and
    the statement stands in the log, so the quick parser will do; that the statement itself is sound is not checked.
    Raises DisclosureInvalid.
    """
    if digests is None:
        digests = orjson.loads(_b64url_decode(statement.split(b".")[1]))["_sd"]
    texts = joined.split(b"~")[:-1]
    # one translation for all of them; each digest is 44 characters of base64, the last of them padding
    encoded = b"".join([binascii.b2a_base64(hashlib.sha256(text).digest(), newline=False) for text in texts])
    hashed = encoded.translate(_TO_URL_SAFE).decode("ascii")
    if sorted([hashed[start : start + 43] for start in range(0, len(hashed), 44)]) != digests:
        raise DisclosureInvalid("the disclosures in the stored payload are not those of the statement")
    return texts


def unit_of(text: bytes) -> str:
    """The unit that a disclosure shows, where it was found in its statement."""
    if text[_BEFORE_UNIT - 4 : _BEFORE_UNIT] == _AFTER_SALT:
        # read no further than the name: what follows it may be long
        name, ended, _ = _b64url_decode(text[_BEFORE_UNIT : _BEFORE_UNIT + _UNIT_CHARS]).partition(b'"')
        if ended and b"\\" not in name:
            return name.decode()
    unit: str = orjson.loads(_b64url_decode(text))[1]
    return unit


def _b64url_decode(text: bytes) -> bytes:
    # for what was found authentic: formats.encoding's strict decoder costs five times as much
    return binascii.a2b_base64(text.translate(_FROM_URL_SAFE) + b"==")


def _department_of(connection: Connection, row: EntryRow) -> str:
    return next(log.department for log in read_logs(connection) if log.number == row.log)
