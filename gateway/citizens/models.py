"""Links to served decisions, as they are printed in QR codes.

table          trusted?                              may it lose data?                       grows with
citizen_links  yes: a row lets whoever holds its     yes, but printed codes then lead        decisions served
               token see what the page shows         nowhere

No token stands here, only its digest. It is no projection: `yunxi rebuild` leaves it alone.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, String, Table

from gateway.database import metadata

citizen_links = Table(
    "citizen_links",
    metadata,
    Column("token", LargeBinary(32), primary_key=True),  # SHA-256 of the token
    Column("link", String(16), nullable=False, unique=True),  # by which it is revoked: what the digest begins with
    Column("department", String(31), nullable=False),
    Column("record_id", String(36), nullable=True),  # null: the code was drawn before its decision was sealed
    Column("made_at", BigInteger, nullable=False),  # seconds since 1970
    Column("made_by", String(100), nullable=False),
    Column("revoked_at", BigInteger, nullable=True),
    Index("citizen_links_record", "record_id"),
)
