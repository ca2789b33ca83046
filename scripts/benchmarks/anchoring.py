"""From the acknowledgement of a record to a final anchor, on the embedded chain."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from benchmarks.base import DEPARTMENT, Options, Row, record
from ledger.anchor import Anchorer, Outcome
from ledger.chain import embedded
from ledger.chain.anchoring import FINAL
from ledger.departments import add_department
from ledger.node import Node, create_node
from ledger.submission import Acknowledged, Submission

INTERVAL_S = 0.25
DEADLINE_S = 30.0
A_BATCH = 10


def measure(options: Options) -> Iterator[Row]:
    """Small batches at uneven times, while the anchorer's thread runs as it does in a node."""
    count = min(6 * options.rounds, max(3, options.records // A_BATCH))
    with TemporaryDirectory(prefix="yunxi-bench-") as directory:
        root = Path(directory) / "node"
        create_node(root, consortium="yunxi.example")
        node = Node.open(root)
        try:
            add_department(node, DEPARTMENT, "市场监督管理局 | Market supervision")
            waits = _waits(node, count)
        finally:
            node.close()
            embedded.stop(root / "chain")
    note = f"embedded chain, round every {INTERVAL_S} s, {count} batches of {A_BATCH}"
    for share, target in ((50, ""), (95, "≤ 2")):
        value = waits[min(len(waits) - 1, len(waits) * share // 100)]
        yield Row("anchor", f"acknowledged → anchored, p{share}", "s", value, value, len(waits), target, note)
    yield Row("anchor", "acknowledged → anchored, mean", "s", min(waits), statistics.mean(waits), len(waits), "", note)


def _waits(node: Node, count: int) -> list[float]:
    """Seconds each batch waited, ascending. The anchor of a size covers every batch below it."""
    draw, acknowledged, waits = Random(1), [], []  # noqa: S311  for even spread
    covered, stop = threading.Condition(), threading.Event()
    anchors: list[tuple[float, int]] = []

    def report(outcome: Outcome) -> None:
        if outcome.problem is None and outcome.anchored is not None and outcome.anchored.finality == FINAL:
            with covered:
                anchors.append((time.perf_counter(), outcome.anchored.size))
                covered.notify()

    thread = threading.Thread(target=Anchorer(node).run, args=(stop, INTERVAL_S, report))
    thread.start()
    try:
        for number in range(count):
            batch = [Submission(f"{number}-{n}", record(n)) for n in range(A_BATCH)]
            last = node.intake.submit(DEPARTMENT, batch)[-1]
            assert isinstance(last, Acknowledged)
            acknowledged.append((time.perf_counter(), last.index))
            time.sleep(draw.uniform(0.02, 0.2))
        with covered:
            covered.wait_for(lambda: bool(anchors) and anchors[-1][1] > acknowledged[-1][1], DEADLINE_S)
    finally:
        stop.set()
        thread.join()
    for at, index in acknowledged:
        waits.append(next(when for when, size in anchors if size > index) - at)
    return sorted(waits)
