"""What scripts/test tries a second time: the ids that scripts/failed_tests.py prints lead pytest to the same tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import failed_tests

NAMES = (
    "two words", " leading", "trailing ", "", "[brackets] and ]", "中文 名", "quo\"tes '", "back\\slash \\n",
    "tab\tand\nline", "a line separator\u2028", "an @ sign", "@group", "#hash", "--option", "a::b", "a/b",
)  # fmt: skip

MODULE = """
import pytest

@pytest.mark.parametrize("name", {names!r})
def test_fails(name):
    assert not name.isascii() and name == "passes"

@pytest.mark.xdist_group("a group")
@pytest.mark.parametrize("name", {names!r})
def test_fails_in_a_group(name):
    raise AssertionError

@pytest.mark.xdist_group("another")
def test_fails_without_parameters():
    raise AssertionError

def test_passes():
    pass
"""


def run(directory: Path, *words: str) -> set[str]:
    """The tests that failed, as the cache has them."""
    command = [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "-p", "xdist", *words]
    environ = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # most of a short run's time is their import
    done = subprocess.run(command, cwd=directory, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return set(json.loads((directory / ".pytest_cache/v/cache/lastfailed").read_text("utf-8")))


def test_every_name_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_names.py").write_text(MODULE.format(names=NAMES), "utf-8")
    failed = run(tmp_path, "-n", "1", "--dist", "loadgroup")
    assert len(failed) == 2 * len(NAMES) + 1
    assert any(node_id.endswith("@a group") for node_id in failed), "as the run in groups names them"
    monkeypatch.setattr(failed_tests, "LAST_FAILED", tmp_path / ".pytest_cache/v/cache/lastfailed")
    monkeypatch.setattr(failed_tests, "AT_MOST", len(failed))
    assert failed_tests.main() == 0
    ids = tmp_path / "failed"
    ids.write_text(capsys.readouterr().out, "utf-8")
    (tmp_path / ".pytest_cache/v/cache/lastfailed").unlink()
    assert run(tmp_path, f"@{ids}") == {failed_tests.without_group(node_id) for node_id in failed}


def test_many_failures_are_no_matter_of_timing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "lastfailed"
    monkeypatch.setattr(failed_tests, "LAST_FAILED", cache)
    for count, code in ((0, 1), (1, 0), (failed_tests.AT_MOST, 0), (failed_tests.AT_MOST + 1, 1)):
        cache.write_text(json.dumps({f"tests/a.py::test_{n}": True for n in range(count)}))
        assert failed_tests.main() == code, count
    cache.unlink()
    assert failed_tests.main() == 1
