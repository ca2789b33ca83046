"""Envelope encryption of a record's disclosures (DESIGN section 4).

    payload   = "YXP" ‖ suite (1 byte) ‖ nonce (12) ‖ AES-256-GCM ciphertext ‖ tag (16)       NIST SP 800-38D
                associated data: SHA-256(statement)
    data key  = 32 random bytes, one per record; kept only as AES-KW under a key-encryption key (40 bytes, RFC 3394)
    KEK       = 32 random bytes, one per department and epoch; kept only as HPKE to the department's long-term key
                (80 bytes, RFC 9180 base mode, X25519, HKDF-SHA256, AES-256-GCM; info: see `kek_info`)

Destroying the 40 bytes of a wrapped data key forgets the record; nothing else opens it.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from ledger.errors import Malformed, PayloadInvalid

AES_256_GCM = 0x01
MAGIC = b"YXP"
KEY_BYTES = 32
NONCE_BYTES = 12
WRAPPED_KEY_BYTES = 40
WRAPPED_KEK_BYTES = 80
OVERHEAD_BYTES = 4 + NONCE_BYTES + 16
"""How much longer a payload is than its plaintext."""

_HEADER = MAGIC + bytes([AES_256_GCM])
_HPKE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def seal_payload(data_key: bytes, nonce: bytes, plaintext: bytes, statement: bytes) -> bytes:
    """The payload for `plaintext`, bound to `statement`. `data_key`: 32 bytes that seal one payload only, so the
    12-byte `nonce` cannot repeat under it."""
    associated = hashlib.sha256(statement).digest()
    return _HEADER + nonce + AESGCM(data_key).encrypt(nonce, plaintext, associated)


def open_payload(data_key: bytes, payload: bytes, statement: bytes) -> bytes:
    """The inverse of `seal_payload`.

    Raises Malformed for an unknown suite or a truncated payload, PayloadInvalid when key, statement or any byte
    differs from what was sealed.
    """
    check_payload(payload)
    nonce, ciphertext = payload[4 : 4 + NONCE_BYTES], payload[4 + NONCE_BYTES :]
    try:
        return AESGCM(data_key).decrypt(nonce, ciphertext, hashlib.sha256(statement).digest())
    except InvalidTag as error:
        raise PayloadInvalid("the stored payload is not the one that was sealed with this statement") from error


def check_payload(payload: bytes) -> None:
    """Raises Malformed for an unknown suite or a truncated payload; whether it opens only its data key can tell."""
    if payload[:4] != _HEADER or len(payload) < OVERHEAD_BYTES:
        raise Malformed("payload", "not an AES-256-GCM payload of this ledger")


def wrap_data_key(kek: bytes, data_key: bytes) -> bytes:
    """40 bytes (RFC 3394); both keys have 32."""
    return aes_key_wrap(kek, data_key)


def unwrap_data_key(kek: bytes, wrapped: bytes) -> bytes:
    """The inverse of `wrap_data_key`. Raises PayloadInvalid for another KEK or a changed wrapping."""
    try:
        return aes_key_unwrap(kek, wrapped)
    except (InvalidUnwrap, ValueError) as error:
        raise PayloadInvalid("the stored data key does not unwrap under the department's key-encryption key") from error


def kek_info(department: str, epoch: int) -> bytes:
    """What binds a wrapped KEK to its place: HPKE's `info`."""
    return f"yunxi kek v1\x1f{department}\x1f{epoch}".encode()


def terminal_kek_info(department: str, terminal: str, name: bytes) -> bytes:
    """The same for a KEK that a terminal drew: `terminal` is the kid of its statement key, `name` 16 random bytes."""
    return f"yunxi terminal kek v1\x1f{department}\x1f{terminal}\x1f{name.hex()}".encode()


def seal_to(recipient: X25519PublicKey, plaintext: bytes, info: bytes) -> bytes:
    """HPKE single-shot, base mode, for any plaintext: encapsulated key (32) ‖ ciphertext ‖ tag (16). `info` says what
    for and between whom, and must differ from `kek_info` in its first words."""
    return _HPKE.encrypt(plaintext, recipient, info=info)


def open_sealed(sealed: bytes, private_key: X25519PrivateKey, info: bytes) -> bytes:
    """The inverse of `seal_to`. Raises PayloadInvalid for another recipient, another `info` or a changed byte."""
    try:
        return _HPKE.decrypt(sealed, private_key, info=info)
    except InvalidTag as error:
        raise PayloadInvalid("what was sealed does not open under this department's encryption key") from error


def wrap_kek(kek: bytes, recipient: X25519PublicKey, info: bytes) -> bytes:
    """HPKE single-shot, base mode: encapsulated key (32) ‖ ciphertext (32) ‖ tag (16)."""
    return _HPKE.encrypt(kek, recipient, info=info)


def unwrap_kek(wrapped: bytes, private_key: X25519PrivateKey, info: bytes) -> bytes:
    """The inverse of `wrap_kek`. Raises PayloadInvalid for another recipient, another `info` or a changed byte."""
    try:
        return _HPKE.decrypt(wrapped, private_key, info=info)
    except InvalidTag as error:
        raise PayloadInvalid("the key-encryption key does not open under the department's encryption key") from error
