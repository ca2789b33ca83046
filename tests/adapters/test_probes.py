"""Probes: rows that are planted and must come out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from adapters.probes import make_token, plant_file, planting, token_digest
from ledger.errors import CouldNotRun, Malformed
from tests.fixtures.feeds import START, Desk

PROBE = '[probe]\ncolumn = "shop"\nprefix = "YUNXI-PROBE "\nevery = "6h"\n'
KINDS = ["csv", "jsonl", "xlsx", "xml", "folder", "rest", "webhook", "sqlite"]


def make(harness_of: Any, kind: str, parts: Any, directory: Any) -> Desk:
    desk = Desk(parts, harness_of(kind, directory))
    desk.head = PROBE
    return desk


@pytest.fixture(params=KINDS)
def desk(request, sqlite_parts, tmp_path, harness_of) -> Iterator[Desk]:
    made = make(harness_of, request.param, sqlite_parts, tmp_path)
    yield made
    made.harness.close()


@pytest.fixture
def folder(sqlite_parts, tmp_path, harness_of) -> Iterator[Desk]:
    made = make(harness_of, "folder", sqlite_parts, tmp_path)
    yield made
    made.harness.close()


def plant(desk: Desk) -> str:
    token = make_token(desk.now)
    desk.state.plant("fire/shops", token_digest(token), desk.mapping.probe.every)
    return token


def test_a_probe_comes_out_as_a_probe_and_as_no_record(desk, rows, row):
    token = plant(desk)
    desk.now += timedelta(minutes=59)
    desk.harness.write([*rows(5), row(90, shop=f" YUNXI-PROBE {token} ", count="no number", day="")])
    done = desk.run()
    assert (done.read, done.sealed, done.quarantined) == (6, 6, 0)
    (made,) = desk.records("feed.probe")
    assert made["token_sha256"] == token_digest(token) and token not in str(made)
    assert (made["occurred_at"], made["arrived_at"]) == (START.isoformat(), (START + timedelta(hours=1)).isoformat())
    assert len(desk.records("inspection.report")) == 5
    (planted,) = desk.state.planted()
    assert planted.arrived_at == made["arrived_at"] and not planted.overdue(desk.now.timestamp() + 10**6)
    (report,) = desk.records()
    assert (report["counts"]["probes"], report["counts"]["sealed"], report["probe_every"]) == (1, 5, 21_600)
    assert desk.summary().good


def test_a_probe_that_comes_again_is_known(folder, rows, row):
    token = plant(folder)
    folder.harness.write([*rows(2), row(90, shop=f"YUNXI-PROBE {token}")])
    folder.run()
    done = folder.run(afresh=True)
    assert (done.sealed, done.known, done.quarantined) == (0, 3, 0)
    assert len(folder.records("feed.probe")) == 1 and folder.summary().good
    found = folder.reconcile()
    assert found.fits and (found.probes, found.fitting, found.at_source) == (1, 2, 3)


def test_a_probe_that_does_not_come_out_is_overdue_everywhere(folder, rows):
    folder.harness.write(rows(2))
    plant(folder)
    folder.run()
    (planted,) = folder.state.planted()
    assert not planted.overdue(folder.now.timestamp())
    later = folder.now + timedelta(hours=7)
    assert planted.overdue(later.timestamp())
    assert folder.kinds() == [] and folder.kinds(later) == ["probe-overdue"]
    assert "no probe ever arrived" in folder.summary(later).findings[0].sentence


@pytest.mark.parametrize("text", ["", "x", "20260311T080000Z-12", "20261311T080000Z-0123456789abcdef"])
def test_a_row_that_only_looks_like_a_probe_is_set_aside(folder, rows, row, text):
    folder.harness.write([*rows(2), row(90, shop=f"YUNXI-PROBE {text}")])
    done = folder.run()
    assert dict(done.by_reason) == ({"bad-probe": 1} if text else {})


def test_planting_into_a_drop_folder(folder, rows):
    folder.harness.write(rows(2))
    token = plant(folder)
    plan = planting(folder.mapping, token)
    path = plant_file(folder.mapping, plan, {})
    assert path.parent.name == "inbox" and list(path.parent.glob(".*")) == []
    done = folder.run()
    assert (done.sealed, done.quarantined) == (3, 0)
    (made,) = folder.records("feed.probe")
    assert made["token_sha256"] == token_digest(token)


def test_a_folder_that_is_gone(folder):
    plan = planting(folder.mapping, plant(folder))
    (folder.harness.directory / "inbox").rename(folder.harness.directory / "elsewhere")
    with pytest.raises(CouldNotRun, match="cannot be written"):
        plant_file(folder.mapping, plan, {})


def test_what_to_plant_elsewhere(sqlite_parts, tmp_path, harness_of, rows):
    table = make(harness_of, "sqlite", sqlite_parts, tmp_path)
    table.harness.write(rows(2))
    token = plant(table)
    plan = planting(table.mapping, token)
    assert plan.where.startswith("in the table shops") and plan.file is None
    table.harness.execute(plan.text)
    assert table.run().sealed == 3
    assert len(table.records("feed.probe")) == 1
    file = make(harness_of, "csv", sqlite_parts, tmp_path)
    assert token in planting(file.mapping, token).text


def test_a_mapping_without_a_probe(folder):
    folder.head = ""
    with pytest.raises(Malformed, match=r"declares no \[probe\]"):
        planting(folder.mapping, "x")


BAD = {
    "no prefix to speak of": ('prefix = " a "', "at least 4 characters"),
    "no time": ('every = "often"', "a time such as"),
    "no unit": ('every = "6"', "a time such as"),
    "never": ('every = "0h"', "a time such as"),
    "more than a year": ('every = "367d"', "at most 366 days"),
    "an unknown word": ('everi = "6h"', '"probe.everi" is unknown'),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_declarations(folder, name):
    line, sentence = BAD[name]
    word = line.partition(" ")[0]
    kept = [line for line in PROBE.splitlines() if not line.startswith(f"{word} ")]
    folder.head = "\n".join([*kept, line])
    with pytest.raises(Malformed, match=sentence):
        _ = folder.mapping
