"""The `yunxi` command: composition root, nothing but wiring.

Every command ends with exit code 0 (good), 1 (a finding or refusal) or 2 (could not run), says an error in one
sentence, and with `--json` prints exactly one JSON object.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from adapters.mapping import FeedMapping, load_mapping, open_source
from adapters.run import CheckReport, Previewed, RunReport, check, preview, run
from adapters.run import Progress as Advance
from adapters.state import AdapterState
from ledger.anchor import Anchorer, Outcome
from ledger.audit import NodeAudit, audit_node
from ledger.chain import embedded
from ledger.departments import add_department
from ledger.errors import CouldNotRun, YunxiError
from ledger.formats.strictjson import loads_object
from ledger.node import DEFAULT_DATABASE, Node, create_node, load_types
from ledger.receipts import make_receipt
from ledger.record_types import MAX_RECORD_BYTES
from ledger.settings import EMBEDDED
from ledger.status import NodeStatus, node_status
from ledger.store import schema
from ledger.store.reading import read_logs
from ledger.submission import Acknowledged, AttachmentSource, Refused, Submission
from ledger.trust import export_trust
from ledger.verifier_zipapp import build_verifier

app = typer.Typer(
    name="yunxi",
    help="Yunxi (云玺): an evidence ledger for enforcement records, with proofs that verify without us.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
department_app = typer.Typer(help="Departments of this node.", no_args_is_help=True)
trust_app = typer.Typer(help="The trust file that verifiers are given.", no_args_is_help=True)
adapter_app = typer.Typer(help="Feeds from departments' own systems, driven by mapping files.", no_args_is_help=True)
app.add_typer(department_app, name="department")
app.add_typer(adapter_app, name="adapter")
app.add_typer(trust_app, name="trust")

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

NodeOption = Annotated[
    Path, typer.Option("--node", envvar="YUNXI_NODE", metavar="DIR", help="The node directory.", show_default="here")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
RecordArgument = Annotated[str, typer.Argument(metavar="RECORD_ID", help="The record's id, a UUID.")]

HERE = Path()


# -- the frame around every command --


def answering(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turns a command's outcome into an exit code, and an error into one sentence (or one JSON object)."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            code = command(*args, **kwargs) or 0
        except YunxiError as error:
            fail(error.code, str(error), error.exit_code, as_json=bool(kwargs.get("as_json")))
        except (BrokenPipeError, KeyboardInterrupt):
            # whoever read us has gone, or has had enough: say nothing more, and let the interpreter flush into nothing
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 2
        raise typer.Exit(code)

    return wrapper


def fail(code: str, sentence: str, exit_code: int, *, as_json: bool) -> NoReturn:
    """Ends the command with an error."""
    if as_json:
        print_json({"error": {"code": code, "message": sentence}})
    else:
        err.print(f"yunxi: {sentence}", markup=False)
    raise typer.Exit(exit_code)


def print_json(value: Any) -> None:
    """The command's one JSON object."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=_jsonable) + "\n")


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def say(text: str) -> None:
    """A line of output; nothing in it is markup."""
    out.print(text, markup=False)


@contextmanager
def open_node(directory: Path) -> Iterator[Node]:
    """An open node, closed at the end."""
    node = Node.open(directory)
    try:
        yield node
    finally:
        node.close()


@contextmanager
def anchoring(node: Node, interval: float = 0.5) -> Iterator[list[Outcome]]:
    """Anchors beside the work of the block and once more after it; yields the outcomes as they come."""
    outcomes: list[Outcome] = []
    stop = threading.Event()
    thread = threading.Thread(target=Anchorer(node).run, args=(stop, interval, outcomes.append), daemon=True)
    thread.start()
    try:
        yield outcomes
    finally:
        stop.set()
        thread.join()


@contextmanager
def progress_bar(*, shown: bool) -> Iterator[Progress]:
    """A progress display on standard error, where it disturbs no output."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not shown or not err.is_terminal, transient=True) as progress:
        yield progress


# -- the node --


@app.command()
@answering
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
    chain: Annotated[str, typer.Option(help="`embedded`, or the URL of a chain node's JSON-RPC.")] = EMBEDDED,
    consortium: Annotated[
        str, typer.Option(help="The consortium's name, first in every log's origin.")
    ] = "yunxi.example",
    database: Annotated[
        str, typer.Option(help="SQLAlchemy URL; SQLite in the directory by default.")
    ] = DEFAULT_DATABASE,
    as_json: JsonOption = False,
) -> None:
    """Make a node: keys, database, and the contracts on its chain."""
    settings = create_node(directory, consortium=consortium, chain_url_or_embedded=chain, database=database)
    if as_json:
        print_json({"node": directory, "consortium": consortium, "chain": asdict(settings.chain)})
        return
    say(f"Made node {directory} of consortium {consortium} on chain {settings.chain.id}.")
    if settings.chain.engine == EMBEDDED:
        err.print(f"Warning: {embedded.WARNING}", style="yellow", markup=False)
    if (directory / "keys" / "passphrase").exists():
        err.print(
            f"Warning: the keys' passphrase lies beside them in {directory / 'keys' / 'passphrase'}; "
            "in production set YUNXI_PASSPHRASE instead and delete it.",
            style="yellow",
            markup=False,
        )
    say(f"Next: yunxi department add ID --name TEXT --node {directory}")


@department_app.command("add")
@answering
def department_add(
    department: Annotated[str, typer.Argument(metavar="ID", help="Short id: a-z, 0-9 and -.")],
    name: Annotated[str, typer.Option(help="What people call it, as `中文` or `中文 | English`.")],
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Admit a department: keys, registry entry, log. Safe to run again."""
    with open_node(node_dir) as node:
        origin = add_department(node, department, name)
    if as_json:
        print_json({"department": department, "origin": origin})
    else:
        say(f"Department {department} is admitted; its log is {origin}.")


@app.command()
@answering
def status(node_dir: NodeOption = HERE, as_json: JsonOption = False) -> int:
    """Show every log's backlog and its age, and whether the chain answers."""
    with open_node(node_dir) as node:
        found = node_status(node)
    if as_json:
        print_json({"good": found.good, **asdict(found)})
    else:
        _show_status(found)
    if any(log.halted for log in found.logs):
        return 1
    return 0 if found.chain_problem is None else 2


def _show_status(found: NodeStatus) -> None:
    table = Table("department", "records", "anchored", "backlog", "oldest waiting", "last anchor", title=None)
    for log in found.logs:
        waiting = f"{log.backlog_age:,.0f} s" if log.backlog else "-"
        last = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(log.last_anchor)) if log.last_anchor else "never"
        table.add_row(log.department, f"{log.size:,}", f"{log.anchored_size:,}", f"{log.backlog:,}", waiting, last)
    if found.logs:
        out.print(table)
    else:
        say("No department yet: run `yunxi department add`.")
    say(f"Consortium {found.consortium}, {found.engine} chain {found.chain_id}.")
    if found.engine == EMBEDDED:
        say(embedded.WARNING)
    if found.chain_problem:
        err.print(f"The chain does not answer, records are still acknowledged: {found.chain_problem}", markup=False)
    for log in found.logs:
        if log.halted:
            err.print(f"Log {log.origin} is halted: {log.halted}", style="red", markup=False)


@app.command()
@answering
def anchor(
    node_dir: NodeOption = HERE,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until interrupted.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between rounds with --follow.", min=0.1)] = 1.0,
    as_json: JsonOption = False,
) -> int:
    """Anchor what is acknowledged and not yet anchored."""
    with open_node(node_dir) as node:
        anchorer = Anchorer(node)
        outcomes = anchorer.round()
        while follow:
            _show_anchors(outcomes)
            time.sleep(interval)
            outcomes = anchorer.round()
        if as_json:
            print_json({"anchors": [_anchor_json(outcome) for outcome in outcomes]})
        else:
            _show_anchors(outcomes)
            if not outcomes:
                say("Everything acknowledged is anchored.")
    return max((o.problem.exit_code for o in outcomes if o.problem), default=0)


def _show_anchors(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.anchored is not None:
            size, block = outcome.anchored.size, outcome.anchored.block_number
            say(f"{outcome.department}: {size:,} records anchored in block {block:,}.")
        else:
            err.print(f"{outcome.department}: not anchored yet: {outcome.problem}", markup=False)


def _anchor_json(outcome: Outcome) -> dict[str, Any]:
    problem = {"code": outcome.problem.code, "message": str(outcome.problem)} if outcome.problem else None
    anchored = asdict(outcome.anchored) if outcome.anchored else None
    return {"department": outcome.department, "size": outcome.size, "anchored": anchored, "problem": problem}


@app.command()
@answering
def upgrade(node_dir: NodeOption = HERE) -> None:
    """Bring the node's database to the schema that this version needs."""
    node = Node.open(node_dir, check_schema=False)
    schema.upgrade(node.database)
    node.close()
    say("The database is up to date.")


# -- records --


@app.command()
@answering
def seal(
    record: Annotated[Path, typer.Argument(metavar="RECORD.json", help="A record; - reads standard input.")],
    attach: Annotated[list[Path] | None, typer.Option(help="A file to seal with it; may be given again.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key; by default made from the file's content.")] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Seal one record. The same file sealed again gives the same record."""
    data = _read_bounded(record, MAX_RECORD_BYTES)
    content = loads_object(data, what=f"record {record}", max_bytes=MAX_RECORD_BYTES)
    sources = tuple(AttachmentSource(path, path.name, media_type_of(path)) for path in attach or ())
    submission = Submission(key or f"file/{hashlib.sha256(data).hexdigest()}", content, sources)
    with open_node(node_dir) as node:
        department = _department_of(node, content)
        outcome = node.intake.submit(department, [submission])[0]
        if isinstance(outcome, Refused):
            raise outcome.error
        outcomes = [o for o in Anchorer(node).round() if o.department == department]
    if as_json:
        anchored = [_anchor_json(o) for o in outcomes]
        print_json({**asdict(outcome), "department": department, "anchor": anchored[0] if anchored else None})
    else:
        _show_sealed(outcome, department, outcomes)
    return 0


def _show_sealed(outcome: Acknowledged, department: str, outcomes: list[Outcome]) -> None:
    verb = "Sealed" if outcome.new else "Known already:"
    say(f"{verb} record {outcome.record_id}, entry {outcome.index:,} of the log of {department}.")
    _show_anchors(outcomes)


def _read_bounded(path: Path, limit: int) -> bytes:
    try:
        if str(path) == "-":
            return sys.stdin.buffer.read(limit + 1)
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise CouldNotRun(f"{path} cannot be read: {error.strerror}") from error


def _department_of(node: Node, content: dict[str, Any]) -> str:
    department = content.get("department")
    with node.database.reading() as connection:
        known = [log.department for log in read_logs(connection)]
    if department is None and len(known) == 1:
        return known[0]
    if not isinstance(department, str):
        raise CouldNotRun(f"the record must say its `department`; this node has: {', '.join(known) or 'none yet'}")
    return department


def media_type_of(path: Path) -> str:
    """The media type by the file's suffix."""
    import mimetypes

    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"


@app.command()
@answering
def show(record_id: RecordArgument, node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """Show a record of this node in plain text, after checking it against its statement."""
    with open_node(node_dir) as node, node.database.reading() as connection:
        presentation = node.reader.open(connection, record_id)
    record, statement = presentation.record(), presentation.statement
    if as_json:
        print_json({"record": record, "sealed_at": statement.issued_at, "kid": statement.kid})
        return
    sealed = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(statement.issued_at))
    say(f"Record {record_id}, sealed {sealed} by {statement.issuer} (key {statement.kid})")
    say(json.dumps(record, ensure_ascii=False, indent=2))


@app.command()
@answering
def receipt(
    record_id: RecordArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it (.tlog-proof).")],
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write a record's receipt: the proof that it is in the log, for anyone to check offline."""
    with open_node(node_dir) as node, node.database.writing() as connection:
        proof = make_receipt(connection, node.agent, record_id, int(node.clock()))
    write_file(output, proof.serialize())
    if as_json:
        print_json({"record_id": record_id, "file": output, "index": proof.index, "anchored": proof.extra is not None})
    else:
        say(
            f"Wrote {output}."
            if proof.extra
            else f"Wrote {output}; the record is not anchored yet, fetch it again later."
        )


@app.command()
@answering
def present(
    record_id: RecordArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it (.sd-jwt).")],
    disclose: Annotated[
        list[str] | None, typer.Option(metavar="UNIT", help="Show this unit only; may be repeated.")
    ] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write a record for a reader: whole, or only the units named with --disclose."""
    with open_node(node_dir) as node, node.database.reading() as connection:
        data = node.reader.present(connection, record_id, disclose)
    write_file(output, data)
    if as_json:
        print_json({"record_id": record_id, "file": output, "disclosed": disclose or "all"})
    else:
        say(f"Wrote {output}, showing {', '.join(disclose) if disclose else 'everything'}.")


def write_file(path: Path, data: bytes) -> None:
    """Writes an output file. Raises CouldNotRun."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise CouldNotRun(f"{path} cannot be written: {error.strerror}") from error


# -- adapters --

MappingArgument = Annotated[Path, typer.Argument(metavar="MAPPING", help="A mapping file (docs/mappings.md).")]
SourceOption = Annotated[Path | None, typer.Option("--source", metavar="PATH", help="Read this file instead.")]


@adapter_app.command("check")
@answering
def adapter_check(
    mapping: MappingArgument,
    source: SourceOption = None,
    sample: Annotated[int, typer.Option(help="How many rows to try.", min=1)] = 1000,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Try a mapping on the first rows of its source and say what is not right yet."""
    feed = load_mapping(mapping)
    found = check(feed, _source_of(feed, source), validate=_validator(node_dir), sample=sample)
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
    feed = load_mapping(mapping)
    shown = preview(feed, _source_of(feed, source), rows, validate=_validator(node_dir))
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
    mapping: MappingArgument,
    source: SourceOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check and preview; write nothing.")] = False,
    limit: Annotated[int | None, typer.Option(help="Stop after about this many rows.", min=1)] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Seal everything new in a source. Run it again at any time: it goes on where it stopped, and doubles nothing."""
    feed = load_mapping(mapping)
    if dry_run:
        found = check(feed, _source_of(feed, source), validate=_validator(node_dir), sample=limit or 1000)
        print_json({"dry_run": True, "good": found.clean, **asdict(found)}) if as_json else _show_check(found)
        return 0 if found.clean else 1
    with open_node(node_dir) as node, progress_bar(shown=not as_json) as bar, anchoring(node) as outcomes:
        report, quarantined = run_feed(node, feed, source, bar, limit)
    if as_json:
        print_json(_run_json(report, quarantined, outcomes))
    else:
        _show_run(feed, report, quarantined, outcomes)
    return report.stopped.exit_code if report.stopped else 0


def run_feed(
    node: Node, feed: FeedMapping, source: Path | None, bar: Progress, limit: int | None = None
) -> tuple[RunReport, dict[str, int]]:
    """Runs one feed into the node; returns the report and what is in quarantine now, by reason."""
    state = AdapterState(node.database.engine_for_writing())
    task = bar.add_task(feed.feed, total=1000)

    def advance(now: Advance) -> None:
        fraction = now.fraction if now.fraction is not None else 0
        bar.update(task, completed=int(fraction * 1000), description=f"{feed.feed}: {now.read:,} rows")

    submit = functools.partial(node.intake.submit, feed.department)
    report = run(feed, _source_of(feed, source), state, submit, advance, limit=limit)
    return report, state.quarantine_counts(feed.feed)


def _source_of(feed: FeedMapping, override: Path | None) -> Any:
    return open_source(feed, override=override, environ=os.environ)


def _validator(node_dir: Path) -> Callable[[dict[str, Any]], None]:
    """Validates as the node would; without a node, by the built-in record types."""
    types = load_types(node_dir)

    def validate(record: dict[str, Any]) -> None:
        types.validate({key: value for key, value in record.items() if key != "id"}, time.time())

    return validate


def _show_run(feed: FeedMapping, report: RunReport, quarantined: dict[str, int], outcomes: list[Outcome]) -> None:
    say(
        f"{feed.feed}: {report.read:,} rows read: {report.sealed:,} sealed, {report.known:,} known already, "
        f"{report.quarantined:,} quarantined."
    )
    for reason, count in report.by_reason.items():
        say(f"  quarantined, {reason}: {count:,}")
    for member, count in report.omitted.items():
        say(f"  left out as invalid, {member}: {count:,}")
    if report.unmapped:
        say(f"  columns neither used nor ignored: {', '.join(report.unmapped)}")
    if quarantined:
        say(f"  now in quarantine: {sum(quarantined.values()):,}; look with `yunxi adapter quarantine {feed.file}`")
    newest = {outcome.department: outcome for outcome in outcomes}
    _show_anchors(list(newest.values()))
    if report.stopped:
        err.print(f"yunxi: stopped early: {report.stopped}", markup=False)


def _run_json(report: RunReport, quarantined: dict[str, int], outcomes: list[Outcome]) -> dict[str, Any]:
    stopped = {"code": report.stopped.code, "message": str(report.stopped)} if report.stopped else None
    newest = {outcome.department: outcome for outcome in outcomes}
    return {
        **asdict(replace(report, stopped=None)),
        "stopped": stopped,
        "in_quarantine": quarantined,
        "anchors": [_anchor_json(outcome) for outcome in newest.values()],
    }


@adapter_app.command("quarantine")
@answering
def adapter_quarantine(
    mapping: MappingArgument,
    limit: Annotated[int, typer.Option(help="How many rows at the most.", min=1)] = 50,
    content: Annotated[bool, typer.Option(help="Show the rows themselves too: personal data.")] = False,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List the rows of a feed that were set aside, and why."""
    feed = load_mapping(mapping)
    with open_node(node_dir) as node:
        state = AdapterState(node.database.engine_for_writing())
        rows, counts = state.quarantine(feed.feed, limit=limit), state.quarantine_counts(feed.feed)
    if as_json:
        hidden = {} if content else {"raw": None}
        print_json({"feed": feed.feed, "counts": counts, "rows": [{**asdict(row), **hidden} for row in rows]})
        return
    for row in rows:
        say(f"{row.position}  {row.reason}  {row.detail}")
        if content:
            say(f"    {row.raw}")
    say(f"{sum(counts.values()):,} rows in quarantine.")


# -- proof --


@trust_app.command("export")
@answering
def trust_export(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it.")],
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write the trust file from the chain's own registry."""
    with open_node(node_dir) as node:
        trust = export_trust(node)
    write_file(output, trust.serialize())
    if as_json:
        print_json({"file": output, "departments": [department.id for department in trust.departments]})
    else:
        say(f"Wrote {output} with {len(trust.departments)} departments. Hand it to verifiers by a way they trust.")


@app.command()
@answering
def audit(
    department: Annotated[str | None, typer.Option(help="Only this department's log.")] = None,
    skip_signatures: Annotated[bool, typer.Option(help="Trust the log for authorship; twice as fast.")] = False,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Recompute everything from what is stored and compare it with the chain."""
    with open_node(node_dir) as node, progress_bar(shown=not as_json) as progress:

        def begin(log: Any) -> Callable[[int], None]:
            task = progress.add_task(log.department, total=log.size)
            return lambda done: progress.advance(task, done)

        found = audit_node(node, department, check_signatures=not skip_signatures, begin=begin)
    first = found.first()
    if as_json:
        print_json(
            {
                "good": found.good and found.chain_problem is None,
                "first": asdict(first) if first else None,
                "chain_problem": found.chain_problem,
                "logs": [{**asdict(log), "good": log.good} for log in found.logs],
            }
        )
    else:
        _show_audit(found)
    if not found.good:
        return 1
    return 0 if found.chain_problem is None else 2


def _show_audit(found: NodeAudit) -> None:
    table = Table("department", "records", "payloads", "attachments", "forgotten", "anchors compared", "findings")
    for log in found.logs:
        numbers = (log.records, log.payloads, log.attachments, log.forgotten, log.anchors, log.counts.total())
        table.add_row(log.department, *(f"{number:,}" for number in numbers))
    out.print(table)
    first = found.first()
    total = sum(log.counts.total() for log in found.logs)
    if first is not None:
        say(f"First finding, {first.department}, {first.where}: {first.sentence}.")
        for kind, count in sum((log.counts for log in found.logs), type(found.logs[0].counts)()).items():
            say(f"  {count:,} x {kind}")
    if found.chain_problem:
        err.print(f"The chain could not be asked, so nothing was compared with it: {found.chain_problem}", markup=False)
    elif not total:
        say("Everything fits: every leaf, tile, root and payload was recomputed, and the chain holds the same roots.")


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def verify(context: typer.Context) -> None:
    """Verify presentations, receipts and attachments against a trust file, offline."""
    from ledger.verify.__main__ import run

    raise typer.Exit(run(context.args, sys.stdout))


@app.command()
@answering
def verifier(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it.")] = Path(
        "yunxi-verify.pyz"
    ),
) -> None:
    """Write the verifier for courts: one file that runs offline with Python and `cryptography` alone."""
    try:
        build_verifier(output)
    except OSError as error:
        raise CouldNotRun(f"{output} cannot be written: {error.strerror}") from error
    say(f"Wrote {output}. It runs with: python {output} FILE ... --trust trust.json")


@app.command()
@answering
def demo(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")] = Path("demo-run"),
) -> int:
    """Run the main job on generated exports of six departments, then forge three bytes and find them."""
    from demo.story import tell

    return 0 if tell(directory, out) else 1


def version(shown: bool) -> None:
    """Prints the version and ends."""
    if shown:
        say(f"yunxi {metadata.version('yunxi')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Yunxi (云玺): an evidence ledger for enforcement records, with proofs that verify without us."""


def main() -> None:
    """Entry point of the console script. No traceback ever reaches the user."""
    try:
        app()
    except Exception as error:  # the last line of defence
        if os.environ.get("YUNXI_DEBUG"):
            raise
        err.print(
            f"yunxi: unexpected {type(error).__name__}: {error}; set YUNXI_DEBUG=1, run again and report what is said",
            markup=False,
        )
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
