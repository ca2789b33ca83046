"""Case files as a format and their verification: what is good, what is said of it, and what others' tools say."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import bagit
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.casefile.bag import BagWriter
from ledger.casefile.zipped import ZipWriter
from ledger.errors import CaseFileInvalid, Malformed, StorageFailed
from ledger.formats.casefile import (
    FIXED,
    SEALED_HEAD,
    BagInfo,
    CaseFile,
    CaseSignature,
    Item,
    amendments,
    attachment_path,
    is_case_file,
    is_path,
    named_records,
    role_of,
)
from ledger.formats.trust import Trust
from ledger.formats.zipfiles import Entry, ZipReader, central_header, ending, local_header, order_of
from ledger.verifier_zipapp import build_verifier
from ledger.verify.__main__ import run
from ledger.verify.bundle import kind_of
from ledger.verify.case_report import case_json, case_not_proven
from ledger.verify.casefile import LEVELS, CaseFacts, CaseResult, verify_case_file
from ledger.verify.levels import say_level
from tests.fixtures.casefiles import CASE_NUMBER, SIGNED_AT, draft, good, good_files, json_bytes, world, zip_of
from tests.verify.casefile_vectors import BOMB, UNSEEN, vector
from tests.verify.factory import NAMES, START, department, key, signing_key


def verified(data: bytes, **changes: Any) -> CaseResult:
    """The result under the world's trust file, with `changes` in it."""
    return verify_case_file(world().trust(**changes), io.BytesIO(data), "")


def facts_of(data: bytes, **changes: Any) -> CaseFacts:
    """The facts of a case file that is good."""
    result = verified(data, **changes)
    assert result.findings == ()
    assert result.facts is not None
    return result.facts


# --- what is said of a good one ---


def test_every_level_counts_what_it_is_about() -> None:
    facts = facts_of(good())
    counts = {level: (c.state, c.good, c.bad, c.absent) for level, c in facts.counts.items()}
    assert counts == {
        "integrity": ("good", len(good_files()), 0, 0),
        "authorship": ("good", 11, 0, 0),
        "inclusion": ("good", 10, 0, 0),
        "completeness": ("good", 5, 0, 0),
        "witnesses": ("good", 10, 0, 0),
        "chain": ("good", 10, 0, 0),
        "time": ("good", 10, 0, 0),
        "credibility": ("absent", 1, 0, 5),
    }


def test_the_items_say_what_is_proven_of_them() -> None:
    facts = facts_of(good())
    photo = facts.items[2]
    assert photo.capture is not None
    assert (photo.capture.device, photo.capture.operator, photo.capture.offset_ms) == ("T-07", "F-1024", -120)
    assert (photo.capture.captured_at, photo.seal_delay) == (START - 10, 13)
    assert (photo.seen_at, photo.anchored_at) == (START + 100, START + 105)
    assert [report.item.before_decision for report in facts.items] == [True] * 5 + [False] * 3 + [True] * 2
    assert (facts.decisions[0].found, facts.decisions[0].missing) == (5, 0)
    assert {operator: found.count for operator, found in facts.witnesses.items()} == {
        "District People's Court": 10,
        "Notary Office": 10,
    }


def test_the_copy_of_the_trust_file_is_compared_and_not_relied_on() -> None:
    trust = world().trust()
    same = verify_case_file(trust, io.BytesIO(good()), hashlib.sha256(trust.serialize()).hexdigest())
    assert same.facts is not None
    assert same.facts.trust_same
    assert not facts_of(good()).trust_same


def test_witnesses_of_the_same_hands_are_no_witnesses() -> None:
    own = tuple(replace(w, operator="Fire and Rescue Department") for w in world().trust().witnesses)
    facts = facts_of(good(), witnesses=own, quorum=0)
    assert facts.counts["witnesses"].state == "absent"
    assert facts.counts["witnesses"].good == 2, "the market bureau's records are witnessed by another"
    assert "proves nothing against" in " ".join(say_level(facts, "witnesses", "en"))
    refused = verified(good(), witnesses=own, quorum=1)
    assert {finding.level for finding in refused.findings} == {"witnesses"}, "a quorum is not made of who keeps the log"


def test_gaps_are_shown_as_gaps() -> None:
    made_of = draft()
    made_of.item(8).update(receipt=None, anchor=None, times=[])
    del made_of.payload["data/receipts/000008.tlog-proof"]
    facts = facts_of(made_of.pack())
    for level in ("inclusion", "witnesses", "chain", "time"):
        assert (facts.counts[level].state, facts.counts[level].absent) == ("absent", 1)
    assert "1 record there is no receipt" in " ".join(say_level(facts, "inclusion", "en"))


def test_a_decision_that_does_not_show_what_it_froze_is_a_gap() -> None:
    made_of = draft()
    made_of.payload["data/records/000006.sd-jwt"] = world().fire[6].present("decision")
    made_of.item(6)["attachments"] = []
    made_of.case["decisions"] = []
    for path in ("data/manifests/000006.txt", "data/attachments/000006-01.txt"):
        del made_of.payload[path]
    for item in made_of.case["items"]:
        item["before_decision"] = None
    facts = facts_of(made_of.pack())
    assert (facts.open_decisions, facts.counts["completeness"].state) == (1, "absent")


def test_a_correction_is_said_of_both_records() -> None:
    facts = facts_of(good())
    assert facts.amended == {2: [8]}
    assert "1 item was corrected or withdrawn by a later record" in " ".join(say_level(facts, "integrity", "en"))
    answer = case_json(verified(good()), "en")
    assert answer is not None
    assert [item["n"] for item in answer["items"] if item["amends"]] == [8]
    assert answer["items"][7]["amends"] == answer["items"][1]["record_id"]
    assert [item["amended_by"] for item in answer["items"]] == [[], [8], *[[]] * 8]
    elsewhere = vector("good: a correction of a record that is not here")
    facts = verify_case_file(Trust.parse(elsewhere.trust), io.BytesIO(elsewhere.data), "").facts
    assert facts is not None
    assert facts.amended == {}
    assert "corrects or withdraws a record not in this case file" in " ".join(say_level(facts, "integrity", "en"))


def test_only_a_later_record_of_the_same_log_corrects() -> None:
    case = CaseFile.parse(json_bytes(draft().case))
    first, second, foreign = case.items[0], case.items[1], case.items[8]
    assert amendments([replace(first, amends=second.record_id), second]) == {}
    assert amendments([first, replace(foreign, amends=first.record_id)]) == {}
    assert amendments([replace(first, amends=first.record_id)]) == {}
    assert amendments([first, replace(second, amends=first.record_id)]) == {1: [2]}


def test_what_nobody_would_see_is_shown_by_its_code_points() -> None:
    answer = case_json(verified(vector("good: names that nobody would see").data), "zh")
    assert answer is not None
    names = [item["name"] for item in answer["items"][: len(UNSEEN)]]
    assert names == ["".join(f"\\u{{{ord(c):x}}}" for c in name) for name in UNSEEN]


def test_every_answer_says_what_is_for_reading_only() -> None:
    said = "Where they say anything else than this report, only this report counts."
    assert any(said in line for line in case_not_proven(verified(good()), "en"))


def test_before_and_after_name_the_decision_that_they_are_about() -> None:
    hidden = vector("good: the first of two decisions does not show what it froze")
    result = verify_case_file(Trust.parse(hidden.trust), io.BytesIO(hidden.data), "")
    assert result.facts is not None
    assert (result.findings, result.facts.counts["completeness"].state) == ((), "absent")
    said = " ".join(say_level(result.facts, "completeness", "en"))
    assert "existed when the decision, item 9, was made" in said
    assert "For 1 decision of the department it is not shown" in said


def test_without_decision_and_evidence_levels_do_not_apply() -> None:
    made_of = draft()
    made_of.case.update(items=[], decisions=[], log_size=0)
    made_of.payload = {path: data for path, data in made_of.payload.items() if path in FIXED}
    facts = facts_of(made_of.pack())
    states = {level: facts.counts[level].state for level in LEVELS}
    assert states == {"integrity": "good", "authorship": "good"} | dict.fromkeys(LEVELS[2:], "not-applicable")


def test_a_trust_file_without_authorities_judges_no_time_stamp() -> None:
    facts = facts_of(good(), tsa_roots=())
    assert (facts.counts["time"].state, facts.counts["time"].absent) == ("absent", 10)
    assert "no time stamp was judged" in " ".join(say_level(facts, "time", "en"))


def test_what_an_xml_attachment_says_is_never_read() -> None:
    made_of = draft()
    path = "data/attachments/000003-01.xml"
    made_of.payload[path] = BOMB
    result = verified(made_of.pack())
    assert [(f.path, f.error.reason) for f in result.findings] == [(path, "attachment-differs")]


def test_all_findings_are_collected_and_the_first_is_the_cause() -> None:
    made_of = draft()
    made_of.sign_with = "stranger"
    made_of.item(2)["role"] = "custody"
    made_of.item(8)["before_decision"] = True
    result = verified(made_of.pack())
    assert [f.error.reason for f in result.findings] == ["signature-wrong", "item-role", "item-before"]
    assert result.facts is not None
    assert result.facts.key is None
    assert [report.item.n for report in result.facts.items if report.finding] == [2, 8]


def test_a_bad_receipt_takes_nothing_from_the_record() -> None:
    made_of = draft()
    made_of.payload["data/receipts/000002.tlog-proof"] = made_of.payload["data/receipts/000003.tlog-proof"]
    result = verified(made_of.pack())
    assert result.facts is not None
    report = result.facts.items[1]
    assert (report.verified, report.logged) == (True, False)
    assert result.facts.counts["inclusion"].good == 9
    assert result.facts.counts["authorship"].state == "good"


# --- insiders who seal nonsense ---

ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
PLACES = [
    ("case", name)
    for name in ("case", "consortium", "department", "exported_for", "log_size", "items", "decisions", "gaps")
] + [("item", name) for name in (each.name for each in fields(Item))]


@given(place=st.sampled_from(PLACES), value=ODD)
@settings(max_examples=20, deadline=None)
def test_odd_values_in_case_json_are_findings(place: tuple[str, str], value: Any) -> None:
    made_of = draft()
    (made_of.case if place[0] == "case" else made_of.item(2))[place[1]] = value
    if not isinstance(made_of.case["case"], str) or set(made_of.case["case"]) & set("\r\n"):
        return
    verified(made_of.pack())


@given(
    units=st.dictionaries(
        st.sampled_from(("owner", "records", "record", "capture")),
        st.dictionaries(st.sampled_from(("owner", "records", "record", "leaf")), ODD),
    )
)
def test_odd_content_names_nothing_and_breaks_nothing(units: dict[str, dict[str, Any]]) -> None:
    for type_ in ("disclosure.received", "record.attached"):
        for named in named_records(type_, units):
            assert isinstance(named.department, str)


# --- the formats ---


def test_the_writer_gives_the_bytes_that_the_format_says() -> None:
    """The fixture lists and signs by itself; both must come to the same file."""
    made_of = draft()
    target = io.BytesIO()
    writer = BagWriter(target)
    payload = {path: data for path, data in made_of.files().items() if path.startswith("data/")}
    for path, data in sorted(payload.items()):
        writer.add(path, (data[:7], data[7:]), len(data))
    case = CaseFile.parse(json_bytes(made_of.case))
    tags = {"readme": good_files()["README.txt"], "page": good_files()["verify.html"]}
    sign = signing_key("fire statement").sign
    writer.finish(case, NAMES["fire"]["zh"], kid=key("fire").kid, iat=SIGNED_AT, sign=sign, **tags)
    assert target.getvalue() == made_of.pack()


def test_only_the_signature_depends_on_the_time() -> None:
    later = replace(draft(), iat=SIGNED_AT + 1).files()
    assert {path for path in later if later[path] != good_files()[path]} == {"signature.jws"}


def test_other_programs_read_it(tmp_path: Path) -> None:
    path = tmp_path / "case.zip"
    path.write_bytes(good())
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == good_files()
        archive.extractall(tmp_path / "bag")
    bag = bagit.Bag(str(tmp_path / "bag"))
    assert bag.validate()
    assert bag.info["External-Identifier"] == CASE_NUMBER
    (tmp_path / "bag/data/index.html").write_bytes(b"changed")
    with pytest.raises(bagit.BagValidationError):
        bag.validate()


def test_case_json_survives_parsing() -> None:
    data = good_files()["case.json"]
    assert CaseFile.parse(data).serialize() == data


def test_paths_have_an_alphabet_and_a_list() -> None:
    assert all(is_path(path) for path in good_files())
    assert attachment_path(3, 1, "text/html") == "data/attachments/000003-01.bin"
    for path in (
        "data/x",
        "data/records/1.sd-jwt",
        "data/records/000001.sd-jwt/",
        "Data/trust.json",
        "manifest-md5.txt",
    ):
        assert not is_path(path)


def test_unknown_types_are_evidence() -> None:
    assert [role_of(t) for t in ("decision.made", "media.derived", "fire.alarm", "case.filed")] == [
        "decision",
        "derived",
        "evidence",
        "step",
    ]


def test_bag_info_is_one_text() -> None:
    info = BagInfo("消防", CASE_NUMBER, 12, 3)
    assert BagInfo.parse(info.serialize()) == info
    software = info.serialize().rpartition(b": ")[2]
    for wrong in (
        b"", b"x\n", info.serialize()[:-1], info.serialize().replace(b"12.3", b"012.3"), b"\xff" + info.serialize(),
        info.serialize().replace(b"Payload-Oxum", b"Payload"), info.serialize().replace(software, b"another\n"),
    ):  # fmt: skip
        with pytest.raises(Malformed):
            BagInfo.parse(wrong)


def test_a_signature_is_for_case_files_alone() -> None:
    made = CaseSignature.make(b"list", "kid", 5, signing_key("fire statement").sign)
    parsed = CaseSignature.parse(made)
    parsed.verify(b"list", signing_key("fire statement").public_key())
    for wrong in (b"", b"a.b", b"a.b.c.d", b"\xff" + made, made.replace(b"..", b".bGlzdA."), made[:-2]):
        with pytest.raises(Malformed):
            CaseSignature.parse(wrong)
    for other in (b"lis", b"list\n", b""):
        with pytest.raises(CaseFileInvalid):
            parsed.verify(other, signing_key("fire statement").public_key())


# --- the zip ---


@pytest.mark.parametrize("size", [0, 1, 2**32 - 2, 2**32 - 1, 2**32, 2**40])
@pytest.mark.parametrize("offset", [0, 2**32 - 2, 2**32 - 1, 2**44])
def test_headers_are_those_that_python_reads(size: int, offset: int) -> None:
    entry = Entry("data/x", size, 7, offset)
    directory = central_header(entry)
    # an archive whose only entry lies where no bytes are: the directory alone is read
    found = zipfile.ZipInfo("data/x")
    found.compress_size = found.file_size = size & 0xFFFFFFFF if size < 0xFFFFFFFF else 0xFFFFFFFF
    found.header_offset = min(offset, 0xFFFFFFFF)
    found.file_size = found.compress_size
    found.extra = directory[46 + 6 :]
    found._decodeExtra(0) if sys.version_info >= (3, 12) else found._decodeExtra()  # type: ignore[attr-defined]
    assert (found.file_size, found.compress_size, found.header_offset) == (size, size, offset)
    assert len(local_header(entry)) == entry.data_offset - offset


def test_more_files_than_16_bits_count() -> None:
    target = io.BytesIO()
    writer = ZipWriter(target)
    for n in range(66_000):
        writer.add(f"data/records/{n:06}.sd-jwt", (b"x",), 1)
    writer.close()
    assert len(ZipReader(target).entries) == 66_000
    with zipfile.ZipFile(target) as archive:
        assert len(archive.namelist()) == 66_000


@pytest.mark.parametrize("count", [0xFFFE, 0xFFFF])
def test_the_ending_grows_where_it_must(count: int) -> None:
    assert len(ending(count, 5, 7)) == (22 if count < 0xFFFF else 22 + 20 + 56)


@given(files=st.dictionaries(st.from_regex(r"\A(?:data/)?[a-z0-9]{1,8}(?:\.[a-z]{1,3})?\Z"), st.binary(max_size=300)))
def test_any_files_come_back(files: dict[str, bytes]) -> None:
    reader = ZipReader(io.BytesIO(zip_of(files)))
    assert {entry.path: reader.read(entry.path, 1_000) for entry in reader.entries} == files
    assert [entry.path for entry in reader.entries] == sorted(files, key=order_of)


def test_the_writer_refuses_what_would_not_be_read() -> None:
    writer = ZipWriter(io.BytesIO())
    writer.add("data/b", (b"x",), 1)
    for path in ("data/b", "data/a"):
        with pytest.raises(ValueError, match="before"):
            writer.add(path, (), 0)
    with pytest.raises(CaseFileInvalid):
        writer.add("data/ü", (), 0)
    with pytest.raises(StorageFailed):
        writer.add("data/c", (b"xy",), 1)


@pytest.mark.parametrize("path", ["bag-info.txt", "data/records/1", "data/../x"])
def test_a_bag_takes_only_payload(path: str) -> None:
    with pytest.raises(ValueError, match="no payload"):
        BagWriter(io.BytesIO()).add_bytes(path, b"")


# --- the command ---


def test_case_files_are_recognised_by_content() -> None:
    assert is_case_file(good()[:64])
    assert kind_of(good()[:64], len(good())) == "case-file"
    assert kind_of(SEALED_HEAD + bytes(60), 100) == "sealed-case-file"
    office = io.BytesIO()
    with zipfile.ZipFile(office, "w") as archive:
        archive.writestr("[Content_Types].xml", "<x/>")
    assert kind_of(office.getvalue()[:64], 100) == "file"


def test_a_sealed_case_file_is_to_be_opened_first(tmp_path: Path) -> None:
    (tmp_path / "x.yunxi-sealed").write_bytes(SEALED_HEAD + bytes(100))
    (tmp_path / "trust.json").write_bytes(world().trust().serialize())
    err = io.StringIO()
    arguments = [str(tmp_path / "x.yunxi-sealed"), "--trust", str(tmp_path / "trust.json")]
    assert run(arguments, io.StringIO(), err) == 2
    assert "yunxi casefile open" in err.getvalue()


def test_the_text_report_names_first_cause_levels_items_and_gaps(tmp_path: Path) -> None:
    made_of = draft()
    made_of.item(2)["role"] = "custody"
    (tmp_path / "case.zip").write_bytes(made_of.pack())
    (tmp_path / "trust.json").write_bytes(world().trust().serialize())
    out = io.StringIO()
    assert run([str(tmp_path / "case.zip"), "--trust", str(tmp_path / "trust.json")], out) == 1
    text = out.getvalue()
    assert "Item 2, case.json: The case file gives the record another role" in text
    assert text.count("\n  1. Integrity: BAD") == 1
    assert "  3. Inclusion in the log: good (good 10, bad 0, absent 0)" in text
    assert "evidence 8 · with the decision or after · corrects or withdraws item 2 · verified" in text
    assert "evidence 2 · before the decision · corrected or withdrawn by item 8, 2026-03-01 " in text
    assert "not given" in text
    assert text.rstrip().endswith("1 of 1 files are NOT verified.")


def test_the_one_file_verifier_does_it_alone(tmp_path: Path) -> None:
    program = build_verifier(tmp_path / "yunxi-verify.pyz")
    (tmp_path / "case.zip").write_bytes(good())
    (tmp_path / "trust.json").write_bytes(world().trust().serialize())
    command = [sys.executable, "-I", str(program), "case.zip", "--trust", "trust.json", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    found = json.loads(done.stdout)["files"][0]
    assert (found["verdict"], found["facts"]["kind"], len(found["facts"]["items"])) == ("good", "case-file", 10)
    with zipfile.ZipFile(program) as archive:
        assert not [name for name in archive.namelist() if name.startswith("ledger/casefile/")]


def test_a_department_without_a_known_keeper_is_said_to_be_so() -> None:
    facts = facts_of(good(), departments=(department("fire"), department("market")))
    assert "is not known" in " ".join(say_level(facts, "witnesses", "en"))
    assert "does not say" in " ".join(say_level(facts, "credibility", "en"))
