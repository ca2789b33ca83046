#!/usr/bin/env python3
"""Gas and milliseconds of an anchor on every engine that is installed here: `scripts/bench_engines.py [--rounds N]`.

Each round grows a log by one batch and anchors it. `in a block`: from the checkpoint to the contract holding its root;
`final`: until the engine's rule counts it as final. Chains are started for this and removed.
"""

# ruff: noqa: E402  the repository is put on the path first
from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from eth_account import Account

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ledger.chain.anchoring import anchor_once
from ledger.chain.client import ChainClient
from ledger.chain.contracts import ConsortiumContract, EvidenceLogContract, department_bytes, deploy
from ledger.formats.merkle import leaf_hash, root_of, split
from tests.fixtures import networks

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = 100


@contextmanager
def clique_four(_: Path) -> Iterator[networks.RunningChain]:
    with networks.clique_network(4) as network:
        yield networks.RunningChain(network.urls[0], "clique", network.confirmations)


ENGINES = {
    "embedded": networks.embedded_chain,
    "Hardhat's node": networks.hardhat_chain,
    "anvil": networks.anvil_chain,
    "go-ethereum, 1 validator, 1 s": networks.clique_chain,
    "go-ethereum, 4 validators, 1 s": clique_four,
}


class GrowingLog:
    """An AnchorableLog of `size` entries."""

    def __init__(self, department: str, size: int) -> None:
        self.log_id, self.size = department_bytes(department), size
        self.leaves = [leaf_hash(str(index).encode()) for index in range(size)]
        self.root = root_of(self.leaves)

    def root_at(self, size: int) -> bytes | None:
        return root_of(self.leaves[:size]) if size <= self.size else None

    def consistency_path(self, old: int, new: int) -> list[bytes]:
        return _consistency(old, self.leaves[:new], complete=True)


def _consistency(old: int, leaves: list[bytes], *, complete: bool) -> list[bytes]:
    # SUBPROOF of RFC 9162 section 2.1.4.1
    if old == len(leaves):
        return [] if complete else [root_of(leaves)]
    middle = split(len(leaves))
    if old <= middle:
        return [*_consistency(old, leaves[:middle], complete=complete), root_of(leaves[middle:])]
    return [*_consistency(old - middle, leaves[middle:], complete=False), root_of(leaves[:middle])]


def measure(chain: networks.RunningChain, rounds: int) -> dict[str, Any]:
    """p50 and p95 of one engine."""
    with closing(ChainClient(chain.url)) as client:
        contract, account = set_up(client)
        gas, included, final = [], [], []
        for number in range(1, rounds + 1):
            log = GrowingLog("bench", number * BATCH)
            started = time.perf_counter()
            first = anchor_once(log, contract, account)
            included.append((time.perf_counter() - started) * 1000)
            anchor_once(log, contract, account, confirmations=chain.confirmations)
            final.append((time.perf_counter() - started) * 1000)
            receipt = client.receipt(first.tx_hash) if first and first.tx_hash else None
            gas.append(receipt.gas_used if receipt else 0)
    return {"gas": spread(gas), "in a block": spread(included), "final": spread(final), "rounds": rounds}


def set_up(client: ChainClient) -> tuple[EvidenceLogContract, Any]:
    operator, account = Account.create(), Account.create()
    addresses = deploy(client, operator)
    consortium = ConsortiumContract(client, addresses.consortium)
    consortium.admit(operator, "bench", "Bench", "bench.example/bench", "", Account.create().address)
    public_key = account._key_obj.public_key.to_bytes()
    consortium.register_key(operator, "bench", bytes([1] * 32), "anchor", public_key, int(time.time()) - 60)
    return EvidenceLogContract(client, addresses.evidence_log), account


def spread(values: list[float]) -> tuple[int, int]:
    ordered = sorted(values)
    return round(ordered[len(ordered) // 2]), round(ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = {}
    for name, start in ENGINES.items():
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
            try:
                with start(Path(directory)) as chain:
                    found[name] = measure(chain, arguments.rounds)
            except pytest.skip.Exception as skipped:
                print(f"{name}: skipped, {skipped}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{arguments.rounds} anchors each, {os.cpu_count()} cores; p50 / p95\n")
    print("| engine | gas | ms to a block | ms to final |\n|---|---|---|---|")
    for name, row in found.items():
        figures = " | ".join(f"{low:,} / {high:,}" for low, high in (row["gas"], row["in a block"], row["final"]))
        print(f"| {name} | {figures} |")


if __name__ == "__main__":
    main()
