"""Batches of sealed records between terminals and their node, and the answers: the one place that knows their JSON.

    batch    = {"department", "records": [record …]}                                     at most 500 records, 16 MiB
    record   = {"key": idempotency key, "mark": b64url(16 bytes), "statement": text, "payload": b64url,
                "wrapped_key": b64url(40 bytes), "kek": kek, "blobs": [blob …]}
    kek      = {"name": b64url(16 bytes), "recipient": kid, "wrapped": b64url(80 bytes)}   see crypto.envelope
    blob     = {"upload": id, "sha256": hex of the ciphertext's digest, "size": bytes}     attachments, in order
    answer   = {"outcomes": [{"key", "record_id", "index", "new"} | {"key", "code", "reason", "message"} …]}

Strict: a member too many, missing or of another type is refused. Every bound is checked before anything is decoded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ledger.crypto.envelope import WRAPPED_KEK_BYTES, WRAPPED_KEY_BYTES
from ledger.errors import Conflict, Malformed, RecordRefused
from ledger.formats.encoding import b64url_decode, b64url_encode, hex_decode
from ledger.formats.sdjwt import MAX_STATEMENT_BYTES
from ledger.formats.strictjson import loads_object
from ledger.submission import MAX_KEY_CHARS, Acknowledged, Outcome, Refused

MAX_BATCH_BYTES = 16 << 20
MAX_RECORDS = 500
MAX_PAYLOAD_BYTES = 4 << 20
MAX_BLOBS = 50
MARK_BYTES = NAME_BYTES = 16

_WHAT = "sealed batch"
_ANSWER = "answer to a sealed batch"


@dataclass(frozen=True, slots=True)
class SealedKek:
    """A key-encryption key that a terminal drew: its name (16 random bytes), and itself wrapped (80 bytes) to the
    department's recipient key with the kid `recipient`."""

    name: bytes
    recipient: str
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class SealedBlob:
    """A sealed attachment, uploaded before its record (`ledger.uploads`, sealed): id, SHA-256 (hex) and size of the
    ciphertext."""

    upload: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class SealedSubmission:
    """A record that a terminal sealed, on its way in. `mark` (16 bytes) is equal for equal content under one key; only
    the terminal can make or test it."""

    key: str
    mark: bytes
    statement: bytes
    payload: bytes
    wrapped_key: bytes
    kek: SealedKek
    blobs: tuple[SealedBlob, ...] = ()

    def size(self) -> int:
        """About how many bytes of a batch it takes."""
        return len(self.statement) + len(self.payload) * 4 // 3 + 1_000 + 120 * len(self.blobs)


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """What a terminal submits. Who signed the request must be held against `department` by whoever took it."""

    department: str
    records: tuple[SealedSubmission, ...]


def encode_batch(batch: SealedBatch) -> bytes:
    """The JSON of a batch."""
    records = [encode_record(record) for record in batch.records]
    return json.dumps({"department": batch.department, "records": records}, separators=(",", ":")).encode()


def decode_batch(body: bytes) -> SealedBatch:
    """The batch that `body` holds. Raises Malformed, naming the place; nothing of its content is checked yet."""
    members = loads_object(body, what=_WHAT, max_bytes=MAX_BATCH_BYTES)
    _check_names(members, {"department", "records"}, "the batch")
    records = _list(members, "records", MAX_RECORDS, "the batch")
    return SealedBatch(_text(members, "department", 31, "the batch"), tuple(map(decode_record, records)))


def encode_record(record: SealedSubmission) -> dict[str, Any]:
    """One record of a batch, as JSON values."""
    return {
        "key": record.key,
        "mark": b64url_encode(record.mark),
        "statement": record.statement.decode("ascii"),
        "payload": b64url_encode(record.payload),
        "wrapped_key": b64url_encode(record.wrapped_key),
        "kek": {
            "name": b64url_encode(record.kek.name),
            "recipient": record.kek.recipient,
            "wrapped": b64url_encode(record.kek.wrapped),
        },
        "blobs": [asdict(blob) for blob in record.blobs],
    }


def decode_record(value: Any) -> SealedSubmission:
    """The inverse of `encode_record`. Raises Malformed."""
    where = "a record"
    members = _object(value, {"key", "mark", "statement", "payload", "wrapped_key", "kek", "blobs"}, where)
    kek = _object(members["kek"], {"name", "recipient", "wrapped"}, "a kek")
    statement = _text(members, "statement", MAX_STATEMENT_BYTES, where)
    if not statement.isascii():
        raise Malformed(_WHAT, "a statement is ASCII")
    return SealedSubmission(
        key=_text(members, "key", MAX_KEY_CHARS, where),
        mark=_bytes(members, "mark", MARK_BYTES, where),
        statement=statement.encode("ascii"),
        payload=b64url_decode(_text(members, "payload", MAX_PAYLOAD_BYTES * 4 // 3 + 4, where), _WHAT),
        wrapped_key=_bytes(members, "wrapped_key", WRAPPED_KEY_BYTES, where),
        kek=SealedKek(
            name=_bytes(kek, "name", NAME_BYTES, "a kek"),
            recipient=_text(kek, "recipient", 43, "a kek"),
            wrapped=_bytes(kek, "wrapped", WRAPPED_KEK_BYTES, "a kek"),
        ),
        blobs=tuple(map(_blob, _list(members, "blobs", MAX_BLOBS, where))),
    )


def encode_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    """The JSON of the answer."""
    return json.dumps({"outcomes": [_outcome(outcome) for outcome in outcomes]}, ensure_ascii=False).encode()


def decode_outcomes(body: bytes, count: int) -> list[Outcome]:
    """The inverse; there must be `count` of them. A refusal is RecordRefused or Conflict. Raises Malformed."""
    members = loads_object(body, what=_ANSWER, max_bytes=MAX_BATCH_BYTES)
    found = members.get("outcomes")
    if not isinstance(found, list) or len(found) != count:
        raise Malformed(_ANSWER, f"must have {count} outcomes")
    return [_read_outcome(item) for item in found]


def _outcome(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Acknowledged):
        return {"key": outcome.key, "record_id": outcome.record_id, "index": outcome.index, "new": outcome.new}
    error = outcome.error
    return {"key": outcome.key, "code": error.code, "reason": error.reason, "message": str(error)}


def _read_outcome(item: Any) -> Outcome:
    try:
        if "record_id" in item:
            return Acknowledged(str(item["key"]), str(item["record_id"]), int(item["index"]), bool(item["new"]))
        kind = Conflict if item["code"] == Conflict.code else RecordRefused
        return Refused(str(item["key"]), kind(str(item["reason"]), str(item["message"])))
    except (KeyError, TypeError, ValueError) as error:
        raise Malformed(_ANSWER, "an outcome is neither an acknowledgement nor a refusal") from error


def _blob(value: Any) -> SealedBlob:
    members = _object(value, {"upload", "sha256", "size"}, "a blob")
    size = members["size"]
    if type(size) is not int or size < 0:
        raise Malformed(_WHAT, "a blob's size is a whole number, not negative")
    digest = hex_decode(_text(members, "sha256", 64, "a blob"), 32, _WHAT)
    return SealedBlob(_text(members, "upload", 32, "a blob"), digest.hex(), size)


def _object(value: Any, names: set[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed(_WHAT, f"{where} must be an object")
    _check_names(value, names, where)
    return value


def _check_names(members: dict[str, Any], names: set[str], where: str) -> None:
    if members.keys() != names:
        raise Malformed(_WHAT, f"{where} must have exactly the members {', '.join(sorted(names))}")


def _list(members: dict[str, Any], name: str, most: int, where: str) -> list[Any]:
    value = members[name]
    if not isinstance(value, list) or len(value) > most:
        raise Malformed(_WHAT, f"{name} of {where} must be a list of at most {most:,}")
    return value


def _text(members: dict[str, Any], name: str, most: int, where: str) -> str:
    value = members[name]
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise Malformed(_WHAT, f"{name} of {where} must be a text of 1 to {most:,} characters")
    return value


def _bytes(members: dict[str, Any], name: str, size: int, where: str) -> bytes:
    value = b64url_decode(_text(members, name, size * 4 // 3 + 4, where), _WHAT)
    if len(value) != size:
        raise Malformed(_WHAT, f"{name} of {where} must hold {size} bytes")
    return value
