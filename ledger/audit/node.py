"""The audit of a node: every log of it, in this process or in several, and what stands beside the logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import zip_longest

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlalchemy import Connection

from ledger.audit.bench import Bench
from ledger.audit.beside import check_beside, check_orphans
from ledger.audit.chain import ChainRoots, LogKeys, WitnessKey
from ledger.audit.exchanges import Speaking, check_exchanges
from ledger.audit.findings import Cause, Finding, LogReport, causes_of, in_order
from ledger.audit.logs import Whole, reach, stretches_of
from ledger.audit.sample import sample_log
from ledger.audit.state import NoState
from ledger.audit.stretch import StretchAudit
from ledger.audit.trusted import check_trust
from ledger.audit.workers import Job, Workers
from ledger.chain.contracts import SHARING_GRANTS, department_bytes
from ledger.chain.sharing_grants import SharingGrantsContract
from ledger.disclosures import Grant
from ledger.errors import HistoryRefused, Refusal, YunxiError
from ledger.feeds import FeedSummary, check_feeds
from ledger.formats.trust import Trust
from ledger.keks import KekRing
from ledger.node import ChainLink, Node
from ledger.records import RecordReader
from ledger.store.reading import LogRow, read_logs
from ledger.terminals import statement_keys

Begin = Callable[[LogRow], Callable[[int], None]]
"""Told each log, gives what is told how many of its entries were done."""


@dataclass(frozen=True, slots=True)
class NodeAudit:
    """The audit of a node. `chain_problem` says why the chain could not be asked; then nothing is proven against it.
    `exchanges`: by department, where its log speaks of disclosures."""

    logs: tuple[LogReport, ...]
    chain_problem: str | None
    exchanges: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether nothing was found but notices; says nothing of `chain_problem`."""
        return all(log.good for log in self.logs)

    def first(self) -> Finding | None:
        """The first thing that does not fit, by log and then by place in it."""
        return next((log.findings[0] for log in self.logs if log.findings), None)

    def causes(self) -> list[Cause]:
        """What was found, each finding under the one that explains it."""
        return causes_of(self.logs)


@dataclass(frozen=True, slots=True)
class Options:
    """How to audit. `sample`: look at so many entries of each log, drawn by `seed`, and not at all of them; `jobs`:
    processes; `recipient`: a department's own key, to open what its terminals sealed; `trust`: what the auditor was
    told elsewhere, to hold node and registry against."""

    check_signatures: bool = True
    sample: int | None = None
    seed: int = 0
    jobs: int = 1
    recipient: X25519PrivateKey | None = None
    trust: Trust | None = None


def audit_node(
    node: Node,
    department: str | None = None,
    *,
    check_signatures: bool = True,
    recipient: X25519PrivateKey | None = None,
    begin: Begin = lambda _: lambda _: None,
    options: Options | None = None,
    state: NoState | None = None,
) -> NodeAudit:
    """Audits every log of the node, or one department's. `begin` is told each log and returns its progress callback,
    told how many entries were done. `state` remembers what was done, for an audit that was cut off. Raises Refusal for
    an unknown department, CouldNotRun as `LogAudit.run`."""
    chosen = options or Options(check_signatures=check_signatures, recipient=recipient)
    link, problem, replaced = _connect(node)
    memory = state or NoState()
    # the chain first: what is anchored while the logs are read may be more than the reader sees
    with node.database.reading() as connection:
        asked = read_logs(connection, department) if link is not None else []
    held = set(node.agent.departments())
    newest = {
        log.department: ChainRoots.ask(link.evidence_log, log.department).newest
        for log in asked
        if link is not None and log.department in held
    }
    with node.database.reading() as connection:
        found = memory.pin(read_logs(connection, department), newest)
        reports = _missing_logs(node, link, {log.department for log in found}, department)
        if not found and not reports:
            raise Refusal(
                f"there is no log of {department or 'any department'} on this node: run `yunxi department add`"
            )
        witnesses = _witnesses(link) if link is not None else {}
        reports += [_unknown(log) for log in found if log.department not in held]
        reports += [_twice(log) for number, log in enumerate(found) if log.department in _names(found[:number])]
        found = [log for number, log in enumerate(found) if log.department not in _names(found[:number])]
        benches = [
            _bench(connection, node, link, log, memory, chosen, witnesses) for log in found if log.department in held
        ]
    exchanges: dict[str, tuple[int, ...]] = {}
    by_number: dict[int, LogReport] = {}
    if chosen.jobs > 1 and chosen.sample is None:
        _work(node, benches, chosen, memory, begin)
    for bench in benches:
        with node.database.reading() as connection:
            report, places = _audit(connection, bench, chosen, memory, begin)
            report.take(check_beside(connection, node, bench, chosen.sample is None))
            reader = RecordReader(bench.keks, node.blobs)
            _add_feeds(report, check_feeds(connection, reader, bench.log, node.clock(), node.types))
        reports.append(report)
        by_number[bench.log.number] = report
        exchanges[bench.log.department] = places
    with node.database.reading() as connection:
        check_orphans(by_number, reports[0], connection)
    if chosen.trust is not None:
        check_trust(reports[0], node.settings, link, chosen.trust, [report.department for report in reports])
    if replaced:
        concerned = tuple(report.department for report in reports)
        reports[0].add("chain-replaced", "chain", problem or "", others=concerned)
    return NodeAudit(tuple(reports), problem, exchanges)


def audit_nodes(
    nodes: Sequence[Node],
    department: str | None = None,
    *,
    options: Options | None = None,
    states: Sequence[NoState] = (),
    begin: Begin = lambda _: lambda _: None,
) -> NodeAudit:
    """Audits several nodes as one, and what their departments disclosed to each other. `states`: one for each node.

    The grants are those of the first node's chain. Raises as `audit_node`.
    """
    audits = [
        audit_node(node, department, options=options, begin=begin, state=state)
        for node, state in zip_longest(nodes, states)
    ]
    whole = NodeAudit(
        tuple(log for audit in audits for log in audit.logs),
        next((audit.chain_problem for audit in audits if audit.chain_problem is not None), None),
        {name: places for audit in audits for name, places in audit.exchanges.items()},
    )
    kept_here: dict[str, LogReport] = {}
    for log in whole.logs:
        other = kept_here.setdefault(log.department, log)
        if other is not log and "log-twice" not in log.counts:
            sizes = f"{other.size:,} and {log.size:,} entries"
            log.add("log-twice", "size 0", f"two nodes have a log of department {log.department}, of {sizes}", 0)
    recipient = options.recipient if options is not None else None
    with ExitStack() as stack:
        logs: dict[str, Speaking] = {}
        for node, audit in zip(nodes, audits, strict=True):
            connection = stack.enter_context(node.database.reading())
            reader = RecordReader(KekRing(node.agent, recipient), node.blobs)
            for row in read_logs(connection, department):
                if row.department in audit.exchanges:  # of two logs of a department, the first speaks
                    places = audit.exchanges[row.department]
                    logs.setdefault(row.department, Speaking(connection, reader, row, places))
        grant_at = None if whole.chain_problem else _grants(nodes[0])
        check_exchanges(list(logs.values()), kept_here, grant_at, nodes[0].clock())
    for log in whole.logs:
        log.findings = in_order(log.findings)
    return whole


def _grants(node: Node) -> Callable[[int], Grant] | None:
    """Each grant as the chain has it, asked once. None where the consortium shares nothing: it names no contract."""
    consortium = node.connect().consortium
    if consortium.module(SHARING_GRANTS) is None:
        return None
    return lru_cache(maxsize=10_000)(SharingGrantsContract.of(consortium).grant_at)


def _bench(
    connection: Connection,
    node: Node,
    link: ChainLink | None,
    log: LogRow,
    memory: NoState,
    chosen: Options,
    witnesses: Mapping[bytes, WitnessKey],
) -> Bench:
    ring = KekRing(node.agent, chosen.recipient)  # opened anew: the node's own may have been opened before a tampering
    if link is None:
        held = LogKeys.held(node.agent, log, statement_keys(connection, log.department))
        return Bench(log, node.agent, ring, node.blobs, held, None, chosen.check_signatures, types=node.types)
    roots = ChainRoots(link.evidence_log, log.department, memory.newest(log.department))
    keys = LogKeys.registered(link.consortium, log.department, log.origin)
    place = node.settings.chain.id, frozenset(address.lower() for address in link.evidence_log.lineage())
    return Bench(log, node.agent, ring, node.blobs, keys, roots, chosen.check_signatures, place, node.types, witnesses)


def _witnesses(link: ChainLink) -> dict[bytes, WitnessKey]:
    """The departments' witness keys of all times, by raw key."""
    keys = (key for found in link.consortium.departments() for key in link.consortium.keys(found.id))
    return {k.public_key: WitnessKey(k.department, (k.valid_from, k.valid_to)) for k in keys if k.use == "witness"}


def _audit(
    connection: Connection, bench: Bench, chosen: Options, memory: NoState, begin: Begin
) -> tuple[LogReport, tuple[int, ...]]:
    log = bench.log
    if chosen.sample is not None:
        return sample_log(connection, bench, chosen.sample, chosen.seed, begin(log)), ()
    whole = Whole(connection, bench)
    progress = begin(log) if chosen.jobs <= 1 else lambda _: None
    for start, end in stretches_of(reach(connection, log)):
        stretch = memory.find(log.department, start, end)
        if stretch is None:
            stretch = StretchAudit(connection, bench, start, end, progress).run()
            memory.keep(stretch)
        elif chosen.jobs <= 1:
            progress(end - start)
        whole.take(stretch)
    whole.finish()
    return whole.report, tuple(whole.exchanges)


def _work(node: Node, benches: list[Bench], chosen: Options, memory: NoState, begin: Begin) -> None:
    """Has every stretch that is not done audited by other processes, and remembers what they say."""
    progress = {bench.log.department: begin(bench.log) for bench in benches}
    jobs = []
    with node.database.reading() as connection:
        ends = {bench.log.number: reach(connection, bench.log) for bench in benches}
    for bench in benches:
        for start, end in stretches_of(ends[bench.log.number]):
            if memory.find(bench.log.department, start, end) is None:
                newest = bench.chain.size() if bench.chain is not None else None
                jobs.append(Job(bench.log, newest, bench.keys, bench.place, bench.witnesses, start, end))
            else:
                progress[bench.log.department](end - start)
    for stretch in Workers(node.settings.directory, chosen.jobs, chosen.check_signatures, chosen.recipient).run(jobs):
        memory.keep(stretch)
        progress[stretch.report.department](stretch.end - stretch.start)


def _add_feeds(report: LogReport, feeds: list[FeedSummary]) -> None:
    for feed in feeds:
        for finding in feed.findings:
            where = f"feed {feed.feed}" + ("" if finding.seq is None else f", report {finding.seq}")
            report.add(f"feed-{finding.kind}", where, finding.sentence, record_id=finding.record_id)


def _missing_logs(node: Node, link: ChainLink | None, there: set[str], only: str | None) -> list[LogReport]:
    """A report for each department whose keys are here and whose log the chain knows, but the database does not."""
    held = [name for name in node.agent.departments() if only in (None, name)] if link is not None else []
    reports = []
    for name in held:
        size = link.evidence_log.head(department_bytes(name)).size if link is not None and name not in there else 0
        if size:
            report = LogReport(name, f"{node.settings.consortium}/{name}", 0, anchored_size=size, chain_asked=True)
            report.add("log-missing", "size 0", f"the whole log is gone, the chain holds {size:,} entries of it", 0)
            reports.append(report)
    return reports


def _unknown(log: LogRow) -> LogReport:
    """A report for a log that no department of this node could have."""
    report = LogReport(log.department, log.origin, log.size)
    sentence = f"there is a log of department {log.department!r}, for which this node holds no keys"
    report.add("log-unknown", "size 0", sentence, 0)
    return report


def _names(found: Sequence[LogRow]) -> set[str]:
    return {log.department for log in found}


def _twice(log: LogRow) -> LogReport:
    """A report for a second log of a department: it has one, and only one of the two can be what others saw."""
    report = LogReport(log.department, log.origin, log.size)
    sentence = f"there is a second log of department {log.department}, of {log.size:,} entries"
    report.add("log-twice", "size 0", sentence, 0)
    return report


def _connect(node: Node) -> tuple[ChainLink | None, str | None, bool]:
    """The chain; or why it cannot be asked, and whether that is because another one answers in its place."""
    try:
        link = node.connect()
        link.evidence_log.client.check_identity()
    except YunxiError as error:
        return None, str(error), isinstance(error, HistoryRefused)
    return link, None, False
