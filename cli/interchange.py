"""`yunxi interchange`: receipts, statements and exchanges in other people's formats; see docs/interchange.md."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.frame import HERE, JsonOption, NodeOption, answering, open_node, print_json, say, write_file

interchange_app = typer.Typer(help="Proofs in other people's formats.", no_args_is_help=True)

RecordArgument = Annotated[str, typer.Argument(metavar="RECORD_ID", help="The record's id, a UUID.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it.")]


class Form(StrEnum):
    """What a receipt is written as."""

    cose = "cose"
    scitt = "scitt"


@interchange_app.command("receipt")
@answering
def receipt(
    record_id: RecordArgument,
    output: OutputOption,
    form: Annotated[
        Form, typer.Option("--format", help="COSE receipt, or SCITT statement with its receipt.")
    ] = Form.cose,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write a record's receipt as a COSE receipt (RFC 9942), or with its statement for SCITT (RFC 9943)."""
    from ledger.interchange.receipts import export_receipt

    with open_node(node_dir) as node:
        made = export_receipt(node, record_id, form.value)
    _wrote(output, made, as_json=as_json)


@interchange_app.command("exchange")
@answering
def exchange(
    record_id: Annotated[str, typer.Argument(metavar="RECORD_ID", help="A disclosure.made or disclosure.received.")],
    output: OutputOption,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write a disclosure as an ASiC-E container: the record, its receipt, what was handed over, signed and stamped."""
    from ledger.interchange.exchanges import export_exchange

    with open_node(node_dir) as node:
        made = export_exchange(node, record_id)
    _wrote(output, made, as_json=as_json)


@interchange_app.command("certificate")
@answering
def certificate(
    department: Annotated[str, typer.Argument(metavar="ID", help="The department's id.")],
    output: OutputOption,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write a department's certificate (PEM), which its containers lead to. Its key is the present statement key."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from ledger.interchange.exchanges import authority_of
    from ledger.trust import export_trust

    with open_node(node_dir) as node:
        trust = export_trust(node)
        made = authority_of(node, trust.department(department), trust, node.clock()).certificate()
    _wrote(output, made.public_bytes(Encoding.PEM), as_json=as_json)


def _wrote(output: Path, made: bytes, *, as_json: bool) -> None:
    write_file(output, made)
    if as_json:
        print_json({"file": output, "size": len(made)})
    else:
        say(f"Wrote {output}, {len(made):,} bytes.")
