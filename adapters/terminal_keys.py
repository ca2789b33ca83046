"""What a terminal holds in its keystore: its own keys, its enrolment, its officers' PINs (stretched).

{"terminal", "department", "code", "statement", "request", "enrolment", "queue", "mark": secrets,
 "officers": {certificate number: {"name", "salt", "pin"}}, "enrolled": null | the node's enrolment}
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ledger.enrolment import Enrolment, Request, check_name, draw_code
from ledger.errors import CouldNotRun
from ledger.formats.encoding import b64decode, b64encode
from ledger.keys import Signer, signer_of
from ledger.keystore import KEYSTORE, locked, new_passphrase, open_secrets, seal_secrets
from ledger.matters import HeldMatters
from ledger.public_keys import new_secret
from ledger.record_types import BUILT_IN, RecordTypes


class TerminalKeys:
    """A terminal's open keystore. Several processes may share its file; each sees what it held when it was opened."""

    def __init__(self, directory: Path, passphrase: str) -> None:
        """Raises CouldNotRun where there is no terminal's keystore, or its passphrase is another."""
        self._path = directory / KEYSTORE
        self._passphrase = passphrase
        self._content = open_secrets(self._path, passphrase)
        if "terminal" not in self._content:
            raise CouldNotRun(f"the keystore in {directory} is not a terminal's: name another directory")
        self.name: str = self._content["terminal"]
        self.department: str = self._content["department"]
        self._types: RecordTypes | None = None
        self._matters: HeldMatters | None = None

    @staticmethod
    def create(directory: Path, department: str, name: str) -> tuple[bytes, str]:
        """Makes a terminal's keys in a new directory; returns its request file and the code that goes with it.

        The passphrase comes from the environment, or a random one is written beside the keystore. Raises CouldNotRun
        where the directory is there, Malformed for a name that no terminal can have.
        """
        check_name(name)
        if directory.exists():
            raise CouldNotRun(f"{directory} is there already: name a new directory")
        code = draw_code()
        keys: dict[str, Any] = {"terminal": name, "department": department, "code": code}
        keys |= {use: b64encode(new_secret(use)) for use in ("statement", "request", "enrolment", "queue", "mark")}
        keys |= {"officers": {}, "enrolled": None}
        request = _request(keys)
        file = request.serialize(code)
        Request.parse(file, code)  # says what is wrong with the department's id before anything is written
        seal_secrets(directory / KEYSTORE, new_passphrase(directory), keys)
        return file, code

    def secret(self, use: str) -> bytes:
        """The 32-byte secret of a use."""
        return b64decode(self._content[use], "keystore")

    def signer(self, use: str) -> Signer:
        """Signs with the key for `statement` or `request`."""
        return signer_of(self.secret(use))

    def accept(self, enrolment: bytes) -> Enrolment:
        """Takes the node's enrolment file; a newer one brings newer record types and a newer list of matters. Raises
        Malformed, KeyRefused for one that was made for another terminal."""
        key = X25519PrivateKey.from_private_bytes(self.secret("enrolment"))
        found = Enrolment.open(enrolment, _request(self._content), self._content["code"], key)
        _load_types(found.types)
        HeldMatters.of_json(found.matters)
        members = {name: getattr(found, name) for name in Enrolment.__slots__}
        members |= {"index_key": b64encode(found.index_key), "recipient": b64encode(found.recipient)}
        with self._changing() as content:
            content["enrolled"] = members
        self._types = self._matters = None
        return found

    @property
    def enrolled(self) -> bool:
        """Whether a node has enrolled the terminal."""
        return self._content["enrolled"] is not None

    def enrolment(self) -> dict[str, Any]:
        """The members of the node's enrolment, keys in base64. Raises CouldNotRun where there is none yet."""
        found: dict[str, Any] | None = self._content["enrolled"]
        if found is None:
            raise CouldNotRun("this terminal is not enrolled yet: run `yunxi terminal accept` with its node's file")
        return found

    @property
    def types(self) -> RecordTypes:
        """The record types of its node."""
        if self._types is None:
            self._types = _load_types(self.enrolment()["types"])
        return self._types

    @property
    def matters(self) -> HeldMatters:
        """What its department held when, by its node."""
        if self._matters is None:
            self._matters = HeldMatters.of_json(self.enrolment()["matters"])
        return self._matters

    @property
    def officers(self) -> dict[str, dict[str, str]]:
        """Name, salt and stretched PIN (base64) by certificate number."""
        found: dict[str, dict[str, str]] = self._content["officers"]
        return found

    def add_officer(self, officer: str, kept: Mapping[str, str]) -> None:
        """Keeps an officer's members durably."""
        with self._changing() as content:
            content["officers"][officer] = dict(kept)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """The file as it is now; what is changed in it is written back."""
        with locked(self._path.parent):
            content = open_secrets(self._path, self._passphrase)
            yield content
            seal_secrets(self._path, self._passphrase, content)
        self._content = content


class _TypeFile:
    """A record type that came with the enrolment, read as a file."""

    def __init__(self, name: str, content: Any) -> None:
        self.name = name
        self._data = orjson.dumps(content)

    def open(self, _mode: str = "rb") -> Any:
        return io.BytesIO(self._data)


class _TypeFiles:
    """A directory of them."""

    def __init__(self, types: Mapping[str, Any]) -> None:
        self._types = types

    def iterdir(self) -> Iterator[_TypeFile]:
        return (_TypeFile(name, content) for name, content in self._types.items())


def _load_types(types: Mapping[str, Any]) -> RecordTypes:
    return RecordTypes.load(BUILT_IN, _TypeFiles(types))  # type: ignore[arg-type]  # what `load` uses of a directory


def _request(keys: Mapping[str, Any]) -> Request:
    secrets = {use: b64decode(keys[use], "keystore") for use in ("statement", "request", "enrolment")}
    return Request(
        department=keys["department"],
        name=keys["terminal"],
        statement=signer_of(secrets["statement"]).public,
        request=signer_of(secrets["request"]).public,
        enrolment=X25519PrivateKey.from_private_bytes(secrets["enrolment"]).public_key().public_bytes_raw(),
    )
