"""COSE receipts (RFC 9942): that an entry stands in the log, for verifiers that speak COSE instead of C2SP.

    Receipt     = COSE_Sign1, payload detached: the log's root (32 bytes)
    protected   = {1: -8 (EdDSA), 4: kid, 15: {1: issuer, 2: subject}, 395: 1 (RFC9162_SHA256)}
    unprotected = {396: {-1: [bytes of [tree size, leaf index, [hash …]]]}}

The entry is the statement's ASCII bytes, its leaf SHA-256(0x00 || entry). `kid` is the ASCII of the RFC 7638 thumbprint
of the log's key; issuer is the log's origin, subject the record's id (the claims that RFC 9943 section 6 asks for).

To verify: the root follows from entry and proof (RFC 9162 section 2.1.3.2); with it as payload the signature is the log
key's. Such a receipt says that the log holds the entry, no more: cosignatures of witnesses, the anchor and the time
are in the ledger's own receipt only.
"""

from __future__ import annotations

from ledger.errors import CouldNotRun
from ledger.formats.checkpoint import Checkpoint
from ledger.formats.merkle import leaf_hash, verify_inclusion
from ledger.formats.tlogproof import TlogProof
from ledger.interchange.cbor import ALG, CWT_CLAIMS, EDDSA, KID, encode, sign1
from ledger.keys import Signer

VDS, VDP, RFC9162_SHA256, INCLUSION = 395, 396, 1, -1
MEDIA_TYPE = "application/scitt-receipt+cose"


def cose_receipt(entry: bytes, proof: TlogProof, checkpoint: Checkpoint, subject: str, signer: Signer) -> bytes:
    """The receipt of `entry`, from the log's own `proof` of it.

    `checkpoint` is the proof's, once shown to be the log's own (`open_checkpoint_by`): the root in it is signed again,
    with the log's key of today. Raises InclusionInvalid where the proof does not lead to it, CouldNotRun for a log with
    one entry, whose proof is empty and which RFC 9942 cannot say.
    """
    verify_inclusion(leaf_hash(entry), proof.index, checkpoint.size, proof.path, checkpoint.root)
    if not proof.path:
        raise CouldNotRun(
            "the log has one entry yet, and COSE receipts begin with the second: seal another record first"
        )
    protected = {
        ALG: EDDSA,
        KID: signer.kid.encode("ascii"),
        CWT_CLAIMS: {1: checkpoint.origin, 2: subject},
        VDS: RFC9162_SHA256,
    }
    inclusion = encode([checkpoint.size, proof.index, list(proof.path)])
    return sign1(protected, {VDP: {INCLUSION: [inclusion]}}, checkpoint.root, signer.sign, detached=True)
