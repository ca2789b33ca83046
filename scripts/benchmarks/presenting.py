"""Opening the vault and presenting records, as the owner does for an extraction."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.base import Options, Row, interleave, new_ledger
from benchmarks.receipts import add_anchors
from ledger.receipts import make_receipts

NAME = "present"
LIST = 100
SOME = ("subjects", "result", "violations")


def measure(options: Options) -> Iterator[Row]:
    """From the middle of the log: nothing of it was read just before."""
    with new_ledger() as ledger:
        ids = ledger.fill(options.records)
        add_anchors(ledger, options.records)
        count = min(LIST, len(ids))
        start = min(len(ids) * 45 // 100, len(ids) - count)  # between two anchors
        chosen, reader, log = ids[start : start + count], ledger.reader, ledger.log()
        with ledger.database.writing() as connection:

            def with_receipts() -> None:
                list(reader.present_list(connection, chosen, SOME))
                for receipt in make_receipts(connection, ledger.agent, log, range(start, start + count), 0):
                    receipt.serialize()

            times = interleave(
                options.rounds,
                {
                    "one by one, all 10 units": lambda: [reader.present(connection, i, None) for i in chosen],
                    f"list of {count}, all 10 units": lambda: list(reader.present_list(connection, chosen, None)),
                    f"list of {count}, 3 units": lambda: list(reader.present_list(connection, chosen, SOME)),
                    f"list of {count}, 3 units, and receipts": with_receipts,
                },
            )
    for name, taken in times.items():
        yield taken.cost(NAME, name, count, target="≤ 60" if name.startswith("list") else "")
