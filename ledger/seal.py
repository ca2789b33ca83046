"""Sealing: a record becomes a signed statement, salted disclosures and an encrypted payload. No I/O.

    record ──units──► disclosures ──digests──► statement ──Ed25519──► log entry
                          └──────AES-256-GCM, bound to the statement──► vault

Every record has one signature, one data key and a salt for each of its units. `scripts/bench.py` times each step.
"""

from __future__ import annotations

import binascii
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
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
_PAGE_BYTES = 4096
_CLEAR = ("matter", "case", "inspection", "amends")

_forks = 0


def _forked() -> None:
    global _forks
    _forks += 1


# a child must not hand out what its parent has drawn and will hand out too: the same data key would seal two payloads
os.register_at_fork(after_in_child=_forked)


@dataclass(frozen=True, slots=True)
class Kek:
    """A department's key-encryption key in use: 32 bytes, and the epoch it is stored under."""

    epoch: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed record; `leaf` is the statement's leaf hash (RFC 9162 section 2.1.1), `case` what it says in clear."""

    record_id: str
    statement: bytes
    leaf: bytes
    payload: bytes
    wrapped_key: bytes
    epoch: int
    case: str | None = None


class Sealer:
    """Seals records of one department under one KEK. Not for several threads: it draws random bytes in advance."""

    def __init__(self, department: str, signer: Signer, kek: Kek, index_key: bytes) -> None:
        """`signer`: the department's statement key; `index_key`: 32 bytes, the consortium's."""
        self.department = department
        self.kek = kek
        self.kid = signer.kid
        self._sign = signer.sign
        self._index_key = index_key
        self._header = _b64url(orjson.dumps({"alg": ALGORITHM, "typ": TYPE, "kid": signer.kid})) + b"."
        self._take = _random_bytes()

    def draw_data_key(self) -> bytes:
        """A fresh data key for `seal`: 32 random bytes."""
        return self._take(KEY_BYTES)

    def seal(self, kind: RecordType, record: dict[str, Any], issued_at: int, data_key: bytes) -> Sealed:
        """Seals a valid record of type `kind`; `issued_at` in seconds since 1970; `data_key` seals nothing else but
        this record and its attachments.

        Nothing is validated here. Raises RecordRefused when the statement outgrows what a log entry may hold.
        """
        disclosures = [_disclosure(self._take(SALT_BYTES), unit, members) for unit, members in _units(kind, record)]
        signing_input = self._header + _b64url(orjson.dumps(self._claims(record, issued_at, disclosures)))
        statement = signing_input + b"." + _b64url(self._sign(signing_input))
        if len(statement) > MAX_STATEMENT_BYTES:
            raise RecordRefused(
                "too-large", f"record {record['id']}: too many units for one log entry; split the record"
            )
        nonce, plaintext = self._take(NONCE_BYTES), b"~".join([*disclosures, b""])
        return Sealed(
            record_id=record["id"],
            statement=statement,
            leaf=leaf_hash(statement),
            payload=seal_payload(data_key, nonce, plaintext, statement),
            wrapped_key=wrap_data_key(self.kek.key, data_key),
            epoch=self.kek.epoch,
            case=record.get("case"),
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
        claims["subj"] = subject_indexes(self._index_key, record)
        claims["_sd_alg"] = DIGEST_ALGORITHM
        claims["_sd"] = sorted(_digests(disclosures))
        return claims


def subject_indexes(index_key: bytes, record: Mapping[str, Any]) -> list[str]:
    """The claim `subj`: the blind indexes of a valid record's subjects, sorted. `index_key`: 32 bytes."""
    indexes = {
        b64url_encode(blind_index(index_key, s["kind"], normalise(s["kind"], s["value"])))
        for s in record.get("subjects", ())
    }
    return sorted(indexes)


def _units(kind: RecordType, record: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for unit, names in kind.units.items():
        members = {name: record[name] for name in names if name in record}
        if members:
            yield unit, members
    for number, attachment in enumerate(record.get("attachments", ()), 1):
        yield f"attachment-{number}", attachment


def _disclosure(salt: bytes, unit: str, members: dict[str, Any]) -> bytes:
    return _b64url(orjson.dumps([_b64url(salt).decode(), unit, members]))


def _digests(disclosures: list[bytes]) -> list[str]:
    # one translation for all of them; each digest is 44 characters of base64, the last of them padding
    encoded = [binascii.b2a_base64(hashlib.sha256(disclosure).digest(), newline=False) for disclosure in disclosures]
    joined = b"".join(encoded).translate(_URL_SAFE).decode("ascii")
    return [joined[start : start + 43] for start in range(0, len(joined), 44)]


def _b64url(data: bytes) -> bytes:
    # formats.encoding's b64url_encode in bytes: half the cost, and this runs 25 times a record
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE).rstrip(b"=")


def _random_bytes() -> Callable[[int], bytes]:
    # the kernel's generator costs half a microsecond a call: drawn by the page, each byte handed out once
    drawn, position, forks = b"", 0, _forks

    def take(size: int) -> bytes:
        nonlocal drawn, position, forks
        if position + size > len(drawn) or forks != _forks:
            drawn, position, forks = os.urandom(_PAGE_BYTES), 0, _forks
        position += size
        return drawn[position - size : position]

    return take
