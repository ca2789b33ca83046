"""A file of JSON lines, each written and synced whole: what audits remember, so that one that was cut off goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Durable when it returns. Makes the file where there is none."""
    with path.open("ab") as file:
        file.write(orjson.dumps(line) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[Any]:
    """All lines, not checked further. A last one without its end is what a kill left, and is cut off. Raises
    ValueError for what is not JSON."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("rb+") as file:
            file.truncate(whole)
    return [orjson.loads(line) for line in data[:whole].splitlines()]
