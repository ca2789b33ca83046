"""What stands beside a log and belongs to its proofs: witnesses, trusted time, terminals. See `ledger.audit`, 10-12."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, LargeBinary, cast, func, select

from ledger.audit.bench import Bench
from ledger.audit.findings import LogReport
from ledger.disclosures import APART_S
from ledger.errors import Malformed, NotProven, Refusal, YunxiError
from ledger.formats.cosignature import verify_cosignature
from ledger.formats.jwk import kid_of
from ledger.formats.note import Note, VerifierKey
from ledger.formats.renewal import leaf_hash, root_of
from ledger.formats.texts import folded
from ledger.formats.timestamp import verify_token
from ledger.matters import check_tables
from ledger.node import Node
from ledger.records import RecordReader
from ledger.store.models import (
    anchors,
    attachments,
    case_entries,
    checkpoints,
    cosignatures,
    entries,
    holds,
    index_of,
    keks,
    log_of,
    logs,
    position_of,
    terminals,
    tiles,
    timestamps,
    vault,
    witness_conflicts,
    witness_heads,
)
from ledger.store.reading import read_logs
from ledger.terminals import read_terminals
from ledger.timestamps.report import time_status
from ledger.witness.departments import department_vkey, node_operator

LATE_S = 3_600
"""How long the chain may have been away when a terminal was revoked."""
SETTLED_S = 3_600
"""An anchor so old has had its time to be cosigned."""


def check_beside(connection: Connection, node: Node, bench: Bench, whole: bool) -> LogReport:
    """What is odd beside one log, as a report that has nothing else. `whole`: look at every time stamp, and not only at
    how old the last is. Raises what database and key agent raise."""
    report = bench.new_report()
    _check_heads(report, connection, node, bench)
    _check_conflicts(report, connection, bench)
    _check_quorum(report, connection, node, bench)
    if whole:
        _check_tokens(report, connection, node, bench)
    _check_backlog(report, node, bench)
    _check_terminals(report, connection, bench)
    if whole:
        _check_matters(report, connection, node, bench)
    return report


# ---- witnesses --------------------------------------------------------------------------------------------------


def _check_heads(report: LogReport, connection: Connection, node: Node, bench: Bench) -> None:
    """The heads that this node's own witnesses stand at. Their roots are held against the log's with its others."""
    query = select(witness_heads).where(witness_heads.c.origin == bench.log.origin)
    there = {row.witness: row for row in connection.execute(query)}
    for row in there.values():
        try:
            _check_head(row, bench)
        except YunxiError as error:
            sentence = f"the head that witness {row.witness[:100]} stands at: {error}"
            report.add("witness-head-changed", f"witness {row.witness[:60]}", sentence)
    here = cosignatures.c.log == bench.log.number
    newest = select(cosignatures.c.witness, func.max(cosignatures.c.size)).where(here).group_by(cosignatures.c.witness)
    local = set(_own_witnesses(connection, node))
    for witness, size in connection.execute(newest):
        stands_at = there[witness].size if witness in there else 0
        if witness in local and size < stands_at and there[witness].note is not None:
            sentence = (
                f"witness {witness[:100]} cosigned size {stands_at:,}, and of what is kept {size:,} is the newest"
            )
            report.add("cosignature-missing", f"checkpoint {stands_at}", sentence, stands_at)
        if witness in local and size > stands_at:
            sentence = f"witness {witness[:100]} cosigned size {size:,} stands at {stands_at:,}: it was put back"
            report.add("witness-head-changed", f"witness {witness[:60]}", sentence, size)


def _own_witnesses(connection: Connection, node: Node) -> Iterator[str]:
    held = node.agent.departments()
    for log in read_logs(connection):
        if log.department in held:
            yield str(department_vkey(node, log.department, log.origin))


def _check_head(row: Any, bench: Bench) -> None:
    if row.note is None:
        return  # a head from before notes were kept
    checkpoint, _ = bench.keys.open(bytes(row.note))
    if (checkpoint.size, checkpoint.root) != (row.size, bytes(row.root)):
        raise Malformed("witness's head", "is not the checkpoint that it cosigned")
    if verify_cosignature(bytes(row.note), VerifierKey.parse(row.witness)) != row.time:
        raise Malformed("witness's head", "its time is not that of the cosignature")


def _check_conflicts(report: LogReport, connection: Connection, bench: Bench) -> None:
    """Checkpoints under the log's own key that a witness here was shown and refused. One that the log's tree gives is
    what somebody showed with a damaged proof; another root is held against the log's with its others."""
    query = select(witness_conflicts).where(witness_conflicts.c.origin == bench.log.origin)
    for row in connection.execute(query.order_by(witness_conflicts.c.size)):
        where = f"size {row.size}"
        try:
            checkpoint, _ = bench.keys.open(bytes(row.note))
        except YunxiError as error:
            sentence = f"a conflict that witness {row.witness[:60]} kept is not signed by the log: {error}"
            report.add("witness-suspicion", where, sentence, row.size)
            continue
        if row.proven:
            report.add("split-view", where, split_view(row.witness, checkpoint.size), checkpoint.size)
        else:
            sentence = f"witness {row.witness[:60]} was shown size {checkpoint.size:,} with a proof that did not verify"
            report.add("witness-suspicion", where, sentence, checkpoint.size)


def split_view(witness: str, size: int) -> str:
    """The sentence of a `split-view` finding."""
    return f"the log's key signed two histories: witness {witness[:60]} was shown another root for size {size:,}"


def _check_quorum(report: LogReport, connection: Connection, node: Node, bench: Bench) -> None:
    """Whether the newest settled anchor has the cosignatures that node.toml asks for. They were verified with it."""
    if not node.settings.witnesses and not node.settings.quorum:
        return
    settled = (anchors.c.log == bench.log.number) & (anchors.c.block_time <= int(node.clock()) - SETTLED_S)
    size = connection.scalar(select(func.max(anchors.c.size)).where(settled))
    if size is None:
        return
    here = (cosignatures.c.log == bench.log.number) & (cosignatures.c.size >= size)
    seen: set[bytes] = set()
    for text in connection.scalars(select(cosignatures.c.witness).where(here)):
        with suppress(YunxiError):  # one that is no key is named with the checkpoint
            seen.add(VerifierKey.parse(text).public)
    where = f"checkpoint {size}"
    hands = _hands(node, bench, seen)
    if len(hands) < node.settings.quorum:
        sentence = (
            f"size {size:,} or a later one was cosigned by {len(hands)} in hands other than this node's and each "
        )
        sentence += f"other's, and {node.settings.quorum} are asked for"
        report.add("unwitnessed", where, sentence, size)
    for witness in node.settings.witnesses:
        if witness.key.public not in seen:
            kind = "unwitnessed" if witness.required else "witness-behind"
            report.add(kind, where, f"witness {witness.name} cosigned neither size {size:,} nor a later one", size)


def _hands(node: Node, bench: Bench, seen: set[bytes]) -> set[str]:
    """Who is behind the cosignatures by these keys: operators of node.toml and departments elsewhere. Not who runs this
    node, who has the keys of all its departments, and nobody else: anybody can draw a key and call it a witness."""
    hosted = set(node.agent.departments())
    hands = {key.department for raw, key in bench.witnesses.items() if raw in seen and key.department not in hosted}
    for witness in node.settings.witnesses:
        if witness.key.public in seen:
            known = bench.witnesses.get(witness.key.public)
            hands.add(folded(witness.operator) if known is None else known.department)
    return hands - hosted - {folded(node_operator(node.settings, hosted))}


# ---- matters ----------------------------------------------------------------------------------------------------


def _check_matters(report: LogReport, connection: Connection, node: Node, bench: Bench) -> None:
    """That intake decides by the lists that the department published."""
    try:
        check_tables(connection, RecordReader(bench.keks, node.blobs), bench.log.department)
    except Refusal as error:
        report.add("matters-differ", "table matters", f"{error}: run `yunxi matters rebuild` once that is explained")


# ---- trusted time -----------------------------------------------------------------------------------------------


def _check_tokens(report: LogReport, connection: Connection, node: Node, bench: Bench) -> None:
    """Every token: over this log's checkpoint or over the tokens before it, by an authority that is trusted."""
    roots = {authority.name: authority.certificates for authority in node.settings.timestamps.authorities}
    leaves: list[bytes] = []
    query = select(timestamps).where(timestamps.c.log == bench.log.number).order_by(timestamps.c.number)
    for row in connection.execute(query.with_only_columns(*_TOKEN)):
        where = f"time stamp {row.number}"
        try:
            if row.number != len(leaves):
                raise NotProven(f"it is number {row.number}, and {len(leaves)} are before it")
            stamped = root_of(leaves[: row.size]) if row.renewal else _text(connection, bench, row.size)
            if row.authority not in roots:
                raise NotProven(f"node.toml names no authority {row.authority[:60]!r}: add its roots to check it")
            found = verify_token(row.token, stamped, roots[row.authority])
            if (int(found.time.timestamp()), int(found.expires.timestamp())) != (row.time, row.expires):
                raise NotProven("its row names other times than the token")
            signed_at = 0 if row.renewal else _signed_at(connection, bench, row.size)
            if row.time < signed_at - APART_S:
                sentence = (
                    f"the checkpoint of size {row.size:,} is dated {signed_at - row.time:,} s after its time stamp"
                )
                report.add("clock-apart", where, sentence, row.size)
        except YunxiError as error:
            report.add("token-changed", where, f"the time stamp over size {row.size:,}: {error}", row.size)
        else:
            report.tokens += 1
        leaves.append(leaf_hash(row.token))


_TOKEN = (
    timestamps.c.number,
    timestamps.c.renewal,
    timestamps.c.size,
    timestamps.c.authority,
    timestamps.c.time,
    timestamps.c.expires,
    cast(timestamps.c.token, LargeBinary).label("token"),
)


def _text(connection: Connection, bench: Bench, size: int) -> bytes:
    """What was stamped: the checkpoint's text, which is held against the tree with the other checkpoints."""
    here = (checkpoints.c.log == bench.log.number) & (checkpoints.c.size == size)
    note = connection.scalar(select(cast(checkpoints.c.note, LargeBinary)).where(here))
    if note is None:
        raise NotProven("the checkpoint that it stamps is gone")
    return Note.parse(note).text


def _signed_at(connection: Connection, bench: Bench, size: int) -> int:
    here = (checkpoints.c.log == bench.log.number) & (checkpoints.c.size == size)
    return connection.scalar(select(checkpoints.c.signed_at).where(here)) or 0


def _check_backlog(report: LogReport, node: Node, bench: Bench) -> None:
    hours = node.settings.timestamps.stop_after_hours
    for status in time_status(node):
        if status.department == bench.log.department and status.age is not None and status.age > hours * 3600:
            sentence = f"entries are without trusted time for {status.age / 3600:.1f} hours, {hours:g} are allowed"
            report.add("time-overdue", f"size {status.stamped_size}", sentence, status.stamped_size)
        if status.department == bench.log.department and status.renew_by is not None and status.renew_by < node.clock():
            sentence = "certificates behind time stamps have ended, and no renewal that is here covers these"
            report.add("time-ended", "time stamps", sentence)


# ---- rows of no log -------------------------------------------------------------------------------------------------


def check_orphans(reports: Mapping[int, LogReport], report: LogReport, connection: Connection) -> None:
    """That no row claims a log that the node does not have: it was moved there, or its log is gone. And that no record
    stands there twice, which the tables' own indexes would not let in. `reports` by the number of the log; `report`
    takes what is of none."""
    for raw, position in connection.execute(_TWICE):
        name = UUID(bytes=bytes(raw)) if len(raw) == 16 else bytes(raw).hex()
        sentence = f"record {name} stands in the logs of this node more than once"
        of_log = reports.get(log_of(position), report)
        of_log.add("record-twice", f"entry {index_of(position)}", sentence, index_of(position), str(name))
    numbers = set(connection.scalars(select(logs.c.log)))
    for table in _OF_LOGS:
        for number in sorted(set(connection.scalars(select(table.c.log).distinct())) - numbers):
            report.add(
                "orphan-rows", f"table {table.name}", f"table {table.name} has rows of log {number}, which is not"
            )
    for table in (entries, vault, attachments):
        start = 0
        for number in [*sorted(numbers), None]:
            end = position_of(number, 0) if number is not None else None
            here = table.c.position >= start if end is None else table.c.position.between(start, end - 1)
            if connection.scalar(select(table.c.position).where(here).limit(1)) is not None:
                sentence = f"table {table.name} has rows in front of or behind every log"
                report.add("orphan-rows", f"table {table.name}", sentence)
            start = position_of(number + 1, 0) if number is not None else 0


_TWICE = (
    select(cast(entries.c.record_id, LargeBinary), func.max(entries.c.position))
    .group_by(entries.c.record_id)
    .having(func.count() > 1)
    .limit(10)
)
_OF_LOGS = (tiles, checkpoints, anchors, cosignatures, keks, timestamps, case_entries, holds, terminals)


# ---- terminals --------------------------------------------------------------------------------------------------


def _check_terminals(report: LogReport, connection: Connection, bench: Bench) -> None:
    """That the terminals that may hand in are those that the chain's registry has."""
    for terminal in read_terminals(connection, bench.log.department):
        where = f"terminal {terminal.name}"
        for problem in _terminal_problems(terminal, bench):
            report.add("terminal-changed", where, f"{where}: {problem}")
        registered = bench.keys.statement.get(terminal.kid)
        ended = None if registered is None else registered.valid_to
        if registered is None or bench.chain is None or (ended is None and terminal.valid_to is None):
            continue
        odd: str | None = None
        if terminal.valid_to is None:
            odd = "the registry ended its key, and the node still takes from it: revoke it here too"
        elif ended is None:
            odd = "it was revoked here, and its key is still in force in the registry: revoke it again"
        elif ended > terminal.valid_to + LATE_S:
            odd = f"the registry ended its key {ended - terminal.valid_to:,} s after this node says it was revoked"
        elif ended < terminal.valid_to:
            sentence = f"{where}: this node says that it was revoked after the registry had ended its key"
            report.add("terminal-changed", where, sentence)
        if odd is not None:
            report.add("terminal-ended", where, f"{where}: {odd}")


def _terminal_problems(terminal: Any, bench: Bench) -> Iterator[str]:
    for kid, raw in ((terminal.kid, terminal.public), (terminal.request_kid, terminal.request)):
        try:
            named = kid_of(Ed25519PublicKey.from_public_bytes(bytes(raw)))
        except ValueError:
            named = None
        if named != kid:
            yield f"its key is not the one that {kid[:12]}… names"
    registered = bench.keys.statement.get(terminal.kid)
    if registered is None:
        yield "its statement key is not registered"
    elif bench.chain is not None and registered.valid_from != terminal.valid_from:
        yield "its key is in force from another time than the registry says"
