"""Quarantine: how it is listed, and rows tried again from it after a mapping was corrected, on every kind of source."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine

from adapters.mapping import open_source, parse_mapping
from adapters.raw_rows import MAX_RAW_BYTES, raw_line, raw_row, read_raw
from adapters.replay import ReplayReport, replay
from adapters.run import run
from adapters.source import Unusable
from adapters.state import AdapterState, Rejected
from ledger.errors import StorageFailed

FEED = "market/shops"


def feed(harness: Any, state: AdapterState, ledger: Any, **options: Any) -> Any:
    return run(harness.mapping(), harness.source(), state, ledger, batch=10, **options)


def again(harness: Any, state: AdapterState, ledger: Any, **options: Any) -> ReplayReport:
    return replay(harness.mapping(), harness.source(), state, ledger, batch=3, **options)


def corrected(harness: Any, old: str, new: str) -> None:
    text = harness.mapping_text()
    assert old in text
    version = int(re.search("^version = ([0-9]+)", text, re.MULTILINE)[1])  # type: ignore[index]
    text = text.replace(f"version = {version}", f"version = {version + 1}").replace(old, new)
    harness.mapping_text = lambda: text


# ---- on every kind of source -------------------------------------------------------------------------------------


def test_after_a_mapping_was_corrected(harness, state, ledger, rows, row):
    harness.write([*rows(3), *[row(n, day="5.3.2024", count="x" if n == 6 else "1") for n in range(3, 9)]])
    feed(harness, state, ledger)
    marks = state.marks(FEED)
    assert state.quarantine_counts(FEED) == {"bad-date": 6}
    corrected(harness, 'as = "date"', 'as = "date", format = "%d.%m.%Y"')
    report = again(harness, state, ledger)
    assert (report.run.read, report.run.sealed, report.untried) == (6, 5, 0)
    (left,) = state.quarantine(FEED)
    assert (left.reason, left.position) == ("bad-integer", harness.position(7))
    assert state.marks(FEED) == marks
    assert sorted(ledger.keys()) == [f"r{n:05}" for n in range(9) if n != 6]
    # what a reading of the source would have given is the same: it knows every key and finds no conflict
    corrected(harness, 'as = "integer", min = 0', 'as = "integer", min = 0, invalid = "omit"')
    assert again(harness, state, ledger).run.sealed == 1
    if harness.offers_again:
        known = feed(harness, state, ledger, afresh=True)
        assert (known.sealed, known.known, dict(known.by_reason)) == (0, 6, {"bad-date": 3})


def test_nothing_corrected_changes_nothing(harness, state, ledger, rows, row):
    harness.write([*rows(2), row(2, count="x"), row(3, shop="")])
    feed(harness, state, ledger)
    before = state.quarantine(FEED)
    report = again(harness, state, ledger)
    assert (report.run.read, report.run.quarantined) == (2, 2)
    assert [(e.ident, e.reason, e.raw, e.first_seen) for e in state.quarantine(FEED)] == [
        (e.ident, e.reason, e.raw, e.first_seen) for e in before
    ]


# ---- which rows, and what becomes of them ------------------------------------------------------------------------

MAPPING = """
mapping = "shops"
version = 1
department = "market"
type = "note.added"
v = 1
system = "test"
key = ["{key}"]
[source]
kind = "csv"
path = "shops.csv"
[fields]
"text" = {{ column = "text" }}
"author.name" = {{ column = "name", blank = "refuse" }}
"""


class Desk:
    """A CSV feed in a directory."""

    def __init__(self, directory: Path, state: AdapterState, ledger: Any) -> None:
        self.directory, self.state, self.ledger = directory, state, ledger

    def mapping(self, key: str = "id", **changes: str) -> Any:
        text = MAPPING.format(key=key)
        for old, new in changes.items():
            text = text.replace(f'"{old}"', new)
        return parse_mapping(text.encode(), "shops.toml", self.directory)

    def run(self, text: str | bytes) -> None:
        data = text.encode() if isinstance(text, str) else text
        (self.directory / "shops.csv").write_bytes(b"id,text,name\n" + data)
        mapping = self.mapping()
        run(mapping, open_source(mapping), self.state, self.ledger)

    def replay(self, mapping: Any, **options: Any) -> ReplayReport:
        return replay(mapping, None, self.state, self.ledger, **options)

    def counts(self) -> dict[str, int]:
        return self.state.quarantine_counts(FEED)


@pytest.fixture
def desk(tmp_path, state, ledger) -> Desk:
    return Desk(tmp_path, state, ledger)


def test_rows_of_one_reason(desk):
    desk.run("1,,n\n,t,n\n3,t,\n")
    assert desk.counts() == {"blank": 2, "blank-key": 1}
    report = desk.replay(desk.mapping(id='"text"'), reason="blank-key")
    assert (report.run.read, report.run.sealed, desk.counts()) == (1, 1, {"blank": 2})
    assert [entry.position for entry in desk.state.quarantine(FEED, reason="blank")] == ["shops.csv:2", "shops.csv:4"]


def test_what_was_never_a_row_waits_for_its_source(desk):
    desk.run(b"1,t,n\n2,t\n3,\xff,n\n" + b"4," + b"x" * 100_000 + b",\n")
    assert desk.counts() == {"column-count": 1, "encoding": 1, "blank": 1}
    report = desk.replay(desk.mapping())
    assert (report.run.read, report.untried) == (0, 3)
    assert desk.counts() == {"column-count": 1, "encoding": 1, "blank": 1}


def test_a_row_that_gets_another_key_is_still_one_entry(desk):
    desk.run(",t,n\n")
    assert desk.counts() == {"blank-key": 1}
    report = desk.replay(desk.mapping(key="name", text='"nothing"'))
    assert dict(report.run.by_reason) == {"blank": 1} == desk.counts()
    (entry,) = desk.state.quarantine(FEED)
    assert entry.key == "shops/n"


def test_the_order_of_deliveries_is_kept(desk):
    desk.run("1,,n\n")
    desk.run("1,b,n\n9,,n\n")
    assert desk.counts() == {"blank": 1}
    desk.run("1,c,n\n9,x,\n")
    assert desk.counts() == {"blank": 1, "conflict": 1}
    report = desk.replay(desk.mapping())
    assert dict(report.run.by_reason) == {"blank": 1, "conflict": 1} == desk.counts()


def test_dying_between_ledger_and_quarantine_doubles_nothing(desk):
    desk.run("".join(f"{n},,n{n}\n" for n in range(25)))
    mapping = desk.mapping(text='"name"')
    calls = 0

    class Dies(Exception):
        """As a kill would."""

    def dying(batch: Any) -> Any:
        nonlocal calls
        calls += 1
        outcomes = desk.ledger(batch)
        if calls == 2:
            raise Dies
        return outcomes

    with pytest.raises(Dies):
        replay(mapping, None, desk.state, dying, batch=10)
    assert (len(desk.ledger.keys()), desk.counts()) == (20, {"blank": 15})
    report = desk.replay(mapping)
    assert (report.run.sealed, report.run.known, desk.counts()) == (5, 10, {})
    assert len(desk.ledger.keys()) == 25


def test_a_ledger_that_cannot_go_on_leaves_the_rest(desk):
    desk.run("".join(f"{n},,n{n}\n" for n in range(25)))

    def full(_: Any) -> Any:
        raise StorageFailed("the disk is full")

    report = replay(desk.mapping(text='"name"'), None, desk.state, full)
    assert isinstance(report.run.stopped, StorageFailed)
    assert desk.counts() == {"blank": 25}


FOLDER = """
mapping = "shops"
version = 1
department = "market"
type = "note.added"
v = 1
system = "test"
key = ["id"]
[source]
kind = "folder"
path = "inbox"
format = "csv"
pattern = "**/*.csv"
settle_seconds = 0
[fields]
"text" = "text"
[[attachments]]
column = "file"
"""


def test_files_beside_a_row_are_found_again(tmp_path, state, ledger):
    mapping = parse_mapping(FOLDER.encode(), "shops.toml", tmp_path)
    inbox = tmp_path / "inbox" / "monday"
    inbox.mkdir(parents=True)
    (inbox / "rows.csv").write_text("id,text,file\n1,,a.jpg\n2,t,b.jpg\n")
    (inbox / "a.jpg").write_bytes(b"x")
    run(mapping, open_source(mapping), state, ledger)
    assert state.quarantine_counts(FEED) == {"blank": 1, "attachment-missing": 1}
    (inbox / "b.jpg").write_bytes(b"x")
    # without the source nobody knows where files lie
    report = replay(mapping, None, state, ledger)
    assert (report.run.read, report.untried) == (0, 2)
    report = replay(mapping, open_source(mapping), state, ledger)
    assert (report.run.sealed, state.quarantine_counts(FEED)) == (1, {"blank": 1})
    (inbox / "rows.csv").unlink()
    (inbox / "a.jpg").unlink()
    (inbox / "b.jpg").unlink()
    inbox.rmdir()
    assert replay(mapping, open_source(mapping), state, ledger).untried == 1


# ---- how it is listed --------------------------------------------------------------------------------------------


def test_positions_are_listed_as_people_count():
    engine = create_engine("sqlite://")
    moment = datetime(2025, 6, 1, tzinfo=UTC)
    state = AdapterState(engine, lambda: moment)
    numbers = [10, 9, 100, 2, 1, 20]
    rows = [Rejected(f"a.csv:{n}", None, "blank" if n % 2 else "bad-date", "d", "{}") for n in numbers]
    state.settle("f/f", "a.csv", mark=None, version=1, rejected=rows)
    state.settle("f/f", "a10.csv", mark=None, version=1, rejected=[Rejected("a10.csv:1", None, "blank", "d", "{}")])
    state.settle("f/f", "a9.csv", mark=None, version=1, rejected=[Rejected("a9.csv:007", None, "blank", "d", "{}")])
    moment += timedelta(minutes=1)
    state.settle("f/f", "a.csv", mark=None, version=1, rejected=[Rejected("a.csv:3", None, "blank", "d", "{}")])
    listed = ["a9.csv:007", "a10.csv:1", *(f"a.csv:{n}" for n in (1, 2, 9, 10, 20, 100)), "a.csv:3"]
    assert [entry.position for entry in state.quarantine("f/f")] == listed
    pages = [state.quarantine("f/f", limit=4, offset=start) for start in range(0, 12, 4)]
    assert [entry.position for page in pages for entry in page] == listed
    assert [e.position for e in state.quarantine("f/f", reason="bad-date")] == [
        "a.csv:2",
        "a.csv:10",
        "a.csv:20",
        "a.csv:100",
    ]
    engine.dispose()


# ---- what is kept of a row ---------------------------------------------------------------------------------------

plain = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.text(), st.floats(allow_nan=False),
    st.decimals(allow_nan=False), st.dates(), st.datetimes(timezones=st.sampled_from([None, UTC])), st.times(),
    st.builds(Unusable, st.text(), st.text()),
)  # fmt: skip
nested = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@given(st.dictionaries(st.text(), st.one_of(plain, st.lists(nested, max_size=3)), max_size=6))
def test_a_row_comes_back_as_it_was(values: dict[str, Any]) -> None:
    back = read_raw(raw_row(values))
    assert back == values
    assert [type(value) for value in back.values()] == [type(value) for value in values.values()]


@pytest.mark.parametrize("text", ["\0", "\ud800", "\\u0000", "\r\n\t", "\U0001f600"])
def test_no_character_is_lost(text: str) -> None:
    kept = raw_row({text: text})
    assert kept.isascii() and "\0" not in kept
    assert read_raw(kept) == {text: text}


def test_what_cannot_come_back() -> None:
    assert read_raw(raw_line("1,2")) is None
    large = raw_row({"a": "x" * MAX_RAW_BYTES, "b": 1})
    assert len(large) < 1000 and '"b": "1"' in large
    assert read_raw(large) is None
    assert math.isnan(read_raw(raw_row({"a": math.nan}))["a"])
    odd = read_raw(raw_row({"a": b"x", "b": {1}}))
    assert odd == {
        "a": Unusable("nested", "holds a bytes, not a single value"),
        "b": Unusable("nested", "holds a set, not a single value"),
    }
