"""Which record types an extraction may have, and by which grants. Pure: terms and a time in, an answer out.

For each type, the first step that leaves nothing is its refusal:

    1. restricted-by-law   the law keeps the owner from passing the type on, whatever was granted
    2. no-grant            a grant of the owner to the requester names the type
    3. grant-expired       one of them is in force, and   grant-revoked   was not taken back
    4. wrong-purpose       one of those was given for the purpose
    5. wrong-case-kind     and for cases or inspections of the kind
    6. unit-not-granted    together they have every unit asked for (none asked for: all that they have)
    7. rate-exceeded       and each has something left of its day

A type that is refused is withheld; where nothing remains, the whole extraction is refused, with the code of the type
that came furthest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.problems import Problem

STEPS: Mapping[str, str] = {
    "no-grant": "there is no grant to this department for what it asks: ask the owner for one",
    "restricted-by-law": "the law does not let the owner pass these records on",
    "grant-expired": "the grant is not in force at this time: ask the owner for a new one",
    "grant-revoked": "the owner has revoked the grant",
    "wrong-purpose": "the grant was given for other purposes",
    "wrong-case-kind": "the grant was given for cases or inspections of other kinds",
    "unit-not-granted": "a unit that was asked for is not granted: ask for fewer, or for none by name",
    "rate-exceeded": "the grant's records of this day are used up: the rest follows when its day is over",
}
"""Code to sentence, in the order in which a type gets ahead."""

_TYPE = re.compile(r"[a-z][a-z0-9]*(\.[a-z][a-z0-9-]*)+")


class Grant(Protocol):
    """A grant as the chain has it. Times in seconds since 1970; in force in [valid_from, valid_to)."""

    @property
    def id(self) -> int: ...
    @property
    def valid_from(self) -> int: ...
    @property
    def valid_to(self) -> int: ...
    @property
    def revoked_at(self) -> int | None: ...
    @property
    def per_day(self) -> int: ...
    @property
    def record_types(self) -> Sequence[str]: ...
    @property
    def units(self) -> Sequence[str]: ...
    @property
    def purposes(self) -> Sequence[str]: ...
    @property
    def case_kinds(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What an extraction asks for. `types` None: whatever is granted; `units` None: all units that are granted."""

    purpose: str
    case_kind: str
    types: frozenset[str] | None
    units: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Allowed:
    """A type that may be extracted: units to show, the grants they come from, and how many records are left of the day
    of the grant that has least left. `emergency`: the record of the one that lets it go without a grant."""

    units: frozenset[str]
    grants: tuple[int, ...]
    left: int
    emergency: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What may be extracted by type, and what is withheld with the code of its refusal."""

    allowed: Mapping[str, Allowed]
    withheld: Mapping[str, str]

    def require(self) -> Decision:
        """Itself. Raises Problem, with the code of the type that came furthest, where nothing may be extracted."""
        if self.allowed:
            return self
        order = list(STEPS)
        code = max(self.withheld.values(), key=order.index, default="no-grant")
        raise Problem(code, STEPS[code], withheld=dict(self.withheld))


def decide(
    grants: Iterable[Grant],
    asked: Asked,
    now: float,
    used: Callable[[int], int],
    restricted: Collection[str] = frozenset(),
) -> Decision:
    """The decision on `asked`. `grants`: all that the owner ever gave the requester; `used`: how many records of a
    grant were disclosed in the last 24 hours; `restricted`: types that the law keeps back."""
    known = tuple(grants)
    # what stands on the chain may be any text: what no record type can be called is nobody's
    named = {name for grant in known for name in grant.record_types if _TYPE.fullmatch(name)}
    types = asked.types if asked.types is not None else named
    allowed: dict[str, Allowed] = {}
    withheld: dict[str, str] = {}
    for name in sorted(types):
        if name in restricted:
            withheld[name] = "restricted-by-law"
            continue
        found = _decide_type([grant for grant in known if name in grant.record_types], asked, now, used)
        if isinstance(found, str):
            withheld[name] = found
        else:
            allowed[name] = found
    return Decision(allowed, withheld)


def _decide_type(grants: list[Grant], asked: Asked, now: float, used: Callable[[int], int]) -> Allowed | str:
    if not grants:
        return "no-grant"
    standing = [grant for grant in grants if grant.revoked_at is None or now < grant.revoked_at]
    in_force = [grant for grant in standing if grant.valid_from <= now < grant.valid_to]
    if not in_force:
        return "grant-expired" if standing else "grant-revoked"
    for_purpose = [grant for grant in in_force if asked.purpose in grant.purposes]
    if not for_purpose:
        return "wrong-purpose"
    for_kind = [grant for grant in for_purpose if asked.case_kind in grant.case_kinds]
    if not for_kind:
        return "wrong-case-kind"
    if asked.units is not None and not asked.units <= {unit for grant in for_kind for unit in grant.units}:
        return "unit-not-granted"
    left = {grant.id: grant.per_day - used(grant.id) for grant in for_kind}
    with_rest = [grant for grant in for_kind if left[grant.id] > 0]
    granted = frozenset(unit for grant in with_rest for unit in grant.units)
    units = granted if asked.units is None else granted & asked.units
    if not with_rest or (asked.units is not None and units != asked.units):
        return "rate-exceeded"
    giving = [grant for grant in with_rest if not units.isdisjoint(grant.units)]
    return Allowed(units, tuple(grant.id for grant in giving), min(left[grant.id] for grant in giving))
