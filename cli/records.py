"""`yunxi seal`, `records`, `show`, `receipt`, `evidence` and `present`: one record at a time."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import (
    HERE,
    JsonOption,
    NodeOption,
    anchor_json,
    answering,
    local_time,
    open_node,
    print_json,
    read_bounded,
    say,
    show_anchors,
    write_file,
    write_pieces,
)
from ledger.errors import CouldNotRun, RecordRefused

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ledger.anchor import Outcome
    from ledger.node import Node
    from ledger.submission import Acknowledged

commands = typer.Typer()

RecordArgument = Annotated[str, typer.Argument(metavar="RECORD_ID", help="The record's id, a UUID.")]
DiscloseOption = Annotated[
    list[str] | None, typer.Option("--disclose", metavar="UNIT", help="Show this unit only; may be repeated.")
]
AttachmentsOption = Annotated[
    Path | None,
    typer.Option("--attachments", metavar="DIR", help="Also write the attachments that are shown into this directory."),
]


@commands.command()
@answering
def seal(
    record: Annotated[Path, typer.Argument(metavar="RECORD.json", help="A record; - reads standard input.")],
    attach: Annotated[list[Path] | None, typer.Option(help="A file to seal with it; may be given again.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key; by default made from the file's content.")] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Seal one record. The same file sealed again gives the same record."""
    from ledger.formats.strictjson import loads_object
    from ledger.record_types import MAX_RECORD_BYTES
    from ledger.submission import AttachmentSource, Refused, Submission

    data = read_bounded(record, MAX_RECORD_BYTES, "record", "move bulk into attachments")
    content = loads_object(data, what=f"record {record}", max_bytes=MAX_RECORD_BYTES)
    sources = tuple(AttachmentSource(path, path.name, media_type_of(path)) for path in attach or ())
    own_key = f"file/{hashlib.sha256(data).hexdigest()}"
    submission = Submission(own_key if key is None else key, content, sources)
    with open_node(node_dir) as node:
        department = department_of(node, content)
        outcome = node.intake.submit(department, [submission])[0]
        if isinstance(outcome, Refused):
            raise type(outcome.error)(outcome.error.reason, f"{record}: {outcome.error}")
        from ledger.anchor import Anchorer  # brings the chain's client, which a refusal need not wait for

        outcomes = [o for o in Anchorer(node).round() if o.department == department]
    if as_json:
        anchored = [anchor_json(o) for o in outcomes]
        print_json({**asdict(outcome), "department": department, "anchor": anchored[0] if anchored else None})
    else:
        _show_sealed(outcome, department, outcomes)
    return 0


def _show_sealed(outcome: Acknowledged, department: str, outcomes: list[Outcome]) -> None:
    verb = "Sealed" if outcome.new else "Known already:"
    say(f"{verb} record {outcome.record_id}, entry {outcome.index:,} of the log of {department}.")
    show_anchors(outcomes)


def department_of(node: Node, content: dict[str, Any]) -> str:
    """The department that a record names, or the node's only one. Raises CouldNotRun, RecordRefused."""
    from ledger.store.reading import read_logs

    department = content.get("department")
    with node.database.reading() as connection:
        known = [log.department for log in read_logs(connection)]
    if department is None and len(known) == 1:
        return known[0]
    if not known:
        raise CouldNotRun("this node has no department yet: run `yunxi department add`")
    if not isinstance(department, str):
        raise RecordRefused("department", f"the record must name its `department`; this node has: {', '.join(known)}")
    return department


def media_type_of(path: Path) -> str:
    """The media type by the file's suffix."""
    import mimetypes

    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"


@commands.command()
@answering
def records(
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help="An idempotency key; of a feed's row it is MAPPING/ROW-KEY.")
    ] = None,
    department: Annotated[str | None, typer.Option(help="Only this department's.")] = None,
    limit: Annotated[int, typer.Option(help="How many at the most.", min=1, max=10_000)] = 20,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List records and their ids, newest first, or find the one with a key."""
    from ledger.listing import list_records

    with open_node(node_dir) as node, node.database.reading() as connection:
        found = list_records(connection, department, key, limit)
    if as_json:
        print_json({"records": [asdict(record) for record in found]})
        return
    for record in found:
        say(f"{record.record_id}  {record.department}  {local_time(record.sealed_at)}  {record.key}")
    if not found:
        say("No such record on this node.")


@commands.command()
@answering
def show(record_id: RecordArgument, node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """Show a record of this node in plain text, after checking it against its statement."""
    with open_node(node_dir) as node, node.database.reading() as connection:
        if _show_destroyed(node, connection, record_id, as_json=as_json):
            return
        presentation = node.reader.open(connection, record_id)
    record, statement = presentation.record(), presentation.statement
    if as_json:
        print_json({"record": record, "sealed_at": statement.issued_at, "kid": statement.kid})
        return
    say(f"Record {record_id}, sealed {local_time(statement.issued_at)} by {statement.issuer} (key {statement.kid})")
    say(json.dumps(record, ensure_ascii=False, indent=2))


def _show_destroyed(node: Node, connection: Connection, record_id: str, *, as_json: bool) -> bool:
    """Whether the record was forgotten; if so, says when, why and by which record."""
    from ledger.forgetting import find_destruction
    from ledger.store.reading import find_entry

    destroyed = find_destruction(connection, find_entry(connection, record_id))
    if destroyed is None:
        return False
    certificate = node.reader.open(connection, destroyed.by_record).record()
    if as_json:
        print_json({"record": None, "destroyed": certificate})
        return True
    say(f"Record {record_id} was destroyed {local_time(destroyed.at)}: {certificate['basis']}")
    say(f"Reason: {certificate['reason_kind']}. The certificate is record {destroyed.by_record}; its proof stays.")
    return True


@commands.command()
@answering
def receipt(
    record_id: RecordArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it (.tlog-proof).")],
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write a record's receipt: the proof that it is in the log, for anyone to check offline."""
    from ledger.receipts import make_receipt

    with open_node(node_dir) as node, node.database.writing() as connection:
        proof = make_receipt(connection, node.agent, record_id, int(node.clock()), node.settings.policy)
    write_file(output, proof.serialize())
    if as_json:
        print_json({"record_id": record_id, "file": output, "index": proof.index, "anchored": proof.extra is not None})
    else:
        say(
            f"Wrote {output}."
            if proof.extra
            else f"Wrote {output}; the record is not anchored yet, fetch it again later."
        )


@commands.command()
@answering
def evidence(
    record_id: RecordArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it (.anchor.json).")],
    seals: Annotated[
        int | None,
        typer.Option(metavar="K", min=1, help="How many different validators must have sealed."),
    ] = None,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write the chain's own proof of a record's anchor: blocks, validators' seals, event; to be checked offline."""
    from ledger.anchor_evidence import make_evidence

    with open_node(node_dir) as node:
        made = make_evidence(node, record_id, seals)
    write_file(output, made.serialize())
    if as_json:
        print_json({"record_id": record_id, "file": output, "size": made.claim.size, "headers": len(made.headers)})
    else:
        say(f"Wrote {output}: the log at {made.claim.size:,} entries, proven by {len(made.headers):,} sealed blocks.")


@commands.command()
@answering
def present(
    record_id: RecordArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it (.sd-jwt).")],
    disclose: DiscloseOption = None,
    attachments: AttachmentsOption = None,
    bare: Annotated[
        bool, typer.Option("--bare", help="Show no unit: the statement alone, also of what was forgotten.")
    ] = False,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write a record for a reader: whole, or only the units named with --disclose."""
    if bare and (disclose or attachments):
        raise CouldNotRun("--bare shows nothing: leave out --disclose and --attachments")
    with open_node(node_dir) as node, node.database.reading() as connection:
        shown = (
            node.reader.bare(connection, record_id) if bare else node.reader.present(connection, record_id, disclose)
        )
        write_file(output, shown)
        files = _write_attachments(node, connection, record_id, disclose, attachments) if attachments else []
    if as_json:
        print_json(
            {
                "record_id": record_id,
                "file": output,
                "disclosed": [] if bare else disclose or "all",
                "attachments": files,
            }
        )
    else:
        say(f"Wrote {output}, showing {'nothing' if bare else ', '.join(disclose) if disclose else 'everything'}.")
        for file in files:
            say(f"Wrote {file}.")


def _write_attachments(
    node: Node, connection: Connection, record_id: str, disclose: list[str] | None, directory: Path
) -> list[Path]:
    shown = [d for d in node.reader.open(connection, record_id).disclosures if not disclose or d.unit in disclose]
    written = []
    for number, content in ((d.unit.removeprefix("attachment-"), d.members) for d in shown):
        if number.isdigit():
            # the name is the sender's: only its last part is taken, behind a number that keeps two of a name apart
            path = directory / f"{number}-{Path(content['name']).name}"
            write_pieces(path, node.reader.attachment(connection, record_id, int(number)))
            written.append(path)
    return written
