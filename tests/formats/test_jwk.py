"""Keys as JWK, and their ids, against the examples that RFC 7638 and RFC 8037 publish."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from jwcrypto.jwk import JWK

from ledger.errors import Malformed
from ledger.formats.encoding import b64url_decode, b64url_encode
from ledger.formats.jwk import PublicKey, from_public_key, kid_of, thumbprint, to_public_key

# RFC 8037 appendix A.1 to A.4: an Ed25519 key, its thumbprint, and a JWS made with it
A1_SECRET = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
A2_PUBLIC = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
A3_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
A4_SIGNING_INPUT = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
A4_SIGNATURE = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"

# RFC 7638 section 3.1: the canonical text whose SHA-256 is the thumbprint (an RSA key there; the rule is the same)
RFC7638_CANONICAL = (
    '{"e":"AQAB","kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6'
    "tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAt"
    "aSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqb"
    'w0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}'
)
RFC7638_THUMBPRINT = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_rfc8037_a2_and_a3() -> None:
    key = Ed25519PrivateKey.from_private_bytes(b64url_decode(A1_SECRET, "d")).public_key()
    assert from_public_key(key) == A2_PUBLIC
    assert thumbprint(A2_PUBLIC) == kid_of(key) == A3_THUMBPRINT


def test_rfc8037_a4() -> None:
    key = to_public_key(A2_PUBLIC)
    assert isinstance(key, Ed25519PublicKey)
    key.verify(b64url_decode(A4_SIGNATURE, "sig"), A4_SIGNING_INPUT)


def test_rfc7638_rule() -> None:
    assert b64url_encode(hashlib.sha256(RFC7638_CANONICAL.encode()).digest()) == RFC7638_THUMBPRINT
    # the same rule by hand, on a key of ours: required members only, in order of their names, no white space
    canonical = '{{"crv":"{crv}","kty":"{kty}","x":"{x}"}}'.format(**A2_PUBLIC)
    assert b64url_encode(hashlib.sha256(canonical.encode()).digest()) == thumbprint(A2_PUBLIC)


def keys() -> dict[str, PublicKey]:
    return {
        "Ed25519": Ed25519PrivateKey.generate().public_key(),
        "X25519": X25519PrivateKey.generate().public_key(),
        "secp256k1": generate_private_key(SECP256K1()).public_key(),
    }


@pytest.mark.parametrize("name", keys())
def test_there_and_back_and_like_jwcrypto(name: str) -> None:
    key = keys()[name]
    jwk = from_public_key(key)
    assert from_public_key(to_public_key(jwk)) == jwk
    assert JWK(**jwk).thumbprint() == kid_of(key)


def test_members_that_are_not_required_do_not_count() -> None:
    more = {**A2_PUBLIC, "kid": "x", "use": "sig", "alg": "EdDSA", "d": A1_SECRET}
    assert thumbprint(more) == A3_THUMBPRINT
    assert from_public_key(to_public_key(more)) == A2_PUBLIC


SECP = from_public_key(keys()["secp256k1"])

REFUSED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "an RSA key": json.loads(RFC7638_CANONICAL),
    "another curve": {**SECP, "crv": "P-256"},
    "Ed448": {**A2_PUBLIC, "crv": "Ed448"},
    "kty and crv that do not go together": {**A2_PUBLIC, "kty": "EC"},
    "kty in lower case": {**A2_PUBLIC, "kty": "okp"},
    "kty as a list": {**A2_PUBLIC, "kty": ["OKP"]},
    "x missing": {"kty": "OKP", "crv": "Ed25519"},
    "x a number": {**A2_PUBLIC, "x": 1},
    "x of 31 bytes": {**A2_PUBLIC, "x": b64url_encode(bytes(31))},
    "x of 33 bytes": {**A2_PUBLIC, "x": b64url_encode(bytes(33))},
    "x padded": {**A2_PUBLIC, "x": A2_PUBLIC["x"] + "="},
    "x in the other alphabet": {**A2_PUBLIC, "x": A2_PUBLIC["x"].replace("_", "/")},
    "y missing": {name: value for name, value in SECP.items() if name != "y"},
    "a point off the curve": {**SECP, "y": SECP["x"]},
    "a coordinate past the field": {**SECP, "x": b64url_encode(b"\xff" * 32)},
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(Malformed, match=r"^JWK: "):
        to_public_key(REFUSED[name])


@pytest.mark.parametrize("jwk", [{}, {"kty": "RSA"}, {"kty": "OKP", "crv": "Ed25519"}, {**A2_PUBLIC, "x": 1}])
def test_no_thumbprint_without_the_required_members(jwk: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        thumbprint(jwk)


def test_no_jwk_for_another_curve() -> None:
    with pytest.raises(Malformed, match="secp256k1"):
        from_public_key(generate_private_key(SECP256R1()).public_key())


def test_a_coordinate_beyond_the_field_is_no_second_text_of_a_key() -> None:
    prime = 2**256 - 2**32 - 977
    # x = 1 is on the curve: y squared is 8
    y = pow(8, (prime + 1) // 4, prime)
    assert y * y % prime == 8

    def jwk(x: int) -> dict[str, str]:
        text = {name: b64url_encode(value.to_bytes(32, "big")) for name, value in (("x", x), ("y", y))}
        return {"kty": "EC", "crv": "secp256k1", **text}

    assert from_public_key(to_public_key(jwk(1))) == jwk(1)
    with pytest.raises(Malformed, match="secp256k1"):
        to_public_key(jwk(1 + prime))
