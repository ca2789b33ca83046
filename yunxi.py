"""The `yunxi` command: composition root, nothing but wiring.

Every command ends with exit code 0 (good), 1 (a finding or refusal) or 2 (could not run), says an error in one
sentence, and with `--json` prints exactly one JSON object.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ledger.errors import CouldNotRun, Malformed, RecordRefused, YunxiError
from ledger.settings import DEFAULT_DATABASE, EMBEDDED

# Commands import what they need themselves: database and chain client take a second, and `--help` needs neither.
if TYPE_CHECKING:
    from sqlalchemy import Connection

    from adapters.mapping import FeedMapping
    from adapters.run import CheckReport, Previewed, RunReport
    from adapters.run import Progress as Advance
    from adapters.supervise import FeedStatus
    from ledger.anchor import Outcome
    from ledger.audit import NodeAudit
    from ledger.governance import ConsortiumState, Motion
    from ledger.node import Node
    from ledger.status import NodeStatus
    from ledger.submission import Acknowledged
    from ledger.witness.compare import Comparison
    from ledger.witness.core import Logs

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
witness_app = typer.Typer(help="Witnesses of logs, and what they have seen.", no_args_is_help=True)
consortium_app = typer.Typer(help="The consortium: its members, its votes, its own chain.", no_args_is_help=True)
propose_app = typer.Typer(help="Propose a change; the proposal counts as an approval.", no_args_is_help=True)
adapter_app = typer.Typer(help="Feeds from departments' own systems, driven by mapping files.", no_args_is_help=True)
app.add_typer(department_app, name="department")
app.add_typer(consortium_app, name="consortium")
consortium_app.add_typer(propose_app, name="propose")
app.add_typer(adapter_app, name="adapter")
app.add_typer(trust_app, name="trust")
app.add_typer(witness_app, name="witness")


class _Output(Console):
    """A console that lets a reader who has gone be seen; rich itself would end with 1, which is a finding here."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


out = _Output(highlight=False, soft_wrap=True)
out.width = max(out.width, 120)  # a narrower terminal wraps the lines of a table, which is better than figures cut off
err = Console(stderr=True, highlight=False, soft_wrap=True)

NodeOption = Annotated[
    Path, typer.Option("--node", envvar="YUNXI_NODE", metavar="DIR", help="The node directory.", show_default="here")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
RecordArgument = Annotated[str, typer.Argument(metavar="RECORD_ID", help="The record's id, a UUID.")]

HERE = Path()
INTERRUPTED = "interrupted; what was acknowledged stays, and the same command goes on from there"


# -- the frame around every command --


def answering(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turns a command's outcome into an exit code, and an error into one sentence (or one JSON object)."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            code = command(*args, **kwargs) or 0
        except YunxiError as error:
            fail(error.code, str(error), error.exit_code, as_json=bool(kwargs.get("as_json")))
        except KeyboardInterrupt:
            fail("interrupted", INTERRUPTED, 2, as_json=bool(kwargs.get("as_json")))
        except BrokenPipeError:
            # whoever read us has gone: say nothing more, and let the interpreter flush into nothing
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 2
        except OSError as error:
            sentence = f"{error.filename or 'the disk'}: {error.strerror}; check the path, its permissions and the disk"
            fail(CouldNotRun.code, sentence, 2, as_json=bool(kwargs.get("as_json")))
        raise typer.Exit(code)

    return wrapper


def fail(code: str, sentence: str, exit_code: int, *, as_json: bool) -> NoReturn:
    """Ends the command with an error."""
    report_error(code, sentence, as_json=as_json)
    raise typer.Exit(exit_code)


def report_error(code: str, sentence: str, *, as_json: bool) -> None:
    """An error as one sentence on standard error, or as the command's one JSON object."""
    if as_json:
        print_json({"error": {"code": code, "message": sentence}})
    else:
        err.print(f"yunxi: {sentence}", markup=False)


def print_json(value: Any) -> None:
    """The command's one JSON object."""
    ascii_only = sys.stdout.encoding.lower().replace("-", "") != "utf8"  # escapes are JSON too
    sys.stdout.write(json.dumps(value, ensure_ascii=ascii_only, indent=2, default=_jsonable) + "\n")


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def say(text: str) -> None:
    """A line of output; nothing in it is markup."""
    out.print(text, markup=False)


def numbers_table(first: str, *others: str) -> Table:
    """A table of names and figures that fits 80 columns."""
    table = Table(first, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in others:
        table.add_column(name, justify="right")
    return table


def print_table(table: Table) -> None:
    """A table, whole even where the terminal is narrow."""
    out.print(table)


def counted(number: int, noun: str) -> str:
    """A number and its noun."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def local_time(seconds: float) -> str:
    """A moment on this machine's clock, with its offset."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def age(seconds: float) -> str:
    """How long ago, in the largest unit that gives at least 2."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


@contextmanager
def open_node(directory: Path) -> Iterator[Node]:
    """An open node, closed at the end."""
    from ledger.node import Node

    node = Node.open(directory)
    try:
        yield node
    finally:
        node.close()


@contextmanager
def anchoring(node: Node, interval: float = 0.5) -> Iterator[list[Outcome]]:
    """Anchors beside the work of the block and once more after it; yields the outcomes as they come."""
    from ledger.anchor import Anchorer

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
    engine: Annotated[
        str | None, typer.Option(help="`clique` or `qbft`, where the chain's first block does not say it.")
    ] = None,
    confirmations: Annotated[
        int | None, typer.Option(help="Blocks until an anchor is final; by default the engine's own rule.", min=0)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a node: keys, database, and the contracts on its chain."""
    from ledger.chain import embedded
    from ledger.node import create_node

    settings = create_node(
        directory,
        consortium=consortium,
        chain_url_or_embedded=chain,
        database=database,
        engine=engine,
        confirmations=confirmations,
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
    use: Annotated[str, typer.Option(help="Which key: statement, log, encryption or anchor.")],
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
    use: Annotated[str, typer.Option(help="Which key: statement, log, encryption or anchor.")],
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


# -- the consortium --

AsOption = Annotated[str, typer.Option("--as", metavar="DEPARTMENT", help="The department of this node that speaks.")]
DaysOption = Annotated[int, typer.Option(help="How long the proposal stays open.", min=1, max=30)]
NumberArgument = Annotated[int, typer.Argument(metavar="N", help="The proposal's number.", min=0)]
MemberArgument = Annotated[str, typer.Argument(metavar="ID", help="The department that it is about.")]


@consortium_app.command("show")
@answering
def consortium_show(node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """Show departments, contracts, votes needed and proposals, as the chain has them."""
    from ledger.governance import consortium_state

    with open_node(node_dir) as node:
        found = consortium_state(node)
    if as_json:
        print_json(asdict(found))
    else:
        _show_consortium(found)


def _show_consortium(found: ConsortiumState) -> None:
    table = numbers_table("department", "state", "keys", "here", "governance account")
    for member in found.departments:
        here = "yes" if member.here else "no"
        table.add_row(member.id, member.state, f"{member.keys}", here, member.governor)
    if found.departments:
        print_table(table)
    else:
        say("No department yet: run `yunxi department add`.")
    for module in found.modules:
        note = "; this node uses another one: run `yunxi consortium follow`" if module.followed is False else ""
        say(f"{module.name} is the contract at {module.address}{note}.")
    if found.setup_open:
        say(f"Set-up is open: {found.deployer} decides alone until `yunxi consortium close-setup`.")
    else:
        needed = counted(found.votes_needed, "vote")
        say(f"Set-up is closed: {needed} needed; the agreed minimum is {found.minimum_votes}.")
    for motion in found.motions:
        _show_motion(motion)


def _show_motion(motion: Motion) -> None:
    until = f", until {local_time(motion.expires_at)}" if motion.state == "open" else ""
    say(f"Proposal {motion.number} of {motion.proposer} ({motion.state}{until}): {motion.sentence}.")
    if motion.state == "open":
        say(f"  approved by {', '.join(motion.approvals) or 'nobody'}: {counted(motion.votes, 'vote')}")


def _answer_motion(motion: Motion, as_json: bool) -> None:
    if as_json:
        print_json(asdict(motion))
        return
    _show_motion(motion)
    if motion.state == "open":
        say(f"Next: yunxi consortium approve {motion.number} --as DEPARTMENT, then execute {motion.number}.")


@consortium_app.command("close-setup")
@answering
def consortium_close_setup(
    votes: Annotated[int, typer.Option(help="The least number of votes; never less than a majority.", min=2)],
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """End set-up for ever: from then on only votes decide."""
    from ledger.governance import close_setup

    with open_node(node_dir) as node:
        needed = close_setup(node, votes)
    if as_json:
        print_json({"votes_needed": needed})
    else:
        say(f"Set-up is closed for ever; {counted(needed, 'vote')} needed for a change from now on.")


def _propose(node_dir: Path, speaker: str, days: int, as_json: bool, action: Callable[[Node], bytes]) -> None:
    from ledger.governance import propose

    with open_node(node_dir) as node:
        motion = propose(node, speaker, action(node), days)
    _answer_motion(motion, as_json)


@propose_app.command("admit")
@answering
def propose_admit(
    department: MemberArgument,
    name: Annotated[str, typer.Option(help="What people call it, as `中文` or `中文 | English`.")],
    governor: Annotated[str, typer.Option(help="Its governance account, as its own node shows it.")],
    speaker: AsOption,
    days: DaysOption = 7,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Propose to admit a department."""
    from ledger.governance import admission

    _propose(node_dir, speaker, days, as_json, lambda node: admission(node, department, name, governor))


@propose_app.command("suspend")
@answering
def propose_suspend(
    department: MemberArgument,
    speaker: AsOption,
    days: DaysOption = 7,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Propose to suspend a department: it can then neither anchor nor vote."""
    from ledger.governance import suspension

    _propose(node_dir, speaker, days, as_json, lambda node: suspension(node, department))


@propose_app.command("reinstate")
@answering
def propose_reinstate(
    department: MemberArgument,
    speaker: AsOption,
    days: DaysOption = 7,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Propose to take a suspended department back."""
    from ledger.governance import reinstatement

    _propose(node_dir, speaker, days, as_json, lambda node: reinstatement(node, department))


@propose_app.command("rotate-key")
@answering
def propose_rotate_key(
    department: MemberArgument,
    use: Annotated[str, typer.Option(help="Which key: statement, log, encryption or anchor.")],
    public_key: Annotated[str, typer.Option(help="The new key, as `yunxi department next-key` shows it.")],
    speaker: AsOption,
    days: DaysOption = 7,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Propose to rotate a key of a department that cannot do it itself; in force when the proposal expires."""
    from ledger.governance import expiry, key_rotation

    _propose(
        node_dir,
        speaker,
        days,
        as_json,
        lambda node: key_rotation(node, department, use, public_key, expiry(node, days)),
    )


@propose_app.command("set-module")
@answering
def propose_set_module(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The contract's name, such as EvidenceLog.")],
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Where the new contract stands.")],
    speaker: AsOption,
    days: DaysOption = 7,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Propose to replace one of the consortium's contracts."""
    from ledger.governance import module_change

    _propose(node_dir, speaker, days, as_json, lambda node: module_change(node, name, address))


@propose_app.command("set-votes")
@answering
def propose_set_votes(
    votes: Annotated[int, typer.Argument(metavar="N", help="The least number of votes.", min=2)],
    speaker: AsOption,
    days: DaysOption = 7,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Propose another least number of votes; never less than a majority decides."""
    from ledger.governance import votes_change

    _propose(node_dir, speaker, days, as_json, lambda node: votes_change(node, votes))


@consortium_app.command("approve")
@answering
def consortium_approve(
    number: NumberArgument, speaker: AsOption, node_dir: NodeOption = HERE, as_json: JsonOption = False
) -> None:
    """Approve a proposal."""
    from ledger.governance import approve

    with open_node(node_dir) as node:
        motion = approve(node, speaker, number)
    _answer_motion(motion, as_json)


@consortium_app.command("withdraw")
@answering
def consortium_withdraw(
    number: NumberArgument, speaker: AsOption, node_dir: NodeOption = HERE, as_json: JsonOption = False
) -> None:
    """Take back an approval while the proposal is open."""
    from ledger.governance import withdraw

    with open_node(node_dir) as node:
        motion = withdraw(node, speaker, number)
    _answer_motion(motion, as_json)


@consortium_app.command("execute")
@answering
def consortium_execute(
    number: NumberArgument, speaker: AsOption, node_dir: NodeOption = HERE, as_json: JsonOption = False
) -> None:
    """Carry out a proposal that enough departments approved."""
    from ledger.governance import execute

    with open_node(node_dir) as node:
        motion = execute(node, speaker, number)
    _answer_motion(motion, as_json)


@consortium_app.command("successor")
@answering
def consortium_successor(speaker: AsOption, node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """Create the EvidenceLog that carries on the present one, to be proposed in its place."""
    from ledger.governance import deploy_next_evidence_log

    with open_node(node_dir) as node:
        address = deploy_next_evidence_log(node, speaker)
    if as_json:
        print_json({"evidence_log": address})
    else:
        say(f"Created an EvidenceLog at {address}. It takes no anchor until it is voted in.")
        say(f"Next: yunxi consortium propose set-module EvidenceLog {address} --as {speaker}")


@consortium_app.command("follow")
@answering
def consortium_follow(node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """Use the EvidenceLog that the consortium voted in, if it carries on the one used so far."""
    from ledger.governance import follow

    with open_node(node_dir) as node:
        address = follow(node)
    if as_json:
        print_json({"evidence_log": address})
    elif address is None:
        say("This node uses the consortium's EvidenceLog already.")
    else:
        say(f"This node now uses the EvidenceLog at {address}; restart what runs, and export the trust file anew.")


@app.command()
@answering
def status(node_dir: NodeOption = HERE, as_json: JsonOption = False) -> int:
    """Show every log's backlog and its age, and whether the chain answers."""
    from ledger.status import node_status

    with open_node(node_dir) as node:
        found = node_status(node)
    if as_json:
        print_json({"good": found.good, **asdict(found)})
    else:
        _show_status(found)
    if any(log.halted or log.suspended for log in found.logs) or any(witness.refused for witness in found.witnesses):
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


@app.command()
@answering
def anchor(
    node_dir: NodeOption = HERE,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until interrupted.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between rounds with --follow.", min=0.1)] = 1.0,
    as_json: JsonOption = False,
) -> int:
    """Anchor what is acknowledged and not yet anchored."""
    from ledger.anchor import Anchorer

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
            say(f"{outcome.department}: {counted(size, 'record')} anchored in block {block:,}.")
        else:
            err.print(f"{outcome.department}: not anchored yet: {outcome.problem}", markup=False)


def _anchor_json(outcome: Outcome) -> dict[str, Any]:
    problem = {"code": outcome.problem.code, "message": str(outcome.problem)} if outcome.problem else None
    anchored = asdict(outcome.anchored) if outcome.anchored else None
    return {"department": outcome.department, "size": outcome.size, "anchored": anchored, "problem": problem}


@app.command()
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


# -- the consortium's chain --


@consortium_app.command("config")
@answering
def consortium_config(
    output: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new or empty directory.")],
    engine: Annotated[str, typer.Option(help="Only `besu` (QBFT).")] = "besu",
    validators: Annotated[int, typer.Option(help="How many, at least 4.")] = 4,
    host: Annotated[list[str] | None, typer.Option(help="IP[:PORT] of each validator, in order.")] = None,
    public_key: Annotated[
        list[str] | None, typer.Option(help="A validator's public key, where its operator drew the key.")
    ] = None,
    account: Annotated[list[str] | None, typer.Option(help="An account that may send transactions.")] = None,
    chain_id: Annotated[int | None, typer.Option(help="By default a random one.", min=1)] = None,
    period: Annotated[int, typer.Option(help="Seconds between blocks.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Write genesis, keys, peers, permissions and a trial's compose file for a Besu QBFT chain."""
    from ledger.chain.consortium.besu import write_config

    if engine != "besu":
        raise CouldNotRun(f"--engine must be besu, not {engine!r}")
    written = write_config(
        output,
        validators=validators,
        chain_id=chain_id,
        period=period,
        hosts=host or (),
        public_keys=public_key or (),
        accounts=account or (),
    )
    if as_json:
        print_json(asdict(written))
    else:
        say(f"Wrote {written.directory}: chain {written.chain_id}, {len(written.validators)} validators.")
        say("Hand each operator its node directory and genesis.json; docs/consortium.md says how to go on.")


@consortium_app.command("accounts")
@answering
def consortium_accounts(node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """List the accounts that send transactions: what the validators' account permissions must allow."""
    from ledger.chain.consortium.accounts import sending_accounts

    with open_node(node_dir) as node:
        found = sending_accounts(node.connect().consortium)
    if as_json:
        print_json({"accounts": [asdict(account) for account in found]})
        return
    for account in found:
        say(f"{account.address}  {account.role}{f' of {account.department}' if account.department else ''}")


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
    from ledger.formats.strictjson import loads_object
    from ledger.record_types import MAX_RECORD_BYTES
    from ledger.submission import AttachmentSource, Refused, Submission

    data = _read_bounded(record, MAX_RECORD_BYTES)
    content = loads_object(data, what=f"record {record}", max_bytes=MAX_RECORD_BYTES)
    sources = tuple(AttachmentSource(path, path.name, media_type_of(path)) for path in attach or ())
    own_key = f"file/{hashlib.sha256(data).hexdigest()}"
    submission = Submission(own_key if key is None else key, content, sources)
    with open_node(node_dir) as node:
        department = _department_of(node, content)
        outcome = node.intake.submit(department, [submission])[0]
        if isinstance(outcome, Refused):
            raise type(outcome.error)(outcome.error.reason, f"{record}: {outcome.error}")
        from ledger.anchor import Anchorer  # brings the chain's client, which a refusal need not wait for

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
        with sys.stdin.buffer if str(path) == "-" else path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise CouldNotRun(f"{path} cannot be read: {error.strerror}; name the file of one record") from error
    if len(data) > limit:
        raise Malformed(f"record {path}", f"has more than the {limit:,} bytes allowed; move bulk into attachments")
    return data


def _department_of(node: Node, content: dict[str, Any]) -> str:
    from ledger.store.reading import read_logs

    department = content.get("department")
    with node.database.reading() as connection:
        known = [log.department for log in read_logs(connection)]
    if department is None and len(known) == 1:
        return known[0]
    if not known:
        raise CouldNotRun("this node has no department yet: run `yunxi department add`")
    if not isinstance(department, str):
        raise RecordRefused("department", f"the record must name its `department`; this node has: {', '.join(known)}")
    return department


def media_type_of(path: Path) -> str:
    """The media type by the file's suffix."""
    import mimetypes

    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"


@app.command()
@answering
def records(
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help="An idempotency key; of a feed's row it is MAPPING/ROW-KEY.")
    ] = None,
    department: Annotated[str | None, typer.Option(help="Only this department's.")] = None,
    limit: Annotated[int, typer.Option(help="How many at the most.", min=1, max=10_000)] = 20,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List records and their ids, newest first, or find the one with a key."""
    from ledger.listing import list_records

    with open_node(node_dir) as node, node.database.reading() as connection:
        found = list_records(connection, department, key, limit)
    if as_json:
        print_json({"records": [asdict(record) for record in found]})
        return
    for record in found:
        say(f"{record.record_id}  {record.department}  {local_time(record.sealed_at)}  {record.key}")
    if not found:
        say("No such record on this node.")


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
    say(f"Record {record_id}, sealed {local_time(statement.issued_at)} by {statement.issuer} (key {statement.kid})")
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
    from ledger.receipts import make_receipt

    with open_node(node_dir) as node, node.database.writing() as connection:
        proof = make_receipt(connection, node.agent, record_id, int(node.clock()), node.settings.policy)
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
def evidence(
    record_id: RecordArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it (.anchor.json).")],
    seals: Annotated[
        int | None,
        typer.Option(metavar="K", min=1, help="How many different validators must have sealed."),
    ] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write the chain's own proof of a record's anchor: blocks, validators' seals, event; to be checked offline."""
    from ledger.anchor_evidence import make_evidence

    with open_node(node_dir) as node:
        made = make_evidence(node, record_id, seals)
    write_file(output, made.serialize())
    if as_json:
        print_json({"record_id": record_id, "file": output, "size": made.claim.size, "headers": len(made.headers)})
    else:
        say(f"Wrote {output}: the log at {made.claim.size:,} entries, proven by {len(made.headers):,} sealed blocks.")


@app.command()
@answering
def present(
    record_id: RecordArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it (.sd-jwt).")],
    disclose: Annotated[
        list[str] | None, typer.Option(metavar="UNIT", help="Show this unit only; may be repeated.")
    ] = None,
    attachments: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write the attachments that are shown into this directory.")
    ] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write a record for a reader: whole, or only the units named with --disclose."""
    with open_node(node_dir) as node, node.database.reading() as connection:
        write_file(output, node.reader.present(connection, record_id, disclose))
        files = _write_attachments(node, connection, record_id, disclose, attachments) if attachments else []
    if as_json:
        print_json({"record_id": record_id, "file": output, "disclosed": disclose or "all", "attachments": files})
    else:
        say(f"Wrote {output}, showing {', '.join(disclose) if disclose else 'everything'}.")
        for file in files:
            say(f"Wrote {file}.")


def _write_attachments(
    node: Node, connection: Connection, record_id: str, disclose: list[str] | None, directory: Path
) -> list[Path]:
    shown = [d for d in node.reader.open(connection, record_id).disclosures if not disclose or d.unit in disclose]
    written = []
    for number, content in ((d.unit.removeprefix("attachment-"), d.members) for d in shown):
        if number.isdigit():
            # the name is the sender's: only its last part is taken, behind a number that keeps two of a name apart
            path = directory / f"{number}-{Path(content['name']).name}"
            write_pieces(path, node.reader.attachment(connection, record_id, int(number)))
            written.append(path)
    return written


def write_file(path: Path, data: bytes) -> None:
    """Writes an output file. Raises CouldNotRun."""
    write_pieces(path, [data])


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Writes an output file of any size. Raises CouldNotRun, and what the pieces raise."""
    try:
        with path.open("wb") as file:
            file.writelines(pieces)
    except OSError as error:
        raise not_written(path, error) from error


def not_written(path: Path, error: OSError) -> CouldNotRun:
    """Why an output file could not be written."""
    if not path.parent.is_dir():
        return CouldNotRun(f"{path} cannot be written: there is no directory {path.parent}; make it first")
    return CouldNotRun(f"{path} cannot be written: {error.strerror}; name another file")


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
    from adapters.mapping import load_mapping
    from adapters.run import check

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
    from adapters.mapping import load_mapping
    from adapters.run import preview

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
    mapping: Annotated[
        Path | None, typer.Argument(metavar="MAPPING", help="A mapping file (docs/mappings.md); or use --all.")
    ] = None,
    every: Annotated[
        Path | None, typer.Option("--all", metavar="DIR", help="Every mapping file of a directory.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="With --all: go on until interrupted.")] = False,
    interval: Annotated[float, typer.Option(help="With --follow: seconds between two turns of a feed.", min=0.1)] = 5.0,
    source: SourceOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check and preview; write nothing.")] = False,
    limit: Annotated[int | None, typer.Option(help="Stop after about this many rows.", min=1)] = None,
    afresh: Annotated[
        bool, typer.Option("--afresh", help="Read everything again: rows in quarantine get another try.")
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
        found = check(feed, _source_of(feed, source), validate=_validator(node_dir), sample=limit or 1000)
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
            directory, lambda department: functools.partial(node.intake.submit, department), state, interval=interval
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
    server = WebhookServer(hooks, *_address(listen))
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
    report = run(feed, _source_of(feed, source), state, submit, advance, limit=limit, afresh=afresh)
    return report, state.quarantine_counts(feed.feed)


def _source_of(feed: FeedMapping, override: Path | None) -> Any:
    from adapters.mapping import open_source

    return open_source(feed, override=override, environ=os.environ)


def _validator(node_dir: Path) -> Callable[[dict[str, Any]], None]:
    """Validates as the node would; without a node, by the built-in record types."""
    from ledger.record_types import load_types

    types = load_types(node_dir)

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
    if quarantined:
        say(f"  now in quarantine: {sum(quarantined.values()):,}; look with `yunxi adapter quarantine {mapping}`")
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
    from adapters.mapping import load_mapping
    from adapters.state import AdapterState

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
    say(f"{counted(sum(counts.values()), 'row')} in quarantine.")
    if counts:
        say(f"Once source or mapping is corrected: yunxi adapter run {mapping} --afresh")


# -- witnesses --

WitnessDirOption = Annotated[Path, typer.Option("--dir", metavar="DIR", help="The witness's directory.")]
LogOption = Annotated[
    list[str] | None, typer.Option("--log", metavar="VKEY", help="A log's verifier key; may be repeated.")
]
TrustOption = Annotated[Path | None, typer.Option("--trust", metavar="FILE", help="All the logs of this trust file.")]


@witness_app.command("init")
@answering
def witness_init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
    name: Annotated[str, typer.Option(help="The witness's name, like court.example/witness.")],
    as_json: JsonOption = False,
) -> None:
    """Make a witness: its key and its empty state. It needs no node."""
    from ledger.witness.directory import create_witness

    vkey = create_witness(directory, name)
    if as_json:
        print_json({"witness": directory, "name": name, "vkey": str(vkey)})
        return
    say(f"Made witness {name} in {directory}. Give its key to the logs:")
    say(str(vkey))
    say(f"Next: yunxi witness run --dir {directory} --listen 127.0.0.1:8090 --trust trust.json")


@witness_app.command("run")
@answering
def witness_run(
    directory: WitnessDirOption,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.")],
    log: LogOption = None,
    trust: TrustOption = None,
) -> None:
    """Cosign the checkpoints of these logs over HTTP (C2SP tlog-witness) until interrupted."""
    from ledger.witness.directory import WitnessDirectory
    from ledger.witness.server import WitnessServer, serve

    host, port = _address(listen)
    opened = WitnessDirectory(directory, _logs_of(log, trust))
    try:
        server = WitnessServer(opened.witness, host, port)
        say(f"Witness {opened.witness.vkey.name} listens on {server.url}")
        sys.stdout.flush()
        serve(server)
    finally:
        opened.close()


@witness_app.command("conflicts")
@answering
def witness_conflicts(directory: WitnessDirOption, as_json: JsonOption = False) -> int:
    """List the signed checkpoints that this witness refused because they contradict what it cosigned."""
    from ledger.witness.directory import read_conflicts

    found = read_conflicts(directory)
    if as_json:
        rows = [{**asdict(c), "note": c.note.decode(), "head": c.head.decode() if c.head else None} for c in found]
        print_json({"good": not any(c.proven for c in found), "conflicts": rows})
        return 1 if any(c.proven for c in found) else 0
    for conflict in found:
        kind = "SPLIT VIEW, proven" if conflict.proven else "refused, its proof did not verify"
        say(f"{local_time(conflict.time)}  {conflict.origin}, size {conflict.size:,}: {kind}. It was shown:")
        say(conflict.note.decode())
        say("and had cosigned:")
        say((conflict.head or b"nothing\n").decode())
    say(f"{counted(len(found), 'conflict')}.")
    return 1 if any(conflict.proven for conflict in found) else 0


@witness_app.command("compare")
@answering
def witness_compare(
    notes: Annotated[
        list[Path] | None, typer.Argument(metavar="[NOTE]...", help="Checkpoints or receipts collected elsewhere.")
    ] = None,
    url: Annotated[list[str] | None, typer.Option(metavar="URL", help="A witness to ask; may be repeated.")] = None,
    log: LogOption = None,
    trust: TrustOption = None,
    node_dir: Annotated[
        Path | None, typer.Option("--node", metavar="DIR", help="Compare with this node's own logs too.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the first proof here.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Compare what witnesses and others were shown of a log; two histories are proven by the log's own signatures."""
    from ledger.witness.compare import compare, note_in

    collected = [note_in(_read_bounded(path, MAX_NOTE_FILE_BYTES)) for path in notes or ()]
    if node_dir is None:
        found = compare(_logs_of(log, trust), collected, url or ())
    else:
        with open_node(node_dir) as node:
            found = compare(_logs_of(log, trust), collected, url or (), node)
    if output is not None and found.splits:
        write_file(output, found.splits[0].serialize())
    if as_json:
        print_json(_comparison_json(found))
    else:
        _show_comparison(found)
    return 1 if found.splits else 2 if found.problems else 0


def _comparison_json(found: Comparison) -> dict[str, Any]:
    proofs = [json.loads(split.serialize()) for split in found.splits]
    return {"good": found.good, "checkpoints": found.checkpoints, "splits": proofs, "problems": found.problems}


def _show_comparison(found: Comparison) -> None:
    for split in found.splits:
        say("SPLIT VIEW: the log's key signed both of these, and they are of two histories.")
        say(split.smaller.decode())
        say(split.larger.decode())
    for problem in found.problems:
        err.print(f"Not compared: {problem}", markup=False)
    if not found.splits:
        say(f"{counted(found.checkpoints, 'checkpoint')} compared: nothing contradicts.")


@witness_app.command("verify-split")
@answering
def witness_verify_split(
    proof: Annotated[Path, typer.Argument(metavar="FILE", help="What `witness compare --output` wrote.")],
    log: LogOption = None,
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a proof that a log has two histories."""
    from ledger.witness.split import MAX_PROOF_BYTES, SplitView

    origin = SplitView.parse(_read_bounded(proof, MAX_PROOF_BYTES)).verify(_logs_of(log, trust))
    if as_json:
        print_json({"proven": True, "origin": origin})
    else:
        say(f"Proven: log {origin} has shown two histories; its own key signed both.")


MAX_NOTE_FILE_BYTES = 256 * 1024


def _logs_of(vkeys: list[str] | None, trust: Path | None) -> Logs:
    from ledger.formats.note import VerifierKey
    from ledger.formats.trust import MAX_TRUST_BYTES, Trust
    from ledger.witness.directory import logs_by_origin

    keys = [VerifierKey.parse(text) for text in vkeys or ()]
    if trust is not None:
        keys += [department.log.key for department in Trust.parse(_read_bounded(trust, MAX_TRUST_BYTES)).departments]
    return logs_by_origin(keys)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise CouldNotRun(f"--listen must be HOST:PORT, like 127.0.0.1:8090, not {text!r}")
    return host.strip("[]"), int(port)


# -- proof --


@trust_app.command("export")
@answering
def trust_export(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it.")],
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write the trust file from the chain's own registry."""
    from ledger.trust import export_trust

    with open_node(node_dir) as node:
        trust = export_trust(node)
    write_file(output, trust.serialize())
    if as_json:
        print_json({"file": output, "departments": [department.id for department in trust.departments]})
    else:
        known = counted(len(trust.departments), "department")
        say(f"Wrote {output} with {known}. Hand it to verifiers by a way they trust.")


@app.command()
@answering
def audit(
    department: Annotated[str | None, typer.Option(help="Only this department's log.")] = None,
    skip_signatures: Annotated[bool, typer.Option(help="Trust the log for authorship; twice as fast.")] = False,
    witness: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Compare with what this witness was shown, too.")
    ] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Recompute everything from what is stored and compare it with the chain, and with what witnesses were shown."""
    from ledger.audit import audit_node
    from ledger.witness.compare import compare_node

    with open_node(node_dir) as node, progress_bar(shown=not as_json) as progress:

        def begin(log: Any) -> Callable[[int], None]:
            task = progress.add_task(log.department, total=log.size)
            return lambda done: progress.advance(task, done)

        found = audit_node(node, department, check_signatures=not skip_signatures, begin=begin)
        compared = compare_node(node, department, witness) if witness else None
    first = found.first()
    if as_json:
        print_json(
            {
                "good": found.good and found.chain_problem is None and (compared is None or compared.good),
                "first": asdict(first) if first else None,
                "chain_problem": found.chain_problem,
                # asdict turns a Counter into a count of pairs
                "logs": [{**asdict(log), "counts": dict(log.counts), "good": log.good} for log in found.logs],
                "witnesses": None if compared is None else _comparison_json(compared),
            }
        )
    else:
        _show_audit(found)
        if compared is not None:
            _show_comparison(compared)
    if not found.good or (compared is not None and compared.splits):
        return 1
    return 0 if found.chain_problem is None and (compared is None or compared.good) else 2


def _show_audit(found: NodeAudit) -> None:
    table = numbers_table("department", "records", "payloads", "attached", "forgotten", "anchors", "findings")
    for log in found.logs:
        numbers = (log.records, log.payloads, log.attachments, log.forgotten, log.anchors, log.counts.total())
        table.add_row(log.department, *(f"{number:,}" for number in numbers))
    print_table(table)
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
    as_json: JsonOption = False,
) -> None:
    """Write the verifier for courts: one file that runs offline with Python and `cryptography` alone."""
    from ledger.verifier_zipapp import build_verifier

    try:
        build_verifier(output)
    except OSError as error:
        raise not_written(output, error) from error
    if as_json:
        print_json({"file": output})
        return
    say(f"Wrote {output}. It runs with: python {output} FILE ... --trust trust.json")


@app.command()
@answering
def demo(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")] = Path("demo-run"),
    as_json: JsonOption = False,
) -> int:
    """Run the main job on generated exports of six departments, then forge three bytes and find them."""
    from demo.story import tell

    good = tell(directory, err if as_json else out)
    if as_json:
        print_json({"good": good, "node": directory / "node", "court": directory / "court"})
    return 0 if good else 1


def version(shown: bool) -> None:
    """Prints the version and ends."""
    if shown:
        from importlib import metadata

        say(f"yunxi {metadata.version('yunxi')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Yunxi (云玺): an evidence ledger for enforcement records, with proofs that verify without us."""


# typer carries a click of its own or uses the installed one, depending on its version: this is the class in either
UsageError: Any = typer.BadParameter.__mro__[1]


def _explain_usage(error: Any, arguments: list[str]) -> NoReturn:
    """Ends with 2 and one sentence, or with the help text where a group was named without a command."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        raise SystemExit(2)
    command = error.ctx.command_path if error.ctx else "yunxi"
    sentence = f"{error.format_message().rstrip('.')}; see `{command} --help`"
    report_error("usage", sentence, as_json="--json" in arguments)
    raise SystemExit(2)


def main() -> None:
    """Entry point of the console script. No traceback ever reaches the user."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Chinese must not stop the answer
    arguments = sys.argv[1:]
    try:
        code = app(arguments, standalone_mode=False) or 0
        if code == 130:  # typer's own answer to Ctrl-C before a command began
            report_error("interrupted", INTERRUPTED, as_json="--json" in arguments)
        raise SystemExit(min(code, 2))
    except UsageError as error:
        _explain_usage(error, arguments)
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
