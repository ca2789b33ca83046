"""Governance by M-of-N through the ledger: what each step does, who is refused, and what a suspension stops."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account

from ledger import governance, rotation
from ledger.anchor import Anchorer
from ledger.audit import audit_node
from ledger.chain.contracts import (
    EVIDENCE_LOG,
    NOBODY,
    EvidenceLogContract,
    department_bytes,
    deploy_successor,
)
from ledger.departments import add_department
from ledger.errors import HistoryRefused, KeyRefused, Malformed, Refusal
from ledger.formats.encoding import b64url_encode
from ledger.formats.trust import Trust
from ledger.governance import (
    admission,
    approve,
    close_setup,
    consortium_state,
    deploy_next_evidence_log,
    describe,
    execute,
    expiry,
    follow,
    key_rotation,
    module_change,
    propose,
    reinstatement,
    suspension,
    votes_change,
    withdraw,
)
from ledger.node import Node
from ledger.receipts import make_receipt
from ledger.rotation import planned_key, rotate_key
from ledger.settings import Settings
from ledger.status import node_status
from ledger.submission import Acknowledged
from ledger.trust import export_trust
from ledger.verify import Verifier
from tests.fixtures.nodes import Built, check_round, end_chain
from tests.fixtures.records import acknowledged, submissions

STRANGER = "0x" + "77" * 20
ALL = ("fire", "health", "market")


@pytest.fixture(scope="module")
def directory(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A consortium of three departments on one node, set-up closed, two votes at least."""
    made = built.copy_with_chain(tmp_path_factory.mktemp("governance") / "node")
    node = Node.open(made)
    add_department(node, "market", "市场监管 | Market supervision")
    assert consortium_state(node).setup_open
    assert close_setup(node, 2) == 2
    node.close()
    yield made
    end_chain(made)


@pytest.fixture
def node(directory: Path) -> Iterator[Node]:
    opened = Node.open(directory)
    yield opened
    opened.close()


@pytest.fixture
def founding(built: Built, tmp_path: Path) -> Iterator[Node]:
    """A node of the test's own, its set-up open; two departments."""
    made = built.copy_with_chain(tmp_path / "founding")
    opened = Node.open(made)
    yield opened
    opened.close()
    end_chain(made)


def vote(node: Node, action: bytes, voters: tuple[str, ...] = ALL[:2]) -> governance.Motion:
    """The whole way: the first proposes, the others approve, the first carries out."""
    motion = propose(node, voters[0], action)
    for voter in voters[1:]:
        motion = approve(node, voter, motion.number)
    return execute(node, voters[0], motion.number)


def take(node: Node, department: str = "fire", count: int = 1) -> list[Acknowledged]:
    return acknowledged(node.intake.submit(department, submissions(0, count, f"{time.time_ns()}-")))


# -- what is shown --


def test_the_consortium_as_it_is_shown(node: Node) -> None:
    found = consortium_state(node)
    assert (found.setup_open, found.minimum_votes, found.votes_needed) == (False, 2, 2)
    assert [(m.id, m.state, m.here) for m in found.departments] == [(name, "admitted", True) for name in ALL]
    assert all(m.keys == 6 for m in found.departments)
    log = next(m for m in found.modules if m.name == EVIDENCE_LOG)
    assert (log.address, log.followed) == (node.settings.chain.evidence_log, True)


def test_a_proposal_is_told_in_plain_words_from_its_bytes(node: Node) -> None:
    link, kid = node.connect(), bytes(32)
    address = link.evidence_log.address
    later = 1_893_456_000
    fire = department_bytes("fire")
    encode = link.consortium.encode
    words = {
        encode(
            "admit", department_bytes("water"), "水务局", "test.example/water", "", STRANGER
        ): "admit department water",
        encode("suspend", fire): "suspend department fire",
        encode("reinstate", fire): "reinstate department fire",
        encode("setMinimumVotes", 3): "least number of votes to 3",
        encode("closeSetup", 2): "close set-up",
        encode("setModule", b"EvidenceLog".ljust(32, b"\0"), address): "NO PREDECESSOR",
        encode("setModule", b"EvidenceLog".ljust(32, b"\0"), link.consortium.address): "NO EvidenceLog",
        encode("setModule", b"SharingGrants".ljust(32, b"\0"), address): "replace contract SharingGrants",
        encode("registerKey", fire, kid, 1, bytes(32), later): "valid from 2030-01-01T00:00:00Z",
        encode("closeKey", fire, kid, 2**63): f"close key {b64url_encode(kid)} of fire",
        encode("rotateKey", fire, kid, b"\1" * 32, bytes(32), later): "rotate key",
        encode("setNodeUrl", fire, "https://x\u202e"): "\\u202e",
        encode("setGovernor", fire, STRANGER): STRANGER,
        encode("approve", 1): "UNKNOWN",
        encode("suspend", fire) + b"\0": "bytes that say nothing",
        encode("suspend", fire)[:-1]: "do not decode",
        b"": "UNKNOWN",
        b"\xde\xad\xbe\xef": "0xdeadbeef",
    }
    for action, said in words.items():
        assert said in describe(link, action), describe(link, action)


def test_a_node_that_lies_about_a_proposals_text_is_found_out(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    number = propose(node, "fire", suspension(node, "market")).number
    link = node.connect()
    harmless = link.consortium.encode("reinstate", department_bytes("fire"))
    monkeypatch.setattr(type(link.consortium), "proposed_action", lambda _self, _event: harmless)
    motion = consortium_state(node).motions[number]
    assert motion.sentence.startswith("UNKNOWN")
    assert motion.action == b""


# -- votes --


def test_two_of_three_decide(node: Node) -> None:
    motion = propose(node, "fire", votes_change(node, 3))
    assert (motion.state, motion.approvals, motion.votes) == ("open", ("fire",), 1)
    with pytest.raises(Refusal, match="1 of the 2 votes"):
        execute(node, "fire", motion.number)
    assert approve(node, "health", motion.number).votes == 2
    assert withdraw(node, "health", motion.number).votes == 1
    approve(node, "market", motion.number)
    assert execute(node, "health", motion.number).state == "executed"
    assert consortium_state(node).votes_needed == 3
    vote(node, votes_change(node, 2), ALL)
    assert consortium_state(node).votes_needed == 2


def test_a_department_is_admitted_by_vote_and_then_added_on_its_way(node: Node) -> None:
    with pytest.raises(
        Refusal, match="yunxi consortium propose admit water --name '水务局 \\| Water' --governor 0x"
    ) as said:
        add_department(node, "water", "水务局 | Water")
    words = str(said.value).split()
    account = words[words.index("--governor") + 1]
    vote(node, admission(node, "water", "水务局 | Water", account))
    origin = add_department(node, "water", "水务局 | Water")
    assert add_department(node, "water", "水务局 | Water") == origin, "safe to run again"
    take(node, "water")
    assert not [outcome.problem for outcome in Anchorer(node).round() if outcome.problem]
    assert export_trust(node).department("water").name["en"] == "Water"
    vote(node, suspension(node, "water"), ALL)


def test_a_suspended_department_goes_on_taking_records_and_catches_up(node: Node) -> None:
    vote(node, suspension(node, "market"))
    taken = take(node, "market", 3)
    outcome = next(outcome for outcome in Anchorer(node).round() if outcome.department == "market")
    assert isinstance(outcome.problem, KeyRefused)
    assert "suspended and cannot anchor until it is reinstated" in str(outcome.problem)
    status = node_status(node)
    assert not status.good
    market = next(log for log in status.logs if log.department == "market")
    assert (market.suspended, market.halted, market.backlog) == (True, None, 3)
    with pytest.raises(Refusal, match="not an admitted member"):
        propose(node, "market", reinstatement(node, "market"))
    with pytest.raises(Refusal, match="not an admitted member"):
        rotate_key(node, "market", "statement")
    taken += take(node, "market", 2)
    vote(node, reinstatement(node, "market"))
    check_round(Anchorer(node), 1)
    log = next(log for log in node_status(node).logs if log.department == "market")
    assert (log.suspended, log.backlog, log.size) == (False, 0, 5)
    trust = export_trust(node)
    for record in taken:
        with node.database.writing() as connection:
            proof = make_receipt(connection, node.agent, record.record_id, int(node.clock()))
            presentation = node.reader.present(connection, record.record_id, None)
        assert Verifier(trust).verify(presentation, proof.serialize()).logged is not None


def test_after_set_up_a_department_rotates_its_own_key(node: Node) -> None:
    rotated = rotate_key(node, "fire", "statement")
    keys = [key for key in node.connect().consortium.keys("fire") if key.use == "statement"]
    assert b64url_encode(keys[-1].kid) == rotated.new_key
    assert keys[-1].valid_from == keys[-2].valid_to == rotated.changeover


def test_the_others_rotate_the_key_of_one_that_cannot(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    # its governance account is lost: a fresh one stands for it on the chain
    vote(node, node.connect().consortium.encode("setGovernor", department_bytes("market"), Account.create().address))
    with pytest.raises(KeyRefused, match="propose rotate-key market --use log --public-key"):
        rotate_key(node, "market", "log")
    kid, public = planned_key(node, "market", "log")
    action = key_rotation(node, "market", "log", b64url_encode(public), expiry(node, 7))
    assert f"to {kid} at" in vote(node, action).sentence
    take(node, "market")
    before = node.agent.log_signer("market").kid
    Anchorer(node).round()
    newest = node.agent.held("market", "log")[-1]
    assert (newest.kid, newest.settled) == (kid, True), "the anchorer takes up what was voted"
    assert node.agent.log_signer("market").kid == before, "not before its time"
    assert node.agent.log_signer("market", newest.since).kid == kid
    assert rotate_key(node, "market", "log").new is False


# -- succession --


def test_the_evidence_log_is_succeeded_by_vote_and_nothing_begins_anew(founding: Node) -> None:
    old = founding.settings.chain.evidence_log
    taken = take(founding)
    check_round(Anchorer(founding), 1)
    with founding.database.writing() as connection:
        receipt = make_receipt(connection, founding.agent, taken[0].record_id, int(founding.clock())).serialize()
        presentation = founding.reader.present(connection, taken[0].record_id, None)
    close_setup(founding, 2)
    address = deploy_next_evidence_log(founding, "fire")
    link = founding.connect()
    assert EvidenceLogContract(link.client, address).predecessor() == old
    motion = vote(founding, module_change(founding, EVIDENCE_LOG, address), ("fire", "health"))
    assert f"carries on the histories of {old}" in motion.sentence
    taken += take(founding)
    (outcome,) = Anchorer(founding).round()
    assert isinstance(outcome.problem, HistoryRefused) and "yunxi consortium follow" in str(outcome.problem)
    assert node_status(founding).logs[0].halted is None
    modules = {module.name: module for module in consortium_state(founding).modules}
    assert modules[EVIDENCE_LOG].followed is False
    assert follow(founding) == address
    moved = Node(Settings.load(founding.settings.directory), founding.agent)
    assert follow(moved) is None
    check_round(Anchorer(moved), 1)
    head = moved.connect().evidence_log.head(department_bytes("fire"))
    assert head.previous_size == head.size - 1
    sizes = [anchor.size for anchor in moved.connect().evidence_log.history(department_bytes("fire"))]
    assert sizes[0] == head.size and len(sizes) == 4, "one history over both contracts"
    trust = Trust.parse(export_trust(moved).serialize())
    assert trust.chain.contracts["EvidenceLog-1"] == old
    facts = Verifier(trust).verify(presentation, receipt)
    assert facts.logged is not None and facts.logged.anchor is not None
    assert facts.logged.anchor.contract == old.lower(), "a receipt of the old contract's time stays good"
    audit = audit_node(moved)
    assert audit.good, audit.first()
    moved.close()


def test_a_node_follows_no_contract_that_does_not_carry_its_history_on(founding: Node) -> None:
    link = founding.connect()
    stranger = deploy_successor(link.client, founding.agent.operator_key(), link.consortium.address, NOBODY)
    settings = founding.settings
    elsewhere = replace(settings, chain=replace(settings.chain, evidence_log=stranger))
    with pytest.raises(Refusal, match="histories would begin anew"):
        follow(Node(elsewhere, founding.agent))


# -- what is refused --

REFUSED: dict[str, tuple[type[Refusal], str, Callable[[Node], object]]] = {
    "close set-up twice": (Refusal, "closed already|neither the deployer", lambda n: close_setup(n, 2)),
    "admit a department with an account that is none": (
        Refusal,
        "is not an account",
        lambda n: admission(n, "a1", "x", "0x12"),
    ),
    "admit a department whose id no one can have": (
        Malformed,
        "department id",
        lambda n: admission(n, "A1", "x", STRANGER),
    ),
    "suspend one that was never admitted": (Refusal, "never admitted", lambda n: suspension(n, "police")),
    "reinstate one that is not suspended": (Refusal, "is admitted, not suspended", lambda n: reinstatement(n, "fire")),
    "rotate a key that is none": (
        Malformed,
        "has 32 bytes, not 3",
        lambda n: key_rotation(n, "fire", "statement", b64url_encode(b"abc"), 2**40),
    ),
    "rotate for a use that is none": (
        Refusal,
        "no open key",
        lambda n: key_rotation(n, "fire", "signing", b64url_encode(bytes(32)), 2**40),
    ),
    "set a module to no address": (Refusal, "is not an address", lambda n: module_change(n, EVIDENCE_LOG, "x")),
    "set a module to an account": (Refusal, "no contract at", lambda n: module_change(n, EVIDENCE_LOG, STRANGER)),
    "let an evidence log begin anew": (
        Refusal,
        "carries on no history",
        lambda n: module_change(
            n,
            EVIDENCE_LOG,
            deploy_successor(n.connect().client, n.agent.operator_key(), n.connect().consortium.address, NOBODY),
        ),
    ),
    "let one department decide": (Refusal, "between 2 and the", lambda n: votes_change(n, 1)),
    "ask for more votes than there are members": (Refusal, "between 2 and the", lambda n: votes_change(n, 99)),
    "propose for longer than a month": (Refusal, "1 to 30 days", lambda n: propose(n, "fire", b"", 31)),
    "propose for no time": (Refusal, "1 to 30 days", lambda n: propose(n, "fire", b"", 0)),
    "speak for a department elsewhere": (KeyRefused, "holds no keys", lambda n: propose(n, "police", b"")),
    "approve what is not there": (Refusal, "no proposal 9999", lambda n: approve(n, "fire", 9999)),
    "withdraw what is not there": (Refusal, "no proposal 9999", lambda n: withdraw(n, "fire", 9999)),
    "execute what is not there": (Refusal, "no proposal 9999", lambda n: execute(n, "fire", 9999)),
    "approve twice": (
        Refusal,
        "approved proposal",
        lambda n: approve(n, "fire", propose(n, "fire", suspension(n, "health")).number),
    ),
    "withdraw what was not approved": (
        Refusal,
        "has not approved",
        lambda n: withdraw(n, "health", propose(n, "fire", suspension(n, "health")).number),
    ),
    "act as the deployer after set-up": (
        KeyRefused,
        "neither the deployer",
        lambda n: n.connect().consortium.suspend(n.agent.operator_key(), "fire"),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_nobody_can(case: str, node: Node) -> None:
    kind, words, step = REFUSED[case]
    with pytest.raises(kind, match=words):
        step(node)


def test_there_are_no_proposals_while_set_up_is_open(founding: Node) -> None:
    with pytest.raises(Refusal, match="no votes before"):
        propose(founding, "fire", suspension(founding, "health"))
    with pytest.raises(Refusal, match="not possible with"):
        close_setup(founding, 3)
    # and the deployer alone may rotate for the departments of its node
    assert rotation.rotate_key(founding, "health", "log").new
