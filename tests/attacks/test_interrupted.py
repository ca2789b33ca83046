"""What is not an attack and looks like one: a disk that is full, a process that dies between two steps, two processes
on one directory, a copy that goes on. Nothing forks in silence: it is refused, or the audit names it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.anchor import Anchorer
from ledger.audit import NodeAudit, audit_node, audit_nodes
from ledger.chain import embedded
from ledger.errors import HistoryRefused
from ledger.node import Node
from ledger.submission import Submission
from tests.fixtures.node_databases import ON_POSTGRES
from tests.fixtures.nodes import Built, Rows, check_round, copy_node, end_chain
from tests.fixtures.records import acknowledged, penalty, report, submissions

ROOT = Path(__file__).resolve().parents[2]

# dies of SIGKILL at the n-th call of one function: before it, or when it is done
DIE = """
import importlib, os, signal, sys, time
from pathlib import Path
from ledger.node import Node

directory, module, owner, name, when, count, work = sys.argv[1:]
found = importlib.import_module(module)
if owner:
    found = getattr(found, owner)
real, left = getattr(found, name), [int(count)]

def fatal(*args, **kwargs):
    left[0] -= 1
    if left[0] == 0 and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*args, **kwargs)
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(found, name, fatal)
node = Node.open(Path(directory))
exec(work)
raise SystemExit("it did not come to that")
"""

TAKE = """
from tests.fixtures.records import submissions
node.intake.submit("fire", submissions(1_000, 5, f"crash{time.time_ns()}-"))
"""
ROUND = (
    TAKE
    + """
from ledger.anchor import Anchorer
Anchorer(node).round()
"""
)
DECIDE = """
from ledger.submission import Submission
from tests.fixtures.records import penalty, report
batch = [Submission("n1", report(1, case="C-1")), Submission("d1", penalty(case="C-1"))]
node.intake.submit("fire", batch)
"""
FORGET = """
from ledger.forgetting import Forgetting
from ledger.store.models import entries, position_of
from sqlalchemy import select
import uuid
with node.database.reading() as connection:
    raw = connection.scalar(select(entries.c.record_id).where(entries.c.position == position_of(1, 20)))
officers = [{"id": "XF0001", "name": "甲一"}, {"id": "XF0002", "name": "乙二"}]
forgetting = Forgetting(node.database, node.blobs, node.intake, node.reader, node.clock)
forgetting.forget(str(uuid.UUID(bytes=raw)), "court-order", "某法院", officers)
"""

# where it dies -> (module, class, function, before or after, which call, what is done)
DEATHS: dict[str, tuple[str, str, str, str, int, str]] = {
    "before the tree's tiles are stored": ("ledger.sequencer", "", "_store_tiles", "before", 1, TAKE),
    "between the tiles and the head": ("ledger.sequencer", "", "_swap_head", "before", 1, TAKE),
    "when the head was swapped, before COMMIT": ("ledger.sequencer", "", "_swap_head", "after", 1, TAKE),
    "before the checkpoint is signed": ("ledger.anchor", "", "sign_at", "before", 1, ROUND),
    "when the checkpoint is signed, before COMMIT": ("ledger.anchor", "", "sign_at", "after", 1, ROUND),
    "between checkpoint and chain": ("ledger.anchor", "", "anchor_once", "before", 1, ROUND),
    "when the chain has it and the node does not know": ("ledger.anchor", "", "anchor_once", "after", 1, ROUND),
    "between the anchor's row and the witnesses": ("ledger.anchor", "", "cosign_here", "before", 1, ROUND),
    "when the witnesses have signed, before COMMIT": ("ledger.anchor", "", "cosign_here", "after", 1, ROUND),
    "between a witness's head and its cosignature": (
        "ledger.witness.departments", "", "keep_cosignature", "before", 1, ROUND,
    ),
    "before a decision's manifest": ("ledger.freeze", "Freezer", "freeze", "before", 1, DECIDE),
    "when the manifest lies there, before the log has it": ("ledger.intake", "", "append", "before", 1, DECIDE),
    "between the certificate and the empty vault": ("ledger.forgetting", "", "_destroy", "after", 1, FORGET),
    "when the record is forgotten, before its files go": (
        "ledger.store.blobs", "BlobStore", "remove", "before", 1, FORGET,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A node of its own that dies again and again, and must be good after each."""
    directory = built.copy_with_chain(tmp_path_factory.mktemp("deaths") / "node")
    embedded.ensure_running(directory / "chain")
    yield directory
    end_chain(directory)


def audited(built: Built, directory: Path) -> NodeAudit:
    node = built.open(directory)
    try:
        return audit_node(node)
    finally:
        node.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", DEATHS)
def test_a_death_between_two_steps(built: Built, shared: Path, name: str) -> None:
    module, owner, function, when, count, work = DEATHS[name]
    words = [sys.executable, "-c", DIE, str(shared), module, owner, function, when, str(count), work]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-500:]
    dead = audited(built, shared)
    assert dead.good, dead.causes()
    node = built.open(shared)
    try:
        acknowledged(node.intake.submit("fire", submissions(2_000, 1, name)))
        outcomes = Anchorer(node).round()
        assert [outcome.problem for outcome in outcomes if outcome.problem] == []
    finally:
        node.close()
    again = audited(built, shared)
    assert again.good, again.causes()
    assert again.logs[0].anchored_size == again.logs[0].size


# ---- a full disk ---------------------------------------------------------------------------------------------------

FULL = """
import resource, signal, sys
from pathlib import Path
from ledger.errors import CouldNotRun
from ledger.node import Node
from tests.fixtures.records import submissions

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
node = Node.open(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
taken = 0
try:
    for start in range(0, 4_000, 100):
        outcomes = node.intake.submit("fire", submissions(10_000 + start, 100, "full"))
        taken += sum(hasattr(outcome, "record_id") for outcome in outcomes)
        print(taken, flush=True)
except CouldNotRun as error:
    print("refused:", error, flush=True)
    raise SystemExit(7)
"""


@pytest.mark.skipif(ON_POSTGRES, reason="the disk is the server's")
def test_a_full_disk_refuses_and_loses_nothing(built: Built, tampered: Path) -> None:
    before = (tampered / "ledger.sqlite").stat().st_size
    words = [sys.executable, "-c", FULL, str(tampered), str(before + 400_000)]
    done = subprocess.run(
        words, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 7, done.stderr[-500:]
    taken = max((int(line) for line in done.stdout.splitlines() if line.isdigit()), default=0)
    assert "refused:" in done.stdout and "Traceback" not in done.stderr
    found = audited(built, tampered)
    assert found.good, found.causes()
    held = Rows(tampered).get("SELECT count(*) FROM entries WHERE key LIKE 'full%'")
    assert held >= taken  # what was acknowledged is there; a batch may be there whose answer never came
    node = built.open(tampered)
    acknowledged(node.intake.submit("fire", submissions(10_000, 4_000 // 4, "full")))
    node.close()
    assert audited(built, tampered).good


# ---- two processes, and copies -------------------------------------------------------------------------------------


def test_two_nodes_open_on_one_directory(own_node: Node, built: Built) -> None:
    """Both take records and anchor at the same time: one history comes of it."""
    other = built.open(own_node.settings.directory)
    problems: list[Exception] = []

    def work(node: Node, prefix: str) -> None:
        try:
            for number in range(5):
                acknowledged(node.intake.submit("fire", submissions(10 * number, 10, prefix)))
                batch = [Submission(f"d{prefix}{number}", penalty(case="C-2", decision_number=f"{prefix}{number}"))]
                acknowledged(node.intake.submit("fire", [Submission(f"e{prefix}{number}", report(1, case="C-2"))]))
                acknowledged(node.intake.submit("fire", batch))
                problems.extend(o.problem for o in Anchorer(node).round() if isinstance(o.problem, HistoryRefused))
        except Exception as error:  # noqa: BLE001  told by the test
            problems.append(error)

    threads = [threading.Thread(target=work, args=(own_node, "a")), threading.Thread(target=work, args=(other, "b"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    other.close()
    assert problems == []
    found = audit_node(own_node)
    assert found.good, found.causes()
    assert (found.logs[0].manifests, found.logs[0].size) == (10, 345 + 120)


@pytest.fixture
def backup(own_node: Node, tmp_path: Path) -> Iterator[Callable[[], Node]]:
    """Copies of the node as it was at the beginning, on the same chain."""
    directory = own_node.settings.directory
    copy = tmp_path / "backup"
    copy_node(directory, copy)
    import shutil

    shutil.rmtree(copy / "chain")
    embedded.ensure_running(directory / "chain")
    (copy / "chain").symlink_to(directory / "chain")
    opened: list[Node] = []

    def open_copy() -> Node:
        from ledger.settings import Settings

        opened.append(Node(Settings.load(copy), own_node.agent))
        return opened[-1]

    yield open_copy
    for node in opened:
        node.close()


def test_a_copy_that_goes_on_is_halted_before_it_forks(own_node: Node, backup: Callable[[], Node]) -> None:
    acknowledged(own_node.intake.submit("fire", submissions(5_000, 3, "real")))
    check_round(Anchorer(own_node), 1)
    copy = backup()
    outcomes = Anchorer(copy).round()
    assert any(isinstance(outcome.problem, HistoryRefused) for outcome in outcomes)
    with pytest.raises(HistoryRefused, match="takes nothing"):
        copy.intake.submit("fire", submissions(6_000, 1, "fork"))
    assert audit_node(copy).causes()[0].first.kind == "rolled-back"
    assert audit_node(own_node).good


def test_a_copy_that_grew_first_is_named_on_both_sides(own_node: Node, backup: Callable[[], Node]) -> None:
    copy = backup()
    acknowledged(copy.intake.submit("fire", submissions(6_000, 9, "fork")))
    acknowledged(own_node.intake.submit("fire", submissions(5_000, 3, "real")))
    check_round(Anchorer(own_node), 1)
    (problem,) = [outcome.problem for outcome in Anchorer(copy).round() if outcome.problem]
    assert isinstance(problem, HistoryRefused)
    assert audit_node(copy).causes()[0].first.kind == "root-differs-from-chain"
    assert audit_node(own_node).good
    both = audit_nodes([own_node, copy])
    assert {cause.first.kind for cause in both.causes()} >= {"log-twice"}
    with pytest.raises(HistoryRefused, match="takes nothing"):
        copy.intake.submit("fire", submissions(7_000, 1, "fork"))
