"""Passwords (Argon2id, RFC 9106) and one-time codes (TOTP, RFC 6238), by libraries. No I/O, no clock."""

from __future__ import annotations

import os
from functools import cache

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.people.errors import AccountRefused
from ledger.errors import CouldNotRun

MIN_CHARS, MAX_CHARS = 12, 256
STEP_SECONDS = 30
_NONCE_BYTES = 12
_WINDOW = 1  # steps that a phone's clock may be off, either way

_hasher = PasswordHasher()  # the library's defaults are RFC 9106's second recommended option


def hash_password(password: str, login: str) -> str:
    """The password's Argon2id hash, with its parameters. Raises AccountRefused for one that is not fit."""
    if not MIN_CHARS <= len(password) <= MAX_CHARS:
        raise AccountRefused(f"a password has {MIN_CHARS} to {MAX_CHARS} characters; several words make a good one")
    if login.split("@")[0].casefold() in password.casefold():
        raise AccountRefused("a password must not contain the login; choose another")
    return _hasher.hash(password)


def password_fits(stored: str | None, password: str) -> bool:
    """Whether `password` is the one behind the hash `stored`; as slow when there is no such account (None)."""
    try:
        return _hasher.verify(_nobody() if stored is None else stored, password[: MAX_CHARS + 1]) and stored is not None
    except (Argon2Error, InvalidHashError):
        return False


def draw_totp_secret() -> str:
    """A fresh secret: 160 random bits in base32."""
    return pyotp.random_base32()


def provisioning_uri(secret: str, login: str, issuer: str) -> str:
    """What an authenticator app reads from a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=login, issuer_name=issuer)


def matching_step(secret: str, code: str, now: float) -> int | None:
    """The 30-second step whose code this is, of those a wrong clock may mean; None when it is none of them."""
    totp, step = pyotp.TOTP(secret), int(now) // STEP_SECONDS
    candidates = range(step - _WINDOW, step + _WINDOW + 1)
    return next((c for c in candidates if totp.verify(code, for_time=c * STEP_SECONDS)), None)


def seal_totp(secret: str, account: str, node_secret: bytes) -> bytes:
    """The secret encrypted for its account: nonce, then AES-256-GCM under a key of this node's own."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(_totp_key(node_secret)).encrypt(nonce, secret.encode(), account.encode())


def open_totp(sealed: bytes, account: str, node_secret: bytes) -> str:
    """The secret again. Raises CouldNotRun when the keystore is another than at enrolment."""
    try:
        key = AESGCM(_totp_key(node_secret))
        return key.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], account.encode()).decode()
    except InvalidTag as error:
        raise CouldNotRun(
            "a one-time-code secret does not open with this keystore: run `yunxi people reset` for the account"
        ) from error


def _totp_key(node_secret: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=None, info=b"yunxi totp v1").derive(node_secret)


@cache
def _nobody() -> str:
    return _hasher.hash(os.urandom(16).hex())
