"""Which consensus engine stands behind a URL, and when a block of it is final."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.chain.client import ChainClient
from ledger.chain.consortium import clique, qbft
from ledger.errors import ChainUnreachable, CouldNotRun, Malformed

CLIQUE = "clique"
EMBEDDED = "embedded"
QBFT = "qbft"


@dataclass(frozen=True, slots=True)
class Engine:
    """`name` is `clique` or `qbft`; `validators` the first ones, from the genesis block, as checksummed addresses."""

    name: str
    validators: tuple[str, ...]

    @property
    def confirmations(self) -> int:
        """Blocks that must follow before a block counts as final: as many as no signer minority can replace."""
        return clique.signers_needed(len(self.validators)) if self.name == CLIQUE else 0


def recognise(client: ChainClient) -> Engine | None:
    """The engine by the genesis block's extraData, which every node must serve; None for one that is neither.

    Raises ChainUnreachable, HistoryRefused as every question to the chain does.
    """
    block = client.request("eth_getBlockByNumber", "0x0", False)
    extra = block.get("extraData") if isinstance(block, dict) else None
    try:
        data = bytes.fromhex(str(extra).removeprefix("0x"))
    except ValueError as error:
        raise ChainUnreachable(f"The chain at {client.url} serves a genesis block without extraData.") from error
    try:
        return Engine(QBFT, qbft.decode_extra_data(data).validators)
    except Malformed:
        pass
    try:
        return Engine(CLIQUE, clique.decode_extra_data(data))
    except Malformed:
        return None


def choose(client: ChainClient, engine: str | None, confirmations: int | None) -> tuple[str, int]:
    """Engine and confirmations for a node's settings: what the operator says, else what the chain shows.

    `embedded` says that whoever runs the chain runs it alone, as with a development chain of another process.
    Raises CouldNotRun if neither says it, or they contradict each other.
    """
    found = recognise(client)
    if found is None and engine == EMBEDDED:
        return engine, confirmations or 0
    if found is None and (engine is None or confirmations is None):
        raise CouldNotRun(
            f"the chain at {client.url} is neither Clique nor QBFT by its first block: say --engine embedded if one "
            "operator runs it alone for development, else --engine and --confirmations"
        )
    if found is not None and engine not in (None, found.name):
        raise CouldNotRun(f"the chain at {client.url} is {found.name} by its first block, not {engine}")
    name = engine or (found.name if found else CLIQUE)
    return name, confirmations if confirmations is not None else (found.confirmations if found else 0)
