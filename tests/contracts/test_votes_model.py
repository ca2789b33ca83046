"""Votes against a model in Python: whoever tries what, in whatever order, Consortium and model decide alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

DAY = 86_400
FOUNDERS = ("fire", "health", "market", "urban")
APPLICANTS = ("water", "forest")
PEOPLE = (*FOUNDERS, *APPLICANTS, "deployer", "stranger")
UNKNOWN, ADMITTED, SUSPENDED = 0, 1, 2


def ident(name: str) -> bytes:
    return name.encode("ascii").ljust(32, b"\0")


@dataclass
class Proposed:
    """A proposal as the rules have it."""

    function: str
    argument: Any
    expires: int
    approvals: set[str]
    executed: bool = False


@dataclass
class Model:
    """The rules of governance, written down a second time. Every method gives the error's name, or None for yes."""

    setup_open: bool = True
    minimum: int = 0
    states: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FOUNDERS, ADMITTED))
    proposals: list[Proposed] = field(default_factory=list)

    @property
    def admitted(self) -> int:
        return sum(state == ADMITTED for state in self.states.values())

    @property
    def needed(self) -> int:
        return max(self.minimum, self.admitted // 2 + 1)

    def votes(self, proposal: Proposed) -> int:
        return sum(self.states.get(name) == ADMITTED for name in proposal.approvals)

    def close(self, minimum: int, who: str) -> str | None:
        if who != "deployer" or not self.setup_open:
            return "ConsortiumUnauthorised"
        error = self._set_minimum(minimum)
        if error is None:
            self.setup_open = False
        return error

    def directly(self, function: str, argument: Any, who: str) -> str | None:
        if who != "deployer" or not self.setup_open:
            return "ConsortiumUnauthorised"
        return self._act(function, argument)

    def propose(self, function: str, argument: Any, expires: int, now: int, who: str) -> str | None:
        error = self._voter(who)
        if error is None and not now < expires <= now + 30 * DAY:
            error = "ConsortiumExpiry"
        if error is None:
            self.proposals.append(Proposed(function, argument, expires, {who}))
        return error

    def approve(self, number: int, now: int, who: str) -> str | None:
        error = self._voter(who) or self._open(number, now)
        if error is None and who in self.proposals[number].approvals:
            error = "ConsortiumAlreadyApproved"
        if error is None:
            self.proposals[number].approvals.add(who)
        return error

    def withdraw(self, number: int, now: int, who: str) -> str | None:
        error = self._voter(who) or self._open(number, now)
        if error is None and who not in self.proposals[number].approvals:
            error = "ConsortiumNotApproved"
        if error is None:
            self.proposals[number].approvals.remove(who)
        return error

    def execute(self, number: int, other: bool, now: int, who: str) -> str | None:
        error = self._voter(who) or self._open(number, now)
        if error is not None:
            return error
        proposal = self.proposals[number]
        if other:
            return "ConsortiumOtherAction"
        if self.votes(proposal) < self.needed:
            return "ConsortiumTooFewVotes"
        error = self._act(proposal.function, proposal.argument)
        proposal.executed = error is None
        return error

    def _voter(self, who: str) -> str | None:
        if self.setup_open:
            return "ConsortiumSetupStillOpen"
        if who not in FOUNDERS:  # of the applicants nobody has the account here
            return "ConsortiumNotAGovernor"
        return None if self.states[who] == ADMITTED else "ConsortiumDepartmentNotAdmitted"

    def _open(self, number: int, now: int) -> str | None:
        if number >= len(self.proposals):
            return "ConsortiumProposalUnknown"
        if self.proposals[number].executed:
            return "ConsortiumProposalExecuted"
        return "ConsortiumProposalExpired" if now >= self.proposals[number].expires else None

    def _act(self, function: str, argument: Any) -> str | None:
        if function == "setMinimumVotes":
            return self._set_minimum(argument)
        state = self.states.get(argument, UNKNOWN)
        if function == "admit":
            if state != UNKNOWN:
                return "ConsortiumDepartmentExists"
            self.states[argument] = ADMITTED
            return None
        if state == UNKNOWN:
            return "ConsortiumDepartmentUnknown"
        if function == "reinstate":
            if state != SUSPENDED:
                return "ConsortiumDepartmentNotSuspended"
            self.states[argument] = ADMITTED
            return None
        if state != ADMITTED:
            return "ConsortiumDepartmentNotAdmitted"
        if not self.setup_open and self.admitted - 1 < self.minimum:
            return "ConsortiumMinimumVotes"
        self.states[argument] = SUSPENDED
        return None

    def _set_minimum(self, minimum: int) -> str | None:
        if not 2 <= minimum <= self.admitted:
            return "ConsortiumMinimumVotes"
        self.minimum = minimum
        return None


people = st.sampled_from(PEOPLE)
numbers = st.integers(min_value=0, max_value=6)
changes = st.one_of(
    st.tuples(st.sampled_from(["suspend", "reinstate", "admit"]), st.sampled_from([*FOUNDERS, *APPLICANTS])),
    st.tuples(st.just("setMinimumVotes"), st.integers(min_value=0, max_value=7)),
)
lifetimes = st.sampled_from([0, 1, 2 * DAY, 2 * DAY, 2 * DAY, 2 * DAY, 30 * DAY, 30 * DAY + 1000])


def machine_on(world: Any, refusal: type[Exception], *, every_step: bool = True) -> type[RuleBasedStateMachine]:
    """The state machine that plays on this consortium; every run begins with set-up open and four departments. Every
    decision is compared; the whole state after `every_step`, or else at the end of each run."""

    class Votes(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.snapshot = world.chain.tester.take_snapshot()
            self.model = Model()
            self.actions: list[bytes] = []

        def teardown(self) -> None:
            self.check()
            world.chain.tester.revert_to_snapshot(self.snapshot)

        @initialize(open_=st.sampled_from([False, False, False, True]), minimum=st.integers(min_value=2, max_value=4))
        def begin(self, open_: bool, minimum: int) -> None:
            if not open_:
                self.close(minimum, "deployer")

        @rule(minimum=st.integers(min_value=0, max_value=6), who=people)
        def close(self, minimum: int, who: str) -> None:
            self.both(self.model.close(minimum, who), who, "closeSetup", minimum)

        @rule(change=changes, who=people)
        def change_directly(self, change: tuple[str, Any], who: str) -> None:
            function, argument = change
            self.both(self.model.directly(function, argument, who), who, function, *arguments(function, argument))

        @rule(change=changes, lifetime=lifetimes, who=people)
        def propose(self, change: tuple[str, Any], lifetime: int, who: str) -> None:
            now, (function, argument) = self.next_time(), change
            action = world.consortium.encode(function, *arguments(function, argument))
            error = self.model.propose(function, argument, now + lifetime, now, who)
            if error is None:
                self.actions.append(action)
            self.both(error, who, "propose", action, now + lifetime)

        @rule(number=numbers, who=people)
        def approve(self, number: int, who: str) -> None:
            self.both(self.model.approve(number, self.next_time(), who), who, "approve", number)

        @rule(number=numbers)
        def approve_by_all(self, number: int) -> None:
            for who in FOUNDERS:
                self.approve(number, who)

        @rule(number=numbers, who=people)
        def withdraw(self, number: int, who: str) -> None:
            self.both(self.model.withdraw(number, self.next_time(), who), who, "withdrawApproval", number)

        @rule(number=numbers, who=people, other=st.sampled_from([False, False, False, True]))
        def execute(self, number: int, who: str, other: bool) -> None:
            action = self.actions[number] if number < len(self.actions) else b""
            action += b"\0" if other else b""
            self.both(self.model.execute(number, other, self.next_time(), who), who, "execute", number, action)

        @rule(days=st.integers(min_value=1, max_value=3))
        def wait(self, days: int) -> None:
            world.chain.warp(days * DAY)

        @invariant()
        def chain_and_model_hold_the_same(self) -> None:
            if every_step:
                self.check()

        def check(self) -> None:
            read, model = world.consortium.read, self.model
            assert read("setupOpen") == model.setup_open
            assert (read("minimumVotes"), read("admittedCount")) == (model.minimum, model.admitted)
            assert read("votesNeeded") == model.needed
            for name in (*FOUNDERS, *APPLICANTS):
                assert read("stateOf", ident(name)) == model.states.get(name, UNKNOWN)
            assert read("proposalCount") == len(model.proposals)
            for number, proposal in enumerate(model.proposals):
                found = read("proposalAt", number)
                assert {bytes(a) for a in found.approvals} == {ident(name) for name in proposal.approvals}
                assert len(found.approvals) == len(proposal.approvals)
                assert (found.executed, found.expiresAt) == (proposal.executed, proposal.expires)

        @invariant()
        def nobody_decides_alone(self) -> None:
            if not self.model.setup_open:
                assert self.model.minimum >= 2
                assert self.model.admitted >= self.model.minimum

        def next_time(self) -> int:
            """The time of the block that the next transaction stands in."""
            return int(world.chain.tester.get_block_by_number("pending")["timestamp"])

        def both(self, expected: str | None, who: str, function: str, *values: Any) -> None:
            decided = None
            try:
                world.consortium.send(function, *values, sender=account_of(world, who))
            except refusal as error:
                decided = error.name  # type: ignore[attr-defined]
            assert decided == expected, (function, who, values)

    return Votes


def arguments(function: str, argument: Any) -> tuple[Any, ...]:
    if function == "setMinimumVotes":
        return (argument,)
    if function != "admit":
        return (ident(argument),)
    governor = "0x" + argument.encode().hex().rjust(40, "0")
    return (ident(argument), argument, f"new.example/{argument}", "", governor)


def account_of(world: Any, who: str) -> str:
    if who in world.governors:
        return world.governors[who]
    if who in APPLICANTS:
        return world.stranger  # what an applicant signs with is nobody's account before it is admitted
    return world.deployer if who == "deployer" else world.stranger


quick = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def test_chain_and_model_agree(founding, refusal):
    run_state_machine_as_test(
        machine_on(founding, refusal), settings=settings(max_examples=6, stateful_step_count=15, **quick)
    )


@pytest.mark.slow
def test_chain_and_model_agree_over_hundreds_of_sequences(founding, refusal):
    run_state_machine_as_test(
        machine_on(founding, refusal, every_step=False),
        settings=settings(max_examples=300, stateful_step_count=25, **quick),
    )
