"""A row as quarantine keeps it: JSON that gives back the same values, so that the row can be tried again.

A value that JSON does not have stands as {"$type": …, "value": …}; what could not be read as a row as {"$unread": …}. A
row of more than `MAX_RAW_BYTES` is cut and says so: it can be looked at, and comes back only from its source.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from adapters.source import Serial1904, Unusable

MAX_RAW_BYTES = 64 << 10

_READERS = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "decimal": Decimal,
    "serial-1904": Serial1904,
}


def raw_row(values: Mapping[str, Any]) -> str:
    """A row's content as ASCII JSON of at most 64 KiB; a larger one has its longest values cut."""
    text = json.dumps({str(name): _plain(value) for name, value in values.items()})
    if len(text) <= MAX_RAW_BYTES:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    cut = {str(name)[:100]: str(value)[:100] for name, value in list(values.items())[:100]}
    return json.dumps({"$truncated": {"sha256": digest, "row": cut}})


def raw_line(excerpt: str) -> str:
    """The beginning of what could not be read as a row."""
    return json.dumps({"$unread": excerpt})


def read_raw(raw: str) -> dict[str, Any] | None:
    """The values of a row that `raw_row` kept whole; None for anything else."""
    values = json.loads(raw)
    if values.keys() in ({"$unread"}, {"$truncated"}):
        return None
    return {name: _value(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, Unusable):
        return {"$type": "unusable", "value": [value.reason, value.detail]}
    if isinstance(value, Decimal):
        return {"$type": "serial-1904" if isinstance(value, Serial1904) else "decimal", "value": str(value)}
    if isinstance(value, datetime | date | time):  # a datetime is a date too, and its class is its own
        return {"$type": type(value).__name__, "value": value.isoformat()}
    # no rule takes such a value, whatever it says: see conversions.to_text
    return {"$type": "unusable", "value": ["nested", f"holds a {type(value).__name__}, not a single value"]}


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return [_value(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"$type", "value"}:
        if value["$type"] == "unusable":
            return Unusable(*value["value"])
        if value["$type"] in _READERS:
            return _READERS[value["$type"]](value["value"])
    return {name: _value(item) for name, item in value.items()}
