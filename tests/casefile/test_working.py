"""Working files: nothing under the final name before its time, nothing left over, and what the disk refuses."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.casefile.working import give_name, working_files
from ledger.errors import CouldNotRun, StorageFailed

HELD = """
import sys, time
from pathlib import Path
from ledger.casefile.working import working_files
with working_files(Path(sys.argv[1])) as new:
    new().write(b"secret"); print("working", flush=True); time.sleep(60)
"""


def test_a_file_gets_its_name_at_the_end_and_hides_before(tmp_path: Path) -> None:
    target = tmp_path / "案.zip"
    with working_files(target) as new:
        file = new()
        file.write(b"whole")
        file.flush()
        [hidden] = tmp_path.iterdir()
        assert hidden.name.startswith(".案.zip.")
        assert hidden.stat().st_mode & 0o777 == 0o600
        give_name(hidden, target)
    assert [each.name for each in tmp_path.iterdir()] == ["案.zip"]
    assert target.read_bytes() == b"whole"
    with working_files(target) as new, pytest.raises(CouldNotRun, match="there already"):
        give_name(Path(new().name), target)
    assert target.read_bytes() == b"whole"


def test_what_a_killed_process_left_goes_with_the_next_run_and_not_while_it_lives(tmp_path: Path) -> None:
    target = tmp_path / "case [1].zip"
    other = tmp_path / ".another.zip.12345678.part"
    other.touch()
    command = [sys.executable, "-c", HELD, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"working\n"
        with working_files(target):
            assert len(list(tmp_path.glob(".case *.part"))) == 1
        process.send_signal(signal.SIGKILL)
    assert len(list(tmp_path.glob(".case *.part"))) == 1
    with working_files(target):
        assert list(tmp_path.iterdir()) == [other]


def test_the_longest_name_that_a_disk_takes(tmp_path: Path) -> None:
    target = tmp_path / ("案" * 83 + ".zip")
    with working_files(target) as new:
        give_name(Path(new().name), target)
    assert target.exists()


@pytest.mark.parametrize(("number", "hint"), [(errno.ENOSPC, "free space"), (errno.EIO, "check the path")])
def test_what_the_disk_refuses_is_one_sentence(tmp_path: Path, number: int, hint: str) -> None:
    with pytest.raises(StorageFailed, match=hint), working_files(tmp_path / "case.zip") as new:
        new()
        raise OSError(number, os.strerror(number))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="free space"), working_files(tmp_path / "case.zip") as new:
        new()
        with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
            full.write(b"x")
    assert list(tmp_path.iterdir()) == []
