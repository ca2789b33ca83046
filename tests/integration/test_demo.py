"""`yunxi demo` from end to end: what it shows is what happened, and the court's files verify by themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.chain import embedded
from tests.fixtures.command import Yunxi


@pytest.mark.slow
def test_the_demo_shows_what_it_promises(tmp_path: Path) -> None:
    yunxi = Yunxi(tmp_path)
    told = yunxi.good("demo", "run").out
    assert "Everything came out as it must" in told

    # six departments, more than 2,000 records from differently shaped exports, wrong rows with their reasons
    rows = re.findall(r"^   (\w+) +([\d,]+) +([\d,]+) +(\d+) +\d+$", told, re.MULTILINE)
    assert len(rows) == 6
    read, sealed, aside = (sum(int(row[column].replace(",", "")) for row in rows) for column in (1, 2, 3))
    assert sealed >= 2_000
    assert (read, aside) == (sealed + aside, aside)
    assert aside > 0
    assert "has a wrong check digit" in told
    assert re.search(rf"{read:,} rows read, {sealed:,} known already, 0 added", told)
    assert re.search(rf"{sealed:,} records, {sealed:,} payloads, \d+ anchors: everything fits", told)

    # a masked record verified by the zipapp, then three bytes flipped and each of them named
    assert "VERIFIED  record.sd-jwt" in told
    assert re.search(r"a ciphertext: fire, entry \d+: the stored ciphertext of record", told)
    assert re.search(r"a statement: fire, entry \d+: the statement of record \S+ was changed", told)
    assert re.search(r"a tile: fire, tile/0/000 byte \d+", told)

    court = tmp_path / "run" / "court"
    words = ["yunxi-verify.pyz", "record.sd-jwt", "receipt.tlog-proof", "photo.png", "--trust", "trust.json"]
    assert subprocess.run([sys.executable, "-I", *words], cwd=court, capture_output=True, check=False).returncode == 0

    status = yunxi.good("status", "--node", "run/node", "--json").json()
    assert sum(log["size"] for log in status["logs"]) == sealed
    assert all(log["backlog"] == 0 for log in status["logs"])
    again = yunxi("demo", "run")
    assert again.code == 2
    assert "run is not empty" in again.err
    embedded.stop(tmp_path / "run" / "node" / "chain")
