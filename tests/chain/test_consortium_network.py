"""Anchoring on four real validators, while they are killed, cut off from each other, restarted and replaced.

Slow: real go-ethereum processes make a block a second. Skipped, with the reason, where go-ethereum is missing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from sqlalchemy import select

from ledger.anchor import Anchorer
from ledger.audit import audit_node
from ledger.chain.anchoring import FINAL, PENDING, Anchored, anchor_once
from ledger.chain.client import ChainClient, RpcError
from ledger.chain.consortium.accounts import sending_accounts
from ledger.chain.consortium.geth import CliqueNetwork
from ledger.chain.consortium.geth_node import find_geth
from ledger.chain.contracts import ConsortiumContract, EvidenceLogContract, department_bytes, deploy, wait_for_receipt
from ledger.departments import add_department
from ledger.errors import ChainUnreachable, CouldNotRun, HistoryRefused
from ledger.node import Node, create_node
from ledger.settings import Settings
from ledger.status import STANDSTILL_SECONDS, node_status
from ledger.store.models import anchors
from tests.fixtures.networks import clique_network, geth_or_skip
from tests.fixtures.records import acknowledged, submissions

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.xdist_group("clique")
slow = pytest.mark.slow


# -- without a running network


def test_a_geth_that_is_missing_or_too_new_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("YUNXI_GETH", raising=False)
    with pytest.raises(CouldNotRun, match="go-ethereum is not installed"):
        find_geth()
    newer = tmp_path / "geth"
    newer.write_text("#!/bin/sh\necho 'Version: 1.14.0-stable'\n")
    newer.chmod(0o755)
    with pytest.raises(CouldNotRun, match=r"is go-ethereum 1\.14\.0-stable; only 1\.13"):
        find_geth()


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliqueNetwork]:
    """A network that is written down and not running."""
    yield CliqueNetwork.create(tmp_path_factory.mktemp("planned") / "net", 4, binary=geth_or_skip())


def test_keys_are_their_owner_s_and_everything_listens_on_loopback(planned: CliqueNetwork) -> None:
    for name in ("key", "password"):
        for path in planned.directory.glob(f"node-*/{name}"):
            assert path.stat().st_mode & 0o777 == 0o600
    assert (planned.directory / "operator.key").stat().st_mode & 0o777 == 0o600
    assert len({port for node in planned.plan.nodes for port in (node.peer_port, node.rpc_port)}) == 8
    assert all(url.startswith("http://127.0.0.1:") for url in planned.urls)
    assert all("@127.0.0.1:" in node.enode for node in planned.plan.nodes)


def test_a_network_is_opened_again_as_it_was_planned(planned: CliqueNetwork) -> None:
    assert CliqueNetwork.open(planned.directory).plan == planned.plan
    with pytest.raises(CouldNotRun, match="is not empty"):
        CliqueNetwork.create(planned.directory)
    with pytest.raises(CouldNotRun, match="holds no network"):
        CliqueNetwork.open(planned.directory / "elsewhere")


@pytest.mark.parametrize("groups", [([0], [0, 1]), ([0, 4],), ([-1],)])
def test_a_partition_that_makes_no_sense_is_refused(planned: CliqueNetwork, groups: Any) -> None:
    with pytest.raises(CouldNotRun, match="at most one group"):
        planned.partition(*groups)


@pytest.mark.parametrize("verb", ["kill", "start", "stop"])
def test_a_node_that_does_not_exist_is_refused(planned: CliqueNetwork, verb: str) -> None:
    with pytest.raises(CouldNotRun, match="there is no node 4: they are 0 to 3"):
        getattr(planned, verb)(4)


# -- a node of the ledger on four validators


class Ledger:
    """A ledger node, one department, and the invariant that nothing acknowledged is lost, doubled or contradicted."""

    def __init__(self, directory: Path, url: str) -> None:
        create_node(directory, consortium="test.example", chain_url_or_embedded=url)
        self.node = Node.open(directory)
        add_department(self.node, "fire", "消防救援 | Fire and rescue")
        self.sealed = 0

    def seal(self, count: int) -> None:
        done = acknowledged(self.node.intake.submit("fire", submissions(self.sealed, count)))
        assert [found.index for found in done] == list(range(self.sealed, self.sealed + count))
        self.sealed += count

    def anchor(self, seconds: float = 90) -> int:
        """Rounds until everything is final, as the anchoring clock does them; returns the size that is."""
        anchorer, deadline = Anchorer(self.node), time.monotonic() + seconds
        while True:
            outcomes = anchorer.round()
            if not outcomes:
                return self.remembered()[-1]
            assert time.monotonic() < deadline, outcomes

    def remembered(self) -> list[int]:
        with self.node.database.reading() as connection:
            return list(connection.scalars(select(anchors.c.size).order_by(anchors.c.size)))

    def check(self, network: CliqueNetwork, up: Sequence[int] = (0, 1, 2, 3)) -> None:
        """Every validator that is up holds every anchor the node remembers; the audit finds nothing."""
        found = audit_node(self.node)
        assert found.good, found.first()
        assert found.chain_problem is None
        assert found.logs[0].records == self.sealed
        sizes = self.remembered()
        assert len(sizes) == len(set(sizes))
        address = self.node.settings.chain.evidence_log
        for index in up:
            with closing(network.client(index)) as client:
                network.await_blocks(1, index)
                contract = EvidenceLogContract(client, address)
                history = [anchor.size for anchor in contract.history(department_bytes("fire"))]
                assert set(sizes) <= set(history), f"node {index}"
                assert history == sorted(set(history), reverse=True)


@pytest.fixture(scope="module")
def network() -> Iterator[CliqueNetwork]:
    """One network for all tests that leave it whole: each begins where the faults of the one before ended."""
    with clique_network(4) as running:
        yield running


@pytest.fixture(scope="module")
def ledger(network: CliqueNetwork, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    opened = Ledger(tmp_path_factory.mktemp("ledger") / "node", network.urls[0])
    yield opened
    opened.node.close()


@pytest.fixture(autouse=True)
def _begins_whole(request: pytest.FixtureRequest) -> None:
    # a test that failed half way must not fail those after it
    if "network" in request.fixturenames:
        network = request.getfixturevalue("network")
        network.up()
        network.heal()
        network.resume()


@slow
def test_init_finds_out_engine_and_confirmations(network: CliqueNetwork, ledger: Ledger) -> None:
    chain = ledger.node.settings.chain
    assert (chain.engine, chain.confirmations, chain.id) == ("clique", 3, network.chain_id)
    assert chain.genesis == "0x" + network.genesis_hash().hex()
    ledger.seal(3)
    ledger.anchor()
    with closing(network.client()) as client:
        newest, head = client.block(), EvidenceLogContract(client, chain.evidence_log).head(department_bytes("fire"))
        assert newest is not None
        assert newest.number - head.block_number >= 3
        accounts = sending_accounts(ConsortiumContract(client, chain.consortium))
    assert [account.role for account in accounts] == ["deployer", "governor", "anchor"]
    ledger.check(network)


@slow
def test_one_validator_killed_and_records_keep_anchoring(network: CliqueNetwork, ledger: Ledger) -> None:
    ledger.seal(5)
    ledger.anchor()
    network.kill(3)
    for _ in range(3):
        ledger.seal(5)
        ledger.anchor()
    assert set(range(ledger.sealed - 15, ledger.sealed + 1, 5)) <= set(ledger.remembered())
    assert node_status(ledger.node).good
    ledger.check(network, up=(0, 1, 2))
    network.start(3)
    ledger.check(network)


@slow
def test_two_validators_killed_and_everything_catches_up(network: CliqueNetwork, ledger: Ledger) -> None:
    ledger.seal(5)
    ledger.anchor()
    network.kill(2)
    network.kill(3)
    ledger.seal(5)
    # a transaction is on its way when the chain stops: nobody knows whether it will ever be in a block
    with closing(ledger.node.connect().client) as client:
        contract = EvidenceLogContract(client, ledger.node.settings.chain.evidence_log)
        stalled(lambda: step(ledger, contract, wait_seconds=6))
    ledger.seal(20)
    clock = ledger.node.clock
    ledger.node.clock = lambda: clock() + STANDSTILL_SECONDS
    found = node_status(ledger.node)
    ledger.node.clock = clock
    assert not found.good
    assert found.chain_problem is not None
    assert "makes no blocks" in found.chain_problem
    assert (found.logs[0].backlog, found.logs[0].size) == (25, ledger.sealed)
    assert found.logs[0].backlog_age > STANDSTILL_SECONDS
    network.start(2)
    network.start(3)
    network.resume()
    assert ledger.anchor() == ledger.sealed
    assert node_status(ledger.node).good
    ledger.check(network)


def stalled(attempt: Callable[[], Anchored | None]) -> None:
    """The attempt ends without a final anchor, and says so by what it returns or raises."""
    try:
        anchored = attempt()
    except ChainUnreachable:
        return
    assert anchored is None or anchored.finality == PENDING


def step(ledger: Ledger, contract: EvidenceLogContract, **options: Any) -> Anchored | None:
    from ledger.anchor import _LogOnDisk
    from ledger.checkpoints import sign_at
    from ledger.store.reading import read_logs

    now = ledger.node.clock()
    with ledger.node.database.writing() as connection:
        log = read_logs(connection)[0]
        sign_at(connection, log, log.size, ledger.node.agent.log_signer("fire", now), int(now))
    view, account = _LogOnDisk(ledger.node, log), ledger.node.agent.anchor_key("fire", now)
    return anchor_once(view, contract, account, confirmations=ledger.node.settings.chain.confirmations, **options)


@slow
@pytest.mark.parametrize("groups", [((0, 1), (2, 3)), ((0, 1, 2), (3,)), ((0,), (1, 2, 3))], ids=str)
def test_a_partition_with_anchors_on_both_sides_heals_to_one_history(
    network: CliqueNetwork, ledger: Ledger, groups: tuple[tuple[int, ...], ...]
) -> None:
    ledger.seal(5)
    ledger.anchor()
    network.partition(*groups)
    one, other = groups[0][0], groups[1][0]
    # each side is asked to anchor another checkpoint of the same log, from the same account, at the same nonce
    ledger.seal(5)
    attempt(network, ledger, one)
    ledger.seal(5)
    attempt(network, ledger, other)
    network.heal()
    network.resume()
    ledger.seal(5)
    assert ledger.anchor() == ledger.sealed
    heads = one_history(network)
    assert len(heads) == 1, heads
    ledger.check(network)


def attempt(network: CliqueNetwork, ledger: Ledger, index: int) -> None:
    """A step through one validator; a side of too few may not get anywhere."""
    with closing(network.client(index)) as client:
        contract = EvidenceLogContract(client, ledger.node.settings.chain.evidence_log)
        try:
            step(ledger, contract, wait_seconds=8)
        except ChainUnreachable:
            assert len(network.plan.peers(index)) < 2


def one_history(network: CliqueNetwork) -> set[bytes]:
    """The hash that each validator has for a block which all of them have had for some time."""
    network.await_blocks(5)
    number = min(state.number or 0 for state in network.states()) - 3
    hashes = set()
    for index in range(len(network.plan.nodes)):
        with closing(network.client(index)) as client:
            block = client.block(number)
            assert block is not None
            hashes.add(block.hash)
    return hashes


@slow
def test_a_reorganisation_that_drops_an_anchor_is_survived(network: CliqueNetwork, ledger: Ledger) -> None:
    """A lone validator takes the anchor into a block that loses: it never was final, so nothing was remembered."""
    ledger.seal(5)
    ledger.anchor()
    address, log_id = ledger.node.settings.chain.evidence_log, department_bytes("fire")
    with closing(network.client(3)) as client, closing(network.client(0)) as other:
        lone, many = EvidenceLogContract(client, address), EvidenceLogContract(other, address)
        # it must not have sealed lately, and must have the transaction before it begins its block: it seals only one
        client.request("miner_stop")
        network.await_blocks(4, 0)
        network.partition([3], [0, 1, 2])
        ledger.seal(1)
        stalled(lambda: step(ledger, lone, wait_seconds=1))
        client.request("miner_start")
        dropped = step(ledger, lone, wait_seconds=8)
        assert dropped is not None
        assert (dropped.finality, dropped.size) == (PENDING, ledger.sealed)
        ledger.seal(1)
        kept = step(ledger, many)
        assert kept is not None
        assert (kept.finality, kept.size) == (FINAL, ledger.sealed)
        network.heal()
        network.resume()
        await_same_branch(network, client, dropped.block_number)
        block = client.block(dropped.block_number)
        assert block is not None
        assert block.hash != dropped.block_hash
        assert lone.root_at(log_id, dropped.size) is None
        assert lone.head(log_id).size == kept.size
    assert dropped.size not in ledger.remembered()
    ledger.seal(1)
    assert ledger.anchor() == ledger.sealed
    ledger.check(network)


def await_same_branch(network: CliqueNetwork, client: ChainClient, number: int, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    with closing(network.client(0)) as other:
        while client.block(number) != other.block(number):
            assert time.monotonic() < deadline, "the validators still stand on different branches"
            time.sleep(0.2)


@slow
def test_validators_restarted_while_anchoring(network: CliqueNetwork, ledger: Ledger) -> None:
    """Records and anchors go on in a thread while validators are killed and restarted, the asked one too."""
    ended, anchorer = threading.Event(), Anchorer(ledger.node)

    def work() -> None:
        while not ended.is_set():
            ledger.seal(3)
            anchorer.round()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for index in (3, 0, 2, 1):
            network.kill(index)
            time.sleep(2)
            network.start(index)
    finally:
        ended.set()
        thread.join()
    network.resume()
    assert ledger.anchor() == ledger.sealed
    ledger.check(network)


@slow
def test_a_chain_that_was_reset_is_refused_loudly(tmp_path: Path) -> None:
    """What an operator who starts over would have: same ports, same keys, same chain id, and no history."""
    with clique_network(1) as lone:
        ledger = Ledger(tmp_path / "node", lone.urls[0])
        ledger.seal(5)
        ledger.anchor()
        account = Account.from_key(ledger.node.agent.anchor_key("fire", ledger.node.clock())).address
        genesis = json.loads((lone.directory / "genesis.json").read_text())
        for changes, words in (
            ({}, "There is no EvidenceLog"),
            ({"timestamp": hex(int(time.time()))}, "was reset or replaced; nothing was sent"),
        ):
            lone.down()
            (lone.directory / "genesis.json").write_text(json.dumps({**genesis, **changes}))
            lone.wipe(0)
            lone.up()
            ledger.seal(5)
            (outcome,) = Anchorer(ledger.node).round()
            assert isinstance(outcome.problem, HistoryRefused)
            assert words in str(outcome.problem)
            problem = node_status(ledger.node).chain_problem
            assert problem is not None
            assert words.partition(";")[0] in problem
            with closing(lone.client()) as client:
                assert client.nonce(account) == 0
        assert ledger.remembered() == [5]
        ledger.node.close()


# -- the real transaction pool


@slow
def test_a_free_transaction_reaches_every_validator(network: CliqueNetwork) -> None:
    """Each of them would seal it: an anchor does not wait for the turn of the one validator that was asked."""
    with closing(network.client(0)) as client:
        account = Account.create()
        raw, tx_hash = client.sign(account, account.address, b"", gas=21_000)
        network.await_blocks(1, 0)
        client.send_raw(raw)
        pending = False
        # while no block has it yet, the others can only have heard of it from their peers
        while client.receipt(tx_hash) is None:
            with closing(network.client(1)) as other:
                pending = other.request("txpool_status")["pending"] == "0x1"
            if pending:
                break
        assert pending
        assert wait_for_receipt(client, tx_hash).succeeded
        assert client.balance(account.address) == 0


@slow
def test_lost_and_stuck_transactions_and_gaps_in_a_real_pool(network: CliqueNetwork, worker: Any) -> None:
    with closing(network.client()) as client:
        operator, account = network.operator_key(), Account.create()
        addresses = deploy(client, operator)
        consortium = ConsortiumContract(client, addresses.consortium)
        contract = EvidenceLogContract(client, addresses.evidence_log)
        consortium.admit(operator, "fire", "Fire", "test.example/fire", "", Account.create().address)
        public_key = account._key_obj.public_key.to_bytes()
        consortium.register_key(operator, "fire", bytes(32 * [7]), "anchor", public_key, int(time.time()) - 60)
        for scenario in (beyond_a_gap, stuck_at_our_nonce, already_known):
            scenario(network, client, contract, account, worker)
        assert client.request("txpool_status") == {"pending": "0x0", "queued": "0x0"}


def anchored_at(client: ChainClient, contract: EvidenceLogContract, account: Any, log: Any) -> Anchored:
    done = anchor_once(log, contract, account, confirmations=3, wait_seconds=40)
    assert done is not None
    assert (done.size, done.root, done.finality) == (log.size, log.root, FINAL)
    return done


def beyond_a_gap(
    _: CliqueNetwork, client: ChainClient, contract: EvidenceLogContract, account: Any, worker: Any
) -> None:
    """A transaction two nonces ahead waits in the pool; anchoring does not wait for it, and it goes through in turn."""
    nonce = client.nonce(account.address)
    raw, tx_hash = client.sign(account, account.address, b"", gas=21_000, nonce=nonce + 2)
    client.send_raw(raw)
    assert client.request("txpool_status")["queued"] == "0x1"
    anchored_at(client, contract, account, worker.ListLog("fire", 4))
    anchored_at(client, contract, account, worker.ListLog("fire", 8))
    assert wait_for_receipt(client, tx_hash).succeeded
    assert client.nonce(account.address) == nonce + 3


def stuck_at_our_nonce(
    network: CliqueNetwork, client: ChainClient, contract: EvidenceLogContract, account: Any, worker: Any
) -> None:
    """Sealing stops with a transaction at our nonce in the pool, which an account without means cannot outbid."""
    network.kill(2)
    network.kill(3)
    with pytest.raises(ChainUnreachable):
        network.await_blocks(3, 0, seconds=8)
    raw, tx_hash = client.sign(account, account.address, b"", gas=21_000)
    client.send_raw(raw)
    log = worker.ListLog("fire", 12)
    with pytest.raises(ChainUnreachable, match="does not hold it after"):
        anchor_once(log, contract, account, wait_seconds=3)
    network.start(2)
    network.start(3)
    network.resume()
    anchored_at(client, contract, account, log)
    assert wait_for_receipt(client, tx_hash).succeeded


def already_known(
    _: CliqueNetwork, client: ChainClient, contract: EvidenceLogContract, account: Any, worker: Any
) -> None:
    """Our own transaction is in the pool already: its answer was lost. It is not sent twice, nor an error."""
    log = worker.ListLog("fire", 16)
    raw, _tx = contract.sign_anchor(account, log.log_id, 16, log.root, log.consistency_path(12, 16))
    client.send_raw(raw)
    with pytest.raises(RpcError, match=r"already known|nonce too low"):
        client.send_raw(raw)
    nonce = client.nonce(account.address)
    anchored_at(client, contract, account, log)
    assert client.nonce(account.address) - nonce in (0, 1)


# -- the command


@contextmanager
def script(directory: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts" / "consortium.py"), *arguments, "--dir", str(directory)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)

    try:
        yield run
    finally:
        run("down")


@slow
def test_the_script_does_it_by_hand(tmp_path: Path) -> None:
    geth_or_skip()
    with script(tmp_path / "net") as run:
        done = run("up", "--validators", "4")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert len(found["validators"]) == len(found["urls"]) == 4
        with closing(ChainClient(found["urls"][1], found["chain_id"])) as client:
            assert "0x" + client.genesis_hash().hex() == found["genesis"]
            module = ConsortiumContract(client, found["contracts"]["consortium"]).module("EvidenceLog")
            assert module == found["contracts"]["evidence_log"]
        assert "down" in run("kill", "3").stdout
        assert "down" not in run("start", "3").stdout
        assert run("partition", "0,1", "2,3").stdout.count("1 peers") == 4
        assert run("heal").stdout.count("3 peers") == 4
        assert run("up").returncode == 0
        assert run("kill", "9").returncode == 2
        assert run("down", "--delete").returncode == 0
        assert not (tmp_path / "net").exists()


@slow
def test_yunxi_init_and_status_on_a_real_network(network: CliqueNetwork, tmp_path: Path) -> None:
    def yunxi(*arguments: str) -> tuple[int, dict[str, Any]]:
        command = [sys.executable, "-m", "yunxi", *arguments, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        return done.returncode, json.loads(done.stdout)

    node = str(tmp_path / "node")
    code, made = yunxi("init", node, "--chain", network.urls[0])
    assert (code, made["chain"]["engine"], made["chain"]["confirmations"]) == (0, "clique", 3)
    assert yunxi("department", "add", "fire", "--name", "消防", "--node", node)[0] == 0
    code, found = yunxi("consortium", "accounts", "--node", node)
    assert [account["role"] for account in found["accounts"]] == ["deployer", "governor", "anchor"]
    assert yunxi("status", "--node", node)[0] == 0
    code, refused = yunxi("init", str(tmp_path / "other"), "--chain", network.urls[0], "--engine", "qbft")
    assert (code, "is clique by its first block" in refused["error"]["message"]) == (2, True)
    assert not (tmp_path / "other").exists()
    assert Settings.load(Path(node)).chain.url == network.urls[0]
