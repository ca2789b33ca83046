"""What a mapping can make: the types, and the members of one as a mapping names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.record_types import BUILT_IN, RecordTypes
from tests.fixtures.command import Yunxi

pytestmark = pytest.mark.xdist_group("cli")

MAPPING = """
mapping = "rows"
version = 1
department = "fire"
type = "TYPE"
v = 1
system = "s"
key = ["k"]

[source]
kind = "csv"
path = "rows.csv"

[fields]
result = "k"
"""


def test_the_types_that_departments_fill_are_listed(bare: Yunxi) -> None:
    told = {item["type"] for item in bare.good("adapter", "types", "--json").json()["types"]}
    assert told == {each.name for each in RecordTypes.load(BUILT_IN) if not each.by_service}
    assert "inspection.report v1" in bare.good("adapter", "types").out


def test_the_members_of_a_type_are_named_as_a_mapping_names_them(bare: Yunxi) -> None:
    members = bare.good("adapter", "types", "inspection.report", "--json").json()["members"]
    told = {member["name"]: (member["required"], member["meaning"]) for member in members}
    assert told["result"] == (True, "the result in the department's own words, at most 64 characters")
    assert told["matter"][0] and told["subjects[].value"][0] and not told["place.address"][0]
    assert told["place.datum"][1].endswith("WGS-84, GCJ-02, CGCS2000")
    assert told["place.district"] == (False, "one line of text, at most 100 characters")
    assert told["violations[].severity"][1] == "how grave the finding is: none, minor, serious, critical"
    assert not {"id", "type", "source.system", "attachments[]"} & told.keys()
    shown = bare.good("adapter", "types", "decision.made").out
    assert (
        "* decision_number" in shown
        and "+ legal_review.on" in shown
        and "  fine_fen" in shown
        and "a list (`split`)" in shown
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("inspection.reports", "near it are inspection.report v1"),
        ("feed.report", "says what the service did: only the service seals one"),
    ],
)
def test_a_mapping_for_a_type_that_cannot_be_is_told_before_any_row(
    bare: Yunxi, tmp_path: Path, name: str, sentence: str
) -> None:
    (tmp_path / "rows.csv").write_text("k\n1\n")
    (tmp_path / "m.toml").write_text(MAPPING.replace("TYPE", name))
    for verb in ("check", "preview"):
        result = bare("adapter", verb, str(tmp_path / "m.toml"))
        assert result.code == 1 and sentence in result.sentence()
