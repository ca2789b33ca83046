"""A node: one directory with keys, database, blobs and (by default) its own chain, opened as one object.

node.toml      settings                     keys/      the key agent's store
ledger.sqlite  the database, by default     blobs/     encrypted attachments
chain/         the embedded chain           types/     record types of the node's own, beside the built-in ones
uploads/       files on their way in
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from ledger.chain import embedded
from ledger.errors import CouldNotRun
from ledger.intake import Intake
from ledger.keks import KekRing
from ledger.keys import FileKeyAgent
from ledger.record_types import load_types
from ledger.records import RecordReader
from ledger.settings import (
    DEFAULT_DATABASE,
    EMBEDDED,
    ENGINES,
    SETTINGS_FILE,
    ChainSettings,
    Settings,
    check_consortium,
)
from ledger.store import schema
from ledger.store.blobs import Blobs, BlobStore
from ledger.store.database import Database
from ledger.uploads import Uploads

# web3 takes a second to import, and reading one's own records needs no chain
if TYPE_CHECKING:
    from ledger.chain.client import ChainClient
    from ledger.chain.contracts import Addresses, ConsortiumContract, EvidenceLogContract

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class ChainLink:
    """The chain as this node uses it; nothing was asked of it yet."""

    client: ChainClient
    consortium: ConsortiumContract
    evidence_log: EvidenceLogContract


class Node:
    """An open node. Cheap parts are ready, the chain is connected when first asked for."""

    def __init__(self, settings: Settings, agent: FileKeyAgent, clock: Clock = time.time) -> None:
        directory = settings.directory
        self.settings = settings
        self.agent = agent
        agent.settle = self._settle_rotation
        self.clock = clock
        self.database = Database(_database_url(directory, settings.database))
        self.blobs = open_blobs(directory, settings.blobs)
        self.keks = KekRing(agent)
        self.types = load_types(directory)
        self.intake = self.new_intake()
        self.reader = RecordReader(self.keks, self.blobs)
        self.uploads = Uploads(self.database, self.blobs, self.keks, directory / "uploads", clock)

    @classmethod
    def open(cls, directory: Path, clock: Clock = time.time, *, check_schema: bool = True) -> Node:
        """Opens the node in `directory`. Raises NodeMissing when there is none, CouldNotRun when keys or database
        are not as they should be. `check_schema` False is for upgrading the database."""
        settings = Settings.load(directory)
        node = cls(settings, FileKeyAgent.open(directory / "keys"), clock)
        if check_schema:
            schema.require_current(node.database)
        return node

    def new_intake(self) -> Intake:
        """An intake of its own for another thread: one intake serves one."""
        return Intake(
            self.database, self.blobs, self.agent, self.keks, self.types, self.clock, require_time=self._require_time
        )

    def connect(self) -> ChainLink:
        """A link to the node's chain; starts the embedded chain if it is that and does not run.

        Raises ChainUnreachable when the embedded chain does not come up; a remote chain is not asked yet.
        """
        from ledger.chain.client import ChainClient
        from ledger.chain.contracts import ConsortiumContract, EvidenceLogContract

        chain = self.settings.chain
        url = chain_url(self.settings.directory, chain)
        client = ChainClient(url, chain.id, expected_genesis=bytes.fromhex(chain.genesis.removeprefix("0x")))
        return ChainLink(
            client, ConsortiumContract(client, chain.consortium), EvidenceLogContract(client, chain.evidence_log)
        )

    def _require_time(self, department: str) -> None:
        from ledger.timestamps.report import require_time

        require_time(self, department)

    def _settle_rotation(self, department: str, use: str) -> None:
        from ledger.rotation import settle

        settle(self, department, use)

    def close(self) -> None:
        """Closes the database; the embedded chain, shared with other processes, ends by itself when idle."""
        self.database.close()


def create_node(
    directory: Path,
    *,
    consortium: str,
    chain_url_or_embedded: str = EMBEDDED,
    database: str = DEFAULT_DATABASE,
    engine: str | None = None,
    confirmations: int | None = None,
    join: str | None = None,
) -> Settings:
    """Makes a node in `directory` (absent or empty): keys, database, and contracts deployed on its chain; or, with the
    address of a Consortium that stands there as `join`, a further node of it: it deploys nothing and has no index key.

    `engine` and `confirmations` (blocks until a block is final) None: as the chain's own first block says.
    `node.toml` is written last: a directory without it is no node, and what a crash left there may be deleted.
    Raises CouldNotRun when the directory is taken or a name is not fit, ChainUnreachable when the chain is not there,
    HistoryRefused or Refusal when the consortium to join is not there, or is another.
    """
    try:
        check_consortium(consortium)
    except ValueError as error:
        raise CouldNotRun(str(error)) from error
    _check_vacant(directory)
    engine, confirmations = _check_chain(chain_url_or_embedded, engine, confirmations)
    addresses = _find_consortium(chain_url_or_embedded, join, consortium) if join else None
    opened = Database(_database_url(directory, database))
    # whatever can be refused was asked before this line, so a refusal leaves nothing behind
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # node.toml and database may hold secrets
    schema.upgrade(opened)
    opened.close()
    agent = FileKeyAgent.create(directory / "keys", joining=join is not None)
    chain = _create_chain(directory, chain_url_or_embedded, addresses, agent.operator_key(), engine, confirmations)
    settings = Settings(directory, consortium, database, chain)
    settings.save()
    return settings


def open_blobs(directory: Path, url: str) -> Blobs:
    """The store of attachments that the settings name. Raises CouldNotRun; a bucket is not asked for anything yet."""
    if not url:
        return BlobStore(directory / "blobs")
    from ledger.store.s3_blobs import open_s3_blobs  # an optional dependency

    return open_s3_blobs(url, os.environ)


def chain_url(directory: Path, chain: ChainSettings) -> str:
    """Where the node's chain answers, after starting the node's own embedded one if need be."""
    return chain.url or embedded.ensure_running(directory / "chain")


def _check_vacant(directory: Path) -> None:
    if (directory / SETTINGS_FILE).exists():
        raise CouldNotRun(f"{directory} is a node already: name another directory")
    if (directory / "keys").exists():
        raise CouldNotRun(f"{directory} holds what an `init` that was cut off has left: delete it and run again")
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise CouldNotRun(f"{directory} is not an empty directory: name another one")


def _check_chain(url_or_embedded: str, engine: str | None, confirmations: int | None) -> tuple[str, int]:
    from ledger.chain.client import ChainClient
    from ledger.chain.engines import choose

    if url_or_embedded == EMBEDDED:
        if engine not in (None, EMBEDDED) or confirmations:
            raise CouldNotRun("the embedded chain is its own engine and final at once: name a --chain URL as well")
        return EMBEDDED, 0
    if not url_or_embedded.startswith(("http://", "https://")):
        raise CouldNotRun(f"--chain must be `embedded` or the http(s) URL of a node, not {url_or_embedded!r}")
    if engine is not None and engine not in ENGINES:
        raise CouldNotRun(f"--engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    return choose(ChainClient(url_or_embedded), engine, confirmations)


def _find_consortium(url_or_embedded: str, address: str, name: str) -> Addresses:
    from ledger.chain.client import ChainClient
    from ledger.chain.contracts import find

    if url_or_embedded == EMBEDDED:
        raise CouldNotRun("--join needs the chain that the consortium is on: name its URL with --chain")
    return find(ChainClient(url_or_embedded), address, name)


def _create_chain(
    directory: Path, url_or_embedded: str, joined: Addresses | None, operator: bytes, engine: str, confirmations: int
) -> ChainSettings:
    from ledger.chain.client import ChainClient
    from ledger.chain.contracts import deploy

    url = "" if url_or_embedded == EMBEDDED else url_or_embedded
    if not url:
        embedded.create(directory / "chain")
    client = ChainClient(url or embedded.ensure_running(directory / "chain"))
    addresses = joined or deploy(client, operator)
    return ChainSettings(
        engine=engine,
        url=url,
        id=client.chain_id(),
        genesis="0x" + client.genesis_hash().hex(),
        consortium=addresses.consortium,
        evidence_log=addresses.evidence_log,
        confirmations=confirmations,
    )


def _database_url(directory: Path, database: str) -> str:
    try:
        url = make_url(database)
    except ArgumentError:
        return database  # Database says what is wrong with it
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).is_absolute():
        url = url.set(database=str(directory.absolute() / url.database))
    return url.render_as_string(hide_password=False)
