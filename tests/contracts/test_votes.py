"""Governance after set-up: proposal, approvals, execution, expiry. Nobody alone changes anything."""

from __future__ import annotations

from hashlib import sha256

import pytest

FIRE = b"fire".ljust(32, b"\0")
URBAN = b"urban".ljust(32, b"\0")
NEW = b"water-affairs".ljust(32, b"\0")
ADMISSION = (NEW, "水务局", "yunxi.example/water", "https://water.example", "0x" + "77" * 20)
DAY = 86_400


def test_three_of_four_admit_a_department(world):
    sent = world.vote(["fire", "health", "market"], "admit", *ADMISSION)
    assert [name for name, _ in sent.events] == ["Executed", "DepartmentAdmitted"]
    assert world.consortium.read("department", NEW).state == 1
    assert world.consortium.read("votesNeeded") == 3, "a majority of five"


def test_the_proposal_can_be_read_before_it_is_approved(world):
    number, action = world.propose("fire", "suspend", URBAN)
    proposal = world.consortium.read("proposalAt", number)
    assert (proposal.proposer, proposal.executed, list(proposal.approvals)) == (FIRE, False, [FIRE])
    expires = world.chain.now() + DAY
    sent = world.consortium.send("propose", action, expires, sender=world.governors["urban"])
    assert sent.events[0] == (
        "Proposed",
        {"proposal": number + 1, "proposer": URBAN, "action": action, "expiresAt": expires},
    )


def test_a_majority_is_needed_however_low_the_minimum(world, refused):
    assert (world.consortium.read("minimumVotes"), world.consortium.read("votesNeeded")) == (2, 3)
    with refused("ConsortiumTooFewVotes"):
        world.vote(["fire", "health"], "suspend", URBAN)


def test_a_higher_minimum_holds(founding, refused):
    founding.close_setup(4)
    with refused("ConsortiumTooFewVotes"):
        founding.vote(["fire", "health", "market"], "admit", *ADMISSION)
    founding.vote(["fire", "health", "market", "urban"], "setMinimumVotes", 3)
    founding.vote(["fire", "health", "market"], "admit", *ADMISSION)


def test_a_department_is_recovered_by_the_others(world):
    """Its governance account is lost: the others give it another and close its keys."""
    others = ["health", "market", "urban"]
    world.vote(others, "setGovernor", FIRE, world.stranger)
    kid = world.consortium.read("keyIds", FIRE)[0]
    end = world.chain.now() + 100
    sent = world.vote(others, "closeKey", FIRE, kid, end)
    closing = sent.events[1][1]
    assert (closing["validTo"], closing["by"]) == (end, world.consortium.address.lower()), (
        "the event says it was a vote"
    )


def test_a_vote_cannot_reach_back_in_time_either(world, refused):
    arguments = (FIRE, sha256(b"kid").digest(), 1, bytes(32), world.chain.now() - DAY)
    with refused("ConsortiumKeyBackdated"):
        world.vote(["health", "market", "urban"], "registerKey", *arguments)


def test_a_module_is_replaced_by_vote(world):
    successor = world.succeed()
    assert world.consortium.read("module", b"EvidenceLog".ljust(32, b"\0")) == successor.address.lower()


def test_approvals_of_the_suspended_do_not_count(world, refused):
    number, action = world.propose("fire", "admit", *ADMISSION)
    for name in ("urban", "health"):
        world.consortium.send("approve", number, sender=world.governors[name])
    world.vote(["health", "market", "urban"], "suspend", FIRE)
    with refused("ConsortiumDepartmentNotAdmitted", FIRE, 2):
        world.consortium.send("execute", number, action, sender=world.governors["fire"])
    assert world.consortium.read("votesNeeded") == 2
    world.consortium.send("withdrawApproval", number, sender=world.governors["health"])
    with refused("ConsortiumTooFewVotes", number, 1, 2):
        world.consortium.send("execute", number, action, sender=world.governors["urban"])
    world.consortium.send("approve", number, sender=world.governors["market"])
    world.consortium.send("execute", number, action, sender=world.governors["market"])


def test_suspension_stops_where_no_vote_could_pass_any_more(world, refused):
    world.vote(["fire", "health", "market"], "suspend", URBAN)
    world.vote(["fire", "health"], "suspend", b"market".ljust(32, b"\0"))
    with refused("ConsortiumMinimumVotes", 2, 1):
        world.vote(["fire", "health"], "suspend", FIRE)


def test_a_proposal_whose_action_is_refused_stays_open(world, refused):
    number, action = world.propose("fire", "reinstate", URBAN)
    for name in ("health", "market"):
        world.consortium.send("approve", number, sender=world.governors[name])
    with refused("ConsortiumDepartmentNotSuspended", URBAN, 1):
        world.consortium.send("execute", number, action, sender=world.governors["fire"])
    world.vote(["fire", "health", "market"], "suspend", URBAN)
    world.consortium.send("execute", number, action, sender=world.governors["fire"])
    assert world.consortium.read("department", URBAN).state == 1


def _approve(world, number, *names):
    for name in names:
        world.consortium.send("approve", number, sender=world.governors[name])


def _approve_as(world, account):
    return world.consortium.send("approve", 0, sender=account)


def _execute(world, number, action, name="fire"):
    return world.consortium.send("execute", number, action, sender=world.governors[name])


def _wait(world):
    world.chain.warp(DAY)


def _propose(world, sender, expires):
    return world.consortium.send("propose", b"", expires, sender=sender or world.governors["fire"])


# A proposal to suspend the urban department stands, made by fire. Each attack: the error, and the steps.
ATTACKS = {
    "execute with the proposer's vote alone": ("ConsortiumTooFewVotes", lambda w, n, a: _execute(w, n, a)),
    "execute with two votes of four": (
        "ConsortiumTooFewVotes",
        lambda w, n, a: (_approve(w, n, "health"), _execute(w, n, a)),
    ),
    "vote twice": ("ConsortiumAlreadyApproved", lambda w, n, a: (_approve(w, n, "health"), _approve(w, n, "health"))),
    "vote for one's own proposal again": ("ConsortiumAlreadyApproved", lambda w, n, a: _approve(w, n, "fire")),
    "vote twice through a new governance account": (
        "ConsortiumAlreadyApproved",
        lambda w, n, a: (
            w.consortium.send("setGovernor", FIRE, w.stranger, sender=w.governors["fire"]),
            w.consortium.send("approve", n, sender=w.stranger),
        ),
    ),
    "vote as a stranger": (
        "ConsortiumNotAGovernor",
        lambda w, n, a: _approve_as(w, w.stranger),
    ),
    "vote as the deployer": (
        "ConsortiumNotAGovernor",
        lambda w, n, a: _approve_as(w, w.deployer),
    ),
    "vote with an anchor account": (
        "ConsortiumNotAGovernor",
        lambda w, n, a: w.consortium.send("approve", n, sender=w.anchorers["fire"]),
    ),
    "propose as a stranger": ("ConsortiumNotAGovernor", lambda w, n, a: _propose(w, w.stranger, w.chain.now() + DAY)),
    "propose as the deployer": ("ConsortiumNotAGovernor", lambda w, n, a: _propose(w, w.deployer, w.chain.now() + DAY)),
    "execute as a stranger": (
        "ConsortiumNotAGovernor",
        lambda w, n, a: (_approve(w, n, "health", "market"), w.consortium.send("execute", n, a, sender=w.stranger)),
    ),
    "execute another action than was approved": (
        "ConsortiumOtherAction",
        lambda w, n, a: (_approve(w, n, "health", "market"), _execute(w, n, w.consortium.encode("suspend", FIRE))),
    ),
    "execute twice": (
        "ConsortiumProposalExecuted",
        lambda w, n, a: (_approve(w, n, "health", "market"), _execute(w, n, a), _execute(w, n, a)),
    ),
    "approve what is done": (
        "ConsortiumProposalExecuted",
        lambda w, n, a: (_approve(w, n, "health", "market"), _execute(w, n, a), _approve(w, n, "fire")),
    ),
    "approve after expiry": (
        "ConsortiumProposalExpired",
        lambda w, n, a: (_wait(w), _approve(w, n, "health")),
    ),
    "execute after expiry": (
        "ConsortiumProposalExpired",
        lambda w, n, a: (_approve(w, n, "health", "market"), _wait(w), _execute(w, n, a)),
    ),
    "withdraw a vote never given": (
        "ConsortiumNotApproved",
        lambda w, n, a: w.consortium.send("withdrawApproval", n, sender=w.governors["market"]),
    ),
    "execute on votes withdrawn": (
        "ConsortiumTooFewVotes",
        lambda w, n, a: (
            _approve(w, n, "health", "market"),
            w.consortium.send("withdrawApproval", n, sender=w.governors["health"]),
            _execute(w, n, a),
        ),
    ),
    "approve a proposal that is not there": ("ConsortiumProposalUnknown", lambda w, n, a: _approve(w, n + 1, "health")),
    "read a proposal that is not there": (
        "ConsortiumProposalUnknown",
        lambda w, n, a: w.consortium.read("proposalAt", n + 1),
    ),
    "propose what expires at once": (
        "ConsortiumExpiry",
        lambda w, n, a: _propose(w, None, w.chain.now()),
    ),
    "propose for a year": (
        "ConsortiumExpiry",
        lambda w, n, a: _propose(w, None, w.chain.now() + 365 * DAY),
    ),
    "vote a proposal within a proposal": (
        "ConsortiumNotAGovernor",
        lambda w, n, a: w.vote(["fire", "health", "market"], "approve", n),
    ),
    "open set-up again": (
        "ConsortiumSetupAlreadyClosed",
        lambda w, n, a: w.vote(["fire", "health", "market"], "closeSetup", 2),
    ),
    "let one department decide": (
        "ConsortiumMinimumVotes",
        lambda w, n, a: w.vote(["fire", "health", "market"], "setMinimumVotes", 1),
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_nobody_can(attack, world, refused):
    number, action = world.propose("fire", "suspend", URBAN)
    error, steps = ATTACKS[attack]
    with refused(error):
        steps(world, number, action)


def test_there_are_no_votes_while_set_up_is_open(founding, refused):
    with refused("ConsortiumSetupStillOpen"):
        founding.propose("fire", "suspend", URBAN)
