"""The consortium's verbs as their users run them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.command import Yunxi, made_node

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yunxi]:
    """The command on a node with three departments, its set-up closed."""
    with made_node(tmp_path_factory.mktemp("consortium"), "fire", "health", "market") as made:
        assert "Set-up is open" in made("consortium", "show").out
        assert made("consortium", "close-setup", "--votes", "2").code == 0
        yield made


def test_a_vote_from_proposal_to_execution(three: Yunxi) -> None:
    proposed = three("consortium", "propose", "suspend", "market", "--as", "fire", "--json").json()
    number = str(proposed["number"])
    assert proposed["sentence"].startswith("suspend department market")
    assert "1 of the 2 votes" in three("consortium", "execute", number, "--as", "fire").sentence()
    assert three("consortium", "approve", number, "--as", "health").code == 0
    assert three("consortium", "withdraw", number, "--as", "health").code == 0
    assert "approved by fire" in three("consortium", "show").out
    assert three("consortium", "approve", number, "--as", "health").code == 0
    assert "(executed)" in three("consortium", "execute", number, "--as", "fire").out
    status = three("status")
    assert status.code == 1
    assert "market is suspended by the consortium" in status.err
    back = str(three("consortium", "propose", "reinstate", "market", "--as", "fire", "--json").json()["number"])
    three("consortium", "approve", back, "--as", "health")
    assert three("consortium", "execute", back, "--as", "health").code == 0
    assert three("status").code == 0


def test_a_department_after_set_up_is_told_how_it_gets_in(three: Yunxi) -> None:
    refused = three("department", "add", "water", "--name", "水务局")
    assert refused.code == 1
    assert "yunxi consortium propose admit water --name '水务局' --governor 0x" in refused.sentence()


def test_a_rotation_is_told_with_its_changeover(three: Yunxi) -> None:
    rotated = three("department", "rotate", "fire", "--use", "log", "--json").json()
    assert rotated["new"]
    again = three("department", "rotate", "fire", "--use", "log")
    assert "as was begun before" in again.out
    assert rotated["new_key"] in again.out
    shown = three("department", "next-key", "health", "--use", "statement")
    assert "propose rotate-key health --use statement --public-key" in shown.out


def test_the_evidence_log_is_replaced(three: Yunxi) -> None:
    assert "already" in three("consortium", "follow").out
    address = three("consortium", "successor", "--as", "fire", "--json").json()["evidence_log"]
    change = ("consortium", "propose", "set-module", "EvidenceLog", address, "--as", "fire", "--json")
    number = str(three(*change).json()["number"])
    three("consortium", "approve", number, "--as", "market")
    assert three("consortium", "execute", number, "--as", "fire").code == 0
    assert "run `yunxi consortium follow`" in three("consortium", "show").out
    assert address in three("consortium", "follow").out


REFUSALS = {
    "close set-up again": ("consortium", "close-setup", "--votes", "2"),
    "speak for nobody": ("consortium", "approve", "0", "--as", "police"),
    "a number there is none of": ("consortium", "approve", "999", "--as", "fire"),
    "one vote": ("consortium", "propose", "set-votes", "9", "--as", "fire"),
    "a key of no use": ("department", "rotate", "fire", "--use", "master"),
    "a key of nobody": ("department", "rotate", "police", "--use", "log"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_in_one_sentence(case: str, three: Yunxi) -> None:
    result = three(*REFUSALS[case])
    assert result.code == 1
    assert result.sentence()
