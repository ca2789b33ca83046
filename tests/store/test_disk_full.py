"""A disk that fills up while records come in: a clear sentence, nothing acknowledged lost, and it goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from ledger.errors import StorageFailed
from ledger.submission import Acknowledged, Submission
from tests.fixtures.parts import Parts, SqliteFiles, Template
from tests.fixtures.records import attachment, report, submissions

DISK_KB = 3_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, really."""
    directory = tmp_path / "disk"
    directory.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_KB}k", "yunxi-test", str(directory)]
        mounted = os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a small file system can be mounted by root only, and not in every container")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


@pytest.fixture
def on_small_disk(small_disk: Path, template: Template) -> Iterator[tuple[Parts, Path]]:
    """A ledger there, and 1 MB of something else to throw away later."""
    ballast = small_disk / "ballast"
    opened = Parts.open(small_disk, SqliteFiles(template).new(small_disk), template.agent)
    ballast.write_bytes(bytes(1_000_000))
    yield opened, ballast
    opened.close()


def fill(parts: Parts, batch: int = 50) -> tuple[dict[str, Acknowledged], list[Submission], StorageFailed]:
    """Submits until the storage fails: what was acknowledged, the batch that was not, and the error."""
    acknowledged: dict[str, Acknowledged] = {}
    for start in range(0, 100_000, batch):
        waiting = submissions(start, batch)
        try:
            acknowledged |= {outcome.key: outcome for outcome in parts.take(waiting)}
        except StorageFailed as error:
            return acknowledged, waiting, error
    raise AssertionError("the disk never filled up")


def check_nothing_lost(parts: Parts, acknowledged: dict[str, Acknowledged]) -> None:
    parts.check_log(len(acknowledged))
    assert parts.audit().good
    again = parts.take(submissions(0, len(acknowledged)))
    assert [(o.record_id, o.index, o.new) for o in again] == [
        (o.record_id, o.index, False) for o in acknowledged.values()
    ]


def test_full_while_appending(on_small_disk: tuple[Parts, Path]) -> None:
    parts, ballast = on_small_disk
    acknowledged, waiting, error = fill(parts)
    assert (
        str(error) == "the disk is full: nothing of this batch was acknowledged; free some space and run the same again"
    )
    assert len(acknowledged) >= 50
    with pytest.raises(StorageFailed, match="disk is full"):  # still full: the same answer, every time
        parts.submit(waiting)
    check_nothing_lost(parts, acknowledged)
    # another process comes while it is full, and sees the same
    other = parts.again()
    check_nothing_lost(other, acknowledged)
    other.close()
    # space is freed: the same intake goes on where it was
    ballast.unlink()
    taken = parts.take(waiting)
    assert [outcome.index for outcome in taken] == list(range(len(acknowledged), len(acknowledged) + 50))
    assert all(outcome.new for outcome in taken)
    parts.check_log(len(acknowledged) + 50)
    assert parts.audit().good


def test_full_while_an_attachment_is_stored(on_small_disk: tuple[Parts, Path], tmp_path: Path) -> None:
    parts, ballast = on_small_disk
    big = attachment(tmp_path / "big.bin", bytes(2_500_000))
    parts.take(submissions(0, 5))
    with pytest.raises(StorageFailed, match=r"^an attachment could not be stored: No space left on device; free space"):
        parts.submit([Submission("a", report(1)), Submission("b", report(2), (big,))])
    assert not [path for path in (parts.directory / "blobs").rglob("*") if path.is_file()]
    parts.check_log(5)
    ballast.unlink()
    small = attachment(tmp_path / "small.bin", bytes(200_000))
    parts.take([Submission("a", report(1)), Submission("c", report(2), (small,))])
    parts.check_log(7)
    assert parts.audit().attachments == 1


def test_full_by_the_databases_own_limit(sqlite_parts: Parts) -> None:
    # the same where nothing can be mounted: SQLite's answer at its page limit is its answer to a full disk
    parts = sqlite_parts
    limit = {"pages": 400}

    def limited(connection: Any, _record: Any, _proxy: Any = None) -> None:
        connection.execute(f"PRAGMA max_page_count={limit['pages']}")

    event.listen(parts.database.engine, "checkout", limited)
    acknowledged, waiting, error = fill(parts)
    assert "the disk is full" in str(error)
    check_nothing_lost(parts, acknowledged)
    limit["pages"] = 100_000
    parts.take(waiting)
    parts.check_log(len(acknowledged) + 50)
    assert parts.audit().good
