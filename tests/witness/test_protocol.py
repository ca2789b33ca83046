"""The request's form: what is read, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import Malformed
from ledger.witness.protocol import MAX_REQUEST_BYTES, AddCheckpoint, parse_size
from tests.witness.simulation import SimulatedLog

NOTE = SimulatedLog(3).note
HASH = "A" * 43 + "="

# the example of C2SP tlog-witness, with its published hashes and signatures
EXAMPLE = """old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=
""".encode()  # noqa: E501


def test_the_example_of_the_specification() -> None:
    request = AddCheckpoint.parse(EXAMPLE)
    assert (request.old, len(request.proof), request.checkpoint.size) == (20852014, 4, 20852163)
    assert request.checkpoint.origin == "example.com/behind-the-sofa"
    assert request.serialize() == EXAMPLE


@given(st.integers(0, 2**63 - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=63))
def test_what_is_written_is_read(old: int, proof: list[bytes]) -> None:
    request = AddCheckpoint(old, tuple(proof), NOTE)
    assert AddCheckpoint.parse(request.serialize()) == request


BAD = {
    "nothing": b"",
    "no blank line": b"old 0\n" + NOTE.replace(b"\n\n", b"\n"),
    "no checkpoint": b"old 0\n\n",
    "no old size": b"\n" + NOTE,
    "old size with a leading zero": b"old 01\n\n" + NOTE,
    "old size with a plus": b"old +1\n\n" + NOTE,
    "negative old size": b"old -1\n\n" + NOTE,
    "old size of 2^63": b"old 9223372036854775808\n\n" + NOTE,
    "old size with a space too many": b"old  1\n\n" + NOTE,
    "Arabic-Indic digits": "old ١\n\n".encode() + NOTE,
    "upper case": b"OLD 0\n\n" + NOTE,
    "carriage returns": b"old 0\r\n\r\n" + NOTE,
    "a proof line of 31 bytes": b"old 1\n" + b"A" * 42 + b"==\n\n" + NOTE,
    "a proof line without padding": b"old 1\n" + HASH[:-1].encode() + b"\n\n" + NOTE,
    "a proof line with stray bits": b"old 1\n" + b"A" * 42 + b"B=\n\n" + NOTE,
    "a proof line in base64url": b"old 1\n" + b"_" * 42 + b"8=\n\n" + NOTE,
    "64 proof lines": b"old 1\n" + (HASH + "\n").encode() * 64 + b"\n" + NOTE,
    "an unsigned checkpoint": b"old 0\n\n" + NOTE.partition(b"\n\n")[0] + b"\n\n",
    "a checkpoint cut short": b"old 0\n\n" + NOTE[:-1],
    "not UTF-8": b"old 0\n\xff\n\n" + NOTE,
    "too long": b"old 0\n\n" + NOTE + b"x" * MAX_REQUEST_BYTES,
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_a_malformed_request_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        AddCheckpoint.parse(body)


def test_63_proof_lines_are_read() -> None:
    assert len(AddCheckpoint.parse(b"old 1\n" + (HASH + "\n").encode() * 63 + b"\n" + NOTE).proof) == 63


@pytest.mark.parametrize("body", [b"", b"5", b"05\n", b"5\n5\n", b" 5\n", b"5 \n", b"-5\n", b"\xff\n"])
def test_a_size_is_one_decimal_line(body: bytes) -> None:
    assert parse_size(b"5\n") == 5
    with pytest.raises(Malformed):
        parse_size(body)
