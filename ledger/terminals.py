"""Terminals of the departments: enrolling them, knowing them, revoking them.

    request file + code ─► register the statement key on chain ─► row in `terminals` ─► enrolment file

The row is what intake decides by; the chain's registry is what everybody else decides by. Every step first looks
whether it is done, so a call that was cut off is simply made again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from sqlalchemy import Connection, insert, select, update

from ledger.enrolment import Enrolment, Request
from ledger.errors import KeyRefused, Refusal
from ledger.formats.encoding import b64url_decode
from ledger.formats.jwk import from_public_key, kid_of
from ledger.formats.trust import Key
from ledger.matters import read_held
from ledger.node import Node
from ledger.store.models import logs, terminals
from ledger.store.reading import read_logs

SKEW_S = 300
"""How far ahead of the node's a terminal's clock may be."""

BACKDATE_S = 270
"""How far a terminal's clock may be behind when it begins: the registry takes keys dated back by five minutes."""

DAY_S = 86_400
OFFLINE_DAYS = 30


@dataclass(frozen=True, slots=True)
class Terminal:
    """A terminal as the node knows it. `kid` and `public` are of its statement key, `request_kid` and `request` of the
    key that signs its HTTP requests, `recipient` is what it seals to (raw X25519); times in seconds since 1970.

    `offline_s`: a statement older than that is not taken.
    """

    kid: str
    department: str
    name: str
    public: bytes
    request_kid: str
    request: bytes
    recipient: bytes
    offline_s: int
    valid_from: int
    revoked_at: int | None

    @property
    def key(self) -> Ed25519PublicKey:
        """The statement key."""
        return Ed25519PublicKey.from_public_bytes(self.public)

    @property
    def recipient_kid(self) -> str:
        """The kid of the recipient key."""
        return kid_of(X25519PublicKey.from_public_bytes(self.recipient))

    @property
    def valid_to(self) -> int | None:
        """When its keys end. Later than the revocation by the clocks' tolerance: what was taken before stays valid."""
        return None if self.revoked_at is None else self.revoked_at + SKEW_S + 1


def read_terminals(connection: Connection, department: str | None = None) -> list[Terminal]:
    """The terminals of all departments or of one, revoked ones too, by name."""
    query = select(terminals, logs.c.department).join(logs, logs.c.log == terminals.c.log).order_by(terminals.c.name)
    if department is not None:
        query = query.where(logs.c.department == department)
    return [Terminal(**{name: getattr(row, name) for name in Terminal.__slots__}) for row in connection.execute(query)]


def find_request_key(connection: Connection, request_kid: str) -> Terminal | None:
    """The terminal whose HTTP requests name this key, or None; whether it was revoked is for the caller to look at."""
    found = connection.scalar(select(terminals.c.log).where(terminals.c.request_kid == request_kid))
    if found is None:
        return None
    return next(terminal for terminal in read_terminals(connection) if terminal.request_kid == request_kid)


def statement_keys(connection: Connection, department: str) -> dict[str, Key]:
    """The terminals' statement keys by kid, with intervals as this node has them, for when no chain can be asked."""
    return {
        t.kid: Key(t.kid, "statement", dict(from_public_key(t.key)), t.valid_from, t.valid_to)
        for t in read_terminals(connection, department)
    }


def enrol(
    node: Node, request: Request, code: str, recipient: X25519PublicKey, node_url: str, offline_days: int
) -> bytes:
    """Enrols the terminal that made `request`; returns its enrolment file. Safe to call again.

    `recipient`: the department's own key, whose private half no node has. Raises Refusal for another department's
    terminal or a name that is taken, KeyRefused for a revoked one, ChainUnreachable.
    """
    department = request.department
    kid = kid_of(Ed25519PublicKey.from_public_bytes(request.statement))
    with node.database.reading() as connection:
        found = read_logs(connection, department)
        known = read_terminals(connection, department)
        held = read_held(connection, found[0].number) if found else None
    if not found or held is None:
        raise Refusal(f"there is no log of department {department!r} on this node: run `yunxi department add`")
    _check_new(request, kid, recipient, known)
    # 1. Die here: nothing happened.
    valid_from = _register(node, department, kid, request.statement)
    # 2. Die here: the registry has a key that this node takes nothing from; the same call goes on.
    row = {
        "kid": kid,
        "log": found[0].number,
        "name": request.name,
        "public": request.statement,
        "request_kid": kid_of(Ed25519PublicKey.from_public_bytes(request.request)),
        "request": request.request,
        "recipient": recipient.public_bytes_raw(),
        "offline_s": offline_days * DAY_S,
        "valid_from": valid_from,
    }
    if kid not in {terminal.kid for terminal in known}:
        with node.database.writing() as connection:
            connection.execute(insert(terminals).values(row))
    # 3. Die here: enrolled, and the terminal does not know; the same call writes the file again.
    enrolment = Enrolment(
        node_url=node_url,
        department=department,
        name=request.name,
        index_key=node.agent.index_key(),
        recipient=recipient.public_bytes_raw(),
        types=_own_types(node),
        matters=held.to_json(),
        valid_from=valid_from,
        offline_s=offline_days * DAY_S,
    )
    return enrolment.seal(request, code)


def revoke(node: Node, department: str, name: str) -> Terminal:
    """Takes nothing more from a terminal, at once, and closes its statement key on chain. Safe to call again.

    What it has not handed in by now is never taken: whoever holds a stolen terminal can date statements as they like.
    Raises Refusal for an unknown name, ChainUnreachable: then it is revoked here, and the call is to be made again.
    """
    with node.database.writing() as connection:
        found = [terminal for terminal in read_terminals(connection, department) if terminal.name == name]
        if not found:
            raise Refusal(f"department {department} has no terminal {name[:64]!r}: `yunxi terminal list` shows them")
        here = (terminals.c.kid == found[-1].kid) & terminals.c.revoked_at.is_(None)
        connection.execute(update(terminals).where(here).values(revoked_at=int(node.clock())))
    # Die here: revoked on this node, open on chain; the same call closes it.
    with node.database.reading() as connection:
        terminal = next(t for t in read_terminals(connection, department) if t.kid == found[-1].kid)
    consortium = node.connect().consortium
    registered = consortium.key(b64url_decode(terminal.kid, "kid"))
    if registered.valid_to is None and terminal.valid_to is not None:
        account = node.agent.operator_key() if consortium.setup_open() else node.agent.governor_key(department)
        end = max(terminal.valid_to, int(node.clock()) + SKEW_S)  # the registry closes no key in the past
        consortium.close_key(account, department, registered.kid, end)
    return terminal


def _check_new(request: Request, kid: str, recipient: X25519PublicKey, known: list[Terminal]) -> None:
    for terminal in known:
        if terminal.kid == kid and terminal.revoked_at is not None:
            raise KeyRefused(f"terminal {terminal.name} was revoked: make new keys with `yunxi terminal create`")
        if terminal.kid == kid and terminal.recipient != recipient.public_bytes_raw():
            raise KeyRefused(f"terminal {terminal.name} seals to another recipient: revoke it and make a new one")
        if terminal.kid != kid and terminal.name == request.name:
            raise Refusal(f"department {request.department} has had a terminal {request.name}: choose another name")


def _register(node: Node, department: str, kid: str, public: bytes) -> int:
    """Since when the key is in force, by the chain's registry; it is registered now if need be."""
    consortium = node.connect().consortium
    raw = b64url_decode(kid, "kid")
    found = next((key for key in consortium.keys(department) if key.kid == raw), None)
    if found is not None:
        return found.valid_from
    account = node.agent.operator_key() if consortium.setup_open() else node.agent.governor_key(department)
    since = int(node.clock()) - BACKDATE_S
    consortium.register_key(account, department, raw, "statement", public, since)
    return since


def _own_types(node: Node) -> dict[str, object]:
    directory = node.settings.directory / "types"
    return {path.name: json.loads(path.read_bytes()) for path in sorted(directory.glob("*.json"))}
