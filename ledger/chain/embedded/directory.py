"""What a chain directory holds, and the small files beside the database.

chain.sqlite   the chain: trusted, may not lose data, grows with every transaction (about 10 KB each)
chain.json     chain id, genesis hash, creation time: copied out of the database so that readers need not open it
daemon.json    who served the chain last: written at start and left there (the next daemon takes the same port);
               never trusted alone
daemon.log     what the daemon said; may be deleted
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ledger.errors import NodeMissing, StorageFailed

DATABASE = "chain.sqlite"
INFO = "chain.json"
STATE = "daemon.json"
LOG = "daemon.log"

WARNING = (
    "This is the embedded development chain: one process on this machine, for development and single-machine use; "
    "it proves nothing against whoever operates this machine."
)


@dataclass(frozen=True, slots=True)
class ChainInfo:
    """An embedded chain's identity. `genesis_hash` is 0x-hex of 32 bytes, `created_at` seconds since 1970."""

    chain_id: int
    genesis_hash: str
    created_at: int
    warning: str = WARNING


@dataclass(frozen=True, slots=True)
class DaemonState:
    """Where a daemon says it listens. `instance` is a secret: whoever presents it may stop the daemon."""

    pid: int
    port: int
    instance: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def describe(directory: Path) -> ChainInfo:
    """The identity of the chain in `directory`.

    Raises NodeMissing if none was created there, StorageFailed if the file that says so is lost or damaged.
    """
    if not (directory / DATABASE).is_file():
        raise NodeMissing(f"There is no embedded chain in {directory}; `yunxi init` creates one.")
    value = _read_json(directory / INFO) or {}
    try:
        return ChainInfo(int(value["chain_id"]), str(value["genesis_hash"]), int(value["created_at"]))
    except (KeyError, TypeError, ValueError) as error:
        raise StorageFailed(f"{directory / INFO} is lost or damaged; restore it from a backup.") from error


def write_info(directory: Path, info: ChainInfo) -> None:
    _write_json(directory / INFO, asdict(info), mode=0o644)


def read_state(directory: Path) -> DaemonState | None:
    """What the last daemon wrote, or None. The daemon may be long gone."""
    value = _read_json(directory / STATE)
    try:
        return None if value is None else DaemonState(int(value["pid"]), int(value["port"]), str(value["instance"]))
    except (KeyError, TypeError, ValueError):
        return None


def write_state(directory: Path, state: DaemonState) -> None:
    _write_json(directory / STATE, asdict(state), mode=0o600)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise StorageFailed(f"{path} cannot be read: {error.strerror}.") from error
    return value if isinstance(value, dict) else None


def _write_json(path: Path, value: dict[str, Any], *, mode: int) -> None:
    # write beside, then rename: a reader sees the old file or the new one, never half of one
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageFailed(f"{path} cannot be written: {error.strerror}.") from error
