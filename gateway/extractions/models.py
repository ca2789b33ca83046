"""Standing extractions at the owner, what was disclosed under them, and what the requester's side pulls.

table               trusted?                              may it lose data?                          grows with
extractions         yes: who may have further pages       yes: the requester asks again and gets     extractions
                                                          the same id; pages go on as the log says
extraction_pages    no: projection of disclosure.made     made again by `yunxi rebuild`              pages
extraction_cursors  no: likewise                          likewise                                   extractions × types
extraction_usage    no: likewise                          likewise                                   pages × grants
closed_references   yes: they end extractions             yes: whoever closed it tells again         closings
pulls               no: every page is verified            yes: made again from open references, and  cases × owners
                                                          pages go on as the log says
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table, Text

from gateway.database import metadata

extractions = Table(
    "extractions",
    metadata,
    Column("extraction", String(32), primary_key=True),
    Column("owner", String(31), nullable=False),
    Column("requester", String(31), nullable=False),
    Column("lead", String(31), nullable=False),
    Column("claim", String(10), nullable=False),  # case or inspection: what `number` is the number of
    Column("number", String(100), nullable=False),
    Column("reference", String(36), nullable=False),  # the id of the record that says what it is
    Column("purpose", String(64), nullable=False),
    Column("case_kind", String(64), nullable=False),
    Column("subjects", LargeBinary, nullable=False),  # blind indexes of 16 bytes, joined, sorted
    Column("types", Text, nullable=True),  # JSON list; null: whatever is granted
    Column("units", Text, nullable=True),  # JSON list; null: all that are granted
    Column("since", BigInteger, nullable=False),  # no records sealed before, seconds since 1970
    Column("state", String(10), nullable=False),  # standing, cancelled (by its requester), ended (by its owner)
    Column("opened_at", BigInteger, nullable=False),
    Index("extractions_requester", "owner", "requester", "state"),
)

extraction_pages = Table(
    "extraction_pages",
    metadata,
    Column(
        "log", Integer, primary_key=True, autoincrement=False
    ),  # whose record says so: the owner's, or it is ignored
    Column("extraction", String(32), primary_key=True),
    Column("page", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),  # of its disclosure.made
    Column("records", Integer, nullable=False),
    Column("last_position", BigInteger, nullable=False),  # of the last record in it
    Column("made_at", BigInteger, nullable=False),  # ms since 1970
    Column("sha256", String(64), nullable=False),
)

extraction_cursors = Table(
    "extraction_cursors",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("extraction", String(32), primary_key=True),
    Column("type", String(64), primary_key=True),
    Column("last_position", BigInteger, nullable=False),
)

extraction_usage = Table(
    "extraction_usage",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("grant_id", BigInteger, primary_key=True, autoincrement=False),
    Column("extraction", String(32), primary_key=True),
    Column("page", Integer, primary_key=True, autoincrement=False),
    Column("made_at", BigInteger, nullable=False),
    Column("records", Integer, nullable=False),
    Index("extraction_usage_time", "log", "grant_id", "made_at"),
)

closed_references = Table(
    "closed_references",
    metadata,
    Column("lead", String(31), primary_key=True),
    Column("claim", String(10), primary_key=True),  # case or inspection
    Column("number", String(100), primary_key=True),
    Column("record_id", String(36), nullable=False),  # of the closing record
    Column("closed_at", BigInteger, nullable=False),
)

pulls = Table(
    "pulls",
    metadata,
    Column("requester", String(31), primary_key=True),
    Column("owner", String(31), primary_key=True),
    Column("lead", String(31), primary_key=True),
    Column("claim", String(10), primary_key=True),
    Column("number", String(100), primary_key=True),
    Column("reference", String(36), nullable=False),
    Column("extraction", String(32), nullable=True),
    Column("state", String(12), nullable=False),  # waiting, pulling, following, refused, unreachable, damaged, ended
    Column("code", String(64), nullable=True),  # why refused, unreachable or damaged
    Column("detail", Text, nullable=True),
    Column("withheld", Text, nullable=False),  # JSON object: type to code
    Column("page", Integer, nullable=False),  # the last one received, 0 for none
    Column("records", BigInteger, nullable=False),  # received so far
    Column("since", BigInteger, nullable=False),  # in this state since, seconds since 1970
    Column("retry_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),  # failed ones in a row
    Column("last_success_at", BigInteger, nullable=True),
    Index("pulls_extraction", "extraction"),
)
