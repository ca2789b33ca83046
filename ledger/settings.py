"""A node's settings: one frozen object per process, read from `node.toml` at the entry point and passed down."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger.errors import CouldNotRun, Malformed, NodeMissing
from ledger.formats.note import COSIGNATURE_ED25519, VerifierKey
from ledger.formats.texts import folded
from ledger.retention import Period, retention_rules
from ledger.store.blobs import sync_directory
from ledger.timestamps.settings import TimestampSettings, timestamp_settings

SETTINGS_FILE = "node.toml"
EMBEDDED = "embedded"
DEFAULT_DATABASE = "sqlite:///ledger.sqlite"

_CONSORTIUM = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
ENGINES = (EMBEDDED, "clique", "qbft")


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """Which chain this node anchors on. `url` is empty for the embedded chain; `id` and `genesis` (0x…) pin it."""

    engine: str
    url: str
    id: int
    genesis: str
    consortium: str
    evidence_log: str
    confirmations: int = 0


@dataclass(frozen=True, slots=True)
class WitnessSettings:
    """A witness outside this node: `[[witnesses]]` in node.toml. `vkey` is its C2SP verifier key, `url` its submission
    prefix, `operator` who runs it. Raises ValueError where one is not fit."""

    name: str
    vkey: str
    url: str
    operator: str
    required: bool = False
    key: VerifierKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        texts = (self.name, self.vkey, self.url, self.operator)
        if not all(isinstance(text, str) and 0 < len(text) <= 400 for text in texts) or type(self.required) is not bool:
            raise ValueError("a witness needs the texts name, vkey, url and operator; required is true or false")
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"the url of witness {self.name} must begin with http:// or https://")
        object.__setattr__(self, "key", VerifierKey.parse(self.vkey))
        if self.key.type != COSIGNATURE_ED25519:
            raise ValueError(f"the vkey of witness {self.name} is no Ed25519 cosignature key (type 0x04)")


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """What a receipt's checkpoint should have: cosignatures from `quorum` of the `hands`, who each have one or more
    vkeys, and those of the `required` vkeys."""

    quorum: int = 0
    hands: tuple[tuple[str, ...], ...] = ()
    required: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """A node's settings. `consortium` is the first part of every log's origin; `database` is a SQLAlchemy URL, where a
    relative SQLite path stands relative to the node directory. `operator` is who runs the node, in words for the trust
    file; `quorum` is how many witnesses must have cosigned the checkpoint of a receipt; `blobs` is where attachments
    lie: empty for the node's own directory, or s3://bucket/prefix."""

    directory: Path
    consortium: str
    database: str
    chain: ChainSettings
    operator: str = ""
    quorum: int = 0
    witnesses: tuple[WitnessSettings, ...] = ()
    blobs: str = ""
    timestamps: TimestampSettings = field(default_factory=TimestampSettings)
    retention: Mapping[str, Period] = field(default_factory=dict)

    @classmethod
    def load(cls, directory: Path) -> Settings:
        """Reads `node.toml`. Raises NodeMissing when there is none, CouldNotRun when it is not what it should be."""
        path = directory / SETTINGS_FILE
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NodeMissing(
                f"{directory} is no node directory: name one with --node or YUNXI_NODE, or make one with `yunxi init`"
            ) from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise CouldNotRun(f"{path} cannot be read: {error}") from error
        try:
            return cls(
                directory,
                check_consortium(values["consortium"]),
                values["database"],
                _chain(values["chain"]),
                operator=str(values.get("operator", "")),
                quorum=_quorum(values.get("quorum", 0)),
                witnesses=_witnesses(values.get("witnesses", [])),
                blobs=_blobs(values.get("blobs", {})),
                timestamps=timestamp_settings(values.get("timestamps", {}), directory),
                retention=retention_rules(values.get("retention", {})),
            )
        except (KeyError, TypeError, ValueError, Malformed) as error:
            raise CouldNotRun(f"{path} is incomplete: {error}; restore it from a backup") from error

    @property
    def policy(self) -> WitnessPolicy:
        """The policy that the trust file of this node states: who runs the node is no witness of it."""
        hands: dict[str, list[str]] = {}
        for witness in self.witnesses:
            if folded(witness.operator) != folded(self.operator):
                hands.setdefault(folded(witness.operator), []).append(str(witness.key))
        required = tuple(str(witness.key) for witness in self.witnesses if witness.required)
        return WitnessPolicy(self.quorum, tuple(map(tuple, hands.values())), required)

    def save(self) -> None:
        """Writes `node.toml` anew, durable on return."""
        chain = self.chain
        lines = [
            "# Written by `yunxi init`. The chain section pins the chain: only a vote of the consortium may change it.",
            f"consortium = {json.dumps(self.consortium)}",
            f"database = {json.dumps(self.database)}",
            *([f"operator = {json.dumps(self.operator, ensure_ascii=False)}"] if self.operator else []),
            *([f"quorum = {self.quorum}"] if self.quorum else []),
            "",
            "[chain]",
            *(f"{name} = {json.dumps(getattr(chain, name))}" for name in ChainSettings.__slots__),
            *(["", "[blobs]", f"url = {json.dumps(self.blobs)}"] if self.blobs else []),
            *(line for witness in self.witnesses for line in _witness_lines(witness)),
            *_service_lines(self.directory / SETTINGS_FILE),
        ]
        temporary = self.directory / (SETTINGS_FILE + ".new")
        with temporary.open("w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.directory / SETTINGS_FILE)
        sync_directory(self.directory)


def check_consortium(name: str) -> str:
    """The name, if it can stand first in a log's origin. Raises ValueError otherwise."""
    if not _CONSORTIUM.fullmatch(name):
        raise ValueError(f"consortium {name!r} must be a name like district.example, in lower case")
    return name


def _quorum(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("quorum must be a number of witnesses, 0 or more")
    return value


def _blobs(values: dict[str, Any]) -> str:
    url = values.get("url", "")
    if values.keys() - {"url"} or not isinstance(url, str) or (url and not url.startswith("s3://")):
        raise ValueError("[blobs] has one member, url, like s3://bucket/prefix")
    return url


def _witnesses(values: list[dict[str, Any]]) -> tuple[WitnessSettings, ...]:
    found = tuple(WitnessSettings(**members) for members in values)
    if len({witness.key.public for witness in found}) < len(found) or len({w.name for w in found}) < len(found):
        raise ValueError("two of the witnesses have the same name or key")
    return found


def _witness_lines(witness: WitnessSettings) -> Iterator[str]:
    yield from ("", "[[witnesses]]")
    for name in ("name", "vkey", "url", "operator", "required"):
        yield f"{name} = {json.dumps(getattr(witness, name), ensure_ascii=False)}"


def _service_lines(path: Path) -> Iterator[str]:
    """The lines of the sections that people write, such as `[gateway]` and its parts, as they stand."""
    kept = False
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        if line.lstrip().startswith("["):
            kept = re.match(r"\s*\[\[?\s*(gateway|timestamps|retention)\s*[].]", line) is not None
        if kept:
            yield line


def _chain(values: dict[str, Any]) -> ChainSettings:
    chain = ChainSettings(**values)
    if chain.engine not in ENGINES:
        raise ValueError(f"chain engine {chain.engine!r} is not one of {', '.join(ENGINES)}")
    return chain
