"""`yunxi people`: who may sign in to this node's service, and as what."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cli.frame import HERE, JsonOption, NodeOption, answering, counted, open_node, print_json, print_table, say
from ledger.errors import CouldNotRun

if TYPE_CHECKING:
    from gateway.people.service import Account, People

people_app = typer.Typer(help="Who may sign in to this node's service, and as what.", no_args_is_help=True)

LoginArgument = Annotated[str, typer.Argument(metavar="LOGIN", help="The login, as the person types it.")]
RoleOption = Annotated[
    list[str],
    typer.Option(
        "--role",
        metavar="ROLE",
        help="officer, supervisor, legal-reviewer, department-admin, coordinator or auditor; may be repeated.",
    ),
]
StdinOption = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@people_app.command("add")
@answering
def add(
    login: LoginArgument,
    department: Annotated[str, typer.Option(metavar="ID", help="The department the person works for.")],
    role: RoleOption,
    provider: Annotated[
        bool, typer.Option("--provider", help="Signs in at the identity provider; has no password here.")
    ] = False,
    totp: Annotated[bool, typer.Option(help="One-time codes; only a mere officer may go without.")] = True,
    password_stdin: StdinOption = False,
    node: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Make an account."""
    with _people(node) as people:
        password = None if provider else _password(from_stdin=password_stdin)
        created = people.create(department, login, role, password, totp=totp)
    if as_json:
        print_json(_json(created.account) | {"provisioning_uri": created.provisioning_uri})
        return
    say(f"{login} may sign in for {department} as {', '.join(sorted(created.account.roles))}.")
    if created.provisioning_uri is not None:
        say("Put this into the person's authenticator app now; it is not shown again:")
        say(created.provisioning_uri)


@people_app.command("list")
@answering
def show(
    department: Annotated[str | None, typer.Option(metavar="ID", help="Only this department.")] = None,
    node: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List the accounts."""
    with _people(node) as people:
        found = people.list(department)
    if as_json:
        print_json({"accounts": [_json(account) for account in found]})
        return
    table = Table(
        "Login", "Department", "Roles", "Signs in by", "State", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for account in found:
        by = "provider" if not account.local else "password and code" if account.second_factor else "password"
        state = "disabled" if account.disabled else "open"
        table.add_row(account.login, account.department, ", ".join(sorted(account.roles)), by, state)
    if found:
        print_table(table)
    say(f"{counted(len(found), 'account')}.")


@people_app.command("roles")
@answering
def roles(login: LoginArgument, role: RoleOption, node: NodeOption = HERE) -> None:
    """Replace the roles of an account; its sessions end."""
    with _people(node) as people:
        people.set_roles(login, role)
    say(f"{login} is now {', '.join(sorted(set(role)))}; open sessions have ended.")


@people_app.command("password")
@answering
def password(login: LoginArgument, password_stdin: StdinOption = False, node: NodeOption = HERE) -> None:
    """Set a new password, and unlock; sessions end."""
    with _people(node) as people:
        people.find(login)
        people.set_password(login, _password(from_stdin=password_stdin))
    say(f"{login} has a new password; open sessions have ended.")


@people_app.command("reset")
@answering
def reset(login: LoginArgument, node: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """Draw a new secret for one-time codes, as after a lost phone; sessions end."""
    with _people(node) as people:
        uri = people.reset_second_factor(login)
    if as_json:
        print_json({"login": login, "provisioning_uri": uri})
        return
    say("Put this into the person's authenticator app now; it is not shown again:")
    say(uri)


@people_app.command("disable")
@answering
def disable(login: LoginArgument, node: NodeOption = HERE) -> None:
    """Close an account at once; sessions end."""
    with _people(node) as people:
        people.disable(login)
    say(f"{login} can no longer sign in.")


@people_app.command("enable")
@answering
def enable(login: LoginArgument, node: NodeOption = HERE) -> None:
    """Open a closed account again, and unlock it."""
    with _people(node) as people:
        people.disable(login, disabled=False)
    say(f"{login} can sign in again.")


@contextmanager
def _people(directory: Path) -> Iterator[People]:
    from gateway.database import prepare
    from gateway.people.service import people_of

    with open_node(directory) as node:
        prepare(node.database)
        yield people_of(node)


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline(1024).rstrip("\r\n")
    if not sys.stdin.isatty():
        raise CouldNotRun("the password is asked for on a terminal; from a script, give it to --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


def _json(account: Account) -> dict[str, object]:
    return asdict(account) | {"roles": sorted(account.roles)}
