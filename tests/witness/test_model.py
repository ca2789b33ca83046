"""Any sequence of requests, honest and forged, against a model of what a witness may cosign."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import ConsistencyInvalid, Malformed, YunxiError
from ledger.formats.checkpoint import add_signatures
from ledger.formats.cosignature import verify_cosignature
from ledger.formats.merkle import root_of
from ledger.witness.core import MAX_STEP_BACK_S
from ledger.witness.protocol import AddCheckpoint, SizeConflict
from tests.witness.simulation import NOW, ORIGIN, SimulatedLog, new_witness

SIZES = st.integers(0, 40)
LOGS = st.builds(SimulatedLog, SIZES, SIZES, st.sampled_from(["", "'", '"']))
STEPS = st.tuples(LOGS, st.none() | SIZES, st.booleans(), st.integers(-MAX_STEP_BACK_S, 90))


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_whatever_is_asked_only_one_history_is_cosigned(
    steps: list[tuple[SimulatedLog, int | None, bool, int]],
) -> None:
    now = NOW
    witness = new_witness(clock=lambda: now)
    model: list[bytes] = []  # the leaves of the last cosigned tree
    last = 0
    for log, guessed, damaged, later in steps:
        now = max(now + later, last - MAX_STEP_BACK_S)
        old = len(model) if guessed is None else guessed
        path = log.path(old, log.size)
        if damaged and path:
            path[0] = bytes(32)
        request = AddCheckpoint(old, tuple(path), log.note)
        leaves = log.leaves
        continues = leaves[: len(model)] == model and not (damaged and path)
        if old > log.size:
            expected: type[YunxiError] | None = Malformed
        elif old != len(model):
            expected = SizeConflict
        else:
            expected = None if continues else ConsistencyInvalid
        try:
            line = witness.add_checkpoint(request)
        except YunxiError as error:
            assert expected is not None, "an honest request was refused"
            assert type(error) is expected
        else:
            assert expected is None, f"cosigned, although {expected}"
            time = verify_cosignature(add_signatures(log.note, [line]), witness.vkey)
            assert time == max(now, last), "times rise with sizes"
            model, last = leaves, time
        head = witness.store.head(ORIGIN)
        assert (head.size, head.root) == (len(model), root_of(model)) if head else not model
        for conflict in witness.store.conflicts():
            assert conflict.proven or conflict.size != len(model) or not model


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 10**6), st.integers(0, 7))
def test_a_bit_flipped_anywhere_in_a_proof_is_refused(a: int, b: int, byte: int, bit: int) -> None:
    old, new = sorted((a, b))
    log = SimulatedLog(new)
    path = log.path(old, new)
    witness = new_witness()
    witness.add_checkpoint(log.at(old).request(0))
    if path:
        place = byte % (32 * len(path))
        hash_ = bytearray(path[place // 32])
        hash_[place % 32] ^= 1 << bit
        path[place // 32] = bytes(hash_)
        try:
            witness.add_checkpoint(AddCheckpoint(old, tuple(path), log.note))
        except ConsistencyInvalid:
            pass
        else:
            raise AssertionError("cosigned over a damaged proof")
    witness.add_checkpoint(log.request(old))
