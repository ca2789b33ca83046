"""`yunxi witness`: witnesses of logs, and what they have seen."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import (
    JsonOption,
    answering,
    counted,
    err,
    listen_address,
    local_time,
    open_node,
    print_json,
    read_bounded,
    say,
    write_file,
)

if TYPE_CHECKING:
    from ledger.witness.compare import Comparison
    from ledger.witness.core import Logs

witness_app = typer.Typer(help="Witnesses of logs, and what they have seen.", no_args_is_help=True)

WitnessDirOption = Annotated[Path, typer.Option("--dir", metavar="DIR", help="The witness's directory.")]
LogOption = Annotated[
    list[str] | None, typer.Option("--log", metavar="VKEY", help="A log's verifier key; may be repeated.")
]
TrustOption = Annotated[Path | None, typer.Option("--trust", metavar="FILE", help="All the logs of this trust file.")]


@witness_app.command("init")
@answering
def witness_init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
    name: Annotated[str, typer.Option(help="The witness's name, like court.example/witness.")],
    as_json: JsonOption = False,
) -> None:
    """Make a witness: its key and its empty state. It needs no node."""
    from ledger.witness.directory import create_witness

    vkey = create_witness(directory, name)
    if as_json:
        print_json({"witness": directory, "name": name, "vkey": str(vkey)})
        return
    say(f"Made witness {name} in {directory}. Give its key to the logs:")
    say(str(vkey))
    say(f"Next: yunxi witness run --dir {directory} --listen 127.0.0.1:8090 --trust trust.json")


@witness_app.command("run")
@answering
def witness_run(
    directory: WitnessDirOption,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.")],
    log: LogOption = None,
    trust: TrustOption = None,
) -> None:
    """Cosign the checkpoints of these logs over HTTP (C2SP tlog-witness) until interrupted."""
    from ledger.witness.directory import WitnessDirectory
    from ledger.witness.server import WitnessServer, serve

    host, port = listen_address(listen)
    opened = WitnessDirectory(directory, _logs_of(log, trust))
    try:
        server = WitnessServer(opened.witness, host, port)
        say(f"Witness {opened.witness.vkey.name} listens on {server.url}")
        sys.stdout.flush()
        serve(server)
    finally:
        opened.close()


@witness_app.command("conflicts")
@answering
def witness_conflicts(directory: WitnessDirOption, as_json: JsonOption = False) -> int:
    """List the signed checkpoints that this witness refused because they contradict what it cosigned."""
    from ledger.witness.directory import read_conflicts

    found = read_conflicts(directory)
    if as_json:
        rows = [{**asdict(c), "note": c.note.decode(), "head": c.head.decode() if c.head else None} for c in found]
        print_json({"good": not any(c.proven for c in found), "conflicts": rows})
        return 1 if any(c.proven for c in found) else 0
    for conflict in found:
        kind = "SPLIT VIEW, proven" if conflict.proven else "refused, its proof did not verify"
        say(f"{local_time(conflict.time)}  {conflict.origin}, size {conflict.size:,}: {kind}. It was shown:")
        say(conflict.note.decode())
        say("and had cosigned:")
        say((conflict.head or b"nothing\n").decode())
    say(f"{counted(len(found), 'conflict')}.")
    return 1 if any(conflict.proven for conflict in found) else 0


@witness_app.command("compare")
@answering
def witness_compare(
    notes: Annotated[
        list[Path] | None, typer.Argument(metavar="[NOTE]...", help="Checkpoints or receipts collected elsewhere.")
    ] = None,
    url: Annotated[list[str] | None, typer.Option(metavar="URL", help="A witness to ask; may be repeated.")] = None,
    log: LogOption = None,
    trust: TrustOption = None,
    node_dir: Annotated[
        Path | None, typer.Option("--node", metavar="DIR", help="Compare with this node's own logs too.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the first proof here.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Compare what witnesses and others were shown of a log; two histories are proven by the log's own signatures."""
    from ledger.witness.compare import compare, note_in

    collected = [note_in(read_bounded(path, MAX_NOTE_FILE_BYTES)) for path in notes or ()]
    if node_dir is None:
        found = compare(_logs_of(log, trust), collected, url or ())
    else:
        with open_node(node_dir) as node:
            found = compare(_logs_of(log, trust), collected, url or (), node)
    if output is not None and found.splits:
        write_file(output, found.splits[0].serialize())
    if as_json:
        print_json(comparison_json(found))
    else:
        show_comparison(found)
    return 1 if found.splits else 2 if found.problems else 0


def comparison_json(found: Comparison) -> dict[str, Any]:
    """What a comparison found, as the command's JSON object or a part of it."""
    proofs = [json.loads(split.serialize()) for split in found.splits]
    return {"good": found.good, "checkpoints": found.checkpoints, "splits": proofs, "problems": found.problems}


def show_comparison(found: Comparison) -> None:
    """What a comparison found, in words."""
    for split in found.splits:
        say("SPLIT VIEW: the log's key signed both of these, and they are of two histories.")
        say(split.smaller.decode())
        say(split.larger.decode())
    for problem in found.problems:
        err.print(f"Not compared: {problem}", markup=False)
    if not found.splits:
        say(f"{counted(found.checkpoints, 'checkpoint')} compared: nothing contradicts.")


@witness_app.command("verify-split")
@answering
def witness_verify_split(
    proof: Annotated[Path, typer.Argument(metavar="FILE", help="What `witness compare --output` wrote.")],
    log: LogOption = None,
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a proof that a log has two histories."""
    from ledger.witness.split import MAX_PROOF_BYTES, SplitView

    origin = SplitView.parse(read_bounded(proof, MAX_PROOF_BYTES)).verify(_logs_of(log, trust))
    if as_json:
        print_json({"proven": True, "origin": origin})
    else:
        say(f"Proven: log {origin} has shown two histories; its own key signed both.")


MAX_NOTE_FILE_BYTES = 256 * 1024


def _logs_of(vkeys: list[str] | None, trust: Path | None) -> Logs:
    from ledger.formats.note import VerifierKey
    from ledger.formats.trust import MAX_TRUST_BYTES, Trust
    from ledger.witness.directory import logs_by_origin

    keys = [VerifierKey.parse(text) for text in vkeys or ()]
    if trust is not None:
        keys += [department.log.key for department in Trust.parse(read_bounded(trust, MAX_TRUST_BYTES)).departments]
    return logs_by_origin(keys)
