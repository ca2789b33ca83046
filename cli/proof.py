"""`yunxi trust`, `audit`, `verify` and `verifier`: proofs, and what they are checked with."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import (
    HERE,
    JsonOption,
    NodeOption,
    answering,
    counted,
    err,
    not_written,
    numbers_table,
    open_node,
    print_json,
    print_table,
    progress_bar,
    say,
    write_file,
)
from cli.terminal import read_recipient
from cli.witness import comparison_json, show_comparison

if TYPE_CHECKING:
    from ledger.audit import NodeAudit

commands = typer.Typer()
trust_app = typer.Typer(help="The trust file that verifiers are given.", no_args_is_help=True)


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


@commands.command()
@answering
def audit(
    department: Annotated[str | None, typer.Option(help="Only this department's log.")] = None,
    skip_signatures: Annotated[bool, typer.Option(help="Trust the log for authorship; twice as fast.")] = False,
    witness: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Compare with what this witness was shown, too.")
    ] = None,
    recipient_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A department's recipient key: opens what its terminals sealed.")
    ] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Recompute everything from what is stored and compare it with the chain, and with what witnesses were shown."""
    from ledger.audit import audit_node
    from ledger.witness.compare import compare_node

    recipient = read_recipient(recipient_key) if recipient_key else None
    with open_node(node_dir) as node, progress_bar(shown=not as_json) as progress:

        def begin(log: Any) -> Callable[[int], None]:
            task = progress.add_task(log.department, total=log.size)
            return lambda done: progress.advance(task, done)

        found = audit_node(node, department, check_signatures=not skip_signatures, recipient=recipient, begin=begin)
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
                "witnesses": None if compared is None else comparison_json(compared),
            }
        )
    else:
        _show_audit(found)
        if compared is not None:
            show_comparison(compared)
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
    elsewhere = sum(log.sealed_elsewhere for log in found.logs)
    if elsewhere:
        say(f"{counted(elsewhere, 'record')} sealed by terminals for their departments, not opened here.")
    if found.chain_problem:
        err.print(f"The chain could not be asked, so nothing was compared with it: {found.chain_problem}", markup=False)
    elif not total:
        say("Everything fits: every leaf, tile, root and payload was recomputed, and the chain holds the same roots.")


@commands.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def verify(context: typer.Context) -> None:
    """Verify presentations, receipts and attachments against a trust file, offline."""
    from ledger.verify.__main__ import run

    raise typer.Exit(run(context.args, sys.stdout))


@commands.command()
@answering
def verifier(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write it (yunxi-verify.pyz or .html)."),
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="One HTML page that needs a browser alone.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the verifier for courts: one file that runs offline with Python and `cryptography`, or in a browser."""
    from ledger.verifier_html import build_page
    from ledger.verifier_zipapp import build_verifier

    target = output or Path("yunxi-verify.html" if html else "yunxi-verify.pyz")
    try:
        (build_page if html else build_verifier)(target)
    except OSError as error:
        raise not_written(target, error) from error
    if as_json:
        print_json({"file": target})
    elif html:
        say(f"Wrote {target}. Open it in a browser and drop the files in; it needs no network.")
    else:
        say(f"Wrote {target}. It runs with: python {target} FILE ... --trust trust.json")
