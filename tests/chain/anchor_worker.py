"""A log held in a list, and a program that anchors it: `anchor_worker.py CHAIN_DIR CONTRACT LOG KEY_HEX FIRST LAST`.

It prints one line for every anchor that was acknowledged: requested size, anchored size, block number, block hash, tx.
Asks for a daemon before every step and repeats the step while the chain is unreachable, as a node does.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ledger.chain.anchoring import Anchored, anchor_once
from ledger.chain.client import ChainClient
from ledger.chain.contracts import EvidenceLogContract, department_bytes
from ledger.chain.embedded import describe, ensure_running
from ledger.errors import ChainUnreachable
from ledger.formats.merkle import leaf_hash, root_of, split


class ListLog:
    """An AnchorableLog over a list of leaves; `size` is the checkpoint's, `grown` how far the log behind it went."""

    def __init__(self, department: str, size: int, *, grown: int | None = None, salt: bytes = b"") -> None:
        self.log_id = department_bytes(department)
        self.size = size
        self.leaves = [leaf_hash(salt + str(index).encode()) for index in range(max(size, grown or 0))]
        self.root = root_of(self.leaves[:size])

    def root_at(self, size: int) -> bytes | None:
        return root_of(self.leaves[:size]) if size <= len(self.leaves) else None

    def consistency_path(self, old: int, new: int) -> list[bytes]:
        return consistency(old, self.leaves[:new], complete=True)

    def inclusion_path(self, index: int) -> list[bytes]:
        return inclusion(index, self.leaves[: self.size])


def consistency(old: int, leaves: list[bytes], *, complete: bool) -> list[bytes]:
    """SUBPROOF of RFC 9162 section 2.1.4.1, by its definition."""
    if old == len(leaves):
        return [] if complete else [root_of(leaves)]
    middle = split(len(leaves))
    if old <= middle:
        return [*consistency(old, leaves[:middle], complete=complete), root_of(leaves[middle:])]
    return [*consistency(old - middle, leaves[middle:], complete=False), root_of(leaves[:middle])]


def inclusion(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 9162 section 2.1.3.1, by its definition."""
    if len(leaves) == 1:
        return []
    middle = split(len(leaves))
    if index < middle:
        return [*inclusion(index, leaves[:middle]), root_of(leaves[middle:])]
    return [*inclusion(index - middle, leaves[middle:]), root_of(leaves[:middle])]


def persist(directory: Path, contract: str, log: ListLog, key: bytes, deadline: float) -> Anchored:
    """Run the step until it succeeds or `deadline` (monotonic) passes."""
    chain_id = describe(directory).chain_id
    while True:
        try:
            client = ChainClient(ensure_running(directory), chain_id, timeout=10)
            try:
                anchored = anchor_once(log, EvidenceLogContract(client, contract), key, wait_seconds=5)
            finally:
                client.close()
            assert anchored is not None
            return anchored
        except ChainUnreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def main() -> None:
    directory, contract, department, key, first, last = sys.argv[1:]
    for size in range(int(first), int(last) + 1):
        log = ListLog(department, size, grown=int(last) + 50)
        done = persist(Path(directory), contract, log, bytes.fromhex(key), time.monotonic() + 60)
        assert done.tx_hash is not None
        print(size, done.size, done.block_number, done.block_hash.hex(), done.tx_hash.hex(), flush=True)


if __name__ == "__main__":
    main()
