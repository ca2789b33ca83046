"""The decision by type: which step refuses what, and what remains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from gateway.extractions.decision import Allowed, Asked, decide
from gateway.problems import Problem

NOW = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Terms:
    """A grant, as the chain's are."""

    id: int = 1
    valid_from: int = 900_000
    valid_to: int = 1_100_000
    revoked_at: int | None = None
    per_day: int = 100
    record_types: tuple[str, ...] = ("inspection.report",)
    units: tuple[str, ...] = ("result", "when")
    purposes: tuple[str, ...] = ("joint-inspection",)
    case_kinds: tuple[str, ...] = ("food",)


GRANT = Terms()
ASKED = Asked("joint-inspection", "food", None, None)

REFUSED: dict[str, tuple[list[Terms], dict[str, Any], str]] = {
    "nothing granted": ([], {"types": frozenset(["inspection.report"])}, "no-grant"),
    "nothing granted, nothing named": ([], {}, "no-grant"),
    "another type granted": ([GRANT], {"types": frozenset(["licence.issued"])}, "no-grant"),
    "over": ([replace(GRANT, valid_to=1_000_000)], {}, "grant-expired"),
    "not yet begun": ([replace(GRANT, valid_from=1_000_001)], {}, "grant-expired"),
    "revoked a second ago": ([replace(GRANT, revoked_at=999_999)], {}, "grant-revoked"),
    "revoked now": ([replace(GRANT, revoked_at=1_000_000)], {}, "grant-revoked"),
    "one revoked, one expired": (
        [replace(GRANT, revoked_at=999_999), replace(GRANT, id=2, valid_to=999_999)],
        {},
        "grant-expired",
    ),
    "another purpose": ([GRANT], {"purpose": "complaint-handling"}, "wrong-purpose"),
    "another kind": ([GRANT], {"case_kind": "fire"}, "wrong-case-kind"),
    "no kind": ([GRANT], {"case_kind": ""}, "wrong-case-kind"),
    "a unit too many": ([GRANT], {"units": frozenset(["result", "officers"])}, "unit-not-granted"),
    "the day used up": ([replace(GRANT, per_day=40)], {}, "rate-exceeded"),
    "purpose of one, kind of the other": (
        [replace(GRANT, case_kinds=("fire",)), replace(GRANT, id=2, purposes=("complaint-handling",))],
        {},
        "wrong-case-kind",
    ),
}


@pytest.mark.parametrize(("grants", "changes", "code"), REFUSED.values(), ids=REFUSED)
def test_refused(grants: list[Terms], changes: dict[str, Any], code: str) -> None:
    with pytest.raises(Problem) as caught:
        decide(grants, replace(ASKED, **changes), NOW, lambda _: 40).require()
    assert caught.value.code == code


BOUNDARIES: dict[str, Terms] = {
    "begins now": replace(GRANT, valid_from=1_000_000),
    "ends in a second": replace(GRANT, valid_to=1_000_001),
    "revoked in a second, by the clock of the chain": replace(GRANT, revoked_at=1_000_001),
}


@pytest.mark.parametrize("grant", BOUNDARIES.values(), ids=BOUNDARIES)
def test_a_grant_stands_from_its_first_second_to_its_last(grant: Terms) -> None:
    assert decide([grant], ASKED, NOW, lambda _: 0).allowed.keys() == {"inspection.report"}


def test_what_no_record_type_can_be_called_is_not_given_unnamed() -> None:
    odd = (
        "*",
        "",
        "inspection",
        "Inspection.report",
        "inspection.report\n",
        "inspection.report v1",
        "inspection..report",
    )
    decision = decide([replace(GRANT, record_types=(*odd, "inspection.report"))], ASKED, NOW, lambda _: 0)
    assert (decision.allowed.keys(), decision.withheld) == ({"inspection.report"}, {})


def test_the_law_comes_before_the_grant() -> None:
    decision = decide([GRANT], ASKED, NOW, lambda _: 0, frozenset(["inspection.report"]))
    assert (decision.allowed, decision.withheld) == ({}, {"inspection.report": "restricted-by-law"})


def test_units_of_several_grants_add_up() -> None:
    other = replace(GRANT, id=2, units=("officers",), per_day=7)
    decision = decide([GRANT, other], ASKED, NOW, lambda grant: grant)
    assert decision.allowed == {"inspection.report": Allowed(frozenset(["result", "when", "officers"]), (1, 2), 5)}


def test_only_grants_that_give_something_are_used_up() -> None:
    other = replace(GRANT, id=2, units=("officers",), per_day=1)
    asked = replace(ASKED, units=frozenset(["officers"]))
    assert decide([GRANT, other], asked, NOW, lambda _: 0).allowed == {
        "inspection.report": Allowed(frozenset(["officers"]), (2,), 1)
    }


def test_a_used_up_grant_takes_its_units_with_it() -> None:
    other = replace(GRANT, id=2, units=("officers",), per_day=1)
    used: Callable[[int], int] = {1: 0, 2: 1}.__getitem__
    assert decide([GRANT, other], ASKED, NOW, used).allowed["inspection.report"].units == {"result", "when"}


def test_what_remains_is_given_and_the_rest_withheld() -> None:
    expired = replace(GRANT, id=2, record_types=("licence.issued",), valid_to=5)
    asked = replace(ASKED, types=frozenset(["inspection.report", "licence.issued", "note.added"]))
    decision = decide([GRANT, expired], asked, NOW, lambda _: 0).require()
    assert decision.allowed.keys() == {"inspection.report"}
    assert decision.withheld == {"licence.issued": "grant-expired", "note.added": "no-grant"}


def test_a_refusal_names_the_furthest_step() -> None:
    expired = replace(GRANT, id=2, record_types=("licence.issued",), valid_to=5)
    asked = replace(ASKED, types=frozenset(["inspection.report", "licence.issued"]), purpose="complaint-handling")
    with pytest.raises(Problem) as caught:
        decide([GRANT, expired], asked, NOW, lambda _: 0).require()
    assert caught.value.code == "wrong-purpose"
    assert caught.value.members["withheld"] == {
        "inspection.report": "wrong-purpose", "licence.issued": "grant-expired",
    }  # fmt: skip
