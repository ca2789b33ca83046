"""SharingGrants through its binding, against the real contract; the contract's own tests are in tests/contracts."""

from __future__ import annotations

import time
from dataclasses import astuple, replace
from typing import Any

import pytest
from eth_account import Account

from ledger.chain.sharing_grants import Grant, SharingGrantsContract, Terms, term
from ledger.errors import KeyRefused, Malformed, Refusal

DAY = 86_400


@pytest.fixture(scope="module")
def grants(network: Any) -> SharingGrantsContract:
    return SharingGrantsContract.of(network.consortium)


@pytest.fixture(scope="module")
def pair(network: Any) -> tuple[str, Any, str]:
    """An owner, its account, and a grantee."""
    owner, account = network.department()
    grantee, _ = network.department()
    return owner, account, grantee


def terms(grantee: str, **changes: Any) -> Terms:
    now = int(time.time())
    lists = (("inspection.report",), ("result", "officers"), ("joint-inspection",), ("inspection",))
    return replace(Terms(grantee, now, now + DAY, 100, *lists), **changes)


def test_a_grant_reads_back_as_it_was_given(grants: SharingGrantsContract, pair: Any) -> None:
    owner, account, grantee = pair
    given = terms(grantee, units=("result", "x" * 32))
    number = grants.grant(account, owner, given)
    found = grants.grant_at(number)
    assert (found.id, found.owner, found.revoked_at) == (number, owner, None)
    assert found == Grant(*astuple(given), number, owner, found.granted_at, None)
    assert abs(found.granted_at - time.time()) < 60
    assert number in grants.grants_by(owner)
    assert number in grants.grants_to(grantee)
    assert number not in grants.grants_to(owner)


def test_each_grant_has_its_own_number(grants: SharingGrantsContract, pair: Any) -> None:
    owner, account, grantee = pair
    first, second = (grants.grant(account, owner, terms(grantee)) for _ in range(2))
    assert second == first + 1


def test_it_permits_what_it_names_until_it_is_revoked(grants: SharingGrantsContract, pair: Any) -> None:
    owner, account, grantee = pair
    number = grants.grant(account, owner, terms(grantee))
    asked = ("inspection.report", "result", "joint-inspection", "inspection", int(time.time()))
    assert grants.permits(number, grantee, *asked)
    assert not grants.permits(number, owner, *asked)
    assert not grants.permits(number, grantee, "inspection.report", "place", *asked[2:])
    before = grants.client.block("latest")
    grants.revoke(account, number)
    revoked = grants.grant_at(number).revoked_at
    assert revoked is not None
    assert not grants.permits(number, grantee, *asked[:4], revoked)
    assert before is not None
    assert grants.grant_at(number, block=before.number).revoked_at is None


REFUSED = {
    "by a stranger": ({}, "stranger", KeyRefused, "does not act for department"),
    "to itself": ({"grantee": "owner"}, None, Refusal, "needs no grant for its own records"),
    "to nobody": ({"grantee": "nobody"}, None, Refusal, "'nobody' is not an admitted member"),
    "of nothing": ({"units": ()}, None, Refusal, "must name something under units"),
    "none a day": ({"per_day": 0}, None, Refusal, "must name something under perDay"),
    "for a time that is over": ({"valid_to": 5}, None, Refusal, "would never be in force"),
    "since yesterday": ({"valid_from": 5}, None, Refusal, "cannot begin at 5"),
    "of sixty-five units": ({"units": ("x",) * 65}, None, Refusal, "names 65 units: at most 64 fit"),
    "of a name of 33 bytes": ({"record_types": ("x" * 33,)}, None, Malformed, "1 to 32 printable ASCII"),
    "of a name without letters": ({"purposes": ("",)}, None, Malformed, "1 to 32 printable ASCII"),
    "of a Chinese name": ({"purposes": ("联合检查",)}, None, Malformed, "1 to 32 printable ASCII"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_is_a_grant(case: str, grants: SharingGrantsContract, pair: Any) -> None:
    changes, sender, error, words = REFUSED[case]
    owner, account, grantee = pair
    changes = {name: owner if value == "owner" else value for name, value in changes.items()}
    with pytest.raises(error, match=words):
        grants.grant(Account.create() if sender else account, owner, terms(**{"grantee": grantee, **changes}))


def test_refused_is_revoking(grants: SharingGrantsContract, pair: Any) -> None:
    owner, account, grantee = pair
    number = grants.grant(account, owner, terms(grantee))
    with pytest.raises(KeyRefused, match="does not act for department"):
        grants.revoke(Account.create(), number)
    grants.revoke(account, number)
    with pytest.raises(Refusal, match=f"Grant {number} was revoked already"):
        grants.revoke(account, number)
    with pytest.raises(Refusal, match="There is no grant 99999"):
        grants.revoke(account, 99_999)
    with pytest.raises(Refusal, match="There is no grant 99999"):
        grants.grant_at(99_999)


def test_a_term_is_its_name_padded() -> None:
    assert term("inspection.report") == b"inspection.report".ljust(32, b"\0")


def test_a_consortium_without_the_contract(network: Any) -> None:
    class Bare:
        client = network.client

        @staticmethod
        def module(_: str) -> None:
            return None

    with pytest.raises(Refusal, match="must vote one in with"):
        SharingGrantsContract.of(Bare())  # type: ignore[arg-type]
