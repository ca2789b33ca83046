"""Any one flipped bit of the evidence is refused, and by the error of the part that it stands in."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import (
    AnchorInvalid,
    CheckpointInvalid,
    DisclosureInvalid,
    InclusionInvalid,
    KeyRefused,
    Malformed,
    Refusal,
    SignatureInvalid,
)
from ledger.verify import Facts, Verifier
from tests.verify.factory import evidence, trust

EXPECTED: dict[str, set[type[Refusal]]] = {
    "statement header": {Malformed, KeyRefused},
    "statement payload": {Malformed, KeyRefused, SignatureInvalid},
    "statement signature": {Malformed, SignatureInvalid},
    "disclosures": {Malformed, DisclosureInvalid},
    "receipt head": {Malformed},
    "anchor": {Malformed, AnchorInvalid},
    "index": {Malformed, InclusionInvalid},
    "path": {Malformed, InclusionInvalid},
    "checkpoint": {Malformed, CheckpointInvalid},
    "cosignatures": {Malformed, CheckpointInvalid},
}
"""By part; together the parts are every byte of the presentation and the receipt."""


@cache
def parts() -> dict[str, tuple[int, int, int]]:
    """Where each part stands: 0 for the presentation or 1 for the receipt, start, end."""
    presentation, receipt = files()
    header, payload = (presentation.index(b"."), presentation.rindex(b"."))
    tilde = presentation.index(b"~")
    extra, index = receipt.index(b"extra "), receipt.index(b"index ")
    path, blank = receipt.index(b"\n", index) + 1, receipt.index(b"\n\n") + 1
    witnesses = receipt.index("— court.example".encode())
    return {
        "statement header": (0, 0, header),
        "statement payload": (0, header, payload),
        "statement signature": (0, payload, tilde),
        "disclosures": (0, tilde + 1, len(presentation)),
        "receipt head": (1, 0, extra),
        "anchor": (1, extra, index),
        "index": (1, index, path),
        "path": (1, path, blank),
        "checkpoint": (1, blank + 1, witnesses),
        "cosignatures": (1, witnesses, len(receipt)),
    }


@cache
def files() -> tuple[bytes, bytes]:
    record, state = evidence()
    return record.present(), state.receipt(5)


@cache
def verifier() -> Verifier:
    return Verifier(trust())


def verify_flipped(file: int, bit: int) -> Facts:
    changed = bytearray(files()[file])
    changed[bit // 8] ^= 1 << bit % 8
    pair = (bytes(changed), files()[1]) if file == 0 else (files()[0], bytes(changed))
    return verifier().verify(*pair)


def test_unflipped_it_passes() -> None:
    facts = verifier().verify(*files())
    assert facts.logged is not None
    assert facts.logged.anchor is not None


def test_the_parts_are_every_byte_but_two_separators() -> None:
    covered = sum(end - start for _, start, end in parts().values())
    assert covered == sum(map(len, files())) - 2


@pytest.mark.parametrize("part", EXPECTED)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_is_refused_by_the_right_error(part: str, data: st.DataObject) -> None:
    file, start, end = parts()[part]
    bit = data.draw(st.integers(start * 8, end * 8 - 1))
    with pytest.raises(Refusal) as refused:
        verify_flipped(file, bit)
    assert type(refused.value) in EXPECTED[part]


@pytest.mark.slow
@pytest.mark.parametrize("part", EXPECTED)
def test_every_single_bit(part: str) -> None:
    file, start, end = parts()[part]
    seen = set()
    for bit in range(start * 8, end * 8):
        with pytest.raises(Refusal) as refused:
            verify_flipped(file, bit)
        seen.add(type(refused.value))
    # not only inside the set: every error that is expected does come
    assert seen == EXPECTED[part]


@pytest.mark.parametrize("file", [0, 1])
def test_the_separators_too(file: int) -> None:
    place = files()[0].index(b"~") if file == 0 else files()[1].index(b"\n\n") + 1
    for bit in range(place * 8, place * 8 + 8):
        with pytest.raises(Malformed):
            verify_flipped(file, bit)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([0, 1]),
    st.integers(0, 10_000),
    st.integers(0, 40),
    st.binary(max_size=40),
)
def test_a_replaced_stretch_is_refused_or_changes_nothing(file: int, at: int, cut: int, put: bytes) -> None:
    original = files()[file]
    at %= len(original)
    changed = original[:at] + put + original[at + cut :]
    pair = (changed, files()[1]) if file == 0 else (files()[0], changed)
    try:
        facts = verifier().verify(*pair)
    except Refusal:
        return
    # what still passes shows less or says the same: nothing can be added
    good = verifier().verify(*files())
    assert facts.record_id == good.record_id
    assert {unit.name for unit in facts.units} <= {unit.name for unit in good.units}
