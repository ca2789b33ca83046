"""The name of a row: stable, unambiguous and short enough to be an idempotency key."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from typing import Any

from adapters.conversions import Invalid, check_digits, to_text
from ledger.errors import RecordRefused
from ledger.submission import MAX_KEY_CHARS

_HASHED = "sha256:"


def row_key(columns: tuple[str, ...], values: Mapping[str, Any], blanks: frozenset[str]) -> str:
    """The key columns' texts, stripped, joined with `|` (and `|`, `\\` inside them escaped by `\\`).

    Raises RecordRefused, reason `blank-key`, where one of them is blank, or the value's own reason where it is no text.
    """
    if len(columns) == 1:
        return _part(columns[0], values, blanks)
    return "|".join([_part(name, values, blanks).replace("\\", "\\\\").replace("|", "\\|") for name in columns])


def idempotency_key(mapping: str, key: str) -> str:
    """`<mapping>/<key>`; a key that is long, not printable or looks hashed already becomes `sha256:<hex>`."""
    plain = f"{mapping}/{key}"
    if len(plain) <= MAX_KEY_CHARS and key.isprintable() and not key.startswith(_HASHED):
        return plain
    return f"{mapping}/{_HASHED}{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _part(column: str, values: Mapping[str, Any], blanks: frozenset[str]) -> str:
    value = values.get(column)
    try:
        text = "" if value is None else check_digits(to_text(value).strip())
    except Invalid as error:
        raise RecordRefused(error.reason, f'key column "{column}" {error}') from None
    if not text.isascii() and any(unicodedata.category(c) == "Cf" for c in text):
        # it would look like the key of another row, and be a second record of it
        detail = (
            f'key column "{column}" holds an invisible character, such as a byte order mark; remove it at the source'
        )
        raise RecordRefused("control-character", detail)
    if text in blanks:
        raise RecordRefused("blank-key", f'key column "{column}" is blank; the row cannot be told from others')
    return text
