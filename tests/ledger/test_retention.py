"""Retention: periods as the calendar counts them, what is due, and what no rule may shorten."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.errors import RecordRefused
from ledger.forgetting import Forgetting
from ledger.holds import Holds
from ledger.retention import find_due, retention_rules
from ledger.submission import Submission
from tests.fixtures.parts import Parts
from tests.fixtures.records import report, submissions

DAY = 86_400
OFFICER = {"id": "33020001", "name": "陈一"}


def moment(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


ENDS = {
    "a year": ("1y", "2026-03-05T10:00:00", "2027-03-05T10:00:00"),
    "a year from a leap day": ("1y", "2024-02-29T10:00:00", "2025-02-28T10:00:00"),
    "a month to a shorter one": ("1m", "2026-01-31T00:00:00", "2026-02-28T00:00:00"),
    "months over the year": ("14m", "2026-12-01T00:00:00", "2028-02-01T00:00:00"),
    "December stays December": ("12m", "2026-12-15T00:00:00", "2027-12-15T00:00:00"),
    "days": ("30d", "2026-02-20T00:00:00", "2026-03-22T00:00:00"),
}


@pytest.mark.parametrize("case", ENDS)
def test_a_period_ends_by_the_calendar(case: str) -> None:
    text, start, end = ENDS[case]
    assert retention_rules({"note.added": text})["note.added"].end(moment(start)) == moment(end)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "providing data, two years": ({"disclosure.made": "2y"}, "at least 3 years"),
    "providing data, 35 months": ({"disclosure.received": "35m"}, "at least 3 years"),
    "providing data, 1,095 days": ({"disclosure.refused": "1095d"}, "at least 3 years"),
    "certificates": ({"record.destroyed": "30y"}, "always kept"),
    "holds": ({"hold.placed": "30y"}, "always kept"),
    "reports of feeds": ({"feed.report": "30y"}, "always kept"),
    "no unit": ({"note.added": "3"}, "lines like"),
    "nothing": ({"note.added": "0d"}, "lines like"),
    "a number": ({"note.added": 3}, "lines like"),
    "no type": ({"Note": "3y"}, "lines like"),
    "for ever": ({"note.added": "99999y"}, "200 years"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_rule_may_say(case: str) -> None:
    values, sentence = REFUSED[case]
    with pytest.raises(ValueError, match=sentence):
        retention_rules(values)


def test_three_years_of_providing_data_may_be_said() -> None:
    assert retention_rules({"disclosure.made": "3y", "disclosure.received": "36m", "disclosure.refused": "1096d"})


def test_what_is_due_is_forgotten_and_what_is_held_is_not(parts: Parts) -> None:
    held = parts.take([Submission("held", report(1, case="甲-1"))])[0]
    taken = parts.take(submissions(10, 4))
    kind = report(1)["type"]
    Holds(parts.intake, time.time).place("fire", "case", "甲-1", "诉讼", [OFFICER])
    rules = retention_rules({kind: "10d"})
    machine = Forgetting(parts.database, parts.blobs, parts.intake, parts.reader, time.time)
    with parts.database.reading() as connection:
        assert list(find_due(connection, parts.log(), rules, time.time() + 9 * DAY)) == []
        assert list(find_due(connection, parts.log(), {}, time.time() + 99 * DAY)) == []
        due = list(find_due(connection, parts.log(), rules, time.time() + 11 * DAY))
    assert [one.record_id for one in due] == [held.record_id, *(record.record_id for record in taken)]
    assert all(one.ended_at - one.sealed_at == 10 * DAY for one in due)
    with pytest.raises(RecordRefused) as caught:
        machine.forget(held.record_id, "retention", "10d")
    assert caught.value.reason == "on-hold"
    for one in due[1:]:
        assert machine.forget(one.record_id, "retention", "10d").new
    with parts.database.reading() as connection:
        left = list(find_due(connection, parts.log(), rules, time.time() + 11 * DAY))
    assert [one.record_id for one in left] == [held.record_id]
    found = parts.audit()
    assert (found.good, found.forgotten) == (True, 4)
