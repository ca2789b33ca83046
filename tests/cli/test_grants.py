"""`yunxi grant` as its users run it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.command import Result, Yunxi, made_node

pytestmark = pytest.mark.xdist_group("cli-grants")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yunxi]:
    """The command on a node with `fire` and `health`."""
    with made_node(tmp_path_factory.mktemp("grants"), "fire", "health") as made:
        yield made


WORDS = {
    "--as": "fire",
    "--to": "health",
    "--type": "inspection.report",
    "--unit": "result",
    "--purpose": "joint-inspection",
    "--kind": "restaurant",
    "--until": "2099-01-31",
}


def give(yunxi: Yunxi, *more: str, **changes: str) -> Result:
    """`yunxi grant give`, where `to="x"` changes `--to`."""
    words = WORDS | {f"--{name}": value for name, value in changes.items()}
    return yunxi("grant", "give", *(word for pair in words.items() for word in pair), *more)


def test_a_grant_from_giving_to_revoking(two: Yunxi) -> None:
    given = give(two, "--unit", "place", "--per-day", "20", "--json")
    assert given.code == 0, given
    grant = given.json()
    number = str(grant["id"])
    assert (grant["owner"], grant["units"], grant["per_day"], grant["state"]) == (
        "fire",
        ["result", "place"],
        20,
        "in-force",
    )
    assert "2099-01-31" in grant["valid_to"] or "2099-02-01" in grant["valid_to"], "the last day is whole"
    shown = two("grant", "show", number, "--lang", "zh")
    assert "fire局允许health局提取“检查结果（系统接入）”中的：" in shown.out
    assert "有效" in shown.out
    assert two("grant", "list", "health", "--received", "--json").json()["grants"][0] == grant
    listed = two("grant", "list", "fire")
    assert "Bureau of fire lets Bureau of health extract from" in listed.out
    assert listed.out.endswith("1 grant.\n")
    revoked = two("grant", "revoke", number)
    assert "Revoked at" in revoked.out
    assert f"Grant {number} was revoked already" in two("grant", "revoke", number).sentence()


REFUSED = {
    "a unit that the type does not have": ({"unit": "people"}, "is a unit of none of these record types"),
    "a purpose that is not listed": ({"purpose": "curiosity"}, "is no purpose of the list"),
    "a stranger": ({"to": "police"}, "not an admitted member"),
    "an owner whose keys are elsewhere": ({"as": "police"}, "holds no keys of department 'police'"),
    "a time that is none": ({"until": "tomorrow"}, "is no time"),
    "an end that has passed": ({"until": "2020-01-01"}, "every grant ends"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_sentence(two: Yunxi, case: str) -> None:
    changes, words = REFUSED[case]
    result = give(two, **changes)
    assert result.code == 1
    assert words in result.sentence()


def test_a_grant_that_is_not_there(two: Yunxi) -> None:
    assert "There is no grant 99" in two("grant", "show", "99").sentence()
