"""The consortium's contracts: deploy them, read them, act on them. SharingGrants has a room of its own beside this.

A department id, and its log's id, is on chain the ASCII id padded with zero bytes to 32; a key id the 32 bytes of its
RFC 7638 thumbprint. Reverts come out as the ledger's own refusals (`refusals`). A method that acts returns when the
change is in a block; whoever needs more than the node's word for that reads the state back.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import rlp  # type: ignore[import-untyped]
from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.address import is_address, to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak

from ledger.chain.abi import Artifact, load_artifact
from ledger.chain.client import Block, ChainClient, EventLog, Receipt, RpcError, Signer, local_account
from ledger.chain.refusals import explain
from ledger.errors import ChainUnreachable, HistoryRefused, InclusionInvalid, Malformed, Refusal

EVIDENCE_LOG = "EvidenceLog"
SHARING_GRANTS = "SharingGrants"
VERIFIABLE_DRAW = "VerifiableDraw"
NOBODY = "0x" + "00" * 20

# 162,000 at 2^40 entries, measured; unused gas costs nothing where gas is free
ANCHOR_GAS = 500_000
ACTION_SECONDS = 60.0

STATES = ("unknown", "admitted", "suspended")
USES = ("unknown", "statement", "log", "encryption", "anchor", "witness", "validator", "request")

_DEPARTMENT_ID = re.compile(r"[a-z][a-z0-9-]{1,30}")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the contracts stand, as checksummed hex."""

    consortium: str
    evidence_log: str


@dataclass(frozen=True, slots=True)
class AnchoredRoot:
    """One anchor as the contract holds it: 32-byte root, sizes in entries, the block's number and time (seconds)."""

    size: int
    root: bytes
    previous_size: int
    block_number: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class AnchoredEvent:
    """One anchor as its event says it: root, block hash and transaction 32 bytes each."""

    size: int
    root: bytes
    previous_size: int
    block_number: int
    block_hash: bytes
    transaction: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """A log's newest anchor; all zero (`size` 0) for a log that has none."""

    size: int
    root: bytes
    previous_size: int
    block_number: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class AnchorReceipt:
    """The transaction and block that the node says hold the anchor. A hint until `root_at` agrees."""

    tx_hash: bytes
    block_number: int
    block_hash: bytes
    timestamp: int


@dataclass(frozen=True, slots=True)
class Department:
    """A department as the consortium holds it. `admitted_at` is in seconds; `governor` is its voting account."""

    id: str
    state: str
    admitted_at: int
    governor: str
    name: str
    log_origin: str
    node_url: str


@dataclass(frozen=True, slots=True)
class Key:
    """A registered key, valid in [valid_from, valid_to), seconds; `valid_to` None is open. `kid` is 32 bytes.

    `public_key` is raw: Ed25519 and X25519 32 bytes, secp256k1 64 bytes x || y. The contract does not check that `kid`
    is its thumbprint: the reader must.
    """

    kid: bytes
    department: str
    use: str
    valid_from: int
    valid_to: int | None
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposal as the consortium holds it. `action_hash` is the calldata's keccak-256, `expires_at` in seconds."""

    action_hash: bytes
    expires_at: int
    executed: bool
    proposer: str
    approvals: tuple[str, ...]


class Contract:
    """A contract at an address: calls, and transactions that are simulated before they are sent."""

    artifact_name: str

    def __init__(self, client: ChainClient, address: str) -> None:
        self.client = client
        self.address = to_checksum_address(address)
        self.artifact: Artifact = load_artifact(self.artifact_name)

    def _call(self, name: str, *arguments: Any, block: int | str = "latest", sender: str | None = None) -> Any:
        function = self.artifact.functions[name]
        try:
            data = self.client.call(self.address, function.encode(*arguments), sender=sender, block=block)
        except RpcError as error:
            raise explain(self.artifact, error) from error
        if not data and function.output_types:
            raise HistoryRefused(
                f"There is no {self.artifact.name} at {self.address} on chain {self.client.chain_id()}: "
                "the chain was reset, or the address is of another chain."
            )
        try:
            values = function.decode_output(data)
        except Malformed as error:
            raise HistoryRefused(
                f"The contract at {self.address} is not this ledger's {self.artifact.name}."
            ) from error
        return values[0] if len(values) == 1 else values

    def require_code(self) -> None:
        """Raises HistoryRefused unless the code that stands here is the one that was compiled with this program."""
        if not self.artifact.is_code(self.client.code(self.address)):
            raise HistoryRefused(
                f"The code at {self.address} on chain {self.client.chain_id()} is not the {self.artifact.name} of this "
                "version: compare address and chain, and use the consortium's version of this program."
            )

    def encode(self, name: str, *arguments: Any) -> bytes:
        """Calldata of one of the contract's functions, for `ConsortiumContract.propose` among others."""
        return self.artifact.functions[name].encode(*arguments)

    def _act(self, account: Signer, name: str, *arguments: Any) -> Receipt:
        """Send one transaction and wait until it is in a block. Raises what the contract refused, before sending."""
        try:
            raw, tx_hash = self.client.sign(account, self.address, self.encode(name, *arguments))
        except RpcError as error:
            raise explain(self.artifact, error) from error
        self.client.send_raw(raw)
        receipt = wait_for_receipt(self.client, tx_hash)
        if not receipt.succeeded:
            raise HistoryRefused(
                f"Transaction 0x{tx_hash.hex()} ({name}) was refused in block {receipt.block_number}: "
                "something else happened first; look at the state and try again."
            )
        return receipt

    def _number_given(self, receipt: Receipt, event: str) -> int:
        """The number that a transaction gave to what it created: the second topic of its event."""
        selector = self.artifact.events[event].selector
        events = self.client.logs(self.address, [selector], receipt.block_number, receipt.block_number)
        return next(int.from_bytes(found.topics[1], "big") for found in events if found.tx_hash == receipt.tx_hash)


class ConsortiumContract(Contract):
    """Departments, their keys, votes. See contracts/interfaces/IConsortium.sol for who may do what."""

    artifact_name = "Consortium"

    def admit(
        self, account: Signer, department: str, name: str, log_origin: str, node_url: str, governor: str
    ) -> Receipt:
        return self._act(
            account, "admit", department_bytes(department), name, log_origin, node_url, to_checksum_address(governor)
        )

    def suspend(self, account: Signer, department: str) -> Receipt:
        return self._act(account, "suspend", department_bytes(department))

    def reinstate(self, account: Signer, department: str) -> Receipt:
        return self._act(account, "reinstate", department_bytes(department))

    def set_module(self, account: Signer, name: str, address: str) -> Receipt:
        return self._act(account, "setModule", padded(name), to_checksum_address(address))

    def close_setup(self, account: Signer, minimum_votes: int) -> Receipt:
        """End set-up for ever: from here on only votes decide."""
        return self._act(account, "closeSetup", minimum_votes)

    def register_key(
        self, account: Signer, department: str, kid: bytes, use: str, public_key: bytes, valid_from: int
    ) -> Receipt:
        """Open a key. `use` is one of `USES`, `valid_from` seconds, at most five minutes ago."""
        arguments = (department_bytes(department), kid, _use(use), public_key, valid_from)
        return self._act(account, "registerKey", *arguments)

    def close_key(self, account: Signer, department: str, kid: bytes, valid_to: int) -> Receipt:
        """Retire a key at `valid_to` (seconds, not in the past)."""
        return self._act(account, "closeKey", department_bytes(department), kid, valid_to)

    def rotate_key(
        self, account: Signer, department: str, old_kid: bytes, new_kid: bytes, public_key: bytes, at: int
    ) -> Receipt:
        """Close one key and open its successor of the same use at one instant, `at` (seconds, not in the past)."""
        return self._act(account, "rotateKey", department_bytes(department), old_kid, new_kid, public_key, at)

    def set_node_url(self, account: Signer, department: str, url: str) -> Receipt:
        return self._act(account, "setNodeUrl", department_bytes(department), url)

    def set_governor(self, account: Signer, department: str, governor: str) -> Receipt:
        return self._act(account, "setGovernor", department_bytes(department), to_checksum_address(governor))

    def propose(self, account: Signer, action: bytes, expires_at: int) -> int:
        """Propose `action` (calldata from `encode`) to the members; returns the proposal's number."""
        return self._number_given(self._act(account, "propose", action, expires_at), "Proposed")

    def approve(self, account: Signer, proposal: int) -> Receipt:
        return self._act(account, "approve", proposal)

    def withdraw_approval(self, account: Signer, proposal: int) -> Receipt:
        return self._act(account, "withdrawApproval", proposal)

    def execute(self, account: Signer, proposal: int, action: bytes) -> Receipt:
        return self._act(account, "execute", proposal, action)

    def setup_open(self) -> bool:
        return bool(self._call("setupOpen"))

    def deployer(self) -> str:
        return to_checksum_address(self._call("deployer"))

    def votes_needed(self) -> int:
        return int(self._call("votesNeeded"))

    def minimum_votes(self) -> int:
        return int(self._call("minimumVotes"))

    def proposal_count(self) -> int:
        return int(self._call("proposalCount"))

    def proposal(self, number: int) -> Proposal:
        """Raises Refusal if there is no proposal of that number."""
        action_hash, expires_at, executed, proposer, approvals = self._call("proposalAt", number)
        approved = tuple(department_text(identifier) for identifier in approvals)
        return Proposal(action_hash, expires_at, executed, department_text(proposer), approved)

    def proposed(self) -> list[EventLog]:
        """The events of all proposals; each one's second topic is its number."""
        return self._events("Proposed")

    def proposed_action(self, event: EventLog) -> bytes:
        """The calldata in a Proposed event: what the node says; its keccak-256 must be the proposal's."""
        try:
            action: bytes = decode(["bytes", "uint64"], event.data)[0]
        except DecodingError as error:
            raise Malformed("Proposed event", "its data is not an action and a time") from error
        return action

    def module_names(self) -> list[str]:
        """The names of all modules ever registered, by the events."""
        names = [event.topics[1].rstrip(b"\x00").decode("ascii", "replace") for event in self._events("ModuleChanged")]
        return list(dict.fromkeys(names))

    def _events(self, name: str) -> list[EventLog]:
        newest = self.client.block("latest")
        last = newest.number if newest else 0
        return self.client.logs(self.address, [self.artifact.events[name].selector], 0, last)

    def module(self, name: str) -> str | None:
        """The address registered under a name, or None."""
        return _address(self._call("module", padded(name)))

    def departments(self) -> list[Department]:
        """Every department ever admitted, in order of admission."""
        return [self.department(department_text(identifier)) for identifier in self._call("departmentIds")]

    def department(self, department: str) -> Department:
        """Raises Refusal if it was never admitted."""
        state, admitted_at, governor, name, origin, url = self._call("department", department_bytes(department))
        return Department(department, STATES[state], admitted_at, to_checksum_address(governor), name, origin, url)

    def state(self, department: str) -> str:
        """One of `STATES`; unknown for a department that was never admitted."""
        return STATES[self._call("stateOf", department_bytes(department))]

    def keys(self, department: str) -> list[Key]:
        """Every key the department ever had, in order of registration."""
        return [self.key(kid) for kid in self._call("keyIds", department_bytes(department))]

    def key(self, kid: bytes) -> Key:
        """Raises KeyRefused if no key of that id was registered."""
        department, use, valid_from, valid_to, public_key = self._call("key", kid)
        return Key(kid, department_text(department), USES[use], valid_from, valid_to or None, public_key)

    def is_anchorer(self, department: str, account: str) -> bool:
        """Whether the account belongs to a valid Anchor key of the department. Says nothing of suspension."""
        return bool(self._call("isAnchorer", department_bytes(department), to_checksum_address(account)))


class EvidenceLogContract(Contract):
    """The anchored roots of every department's log. `log_id` is always the 32 bytes of `department_bytes`."""

    artifact_name = EVIDENCE_LOG

    def consortium(self) -> str:
        """The Consortium that decides who may anchor here."""
        return to_checksum_address(self._call("consortium"))

    def predecessor(self) -> str | None:
        """The EvidenceLog whose history this one carries on, or None."""
        return _address(self._call("predecessor"))

    def head(self, log_id: bytes, *, block: int | str = "latest") -> Head:
        """The newest anchor, as of `block`."""
        root, size, previous, number, timestamp = self._call("head", log_id, block=block)
        return Head(size, root, previous, number, timestamp)

    def root_at(self, log_id: bytes, size: int, *, block: int | str = "latest") -> AnchoredRoot | None:
        """The anchor at exactly `size`, as of `block`; None if that size was not anchored."""
        try:
            root, found, previous, number, timestamp = self._call("rootAt", log_id, size, block=block)
        except HistoryRefused as error:
            if _revert_name(self.artifact, error) == "EvidenceLogNotAnchored":
                return None
            raise
        return AnchoredRoot(found, root, previous, number, timestamp)

    def history(self, log_id: bytes, newest: int | None = None, after: int = 0) -> Iterator[AnchoredRoot]:
        """Every anchor of a log from the size `newest` (None: the newest there is) back to those above `after`, newest
        first, one call each. Raises HistoryRefused where the chain contradicts itself."""
        size = self.head(log_id).size if newest is None else newest
        while size > after:
            anchored = self.root_at(log_id, size)
            if anchored is None or anchored.previous_size >= size:
                raise HistoryRefused(f"The chain contradicts itself: it names an anchor of size {size:,} and has none.")
            yield anchored
            size = anchored.previous_size

    def verify_inclusion(
        self, log_id: bytes, size: int, leaf_hash: bytes, index: int, path: Sequence[bytes]
    ) -> AnchoredRoot:
        """Let the contract check an RFC 9162 inclusion path.

        Raises InclusionInvalid if it does not verify, HistoryRefused if there is no anchor at `size`.
        """
        try:
            values = self._call("verifyInclusion", log_id, size, leaf_hash, index, list(path))
        except HistoryRefused as error:
            if (_revert_name(self.artifact, error) or "").startswith("Rfc9162"):
                raise InclusionInvalid(str(error)) from error
            raise
        root, found, previous, number, timestamp = values
        return AnchoredRoot(found, root, previous, number, timestamp)

    def simulate_anchor(self, account: Signer, log_id: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
        """Raises HistoryRefused or KeyRefused if the contract would refuse this anchor now. Changes nothing."""
        self._call("anchor", log_id, size, root, list(proof), sender=local_account(account).address)

    def sign_anchor(
        self, account: Signer, log_id: bytes, size: int, root: bytes, proof: Sequence[bytes], *, extra_fee: int = 0
    ) -> tuple[bytes, bytes]:
        """(raw transaction, hash) of an anchor with fixed gas. Not sent."""
        data = self.encode("anchor", log_id, size, root, list(proof))
        return self.client.sign(account, self.address, data, gas=ANCHOR_GAS, extra_fee=extra_fee)

    def anchor(self, account: Signer, log_id: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> AnchorReceipt:
        """Anchor once and wait for the block. `anchoring.anchor_once` is the step that survives everything.

        `proof` is the RFC 9162 consistency path from the head's size; empty for a log's first anchor.
        Raises HistoryRefused or KeyRefused if the contract refuses, ChainUnreachable if no block takes it in time.
        """
        self.simulate_anchor(account, log_id, size, root, proof)
        raw, tx_hash = self.sign_anchor(account, log_id, size, root, proof)
        self.client.send_raw(raw)
        receipt = wait_for_receipt(self.client, tx_hash)
        anchored = self.root_at(log_id, size)
        if anchored is None or anchored.root != root:
            raise HistoryRefused(f"Size {size} was not anchored, although the node has a receipt for it; try again.")
        return AnchorReceipt(tx_hash, receipt.block_number, receipt.block_hash, anchored.timestamp)

    def lineage(self) -> tuple[str, ...]:
        """The addresses of this contract and of those that it carries on, newest first."""
        found: list[str] = [self.address]
        earlier = self.predecessor()
        while earlier is not None:
            found.append(earlier)
            earlier = EvidenceLogContract(self.client, earlier).predecessor()
        return tuple(found)

    def anchored_events(self, log_id: bytes, first: int, last: int, lineage: Sequence[str] = ()) -> list[AnchoredEvent]:
        """The anchors of a log in blocks first..last, oldest first, by their events; also those of the contracts in
        `lineage`. Raises Malformed for an event that is none of ours."""
        topics = [self.artifact.events["Anchored"].selector, log_id]
        return [_anchored(event) for event in self.client.logs(lineage or self.address, topics, first, last)]

    def anchored_event(self, log_id: bytes, size: int, block_number: int) -> EventLog | None:
        """The event of the anchor at `size` in the block that holds it, found by index; None if the node has none."""
        event = self.artifact.events["Anchored"].selector
        topics = [event, log_id, size.to_bytes(32, "big")]
        return next(iter(self.client.logs(self.address, topics, block_number, block_number)), None)


def deploy(client: ChainClient, account: Signer) -> Addresses:
    """Create all contracts and register the others as the consortium's modules; `account` is the deployer until set-up
    is closed.

    Seven transactions. If this raises, nothing refers to what was created: call it again for fresh ones.
    """
    consortium = _create(client, account, load_artifact("Consortium").deployment())
    evidence_log = _create(client, account, load_artifact(EVIDENCE_LOG).deployment(consortium, NOBODY))
    registry = ConsortiumContract(client, consortium)
    registry.set_module(account, EVIDENCE_LOG, evidence_log)
    for name in (SHARING_GRANTS, VERIFIABLE_DRAW):
        registry.set_module(account, name, _create(client, account, load_artifact(name).deployment(consortium)))
    return Addresses(consortium, evidence_log)


def find(client: ChainClient, consortium: str, name: str) -> Addresses:
    """The contracts of a consortium that stands already; `name` is what its logs' origins must begin with.

    Raises Refusal where `consortium` is no address or its logs are another consortium's, HistoryRefused where the code
    at one of the addresses is not the contract that this program knows.
    """
    if not is_address(consortium):
        raise Refusal(f"{consortium[:60]!r} is no address: 0x and 40 hex digits, as `yunxi consortium show` has it")
    registry = ConsortiumContract(client, consortium)
    registry.require_code()
    evidence_log = registry.module(EVIDENCE_LOG)
    if evidence_log is None:
        raise HistoryRefused(f"The consortium at {registry.address} names no EvidenceLog yet: its set-up was cut off.")
    EvidenceLogContract(client, evidence_log).require_code()
    other = next((d for d in registry.departments() if not d.log_origin.startswith(f"{name}/")), None)
    if other is not None:
        raise Refusal(f"the logs there have names like {other.log_origin}: name that consortium, not {name}")
    return Addresses(registry.address, evidence_log)


def deploy_successor(client: ChainClient, account: Signer, consortium: str, predecessor: str) -> str:
    """Create the EvidenceLog that carries on the one at `predecessor`, and return its address.

    It takes no anchor until the consortium has named it by `set_module`.
    """
    return _create(client, account, load_artifact(EVIDENCE_LOG).deployment(consortium, predecessor))


def wait_for_receipt(client: ChainClient, tx_hash: bytes, seconds: float = ACTION_SECONDS) -> Receipt:
    """The receipt of a sent transaction. Raises ChainUnreachable if no block holds it within `seconds`."""
    for _ in pauses(seconds):
        receipt = client.receipt(tx_hash)
        if receipt is not None:
            return receipt
    raise ChainUnreachable(f"No block of {client.url} holds transaction 0x{tx_hash.hex()} after {seconds:g} seconds.")


def pauses(seconds: float) -> Iterator[None]:
    """Yield at once and then ever more rarely, at least twice, until `seconds` are over."""
    deadline, pause = time.monotonic() + seconds, 0.005
    yield
    while time.monotonic() < deadline:
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        yield
        pause = min(pause * 1.5, 1.0)


def department_bytes(department: str) -> bytes:
    """The 32-byte id of a department and of its log. Raises Malformed if it is not `[a-z][a-z0-9-]{1,30}`."""
    if not _DEPARTMENT_ID.fullmatch(department):
        raise Malformed("department id", f"{department[:40]!r} is not two to 31 of a-z, 0-9 and -, a letter first")
    return padded(department)


def department_text(identifier: bytes) -> str:
    """The inverse of `department_bytes`. Raises Malformed."""
    text = identifier.rstrip(b"\x00").decode("ascii", "replace")
    if department_bytes(text) != identifier:
        raise Malformed("department id", "zero bytes inside")
    return text


def padded(name: str) -> bytes:
    """A short ASCII name as bytes32."""
    data = name.encode("ascii", "strict")
    if not 0 < len(data) <= 32:
        raise Malformed("name on chain", f"{len(data)} bytes do not fit 32")
    return data.ljust(32, b"\x00")


def block_of(client: ChainClient, number: int) -> Block:
    """A block that must be there. Raises HistoryRefused if the chain does not reach it."""
    block = client.block(number)
    if block is None:
        raise HistoryRefused(f"Block {number} is no longer on the chain; it was rolled back.")
    return block


def _create(client: ChainClient, account: Signer, data: bytes) -> str:
    signer = local_account(account)
    nonce = client.nonce(signer.address)
    raw, tx_hash = client.sign(account, None, data, nonce=nonce)
    client.send_raw(raw)
    wait_for_receipt(client, tx_hash)
    # the address follows from account and nonce; that code stands there is what counts
    address = to_checksum_address(keccak(rlp.encode([to_canonical_address(signer.address), nonce]))[12:])
    if not client.code(address):
        raise ChainUnreachable(f"The chain at {client.url} did not create the contract; try again.")
    return address


def _address(value: str) -> str | None:
    return None if int(value, 16) == 0 else to_checksum_address(value)


def _anchored(event: EventLog) -> AnchoredEvent:
    if len(event.topics) != 4 or len(event.data) != 64 or event.topics[2][:24] != bytes(24):
        raise Malformed("Anchored event", "has another form")
    size, previous = int.from_bytes(event.topics[2], "big"), int.from_bytes(event.data[32:], "big")
    return AnchoredEvent(size, event.data[:32], previous, event.block_number, event.block_hash, event.tx_hash)


def _use(use: str) -> int:
    if use not in USES[1:]:
        raise Malformed("key use", f"{use[:40]!r} is not one of {', '.join(USES[1:])}")
    return USES.index(use)


def _revert_name(artifact: Artifact, error: HistoryRefused) -> str | None:
    cause = error.__cause__
    custom = artifact.errors.get(cause.data[:4]) if isinstance(cause, RpcError) else None
    return None if custom is None else custom.name
