"""An anchor's gas by tree size does not creep up: docs/gas.md is the measure."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "gas_table.py"
TABLE = (ROOT / "docs" / "gas.md").read_text()


def test_gas_has_not_risen_by_more_than_five_percent():
    command = [sys.executable, str(SCRIPT), "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("factor", "expected"), [(1.04, []), (1.06, ["10 million"]), (0.5, [])])
def test_a_rise_is_named_by_its_line(factor, expected):
    line = next(line for line in TABLE.splitlines() if line.startswith("| 10 million |"))
    raised = re.sub(r"\d{3},\d{3}", lambda found: f"{int(found[0].replace(',', '')) * factor:,.0f}", line)
    assert runpy.run_path(str(SCRIPT))["risen"](TABLE.replace(line, raised), TABLE) == expected


def test_a_line_without_a_committed_figure_is_named():
    assert runpy.run_path(str(SCRIPT))["risen"](TABLE, "") != []
