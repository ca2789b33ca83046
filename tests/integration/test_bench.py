"""`scripts/bench.py` runs at a tiny size and says what it should; no figure is judged."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALWAYS = {"seal", "batches", "receipts", "present", "audit", "growth"}
ROW = {"benchmark", "what", "unit", "best", "median", "runs", "target", "note"}


def run(tmp_path: Path, *arguments: str) -> dict:
    """The report of a run without PostgreSQL."""
    report = tmp_path / "bench.json"
    command = [sys.executable, str(ROOT / "scripts/bench.py"), "--quick", "--json", str(report), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "YUNXI_TEST_POSTGRES"}
    environment["TMPDIR"] = str(tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    assert {path.name for path in tmp_path.iterdir()} == {report.name}, "a run leaves nothing but its report"
    return json.loads(report.read_text())


def check_rows(report: dict) -> None:
    """Every row has every member, and figures that can be figures."""
    for row in report["rows"]:
        assert set(row) == ROW, row
        assert row["runs"] >= 1, row
        assert all(math.isfinite(row[name]) and row[name] > 0 for name in ("best", "median")), row


@pytest.mark.slow
def test_a_run_says_where_and_what_was_measured(tmp_path):
    report = run(tmp_path, "--records", "30", "--only", *sorted(ALWAYS))
    assert set(report) == {"format", "date", "machine", "versions", "sizes", "rows"}
    assert set(report["machine"]) == {"cpu", "cores", "memory_gib", "os", "load_at_start", "load_at_end"}
    assert {"python", "sqlite", "cryptography", "sqlalchemy", "yunxi"} <= set(report["versions"])
    assert report["sizes"]["records"] == 30
    assert report["sizes"]["batch"] == 30
    assert {row["benchmark"] for row in report["rows"]} == ALWAYS
    check_rows(report)


@pytest.mark.slow
def test_the_bare_calls_and_every_step_stand_beside_the_real_path(tmp_path):
    report = run(tmp_path, "--records", "20", "--only", "seal")
    named = {row["what"]: row["unit"] for row in report["rows"]}
    assert named["real path / bare calls"] == "ratio"
    assert named["bare library calls for the same work"] == "µs/record"
    assert sum(name.startswith("step: ") for name in named) == 11


@pytest.mark.slow
def test_the_anchoring_latency_is_measured_on_a_chain(tmp_path):
    report = run(tmp_path, "--records", "30", "--only", "anchor")
    assert [row["unit"] for row in report["rows"]] == ["s", "s", "s"]
    check_rows(report)


@pytest.mark.slow
def test_fifty_feeds_are_measured(tmp_path):
    report = run(tmp_path, "--records", "100", "--only", "feeds")
    assert {row["unit"] for row in report["rows"]} == {"records/s", "% of a core", "s"}
    check_rows(report)


def test_an_unknown_benchmark_is_refused(tmp_path):
    command = [sys.executable, str(ROOT / "scripts/bench.py"), "--only", "everything"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "invalid choice: 'everything'" in done.stderr
