"""A witness of its own: one directory with its name, its key and its state. It needs no node and no chain.

witness.toml  the name      keys/  the encrypted keystore      witness.sqlite  what it cosigned last, and conflicts

A witness that forgot what it cosigned would cosign another history, so nothing here is made anew when it is missing,
and a copy of an older state must never be brought back.
"""

from __future__ import annotations

import json
import os
import time
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

from sqlalchemy import inspect

from ledger.errors import CouldNotRun, Malformed, NodeMissing, TrustRefused
from ledger.formats.note import COSIGNATURE_ED25519, ED25519, VerifierKey
from ledger.keys import create_signer, open_signer
from ledger.store.blobs import sync_directory
from ledger.store.database import Database
from ledger.store.models import metadata, witness_conflicts, witness_heads
from ledger.witness.core import Conflict, Logs, Witness
from ledger.witness.store import SqlStore

SETTINGS = "witness.toml"
STATE = "witness.sqlite"
MAX_NAME_CHARACTERS = 200

_TABLES = (witness_heads, witness_conflicts)


def create_witness(directory: Path, name: str) -> VerifierKey:
    """Makes a witness in `directory` (absent or empty) and returns its verifier key, which the logs need.

    `witness.toml` is written last: a directory without it is no witness, and what a crash left there may be deleted.
    Raises CouldNotRun when the directory is taken, Malformed for a name that no key can have.
    """
    if len(name) > MAX_NAME_CHARACTERS:
        raise Malformed("witness name", f"has more than {MAX_NAME_CHARACTERS} characters")
    VerifierKey.of(name, COSIGNATURE_ED25519, bytes([2] * 32))  # before anything is written
    if directory.exists() and any(directory.iterdir()):
        raise CouldNotRun(f"{directory} is not empty: name another directory for the witness")
    directory.mkdir(parents=True, exist_ok=True)
    signer = create_signer(directory / "keys")
    database = _database(directory)
    with database.writing() as connection:
        metadata.create_all(connection, tables=_TABLES)
    database.close()
    vkey = VerifierKey.of(name, COSIGNATURE_ED25519, signer.public)
    _write_settings(directory, vkey)
    return vkey


class WitnessDirectory:
    """An open witness directory. `close` when done."""

    def __init__(self, directory: Path, logs: Logs, clock: Callable[[], float] = time.time) -> None:
        """Raises NodeMissing when there is no witness, CouldNotRun when key or state are not as they should be."""
        vkey = _read_settings(directory)
        signer = open_signer(directory / "keys")
        if signer.public != vkey.public:
            raise CouldNotRun(f"the key in {directory} is not that of {vkey}: restore the keys directory")
        self.database = _open_state(directory)
        self.witness = Witness(vkey.name, signer, logs, SqlStore.of(vkey, self.database), clock)

    def close(self) -> None:
        """Closes the database."""
        self.database.close()


def logs_by_origin(keys: Iterable[VerifierKey]) -> Logs:
    """The logs of these keys: a key's name is its log's origin; several keys of one log may be given.

    Raises TrustRefused for a key that is not of the type that signs checkpoints, and when there is none.
    """
    logs: dict[str, list[VerifierKey]] = {}
    for key in keys:
        if key.type != ED25519:
            raise TrustRefused(f"the key of {key.name} is no log's key: it must be an Ed25519 note key, type 0x01")
        if key not in logs.setdefault(key.name, []):
            logs[key.name].append(key)
    if not logs:
        raise TrustRefused("a witness needs the key of a log at least: give --log VKEY or --trust FILE")
    return logs


def read_conflicts(directory: Path) -> list[Conflict]:
    """What the witness in `directory` keeps; needs no passphrase. Raises NodeMissing or CouldNotRun."""
    vkey, database = _read_settings(directory), _open_state(directory)
    try:
        return SqlStore.of(vkey, database).conflicts()
    finally:
        database.close()


def _open_state(directory: Path) -> Database:
    path = directory / STATE
    found: set[str] = set()
    database = _database(directory)
    if path.is_file():  # SQLite would make an empty one
        with database.reading() as connection:
            found = set(inspect(connection).get_table_names())
    if not found.issuperset(table.name for table in _TABLES):
        database.close()
        raise CouldNotRun(
            f"the witness's state {path} is missing: without it a fork would pass; make a new witness with a new key"
        )
    return database


def _database(directory: Path) -> Database:
    return Database(f"sqlite:///{directory.absolute() / STATE}")


def _write_settings(directory: Path, vkey: VerifierKey) -> None:
    temporary = directory / (SETTINGS + ".new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(f"# Written by `yunxi witness init`. Give the logs this key.\nvkey = {json.dumps(str(vkey))}\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(directory / SETTINGS)
    sync_directory(directory)


def _read_settings(directory: Path) -> VerifierKey:
    path = directory / SETTINGS
    try:
        return VerifierKey.parse(tomllib.loads(path.read_text("utf-8"))["vkey"])
    except FileNotFoundError as error:
        raise NodeMissing(f"{directory} is no witness directory: make one with `yunxi witness init`") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, AttributeError, Malformed) as error:
        raise CouldNotRun(f"{path} cannot be read: {error}; restore it") from error
