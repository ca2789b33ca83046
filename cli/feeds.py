"""`yunxi adapter`: feeds from departments' own systems."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from cli import reconcile
from cli.frame import (
    HERE,
    JsonOption,
    NodeOption,
    age,
    anchor_json,
    anchoring,
    answering,
    counted,
    err,
    listen_address,
    open_node,
    print_json,
    progress_bar,
    say,
    show_anchors,
)
from cli.reconcile import MappingArgument, book_of

if TYPE_CHECKING:
    from adapters.mapping import FeedMapping
    from adapters.run import CheckReport, Previewed, RunReport
    from adapters.run import Progress as Advance
    from adapters.supervise import FeedStatus
    from ledger.anchor import Outcome
    from ledger.node import Node

adapter_app = typer.Typer(
    help="Feeds from departments' own systems, driven by mapping files.\n\n"
    "A new source: look at `types`, write a mapping file (docs/mappings.md), `check` it until nothing is left, look at "
    "`preview`, then `run`. What was set aside is in `quarantine`.",
    no_args_is_help=True,
)
adapter_app.add_typer(reconcile.commands)

SourceOption = Annotated[
    Path | None, typer.Option("--source", metavar="PATH", help="Read this file instead of the one the mapping names.")
]


@adapter_app.command("check")
@answering
def adapter_check(
    mapping: MappingArgument,
    source: SourceOption = None,
    sample: Annotated[int, typer.Option(help="How many rows to try.", min=1)] = 1000,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Try a mapping on the first rows of its source and say what is not right yet: exit code 1. Nothing is written."""
    from adapters.mapping import load_mapping
    from adapters.run import check

    feed = load_mapping(mapping)
    found = check(feed, _source_of(feed, source), validate=_validator(node_dir, feed), sample=sample)
    if as_json:
        print_json({"good": found.clean, **asdict(found)})
    else:
        _show_check(found)
    return 0 if found.clean else 1


def _show_check(found: CheckReport) -> None:
    say(f"{found.good:,} of the first {found.rows:,} rows would be sealed.")
    for finding in found.findings:
        where = f" (first at {finding.position})" if finding.position else ""
        say(f"{finding.level}: {finding.sentence}{where}")
    if found.clean:
        say("Nothing is left to do: run `yunxi adapter preview` to look at records, `yunxi adapter run` to seal them.")


@adapter_app.command("preview")
@answering
def adapter_preview(
    mapping: MappingArgument,
    source: SourceOption = None,
    rows: Annotated[int, typer.Option(help="How many rows to show.", min=1, max=1000)] = 3,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show rows beside the records they become. Nothing is written."""
    from adapters.mapping import load_mapping
    from adapters.run import preview

    feed = load_mapping(mapping)
    shown = preview(feed, _source_of(feed, source), rows, validate=_validator(node_dir, feed))
    if as_json:
        print_json({"rows": [_previewed_json(row) for row in shown]})
        return
    for row in shown:
        say(f"-- {row.position} --")
        say(json.dumps(row.values, ensure_ascii=False, indent=2, default=str))
        if row.refusal is not None:
            say(f"=> quarantine, {row.refusal.reason}: {row.refusal}")
        else:
            say("=> " + json.dumps(row.record, ensure_ascii=False, indent=2))
        if row.attachments:
            say(f"   with {', '.join(row.attachments)}")


def _previewed_json(row: Previewed) -> dict[str, Any]:
    refusal = {"reason": row.refusal.reason, "message": str(row.refusal)} if row.refusal else None
    values = {name: str(value) if value is not None else None for name, value in row.values.items()}
    return {
        "position": row.position,
        "values": values,
        "record": row.record,
        "attachments": row.attachments,
        "refusal": refusal,
    }


@adapter_app.command("run")
@answering
def adapter_run(
    mapping: Annotated[
        Path | None, typer.Argument(metavar="MAPPING", help="A mapping file (docs/mappings.md); or use --all.")
    ] = None,
    every: Annotated[
        Path | None, typer.Option("--all", metavar="DIR", help="Every mapping file of a directory.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="With --all: go on until interrupted.")] = False,
    interval: Annotated[float, typer.Option(help="With --follow: seconds between two turns of a feed.", min=0.1)] = 5.0,
    source: SourceOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check; write nothing.")] = False,
    limit: Annotated[int | None, typer.Option(help="Stop after about this many rows.", min=1)] = None,
    afresh: Annotated[
        bool,
        typer.Option(
            "--afresh",
            help="Read the source from its start: rows that are known are recognised, those in quarantine tried again.",
        ),
    ] = False,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Seal everything new in a source. Run it again at any time: it goes on where it stopped, and doubles nothing."""
    from adapters.mapping import load_mapping
    from adapters.run import check

    if (mapping is None) == (every is None):
        raise typer.BadParameter("name one mapping file, or a directory of them with --all")
    if every is not None:
        if source is not None or dry_run or limit is not None or afresh:
            raise typer.BadParameter("--source, --dry-run, --limit and --afresh are for one mapping, not for --all")
        return _run_all(every, node_dir, follow=follow, interval=interval, as_json=as_json)
    if follow:
        raise typer.BadParameter("--follow goes with --all")
    assert mapping is not None
    feed = load_mapping(mapping)
    if dry_run:
        found = check(feed, _source_of(feed, source), validate=_validator(node_dir, feed), sample=limit or 1000)
        print_json({"dry_run": True, "good": found.clean, **asdict(found)}) if as_json else _show_check(found)
        return 0 if found.clean else 1
    with open_node(node_dir) as node, progress_bar(shown=not as_json) as bar, anchoring(node) as outcomes:
        report, quarantined = run_feed(node, feed, source, bar, limit=limit, afresh=afresh)
    if as_json:
        print_json(_run_json(report, quarantined, outcomes))
    else:
        _show_run(mapping, report, quarantined, outcomes)
    return report.stopped.exit_code if report.stopped else 0


def _run_all(directory: Path, node_dir: Path, *, follow: bool, interval: float, as_json: bool) -> int:
    """Runs all feeds of a directory; 2 where one of them could not run (while following, they are tried again)."""
    from adapters.state import AdapterState
    from adapters.supervise import Supervisor

    said: dict[str, tuple[str | None, int]] = {}

    def report(statuses: Sequence[FeedStatus]) -> None:
        for status in statuses:
            # a feed that only waits says nothing
            now = (status.trouble, status.read)
            if not as_json and status.turns and said.get(status.file) != now:
                say(_feed_line(status))
                sys.stdout.flush()
            said[status.file] = now

    with open_node(node_dir) as node, stopping() as stop, anchoring(node):
        state = AdapterState(node.database.engine_for_writing())
        supervisor = Supervisor(
            directory,
            lambda department: functools.partial(node.intake.submit, department),
            state,
            interval=interval,
            book_of=functools.partial(book_of, node),
            eager=not follow,
        )
        statuses = supervisor.run(stop, follow=follow, report=report)
    if as_json:
        print_json({"feeds": [asdict(status) for status in statuses]})
    else:
        for status in statuses:
            if not status.turns:
                say(_feed_line(status))
        say(f"{counted(len(statuses), 'feed')}; {counted(sum(s.sealed for s in statuses), 'record')} sealed.")
    troubled = any(status.state in ("failing", "unreadable") for status in statuses)
    return 2 if troubled and not follow else 0


def _feed_line(status: FeedStatus) -> str:
    name = status.feed or status.file
    if status.trouble:
        return f"{name}: {status.state}: {status.trouble}"
    lag = "" if status.lag is None else f", {age(status.lag)} behind its source"
    return (
        f"{name}: {status.read:,} rows read: {status.sealed:,} sealed, {status.known:,} known already, "
        f"{status.quarantined:,} quarantined{lag}"
    )


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that what runs can come to a clean end."""
    stop = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in signals]
    try:
        yield stop
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


@adapter_app.command("receive")
@answering
def adapter_receive(
    mappings: Annotated[list[Path], typer.Argument(metavar="MAPPING...", help='Mapping files with kind = "webhook".')],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.")],
) -> None:
    """Take signed webhooks into the feeds' inboxes until interrupted. It needs no node; `run` seals what came."""
    from adapters.mapping import load_mapping
    from adapters.webhook import hook_of
    from adapters.webhook_server import WebhookServer

    feeds = [load_mapping(mapping) for mapping in mappings]
    hooks = {feed.feed: hook_of(feed.options, feed.base, os.environ) for feed in feeds}
    server = WebhookServer(hooks, *listen_address(listen))
    with stopping() as stop:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        for name in hooks:
            say(f"Takes webhooks at {server.url}/hooks/{name}")
        sys.stdout.flush()
        stop.wait()
        server.shutdown()
        thread.join()
    server.server_close()
    for hook in hooks.values():
        hook.close()


def run_feed(
    node: Node, feed: FeedMapping, source: Path | None, bar: Progress, *, limit: int | None, afresh: bool
) -> tuple[RunReport, dict[str, int]]:
    """Runs one feed into the node; returns the report and what is in quarantine now, by reason."""
    from adapters.run import run
    from adapters.state import AdapterState

    state = AdapterState(node.database.engine_for_writing())
    task = bar.add_task(feed.feed, total=1000)

    def advance(now: Advance) -> None:
        fraction = now.fraction if now.fraction is not None else 0
        bar.update(task, completed=int(fraction * 1000), description=f"{feed.feed}: {now.read:,} rows")

    submit = functools.partial(node.intake.submit, feed.department)
    book = book_of(node, feed.department)
    report = run(feed, _source_of(feed, source), state, submit, advance, limit=limit, afresh=afresh, book=book)
    return report, state.quarantine_counts(feed.feed)


def _source_of(feed: FeedMapping, override: Path | None) -> Any:
    from adapters.mapping import open_source

    return open_source(feed, override=override, environ=os.environ)


def _validator(node_dir: Path, feed: FeedMapping) -> Callable[[dict[str, Any]], None]:
    """Validates as the node would; without a node, by the built-in record types. Raises RecordRefused where the feed's
    own type is none of them, or one that only the service seals."""
    from ledger.record_types import load_types

    types = load_types(node_dir)
    types.get(feed.record_type, feed.v).check_handed_in()

    def validate(record: dict[str, Any]) -> None:
        types.validate({key: value for key, value in record.items() if key != "id"}, time.time())

    return validate


def _show_run(mapping: Path, report: RunReport, quarantined: dict[str, int], outcomes: list[Outcome]) -> None:
    say(
        f"{report.feed}: {report.read:,} rows read: {report.sealed:,} sealed, {report.known:,} known already, "
        f"{report.quarantined:,} quarantined."
    )
    for reason, count in report.by_reason.items():
        say(f"  quarantined, {reason}: {count:,}")
    for member, count in report.omitted.items():
        say(f"  left out as invalid, {member}: {count:,}")
    if report.unmapped:
        say(f"  columns neither used nor ignored: {', '.join(report.unmapped)}")
    if report.withdrawn:
        say(f"  gone from the source, noted in the log: {report.withdrawn:,}")
    if quarantined:
        say(f"  now in quarantine: {sum(quarantined.values()):,}; look with `yunxi adapter quarantine {mapping}`")
    newest = {outcome.department: outcome for outcome in outcomes}
    show_anchors(list(newest.values()))
    if report.stopped:
        err.print(f"yunxi: stopped early: {report.stopped}", markup=False)


def _run_json(report: RunReport, quarantined: dict[str, int], outcomes: list[Outcome]) -> dict[str, Any]:
    stopped = {"code": report.stopped.code, "message": str(report.stopped)} if report.stopped else None
    newest = {outcome.department: outcome for outcome in outcomes}
    return {
        **asdict(replace(report, stopped=None)),
        "stopped": stopped,
        "in_quarantine": quarantined,
        "anchors": [anchor_json(outcome) for outcome in newest.values()],
    }
