"""The `yunxi` command: composition root, nothing but wiring.

Every command ends with exit code 0 (good), 1 (a finding or refusal) or 2 (could not run), says an error in one
sentence, and with `--json` prints exactly one JSON object.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from cli import (
    auditing,
    casefile,
    citizens,
    consortium,
    contributions,
    demo,
    extractions,
    feeds,
    forgetting,
    grants,
    interchange,
    joining,
    matters,
    media,
    node,
    people,
    proof,
    quarantine,
    rebuild,
    record_types,
    records,
    serve,
    terminal,
    timestamps,
    witness,
)
from cli.frame import INTERRUPTED, UsageError, err, explain_usage, report_error, say

app = typer.Typer(
    name="yunxi",
    help="Yunxi (云玺): an evidence ledger for enforcement records, with proofs that verify without us.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(node.commands)
app.add_typer(records.commands)
app.add_typer(auditing.commands)
app.add_typer(proof.commands)
app.add_typer(serve.commands)
app.add_typer(rebuild.commands)
app.add_typer(forgetting.commands)
app.add_typer(forgetting.hold_app, name="hold")
app.add_typer(forgetting.retention_app, name="retention")
app.add_typer(contributions.commands)
app.add_typer(extractions.commands)
app.add_typer(extractions.extract_app, name="extract")
app.add_typer(demo.commands)
app.add_typer(node.department_app, name="department")
app.add_typer(casefile.casefile_app, name="casefile")
app.add_typer(citizens.citizens_app, name="citizens")
app.add_typer(consortium.consortium_app, name="consortium")
app.add_typer(joining.chain_app, name="chain")
app.add_typer(grants.grant_app, name="grant")
app.add_typer(interchange.interchange_app, name="interchange")
feeds.adapter_app.add_typer(record_types.commands)
feeds.adapter_app.add_typer(quarantine.commands)
app.add_typer(feeds.adapter_app, name="adapter")
app.add_typer(matters.matters_app, name="matters")
app.add_typer(media.media_app, name="media")
app.add_typer(terminal.terminal_app, name="terminal")
app.add_typer(proof.trust_app, name="trust")
app.add_typer(witness.witness_app, name="witness")
app.add_typer(people.people_app, name="people")
app.add_typer(timestamps.timestamp_app, name="timestamp")


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
        explain_usage(error, arguments)
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
