"""Compile the contracts with the npm `solc` into the artefacts that the ledger ships with.

    python scripts/compile_contracts.py           write ledger/chain/artifacts/*.json
    python scripts/compile_contracts.py --check   exit 1 when they are not what the sources compile to

Version and settings stand in contracts/compiler.json, which Hardhat reads too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ROOT / "contracts"
ARTIFACTS = ROOT / "ledger" / "chain" / "artifacts"
SOLC = ROOT / "node_modules" / "solc" / "solc.js"
SHIPPED = ("Consortium", "EvidenceLog", "SharingGrants", "VerifiableDraw")
OUTPUT = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "metadata"]
IMPORT = re.compile(r'^import .*?from\s+"([^"]+)";', re.MULTILINE | re.DOTALL)


class CompileFailed(Exception):
    """The compiler is missing or refused the sources; the message says what to do."""


def compile_all() -> dict[str, str]:
    """File name -> artefact text of every shipped contract. Raises CompileFailed."""
    sources = _read_sources()
    compiler = json.loads((CONTRACTS / "compiler.json").read_text())
    _require_solc(compiler["version"])
    settings = {**compiler["settings"], "outputSelection": {"*": {"*": OUTPUT}}}
    sources_json = {name: {"content": text} for name, text in sources.items()}
    output = _run_solc({"language": "Solidity", "sources": sources_json, "settings": settings})
    return {f"{name}.json": _artifact(name, output, sources, compiler) for name in SHIPPED}


def stale(fresh: dict[str, str]) -> list[str]:
    """Names of artefacts that are missing, superfluous or differ from `fresh`."""
    committed = {path.name: path.read_text() for path in ARTIFACTS.glob("*.json")}
    return sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))


def _read_sources() -> dict[str, str]:
    """Source unit name -> text: the files of contracts/ and what they import, by the names that Hardhat gives them."""
    pending = [path.relative_to(ROOT).as_posix() for path in CONTRACTS.rglob("*.sol")]
    sources: dict[str, str] = {}
    while pending:
        name = pending.pop()
        if name not in sources:
            sources[name] = _read_unit(name)
            pending += [_resolve(name, target) for target in IMPORT.findall(sources[name])]
    return dict(sorted(sources.items()))


def _read_unit(name: str) -> str:
    path = ROOT / name if name.startswith("contracts/") else ROOT / "node_modules" / name
    if not path.is_file():
        raise CompileFailed(f"{name} is not there: run npm ci.")
    return path.read_text()


def _resolve(importer: str, target: str) -> str:
    if not target.startswith("."):
        return target
    return (ROOT / importer).parent.joinpath(target).resolve().relative_to(ROOT).as_posix()


def _require_solc(version: str) -> None:
    package = SOLC.with_name("package.json")
    if not package.is_file():
        raise CompileFailed("The npm package solc is not there: run npm ci.")
    found = json.loads(package.read_text())["version"]
    if found != version:
        raise CompileFailed(f"contracts/compiler.json asks for solc {version} but npm has {found}: run npm ci.")


def _run_solc(request: dict[str, Any]) -> dict[str, Any]:
    # Not through py-solc-x: it speaks to the compiler by pipes, and solc-js on Node 20 reads and writes pipes short.
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as stdin,
        tempfile.TemporaryFile("w+", encoding="utf-8") as stdout,
    ):
        json.dump(request, stdin)
        stdin.seek(0)
        command = ["node", str(SOLC), "--standard-json"]
        try:
            subprocess.run(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, text=True, check=True)
        except FileNotFoundError as error:
            raise CompileFailed("node is not on the PATH: install Node 20, then run npm ci.") from error
        except subprocess.CalledProcessError as error:
            raise CompileFailed(f"solc stopped: {error.stderr.strip()}") from error
        stdout.seek(0)
        text = stdout.read()
    # solc-js prints a line about its SMT solver before the JSON.
    output: dict[str, Any] = json.loads(text[text.index("{") :])
    problems = [entry["formattedMessage"] for entry in output.get("errors", [])]
    if problems:
        raise CompileFailed("\n".join(problems))
    return output


def _artifact(name: str, output: dict[str, Any], sources: dict[str, str], compiler: dict[str, Any]) -> str:
    contract = output["contracts"][f"contracts/{name}.sol"][name]
    used = json.loads(contract["metadata"])["sources"]
    artifact = {
        "contractName": name,
        "abi": contract["abi"],
        "bytecode": "0x" + contract["evm"]["bytecode"]["object"],
        "deployedBytecode": "0x" + contract["evm"]["deployedBytecode"]["object"],
        "compiler": compiler,
        "sources": {unit: hashlib.sha256(sources[unit].encode()).hexdigest() for unit in used},
    }
    return json.dumps(artifact, indent=1, sort_keys=True) + "\n"


def main() -> int:
    """Exit 0 good, 1 the committed artefacts are stale, 2 could not compile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the artefacts are not fresh")
    check: bool = parser.parse_args().check
    try:
        fresh = compile_all()
    except CompileFailed as error:
        print(error, file=sys.stderr)
        return 2
    changed = stale(fresh)
    if check and changed:
        print(f"Not what the sources compile to: {', '.join(changed)}. Run scripts/compile_contracts.py and commit.")
        return 1
    if not check:
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        for name in changed:
            target = ARTIFACTS / name
            target.write_text(fresh[name]) if name in fresh else target.unlink()
    print(f"{len(fresh)} artefacts are fresh, {len(changed)} of them rewritten.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
