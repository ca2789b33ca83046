"""The main job, told from end to end: departments' exports become evidence, and three forgeries are found.

Everything is done by the functions behind the `yunxi` commands; nothing here is a shortcut. The verifier runs as a
process of its own, on the files that a court would be handed.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from adapters.mapping import load_mapping, open_source
from adapters.run import RunReport, run
from adapters.state import AdapterState
from demo.exports import Exports, generate
from ledger.anchor import Anchorer
from ledger.audit import NodeAudit, audit_node
from ledger.departments import add_department
from ledger.errors import CouldNotRun
from ledger.node import Node, create_node
from ledger.receipts import make_receipt
from ledger.store.reading import read_logs
from ledger.trust import export_trust
from ledger.verifier_zipapp import build_verifier

NAMES = {
    "fire": "消防救援大队 | Fire and rescue",
    "housing": "住房和城乡建设局 | Housing and construction",
    "environment": "生态环境分局 | Ecology and environment",
    "market": "市场监督管理局 | Market supervision",
    "traffic": "交通警察大队 | Traffic police",
    "urban": "综合行政执法局 | Urban management",
}
SHOWN_UNITS = ("violation", "place", "attachment-1")


@dataclass(frozen=True, slots=True)
class Forgery:
    """One flipped byte in a copied node. `sql` picks the row; the byte in the middle of its value is flipped."""

    name: str
    table: str
    column: str
    where: str
    expected: str


FORGERIES = (
    Forgery("a ciphertext", "vault", "payload", "position % 1099511627776 = 100", "payload-changed"),
    Forgery("a statement", "entries", "statement", "position % 1099511627776 = 200", "statement-changed"),
    Forgery("a tile", "tiles", "hashes", "level = 0 AND tile = 0", "tile-changed"),
)


def tell(directory: Path, out: Console) -> bool:
    """Runs the story in `directory` (absent or empty) and prints it; returns whether everything came out as it must.

    Raises CouldNotRun for a directory that is taken, and whatever the steps raise.
    """
    if directory.exists() and any(directory.iterdir()):
        raise CouldNotRun(f"{directory} is not empty: name another directory, or delete it")
    began = time.monotonic()
    exports = _exports(directory, out)
    create_node(directory / "node", consortium="district.example")
    node = Node.open(directory / "node")
    try:
        _departments(node, out)
        good = _seal(node, exports, out)
        good &= _seal_again(node, exports, out)
        good &= _hand_to_court(node, directory / "court", out)
        good &= _audit(node, out)
        for forgery in FORGERIES:
            good &= _forge(node, directory / "forged", forgery, out)
    finally:
        node.close()
    out.print()
    verdict = "Everything came out as it must" if good else "SOMETHING DID NOT COME OUT AS IT MUST"
    out.print(f"{verdict}, in {time.monotonic() - began:.0f} s.", style="bold")
    out.print(f"Look around: yunxi status --node {directory / 'node'}, and the files in {directory / 'court'}")
    return good


def _step(out: Console, number: int, title: str) -> None:
    out.print()
    out.print(f"{number}. {title}", style="bold")


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("   " + first)
    for name in others:
        table.add_column(name, justify="left" if name == "department" else "right")
    return table


def _exports(directory: Path, out: Console) -> Exports:
    _step(out, 1, "Six departments export from their own systems (generated; no real person or company)")
    exports = generate(directory / "exports")
    table = _table("export", "rows", "of them wrong", "department")
    for file in exports.files:
        table.add_row(f"   {file.path.name}", f"{file.rows:,}", f"{sum(file.bad.values())}", NAMES[file.department])
    out.print(table)
    return exports


def _departments(node: Node, out: Console) -> None:
    _step(out, 2, "They join: keys, a place in the registry on the chain, a log for each")
    for department, name in NAMES.items():
        origin = add_department(node, department, name)
        out.print(f"   {origin}")


def _seal(node: Node, exports: Exports, out: Console) -> bool:
    _step(out, 3, "Every row is sealed and logged, or set aside with its reason; each log is anchored on the chain")
    state, anchorer, good = AdapterState(node.database.engine_for_writing()), Anchorer(node), True
    table = _table("department", "read", "sealed", "set aside", "anchored in block")
    for file in exports.files:
        report = _run(node, file.mapping, exports, state)
        good &= report.sealed == file.good and report.quarantined == sum(file.bad.values()) and report.stopped is None
        blocks = [str(o.anchored.block_number) for o in anchorer.round() if o.anchored]
        row = (f"{report.read:,}", f"{report.sealed:,}", f"{report.quarantined:,}", ", ".join(blocks) or "not yet")
        table.add_row(f"   {file.department}", *row)
    out.print(table)
    out.print("   Set aside, for instance:")
    for file in exports.files:
        for aside in state.quarantine(load_mapping(file.mapping).feed, limit=1):
            out.print(f"   {aside.position}: {aside.detail}", markup=False)
    return good


def _seal_again(node: Node, exports: Exports, out: Console) -> bool:
    _step(out, 4, "The same exports once more, from the start: nothing is lost, nothing doubled")
    before = _sizes(node)
    forgetful = AdapterState(create_engine("sqlite://", poolclass=StaticPool))
    reports = [_run(node, file.mapping, exports, forgetful) for file in exports.files]
    grown = sum(_sizes(node).values()) - sum(before.values())
    read, known = sum(r.read for r in reports), sum(r.known for r in reports)
    out.print(f"   {read:,} rows read, {known:,} known already, {grown} added")
    return grown == 0


def _run(node: Node, mapping: Path, exports: Exports, state: AdapterState) -> RunReport:
    feed = load_mapping(mapping)
    source = open_source(feed, environ=exports.environ)
    return run(feed, source, state, lambda batch: node.intake.submit(feed.department, batch))


def _sizes(node: Node) -> dict[str, int]:
    with node.database.reading() as connection:
        return {log.department: log.size for log in read_logs(connection)}


def _hand_to_court(node: Node, court: Path, out: Console) -> bool:
    _step(out, 5, "A masked record for the court: who stood in the fire lane stays hidden, the rest is proven")
    court.mkdir(parents=True)
    record_id = _photographed(node)
    with node.database.writing() as connection:
        proof = make_receipt(connection, node.agent, record_id, int(node.clock()))
        (court / "receipt.tlog-proof").write_bytes(proof.serialize())
        (court / "record.sd-jwt").write_bytes(node.reader.present(connection, record_id, SHOWN_UNITS))
        with (court / "photo.png").open("wb") as photo:
            for piece in node.reader.attachment(connection, record_id, 1):
                photo.write(piece)
    (court / "trust.json").write_bytes(export_trust(node).serialize())
    verifier = build_verifier(court / "yunxi-verify.pyz")
    command = [verifier.name, "record.sd-jwt", "receipt.tlog-proof", "photo.png", "--trust", "trust.json"]
    out.print(f"   $ cd {court}; python {' '.join(command)}", markup=False)
    done = subprocess.run([sys.executable, "-I", *command], cwd=court, capture_output=True, text=True, check=False)  # noqa: S603
    out.print(done.stdout + done.stderr, markup=False)
    return done.returncode == 0


def _photographed(node: Node) -> str:
    with node.database.reading() as connection:
        row = connection.exec_driver_sql(
            "SELECT lower(hex(record_id)) FROM entries JOIN attachments USING (position) JOIN logs USING (log) "
            "WHERE department = 'fire' ORDER BY position LIMIT 1"
        ).scalar_one()
    return f"{row[:8]}-{row[8:12]}-{row[12:16]}-{row[16:20]}-{row[20:]}"


def _audit(node: Node, out: Console) -> bool:
    _step(out, 6, "The audit recomputes every leaf, tile, root and payload, and compares the roots with the chain")
    found = audit_node(node)
    records, payloads = sum(log.records for log in found.logs), sum(log.payloads for log in found.logs)
    anchors = sum(log.anchors for log in found.logs)
    out.print(f"   {records:,} records, {payloads:,} payloads, {anchors} anchors: {_verdict(found)}")
    return found.good and found.chain_problem is None


def _forge(node: Node, directory: Path, forgery: Forgery, out: Console) -> bool:
    if forgery is FORGERIES[0]:
        _step(out, 7, "One byte is flipped in a copy of the node, three times over; the audit names each")
    copy = directory / forgery.expected
    _copy_node(node, copy)
    _flip(copy / "ledger.sqlite", forgery)
    forged = Node.open(copy)
    try:
        found = audit_node(forged)
    finally:
        forged.close()
    out.print(f"   {forgery.name}: {_verdict(found)}", markup=False)
    first = found.first()
    return first is not None and first.kind == forgery.expected and sum(log.counts.total() for log in found.logs) == 1


def _verdict(found: NodeAudit) -> str:
    first = found.first()
    if first is None:
        return found.chain_problem or "everything fits"
    return f"{first.department}, {first.where}: {first.sentence}"


def _copy_node(node: Node, copy: Path) -> None:
    original = node.settings.directory
    copy.mkdir(parents=True)
    shutil.copy(original / "node.toml", copy)
    shutil.copytree(original / "keys", copy / "keys")
    for shared in ("blobs", "chain"):
        (copy / shared).symlink_to((original / shared).absolute())
    with sqlite3.connect(original / "ledger.sqlite") as source, sqlite3.connect(copy / "ledger.sqlite") as target:
        source.backup(target)
    source.close()
    target.close()


def _flip(database: Path, forgery: Forgery) -> None:
    connection = sqlite3.connect(database)
    here = f"FROM {forgery.table} WHERE {forgery.where} ORDER BY rowid LIMIT 1"
    rowid, value = connection.execute(f"SELECT rowid, {forgery.column} {here}").fetchone()
    flipped = bytearray(value)
    flipped[len(flipped) // 2] ^= 1
    update = f"UPDATE {forgery.table} SET {forgery.column} = ? WHERE rowid = ?"  # noqa: S608
    connection.execute(update, (bytes(flipped), rowid))
    connection.commit()
    connection.close()
