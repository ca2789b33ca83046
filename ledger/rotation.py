"""Rotating a department's key: the registry closes the old one and opens the new one at one instant, the changeover.

    draw ──► plan: the keystore holds the changeover ──► register on chain ──► settle: the keystore knows it is there

The changeover lies `LEAD_S` or more ahead, so whoever signs has read the plan before it comes. From then on the agent
gives out the new key; a statement's key and date come from one reading of the clock, so no key signs outside its
interval and none overlap. Where a rotation was cut off between plan and settling, whoever needs the key at the
changeover settles it by asking the chain, and signs nothing until the chain has answered.

What a statement's date (`iat`) can prove: that the signer claimed a time at which the key was the department's. Whoever
has stolen an old key can claim such a time for ever. What dates a record from outside is the witness, anchor or
timestamp over the log that holds it: the verifier says so where they came after the key's end, and the audit finds a
statement by an ended key that stands behind later ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from ledger.chain.client import local_account
from ledger.chain.contracts import ConsortiumContract, Key
from ledger.errors import CouldNotRun, KeyRefused, Refusal
from ledger.formats.encoding import b64url_decode, b64url_encode
from ledger.keys import HeldKey
from ledger.node import Node
from ledger.public_keys import public_half, raw_public_key
from ledger.store.reading import read_logs

USES = ("statement", "log", "encryption", "anchor", "request", "witness")

GOVERNOR = "governor"
"""The account that votes for the department: no key of the registry, so it changes at once, and has no interval."""

LEAD_S = 30
"""The least time between registering a key and its first use: a block must take it, and every process see it."""

LOST_S = 60
"""How long after the changeover a transaction that would register it may still be on its way, by clocks that differ."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotation that the registry holds. Key ids as in the trust file; `changeover` in seconds since 1970. `new` is
    False where an earlier call had begun it."""

    department: str
    use: str
    old: str
    new_key: str
    changeover: int
    new: bool


def rotate_key(node: Node, department: str, use: str, lead: int | None = None) -> Rotation:
    """Rotates a key; the new one is in force `lead` seconds from now (None: `LEAD_S`). A call that was cut off is
    simply made again.

    A rotation that is registered and not yet in force is given back as it is, so that two calls are not two rotations;
    so is one that was voted for the department.
    Raises Refusal for another use or too short a lead, KeyRefused when the consortium does not let this node do it,
    ChainUnreachable when the chain does not answer: then nothing changed, or the next call finds what did.
    """
    if use == GOVERNOR:
        return _rotate_governor(node, department)
    if use not in USES:
        raise Refusal(f"a department rotates its {', '.join((*USES, GOVERNOR))} keys, not {use[:40]!r}")
    lead = LEAD_S if lead is None else lead
    if lead < LEAD_S:
        raise Refusal(f"a key's changeover lies at least {LEAD_S} seconds ahead, not {lead}")
    # 1. Is one under way? (die here: nothing happened)
    taken_up = settle(node, department, use)
    newest, now = node.agent.held(department, use)[-1], int(node.clock())
    if taken_up or (newest.settled and (newest.since or 0) > now) or _epochs_are_behind(node, department, use):
        return _finish(node, department, use, new=False)
    # 2. Draw. (die here: a key that nobody uses; the next call takes it)
    key = node.agent.draw(department, use)
    # 3. Plan. (die here: from the changeover on, whoever signs asks the chain, finds no such key and drops the plan)
    now = int(node.clock())
    changeover = now + lead if key.since is None else _planned(key.since, now)
    node.agent.mark(department, use, key.kid, changeover, settled=False)
    # 4. Register. (die here: as after 3, but the chain may have the key: then the plan is what happened)
    _register(node, department, use, key, changeover)
    # 5. Settle. (die here: the rotation is done; for encryption, the next call finishes the epochs)
    settle(node, department, use)
    return _finish(node, department, use, new=True)


def _rotate_governor(node: Node, department: str) -> Rotation:
    """Gives the department another governance account. Raises as `rotate_key`."""
    consortium, old = node.connect().consortium, node.agent.held(department, GOVERNOR)[-1]
    # 1. Draw, or take up what was drawn. (die here: a key that nobody uses)
    key = node.agent.draw(department, GOVERNOR)
    before = old if old.kid != key.kid else node.agent.held(department, GOVERNOR)[-2]
    address = local_account(key.secret).address
    new = next(found.governor for found in consortium.departments() if found.id == department) != address
    # 2. Tell the chain. (die here: the old account is refused; the next call finds the new one there)
    if new:
        account = node.agent.operator_key() if consortium.setup_open() else before.secret
        consortium.set_governor(account, department, address)
    # 3. Settle. It has no beginning: whichever account the chain has is the one.
    node.agent.mark(department, GOVERNOR, key.kid, 0, settled=True)
    return Rotation(department, GOVERNOR, before.kid, key.kid, int(node.clock()), new)


def settle(node: Node, department: str, use: str) -> bool:
    """Makes the keystore say of a drawn key what the registry says; True where that has taken up a new key.

    A key that was registered by a vote for the department is taken up too. Raises ChainUnreachable.
    """
    newest = node.agent.held(department, use)[-1]
    if newest.settled:
        return False
    found = _find(node.connect().consortium, department, newest.kid)
    if found is not None:
        node.agent.mark(department, use, newest.kid, found.valid_from, settled=True)
    elif newest.since is not None and node.clock() > newest.since + LOST_S:
        # the contract takes no changeover that has passed: what was sent can no longer succeed
        node.agent.mark(department, use, newest.kid, None, settled=False)
    return found is not None


def settle_all(node: Node, department: str) -> None:
    """Takes up every key that the registry has of a department and the keystore only drew. Costs nothing where there
    is none. Raises KeyRefused where the keys are elsewhere, ChainUnreachable."""
    for use in USES:
        if settle(node, department, use):
            _finish(node, department, use, new=False)


def planned_key(node: Node, department: str, use: str) -> tuple[str, bytes]:
    """(kid, raw public key) of the key that the next rotation goes to: drawn now if need be, in force nowhere.

    For a department that cannot act for itself any more: the others register it by vote.
    """
    key = node.agent.draw(department, use)
    return key.kid, raw_public_key(public_half(use, key.secret))


def _register(node: Node, department: str, use: str, key: HeldKey, changeover: int) -> None:
    consortium = node.connect().consortium
    old = _open_key(node, consortium, department, use)
    account = node.agent.operator_key() if consortium.setup_open() else node.agent.governor_key(department)
    kid = b64url_decode(key.kid, "kid")
    public = raw_public_key(public_half(use, key.secret))
    try:
        consortium.rotate_key(account, department, old.kid, kid, public, changeover)
    except Refusal as error:
        # a refusal is final, so nobody need wait for the changeover to see what became of it
        node.agent.mark(department, use, key.kid, None, settled=False)
        if not isinstance(error, KeyRefused) or consortium.setup_open():
            raise
        raise KeyRefused(
            f"{error} The other departments can do it by vote: yunxi consortium propose rotate-key {department} "
            f"--use {use} --public-key {b64url_encode(public)} --as DEPARTMENT; then run this command again."
        ) from error


def _planned(since: int, now: int) -> int:
    # the transaction of the call that was cut off may still come: only the same changeover fits both
    if since > now:
        return since
    raise CouldNotRun(
        f"the rotation that was cut off may still be on its way: run this again in {since + LOST_S + 1 - now} seconds"
    )


def _open_key(node: Node, consortium: ConsortiumContract, department: str, use: str) -> Key:
    # terminals have statement keys of their own: only those that this keystore holds are its to rotate
    held = {b64url_decode(key.kid, "kid") for key in node.agent.held(department, use)}
    keys = [key for key in consortium.keys(department) if key.valid_to is None and key.kid in held]
    if not keys:
        raise KeyRefused(
            f"department {department} has no {use} key that is still open: it can only be given one by "
            "`yunxi department add`, or by vote"
        )
    return keys[-1]


def _find(consortium: ConsortiumContract, department: str, kid: str) -> Key | None:
    wanted = b64url_decode(kid, "kid")
    return next((key for key in consortium.keys(department) if key.kid == wanted), None)


def _finish(node: Node, department: str, use: str, *, new: bool) -> Rotation:
    held = node.agent.held(department, use)
    newest, before = held[-1], held[-2]
    if use == "encryption":
        recipient = node.agent.key_of(department, newest.kid)
        with node.database.writing() as connection:
            for log in read_logs(connection, department):
                node.keks.move(connection, log.number, department, int(node.clock()), recipient)
    return Rotation(department, use, before.kid, newest.kid, newest.since or 0, new)


def _epochs_are_behind(node: Node, department: str, use: str) -> bool:
    newest = node.agent.held(department, use)[-1]
    if use != "encryption" or not newest.settled:
        return False
    with node.database.reading() as connection:
        return any(node.keks.is_behind(connection, log.number, newest.kid) for log in read_logs(connection, department))
