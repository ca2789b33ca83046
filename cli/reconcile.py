"""`yunxi adapter status`, `reports`, `reconcile` and `probe`: whether what a feed says is all there is."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import (
    HERE,
    JsonOption,
    NodeOption,
    answering,
    counted,
    err,
    numbers_table,
    open_node,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from adapters.probes import Planting
    from adapters.reconcile import Reconciled
    from ledger.feeds import FeedSummary
    from ledger.node import Node

commands = typer.Typer()

MappingArgument = Annotated[Path, typer.Argument(metavar="MAPPING", help="A mapping file (docs/mappings.md).")]


@commands.command("status")
@answering
def adapter_status(node_dir: NodeOption = HERE, as_json: JsonOption = False) -> int:
    """Show for every feed that ran here its last report, what is in quarantine, and probes that did not come out."""
    from adapters.state import AdapterState

    with open_node(node_dir) as node:
        state = AdapterState(node.database.engine_for_writing())
        standings, planted, now = state.standings(), state.planted(), node.clock()
        aside = {item.feed: sum(state.quarantine_counts(item.feed).values()) for item in standings}
    lost = [probe for probe in planted if probe.overdue(now)]
    overdue = [item for item in standings if item.overdue(now)]
    if as_json:
        feeds = [{**asdict(item), "overdue": item in overdue, "in_quarantine": aside[item.feed]} for item in standings]
        probes = [{**asdict(probe), "overdue": probe in lost} for probe in planted]
        print_json({"good": not lost and not overdue, "feeds": feeds, "probes": probes})
        return 1 if lost or overdue else 0
    table = numbers_table("feed", "reports", "last report", "next due", "quarantine")
    for item in standings:
        table.add_row(item.feed, str(item.seq), item.reported_at or "never", item.next_due, f"{aside[item.feed]:,}")
    print_table(table) if standings else say("No feed ran on this node yet: run `yunxi adapter run`.")
    for item in overdue:
        err.print(item.sentence(), style="red", markup=False)
    for probe in lost:
        sentence = f"{probe.feed}: the probe planted {probe.planted_at} has not come out; it was due {probe.due}"
        err.print(sentence, style="red", markup=False)
    return 1 if lost or overdue else 0


@commands.command("reports")
@answering
def adapter_reports(
    department: Annotated[str | None, typer.Option(help="Only this department's feeds.")] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Hold the feeds' reports in the log against each other, the log and the clock: gaps, late rows, silence."""
    from ledger.feeds import check_feeds
    from ledger.store.reading import read_logs

    with open_node(node_dir) as node, node.database.reading() as connection:
        found = [
            summary
            for log in read_logs(connection, department)
            for summary in check_feeds(connection, node.reader, log, node.clock())
        ]
    good = all(summary.good for summary in found)
    if as_json:
        print_json({"good": good, "feeds": [summary_json(summary) for summary in found]})
    else:
        show_summaries(found)
        if good:
            say(f"{counted(len(found), 'feed')}: reports are complete, in time, and fit the log.")
    return 0 if good else 1


def summary_json(summary: FeedSummary) -> dict[str, Any]:
    """A feed's reports as a part of a command's JSON object."""
    return {**asdict(summary), "good": summary.good}


def show_summaries(found: list[FeedSummary]) -> None:
    """A line for each feed, and one for each finding."""
    for summary in found:
        last = summary.last
        told = "no report can be read"
        if last is not None:
            rows = f"{last['totals']['sealed']:,} rows sealed, {last['in_quarantine']:,} in quarantine"
            told = f"{counted(summary.reports, 'report')}, the last of {last['occurred_at']}: {rows}"
        say(f"{summary.department}/{summary.feed}: {told}.")
        for finding in summary.findings:
            err.print(f"  {finding.level}, {finding.kind}: {finding.sentence}", markup=False)


@commands.command("reconcile")
@answering
def adapter_reconcile(
    mapping: MappingArgument,
    source: Annotated[Path | None, typer.Option("--source", metavar="PATH", help="Read this file instead.")] = None,
    show: Annotated[int, typer.Option(help="How many rows of each kind to name.", min=0, max=100_000)] = 20,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Read the whole source again, seal nothing, and name every row in which source and ledger differ."""
    from adapters.mapping import load_mapping, open_source
    from adapters.reconcile import reconcile
    from adapters.state import AdapterState

    feed = load_mapping(mapping)
    opened = open_source(feed, override=source, environ=os.environ)
    with open_node(node_dir) as node:
        state = AdapterState(node.database.engine_for_writing())
        found = reconcile(feed, opened, state, book_of(node, feed.department), shown=show)
        standing = next((item for item in state.standings() if item.feed == feed.feed), None)
        late = standing.sentence() if standing is not None and standing.overdue(node.clock()) else None
    if as_json:
        print_json({"fits": found.fits, **asdict(found), "overdue": late})
    else:
        _show_reconciled(found, show)
        if late is not None:
            err.print(late, markup=False)
    return 0 if found.fits else 1


def _show_reconciled(found: Reconciled, shown: int) -> None:
    say(
        f"{found.feed}: {found.at_source:,} rows at the source: {found.fitting:,} in the ledger as they are, "
        f"{found.changed:,} changed since, {found.in_quarantine:,} in quarantine, {found.probes:,} probes, "
        f"{found.missing:,} missing."
    )
    if found.refused:
        say(f"{found.refused:,} rows are in the ledger, and the mapping as it is now refuses them: check it.")
    noted = f" ({found.withdrawn:,} of them noted in the ledger)" if found.withdrawn else ""
    say(
        f"{found.in_ledger:,} rows in the ledger with {counted(found.amendments, 'amendment')}; "
        f"{found.gone:,} of them gone from the source{noted}."
    )
    for item in found.differences:
        where = " ".join(part for part in (item.position, item.key, item.record_id) if part)
        say(f"  {item.kind}: {where}")
    if max(found.missing, found.changed, found.refused, found.gone - found.withdrawn) > shown:
        say(f"The first {shown} of each kind are named; --show names more.")
    if found.fits:
        say("Source and ledger fit.")


@commands.command("probe")
@answering
def adapter_probe(
    mapping: MappingArgument,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Plant a probe, a row that must come out: put into a drop folder; elsewhere it says what to plant, and where."""
    from adapters.mapping import load_mapping
    from adapters.probes import make_token, plant_file, planting, token_digest
    from adapters.state import AdapterState

    feed = load_mapping(mapping)
    with open_node(node_dir) as node:
        state = AdapterState(node.database.engine_for_writing())
        plan = planting(feed, make_token(state.now()))
        assert feed.probe is not None
        # remembered first: one that was planted and forgotten would never be missed
        state.plant(feed.feed, token_digest(plan.token), feed.probe.every)
        file = plant_file(feed, plan, os.environ) if plan.file is not None else None
    if as_json:
        print_json({**asdict(plan), "feed": feed.feed, "planted": file})
    elif file is not None:
        say(f"Planted {file}; `yunxi adapter status` says whether it came out.")
    else:
        _show_planting(plan)


def _show_planting(plan: Planting) -> None:
    say(f"Plant this row {plan.where}:")
    say(f"  {plan.text}")
    say("Then `yunxi adapter status` says whether it came out.")


def book_of(node: Node, department: str) -> Any:
    """What the node's ledger tells the feeds of a department."""
    from ledger.feeds import FeedBook

    return FeedBook(node.database, node.intake, department)
