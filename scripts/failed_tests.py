"""The tests that failed last, one a line, as pytest takes them from a file. Ends with 1 for none, or for many."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

LAST_FAILED = Path(__file__).resolve().parent.parent / ".pytest_cache" / "v" / "cache" / "lastfailed"

AT_MOST = 20
"""More than these are no matter of timing."""

_GROUP = re.compile(r"@[^\]@]*\Z")


def without_group(node_id: str) -> str:
    """The id by which pytest finds a test: its worker group, which `--dist loadgroup` adds behind an `@`, cut off."""
    return _GROUP.sub("", node_id)


def main() -> int:
    if not LAST_FAILED.exists():
        print("No test is known to have failed: the run itself ended with an error, see above.", file=sys.stderr)
        return 1
    failed = [without_group(node_id) for node_id in json.loads(LAST_FAILED.read_text("utf-8"))]
    if not 0 < len(failed) <= AT_MOST:
        print(f"{len(failed)} tests failed: only 1 to {AT_MOST} are tried again.", file=sys.stderr)
        return 1
    print("\n".join(failed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
