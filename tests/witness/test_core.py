"""The witness's rules, on its real store and on the simulated one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import CheckpointInvalid, ConsistencyInvalid, CouldNotRun, Malformed, YunxiError
from ledger.formats.checkpoint import add_signatures, sign_checkpoint
from ledger.formats.cosignature import verify_cosignature
from ledger.formats.merkle import EMPTY_ROOT
from ledger.formats.note import ED25519, Note, Signature, VerifierKey
from ledger.store import schema
from ledger.store.database import Database
from ledger.witness.core import MAX_STEP_BACK_S, Witness
from ledger.witness.protocol import AddCheckpoint, LogUnknown, SizeConflict
from ledger.witness.store import MAX_SUSPICIONS, SqlStore
from tests.conftest import POSTGRES_URL
from tests.witness.simulation import (
    NOW,
    ORIGIN,
    MemoryStore,
    SimulatedLog,
    check_one_history,
    log_key,
    new_witness,
    signer,
    witness_key,
)

Make = Callable[..., Witness]


@pytest.fixture(params=["memory", "sqlite", *(["postgresql"] if POSTGRES_URL else [])])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """`make(clock)`: a witness; each one over the same store."""
    if request.param == "memory":
        store: Any = MemoryStore()
        yield lambda clock=lambda: NOW: new_witness(store, clock)
        return
    url = f"sqlite:///{tmp_path / 'witness.sqlite'}"
    server = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    if server is not None:
        url = server.new(tmp_path)
    database = Database(url)
    schema.upgrade(database)
    yield lambda clock=lambda: NOW: new_witness(SqlStore.of(witness_key(), database), clock)
    database.close()
    if server is not None:
        server.rest()


def at(make: Make, size: int) -> Witness:
    """A witness that has cosigned the honest log at `size`."""
    witness = make()
    witness.add_checkpoint(SimulatedLog(size).request(0))
    return witness


def head(witness: Witness) -> tuple[int, bytes]:
    found = witness.store.head(ORIGIN)
    return (found.size, found.root) if found else (0, EMPTY_ROOT)


def test_the_first_checkpoint_is_cosigned(make: Make) -> None:
    witness, log = make(), SimulatedLog(5)
    line = witness.add_checkpoint(log.request(0))
    assert verify_cosignature(add_signatures(log.note, [line]), witness.vkey) == NOW
    assert head(witness) == (5, log.root)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (5, 5), (5, 8), (255, 256), (256, 257), (256, 1000), (0, 0), (0, 7)])
def test_a_checkpoint_that_continues_is_cosigned(make: Make, old: int, new: int) -> None:
    witness = at(make, old)
    witness.add_checkpoint(SimulatedLog(new).request(old))
    assert head(witness) == (new, SimulatedLog(new).root)


def test_the_state_outlives_the_witness(make: Make) -> None:
    at(make, 5)
    with pytest.raises(SizeConflict) as caught:
        make().add_checkpoint(SimulatedLog(8, fork=0, branch="x").request(0))
    assert caught.value.size == 5


def with_bad_signature(log: SimulatedLog) -> bytes:
    opened = Note.parse(log.note)
    bad = Signature(ORIGIN, log_key().key_id, bytes(64))
    return Note(opened.text, (*opened.signatures, bad)).serialize()


def stranger(size: int) -> SimulatedLog:
    return SimulatedLog(size, origin="stranger.example/log")


def wrong_empty_root() -> bytes:
    key = signer(f"log {ORIGIN}")
    return sign_checkpoint(ORIGIN, 0, bytes(32), key.public, key.sign)


FORK = SimulatedLog(8, fork=4, branch="'")
HONEST = SimulatedLog(8)

# a witness at size 5 of the honest log is sent these
REFUSED: dict[str, tuple[AddCheckpoint, type[YunxiError]]] = {
    "404 a log that nobody configured": (stranger(8).request(5), LogUnknown),
    "403 signed by a key that is not the log's": (AddCheckpoint(5, (), HONEST.signed("thief")), CheckpointInvalid),
    "403 signed well, and badly in the same name": (
        AddCheckpoint(5, (), with_bad_signature(HONEST)),
        CheckpointInvalid,
    ),
    "404 before 400: unknown log and old size too large": (AddCheckpoint(9, (), stranger(8).note), LogUnknown),
    "403 before 400: no signature and old size too large": (
        AddCheckpoint(9, (), HONEST.signed("x")),
        CheckpointInvalid,
    ),
    "400 old size above the checkpoint's": (AddCheckpoint(9, (), HONEST.note), Malformed),
    "400 even for the size cosigned last": (AddCheckpoint(5, (), HONEST.at(3).note), Malformed),
    "409 old size too small": (HONEST.request(4), SizeConflict),
    "409 old size zero": (HONEST.request(0), SizeConflict),
    "409 old size too large": (HONEST.request(6), SizeConflict),
    "409 a smaller checkpoint": (HONEST.at(3).request(3), SizeConflict),
    "409 before 422: wrong old size and a fork": (FORK.request(4), SizeConflict),
    "422 a forked log, larger": (FORK.request(5), ConsistencyInvalid),
    "422 no proof": (AddCheckpoint(5, (), HONEST.note), ConsistencyInvalid),
    "422 a proof from another size": (AddCheckpoint(5, tuple(HONEST.path(6, 8)), HONEST.note), ConsistencyInvalid),
    "422 a proof with a hash too many": (
        AddCheckpoint(5, (*HONEST.path(5, 8), bytes(32)), HONEST.note),
        ConsistencyInvalid,
    ),
    "422 a proof between equal sizes": (AddCheckpoint(5, (bytes(32),), HONEST.at(5).note), ConsistencyInvalid),
}


@pytest.mark.parametrize(("request_", "expected"), REFUSED.values(), ids=REFUSED)
def test_refused_and_nothing_changed(make: Make, request_: AddCheckpoint, expected: type[YunxiError]) -> None:
    witness = at(make, 5)
    with pytest.raises(expected):
        witness.add_checkpoint(request_)
    assert head(witness) == (5, HONEST.at(5).root)
    witness.add_checkpoint(HONEST.request(5))


def test_a_forked_log_of_the_same_size_is_refused_and_proves_the_split_view(make: Make) -> None:
    witness = at(make, 5)
    fork = SimulatedLog(5, fork=4, branch="'")
    with pytest.raises(ConsistencyInvalid, match="Two roots"):
        witness.add_checkpoint(fork.request(5))
    assert head(witness) == (5, HONEST.at(5).root)
    (conflict,) = witness.store.conflicts()
    assert (conflict.proven, conflict.note, conflict.size, conflict.time) == (True, fork.note, 5, NOW)
    assert conflict.head is not None
    assert verify_cosignature(conflict.head, witness.vkey) == NOW


def test_a_fork_of_the_same_size_is_evidence_even_with_a_wrong_old_size(make: Make) -> None:
    witness = at(make, 5)
    with pytest.raises(SizeConflict):
        witness.add_checkpoint(SimulatedLog(5, fork=4, branch="'").request(0))
    assert [c.proven for c in witness.store.conflicts()] == [True]


def test_a_larger_fork_is_a_suspicion_until_its_size_is_reached(make: Make) -> None:
    witness = at(make, 5)
    for _ in range(2):
        with pytest.raises(ConsistencyInvalid):
            witness.add_checkpoint(FORK.request(5))
    assert [c.proven for c in witness.store.conflicts()] == [False]
    witness.add_checkpoint(HONEST.request(5))
    assert [(c.proven, c.root) for c in witness.store.conflicts()] == [(True, FORK.root)]


def test_a_stranger_with_a_damaged_proof_accuses_nobody_for_long(make: Make) -> None:
    witness = at(make, 5)
    with pytest.raises(ConsistencyInvalid):
        witness.add_checkpoint(AddCheckpoint(5, (), HONEST.note))
    witness.add_checkpoint(HONEST.request(5))
    assert witness.store.conflicts() == []


def test_unsigned_forks_and_strangers_leave_no_trace(make: Make) -> None:
    witness = at(make, 5)
    for request, _ in REFUSED.values():
        if request.note in (HONEST.signed("thief"), stranger(8).note):
            with pytest.raises(YunxiError):
                witness.add_checkpoint(request)
    assert witness.store.conflicts() == []


def test_suspicions_do_not_grow_without_bound(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'witness.sqlite'}")
    schema.upgrade(database)
    witness = new_witness(SqlStore.of(witness_key(), database))
    witness.add_checkpoint(SimulatedLog(1).request(0))
    for size in range(2, MAX_SUSPICIONS + 20):
        with pytest.raises(ConsistencyInvalid):
            witness.add_checkpoint(AddCheckpoint(1, (), SimulatedLog(size).note))
    assert len(witness.store.conflicts()) == MAX_SUSPICIONS
    with pytest.raises(ConsistencyInvalid):
        witness.add_checkpoint(SimulatedLog(1, branch="'").request(1))
    assert sum(conflict.proven for conflict in witness.store.conflicts()) == 1, "proof is kept all the same"
    database.close()


def test_an_empty_tree_with_another_root_is_refused(make: Make) -> None:
    with pytest.raises(ConsistencyInvalid, match="empty tree"):
        make().add_checkpoint(AddCheckpoint(0, (), wrong_empty_root()))


def test_a_proof_from_size_zero_must_be_empty(make: Make) -> None:
    with pytest.raises(ConsistencyInvalid):
        make().add_checkpoint(AddCheckpoint(0, (bytes(32),), HONEST.note))


def test_unknown_signatures_are_neither_needed_nor_kept(make: Make) -> None:
    witness = make()
    other = VerifierKey.of("other.example", ED25519, signer("other").public)
    line = Signature(other.name, other.key_id, b"not even a signature").line
    witness.add_checkpoint(AddCheckpoint(0, (), add_signatures(HONEST.note, [line])))
    found = witness.store.head(ORIGIN)
    assert found is not None
    assert [s.name for s in Note.parse(found.note).signatures] == [ORIGIN, witness.vkey.name]


def test_a_log_whose_key_was_rotated_may_sign_with_either(make: Make) -> None:
    new = VerifierKey.of(ORIGIN, ED25519, signer("new log key").public)
    old = make()
    witness = Witness(
        old.vkey.name, signer("witness court.example/witness"), {ORIGIN: (log_key(), new)}, old.store, lambda: NOW
    )
    witness.add_checkpoint(HONEST.at(3).request(0))
    request = HONEST.request(3)
    witness.add_checkpoint(replace(request, note=HONEST.signed("new log key")))
    with pytest.raises(CheckpointInvalid):
        old.add_checkpoint(replace(HONEST.request(8), note=HONEST.signed("new log key")))


def test_two_histories_pushed_at_the_same_time_leave_one(make: Make) -> None:
    witness, cosigned = make(), list[SimulatedLog]()

    def push(number: int) -> None:
        log, old = (SimulatedLog(0), SimulatedLog(0, fork=2, branch="'"))[number % 2], 0
        for size in range(1 + number, 30, 3):
            for _ in range(3):
                try:
                    witness.add_checkpoint(log.at(size).request(min(old, size)))
                except SizeConflict as conflict:
                    old = conflict.size
                    continue
                except ConsistencyInvalid:
                    break
                cosigned.append(log.at(size))
                break

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(push, range(6)))
    check_one_history(cosigned)
    assert head(witness)[0] == max(log.size for log in cosigned)


# -- the clock --


def test_a_clock_that_goes_back_a_little_repeats_the_last_time(make: Make) -> None:
    at(make, 5)
    line = make(lambda: NOW - MAX_STEP_BACK_S).add_checkpoint(HONEST.request(5))
    assert verify_cosignature(add_signatures(HONEST.note, [line]), witness_key()) == NOW


@pytest.mark.parametrize("now", [NOW - MAX_STEP_BACK_S - 1, 0, -5])
def test_a_clock_that_goes_back_far_stops_the_witness(make: Make, now: int) -> None:
    at(make, 5)
    stopped = make(lambda: now)
    with pytest.raises(CouldNotRun, match="clock"):
        stopped.add_checkpoint(HONEST.request(5))
    assert head(stopped) == (5, HONEST.at(5).root)


def test_a_cosignature_never_says_time_zero(make: Make) -> None:
    with pytest.raises(CouldNotRun):
        make(lambda: 0).add_checkpoint(HONEST.request(0))
