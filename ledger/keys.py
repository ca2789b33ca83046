"""Key agents: whoever holds a department's private keys and uses them on request.

`FileKeyAgent` is the development agent: all keys in one file (`ledger.keystore`). Production agents (PKCS#11, a KMS)
implement the same `KeyAgent`; nothing else in the ledger touches a long-term private key.

A use has one key, or after a rotation several, newest last; only encryption keys are ever deleted, when what was
forgotten is shredded (`ledger.shredding`). In the keystore

    keys of a use = base64(secret)                                        in force from the beginning
                  | [{"kid": …, "secret": base64, "since": seconds | null, "settled": boolean} …]

`since` is when the key begins to be used, by the chain's registry; null: drawn, not yet planned. While `settled` is
false the keystore does not know whether the registry took the key (see `ledger.rotation`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ledger.crypto.envelope import open_sealed, unwrap_kek
from ledger.errors import CouldNotRun, KeyRefused
from ledger.formats.encoding import b64decode, b64encode
from ledger.formats.jwk import kid_of
from ledger.keystore import KEYSTORE, identity, locked, new_passphrase, open_secrets, passphrase_of, seal_secrets
from ledger.public_keys import REGISTERED_USES, PublicKeys, new_secret, public_half


@dataclass(frozen=True, slots=True)
class Signer:
    """An Ed25519 key in use. `sign` takes any bytes and returns 64; it may be called from several threads. `others` are
    the public keys of the same use that came before it or will come after it."""

    kid: str
    public: bytes
    sign: Callable[[bytes], bytes]
    others: tuple[bytes, ...] = ()


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
        self._file = identity(self._path)
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
        keys: dict[str, Any] = {"index": index, "operator": b64encode(new_secret("operator")), "departments": {}}
        seal_secrets(directory / KEYSTORE, passphrase, keys)
        return cls(directory, passphrase)

    @classmethod
    def open(cls, directory: Path) -> FileKeyAgent:
        """Opens a keystore. Raises CouldNotRun when there is none, or the passphrase is missing or wrong."""
        return cls(directory, passphrase_of(directory))

    def create_department(self, department: str) -> PublicKeys:
        """Draws a department's seven keys and stores them durably. Existing keys are kept and returned."""
        with locked(self._path.parent):
            self._reload()
            keys = self._keys["departments"].get(department, {})
            # new, or from before departments had a witness or a request key
            if not set(REGISTERED_USES) <= keys.keys():
                drawn = {use: b64encode(new_secret(use)) for use in (*REGISTERED_USES, "governor")}
                self._keys["departments"][department] = drawn | keys
                seal_secrets(self._path, self._passphrase, self._keys)
        settled = {use: self._newest_settled(department, use) for use in REGISTERED_USES}
        return PublicKeys(**{use: public_half(use, key.secret) for use, key in settled.items()})  # type: ignore[arg-type]

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
        with locked(self._path.parent):
            self._reload()
            held = self.held(department, use)
            if held[-1].settled:
                secret = new_secret(use)
                self._store(department, use, [*held, HeldKey(kid_of(public_half(use, secret)), secret, None, False)])
        return self.held(department, use)[-1]

    def mark(self, department: str, use: str, kid: str, since: int | None, *, settled: bool) -> None:
        """Writes durably since when a key is in force, and whether the registry is known to have it so."""
        with locked(self._path.parent):
            self._reload()
            held = [
                HeldKey(key.kid, key.secret, since, settled) if key.kid == kid else key
                for key in self.held(department, use)
            ]
            self._store(department, use, held)

    def destroy_before(self, department: str, use: str, kid: str, needed: Collection[str]) -> int:
        """Deletes the keys of a use before `kid`, but for those `needed`, durably; how many. What they opened opens no
        more; what the file system keeps of the old file is not reached. Raises KeyRefused where `kid` is not held."""
        with locked(self._path.parent):
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
        with locked(self._path.parent):
            self._reload()
            if self._keys["index"] is None:
                self._keys["index"] = b64encode(key)
                seal_secrets(self._path, self._passphrase, self._keys)
                self._file = identity(self._path)
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
        return self.key_of(department, self._in_force(department, "encryption", at).kid)

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
            signer = signer_of(key.secret)
            others = tuple(signer_of(other.secret).public for other in held if other.kid != key.kid)
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
        self._file = identity(self._path)  # ours, and nobody else writes under the lock
        self._held.clear()

    def _require(self, department: str, use: str) -> None:
        keys = self._keys["departments"].get(department)
        if keys is None:
            raise KeyRefused(f"this node holds no keys of department {department!r}: run `yunxi department add`")
        if use not in keys:
            raise KeyRefused(f"department {department!r} has no {use} key yet: run `yunxi department add` again")

    def _refresh(self) -> None:
        # another process may have added a department or rotated a key; looking costs 2 µs, opening a tenth of a second
        if identity(self._path) != self._file:
            self._reload()

    def _reload(self) -> None:
        self._file = identity(self._path)  # before it is read: what is written meanwhile is read the next time
        self._keys = open_secrets(self._path, self._passphrase)
        self._held.clear()


def create_signer(directory: Path) -> Signer:
    """Makes a keystore with one fresh Ed25519 key, for a witness; the passphrase as in `FileKeyAgent.create`."""
    passphrase, secret = new_passphrase(directory), new_secret("witness")
    seal_secrets(directory / KEYSTORE, passphrase, {"witness": b64encode(secret)})
    return signer_of(secret)


def open_signer(directory: Path) -> Signer:
    """Opens what `create_signer` made. Raises CouldNotRun as `FileKeyAgent.open`."""
    keys = open_secrets(directory / KEYSTORE, passphrase_of(directory))
    if not isinstance(keys.get("witness"), str):
        raise CouldNotRun(f"the keystore in {directory} is not a witness's: restore it from its backup")
    return signer_of(b64decode(keys["witness"], "keystore"))


def signer_of(secret: bytes) -> Signer:
    """The signer of a 32-byte Ed25519 secret key."""
    key = Ed25519PrivateKey.from_private_bytes(secret)
    public = key.public_key()
    return Signer(kid=kid_of(public), public=public.public_bytes_raw(), sign=key.sign)


def _unsettled(held: list[HeldKey], now: float) -> bool:
    newest = held[-1]
    return not newest.settled and newest.since is not None and newest.since <= now


def _held(use: str, stored: Any) -> HeldKey:
    if isinstance(stored, str):
        secret = b64decode(stored, "keystore")
        return HeldKey(kid_of(public_half(use, secret)), secret, 0, True)
    return HeldKey(stored["kid"], b64decode(stored["secret"], "keystore"), stored["since"], stored["settled"])
