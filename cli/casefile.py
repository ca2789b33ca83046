"""`yunxi casefile`: a case with its proofs in one file for a court; made, opened, verified."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.frame import (
    HERE,
    JsonOption,
    NodeOption,
    answering,
    ask_secret,
    counted,
    err,
    open_node,
    print_json,
    read_bounded,
    say,
)
from ledger.errors import CouldNotRun

casefile_app = typer.Typer(help="Case files for courts.", no_args_is_help=True)

KEY_VARIABLE = "YUNXI_CASEFILE_PASSPHRASE"


@casefile_app.command("export")
@answering
def export_case_file(
    case: Annotated[str, typer.Argument(metavar="CASE", help="The case number, as the records carry it.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.zip", help="Where it goes; never overwritten.")
    ],
    department: Annotated[
        str | None, typer.Option(metavar="ID", help="Whose case, where several have the number.")
    ] = None,
    reveal: Annotated[
        list[str] | None,
        typer.Option(
            metavar="UNITS",
            help="What is shown: UNIT,UNIT… or TYPE=UNIT,UNIT… (TYPE=all, TYPE=none), or all; may be given again. "
            "`attachments` stands for all files. By default everything but who complained.",
        ),
    ] = None,
    evidence_list: Annotated[
        Path | None,
        typer.Option("--list", metavar="FILE", help="Evidence list, CSV or JSON: record_id, name, purpose…"),
    ] = None,
    recipient: Annotated[
        Path | None, typer.Option("--for", metavar="KEY.jwk", help="Seal it to this key: `yunxi casefile keygen`.")
    ] = None,
    exported_for: Annotated[
        str | None, typer.Option("--to", metavar="NAME", help="For whom it is; stands in it.")
    ] = None,
    no_media: Annotated[
        bool, typer.Option("--no-media", help="Leave the attachments out; they are named as gaps.")
    ] = False,
    at: Annotated[
        int | None, typer.Option(metavar="SIZE", help="An anchored size of the log; by default the newest.", min=1)
    ] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write a case with everything that proves it into one file. That it was made is itself a record."""
    from ledger.casefile.export import Order, export
    from ledger.casefile.reveal import Reveal
    from ledger.casefile.sealing import MAX_KEY_BYTES, parse_recipient
    from ledger.casefile.words import MAX_LIST_BYTES, parse_list

    words = {} if evidence_list is None else parse_list(read_bounded(evidence_list, MAX_LIST_BYTES, "evidence list"))
    key = None if recipient is None else parse_recipient(read_bounded(recipient, MAX_KEY_BYTES, "key"))
    with open_node(node_dir) as node:
        order = Order(
            case=case,
            department=department,
            at=at,
            reveal=Reveal.parse(reveal or (), node.types),
            words=words,
            media=not no_media,
            exported_for=exported_for,
            recipient=key,
        )
        done = export(node, node.intake.submit, order, output)
    if as_json:
        print_json({**asdict(done), "output": output})
        return
    held = f"{counted(done.items, 'record')}, {counted(done.files, 'attachment')}, {counted(done.gaps, 'gap')}"
    say(f"Wrote {output}: case {done.case} of {done.department}, {held}, the log up to {done.log_size:,} entries.")
    if done.later:
        err.print(
            f"{counted(done.later, 'record')} of the case came later and is not in it: run `yunxi anchor`, then export "
            "again for a newer state.",
            markup=False,
        )


@casefile_app.command("open")
@answering
def open_sealed_case_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A case file that was sealed to a court.")],
    key: Annotated[Path, typer.Option(metavar="KEY", help="The court's key, as `yunxi casefile keygen` wrote it.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.zip", help="Where the case file goes.")],
) -> None:
    """Decrypt a case file that was sealed to a court's key. Its passphrase is asked for."""
    from ledger.casefile.sealing import open_case_file, open_key
    from ledger.casefile.spool import CHUNK_BYTES
    from ledger.casefile.working import give_name, working_files

    if output.exists():
        raise CouldNotRun(f"{output} is there already: name another file")
    if not output.parent.is_dir():
        raise CouldNotRun(f"there is no directory {output.parent}: make it first")
    opened = open_key(key, ask_secret(KEY_VARIABLE, f"Passphrase of {key}"))
    try:
        source = file.open("rb")
    except OSError as error:
        raise CouldNotRun(f"{file} cannot be read: {error.strerror}") from error
    with source, working_files(output) as new:
        target = new()
        target.writelines(open_case_file(opened, iter(lambda: source.read(CHUNK_BYTES), b"")))
        target.flush()
        os.fsync(target.fileno())
        give_name(Path(target.name), output)
    say(f"Wrote {output}. Verify it: yunxi casefile verify {output} --trust trust.json")


@casefile_app.command("verify")
@answering
def verify_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Case files.")],
    trust: Annotated[
        Path, typer.Option(metavar="TRUST", help="The trust file, from somebody else than the department.")
    ],
    lang: Annotated[str, typer.Option(help="zh or en.")] = "en",
    as_json: JsonOption = False,
) -> int:
    """Verify case files offline: what is proven, by whom, since when, and what is not. As the zipapp does."""
    import sys

    from ledger.verify.__main__ import run

    arguments = [*map(str, files), "--trust", str(trust), "--lang", lang, *(["--json"] if as_json else [])]
    return run(arguments, sys.stdout)


@casefile_app.command()
@answering
def keygen(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="KEY", help="Where the private key goes.")],
    public: Annotated[Path, typer.Option(metavar="KEY.jwk", help="Where its public part goes, for the departments.")],
    as_json: JsonOption = False,
) -> None:
    """Draw a key that case files are sealed to. The private key is sealed with a passphrase, which is asked for."""
    from ledger.casefile.sealing import create_key

    kid = create_key(output, public, ask_secret(KEY_VARIABLE, f"Passphrase for {output}"))
    if as_json:
        print_json({"kid": kid, "key": output, "public": public})
        return
    say(f"Wrote {output}: keep it and its passphrase; without them nobody opens what is sealed to it.")
    say(f"Give {public} to the departments. The key's thumbprint is {kid}.")
