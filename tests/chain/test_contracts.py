"""The bindings against the real contracts, and every way they say no."""

from __future__ import annotations

import string
import time
from collections.abc import Callable
from typing import Any

import pytest
from eth_account import Account

from ledger.chain.abi import load_artifact
from ledger.chain.client import RpcError
from ledger.chain.contracts import (
    ConsortiumContract,
    EvidenceLogContract,
    department_bytes,
    department_text,
    padded,
)
from ledger.chain.refusals import SENTENCES, explain
from ledger.errors import HistoryRefused, InclusionInvalid, KeyRefused, Malformed, Refusal


def test_what_was_deployed_is_registered(network: Any) -> None:
    consortium = network.consortium
    assert consortium.module("EvidenceLog") == network.addresses.evidence_log
    assert consortium.module("Nothing") is None
    assert consortium.module_names() == ["EvidenceLog", "SharingGrants", "VerifiableDraw"]
    assert network.evidence_log.consortium() == network.addresses.consortium
    assert consortium.deployer() == network.deployer.address
    assert consortium.setup_open()


def test_a_department_and_its_keys_read_back(network: Any) -> None:
    name, account = network.department()
    consortium = network.consortium
    department = consortium.department(name)
    assert (department.id, department.state) == (name, "admitted")
    assert (department.name, department.log_origin) == (name.title(), f"test.example/{name}")
    assert department in consortium.departments()
    (key,) = consortium.keys(name)
    assert (key.department, key.use, key.valid_to) == (name, "anchor", None)
    assert key.public_key == account._key_obj.public_key.to_bytes()
    assert consortium.is_anchorer(name, account.address)
    assert not consortium.is_anchorer(name, network.deployer.address)


def test_keys_rotate_and_close(network: Any) -> None:
    name, _ = network.department()
    consortium, now = network.consortium, int(time.time())
    old, new = b"\x01" * 31 + name.encode()[-1:], b"\x02" * 31 + name.encode()[-1:]
    consortium.register_key(network.deployer, name, old, "statement", bytes(32), now)
    consortium.rotate_key(network.deployer, name, old, new, b"\x01" * 32, now + 1000)
    assert consortium.key(old).valid_to == consortium.key(new).valid_from == now + 1000
    assert consortium.key(new).use == "statement"
    consortium.close_key(network.deployer, name, new, now + 5000)
    assert consortium.key(new).valid_to == now + 5000
    consortium.set_node_url(network.deployer, name, "https://other")
    assert consortium.department(name).node_url == "https://other"


def test_members_decide_by_vote_after_set_up(fragile: Any) -> None:
    governors = [Account.create() for _ in range(3)]
    consortium: ConsortiumContract = fragile.consortium
    for number, governor in enumerate(governors):
        consortium.admit(fragile.deployer, f"dept{number}", "", f"o{number}", "", governor.address)
    consortium.close_setup(fragile.deployer, 2)
    assert not consortium.setup_open() and consortium.votes_needed() == 2
    action = consortium.encode("suspend", department_bytes("dept2"))
    with pytest.raises(KeyRefused, match="neither the deployer"):
        consortium.suspend(fragile.deployer, "dept2")
    proposal = consortium.propose(governors[0], action, int(time.time()) + 3600)
    with pytest.raises(Refusal, match="1 of the 2 votes"):
        consortium.execute(governors[0], proposal, action)
    consortium.approve(governors[1], proposal)
    consortium.withdraw_approval(governors[1], proposal)
    consortium.approve(governors[1], proposal)
    consortium.execute(governors[0], proposal, action)
    assert consortium.department("dept2").state == "suspended"
    with pytest.raises(Refusal, match="carried out already"):
        consortium.execute(governors[0], proposal, action)


def _anchored(network: Any, worker: Any) -> tuple[EvidenceLogContract, str, Any, Any]:
    name, account = network.department()
    log = worker.ListLog(name, 5, grown=9)
    network.evidence_log.anchor(account, log.log_id, 5, log.root, [])
    return network.evidence_log, name, account, log


def test_heads_roots_and_history(network: Any, worker: Any) -> None:
    contract, _, account, log = _anchored(network, worker)
    root_at_8 = log.root_at(8)
    receipt = contract.anchor(account, log.log_id, 8, root_at_8, log.consistency_path(5, 8))
    head = contract.head(log.log_id)
    assert (head.size, head.root, head.previous_size) == (8, root_at_8, 5)
    assert (head.block_number, head.timestamp) == (receipt.block_number, receipt.timestamp)
    assert contract.root_at(log.log_id, 6) is None
    assert [anchored.size for anchored in contract.history(log.log_id)] == [8, 5]
    assert contract.head(log.log_id, block=receipt.block_number - 1).size == 5
    event = contract.anchored_event(log.log_id, 8, head.block_number)
    assert event is not None and event.tx_hash == receipt.tx_hash
    again = contract.client.receipt(receipt.tx_hash)
    assert again is not None and again.block_hash == receipt.block_hash
    assert contract.anchored_event(log.log_id, 7, head.block_number) is None
    empty = contract.head(department_bytes("never-seen"))
    assert (empty.size, empty.root) == (0, bytes(32))


def test_the_contract_checks_inclusion(network: Any, worker: Any) -> None:
    contract, _, _, log = _anchored(network, worker)
    for index in range(5):
        assert contract.verify_inclusion(log.log_id, 5, log.leaves[index], index, log.inclusion_path(index)).size == 5
    path = log.inclusion_path(1)
    wrong = {
        "another leaf": (5, log.leaves[2], 1, path, InclusionInvalid),
        "another place": (5, log.leaves[1], 2, path, InclusionInvalid),
        "a place beyond the tree": (5, log.leaves[1], 5, path, InclusionInvalid),
        "a path too short": (5, log.leaves[1], 1, path[:-1], InclusionInvalid),
        "a path too long": (5, log.leaves[1], 1, [*path, bytes(32)], InclusionInvalid),
        "a size without an anchor": (4, log.leaves[1], 1, path, HistoryRefused),
    }
    for case, (size, leaf, index, given_path, error) in wrong.items():
        with pytest.raises(error) as caught:
            contract.verify_inclusion(log.log_id, size, leaf, index, given_path)
        assert type(caught.value) is error, case


Attempt = Callable[[Any, Any, Any, Any], object]

REFUSED_ANCHORS: dict[str, tuple[Attempt, type[Refusal], str]] = {
    "a smaller size": (
        lambda c, log, key, _: c.anchor(key, log.log_id, 3, log.root_at(3), []),
        HistoryRefused,
        "holds 5 .* back to 3",
    ),
    "another root at the same size": (
        lambda c, log, key, _: c.anchor(key, log.log_id, 5, bytes(32), []),
        HistoryRefused,
        "for size 5 .* two histories",
    ),
    "no proof": (lambda c, log, key, _: c.anchor(key, log.log_id, 8, log.root_at(8), []), HistoryRefused, "0 hashes"),
    "too long a proof": (
        lambda c, log, key, _: c.anchor(key, log.log_id, 8, log.root_at(8), [bytes(32)] * 99),
        HistoryRefused,
        "99 hash",
    ),
    "a proof of another tree": (
        lambda c, log, key, _: c.anchor(key, log.log_id, 8, bytes(32), log.consistency_path(5, 8)),
        HistoryRefused,
        "size 8 does not extend .* size 5",
    ),
    "an account of nobody": (
        lambda c, log, _, __: c.anchor(Account.create(), log.log_id, 8, log.root_at(8), log.consistency_path(5, 8)),
        KeyRefused,
        "not a valid anchoring account",
    ),
    "another department's account": (
        lambda c, log, _, network: c.anchor(network.department()[1], log.log_id, 8, log.root_at(8), []),
        KeyRefused,
        "not a valid anchoring account",
    ),
    "a department that was never admitted": (
        lambda c, log, key, _: c.anchor(key, department_bytes("stranger"), 1, bytes(32), []),
        KeyRefused,
        "'stranger'",
    ),
    "no entries": (lambda c, log, key, _: c.anchor(key, log.log_id, 0, bytes(32), []), HistoryRefused, "no entries"),
}


@pytest.mark.parametrize("case", REFUSED_ANCHORS, ids=str)
def test_the_contract_refuses(network: Any, worker: Any, case: str) -> None:
    contract, _, account, log = _anchored(network, worker)
    attempt, error, words = REFUSED_ANCHORS[case]
    before = contract.client.block()
    with pytest.raises(error, match=words) as caught:
        attempt(contract, log, account, network)
    assert type(caught.value) is error
    assert str(caught.value).endswith((".", "consortium.")) and "\n" not in str(caught.value)
    assert contract.head(log.log_id).size == 5
    if case != "another department's account":
        assert contract.client.block() == before  # refused before sending: no transaction was spent


def test_a_suspended_department_cannot_anchor_until_it_is_reinstated(network: Any, worker: Any) -> None:
    contract, name, account, log = _anchored(network, worker)
    network.consortium.suspend(network.deployer, name)
    with pytest.raises(KeyRefused, match="suspended"):
        contract.anchor(account, log.log_id, 8, log.root_at(8), log.consistency_path(5, 8))
    network.consortium.reinstate(network.deployer, name)
    contract.anchor(account, log.log_id, 8, log.root_at(8), log.consistency_path(5, 8))


def test_a_closed_key_cannot_anchor(network: Any, worker: Any) -> None:
    contract, name, account, log = _anchored(network, worker)
    end = int(time.time()) + 3  # an end that is past when the transaction comes is refused
    network.consortium.close_key(network.deployer, name, network.consortium.keys(name)[0].kid, end)
    time.sleep(max(0.0, end + 1 - time.time()))
    with pytest.raises(KeyRefused, match="not a valid anchoring account"):
        contract.anchor(account, log.log_id, 8, log.root_at(8), log.consistency_path(5, 8))


Governance = Callable[[Any, str], object]
KID = b"\x07" * 32

REFUSED_GOVERNANCE: dict[str, tuple[Governance, type[Refusal], str]] = {
    "admitting twice": (lambda n, d: n.consortium.admit(n.deployer, d, "", "o", "", ADDRESS), Refusal, "already"),
    "an origin that is taken": (
        lambda n, d: n.consortium.admit(n.deployer, "zz", "", f"test.example/{d}", "", ADDRESS),
        Refusal,
        "origin test",
    ),
    "no origin": (
        lambda n, d: n.consortium.admit(n.deployer, "zz", "", "", "", ADDRESS),
        Refusal,
        "needs a log origin",
    ),
    "no governor": (
        lambda n, d: n.consortium.admit(n.deployer, "zz", "", "zz", "", "0x" + "0" * 40),
        Refusal,
        "governance account",
    ),
    "a governor of another": (
        lambda n, d: n.consortium.admit(n.deployer, "zz", "", "zz", "", n.consortium.department(d).governor),
        Refusal,
        "already votes",
    ),
    "a stranger admits": (
        lambda n, d: n.consortium.admit(Account.create(), "zz", "", "zz", "", ADDRESS),
        KeyRefused,
        "may not do this",
    ),
    "reinstating a member": (lambda n, d: n.consortium.reinstate(n.deployer, d), Refusal, "is not suspended"),
    "an unknown department": (lambda n, d: n.consortium.department("nobody"), Refusal, "'nobody' was never"),
    "an unknown key": (lambda n, d: n.consortium.key(KID), KeyRefused, "not registered"),
    "a key from the past": (
        lambda n, d: n.consortium.register_key(n.deployer, d, KID, "log", bytes(32), 1),
        KeyRefused,
        "cannot begin at 1:",
    ),
    "an anchor key of another length": (
        lambda n, d: n.consortium.register_key(n.deployer, d, KID, "anchor", bytes(33), int(time.time())),
        KeyRefused,
        "33 bytes",
    ),
    "a key that is taken": (
        lambda n, d: n.consortium.register_key(
            n.deployer, d, n.consortium.keys(d)[0].kid, "log", bytes(32), int(time.time())
        ),
        KeyRefused,
        "already registered",
    ),
    "an account that is taken": (
        lambda n, d: n.consortium.register_key(
            n.deployer, d, KID, "anchor", n.consortium.keys(d)[0].public_key, int(time.time())
        ),
        KeyRefused,
        "already belongs to key [A-Za-z0-9_-]{43}",
    ),
    "closing another's key": (
        lambda n, d: n.consortium.close_key(n.deployer, n.department()[0], n.consortium.keys(d)[0].kid, 2**40),
        KeyRefused,
        "not registered for department",
    ),
    "a key that ends in the past": (
        lambda n, d: n.consortium.close_key(n.deployer, d, n.consortium.keys(d)[0].kid, 1),
        KeyRefused,
        "cannot end at 1:",
    ),
    "a module without code": (
        lambda n, d: n.consortium.set_module(n.deployer, "Thing", ADDRESS),
        Refusal,
        "no contract at .* as 'Thing'",
    ),
    "too many votes": (lambda n, d: n.consortium.close_setup(n.deployer, 60_000), Refusal, "60000 votes"),
    "a vote during set-up": (lambda n, d: n.consortium.approve(n.deployer, 0), Refusal, "still being set up"),
}

ADDRESS = "0x" + "11" * 20


@pytest.mark.parametrize("case", REFUSED_GOVERNANCE, ids=str)
def test_the_consortium_refuses(network: Any, case: str) -> None:
    name, _ = network.department()
    attempt, error, words = REFUSED_GOVERNANCE[case]
    with pytest.raises(error, match=words) as caught:
        attempt(network, name)
    assert type(caught.value) is error


def test_every_custom_error_has_its_sentence_and_every_sentence_its_error() -> None:
    names = ("Consortium", "EvidenceLog", "SharingGrants")
    errors = {error.name: error for name in names for error in load_artifact(name).errors.values()}
    assert set(errors) == set(SENTENCES)
    for name, (_, sentence) in SENTENCES.items():
        used = {field for _, field, _, _ in string.Formatter().parse(sentence) if field}
        assert used <= set(errors[name].input_names), name


def test_an_unknown_error_is_still_a_refusal() -> None:
    artifact = load_artifact("EvidenceLog")
    newer = explain(artifact, RpcError("", 3, "execution reverted", b"\x01\x02\x03\x04" + bytes(32)))
    assert type(newer) is Refusal and "execution reverted" in str(newer)
    known = next(iter(artifact.errors))
    assert type(explain(artifact, RpcError("", 3, "execution reverted", known + b"\x01"))) is Refusal
    broken = RpcError("the disk", -32603, "disk full", b"")
    assert explain(artifact, broken) is broken


def test_an_address_without_the_contract_is_refused(network: Any) -> None:
    nothing = EvidenceLogContract(network.client, ADDRESS)
    with pytest.raises(HistoryRefused, match="There is no EvidenceLog"):
        nothing.head(department_bytes("fire"))
    other = EvidenceLogContract(network.client, network.addresses.consortium)
    with pytest.raises(Refusal, match="refused"):
        other.head(department_bytes("fire"))


@pytest.mark.parametrize("name", ["", "a", "Fire", "1fire", "fire_", "fire ", "f" * 32, "火", "fire\n"])
def test_department_ids_that_are_none(name: str) -> None:
    with pytest.raises(Malformed):
        department_bytes(name)


def test_a_department_id_has_one_spelling() -> None:
    assert department_text(department_bytes("fire-2")) == "fire-2"
    for wrong in (bytes(32), b"fire\x00x".ljust(32, b"\x00"), b"\xff" * 32):
        with pytest.raises(Malformed):
            department_text(wrong)
    with pytest.raises(Malformed):
        padded("x" * 33)


def test_an_artefact_that_is_not_there() -> None:
    with pytest.raises(Malformed):
        load_artifact("Nothing")
