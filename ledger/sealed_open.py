"""Opening what a terminal sealed, where the department's recipient key is: away from any node.

A node hands a sealed record out as one file, which is as unreadable as it is at the node:

    file = zip of  record.json     {"format", "v", "department", "record_id", "terminal": kid, "statement", "payload",
                                    "wrapped_key", "kek": {"name", "recipient", "wrapped"}}, bytes as b64url
                   attachment-N    the sealed attachments, as they lie in the node's blob store

The recipient key lies in a file of its own, sealed with a passphrase as the keystore is.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlalchemy import Connection

from ledger.attachments import attachment_context, list_blobs
from ledger.crypto.envelope import open_payload, terminal_kek_info, unwrap_data_key, unwrap_kek
from ledger.crypto.stream import open_stream
from ledger.errors import CouldNotRun, KeyRefused, Malformed, RecordRefused
from ledger.formats.encoding import b64decode, b64encode, b64url_decode, b64url_encode
from ledger.formats.jwk import kid_of
from ledger.formats.sdjwt import Presentation, open_disclosures, parse_statement, serialize_presentation
from ledger.formats.strictjson import loads_object
from ledger.keks import KekRing
from ledger.keystore import open_secrets, seal_secrets
from ledger.store.blobs import CHUNK_BYTES, Blobs
from ledger.store.models import position_of
from ledger.store.reading import find_entry, read_logs

FORMAT = "yunxi-sealed-record"
MAX_RECORD_BYTES = 16 << 20

_RECORD = "record.json"
_BYTES = ("payload", "wrapped_key")


def create_recipient(path: Path, department: str, passphrase: str) -> X25519PrivateKey:
    """Draws a department's recipient key and writes it, sealed with `passphrase`; CouldNotRun where a file is."""
    if path.exists():
        raise CouldNotRun(f"{path} is there already: a recipient key is never written over; name another file")
    key = X25519PrivateKey.generate()
    seal_secrets(path, passphrase, {"department": department, "recipient": b64encode(key.private_bytes_raw())})
    return key


def open_recipient(path: Path, passphrase: str) -> X25519PrivateKey:
    """The key that `create_recipient` wrote. Raises CouldNotRun for another file or passphrase."""
    content = open_secrets(path, passphrase)
    if not isinstance(content.get("recipient"), str):
        raise CouldNotRun(f"{path} is not a recipient key: name the file that `yunxi terminal recipient` wrote")
    return X25519PrivateKey.from_private_bytes(b64decode(content["recipient"], "recipient key"))


def export_sealed(connection: Connection, ring: KekRing, blobs: Blobs, record_id: str, path: Path) -> None:
    """Writes a sealed record for its department. Raises RecordRefused for an unknown or forgotten record and for one
    that no terminal sealed, PayloadInvalid where the node has lost a part of it."""
    row = find_entry(connection, record_id)
    if row.epoch is None or row.payload is None or row.wrapped_key is None:
        raise RecordRefused("forgotten", f"record {record_id} was forgotten, or its payload is gone: run `yunxi audit`")
    kek = ring.stored(connection, row.log, row.epoch)
    if kek.terminal is None or kek.name is None:
        raise RecordRefused("not-a-terminal", f"record {record_id} was sealed by its node: use `yunxi present`")
    members = {
        "format": FORMAT,
        "v": 1,
        "department": next(log.department for log in read_logs(connection) if log.number == row.log),
        "record_id": row.record_id,
        "terminal": kek.terminal,
        "statement": row.statement.decode("ascii"),
        "payload": b64url_encode(row.payload),
        "wrapped_key": b64url_encode(row.wrapped_key),
        "kek": {
            "name": b64url_encode(kek.name),
            "recipient": kek.recipient,
            "wrapped": b64url_encode(kek.wrapped),
        },
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(_RECORD, json.dumps(members))
        for number, blob in enumerate(list_blobs(connection, position_of(row.log, row.index)), 1):
            with archive.open(f"attachment-{number}", "w", force_zip64=True) as target:
                for chunk in blobs.get(blob.name):
                    target.write(chunk)


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A sealed record, opened: its presentation, whole, and the key that its attachments are under."""

    presentation: Presentation
    path: Path
    data_key: bytes

    def present(self, units: Sequence[str] | None) -> bytes:
        """A presentation that shows `units` (None: all). Raises RecordRefused for a unit that the record lacks."""
        there = [disclosure.unit for disclosure in self.presentation.disclosures]
        for unit in units or ():
            if unit not in there:
                raise RecordRefused("unknown-unit", f"the record has no unit {unit!r}; it has: {', '.join(there)}")
        shown = [d.text for d in self.presentation.disclosures if units is None or d.unit in units]
        return serialize_presentation(self.presentation.statement.ascii, shown)

    def attachment(self, number: int) -> Iterator[bytes]:
        """The plaintext of attachment `number` (from 1), in pieces of 1 MiB. Raises RecordRefused, PayloadInvalid."""
        context = attachment_context(self.presentation.statement.record_id, number)
        with zipfile.ZipFile(self.path) as archive:
            try:
                source = archive.open(f"attachment-{number}")
            except KeyError as error:
                raise RecordRefused("unknown-attachment", f"the file has no attachment {number}") from error
            with source:
                yield from open_stream(self.data_key, iter(lambda: source.read(CHUNK_BYTES), b""), context)


def open_sealed(path: Path, recipient: X25519PrivateKey) -> SealedFile:
    """Opens what `export_sealed` wrote; every disclosure is held against the statement, whose signature is not checked.

    Raises Malformed, KeyRefused for another department's recipient key, PayloadInvalid or DisclosureInvalid when
    anything differs from what was sealed.
    """
    members = _read(path)
    statement = parse_statement(_text(members, "statement").encode())
    kek = members["kek"]
    if kek["recipient"] != kid_of(recipient.public_key()):
        raise KeyRefused(f"the record was sealed to another recipient key ({kek['recipient'][:12]}…)")
    info = terminal_kek_info(statement.issuer, statement.kid, b64url_decode(kek["name"], FORMAT))
    key = unwrap_kek(b64url_decode(kek["wrapped"], FORMAT), recipient, info)
    payload, wrapped = (b64url_decode(_text(members, name), FORMAT) for name in _BYTES)
    data_key = unwrap_data_key(key, wrapped)
    joined = open_payload(data_key, payload, statement.ascii)
    return SealedFile(Presentation(statement, open_disclosures(statement, joined)), path, data_key)


def _read(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(_RECORD).file_size > MAX_RECORD_BYTES:
                raise Malformed(FORMAT, "the record is too large")
            data = archive.read(_RECORD)
    except FileNotFoundError as error:
        raise CouldNotRun(f"{path} is not there: name the file that `yunxi terminal export` wrote") from error
    except (zipfile.BadZipFile, KeyError) as error:
        raise Malformed(FORMAT, "not a file that `yunxi terminal export` wrote, or it is damaged") from error
    members = loads_object(data, what=FORMAT, max_bytes=MAX_RECORD_BYTES)
    kek = members.get("kek")
    if members.get("format") != FORMAT or members.get("v") != 1 or not isinstance(kek, dict):
        raise Malformed(FORMAT, "is another file, or of a version that this one does not know")
    for name in ("name", "recipient", "wrapped"):
        _text(kek, name)
    return members


def _text(members: dict[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str):
        raise Malformed(FORMAT, f"member {name} must be a text")
    return value
