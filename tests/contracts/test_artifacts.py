"""The committed artefacts are what the sources compile to, by either compiler run."""

from __future__ import annotations

import hashlib
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = sorted((ROOT / "ledger/chain/artifacts").glob("*.json"))
NAMES = [path.stem for path in ARTIFACTS]
needs_npm = pytest.mark.skipif(
    shutil.which("node") is None or not (ROOT / "node_modules/solc").is_dir(),
    reason="the npm packages are not installed: run npm ci",
)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@needs_npm
def test_the_artefacts_are_fresh():
    done = run(sys.executable, "scripts/compile_contracts.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_stale_missing_and_superfluous_artefacts_are_named():
    stale = runpy.run_path(str(ROOT / "scripts/compile_contracts.py"))["stale"]
    fresh = {path.name: path.read_text() for path in ARTIFACTS}
    assert stale(fresh) == []
    assert stale({**fresh, "EvidenceLog.json": "{}", "Extra.json": "{}"}) == ["EvidenceLog.json", "Extra.json"]
    assert stale({}) == [path.name for path in ARTIFACTS]


@needs_npm
def test_hardhat_compiles_the_same_bytecode():
    done = run("npx", "--no-install", "hardhat", "compile")
    assert done.returncode == 0, done.stdout + done.stderr
    for path in ARTIFACTS:
        ours = json.loads(path.read_text())
        theirs = json.loads((ROOT / f"build/hardhat/contracts/{path.stem}.sol/{path.name}").read_text())
        for part in ("abi", "bytecode", "deployedBytecode"):
            assert ours[part] == theirs[part], f"{path.stem}: {part}"


@pytest.mark.parametrize("name", NAMES)
def test_an_artefact_names_its_own_sources(name):
    """Needs no compiler: a source that was edited without a compile shows by its hash."""
    artifact = json.loads((ROOT / f"ledger/chain/artifacts/{name}.json").read_text())
    assert artifact["compiler"] == json.loads((ROOT / "contracts/compiler.json").read_text())
    own = {unit: digest for unit, digest in artifact["sources"].items() if unit.startswith("contracts/")}
    assert f"contracts/{name}.sol" in own
    assert own == {unit: hashlib.sha256((ROOT / unit).read_bytes()).hexdigest() for unit in own}


@pytest.mark.parametrize("name", NAMES)
def test_a_contract_fits_the_code_size_limit(name):
    """EIP-170."""
    code = json.loads((ROOT / f"ledger/chain/artifacts/{name}.json").read_text())["deployedBytecode"]
    assert len(code) // 2 - 1 <= 24_576


def test_the_lock_file_names_no_registry():
    entries = json.loads((ROOT / "package-lock.json").read_text())["packages"].values()
    assert not [entry for entry in entries if "resolved" in entry]


def test_errors_carry_their_component_and_one_selector_means_one_error():
    errors = {
        json.dumps(entry, sort_keys=True): entry["name"]
        for path in ARTIFACTS
        for entry in json.loads(path.read_text())["abi"]
        if entry["type"] == "error"
    }
    foreign = {"AddressEmptyCode", "FailedCall", "InsufficientBalance", "SafeCastOverflowedUintDowncast"}
    prefixes = (*NAMES, "Rfc9162")
    assert not [name for name in errors.values() if not name.startswith(prefixes) and name not in foreign]
    assert len(set(errors.values())) == len(errors)
