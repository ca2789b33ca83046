"""A department's public keys in the forms that the consortium's registry has them in, by their use.

    statement, log, witness, request   Ed25519      32 bytes
    encryption                         X25519       32 bytes
    anchor, governor, operator         secp256k1    64 bytes, x ‖ y

A secret key has 32 bytes, whatever its use.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, EllipticCurvePublicKey, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ledger.errors import Malformed
from ledger.formats.encoding import b64url_encode
from ledger.formats.jwk import PublicKey, to_public_key

REGISTERED_USES = ("statement", "log", "encryption", "anchor", "witness", "request")

_ON_SECP256K1 = ("anchor", "governor", "operator")
_SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """The public half of the keys that a department registers."""

    statement: Ed25519PublicKey
    log: Ed25519PublicKey
    encryption: X25519PublicKey
    anchor: EllipticCurvePublicKey
    witness: Ed25519PublicKey
    request: Ed25519PublicKey


def new_secret(use: str) -> bytes:
    """A fresh secret key: 32 bytes."""
    if use in _ON_SECP256K1:
        return (secrets.randbelow(_SECP256K1_ORDER - 1) + 1).to_bytes(32, "big")
    return os.urandom(32)  # any 32 bytes are a secret key of Ed25519 and of X25519 (RFC 8032, RFC 7748)


def public_half(use: str, secret: bytes) -> PublicKey:
    """The public key of a secret key of 32 bytes."""
    if use in _ON_SECP256K1:
        return derive_private_key(int.from_bytes(secret, "big"), SECP256K1()).public_key()
    if use == "encryption":
        return X25519PrivateKey.from_private_bytes(secret).public_key()
    return Ed25519PrivateKey.from_private_bytes(secret).public_key()


def raw_public_key(key: PublicKey) -> bytes:
    """The registry's form of a public key."""
    if isinstance(key, EllipticCurvePublicKey):
        numbers = key.public_numbers()
        return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    return key.public_bytes_raw()


def public_key_of(use: str, raw: bytes) -> PublicKey:
    """The inverse of `raw_public_key`. Raises Malformed for bytes that are no key for `use`."""
    size = 64 if use in _ON_SECP256K1 else 32
    if len(raw) != size:
        raise Malformed("public key", f"a key for {use} has {size} bytes, not {len(raw)}")
    if use in _ON_SECP256K1:
        x, y = (b64url_encode(raw[start : start + 32]) for start in (0, 32))
        return to_public_key({"kty": "EC", "crv": "secp256k1", "x": x, "y": y})
    curve = "X25519" if use == "encryption" else "Ed25519"
    return to_public_key({"kty": "OKP", "crv": curve, "x": b64url_encode(raw)})
