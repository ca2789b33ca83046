"""Key agents: whoever holds a department's private keys and uses them on request.

`FileKeyAgent` is the development agent: all keys in one file, AES-256-GCM under a key from a passphrase (scrypt,
RFC 7914). Production agents (PKCS#11, a KMS) implement the same `KeyAgent`; nothing else in the ledger touches a
long-term private key.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, EllipticCurvePublicKey, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ledger.crypto.envelope import unwrap_kek
from ledger.errors import CouldNotRun, KeyRefused
from ledger.formats.encoding import b64decode, b64encode
from ledger.formats.jwk import kid_of

KEYSTORE = "keystore.json"
PASSPHRASE_FILE = "passphrase"  # noqa: S105  the name of a file
PASSPHRASE_VARIABLE = "YUNXI_PASSPHRASE"  # noqa: S105  the name of a variable

_SCRYPT = {"n": 2**15, "r": 8, "p": 1}
_SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@dataclass(frozen=True, slots=True)
class Signer:
    """An Ed25519 key in use. `sign` takes any bytes and returns 64; it may be called from several threads."""

    kid: str
    public: bytes
    sign: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """The public half of the keys that a department registers."""

    statement: Ed25519PublicKey
    log: Ed25519PublicKey
    encryption: X25519PublicKey
    anchor: EllipticCurvePublicKey


class KeyAgent(Protocol):
    """What the ledger asks of an agent. Each call raises KeyRefused for a department it holds no keys of."""

    def index_key(self) -> bytes:
        """The consortium's 32-byte blind index key."""

    def operator_key(self) -> bytes:
        """The 32-byte secp256k1 key of the account that set the chain's contracts up."""

    def statement_signer(self, department: str) -> Signer:
        """Signs statements."""

    def log_signer(self, department: str) -> Signer:
        """Signs checkpoints and anchor hints."""

    def anchor_key(self, department: str) -> bytes:
        """The 32-byte secp256k1 key of the department's anchoring account."""

    def governor_key(self, department: str) -> bytes:
        """The 32-byte secp256k1 key of the account that votes for the department."""

    def encryption_key(self, department: str) -> X25519PublicKey:
        """The public key that key-encryption keys are wrapped to."""

    def unwrap_kek(self, department: str, wrapped: bytes, info: bytes) -> bytes:
        """Opens a wrapped key-encryption key (see `crypto.envelope`)."""


class FileKeyAgent:
    """The development agent. Not for production: whoever reads file and passphrase holds every key."""

    def __init__(self, directory: Path, passphrase: str) -> None:
        self._path = directory / KEYSTORE
        self._passphrase = passphrase
        self._keys = _open(self._path, passphrase)

    @classmethod
    def create(cls, directory: Path) -> FileKeyAgent:
        """Makes a keystore with a fresh index key and operator key.

        The passphrase comes from the environment, or else a random one is written beside the keystore (mode 0600).
        """
        directory.mkdir(mode=0o700, parents=True)
        passphrase = os.environ.get(PASSPHRASE_VARIABLE)
        if passphrase is None:
            passphrase = secrets.token_urlsafe(24)
            _write_private(directory / PASSPHRASE_FILE, passphrase.encode())
        keys = {"index": b64encode(os.urandom(32)), "operator": b64encode(_secp256k1_secret()), "departments": {}}
        _seal(directory / KEYSTORE, passphrase, keys)
        return cls(directory, passphrase)

    @classmethod
    def open(cls, directory: Path) -> FileKeyAgent:
        """Opens a keystore. Raises CouldNotRun when there is none, or the passphrase is missing or wrong."""
        passphrase = os.environ.get(PASSPHRASE_VARIABLE)
        if passphrase is None:
            try:
                passphrase = (directory / PASSPHRASE_FILE).read_text("utf-8").strip()
            except OSError as error:
                raise CouldNotRun(f"the keystore is locked: set {PASSPHRASE_VARIABLE} to its passphrase") from error
        return cls(directory, passphrase)

    def create_department(self, department: str) -> PublicKeys:
        """Draws a department's five keys and stores them durably. Existing keys are kept and returned."""
        self._keys = _open(self._path, self._passphrase)
        if department not in self._keys["departments"]:
            self._keys["departments"][department] = {
                "statement": b64encode(Ed25519PrivateKey.generate().private_bytes_raw()),
                "log": b64encode(Ed25519PrivateKey.generate().private_bytes_raw()),
                "encryption": b64encode(X25519PrivateKey.generate().private_bytes_raw()),
                "anchor": b64encode(_secp256k1_secret()),
                "governor": b64encode(_secp256k1_secret()),
            }
            _seal(self._path, self._passphrase, self._keys)
        return PublicKeys(
            statement=self._ed25519(department, "statement").public_key(),
            log=self._ed25519(department, "log").public_key(),
            encryption=self.encryption_key(department),
            anchor=_secp256k1_public(self.anchor_key(department)),
        )

    def index_key(self) -> bytes:
        return b64decode(self._keys["index"], "keystore")

    def operator_key(self) -> bytes:
        return b64decode(self._keys["operator"], "keystore")

    def statement_signer(self, department: str) -> Signer:
        return _signer(self._ed25519(department, "statement"))

    def log_signer(self, department: str) -> Signer:
        return _signer(self._ed25519(department, "log"))

    def anchor_key(self, department: str) -> bytes:
        return self._secret(department, "anchor")

    def governor_key(self, department: str) -> bytes:
        return self._secret(department, "governor")

    def encryption_key(self, department: str) -> X25519PublicKey:
        return self._x25519(department).public_key()

    def unwrap_kek(self, department: str, wrapped: bytes, info: bytes) -> bytes:
        return unwrap_kek(wrapped, self._x25519(department), info)

    def _x25519(self, department: str) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self._secret(department, "encryption"))

    def _ed25519(self, department: str, use: str) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._secret(department, use))

    def _secret(self, department: str, use: str) -> bytes:
        keys = self._keys["departments"].get(department)
        if keys is None:
            raise KeyRefused(f"this node holds no keys of department {department!r}: run `yunxi department add`")
        return b64decode(keys[use], "keystore")


def _signer(key: Ed25519PrivateKey) -> Signer:
    public = key.public_key()
    return Signer(kid=kid_of(public), public=public.public_bytes_raw(), sign=key.sign)


def _secp256k1_secret() -> bytes:
    return (secrets.randbelow(_SECP256K1_ORDER - 1) + 1).to_bytes(32, "big")


def _secp256k1_public(secret: bytes) -> EllipticCurvePublicKey:
    return derive_private_key(int.from_bytes(secret, "big"), SECP256K1()).public_key()


def _open(path: Path, passphrase: str) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_bytes())
        salt, nonce, ciphertext = (b64decode(stored[name], "keystore") for name in ("salt", "nonce", "ciphertext"))
        plaintext = AESGCM(_stretch(passphrase, salt)).decrypt(nonce, ciphertext, b"yunxi keystore v1")
    except FileNotFoundError as error:
        raise CouldNotRun(f"there is no keystore at {path}: restore it from its backup") from error
    except (KeyError, ValueError) as error:
        raise CouldNotRun(f"the keystore {path} is damaged: restore it from its backup") from error
    except InvalidTag as error:
        raise CouldNotRun(f"the passphrase does not open {path}, or the file is damaged") from error
    keys: dict[str, Any] = json.loads(plaintext)
    return keys


def _seal(path: Path, passphrase: str, keys: dict[str, Any]) -> None:
    salt, nonce = os.urandom(16), os.urandom(12)
    ciphertext = AESGCM(_stretch(passphrase, salt)).encrypt(nonce, json.dumps(keys).encode(), b"yunxi keystore v1")
    stored = {"kdf": "scrypt", **_SCRYPT, "suite": "AES-256-GCM"}
    stored |= {"salt": b64encode(salt), "nonce": b64encode(nonce), "ciphertext": b64encode(ciphertext)}
    _write_private(path, json.dumps(stored, indent=1).encode())


def _stretch(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, **_SCRYPT).derive(passphrase.encode())


def _write_private(path: Path, data: bytes) -> None:
    # a new file beside the old one, then a rename: a crash leaves one or the other whole
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
