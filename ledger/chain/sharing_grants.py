"""SharingGrants: who may extract whose records, for what. See contracts/interfaces/ISharingGrants.sol for the rules.

A term (a record type, a unit, a purpose, a kind of case) is on chain its ASCII name padded with zero bytes to 32, a
grant's number its place in the list of all grants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger.chain.client import Signer
from ledger.chain.contracts import (
    SHARING_GRANTS,
    ConsortiumContract,
    Contract,
    department_bytes,
    department_text,
    padded,
)
from ledger.errors import Malformed, Refusal

LONGEST_TERM = 32
MOST_TERMS = 64


@dataclass(frozen=True, slots=True)
class Terms:
    """What a grant says. In force in [valid_from, valid_to), seconds since 1970. A unit is granted for each listed
    record type that has a unit of this name. Each list has 1 to 64 names of 1 to 32 printable ASCII bytes."""

    grantee: str
    valid_from: int
    valid_to: int
    per_day: int
    record_types: tuple[str, ...]
    units: tuple[str, ...]
    purposes: tuple[str, ...]
    case_kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grant(Terms):
    """A grant as the contract holds it: its terms, its number, who gave it and when. `granted_at` and `revoked_at`
    (None: stands) are block times in seconds."""

    id: int
    owner: str
    granted_at: int
    revoked_at: int | None


class SharingGrantsContract(Contract):
    """The consortium's grants. A term of another program that is no printable ASCII reads as 0x and its hex."""

    artifact_name = SHARING_GRANTS

    @classmethod
    def of(cls, consortium: ConsortiumContract) -> SharingGrantsContract:
        """The contract that the consortium names now. Raises Refusal when it names none, ChainUnreachable."""
        address = consortium.module(SHARING_GRANTS)
        if address is None:
            raise Refusal(
                "the consortium names no SharingGrants contract: it was set up before there was one; its members must "
                "vote one in with `yunxi consortium propose set-module SharingGrants ADDRESS`"
            )
        return cls(consortium.client, address)

    def grant(self, account: Signer, owner: str, terms: Terms) -> int:
        """Give a grant in the name of `owner`, whose governance or anchoring account `account` is; its number.

        Raises Malformed for a name that does not fit, Refusal and KeyRefused as the contract does.
        """
        return self._number_given(self._act(account, "grant", department_bytes(owner), _encoded(terms)), "Granted")

    def revoke(self, account: Signer, number: int) -> None:
        """End a grant now, for ever. Raises Refusal for one that is revoked or not there, KeyRefused."""
        self._act(account, "revoke", number)

    def grant_at(self, number: int, *, block: int | str = "latest") -> Grant:
        """Raises Refusal if there is no grant of that number."""
        owner, granted_at, revoked_at, terms = self._call("grantAt", number, block=block)
        stated = _decoded(terms)
        return Grant(
            **stated, id=number, owner=department_text(owner), granted_at=granted_at, revoked_at=revoked_at or None
        )

    def grants_by(self, owner: str, *, block: int | str = "latest") -> tuple[int, ...]:
        """The numbers of every grant that the department ever gave, oldest first."""
        return tuple(self._call("grantsBy", department_bytes(owner), block=block))

    def grants_to(self, grantee: str, *, block: int | str = "latest") -> tuple[int, ...]:
        """The numbers of every grant that the department ever got, oldest first."""
        return tuple(self._call("grantsTo", department_bytes(grantee), block=block))

    def permits(
        self, number: int, grantee: str, record_type: str, unit: str, purpose: str, case_kind: str, time: int
    ) -> bool:
        """The contract's own answer whether a grant covers all that is asked, with both departments admitted now."""
        request = (department_bytes(grantee), *map(term, (record_type, unit, purpose, case_kind)), time)
        return bool(self._call("permits", number, request))


def term(name: str) -> bytes:
    """A name as the contract holds it. Raises Malformed for one that is not 1 to 32 printable ASCII bytes."""
    if not (name.isascii() and name.isprintable() and 0 < len(name) <= LONGEST_TERM):
        reason = (
            f"{name[:40]!r} must be 1 to {LONGEST_TERM} printable ASCII characters to stand in a grant on the chain"
        )
        raise Malformed("term", reason)
    return padded(name)


def _encoded(terms: Terms) -> tuple[Any, ...]:
    lists = (terms.record_types, terms.units, terms.purposes, terms.case_kinds)
    return (
        department_bytes(terms.grantee),
        terms.valid_from,
        terms.valid_to,
        terms.per_day,
        *([term(name) for name in names] for names in lists),
    )


def _decoded(values: tuple[Any, ...]) -> dict[str, Any]:
    grantee, valid_from, valid_to, per_day, *lists = values
    fields = ("record_types", "units", "purposes", "case_kinds")
    terms = {name: tuple(map(_text, names)) for name, names in zip(fields, lists, strict=True)}
    return {
        "grantee": department_text(grantee),
        "valid_from": valid_from,
        "valid_to": valid_to,
        "per_day": per_day,
        **terms,
    }


def _text(value: bytes) -> str:
    text = value.rstrip(b"\x00").decode("ascii", "replace")
    return text if text.isascii() and text.isprintable() else f"0x{value.hex()}"
