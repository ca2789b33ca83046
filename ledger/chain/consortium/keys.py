"""A validator's secp256k1 key: it seals blocks, and it is the node's identity among its peers (the enode)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from ledger.errors import Malformed
from ledger.formats.encoding import b64url_encode
from ledger.formats.jwk import to_public_key


@dataclass(frozen=True, slots=True)
class ValidatorPublic:
    """What the others may know of a validator: its public key, 64 bytes x || y."""

    public_key: bytes

    @classmethod
    def of(cls, public_key: bytes) -> ValidatorPublic:
        """Raises Malformed if it is not a point of the curve."""
        key = cls(public_key)
        if len(public_key) != 64:
            raise Malformed("validator's public key", f"{len(public_key)} bytes are not 64")
        to_public_key(key.jwk)
        return key

    @property
    def address(self) -> str:
        """Checksummed hex: the last 20 bytes of the public key's Keccak-256."""
        return to_checksum_address(keccak(self.public_key)[12:])

    @property
    def jwk(self) -> dict[str, str]:
        """RFC 8812, for the trust file."""
        x, y = (b64url_encode(self.public_key[start : start + 32]) for start in (0, 32))
        return {"kty": "EC", "crv": "secp256k1", "x": x, "y": y}

    def enode(self, host: str, port: int) -> str:
        """The enode URL by which peers dial this validator; no discovery port."""
        return f"enode://{self.public_key.hex()}@{host}:{port}"


@dataclass(frozen=True, slots=True)
class ValidatorKey:
    """The private half, 32 bytes; never shown by `repr`."""

    account: LocalAccount

    @classmethod
    def create(cls) -> ValidatorKey:
        return cls(Account.create())

    @classmethod
    def of(cls, private: bytes) -> ValidatorKey:
        return cls(Account.from_key(private))

    @property
    def private(self) -> bytes:
        return bytes(self.account.key)

    @property
    def public(self) -> ValidatorPublic:
        return ValidatorPublic(self.account._key_obj.public_key.to_bytes())


def write_secret(path: Path, text: str) -> None:
    """A new file that only its owner can read, whatever the umask. Raises FileExistsError rather than replace a key."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
