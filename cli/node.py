"""`yunxi init`, `department`, `status`, `anchor` and `upgrade`: the node itself."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.frame import (
    HERE,
    JsonOption,
    NodeOption,
    age,
    anchor_json,
    answering,
    err,
    local_time,
    numbers_table,
    open_node,
    print_json,
    print_table,
    say,
    show_anchors,
)
from ledger.settings import DEFAULT_DATABASE, EMBEDDED

if TYPE_CHECKING:
    from ledger.status import NodeStatus

commands = typer.Typer()
department_app = typer.Typer(help="Departments of this node.", no_args_is_help=True)


@commands.command()
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
    engine: Annotated[
        str | None,
        typer.Option(
            help="`clique`, `qbft`, or `embedded` for a development chain; by default as its first block says."
        ),
    ] = None,
    confirmations: Annotated[
        int | None, typer.Option(help="Blocks until an anchor is final; by default the engine's own rule.", min=0)
    ] = None,
    join: Annotated[
        str | None,
        typer.Option(metavar="0x…", help="Join the consortium at this address, on --chain; deploys nothing."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a node: keys, database, and the contracts on its chain; or a further node of a consortium."""
    from ledger.chain import embedded
    from ledger.node import create_node

    settings = create_node(
        directory,
        consortium=consortium,
        chain_url_or_embedded=chain,
        database=database,
        engine=engine,
        confirmations=confirmations,
        join=join,
    )
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
    verb = "add ID --name TEXT" if join is None else "request ID --name TEXT --url URL -o request.json"
    say(f"Next: yunxi department {verb} --node {directory}")


@department_app.command("add")
@answering
def department_add(
    department: Annotated[str, typer.Argument(metavar="ID", help="Short id: a-z, 0-9 and -.")],
    name: Annotated[str, typer.Option(help="What people call it, as `中文` or `中文 | English`.")],
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Admit a department: keys, registry entry, log. Safe to run again."""
    from ledger.departments import add_department

    with open_node(node_dir) as node:
        origin = add_department(node, department, name)
    if as_json:
        print_json({"department": department, "origin": origin})
    else:
        say(f"Department {department} is admitted; its log is {origin}.")


@department_app.command("rotate")
@answering
def department_rotate(
    department: Annotated[str, typer.Argument(metavar="ID", help="A department of this node.")],
    use: Annotated[
        str, typer.Option(help="Which key: statement, log, encryption, anchor, request, witness or governor.")
    ],
    lead: Annotated[
        int | None,
        typer.Option(help="Seconds until the new key is in force; at least 30.", min=30, show_default="30"),
    ] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Rotate a department's key; what the old one signed stays valid. Safe to run again."""
    from ledger.rotation import rotate_key

    with open_node(node_dir) as node:
        rotation = rotate_key(node, department, use, lead)
    if as_json:
        print_json(asdict(rotation))
        return
    again = "" if rotation.new else ", as was begun before"
    say(f"The {use} key of {department} changes at {local_time(rotation.changeover)}{again}.")
    say(f"Until then {rotation.old}, from then on {rotation.new_key}. Give verifiers a new trust file.")


@department_app.command("next-key")
@answering
def department_next_key(
    department: Annotated[str, typer.Argument(metavar="ID", help="A department of this node.")],
    use: Annotated[str, typer.Option(help="Which key: statement, log, encryption, anchor, request or witness.")],
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show the public key that the next rotation goes to, for the others to register it by vote."""
    from ledger.formats.encoding import b64url_encode
    from ledger.rotation import planned_key

    with open_node(node_dir) as node:
        kid, public = planned_key(node, department, use)
    if as_json:
        print_json({"department": department, "use": use, "kid": kid, "public_key": b64url_encode(public)})
        return
    say(f"Key {kid}, public key {b64url_encode(public)}. Let a member of the consortium run:")
    words = f"yunxi consortium propose rotate-key {department} --use {use} --public-key {b64url_encode(public)}"
    say(f"{words} --as DEPARTMENT")


@commands.command()
@answering
def status(node_dir: NodeOption = HERE, as_json: JsonOption = False) -> int:
    """Show every log's backlog and its age, whether the chain answers, and feeds that fell silent."""
    from adapters.state import read_standings
    from ledger.status import node_status

    with open_node(node_dir) as node:
        found = node_status(node)
        silent = [item for item in read_standings(node.database.engine) if item.overdue(node.clock())]
    if as_json:
        print_json({"good": found.good and not silent, **asdict(found), "silent_feeds": [asdict(i) for i in silent]})
    else:
        _show_status(found)
        for item in silent:
            err.print(item.sentence(), style="red", markup=False)
    if any(log.halted or log.suspended for log in found.logs) or any(witness.refused for witness in found.witnesses):
        return 1
    if silent:
        return 1
    return 0 if found.chain_problem is None else 2


def _show_status(found: NodeStatus) -> None:
    from ledger.chain import embedded

    table = numbers_table("department", "records", "anchored", "backlog", "waiting", "last anchor")
    for log in found.logs:
        waiting = age(log.backlog_age) if log.backlog else "-"
        last = local_time(log.last_anchor) if log.last_anchor else "never"
        table.add_row(log.department, f"{log.size:,}", f"{log.anchored_size:,}", f"{log.backlog:,}", waiting, last)
    if found.logs:
        print_table(table)
    else:
        say("No department yet: run `yunxi department add`.")
    _show_witnesses(found)
    if unlisted := [log.department for log in found.logs if not log.matters]:
        say(f"Without a list of matters, so not restricted (`yunxi matters import`): {', '.join(unlisted)}.")
    say(f"Consortium {found.consortium}, {found.engine} chain {found.chain_id}.")
    if found.engine == EMBEDDED:
        say(embedded.WARNING)
    if found.chain_problem:
        err.print(f"Anchoring stands still, records are still acknowledged: {found.chain_problem}", markup=False)
    for log in found.logs:
        if log.halted:
            err.print(f"Log {log.origin} is halted: {log.halted}", style="red", markup=False)
        if log.suspended:
            sentence = f"Department {log.department} is suspended by the consortium: its records are acknowledged, but "
            err.print(sentence + "not anchored until it is reinstated.", style="red", markup=False)


def _show_witnesses(found: NodeStatus) -> None:
    table = numbers_table("witness", "logs", "behind", "last signed", "where")
    for name in dict.fromkeys(witness.name for witness in found.witnesses):
        rows = [witness for witness in found.witnesses if witness.name == name]
        last = max((row.cosigned_at for row in rows if row.cosigned_at), default=None)
        where = ("this node" if rows[0].here else "outside") + (", required" if rows[0].required else "")
        behind = max(row.behind for row in rows)
        table.add_row(name, f"{len(rows)}", f"{behind:,}", local_time(last) if last else "never", where)
    if found.witnesses:
        print_table(table)
    for witness in found.witnesses:
        if witness.problem:
            style = "red" if witness.refused else "yellow"
            err.print(f"Witness {witness.name} for {witness.department}: {witness.problem}", style=style, markup=False)


@commands.command()
@answering
def anchor(
    node_dir: NodeOption = HERE,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until interrupted.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between rounds with --follow.", min=0.1)] = 1.0,
    resume: Annotated[
        str | None,
        typer.Option(metavar="DEPARTMENT", help="First let its halted log go on, if it agrees with the chain again."),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Anchor what is acknowledged and not yet anchored."""
    from ledger.anchor import Anchorer

    with open_node(node_dir) as node:
        anchorer = Anchorer(node)
        if resume is not None:
            anchorer.resume(resume)
        outcomes = anchorer.round()
        while follow:
            show_anchors(outcomes)
            time.sleep(interval)
            outcomes = anchorer.round()
        if as_json:
            print_json({"anchors": [anchor_json(outcome) for outcome in outcomes]})
        else:
            show_anchors(outcomes)
            if not outcomes:
                say("Everything acknowledged is anchored.")
    return max((o.problem.exit_code for o in outcomes if o.problem), default=0)


@commands.command()
@answering
def upgrade(node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """Bring the node's database to the schema that this version needs."""
    from ledger.node import Node
    from ledger.store import schema

    node = Node.open(node_dir, check_schema=False)
    schema.upgrade(node.database)
    node.close()
    if as_json:
        print_json({"node": node_dir, "upgraded": True})
    else:
        say("The database is up to date.")
