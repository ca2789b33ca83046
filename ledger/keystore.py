"""The keystore: a file of secrets as JSON, AES-256-GCM under a key that scrypt (RFC 7914) makes from a passphrase.

    keystore.json   {"kdf": "scrypt", "n", "r", "p", "suite": "AES-256-GCM", "salt", "nonce", "ciphertext"}, base64
    passphrase      beside it, where the environment has none: for development

What is written is durable on return, and a crash leaves the old file or the new one whole.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ledger.errors import CouldNotRun, Malformed
from ledger.formats.encoding import b64decode, b64encode
from ledger.store.blobs import sync_directory

KEYSTORE = "keystore.json"
PASSPHRASE_FILE = "passphrase"  # noqa: S105  the name of a file
PASSPHRASE_VARIABLE = "YUNXI_PASSPHRASE"  # noqa: S105  the name of a variable

_SCRYPT = {"n": 2**15, "r": 8, "p": 1}


def new_passphrase(directory: Path) -> str:
    """Makes `directory` (mode 0700) for a keystore. The passphrase is the environment's, or a random one that is
    written beside the keystore."""
    directory.mkdir(mode=0o700, parents=True)
    passphrase = os.environ.get(PASSPHRASE_VARIABLE)
    if passphrase is None:
        passphrase = secrets.token_urlsafe(24)
        _write_private(directory / PASSPHRASE_FILE, passphrase.encode())
    return passphrase


def passphrase_of(directory: Path) -> str:
    """The passphrase of the keystore in `directory`. Raises CouldNotRun where neither environment nor file has it."""
    passphrase = os.environ.get(PASSPHRASE_VARIABLE)
    if passphrase is None:
        try:
            passphrase = (directory / PASSPHRASE_FILE).read_text("utf-8").strip()
        except OSError as error:
            raise CouldNotRun(f"the keystore is locked: set {PASSPHRASE_VARIABLE} to its passphrase") from error
    return passphrase


def open_secrets(path: Path, passphrase: str) -> dict[str, Any]:
    """What `seal_secrets` wrote. Raises CouldNotRun for a missing or damaged file and for another passphrase."""
    try:
        stored = json.loads(path.read_bytes())
        salt, nonce, ciphertext = (b64decode(stored[name], "keystore") for name in ("salt", "nonce", "ciphertext"))
        plaintext = AESGCM(_stretch(passphrase, salt)).decrypt(nonce, ciphertext, b"yunxi keystore v1")
    except FileNotFoundError as error:
        raise CouldNotRun(f"there is no keystore at {path}: restore it from its backup") from error
    except OSError as error:
        raise CouldNotRun(f"the keystore {path} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, Malformed) as error:
        raise CouldNotRun(f"the keystore {path} is damaged: restore it from its backup") from error
    except InvalidTag as error:
        raise CouldNotRun(f"the passphrase does not open {path}, or the file is damaged") from error
    keys: dict[str, Any] = json.loads(plaintext)
    return keys


def seal_secrets(path: Path, passphrase: str, keys: dict[str, Any]) -> None:
    """Writes `keys` (JSON) durably: AES-256-GCM under a key that scrypt makes from `passphrase` and a fresh salt."""
    salt, nonce = os.urandom(16), os.urandom(12)
    ciphertext = AESGCM(_stretch(passphrase, salt)).encrypt(nonce, json.dumps(keys).encode(), b"yunxi keystore v1")
    stored = {"kdf": "scrypt", **_SCRYPT, "suite": "AES-256-GCM"}
    stored |= {"salt": b64encode(salt), "nonce": b64encode(nonce), "ciphertext": b64encode(ciphertext)}
    _write_private(path, json.dumps(stored, indent=1).encode())


def identity(path: Path) -> tuple[int, int, int]:
    """What changes whenever the file is replaced: looking costs 2 µs, opening a tenth of a second."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0  # `open_secrets` says what is wrong with it
    return found.st_ino, found.st_mtime_ns, found.st_size


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps other processes from changing what lies in `directory`: two that each add a department would otherwise
    write one of them away, keys and all."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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
    sync_directory(path.parent)
