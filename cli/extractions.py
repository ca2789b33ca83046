"""`yunxi extract`: what others may extract from this node; `yunxi reconcile-disclosures`: do both sides' logs agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import HERE, JsonOption, NodeOption, answering, counted, local_time, open_node, print_json, say
from ledger.errors import Refusal

if TYPE_CHECKING:
    from gateway.extractions.standing import Extraction
    from ledger.disclosures import Reconciliation, Side
    from ledger.node import Node


commands = typer.Typer()
extract_app = typer.Typer(help="Extractions from this node's departments.", no_args_is_help=True)

ExtractionArgument = Annotated[str, typer.Argument(metavar="EXTRACTION", help="Its id, 32 hex digits.")]


@extract_app.command("list")
@answering
def list_extractions(
    department: Annotated[str | None, typer.Option(help="Only those from or by this department.")] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List the extractions that this node serves."""
    from gateway.extractions import standing

    with open_node(node_dir) as node, node.database.reading() as connection:
        departments = [department] if department is not None else node.agent.departments()
        found = {e.id: e for name in departments for e in standing.list_for(connection, name, "", 10_000)}
    if as_json:
        print_json({"extractions": [_json(each) for each in found.values()]})
        return
    for each in found.values():
        say(f"{each.id}  {each.owner} to {each.requester}, {each.claim} {each.number}: {each.state}")
    say(f"{counted(len(found), 'extraction')}.")


@extract_app.command()
@answering
def show(extraction: ExtractionArgument, node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """Show one extraction and what was disclosed under it."""
    from gateway.extractions.projection import disclosed

    with open_node(node_dir) as node, node.database.reading() as connection:
        found = _find(connection, extraction)
        count, records, last = disclosed(connection, found)
    if as_json:
        print_json({**_json(found), "pages": count, "records": records, "last_page_at": (last or 0) // 1000})
        return
    say(f"{found.owner} gives to {found.requester} for {found.purpose}, {found.claim} {found.number}: {found.state}.")
    since = f", the last at {local_time(last / 1000)}" if last else ""
    say(f"{counted(count, 'page')} with {counted(records, 'record')} disclosed{since}.")


@extract_app.command()
@answering
def cancel(extraction: ExtractionArgument, node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """End an extraction from this node for good, as its owner. What was disclosed stays disclosed, and on record."""
    from gateway.extractions import standing

    with open_node(node_dir) as node, node.database.writing() as connection:
        found = _find(connection, extraction)
        standing.set_state(connection, extraction, standing.ENDED)
    if as_json:
        print_json({**_json(found), "state": standing.ENDED})
    else:
        say(f"Ended: {found.requester} gets nothing more from {found.owner} under {extraction}.")


@commands.command("reconcile-disclosures")
@answering
def reconcile_disclosures(
    nodes: Annotated[list[Path], typer.Argument(metavar="NODE…", help="Directories of all the nodes to compare.")],
    as_json: JsonOption = False,
) -> int:
    """Compare what owners say they disclosed with what requesters say they received, and with the grants on the chain.

    Pages with departments of other nodes are not judged.
    """
    from ledger.chain.sharing_grants import SharingGrantsContract
    from ledger.disclosures import check_grants, reconcile

    with ExitStack() as stack:
        opened = [stack.enter_context(open_node(directory)) for directory in nodes]
        departments = {name for node in opened for name in node.agent.departments()}
        result = reconcile(_sides(opened), departments)
        grants = SharingGrantsContract.of(opened[0].connect().consortium)
        result.differences += check_grants(_sides(opened), grants.grant_at)
    return _report(result, as_json=as_json)


def _sides(nodes: Iterable[Node]) -> Iterator[Side]:
    from ledger.disclosures import read_sides
    from ledger.store.reading import read_logs

    for node in nodes:
        with node.database.reading() as connection:
            for log in read_logs(connection):
                yield from read_sides(connection, node.reader, log)


def _report(result: Reconciliation, *, as_json: bool) -> int:
    if as_json:
        print_json({"good": result.good, **asdict(result)})
    else:
        for each in result.differences:
            say(f"{each.kind}: {each.sentence} (record {each.record_id}, {each.page[0]} to {each.page[1]})")
        say(
            f"{counted(result.made, 'page')} disclosed, {result.received:,} received, {result.gone:,} withdrawn, "
            f"{counted(result.records, 'record')}: {counted(len(result.differences), 'difference')}."
        )
    return 0 if result.good else 1


def _find(connection: Any, extraction: str) -> Extraction:
    from gateway.extractions import standing

    found = standing.find(connection, extraction)
    if found is None:
        raise Refusal(f"this node has no extraction {extraction[:64]!r}: see `yunxi extract list`")
    return found


def _json(extraction: Extraction) -> dict[str, Any]:
    names = ("id", "owner", "requester", "lead", "number", "reference", "purpose", "case_kind", "state", "opened_at")
    return {name: getattr(extraction, name) for name in names} | {"kind": extraction.claim}
