"""Reading the statements of a whole log: what `sdjwt.parse_statement` says, at a quarter of its cost.

The short cut is for what our own sealer writes: a header seen before, and a payload that is base64url and JSON in their
only shortest form, so that nothing in it can be read in two ways. Whatever else comes is read by the strict parser.
"""

from __future__ import annotations

import binascii
import re
from typing import Any, NamedTuple

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.errors import SignatureInvalid
from ledger.formats.sdjwt import DIGEST_ALGORITHM, MAX_STATEMENT_BYTES, parse_statement

_MAX_HEADERS = 1_000
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_RECORD_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_TEXTS = ("iss", "type")
_OPTIONAL = ("matter", "case", "inspection", "amends")


class Claimed(NamedTuple):
    """A statement as it reads. Nothing of it is true before `verify` returned; `issued_at` in seconds since 1970."""

    ascii: bytes
    kid: str
    record_id: str
    issuer: str
    issued_at: int
    type: str
    claims: dict[str, Any]

    def verify(self, key: Ed25519PublicKey) -> None:
        """Raises SignatureInvalid unless `key` made the signature."""
        signing_input, _, signature = self.ascii.rpartition(b".")
        try:
            key.verify(binascii.a2b_base64(signature.translate(_FROM_URL_SAFE) + b"=="), signing_input)
        except (InvalidSignature, binascii.Error) as error:
            raise SignatureInvalid(f"record {self.record_id}: the statement's signature is wrong") from error


class StatementReader:
    """Reads statements of one log, one after another."""

    def __init__(self) -> None:
        self._kids: dict[bytes, str] = {}

    def read(self, data: bytes) -> Claimed:
        """Raises Malformed as `parse_statement` does."""
        return self._quickly(data) or self._strictly(data)

    def _quickly(self, data: bytes) -> Claimed | None:
        header, _, rest = data.partition(b".")
        body, _, signature = rest.partition(b".")
        kid = self._kids.get(header)
        if kid is None or len(signature) != 86 or signature[-1:] not in b"AQgw" or len(data) > MAX_STATEMENT_BYTES:
            return None
        try:
            raw = binascii.a2b_base64(body.translate(_FROM_URL_SAFE) + b"==")
            claims = orjson.loads(raw)
        except ValueError:
            return None
        shortest = binascii.b2a_base64(raw, newline=False).rstrip(b"=").translate(_TO_URL_SAFE) == body
        if not shortest or not isinstance(claims, dict) or orjson.dumps(claims) != raw or not _is_plain(claims):
            return None
        return Claimed(data, kid, claims["jti"], claims["iss"], claims["iat"], claims["type"], claims)

    def _strictly(self, data: bytes) -> Claimed:
        statement = parse_statement(data)
        if len(self._kids) < _MAX_HEADERS:
            self._kids[data.partition(b".")[0]] = statement.kid
        return Claimed(
            data,
            statement.kid,
            statement.record_id,
            statement.issuer,
            statement.issued_at,
            statement.type,
            statement.payload,
        )


def _is_plain(claims: dict[str, Any]) -> bool:
    for name in _TEXTS:
        text = claims.get(name)
        if type(text) is not str or not 0 < len(text) <= 200:
            return False
    for name in _OPTIONAL:
        text = claims.get(name, "-")
        if type(text) is not str or not 0 < len(text) <= 200:
            return False
    digests, indexes = claims.get("_sd"), claims.get("subj")
    return (
        type(claims.get("iat")) is int
        and claims["iat"] >= 0
        and type(claims.get("v")) is int
        and type(claims.get("jti")) is str
        and _RECORD_ID.fullmatch(claims["jti"]) is not None
        and claims.get("_sd_alg") == DIGEST_ALGORITHM
        and type(digests) is list
        and set(map(type, digests)) <= {str}
        and set(map(len, digests)) <= {43}
        and len(set(digests)) == len(digests)
        and type(indexes) is list
        and set(map(type, indexes)) <= {str}
    )
