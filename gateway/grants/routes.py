"""`/v1/grants`: what a department granted and was granted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from gateway.access import allow
from gateway.caller import ADMIN, PERSON_ROLES, SYSTEM, Caller
from gateway.grants.purposes import purposes
from gateway.grants.sentences import sentence, standing, state_of
from gateway.grants.service import MOST_PER_DAY, grant_json
from gateway.guarded import Guarded
from gateway.problems import Problem
from gateway.site import Site, SiteOf, require_hosted
from ledger.chain.sharing_grants import MOST_TERMS, Grant, Terms

router = APIRouter(prefix="/v1/grants", tags=["grants"], route_class=Guarded)

Giver = Annotated[Caller, allow(ADMIN, SYSTEM)]
Reader = Annotated[Caller, allow(SYSTEM, *PERSON_ROLES)]
Name = Annotated[str, Field(min_length=1, max_length=100)]
Moment = Annotated[AwareDatetime, Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 12, 31, tzinfo=UTC))]
Names = Annotated[list[Name], Field(min_length=1, max_length=MOST_TERMS)]
Number = Annotated[int, Path(ge=0, lt=2**63, description="the grant's number")]


class GrantAsked(BaseModel):
    """What to grant. `valid_from` absent: from now on. `legal_basis`: for record types that are restricted by law."""

    model_config = ConfigDict(extra="forbid")

    grantee: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,30}$")]
    record_types: Names
    units: Names
    purposes: Names
    case_kinds: Names
    per_day: Annotated[int, Field(ge=1, le=MOST_PER_DAY)]
    valid_from: Moment | None = None
    valid_to: Moment
    legal_basis: Annotated[str, Field(min_length=1, max_length=500)] | None = None


class GrantShown(BaseModel):
    """A grant, how it stands now, and both in plain language."""

    id: int
    owner: str
    grantee: str
    record_types: list[str]
    units: list[str]
    purposes: list[str]
    case_kinds: list[str]
    per_day: int
    valid_from: datetime
    valid_to: datetime
    granted_at: datetime
    revoked_at: datetime | None
    state: Literal["pending", "in-force", "expired", "revoked"]
    sentence: dict[str, str]
    standing: dict[str, str]


class GrantList(BaseModel):
    """Grants, newest first."""

    grants: list[GrantShown]


class Purpose(BaseModel):
    """A purpose: its code and its name in both languages."""

    code: str
    zh: str
    en: str


class PurposeList(BaseModel):
    """The purposes that grants may name."""

    purposes: list[Purpose]


@router.get(
    "/purposes",
    summary="List purposes",
    response_model=PurposeList,
    dependencies=[allow(SYSTEM, *PERSON_ROLES)],
)
def purpose_list() -> Any:
    """The purposes that grants and inspections may name."""
    return PurposeList(purposes=[Purpose(code=code, **names) for code, names in purposes().items()])


@router.get("", summary="List grants", response_model=GrantList)
def grants(
    caller: Reader,
    site: SiteOf,
    direction: Annotated[
        Literal["given", "received"], Query(description="by the caller's department, or to it")
    ] = "given",
) -> Any:
    """Every grant that the caller's department ever gave or got, also those that ended."""
    read = site.grants.given_by if direction == "given" else site.grants.received_by
    found = read(caller.department)
    return GrantList(grants=[_shown(site, grant) for grant in reversed(found)])


@router.post("", summary="Give a grant", response_model=GrantShown, status_code=201)
def give(caller: Giver, site: SiteOf, asked: GrantAsked) -> Any:
    """Grants records of the caller's department. A grant is never changed: other terms are another grant."""
    start = int(asked.valid_from.timestamp()) if asked.valid_from else int(site.clock())
    terms = Terms(
        grantee=asked.grantee,
        valid_from=start,
        valid_to=int(asked.valid_to.timestamp()),
        per_day=asked.per_day,
        record_types=tuple(asked.record_types),
        units=tuple(asked.units),
        purposes=tuple(asked.purposes),
        case_kinds=tuple(asked.case_kinds),
    )
    require_hosted(site, caller.department)
    return _shown(site, site.grants.give(caller.department, terms, by=caller.subject, legal_basis=asked.legal_basis))


@router.get("/{number}", summary="Show a grant", response_model=GrantShown)
def show(caller: Reader, site: SiteOf, number: Number) -> Any:
    """A grant that the caller's department gave or got."""
    found = site.grants.find(number)
    if caller.department not in (found.owner, found.grantee):
        raise Problem("forbidden", f"grant {number} is a matter of other departments")
    return _shown(site, found)


@router.post("/{number}/revoke", summary="Revoke a grant", response_model=GrantShown)
def revoke(caller: Giver, site: SiteOf, number: Number) -> Any:
    """Ends a grant of the caller's department now, for ever; its history stays."""
    require_hosted(site, caller.department)
    return _shown(site, site.grants.revoke(caller.department, number))


def _shown(site: Site, grant: Grant) -> GrantShown:
    names, now, types = {peer.id: peer.name for peer in site.peers.all()}, site.clock(), site.node.types
    return GrantShown(
        **grant_json(grant),
        state=state_of(grant, now),  # type: ignore[arg-type]  # one of the four
        sentence={"zh": sentence(grant, "zh", types, names), "en": sentence(grant, "en", types, names)},
        standing={"zh": standing(grant, "zh", now), "en": standing(grant, "en", now)},
    )
