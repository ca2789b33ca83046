"""Links to served decisions: made, found by their token, revoked.

A token is 16 random bytes, base64url without padding (22 characters), told once: in the QR code. The table keeps its
SHA-256. It stands in the URL's fragment, which browsers send to nobody, and goes to the node in a request's body.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import Connection, insert, select, update

from gateway.citizens.models import citizen_links
from gateway.problems import Problem
from ledger.errors import CouldNotRun
from ledger.formats.casefile import DECISION
from ledger.formats.encoding import b64url_encode
from ledger.formats.sdjwt import parse_statement
from ledger.store.reading import find_entry, read_logs

PAGE = "/c"
TOKEN = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]")

_HOST = re.compile(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?")

_NOWHERE = "the code leads to no decision here: scan it again, or ask the department that served it"

_NO_LINK = "the department has no such link"


@dataclass(frozen=True, slots=True)
class Link:
    """A link. `link` (16 hex digits) names it and opens nothing; `record_id` None: it leads nowhere yet; times in
    seconds since 1970."""

    link: str
    department: str
    record_id: str | None
    made_at: int
    made_by: str
    revoked_at: int | None


_LINK = [citizen_links.c[name] for name in Link.__slots__]


def make_link(connection: Connection, department: str, made_by: str, now: float) -> tuple[Link, str]:
    """A new link that leads nowhere yet, and its token, which is not to be had again."""
    token = b64url_encode(secrets.token_bytes(16))
    digest = _digest(token)
    link = Link(digest.hex()[:16], department, None, int(now), made_by[:100], None)
    values = {name: getattr(link, name) for name in Link.__slots__}
    connection.execute(insert(citizen_links).values(token=digest, **values))
    return link, token


def bind_link(connection: Connection, department: str, link: str, record_id: str) -> Link:
    """Leads a link to a decision of the department, once and for good; the same again does nothing.

    Raises RecordRefused for a record that is not here, Problem: `not-found` for another department's record or link,
    `refused` for a record that is no decision, `conflict` for a link that leads to another.
    """
    row = find_entry(connection, record_id)
    if row.log not in [log.number for log in read_logs(connection, department)]:
        raise Problem("not-found", "the department has no such record")
    if parse_statement(row.statement).payload["type"] != DECISION:
        raise Problem("refused", f"only a decision is served: name a record of type {DECISION}")
    c = citizen_links.c
    here = (c.link == link) & (c.department == department)
    connection.execute(update(citizen_links).where(here, c.record_id.is_(None)).values(record_id=row.record_id))
    found = connection.execute(select(*_LINK).where(here)).one_or_none()
    if found is None:
        raise Problem("not-found", _NO_LINK)
    if found.record_id != row.record_id:
        raise Problem("conflict", "the link leads to another decision for good: make a new one")
    return Link(*found)


def find_link(connection: Connection, token: str) -> Link:
    """The link of a token. Raises Problem: `not-found` for a token that none has or that leads nowhere yet,
    `link-revoked`."""
    row = connection.execute(select(*_LINK).where(citizen_links.c.token == _digest(token))).one_or_none()
    if row is None:
        raise Problem("not-found", _NOWHERE)
    link = Link(*row)
    if link.revoked_at is not None:
        raise Problem("link-revoked", "the department has withdrawn this code: ask it for a new one")
    if link.record_id is None:
        raise Problem("not-found", _NOWHERE)
    return link


def links_of(connection: Connection, department: str, record_id: str) -> list[Link]:
    """The links to a record of the department, oldest first."""
    c = citizen_links.c
    query = select(*_LINK).where(c.department == department, c.record_id == record_id)
    return [Link(*row) for row in connection.execute(query.order_by(c.made_at, c.link))]


def revoke_link(connection: Connection, department: str, link: str, now: float) -> None:
    """Ends a link for good; again does nothing. Raises Problem `not-found` where the department has none of that id."""
    c = citizen_links.c
    here = (c.link == link) & (c.department == department)
    if connection.scalar(select(c.link).where(here)) is None:
        raise Problem("not-found", _NO_LINK)
    connection.execute(update(citizen_links).where(here, c.revoked_at.is_(None)).values(revoked_at=int(now)))


def link_url(address: str, token: str) -> str:
    """What a QR code says. Raises CouldNotRun, see `origin_of`."""
    return f"{origin_of(address)}{PAGE}#{token}"


def origin_of(address: str) -> str:
    """Scheme and host of `address`, where people reach the node, like https://ledger.example.org.

    Raises CouldNotRun for one that is not https: browsers compute digests only there, and on this machine.
    """
    try:
        parts = urlsplit(address)
    except ValueError as error:  # brackets around what is no address, characters that look like others
        raise CouldNotRun("the address is no URL: give one like https://ledger.example.org") from error
    if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise CouldNotRun("people must reach the node by https: give an address like https://ledger.example.org")
    # a backslash or a turn of direction in a host shows another one than browsers go to
    if not _HOST.fullmatch(parts.netloc) or parts.path.strip("/") or parts.query or parts.fragment:
        raise CouldNotRun("the address is scheme and host alone, like https://ledger.example.org")
    return f"{parts.scheme}://{parts.netloc}"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("ascii", "replace")).digest()
