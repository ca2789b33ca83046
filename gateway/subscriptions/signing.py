"""Webhooks as Standard Webhooks 1.0 signs them, and the secrets at rest.

webhook-id: msg_<subscription>_<event id>    webhook-timestamp: <seconds since 1970>
webhook-signature: v1,<base64 of HMAC-SHA-256(secret, id "." timestamp "." body)>
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from base64 import b64encode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ledger.errors import CouldNotRun

PREFIX = "whsec_"
_NONCE_BYTES = 12


def draw_secret() -> bytes:
    """A fresh secret, 32 random bytes."""
    return secrets.token_bytes(32)


def secret_text(secret: bytes) -> str:
    """The secret as subscribers are told it, once."""
    return PREFIX + b64encode(secret).decode("ascii")


def sign_webhook(secret: bytes, message_id: str, now: int, body: bytes) -> dict[str, str]:
    """The three headers. `message_id` has no full stop, and is the same at every attempt."""
    signed = f"{message_id}.{now}.".encode() + body
    signature = b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode("ascii")
    return {"webhook-id": message_id, "webhook-timestamp": str(now), "webhook-signature": f"v1,{signature}"}


def seal_secret(secret: bytes, subscription: str, node_secret: bytes) -> bytes:
    """The secret encrypted for its subscription: nonce, then AES-256-GCM under a key of this node's own."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(_key(node_secret)).encrypt(nonce, secret, subscription.encode())


def open_secret(sealed: bytes, subscription: str, node_secret: bytes) -> bytes:
    """The secret again. Raises CouldNotRun when the keystore is another."""
    try:
        return AESGCM(_key(node_secret)).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], subscription.encode())
    except InvalidTag as error:
        raise CouldNotRun("a webhook's secret does not open with this keystore: subscribe again") from error


def _key(node_secret: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=None, info=b"yunxi webhook v1").derive(node_secret)
