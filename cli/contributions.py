"""`yunxi contributions`: what the departments of a node gave, got and refused, and how fast."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli.frame import (
    HERE,
    JsonOption,
    NodeOption,
    age,
    answering,
    numbers_table,
    open_node,
    print_json,
    print_table,
    say,
)
from ledger.errors import CouldNotRun

if TYPE_CHECKING:
    from gateway.contributions.service import Contribution

commands = typer.Typer()

TimeOption = Annotated[str | None, typer.Option(metavar="TIME", help="RFC 3339 with offset; by default without limit.")]


@commands.command()
@answering
def contributions(
    since: TimeOption = None, until: TimeOption = None, node_dir: NodeOption = HERE, as_json: JsonOption = False
) -> None:
    """Show what each department of this node gave, got and refused, and how fast."""
    from gateway.contributions.service import contribution_of
    from gateway.database import require_prepared
    from gateway.projections.registry import projector_of

    start, end = _seconds("--since", since, 0), _seconds("--until", until, 1 << 40)
    with open_node(node_dir) as node:
        require_prepared(node.database)
        projector_of(node).catch_up()
        with node.database.reading() as connection:
            departments = node.agent.departments()
            found = [contribution_of(connection, department, start, end) for department in departments]
    if as_json:
        print_json({"contributions": [asdict(each) for each in found]})
        return
    for each in found:
        _show(each)


def _show(contribution: Contribution) -> None:
    if not contribution.exchanges:
        say(f"{contribution.department}: nothing given, got or refused.")
        return
    table = numbers_table(f"{contribution.department} with", "gave", "got", "refused", "checks", "first page, median")
    for other, exchange in contribution.exchanges.items():
        speed = "-" if exchange.median_seconds is None else age(exchange.median_seconds)
        numbers = (exchange.given_records, exchange.got_records, sum(exchange.refused.values()), exchange.checks)
        table.add_row(other, *(f"{number:,}" for number in numbers), speed)
    print_table(table)


def _seconds(option: str, text: str | None, default: int) -> int:
    from ledger.record_types import parse_instant

    if text is None:
        return default
    try:
        return int(parse_instant(text).timestamp())
    except ValueError as error:
        raise CouldNotRun(f"{option} must be a time with offset, such as 2026-03-02T09:15:00+08:00") from error
