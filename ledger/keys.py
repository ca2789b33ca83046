"""Key agents: whoever holds a department's private keys and uses them on request.

`FileKeyAgent` is the development agent: all keys in one file, AES-256-GCM under a key from a passphrase (scrypt,
RFC 7914). Production agents (PKCS#11, a KMS) implement the same `KeyAgent`; nothing else in the ledger touches a
long-term private key.

A use has one key, or after a rotation several, newest last; only encryption keys are ever deleted, when what was
forgotten is shredded (`ledger.shredding`). In the keystore

    keys of a use = base64(secret)                                        in force from the beginning
                  | [{"kid": …, "secret": base64, "since": seconds | null, "settled": boolean} …]

`since` is when the key begins to be used, by the chain's registry; null: drawn, not yet planned. While `settled` is
false the keystore does not know whether the registry took the key (see `ledger.rotation`).
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, EllipticCurvePublicKey, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ledger.crypto.envelope import open_sealed, unwrap_kek
from ledger.errors import CouldNotRun, KeyRefused, Malformed
from ledger.formats.encoding import b64decode, b64encode, b64url_encode
from ledger.formats.jwk import PublicKey, kid_of, to_public_key
from ledger.store.blobs import sync_directory

KEYSTORE = "keystore.json"
PASSPHRASE_FILE = "passphrase"  # noqa: S105  the name of a file
PASSPHRASE_VARIABLE = "YUNXI_PASSPHRASE"  # noqa: S105  the name of a variable

_KEY_USES = ("statement", "log", "encryption", "anchor", "witness", "request")
_ON_SECP256K1 = ("anchor", "governor")
_SCRYPT = {"n": 2**15, "r": 8, "p": 1}
_SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@dataclass(frozen=True, slots=True)
class Signer:
    """An Ed25519 key in use. `sign` takes any bytes and returns 64; it may be called from several threads. `others` are
    the public keys of the same use that came before it or will come after it."""

    kid: str
    public: bytes
    sign: Callable[[bytes], bytes]
    others: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """The public half of the keys that a department registers."""

    statement: Ed25519PublicKey
    log: Ed25519PublicKey
    encryption: X25519PublicKey
    anchor: EllipticCurvePublicKey
    witness: Ed25519PublicKey
    request: Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key of a use as the keystore holds it; `kid` is its thumbprint. See the module's text."""

    kid: str
    secret: bytes
    since: int | None
    settled: bool


class KeyAgent(Protocol):
    """What the ledger asks of an agent. Each call raises KeyRefused for a department it holds no keys of.

    Where `at` (seconds since 1970; None: now) is asked, the key is the one in force then. What is signed with it must
    be dated `at` or not at all. Raises CouldNotRun while it is not known whether a rotation took place.
    """

    def index_key(self) -> bytes:
        """The consortium's 32-byte blind index key. Raises CouldNotRun where the consortium has not handed it over."""

    def operator_key(self) -> bytes:
        """The 32-byte secp256k1 key of the account that set the chain's contracts up."""

    def statement_signer(self, department: str, at: float | None = None) -> Signer:
        """Signs statements."""

    def log_signer(self, department: str, at: float | None = None) -> Signer:
        """Signs checkpoints and anchor hints."""

    def witness_signer(self, department: str, at: float | None = None) -> Signer:
        """Cosigns other departments' checkpoints."""

    def request_signer(self, department: str, at: float | None = None) -> Signer:
        """Signs requests to other departments' nodes (RFC 9421)."""

    def anchor_key(self, department: str, at: float | None = None) -> bytes:
        """The 32-byte secp256k1 key of the department's anchoring account."""

    def governor_key(self, department: str) -> bytes:
        """The 32-byte secp256k1 key of the account that votes for the department."""

    def encryption_key(self, department: str, at: float | None = None) -> X25519PublicKey:
        """The public key that key-encryption keys are wrapped to."""

    def unwrap_kek(self, department: str, wrapped: bytes, info: bytes, recipient: str) -> bytes:
        """Opens a key-encryption key (see `crypto.envelope`) that was wrapped to the key with the kid `recipient`."""

    def open_sealed(self, department: str, sealed: bytes, info: bytes, recipient: str) -> bytes:
        """Opens what `crypto.envelope.seal_to` sealed to the department's encryption key with the kid `recipient`."""


class FileKeyAgent:
    """The development agent. Not for production: whoever reads file and passphrase holds every key."""

    def __init__(self, directory: Path, passphrase: str) -> None:
        self._path = directory / KEYSTORE
        self._passphrase = passphrase
        self._file = _identity(self._path)
        self._keys = open_secrets(self._path, passphrase)
        self._held: dict[tuple[str, str], list[HeldKey]] = {}
        self._signers: dict[tuple[str, int], Signer] = {}
        self.settle: Callable[[str, str], None] = lambda _department, _use: None
        """Called with department and use when a key is due of which the registry must say whether it has it."""

    @classmethod
    def create(cls, directory: Path, *, joining: bool = False) -> FileKeyAgent:
        """Makes a keystore with a fresh operator key and index key; `joining`: without the index key, which the
        consortium hands over (`take_index_key`).

        The passphrase comes from the environment, or else a random one is written beside the keystore (mode 0600).
        """
        passphrase = new_passphrase(directory)
        index = None if joining else b64encode(os.urandom(32))
        keys: dict[str, Any] = {"index": index, "operator": b64encode(_secp256k1_secret()), "departments": {}}
        seal_secrets(directory / KEYSTORE, passphrase, keys)
        return cls(directory, passphrase)

    @classmethod
    def open(cls, directory: Path) -> FileKeyAgent:
        """Opens a keystore. Raises CouldNotRun when there is none, or the passphrase is missing or wrong."""
        return cls(directory, passphrase_of(directory))

    def create_department(self, department: str) -> PublicKeys:
        """Draws a department's seven keys and stores them durably. Existing keys are kept and returned."""
        with _locked(self._path.parent):
            self._reload()
            keys = self._keys["departments"].get(department, {})
            if not set(_KEY_USES) <= keys.keys():  # new, or from before departments had a witness or a request key
                self._keys["departments"][department] = {
                    "statement": b64encode(Ed25519PrivateKey.generate().private_bytes_raw()),
                    "log": b64encode(Ed25519PrivateKey.generate().private_bytes_raw()),
                    "encryption": b64encode(X25519PrivateKey.generate().private_bytes_raw()),
                    "anchor": b64encode(_secp256k1_secret()),
                    "governor": b64encode(_secp256k1_secret()),
                    "witness": b64encode(Ed25519PrivateKey.generate().private_bytes_raw()),
                    "request": b64encode(Ed25519PrivateKey.generate().private_bytes_raw()),
                } | keys
                seal_secrets(self._path, self._passphrase, self._keys)
        settled = {use: self._newest_settled(department, use) for use in _KEY_USES}
        return PublicKeys(**{use: _public_key(use, key.secret) for use, key in settled.items()})  # type: ignore[arg-type]

    # -- rotation --

    def departments(self) -> list[str]:
        """The departments whose keys are here, sorted."""
        self._refresh()
        return sorted(self._keys["departments"])

    def held(self, department: str, use: str) -> list[HeldKey]:
        """The department's keys of a use, newest last, as the file has them now."""
        self._refresh()
        kept = self._held.get((department, use))
        if kept is None:
            kept = self._held[department, use] = [_held(use, item) for item in self._stored(department, use)]
        return kept

    def draw(self, department: str, use: str) -> HeldKey:
        """The key that the next rotation goes to: the one that was drawn and not settled yet, or else a fresh one,
        stored durably."""
        self._require(department, use)
        with _locked(self._path.parent):
            self._reload()
            held = self.held(department, use)
            if held[-1].settled:
                secret = _new_secret(use)
                self._store(department, use, [*held, HeldKey(_kid(use, secret), secret, None, False)])
        return self.held(department, use)[-1]

    def mark(self, department: str, use: str, kid: str, since: int | None, *, settled: bool) -> None:
        """Writes durably since when a key is in force, and whether the registry is known to have it so."""
        with _locked(self._path.parent):
            self._reload()
            held = [
                HeldKey(key.kid, key.secret, since, settled) if key.kid == kid else key
                for key in self.held(department, use)
            ]
            self._store(department, use, held)

    def destroy_before(self, department: str, use: str, kid: str, needed: Collection[str]) -> int:
        """Deletes the keys of a use before `kid`, but for those `needed`, durably; how many. What they opened opens no
        more; what the file system keeps of the old file is not reached. Raises KeyRefused where `kid` is not held."""
        with _locked(self._path.parent):
            self._reload()
            held = self.held(department, use)
            places = [place for place, key in enumerate(held) if key.kid == kid]
            if not places:
                raise KeyRefused(f"this node does not hold {use} key {kid[:64]!r} of department {department!r}")
            kept = [key for place, key in enumerate(held) if place >= places[0] or key.kid in needed]
            if len(kept) < len(held):
                self._store(department, use, kept)
        return len(held) - len(kept)

    def index_key(self) -> bytes:
        if self._keys["index"] is None:
            self._refresh()
        if self._keys["index"] is None:
            raise CouldNotRun(
                "this node has no index key yet: a node of the consortium hands it over with `yunxi department admit`, "
                "and `yunxi department finish` takes it"
            )
        return b64decode(self._keys["index"], "keystore")

    def take_index_key(self, key: bytes) -> None:
        """Stores the consortium's 32-byte index key durably; nothing where it is here already. Raises KeyRefused where
        there is another one, by which this node's records are indexed."""
        with _locked(self._path.parent):
            self._reload()
            if self._keys["index"] is None:
                self._keys["index"] = b64encode(key)
                seal_secrets(self._path, self._passphrase, self._keys)
                self._file = _identity(self._path)
        if self.index_key() != key:
            raise KeyRefused(
                "this node has another index key than the consortium, and its records are indexed by it: join with a "
                "fresh node (`yunxi init --join`)"
            )

    def operator_key(self) -> bytes:
        return b64decode(self._keys["operator"], "keystore")

    def statement_signer(self, department: str, at: float | None = None) -> Signer:
        return self._signer(department, "statement", at)

    def log_signer(self, department: str, at: float | None = None) -> Signer:
        return self._signer(department, "log", at)

    def witness_signer(self, department: str, at: float | None = None) -> Signer:
        return self._signer(department, "witness", at)

    def request_signer(self, department: str, at: float | None = None) -> Signer:
        return self._signer(department, "request", at)

    def anchor_key(self, department: str, at: float | None = None) -> bytes:
        return self._in_force(department, "anchor", at).secret

    def governor_key(self, department: str) -> bytes:
        return self._in_force(department, "governor", None).secret

    def encryption_key(self, department: str, at: float | None = None) -> X25519PublicKey:
        return X25519PrivateKey.from_private_bytes(self._in_force(department, "encryption", at).secret).public_key()

    def unwrap_kek(self, department: str, wrapped: bytes, info: bytes, recipient: str) -> bytes:
        return unwrap_kek(wrapped, self._x25519(department, recipient), info)

    def open_sealed(self, department: str, sealed: bytes, info: bytes, recipient: str) -> bytes:
        return open_sealed(sealed, self._x25519(department, recipient), info)

    def key_of(self, department: str, kid: str) -> X25519PublicKey:
        """The public half of the encryption key `kid`, in force or not. Raises KeyRefused for one that is not held."""
        return self._x25519(department, kid).public_key()

    def _x25519(self, department: str, kid: str) -> X25519PrivateKey:
        secret = next((key.secret for key in self.held(department, "encryption") if key.kid == kid), None)
        if secret is None:
            raise KeyRefused(f"this node does not hold encryption key {kid[:64]!r} of department {department!r}")
        return X25519PrivateKey.from_private_bytes(secret)

    def _signer(self, department: str, use: str, at: float | None) -> Signer:
        key, held = self._in_force(department, use, at), self.held(department, use)
        signer = self._signers.get((key.kid, len(held)))
        if signer is None:
            signer = _signer(Ed25519PrivateKey.from_private_bytes(key.secret))
            others = tuple(_raw_ed25519(other.secret) for other in held if other.kid != key.kid)
            signer = self._signers[key.kid, len(held)] = replace(signer, others=others)
        return signer

    def _in_force(self, department: str, use: str, at: float | None) -> HeldKey:
        now = time.time() if at is None else at
        held = self.held(department, use)
        if _unsettled(held, now):
            self.settle(department, use)
            held = self.held(department, use)
            if _unsettled(held, now):
                raise CouldNotRun(
                    f"a rotation of the {use} key of {department!r} was cut off: run `yunxi department rotate "
                    f"{department} --use {use}` again; nothing is signed until it is known which key the chain has"
                )
        return next((key for key in reversed(held) if key.settled and (key.since or 0) <= now), held[0])

    def _newest_settled(self, department: str, use: str) -> HeldKey:
        return next(key for key in reversed(self.held(department, use)) if key.settled)

    def _stored(self, department: str, use: str) -> list[Any]:
        self._require(department, use)
        stored = self._keys["departments"][department][use]
        return stored if isinstance(stored, list) else [stored]

    def _store(self, department: str, use: str, held: list[HeldKey]) -> None:
        self._keys["departments"][department][use] = [
            {"kid": key.kid, "secret": b64encode(key.secret), "since": key.since, "settled": key.settled}
            for key in held
        ]
        seal_secrets(self._path, self._passphrase, self._keys)
        self._file = _identity(self._path)  # ours, and nobody else writes under the lock
        self._held.clear()

    def _require(self, department: str, use: str) -> None:
        keys = self._keys["departments"].get(department)
        if keys is None:
            raise KeyRefused(f"this node holds no keys of department {department!r}: run `yunxi department add`")
        if use not in keys:
            raise KeyRefused(f"department {department!r} has no {use} key yet: run `yunxi department add` again")

    def _refresh(self) -> None:
        # another process may have added a department or rotated a key; looking costs 2 µs, opening a tenth of a second
        if _identity(self._path) != self._file:
            self._reload()

    def _reload(self) -> None:
        self._file = _identity(self._path)  # before it is read: what is written meanwhile is read the next time
        self._keys = open_secrets(self._path, self._passphrase)
        self._held.clear()


def create_signer(directory: Path) -> Signer:
    """Makes a keystore with one fresh Ed25519 key, for a witness; the passphrase as in `FileKeyAgent.create`."""
    passphrase, key = new_passphrase(directory), Ed25519PrivateKey.generate()
    seal_secrets(directory / KEYSTORE, passphrase, {"witness": b64encode(key.private_bytes_raw())})
    return _signer(key)


def open_signer(directory: Path) -> Signer:
    """Opens what `create_signer` made. Raises CouldNotRun as `FileKeyAgent.open`."""
    keys = open_secrets(directory / KEYSTORE, passphrase_of(directory))
    if not isinstance(keys.get("witness"), str):
        raise CouldNotRun(f"the keystore in {directory} is not a witness's: restore it from its backup")
    return _signer(Ed25519PrivateKey.from_private_bytes(b64decode(keys["witness"], "keystore")))


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


def _signer(key: Ed25519PrivateKey) -> Signer:
    public = key.public_key()
    return Signer(kid=kid_of(public), public=public.public_bytes_raw(), sign=key.sign)


def _unsettled(held: list[HeldKey], now: float) -> bool:
    newest = held[-1]
    return not newest.settled and newest.since is not None and newest.since <= now


def _held(use: str, stored: Any) -> HeldKey:
    if isinstance(stored, str):
        secret = b64decode(stored, "keystore")
        return HeldKey(_kid(use, secret), secret, 0, True)
    return HeldKey(stored["kid"], b64decode(stored["secret"], "keystore"), stored["since"], stored["settled"])


def _new_secret(use: str) -> bytes:
    # any 32 random bytes are a secret key of Ed25519 and of X25519 (RFC 8032, RFC 7748)
    return _secp256k1_secret() if use in _ON_SECP256K1 else os.urandom(32)


def _public_key(use: str, secret: bytes) -> PublicKey:
    if use in _ON_SECP256K1:
        return _secp256k1_public(secret)
    if use == "encryption":
        return X25519PrivateKey.from_private_bytes(secret).public_key()
    return Ed25519PrivateKey.from_private_bytes(secret).public_key()


def public_key(use: str, secret: bytes) -> bytes:
    """The registry's form of a key: Ed25519 and X25519 32 bytes, secp256k1 64 bytes x ‖ y."""
    return raw_public_key(_public_key(use, secret))


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


def raw_public_key(key: PublicKey) -> bytes:
    """The same of a public key."""
    if isinstance(key, EllipticCurvePublicKey):
        numbers = key.public_numbers()
        return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    return key.public_bytes_raw()


def _kid(use: str, secret: bytes) -> str:
    return kid_of(_public_key(use, secret))


def _raw_ed25519(secret: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def _identity(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0  # `_open` says what is wrong with it
    return found.st_ino, found.st_mtime_ns, found.st_size


def _secp256k1_secret() -> bytes:
    return (secrets.randbelow(_SECP256K1_ORDER - 1) + 1).to_bytes(32, "big")


def _secp256k1_public(secret: bytes) -> EllipticCurvePublicKey:
    return derive_private_key(int.from_bytes(secret, "big"), SECP256K1()).public_key()


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


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    # two processes that each add a department would otherwise write one of them away, keys and all
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
