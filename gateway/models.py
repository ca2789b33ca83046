"""The core's tables.

table           trusted?                     may it lose data?                            grows with
request_nonces  yes, it is what replay is    for `expires` only: then it is swept         requests of the last minutes
                refused by
leases          yes                          yes: the workers then change their process   kinds of work
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, String, Table

from gateway.database import metadata

request_nonces = Table(
    "request_nonces",
    metadata,
    Column("kid", String(100), primary_key=True),
    Column("nonce", String(64), primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
    Index("request_nonces_expiry", "expires_at"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
