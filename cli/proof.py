"""`yunxi trust`, `verify` and `verifier`: proofs, and what they are checked with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.frame import (
    HERE,
    JsonOption,
    NodeOption,
    answering,
    counted,
    not_written,
    open_node,
    print_json,
    say,
    write_file,
)

if TYPE_CHECKING:
    pass

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
