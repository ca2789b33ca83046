"""An audit that goes on after a kill, one in several processes, and what it remembers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ledger.audit import NodeAudit, Options, audit_node, logs, node, stretch
from ledger.audit import bench as bench_module
from ledger.audit.state import State
from ledger.errors import Malformed, Refusal
from ledger.store.models import position_of
from tests.fixtures.nodes import SIZE, Built, Rows
from tests.fixtures.records import acknowledged, submissions

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {"department": None}


def audited(built: Built, directory: Path, state: State | None = None, jobs: int = 1) -> NodeAudit:
    opened = built.open(directory)
    try:
        return audit_node(opened, options=Options(jobs=jobs), state=state)
    finally:
        opened.close()


def damage(directory: Path) -> None:
    rows = Rows(directory)
    rows.flip("vault", "payload", f"position = {position_of(1, 7)}")
    rows.flip("entries", "statement", f"position = {position_of(1, 200)}")
    rows.flip("logs", "root", "log = 2")


def test_several_processes_find_what_one_finds(built: Built, tampered: Path) -> None:
    damage(tampered)
    one, two = audited(built, tampered), audited(built, tampered, jobs=2)
    assert not one.good
    assert one.logs == two.logs


def test_what_was_done_is_not_done_again(built: Built, tampered: Path, tmp_path: Path) -> None:
    path = tmp_path / "state"
    first = audited(built, tampered, State(path, OPTIONS))
    assert first.good
    damage(tampered)  # after it was looked at: the same audit does not look again, a new one does
    again = audited(built, tampered, State(path, OPTIONS))
    assert again.logs == first.logs
    assert not audited(built, tampered).good


def test_an_audit_stays_with_the_log_as_it_was_when_it_began(built: Built, tampered: Path, tmp_path: Path) -> None:
    path = tmp_path / "state"
    audited(built, tampered, State(path, OPTIONS))
    opened = built.open(tampered)
    acknowledged(opened.intake.submit("fire", submissions(SIZE, 5)))
    opened.close()
    again = audited(built, tampered, State(path, OPTIONS))
    assert (again.good, again.logs[0].size, again.logs[0].records) == (True, SIZE, SIZE)
    assert audited(built, tampered).logs[0].records == SIZE + 5


def test_what_a_kill_left_of_a_line_is_done_again(built: Built, tampered: Path, tmp_path: Path) -> None:
    path = tmp_path / "state"
    first = audited(built, tampered, State(path, OPTIONS))
    whole = path.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 200, whole.index(b"\n") + 10, 5):
        path.write_bytes(whole[:cut])
        assert audited(built, tampered, State(path, OPTIONS)).logs == first.logs
        assert len(path.read_bytes().splitlines()) == 3


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"{}\n", Malformed, "is no audit's state"),
        (b"no json\n", Malformed, "is no audit's state"),
        (b'{"format":"other","v":1}\n', Malformed, "of another version"),
        (b'{"format":"yunxi-audit","v":1,"logs":[]}\n', Malformed, "of another version"),
        (b'{"format":"yunxi-audit","v":2,"options":{"department":"fire"}}\n', Refusal, "is of another audit"),
    ],
)
def test_a_file_of_something_else_is_refused(
    tmp_path: Path, content: bytes, error: type[Exception], words: str
) -> None:
    path = tmp_path / "state"
    path.write_bytes(content)
    with pytest.raises(error, match=words):
        State(path, OPTIONS)


def test_stretches_put_together_give_what_one_gives(
    built: Built, tampered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The border of a stretch lies at 65,536, which no test can fill: moved to 256, everything must come out alike."""
    whole = audited(built, tampered)
    for module in (bench_module, stretch, logs):
        monkeypatch.setattr(module, "STRETCH", 256)
    monkeypatch.setattr(logs, "UPPER", 1)
    assert list(node.stretches_of(SIZE)) == [(0, 256), (256, SIZE)]
    cut = audited(built, tampered)
    assert cut.logs == whole.logs
    damage(tampered)
    Rows(tampered).flip("entries", "statement", f"position = {position_of(1, 300)}")
    Rows(tampered).flip("checkpoints", "note", "log = 1 AND size = 340", 30)
    found = audited(built, tampered).logs[0]
    assert found.counts == {"payload-changed": 1, "statement-changed": 2, "checkpoint-changed": 1}
    assert [finding.index for finding in found.findings] == [7, 200, 300, 340]


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(built: Built, tampered: Path, tmp_path: Path) -> None:
    damage(tampered)
    wanted = audited(built, tampered)
    path = tmp_path / "state"
    command = [str(Path(sys.executable).parent / "yunxi"), "audit", "--node", str(tampered), "--json"]
    command += ["--resume", str(path), "--jobs", "2"]
    for seconds in (1.0, 2.0, 3.0, 5.0):
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
        time.sleep(seconds)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert [log["counts"] for log in found["logs"]] == [dict(log.counts) for log in wanted.logs]
