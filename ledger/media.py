"""A derivative and its original: whether a derivation record, the original's record and their files fit together. Pure.

1. The derivation names the record, and that record has the attachment with the digest that the derivation names.
2. The derivation has one attachment, the derivative.
3. It says what was done, with what, by whom and why (its type demands that).

What a picture shows is not looked at here: see `adapters.media_check`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger.errors import NotProven, RecordRefused

DERIVED = "media.derived"


@dataclass(frozen=True, slots=True)
class Link:
    """What a derivation record says, after its original's record was found to fit. Digests are SHA-256 in hex."""

    record: str
    original_record: str
    original_attachment: int
    original_sha256: str
    derivative_sha256: str
    operations: tuple[Mapping[str, Any], ...]


def original_of(derivation: Mapping[str, Any]) -> tuple[str, int]:
    """Record id and attachment number of the original. Raises RecordRefused (`unknown-type`) for another type of
    record, NotProven where the unit is withheld."""
    if derivation.get("type") != DERIVED:
        raise RecordRefused("unknown-type", f"record {derivation.get('id')} is no {DERIVED} record: name one that is")
    if "original" not in derivation or not derivation.get("attachments"):
        raise NotProven(f"record {derivation['id']} is shown without its units original and attachment-1")
    return derivation["original"]["record"], derivation["original"]["attachment"]


def check_link(derivation: Mapping[str, Any], original: Mapping[str, Any]) -> Link:
    """The link between two records, both opened and held against their statements by the caller. Raises NotProven."""
    record, number = original_of(derivation)
    if original.get("id") != record:
        raise NotProven(f"the derivative was made from record {record}, not from record {original.get('id')}")
    described = original.get("attachments", [])
    if not 1 <= number <= len(described):
        raise NotProven(f"record {record} has no attachment {number}, from which the derivative is said to be made")
    digest = derivation["original"]["sha256"]
    if described[number - 1]["sha256"] != digest:
        raise NotProven(f"attachment {number} of record {record} is not the file that the derivative was made from")
    return Link(
        derivation["id"],
        record,
        number,
        digest,
        derivation["attachments"][0]["sha256"],
        tuple(derivation.get("operations", ())),
    )
