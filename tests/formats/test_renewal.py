"""Renewals of time stamps: the tree they cover, and files that are none."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha512
from typing import Any

import pytest

from ledger.errors import InclusionInvalid, Malformed, NotProven
from ledger.formats.encoding import b64encode
from ledger.formats.renewal import Renewal, RenewalChain, covers, leaf_hash, path_of, root_of, verify_renewals
from ledger.formats.timestamp import Timestamp, token_of, verify_token
from tests.fixtures.tsa import Authority, make_authority

TOKENS = [b"token %d" % number for number in range(7)]
LEAVES = [leaf_hash(token) for token in TOKENS]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tsa") / "renewal", kind="ec")


@pytest.fixture(scope="module")
def renewed(authority: Authority) -> dict[int, bytes]:
    """The token over the root of the first so many."""
    return {size: token_of(authority.stamp(root_of(LEAVES[:size]))) for size in (1, 2, 3, 7)}


def chain(renewed: dict[int, bytes], index: int, size: int) -> RenewalChain:
    return RenewalChain(index, (Renewal(size, tuple(path_of(index, LEAVES[:size])), renewed[size], 0),))


def test_the_tree_written_out_by_hand() -> None:
    a, b, c = (sha512(b"\x00" + token).digest() for token in TOKENS[:3])
    ab = sha512(b"\x01" + a + b).digest()
    assert root_of(LEAVES[:3]) == sha512(b"\x01" + ab + c).digest()
    assert [path_of(n, LEAVES[:3]) for n in range(3)] == [[b, c], [a, c], [ab]]


def test_every_token_is_covered_in_its_place_and_in_no_other(renewed: dict[int, bytes]) -> None:
    for size in renewed:
        for index in range(size):
            good = chain(renewed, index, size)
            assert covers(TOKENS[index], good)
            assert not covers(b"another", good)
            for other in {*range(size + 2)} - {index}:
                assert not covers(TOKENS[index], replace(good, index=other))


WRONG = {
    "a path too long": (lambda r: replace(r, path=(*r.path, bytes(64))), "too long"),
    "a path too short": (lambda r: replace(r, path=r.path[:-1]), "too short"),
    "a tree that is too small": (lambda r: replace(r, size=4), "there is no token 4 among 4"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_path_that_leads_nowhere(authority: Authority, renewed: dict[int, bytes], name: str) -> None:
    change, sentence = WRONG[name]
    good = chain(renewed, 4, 7)
    stamp = verify_token(renewed[7], root_of(LEAVES), [authority.root])
    assert len(verify_renewals(TOKENS[4], stamp, good, [authority.root])) == 1
    bad = replace(good, renewals=(change(good.renewals[0]),))
    with pytest.raises(InclusionInvalid, match=sentence):
        verify_renewals(TOKENS[4], stamp, bad, [authority.root])
    assert not covers(TOKENS[4], bad)


def test_a_renewal_belongs_between_the_stamp_and_its_end(authority: Authority, renewed: dict[int, bytes]) -> None:
    good = chain(renewed, 0, 1)
    fresh = verify_token(renewed[1], LEAVES[0], [authority.root])

    def renewals(**changes: Any) -> tuple[Timestamp, ...]:
        return verify_renewals(TOKENS[0], replace(fresh, **changes), good, [authority.root])

    assert renewals() == renewals(expires=fresh.time) == (fresh,)
    year = fresh.time.replace(year=fresh.time.year + 1)
    for changes in ({"time": year}, {"expires": fresh.time.replace(year=fresh.time.year - 1)}):
        with pytest.raises(NotProven, match="only when its certificates had ended"):
            renewals(**changes)


GOOD: dict[str, Any] = {"size": 1, "path": [b64encode(bytes(64))], "token": "AAAA", "index": 0}
MALFORMED: dict[str, Any] = {
    "no index": {"renewals": [GOOD]},
    "no renewals": {"index": 0},
    "a member more": {"index": 0, "renewals": [GOOD], "more": 1},
    "renewals that are an object": {"index": 0, "renewals": {}},
    "none": {"index": 0, "renewals": []},
    "65 renewals": {"index": 0, "renewals": [GOOD] * 65},
    "an index below zero": {"index": -1, "renewals": [GOOD]},
    "an index of true": {"index": True, "renewals": [GOOD]},
    "a renewal that is a list": {"index": 0, "renewals": [[]]},
    "a renewal without its size": {"index": 0, "renewals": [{k: v for k, v in GOOD.items() if k != "size"}]},
    "a renewal with a member more": {"index": 0, "renewals": [GOOD | {"more": 1}]},
    "a path that is a text": {"index": 0, "renewals": [GOOD | {"path": "AAAA"}]},
    "a path of 65": {"index": 0, "renewals": [GOOD | {"path": GOOD["path"] * 65}]},
    "a path of numbers": {"index": 0, "renewals": [GOOD | {"path": [1]}]},
    "a hash of 32 bytes": {"index": 0, "renewals": [GOOD | {"path": [b64encode(bytes(32))]}]},
    "a token that is a number": {"index": 0, "renewals": [GOOD | {"token": 1}]},
    "a size as text": {"index": 0, "renewals": [GOOD | {"size": "1"}]},
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_file_of_renewals(name: str) -> None:
    most = {"index": 0, "renewals": [GOOD | {"path": GOOD["path"] * 64}] * 64}
    read = RenewalChain.parse(json.dumps(most).encode())
    assert RenewalChain.parse(read.serialize()) == read
    with pytest.raises(Malformed):
        RenewalChain.parse(json.dumps(MALFORMED[name]).encode())
