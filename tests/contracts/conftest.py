"""A chain in the process (eth-tester on py-evm, London as the contracts are compiled for) and a consortium on it."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from eth.vm.forks import LondonVM
from eth_abi.abi import decode, encode
from eth_tester import EthereumTester, PyEVMBackend
from eth_tester.exceptions import TransactionFailed
from eth_utils import function_signature_to_4byte_selector, keccak
from eth_utils.abi import collapse_if_tuple

from ledger.formats.merkle import root_of, split

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "ledger/chain/artifacts").glob("*.json")}
GAS = 8_000_000
NOBODY = "0x" + "00" * 20
DEPARTMENTS = ("fire", "health", "market", "urban")


class Refused(Exception):
    """A revert with a custom error of ours: its name and the values it carries."""

    def __init__(self, name: str, values: tuple[Any, ...]) -> None:
        super().__init__(f"{name}{values}")
        self.name = name
        self.values = values


@dataclass(frozen=True, slots=True)
class Sent:
    """A mined transaction: gas used and the events it emitted, as (name, arguments by name)."""

    gas: int
    events: list[tuple[str, dict[str, Any]]]


class Chain:
    """Accounts, blocks and time. Every transaction is mined at once."""

    def __init__(self) -> None:
        self.tester = EthereumTester(PyEVMBackend(vm_configuration=((0, LondonVM),)))
        self.accounts: list[str] = list(self.tester.get_accounts())
        keys = self.tester.backend.account_keys
        self.public_keys = {key.public_key.to_checksum_address(): key.public_key.to_bytes() for key in keys}

    def now(self) -> int:
        return int(self.tester.get_block_by_number("latest")["timestamp"])

    def block_number(self) -> int:
        return int(self.tester.get_block_by_number("latest")["number"])

    def warp(self, seconds: int) -> None:
        self.tester.time_travel(self.now() + seconds)

    def deploy(self, name: str, *args: Any) -> Contract:
        artifact = ARTIFACTS[name]
        constructor = next((entry for entry in artifact["abi"] if entry["type"] == "constructor"), {"inputs": []})
        data = artifact["bytecode"] + encode(_types(constructor["inputs"]), args).hex()
        receipt = self._mine({"from": self.accounts[0], "data": data, "gas": GAS})
        return Contract(self, receipt["contract_address"], artifact["abi"])

    def transact(self, sender: str, to: str, data: bytes) -> dict[str, Any]:
        return self._mine({"from": sender, "to": to, "data": "0x" + data.hex(), "gas": GAS})

    def call(self, sender: str, to: str, data: bytes) -> bytes:
        request = {"from": sender, "to": to, "data": "0x" + data.hex(), "gas": GAS}
        with _decoded_refusals():
            return bytes.fromhex(self.tester.call(request)[2:])

    def _mine(self, transaction: dict[str, Any]) -> dict[str, Any]:
        receipt: dict[str, Any] = self.tester.get_transaction_receipt(self.tester.send_transaction(transaction))
        if receipt["status"] == 0:
            # A receipt does not say why; the same call on the state it met does.
            with _decoded_refusals():
                self.tester.call(transaction)
            raise AssertionError("reverted when mined but not when called again")
        return receipt


class Contract:
    """One deployed contract: `read` calls, `send` transacts, both raise Refused."""

    def __init__(self, chain: Chain, address: str, abi: list[dict[str, Any]]) -> None:
        self.chain = chain
        self.address = address
        self.functions = {entry["name"]: entry for entry in abi if entry["type"] == "function"}
        self.events = {keccak(text=_signature(entry)): entry for entry in abi if entry["type"] == "event"}

    def encode(self, function: str, *args: Any) -> bytes:
        entry = self.functions[function]
        return function_signature_to_4byte_selector(_signature(entry)) + encode(_types(entry["inputs"]), args)

    def read(self, function: str, *args: Any, sender: str | None = None) -> Any:
        outputs = self.functions[function]["outputs"]
        answer = self.chain.call(sender or self.chain.accounts[9], self.address, self.encode(function, *args))
        values = [_named(output, value) for output, value in zip(outputs, decode(_types(outputs), answer), strict=True)]
        return values[0] if len(values) == 1 else tuple(values)

    def send(self, function: str, *args: Any, sender: str) -> Sent:
        receipt = self.chain.transact(sender, self.address, self.encode(function, *args))
        events = [self._event(log) for log in receipt["logs"] if log["address"] == self.address]
        return Sent(int(receipt["gas_used"]), events)

    def _event(self, log: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
        entry = self.events[topics[0]]
        indexed = [value for value in entry["inputs"] if value["indexed"]]
        plain = [value for value in entry["inputs"] if not value["indexed"]]
        values = {x["name"]: decode([x["type"]], topic)[0] for x, topic in zip(indexed, topics[1:], strict=True)}
        data = decode(_types(plain), bytes.fromhex(log["data"][2:]))
        return entry["name"], values | {x["name"]: value for x, value in zip(plain, data, strict=True)}


@dataclass(slots=True)
class World:
    """A consortium of four departments. Department number i votes with `governors[i]` and anchors with `anchorers[i]`;
    `stranger` is nobody."""

    chain: Chain
    consortium: Contract
    log: Contract
    deployer: str
    stranger: str
    governors: dict[str, str] = field(default_factory=dict)
    anchorers: dict[str, str] = field(default_factory=dict)

    def admit(self, name: str, governor: str) -> None:
        arguments = (ident(name), name.title(), f"yunxi.example/{name}", f"https://{name}.example", governor)
        self.consortium.send("admit", *arguments, sender=self.deployer)

    def add_anchor_key(self, name: str, account: str, *, sender: str | None = None) -> bytes:
        public_key = self.chain.public_keys[account]
        kid = keccak(b"kid" + public_key)
        arguments = (ident(name), kid, USE["Anchor"], public_key, self.chain.now())
        self.consortium.send("registerKey", *arguments, sender=sender or self.deployer)
        return kid

    def succeed(self, *, name_it: bool = True) -> Contract:
        """An EvidenceLog that carries on the current one; named by vote, unless it is only to be deployed."""
        successor = self.chain.deploy("EvidenceLog", self.consortium.address, self.log.address)
        if name_it:
            self.vote(["fire", "health", "market"], "setModule", ident("EvidenceLog"), successor.address)
        return successor

    def close_setup(self, minimum: int = 2) -> None:
        self.consortium.send("closeSetup", minimum, sender=self.deployer)

    def propose(self, proposer: str, function: str, *args: Any) -> tuple[int, bytes]:
        """The proposal's number and its action."""
        action = self.consortium.encode(function, *args)
        number = self.consortium.read("proposalCount")
        expires = self.chain.now() + 86_400
        self.consortium.send("propose", action, expires, sender=self.governors[proposer])
        return number, action

    def vote(self, voters: Sequence[str], function: str, *args: Any) -> Sent:
        """The whole way: the first of `voters` proposes, the others approve, the first executes."""
        number, action = self.propose(voters[0], function, *args)
        for name in voters[1:]:
            self.consortium.send("approve", number, sender=self.governors[name])
        return self.consortium.send("execute", number, action, sender=self.governors[voters[0]])


USES = ("Unknown", "Statement", "Log", "Encryption", "Anchor", "Witness", "Validator", "Request")
USE = {name: number for number, name in enumerate(USES)}


def ident(name: str) -> bytes:
    """A department's id, or a module's name, on chain."""
    return name.encode("ascii").ljust(32, b"\0")


def consistency_proof(old: int, leaves: Sequence[bytes]) -> list[bytes]:
    """RFC 9162 section 2.1.4.1: PROOF(old, leaves), 0 < old < len(leaves)."""
    return _subproof(old, leaves, True)


def inclusion_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """RFC 9162 section 2.1.3.1: PATH(index, leaves)."""
    if len(leaves) == 1:
        return []
    middle = split(len(leaves))
    if index < middle:
        return [*inclusion_path(index, leaves[:middle]), root_of(leaves[middle:])]
    return [*inclusion_path(index - middle, leaves[middle:]), root_of(leaves[:middle])]


def _subproof(old: int, leaves: Sequence[bytes], whole: bool) -> list[bytes]:
    if old == len(leaves):
        return [] if whole else [root_of(leaves)]
    middle = split(len(leaves))
    if old <= middle:
        return [*_subproof(old, leaves[:middle], whole), root_of(leaves[middle:])]
    return [*_subproof(old - middle, leaves[middle:], False), root_of(leaves[:middle])]


@contextmanager
def expect_refusal(name: str, *values: Any) -> Iterator[None]:
    """The block must be refused with this custom error, carrying these values when any are given."""
    with pytest.raises(Refused) as caught:
        yield
    assert caught.value.name == name, str(caught.value)
    if values:
        assert caught.value.values == values


def _types(inputs: Sequence[dict[str, Any]]) -> list[str]:
    return [collapse_if_tuple(entry) for entry in inputs]


def _signature(entry: dict[str, Any]) -> str:
    return f"{entry['name']}({','.join(_types(entry['inputs']))})"


def _named(output: dict[str, Any], value: Any) -> Any:
    if output["type"] != "tuple":
        return value
    return SimpleNamespace(**{part["name"]: item for part, item in zip(output["components"], value, strict=True)})


ERRORS = {
    function_signature_to_4byte_selector(_signature(entry)): entry
    for artifact in ARTIFACTS.values()
    for entry in artifact["abi"]
    if entry["type"] == "error"
}


@contextmanager
def _decoded_refusals() -> Iterator[None]:
    try:
        yield
    except TransactionFailed as error:
        data = ast.literal_eval(error.args[0].removeprefix("execution reverted: "))
        entry = ERRORS[data[:4]]
        raise Refused(entry["name"], decode(_types(entry["inputs"]), data[4:])) from None


@pytest.fixture(scope="session")
def _deployed() -> World:
    """Set-up still open; departments admitted, each with an anchor key."""
    chain = Chain()
    consortium = chain.deploy("Consortium")
    log = chain.deploy("EvidenceLog", consortium.address, NOBODY)
    consortium.send("setModule", ident("EvidenceLog"), log.address, sender=chain.accounts[0])
    world = World(chain, consortium, log, deployer=chain.accounts[0], stranger=chain.accounts[9])
    for number, name in enumerate(DEPARTMENTS, start=1):
        world.governors[name] = chain.accounts[number]
        world.anchorers[name] = chain.accounts[number + len(DEPARTMENTS)]
        world.admit(name, world.governors[name])
        world.add_anchor_key(name, world.anchorers[name])
    return world


@pytest.fixture
def founding(_deployed: World) -> Iterator[World]:
    """A consortium whose set-up is open, as after deployment; what a test does to it is undone."""
    snapshot = _deployed.chain.tester.take_snapshot()
    yield _deployed
    _deployed.chain.tester.revert_to_snapshot(snapshot)


@pytest.fixture
def world(founding: World) -> World:
    """A consortium that runs: set-up closed, two votes at least (three are a majority of four)."""
    founding.close_setup()
    return founding


@pytest.fixture
def refused() -> Any:
    return expect_refusal


@pytest.fixture
def as_id() -> Any:
    return ident


@pytest.fixture
def proofs() -> Any:
    return SimpleNamespace(consistency=consistency_proof, inclusion=inclusion_path, root=root_of)


@pytest.fixture
def key_use() -> dict[str, int]:
    return USE


@pytest.fixture
def refusal() -> type[Refused]:
    return Refused
