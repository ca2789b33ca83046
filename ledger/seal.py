"""Sealing: a record becomes a signed statement, salted disclosures and an encrypted payload. No I/O.

    record ──units──► disclosures ──digests──► statement ──Ed25519──► log entry
                          └──────AES-256-GCM, bound to the statement──► vault

Every record has one signature, one data key and a salt for each of its units. `scripts/bench.py` times each step.
"""

from __future__ import annotations

import os
from binascii import b2a_base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

import orjson

from ledger.crypto.blind import blind_index
from ledger.crypto.envelope import KEY_BYTES, NONCE_BYTES, seal_payload, wrap_data_key
from ledger.errors import RecordRefused
from ledger.formats.identifiers import normalise
from ledger.formats.merkle import leaf_hash
from ledger.formats.sdjwt import ALGORITHM, DIGEST_ALGORITHM, MAX_STATEMENT_BYTES, SALT_BYTES, TYPE
from ledger.keys import Signer
from ledger.record_types import RecordType

_PAGE_BYTES = 4096
_PAGE_SALTS = 256
_CLEAR = ("matter", "case", "inspection", "amends")

Drawn = TypeVar("Drawn", bytes, list[str])

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
        self._take = _drawn_ahead(os.urandom, _PAGE_BYTES)
        self._take_salts = _drawn_ahead(_draw_salts, _PAGE_SALTS)

    def draw_data_key(self) -> bytes:
        """A fresh data key for `seal`: 32 random bytes."""
        return self._take(KEY_BYTES)

    def seal(self, kind: RecordType, record: dict[str, Any], issued_at: int, data_key: bytes) -> Sealed:
        """Seals a valid record of type `kind`; `issued_at` in seconds since 1970; `data_key` seals nothing else but
        this record and its attachments.

        Nothing is validated here. Raises RecordRefused when the statement outgrows what a log entry may hold.
        """
        disclosed = self._disclose(_units(kind, record))
        disclosures = disclosed.split(b"~")[:-1]
        signing_input = self._header + _b64url(orjson.dumps(self._claims(record, issued_at, disclosures)))
        statement = signing_input + b"." + _b64url(self._sign(signing_input))
        if len(statement) > MAX_STATEMENT_BYTES:
            raise RecordRefused(
                "too-large", f"record {record['id']}: too many units for one log entry; split the record"
            )
        return Sealed(
            record_id=record["id"],
            statement=statement,
            leaf=leaf_hash(statement),
            payload=seal_payload(data_key, self._take(NONCE_BYTES), disclosed, statement),
            wrapped_key=wrap_data_key(self.kek.key, data_key),
            epoch=self.kek.epoch,
            case=record.get("case"),
        )

    def _disclose(self, units: list[tuple[str, dict[str, Any]]]) -> bytes:
        """The disclosures, each with a `~` behind it (RFC 9901 section 4)."""
        salts = self._take_salts(len(units))
        texts = [orjson.dumps([salt, unit, members]) for salt, (unit, members) in zip(salts, units, strict=True)]
        return _url_safe(b"".join(map(b2a_base64, texts))).replace(b"=", b"").replace(b"\n", b"~")

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
        claims["_sd"] = _digests(disclosures)
        return claims


def subject_indexes(index_key: bytes, record: Mapping[str, Any]) -> list[str]:
    """The claim `subj`: the blind indexes of a valid record's subjects, sorted. `index_key`: 32 bytes."""
    indexes = {blind_index(index_key, s["kind"], normalise(s["kind"], s["value"])) for s in record.get("subjects", ())}
    return sorted([_b64url(index).decode("ascii") for index in indexes])


def _units(kind: RecordType, record: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    units = []
    for unit, names in kind.units.items():
        members = {}
        for name in names:
            if name in record:
                members[name] = record[name]
        if members:
            units.append((unit, members))
    attachments = record.get("attachments", ())
    return units + [(f"attachment-{number}", attachment) for number, attachment in enumerate(attachments, 1)]


def _digests(disclosures: list[bytes]) -> list[str]:
    """The digests of the disclosures in base64url, sorted."""
    lines = _url_safe(b"".join([b2a_base64(sha256(disclosure).digest()) for disclosure in disclosures]))
    return sorted(lines.decode("ascii").split("=\n")[:-1])


def _b64url(data: bytes | bytearray) -> bytes:
    return _url_safe(b2a_base64(data, newline=False).rstrip(b"="))


def _url_safe(base64: bytes) -> bytes:
    # half the cost of bytes.translate; many texts are joined first, each still with the newline that ends it
    return base64.replace(b"+", b"-").replace(b"/", b"_")


def _draw_salts(count: int) -> list[str]:
    """Salts as they stand in a disclosure: 16 random bytes each, 22 characters of base64url."""
    # two zero bytes behind each salt make it 24 characters of base64, of which the first 22 are its own
    page = bytearray(os.urandom(count * (SALT_BYTES + 2)))
    page[SALT_BYTES :: SALT_BYTES + 2] = page[SALT_BYTES + 1 :: SALT_BYTES + 2] = bytes(count)
    text = _b64url(page).decode("ascii")
    return [text[start : start + 22] for start in range(0, len(text), 24)]


def _drawn_ahead(draw: Callable[[int], Drawn], page: int) -> Callable[[int], Drawn]:
    """`draw`, asked for a page at a time: the kernel's generator costs half a microsecond a call. Nothing is handed out
    twice."""
    drawn, position, forks = draw(page), 0, _forks

    def take(count: int) -> Drawn:
        nonlocal drawn, position, forks
        if position + count > len(drawn) or forks != _forks:
            drawn, position, forks = draw(max(count, page)), 0, _forks
        position += count
        return drawn[position - count : position]

    return take
