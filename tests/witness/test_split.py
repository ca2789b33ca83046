"""Two histories are proven by the log's own signatures, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ledger.errors import CheckpointInvalid, ConsistencyInvalid, Malformed, NotProven
from ledger.witness.protocol import LogUnknown
from ledger.witness.split import SplitView, Tree, find_splits
from tests.witness.simulation import ORIGIN, SimulatedLog, log_key, new_witness

LOGS = {ORIGIN: (log_key(),)}
HONEST = SimulatedLog(20)
FORK = SimulatedLog(20, fork=7, branch="'")


def tree_of(log: SimulatedLog) -> Tree:
    def tree(size: int, larger: int) -> tuple[bytes, list[bytes]] | None:
        return (log.at(size).root, log.path(size, larger)) if size > 0 and larger <= log.size else None

    return tree


def test_two_witnesses_shown_two_histories_of_one_size_prove_the_split_view() -> None:
    court, notary = new_witness(name="court.example"), new_witness(name="notary.example")
    court.add_checkpoint(HONEST.request(0))
    notary.add_checkpoint(FORK.request(0))
    heads = [w.store.head(ORIGIN) for w in (court, notary)]
    notes = [head.note for head in heads if head is not None]
    (split,) = find_splits(LOGS, notes, lambda _: None)
    assert SplitView.parse(split.serialize()) == split
    assert split.verify(LOGS) == ORIGIN


@pytest.mark.parametrize(("small", "large"), [(8, 20), (19, 20), (16, 17), (10, 16)])
def test_two_histories_of_different_sizes_are_proven_with_the_tree_of_the_larger(small: int, large: int) -> None:
    notes = [FORK.at(small).note, HONEST.at(large).note]
    (split,) = find_splits(LOGS, notes, lambda _: tree_of(HONEST))
    assert SplitView.parse(split.serialize()).verify(LOGS) == ORIGIN
    assert find_splits(LOGS, notes, lambda _: None) == [], "without a tree nothing can be said"
    assert find_splits(LOGS, notes, lambda _: tree_of(FORK)) == [], "another tree proves nothing"


def test_one_history_gives_no_proof() -> None:
    notes = [HONEST.at(size).note for size in (0, 1, 5, 7, 8, 16, 20)] + [FORK.at(7).note, HONEST.note]
    assert find_splits(LOGS, notes, lambda _: tree_of(HONEST)) == []


def test_a_proof_names_no_innocent_log() -> None:
    good = SplitView(FORK.note, HONEST.note, HONEST.root)
    good.verify(LOGS)
    forged = {
        "signed by somebody else": (replace(good, smaller=FORK.signed("thief")), CheckpointInvalid),
        "of another log": (replace(good, smaller=SimulatedLog(20, origin="other.example").note), LogUnknown),
        "twice the same": (replace(good, smaller=HONEST.note), NotProven),
        "with a root of its own": (replace(good, root=FORK.root), ConsistencyInvalid),
        "one the beginning of the other": (SplitView(HONEST.at(5).note, HONEST.note, *prefix(5)), NotProven),
        "with a made-up path": (SplitView(HONEST.at(5).note, HONEST.note, bytes(32), prefix(5)[1]), ConsistencyInvalid),
        "the wrong way round": (SplitView(HONEST.note, FORK.at(8).note, HONEST.root), ConsistencyInvalid),
    }
    for name, (split, error) in forged.items():
        with pytest.raises(error):
            split.verify(LOGS)
            pytest.fail(name)


def prefix(size: int) -> tuple[bytes, tuple[bytes, ...]]:
    return HONEST.at(size).root, tuple(HONEST.path(size, 20))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"smaller":"","larger":"","root":"","path":[1]}'])
def test_a_malformed_proof_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        SplitView.parse(data)
