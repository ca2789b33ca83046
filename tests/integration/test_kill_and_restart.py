"""`kill -9` at random moments of a run, started again until it is done: every row once, and the audit finds nothing.

A run is killed after it sealed a random number of further rows and a random pause, so kills fall anywhere: reading,
sealing, inside the transaction, between ledger and mark, while an anchor is on its way.
"""

from __future__ import annotations

import csv
import lzma
import random
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from demo.exports import generate
from tests.fixtures.command import Yunxi, log_size, made_node, row_count
from tests.fixtures.nodes import Rows

ROOT = Path(__file__).parents[2]
CHICAGO = ROOT.parent / "shared" / "data" / "chicago"
MAPPINGS = ROOT / "adapters" / "mappings"


def run_under_kills(yunxi: Yunxi, mapping: Path, department: str, rows: int, kills: int, seed: int) -> int:
    """Runs the feed to its end, killing it about `kills` times; returns how many of the runs were killed."""
    chance, node = random.Random(seed), yunxi.directory / "node"
    for killed in range(100 * kills):
        target = log_size(node, department) + chance.randrange(0, max(1, rows * 3 // (2 * kills)))
        process = yunxi.start("adapter", "run", mapping, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and log_size(node, department) <= target:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        if process.wait(60) == 0:
            return killed
    raise AssertionError("the feed does not come to its end")


def check_rows_once(yunxi: Yunxi, department: str, mapping: str, keys: Iterable[str]) -> None:
    """The ledger holds exactly the rows of these keys, each once."""
    query = "SELECT key FROM entries JOIN logs USING (log) WHERE department = ? AND key NOT LIKE 'yunxi:%'"
    found = [key for (key,) in Rows(yunxi.directory / "node").all(query, department)]
    wanted = {f"{mapping}/{key}" for key in keys}
    assert len(found) == len(set(found))
    assert set(found) == wanted
    assert row_count(yunxi.directory / "node", department) == len(wanted)


def check_settled(yunxi: Yunxi, mapping: Path, rows: int, quarantined: int) -> None:
    """Reading it all again finds all of it known; the feed's own reports fit, and the audit finds nothing."""
    afresh = yunxi.good("adapter", "run", mapping, "--afresh", "--json").json()
    assert (afresh["read"], afresh["sealed"]) == (rows, 0)
    assert (afresh["known"], afresh["quarantined"]) == (rows - quarantined, quarantined)
    assert sum(afresh["in_quarantine"].values()) == quarantined
    reports = yunxi.good("adapter", "reports", "--json").json()
    assert [feed["last"]["totals"]["sealed"] for feed in reports["feeds"]] == [rows - quarantined]
    assert yunxi.good("adapter", "reconcile", mapping, "--json").json()["fitting"] == rows - quarantined
    audit = yunxi.good("audit", "--json").json()
    assert audit["good"]
    assert all(log["anchored_size"] == log["size"] for log in audit["logs"])


def test_a_demo_export_survives_kills(tmp_path: Path) -> None:
    exports = generate(tmp_path / "exports", scale=4)
    export = next(file for file in exports.files if file.department == "environment")
    with made_node(tmp_path, "environment") as yunxi:
        killed = run_under_kills(yunxi, export.mapping, "environment", export.good, kills=2, seed=20)
        assert killed >= 1
        check_settled(yunxi, export.mapping, export.rows, sum(export.bad.values()))
        assert row_count(tmp_path / "node", "environment") == export.good


@pytest.mark.slow
@pytest.mark.skipif(not CHICAGO.is_dir(), reason="../shared/data/chicago is not here")
def test_the_food_inspections_survive_kills(tmp_path: Path) -> None:
    mapping = MAPPINGS / "chicago_food_inspections.toml"
    with lzma.open(CHICAGO / "food_inspections.csv.xz", "rt", encoding="utf-8", newline="") as file:
        keys = [row["inspection_id"] for row in csv.DictReader(file)]
    with made_node(tmp_path, "public-health") as yunxi:
        killed = run_under_kills(yunxi, mapping, "public-health", len(keys), kills=16, seed=8)
        assert killed >= 8
        check_settled(yunxi, mapping, len(keys), 0)
        check_rows_once(yunxi, "public-health", "chicago-food-inspections", keys)
