"""Key rotation: what was signed before stays, what comes after is by the new key, and a crash anywhere does no harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from ledger import rotation
from ledger.anchor import Anchorer
from ledger.audit import audit_node
from ledger.chain.client import local_account
from ledger.chain.contracts import department_bytes
from ledger.errors import CheckpointInvalid, ConsistencyInvalid, CouldNotRun, KeyRefused, Refusal
from ledger.formats.encoding import b64url_encode
from ledger.formats.sdjwt import parse_statement
from ledger.formats.trust import Trust
from ledger.keks import KekRing
from ledger.node import Node
from ledger.receipts import make_receipt
from ledger.rotation import LEAD_S, LOST_S, USES, Rotation, rotate_key
from ledger.store.models import keks
from ledger.store.reading import find_entry
from ledger.submission import Acknowledged
from ledger.trust import export_trust
from ledger.verify import Verifier
from ledger.verify.sentences import not_proven
from tests.fixtures.nodes import Built, check_round, end_chain
from tests.fixtures.records import acknowledged, submissions

ROOT = Path(__file__).resolve().parents[2]


class Clock:
    """The machine's clock, put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture(scope="module")
def shared(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A node's directory with keys and chain of its own, for tests that leave it sound."""
    directory = built.copy_with_chain(tmp_path_factory.mktemp("rotation") / "node")
    yield directory
    end_chain(directory)


@pytest.fixture(scope="module")
def common() -> Clock:
    """The clock of everything that happens to that directory: it never goes back."""
    return Clock()


@pytest.fixture
def clock(request: pytest.FixtureRequest) -> Clock:
    return request.getfixturevalue("common") if "node" in request.fixturenames else Clock()


@pytest.fixture
def node(shared: Path, common: Clock) -> Iterator[Node]:
    opened = Node.open(shared, common)
    yield opened
    opened.close()
    common.ahead += 2 * LEAD_S + LOST_S  # whatever was begun is in force


@pytest.fixture
def spoilt(built: Built, tmp_path: Path, clock: Clock) -> Iterator[Node]:
    """A node of the test's own, to do wrong with."""
    directory = built.copy_with_chain(tmp_path / "spoilt")
    opened = Node.open(directory, clock)
    yield opened
    opened.close()
    end_chain(directory)


def take(node: Node, count: int = 1) -> list[Acknowledged]:
    """Records that nobody sealed before."""
    return acknowledged(node.intake.submit("fire", submissions(0, count, f"{time.time_ns()}-")))


def kid_of(node: Node, record: Acknowledged) -> str:
    with node.database.reading() as connection:
        return parse_statement(find_entry(connection, record.record_id).statement).kid


def evidence(node: Node, record: Acknowledged, units: list[str] | None = None) -> tuple[bytes, bytes]:
    with node.database.writing() as connection:
        proof = make_receipt(connection, node.agent, record.record_id, int(node.clock()))
        return node.reader.present(connection, record.record_id, units), proof.serialize()


def kids(node: Node, use: str) -> list[str]:
    """The department's keys of a use on the chain."""
    return [b64url_encode(key.kid) for key in node.connect().consortium.keys("fire") if key.use == use]


def check_intervals(node: Node, use: str) -> None:
    """On the chain each key ends where the next begins, and the keystore has the same keys in the same order."""
    found = [key for key in node.connect().consortium.keys("fire") if key.use == use]
    assert [key.valid_to for key in found] == [key.valid_from for key in found[1:]] + [None]
    held = node.agent.held("fire", use)
    assert [key.kid for key in held] == [b64url_encode(key.kid) for key in found]
    assert all(key.settled for key in held)
    assert [key.since for key in held[1:]] == [key.valid_from for key in found[1:]]


# -- the main job --


def test_every_key_rotated_twice(node: Node, built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "LEAD_S", 8)
    before = [evidence(node, built.records[0]), evidence(node, built.records[20], ["result", "attachment-1"])]
    old_trust = export_trust(node)
    rounds: list[list[Acknowledged]] = []
    running = Node.open(node.settings.directory)  # a process that never learns of it but by the keystore
    take(running)
    for _ in range(2):
        rounds.append(take(running, 2))
        rotations = [rotate_key(node, "fire", use) for use in USES]
        time.sleep(max(0.0, max(r.changeover for r in rotations) - time.time()) + 0.1)
        rounds.append(take(running, 2))
        assert kid_of(node, rounds[-2][0]) == rotations[0].old
        assert kid_of(node, rounds[-1][0]) == rotations[0].new_key
        check_round(Anchorer(running), 1)
    running.close()
    for use in USES:
        check_intervals(node, use)
    trust = Trust.parse(export_trust(node).serialize())
    assert len(trust.department("fire").log.earlier) == 2
    verifier = Verifier(trust)
    for presentation, receipt in before:
        assert verifier.verify(presentation, receipt).logged is not None
    for record in [*built.records[:3], built.records[-1], *[r for taken in rounds for r in taken]]:
        facts = verifier.verify(*evidence(node, record, ["result"] if record is built.records[0] else None))
        assert facts.logged is not None
    with pytest.raises(KeyRefused):
        Verifier(old_trust).verify(*evidence(node, rounds[-1][0]))
    audit = audit_node(node)
    assert audit.good and audit.chain_problem is None, audit.first()


def test_the_newest_trust_file_names_every_key_with_its_interval(node: Node, clock: Clock) -> None:
    rotated = rotate_key(node, "fire", "log")
    log = export_trust(node).department("fire").log
    assert log.earlier[-1].valid_to == rotated.changeover
    assert [key.key.public for key in (*log.earlier[1:],)] != [log.key.public]
    clock.ahead += LEAD_S + 1
    assert node.agent.log_signer("fire", clock()).public == log.key.public


def test_kek_epochs_move_to_the_new_encryption_key(node: Node, clock: Clock, built: Built) -> None:
    with node.database.reading() as connection:
        epochs = connection.scalars(select(keks.c.epoch).where(keks.c.log == 1)).all()
    rotated = rotate_key(node, "fire", "encryption")
    with node.database.reading() as connection:
        rows = connection.execute(select(keks.c.epoch, keks.c.recipient).where(keks.c.log == 1)).all()
        assert [row.recipient for row in rows] == [rotated.new_key] * (len(epochs) + 1)
        fresh = KekRing(node.agent)
        assert all(len(fresh.key(connection, 1, "fire", row.epoch)) == 32 for row in rows)
        assert node.keks.current(connection, 1, "fire").epoch == len(epochs) + 1
        assert node.reader.open(connection, built.records[0].record_id).record()["department"] == "fire"
    take(node)
    clock.ahead += LEAD_S + 1


def test_a_second_call_before_the_changeover_is_not_a_second_rotation(node: Node, clock: Clock) -> None:
    first = rotate_key(node, "fire", "statement", lead=100)
    again = rotate_key(node, "fire", "statement")
    assert (again.new_key, again.changeover, again.new) == (first.new_key, first.changeover, False)
    assert len(kids(node, "statement")) == len(node.agent.held("fire", "statement"))
    clock.ahead += 101
    assert rotate_key(node, "fire", "statement").old == first.new_key
    clock.ahead += LEAD_S + 1


def test_a_key_signs_to_the_last_second_of_its_interval_and_not_beyond(node: Node) -> None:
    rotated = rotate_key(node, "fire", "statement")
    for moment, kid in ((-1, rotated.old), (0, rotated.new_key), (1, rotated.new_key)):
        assert node.agent.statement_signer("fire", rotated.changeover + moment).kid == kid
    node.agent.statement_signer("fire", rotated.changeover - 1e-6)


REFUSED = {
    "a use that is none": ("signing", LEAD_S),
    "a changeover at once": ("statement", 0),
    "a changeover before anyone sees it": ("statement", LEAD_S - 1),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_rotated(case: str, node: Node) -> None:
    use, lead = REFUSED[case]
    with pytest.raises(Refusal):
        rotate_key(node, "fire", use, lead)


def test_a_department_of_another_node(node: Node) -> None:
    with pytest.raises(KeyRefused, match="holds no keys"):
        rotate_key(node, "police", "statement")


# -- crashes --

CRASH = """
import os, signal, sys, time
from pathlib import Path
from ledger.chain.contracts import ConsortiumContract
from ledger.keks import KekRing
from ledger.keys import FileKeyAgent
from ledger.node import Node
from ledger.rotation import rotate_key

directory, use, where, when, ahead = sys.argv[1:]
owner = {"mark": FileKeyAgent, "rotate_key": ConsortiumContract, "move": KekRing, "draw": FileKeyAgent}[where]
real = getattr(owner, where)

def fatal(*args, **kwargs):
    if when == "after":
        real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, where, fatal)
rotate_key(Node.open(Path(directory), lambda: time.time() + float(ahead)), "fire", use)
"""

POINTS = {
    "before the key is drawn": ("statement", "draw", "before"),
    "after the key is drawn": ("log", "draw", "after"),
    "before the changeover is planned": ("statement", "mark", "before"),
    "after it is planned": ("anchor", "mark", "after"),
    "before it is sent": ("log", "rotate_key", "before"),
    "after the chain has it": ("statement", "rotate_key", "after"),
    "before the epochs are moved": ("encryption", "move", "before"),
}


def crash(node: Node, use: str, where: str, when: str) -> None:
    ahead = node.clock() - time.time()
    command = [sys.executable, "-c", CRASH, str(node.settings.directory), use, where, when, str(ahead)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.mark.parametrize("point", POINTS)
def test_killed(point: str, node: Node, clock: Clock) -> None:
    use, where, when = POINTS[point]
    had, held = kids(node, use), len(node.agent.held("fire", use))
    crash(node, use, where, when)
    take(node)
    done = rotate_key(node, "fire", use)
    assert kids(node, use) == [*had, done.new_key], "one rotation, whatever happened"
    assert len(node.agent.held("fire", use)) == held + 1
    check_intervals(node, use)
    clock.ahead += LEAD_S + 2
    record = take(node)[0]
    if use == "statement":
        assert kid_of(node, record) == done.new_key
    Verifier(export_trust(node)).verify(*evidence(node, record))
    with node.database.reading() as connection:
        assert not node.keks.is_behind(connection, 1, node.agent.held("fire", "encryption")[-1].kid)


def test_whoever_signs_at_the_changeover_settles_what_was_cut_off(node: Node, clock: Clock) -> None:
    crash(node, "statement", "rotate_key", "after")
    assert not node.agent.held("fire", "statement")[-1].settled
    clock.ahead += LEAD_S + 2
    record = take(node)[0]
    assert kid_of(node, record) == kids(node, "statement")[-1]
    check_intervals(node, "statement")


def test_nothing_is_signed_while_it_is_not_known_whether_the_chain_has_the_key(node: Node, clock: Clock) -> None:
    crash(node, "statement", "rotate_key", "before")
    old = kids(node, "statement")[-1]
    assert kid_of(node, take(node)[0]) == old
    clock.ahead += LEAD_S + 2
    with pytest.raises(CouldNotRun, match="was cut off"):
        take(node)
    with pytest.raises(CouldNotRun, match="may still be on its way"):
        rotate_key(node, "fire", "statement")
    clock.ahead += LOST_S
    assert kid_of(node, take(node)[0]) == old
    rotated = rotate_key(node, "fire", "statement")
    assert rotated.old == old
    clock.ahead += LEAD_S + 1
    assert kid_of(node, take(node)[0]) == rotated.new_key


# -- what a thief of an old key can and cannot do --


def rotated_statement_key(node: Node, clock: Clock) -> Rotation:
    done = rotate_key(node, "fire", "statement")
    clock.ahead += LEAD_S + 1
    return done


def test_a_statement_dated_after_its_keys_end_is_refused(spoilt: Node, clock: Clock) -> None:
    done = rotated_statement_key(spoilt, clock)
    # a keystore brought back from before the rotation: the node goes on with the old key
    spoilt.agent.mark("fire", "statement", done.new_key, 2**40, settled=True)
    record = take(spoilt)[0]
    assert kid_of(spoilt, record) == done.old
    with pytest.raises(KeyRefused, match="was not valid"):
        Verifier(export_trust(spoilt)).verify(*evidence(spoilt, record))
    finding = audit_node(spoilt, "fire").first()
    assert finding is not None
    assert (finding.kind, finding.record_id) == ("key-not-valid", record.record_id)


def test_a_statement_dated_back_is_believed_by_nobody_who_asks_when_it_was_logged(spoilt: Node, clock: Clock) -> None:
    done = rotated_statement_key(spoilt, clock)
    clock.ahead += 7_200
    take(spoilt)
    clock.ahead -= 7_200 + LEAD_S + 1  # the thief puts the clock back into the old key's time
    record = take(spoilt)[0]
    assert kid_of(spoilt, record) == done.old
    facts = Verifier(export_trust(spoilt)).verify(*evidence(spoilt, record))
    words = " ".join(not_proven(facts, [], "en"))
    assert "Whoever had the key could date a record back" in words
    finding = audit_node(spoilt, "fire").first()
    assert finding is not None
    assert (finding.kind, finding.record_id) == ("dated-back", record.record_id)


def test_a_statement_by_a_key_that_was_drawn_and_never_registered(spoilt: Node, clock: Clock) -> None:
    key = spoilt.agent.draw("fire", "statement")
    spoilt.agent.mark("fire", "statement", key.kid, 1, settled=True)
    record = take(spoilt)[0]
    with pytest.raises(KeyRefused, match="has no key"):
        Verifier(export_trust(spoilt)).verify(*evidence(spoilt, record))
    assert audit_node(spoilt, "fire").first().kind == "statement-changed"  # type: ignore[union-attr]


def test_the_old_anchor_account_is_refused(spoilt: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "LEAD_S", 8)
    old = spoilt.agent.anchor_key("fire")
    done = rotate_key(spoilt, "fire", "anchor")
    time.sleep(max(0.0, done.changeover - time.time()) + 0.1)
    assert spoilt.agent.anchor_key("fire") != old
    contract = spoilt.connect().evidence_log
    with pytest.raises(KeyRefused, match="not a valid anchoring account"):
        contract.anchor(old, department_bytes("fire"), 10**6, bytes(32), [])
    take(spoilt)
    check_round(Anchorer(spoilt), 1)


def test_a_checkpoint_by_a_key_of_no_one_is_refused(spoilt: Node, clock: Clock) -> None:
    rotate_key(spoilt, "fire", "log")
    clock.ahead += LEAD_S + 1
    record = take(spoilt)[0]
    presentation, receipt = evidence(spoilt, record)
    trust = export_trust(spoilt)
    Verifier(trust).verify(presentation, receipt)
    (fire,) = [d for d in trust.departments if d.id == "fire"]
    assert len(fire.log.earlier) == 1
    data = trust.serialize().replace(fire.log.vkey.encode(), _other_vkey(fire.log.origin).encode())
    with pytest.raises((CheckpointInvalid, ConsistencyInvalid)):
        Verifier(Trust.parse(data)).verify(presentation, receipt)


def _other_vkey(origin: str) -> str:
    from ledger.formats.note import ED25519, VerifierKey
    from tests.verify.factory import public_of

    return str(VerifierKey.of(origin, ED25519, public_of("nobody's key")))


# -- the governance account --


def governor_of(node: Node) -> str:
    return next(found.governor for found in node.connect().consortium.departments() if found.id == "fire")


def test_the_governance_account_changes_at_once_and_goes_on_after_a_crash(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = governor_of(node)
    done = rotate_key(node, "fire", "governor")
    assert done.new and governor_of(node) == local_account(node.agent.governor_key("fire")).address != before
    with monkeypatch.context() as patched:
        patched.setattr(type(node.agent), "mark", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rotate_key(node, "fire", "governor")  # cut off when the chain has it and the keystore does not know
    again = rotate_key(node, "fire", "governor")
    assert (again.new, again.old) == (False, done.new_key)
    assert governor_of(node) == local_account(node.agent.governor_key("fire")).address
