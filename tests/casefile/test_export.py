"""Exporting case files: a real case, what is in the file, that it verifies, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bagit
import pytest

from ledger.anchor import Anchorer
from ledger.casefile.contents import Gathering, _is_sayable
from ledger.casefile.export import Exported, Order, export
from ledger.casefile.reveal import Reveal
from ledger.casefile.sealing import create_key, open_case_file, open_key, parse_recipient
from ledger.casefile.words import Words, parse_list
from ledger.errors import CouldNotRun, KeyRefused, Malformed, PayloadInvalid, RecordRefused, Refusal
from ledger.forgetting import Forgetting
from ledger.formats.casefile import CaseFile, is_path
from ledger.formats.sdjwt import parse_presentation
from ledger.formats.trust import Trust
from ledger.listing import list_records
from ledger.node import Node
from ledger.paper import sheet
from ledger.record_types import BUILT_IN, RecordTypes
from ledger.rotation import LEAD_S, rotate_key
from ledger.submission import AttachmentSource, Refused, Submission
from ledger.trust import export_trust
from ledger.verify.casefile import CaseResult, verify_case_file
from tests.fixtures.cases import (
    BLURRED,
    CASE,
    MATTER,
    OFFICERS,
    PAPER,
    PHOTO,
    SHOWN,
    FilledCase,
    fill_case,
    received,
    step,
)
from tests.fixtures.nodes import Built, end_chain
from tests.fixtures.records import COMPANY, acknowledged

TYPES = RecordTypes.load(BUILT_IN)


@pytest.fixture(scope="module")
def made(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, FilledCase]]:
    """A node of its own with the case in it. Tests add to it; none changes what is there."""
    directory = built.copy_with_chain(tmp_path_factory.mktemp("case") / "node")
    node = built.open(directory)
    yield node, fill_case(node)
    node.close()
    end_chain(directory)


@pytest.fixture
def node(made: tuple[Node, FilledCase]) -> Node:
    return made[0]


@pytest.fixture
def case(made: tuple[Node, FilledCase]) -> FilledCase:
    return made[1]


def run(node: Node, target: Path, **changes: Any) -> Exported:
    return export(node, node.intake.submit, replace(Order(CASE), **changes), target)


def contents(path: Path) -> CaseFile:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return CaseFile.parse(archive.read("case.json"))


def verified(node: Node, path: Path) -> CaseResult:
    trust = export_trust(node)
    with path.open("rb") as stream:
        return verify_case_file(trust, stream, hashlib.sha256(trust.serialize()).hexdigest())


def bag_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


# ---- what is in it -----------------------------------------------------------------------------------------------


def test_a_real_case_is_whole_and_verifies(node: Node, case: FilledCase, tmp_path: Path) -> None:
    done = run(node, tmp_path / "case.zip", exported_for="望澜区人民法院")
    result = verified(node, tmp_path / "case.zip")
    assert [str(finding.error) for finding in result.findings] == []
    facts = result.facts
    assert facts is not None
    assert facts.trust_same
    found = contents(tmp_path / "case.zip")
    by_id = {item.record_id: item for item in found.items}
    first = {name: by_id[record_id] for name, record_id in case.own.items()}
    assert {name: item.role for name, item in first.items()} == {
        "filed": "step", "complaint": "evidence", "finding": "evidence", "photo": "evidence", "derived": "derived",
        "received": "custody", "missing": "step", "decision": "decision", "after": "evidence",
    }  # fmt: skip
    before = {name for name, item in first.items() if item.before_decision}
    assert before == {"filed", "complaint", "finding", "photo", "derived", "received", "missing"}
    assert [by_id[each].before_decision for each in case.foreign] == [True, True]
    assert [by_id[each].department for each in case.foreign] == ["health", "health"]
    assert found.exported_for == "望澜区人民法院"
    assert done.items == len(found.items)
    assert len(facts.decisions) == 1
    assert facts.decisions[0].missing == 0
    assert done.files == 3


def test_files_are_the_ones_that_were_sealed(node: Node, case: FilledCase, tmp_path: Path) -> None:
    run(node, tmp_path / "case.zip")
    bag, found = bag_of(tmp_path / "case.zip"), contents(tmp_path / "case.zip")
    given = {each.name: bag[each.path] for item in found.items for each in item.attachments if each.path}
    assert given == {"通道 照片.png": PHOTO, "blurred.png": BLURRED, "决定书.pdf": PAPER}
    [decision] = found.decisions
    manifest = bag[decision.manifest]
    assert (len(manifest.splitlines()), hashlib.sha256(manifest).hexdigest()) == (decision.count, decision.sha256)
    assert b"verify.html" in bag["README.txt"]
    assert bag["data/index.pdf"].startswith(b"%PDF")
    assert json.loads(bag["data/custody.jsonld"])["@graph"]


def test_a_long_index_is_in_volumes(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "VOLUME_PAGES", 2)
    run(node, tmp_path / "case.zip")
    assert verified(node, tmp_path / "case.zip").findings == ()
    bag, found = bag_of(tmp_path / "case.zip"), contents(tmp_path / "case.zip")
    assert found.volumes > 2
    paths = ["data/index.pdf", *(f"data/index-{k:03}.pdf" for k in range(2, found.volumes + 1))]
    assert [path for path in sorted(bag) if path.endswith(".pdf") and "index" in path] == sorted(paths)
    assert all(bag[path].startswith(b"%PDF") and bag[path].rstrip().endswith(b"%%EOF") for path in paths)
    assert all(f'href="{path.removeprefix("data/")}"'.encode() in bag["data/index.html"] for path in paths)


def test_gaps_are_those_that_the_records_show(node: Node, case: FilledCase, tmp_path: Path) -> None:
    run(node, tmp_path / "case.zip", media=False)
    kinds = {(gap.kind, gap.department, gap.record_id) for gap in contents(tmp_path / "case.zip").gaps}
    assert kinds == {
        ("chain-embedded", None, None),
        ("participant-missing", "traffic", None),
        ("attachment-withheld", None, case.own["photo"]),
        ("attachment-withheld", None, case.own["derived"]),
        ("attachment-withheld", None, case.own["decision"]),
    }
    assert verified(node, tmp_path / "case.zip").findings == ()


def test_the_same_state_gives_the_same_bytes_but_for_the_signature(node: Node, tmp_path: Path) -> None:
    first = run(node, tmp_path / "first.zip")
    node.clock = (lambda clock: lambda: clock() + 5)(node.clock)  # type: ignore[method-assign]
    second = run(node, tmp_path / "second.zip", at=first.log_size)
    assert (first.sha256, first.octets) == (second.sha256, second.octets)
    one, two = bag_of(tmp_path / "first.zip"), bag_of(tmp_path / "second.zip")
    assert {name for name in one if one[name] != two[name]} == {"signature.jws"}
    assert list(one) == list(two)


def test_each_export_is_a_record_of_the_case(node: Node, tmp_path: Path) -> None:
    done = run(
        node, tmp_path / "a.zip", exported_for="法院", media=False, reveal=Reveal.parse(["when,decision"], TYPES)
    )
    with node.database.reading() as connection:
        record = node.reader.open(connection, done.record_id).record()
    tags = bag_of(tmp_path / "a.zip")["tagmanifest-sha256.txt"]
    assert record["sha256"] == done.sha256 == hashlib.sha256(tags).hexdigest()
    assert (record["case"], record["revealed"], record["media"]) == (CASE, ["when,decision"], False)
    assert (record["exported_for"], record["log_size"], record["items"]) == ("法院", done.log_size, done.items)
    Anchorer(node).round()
    run(node, tmp_path / "b.zip")
    roles = {item.record_id: item.role for item in contents(tmp_path / "b.zip").items}
    assert roles[done.record_id] == "custody"


def test_what_came_later_is_counted_and_left_out(node: Node, tmp_path: Path) -> None:
    first = run(node, tmp_path / "first.zip")
    taken = acknowledged(
        node.intake.submit("fire", [Submission(f"late{first.record_id}", step("note.added", 12, text="迟"))])
    )
    second = run(node, tmp_path / "second.zip", at=first.log_size)
    assert second.later >= first.later + 2
    assert taken[0].record_id not in {item.record_id for item in contents(tmp_path / "second.zip").items}


# ---- what is shown -----------------------------------------------------------------------------------------------


def shown(path: Path, record_id: str) -> set[str]:
    [item] = [item for item in contents(path).items if item.record_id == record_id]
    return {d.unit for d in parse_presentation(bag_of(path)[item.record]).disclosures}


def test_only_named_units_are_shown_and_what_the_freeze_needs(node: Node, case: FilledCase, tmp_path: Path) -> None:
    reveal = Reveal.parse(["when,result", "photo.taken=caption,attachments", "complaint.received=none"], TYPES)
    run(node, tmp_path / "case.zip", reveal=reveal)
    path = tmp_path / "case.zip"
    assert shown(path, case.own["photo"]) == {"caption", "attachment-1"}
    assert shown(path, case.own["complaint"]) == set()
    assert shown(path, case.own["decision"]) == {"when", "manifest", "attachment-2"}
    assert shown(path, case.own["received"]) == {"when", "owner", "records"}
    assert shown(path, case.foreign[0]) == {"when", "result"}
    assert verified(node, path).findings == ()
    assert b"\xe6\x9f\x90\xe7\x94\xb2" not in b"".join(bag_of(path).values())  # the complainant's name


REVEALS: dict[str, tuple[list[str], str]] = {
    "a unit that no record has": (["when,wehn"], "no unit 'wehn'"),
    "a unit that the type lacks": (["photo.taken=decision"], "no unit 'decision'"),
    "a type that is none": (["photo.given=when"], "no record type 'photo.given'"),
    "nothing": ([""], "no unit ''"),
}


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        ([], False),
        (["photo.taken=caption"], False),
        (["when,nature"], False),
        (["all"], True),
        (["complaint.received=all"], True),
        (["when,complainant"], True),
    ],
)
def test_who_complained_is_shown_only_when_asked_for(texts: list[str], shown: bool) -> None:
    reveal = Reveal.parse(texts, TYPES)
    assert reveal.shows("complaint.received", "complainant") is shown
    assert reveal.shows("complaint.received", "when")


@pytest.mark.parametrize("name", REVEALS)
def test_a_reveal_is_refused(name: str) -> None:
    texts, words = REVEALS[name]
    with pytest.raises(RecordRefused, match=words):
        Reveal.parse(texts, TYPES)


def test_the_departments_words_stand_in_the_list(node: Node, case: FilledCase, tmp_path: Path) -> None:
    words = {case.own["photo"]: Words("现场照片", "证明通道被占用", "执法人员拍摄", "2026-03-02", "3")}
    run(node, tmp_path / "case.zip", words=words)
    [item] = [item for item in contents(tmp_path / "case.zip").items if item.record_id == case.own["photo"]]
    assert (item.name, item.purpose, item.source, item.date, item.page) == (
        "现场照片", "证明通道被占用", "执法人员拍摄", "2026-03-02", "3"
    )  # fmt: skip
    with pytest.raises(Refusal, match="not in the case file"):
        run(node, tmp_path / "b.zip", words={"01935100-0000-7000-8000-000000000001": Words("x")})


def test_lists_in_csv_and_json() -> None:
    expected = {"a": Words(name="照片", page="1"), "b": Words(purpose="x", date="2026-03-02")}
    as_csv = "\ufeffrecord_id,name,page,purpose,date\r\na,照片,1,,\r\nb,,,x,2026-03-02\r\n".encode()
    rows: list[dict[str, str | None]] = [
        {"record_id": "a", "name": "照片", "page": "1"}, {"record_id": "b", "purpose": "x", "date": "2026-03-02"}
    ]  # fmt: skip
    assert parse_list(as_csv) == parse_list(json.dumps(rows).encode()) == expected


LISTS: dict[str, tuple[bytes, str]] = {
    "another encoding": ("record_id,name\na,照片\n".encode("gb18030"), "not UTF-8"),
    "no record id": (b"name\nx\n", "header"),
    "an unknown column": (b"record_id,nmae\na,b\n", "header"),
    "a column twice": (b"record_id,name,name\na,b,c\n", "header"),
    "an empty record id": (b"record_id,name\n,b\n", "row 1 names no"),
    "a record twice": (b"record_id,name\na,b\na,c\n", "second time"),
    "a value too many": (b"record_id,name\na,b,c\n", "row 1 has not"),
    "a value too few": (b"record_id,name,page\na,b\n", "row 1 has not"),
    "a date that is none": (b"record_id,date\na,2026-13-01\n", "date of row 1"),
    "a line break": (b'record_id,name\na,"b\nc"\n', "name of row 1"),
    "a long text": (b"record_id,name\na," + b"x" * 2001 + b"\n", "at most 2,000"),
    "JSON that is cut": (b'[{"record_id":', "is not JSON"),
    "JSON of another shape": (b'[["a"]]', "list of objects"),
    "a number": (b'[{"record_id": "a", "page": 3}]', "page of row 1"),
    "JSON that is deep": (b"[" * 100_000, "is not JSON"),
    "nothing": (b"", "header"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_refused(name: str) -> None:
    data, words = LISTS[name]
    with pytest.raises(Malformed, match=words):
        parse_list(data)


# ---- for a court -------------------------------------------------------------------------------------------------


def test_sealed_to_a_court_only_the_court_opens_it(node: Node, tmp_path: Path) -> None:
    kid = create_key(tmp_path / "court.key", tmp_path / "court.jwk", "a passphrase")
    create_key(tmp_path / "other.key", tmp_path / "other.jwk", "a passphrase")
    recipient = parse_recipient((tmp_path / "court.jwk").read_bytes())
    done = run(node, tmp_path / "case.yunxi-sealed", recipient=recipient)
    plain = run(node, tmp_path / "plain.zip", at=done.log_size)
    data = (tmp_path / "case.yunxi-sealed").read_bytes()
    assert data.startswith(b"YXF")
    assert b"case.json" not in data
    opened = b"".join(open_case_file(open_key(tmp_path / "court.key", "a passphrase"), [data[:77], data[77:]]))
    (tmp_path / "opened.zip").write_bytes(opened)
    assert verified(node, tmp_path / "opened.zip").findings == ()
    assert plain.sha256 == done.sha256
    with node.database.reading() as connection:
        assert node.reader.open(connection, done.record_id).record()["recipient"] == kid
    with pytest.raises(KeyRefused, match="another key"):
        b"".join(open_case_file(open_key(tmp_path / "other.key", "a passphrase"), [data]))
    for name, damaged in DAMAGES.items():
        with pytest.raises((Malformed, PayloadInvalid)):
            b"".join(open_case_file(open_key(tmp_path / "court.key", "a passphrase"), [damaged(data)]))
            pytest.fail(name)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut in the head": lambda data: data[:50],
    "cut in the stream": lambda data: data[:-1],
    "nothing": lambda _: b"",
    "a zip": lambda _: b"PK\x03\x04" + bytes(200),
    "another suite": lambda data: data[:3] + b"\x02" + data[4:],
    "a byte of the wrapped key": lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
    "a byte of the stream": lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
    "a byte too many": lambda data: data + b"\0",
}

KEYS: dict[str, bytes] = {
    "no JSON": b"x",
    "a signing key": b'{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}',
    "a short key": b'{"kty": "OKP", "crv": "X25519", "x": "AAAA"}',
    "empty": b"",
}


@pytest.mark.parametrize("name", KEYS)
def test_a_recipients_key_is_refused(name: str) -> None:
    with pytest.raises(Malformed):
        parse_recipient(KEYS[name])


# ---- refusals, and what a crash leaves ---------------------------------------------------------------------------


ORDERS: dict[str, tuple[dict[str, Any], str]] = {
    "no such case": ({"case": "望消立〔2026〕8号"}, "no record of this node carries"),
    "no such department": ({"department": "water"}, "no log of department 'water'"),
    "another department's case": ({"department": "health"}, "no record of this node carries"),
    "a size that was not anchored": ({"at": 1}, "not anchored at size 1"),
    "a size before the case": ({"at": 300}, "no record of case"),
}


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_is_refused(node: Node, tmp_path: Path, name: str) -> None:
    changes, words = ORDERS[name]
    with pytest.raises(CouldNotRun, match=words):
        run(node, tmp_path / "case.zip", **changes)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_there_is_never_written_over(node: Node, tmp_path: Path) -> None:
    (tmp_path / "case.zip").write_bytes(b"mine")
    with pytest.raises(CouldNotRun, match="there already"):
        run(node, tmp_path / "case.zip")
    with pytest.raises(CouldNotRun, match="no directory"):
        run(node, tmp_path / "none" / "case.zip")
    assert (tmp_path / "case.zip").read_bytes() == b"mine"


def test_a_case_that_is_not_anchored_is_refused(node: Node, tmp_path: Path) -> None:
    acknowledged(node.intake.submit("fire", [Submission("new", step("note.added", 1, case="新案", text="x"))]))
    with pytest.raises(CouldNotRun, match="yunxi anchor"):
        run(node, tmp_path / "case.zip", case="新案")


def test_a_damaged_attachment_stops_the_export(made: tuple[Node, FilledCase], tmp_path: Path) -> None:
    node, _ = made
    number = "附件案"
    from ledger.submission import AttachmentSource

    source = AttachmentSource(os.urandom(100_000), "a.bin", "application/octet-stream")
    [taken] = acknowledged(
        node.intake.submit("fire", [Submission("damaged", step("note.added", 1, case=number, text="x"), (source,))])
    )
    Anchorer(node).round()
    with node.database.reading() as connection:
        from ledger.attachments import list_blobs
        from ledger.store.models import position_of
        from ledger.store.reading import find_entry

        row = find_entry(connection, taken.record_id)
        [blob] = list_blobs(connection, position_of(row.log, row.index))
    [path] = [p for p in (node.settings.directory / "blobs").rglob("*") if p.name == blob.name]
    data = bytearray(path.read_bytes())
    data[70_000] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(data))
    with pytest.raises(PayloadInvalid, match="attachment 1"):
        run(node, tmp_path / "case.zip", case=number)
    assert list(tmp_path.iterdir()) == []


def test_a_forgotten_record_stays_as_a_proof(node: Node, tmp_path: Path) -> None:
    number = "遗忘案"
    batch = [Submission(f"forget{n}", step("note.added", 1, case=number, text=f"x{n}")) for n in range(2)]
    taken = acknowledged(node.intake.submit("fire", batch))
    officers = [{"id": "a", "name": "a"}, {"id": "b", "name": "b"}]
    forgetting = Forgetting(node.database, node.blobs, node.intake, node.reader, node.clock)
    forgetting.forget(taken[0].record_id, "court-order", "basis", officers)
    Anchorer(node).round()
    run(node, tmp_path / "case.zip", case=number)
    found = contents(tmp_path / "case.zip")
    assert [item.forgotten for item in found.items] == [True, False, False]
    assert {(gap.kind, gap.record_id) for gap in found.gaps} >= {("forgotten", taken[0].record_id), ("no-filing", None)}
    assert verified(node, tmp_path / "case.zip").findings == ()
    assert found.items[2].type == "record.destroyed"
    assert io.BytesIO(bag_of(tmp_path / "case.zip")["data/index.pdf"]).read(4) == b"%PDF"


def test_a_correction_is_said_of_both_records(node: Node, tmp_path: Path) -> None:
    number = "更正案"
    [first] = acknowledged(
        node.intake.submit("fire", [Submission("wrong", step("note.added", 1, case=number, text="wrong"))])
    )
    right = step("note.added", 2, case=number, text="right", amends=first.record_id)
    [second] = acknowledged(node.intake.submit("fire", [Submission("right", right)]))
    Anchorer(node).round()
    run(node, tmp_path / "case.zip", case=number)
    result = verified(node, tmp_path / "case.zip")
    assert result.findings == ()
    assert result.facts is not None
    assert result.facts.amended == {1: [2]}
    assert [item.amends for item in contents(tmp_path / "case.zip").items] == [None, first.record_id]
    assert contents(tmp_path / "case.zip").items[1].record_id == second.record_id
    assert "已由第 2 项" in bag_of(tmp_path / "case.zip")["data/index.html"].decode()


def test_a_case_number_is_one_line_for_everybody(node: Node, tmp_path: Path) -> None:
    # bagit-py takes a separator of lines for the end of one
    for n, number in enumerate(("案\u2028二", "案\u2029二")):
        record = step("note.added", 1, case=number, text="x")
        [outcome] = node.intake.submit("fire", [Submission(f"line{n}", record)])
        assert isinstance(outcome, Refused)
        assert "one line of text" in str(outcome.error)


ODD_NUMBERS = (
    'a/b\\c:"d"<e>|*?',
    "rtl\u202e\u2067gpj",
    "👨‍👩‍👧",
    "../../etc/passwd",
    "{0}%s{case}",
    "案" * 100,
    "\u0301案",
)


def test_odd_case_numbers_and_names_of_files_make_good_bags(node: Node, tmp_path: Path) -> None:
    names = ("A.txt", "a.txt", "CON", "nul.txt", "a/b", "..", "x" * 200, "e\u0301.txt", "é.txt", "\u202egnp.exe", " ")
    files = tuple(AttachmentSource(b"", name, "text/plain") for name in names if name.strip())
    numbered = enumerate(ODD_NUMBERS)
    batch = [Submission(f"odd{n}", step("note.added", 1, case=case, text="x"), files) for n, case in numbered]
    acknowledged(node.intake.submit("fire", batch))
    Anchorer(node).round()
    for number, case in enumerate(ODD_NUMBERS):
        path, place = tmp_path / f"{number}.zip", tmp_path / str(number)
        run(node, path, case=case)
        assert verified(node, path).findings == ()
        with zipfile.ZipFile(path) as archive:
            assert all(is_path(name) or "/" not in name for name in archive.namelist())
            archive.extractall(place)
        bagit.Bag(str(place)).validate(processes=1)


# ---- what another department's record may say ----------------------------------------------------------------------


def test_of_a_record_received_twice_the_fuller_one_is_in_it(node: Node, tmp_path: Path) -> None:
    number = "再取案"
    with node.database.reading() as connection:
        foreign = [each.record_id for each in list_records(connection, "health")][-2:]
    for n, units in enumerate((("when", "result"), SHOWN, ("when",))):
        record, files = received(node, foreign, foreign[0], number, units)
        record |= {"page": n + 1}
        acknowledged(node.intake.submit("fire", [Submission(f"again{n}", record, tuple(files), by_service=True)]))
    Anchorer(node).round()
    run(node, tmp_path / "case.zip", case=number)
    assert shown(tmp_path / "case.zip", foreign[0]) == set(SHOWN)
    assert len([i for i in contents(tmp_path / "case.zip").items if i.department == "health"]) == 2
    assert verified(node, tmp_path / "case.zip").findings == ()


ATTACHMENTS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "as it should be": ("attachment-1", {"name": "a.png", "media_type": "image/png"}, True),
    "a line break in the name": ("attachment-1", {"name": "a\nb", "media_type": "image/png"}, False),
    "no name": ("attachment-1", {"name": "", "media_type": "image/png"}, False),
    "a long name": ("attachment-1", {"name": "x" * 2001, "media_type": "image/png"}, False),
    "a long media type": ("attachment-1", {"name": "a", "media_type": "x" * 201}, False),
    "a number that is none": ("attachment-x", {"name": "a", "media_type": "x"}, False),
    "a number with a zero before it": ("attachment-01", {"name": "a", "media_type": "x"}, False),
    "a number that is too large": ("attachment-100", {"name": "a", "media_type": "x"}, False),
    "digits of another script": ("attachment-１", {"name": "a", "media_type": "x"}, False),
    "no attachment at all": ("when", {}, True),
}


@pytest.mark.parametrize("name", ATTACHMENTS)
def test_an_attachment_that_case_json_cannot_name_is_withheld(name: str) -> None:
    unit, members, sayable = ATTACHMENTS[name]
    assert _is_sayable(unit, members) is sayable


def test_a_key_that_is_rotated_in_meanwhile_does_not_sign(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a case file is signed with stands in the trust file that is in it, however long making it takes."""
    ahead = [0.0]
    directory = built.copy_with_chain(tmp_path / "node")
    node = Node.open(directory, lambda: time.time() + ahead[0])
    record = step("case.filed", 1, CASE, cause="x", matter=MATTER, subjects=[COMPANY], officers=OFFICERS)
    acknowledged(node.intake.submit("fire", [Submission("filed", record)]))
    Anchorer(node).round()
    gather = Gathering.gather

    def slowly(self: Gathering) -> Any:
        rotate_key(node, "fire", "statement")
        ahead[0] += LEAD_S + 1
        return gather(self)

    monkeypatch.setattr(Gathering, "gather", slowly)
    run(node, tmp_path / "case.zip")
    with zipfile.ZipFile(tmp_path / "case.zip") as archive:
        enclosed = Trust.parse(archive.read("data/trust.json"))
    for trust in (enclosed, export_trust(node)):
        digest = hashlib.sha256(trust.serialize()).hexdigest()
        with (tmp_path / "case.zip").open("rb") as stream:
            assert [str(each.error) for each in verify_case_file(trust, stream, digest).findings] == []
    node.close()
    end_chain(directory)
