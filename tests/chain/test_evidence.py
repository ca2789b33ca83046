"""Anchor evidence from a real network: four go-ethereum validators in proof of authority, then verifiers alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_hash.auto import keccak

from ledger.anchor import Anchorer
from ledger.anchor_evidence import make_evidence
from ledger.chain.client import ChainClient
from ledger.chain.consortium.geth import CliqueNetwork
from ledger.chain.contracts import EvidenceLogContract, department_bytes
from ledger.chain.evidence import collect, read_validators
from ledger.departments import add_department
from ledger.errors import AnchorInvalid, ChainUnreachable, CouldNotRun, HistoryRefused, NotProven
from ledger.formats.evidence import AnchorEvidence
from ledger.formats.trust import Trust, Validators
from ledger.node import Node, create_node
from ledger.receipts import make_receipt
from ledger.store.reading import read_logs
from ledger.trust import export_trust
from ledger.verifier_zipapp import build_verifier
from ledger.verify import Verifier
from tests.chain.conftest import Proxy
from tests.fixtures.networks import clique_network
from tests.fixtures.records import acknowledged, submissions

# one network, and its last test ends it
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("evidence of a real chain")]

DEPARTMENTS = {"fire": "消防救援 | Fire and rescue", "market": "市场监管 | Market supervision"}
RECORDS = 5
FILLERS = 20
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Live:
    """A network of four, a ledger node on it, both its logs anchored in one block among many other transactions."""

    network: CliqueNetwork
    directory: Path
    node: Node
    record_id: str
    trust: Trust
    receipt: bytes
    presentation: bytes
    evidence: AnchorEvidence

    @property
    def log(self) -> EvidenceLogContract:
        return self.node.connect().evidence_log

    def from_(self, client: ChainClient) -> AnchorEvidence:
        """The same evidence, asked of another node."""
        contract = EvidenceLogContract(client, self.log.address)
        return collect(contract, self.evidence.claim.log_id, self.evidence.claim.size, "clique", 3)

    def verify(self, evidence: AnchorEvidence, **validators: Any) -> Any:
        chain = replace(self.trust.chain, validators=replace(self.trust.chain.validators, **validators))
        verifier = Verifier(replace(self.trust, chain=chain))
        facts = verifier.verify(self.presentation, self.receipt, evidence.serialize())
        assert facts.logged is not None
        return facts.logged.on_chain


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with clique_network(4) as network:
        directory = tmp_path_factory.mktemp("evidence") / "node"
        create_node(directory, consortium="test.example", chain_url_or_embedded=network.urls[0])
        node = Node.open(directory)
        yield _anchored(network, directory, node)
        node.close()


def _anchored(network: CliqueNetwork, directory: Path, node: Node) -> Live:
    for department, name in DEPARTMENTS.items():
        add_department(node, department, name)
        records = acknowledged(node.intake.submit(department, submissions(0, RECORDS)))
    _one_block(network, node)
    outcomes = Anchorer(node).round()
    assert [outcome.problem for outcome in outcomes] == [None, None]
    assert len({outcome.anchored.block_number for outcome in outcomes if outcome.anchored}) == 1
    network.await_blocks(4)
    record_id = records[2].record_id
    with node.database.writing() as connection:
        receipt = make_receipt(connection, node.agent, record_id, int(time.time())).serialize()
        presentation = node.reader.present(connection, record_id, None)
    client = node.connect().client
    exported = export_trust(node)
    validators = Validators(3, read_validators(client, "clique"))
    trust = replace(exported, chain=replace(exported.chain, validators=validators), witnesses=(), quorum=0)
    return Live(network, directory, node, record_id, trust, receipt, presentation, make_evidence(node, record_id, 3))


def _one_block(network: CliqueNetwork, node: Node) -> None:
    """Sends both logs' anchors and plain transactions of every type at once, so that a block takes them together."""
    link, operator = node.connect(), network.operator_key()
    client, sender = link.client, Account.from_key(operator)
    nonce, raws = client.nonce(sender.address), []
    for n in range(FILLERS):
        fields = {"chainId": client.chain_id(), "nonce": nonce + n, "to": sender.address, "value": n, "gas": 60_000}
        entry = {"address": sender.address, "storageKeys": ["0x" + "07" * 32]}
        kinds: list[dict[str, Any]] = [
            {"gasPrice": 10**9},
            {"gasPrice": 10**9, "type": 1, "accessList": [entry]},
            {"maxFeePerGas": 10**9, "maxPriorityFeePerGas": 0, "data": b"\x00\x01"},
        ]
        raws.append(bytes(sender.sign_transaction(fields | kinds[n % 3]).raw_transaction))
    with node.database.reading() as connection:
        logs = read_logs(connection)
    for log in logs:
        account = node.agent.anchor_key(log.department)
        raw, _ = link.evidence_log.sign_anchor(account, department_bytes(log.department), log.size, log.root, [])
        raws.append(raw)
    network.await_blocks(1)
    for raw in raws:
        client.send_raw(raw)
    network.await_blocks(2)


# --- what a real chain's evidence proves ---


def test_three_of_four_validators_sealed_it(live: Live) -> None:
    found = live.verify(live.evidence)
    assert found.contract == live.log.address.lower()
    assert (len(found.sealed_by), found.threshold, found.validators) == (3, 3, 4)
    assert {sealer.address for sealer in found.sealed_by} <= {a.lower() for a, _ in live.network.validators}


def test_the_block_held_more_than_one_transaction(live: Live) -> None:
    # the tries have branches, and receipts of every type
    assert len(live.evidence.receipt_proof) > 1
    assert len(live.evidence.transaction_proof) > 1


def test_all_four_if_they_are_asked_for(live: Live) -> None:
    live.network.await_blocks(4)
    evidence = make_evidence(live.node, live.record_id, 4)
    assert len(live.verify(evidence, threshold=4).sealed_by) == 4
    with pytest.raises(AnchorInvalid, match="4 different validators"):
        live.verify(live.evidence, threshold=4)


def test_the_other_log_in_the_same_block_has_evidence_of_its_own(live: Live) -> None:
    # the record is the last department's
    other = collect(live.log, department_bytes("fire"), RECORDS, "clique", 3)
    assert other.headers == live.evidence.headers
    assert other.index != live.evidence.index
    with pytest.raises(AnchorInvalid):
        live.verify(other)


def test_by_default_more_than_half_of_the_signers(live: Live) -> None:
    found = make_evidence(live.node, live.record_id)
    assert len(live.verify(found).sealed_by) == 3


def test_every_node_gives_the_same_evidence(live: Live) -> None:
    for index in range(4):
        with closing(live.network.client(index)) as client:
            assert live.from_(client) == live.evidence


def test_the_validators_are_those_of_the_network(live: Live) -> None:
    assert sorted(read_validators(live.log.client, "clique")) == sorted(a for a, _ in live.network.validators)


@pytest.mark.parametrize("name", ["headers", "transaction_proof", "receipt_proof"])
def test_one_altered_bit_in_any_byte_of_it(live: Live, name: str) -> None:
    parts = getattr(live.evidence, name)
    for n, part in enumerate(parts):
        for at in range(0, len(part), 23):
            changed = (*parts[:n], part[:at] + bytes([part[at] ^ 0x10]) + part[at + 1 :], *parts[n + 1 :])
            with pytest.raises(AnchorInvalid):
                live.verify(replace(live.evidence, **{name: changed}))


def test_too_few_validators(live: Live) -> None:
    for kept in (1, 2):
        with pytest.raises(AnchorInvalid, match="3 different validators"):
            live.verify(replace(live.evidence, headers=live.evidence.headers[:kept]))


def test_a_validator_that_the_trust_file_does_not_name(live: Live) -> None:
    sealed_by = live.verify(live.evidence).sealed_by
    addresses = tuple(a for a in live.trust.chain.validators.addresses if a.lower() != sealed_by[1].address)
    with pytest.raises(AnchorInvalid):
        live.verify(live.evidence, addresses=addresses, threshold=1)


# --- what cannot be had ---


def test_more_validators_than_there_are(live: Live) -> None:
    with pytest.raises(ChainUnreachable, match="4 of 5 validators"):
        make_evidence(live.node, live.record_id, 5)


def test_a_size_that_was_never_anchored(live: Live) -> None:
    with pytest.raises(HistoryRefused):
        collect(live.log, live.evidence.claim.log_id, RECORDS - 1, "clique", 3)


def test_a_chain_that_is_not_of_the_kind_it_is_said_to_be(live: Live) -> None:
    with pytest.raises(ChainUnreachable, match="not a qbft block"):
        collect(live.log, live.evidence.claim.log_id, RECORDS, "qbft")


# --- nodes that lack something, and nodes that lie ---

Change = Callable[[Any], Any]


def hooked(live: Live, changes: dict[str, Change]) -> Iterator[ChainClient]:
    """A client whose node's answers to some methods are changed."""
    proxy = Proxy(live.network.urls[0])

    def hook(method: str, params: list[Any], forward: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        answer = forward()
        if method in changes and "result" in answer:
            return {"result": changes[method](answer["result"])}
        return answer

    proxy.hook = hook
    client = ChainClient(proxy.url, live.network.chain_id)
    yield client
    client.close()
    proxy.close()


@pytest.mark.parametrize("missing", ["eth_getBlockReceipts", "clique_getSigners"])
def test_a_node_without_a_method_that_not_all_have(live: Live, missing: str) -> None:
    proxy = Proxy(live.network.urls[0])
    error = {"error": {"code": -32601, "message": "the method does not exist"}}
    proxy.hook = lambda method, _, forward: error if method == missing else forward()
    with closing(ChainClient(proxy.url, live.network.chain_id)) as client:
        assert live.from_(client) == live.evidence
        assert sorted(read_validators(client, "clique")) == sorted(a for a, _ in live.network.validators)
    proxy.close()
    assert missing in proxy.seen


def first_log_of(receipts: list[dict[str, Any]]) -> dict[str, Any]:
    return next(log for receipt in receipts for log in receipt["logs"])


def changed_log(receipts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    log = first_log_of(receipts)
    log["data"] = "0x" + bytes(63).hex() + "07"
    return receipts


def without_transactions(block: dict[str, Any]) -> dict[str, Any]:
    return block | {"transactions": block["transactions"][1:]}


LIES: dict[str, dict[str, Change]] = {
    "a receipt with another event": {"eth_getBlockReceipts": changed_log},
    "a receipt left out": {"eth_getBlockReceipts": lambda receipts: receipts[1:]},
    "receipts in another order": {"eth_getBlockReceipts": lambda receipts: receipts[1:] + receipts[:1]},
    "receipts that failed": {"eth_getBlockReceipts": lambda found: [r | {"status": "0x0"} for r in found]},
    "receipts without status": {"eth_getBlockReceipts": lambda found: [r | {"status": "0x2"} for r in found]},
    "no receipts": {"eth_getBlockReceipts": lambda _: None},
    "receipts that are texts": {"eth_getBlockReceipts": lambda found: ["receipt"] * len(found)},
    "a transaction left out": {"eth_getBlockByNumber": without_transactions},
    "a header with another time": {"eth_getBlockByNumber": lambda block: block | {"timestamp": "0x1"}},
    "a header with another hash": {"eth_getBlockByNumber": lambda block: block | {"hash": "0x" + "11" * 32}},
    "a header without extra data": {"eth_getBlockByNumber": lambda block: block | {"extraData": "0x"}},
    "a header without a field": {"eth_getBlockByNumber": lambda block: block | {"mixHash": None}},
    "a block that is a text": {"eth_getBlockByNumber": lambda _: "block"},
}


@pytest.mark.parametrize("changes", LIES.values(), ids=LIES)
def test_a_node_that_lies_makes_no_evidence(live: Live, changes: dict[str, Change]) -> None:
    lying = hooked(live, changes)
    client = next(lying)
    with pytest.raises((ChainUnreachable, HistoryRefused)):
        live.from_(client)
    next(lying, None)


def test_a_node_that_lies_about_a_root_is_found_out_by_the_receipts(live: Live) -> None:
    # the state says another root than the event: nothing in the block states it
    def lie(result: str) -> str:
        data = bytearray.fromhex(result[2:])
        if len(data) == 160:
            data[0] ^= 1
        return "0x" + data.hex()

    lying = hooked(live, {"eth_call": lie})
    with pytest.raises(HistoryRefused, match="does not show"):
        live.from_(next(lying))
    next(lying, None)


# --- the command ---


def yunxi(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "yunxi.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)


def test_the_command_writes_it(live: Live, tmp_path: Path) -> None:
    file = tmp_path / "x.anchor.json"
    done = yunxi("evidence", live.record_id, "-o", file, "--seals", "3", "--node", live.directory, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "record_id": live.record_id,
        "file": str(file),
        "size": RECORDS,
        "headers": len(live.evidence.headers),
    }
    assert AnchorEvidence.parse(file.read_bytes()) == live.evidence


def test_the_command_says_when_it_is_too_early(live: Live, tmp_path: Path) -> None:
    file = tmp_path / "x.anchor.json"
    done = yunxi("evidence", live.record_id, "-o", file, "--seals", "5", "--node", live.directory)
    assert done.returncode == 2
    assert "validators" in done.stderr
    assert not file.exists()


def test_a_record_that_is_not_anchored_yet(live: Live) -> None:
    waiting = acknowledged(live.node.intake.submit("market", submissions(100, 1)))[0]
    with pytest.raises(CouldNotRun, match="not anchored yet"):
        make_evidence(live.node, waiting.record_id)


# --- afterwards; last, for it ends the network ---


def test_with_every_node_switched_off(live: Live, tmp_path: Path) -> None:
    live.network.down()
    with pytest.raises(ChainUnreachable):
        make_evidence(live.node, live.record_id)
    built = build_verifier(tmp_path / "yunxi-verify.pyz")
    files = {
        "trust.json": live.trust.serialize(),
        "r.sd-jwt": live.presentation,
        "r.tlog-proof": live.receipt,
        "r.anchor.json": live.evidence.serialize(),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, "-I", "-W", "error", str(built), *list(files)[1:], "--trust", "trust.json", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    on_chain = json.loads(done.stdout)["files"][0]["facts"]["log"]["on_chain"]
    assert len(on_chain["sealed_by"]) == 3
    assert on_chain["block_hash"] == "0x" + keccak(live.evidence.headers[0]).hex()
    with pytest.raises(NotProven):
        live.verify(live.evidence, threshold=4)
