"""Run slither over the contracts; every finding must stand, explained, in docs/slither.md.

    python scripts/slither.py [--slither PATH]      exit 1 when a finding is not explained, or an explained one is gone

slither-analyzer pins older web3 packages than the ledger uses, so it lives in a virtual environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EXPLAINED = ROOT / "docs" / "slither.md"
ROW = re.compile(r"^\| `([a-z-]+)` \| `([A-Za-z0-9_.]+)` \|", re.MULTILINE)


def findings(slither: str) -> set[tuple[str, str]]:
    """(detector, Contract.function) of everything slither reports on contracts/."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "YUNXI_HARDHAT_BUILD": folder}
        compiling = ["npx", "--no-install", "hardhat", "compile", "--quiet"]
        subprocess.run(compiling, cwd=ROOT, env=environment, check=True, capture_output=True)
        report = Path(folder) / "report.json"
        artifacts = ["--hardhat-artifacts-directory", f"{folder}/hardhat", "--hardhat-ignore-compile"]
        command = [slither, ".", *artifacts, "--filter-paths", "node_modules", "--json", str(report)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if not report.is_file():
            raise SystemExit(f"slither did not run: {done.stderr.strip()[-500:]}")
        results = json.loads(report.read_text())["results"]
    return {(entry["check"], _place(entry["elements"][0])) for entry in results.get("detectors", [])}


def _place(element: dict[str, Any]) -> str:
    parent = element.get("type_specific_fields", {}).get("parent")
    return f"{_place(parent)}.{element['name']}" if parent and parent["type"] != "file" else str(element["name"])


def main() -> int:
    """Exit 0 good, 1 a difference, 2 slither is not there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slither", default="slither", help="the slither executable")
    slither: str = parser.parse_args().slither
    if shutil.which(slither) is None:
        print("slither is not there: pip install slither-analyzer in a virtual environment of its own.")
        return 2
    found, explained = findings(slither), set(ROW.findall(EXPLAINED.read_text()))
    for check, place in sorted(found - explained):
        print(f"Not explained in docs/slither.md: {check} in {place}.")
    for check, place in sorted(explained - found):
        print(f"Explained in docs/slither.md but no longer found: {check} in {place}.")
    if found != explained:
        return 1
    print(f"slither finds {len(found)} places, every one explained in docs/slither.md.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
