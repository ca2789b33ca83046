"""Governance from the command line: what the consortium is, what is proposed, and a department's voice in it.

During set-up the deployer acts alone; afterwards a change is a proposal that enough admitted departments approve and
one of them carries out. A department speaks through its governance account, whose key this node's key agent holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from eth_utils.address import is_address, to_checksum_address
from eth_utils.crypto import keccak

from ledger.chain.client import EventLog
from ledger.chain.contracts import (
    EVIDENCE_LOG,
    STATES,
    USES,
    ConsortiumContract,
    EvidenceLogContract,
    Proposal,
    department_bytes,
    deploy_successor,
    padded,
)
from ledger.departments import check_url
from ledger.errors import KeyRefused, Malformed, Refusal
from ledger.formats import jwk
from ledger.formats.encoding import b64url_decode, b64url_encode
from ledger.formats.trust import format_time
from ledger.node import ChainLink, Node
from ledger.public_keys import public_key_of

DAY = 86_400
LONGEST_DAYS = 30

OPEN, EXECUTED, EXPIRED = "open", "executed", "expired"


@dataclass(frozen=True, slots=True)
class Member:
    """A department of the consortium. `keys` counts those that it ever had; `here`: this node holds its keys."""

    id: str
    name: str
    state: str
    governor: str
    keys: int
    here: bool


@dataclass(frozen=True, slots=True)
class Module:
    """A contract that the consortium runs. `followed`: None where this node does not use it, else whether this node
    uses the very contract that the consortium names."""

    name: str
    address: str
    followed: bool | None


@dataclass(frozen=True, slots=True)
class Motion:
    """A proposal in plain words. `approvals` are departments; those admitted now are the `votes`."""

    number: int
    proposer: str
    sentence: str
    state: str
    approvals: tuple[str, ...]
    votes: int
    expires_at: int
    action: bytes


@dataclass(frozen=True, slots=True)
class ConsortiumState:
    """The consortium as the chain has it. `address` is its contract's, `genesis` the chain's first block's hash."""

    address: str
    chain_id: int
    genesis: str
    setup_open: bool
    deployer: str
    minimum_votes: int
    votes_needed: int
    departments: tuple[Member, ...]
    modules: tuple[Module, ...]
    motions: tuple[Motion, ...]


def consortium_state(node: Node) -> ConsortiumState:
    """Reads it all from the chain. Raises ChainUnreachable, HistoryRefused when it is another chain."""
    link = node.connect()
    consortium = link.consortium
    members = tuple(_member(node, consortium, found) for found in consortium.departments())
    admitted = {member.id for member in members if member.state == "admitted"}
    return ConsortiumState(
        address=consortium.address,
        chain_id=link.client.chain_id(),
        genesis="0x" + link.client.genesis_hash().hex(),
        setup_open=consortium.setup_open(),
        deployer=consortium.deployer(),
        minimum_votes=consortium.minimum_votes(),
        votes_needed=consortium.votes_needed(),
        departments=members,
        modules=tuple(_modules(link)),
        motions=tuple(motions(link, admitted)),
    )


def close_setup(node: Node, minimum_votes: int) -> int:
    """Ends set-up for ever; returns how many votes decide from now on. By the deployer's node.

    Raises Refusal when it is closed already or so many votes are not possible, KeyRefused on another node.
    """
    consortium = node.connect().consortium
    consortium.close_setup(node.agent.operator_key(), minimum_votes)
    return consortium.votes_needed()


def set_node_url(node: Node, department: str, url: str) -> None:
    """Writes on the chain where the department's node answers. By its own governance account; during set-up by the
    deployer's node, for any department. Raises Refusal, KeyRefused, ChainUnreachable."""
    consortium = node.connect().consortium
    account = node.agent.operator_key() if consortium.setup_open() else node.agent.governor_key(department)
    consortium.set_node_url(account, department, check_url(url))


# -- what can be proposed: each gives the calldata and refuses what the consortium would refuse when it is too late --


def admission(node: Node, department: str, name: str, governor: str, url: str = "") -> bytes:
    """Admit a department. `governor` is the address that its own node shows."""
    if not is_address(governor):
        raise Refusal(f"{governor[:60]!r} is not an account: 0x and 40 hex digits, as its node shows it")
    origin = f"{node.settings.consortium}/{department}"
    arguments = (department_bytes(department), name, origin, url, to_checksum_address(governor))
    return node.connect().consortium.encode("admit", *arguments)


def suspension(node: Node, department: str) -> bytes:
    """Suspend a member. Raises Refusal for one that is not admitted."""
    return _about(node, "suspend", department, "admitted")


def reinstatement(node: Node, department: str) -> bytes:
    """Take a suspended department back. Raises Refusal for one that is not suspended."""
    return _about(node, "reinstate", department, "suspended")


def key_rotation(node: Node, department: str, use: str, public: str, changeover: int, old: str | None = None) -> bytes:
    """Rotate a key for a department that cannot do it itself. `public` is the raw public key, base64url, that its own
    node shows; `changeover` in seconds, after the last moment at which the proposal may be carried out; `old` the kid
    of the key that ends, which must be said where several are open: terminals have statement keys too."""
    consortium = node.connect().consortium
    open_keys = [key for key in consortium.keys(department) if key.use == use and key.valid_to is None]
    if not open_keys:
        raise Refusal(f"department {department} has no open key for {use[:40]!r}: `yunxi consortium show` lists them")
    if old is not None:
        open_keys = [key for key in open_keys if b64url_encode(key.kid) == old]
    if len(open_keys) != 1:
        raise Refusal(
            f"department {department} has several open keys for {use[:40]}: name the kid of the one that ends (--old)"
        )
    raw = b64url_decode(public, "public key")
    kid = b64url_decode(jwk.kid_of(public_key_of(use, raw)), "kid")
    arguments = (department_bytes(department), open_keys[-1].kid, kid, raw, changeover)
    return consortium.encode("rotateKey", *arguments)


def module_change(node: Node, name: str, address: str) -> bytes:
    """Point a module's name at another contract. Raises Refusal where an EvidenceLog would lose its history."""
    if not is_address(address):
        raise Refusal(f"{address[:60]!r} is not an address: 0x and 40 hex digits")
    link = node.connect()
    if not link.client.code(address):
        raise Refusal(f"there is no contract at {address} on this chain")
    current = link.consortium.module(name)
    if name == EVIDENCE_LOG and current not in (None, to_checksum_address(address)):
        _require_successor(link, address, current)
    return link.consortium.encode("setModule", padded(name), to_checksum_address(address))


def votes_change(node: Node, minimum_votes: int) -> bytes:
    """Change the least number of votes. Raises Refusal outside 2 to the number of admitted departments."""
    consortium = node.connect().consortium
    admitted = sum(found.state == "admitted" for found in consortium.departments())
    if not 2 <= minimum_votes <= admitted:
        raise Refusal(f"the least number of votes is between 2 and the {admitted} admitted departments")
    return consortium.encode("setMinimumVotes", minimum_votes)


# -- the voice of a department --


def propose(node: Node, department: str, action: bytes, days: int = 7) -> Motion:
    """Proposes `action` in the department's name, which counts as its approval; open for `days`, 1 to 30.

    Raises Refusal before set-up is closed and for what the contract refuses, KeyRefused where the department's key is
    not on this node.
    """
    if not 1 <= days <= LONGEST_DAYS:
        raise Refusal(f"a proposal stays open for 1 to {LONGEST_DAYS} days, not {days}")
    link = node.connect()
    number = link.consortium.propose(node.agent.governor_key(department), action, expiry(node, days))
    return motion(link, number)


def expiry(node: Node, days: int) -> int:
    """When a proposal made now expires, seconds since 1970; a minute less than `days`, because clocks differ."""
    return int(node.clock()) + days * DAY - 60


def approve(node: Node, department: str, number: int) -> Motion:
    """Approves a proposal in the department's name. Raises Refusal as the contract does."""
    return _speak(node, department, number, lambda c, account: c.approve(account, number))


def withdraw(node: Node, department: str, number: int) -> Motion:
    """Takes the department's approval back while the proposal is open. Raises Refusal as the contract does."""
    return _speak(node, department, number, lambda c, account: c.withdraw_approval(account, number))


def execute(node: Node, department: str, number: int) -> Motion:
    """Carries a proposal out. Raises Refusal with too few votes, and what the action itself is refused with."""
    link = node.connect()
    action = motion(link, number).action
    link.consortium.execute(node.agent.governor_key(department), number, action)
    return motion(link, number)


def deploy_next_evidence_log(node: Node, department: str) -> str:
    """Creates the EvidenceLog that carries on the present one, and returns its address: to be proposed as a module."""
    link = node.connect()
    current = link.consortium.module(EVIDENCE_LOG)
    if current is None:
        raise Refusal("the consortium names no EvidenceLog yet")
    return deploy_successor(link.client, node.agent.governor_key(department), link.consortium.address, current)


def follow(node: Node) -> str | None:
    """Makes this node use the EvidenceLog that the consortium names; its new address, or None where it does already.

    Followed is only a contract that carries on, through its predecessors, the one that node.toml has: raises Refusal
    otherwise. Processes that run take it up when they are started again.
    """
    link = node.connect()
    named, used = link.consortium.module(EVIDENCE_LOG), link.evidence_log.address
    if named is None or named == used:
        return None
    _require_descent(link, named, used)
    settings = node.settings
    replace(settings, chain=replace(settings.chain, evidence_log=named)).save()
    return named


# -- reading proposals --


def motions(link: ChainLink, admitted: set[str]) -> list[Motion]:
    """Every proposal, oldest first."""
    consortium = link.consortium
    events = {int.from_bytes(e.topics[1], "big"): e for e in consortium.proposed()}
    newest = link.client.block("latest")
    now = newest.timestamp if newest else 0
    return [
        _motion(link, number, consortium.proposal(number), events.get(number), now, admitted)
        for number in range(consortium.proposal_count())
    ]


def motion(link: ChainLink, number: int) -> Motion:
    """One proposal. Raises Refusal for a number that there is none of."""
    link.consortium.proposal(number)
    admitted = {found.id for found in link.consortium.departments() if found.state == "admitted"}
    return motions(link, admitted)[number]


def _motion(
    link: ChainLink, number: int, found: Proposal, event: EventLog | None, now: int, admitted: set[str]
) -> Motion:
    action = link.consortium.proposed_action(event) if event is not None else b""
    # what the event says is the node's word; the hash is the contract's
    if keccak(action) != found.action_hash:
        sentence, action = "UNKNOWN: the node has lost the proposal's text, or lies about it; do not approve it", b""
    else:
        sentence = describe(link, action)
    state = EXECUTED if found.executed else EXPIRED if now >= found.expires_at else OPEN
    votes = sum(department in admitted for department in found.approvals)
    return Motion(number, found.proposer, sentence, state, found.approvals, votes, found.expires_at, action)


def describe(link: ChainLink, action: bytes) -> str:
    """What a call of the Consortium on itself would do, in one sentence; UNKNOWN where this program cannot say."""
    artifact = link.consortium.artifact
    function = next((f for f in artifact.functions.values() if f.selector == action[:4]), None)
    if function is None or function.name not in _SENTENCES:
        return f"UNKNOWN: a call that this program does not know (0x{action[:4].hex()}); do not approve it unread"
    try:
        values = function.decode_input(action)
    except Malformed:
        return f"UNKNOWN: {function.name} with arguments that do not decode; do not approve it"
    if function.encode(*values.values()) != action:
        return f"UNKNOWN: {function.name} with bytes that say nothing; do not approve it"
    return _SENTENCES[function.name](link, {name: _plain(name, value) for name, value in values.items()})


def _rotation_words(_link: ChainLink, v: dict[str, Any]) -> str:
    return f"rotate key {v['oldKid']} of {v['id']} to {v['newKid']} at {_time(v['changeover'])}"


def _registration_words(_link: ChainLink, v: dict[str, Any]) -> str:
    return f"register {USES[v['use']]} key {v['kid']} for {v['id']}, valid from {_time(v['validFrom'])}"


def _module_words(link: ChainLink, v: dict[str, Any]) -> str:
    name, address = v["name"], to_checksum_address(v["moduleAddress"])
    words = f"replace contract {name} by the one at {address}"
    if name != EVIDENCE_LOG:
        return words
    try:
        before = EvidenceLogContract(link.client, address).predecessor()
    except Refusal:
        return f"{words}, which is NO EvidenceLog"
    if before is None:
        return f"{words}, which has NO PREDECESSOR: every log would begin anew"
    return f"{words}, which carries on the histories of {before}"


_SENTENCES: dict[str, Callable[[ChainLink, dict[str, Any]], str]] = {
    "admit": lambda _, v: (
        f"admit department {v['id']} ({v['name']}) with log {v['logOrigin']} and governance account {v['governor']}"
    ),
    "suspend": lambda _, v: f"suspend department {v['id']}: it can neither anchor nor vote nor open keys",
    "reinstate": lambda _, v: f"reinstate department {v['id']}",
    "setMinimumVotes": lambda _, v: f"change the least number of votes to {v['minimum']}",
    "closeSetup": lambda _, v: f"close set-up with at least {v['minimum']} votes",
    "setModule": _module_words,
    "registerKey": _registration_words,
    "closeKey": lambda _, v: f"close key {v['kid']} of {v['id']} at {_time(v['validTo'])}",
    "rotateKey": _rotation_words,
    "setNodeUrl": lambda _, v: f"change the node address of {v['id']} to {v['nodeUrl']}",
    "setGovernor": lambda _, v: f"give department {v['id']} the governance account {v['governor']}",
}

_KEY_IDS = ("kid", "oldKid", "newKid")


def _plain(name: str, value: Any) -> Any:
    if name in _KEY_IDS:
        return b64url_encode(value)
    if name in ("id", "name") and isinstance(value, bytes):
        text = value.rstrip(b"\x00")
        return text.decode("ascii") if text.isascii() and text.decode("ascii").isprintable() else f"0x{value.hex()}"
    if isinstance(value, str):
        return value if value.isprintable() else ascii(value)
    return value


def _time(seconds: int) -> str:
    return format_time(seconds) if seconds < 253_402_300_800 else f"{seconds} seconds"


def _member(node: Node, consortium: ConsortiumContract, found: Any) -> Member:
    try:
        here = bool(node.agent.governor_key(found.id))
    except KeyRefused:
        here = False
    return Member(found.id, found.name, found.state, found.governor, len(consortium.keys(found.id)), here)


def _modules(link: ChainLink) -> list[Module]:
    found = []
    for name in link.consortium.module_names():
        address = link.consortium.module(name)
        used = address == link.evidence_log.address if name == EVIDENCE_LOG else None
        if address is not None:
            found.append(Module(name, address, used))
    return found


def _about(node: Node, function: str, department: str, state: str) -> bytes:
    consortium = node.connect().consortium
    found = consortium.department(department)
    if found.state != state:
        raise Refusal(f"department {department} is {found.state}, not {state}")
    assert state in STATES
    return consortium.encode(function, department_bytes(department))


def _speak(node: Node, department: str, number: int, say: Callable[[ConsortiumContract, bytes], object]) -> Motion:
    link = node.connect()
    say(link.consortium, node.agent.governor_key(department))
    return motion(link, number)


def _require_successor(link: ChainLink, address: str, current: str | None) -> None:
    before = EvidenceLogContract(link.client, address).predecessor()
    if before != current:
        raise Refusal(
            f"the contract at {address} carries on {before or 'no history'}, not the EvidenceLog at {current}: "
            "create one with `yunxi consortium successor`"
        )


def _require_descent(link: ChainLink, named: str, used: str) -> None:
    address: str | None = named
    while address is not None and address != used:
        address = EvidenceLogContract(link.client, address).predecessor()
    if address is None:
        raise Refusal(
            f"the EvidenceLog at {named} does not carry on the one at {used} that this node anchors on: histories "
            "would begin anew; ask the consortium before anything is changed"
        )
