"""Giving, reading and revoking grants. What decides is the chain; nothing here is kept but what it said last."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from gateway.grants.purposes import purposes
from gateway.grants.restrictions import BASIS_TYPE, basis_key, restriction, with_basis
from gateway.peers.watch import Watched
from gateway.problems import Problem
from ledger.chain.sharing_grants import Grant, SharingGrantsContract, Terms, term
from ledger.errors import Refusal
from ledger.node import ChainLink, Node
from ledger.record_types import RecordTypes
from ledger.submission import Acknowledged, Outcome, Submission

Submit = Callable[[str, Sequence[Submission]], list[Outcome]]

MOST_PER_DAY = 2**32 - 1
_KIND = re.compile(r"[a-z][a-z0-9-]*")


class Grants:
    """The grants on the chain, as of the newest block. Thread-safe.

    Every method raises ChainUnreachable where the chain does not answer, and Refusal where the consortium has no
    SharingGrants contract: then nothing is granted.
    """

    def __init__(self, node: Node, link: Callable[[], ChainLink], submit: Submit) -> None:
        """`submit` takes records into a hosted department's log, durable when it returns."""
        self._node, self._link, self._submit = node, link, submit
        self._acting = threading.Lock()
        self._lock = threading.Lock()
        self._given: dict[str, Watched[tuple[Grant, ...]]] = {}
        self._received: dict[str, Watched[tuple[Grant, ...]]] = {}
        self._ended: dict[tuple[str, int], Grant] = {}

    # -- reading --

    def given_by(self, owner: str) -> tuple[Grant, ...]:
        """Every grant that the department ever gave, oldest first."""
        return self._watched(self._given, owner, lambda c: c.grants_by(owner)).get()

    def received_by(self, grantee: str) -> tuple[Grant, ...]:
        """Every grant that the department ever got, oldest first."""
        return self._watched(self._received, grantee, lambda c: c.grants_to(grantee)).get()

    def between(self, owner: str, grantee: str) -> tuple[Grant, ...]:
        """Every grant that the owner ever gave the grantee, also those that ended."""
        return tuple(grant for grant in self.given_by(owner) if grant.grantee == grantee)

    def find(self, number: int) -> Grant:
        """The grant of that number as it stands. Raises Refusal where there is none."""
        return SharingGrantsContract.of(self._link().consortium).grant_at(number)

    def restricted(self, owner: str, types: Collection[str]) -> frozenset[str]:
        """Those of `types` that the law keeps the owner from passing on: see `restrictions`."""
        marked = frozenset(name for name in types if restriction(self._node.types, name) is not None)
        if not marked:
            return marked
        with self._node.database.reading() as connection:
            return marked - with_basis(connection, self._node.reader, owner, marked)

    # -- giving and revoking --

    def give(self, owner: str, terms: Terms, *, by: str, legal_basis: str | None = None) -> Grant:
        """Gives a grant in the name of `owner`, a department of this node; in force at its `valid_from`.

        `by` is the id of the account or key that asked, for the record of a `legal_basis`, which types that are
        restricted by law need; that record is durable before the grant is given.
        Raises Problem `bad-request` for terms that cannot be meant, `restricted-by-law`; Refusal and KeyRefused as the
        contract does.
        """
        check_terms(terms, self._node.types)
        self._name_basis(owner, terms, by, legal_basis)
        with self._acting:  # one account: its transactions have an order
            contract = SharingGrantsContract.of(self._link().consortium)
            number = contract.grant(self._node.agent.governor_key(owner), owner, terms)
        self._forget(owner, terms.grantee)
        return contract.grant_at(number)

    def revoke(self, owner: str, number: int) -> Grant:
        """Ends a grant of `owner` now, for ever. Raises Problem `forbidden` for another department's, Refusal."""
        found = self.find(number)
        if found.owner != owner:
            raise Problem("forbidden", f"grant {number} is {found.owner}'s: only its owner revokes it")
        with self._acting:
            contract = SharingGrantsContract.of(self._link().consortium)
            contract.revoke(self._node.agent.governor_key(owner), number)
        self._forget(owner, found.grantee)
        return contract.grant_at(number)

    def _name_basis(self, owner: str, terms: Terms, by: str, legal_basis: str | None) -> None:
        reasons = {name: restriction(self._node.types, name) for name in terms.record_types}
        marked = {name: reason for name, reason in reasons.items() if reason is not None}
        if not marked:
            return
        if legal_basis is None or not legal_basis.strip():
            name, reason = next(iter(marked.items()))
            raise Problem(
                "restricted-by-law",
                f"records of type {name} may not be passed on ({reason['en']}); if another law allows it, name that "
                "legal basis",
                basis=dict(reason),
            )
        now = datetime.fromtimestamp(self._node.clock(), UTC).isoformat(timespec="milliseconds")
        members = {"type": BASIS_TYPE, "v": 1, "occurred_at": now.replace("+00:00", "Z"), "account": by}
        members |= {"basis": legal_basis.strip(), "grantee": terms.grantee}
        drafts = [
            Submission(basis_key(name, str(uuid4())), {**members, "shared_type": name}, by_service=True)
            for name in marked
        ]
        for outcome in self._submit(owner, drafts):
            if not isinstance(outcome, Acknowledged):
                raise outcome.error

    # -- what the chain said --

    def _watched(
        self,
        kept: dict[str, Watched[tuple[Grant, ...]]],
        department: str,
        numbers: Callable[[SharingGrantsContract], tuple[int, ...]],
    ) -> Watched[tuple[Grant, ...]]:
        with self._lock:
            if department not in kept:
                kept[department] = Watched(lambda: self._link().client, self._addresses, lambda: self._read(numbers))
            return kept[department]

    def _addresses(self) -> list[str]:
        consortium = self._link().consortium
        return [consortium.address, SharingGrantsContract.of(consortium).address]

    def _read(self, numbers: Callable[[SharingGrantsContract], tuple[int, ...]]) -> tuple[Grant, ...]:
        contract = SharingGrantsContract.of(self._link().consortium)
        return tuple(self._grant(contract, number) for number in numbers(contract))

    def _grant(self, contract: SharingGrantsContract, number: int) -> Grant:
        known = self._ended.get((contract.address, number))
        if known is not None:
            return known  # a revoked grant never changes
        found = contract.grant_at(number)
        if found.revoked_at is not None:
            self._ended[contract.address, number] = found
        return found

    def _forget(self, owner: str, grantee: str) -> None:
        with self._lock:
            for watched in (self._given.get(owner), self._received.get(grantee)):
                if watched is not None:
                    watched.forget()


def check_terms(terms: Terms, types: RecordTypes) -> None:
    """Raises Problem `bad-request` for terms that nobody can mean: a name that is not known here, one that does not fit
    on the chain or stands there twice, a unit that none of the types has, an empty list, no records a day, no time."""
    known = {each.name: each for each in types}
    units = {
        unit
        for name in terms.record_types
        if name in known
        for each in types
        if each.name == name
        for unit in each.units
    }
    rules: list[tuple[str, tuple[str, ...], Callable[[str], bool], str]] = [
        ("record_types", terms.record_types, known.__contains__, "is no record type of this node"),
        ("units", terms.units, units.__contains__, "is a unit of none of these record types"),
        ("purposes", terms.purposes, purposes().__contains__, "is no purpose of the list"),
        ("case_kinds", terms.case_kinds, lambda name: bool(_KIND.fullmatch(name)), "must be a-z, 0-9 and -"),
    ]
    for field, names, is_good, words in rules:
        if not names or len(set(names)) < len(names):
            raise _bad(field, "must name at least one, and each once")
        for name in names:
            try:
                term(name)
            except Refusal as error:
                raise _bad(field, str(error)) from error
            if not is_good(name):
                raise _bad(field, f"{name!r} {words}")
    if not 0 < terms.per_day <= MOST_PER_DAY:
        raise _bad("per_day", f"must be 1 to {MOST_PER_DAY:,}")
    if not terms.valid_from < terms.valid_to < 2**64:
        raise _bad("valid_to", "must be after valid_from: every grant ends")


def _bad(field: str, words: str) -> Problem:
    return Problem("bad-request", f"{field}: {words}", field=field)


def grant_json(grant: Grant) -> dict[str, Any]:
    """A grant's facts for JSON: times in RFC 3339, UTC."""
    times = ("valid_from", "valid_to", "granted_at", "revoked_at")
    names = ("id", "owner", "grantee", "record_types", "units", "purposes", "case_kinds", "per_day")
    return {name: getattr(grant, name) for name in names} | {name: _instant(getattr(grant, name)) for name in times}


def _instant(seconds: int | None) -> str | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return "9999-12-31T23:59:59Z"  # what other programs wrote there has no end that a calendar knows
