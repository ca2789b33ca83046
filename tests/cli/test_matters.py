"""`yunxi matters`: a workbook as departments keep it, what is wrong with it, and what then becomes of a feed's rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from tests.fixtures.command import Yunxi, made_node

pytestmark = pytest.mark.xdist_group("cli-matters")

HEADINGS = ("序号", "事项编码", "事项名称", "事项类型", "法律依据", "实施主体", "行使层级", "生效日期", "有效期至")

FEED = """
mapping = "photos"
version = 1
department = "fire"
type = "photo.taken"
v = 1
system = "camera"
key = ["no"]
[source]
kind = "csv"
path = "photos.csv"
[fields]
"matter" = "matter"
"occurred_at" = "at"
[[attachments]]
column = "photo"
base = "."
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yunxi]:
    """The command on a node with two departments, whose registered names are `fire局` and `health局`."""
    with made_node(tmp_path_factory.mktemp("matters"), "fire", "health") as made:
        yield made


def line(code: Any, **changes: Any) -> list[Any]:
    cells = {
        "no": "=ROW()-2", "code": code, "name": f"处罚 {code}", "kind": "行政处罚", "law": "《消防法》第六十条\n第一款",
        "department": "fire局", "level": "县级", "first": "2020年1月1日", "last": None, **changes,
    }  # fmt: skip
    return list(cells.values())


def workbook(path: Path, *lines: list[Any], titles: int = 1) -> Path:
    """A list under a merged title, as offices keep them."""
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for number in range(1, titles + 1):
        sheet.cell(number, 1, "江北区行政执法事项清单")
        sheet.merge_cells(start_row=number, start_column=1, end_row=number, end_column=len(HEADINGS))
    sheet.append(HEADINGS)
    for cells in lines:
        sheet.append(cells)
    book.save(path)
    return path


@pytest.mark.slow
def test_a_list_from_workbook_to_quarantine(desk: Yunxi) -> None:
    """One node, step by step: nothing published, one list, its next version, and the feed between."""
    here = desk.directory
    assert "not restricted" in desk.good("status").out
    first = workbook(here / "清单.xlsx", line("M-1"), line("M-2"), line("H-1", department="health局"))
    tried = desk.good("matters", "import", first, "--dry-run", "--json").json()
    assert [made["record_id"] for made in tried["lists"]] == [None, None]
    shown = desk.good("matters", "import", first).out
    assert "fire: version 1 is published, 2 matters: 2 added." in shown
    assert "Headings that are not used: 序号" in shown
    assert "health: 1 record anchored" in shown
    assert "not restricted" not in desk.good("status").out
    assert "nothing changed since version 1" in desk.good("matters", "import", first).out

    (here / "a.jpg").write_bytes(b"x")
    (here / "photos.toml").write_text(FEED)
    rows = ("1,2019-12-31", "2,2020-01-01")
    text = "".join(f"{no},M-1,{day}T08:00:00+08:00,a.jpg\n" for no, day in (row.split(",") for row in rows))
    (here / "photos.csv").write_text("no,matter,at,photo\n" + text)
    report = desk.good("adapter", "run", "photos.toml", "--json").json()
    assert (report["sealed"], report["by_reason"]) == (1, {"matter-not-held": 1})
    (row,) = desk.good("adapter", "quarantine", "photos.toml", "--json").json()["rows"]
    assert (row["position"], row["reason"]) == ("photos.csv:2", "matter-not-held")
    assert "department fire did not hold matter M-1 on 2019-12-31" in row["detail"]

    second = workbook(here / "second.xlsx", line("M-1", first="2019/1/1"), line("M-3"))
    shown = desk.good("matters", "import", second, "--department", "fire").out
    assert "version 2 is published, 3 matters: 1 added, 1 changed, 1 ended." in shown
    assert "backdated, 2 matters: M-1, M-3" in shown
    again = desk.good("adapter", "replay", "photos.toml", "--json").json()
    assert (again["read"], again["sealed"], again["untried"], again["in_quarantine"]) == (1, 1, 0, {})
    assert "0 rows tried again" in desk.good("adapter", "replay", "photos.toml", "--reason", "blank").out

    changes = desk.good("matters", "diff", "--department", "fire", "--json").json()
    assert [(c["code"], c["what"]) for c in changes["changes"]] == [
        ("M-1", "changed"),
        ("M-2", "ended"),
        ("M-3", "added"),
    ]
    assert desk.good("matters", "diff", "1", "--department", "fire").out.endswith("version 1 to 2: 3 changes.\n")
    assert desk("matters", "diff", "2", "1", "--department", "fire").code == 2
    shown = desk.good("matters", "show", "M-2", "--department", "fire").out
    assert "from 2020-01-01 to " in shown and "第六十条" in shown and "行政处罚 (penalty), fire, 县级" in shown
    assert desk("matters", "show", "M-9").code == 1
    assert desk.good("matters", "list", "--on", "2019-06-01").out.splitlines() == [
        "fire  M-1  行政处罚  from 2019-01-01  处罚 M-1"
    ]
    assert desk.good("matters", "list", "--kind", "行政检查", "--json").json()["count"] == 0
    assert "fire: 2 versions, 3 matters; nothing differed." in desk.good("matters", "rebuild").out
    assert desk.good("audit", "--json").json()["good"]


def test_nothing_is_published_half(desk: Yunxi) -> None:
    before = desk.good("matters", "list", "--json").json()
    faulty = workbook(
        desk.directory / "faulty.xlsx",
        line("X-1"),
        line("X-2", first="02/03/04"),
        line("X-2", department="区文化局"),
        line(330217001000123456),
        line("X-4", law="=1/0"),
        titles=2,
    )
    result = desk("matters", "import", faulty, "--json")
    assert result.code == 1
    assert [fault.split(": ")[0] for fault in result.json()["error"]["faults"]] == [
        "faulty.xlsx:Sheet!5", "faulty.xlsx:Sheet!6", "faulty.xlsx:Sheet!7", "faulty.xlsx:Sheet!8",
    ]  # fmt: skip
    said = desk("matters", "import", faulty)
    assert "make the cell text" in said.err and '"02/03/04" is no day' in said.err
    assert "nothing was published: 4 faults in the list" in said.err
    assert desk.good("matters", "list", "--json").json() == before


def test_a_csv_of_another_encoding(desk: Yunxi) -> None:
    path = desk.directory / "gb.csv"
    cells = "G-1,名称,行政检查,《消防法》,20200101"
    path.write_bytes(f"编码,名称,类型,依据,生效日期\n{cells}\n".encode("gb18030"))
    words = ("matters", "import", path, "--department", "health", "--dry-run")
    wrong = desk(*words)
    assert wrong.code == 1 and "try --encoding gb18030" in wrong.err
    assert "would be published" in desk.good(*words, "--encoding", "gb18030").out


WRONG = {
    "no file": (("none.xlsx",), 2, "there is no file none.xlsx"),
    "a day written otherwise": (("清单.xlsx", "--as-of", "1.6.25"), 2, "--as-of: "),
    "an alias without a department": (("清单.xlsx", "--alias", "消防"), 2, "must be NAME=ID"),
    "no such sheet": (("清单.xlsx", "--sheet", "二"), 1, 'no sheet "二"'),
    "no workbook": (("photos.toml",), 1, "no heading gives the code"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls(desk: Yunxi, name: str) -> None:
    workbook(desk.directory / "清单.xlsx", line("M-1"))
    (desk.directory / "photos.toml").write_text(FEED)
    words, code, sentence = WRONG[name]
    result = desk("matters", "import", *words)
    assert (result.code, sentence in result.err) == (code, True), result


def test_what_a_list_calls_a_department(desk: Yunxi) -> None:
    path = workbook(desk.directory / "alias.xlsx", line("H-1", department="区卫健局"))
    assert "区卫健局=ID" in desk("matters", "import", path).err
    desk.good("matters", "import", path, "--alias", "区卫健局=health", "--dry-run")
