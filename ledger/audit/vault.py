"""What lies in the vault for an entry: payload, attachments, and what may be missing because it was forgotten."""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson
from sqlalchemy import Connection

from ledger.attachments import find_blob, list_blobs, open_attachment
from ledger.audit.bench import Bench, Beside, HoldEvent, Stretch
from ledger.audit.statements import Claimed
from ledger.crypto.blind import content_key, content_mark
from ledger.crypto.envelope import check_payload, open_payload, unwrap_data_key
from ledger.disclosures import SPEAKING
from ledger.errors import DisclosureInvalid, NotProven, RecordRefused, SealedElsewhere, YunxiError
from ledger.feeds import probe_key, report_key, withdrawn_key
from ledger.forgetting import DESTROYED, find_destruction, is_emptied
from ledger.formats.casefile import DECISION
from ledger.formats.manifest import NAME
from ledger.formats.merkle import leaf_hash
from ledger.formats.sdjwt import Presentation, open_disclosures, parse_statement
from ledger.formats.tiles import tree_root
from ledger.freeze import case_lines, check_manifest
from ledger.holds import LIFTED, PLACED, scopes_of
from ledger.matters import list_key
from ledger.record_types import BUILT_IN
from ledger.records import split_disclosures
from ledger.retention import is_kept
from ledger.seal import subject_indexes
from ledger.store.models import position_of
from ledger.store.reading import EntryRow, StoredTiles, find_entry, read_logs
from ledger.submission import content_of, service_key

_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_CLEAR = ("matter", "case", "inspection", "amends")
_ATTACHMENT = "attachment-"


class VaultAudit:
    """Opens what is stored for the entries of one stretch. Adds to the stretch; raises what database and keys raise."""

    def __init__(self, connection: Connection, bench: Bench, stretch: Stretch) -> None:
        self._connection = connection
        self._bench = bench
        self._report = stretch.report
        self._stretch = stretch
        self._own = bench.own_kids()
        self._mark_key = content_key(bench.agent.index_key(), bench.log.department)
        self._keks_open: dict[int, bytes] = {}

    def check(self, row: EntryRow, claimed: Claimed, beside: Beside) -> None:
        """One entry whose statement is good, and what stands beside it."""
        if not row.payload or row.epoch is None or row.wrapped_key is None:
            self._check_forgotten(row)
            return
        thing = None
        try:
            thing = f"kek {row.epoch}"
            kek = self._kek(row.epoch)
            thing = None
            data_key = unwrap_data_key(kek, row.wrapped_key)
            joined = open_payload(data_key, row.payload, row.statement)
            split_disclosures(row.statement, joined, claimed.claims["_sd"])
            units = _read_units(joined, row.record_id)
        except SealedElsewhere:
            self._check_unopened(row)
            return
        except YunxiError as error:
            self._found(row, "payload-changed", f"the stored ciphertext of record {row.record_id}: {error}", thing)
            return
        self._report.payloads += 1
        record, described = _assemble(claimed.claims, units)
        if claimed.kid in self._own and beside.mark != self._mark_of(claimed, record, described):
            self._found(row, "mark-changed", f"the content mark of record {row.record_id} is not that of its content")
        for number, members in enumerate(described, 1):
            self._check_attachment(row, number, members, data_key)
        if beside.blobs > len(described):
            extra = f"{beside.blobs} attachments are stored for record {row.record_id}, it names {len(described)}"
            self._found(row, "attachment-unknown", extra)
        if not self._fits_its_type(row, claimed, record, units, described):
            return  # nothing that such a record says can be followed
        if claimed.claims["subj"] != subject_indexes(self._bench.agent.index_key(), record):
            sentence = f"the blind indexes of record {row.record_id} are not those of its subjects: who asks misses it"
            self._found(row, "subjects-differ", sentence)
        wanted = _key_of(claimed.type, record)
        if wanted is not None and beside.key != wanted:
            sentence = f"record {row.record_id} stands under key {beside.key[:100]}, and is found under {wanted[:100]}"
            self._found(row, "key-changed", sentence)
        if claimed.type in SPEAKING:
            self._stretch.exchanges.append(row.index)
        self._follow(row, claimed, record)
        if claimed.type == DECISION:
            self._check_manifest(row, claimed, record, len(described), data_key)

    def _fits_its_type(
        self,
        row: EntryRow,
        claimed: Claimed,
        record: Mapping[str, Any],
        units: list[tuple[str, dict[str, Any]]],
        described: list[Mapping[str, Any]],
    ) -> bool:
        """Whether the record is one that intake could have taken under the types as their files have them now, which
        for a version that has sealed records never change."""
        if self._bench.types is None:
            return True
        claims = claimed.claims
        whole = {"id": row.record_id, "type": claims["type"], "v": claims["v"], "department": claims["iss"], **record}
        if described:
            whole["attachments"] = described
        name = f"{claims['type']} v{claims['v']}"
        try:
            kind = self._bench.types.validate(
                whole, max(row.acknowledged_at / 1000, claimed.issued_at), by_service=True
            )
            owner = kind.member_unit
            for unit, members in units:
                for member in () if unit.startswith(_ATTACHMENT) else members:
                    if owner.get(member) != unit:
                        raise RecordRefused("schema", f"unit {unit[:40]!r} shows members that the type puts elsewhere")
        except RecordRefused as error:
            unknown = error.reason == "unknown-type"
            said = "of a type that this node does not know" if unknown else f"not one of type {name}"
            sentence = f"record {row.record_id} is {said}: {error}"
            if not (BUILT_IN / f"{claims['type']}.v{claims['v']}.json").is_file():
                sentence += "; or the type's file was changed since it was sealed: compare it with the one in force"
            self._found(row, "type-unknown" if unknown else "record-invalid", sentence, f"type {name}")
            return False
        return True

    # -- what a record says of others --

    def _follow(self, row: EntryRow, claimed: Claimed, record: Mapping[str, Any]) -> None:
        """Notes what holds and certificates say; whether a hold was in force then shows in the whole log."""
        if claimed.type == PLACED:
            self._event("placed", row, (str(record.get("scope")), str(record.get("value"))))
        elif claimed.type == LIFTED:
            self._event("lifted", row, (str(record.get("hold")),))
        elif claimed.type == DESTROYED:
            self._check_certificate(row, claimed, record)

    def _check_certificate(self, row: EntryRow, claimed: Claimed, record: Mapping[str, Any]) -> None:
        name = str(record.get("record"))
        gone = None
        with suppress(YunxiError):
            gone = find_entry(self._connection, name)
            claims = parse_statement(gone.statement).payload
        if (
            gone is None
            or gone.log != row.log
            or gone.index >= row.index
            or leaf_hash(gone.statement).hex() != record.get("leaf")
        ):
            self._found(row, "certificate-wrong", f"certificate {row.record_id} is of no earlier record of this log")
            return
        if not is_emptied(self._connection, gone):
            self._found(row, "not-destroyed", f"record {name} is stored, but {row.record_id} certifies its destruction")
        if is_kept(claims["type"], claims["iat"], claimed.issued_at):
            sentence = f"record {name} of type {claims['type']} was destroyed, and such records are kept"
            self._found(row, "kept-destroyed", sentence)
        if record.get("reason_kind") != "retention" and len({o["id"] for o in record.get("officers", ())}) < 2:
            sentence = f"certificate {row.record_id} does not name the two officers who decide that a record goes"
            self._found(row, "certificate-wrong", sentence)
        covered = scopes_of(name, claims)
        self._event("destroyed", row, (name, *(part for scope in covered for part in scope)))

    def _check_manifest(
        self, row: EntryRow, claimed: Claimed, record: Mapping[str, Any], number: int, data_key: bytes
    ) -> None:
        """The manifest of a decision against the log before it. The table of cases is held against the statements."""
        if "manifest" not in record:
            sentence = f"decision {row.record_id} froze nothing: it was sealed without the manifest of its case"
            self._found(row, "manifest-missing", sentence)
            return
        blob = find_blob(self._connection, position_of(row.log, row.index), number)
        if blob is None:
            return  # named as missing already
        text = open_attachment(self._bench.blobs, blob, data_key, row.record_id, number)
        case = case_lines(self._connection, row.log, str(claimed.claims.get("case")), row.index)
        try:
            root = tree_root(row.index, StoredTiles(self._connection, row.log))
            check_manifest(record["manifest"], text, row.index, root, case)
        except (YunxiError, KeyError, TypeError) as error:
            said = error if isinstance(error, YunxiError) else NotProven("the manifest's member has another form")
            self._found(row, "manifest-wrong", f"the manifest of decision {row.record_id}: {said}")
            return
        self._report.manifests += 1

    # -- what is gone, or closed --

    def _check_forgotten(self, row: EntryRow) -> None:
        """The certificate comes later in the log, perhaps after the audit began: the table says where, the log says
        whether it is one."""
        found = find_destruction(self._connection, row)
        if found is not None and row.index < found.by_index < self._size():
            with suppress(YunxiError):
                certificate = find_entry(self._connection, found.by_record)
                statement = parse_statement(certificate.statement)
                if (certificate.log, statement.type) == (row.log, DESTROYED):
                    record = self._record(certificate)
                    if (record.get("record"), record.get("leaf")) == (row.record_id, leaf_hash(row.statement).hex()):
                        self._report.forgotten += 1
                        return
        sentence = f"{_lost(row)} of record {row.record_id} is gone, and no certificate says that it was destroyed"
        self._found(row, "payload-missing", sentence)

    def _check_unopened(self, row: EntryRow) -> None:
        """What can be said of a record that a terminal sealed: its ciphertexts are there and have their form."""
        try:
            check_payload(row.payload or b"")
            for blob in list_blobs(self._connection, position_of(row.log, row.index)):
                next(self._bench.blobs.get(blob.name), b"")
        except YunxiError as error:
            self._found(row, "payload-changed", f"the stored ciphertext of record {row.record_id}: {error}")
            return
        self._report.sealed_elsewhere += 1

    # -- attachments --

    def _check_attachment(self, row: EntryRow, number: int, members: Mapping[str, Any], data_key: bytes) -> None:
        blob = find_blob(self._connection, position_of(row.log, row.index), number)
        what = f"attachment {number} of record {row.record_id}"
        if blob is None:
            self._found(row, "attachment-missing", f"{what} has no row in the vault")
            return
        digest, size = hashlib.sha256(), 0
        try:
            for piece in open_attachment(self._bench.blobs, blob, data_key, row.record_id, number):
                digest.update(piece)
                size += len(piece)
        except YunxiError as error:
            self._found(row, "attachment-changed", str(error))
            return
        self._report.attachments += 1
        if (size, digest.hexdigest()) != (members.get("size"), members.get("sha256")):
            self._found(row, "attachment-changed", f"{what} (blob {blob.name}) is not the file that was sealed")

    # -- small things --

    def _mark_of(self, claimed: Claimed, record: Mapping[str, Any], described: list[Mapping[str, Any]]) -> bytes:
        """What intake computed over the content as it was handed in."""
        claims = claimed.claims
        content = {**record, "type": claims["type"], "v": claims["v"], "department": claims["iss"]}
        if claimed.type == DECISION and content.pop("manifest", None) is not None:
            described = [members for members in described if members.get("name") != NAME]
        if described:
            content["attachments"] = described
        return content_mark(self._mark_key, content_of(content))

    def _record(self, row: EntryRow) -> dict[str, Any]:
        data_key = unwrap_data_key(self._kek(row.epoch or 0), row.wrapped_key or b"")
        opened = parse_statement(row.statement)
        joined = open_payload(data_key, row.payload or b"", row.statement)
        return Presentation(opened, open_disclosures(opened, joined)).record()

    def _kek(self, epoch: int) -> bytes:
        key = self._keks_open.get(epoch)
        if key is None:
            log = self._bench.log
            key = self._bench.keks.key(self._connection, log.number, log.department, epoch)
            self._keks_open[epoch] = key
        return key

    def _size(self) -> int:
        return read_logs(self._connection, self._bench.log.department)[0].size

    def _event(self, kind: str, row: EntryRow, values: tuple[str, ...]) -> None:
        self._stretch.holds.append(HoldEvent(kind, row.index, row.record_id, values))

    def _found(self, row: EntryRow, kind: str, sentence: str, thing: str | None = None) -> None:
        self._report.add(kind, f"entry {row.index}", sentence, row.index, row.record_id, thing=thing)


def _lost(row: EntryRow) -> str:
    """What of an entry's vault row is not there. Forgetting takes key and ciphertext and leaves the row."""
    if row.payload is None:
        return "the vault row"
    if row.payload:
        return "the data key"
    return "the payload" if row.wrapped_key is None else "the ciphertext (but not the data key)"


def _read_units(joined: bytes, record_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Unit and members of each disclosure, after each was found in its statement. Raises DisclosureInvalid where one
    is something else: its sealer held the department's keys, and was no sealer of ours."""
    decode, loads = binascii.a2b_base64, orjson.loads
    try:
        # one translation for all of them
        opened = [loads(decode(text + b"==")) for text in joined.translate(_FROM_URL_SAFE).split(b"~")[:-1]]
        found = [(unit, members) for _, unit, members in opened]
    except (ValueError, TypeError) as error:
        raise DisclosureInvalid(f"a disclosure of record {record_id} is none: {error}") from error
    for unit, members in found:
        if type(unit) is not str or type(members) is not dict:
            raise DisclosureInvalid(f"a disclosure of record {record_id} is not a unit with its members")
    return found


def _assemble(
    claims: Mapping[str, Any], units: list[tuple[str, dict[str, Any]]]
) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
    """The record's members, clear ones included, and the descriptions of its attachments."""
    record: dict[str, Any] = {}
    described: list[Mapping[str, Any]] = []
    for unit, members in units:
        if unit.startswith(_ATTACHMENT):
            described.append(members)
        else:
            record |= members
    return record | {name: claims[name] for name in _CLEAR if name in claims}, described


def _key_of(kind: str, record: Mapping[str, Any]) -> str | None:
    """The key that a record which is looked for by its key stands under; None for all others."""
    if kind == "feed.report":
        return service_key(report_key(record["feed"], record["seq"]))
    if kind == "feed.probe":
        return service_key(probe_key(record["feed"], record["token_sha256"]))
    if kind == "feed.withdrawn":
        return service_key(withdrawn_key(record["feed"], record["record"]))
    if kind == "matters.published":
        return service_key(list_key(record["list_version"]))
    return service_key(f"destroyed/{record['record']}") if kind == DESTROYED else None
