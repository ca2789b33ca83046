"""The court's verifier as one file that needs Python and `cryptography`, nothing else. Same sources, same bytes."""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""Where the package `ledger` lies: a checkout, or site-packages."""
ENTRY = "ledger.verify.__main__"
SHEBANG = b"#!/usr/bin/env python3\n"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip can hold: building tomorrow must give the bytes of today."""

START = b'''\
"""Starts the verifier, after a plain word where the machine lacks something."""

import sys

if sys.version_info < (3, 11):
    print("This program needs Python 3.11 or newer.", file=sys.stderr)
    sys.exit(2)

try:
    import cryptography  # noqa: F401
except ImportError:
    print("This program needs the Python package cryptography: python -m pip install cryptography", file=sys.stderr)
    sys.exit(2)

try:
    from ledger.verify.__main__ import main

    main()
except KeyboardInterrupt:
    sys.exit(2)
'''


def closure(entry: str = ENTRY) -> dict[str, Path]:
    """The project's modules that `entry` imports, directly or not, packages included."""
    found: dict[str, Path] = {}
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        path = _path_of(name)
        if path is None or name in found:
            continue
        found[name] = path
        waiting += [name.rpartition(".")[0], *imports_of(path)]
    return found


def imports_of(path: Path) -> Iterator[str]:
    """The absolute names that a source file imports; of `from a import b` both a and a.b, for b may be a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def build_verifier(target: Path) -> Path:
    """Writes the archive and returns where it is. Entries are sorted, stored, and carry no time of their own."""
    members = {str(path.relative_to(ROOT).as_posix()): path.read_bytes() for path in closure().values()}
    members |= {"__main__.py": START}
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as stream:
        stream.write(SHEBANG)
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(members):
                info = zipfile.ZipInfo(name, EPOCH)
                info.create_system = 3
                info.external_attr = 0o644 << 16
                archive.writestr(info, members[name])
    target.chmod(0o755)
    return target


def _path_of(name: str) -> Path | None:
    base = ROOT.joinpath(*name.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None) if name else None
