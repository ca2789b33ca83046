"""What goes wrong for people, and the one sentence they get: 1 for a refusal, 2 where the command could not run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Yunxi
from tests.fixtures.records import COMPANY, report

pytestmark = pytest.mark.xdist_group("cli")

Write = Callable[..., str]

# a record file's bytes, the exit code and what the sentence must hold
BAD_FILES: dict[str, tuple[bytes, str]] = {
    "malformed JSON": (b'{"department": "fire', "record bad.json: not JSON at line 1, column 16"),
    "not an object": (b"[1]", "record bad.json: must be a JSON object"),
    "not UTF-8": (b'{"department": "\xb2\xbb"}', "record bad.json: not UTF-8 at byte 16"),
    "a member twice": (b'{"v": 1, "v": 1}', "record bad.json: member 'v' stands twice"),
    "20 MB": (b'{"summary": "' + b"x" * 20_000_000 + b'"}', "has more than the 1,048,576 bytes allowed; move bulk"),
}

BAD_RECORDS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown record type": ({"type": "inspection.nope"}, "in version 1; near it are inspection."),
    "a record of the service's own": ({"type": "disclosure.made"}, "disclosure.made says what the service did: only"),
    "missing field": ({"occurred_at": None}, "must have the member 'occurred_at'"),
    "wrong check digit": ({"subjects": [{**COMPANY, "value": "91350100M000100Y44"}]}, "has a wrong check digit"),
    "future date": ({"occurred_at": "2199-01-01T00:00:00+08:00"}, "$.occurred_at lies in the future"),
    "absurd date": ({"occurred_at": "0203-01-01T00:00:00+08:00"}, "$.occurred_at is absurd"),
    "unknown department": ({"department": "water"}, "there is no log of department 'water': run `yunxi department add"),
    "a department that is no text": ({"department": 5}, "must name its `department`; this node has: fire"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_record_file_is_refused(yunxi: Yunxi, case: str) -> None:
    data, sentence = BAD_FILES[case]
    (yunxi.directory / "bad.json").write_bytes(data)
    result = yunxi("seal", "bad.json")
    assert result.code == 1
    assert sentence in result.sentence()


@pytest.mark.parametrize("case", BAD_RECORDS)
def test_a_bad_record_is_refused(yunxi: Yunxi, write: Write, case: str) -> None:
    changes, sentence = BAD_RECORDS[case]
    result = yunxi("seal", write("bad.json", **changes))
    assert result.code == 1
    assert sentence in result.sentence()


def test_other_content_under_a_taken_key_is_refused(yunxi: Yunxi, write: Write) -> None:
    yunxi.good("seal", write("one.json", 51), "--key", "taken")
    result = yunxi("seal", write("two.json", 52), "--key", "taken", "--json")
    assert result.code == 1
    assert result.err == ""
    assert result.json()["error"]["code"] == "conflict"
    assert yunxi("seal", "two.json", "--key", "").code == 1


NO_FILES: dict[str, tuple[tuple[str, ...], int, str]] = {
    "a record that is not there": (("seal", "no.json"), 2, "no.json cannot be read: No such file"),
    "a mapping that is not there": (("adapter", "run", "no.toml"), 2, "no.toml: cannot be read"),
    "a word that mappings do not have": (("adapter", "check", "odd.toml"), 1, "odd.toml: "),
    "a source that is not there": (("adapter", "run", "lost.toml"), 2, "there is no file "),
    "no record of that id": (("show", "0193510b-8c00-7abc-8def-0123456789ab"), 1, "this node has no record 0193510b"),
    "no id": (("show", "latest"), 1, "'latest' is not a record id"),
    "an unknown department to audit": (("audit", "--department", "water"), 1, "there is no log of water"),
    "output into a missing directory": (("trust", "export", "-o", "no/t.json"), 2, "there is no directory no; make it"),
    "a directory for an output": (("trust", "export", "-o", "node"), 2, "node cannot be written: Is a directory"),
    "a department id that cannot be": (("department", "add", "Fire!", "--name", "x"), 1, "department id 'Fire!' must"),
}


@pytest.mark.parametrize("case", NO_FILES)
def test_what_is_not_there_is_said_in_one_sentence(yunxi: Yunxi, case: str) -> None:
    words, code, sentence = NO_FILES[case]
    (yunxi.directory / "some.json").write_text("{}")
    (yunxi.directory / "odd.toml").write_text('maping = "x"\n')
    (yunxi.directory / "lost.toml").write_text(MAPPING.replace("rows.csv", "lost.csv"))
    result = yunxi(*words)
    assert result.code == code
    assert sentence in result.sentence()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser writes into read-only directories too")
def test_a_read_only_directory_is_named(yunxi: Yunxi) -> None:
    locked = yunxi.directory / "locked"
    locked.mkdir(mode=0o500)
    result = yunxi("verifier", "-o", "locked/v.pyz")
    assert result.code == 2
    assert "locked/v.pyz cannot be written: Permission denied" in result.sentence()
    assert yunxi("init", "locked/node").code == 2


NO_NODES: dict[str, tuple[dict[str, str], str]] = {
    "none named": ({}, ". is no node directory: name one with --node or YUNXI_NODE, or make one with `yunxi init`"),
    "YUNXI_NODE is wrong": ({"YUNXI_NODE": "nowhere"}, "nowhere is no node directory"),
    "node.toml is cut off": ({"YUNXI_NODE": "cut"}, "cut/node.toml is incomplete"),
    "node.toml is not TOML": ({"YUNXI_NODE": "odd"}, "odd/node.toml cannot be read"),
}


@pytest.mark.parametrize("case", NO_NODES)
def test_without_a_node_commands_could_not_run(bare: Yunxi, case: str) -> None:
    environ, sentence = NO_NODES[case]
    for name, text in (("cut", "[chain]\n"), ("odd", "no\n")):
        (bare.directory / name).mkdir(exist_ok=True)
        (bare.directory / name / "node.toml").write_text(text)
    (bare.directory / "file").touch()
    result = bare("status", **environ)
    assert result.code == 2
    assert sentence in result.sentence()


def test_with_json_an_error_is_one_object_too(bare: Yunxi) -> None:
    result = bare("status", "--json", YUNXI_NODE="nowhere")
    assert result.code == 2
    assert result.err == ""
    assert result.json()["error"]["code"] == "node-missing"


BAD_INITS: dict[str, tuple[tuple[str, ...], str]] = {
    "a chain that is no URL": (("new", "--chain", "ftp://x"), "must be `embedded` or the http(s) URL"),
    "a chain that does not answer": (("new", "--chain", "http://127.0.0.1:1"), "cannot be reached; is its node"),
    "a consortium that is no name": (("new", "--consortium", "A b"), "must be a name like district.example"),
    "a database that is no URL": (("new", "--database", "nonsense"), "must be given as a SQLAlchemy URL"),
    "a file where the directory should be": (("file",), "file is not an empty directory"),
}


@pytest.mark.parametrize("case", BAD_INITS)
def test_a_refused_init_leaves_nothing_behind(bare: Yunxi, case: str) -> None:
    words, sentence = BAD_INITS[case]
    (bare.directory / "file").touch()
    result = bare("init", *words)
    assert result.code == 2
    assert sentence in result.sentence()
    assert not (bare.directory / "new").exists()


def test_init_twice_refuses_and_department_add_twice_does_not(yunxi: Yunxi) -> None:
    again = yunxi("init", "node")
    assert again.code == 2
    assert again.sentence() == "node is a node already: name another directory"
    before = yunxi.good("status", "--json").json()
    added = [yunxi.good("department", "add", "fire", "--name", "消防", "--json").json() for _ in range(2)]
    assert added == [{"department": "fire", "origin": "test.example/fire"}] * 2
    assert [log["origin"] for log in before["logs"]] == ["test.example/fire"]


# ---- rows ----------------------------------------------------------------------------------------------------------

MAPPING = """
mapping = "rows"
version = 1
department = "fire"
type = "inspection.report"
v = 1
matter = "330299-XF-001"
system = "test"
zone = "Asia/Shanghai"
key = ["no"]

[source]
kind = "csv"
path = "rows.csv"

[fields]
"occurred_at" = { column = "day", as = "date" }
"facility_name" = "shop"
"result" = { column = "result", map = { "ok" = "合格", "bad" = "不合格" } }

[[subjects]]
kind = "uscc"
value = { column = "code" }
"""

CODE = COMPANY["value"]
ROWS = f"""no,day,shop,result,code
1,2026-03-01,一,ok,{CODE}
2,2026-03-01,二,maybe,{CODE}
3,2026-03-01,"三,ok,{CODE}
4,2199-01-01,四,ok,{CODE}
5,0203-01-01,五,ok,{CODE}
6,,六,ok,{CODE}
7,2026-03-01,七,ok,91350100M000100Y44
8,2026-03-01,八,ok,{CODE}
8,2026-03-01,八,ok,{CODE}
8,2026-03-02,八,ok,{CODE}
,2026-03-01,九,ok,{CODE}
9,2026-03-01,ten,ok
10,2026-03-01,@@,ok,{CODE}
11,2026-03-01,十一,ok,{CODE}
"""

REASONS = {
    "unknown-value": ["rows.csv:3"],
    "broken-quote": ["rows.csv:4"],
    "bad-time": ["rows.csv:5", "rows.csv:6"],
    "blank": ["rows.csv:7"],
    "bad-identifier": ["rows.csv:8"],
    "conflict": ["rows.csv:11"],
    "blank-key": ["rows.csv:12"],
    "column-count": ["rows.csv:13"],
    "encoding": ["rows.csv:14"],
}


@pytest.fixture(scope="module")
def rows(yunxi: Yunxi) -> str:
    """A mapping in a directory of its own whose source holds every kind of bad row, and 4 good ones."""
    folder = yunxi.directory / "feed"
    folder.mkdir()
    (folder / "rows.toml").write_text(MAPPING)
    (folder / "rows.csv").write_bytes(ROWS.encode().replace(b"@@", b"\xb2\xbb"))
    return "feed/rows.toml"


def test_bad_rows_are_set_aside_with_reason_and_place(yunxi: Yunxi, rows: str) -> None:
    checked = yunxi("adapter", "check", rows, "--json")
    assert checked.code == 1
    assert {finding["code"] for finding in checked.json()["findings"]} >= {"broken-quote", "encoding", "bad-time"}

    ran = yunxi.good("adapter", "run", rows, "--json").json()
    assert (ran["read"], ran["sealed"], ran["known"], ran["quarantined"]) == (14, 3, 1, 10)
    assert ran["stopped"] is None

    listed = yunxi.good("adapter", "quarantine", rows, "--json").json()
    found: dict[str, list[str]] = {}
    for row in listed["rows"]:
        found.setdefault(row["reason"], []).append(row["position"])
        assert row["raw"] is None
    assert {reason: sorted(places) for reason, places in found.items()} == REASONS

    assert yunxi.good("adapter", "run", rows, "--json").json()["read"] == 0
    words = yunxi.good("adapter", "run", rows).out
    assert "now in quarantine: 10; look with `yunxi adapter quarantine feed/rows.toml`" in words


def test_a_corrected_source_empties_the_quarantine(yunxi: Yunxi, rows: str) -> None:
    yunxi("adapter", "run", rows)
    source = yunxi.directory / "feed" / "rows.csv"
    source.write_text(
        source.read_bytes().decode(errors="replace").replace("2,2026-03-01,二,maybe", "2,2026-03-01,二,ok")
    )
    ran = yunxi.good("adapter", "run", rows, "--json").json()
    assert (ran["sealed"], ran["known"]) == (2, 4)  # the row with the replaced bytes is text now, too
    mapping = yunxi.directory / "feed" / "rows.toml"
    text = mapping.read_text().replace("version = 1", "version = 2")
    corrected = text.replace('"day", as = "date"', '"day", as = "date", default = "2026-01-01T00:00:00+08:00"')
    mapping.write_text(corrected)
    afresh = yunxi.good("adapter", "run", rows, "--afresh", "--json").json()
    assert afresh["sealed"] == 1
    assert "blank" not in afresh["in_quarantine"]


def test_preview_writes_nothing_and_needs_no_node(bare: Yunxi, yunxi: Yunxi, rows: str) -> None:
    mapping = yunxi.directory / rows
    shown = bare.good("adapter", "preview", mapping, "--rows", "2", "--json").json()["rows"]
    assert [row["position"] for row in shown] == ["rows.csv:2", "rows.csv:3"]
    assert shown[0]["record"]["facility_name"] == "一"
    dry = bare("adapter", "run", mapping, "--dry-run", "--json")
    assert dry.code == 1
    assert dry.json()["dry_run"]
    assert list(bare.directory.glob("*.sqlite")) == []


def test_rows_of_an_unknown_department_stop_before_the_first(yunxi: Yunxi, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS, "utf-8")
    (tmp_path / "rows.toml").write_text(MAPPING.replace('"fire"', '"water"'))
    result = yunxi("adapter", "run", tmp_path / "rows.toml")
    assert result.code == 1
    assert result.sentence() == "there is no log of department 'water': run `yunxi department add water`"


def test_a_record_from_standard_input(yunxi: Yunxi) -> None:
    data = json.dumps({"department": "fire", **report(60)}).encode()
    assert yunxi("seal", "-", stdin=data).code == 0
    assert yunxi("seal", "-", stdin=b"{").code == 1
