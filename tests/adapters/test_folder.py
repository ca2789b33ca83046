"""The drop folder: half-written files wait, every file and row comes once, attachments may come before or after."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.files import open_regular
from adapters.folder import Folder, FolderOptions
from adapters.mapping import FeedMapping, open_source, parse_mapping
from adapters.run import RunReport, check, preview, run
from adapters.sections import Section
from adapters.source import BadRow, Opening, Row
from ledger.errors import CouldNotRun, Malformed
from ledger.record_types import BUILT_IN, RecordTypes

PHOTOS = """
mapping = "photos"
version = 1
department = "market"
type = "photo.taken"
v = 1
system = "camera"
key = ["no"]

[source]
kind = "folder"
path = "inbox"
format = "csv"
settle_seconds = 0

[fields]
"occurred_at" = { column = "at", as = "datetime" }

[[attachments]]
column = "photo"
split = ";"
"""
HEADER = "no,at,photo\n"
CSV = (
    PHOTOS[: PHOTOS.index("[source]")]
    + """
[source]
kind = "csv"
path = "inbox/a.csv"
[fields]
"occurred_at" = { column = "at", as = "datetime" }
"""
)


def line(number: int, photo: str) -> str:
    return f"{number},2024-03-05T08:00:0{number}+08:00,{photo}\n"


class Desk:
    """A folder with a mapping; `later` moves the clock of the adapter, not that of the files."""

    def __init__(self, directory: Path, state: Any, ledger: Any, text: str = PHOTOS) -> None:
        self.directory = directory
        self.inbox = directory / "inbox"
        self.inbox.mkdir()
        self.mapping: FeedMapping = parse_mapping(text.encode(), "m.toml", directory)
        self.later = 0.0
        self._state = state
        self._ledger = ledger

    def source(self) -> Folder:
        opening = Opening(self.directory, self.mapping.columns, clock=lambda: time.time() + self.later)
        source = self.mapping.options.open(opening)
        assert isinstance(source, Folder)
        return source

    def run(self) -> RunReport:
        return run(self.mapping, self.source(), self._state, self._ledger, batch=2)

    def put(self, name: str, text: str | bytes) -> Path:
        path = self.inbox / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def waiting(self) -> dict[str, int]:
        return self._state.quarantine_counts("market/photos")


@pytest.fixture
def desk(tmp_path, state, ledger) -> Desk:
    return Desk(tmp_path, state, ledger)


def settling(seconds: int, extra: str = "") -> str:
    return PHOTOS.replace("settle_seconds = 0", f"settle_seconds = {seconds}\n{extra}")


def test_rows_with_attachments_beside_them(desk, ledger):
    desk.put("a.jpg", b"1")
    desk.put("b.jpg", b"2")
    desk.put("day.csv", HEADER + line(1, "a.jpg") + line(2, "a.jpg;b.jpg"))
    report = desk.run()
    assert (report.sealed, dict(report.by_reason)) == (2, {})
    assert desk.run().read == 0
    desk.put("deep/c.jpg", b"3")
    desk.put("evening.csv", HEADER + line(3, "deep/c.jpg") + line(4, "../day.csv"))
    report = desk.run()
    assert (report.sealed, dict(report.by_reason)) == (1, {"attachment-outside": 1})


def test_check_and_preview_count_declared_attachments(desk):
    types = RecordTypes.load(BUILT_IN)
    desk.put("a.jpg", b"1")
    desk.put("day.csv", HEADER + line(1, "a.jpg"))

    def validate(record: dict[str, Any]) -> None:
        types.validate(record, time.time())

    assert check(desk.mapping, desk.source(), validate=validate).clean
    (shown,) = preview(desk.mapping, desk.source(), 5, validate=validate)
    assert (shown.refusal, shown.attachments) == (None, ("a.jpg",))
    assert shown.record is not None and "attachments" not in shown.record


def test_a_half_written_file_waits_until_it_is_still(tmp_path, state, ledger):
    desk = Desk(tmp_path, state, ledger, settling(60))
    desk.put("a.jpg", b"1")
    desk.put("day.csv", HEADER + line(1, "a.jpg")[:-5])
    assert desk.run().read == 0
    desk.later = 61.0
    desk.put("day.csv", HEADER + line(1, "a.jpg"))
    os.utime(desk.inbox / "day.csv", (0, 0))  # a copy that keeps the old time of modification
    desk.later = 0.0
    assert desk.run().read == 0
    desk.later = 61.0
    assert desk.run().sealed == 1
    assert ledger.keys() == ["1"]


@pytest.mark.parametrize("name", [".day.csv", "~$day.csv", "day.csv.part", "day.csv.filepart", "day.csv~"])
def test_names_of_unfinished_files_are_passed_over_until_they_are_renamed(desk, name):
    desk.put("a.jpg", b"1")
    path = desk.put(name, HEADER + line(1, "a.jpg"))
    assert desk.run().read == 0
    path.rename(desk.inbox / "day.csv")
    assert desk.run().sealed == 1


def test_a_marker_file_announces(tmp_path, state, ledger):
    desk = Desk(tmp_path, state, ledger, settling(60, 'ready = ".done"'))
    desk.put("a.jpg", b"1")
    desk.put("day.csv", HEADER + line(1, "a.jpg"))
    assert desk.run().read == 0
    desk.put("day.csv.done", "")
    assert desk.run().sealed == 1


def test_an_attachment_that_comes_later(desk, ledger):
    desk.put("day.csv", HEADER + line(1, "a.jpg") + line(2, "b.jpg") + line(3, "a.jpg"))
    desk.put("a.jpg", b"1")
    assert (desk.run().sealed, desk.waiting()) == (2, {"attachment-missing": 1})
    assert desk.run().read == 0
    desk.put("b.jpg", b"2")
    report = desk.run()
    assert (report.sealed, report.known, desk.waiting()) == (1, 2, {})
    assert desk.run().read == 0
    assert sorted(ledger.keys()) == ["1", "2", "3"]


def test_an_attachment_that_is_still_being_written(tmp_path, state, ledger):
    desk = Desk(tmp_path, state, ledger, settling(60))
    desk.put("day.csv", HEADER + line(1, "a.jpg"))
    desk.later = 61.0
    old = desk.source()._is_still
    photo = desk.put("a.jpg", b"half")
    growing = desk.source()
    growing._is_still = lambda status: status.st_ino != photo.stat().st_ino and old(status)
    report = run(desk.mapping, growing, state, ledger)
    assert dict(report.by_reason) == {"attachment-missing": 1}
    assert desk.run().sealed == 1
    assert desk.waiting() == {}


def test_waiting_ends(tmp_path, state, ledger):
    desk = Desk(tmp_path, state, ledger, settling(0, "wait_hours = 1"))
    desk.put("day.csv", HEADER + line(1, "a.jpg"))
    assert desk.run().quarantined == 1
    desk.put("other.jpg", b"")
    assert desk.run().quarantined == 1
    desk.later = 3601.0
    desk.put("another.jpg", b"")
    assert desk.run().read == 0


def test_a_run_that_died_knows_what_waits(desk, state, ledger):
    desk.put("day.csv", HEADER + line(1, "late.jpg") + line(2, "a.jpg") + line(3, "a.jpg") + line(4, "a.jpg"))
    desk.put("a.jpg", b"1")

    class PowerCut(BaseException): ...

    def cut(_: Any) -> None:
        raise PowerCut

    with pytest.raises(PowerCut):
        run(desk.mapping, desk.source(), state, ledger, cut, batch=2)
    assert desk.run().sealed == 2
    desk.put("late.jpg", b"2")
    assert desk.run().sealed == 1
    assert sorted(ledger.keys()) == ["1", "2", "3", "4"]


def test_a_file_that_cannot_be_read_holds_nobody_up(desk, ledger):
    desk.put("a.jpg", b"1")
    good = (HEADER + line(1, "a.jpg")).encode()
    desk.put("1.csv", HEADER.replace("no", "number") + line(9, "a.jpg"))
    desk.put("2.csv", good)
    report = desk.run()
    assert (report.sealed, dict(report.by_reason)) == (1, {"missing-column": 1})
    assert desk.run().read == 0
    desk.put("1.csv", HEADER + line(2, "a.jpg"))
    assert (desk.run().sealed, desk.waiting()) == (1, {})


def test_a_compressed_file_that_is_cut_off_is_set_aside_until_it_is_whole(tmp_path, state, ledger):
    import gzip

    desk = Desk(tmp_path, state, ledger, PHOTOS.replace('format = "csv"', 'format = "csv"\npattern = "*.csv.gz"'))
    desk.put("a.jpg", b"1")
    whole = gzip.compress((HEADER + "".join(line(n, "a.jpg") for n in range(1, 6))).encode())
    desk.put("1.csv.gz", whole[:-6])
    desk.put("2.csv.gz", gzip.compress((HEADER + line(7, "a.jpg")).encode()))
    report = desk.run()
    assert dict(report.by_reason) == {"unreadable": 1}
    assert ledger.keys()[-1] == "7"
    desk.put("1.csv.gz", whole)
    desk.run()
    assert (sorted(ledger.keys()), desk.waiting()) == (["1", "2", "3", "4", "5", "7"], {})


def test_links_and_names_that_no_database_takes(desk, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text(HEADER + line(1, "a.jpg"))
    (desk.inbox / "link.csv").symlink_to(secret)
    (desk.inbox / "new\nline.csv").write_text(HEADER)
    Path(os.fsdecode(os.fsencode(desk.inbox) + b"/\xff.csv")).write_text(HEADER)
    report = desk.run()
    assert (report.read, dict(report.by_reason)) == (2, {"bad-name": 2})


EACH = PHOTOS.replace('format = "csv"', 'format = "file"\npattern = "**/*.jpg"').replace('"no"', '"path"').replace(
    'column = "at"', 'column = "modified"'
).replace('column = "photo"\nsplit = ";"', 'column = "name"')  # fmt: skip


def test_every_file_is_a_row(tmp_path, state, ledger):
    desk = Desk(tmp_path, state, ledger, EACH)
    os.utime(desk.put("a.jpg", b"1"), (1_709_596_800, 1_709_596_800))
    desk.put("car 7/b.jpg", b"2")
    desk.put("notes.txt", b"")
    assert desk.run().sealed == 2
    assert desk.run().read == 0
    assert ledger.keys() == ["a.jpg", "car 7/b.jpg"]
    assert ledger.records()[0]["occurred_at"] == "2024-03-05T00:00:00+00:00"
    types = RecordTypes.load(BUILT_IN)
    assert check(desk.mapping, desk.source(), validate=lambda record: types.validate(record, time.time())).clean


DIGESTS = {
    "right": (hashlib.sha256(b"1").hexdigest(), {}),
    "in capitals": (hashlib.sha256(b"1").hexdigest().upper(), {}),
    "of something else": (hashlib.sha256(b"2").hexdigest(), {"attachment-digest": 1}),
    "none": ("", {"attachment-digest": 1}),
    "one too many": ("ab;cd", {"attachment-digest": 1}),
}


@pytest.mark.parametrize("name", DIGESTS)
def test_digests_that_the_source_gives_are_checked(tmp_path, state, ledger, name):
    digest, expected = DIGESTS[name]
    desk = Desk(tmp_path, state, ledger, PHOTOS + 'sha256 = "digest"\n')
    desk.put("a.jpg", b"1")
    desk.put("day.csv", HEADER.replace("photo", "photo,digest") + line(1, f"a.jpg,{digest}"))
    assert dict(desk.run().by_reason) == expected


def test_the_digest_as_a_column(tmp_path, state, ledger):
    desk = Desk(tmp_path, state, ledger, EACH.replace('key = ["path"]', 'key = ["sha256"]'))
    desk.put("a.jpg", b"1")
    desk.run()
    assert ledger.keys() == [hashlib.sha256(b"1").hexdigest()]


WRONG = {
    "no format": ({}, "source.format"),
    "a format that is none": ({"format": "sql"}, "source.format"),
    "a glob": ({"format": "csv", "glob": "*"}, "source.glob"),
    "a pattern that leaves": ({"format": "csv", "pattern": "../*"}, "source.pattern"),
    "a marker that is none": ({"format": "csv", "ready": "x/y"}, "source.ready"),
    "settling for ever": ({"format": "csv", "settle_seconds": 10**9}, "settle_seconds"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options(name):
    data, sentence = WRONG[name]
    with pytest.raises(Malformed, match=sentence):
        FolderOptions.parse(Section("m.toml", "source", {"path": "inbox", **data}))


def test_a_folder_that_is_not_there(tmp_path):
    options = FolderOptions.parse(Section("m.toml", "source", {"path_env": "INBOX", "format": "file"}))
    with pytest.raises(CouldNotRun, match="INBOX"):
        options.open(Opening(tmp_path, frozenset()))
    with pytest.raises(CouldNotRun, match="no directory"):
        options.open(Opening(tmp_path, frozenset(), environ={"INBOX": "nowhere"}))


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything, so for a while the process is somebody else."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


def test_a_folder_that_may_not_be_listed_is_not_an_empty_one(tmp_path):
    """A directory whose permission was lost looked like one into which nothing is delivered."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        root.chmod(0o755)
        options = FolderOptions.parse(
            Section("m.toml", "source", {"path": "inbox", "format": "csv", "pattern": "**/*.csv"})
        )
        (root / "inbox" / "closed").mkdir(parents=True)
        (root / "inbox" / "closed").chmod(0o311)
        (root / "inbox" / "closed" / "a.csv").write_text("no\n1\n")
        with as_nobody():
            (page,) = options.open(Opening(root, frozenset())).pages({}, 10)
            assert [(row.position, row.reason) for row in page.rows] == [("closed", "unreadable")]
        (root / "inbox").chmod(0o311)
        with as_nobody(), pytest.raises(CouldNotRun, match="cannot be listed"):
            list(options.open(Opening(root, frozenset())).pages({}, 10))
        root.chmod(0o600)
        with as_nobody(), pytest.raises(CouldNotRun, match="cannot be reached"):
            options.open(Opening(root, frozenset()))
        with as_nobody(), pytest.raises(CouldNotRun, match="cannot be reached"):
            open_source(parse_mapping(CSV.encode(), "m.toml", root))
        root.chmod(0o755)
        (root / "inbox").chmod(0o755)


def test_what_is_no_file_never_blocks(desk, tmp_path, ledger):
    os.mkfifo(desk.inbox / "1.csv")
    (desk.inbox / "2.csv").mkdir()
    (desk.inbox / "3.csv").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(desk.inbox / "4.csv"))
    for number, (name, make) in enumerate({
        "pipe.jpg": os.mkfifo,
        "directory.jpg": os.mkdir,
        "device.jpg": lambda path: path.symlink_to("/dev/zero"),
    }.items()):  # fmt: skip
        make(desk.inbox / name)
        desk.put(f"row{number}.csv", HEADER + line(number, name))
    desk.put("a.jpg", b"1")
    desk.put("row9.csv", HEADER + line(9, "a.jpg"))
    report = desk.run()
    assert (report.sealed, dict(report.by_reason)) == (1, {"attachment-missing": 2, "attachment-outside": 1})


def test_a_pipe_that_takes_a_files_place_at_the_last_moment(tmp_path):
    os.mkfifo(tmp_path / "f.csv")
    with pytest.raises(CouldNotRun, match="is no file but a pipe"):
        open_regular(tmp_path / "f.csv")


def test_the_same_name_with_new_content(desk, ledger):
    desk.put("a.jpg", b"1")
    desk.put("day.csv", HEADER + line(1, "a.jpg"))
    assert desk.run().sealed == 1
    # renamed over, of the same size and with the old time
    old = (desk.inbox / "day.csv").stat()
    spare = desk.put("spare.tmp", HEADER + line(2, "a.jpg"))
    os.utime(spare, ns=(old.st_atime_ns, old.st_mtime_ns))
    spare.rename(desk.inbox / "day.csv")
    assert (desk.run().sealed, ledger.keys()) == (1, ["1", "2"])


@pytest.mark.parametrize(
    "name", ["gpj.\u202ecsv.csv", "a\u200bb.csv", "a\ufeff.csv", "a\x7f.csv", "x" * 240 + "\u00ad.csv"]
)
def test_names_that_look_like_others(desk, name):
    desk.put(name, HEADER)
    assert dict(desk.run().by_reason) == {"bad-name": 1}


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission(desk):
    desk.put("1.csv", HEADER).chmod(0)
    assert dict(desk.run().by_reason) == {"unreadable": 1}


def test_positions_name_the_file_below_the_folder(desk):
    desk.put("1.csv", HEADER + line(1, "") + "x\n")
    rows = [row for page in desk.source().pages({}, 10) for row in page.rows]
    assert isinstance(rows[0], Row) and isinstance(rows[1], BadRow)
    assert [row.position for row in rows] == ["1.csv:2", "1.csv:3"]
