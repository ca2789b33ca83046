"""A node's settings: one frozen object per process, read from `node.toml` at the entry point and passed down."""

from __future__ import annotations

import json
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.errors import CouldNotRun, NodeMissing

SETTINGS_FILE = "node.toml"
EMBEDDED = "embedded"

_CONSORTIUM = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_ENGINES = (EMBEDDED, "clique", "qbft")


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
class Settings:
    """A node's settings. `consortium` is the first part of every log's origin; `database` is a SQLAlchemy URL, where a
    relative SQLite path stands relative to the node directory."""

    directory: Path
    consortium: str
    database: str
    chain: ChainSettings

    @classmethod
    def load(cls, directory: Path) -> Settings:
        """Reads `node.toml`. Raises NodeMissing when there is none, CouldNotRun when it is not what it should be."""
        path = directory / SETTINGS_FILE
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError as error:
            raise NodeMissing(
                f"{directory} is no node directory: name one with --node or YUNXI_NODE, or make one with `yunxi init`"
            ) from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise CouldNotRun(f"{path} cannot be read: {error}") from error
        try:
            return cls(directory, check_consortium(values["consortium"]), values["database"], _chain(values["chain"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CouldNotRun(f"{path} is incomplete: {error}; restore it from a backup") from error

    def save(self) -> None:
        """Writes `node.toml` anew, durable on return."""
        chain = self.chain
        lines = [
            "# Written by `yunxi init`. The chain section pins the chain: only a vote of the consortium may change it.",
            f"consortium = {json.dumps(self.consortium)}",
            f"database = {json.dumps(self.database)}",
            "",
            "[chain]",
            *(f"{name} = {json.dumps(getattr(chain, name))}" for name in ChainSettings.__slots__),
        ]
        temporary = self.directory / (SETTINGS_FILE + ".new")
        with temporary.open("w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.directory / SETTINGS_FILE)


def check_consortium(name: str) -> str:
    """The name, if it can stand first in a log's origin. Raises ValueError otherwise."""
    if not _CONSORTIUM.fullmatch(name):
        raise ValueError(f"consortium {name!r} must be a name like district.example, in lower case")
    return name


def _chain(values: dict[str, Any]) -> ChainSettings:
    chain = ChainSettings(**values)
    if chain.engine not in _ENGINES:
        raise ValueError(f"chain engine {chain.engine!r} is not one of {', '.join(_ENGINES)}")
    return chain
