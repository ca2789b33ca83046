"""`yunxi serve`: the sharing service of a node."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.frame import HERE, NodeOption, answering, counted, err, open_node, say
from ledger.errors import ChainUnreachable, CouldNotRun

if TYPE_CHECKING:
    from gateway.serving import Plan
    from ledger.node import Node

commands = typer.Typer()


@commands.command()
@answering
def serve(
    node_dir: NodeOption = HERE,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.", min=0, max=65535)] = 8700,
    workers: Annotated[int, typer.Option(help="How many processes.", min=1, max=64)] = 1,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="This node's certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key, PEM.")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Who signs the certificates of peers, PEM.")
    ] = None,
) -> None:
    """Serve the node's departments over HTTP, and anchor what comes in, until interrupted."""
    from gateway.serving import Plan, Tls, bind
    from gateway.serving import serve as serve_plan
    from gateway.settings import GatewaySettings

    if (tls_cert is None) != (tls_key is None) or (client_ca is not None and tls_cert is None):
        raise CouldNotRun("TLS needs --tls-cert and --tls-key together, and --client-ca only with them")
    for file in (tls_cert, tls_key, client_ca):
        if file is not None and not file.is_file():
            raise CouldNotRun(f"there is no file {file}: name the PEM file")
    settings = GatewaySettings.load(node_dir)
    with open_node(node_dir) as node:
        departments = _prepare(node)
    with bind(host, port) as opened:
        authorities = settings.authorities or _own_authorities(opened)
        tls = Tls(tls_cert, tls_key, client_ca) if tls_cert and tls_key else None
        plan = Plan(node_dir, settings, authorities, workers, tls)
        _announce(plan, opened, departments)
        serve_plan(plan, opened)


def _prepare(node: Node) -> list[str]:
    """The hosted departments, after the service's tables were made and the chain found to be the pinned one."""
    from gateway.database import prepare

    departments = node.agent.departments()
    if not departments:
        raise CouldNotRun("this node has no department yet: run `yunxi department add`")
    prepare(node.database)
    if not node.settings.chain.genesis:
        raise CouldNotRun("node.toml does not say with which block the chain begins: restore it from a backup")
    try:
        node.connect().client.check_identity()
    except ChainUnreachable as error:
        # records are taken all the same and anchored later; which chain it is, is asked again before every anchor
        err.print(f"Warning: {error}", style="yellow", markup=False)
    return departments


def _own_authorities(opened: socket.socket) -> tuple[str, ...]:
    host, port = opened.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104  compared, not bound
        raise CouldNotRun(
            "a service on all addresses must know under which it is called: set `authorities` in [gateway] of node.toml"
        )
    names = (f"[{host}]" if ":" in host else host, "localhost")
    return tuple(f"{name}:{port}" for name in names)


def _announce(plan: Plan, opened: socket.socket, departments: list[str]) -> None:
    host, port = opened.getsockname()[:2]
    scheme = "https" if plan.tls else "http"
    where = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    say(f"Serving {', '.join(departments)} on {where} ({counted(plan.workers, 'worker')}).")
    sys.stdout.flush()
