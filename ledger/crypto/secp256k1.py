"""Who signed: the key behind a recoverable ECDSA signature over secp256k1 (SEC 1 section 4.1.6; curve: SEC 2).

`cryptography` verifies such signatures but does not recover keys, so a candidate is computed here, and then
`cryptography` verifies the signature with it. A mistake in this arithmetic can only lose a good signature, never pass
a bad one. Everything that goes in is public.
"""

from __future__ import annotations

from typing import TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256K1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from ledger.errors import SignatureInvalid
from ledger.formats.keccak import keccak256

SIGNATURE_SIZE = 65
ADDRESS_SIZE = 20

Point: TypeAlias = "tuple[int, int] | None"
"""Affine coordinates; None is the point at infinity."""

_P = 2**256 - 2**32 - 977
_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
# only the length counts: what was hashed, and how, is the caller's business
_DIGEST_OF_32_BYTES = ECDSA(Prehashed(SHA256()))


def recover(digest: bytes, signature: bytes) -> EllipticCurvePublicKey:
    """The key that made `signature` (r[32], s[32], parity of R's y as 0 or 1) over `digest`, 32 bytes; about 8 ms.

    Every s below the group's order is taken, the larger half too. Raises SignatureInvalid where no key made it.
    """
    if len(signature) != SIGNATURE_SIZE or len(digest) != 32:
        raise SignatureInvalid(f"A recoverable signature has {SIGNATURE_SIZE} bytes, over a digest of 32.")
    r, s, parity = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]
    if not (0 < r < _N and 0 < s < _N and parity in (0, 1)):
        raise SignatureInvalid("The signature has a value out of its range; whatever it was, it was changed.")
    made = _public_point(int.from_bytes(digest, "big"), r, s, _lift(r, parity))
    if made is None:
        raise SignatureInvalid("No key can have made the signature.")
    key = EllipticCurvePublicNumbers(*made, SECP256K1()).public_key()
    try:
        key.verify(encode_dss_signature(r, s), digest, _DIGEST_OF_32_BYTES)
    except InvalidSignature as error:
        raise SignatureInvalid("No key can have made the signature.") from error
    return key


def address_of(key: EllipticCurvePublicKey) -> bytes:
    """The account of a key: the last 20 bytes of Keccak-256 over x and y (yellow paper appendix F)."""
    numbers = key.public_numbers()
    return keccak256(numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big"))[-ADDRESS_SIZE:]


def _public_point(e: int, r: int, s: int, at: tuple[int, int]) -> Point:
    """Q = r⁻¹(sR - eG)."""
    inverse = pow(r, -1, _N)
    return _sum_of_products(-e * inverse % _N, _G, s * inverse % _N, at)


def _lift(x: int, parity: int) -> tuple[int, int]:
    """The point with this x whose y is even (0) or odd (1)."""
    square = (x**3 + 7) % _P
    y = pow(square, (_P + 1) // 4, _P)
    if y * y % _P != square:
        raise SignatureInvalid("The signature names a point that is not on the curve.")
    return x, y if y % 2 == parity else _P - y


def _sum_of_products(a: int, p: Point, b: int, q: Point) -> Point:
    """aP + bQ, both at once: doubled bit by bit, and what the two bits ask for added."""
    table = (None, p, q, _add(p, q))
    total: Point = None
    for bit in reversed(range(256)):
        total = _add(_add(total, total), table[(a >> bit & 1) + 2 * (b >> bit & 1)])
    return total


def _add(p: Point, q: Point) -> Point:
    if p is None or q is None:
        return q if p is None else p
    (x1, y1), (x2, y2) = p, q
    if x1 == x2 and (y1 + y2) % _P == 0:
        return None
    slope = (3 * x1 * x1 * pow(2 * y1, -1, _P) if p == q else (y2 - y1) * pow(x2 - x1, -1, _P)) % _P
    x = (slope * slope - x1 - x2) % _P
    return x, (slope * (x1 - x) - y1) % _P
