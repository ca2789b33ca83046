"""From a record to a verified receipt through the command alone, and what the verifier says of damaged evidence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from tests.cli.conftest import record_file
from tests.fixtures.command import ChainServer, Yunxi
from tests.fixtures.nodes import Rows

pytestmark = pytest.mark.xdist_group("cli")

PHOTO = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was sealed, and the files that came of it."""

    record_id: str
    files: tuple[str, ...] = ("full.sd-jwt", "masked.sd-jwt", "r.tlog-proof", "out/1-photo.png", "trust.json")


@pytest.fixture(scope="module")
def evidence(yunxi: Yunxi) -> Evidence:
    directory = yunxi.directory
    (directory / "photo.png").write_bytes(PHOTO)
    (directory / "out").mkdir()
    name = record_file(directory, "job.json", 70)
    sealed = yunxi.good("seal", name, "--attach", "photo.png", "--json").json()
    record_id = sealed["record_id"]
    assert sealed["new"]
    assert sealed["anchor"]["anchored"]["size"] == sealed["anchor"]["size"] > sealed["index"]
    yunxi.good("present", record_id, "-o", "full.sd-jwt", "--attachments", "out")
    yunxi.good("present", record_id, "--disclose", "place", "--disclose", "result", "-o", "masked.sd-jwt")
    yunxi.good("receipt", record_id, "-o", "r.tlog-proof")
    yunxi.good("trust", "export", "-o", "trust.json")
    return Evidence(record_id)


def test_the_same_file_sealed_again_is_the_same_record(yunxi: Yunxi, evidence: Evidence) -> None:
    # the attachment belongs to the content, so it must be there again
    again = yunxi.good("seal", "job.json", "--attach", "photo.png", "--json").json()
    assert (again["record_id"], again["new"]) == (evidence.record_id, False)
    found = yunxi.good("records", again["key"], "--json").json()["records"]
    assert [record["record_id"] for record in found] == [evidence.record_id]


def test_show_gives_the_record_back(yunxi: Yunxi, evidence: Evidence) -> None:
    shown = yunxi.good("show", evidence.record_id, "--json").json()
    sealed = json.loads((yunxi.directory / "job.json").read_text("utf-8"))
    assert {name: shown["record"][name] for name in sealed} == sealed
    assert shown["record"]["attachments"][0]["size"] == len(PHOTO)
    text = yunxi.good("show", evidence.record_id).out
    assert re.search(r"sealed \d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d by fire", text)


def test_the_whole_record_its_receipt_and_its_attachment_verify(yunxi: Yunxi, evidence: Evidence) -> None:
    assert (yunxi.directory / "out" / "1-photo.png").read_bytes() == PHOTO
    words = ("full.sd-jwt", "r.tlog-proof", "out/1-photo.png", "--trust", "trust.json")
    report = yunxi.good("verify", *words, "--json").json()
    assert report["verdict"] == "good"
    assert [file["verdict"] for file in report["files"]] == ["good"] * 3
    assert report["files"][0]["facts"]["masked"] == 0
    assert "核验结论：核验通过" in yunxi.good("verify", *words, "--lang", "zh").out


def test_a_masked_record_verifies_and_shows_no_more(yunxi: Yunxi, evidence: Evidence) -> None:
    words = ("masked.sd-jwt", "r.tlog-proof", "--trust", "trust.json")
    report = yunxi.good("verify", *words, "--json").json()
    facts = report["files"][0]["facts"]
    assert [unit["name"] for unit in facts["units"]] == ["place", "result"]
    assert facts["masked"] > 0
    text = yunxi.good("verify", *words).out
    assert "Result: VERIFIED" in text
    assert "What is NOT proven" in text
    assert "summary of inspection 70" not in text


def _flipped(data: bytes) -> bytes:
    place = data.index(b".") + 20
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGE: dict[str, Callable[[Path], tuple[str, ...]]] = {
    "no receipt": lambda d: ("full.sd-jwt",),
    "a flipped bit in the statement": lambda d: (_put(d, "x.sd-jwt", _flipped(_get(d, "full.sd-jwt"))), "r.tlog-proof"),
    "a truncated record": lambda d: (_put(d, "x.sd-jwt", _get(d, "full.sd-jwt")[:300]), "r.tlog-proof"),
    "a truncated receipt": lambda d: ("full.sd-jwt", _put(d, "x.tlog-proof", _get(d, "r.tlog-proof")[:-60])),
    "an empty receipt": lambda d: ("full.sd-jwt", _put(d, "x.tlog-proof", b"")),
    "another photo": lambda d: ("full.sd-jwt", "r.tlog-proof", _put(d, "x.png", PHOTO + b"\0")),
}


def _get(directory: Path, name: str) -> bytes:
    return (directory / name).read_bytes()


def _put(directory: Path, name: str, data: bytes) -> str:
    (directory / name).write_bytes(data)
    return name


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_evidence_is_not_verified(yunxi: Yunxi, evidence: Evidence, case: str) -> None:
    result = yunxi("verify", *DAMAGE[case](yunxi.directory), "--trust", "trust.json")
    assert result.code == 1
    assert "Result: NOT VERIFIED" in result.out


def test_a_wrong_or_empty_trust_file_proves_nothing(
    yunxi: Yunxi, evidence: Evidence, remote: tuple[Yunxi, ChainServer]
) -> None:
    directory = yunxi.directory
    trust = json.loads(_get(directory, "trust.json"))
    remote[0].good("trust", "export", "-o", "trust.json")
    others = {
        "of another node": _get(remote[0].directory, "trust.json"),
        "without departments": json.dumps({**trust, "departments": []}).encode(),
        "an empty object": b"{}",
        "cut off": _get(directory, "trust.json")[:200],
    }
    for name, data in others.items():
        _put(directory, "wrong.json", data)
        result = yunxi("verify", "full.sd-jwt", "r.tlog-proof", "--trust", "wrong.json")
        assert (name, result.code) == (name, 1)
        assert "Result: NOT VERIFIED" in result.out
    missing = yunxi("verify", "full.sd-jwt", "--trust", "no.json", "--json")
    assert missing.code == 2
    assert missing.json()["verdict"] == "could-not-run"


def test_a_unit_that_is_not_there_is_refused_with_those_that_are(yunxi: Yunxi, evidence: Evidence) -> None:
    result = yunxi("present", evidence.record_id, "--disclose", "colour", "-o", "no.sd-jwt")
    assert result.code == 1
    assert "the record has no unit 'colour'; it has: when, place" in result.sentence()
    assert not (yunxi.directory / "no.sd-jwt").exists()


JSON_MEMBERS = {
    ("status",): {"good", "consortium", "engine", "chain_id", "chain_problem", "logs"},
    ("audit",): {"good", "first", "chain_problem", "logs"},
    ("audit", "--department", "fire"): {"good", "first", "chain_problem", "logs"},
    ("anchor",): {"anchors"},
    ("records", "--limit", "1"): {"records"},
    ("upgrade",): {"node", "upgraded"},
    ("verifier", "-o", "v.pyz"): {"file"},
}


@pytest.mark.parametrize("words", JSON_MEMBERS, ids=" ".join)
def test_json_is_one_object_and_nothing_else(yunxi: Yunxi, evidence: Evidence, words: tuple[str, ...]) -> None:
    result = yunxi.good(*words, "--json")
    assert set(result.json()) >= JSON_MEMBERS[words]
    assert result.err == ""


def test_tables_are_whole_at_any_width(yunxi: Yunxi, evidence: Evidence) -> None:
    for words, columns in ((("status",), "60"), (("audit",), "80")):
        out = yunxi.good(*words, COLUMNS=columns).out
        assert "…" not in out
        assert max(map(len, out.splitlines()[:2])) <= 80


def test_the_audit_names_a_changed_statement_and_ends_with_1(yunxi: Yunxi, evidence: Evidence) -> None:
    rows = Rows(yunxi.directory / "node")
    query = "SELECT position, statement FROM entries WHERE record_id = ?"
    ((position, statement),) = rows.all(query, UUID(evidence.record_id).bytes)
    update = "UPDATE entries SET statement = ? WHERE position = ?"
    try:
        rows.do(update, _flipped(statement), position)
        found = yunxi("audit", "--json")
        assert found.code == 1
        assert found.json()["first"]["kind"] == "statement-changed"
        assert found.json()["first"]["record_id"] == evidence.record_id
        assert f"record {evidence.record_id} was changed" in yunxi("audit").out
    finally:
        rows.do(update, statement, position)
    assert yunxi.good("audit").out.rstrip().endswith("the chain holds the same roots.")
