"""A case file sealed to a court: only who holds the court's key can open it. Outside the signature, which lies within.

    file   = head ‖ stream
    head   = "YXF" ‖ suite (1 byte, 1) ‖ recipient (32: SHA-256 of its JWK, RFC 7638) ‖ HPKE (80: encapsulated key 32,
             ciphertext of the stream key 32, tag 16)              RFC 9180, base mode, X25519, HKDF-SHA256, AES-256-GCM
    info   = "yunxi case file v1" ‖ 0x1f ‖ recipient               stream key = 32 bytes, drawn for this file
    stream = `ledger.crypto.stream`, suite 1, associated data = head

The court's key lies in a file sealed with a passphrase; its public part is a JWK in a file of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ledger.crypto.envelope import open_sealed, seal_to
from ledger.crypto.stream import open_stream, seal_stream
from ledger.errors import CouldNotRun, KeyRefused, Malformed
from ledger.formats import jwk
from ledger.formats.casefile import SEALED_HEAD
from ledger.formats.encoding import b64decode, b64encode, b64url_decode
from ledger.formats.strictjson import loads_object
from ledger.keystore import open_secrets, seal_secrets

MAX_KEY_BYTES = 16 * 1024
_SUITE = 1
_HEAD_BYTES = len(SEALED_HEAD) + 1 + 32 + 80
_WHAT = "sealed case file"


def seal_case_file(recipient: X25519PublicKey, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The sealed form of the bytes of `chunks`, in pieces of about 1 MiB. Never twice the same."""
    key, name = os.urandom(32), b64url_decode(jwk.kid_of(recipient), "key id")
    head = SEALED_HEAD + bytes([_SUITE]) + name + seal_to(recipient, key, _info(name))
    yield head
    yield from seal_stream(key, chunks, head)


def open_case_file(key: X25519PrivateKey, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The case file; what was yielded before an error is authentic but incomplete.

    Raises Malformed for something else than a sealed case file, KeyRefused where it was sealed to another key,
    PayloadInvalid where it was changed or cut short.
    """
    source = iter(chunks)
    head = b""
    while len(head) < _HEAD_BYTES:
        piece = next(source, b"")
        if not piece:
            raise Malformed(_WHAT, "is cut short, or is something else")
        head += piece
    head, rest = head[:_HEAD_BYTES], head[_HEAD_BYTES:]
    if head[: len(SEALED_HEAD) + 1] != SEALED_HEAD + bytes([_SUITE]):
        raise Malformed(_WHAT, "does not begin as one does: it may not be sealed at all, or by a later version")
    name, wrapped = head[4:36], head[36:]
    if name != b64url_decode(jwk.kid_of(key.public_key()), "key id"):
        raise KeyRefused("the case file was sealed to another key: ask who made it for whom it is")
    yield from open_stream(open_sealed(wrapped, key, _info(name)), chain([rest], source), head)


def create_key(path: Path, public: Path, passphrase: str) -> str:
    """Draws a court's key: `path` gets it, sealed with `passphrase`, `public` its JWK for those who make case files.
    Returns its thumbprint. Raises CouldNotRun where one of the files is there."""
    for file in (path, public):
        if file.exists():
            raise CouldNotRun(f"{file} is there already: a key is never written over; name another file")
    key = X25519PrivateKey.generate()
    seal_secrets(path, passphrase, {"case_files": b64encode(key.private_bytes_raw())})
    public.write_text(json.dumps(jwk.from_public_key(key.public_key()), indent=1) + "\n", "ascii")
    return jwk.kid_of(key.public_key())


def open_key(path: Path, passphrase: str) -> X25519PrivateKey:
    """The key that `create_key` wrote. Raises CouldNotRun for another file or passphrase."""
    content = open_secrets(path, passphrase)
    if not isinstance(content.get("case_files"), str):
        raise CouldNotRun(f"{path} is no key for case files: name the file that `yunxi casefile keygen` wrote")
    return X25519PrivateKey.from_private_bytes(b64decode(content["case_files"], "case file key"))


def parse_recipient(data: bytes) -> X25519PublicKey:
    """The public key in a JWK. Raises Malformed for anything else, another kind of key included."""
    what = "recipient's key"
    key = jwk.to_public_key(loads_object(data, what=what, max_bytes=MAX_KEY_BYTES))
    if not isinstance(key, X25519PublicKey):
        raise Malformed(what, "must be an X25519 key: a signing key cannot receive anything")
    return key


def _info(name: bytes) -> bytes:
    return b"yunxi case file v1\x1f" + name
