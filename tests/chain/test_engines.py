"""One behaviour, every engine: what the ledger asks of a chain holds on each kind of node it is told to work with."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from ledger.chain.anchoring import FINAL, Anchored, anchor_once
from ledger.chain.client import ChainClient
from ledger.chain.contracts import Addresses, ConsortiumContract, EvidenceLogContract, department_bytes, deploy
from ledger.chain.engines import choose, recognise
from ledger.errors import ChainUnreachable, CouldNotRun, HistoryRefused, InclusionInvalid, KeyRefused, Refusal
from tests.fixtures.networks import RunningChain, anvil_chain, clique_chain, embedded_chain, hardhat_chain

ENGINES: dict[str, Callable[[Path], Any]] = {
    "embedded": embedded_chain,
    "hardhat": hardhat_chain,
    "anvil": anvil_chain,
    "geth": clique_chain,
}


@dataclass
class Deployed:
    """A running chain with both contracts, and a department for whoever asks."""

    chain: RunningChain
    client: ChainClient
    operator: LocalAccount
    addresses: Addresses
    consortium: ConsortiumContract
    evidence_log: EvidenceLogContract
    _names: Iterator[str] = field(default_factory=lambda: (f"dept-{n}" for n in itertools.count(1)))

    def department(self) -> tuple[str, LocalAccount]:
        name, account, governor = next(self._names), Account.create(), Account.create()
        self.consortium.admit(self.operator, name, name, f"test.example/{name}", "", governor.address)
        self.register(name, account)
        return name, account

    def register(self, department: str, account: LocalAccount) -> bytes:
        public_key = account._key_obj.public_key.to_bytes()
        kid = hashlib.sha256(public_key).digest()
        self.consortium.register_key(self.operator, department, kid, "anchor", public_key, int(time.time()) - 60)
        return kid


def marked(engine: str) -> Any:
    # one process of each engine, however many workers; go-ethereum makes a block a second and takes its time
    slow = [pytest.mark.slow] if engine == "geth" else []
    return pytest.param(engine, marks=[pytest.mark.xdist_group(f"engine-{engine}"), *slow])


@pytest.fixture(scope="module", params=map(marked, ENGINES))
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningChain]:
    with ENGINES[request.param](tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(scope="module")
def deployed(chain: RunningChain) -> Iterator[Deployed]:
    client, operator = ChainClient(chain.url), Account.create()
    addresses = deploy(client, operator)
    yield Deployed(
        chain,
        client,
        operator,
        addresses,
        ConsortiumContract(client, addresses.consortium),
        EvidenceLogContract(client, addresses.evidence_log),
    )
    client.close()


@pytest.fixture(scope="module")
def member(deployed: Deployed) -> tuple[str, LocalAccount]:
    """One department for tests that only read, or whose writes do not meet: blocks take a second on some engines."""
    return deployed.department()


def step(log: Any, deployed: Deployed, account: Any, **options: Any) -> Anchored:
    anchored = anchor_once(log, deployed.evidence_log, account, **options)
    assert anchored is not None
    return anchored


def test_accounts_without_a_balance_deploy_and_set_up(deployed: Deployed) -> None:
    assert deployed.client.balance(deployed.operator.address) == 0
    assert deployed.consortium.deployer() == deployed.operator.address
    assert deployed.consortium.module("EvidenceLog") == deployed.addresses.evidence_log
    assert deployed.evidence_log.consortium() == deployed.addresses.consortium
    assert deployed.consortium.setup_open()


def test_a_department_is_admitted_with_its_key(deployed: Deployed, member: tuple[str, LocalAccount]) -> None:
    name, account = member
    found = deployed.consortium.department(name)
    assert (found.id, found.state, found.log_origin) == (name, "admitted", f"test.example/{name}")
    (key,) = deployed.consortium.keys(name)
    assert (key.use, key.public_key) == ("anchor", account._key_obj.public_key.to_bytes())
    assert deployed.consortium.is_anchorer(name, account.address)
    assert not deployed.consortium.is_anchorer(name, deployed.operator.address)


def test_a_log_grows_and_is_anchored_once_each(deployed: Deployed, worker: Any) -> None:
    name, account = deployed.department()
    first, second = worker.ListLog(name, 5), worker.ListLog(name, 300)
    small, large = step(first, deployed, account), step(second, deployed, account)
    assert (small.root, large.root) == (first.root, second.root)
    assert step(second, deployed, account) == large
    assert step(worker.ListLog(name, 5, grown=300), deployed, account) == small
    assert deployed.client.nonce(account.address) == 2
    assert [anchor.size for anchor in deployed.evidence_log.history(department_bytes(name))] == [300, 5]
    leaf = second.leaves[77]
    deployed.evidence_log.verify_inclusion(second.log_id, 300, leaf, 77, second.inclusion_path(77))
    with pytest.raises(InclusionInvalid):
        deployed.evidence_log.verify_inclusion(second.log_id, 300, leaf, 78, second.inclusion_path(77))


def test_block_receipt_and_event_tell_the_same(deployed: Deployed, worker: Any) -> None:
    name, account = deployed.department()
    log = worker.ListLog(name, 4)
    anchored = step(log, deployed, account, confirmations=deployed.chain.confirmations)
    block = deployed.client.block(anchored.block_number)
    assert block is not None
    assert (block.hash, block.timestamp) == (anchored.block_hash, anchored.timestamp)
    before = deployed.client.block(anchored.block_number - 1)
    assert before is not None
    assert before.hash == block.parent_hash
    assert anchored.tx_hash is not None
    receipt = deployed.client.receipt(anchored.tx_hash)
    assert receipt is not None
    assert (receipt.block_hash, receipt.succeeded, receipt.contract) == (block.hash, True, None)
    assert 50_000 < receipt.gas_used < 200_000
    event = deployed.evidence_log.anchored_event(log.log_id, 4, anchored.block_number)
    assert event is not None
    assert (event.tx_hash, event.address) == (anchored.tx_hash, deployed.addresses.evidence_log)
    assert deployed.client.block(anchored.block_number + 1_000_000) is None
    assert deployed.client.receipt(bytes(32)) is None
    assert anchored.finality == FINAL


def test_the_state_of_an_older_block_can_be_read(deployed: Deployed, worker: Any) -> None:
    name, account = deployed.department()
    anchored = step(worker.ListLog(name, 4), deployed, account)
    contract, log_id = deployed.evidence_log, department_bytes(name)
    assert contract.head(log_id, block=anchored.block_number).size == 4
    assert contract.head(log_id, block=anchored.block_number - 1).size == 0
    assert contract.root_at(log_id, 4, block=anchored.block_number - 1) is None


REFUSALS: dict[str, tuple[Callable[[Any, str], Any], type[Refusal], str]] = {
    "a log rewritten at the same size": (lambda w, d: w.ListLog(d, 9, salt=b"x"), HistoryRefused, "rewritten"),
    "a log rewritten and grown": (lambda w, d: w.ListLog(d, 12, salt=b"x"), HistoryRefused, "rewritten"),
    "a log rolled back": (lambda w, d: w.ListLog(d, 6), HistoryRefused, "rolled back"),
    "an account without the right": (lambda w, d: w.ListLog(d, 12), KeyRefused, "not a valid anchoring account"),
}


@pytest.fixture(scope="module")
def anchored_nine(deployed: Deployed, worker: Any) -> str:
    name, account = deployed.department()
    step(worker.ListLog(name, 9), deployed, account)
    return name


@pytest.mark.parametrize("case", REFUSALS)
def test_what_the_ledger_must_not_send_is_refused(
    deployed: Deployed, worker: Any, anchored_nine: str, case: str
) -> None:
    make, kind, words = REFUSALS[case]
    with pytest.raises(kind, match=words):
        anchor_once(make(worker, anchored_nine), deployed.evidence_log, Account.create())
    assert deployed.evidence_log.head(department_bytes(anchored_nine)).size == 9


def test_the_contract_s_own_refusals_are_decoded(deployed: Deployed, worker: Any) -> None:
    name, account = deployed.department()
    honest, forged = worker.ListLog(name, 3), worker.ListLog(name, 3, salt=b"x")
    step(honest, deployed, account)
    contract = deployed.evidence_log
    with pytest.raises(HistoryRefused, match="two histories of one log"):
        contract.simulate_anchor(account, honest.log_id, 3, forged.root, [])
    with pytest.raises(HistoryRefused, match="refuses to go back"):
        contract.simulate_anchor(account, honest.log_id, 2, honest.root, [])
    with pytest.raises(HistoryRefused, match=r"does not extend|proof has"):
        contract.simulate_anchor(account, honest.log_id, 7, forged.root, [bytes(32)] * 2)
    with pytest.raises(KeyRefused, match="never admitted"):
        contract.simulate_anchor(account, department_bytes("nobody"), 3, honest.root, [])
    with pytest.raises(Refusal, match="was never admitted"):
        deployed.consortium.department("nobody")
    with pytest.raises(Refusal, match="admitted already"):
        deployed.consortium.admit(deployed.operator, name, name, "other", "", Account.create().address)


def test_two_anchorers_at_once_agree(deployed: Deployed, worker: Any) -> None:
    name, account = deployed.department()
    outcomes: list[Anchored | Exception] = []

    def anchor(size: int) -> None:
        client = ChainClient(deployed.chain.url)
        contract = EvidenceLogContract(client, deployed.addresses.evidence_log)
        try:
            for _ in range(5):
                try:
                    outcomes.append(anchor_once(worker.ListLog(name, size, grown=40), contract, account))  # type: ignore[arg-type]
                    return
                except ChainUnreachable as error:
                    outcomes.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=anchor, args=(size,)) for size in (20, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [outcome for outcome in outcomes if isinstance(outcome, Anchored)]
    assert len(done) == 2, outcomes
    for anchored in done:
        assert anchored.root == worker.ListLog(name, anchored.size).root
        assert deployed.evidence_log.root_at(department_bytes(name), anchored.size) is not None
    assert deployed.evidence_log.head(department_bytes(name)).size == 40


def test_another_chain_is_refused(deployed: Deployed, worker: Any, member: tuple[str, LocalAccount]) -> None:
    name, account = member
    log, address = worker.ListLog(name, 2), deployed.addresses.evidence_log
    chain_id, genesis = deployed.client.chain_id(), deployed.client.genesis_hash()
    before = deployed.client.nonce(account.address)
    for client, words in (
        (ChainClient(deployed.chain.url, chain_id + 1, expected_genesis=genesis), "serves chain"),
        (ChainClient(deployed.chain.url, chain_id, expected_genesis=bytes(32)), "reset or replaced"),
    ):
        with pytest.raises(HistoryRefused, match=words):
            anchor_once(log, EvidenceLogContract(client, address), account)
        client.close()
    with pytest.raises(HistoryRefused, match="There is no EvidenceLog"):
        anchor_once(log, EvidenceLogContract(deployed.client, account.address), account)
    assert deployed.client.nonce(account.address) == before


def test_a_transaction_signed_for_another_chain_is_not_taken(
    deployed: Deployed, member: tuple[str, LocalAccount]
) -> None:
    _, account = member
    fields = {"chainId": deployed.client.chain_id() + 1, "nonce": 0, "to": account.address, "value": 0, "gas": 21_000}
    signed = account.sign_transaction({**fields, "maxFeePerGas": 0, "maxPriorityFeePerGas": 0})
    with pytest.raises(ChainUnreachable, match=r"chain|signer|sender"):
        deployed.client.send_raw(bytes(signed.raw_transaction))


def test_the_engine_says_what_it_is(deployed: Deployed) -> None:
    found = recognise(deployed.client)
    assert (found.name if found else None) == deployed.chain.engine
    if found is None:
        with pytest.raises(CouldNotRun, match="say --engine embedded if one operator"):
            choose(deployed.client, None, None)
        assert choose(deployed.client, "embedded", None) == ("embedded", 0)
        assert choose(deployed.client, "qbft", 0) == ("qbft", 0)
    else:
        assert choose(deployed.client, None, None) == ("clique", deployed.chain.confirmations)
        assert choose(deployed.client, None, 7) == ("clique", 7)
        with pytest.raises(CouldNotRun, match="is clique by its first block, not qbft"):
            choose(deployed.client, "qbft", None)
