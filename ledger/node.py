"""A node: one directory with keys, database, blobs and (by default) its own chain, opened as one object.

node.toml      settings                     keys/      the key agent's store
ledger.sqlite  the database, by default     blobs/     encrypted attachments
chain/         the embedded chain           types/     record types of the node's own, beside the built-in ones
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from sqlalchemy.engine import make_url

from ledger.chain import embedded
from ledger.chain.client import ChainClient
from ledger.chain.contracts import ConsortiumContract, EvidenceLogContract, deploy
from ledger.errors import CouldNotRun
from ledger.intake import Intake
from ledger.keks import KekRing
from ledger.keys import FileKeyAgent
from ledger.record_types import RecordTypes
from ledger.records import RecordReader
from ledger.settings import EMBEDDED, SETTINGS_FILE, ChainSettings, Settings, check_consortium
from ledger.store import schema
from ledger.store.blobs import BlobStore
from ledger.store.database import Database

Clock = Callable[[], float]

DEFAULT_DATABASE = "sqlite:///ledger.sqlite"


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
        self.clock = clock
        self.database = Database(_database_url(settings))
        self.blobs = BlobStore(directory / "blobs")
        self.keks = KekRing(agent)
        self.types = load_types(directory)
        self.intake = Intake(self.database, self.blobs, agent, self.keks, self.types, clock)
        self.reader = RecordReader(self.keks, self.blobs)

    @classmethod
    def open(cls, directory: Path, clock: Clock = time.time, *, check_schema: bool = True) -> Node:
        """Opens the node in `directory`. Raises NodeMissing when there is none, CouldNotRun when keys or database
        are not as they should be. `check_schema` False is for upgrading the database."""
        settings = Settings.load(directory)
        node = cls(settings, FileKeyAgent.open(directory / "keys"), clock)
        if check_schema:
            schema.require_current(node.database)
        return node

    def connect(self) -> ChainLink:
        """A link to the node's chain; starts the embedded chain if it is that and does not run.

        Raises ChainUnreachable when the embedded chain does not come up; a remote chain is not asked yet.
        """
        chain = self.settings.chain
        url = chain_url(self.settings.directory, chain)
        client = ChainClient(url, chain.id, expected_genesis=bytes.fromhex(chain.genesis.removeprefix("0x")))
        return ChainLink(
            client, ConsortiumContract(client, chain.consortium), EvidenceLogContract(client, chain.evidence_log)
        )

    def close(self) -> None:
        """Closes the database; the embedded chain, shared with other processes, ends by itself when idle."""
        self.database.close()


def create_node(
    directory: Path, *, consortium: str, chain_url_or_embedded: str = EMBEDDED, database: str = DEFAULT_DATABASE
) -> Settings:
    """Makes a node in `directory` (absent or empty): keys, database, and contracts deployed on its chain.

    `node.toml` is written last: a directory without it is no node, and what a crash left there may be deleted.
    Raises CouldNotRun when the directory is taken or a name is not fit, ChainUnreachable when the chain is not there.
    """
    try:
        check_consortium(consortium)
    except ValueError as error:
        raise CouldNotRun(str(error)) from error
    if directory.exists() and any(directory.iterdir()):
        already = (directory / SETTINGS_FILE).exists()
        raise CouldNotRun(f"{directory} {'is a node already' if already else 'is not empty'}: name another directory")
    directory.mkdir(parents=True, exist_ok=True)
    agent = FileKeyAgent.create(directory / "keys")
    chain = _create_chain(directory, chain_url_or_embedded, agent.operator_key())
    settings = Settings(directory, consortium, database, chain)
    opened = Database(_database_url(settings))
    schema.upgrade(opened)
    opened.close()
    settings.save()
    return settings


def load_types(directory: Path) -> RecordTypes:
    """The built-in record types and those in the node directory's `types/`, if there is one."""
    own = directory / "types"
    return RecordTypes.load(files("ledger") / "types", *([own] if own.is_dir() else []))


def chain_url(directory: Path, chain: ChainSettings) -> str:
    """Where the node's chain answers, after starting the embedded one if need be."""
    return embedded.ensure_running(directory / "chain") if chain.engine == EMBEDDED else chain.url


def _create_chain(directory: Path, url_or_embedded: str, operator: bytes) -> ChainSettings:
    if url_or_embedded == EMBEDDED:
        embedded.create(directory / "chain")
        url, engine = embedded.ensure_running(directory / "chain"), EMBEDDED
    elif url_or_embedded.startswith(("http://", "https://")):
        url, engine = url_or_embedded, "clique"
    else:
        raise CouldNotRun(f"--chain must be `embedded` or the http(s) URL of a node, not {url_or_embedded!r}")
    client = ChainClient(url)
    addresses = deploy(client, operator)
    return ChainSettings(
        engine=engine,
        url="" if engine == EMBEDDED else url,
        id=client.chain_id(),
        genesis="0x" + client.genesis_hash().hex(),
        consortium=addresses.consortium,
        evidence_log=addresses.evidence_log,
    )


def _database_url(settings: Settings) -> str:
    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).is_absolute():
        url = url.set(database=str(settings.directory.absolute() / url.database))
    return url.render_as_string(hide_password=False)
