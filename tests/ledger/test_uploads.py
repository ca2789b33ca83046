"""Resumable uploads: every cut, every order, two at once; and on disk nothing that can be read without the keys."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from ledger.crypto.stream import seal_stream
from ledger.errors import PayloadInvalid, RecordRefused, StorageFailed
from ledger.store.models import attachments, uploads, vault
from ledger.submission import Acknowledged, Refused, Submission, UploadedSource
from ledger.uploads import RUN_BYTES, Upload, UploadLimits, Uploads
from tests.fixtures.parts import Parts, Template
from tests.fixtures.records import attachment, report
from tests.ledger import upload_worker

MIB = 1 << 20
DATA = os.urandom(2 * MIB + 333)


class Clock:
    """A clock that stands, now, until it is moved."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(parts: Parts, clock: Clock) -> Uploads:
    return make(parts, clock)


def make(parts: Parts, clock: Clock, **limits: int) -> Uploads:
    """Another process's view of the same uploads."""
    directory = parts.directory / "uploads"
    return Uploads(parts.database, parts.blobs, parts.keks, directory, clock, UploadLimits(**limits))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def whole(store: Uploads, data: bytes = DATA) -> Upload:
    """A finished upload."""
    begun = store.begin("fire", len(data), sha256=sha256(data))
    return store.append("fire", begun.id, 0, [data])


def source(done: Upload, data: bytes = DATA, **changes: object) -> UploadedSource:
    values = {"upload": done.id, "name": "v.mp4", "media_type": "video/mp4", "size": len(data)}
    return UploadedSource(**{**values, "sha256": sha256(data), **changes})  # type: ignore[arg-type]


def read(parts: Parts, record_id: str, number: int = 1) -> bytes:
    with parts.database.reading() as connection:
        return b"".join(parts.reader.attachment(connection, record_id, number))


def reason_of(outcome: object) -> str:
    assert isinstance(outcome, Refused), outcome
    return outcome.error.reason


# ---- coming in ---------------------------------------------------------------------------------------------------


def test_a_file_in_uneven_pieces_becomes_an_attachment(parts: Parts, store: Uploads) -> None:
    begun = store.begin("fire", len(DATA))
    assert (begun.received, begun.sha256, begun.sealed) == (0, None, False)
    at = 0
    for size in (1, 5, MIB - 6, 1, MIB + 3, 200, 10**9):
        found = store.append("fire", begun.id, at, [DATA[at : at + size // 2], DATA[at + size // 2 : at + size]])
        at = min(at + size, len(DATA))
        assert found.received == at == store.find("fire", begun.id).received
    assert found.sha256 == sha256(DATA)
    [taken] = parts.take([Submission("k", report(1), uploads=(source(found),))])
    assert read(parts, taken.record_id) == DATA
    report_ = parts.audit()
    assert (report_.good, report_.attachments) == (True, 1)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(1, 3 * MIB), cuts=st.lists(st.integers(1, 3 * MIB), max_size=6), sealed=st.booleans())
def test_any_size_in_any_pieces(sqlite_parts: Parts, clock: Clock, size: int, cuts: list[int], sealed: bool) -> None:
    data = (b"YXS" + DATA * 2)[:size]
    begun = make(sqlite_parts, clock).begin("fire", size, sealed=sealed)
    ends = sorted({min(cut, size) for cut in cuts} | {size})
    at = 0
    for end in ends:  # each piece by another process
        found = make(sqlite_parts, clock).append("fire", begun.id, at, [data[at:end]])
        at = end
    assert (found.received, found.sha256) == (size, sha256(data))


@pytest.mark.parametrize("size", [MIB, 2 * MIB, MIB + 1, 1])
def test_sizes_at_the_border_of_a_segment(parts: Parts, store: Uploads, size: int) -> None:
    found = whole(store, DATA[:size])
    [taken] = parts.take([Submission("k", report(1), uploads=(source(found, DATA[:size]),))])
    assert read(parts, taken.record_id) == DATA[:size]


def cut_after(data: bytes, size: int) -> Iterator[bytes]:
    yield data[:size]
    raise ConnectionResetError("the line was cut")


def test_what_came_before_a_cut_is_kept(store: Uploads) -> None:
    begun = store.begin("fire", len(DATA))
    with pytest.raises(ConnectionResetError):
        store.append("fire", begun.id, 0, cut_after(DATA, MIB + 77))
    assert store.find("fire", begun.id).received == MIB + 77
    assert store.append("fire", begun.id, MIB + 77, [DATA[MIB + 77 :]]).sha256 == sha256(DATA)


def test_a_long_append_is_durable_run_by_run(sqlite_parts: Parts, clock: Clock) -> None:
    store = make(sqlite_parts, clock)
    begun = store.begin("fire", 2 * RUN_BYTES)
    receiver = store.receive("fire", begun.id, 0)
    assert not receiver.take(bytes(RUN_BYTES - 1))
    assert receiver.take(b"\0")
    receiver.store()
    receiver.take(b"lost with the process")
    assert make(sqlite_parts, clock).find("fire", begun.id).received == RUN_BYTES


def test_of_two_at_the_same_offset_one_wins(sqlite_parts: Parts, clock: Clock) -> None:
    store = make(sqlite_parts, clock)
    for _ in range(5):
        begun = store.begin("fire", len(DATA))
        barrier, ends = threading.Barrier(2), []

        def append(name: str, barrier: threading.Barrier, ends: list[str]) -> None:
            mine = make(sqlite_parts, clock)
            barrier.wait()
            try:
                mine.append("fire", name, 0, [DATA])
                ends.append("won")
            except RecordRefused as error:
                ends.append(error.reason)

        threads = [threading.Thread(target=append, args=(begun.id, barrier, ends)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(ends) == ["upload-offset", "won"]
        assert store.find("fire", begun.id).sha256 == sha256(DATA)


@pytest.mark.slow
def test_every_step_may_be_the_last(sqlite_parts: Parts, template: Template) -> None:
    """A real process dies before each of its steps in turn; another goes on, and nothing is lost or doubled."""
    command = [sys.executable, "-m", "tests.ledger.upload_worker"]
    arguments = [str(template.directory / "keys"), sqlite_parts.url, str(sqlite_parts.directory)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    steps = int(done.stdout)
    assert steps > 30
    assert sqlite_parts.log().size == steps  # one record for each death, and one for the run without
    audit = sqlite_parts.audit()
    assert (audit.good, audit.attachments) == (True, steps)
    with sqlite_parts.database.reading() as connection:
        blobs = set(connection.scalars(select(attachments.c.blob)))
        assert len(blobs) == steps
        left = connection.scalars(select(uploads.c.id)).all()
    assert not blobs & set(left)
    assert read(sqlite_parts, _first_record(sqlite_parts)) == upload_worker.FILE


def _first_record(parts: Parts) -> str:
    [known] = parts.intake.look_up("fire", [Submission("k1", report(1))])
    assert known is not None
    return known.record_id


# ---- refusals ----------------------------------------------------------------------------------------------------


def test_the_offset_must_be_what_is_durable(store: Uploads) -> None:
    begun = store.begin("fire", len(DATA))
    store.append("fire", begun.id, 0, [DATA[:100]])
    for offset in (0, 99, 101, len(DATA)):
        with pytest.raises(RecordRefused, match="stands at byte 100;") as caught:
            store.append("fire", begun.id, offset, [b"x"])
        assert caught.value.reason == "upload-offset"


def test_more_than_was_declared_is_refused_and_not_kept(store: Uploads) -> None:
    begun = store.begin("fire", 10)
    with pytest.raises(RecordRefused) as caught:
        store.append("fire", begun.id, 0, [b"0123456789", b"x"])
    assert caught.value.reason == "upload-size"
    assert store.append("fire", begun.id, 0, [b"0123456789"]).sha256 == sha256(b"0123456789")


def test_another_file_than_declared_is_thrown_away(parts: Parts, store: Uploads) -> None:
    begun = store.begin("fire", 3, sha256=sha256(b"abc"))
    with pytest.raises(RecordRefused) as caught:
        store.append("fire", begun.id, 0, [b"abd"])
    assert caught.value.reason == "upload-digest"
    with pytest.raises(RecordRefused, match="there is no upload"):
        store.find("fire", begun.id)
    assert files_in(parts.directory) == []


def files_in(directory: Path) -> list[Path]:
    return [path for part in ("uploads", "blobs") for path in (directory / part).rglob("*") if path.is_file()]


BEGINNINGS = {
    "no bytes": (0, None, "upload-size"),
    "negative": (-1, None, "upload-size"),
    "more than a file may have": (101, None, "upload-size"),
    "a digest in upper case": (5, "AB" * 32, "upload-digest"),
    "a digest of another kind": (5, "ab" * 16, "upload-digest"),
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_what_cannot_begin(parts: Parts, clock: Clock, name: str) -> None:
    size, digest, reason = BEGINNINGS[name]
    with pytest.raises(RecordRefused) as caught:
        make(parts, clock, file_bytes=100).begin("fire", size, sha256=digest)
    assert caught.value.reason == reason


def test_a_department_may_have_only_so_much_under_way(parts: Parts, clock: Clock) -> None:
    store = make(parts, clock, open_uploads=2, open_bytes=100)
    first = store.begin("fire", 60)
    for size, reason in ((41, "upload-limit"), (40, None), (1, "upload-limit")):
        if reason is None:
            store.begin("fire", size)
            continue
        with pytest.raises(RecordRefused, match="under way") as caught:
            store.begin("fire", size)
        assert caught.value.reason == reason
    store.begin("health", 60)
    assert len(files_in(parts.directory)) == 3  # what is refused leaves nothing
    store.cancel("fire", first.id)
    store.begin("fire", 60)


def test_a_disk_without_room_is_said_before_anything_is_sent(parts: Parts, clock: Clock) -> None:
    with pytest.raises(StorageFailed, match="no room"):
        make(parts, clock, free_bytes=1 << 62).begin("fire", 1)
    free = shutil.disk_usage(parts.directory.parent).free
    generous = make(parts, clock, file_bytes=free, open_bytes=2 * free)
    generous.begin("fire", free * 2 // 3)
    with pytest.raises(StorageFailed, match="no room"):  # what the first has still to bring counts
        generous.begin("fire", free * 2 // 3)


def test_a_department_without_a_log(store: Uploads) -> None:
    with pytest.raises(RecordRefused) as caught:
        store.begin("parks", 5)
    assert caught.value.reason == "department"


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "ab", "AB" * 16, "ab" * 17, "\0" * 32])
def test_names_that_are_none(store: Uploads, name: str) -> None:
    for call in (store.find, store.cancel, lambda d, n: store.append(d, n, 0, [b"x"])):
        with pytest.raises(RecordRefused) as caught:
            call("fire", name)
        assert caught.value.reason == "unknown-upload"


def test_an_upload_is_its_departments_alone(parts: Parts, store: Uploads) -> None:
    mine = whole(store)
    for call in (store.find, store.cancel, lambda d, n: store.append(d, n, len(DATA), [])):
        with pytest.raises(RecordRefused, match="there is no upload"):
            call("health", mine.id)
    [outcome] = parts.submit([Submission("k", report(1), uploads=(source(mine),))], "health")
    assert reason_of(outcome) == "unknown-upload"


# ---- becoming an attachment --------------------------------------------------------------------------------------


def test_files_and_uploads_of_one_record(parts: Parts, store: Uploads, tmp_path: Path) -> None:
    one, two = whole(store), whole(store, b"second")
    file = attachment(tmp_path / "a.png", b"png")
    sources = (source(one, role="original"), source(two, b"second", name="t.jpg", role="thumbnail"))
    [taken] = parts.take([Submission("k", report(1), (file,), sources)])
    assert [read(parts, taken.record_id, number) for number in (1, 2, 3)] == [b"png", DATA, b"second"]
    with parts.database.reading() as connection:
        described = parts.reader.open(connection, taken.record_id).record()["attachments"]
    assert [item.get("role") for item in described] == [None, "original", "thumbnail"]
    assert described[1] == {
        "name": "v.mp4", "media_type": "video/mp4", "size": len(DATA), "sha256": sha256(DATA), "role": "original",
    }  # fmt: skip


def test_the_bytes_stay_where_they_are(parts: Parts, store: Uploads) -> None:
    found = whole(store)
    [before] = files_in(parts.directory)
    inode = before.stat().st_ino
    parts.take([Submission("k", report(1), uploads=(source(found),))])
    assert [path.stat().st_ino for path in files_in(parts.directory)] == [inode]


def test_the_same_submission_again_is_known_although_the_upload_is_gone(parts: Parts, store: Uploads) -> None:
    submission = Submission("k", report(1), uploads=(source(whole(store)),))
    [first], [again] = parts.take([submission]), parts.take([submission])
    assert (first.new, again.new, first.record_id) == (True, False, again.record_id)


def test_an_upload_goes_to_one_record_only(parts: Parts, store: Uploads) -> None:
    found = whole(store)
    batch = [Submission(f"k{n}", report(n), uploads=(source(found),)) for n in range(2)]
    first, second = parts.submit(batch)
    assert isinstance(first, Acknowledged)
    assert reason_of(second) == "unknown-upload"
    [third] = parts.submit([Submission("k3", report(3), uploads=(source(found),))])
    assert reason_of(third) == "unknown-upload"
    twice = Submission("k4", report(4), uploads=(source(other := whole(store)), source(other)))
    assert reason_of(parts.submit([twice])[0]) == "unknown-upload"


def test_two_processes_that_want_the_same_upload(parts: Parts, store: Uploads) -> None:
    found, ends = whole(store), []
    barrier = threading.Barrier(4)

    def submit(number: int) -> None:
        mine = parts.again()
        barrier.wait()
        [outcome] = mine.submit([Submission(f"k{number}", report(number), uploads=(source(found),))])
        ends.append(isinstance(outcome, Acknowledged))
        mine.close()

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == [False, False, False, True]
    parts.check_log(1)


MISMATCHES = {
    "another size": ({"size": 5}, "upload-digest"),
    "another digest": ({"sha256": "00" * 32}, "upload-digest"),
    "a digest that is none": ({"sha256": "abc"}, "schema"),
    "an upload that is none": ({"upload": "ab" * 16}, "unknown-upload"),
    "a number for a name": ({"upload": 7}, "unknown-upload"),
    "a role nobody knows": ({"role": "x"}, "schema"),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_a_record_must_describe_the_upload_as_it_is(parts: Parts, store: Uploads, name: str) -> None:
    changes, reason = MISMATCHES[name]
    found = whole(store)
    [outcome] = parts.submit([Submission("k", report(1), uploads=(source(found, **changes),))])
    assert reason_of(outcome) == reason
    parts.take([Submission("k", report(1), uploads=(source(found),))])  # and it is still there


def test_an_upload_that_is_not_whole_is_not_taken(parts: Parts, store: Uploads) -> None:
    begun = store.begin("fire", len(DATA))
    found = store.append("fire", begun.id, 0, [DATA[:-1]])
    [outcome] = parts.submit([Submission("k", report(1), uploads=(source(found),))])
    assert reason_of(outcome) == "unknown-upload"


def test_a_terminals_ciphertext_lies_as_it_came_and_no_plain_record_takes_it(parts: Parts, store: Uploads) -> None:
    ciphertext = b"".join(seal_stream(bytes(32), [DATA], b"a terminal's own"))
    begun = store.begin("fire", len(ciphertext), sealed=True, sha256=sha256(ciphertext))
    store.append("fire", begun.id, 0, [ciphertext[:1]])
    found = store.append("fire", begun.id, 1, [ciphertext[1:]])
    assert (found.sealed, found.sha256) == (True, sha256(ciphertext))
    assert b"".join(parts.blobs.get(found.id)) == ciphertext
    [outcome] = parts.submit([Submission("k", report(1), uploads=(source(found),))])
    assert reason_of(outcome) == "unknown-upload"


@pytest.mark.parametrize("first", [b"\xff\xd8\xff\xe0", b"Y-", b"x"])
def test_plaintext_never_passes_for_ciphertext(store: Uploads, first: bytes) -> None:
    begun = store.begin("fire", 100, sealed=True)
    with pytest.raises(RecordRefused) as caught:
        store.append("fire", begun.id, 0, [first])
    assert caught.value.reason == "upload-not-sealed"
    assert store.find("fire", begun.id).received == 0


@pytest.mark.parametrize("first", [b"Y", b"YX"])
def test_nor_does_plaintext_behind_a_good_beginning(store: Uploads, first: bytes) -> None:
    begun = store.begin("fire", 100, sealed=True)
    store.append("fire", begun.id, 0, [first])
    with pytest.raises(RecordRefused) as caught:
        store.append("fire", begun.id, len(first), [b"the inspector found"])
    assert caught.value.reason == "upload-not-sealed"
    assert store.find("fire", begun.id).received == len(first)


# ---- at rest -----------------------------------------------------------------------------------------------------


def test_nothing_lies_in_the_clear_at_any_moment(sqlite_parts: Parts, clock: Clock) -> None:
    store = make(sqlite_parts, clock)
    secret = b"the shop at 7 Peach Stream Road "
    data = secret * 70_000  # 2.2 MB
    begun = store.begin("fire", len(data))
    for at in range(0, len(data), 500_000):
        store.append("fire", begun.id, at, [data[at : at + 500_000]])
        lying = [path.read_bytes() for path in sqlite_parts.directory.parent.rglob("*") if path.is_file()]
        assert len(lying) > 3
        assert not [1 for content in lying if secret in content]


def test_forgetting_the_record_forgets_the_upload_too(sqlite_parts: Parts, clock: Clock) -> None:
    store = make(sqlite_parts, clock)
    [taken] = sqlite_parts.take([Submission("k", report(1), uploads=(source(whole(store)),))])
    with sqlite_parts.database.writing() as connection:
        assert connection.scalars(select(uploads.c.id)).all() == []  # the key under the KEK went with its row
        connection.execute(update(vault).values(wrapped_key=None))
    with pytest.raises(RecordRefused, match="forgotten"):
        read(sqlite_parts, taken.record_id)


def test_one_changed_byte_is_named_by_record_blob_and_segment(parts: Parts, store: Uploads) -> None:
    [taken] = parts.take([Submission("k", report(1), uploads=(source(whole(store)),))])
    [path] = files_in(parts.directory)
    changed = bytearray(path.read_bytes())
    changed[MIB + 100] ^= 1
    path.write_bytes(changed)
    words = f"attachment 1 of record {taken.record_id} .blob {path.name}.: .* in segment 2, between bytes 1,048,608 and"
    with pytest.raises(PayloadInvalid, match=words):
        read(parts, taken.record_id)
    audit = parts.audit()
    assert audit.counts == {"attachment-changed": 1}
    assert f"blob {path.name}" in audit.findings[0].sentence
    assert "segment 2" in audit.findings[0].sentence
    assert audit.findings[0].record_id == taken.record_id


def swap_keys(parts: Parts) -> None:
    with parts.database.writing() as connection:
        rows = connection.execute(select(attachments)).all()
        for row, other in zip(rows, reversed(rows), strict=True):
            here = (attachments.c.position == row.position) & (attachments.c.ordinal == row.ordinal)
            values = {"blob": other.blob, "wrapped_key": other.wrapped_key}
            connection.execute(update(attachments).where(here).values(**values))


def drop_key(parts: Parts) -> None:
    with parts.database.writing() as connection:
        connection.execute(update(attachments).values(wrapped_key=None))


def other_blob(parts: Parts) -> None:
    with parts.database.writing() as connection:
        connection.execute(update(attachments).values(blob=parts.blobs.put([b"x" * 100])))


@pytest.mark.parametrize("tamper", [swap_keys, drop_key, other_blob])
def test_changed_rows_are_found(parts: Parts, store: Uploads, tamper: object) -> None:
    sources = tuple(source(whole(store, data), data) for data in (b"one", b"two"))
    parts.take([Submission("k", report(1), uploads=sources)])
    assert parts.audit().good
    tamper(parts)  # type: ignore[operator]
    assert parts.audit().counts == {"attachment-changed": 2}


def test_a_damaged_rest_stops_the_upload_and_says_so(parts: Parts, store: Uploads) -> None:
    begun = store.begin("fire", len(DATA))
    store.append("fire", begun.id, 0, [b"abc"])
    with parts.database.writing() as connection:
        connection.execute(update(uploads).values(rest=b"\0" * 31))
    with pytest.raises(PayloadInvalid, match="upload the file again"):
        store.append("fire", begun.id, 3, [b"def"])


# ---- going away --------------------------------------------------------------------------------------------------


def test_an_upload_expires_after_its_last_byte(parts: Parts, store: Uploads, clock: Clock) -> None:
    begun, done = store.begin("fire", len(DATA)), whole(store)
    clock.now += store.limits.lifetime_s - 1
    store.append("fire", begun.id, 0, [b"x"])
    clock.now += 2
    with pytest.raises(RecordRefused, match="has expired"):
        store.find("fire", done.id)
    assert store.find("fire", begun.id).received == 1
    assert store.sweep() == 1
    assert [path.name for path in files_in(parts.directory)] == [begun.id]
    later = parts.again(clock)
    [outcome] = later.submit([Submission("k", report(1), uploads=(source(done),))])
    later.close()
    assert reason_of(outcome) == "unknown-upload"


def test_what_a_record_took_is_never_swept(parts: Parts, store: Uploads, clock: Clock) -> None:
    [taken] = parts.take([Submission("k", report(1), uploads=(source(whole(store)),))])
    clock.now += 10**9
    assert store.sweep() == 0
    assert read(parts, taken.record_id) == DATA


def test_files_without_a_row_are_swept_when_they_are_old(parts: Parts, store: Uploads, clock: Clock) -> None:
    kept = store.begin("fire", 5)
    old, new = (parts.directory / "uploads" / name for name in ("cd" * 16, "ef" * 16))
    for path in (old, new):
        path.write_bytes(b"x")
    clock.now = new.stat().st_mtime
    os.utime(old, (clock.now - 4000, clock.now - 4000))
    with parts.database.writing() as connection:
        connection.execute(update(uploads).values(expires_at=clock.now + 100))
    store.sweep()
    assert sorted(path.name for path in files_in(parts.directory)) == sorted([kept.id, new.name])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a full disk": lambda path: (path.unlink(), path.symlink_to("/dev/full")),
    "a file that is gone": lambda path: path.unlink(),
    "a directory in its place": lambda path: (path.unlink(), path.mkdir()),
    "a link to nowhere": lambda path: (path.unlink(), path.symlink_to("/nowhere/at/all")),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_the_disk_refuses_is_said_and_costs_nothing_that_was_durable(
    sqlite_parts: Parts, clock: Clock, name: str
) -> None:
    """Above all the client is not sent back to the offset that it came with."""
    store = make(sqlite_parts, clock)
    begun = store.begin("fire", 3 << 20)
    store.append("fire", begun.id, 0, [bytes(1000)])
    DAMAGE[name](store._path(begun.id))
    for _ in range(2):
        with pytest.raises(StorageFailed):
            store.append("fire", begun.id, 1000, [bytes(2 << 20)])
        assert store.find("fire", begun.id).received == 1000


def test_cancelled_is_gone(parts: Parts, store: Uploads) -> None:
    for found in (store.begin("fire", 5), whole(store)):
        store.cancel("fire", found.id)
        with pytest.raises(RecordRefused, match="was cancelled"):
            store.find("fire", found.id)
    assert files_in(parts.directory) == []
