"""Local accounts and sessions.

    sign in:  password ─► one-time code ─► session token (shown once, stored as its SHA-256)
    request:  token ─► session ─► account ─► Caller

Five failures in a row lock an account for a quarter of an hour; five wrong codes behind the right password for twice as
long each time, a day at most, because whoever has the password needs nothing but time. A code counts once. Sessions end
after half an hour without a request, after twelve hours, and whenever the password or the roles change.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.caller import OFFICER, PERSON_ROLES, Caller
from gateway.people import passwords
from gateway.people.errors import AccountRefused, SignInFailed
from gateway.people.models import accounts, sessions
from ledger.node import Node
from ledger.store.database import Database

MAX_FAILURES = 5
LOCKED_SECONDS = 15 * 60
LOCKED_LONGEST = 24 * 60 * 60
IDLE_SECONDS = 30 * 60
SESSION_SECONDS = 12 * 60 * 60
_TOUCH_SECONDS = 60  # how stale `used_at` may be: one write a minute, not one a request
_TOKEN_CHARS = 43
_UNLOCKED = {"failures": 0, "wrong_codes": 0, "locked_until": 0}


@dataclass(frozen=True, slots=True)
class Account:
    """A person's account, without what it is protected by."""

    account: str
    department: str
    login: str
    roles: frozenset[str]
    second_factor: bool
    local: bool
    locked_until: int
    disabled: bool


@dataclass(frozen=True, slots=True)
class Created:
    """A new account, and the secret of its one-time codes as an authenticator reads it; None where it has none."""

    account: Account
    provisioning_uri: str | None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session that has begun. `token` is a bearer secret, shown once."""

    token: str
    caller: Caller


class People:
    """The accounts of one node. Any number of processes may share the database."""

    def __init__(
        self, database: Database, node_secret: bytes, hosted: Iterable[str], clock: Callable[[], float]
    ) -> None:
        """`node_secret`: 32 bytes that stay on this node; `hosted`: the departments that may have accounts here."""
        self._database = database
        self._secret = node_secret
        self._hosted = frozenset(hosted)
        self._clock = clock

    # -- accounts --

    def create(
        self, department: str, login: str, roles: Iterable[str], password: str | None, *, totp: bool = True
    ) -> Created:
        """Makes an account; `password` None for one that signs in at the identity provider only.

        Only officers may do without a second factor. Raises AccountRefused for a login that is taken or unfit, an
        unknown department or role, or a weak password.
        """
        wanted = self._check(department, login, roles)
        needed = bool(wanted - {OFFICER})
        if password is not None and needed and not totp:
            raise AccountRefused("only an account whose one role is officer may do without one-time codes")
        account = secrets.token_urlsafe(16)
        secret = passwords.draw_totp_secret() if totp and password is not None else None
        row = {
            "account": account,
            "department": department,
            "login": login,
            "roles": " ".join(sorted(wanted)),
            "password": None if password is None else passwords.hash_password(password, login),
            "totp": None if secret is None else passwords.seal_totp(secret, account, self._secret),
            "totp_step": 0,
            "failures": 0,
            "wrong_codes": 0,
            "locked_until": 0,
            "disabled": False,
            "created_at": int(self._clock()),
        }
        try:
            with self._database.writing() as connection:
                connection.execute(insert(accounts).values(row))
        except IntegrityError as error:
            raise AccountRefused(f"login {login!r} is taken: choose another") from error
        uri = None if secret is None else passwords.provisioning_uri(secret, login, "Yunxi")
        return Created(self.find(login), uri)

    def find(self, login: str) -> Account:
        """The account of a login. Raises AccountRefused when there is none."""
        with self._database.reading() as connection:
            row = connection.execute(select(accounts).where(accounts.c.login == login)).one_or_none()
        if row is None:
            raise AccountRefused(f"there is no account {login!r}: `yunxi people list` shows them")
        return _account(row)

    def list(self, department: str | None = None) -> list[Account]:
        """The accounts of a department, or all, by login."""
        query = select(accounts).order_by(accounts.c.login)
        if department is not None:
            query = query.where(accounts.c.department == department)
        with self._database.reading() as connection:
            return [_account(row) for row in connection.execute(query)]

    def set_password(self, login: str, password: str) -> None:
        """Replaces the password, unlocks, and ends every session of the account."""
        self._change(login, password=passwords.hash_password(password, login), **_UNLOCKED)

    def set_roles(self, login: str, roles: Iterable[str]) -> None:
        """Replaces the roles and ends every session of the account."""
        account = self.find(login)
        wanted = self._check(account.department, login, roles)
        if wanted - {OFFICER} and account.local and not account.second_factor:
            raise AccountRefused(
                f"{login!r} has no one-time codes, which these roles need: run `yunxi people reset` first"
            )
        self._change(login, roles=" ".join(sorted(wanted)))

    def reset_second_factor(self, login: str) -> str:
        """Draws a new secret for one-time codes and ends every session; returns the provisioning URI."""
        account = self.find(login)
        secret = passwords.draw_totp_secret()
        self._change(login, totp=passwords.seal_totp(secret, account.account, self._secret), totp_step=0, wrong_codes=0)
        return passwords.provisioning_uri(secret, login, "Yunxi")

    def disable(self, login: str, *, disabled: bool = True) -> None:
        """Closes an account at once, or opens it again."""
        self._change(login, disabled=disabled, **_UNLOCKED)

    # -- signing in --

    def sign_in(self, login: str, password: str, code: str | None) -> SignedIn:
        """Begins a session. Raises SignInFailed, whatever the reason; the failure is counted before it is told."""
        now = self._clock()
        with self._database.reading() as connection:
            row = connection.execute(select(accounts).where(accounts.c.login == login)).one_or_none()
        fits = passwords.password_fits(None if row is None else row.password, password)  # slow: outside the transaction
        if row is None or row.disabled or row.locked_until > now:
            raise SignInFailed
        step = self._step(row, code, now) if fits else None
        with self._database.writing() as connection:
            if step is not None and _take_step(connection, row, step, int(now)):
                return self._begin(connection, row)
            _count_failure(connection, row.account, int(now), knows_password=fits)
        raise SignInFailed

    def begin(self, login: str, *, vouched: bool = False) -> SignedIn:
        """Begins a session for someone who has proven who they are. `vouched`: to the identity provider, which opens no
        account that has a password and a second factor here, whatever names it gives away. Raises SignInFailed when the
        login has no account here or a closed one."""
        with self._database.writing() as connection:
            row = connection.execute(select(accounts).where(accounts.c.login == login)).one_or_none()
            if row is None or row.disabled or (vouched and row.password is not None):
                raise SignInFailed
            return self._begin(connection, row)

    def resolve(self, token: str) -> Caller | None:
        """Who holds this session token, None when nobody does (any more)."""
        if len(token) != _TOKEN_CHARS:
            return None
        now, digest = int(self._clock()), _digest(token)
        joined = sessions.join(accounts, sessions.c.account == accounts.c.account)
        query = select(accounts, sessions.c.created_at.label("began_at"), sessions.c.used_at).select_from(joined)
        with self._database.reading() as connection:
            row = connection.execute(query.where(sessions.c.token == digest)).one_or_none()
        if row is None or row.disabled:
            return None
        if now - row.used_at > IDLE_SECONDS or now - row.began_at > SESSION_SECONDS:
            self.sign_out(token)
            return None
        if now - row.used_at > _TOUCH_SECONDS:
            with self._database.writing() as connection:
                connection.execute(update(sessions).where(sessions.c.token == digest).values(used_at=now))
        return _caller(row)

    def is_current(self, token: str, caller: Caller) -> bool:
        """Whether `caller` would still be told the same by this session. Does not count as its use."""
        joined = sessions.join(accounts, sessions.c.account == accounts.c.account)
        query = select(accounts).select_from(joined).where(sessions.c.token == _digest(token))
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return row is not None and not row.disabled and _caller(row) == caller

    def sign_out(self, token: str) -> None:
        """Ends a session; nothing happens when there is none."""
        with self._database.writing() as connection:
            connection.execute(delete(sessions).where(sessions.c.token == _digest(token)))

    # -- inside --

    def _check(self, department: str, login: str, roles: Iterable[str]) -> frozenset[str]:
        wanted = frozenset(roles)
        if department not in self._hosted:
            raise AccountRefused(
                f"department {department!r} has no keys on this node: make its accounts on its own node"
            )
        if not (0 < len(login) <= 254 and login.isprintable() and login == login.strip()):
            raise AccountRefused("a login is 1 to 254 printable characters without spaces around it")
        if not wanted or wanted - PERSON_ROLES:
            raise AccountRefused(f"an account needs roles, of these: {', '.join(sorted(PERSON_ROLES))}")
        return wanted

    def _change(self, login: str, **values: Any) -> None:
        account = self.find(login)
        with self._database.writing() as connection:
            connection.execute(update(accounts).where(accounts.c.account == account.account).values(**values))
            connection.execute(delete(sessions).where(sessions.c.account == account.account))

    def _step(self, row: Row[Any], code: str | None, now: float) -> int | None:
        """The time step of the code; 0 for an account without a second factor; None when the code does not fit."""
        if row.totp is None:
            return 0
        if code is None:
            return None
        return passwords.matching_step(passwords.open_totp(row.totp, row.account, self._secret), code, now)

    def _begin(self, connection: Connection, row: Row[Any]) -> SignedIn:
        token, now = secrets.token_urlsafe(32), int(self._clock())
        connection.execute(delete(sessions).where(sessions.c.created_at < now - SESSION_SECONDS))
        values = {"token": _digest(token), "account": row.account, "created_at": now, "used_at": now}
        connection.execute(insert(sessions).values(values))
        return SignedIn(token, _caller(row))


def people_of(node: Node) -> People:
    """The accounts of an open node whose database is prepared (`gateway.database.prepare`)."""
    return People(node.database, node.agent.operator_key(), node.agent.departments(), node.clock)


def _take_step(connection: Connection, row: Row[Any], step: int, now: int) -> bool:
    """Marks a one-time code as used and clears the failures; False when the code, or the account, is no longer good."""
    c = accounts.c
    same = [c.account == row.account, c.password == row.password, c.totp.is_not_distinct_from(row.totp)]
    here = [*same, c.locked_until <= now, c.disabled.is_(False)]
    if row.totp is not None:
        here.append(c.totp_step < step)
    taken = connection.execute(update(accounts).where(*here).values(totp_step=step, failures=0, wrong_codes=0))
    return taken.rowcount == 1


def _count_failure(connection: Connection, account: str, now: int, *, knows_password: bool) -> None:
    c = accounts.c
    here = update(accounts).where(c.account == account)
    counted = {"failures": c.failures + 1, "wrong_codes": c.wrong_codes + int(knows_password)}
    connection.execute(here.values(counted))
    connection.execute(here.where(c.failures >= MAX_FAILURES).values(locked_until=now + LOCKED_SECONDS, failures=0))
    wrong_codes = connection.scalars(select(c.wrong_codes).where(c.account == account)).one()
    if knows_password and wrong_codes % MAX_FAILURES == 0:
        seconds = min(LOCKED_LONGEST, LOCKED_SECONDS << min(wrong_codes // MAX_FAILURES - 1, 10))
        connection.execute(here.values(locked_until=now + seconds, failures=0))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _caller(row: Row[Any]) -> Caller:
    return Caller("person", row.department, frozenset(row.roles.split(" ")), row.account)


def _account(row: Row[Any]) -> Account:
    return Account(
        account=row.account,
        department=row.department,
        login=row.login,
        roles=frozenset(row.roles.split(" ")),
        second_factor=row.totp is not None,
        local=row.password is not None,
        locked_until=row.locked_until,
        disabled=row.disabled,
    )
