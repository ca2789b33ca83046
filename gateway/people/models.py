"""Accounts, sessions and sign-ins under way.

table     trusted?                                    may it lose data?                      grows with
accounts  yes: who holds it decides who may read      no; an administrator would start anew  people
sessions  yes: a row is a signed-in person            yes: everybody signs in again          people signed in
sign_ins  yes, for ten minutes                        yes: the sign-in is begun again        sign-ins under way

None of them is a projection: `yunxi rebuild` leaves them alone.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, String, Table, Text

from gateway.database import metadata

accounts = Table(
    "accounts",
    metadata,
    Column("account", String(22), primary_key=True),
    Column("department", String(31), nullable=False),
    Column("login", String(254), nullable=False, unique=True),
    Column("roles", String(200), nullable=False),
    Column("password", String(200), nullable=True),
    Column("totp", LargeBinary, nullable=True),
    Column("totp_step", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("wrong_codes", Integer, nullable=False, server_default="0"),  # behind the right password
    Column("locked_until", BigInteger, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token", LargeBinary(32), primary_key=True),
    Column("account", String(22), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("used_at", BigInteger, nullable=False),
    Index("sessions_account", "account"),
)

sign_ins = Table(
    "sign_ins",
    metadata,
    Column("state", LargeBinary(32), primary_key=True),
    Column("nonce", String(43), nullable=False),
    Column("verifier", String(64), nullable=False),
    Column("began_at", BigInteger, nullable=False),
    Column("back_to", Text, nullable=False),
)
