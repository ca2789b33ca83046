"""A text of which nobody would see anything says nothing: records and evidence lists that have one are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ledger.casefile.words import parse_list
from ledger.errors import Malformed, RecordRefused
from ledger.record_types import BUILT_IN, RecordTypes
from tests.formats.test_texts import BLANK

NOW = 2_000_000_000
TYPE = RecordTypes.load(BUILT_IN).get("note.added", 1)
NOTE = {"type": "note.added", "v": 1, "department": "fire", "text": "x", "occurred_at": "2026-01-01T00:00:00Z"}
SEEN = {
    "a character of a name that came late": "\U000323b0",
    "a character of a department's own": "\ue000",
    "blanks before it": "\u200b \u3164字",
    "blanks behind it": "字\u200b",
    "an Arabic sign of numbers": "\u06001",
}


@pytest.mark.parametrize("member", ["text", "case"])
@pytest.mark.parametrize("text", BLANK.values(), ids=BLANK)
def test_a_record_with_a_text_that_nobody_sees_is_refused(member: str, text: str) -> None:
    record: dict[str, Any] = NOTE | {member: text}
    with pytest.raises(RecordRefused, match=rf"\$\.{member} must "):
        TYPE.validate(record, NOW)


@pytest.mark.parametrize("member", ["text", "case"])
@pytest.mark.parametrize("text", SEEN.values(), ids=SEEN)
def test_one_that_is_seen_is_taken(member: str, text: str) -> None:
    TYPE.validate(NOTE | {member: text}, NOW)


@pytest.mark.parametrize("text", [text for text in BLANK.values() if text], ids=[name for name in BLANK if BLANK[name]])
def test_an_evidence_list_with_one_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="name of row 1"):
        parse_list(json.dumps([{"record_id": "1", "name": text}]).encode())
