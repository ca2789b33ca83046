"""`yunxi timestamp`: trusted time from time-stamping authorities."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.frame import (
    HERE,
    JsonOption,
    NodeOption,
    age,
    answering,
    counted,
    local_time,
    numbers_table,
    open_node,
    print_json,
    print_table,
    say,
)
from ledger.errors import CouldNotRun

timestamp_app = typer.Typer(help="Trusted time from time-stamping authorities.", no_args_is_help=True)

_NOBODY = "no time-stamping authority is named in node.toml: add [[timestamps.authorities]], see docs/timestamps.md"


@timestamp_app.command("status")
@answering
def status(node_dir: NodeOption = HERE, as_json: JsonOption = False) -> int:
    """Show how far each log is stamped, and how the authorities answer."""
    from ledger.timestamps.report import authority_problems, time_status

    with open_node(node_dir) as node:
        logs, problems, hours = time_status(node), authority_problems(node), node.settings.timestamps.stop_after_hours
    if not problems:
        raise CouldNotRun(_NOBODY)
    late = any(log.age is not None and log.age > hours * 3600 for log in logs)
    if as_json:
        print_json({"good": not late, "logs": [asdict(log) for log in logs], "authorities": problems})
        return 1 if late else 0
    table = numbers_table("Department", "Stamped", "Last stamp", "Oldest without", "Renew by")
    for log in logs:
        table.add_row(
            log.department,
            f"{log.stamped_size:,}",
            "never" if log.stamped_at is None else local_time(log.stamped_at),
            "none" if log.age is None else age(log.age),
            "" if log.renew_by is None else local_time(log.renew_by)[:10],
        )
    print_table(table)
    for name, problem in problems.items():
        say(f"{name}: {problem or 'answers, or was not asked yet'}")
    if late:
        say(f"Without a stamp for {hours:g} hours: nothing that must be dated is done until one comes.")
    return 1 if late else 0


@timestamp_app.command("now")
@answering
def stamp_now(node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """Stamp what is due. `yunxi anchor --follow` and the service do it by themselves."""
    from ledger.timestamps.report import authority_problems
    from ledger.timestamps.rounds import Timestamping

    with open_node(node_dir) as node:
        if not node.settings.timestamps.authorities:
            raise CouldNotRun(_NOBODY)
        came = Timestamping(node).round()
        problems = [problem for problem in authority_problems(node).values() if problem]
    if not came and problems:
        raise CouldNotRun(problems[0])
    if as_json:
        print_json({"tokens": came})
        return
    say(f"{counted(came, 'token')} came.")


@timestamp_app.command("renew")
@answering
def renew(
    department: Annotated[str | None, typer.Option(metavar="ID", help="Only this department's log.")] = None,
    node_dir: NodeOption = HERE,
) -> None:
    """Cover all tokens with a fresh one, before their certificates end. One token a log, however many it covers."""
    from ledger.store.reading import read_logs
    from ledger.timestamps.rounds import Timestamping

    with open_node(node_dir) as node:
        with node.database.reading() as connection:
            logs = read_logs(connection, department)
        timestamping = Timestamping(node)
        for log in logs:
            if (trouble := timestamping.renew(log)) is not None:
                raise trouble
    say(f"The tokens of {counted(len(logs), 'log')} are renewed.")


@timestamp_app.command("export")
@answering
def export(
    department: Annotated[str, typer.Argument(metavar="ID", help="Whose log.")],
    size: Annotated[int, typer.Argument(metavar="SIZE", help="The checkpoint's size, as a receipt names it.", min=1)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the files go; must exist.")],
    node_dir: NodeOption = HERE,
) -> None:
    """Write the tokens over a checkpoint and their renewals as files: NAME.tst (RFC 3161) and NAME.renewals.json."""
    from cli.frame import write_file
    from ledger.store.reading import read_logs
    from ledger.timestamps.report import time_evidence

    with open_node(node_dir) as node, node.database.reading() as connection:
        found = time_evidence(connection, read_logs(connection, department)[0].number, size)
    if not found:
        raise CouldNotRun(f"the checkpoint of {department} at size {size:,} has no token: see `yunxi timestamp status`")
    for number, evidence in enumerate(found, 1):
        write_file(output / f"timestamp-{number}.tst", evidence.token)
        if evidence.renewals is not None:
            write_file(output / f"timestamp-{number}.renewals.json", evidence.renewals.serialize())
    say(f"Wrote {counted(len(found), 'token')} to {output}.")
