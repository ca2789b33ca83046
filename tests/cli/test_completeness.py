"""`yunxi adapter status`, `reports`, `reconcile`, `probe` on a real node; what `status` and `audit` say of feeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.command import Yunxi, made_node
from tests.fixtures.nodes import Rows

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cli")]

MAPPING = """
mapping = "notes"
version = 1
department = "fire"
type = "note.added"
v = 1
system = "book"
key = ["no"]
report_every = "2h"
changes = "amend"
deletes = "report"
[probe]
column = "text"
prefix = "YUNXI-PROBE "
every = "6h"
[source]
kind = "folder"
path = "inbox"
format = "csv"
settle_seconds = 0
[fields]
"occurred_at" = "at"
"text" = "text"
"""
AT = "2026-03-02T09:15:00+08:00"


def write(directory: Path, *rows: tuple[int, str]) -> None:
    inbox = directory / "inbox"
    inbox.mkdir(exist_ok=True)
    (inbox / "notes.csv").write_text("no,at,text\n" + "".join(f"{no},{AT},{text}\n" for no, text in rows))


def test_from_the_first_report_to_silence(tmp_path: Path) -> None:
    (tmp_path / "notes.toml").write_text(MAPPING)
    with made_node(tmp_path, "fire") as yunxi:
        assert yunxi.good("adapter", "status").out.startswith("No feed ran on this node yet")
        assert yunxi.good("status", "--json").json()["silent_feeds"] == []
        write(tmp_path, (1, "one"), (2, "two"), (3, "three"))
        missing = yunxi("adapter", "reconcile", "notes.toml")
        assert missing.code == 1 and "missing: notes.csv:2 notes/1" in missing.out
        assert yunxi.good("adapter", "run", "notes.toml", "--json").json()["sealed"] == 3

        write(tmp_path, (1, "one"), (2, "changed"))
        differs = yunxi("adapter", "reconcile", "notes.toml", "--json")
        assert differs.code == 1
        assert [(item["kind"], item["key"]) for item in differs.json()["differences"]] == [
            ("changed", "notes/2"), ("gone", "notes/3"),
        ]  # fmt: skip
        planted = yunxi.good("adapter", "probe", "notes.toml")
        assert planted.out.startswith("Planted ")
        (waiting,) = yunxi.good("adapter", "status", "--json").json()["probes"]
        assert waiting["arrived_at"] is None
        done = yunxi.good("adapter", "run", "notes.toml", "--json").json()
        assert (done["read"], done["sealed"], done["withdrawn"]) == (3, 2, 1)
        fits = yunxi.good("adapter", "reconcile", "notes.toml")
        assert fits.out.endswith("Source and ledger fit.\n")
        (came,) = yunxi.good("adapter", "status", "--json").json()["probes"]
        assert came["arrived_at"] is not None and came["token_sha256"] == waiting["token_sha256"]

        reports = yunxi.good("adapter", "reports").out
        assert "fire/notes: 2 reports, " in reports and "reports are complete, in time, and fit the log" in reports
        assert yunxi.good("audit", "--json").json()["good"]
        check_silence(yunxi)
        check_tampering(yunxi)


def check_silence(yunxi: Yunxi) -> None:
    """The node's memory says what is due; the log says it too, to whoever looks later."""
    rows = Rows(yunxi.directory / "node")
    rows.do("UPDATE feed_period SET next_due = '2026-03-02T00:00:00+00:00'")
    rows.do("UPDATE feed_probe SET arrived_at = NULL, due = '2026-03-02T00:00:00+00:00'")
    told = yunxi("status")
    assert told.code == 1 and "fire/notes: no report since" in told.err
    told = yunxi("adapter", "status")
    assert told.code == 1 and "fire/notes: no report since" in told.err and "has not come out" in told.err
    assert "no report since" in yunxi.good("adapter", "reconcile", "notes.toml").err


def check_tampering(yunxi: Yunxi) -> None:
    Rows(yunxi.directory / "node").do("UPDATE entries SET key = 'notes/9' WHERE key = 'notes/1'")
    told = yunxi("adapter", "reports", "--json")
    assert told.code == 1
    assert [item["kind"] for item in told.json()["feeds"][0]["findings"]] == ["digest-differs"]
    audit = yunxi("audit", "--json")
    assert audit.code == 1 and audit.json()["first"]["kind"] == "feed-digest-differs"
