"""Cosignatures as C2SP tlog-cosignature defines them, Ed25519 (type 0x04): a witness saw this tree head, and when.

    signature      = uint64 time (big-endian, POSIX seconds) || Ed25519 signature[64]
    signed message = "cosignature/v1" newline  "time " decimal newline  checkpoint text

The witness says that, at that time, this was the largest head it knew of the log, consistent with all before it. Lines
of other types, such as ML-DSA-44 (0x06), have other key ids and are ignored.
"""

from __future__ import annotations

from ledger.errors import KeyRefused, SignatureInvalid
from ledger.formats.checkpoint import Checkpoint
from ledger.formats.note import COSIGNATURE_ED25519, Note, Sign, Signature, VerifierKey, verify_ed25519

MAX_TIME = 2**63 - 1

_SIGNATURE_BYTES = 8 + 64


def cosign(checkpoint_text: bytes, time: int, name: str, public: bytes, sign: Sign) -> bytes:
    """The signature line, with its newline, of witness `name` over a checkpoint's text at `time` (POSIX seconds).

    Call it only after the consistency with the last head cosigned for this log was verified and stored.
    Raises Malformed for a text that is no checkpoint and for a name that no key can have, ValueError for a time that
    is negative or above 2^63-1. That `sign` and `public` belong together is not checked.
    """
    if not 0 <= time <= MAX_TIME:
        raise ValueError(f"time {time} is not between 0 and 2^63-1")
    Checkpoint.parse(checkpoint_text)
    key = VerifierKey.of(name, COSIGNATURE_ED25519, public)
    return Signature(name, key.key_id, time.to_bytes(8, "big") + sign(_message(time, checkpoint_text))).line


def verify_cosignature(note: bytes, vkey: VerifierKey) -> int | None:
    """When the witness `vkey` saw the checkpoint in `note`, in POSIX seconds; None if no line names it.

    Where it cosigned more than once, all lines must verify and the earliest time counts: the head existed by then. The
    log's own signature, and whether the time is plausible, are not checked.
    Raises Malformed for a note that is no checkpoint, KeyRefused for a key of another type, SignatureInvalid when any
    line that names the witness fails.
    """
    if vkey.type != COSIGNATURE_ED25519:
        raise KeyRefused(f"The key of {vkey.name} has type {vkey.type:#04x}; a witness needs a cosignature key, 0x04.")
    opened = Note.parse(note)
    Checkpoint.parse(opened.text)
    times = [_verify(signature, vkey, opened.text) for signature in opened.signatures_by(vkey)]
    return min(times, default=None)


def _verify(signature: Signature, vkey: VerifierKey, text: bytes) -> int:
    time = int.from_bytes(signature.signature[:8], "big")
    if len(signature.signature) != _SIGNATURE_BYTES or time > MAX_TIME:
        raise SignatureInvalid(
            f"The cosignature by {vkey.name} is not a time and an Ed25519 signature; fetch it again."
        )
    verify_ed25519(vkey, signature.signature[8:], _message(time, text))
    return time


def _message(time: int, checkpoint_text: bytes) -> bytes:
    return b"cosignature/v1\ntime %d\n" % time + checkpoint_text
