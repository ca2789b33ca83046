"""`yunxi terminal`: sealing at a department's own devices; enrolling and revoking them; opening what they sealed."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import (
    HERE,
    JsonOption,
    NodeOption,
    age,
    answering,
    ask_secret,
    counted,
    err,
    local_time,
    numbers_table,
    open_node,
    print_json,
    print_table,
    read_bounded,
    say,
    write_file,
    write_pieces,
)
from cli.records import AttachmentsOption, DiscloseOption, RecordArgument, media_type_of
from ledger.errors import CouldNotRun, Refusal

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from adapters.terminal import Terminal
    from adapters.terminal_outbox import Submitted
    from adapters.terminal_transport import Transport
    from ledger.delays import Delays
    from ledger.node import Node

terminal_app = typer.Typer(
    help="Sealing at a department's own devices.\n\n"
    "Once: the department makes its `recipient` key; then `create` on the terminal, `enroll` at the node, `accept` and "
    "`officer` on the terminal. After that `seal` and `submit`. See docs/terminals.md.",
    no_args_is_help=True,
)
recipient_app = typer.Typer(help="The key that terminals seal to; no node has it.", no_args_is_help=True)
terminal_app.add_typer(recipient_app, name="recipient")

RECIPIENT_VARIABLE = "YUNXI_RECIPIENT_PASSPHRASE"
CODE_VARIABLE = "YUNXI_TERMINAL_CODE"

TerminalOption = Annotated[
    Path,
    typer.Option(
        "--terminal", envvar="YUNXI_TERMINAL", metavar="DIR", help="The terminal's directory.", show_default="here"
    ),
]
DepartmentOption = Annotated[str, typer.Option(metavar="ID", help="The department's id.")]
KeyOption = Annotated[Path, typer.Option("--key", metavar="FILE", help="The department's recipient key.")]


@recipient_app.command("create")
@answering
def recipient_create(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the key; FILE.pub beside it.")
    ],
    department: DepartmentOption,
    as_json: JsonOption = False,
) -> None:
    """Make a department's recipient key. Keep it off every node, and keep a copy: nothing else opens the records."""
    from ledger.enrolment import recipient_file
    from ledger.formats.jwk import kid_of
    from ledger.sealed_open import create_recipient

    public = output.with_name(output.name + ".pub")
    key = create_recipient(output, department, ask_secret(RECIPIENT_VARIABLE, "Passphrase of the new recipient key"))
    write_file(public, recipient_file(department, key.public_key()))
    if as_json:
        print_json({"department": department, "kid": kid_of(key.public_key()), "file": output, "public": public})
        return
    say(f"Wrote {output} and {public}. Keep {output} where no node is, and a copy of it in a safe;")
    say(f"without it and its passphrase nobody ever opens what is sealed to it. Nodes are given {public}.")


@terminal_app.command("create")
@answering
def create(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory on the terminal.")],
    department: DepartmentOption,
    name: Annotated[str, typer.Option(help="The device's name or number: a-z, 0-9 and -.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the request.")],
    as_json: JsonOption = False,
) -> None:
    """On the terminal: make its keys, and a request for its node to enrol it."""
    from adapters.terminal import Terminal

    request, code = Terminal.create(directory, department, name)
    write_file(output, request)
    if as_json:
        print_json({"terminal": directory, "request": output, "code": code})
        return
    say(f"Made terminal {name} in {directory}. Take {output} to the node, and tell its operator this code, by voice:")
    say(f"  {code}")
    if (directory / "passphrase").exists():
        words = f"Warning: the keys' passphrase lies beside them in {directory / 'passphrase'}; "
        err.print(words + "in production set YUNXI_PASSPHRASE instead and delete it.", style="yellow", markup=False)
    say(f"Next, at the node: yunxi terminal enroll {output} --recipient FILE.pub -o enrolment.json")


@terminal_app.command("enroll")
@answering
def enroll(
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="What `terminal create` wrote.")],
    recipient: Annotated[Path, typer.Option(metavar="FILE.pub", help="The department's recipient key, public half.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the enrolment.")],
    url: Annotated[
        str, typer.Option(help="The node's address, as the terminal reaches it from where it is.")
    ] = "http://127.0.0.1:8700",
    offline_days: Annotated[int, typer.Option(help="How many days old a record may come in.", min=1, max=365)] = 30,
    code: Annotated[str | None, typer.Option(help=f"The terminal's code; else {CODE_VARIABLE}, or asked for.")] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """At the node: register a terminal's key on the chain and write its enrolment. Safe to run again."""
    from ledger.enrolment import MAX_FILE_BYTES, Request, parse_recipient
    from ledger.terminals import enrol

    told = code or ask_secret(CODE_VARIABLE, "The code that the terminal showed")
    asked = Request.parse(read_bounded(request, MAX_FILE_BYTES), told)
    public = parse_recipient(read_bounded(recipient, MAX_FILE_BYTES), asked.department)
    with open_node(node_dir) as node:
        write_file(output, enrol(node, asked, told, public, url, offline_days))
    if as_json:
        print_json({"department": asked.department, "name": asked.name, "file": output})
        return
    say(f"Terminal {asked.name} of {asked.department} is enrolled. Verifiers need a new trust file.")
    say(f"Next, at the terminal: yunxi terminal accept {output} --terminal DIR")


@terminal_app.command("accept")
@answering
def accept(
    enrolment: Annotated[Path, typer.Argument(metavar="ENROLMENT", help="What `terminal enroll` wrote.")],
    terminal_dir: TerminalOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """On the terminal: take the enrolment of its node."""
    from ledger.enrolment import MAX_FILE_BYTES

    with _terminal(terminal_dir) as terminal:
        found = terminal.accept(read_bounded(enrolment, MAX_FILE_BYTES))
    if as_json:
        print_json({"department": found.department, "name": found.name, "node": found.node_url})
    else:
        say(f"Enrolled as {found.name} of {found.department}, at {found.node_url}.")


@terminal_app.command("officer")
@answering
def officer(
    officer_id: Annotated[str, typer.Argument(metavar="ID", help="The officer's certificate number.")],
    name: Annotated[str, typer.Option(help="The officer's name.")],
    terminal_dir: TerminalOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """On the terminal: let an officer confirm with a PIN of their own, which is asked for."""
    with _terminal(terminal_dir) as terminal:
        terminal.officers.add(officer_id, name, ask_secret(None, f"New PIN of {officer_id}"))
        known = terminal.officers.names()
    if as_json:
        print_json({"officers": known})
    else:
        say(f"{counted(len(known), 'officer')} can confirm at this terminal.")


@terminal_app.command("seal")
@answering
def seal(
    record: Annotated[Path, typer.Argument(metavar="RECORD.json", help="A record; - reads standard input.")],
    attach: Annotated[list[Path] | None, typer.Option(help="A file to seal with it; may be given again.")] = None,
    media: Annotated[
        Path | None,
        typer.Option(help="A photo or video: its facts and a thumbnail are sealed with it, as media.captured."),
    ] = None,
    confirm: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="An officer who confirms; the PIN is asked for.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key; by default made from the file's content.")] = None,
    captured_at: Annotated[str | None, typer.Option(help="When it was captured, RFC 3339.")] = None,
    operator: Annotated[str | None, typer.Option(help="Who operates the device, if nobody confirms.")] = None,
    terminal_dir: TerminalOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """On the terminal: seal a record for the department, and queue it. Needs no network."""
    from ledger.formats.strictjson import loads_object
    from ledger.record_types import MAX_RECORD_BYTES
    from ledger.submission import AttachmentSource

    data = read_bounded(record, MAX_RECORD_BYTES)
    content = loads_object(data, what=f"record {record}", max_bytes=MAX_RECORD_BYTES)
    files = tuple(AttachmentSource(path, path.name, media_type_of(path)) for path in attach or ())
    digest = hashlib.sha256(data)
    with _terminal(terminal_dir) as terminal:
        if media is not None:
            from adapters.media_records import capture_submission

            # one record file may go with many photos, each a record of its own
            with media.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
            captured = capture_submission("", content, media)
            content, files = captured.record, (*captured.attachments, *files)
        sealed = terminal.seal(
            content,
            files,
            key=key or f"file/{digest.hexdigest()}",
            captured_at=captured_at,
            operator=operator,
            confirm={officer_id: ask_secret(None, f"PIN of {officer_id}") for officer_id in confirm or ()},
        )
        waiting = terminal.status().waiting
    if as_json:
        print_json(asdict(sealed) | {"waiting": waiting})
        return
    verb = "Sealed" if sealed.new else "Sealed before:"
    say(f"{verb} record {sealed.record_id}; {counted(waiting, 'record')} waiting to be submitted.")


@terminal_app.command("submit")
@answering
def submit(
    follow: Annotated[bool, typer.Option("--follow", help="Go on until interrupted.")] = False,
    again: Annotated[
        str | None,
        typer.Option(metavar="refused|acknowledged", help="First put these back to waiting, after a fix or a restore."),
    ] = None,
    node_dir: Annotated[
        Path | None, typer.Option("--node", metavar="DIR", help="A node on this machine, instead of its address.")
    ] = None,
    terminal_dir: TerminalOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """On the terminal: submit what waits to the node."""
    if again not in (None, "refused", "acknowledged"):
        raise Refusal("--again takes `refused` or `acknowledged`")
    with _terminal(terminal_dir) as terminal:
        if again is not None:
            terminal.outbox.again(again)
        if node_dir is not None:
            with open_node(node_dir) as node:
                return _submit(terminal, _direct(node, terminal), follow=follow, as_json=as_json)
        return _submit(terminal, _http(terminal), follow=follow, as_json=as_json)


def _submit(terminal: Terminal, transport: Transport, *, follow: bool, as_json: bool) -> int:
    if follow:
        terminal.outbox.follow(transport, threading.Event(), _show_submitted)
    result = terminal.outbox.submit(transport)
    refused = [asdict(item) | {"mark": None} for item in terminal.status().refused]
    if as_json:
        problem = {"code": result.problem.code, "message": str(result.problem)} if result.problem else None
        numbers = {"acknowledged": result.acknowledged, "refused": result.refused, "waiting": result.waiting}
        print_json({**numbers, "problem": problem, "kept_refused": refused})
    else:
        _show_submitted(result)
    if result.refused:
        return 1
    return 2 if result.problem else 0


def _show_submitted(result: Submitted) -> None:
    if result.acknowledged or result.refused or result.problem:
        say(
            f"{counted(result.acknowledged, 'record')} acknowledged, {result.refused:,} refused, "
            f"{result.waiting:,} waiting."
        )
    if result.problem:
        err.print(f"They stay and are submitted again: {result.problem}", markup=False)


@terminal_app.command("status")
@answering
def status(terminal_dir: TerminalOption = HERE, as_json: JsonOption = False) -> int:
    """On the terminal: show what waits, what was refused and why, and how right the clock is."""
    with _terminal(terminal_dir) as terminal:
        found = terminal.status()
    if as_json:
        print_json(asdict(found) | {"refused": [asdict(item) | {"mark": None} for item in found.refused]})
        return 1 if found.refused else 0
    say(f"Terminal {found.name} of {found.department} ({'enrolled' if found.enrolled else 'not enrolled yet'}).")
    waiting = f", the oldest for {age(time.time() - found.oldest_waiting)}" if found.oldest_waiting else ""
    say(f"{counted(found.waiting, 'record')} waiting{waiting}; {found.acknowledged:,} acknowledged.")
    if found.clock.offset_ms is None:
        say("How right the clock is, is not known; it is compared with the node's at every submission.")
    else:
        say(f"The clock is {found.clock.offset_ms / 1000:+.3f} s off its node's, ±{found.clock.error_ms} ms.")
    for item in found.refused:
        err.print(f"Refused, {item.record_id}: {item.detail} ({item.reason})", style="red", markup=False)
    return 1 if found.refused else 0


@terminal_app.command("list")
@answering
def list_terminals(node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """At the node: list its terminals."""
    from ledger.terminals import read_terminals

    with open_node(node_dir) as node, node.database.reading() as connection:
        found = read_terminals(connection)
    if as_json:
        shown = [
            {
                "department": t.department,
                "name": t.name,
                "kid": t.kid,
                "since": t.valid_from,
                "revoked_at": t.revoked_at,
            }
            for t in found
        ]
        print_json({"terminals": shown})
        return
    table = numbers_table("terminal", "department", "since", "revoked")
    for terminal in found:
        revoked = local_time(terminal.revoked_at) if terminal.revoked_at else "-"
        table.add_row(terminal.name, terminal.department, local_time(terminal.valid_from), revoked)
    print_table(table)


@terminal_app.command("revoke")
@answering
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The terminal's name.")],
    department: DepartmentOption,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """At the node: take nothing more from a terminal, and close its key on the chain. Safe to run again."""
    from ledger.terminals import revoke as revoke_terminal

    with open_node(node_dir) as node:
        found = revoke_terminal(node, department, name)
    if as_json:
        print_json({"department": department, "name": name, "revoked_at": found.revoked_at})
    else:
        say(f"Terminal {name} of {department} is revoked. Give verifiers a new trust file.")


@terminal_app.command("export")
@answering
def export(
    record_id: RecordArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it.")],
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """At the node: write a sealed record, unopened, for its department to open elsewhere."""
    with open_node(node_dir) as node:
        _export(node, record_id, output)
    if as_json:
        print_json({"record_id": record_id, "file": output})
    else:
        say(f"Wrote {output}. The department opens it with: yunxi terminal open {output} --key FILE")


@terminal_app.command("open")
@answering
def open_record(
    record: Annotated[str, typer.Argument(metavar="FILE|RECORD_ID", help="An exported record, or one of --node.")],
    key: KeyOption,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it (.sd-jwt).")],
    disclose: DiscloseOption = None,
    attachments: AttachmentsOption = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """At the department: open what a terminal sealed, whole or only the units named with --disclose."""
    recipient = read_recipient(key)
    with tempfile.TemporaryDirectory() as held:
        file = Path(record)
        if not file.is_file():
            file = Path(held) / "record"
            with open_node(node_dir) as node:
                _export(node, record, file)
        record_id, files = _open(file, recipient, output, disclose, attachments)
    if as_json:
        print_json({"record_id": record_id, "file": output, "disclosed": disclose or "all", "attachments": files})
        return
    say(f"Wrote {output}, showing {', '.join(disclose) if disclose else 'everything'}.")
    for written in files:
        say(f"Wrote {written}.")


def _open(
    file: Path, recipient: X25519PrivateKey, output: Path, disclose: list[str] | None, directory: Path | None
) -> tuple[str, list[Path]]:
    from ledger.sealed_open import open_sealed

    opened = open_sealed(file, recipient)
    write_file(output, opened.present(disclose))
    written = []
    for shown in opened.presentation.disclosures if directory else ():
        number = shown.unit.removeprefix("attachment-")
        if number.isdigit() and (not disclose or shown.unit in disclose):
            assert directory is not None
            # the name is the sender's: only its last part is taken, behind a number that keeps two of a name apart
            path = directory / f"{number}-{Path(shown.members['name']).name}"
            write_pieces(path, opened.attachment(int(number)))
            written.append(path)
    return opened.presentation.statement.record_id, written


@terminal_app.command("delays")
@answering
def delays(
    record_id: RecordArgument,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The department's recipient key, to see all of it.")
    ] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show when a record was captured, sealed, acknowledged and anchored, and by whose clock."""
    from ledger.delays import read_delays
    from ledger.keks import KekRing
    from ledger.records import RecordReader

    recipient = read_recipient(key) if key else None
    with open_node(node_dir) as node, node.database.reading() as connection:
        found = read_delays(connection, RecordReader(KekRing(node.agent, recipient), node.blobs), record_id)
    if as_json:
        print_json(asdict(found))
    else:
        _show_delays(found)


def _show_delays(found: Delays) -> None:
    table = numbers_table("", "when", "after", "by the clock of")
    before: float | None = None
    for name, moment, clock in (
        ("captured", found.captured_at, "the device"),
        ("sealed", found.sealed_at, "the sealing machine"),
        ("acknowledged", found.acknowledged_at, "the node"),
        ("anchored", found.anchored_at, "the chain"),
    ):
        after = f"{moment - before:+,.1f} s" if moment is not None and before is not None else "-"
        unknown = "not yet" if name == "anchored" else "not said" if found.opened else "sealed"
        table.add_row(name, local_time(moment) if moment is not None else unknown, after, clock)
        before = moment if moment is not None else before
    print_table(table)
    capture: dict[str, Any] = found.capture or {}
    if capture.get("clock") == "measured":
        ahead, give = capture["clock_offset_ms"] / 1000, capture["clock_error_ms"] / 1000
        say(
            f"The device's clock was {ahead:+.3f} s off the node's, ±{give:.3f} s, as compared "
            f"{capture['clock_age_s']:,} s before sealing."
        )
    elif capture:
        say("How right the device's clock was is not known.")
    if not found.opened:
        say("A terminal sealed it for its department: --key shows what the terminal says.")


# ---- what several commands need ----------------------------------------------------------------------------------


@contextmanager
def _terminal(directory: Path) -> Iterator[Terminal]:
    """An open terminal, closed at the end."""
    from adapters.terminal import Terminal

    opened = Terminal.open(directory)
    try:
        yield opened
    finally:
        opened.close()


def _direct(node: Node, terminal: Terminal) -> Transport:
    from adapters.terminal_transport import Direct
    from ledger.sealed_intake import SealedIntake

    return Direct(SealedIntake.of(node), node.uploads, terminal.status().department, node.clock)


def _http(terminal: Terminal) -> Transport:
    from adapters.terminal_transport import Http

    url = terminal.status().node_url
    if url is None:
        raise CouldNotRun("this terminal is not enrolled yet: run `yunxi terminal accept` with its node's file")
    return Http(url, terminal.request_signer)


def _export(node: Node, record_id: str, path: Path) -> None:
    from ledger.sealed_open import export_sealed

    with node.database.reading() as connection:
        export_sealed(connection, node.keks, node.blobs, record_id, path)


def read_recipient(path: Path) -> X25519PrivateKey:
    """A department's recipient key; its passphrase is asked for. Raises CouldNotRun."""
    from ledger.sealed_open import open_recipient

    return open_recipient(path, ask_secret(RECIPIENT_VARIABLE, f"Passphrase of {path}"))
