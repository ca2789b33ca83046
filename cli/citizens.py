"""`yunxi citizens`: the QR codes on served decisions, behind which anybody who holds one can check it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.frame import (
    HERE,
    JsonOption,
    NodeOption,
    answering,
    counted,
    local_time,
    open_node,
    print_json,
    say,
    write_file,
)
from ledger.errors import CouldNotRun

if TYPE_CHECKING:
    from ledger.node import Node

citizens_app = typer.Typer(help="The QR codes on served decisions.", no_args_is_help=True)

RecordArgument = Annotated[str, typer.Argument(metavar="RECORD", help="The id of a decision.made record.")]
LinkArgument = Annotated[str, typer.Argument(metavar="LINK", help="The code's id, 16 hex digits.")]
DepartmentOption = Annotated[
    str | None, typer.Option(metavar="ID", help="Whose decision; not needed where the node has one department.")
]


@citizens_app.command("qr")
@answering
def qr(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it: .svg or .png.")],
    record: Annotated[
        str | None, typer.Argument(metavar="[RECORD]", help="The decision, if it is sealed already.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where people reach the node; else the first authority in node.toml."),
    ] = None,
    department: DepartmentOption = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Make the QR code to print on a decision. Earlier codes go on working."""
    from gateway.citizens.links import bind_link, link_url, make_link
    from ledger.paper.qr import QrCode

    if output.suffix not in (".svg", ".png"):
        raise CouldNotRun(f"{output} must end in .svg or .png: name the picture so")
    with _prepared(node_dir) as node:
        base = address or _address(node_dir)
        link_url(base, "")  # an address that will not do is refused before anything is written
        with node.database.writing() as connection:
            owner = _department(node, department)
            link, token = make_link(connection, owner, "yunxi citizens", node.clock())
            if record is not None:
                link = bind_link(connection, owner, link.link, record)
    url = link_url(base, token)
    code = QrCode(url)
    write_file(output, code.svg() if output.suffix == ".svg" else code.png())
    if as_json:
        print_json({**asdict(link), "url": url, "file": output})
        return
    say(f"Wrote {output}: {url}")
    if link.record_id is None:
        say(f"It leads nowhere until the decision is sealed: then yunxi citizens bind {link.link} RECORD")
    say(f"Print it at 25 mm or larger. To withdraw it: yunxi citizens revoke {link.link}")


@citizens_app.command("bind")
@answering
def bind(
    link: LinkArgument,
    record: RecordArgument,
    department: DepartmentOption = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Lead a code to its decision, once that is sealed. For good."""
    from gateway.citizens.links import bind_link

    with _prepared(node_dir) as node, node.database.writing() as connection:
        bound = bind_link(connection, _department(node, department), link, record)
    if as_json:
        print_json(asdict(bound))
    else:
        say(f"{link} leads to {record} now.")


@citizens_app.command("list")
@answering
def show(
    record: RecordArgument,
    department: DepartmentOption = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List the codes of a decision, without what opens it."""
    from gateway.citizens.links import links_of

    with _prepared(node_dir) as node, node.database.reading() as connection:
        found = links_of(connection, _department(node, department), record)
    if as_json:
        print_json({"links": [asdict(link) for link in found]})
        return
    for link in found:
        ended = "" if link.revoked_at is None else f", withdrawn {local_time(link.revoked_at)}"
        say(f"{link.link}  made {local_time(link.made_at)}{ended}")
    say(f"{counted(len(found), 'code')}.")


@citizens_app.command("revoke")
@answering
def revoke(
    link: LinkArgument,
    department: DepartmentOption = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Withdraw a code: from now on it says so, and shows nothing."""
    from gateway.citizens.links import revoke_link

    with _prepared(node_dir) as node, node.database.writing() as connection:
        revoke_link(connection, _department(node, department), link, node.clock())
    if as_json:
        print_json({"link": link, "revoked": True})
    else:
        say(f"Withdrawn: whoever scans {link} is told to ask the department.")


@contextmanager
def _prepared(directory: Path) -> Iterator[Node]:
    from gateway.database import prepare

    with open_node(directory) as node:
        prepare(node.database)
        yield node


def _department(node: Node, named: str | None) -> str:
    hosted = sorted(node.agent.departments())
    if named is None and len(hosted) == 1:
        return hosted[0]
    if named not in hosted:
        raise CouldNotRun(f"say whose decision it is with --department: {', '.join(hosted)}")
    return named


def _address(directory: Path) -> str:
    from gateway.settings import GatewaySettings

    authorities = GatewaySettings.load(directory).authorities
    if not authorities:
        raise CouldNotRun("say where people reach the node with --address, like https://ledger.example.org")
    return f"https://{authorities[0]}"
