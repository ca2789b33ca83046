"""`yunxi adapter quarantine` and `replay`: rows that were set aside, and trying them again."""

from __future__ import annotations

import functools
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import (
    HERE,
    JsonOption,
    NodeOption,
    anchor_json,
    anchoring,
    answering,
    counted,
    err,
    open_node,
    print_json,
    progress_bar,
    say,
    show_anchors,
)

if TYPE_CHECKING:
    from adapters.mapping import FeedMapping
    from adapters.replay import ReplayReport
    from ledger.anchor import Outcome

commands = typer.Typer()

MappingArgument = Annotated[Path, typer.Argument(metavar="MAPPING", help="The feed's mapping file.")]
ReasonOption = Annotated[str | None, typer.Option(help="Only rows set aside for this reason.")]


@commands.command("quarantine")
@answering
def adapter_quarantine(
    mapping: MappingArgument,
    reason: ReasonOption = None,
    page: Annotated[int, typer.Option(help="Which page, from 1.", min=1)] = 1,
    limit: Annotated[int, typer.Option(help="How many rows a page has.", min=1)] = 50,
    content: Annotated[bool, typer.Option(help="Show the rows themselves too: personal data.")] = False,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List the rows of a feed that were set aside, and why."""
    from adapters.mapping import load_mapping
    from adapters.state import AdapterState

    feed = load_mapping(mapping)
    with open_node(node_dir) as node:
        state = AdapterState(node.database.engine_for_writing())
        rows = state.quarantine(feed.feed, limit=limit, offset=(page - 1) * limit, reason=reason)
        counts = state.quarantine_counts(feed.feed)
    chosen = sum(counts.values()) if reason is None else counts.get(reason, 0)
    pages = -(-chosen // limit)
    if as_json:
        hidden = {} if content else {"raw": None}
        shown = [{**asdict(row), **hidden} for row in rows]
        print_json({"feed": feed.feed, "counts": counts, "page": page, "pages": pages, "rows": shown})
        return
    for row in rows:
        say(f"{row.position}  {row.reason}  {row.detail}")
        if content:
            say(f"    {row.raw}")
    if pages > 1:
        say(f"Page {page:,} of {pages:,}.")
    say(f"{counted(sum(counts.values()), 'row')} in quarantine.")
    for name, count in counts.items() if len(counts) > 1 else ():
        say(f"  {name}: {count:,}")
    if counts:
        say(f"Once the mapping is corrected: yunxi adapter replay {mapping}")
        say(f"Once the source is corrected:  yunxi adapter run {mapping} --afresh")


@commands.command("replay")
@answering
def adapter_replay(
    mapping: MappingArgument,
    reason: ReasonOption = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Try the rows in quarantine again under the mapping as it is now; the source is not read."""
    from adapters.mapping import load_mapping, open_source
    from adapters.replay import replay
    from adapters.run import Progress
    from adapters.state import AdapterState
    from ledger.feeds import FeedBook

    feed = load_mapping(mapping)
    # rows that name files beside their own are found through the source; the others need none
    lies_beside = any(rule.base is None for rule in feed.attachments)
    source = open_source(feed, environ=os.environ) if lies_beside else None
    with open_node(node_dir) as node, progress_bar(shown=not as_json) as bar, anchoring(node) as outcomes:
        state = AdapterState(node.database.engine_for_writing())
        task = bar.add_task(feed.feed, total=sum(state.quarantine_counts(feed.feed).values()))

        def advance(now: Progress) -> None:
            bar.update(task, completed=now.read)

        submit = functools.partial(node.intake.submit, feed.department)
        book = FeedBook(node.database, node.intake, feed.department)
        report = replay(feed, source, state, submit, advance, reason=reason, book=book)
        left = state.quarantine_counts(feed.feed)
    if as_json:
        print_json(_replay_json(report, left, outcomes))
    else:
        _show_replay(feed, mapping, report, left, outcomes)
    return report.run.stopped.exit_code if report.run.stopped else 0


def _show_replay(
    feed: FeedMapping, mapping: Path, report: ReplayReport, left: dict[str, int], outcomes: list[Outcome]
) -> None:
    run = report.run
    say(
        f"{feed.feed}: {counted(run.read, 'row')} tried again: {run.sealed:,} sealed, {run.known:,} known already, "
        f"{run.quarantined:,} still set aside."
    )
    for reason, count in left.items():
        say(f"  now in quarantine, {reason}: {count:,}")
    if report.untried:
        say(f"{counted(report.untried, 'row')} can come only from the source: yunxi adapter run {mapping} --afresh")
    newest = {outcome.department: outcome for outcome in outcomes}
    show_anchors(list(newest.values()))
    if run.stopped:
        err.print(f"yunxi: stopped early: {run.stopped}", markup=False)


def _replay_json(report: ReplayReport, left: dict[str, int], outcomes: list[Outcome]) -> dict[str, Any]:
    run = report.run
    stopped = {"code": run.stopped.code, "message": str(run.stopped)} if run.stopped else None
    newest = {outcome.department: outcome for outcome in outcomes}
    return {
        **asdict(replace(run, stopped=None)),
        "stopped": stopped,
        "untried": report.untried,
        "in_quarantine": left,
        "anchors": [anchor_json(outcome) for outcome in newest.values()],
    }
