"""Measures the ledger's paths beside the bare library calls: a table, and JSON with --json. See docs/performance.md."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from benchmarks import (
    anchoring,
    auditing,
    casefile,
    extraction,
    feeds,
    gateway,
    growth,
    media,
    postgres,
    presenting,
    receipts,
    sealing,
)
from benchmarks.base import Options, Row, machine, record_bytes, today, versions
from rich.console import Console
from rich.table import Table

FULL = Options(records=20_000, batch=1_000, rounds=15, growth=(1_000, 100_000, 1_000_000))
QUICK = Options(records=3_000, batch=1_000, rounds=5, growth=(1_000, 100_000))
LARGE = 10_000_000

BENCHMARKS: dict[str, Callable[[Options], Iterator[Row]]] = {
    "seal": sealing.measure,
    "batches": sealing.measure_batches,
    "postgres": postgres.measure,
    "anchor": anchoring.measure,
    "receipts": receipts.measure,
    "present": presenting.measure,
    "extract": extraction.measure,
    "audit": auditing.measure,
    "growth": growth.measure,
    "media": media.measure,
    "casefile": casefile.measure,
    "feeds": feeds.measure,
    "gateway": gateway.measure,
}


def main() -> int:
    """Exit 0 when everything asked for was measured; no figure is ever judged here."""
    arguments = _parser().parse_args()
    options = _options(arguments)
    report: dict[str, Any] = {
        "format": 1,
        "date": today(),
        "machine": machine(),
        "versions": versions(),
        "sizes": {"record_bytes": record_bytes(), "disclosure_units": 10, **asdict(options)},
    }
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(_header(report))
    rows: list[Row] = []
    for name in arguments.only or BENCHMARKS:
        with console.status(name):
            found = list(BENCHMARKS[name](options))
        rows += found
        console.print(_table(name, found))
    report["machine"]["load_at_end"] = round(os.getloadavg()[0], 2)
    report["rows"] = [asdict(row) for row in rows]
    if arguments.json:
        arguments.json.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller logs and fewer rounds: about half a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help=f"of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--records", type=int, metavar="N", help="size of the logs that are read (and largest batch)")
    parser.add_argument(
        "--large", action="store_true", help=f"growth up to {LARGE:,} records: minutes and 4 GB of disk"
    )
    return parser


def _options(arguments: argparse.Namespace) -> Options:
    chosen = QUICK if arguments.quick else FULL
    growing = (*chosen.growth, LARGE) if arguments.large else chosen.growth
    if arguments.records is None:
        return Options(chosen.records, chosen.batch, chosen.rounds, growing)
    records = max(arguments.records, 10)
    return Options(records, min(chosen.batch, records), chosen.rounds, growing if records >= 1_000 else (records,))


def _header(report: dict[str, Any]) -> str:
    where, sizes = report["machine"], report["sizes"]
    libraries = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    return (
        f"{report['date']}  {where['cpu']}, {where['cores']} cores, {where['memory_gib']} GiB, {where['os']}, "
        f"load {where['load_at_start']}\n{libraries}\nrecord: {sizes['record_bytes']} bytes of JSON, "
        f"{sizes['disclosure_units']} units; logs of {sizes['records']:,}; {sizes['rounds']} rounds"
    )


def _table(name: str, rows: list[Row]) -> Table:
    table = Table(title=name, title_justify="left", pad_edge=False)
    for heading in ("what", "best", "median", "unit", "target", "note"):
        table.add_column(heading, justify="right" if heading in ("best", "median") else "left")
    for row in rows:
        table.add_row(row.what, _figure(row.best), _figure(row.median), row.unit, row.target, row.note)
    return table


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"


if __name__ == "__main__":
    sys.exit(main())
