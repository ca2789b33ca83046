"""`yunxi forget`, `hold`, `retention` and `shred`: destroying records for good, and keeping them from it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli.frame import (
    HERE,
    JsonOption,
    NodeOption,
    answering,
    counted,
    local_time,
    officer_of,
    open_node,
    print_json,
    progress_bar,
    say,
)
from ledger.errors import CouldNotRun, RecordRefused

if TYPE_CHECKING:
    from ledger.forgetting import Destruction, Forgetting
    from ledger.node import Node
    from ledger.retention import Due

commands = typer.Typer()
hold_app = typer.Typer(help="Legal holds: what is under one is not forgotten.", no_args_is_help=True)
retention_app = typer.Typer(help="How long records are kept, and forgetting those that are due.", no_args_is_help=True)

ByOption = Annotated[list[str], typer.Option(metavar="ID:NAME", help="An officer who decided; may be given again.")]
ReasonOption = Annotated[str, typer.Option(help="Why; it stands in the record.")]
DepartmentOption = Annotated[str | None, typer.Option(help="Only this department's.")]


@commands.command()
@answering
def forget(
    record_id: Annotated[str, typer.Argument(metavar="RECORD_ID", help="The record's id, a UUID.")],
    reason: Annotated[
        str,
        typer.Option(
            help="subject-request, purpose-achieved, consent-withdrawn, unlawful, court-order, retention or other."
        ),
    ],
    basis: Annotated[str, typer.Option(help="The legal basis, in words.")],
    by: Annotated[
        list[str] | None, typer.Option(metavar="ID:NAME", help="An officer who decided; give two of them.")
    ] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Destroy a record's key, content and attachments for good. Its proof stays, and a certificate is sealed."""
    officers = [officer_of(text) for text in by or ()]
    with open_node(node_dir) as node:
        done = _forgetting(node).forget(record_id, reason, basis, officers)
    if as_json:
        print_json(asdict(done))
        return
    say(_sentence(done))
    if done.new:
        say(f"Copies from before still open: run `yunxi shred {done.department}` before the next backup is taken.")


@hold_app.command("place")
@answering
def hold_place(
    department: Annotated[str, typer.Argument(metavar="DEPARTMENT", help="Whose records.")],
    reason: ReasonOption,
    by: ByOption,
    record: Annotated[str | None, typer.Option(metavar="RECORD_ID", help="Hold one record.")] = None,
    case: Annotated[str | None, typer.Option(metavar="NUMBER", help="Hold all records of a case.")] = None,
    inspection: Annotated[str | None, typer.Option(metavar="NUMBER", help="Hold all records of an inspection.")] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="KIND:VALUE", help="Hold all records on a subject, e.g. uscc:9133….")
    ] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Place a hold on one record, a case, an inspection or a subject, also on records that come later."""
    from ledger.holds import Holds, subject_index

    given = {"record": record, "case": case, "inspection": inspection, "subject": subject}
    named = [(scope, value) for scope, value in given.items() if value is not None]
    if len(named) != 1:
        raise CouldNotRun("name what is held: one of --record, --case, --inspection and --subject")
    scope, value = named[0]
    with open_node(node_dir) as node:
        if scope == "subject":
            kind, _, identifier = value.partition(":")
            value = subject_index(node.agent.index_key(), kind, identifier)
        hold = Holds(node.intake, node.clock).place(department, scope, value, reason, [officer_of(text) for text in by])
    if as_json:
        print_json({"hold": hold, "department": department, "scope": scope, "value": value})
    else:
        say(f"Placed hold {hold}. It ends with: yunxi hold lift {hold}")


@hold_app.command("lift")
@answering
def hold_lift(
    hold: Annotated[str, typer.Argument(metavar="HOLD_ID", help="The hold, as `yunxi hold list` names it.")],
    reason: ReasonOption,
    by: ByOption,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """End a hold."""
    from ledger.holds import Holds

    with open_node(node_dir) as node, node.database.reading() as connection:
        Holds(node.intake, node.clock).lift(connection, hold, reason, [officer_of(text) for text in by])
    if as_json:
        print_json({"hold": hold, "lifted": True})
    else:
        say(f"Hold {hold} is lifted.")


@hold_app.command("list")
@answering
def hold_list(
    department: DepartmentOption = None,
    lifted: Annotated[bool, typer.Option("--lifted", help="Those that ended, too.")] = False,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List the holds in force, oldest first."""
    from ledger.holds import list_holds

    with open_node(node_dir) as node, node.database.reading() as connection:
        found = list_holds(connection, department, lifted=lifted)
    if as_json:
        print_json({"holds": [asdict(hold) for hold in found]})
        return
    for hold in found:
        ended = ", lifted" if hold.lifted else ""
        say(f"{hold.record_id}  {hold.department}  {local_time(hold.placed_at)}  {hold.scope} {hold.value}{ended}")
    if not found:
        say("No hold is in force." if not lifted else "No hold was ever placed.")


@retention_app.command("show")
@answering
def retention_show(node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """Show how long records of each type are kept, by node.toml."""
    with open_node(node_dir) as node:
        rules = _rules(node)
    if as_json:
        print_json({"retention": rules})
        return
    for name, text in sorted(rules.items()):
        say(f"{name:30} {text}")
    say("Everything else is kept." if rules else "No period is set, so everything is kept: see docs/forgetting.md.")


@retention_app.command("due")
@answering
def retention_due(
    department: DepartmentOption = None, node_dir: NodeOption = HERE, as_json: JsonOption = False
) -> None:
    """List records whose period has ended. What is under a hold is listed too, and not forgotten."""
    with open_node(node_dir) as node:
        found = _due(node, department)
    if as_json:
        print_json({"due": [asdict(due) for due in found]})
        return
    for due in found:
        say(f"{due.record_id}  {due.department}  {due.type}  due since {local_time(due.ended_at)}")
    if not found:
        say("Nothing is due.")


@retention_app.command("run")
@answering
def retention_run(
    department: DepartmentOption = None, node_dir: NodeOption = HERE, as_json: JsonOption = False
) -> None:
    """Forget what is due, and never what is under a hold; then delete blobs that no record names."""
    forgotten, held = 0, []
    with open_node(node_dir) as node:
        machine, rules = _forgetting(node), _rules(node)
        for due in _due(node, department):
            try:
                machine.forget(due.record_id, "retention", f"[retention] {due.type} = {rules[due.type]}")
                forgotten += 1
            except RecordRefused as error:
                if error.reason != "on-hold":
                    raise
                held.append(due.record_id)
        swept = machine.sweep()
    if as_json:
        print_json({"forgotten": forgotten, "on_hold": held, "blobs_swept": swept})
        return
    say(f"Forgot {counted(forgotten, 'record')}; {counted(len(held), 'record')} kept under a hold.")
    if forgotten:
        say("Copies from before still open: run `yunxi shred` before the next backup is taken.")


@commands.command()
@answering
def shred(
    department: Annotated[str, typer.Argument(metavar="DEPARTMENT", help="Whose keys.")],
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Change every key above the data keys, so that copies from before do not open what was forgotten."""
    from ledger.shredding import shred as shred_keys

    with open_node(node_dir) as node, progress_bar(shown=not as_json) as progress:
        task = progress.add_task(department, total=None)
        done = shred_keys(node, department, lambda moved: progress.advance(task, moved))
        swept = _forgetting(node).sweep()
    if as_json:
        print_json({**asdict(done), "blobs_swept": swept})
        return
    say(f"Moved {counted(done.moved, 'data key')}, deleted {counted(done.epochs, 'key-encryption key')}.")
    if done.wait:
        say(f"The old private key is still in force: run this again in {done.wait} seconds to destroy it.")
    else:
        say(f"Destroyed {counted(done.keys, 'private key')}. Copies from before open no more: take a backup now.")


def _forgetting(node: Node) -> Forgetting:
    from ledger.forgetting import Forgetting

    return Forgetting(node.database, node.blobs, node.intake, node.reader, node.clock)


def _rules(node: Node) -> dict[str, str]:
    return {name: period.text for name, period in node.settings.retention.items()}


def _due(node: Node, department: str | None) -> list[Due]:
    from ledger.retention import find_due
    from ledger.store.reading import read_logs

    with node.database.reading() as connection:
        found = read_logs(connection, department)
        return [due for log in found for due in find_due(connection, log, node.settings.retention, node.clock())]


def _sentence(done: Destruction) -> str:
    verb = "Forgot" if done.new else "Known already: forgot"
    files = f" and {counted(done.blobs, 'attachment')}" if done.blobs else ""
    when = "" if done.new else f" {local_time(done.at)}"
    return f"{verb} record {done.record_id}{files}{when}; the certificate is record {done.by_record}."
