"""Case files that were tampered with: each is refused, for the right reason, and the place is named."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.verify.__main__ import run
from ledger.verify.casefile import verify_case_file
from tests.fixtures.casefiles import good, world
from tests.verify.casefile_vectors import ATTACKS, GOOD, CaseVector, vector, vectors


def by_command(place: Path, given_file: CaseVector, lang: str = "en") -> dict[str, Any]:
    """What the command says of the file."""
    (place / "case.zip").write_bytes(given_file.data)
    (place / "trust.json").write_bytes(given_file.trust)
    out = io.StringIO()
    code = run([str(place / "case.zip"), "--trust", str(place / "trust.json"), "--json", "--lang", lang], out)
    answer = json.loads(out.getvalue())
    assert code == {"good": 0, "bad": 1}[answer["verdict"]]
    found: dict[str, Any] = answer["files"][0]
    return found


def test_the_table_is_long_enough_and_its_names_are_unique() -> None:
    assert len(ATTACKS) >= 60
    assert not set(ATTACKS) & set(GOOD)


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_is_refused_and_its_place_named(tmp_path: Path, name: str) -> None:
    attack = vector(name)
    found = by_command(tmp_path, attack)
    assert found["verdict"] == "bad"
    error = found["error"]
    if attack.level is None:
        assert error["code"] == attack.code
        return
    assert (error["code"], error["path"], error["item"]) == (attack.code, attack.path, attack.item)
    assert attack.reason is None or error["reason"] == attack.reason
    assert attack.path is None or attack.path in error["message"]
    if found["facts"] is not None:
        assert found["facts"]["findings"][0]["level"] == attack.level
        states = {level["level"]: level["state"] for level in found["facts"]["levels"]}
        assert states[attack.level] == "bad"


@pytest.mark.parametrize("name", GOOD)
def test_good_case_files_are_verified(tmp_path: Path, name: str) -> None:
    found = by_command(tmp_path, vector(name))
    assert (found["verdict"], found["error"]) == ("good", None), found["error"]
    assert not [level for level in found["facts"]["levels"] if level["state"] == "bad"]


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_answer_can_be_said(tmp_path: Path, lang: str) -> None:
    for each in vectors():
        found = by_command(tmp_path, each, lang)
        lines = found["proven"] + found["not_proven"]
        assert lines
        assert all(line and "{" not in line for line in lines)


@given(place=st.integers(0, 2**40), bit=st.integers(0, 7))
@settings(max_examples=50, deadline=None)
def test_a_flipped_bit_anywhere_is_refused(place: int, bit: int) -> None:
    data = bytearray(good())
    data[place % len(data)] ^= 1 << bit
    result = verify_case_file(world().trust(), io.BytesIO(bytes(data)), "")
    assert result.findings
    assert result.total >= 1


@given(start=st.integers(0, 2**40), length=st.integers(1, 500), put=st.binary(max_size=200))
@settings(max_examples=30, deadline=None)
def test_bytes_taken_out_or_put_in_are_refused(start: int, length: int, put: bytes) -> None:
    data = good()
    start %= len(data)
    changed = data[:start] + put + data[start + length :]
    if changed != data:
        assert verify_case_file(world().trust(), io.BytesIO(changed), "").findings
