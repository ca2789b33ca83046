"""`yunxi audit`: everything recomputed, over nodes at hand or over the network; and the report of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import (
    HERE,
    JsonOption,
    answering,
    counted,
    err,
    numbers_table,
    open_node,
    print_json,
    print_table,
    progress_bar,
    read_bounded,
    say,
)
from cli.terminal import read_recipient
from cli.witness import comparison_json, show_comparison
from ledger.errors import Refusal

if TYPE_CHECKING:
    from ledger.audit import NodeAudit, Options
    from ledger.audit.node import Begin
    from ledger.audit.report import AuditReport
    from ledger.audit.state import NoState
    from ledger.formats.trust import Trust
    from ledger.node import Node
    from ledger.submission import Acknowledged

commands = typer.Typer()

_CAUSES_SHOWN = 10

NodesOption = Annotated[
    list[Path] | None,
    typer.Option("--node", envvar="YUNXI_NODE", metavar="DIR", help="The node directory; more than one are compared."),
]


@commands.command()
@answering
def audit(
    department: Annotated[str | None, typer.Option(help="Only this department's log.")] = None,
    skip_signatures: Annotated[bool, typer.Option(help="Trust the log for authorship; twice as fast.")] = False,
    sample: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Look at N entries of each log, drawn at random.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Look at every entry; the default.")] = False,
    seed: Annotated[int | None, typer.Option(help="Draw the sample of an earlier audit again.", min=0)] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Remember in FILE what was done, and go on from there.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="How many processes share the work.", min=1, max=256)] = 1,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write report.json and report.pdf, and seal them as a record.")
    ] = None,
    auditor: Annotated[
        str | None, typer.Option("--as", metavar="ID", help="The department whose log gets the report.")
    ] = None,
    remote: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Audit the logs that are served there, without content.")
    ] = None,
    token: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --remote: an auditor's bearer token, to read statements.")
    ] = None,
    witness: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Compare with what this witness was shown, too.")
    ] = None,
    recipient_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A department's recipient key: opens what its terminals sealed.")
    ] = None,
    trust: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A trust file from elsewhere, to hold node and chain against.")
    ] = None,
    node_dirs: NodesOption = None,
    as_json: JsonOption = False,
) -> int:
    """Recompute everything from what is stored and compare it with the chain, and with what witnesses were shown."""
    from ledger.audit import Options, audit_nodes
    from ledger.audit.report import FULL, REMOTE, SAMPLED
    from ledger.witness.compare import compare_node

    if sample is not None and (full or resume is not None):
        raise Refusal("a sample is neither --full nor resumed: it is drawn anew, or again with --seed")
    drawn = secrets.randbits(48) if seed is None else seed
    recipient = read_recipient(recipient_key) if recipient_key else None
    options = Options(not skip_signatures, sample, drawn, jobs, recipient, _read_trust(trust) if trust else None)
    begun_at = time.time()
    with ExitStack() as stack:
        nodes = [stack.enter_context(open_node(directory)) for directory in node_dirs or [HERE]]
        with _progress(shown=not as_json) as begin:
            if remote:
                found = _audit_remote(nodes[0], remote, department, token, auditor, options, begin, resume)
            else:
                states = _states(nodes, department, resume, options)
                found = audit_nodes(nodes, department, options=options, states=states, begin=begin)
                if sample is None:
                    add_projections(nodes, found)
            compared = compare_node(nodes[0], department, witness) if witness else None
        mode = REMOTE if remote else SAMPLED if sample else FULL
        reported = _report(nodes, found, auditor, begun_at, mode, options, report) if report else None
    value = _json(found, compared, reported, drawn if sample else None)
    if as_json:
        print_json(value)
    else:
        _show(found, drawn if sample else None)
        if compared is not None:
            show_comparison(compared)
        if reported is not None:
            say(f"The report is {reported[0].sha256[:16]}…, sealed as record {reported[1].record_id}; {report} has it.")
    if not found.good or (compared is not None and compared.splits):
        return 1
    return 0 if found.chain_problem is None and (compared is None or compared.good) else 2


@contextmanager
def _progress(*, shown: bool) -> Iterator[Begin]:
    with progress_bar(shown=shown) as progress:

        def begin(log: Any) -> Callable[[int], None]:
            task = progress.add_task(log.department, total=log.size)
            return lambda done: progress.advance(task, done)

        yield begin


def _read_trust(path: Path) -> Trust:
    from ledger.formats.trust import MAX_TRUST_BYTES, Trust

    return Trust.parse(read_bounded(path, MAX_TRUST_BYTES))


def add_projections(nodes: list[Node], found: NodeAudit) -> None:
    """Adds what the service's index of subjects does not say as the logs do."""
    from gateway.projections.check import check_projections
    from ledger.audit.findings import in_order

    reports = {log.department: log for log in found.logs}
    for node in nodes:
        for each in check_projections(node):
            report = reports.get(each.department) or found.logs[0]
            report.add("projection-differs", f"entry {each.index}", each.sentence, each.index)
    for report in found.logs:
        report.findings = in_order(report.findings)


def _states(nodes: list[Node], department: str | None, resume: Path | None, options: Options) -> list[NoState]:
    """A memory for each node: the file that was named, and for further nodes files beside it."""
    from ledger.audit.state import State

    if resume is None:
        return []
    common = {"department": department, "signatures": options.check_signatures, "recipient": bool(options.recipient)}
    paths = [resume, *(resume.with_name(f"{resume.name}-{n}") for n in range(2, len(nodes) + 1))]
    return [
        State(path, {**common, "consortium": node.settings.consortium, "departments": node.agent.departments()})
        for path, node in zip(paths, nodes, strict=True)
    ]


def _audit_remote(
    node: Node,
    urls: list[str],
    department: str | None,
    token: Path | None,
    auditor: str | None,
    options: Options,
    begin: Begin,
    resume: Path | None,
) -> NodeAudit:
    """Who asks is who holds the token, or else the auditing department; without either, hashes alone are read."""
    from ledger.audit.remote import audit_remote
    from ledger.audit.remote_state import RemoteStateFile

    bearer = token.read_text("ascii").strip() if token is not None else None
    signer = node.agent.request_signer(auditor) if auditor is not None else None
    common = {"consortium": node.settings.consortium, "urls": urls, "department": department}
    memory = RemoteStateFile(resume, common | {"reads": bearer is not None or signer is not None}) if resume else None
    return audit_remote(
        node,
        urls,
        department,
        bearer=bearer,
        signer=signer,
        asker=auditor,
        sample=options.sample,
        seed=options.seed,
        begin=begin,
        trust=options.trust,
        memory=memory,
    )


def _report(
    nodes: list[Node],
    found: NodeAudit,
    auditor: str | None,
    begun_at: float,
    mode: str,
    options: Options,
    directory: Path,
) -> tuple[AuditReport, Acknowledged]:
    from ledger.audit.report import SAMPLED, Circumstances, make_report, seal_report, write_pdf, write_report
    from ledger.errors import CouldNotRun

    node = nodes[0]
    hosted = node.agent.departments()
    chosen = auditor or (hosted[0] if len(hosted) == 1 else None)
    if chosen is None or chosen not in hosted:
        raise Refusal(f"name the department whose log gets the report with --as: {', '.join(hosted)}")
    seed = options.seed if mode == SAMPLED else None
    around = Circumstances(
        node.settings.consortium, chosen, begun_at, node.clock(), mode, seed, options.check_signatures
    )
    made = make_report(found, around)
    try:
        pdf = write_pdf(made)
    except CouldNotRun as error:
        pdf = None
        err.print(f"No PDF was made: {error}", markup=False)
    sealed = seal_report(node.intake, made, pdf)
    # Die here: the record is sealed and the files are its attachments; `yunxi show` gives them.
    write_report(directory, made, pdf)
    with node.database.reading() as connection:
        presentation = node.reader.present(connection, sealed.record_id, None)
    (directory / "report.sd-jwt").write_bytes(presentation)
    return made, sealed


def _json(found: NodeAudit, compared: Any, reported: tuple[AuditReport, Acknowledged] | None, seed: int | None) -> Any:
    first = found.first()
    value = {
        "good": found.good and found.chain_problem is None and (compared is None or compared.good),
        "first": asdict(first) if first else None,
        "causes": [{**asdict(cause.first), "consequences": dict(cause.consequences)} for cause in found.causes()],
        "chain_problem": found.chain_problem,
        # asdict turns a Counter into a count of pairs
        "logs": [{**asdict(log), "counts": dict(log.counts), "good": log.good} for log in found.logs],
        "witnesses": None if compared is None else comparison_json(compared),
    }
    if seed is not None:
        value["seed"] = seed
    if reported is not None:
        value["report"] = {"sha256": reported[0].sha256, "record_id": reported[1].record_id}
    return value


def _show(found: NodeAudit, seed: int | None) -> None:
    table = numbers_table("department", "records", "payloads", "attached", "forgotten", "anchors", "findings")
    for log in found.logs:
        numbers = (log.records, log.payloads, log.attachments, log.forgotten, log.anchors, log.counts.total())
        table.add_row(log.department, *(f"{number:,}" for number in numbers))
    print_table(table)
    _show_causes(found)
    elsewhere = sum(log.sealed_elsewhere for log in found.logs)
    if elsewhere:
        say(f"{counted(elsewhere, 'record')} sealed by terminals for their departments, not opened here.")
    for notice in (notice for log in found.logs for notice in log.notices):
        say(f"Notice, {notice.department}, {notice.where}: {notice.sentence}.")
    if seed is not None:
        drawn = sum(log.sampled or 0 for log in found.logs)
        say(f"A sample: {drawn:,} entries drawn with --seed {seed}; the others were not looked at.")
    if found.chain_problem:
        err.print(f"The chain could not be asked, so nothing was compared with it: {found.chain_problem}", markup=False)
    elif found.good and seed is None:
        say("Everything fits: every leaf, tile, root and payload was recomputed, and the chain holds the same roots.")


def _show_causes(found: NodeAudit) -> None:
    first = found.first()
    if first is None:
        return
    say(f"First finding, {first.department}, {first.where}: {first.sentence}.")
    for cause in found.causes()[:_CAUSES_SHOWN]:
        at = cause.first
        follows = f"; {counted(cause.consequences.total(), 'consequence')}" if cause.consequences else ""
        say(f"  {at.severity} {at.kind}, {at.department}, {at.where}: {at.sentence}{follows}")
    for kind, count in sum((log.counts for log in found.logs), type(found.logs[0].counts)()).items():
        say(f"  {count:,} x {kind}")
    say("Begin with the first cause, and change nothing on the node: what lies there is evidence. Keep a copy of it.")
