"""Large files in constant memory: 256 MB go in, become an attachment and come out, in a process that stays small."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fixtures.parts import Parts, Template

WORK = """
import hashlib, resource, sys
from pathlib import Path
from ledger.keys import FileKeyAgent
from ledger.submission import AttachmentSource, Submission, UploadedSource
from ledger.uploads import RUN_BYTES, Uploads
from tests.fixtures.parts import Parts
from tests.fixtures.records import report

SIZE, PIECE = 256_000_000, bytes(range(256)) * 3_125
keys, url, directory = sys.argv[1:]
parts = Parts.open(Path(directory), url, FileKeyAgent.open(Path(keys)))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def pieces():
    return (PIECE for _ in range(SIZE // len(PIECE)))

digest = hashlib.sha256()
Path(directory).mkdir(exist_ok=True)
file = Path(directory) / "file"
with file.open("wb") as out:
    for piece in pieces():
        digest.update(piece)
        out.write(piece)
before = peak()
uploads = Uploads(parts.database, parts.blobs, parts.keks, Path(directory) / "uploads")
begun = uploads.begin("fire", SIZE, sha256=digest.hexdigest())
uploads.append("fire", begun.id, 0, pieces())
source = UploadedSource(begun.id, "v.mp4", "video/mp4", SIZE, digest.hexdigest())
attached = AttachmentSource(file, "v.mp4", "video/mp4")
[taken] = parts.take([Submission("k", report(1), (attached,), (source,))])
for number in (1, 2):
    again = hashlib.sha256()
    with parts.database.reading() as connection:
        for piece in parts.reader.attachment(connection, taken.record_id, number):
            again.update(piece)
    assert again.digest() == digest.digest()
assert parts.audit().good
print(peak() - before, RUN_BYTES)
parts.close()
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(sqlite_parts: Parts, template: Template) -> None:
    arguments = [str(template.directory / "keys"), sqlite_parts.url, str(sqlite_parts.directory)]
    done = subprocess.run([sys.executable, "-c", WORK, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    grown, run = map(int, done.stdout.split())
    assert grown < 5 * run, f"{grown >> 20} MiB more at the peak than before"
