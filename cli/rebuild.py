"""`yunxi rebuild`: the service's tables made again from the logs."""

from __future__ import annotations

import time

import typer

from cli.frame import HERE, JsonOption, NodeOption, answering, counted, open_node, print_json, say

commands = typer.Typer()


@commands.command()
@answering
def rebuild(node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """Drop what the service derived from the logs, and derive it again. Safe to run again."""
    from gateway.database import prepare
    from gateway.projections.registry import projector_of

    with open_node(node_dir) as node:
        prepare(node.database)
        start = time.monotonic()
        applied = projector_of(node).rebuild()
        seconds = time.monotonic() - start
    if as_json:
        print_json({"entries": applied, "seconds": round(seconds, 3)})
    else:
        say(f"Replayed {counted(applied, 'entry').replace('entrys', 'entries')} in {seconds:.1f} s.")
