"""What the commands share: how an input file that cannot be taken is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.frame import read_bounded
from ledger.errors import CouldNotRun, Malformed


def test_a_file_is_called_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(Malformed, match=r"^file .*x: has more than the 4 bytes allowed; name the right file$"):
        read_bounded(path, 4)
    with pytest.raises(Malformed, match=r"^record .*x: has more than the 4 bytes allowed; move bulk"):
        read_bounded(path, 4, "record", "move bulk into attachments")
    with pytest.raises(CouldNotRun, match="nowhere cannot be read: No such file or directory; name a file that can"):
        read_bounded(tmp_path / "nowhere", 4)
