"""JSON Web Keys (RFC 7517) of the four kinds that the ledger uses, and their thumbprints (RFC 7638).

    Ed25519    {"kty": "OKP", "crv": "Ed25519", "x": b64url(32 bytes)}                        RFC 8037
    X25519     {"kty": "OKP", "crv": "X25519", "x": b64url(32 bytes)}                         RFC 8037
    secp256k1  {"kty": "EC", "crv": "secp256k1", "x": b64url(32 bytes), "y": b64url(32 bytes)} RFC 8812

A key id (`kid`) is the SHA-256 thumbprint, so it can be recomputed by whoever holds the key.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, EllipticCurvePublicKey, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from ledger.errors import Malformed
from ledger.formats.encoding import b64url_decode, b64url_encode
from ledger.formats.note import check_ed25519

_FIELD = 2**256 - 2**32 - 977
"""The prime of secp256k1's field (SEC 2 section 2.4.1)."""

PublicKey = Ed25519PublicKey | X25519PublicKey | EllipticCurvePublicKey

_REQUIRED = {"OKP": ("crv", "kty", "x"), "EC": ("crv", "kty", "x", "y")}


def from_public_key(key: PublicKey) -> dict[str, str]:
    """The JWK of a public key, required members only."""
    if isinstance(key, Ed25519PublicKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": b64url_encode(key.public_bytes_raw())}
    if isinstance(key, X25519PublicKey):
        return {"kty": "OKP", "crv": "X25519", "x": b64url_encode(key.public_bytes_raw())}
    numbers = key.public_numbers()
    if not isinstance(numbers.curve, SECP256K1):
        raise Malformed("JWK", "the only EC curve in use is secp256k1")
    x, y = (b64url_encode(n.to_bytes(32, "big")) for n in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "secp256k1", "x": x, "y": y}


def to_public_key(jwk: dict[str, Any]) -> PublicKey:
    """The public key that `jwk` holds. Raises Malformed for another kind of key, a wrong length, a point off the
    curve or of small order; members other than the required ones are not looked at."""
    kty, crv = jwk.get("kty"), jwk.get("crv")
    try:
        if (kty, crv) == ("OKP", "Ed25519"):
            public = _coordinate(jwk, "x")
            check_ed25519(public, "JWK")
            return Ed25519PublicKey.from_public_bytes(public)
        if (kty, crv) == ("OKP", "X25519"):
            return X25519PublicKey.from_public_bytes(_coordinate(jwk, "x"))
        if (kty, crv) == ("EC", "secp256k1"):
            x, y = (int.from_bytes(_coordinate(jwk, name), "big") for name in ("x", "y"))
            if max(x, y) >= _FIELD:
                raise Malformed("JWK", "not a secp256k1 public key")  # the library would reduce it: one key, two texts
            return EllipticCurvePublicNumbers(x, y, SECP256K1()).public_key()
    except ValueError as error:
        raise Malformed("JWK", f"not a {crv} public key") from error
    raise Malformed("JWK", "kty and crv must be OKP Ed25519, OKP X25519 or EC secp256k1")


def thumbprint(jwk: dict[str, Any]) -> str:
    """The RFC 7638 SHA-256 thumbprint, base64url (43 characters). Raises Malformed when a required member lacks."""
    names = _REQUIRED.get(str(jwk.get("kty")))
    if names is None or not all(isinstance(jwk.get(name), str) for name in names):
        raise Malformed("JWK", "kty, crv, x (and y for EC) must be strings")
    canonical = json.dumps({name: jwk[name] for name in names}, separators=(",", ":"), sort_keys=True)
    return b64url_encode(hashlib.sha256(canonical.encode()).digest())


def kid_of(key: PublicKey) -> str:
    """The thumbprint of a public key."""
    return thumbprint(from_public_key(key))


def _coordinate(jwk: dict[str, Any], name: str) -> bytes:
    text = jwk.get(name)
    if not isinstance(text, str):
        raise Malformed("JWK", f"member {name} must be a string")
    value = b64url_decode(text, "JWK")
    if len(value) != 32:
        raise Malformed("JWK", f"member {name} must hold 32 bytes")
    return value
