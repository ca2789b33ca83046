"""Sealing: a record becomes a signed statement, salted disclosures and an encrypted payload. No I/O.

    record ──units──► disclosures ──digests──► statement ──Ed25519──► log entry
                          └──────AES-256-GCM, bound to the statement──► vault

Per record: one signature, one data key; per batch: one draw of random bytes. The order of work is the cost table of
`scripts/bench.py`.
"""

from __future__ import annotations

import binascii
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ledger.crypto.blind import blind_index
from ledger.crypto.envelope import KEY_BYTES, NONCE_BYTES, seal_payload, wrap_data_key
from ledger.errors import RecordRefused
from ledger.formats.encoding import b64url_encode
from ledger.formats.identifiers import normalise
from ledger.formats.merkle import leaf_hash
from ledger.formats.sdjwt import ALGORITHM, DIGEST_ALGORITHM, MAX_STATEMENT_BYTES, SALT_BYTES, TYPE
from ledger.keys import Signer
from ledger.record_types import RecordType

_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_CLEAR = ("matter", "case", "inspection", "amends")


@dataclass(frozen=True, slots=True)
class Kek:
    """A department's key-encryption key in use: 32 bytes, and the epoch it is stored under."""

    epoch: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed record; `leaf` is the statement's leaf hash (RFC 9162 section 2.1.1)."""

    record_id: str
    statement: bytes
    leaf: bytes
    payload: bytes
    wrapped_key: bytes
    epoch: int


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals records of one department. `index_key`: 32 bytes, the consortium's; `signer`: the statement key."""

    department: str
    signer: Signer
    kek: Kek
    index_key: bytes

    def seal(
        self, records: Sequence[tuple[RecordType, dict[str, Any]]], issued_at: int, data_keys: Sequence[bytes]
    ) -> list[Sealed]:
        """Seals valid records, in order; `data_keys` has one fresh 32-byte key for each (see `draw_data_keys`).

        Nothing is validated here. Raises RecordRefused when a statement outgrows what a log entry may hold.
        """
        take = _random_bytes(
            sum(self._salts(record) for _, record in records) * SALT_BYTES + NONCE_BYTES * len(records)
        )
        header = _b64url(orjson.dumps({"alg": ALGORITHM, "typ": TYPE, "kid": self.signer.kid})) + b"."
        return [
            self._seal_one(kind, record, header, issued_at, data_key, take)
            for (kind, record), data_key in zip(records, data_keys, strict=True)
        ]

    def _seal_one(
        self,
        kind: RecordType,
        record: dict[str, Any],
        header: bytes,
        issued_at: int,
        data_key: bytes,
        take: Callable[[int], bytes],
    ) -> Sealed:
        disclosures = [_disclosure(take(SALT_BYTES), unit, members) for unit, members in _units(kind, record)]
        payload = self._claims(record, issued_at, disclosures)
        signing_input = header + _b64url(orjson.dumps(payload))
        statement = signing_input + b"." + _b64url(self.signer.sign(signing_input))
        if len(statement) > MAX_STATEMENT_BYTES:
            raise RecordRefused(
                "too-large", f"record {record['id']}: too many units for one log entry; split the record"
            )
        return Sealed(
            record_id=record["id"],
            statement=statement,
            leaf=leaf_hash(statement),
            payload=seal_payload(data_key, take(NONCE_BYTES), b"~".join([*disclosures, b""]), statement),
            wrapped_key=wrap_data_key(self.kek.key, data_key),
            epoch=self.kek.epoch,
        )

    def _claims(self, record: dict[str, Any], issued_at: int, disclosures: list[bytes]) -> dict[str, Any]:
        claims = {
            "iss": self.department,
            "jti": record["id"],
            "iat": issued_at,
            "type": record["type"],
            "v": record["v"],
        }
        for name in _CLEAR:
            if name in record:
                claims[name] = record[name]
        claims["subj"] = self._subjects(record)
        claims["_sd_alg"] = DIGEST_ALGORITHM
        claims["_sd"] = sorted(_b64url(hashlib.sha256(disclosure).digest()).decode() for disclosure in disclosures)
        return claims

    def _subjects(self, record: dict[str, Any]) -> list[str]:
        indexes = {
            b64url_encode(blind_index(self.index_key, s["kind"], normalise(s["kind"], s["value"])))
            for s in record.get("subjects", ())
        }
        return sorted(indexes)

    @staticmethod
    def _salts(record: dict[str, Any]) -> int:
        # an upper bound: no unit is empty, so there are never more units than members
        return len(record) + len(record.get("attachments", ()))


def draw_data_keys(count: int) -> list[bytes]:
    """`count` fresh random data keys of 32 bytes."""
    drawn = os.urandom(KEY_BYTES * count)
    return [drawn[i : i + KEY_BYTES] for i in range(0, len(drawn), KEY_BYTES)]


def _units(kind: RecordType, record: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for unit, names in kind.units.items():
        members = {name: record[name] for name in names if name in record}
        if members:
            yield unit, members
    for number, attachment in enumerate(record.get("attachments", ()), 1):
        yield f"attachment-{number}", attachment


def _disclosure(salt: bytes, unit: str, members: dict[str, Any]) -> bytes:
    return _b64url(orjson.dumps([_b64url(salt).decode(), unit, members]))


def _b64url(data: bytes) -> bytes:
    # formats.encoding's b64url_encode in bytes: half the cost, and this runs 25 times a record
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE).rstrip(b"=")


def _random_bytes(count: int) -> Callable[[int], bytes]:
    drawn, position = os.urandom(count), 0

    def take(size: int) -> bytes:
        nonlocal position
        start, position = position, position + size
        if position > count:
            raise AssertionError("more random bytes were asked for than drawn")
        return drawn[start:position]

    return take
