"""EvidenceLog against a model in Python: whatever is tried, in whatever order, chain and model agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.errors import ConsistencyInvalid
from ledger.formats.merkle import root_of, verify_consistency

FIRE = b"fire".ljust(32, b"\0")
EVIDENCE_LOG = b"EvidenceLog".ljust(32, b"\0")


@dataclass
class Model:
    """The log as its department holds it, and what the chain must hold after every step."""

    leaves: list[bytes] = field(default_factory=list)
    anchored: dict[int, bytes] = field(default_factory=dict)
    head: int = 0

    def accepts(self, size: int, root: bytes, proof: list[bytes]) -> bool:
        if size == 0 or size < self.head:
            return False
        if size == self.head:
            return root == self.anchored[size]
        if self.head == 0:
            return not proof
        try:
            verify_consistency(self.head, self.anchored[self.head], size, root, proof)
        except ConsistencyInvalid:
            return False
        return True

    def take(self, size: int, root: bytes) -> None:
        self.anchored[size] = root
        self.head = size


# One step: what is done, and numbers that its details are drawn from.
STEPS = st.tuples(
    st.sampled_from(
        ["append", "anchor", "anchor", "rewrite", "roll back", "flip root", "flip node", "drop", "add", "succeed"]
    ),
    st.integers(min_value=0, max_value=2**16),
)


def step(world: Any, proofs: Any, model: Model, refusal: type[Exception], kind: str, number: int) -> None:
    """Grow the log, then try one anchor of this kind; the chain must decide as the model does."""
    model.leaves += [sha256(f"{len(model.leaves) + i}".encode()).digest() for i in range(1 + number % 13)]
    if kind == "append":
        return
    if kind == "succeed":  # the model does not change: another contract, the same history
        world.log = world.succeed(name_it=False)
        world.consortium.send("setModule", EVIDENCE_LOG, world.log.address, sender=world.deployer)
        return
    leaves, size = list(model.leaves), len(model.leaves)
    if kind == "rewrite":
        leaves[number % size] = sha256(f"rewritten {number}".encode()).digest()
    if kind == "roll back":
        size = number % size
    root = root_of(leaves[:size])
    proof = proofs.consistency(model.head, leaves[:size]) if 0 < model.head < size else []
    root, proof = _spoilt(kind, number, root, proof)
    expected = model.accepts(size, root, proof)
    try:
        world.log.send("anchor", FIRE, size, root, proof, sender=world.anchorers["fire"])
        decided = True
    except refusal:
        decided = False
    assert decided == expected, (kind, size, model.head)
    if decided:
        model.take(size, root)


def _spoilt(kind: str, number: int, root: bytes, proof: list[bytes]) -> tuple[bytes, list[bytes]]:
    place = number % len(proof) if proof else 0
    if kind == "flip root":
        return _flip(root, number), proof
    if kind == "flip node" and proof:
        return root, [*proof[:place], _flip(proof[place], number), *proof[place + 1 :]]
    if kind == "drop":
        return root, proof[:place] + proof[place + 1 :]
    if kind == "add":
        return root, [*proof[:place], _flip(root, number), *proof[place:]]
    return root, proof


def _flip(node: bytes, number: int) -> bytes:
    place = number % 256
    return node[: place // 8] + bytes([node[place // 8] ^ (1 << place % 8)]) + node[place // 8 + 1 :]


def check(world: Any, model: Model) -> None:
    """The whole invariant: the chain's anchors are the model's, all of them, linked newest to oldest."""
    found = {}
    anchor = world.log.read("head", FIRE)
    while anchor.size:
        found[anchor.size] = anchor.root
        anchor = world.log.read("rootAt", FIRE, anchor.previousSize) if anchor.previousSize else NOTHING
    assert found == model.anchored


@dataclass(frozen=True)
class Nothing:
    size: int = 0


NOTHING = Nothing()


def run(world: Any, proofs: Any, refusal: type[Exception], steps: list[tuple[str, int]]) -> None:
    tester, first = world.chain.tester, world.log
    snapshot = tester.take_snapshot()
    model = Model()
    for kind, number in steps:
        step(world, proofs, model, refusal, kind, number)
    check(world, model)
    tester.revert_to_snapshot(snapshot)
    world.log = first


fixture_is_reset_by_run = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=40, deadline=None, suppress_health_check=fixture_is_reset_by_run)
@given(steps=st.lists(STEPS, min_size=1, max_size=15))
def test_chain_and_model_agree(founding, proofs, refusal, steps):
    run(founding, proofs, refusal, steps)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None, suppress_health_check=fixture_is_reset_by_run)
@given(steps=st.lists(STEPS, min_size=1, max_size=14))
def test_chain_and_model_agree_over_thousands_of_sequences(founding, proofs, refusal, steps):
    run(founding, proofs, refusal, steps)
