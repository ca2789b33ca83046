"""Measure what an anchor costs by tree size and keep the table in docs/gas.md.

    python scripts/gas_table.py           write docs/gas.md
    python scripts/gas_table.py --check   exit 1 when a figure rose by more than 5 % over docs/gas.md

The trees are synthetic: a consistency proof may hold any hashes, and both roots follow from it, so a tree of 2^40
leaves costs no more to make than one of 256.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from eth.vm.forks import LondonVM
from eth_abi.abi import encode
from eth_tester import EthereumTester, PyEVMBackend
from eth_utils import function_signature_to_4byte_selector, keccak

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "gas.md"
ALLOWED_RISE = 1.05
BATCH = 256
SIZES = {
    "256": 256,
    "4,096": 4_096,
    "65,536": 65_536,
    "1 million": 1_000_000,
    "10 million": 10_000_000,
    "2^32": 2**32,
    "2^40": 2**40,
    "2^63": 2**63,
}
DEPARTMENT = b"fire".ljust(32, b"\0")


@dataclass(frozen=True, slots=True)
class Step:
    """A tree of `old` leaves that grew to `new`, with roots and proof that fit."""

    old: int
    new: int
    old_root: bytes
    new_root: bytes
    proof: list[bytes]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: gas of a usual anchor (a batch more) and of the dearest one at this size."""

    leaves: str
    usual_nodes: int
    usual: int
    worst_nodes: int
    worst: int


def synthetic(old: int, new: int) -> Step:
    """Run RFC 9162 section 2.1.4.2 with made-up nodes until the proof is complete. 0 < old < new."""
    nodes = _made_up(f"{old}-{new}")
    power = old & (old - 1) == 0
    old_root = new_root = next(nodes)
    proof = [] if power else [old_root]
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    while sn:
        node = next(nodes)
        proof.append(node)
        if fn & 1 or fn == sn:
            old_root, new_root = _parent(node, old_root), _parent(node, new_root)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            new_root = _parent(new_root, node)
        fn, sn = fn >> 1, sn >> 1
    return Step(old, new, old_root, new_root, proof)


def measure() -> list[Row]:
    """Every size of the table, each on a log of its own, against the committed artefacts."""
    rows = []
    for name, size in SIZES.items():
        usual = synthetic(size - BATCH + 1, size + 1)
        # One leaf short of a power of two, every old level is joined from the left: two hashes a node.
        worst = synthetic((1 << (size.bit_length() - 1)) - 1, size + BATCH)
        rows.append(Row(name, len(usual.proof), _gas_of(usual), len(worst.proof), _gas_of(worst)))
    return rows


def render(rows: list[Row], fixed: dict[str, int]) -> str:
    """docs/gas.md."""
    lines = [
        "# What the chain costs",
        "",
        "Written by `scripts/gas_table.py` on eth-tester (London), checked in CI: a rise of more than 5 % fails.",
        "Gas is free on the consortium's chain; the figures bound the time a block needs and the anchorer's fixed gas.",
        "",
        "`EvidenceLog.anchor` by the size of the tree. *usual*: 256 leaves more than the head. *worst*: from the head",
        "that needs the longest proof. 44,200 of each figure are two fresh storage slots: the root, and the size with",
        "its predecessor, block and time.",
        "",
        "| leaves | usual: proof nodes | usual: gas | worst: proof nodes | worst: gas |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [f"| {r.leaves} | {r.usual_nodes} | {r.usual:,} | {r.worst_nodes} | {r.worst:,} |" for r in rows]
    lines += ["", "| other transactions | gas |", "|---|---:|"]
    lines += [f"| {name} | {gas:,} |" for name, gas in fixed.items()]
    return "\n".join(lines) + "\n"


def risen(fresh: str, committed: str) -> list[str]:
    """The names of the lines of which a figure is more than `ALLOWED_RISE` times the committed one, or is new."""
    before, after = _figures(committed), _figures(fresh)
    return [name for name, values in after.items() if not _within(values, before.get(name, []))]


def _within(values: list[int], before: list[int]) -> bool:
    return len(values) == len(before) and all(a <= b * ALLOWED_RISE for a, b in zip(values, before, strict=True))


def _figures(table: str) -> dict[str, list[int]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    figures = [(row[0], [cell.replace(",", "") for cell in row[1:]]) for row in cells]
    return {name: [int(cell) for cell in row] for name, row in figures if all(re.fullmatch(r"\d+", c) for c in row)}


def _made_up(seed: str) -> Iterator[bytes]:
    number = 0
    while True:
        yield sha256(f"{seed}/{number}".encode()).digest()
        number += 1


def _parent(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


class _Bench:
    """A chain with a consortium, an evidence log and one department that account 0 acts for."""

    def __init__(self) -> None:
        self.tester = EthereumTester(PyEVMBackend(vm_configuration=((0, LondonVM),)))
        self.account = self.tester.get_accounts()[0]
        self.fixed: dict[str, int] = {}
        self.consortium = self._deploy("Consortium", b"")
        self.log = self._deploy("EvidenceLog", encode(["address", "address"], [self.consortium, "0x" + "00" * 20]))
        self.send(self.consortium, "setModule(bytes32,address)", [b"EvidenceLog".ljust(32, b"\0"), self.log])
        public_key = self.tester.backend.account_keys[0].public_key.to_bytes()
        now = self.tester.get_block_by_number("latest")["timestamp"]
        texts = ["Fire", "yunxi.example/fire", "https://fire.example"]
        self.fixed["admit a department"] = self.send(
            self.consortium,
            "admit(bytes32,string,string,string,address)",
            [DEPARTMENT, *texts, self.account],
        )
        self.fixed["register an anchor key"] = self.send(
            self.consortium,
            "registerKey(bytes32,bytes32,uint8,bytes,uint64)",
            [DEPARTMENT, keccak(public_key), 4, public_key, now],
        )

    def anchor(self, size: int, root: bytes, proof: list[bytes]) -> int:
        return self.send(self.log, "anchor(bytes32,uint64,bytes32,bytes32[])", [DEPARTMENT, size, root, proof])

    def send(self, to: str, signature: str, args: list[Any]) -> int:
        types = signature[signature.index("(") + 1 : -1].split(",")
        data = function_signature_to_4byte_selector(signature) + encode(types, args)
        return int(self._mine({"to": to, "data": "0x" + data.hex()})["gas_used"])

    def _deploy(self, name: str, arguments: bytes) -> str:
        bytecode = json.loads((ROOT / "ledger/chain/artifacts" / f"{name}.json").read_text())["bytecode"]
        receipt = self._mine({"data": bytecode + arguments.hex()})
        self.fixed[f"deploy {name}"] = int(receipt["gas_used"])
        return str(receipt["contract_address"])

    def _mine(self, request: dict[str, Any]) -> dict[str, Any]:
        sent = self.tester.send_transaction({"from": self.account, "gas": 8_000_000, **request})
        receipt: dict[str, Any] = self.tester.get_transaction_receipt(sent)
        if receipt["status"] != 1:
            raise SystemExit("The contracts refused a transaction of the gas table; run the contract tests.")
        return receipt


def _gas_of(step: Step) -> int:
    bench = _Bench()
    bench.anchor(step.old, step.old_root, [])
    return bench.anchor(step.new, step.new_root, step.proof)


def _fixed() -> dict[str, int]:
    bench = _Bench()
    first = bench.anchor(1, b"\x01" * 32, [])
    return {**bench.fixed, "first anchor of a log": first}


def main() -> int:
    """Exit 0 good, 1 the gas rose."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a figure rose over 5 %%")
    check: bool = parser.parse_args().check
    table = render(measure(), _fixed())
    if not check:
        TABLE.write_text(table)
        print(table)
        return 0
    lines = risen(table, TABLE.read_text())
    if lines:
        print(f"Gas rose over 5 % ({'; '.join(lines)}): find out why, or run scripts/gas_table.py and say so.")
        return 1
    print("Gas has not risen over docs/gas.md.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
