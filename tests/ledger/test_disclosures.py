"""Both sides of disclosures: what agrees is not reported, and each way of not agreeing is, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from ledger.disclosures import MADE, RECEIVED, REFUSED, Side, check_grants, reconcile
from ledger.errors import Refusal

AT = 1_000_000
PAGE = ("fire", "licensing", "e1", 1)
RECORDS = {"r1": ("when", "result"), "r2": ("when",)}
GIVEN = Side(
    kind=MADE,
    page=PAGE,
    record_id="made-1",
    index=5,
    at=AT,
    sha256="aa",
    purpose="joint-inspection",
    case_kind="food",
    records=RECORDS,
    types=dict.fromkeys(RECORDS, "inspection.report"),
    grants={7: frozenset(["inspection.report"])},
)
GOT = replace(GIVEN, kind=RECEIVED, record_id="received-1", grants={})
GONE = replace(GIVEN, kind=REFUSED, record_id="refused-1", records={}, types={}, grants={})
DEPARTMENTS = ("fire", "licensing")


@dataclass(frozen=True, slots=True)
class Terms:
    """A grant, as the chain's are."""

    owner: str = "fire"
    grantee: str = "licensing"
    granted_at: int = AT - 100
    revoked_at: int | None = None
    valid_from: int = AT - 100
    valid_to: int = AT + 100
    per_day: int = 100
    record_types: tuple[str, ...] = ("inspection.report",)
    units: tuple[str, ...] = ("when", "result")
    purposes: tuple[str, ...] = ("joint-inspection",)
    case_kinds: tuple[str, ...] = ("food",)


def test_two_sides_that_agree() -> None:
    result = reconcile([GOT, GIVEN], DEPARTMENTS)
    assert result.good
    assert (result.made, result.received, result.records) == (1, 1, 2)


DIFFERENT: dict[str, tuple[list[Side], list[str]]] = {
    "given and never received": ([GIVEN], ["not-received"]),
    "received and never given": ([GOT], ["not-made"]),
    "another digest": ([GIVEN, replace(GOT, sha256="bb")], ["digest-differs"]),
    "another unit": ([GIVEN, replace(GOT, records={**RECORDS, "r2": ("officers",)})], ["records-differ"]),
    "a record less": ([GIVEN, replace(GOT, records={"r1": RECORDS["r1"]})], ["records-differ"]),
    "another page": ([GIVEN, replace(GOT, page=(*PAGE[:3], 2))], ["not-made", "not-received"]),
    "given twice": ([GIVEN, GOT, GIVEN], ["twice"]),
    "received twice": ([GIVEN, GOT, GOT], ["twice"]),
    "received before it was given, by clocks that are apart": ([GIVEN, replace(GOT, at=AT - 301)], ["clock-apart"]),
    "the same, told the other way round": ([replace(GOT, at=AT - 301), GIVEN], ["clock-apart"]),
    "received a little before it was given": ([GIVEN, replace(GOT, at=AT - 299)], []),
    "gone, but the owner never gave it": ([GONE, GOT], ["not-made"]),
}


@pytest.mark.parametrize(("sides", "kinds"), DIFFERENT.values(), ids=DIFFERENT)
def test_sides_that_differ(sides: list[Side], kinds: list[str]) -> None:
    assert sorted(each.kind for each in reconcile(sides, DEPARTMENTS).differences) == kinds


def test_a_page_that_is_gone_explains_a_missing_receipt() -> None:
    result = reconcile([GIVEN, GONE], DEPARTMENTS)
    assert (result.good, result.gone) == (True, 1)


def test_pages_with_others_are_not_judged() -> None:
    assert reconcile([GIVEN], ["fire"]).good


def lookup(**grants: Terms) -> Callable[[int], Terms]:
    def grant_at(number: int) -> Terms:
        if str(number) not in grants:
            raise Refusal("there is no such grant")
        return grants[str(number)]

    return grant_at


GRANTS: dict[str, tuple[Terms, list[str]]] = {
    "in force": (Terms(), []),
    "revoked before": (Terms(revoked_at=AT - 50), ["grant-not-in-force", "not-granted", "not-granted"]),
    "revoked after": (Terms(revoked_at=AT + 50), []),
    "expired before": (Terms(valid_to=AT - 50), ["grant-not-in-force", "not-granted", "not-granted"]),
    "given only after": (Terms(granted_at=AT + 50), ["grant-not-in-force", "not-granted", "not-granted"]),
    "another's": (Terms(owner="health"), ["not-granted", "not-granted"]),
    "to another": (Terms(grantee="streets"), ["not-granted", "not-granted"]),
    "for another type": (Terms(record_types=("note.added",)), ["not-granted", "not-granted"]),
    "for another purpose": (Terms(purposes=("other",)), ["not-granted", "not-granted"]),
    "for another kind": (Terms(case_kinds=("other",)), ["not-granted", "not-granted"]),
    "without one of the units": (Terms(units=("when",)), ["not-granted"]),
    "for fewer a day": (Terms(per_day=1), ["rate-exceeded"]),
}


@pytest.mark.parametrize(("terms", "kinds"), GRANTS.values(), ids=GRANTS)
def test_grants(terms: Terms, kinds: list[str]) -> None:
    assert [each.kind for each in check_grants([GIVEN], lookup(**{"7": terms}))] == kinds


def test_a_grant_that_the_chain_does_not_have() -> None:
    found = [each.kind for each in check_grants([GIVEN], lookup())]
    assert found == ["grant-unknown", "not-granted", "not-granted"]


def test_a_day_is_the_last_24_hours() -> None:
    later = [replace(GIVEN, at=AT + hours * 3_600) for hours in (0, 23, 24, 47)]
    terms = Terms(per_day=4, valid_to=AT + 10**6)
    assert [each.kind for each in check_grants(later, lookup(**{"7": terms}))] == []
    terms = replace(terms, per_day=3)
    assert [each.kind for each in check_grants(later, lookup(**{"7": terms}))] == ["rate-exceeded"] * 3
