"""A node and its witnesses: departments among themselves, witnesses outside, one that is down, late, or lied to."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.anchor import Anchorer
from ledger.audit import audit_node
from ledger.chain.contracts import department_bytes
from ledger.checkpoints import vkey_of
from ledger.errors import CheckpointInvalid, ConsistencyInvalid, CouldNotRun, HistoryRefused, YunxiError
from ledger.formats.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from ledger.formats.merkle import leaf_hash, root_of
from ledger.formats.note import Note
from ledger.formats.tlogproof import TlogProof
from ledger.formats.trust import Trust
from ledger.keys import FileKeyAgent
from ledger.keystore import open_secrets, seal_secrets
from ledger.node import Node
from ledger.receipts import make_receipt
from ledger.settings import Settings, WitnessSettings
from ledger.status import WitnessStatus, node_status
from ledger.store.reading import read_logs
from ledger.submission import Acknowledged
from ledger.trust import export_trust
from ledger.verify import Verifier
from ledger.witness import rounds
from ledger.witness.client import HttpWitness
from ledger.witness.compare import compare
from ledger.witness.core import Witness
from ledger.witness.protocol import AddCheckpoint
from ledger.witness.rounds import Witnessing
from ledger.witness.server import WitnessServer
from tests.conftest import ROOT
from tests.fixtures.nodes import FIRST_ANCHOR, SECOND_ANCHOR, SIZE, Built, Rows, check_round
from tests.fixtures.parts import Template
from tests.fixtures.records import acknowledged, submissions
from tests.witness.simulation import MemoryStore, serving, signer, subproof, witness_key

COURT = "court.example/witness"
FIRE = "test.example/fire"
HEALTH = "test.example/health/witness"


class Court:
    """An outside witness of the log of `fire`, which can go down and come up again at the same port."""

    def __init__(self, node: Node) -> None:
        self.key = vkey_of(FIRE, node.agent.log_signer("fire"))
        self.store = MemoryStore()
        self.witness = Witness(COURT, signer(f"witness {COURT}"), {FIRE: (self.key,)}, self.store, node.clock)
        self._stack = ExitStack()
        self._server: WitnessServer | None = None

    @property
    def size(self) -> int:
        head = self.store.head(FIRE)
        return head.size if head is not None else 0

    def up(self) -> str:
        port = self._server.server_port if self._server else 0
        self._server = self._stack.enter_context(serving(self.witness, port))
        return self._server.url

    def down(self) -> None:
        self._stack.close()


@pytest.fixture
def court(own_node: Node, monkeypatch: pytest.MonkeyPatch) -> Iterator[Court]:
    """The witness, up and configured; its node is `own_node`."""
    monkeypatch.setattr(rounds, "RETRY_S", 0)
    made = Court(own_node)
    outside = WitnessSettings(COURT, str(witness_key(COURT)), made.up(), "District People's Court")
    own_node.settings = replace(own_node.settings, witnesses=(outside,), operator="District data bureau")
    yield made
    made.down()


def receipt_of(node: Node, record: Acknowledged) -> tuple[bytes, TlogProof]:
    """A record's presentation and its receipt by the node's own policy."""
    with node.database.writing() as connection:
        proof = make_receipt(connection, node.agent, record.record_id, int(node.clock()), node.settings.policy)
        return node.reader.present(connection, record.record_id, None), proof


def signers(node: Node, record: Acknowledged, trust: Trust | None = None) -> list[str]:
    """Who cosigned the receipt of a record, by the verifier."""
    presentation, proof = receipt_of(node, record)
    logged = Verifier(trust or export_trust(node)).verify(presentation, proof.serialize()).logged
    assert logged is not None
    return [c.name for c in logged.cosigned]


def of_court(node: Node, department: str = "fire") -> WitnessStatus:
    return next(w for w in node_status(node).witnesses if (w.name, w.department) == (COURT, department))


# -- departments among themselves --


def test_departments_witness_each_other_by_default(built: Built, tampered: Path) -> None:
    node = built.open(tampered)
    trust = export_trust(node)
    assert [(w.name, w.required) for w in trust.witnesses] == [
        (f"{FIRE}/witness", False),
        (HEALTH, False),
    ]
    assert signers(node, built.records[0], trust) == [HEALTH]
    status = [(w.name, w.department, w.here, w.behind, w.problem) for w in node_status(node).witnesses]
    assert status == [
        (f"{FIRE}/witness", "health", True, 0, None),
        (HEALTH, "fire", True, 0, None),
    ]
    node.close()


def test_the_trust_file_says_that_departments_of_one_node_share_an_operator(built: Built, tampered: Path) -> None:
    node = built.open(tampered)
    trust = export_trust(node)
    hands = {w.operator for w in trust.witnesses} | {d.operator for d in trust.departments}
    assert hands == {"test.example [fire +1]"}
    assert Trust.parse(trust.serialize()).serialize() == trust.serialize()
    node.close()


def test_every_anchored_checkpoint_is_cosigned(built: Built) -> None:
    rows = Rows(built.directory)
    assert rows.all("SELECT log, size FROM cosignatures ORDER BY log, size") == rows.all(
        "SELECT log, size FROM anchors ORDER BY log, size"
    )


def test_a_damaged_cosignature_is_found_by_the_audit(built: Built, tampered: Path) -> None:
    Rows(tampered).flip("cosignatures", "line", f"log = 1 AND size = {FIRST_ANCHOR}", byte=60)
    node = built.open(tampered)
    report = audit_node(node, "fire", check_signatures=False)
    assert [(f.kind, f.where) for f in report.logs[0].findings] == [
        ("cosignature-changed", f"checkpoint {FIRST_ANCHOR}")
    ]
    node.close()


def test_a_department_from_before_there_were_witness_keys_gets_one(template: Template, tmp_path: Path) -> None:
    FileKeyAgent.create(tmp_path / "keys").create_department("fire")
    path, passphrase = tmp_path / "keys" / "keystore.json", (tmp_path / "keys" / "passphrase").read_text()
    keys = open_secrets(path, passphrase)
    del keys["departments"]["fire"]["witness"]
    seal_secrets(path, passphrase, keys)
    agent = FileKeyAgent.open(tmp_path / "keys")
    with pytest.raises(YunxiError, match="department add"):
        agent.witness_signer("fire")
    before = agent.log_signer("fire").public
    assert agent.create_department("fire").witness.public_bytes_raw() == agent.witness_signer("fire").public
    assert agent.log_signer("fire").public == before


# -- witnesses outside --


def test_an_outside_witness_is_a_line_of_configuration(own_node: Node, court: Court, built: Built) -> None:
    check_round(Anchorer(own_node), 1)
    assert court.size == SIZE
    trust = export_trust(own_node)
    assert [w.operator for w in trust.witnesses if w.name == COURT] == ["District People's Court"]
    assert signers(own_node, built.records[SIZE - 1], trust) == [COURT, HEALTH]
    assert (of_court(own_node).behind, of_court(own_node).problem) == (0, None)
    assert of_court(own_node, "health").refused, "the court serves the log of fire only"


def test_a_witness_that_is_down_holds_nothing_up_and_catches_up(own_node: Node, court: Court, built: Built) -> None:
    anchorer = Anchorer(own_node)
    court.down()
    check_round(anchorer, 1)
    status = of_court(own_node)
    assert (status.behind, status.cosigned_at, status.refused) == (SIZE, None, False)
    assert status.problem is not None
    assert "does not answer" in status.problem
    for start in (SIZE, SIZE + 5):
        acknowledged(own_node.intake.submit("fire", submissions(start, 5)))
        check_round(anchorer, 1)
    court.up()
    check_round(anchorer, 0)
    assert (court.size, of_court(own_node).behind, of_court(own_node).problem) == (SIZE + 10, 0, None)


def test_a_witness_that_is_down_is_not_asked_at_once_again(own_node: Node, court: Court) -> None:
    rounds.RETRY_S = 3600
    court.down()
    check_round(Anchorer(own_node), 1)
    court.up()
    Witnessing(own_node).round()
    assert court.size == 0
    Witnessing(own_node, retry=0).round()
    assert court.size == SIZE


def test_receipts_are_made_under_the_earliest_checkpoint_that_meets_the_quorum(
    own_node: Node, court: Court, built: Built
) -> None:
    check_round(Anchorer(own_node), 1)
    early = built.records[0]
    assert size_of(receipt_of(own_node, early)[1]) == FIRST_ANCHOR, "nothing required: the earliest dates best"
    settings = own_node.settings
    own_node.settings = replace(settings, witnesses=(replace(settings.witnesses[0], required=True),))
    assert size_of(receipt_of(own_node, early)[1]) == SIZE
    assert COURT in signers(own_node, early)
    own_node.settings = replace(settings, quorum=1)
    assert size_of(receipt_of(own_node, early)[1]) == SIZE, "the department's on this node count for nothing"
    assert signers(own_node, early) == [COURT, HEALTH]
    own_node.settings = replace(settings, quorum=2)
    assert size_of(receipt_of(own_node, early)[1]) == FIRST_ANCHOR, "where none meets it, the earliest"
    ours = replace(settings.witnesses[0], operator="District  DATA bureau")
    own_node.settings = replace(settings, quorum=1, witnesses=(ours,))
    assert size_of(receipt_of(own_node, early)[1]) == FIRST_ANCHOR, "who runs the node is no witness of it"
    with pytest.raises(CheckpointInvalid, match="confirmation of 0"):
        signers(own_node, early)


def size_of(proof: TlogProof) -> int:
    return Checkpoint.parse(Note.parse(proof.checkpoint).text).size


def test_a_receipt_without_the_required_witness_is_refused(own_node: Node, court: Court, built: Built) -> None:
    court.down()
    check_round(Anchorer(own_node), 1)
    settings = own_node.settings
    own_node.settings = replace(settings, witnesses=(replace(settings.witnesses[0], required=True),))
    with pytest.raises(CheckpointInvalid, match=COURT):
        signers(own_node, built.records[0])
    court.up()
    Witnessing(own_node).round()
    assert COURT in signers(own_node, built.records[0]), "fetched again, it has it"


def test_anchors_do_not_wait_for_a_witness_and_its_late_word_reaches_its_checkpoint(
    own_node: Node, court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, free = threading.Event(), threading.Event()
    real = court.witness.add_checkpoint

    def slow(request: AddCheckpoint) -> bytes:
        asked.set()
        assert free.wait(60)
        return real(request)

    monkeypatch.setattr(court.witness, "add_checkpoint", slow)
    stop, seen = threading.Event(), threading.Semaphore(0)
    anchorer = Anchorer(own_node)
    anchorer._witnessing = Witnessing(own_node, timeout=60)
    thread = threading.Thread(target=anchorer.run, args=(stop, 0.05, lambda _: seen.release()))
    thread.start()
    assert asked.wait(60)
    for start in (SIZE, SIZE + 5):
        acknowledged(own_node.intake.submit("fire", submissions(start, 5)))
        assert seen.acquire(timeout=60), "anchored, while the witness says nothing"
    waiting = of_court(own_node).cosigned_size
    free.set()
    stop.set()
    thread.join()
    assert waiting == 0
    sizes = Rows(own_node.settings.directory).all(
        "SELECT size FROM cosignatures WHERE witness = ? ORDER BY size", str(witness_key(COURT))
    )
    assert len(sizes) >= 2, "the one it was asked for first, late, and the newest"
    assert sizes[-1] == (SIZE + 10,)


# -- forks --


def forged(node: Node, size: int) -> tuple[bytes, list[bytes]]:
    """A checkpoint of another history of the log of `fire`, signed by its real key; and that history's leaves."""
    leaves = [leaf_hash(b"forged %d" % n) for n in range(size)]
    key = node.agent.log_signer("fire")
    return sign_checkpoint(FIRE, size, root_of(leaves), key.public, key.sign), leaves


def test_a_forked_log_is_refused_by_every_witness_the_contract_and_the_verifier(
    own_node: Node, court: Court, built: Built
) -> None:
    """Same size, other root, signed by the log's own key."""
    check_round(Anchorer(own_node), 1)
    note, leaves = forged(own_node, SIZE)
    # the witness outside
    outside = HttpWitness(own_node.settings.witnesses[0].url)
    with pytest.raises(ConsistencyInvalid):
        outside.add_checkpoint(AddCheckpoint(SIZE, (), note))
    assert [c.proven for c in court.store.conflicts()] == [True]
    # the contract
    link, account = own_node.connect(), own_node.agent.anchor_key("fire")
    with pytest.raises(HistoryRefused):
        link.evidence_log.anchor(account, department_bytes("fire"), SIZE, root_of(leaves), [])
    _, more = forged(own_node, SIZE + 5)
    with pytest.raises(HistoryRefused):
        link.evidence_log.anchor(account, department_bytes("fire"), SIZE + 5, root_of(more), subproof(SIZE, more, True))
    # the verifier, with a trust file that asks for the court
    settings = own_node.settings
    own_node.settings = replace(settings, witnesses=(replace(settings.witnesses[0], required=True),))
    presentation, proof = receipt_of(own_node, built.records[SIZE - 1])
    trust = export_trust(own_node)
    Verifier(trust).verify(presentation, proof.serialize())
    with pytest.raises(CheckpointInvalid):
        Verifier(trust).verify(presentation, TlogProof(None, SIZE - 1, proof.path, note).serialize())


def test_a_witness_shown_another_history_is_proven_against_the_node(own_node: Node, court: Court) -> None:
    """Somebody with the log's key showed the court a forgery: the same size is proven by two notes, a smaller one by
    the node's tree."""
    for size in (SECOND_ANCHOR, SECOND_ANCHOR - 7):
        note, _ = forged(own_node, size)
        court.store.heads.clear()
        HttpWitness(own_node.settings.witnesses[0].url).add_checkpoint(AddCheckpoint(0, (), note))
        logs = {FIRE: (court.key,)}
        found = compare(logs, (), [own_node.settings.witnesses[0].url], own_node)
        assert [split.verify(logs) for split in found.splits] == [FIRE]
        assert found.problems == ()
    directory, url = own_node.settings.directory, own_node.settings.witnesses[0].url
    command = [sys.executable, str(ROOT / "yunxi.py"), "audit", "--department", "fire", "--witness", url, "--json"]
    audit = subprocess.run([*command, "--node", str(directory)], capture_output=True, text=True, check=False)
    assert audit.returncode == 1, audit.stderr
    assert len(json.loads(audit.stdout)["witnesses"]["splits"]) == 1
    Anchorer(own_node).round()
    status = node_status(own_node)
    assert not status.good
    assert of_court(own_node).refused


def test_a_node_put_back_to_an_old_state_is_told_by_the_witness(own_node: Node, court: Court) -> None:
    note, _ = forged(own_node, SIZE + 1)
    HttpWitness(own_node.settings.witnesses[0].url).add_checkpoint(AddCheckpoint(0, (), note))
    found = compare({FIRE: (court.key,)}, (), [own_node.settings.witnesses[0].url], own_node)
    assert found.splits == ()
    assert "put back" in found.problems[0]
    check_round(Anchorer(own_node), 1)
    assert of_court(own_node).refused
    assert "already" in (of_court(own_node).problem or "")


def test_an_honest_node_and_its_witness_agree(own_node: Node, court: Court) -> None:
    check_round(Anchorer(own_node), 1)
    found = compare({FIRE: (court.key,)}, (), [own_node.settings.witnesses[0].url], own_node)
    assert (found.splits, found.problems) == ((), ())
    assert found.checkpoints >= 2


def test_the_log_s_own_checkpoints_open(own_node: Node, court: Court) -> None:
    check_round(Anchorer(own_node), 1)
    head = court.store.head(FIRE)
    assert head is not None
    with own_node.database.reading() as connection:
        assert open_checkpoint(head.note, court.key).root == read_logs(connection, "fire")[0].root


# -- settings --


def test_settings_are_written_and_read(own_node: Node, court: Court) -> None:
    settings = replace(own_node.settings, quorum=1)
    settings.save()
    assert Settings.load(settings.directory) == settings


ENTRY = '[[witnesses]]\nname = "w"\nvkey = "{}"\nurl = "https://w.example"\noperator = "o"\n'.format(witness_key("w"))
UNFIT = {
    "an unknown member": ENTRY + 'colour = "red"\n',
    "no url": ENTRY.replace('url = "https://w.example"\n', ""),
    "a file url": ENTRY.replace("https:", "file:"),
    "a log's key": ENTRY.replace(str(witness_key("w")), "w+00000000+AQ=="),
    "a vkey with another name's id": ENTRY.replace('vkey = "w+', 'vkey = "x+'),
    "the same key twice": ENTRY + ENTRY.replace('"w"', '"v"'),
    "required in words": ENTRY + 'required = "yes"\n',
}


@pytest.mark.parametrize("text", [*UNFIT.values(), "quorum = -1\n", 'quorum = "all"\n'], ids=[*UNFIT, "-1", "all"])
def test_unfit_settings_are_refused_with_the_file_s_name(built: Built, tampered: Path, text: str) -> None:
    path = tampered / "node.toml"
    written = path.read_text()
    path.write_text(text + written if text.startswith("quorum") else written + text)
    with pytest.raises(CouldNotRun, match=r"node\.toml"):
        Settings.load(tampered)
