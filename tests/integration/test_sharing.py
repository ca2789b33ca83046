"""The show of the sharing gateway, small: three nodes, five departments, a joint inspection on 50 businesses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "chicago"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("sharing"),
    pytest.mark.skipif(not DATA.exists(), reason="the Chicago exports are not beside the checkout"),
]


def test_three_nodes_and_five_departments_share_what_is_granted(tmp_path: Path) -> None:
    script, out = ROOT / "scripts" / "sharing_show.py", tmp_path / "figures.json"
    words = [sys.executable, script, "--data", DATA, "--rows", "1500", "--arrivals", "5", "--json", out]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(out.read_text())
    assert figures["sealed"].keys() == {"licensing", "public-health", "streets"}
    assert figures["participants"] == {
        "fire": "refused: no-grant",
        "market": "refused: no-grant",
        "public-health": "complete",
        "streets": "complete",
    }
    assert figures["received"]["public-health"] >= 50
    assert figures["received"]["streets"] > 0
    assert figures["audits_good"] is True
    assert figures["differences"] == 0
