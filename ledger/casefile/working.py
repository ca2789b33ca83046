"""Files on their way beside where they will lie: hidden, readable to nobody else, gone when the work ends or fails.

A process that is killed leaves them behind, with what records say in them. They are locked while somebody works with
them, so the next one that makes a file of that name tells which are left over, and deletes those.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ledger.errors import CouldNotRun, StorageFailed
from ledger.store.blobs import sync_directory

_NAME_BYTES = 100
"""Of the name that a working file shows; with the rest it stays below the 255 of file systems."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def working_files(target: Path) -> Iterator[Callable[[], BinaryIO]]:
    """Makes working files beside `target`; their names are gone at the end, and those that were left over are at once.
    Raises StorageFailed for what the disk refuses meanwhile."""
    made: list[BinaryIO] = []
    begin = f".{target.name.encode()[:_NAME_BYTES].decode(errors='ignore')}."

    def new() -> BinaryIO:
        descriptor, name = tempfile.mkstemp(prefix=begin, suffix=".part", dir=target.parent)
        os.close(descriptor)
        made.append(Path(name).open("r+b"))  # noqa: SIM115  closed below
        with suppress(OSError):  # a disk without locks: then nothing is ever taken for left over
            fcntl.flock(made[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        return made[-1]

    try:
        _delete_left_over(target.parent, begin)
        yield new
    except OSError as error:
        full = error.errno in _FULL
        hint = "free space, twice the size of the file if it is sealed" if full else "check the path and the disk"
        raise StorageFailed(f"{target} cannot be written: {error.strerror}; {hint}") from error
    finally:
        for file in made:
            Path(file.name).unlink(missing_ok=True)
            with suppress(OSError):  # what was buffered for a full disk
                file.close()


def give_name(working: Path, target: Path) -> None:
    """Gives a finished file its name, in one step. Raises CouldNotRun when something has the name by now."""
    try:
        os.link(working, target)
    except FileExistsError:
        raise _is_there(target) from None
    except OSError:  # a disk without links, such as FAT
        if target.exists():
            raise _is_there(target) from None
        working.rename(target)
    sync_directory(target.parent)


def _is_there(target: Path) -> CouldNotRun:
    return CouldNotRun(f"{target} is there already: a case file is never written over; name another file")


def _delete_left_over(directory: Path, begin: str) -> None:
    for path in directory.glob(f"{glob.escape(begin)}*.part"):
        # held by somebody, gone by now, or another's: it stays
        with suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
