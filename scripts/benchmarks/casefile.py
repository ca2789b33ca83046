"""A case file of 10,000 records: export, verification and their peak memory. 256 MiB of media; with --large 20 GiB,
which takes 45 GiB of disk (`YUNXI_BENCH_DIR` says where).

Each step runs in a process of its own, so that its peak memory is its own. The last row is the bare work on the same
bytes: SHA-256 of the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.base import DEPARTMENT, Options, Row, record
from ledger.anchor import Anchorer
from ledger.casefile.export import Order, export
from ledger.chain import embedded
from ledger.departments import add_department
from ledger.node import Node, create_node
from ledger.submission import Acknowledged, AttachmentSource, Submission
from ledger.trust import export_trust
from ledger.verify.casefile import verify_case_file

NAME = "casefile"
CASE = "望市监立〔2026〕1号"
RECORDS = 10_000
SMALL, LARGE = (8, 32 << 20), (20, 1 << 30)
"""How many files of how many bytes."""
MB = 1_000_000
CHUNK = 1 << 20


def measure(options: Options) -> Iterator[Row]:
    """Fills a case, exports it, verifies the file, and hashes it."""
    files, size = LARGE if max(options.growth) >= 10_000_000 else SMALL
    records = min(options.records, RECORDS) if options.records < 1_000 else RECORDS
    with TemporaryDirectory(prefix="yunxi-bench-", dir=os.environ.get("YUNXI_BENCH_DIR")) as name:
        directory = Path(name)
        _fill(directory, records, files, size)
        try:
            for what, per_record in (("export", False), ("export without media", True)):
                yield _row(what, directory, records, files * size, per_record=per_record)
        finally:
            embedded.stop(directory / "node" / "chain")
        for what, per_record in (("verify", False), ("verify without media", True), ("bare SHA-256", False)):
            yield _row(what, directory, records, files * size, per_record=per_record)


def _row(what: str, directory: Path, records: int, media: int, *, per_record: bool) -> Row:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", "from benchmarks.casefile import alone; alone()", what, str(directory)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    seconds, peak, octets = json.loads(done.stdout)
    note = f"{records:,} records, {media / MB:,.0f} MB of media, {seconds:,.1f} s, peak {peak:,.0f} MiB"
    rate = records / seconds if per_record else octets / MB / seconds
    return Row(NAME, what, "records/s" if per_record else "MB/s", rate, rate, 1, note=note)


def alone() -> None:
    """One step, in a process of its own; prints seconds, peak MiB and the size of the case file."""
    what, directory = sys.argv[1], Path(sys.argv[2])
    path = directory / ("small.zip" if "without" in what else "case.zip")
    start = perf_counter()
    if what.startswith("export"):
        _export(directory, path, media="without" not in what)
    elif what.startswith("verify"):
        _verify(directory, path)
    else:
        _hash(path)
    seconds = perf_counter() - start
    print(json.dumps([seconds, _peak(), path.stat().st_size]))


def _peak() -> float:
    """Of this process, in MiB. Not `getrusage`: there a child begins with its parent's."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _fill(directory: Path, records: int, files: int, size: int) -> None:
    create_node(directory / "node", consortium="yunxi.example")
    node = Node.open(directory / "node")
    try:
        add_department(node, DEPARTMENT, "市场监督管理局 | Market supervision")
        video = _video(directory, size)
        every = max(1, records // files)
        for start in range(0, records, 500):
            batch = [
                Submission(
                    f"row-{n}", record(n) | {"case": CASE}, (video,) if n % every == 0 and n // every < files else ()
                )
                for n in range(start, min(start + 500, records))
            ]
            taken = [each for each in node.intake.submit(DEPARTMENT, batch) if isinstance(each, Acknowledged)]
            if len(taken) < len(batch):
                raise RuntimeError("a record of the benchmark was refused")
            if start % 2_000 == 0:
                Anchorer(node).round()
        Anchorer(node).round()
        (directory / "trust.json").write_bytes(export_trust(node).serialize())
    finally:
        node.close()


def _video(directory: Path, size: int) -> AttachmentSource:
    path = directory / "video.mp4"
    with path.open("wb") as file:
        for _ in range(size // CHUNK):
            file.write(os.urandom(CHUNK))
    return AttachmentSource(path, path.name, "video/mp4")


def _export(directory: Path, path: Path, *, media: bool) -> None:
    node = Node.open(directory / "node")
    try:
        export(node, node.intake.submit, Order(CASE, media=media), path)
    finally:
        node.close()


def _verify(directory: Path, path: Path) -> None:
    from ledger.formats.trust import Trust

    data = (directory / "trust.json").read_bytes()
    with path.open("rb") as stream:
        result = verify_case_file(Trust.parse(data), stream, hashlib.sha256(data).hexdigest())
    if result.findings:
        raise RuntimeError(f"the case file of the benchmark does not verify: {result.findings[0].error}")


def _hash(path: Path) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
