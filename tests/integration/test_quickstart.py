"""docs/quickstart.md does what it says: its files are written, its commands run in their order."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.chain import embedded
from tests.fixtures.command import SCRIPT, Yunxi

QUICKSTART = Path(__file__).parents[2] / "docs" / "quickstart.md"
BLOCK = re.compile(r"```(sh|csv|toml)\n(.*?)```", re.DOTALL)


@pytest.mark.slow
def test_the_quickstart_leads_to_a_verified_receipt(tmp_path: Path) -> None:
    document = QUICKSTART.read_text("utf-8")
    script = ["set -eu"]
    for kind, content in BLOCK.findall(document):
        if kind == "sh":
            script.append(content)
        else:
            (tmp_path / f"inspections.{kind}").write_text(content, "utf-8")
            assert f"`inspections.{kind}`" in document
    environ = Yunxi(tmp_path).environ
    environ["PATH"] = f"{SCRIPT.parent}:{Path(sys.executable).parent}:{environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    embedded.stop(tmp_path / "node" / "chain")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of the first 3 rows would be sealed." in done.stdout
    assert "3 rows read: 2 sealed, 0 known already, 1 quarantined." in done.stdout
    assert "inspections.csv:4  bad-identifier" in done.stdout
    assert "Result: VERIFIED" in done.stdout
    assert "the chain holds the same roots." in done.stdout
