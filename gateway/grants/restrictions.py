"""What the law keeps a department from passing on, and where the department said on which other law it does so.

A record type is restricted when its file says so, in any version,

    "x-restricted": {"basis": {"zh": "…", "en": "…"}}

or when a part of its name is `public-security`: 治安管理处罚法 138 forbids the police to pass on personal information
from public-security cases. It can be granted only with a legal basis that is named for this type; that statement is a
record `sharing.basis` in the owner's own log, and without one nothing of the type is extracted either, whatever a grant
says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, select

from ledger.formats.sdjwt import parse_statement
from ledger.record_types import RecordTypes
from ledger.records import RecordReader
from ledger.store.models import entries
from ledger.store.reading import read_logs
from ledger.submission import service_key

POLICE_PARTS = frozenset({"public-security", "publicsecurity"})
BASIS_TYPE = "sharing.basis"
POLICE = {
    "zh": "《治安管理处罚法》第一百三十八条：办理治安案件中获知的个人信息不得向他人提供",
    "en": "Public Security Administration Punishments Law, article 138: the police may not pass on personal "
    "information from public-security cases",
}


def restriction(types: RecordTypes, name: str) -> Mapping[str, str] | None:
    """The legal reason, zh and en, why records of type `name` may not be passed on; None where there is none."""
    if not POLICE_PARTS.isdisjoint(name.split(".")):
        return POLICE
    marked: list[Any] = [each.schema.get("x-restricted") for each in types if each.name == name]
    return next((mark["basis"] for mark in marked if mark is not None), None)


def basis_key(record_type: str, unique: str) -> str:
    """The idempotency key of the record that names a legal basis for a type."""
    return f"{_prefix(record_type)}{unique}"


def with_basis(connection: Connection, reader: RecordReader, owner: str, types: Collection[str]) -> frozenset[str]:
    """Those of `types` for which the owner named a legal basis in its own log. Raises what `RecordReader.open` does."""
    log = next(iter(read_logs(connection, owner)), None)
    return frozenset(name for name in types if log is not None and _is_named(connection, reader, log.number, name))


def _is_named(connection: Connection, reader: RecordReader, log: int, name: str) -> bool:
    found = select(entries.c.statement).where(
        entries.c.log == log, entries.c.key.startswith(service_key(_prefix(name)), autoescape=True)
    )
    for statement in connection.scalars(found):
        payload = parse_statement(statement).payload
        if payload["type"] == BASIS_TYPE and reader.open(connection, payload["jti"]).record()["shared_type"] == name:
            return True
    return False


def _prefix(record_type: str) -> str:
    return f"sharing-basis/{record_type}/"
