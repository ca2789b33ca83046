"""Transparent statements (SCITT, RFC 9943): a statement and its receipt in one COSE_Sign1.

    Transparent_Statement = COSE_Sign1, payload: the statement's ASCII bytes (a JWS)
    protected             = {1: -8 (EdDSA), 3: "application/jwt", 4: kid, 15: {1: issuer, 2: subject}}
    unprotected           = {394: [bytes of a COSE receipt …]}

Issuer is the department's log origin, subject the record's id; `kid` is the ASCII of the RFC 7638 thumbprint of the
department's statement key of today. The department signs twice: the JWS when it sealed, this envelope when it exports.

Where this differs from a SCITT transparency service: the log's entry is the payload, which is older than the envelope,
not the envelope. A verifier gives the receipt the payload as entry. Registration policies are not part of this ledger.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.interchange.cbor import ALG, CONTENT_TYPE, CWT_CLAIMS, EDDSA, KID, sign1
from ledger.keys import Signer

RECEIPTS = 394
MEDIA_TYPE = "application/scitt-statement+cose"


def transparent_statement(
    statement: bytes, issuer: str, subject: str, signer: Signer, receipts: Sequence[bytes]
) -> bytes:
    """The envelope around `statement`, a log entry's bytes, with its COSE `receipts` (none: a signed statement).
    `signer` holds the statement key. Nothing is verified here."""
    protected = {
        ALG: EDDSA,
        CONTENT_TYPE: "application/jwt",
        KID: signer.kid.encode("ascii"),
        CWT_CLAIMS: {1: issuer, 2: subject},
    }
    unprotected = {RECEIPTS: list(receipts)} if receipts else {}
    return sign1(protected, unprotected, statement, signer.sign)
