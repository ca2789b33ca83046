"""`yunxi department request`, `admit`, `finish` and `url`, and `yunxi chain`: several nodes, one consortium."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.frame import (
    HERE,
    JsonOption,
    NodeOption,
    answering,
    counted,
    err,
    local_time,
    open_node,
    print_json,
    read_bounded,
    say,
    write_file,
)
from cli.node import department_app
from ledger.errors import CouldNotRun

chain_app = typer.Typer(help="The node's own embedded chain, for trying out several nodes.", no_args_is_help=True)

DepartmentArgument = Annotated[str, typer.Argument(metavar="ID", help="A department of this node.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it.")]


@department_app.command("request")
@answering
def department_request(
    department: Annotated[str, typer.Argument(metavar="ID", help="Short id: a-z, 0-9 and -.")],
    name: Annotated[str, typer.Option(help="What people call it, as `中文` or `中文 | English`.")],
    url: Annotated[str, typer.Option(help="Where this node answers the others, like https://fire.example.")],
    output: OutputOption,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Ask the consortium to admit a department of this node: draws its keys, writes a request file."""
    from ledger.joining import fingerprint, make_request

    with open_node(node_dir) as node:
        request = make_request(node, department, name, url)
    write_file(output, request)
    if as_json:
        print_json({"department": department, "request": output, "fingerprint": fingerprint(request)})
        return
    say(f"Wrote {output}. Give it to a member's node, and read its fingerprint to them: {fingerprint(request)}")
    say(f"They run: yunxi department admit {output.name} -o admission.json")


@department_app.command("admit")
@answering
def department_admit(
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="What `yunxi department request` wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the answer.")] = Path(
        "admission.json"
    ),
    speaker: Annotated[
        str | None, typer.Option("--as", metavar="DEPARTMENT", help="Who proposes it, once set-up is closed.")
    ] = None,
    days: Annotated[int, typer.Option(help="How long a proposal stays open.", min=1, max=30)] = 7,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Admit a department of another node, or propose it to the members. Safe to run again."""
    from ledger.joining import MAX_FILE_BYTES, admit

    with open_node(node_dir) as node:
        found = admit(node, read_bounded(request, MAX_FILE_BYTES), speaker, days)
    asked = found.request
    if found.answer is not None:
        write_file(output, found.answer)
    if as_json:
        number = found.motion.number if found.motion else None
        written = output if found.answer is not None else None
        names = {"department": asked.department, "fingerprint": asked.fingerprint}
        print_json({**names, "admitted": found.motion is None, "proposal": number, "admission": written})
        return
    say(f"Department {asked.department} ({asked.name}) at {asked.url}, fingerprint {asked.fingerprint}.")
    if found.motion is None:
        say(f"It is admitted. Give {output} to its node, and let it run:")
        say(f"yunxi department finish {asked.department} {output.name}")
        return
    motion = found.motion
    say(
        f"Proposal {motion.number}, open until {local_time(motion.expires_at)}: {counted(motion.votes, 'vote')} so far."
    )
    say(f"Next: yunxi consortium approve {motion.number} --as DEPARTMENT, then execute, then this command again.")


@department_app.command("finish")
@answering
def department_finish(
    department: DepartmentArgument,
    admission: Annotated[
        Path | None,
        typer.Argument(metavar="[ADMISSION]", help="What `yunxi department admit` wrote; once a node is enough."),
    ] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Complete a department that was admitted: index key, registry keys, log. Safe to run again."""
    from ledger.joining import MAX_FILE_BYTES, finish

    answer = None if admission is None else read_bounded(admission, MAX_FILE_BYTES)
    with open_node(node_dir) as node:
        origin = finish(node, department, answer)
    if as_json:
        print_json({"department": department, "origin": origin})
    else:
        say(f"Department {department} is a member; its log is {origin}.")


@department_app.command("url")
@answering
def department_url(
    department: Annotated[str, typer.Argument(metavar="ID", help="A department; of this node once set-up is closed.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Where its node answers, like https://fire.example.")],
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write on the chain where a department's node answers the others."""
    from ledger.governance import set_node_url

    with open_node(node_dir) as node:
        set_node_url(node, department, url)
    if as_json:
        print_json({"department": department, "url": url})
    else:
        say(f"The node of {department} answers at {url}; the chain says so.")


@chain_app.command("url")
@answering
def chain_url_command(node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """Print the JSON-RPC address of the node's chain; starts the embedded one if it does not run."""
    from ledger.node import chain_url
    from ledger.settings import Settings

    settings = Settings.load(node_dir)
    url = chain_url(node_dir, settings.chain)
    if as_json:
        print_json({"url": url, "id": settings.chain.id, "consortium": settings.chain.consortium})
    else:
        say(url)


@chain_app.command("serve")
@answering
def chain_serve(
    port: Annotated[int, typer.Option(help="By default the port it had before.", min=0, max=65535)] = 0,
    node_dir: NodeOption = HERE,
) -> None:
    """Serve the node's embedded chain at one address until interrupted, for other nodes on this machine."""
    from ledger.chain import embedded
    from ledger.chain.embedded.daemon import serve
    from ledger.chain.embedded.directory import DaemonState
    from ledger.settings import Settings

    if Settings.load(node_dir).chain.url:
        raise CouldNotRun("this node's chain is another process's: only an embedded chain is served from here")
    directory = node_dir.absolute() / "chain"
    embedded.stop(directory)
    err.print(f"Warning: {embedded.WARNING}", style="yellow", markup=False)

    def ready(state: DaemonState) -> None:
        say(f"The chain answers at {state.url}")
        sys.stdout.flush()

    serve(directory, port, float("inf"), ready)
