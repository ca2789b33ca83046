"""A proof from the first day still verifies after five years, in which every key was rotated twice and time-stamping
authorities came and went; with real commands on a real chain, whose clock runs as fast as the node's."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest

from ledger.anchor import Anchorer
from ledger.chain.embedded.daemon import DATABASE
from ledger.chain.embedded.directory import DaemonState, write_state
from ledger.chain.embedded.evm import DevelopmentChain
from ledger.chain.embedded.rpc import Rpc
from ledger.chain.embedded.server import RpcServer
from ledger.chain.embedded.store import ChainStore
from ledger.errors import CheckpointInvalid, KeyRefused, NotProven, TimestampInvalid
from ledger.formats.der import read_der
from ledger.formats.note import Note
from ledger.formats.timestamp import parse_token, token_of
from ledger.formats.tlogproof import TlogProof
from ledger.formats.trust import Trust
from ledger.node import Node
from ledger.receipts import make_receipt
from ledger.rotation import LEAD_S, USES, rotate_key
from ledger.store.reading import read_logs
from ledger.timestamps.report import TimeEvidence, time_evidence
from ledger.timestamps.rounds import Timestamping
from ledger.timestamps.settings import AuthoritySettings, TimestampSettings
from ledger.trust import export_trust
from ledger.verify import Verifier
from ledger.verify.sentences import not_proven
from tests.fixtures.nodes import Built, check_round
from tests.fixtures.records import acknowledged, submissions
from tests.fixtures.tsa import Authority, make_authority, serving

pytestmark = pytest.mark.slow

YEAR = 365 * 86_400
DEPARTMENTS = ("fire", "health")


class Clock:
    """The machine's clock, put forward; it never goes back."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def to_year(self, years: float) -> None:
        assert years * YEAR > self.ahead
        self.ahead = years * YEAR


@dataclass(frozen=True)
class Shifted:
    """A real authority by another clock: its answer with the time put forward, signed anew with its key."""

    authority: Authority
    clock: Clock
    root_pem: str = field(default="")

    def reply(self, query: bytes) -> bytes:
        content = parse_token(token_of(self.authority.reply(query))).content
        now = datetime.fromtimestamp(self.clock(), UTC).strftime("%Y%m%d%H%M%SZ").encode()
        (said,) = re.findall(rb"\x18\x0f(\d{14}Z)", content)
        token = self.authority.sign(content.replace(said, now))
        response = bytes.fromhex("3003020100") + token
        encoded = b"\x30\x82" + len(response).to_bytes(2, "big") + response
        assert read_der(encoded, "response").encoded == encoded
        return encoded


@contextmanager
def chain_of(directory: Path, clock: Clock) -> Iterator[None]:
    """The node's own embedded chain, served here because a process of its own would have the machine's clock."""
    store = ChainStore(directory / DATABASE)
    server = RpcServer(0)
    instance = "a" * 64
    server.rpc = Rpc(DevelopmentChain(store, clock=clock), instance, lambda: None)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    write_state(directory, DaemonState(1, server.server_port, instance))
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        server.rpc.close()
        store.close()


@dataclass(frozen=True)
class Proof:
    """What was handed out on the first day."""

    presentation: bytes
    receipt: bytes
    times: TimeEvidence
    trust: Trust

    @property
    def size(self) -> int:
        return int(Note.parse(TlogProof.parse(self.receipt).checkpoint).text.split(b"\n")[1])


@dataclass(frozen=True)
class Aged:
    """The first day's proof, one of the fifth year, and what the node says then."""

    first: Proof
    last: Proof
    renewals: bytes
    verifier: Verifier
    rotated: dict[tuple[str, str], list[str]]
    clock: Clock


@pytest.fixture(scope="module")
def aged(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aged]:
    base, clock = tmp_path_factory.mktemp("succession"), Clock()
    directory = built.copy_with_chain(base / "node")
    began = datetime.now(UTC) - timedelta(days=1)

    def authority(name: str, years: tuple[float, float], stack: ExitStack) -> AuthoritySettings:
        days = int((years[1] - years[0]) * 365)
        made = make_authority(base / name, name, kind="ec", starts=began + timedelta(days=years[0] * 365), days=days)
        return AuthoritySettings(name, stack.enter_context(serving(Shifted(made, clock))), made.root_pem)  # type: ignore[arg-type]

    with ExitStack() as stack:
        stack.enter_context(chain_of(directory / "chain", clock))
        node = Node.open(directory, clock)
        stack.callback(node.close)
        named: list[AuthoritySettings] = []

        def name_authority(name: str, years: tuple[float, float]) -> None:
            # the newest is asked first; those before it stay named, so that trust files keep their roots
            named.insert(0, authority(name, years, stack))
            node.settings = replace(node.settings, timestamps=TimestampSettings(authorities=tuple(named)))

        def renew() -> None:
            with node.database.reading() as connection:
                logs = read_logs(connection)
            assert [Timestamping(node).renew(log) for log in logs] == [None, None]

        rotated: dict[tuple[str, str], list[str]] = {}

        def rotate_all() -> None:
            for department in DEPARTMENTS:
                for use in USES:
                    rotation = rotate_key(node, department, use)
                    assert rotation.new
                    rotated.setdefault((department, use), [rotation.old]).append(rotation.new_key)
            clock.ahead += LEAD_S + 1

        name_authority("First", (0, 2))
        first = handed_out(node, "first")
        clock.to_year(1.5)
        rotate_all()
        name_authority("Second", (1, 3.5))
        handed_out(node, "second")
        renew()
        clock.to_year(3)
        rotate_all()
        name_authority("Third", (2.5, 6))
        handed_out(node, "third")
        renew()
        clock.to_year(5)
        last = handed_out(node, "last")
        with node.database.reading() as connection:
            (evidence,) = time_evidence(connection, read_logs(connection, "fire")[0].number, first.size)
        assert evidence.token == first.times.token and evidence.renewals is not None
        trust = Trust.parse(export_trust(node).serialize())
        # one witness is needed: as if the other department were on a node of its own
        elsewhere = tuple(replace(witness, operator=witness.name) for witness in trust.witnesses)
        trust = replace(trust, quorum=1, witnesses=elsewhere)
        yield Aged(first, last, evidence.renewals.serialize(), Verifier(trust), rotated, clock)


def handed_out(node: Node, name: str) -> Proof:
    """Seals, anchors and stamps; then what a court would be given of the first record."""
    record = acknowledged(node.intake.submit("fire", submissions(5_000, 2, prefix=name)))[0]
    check_round(Anchorer(node), 1)
    with node.database.writing() as connection:
        presentation = node.reader.present(connection, record.record_id, None)
        proof = make_receipt(connection, node.agent, record.record_id, int(node.clock()), node.settings.policy)
        size = int(Note.parse(proof.checkpoint).text.split(b"\n")[1])
        (times,) = time_evidence(connection, read_logs(connection, "fire")[0].number, size)
    return Proof(presentation, proof.serialize(), times, export_trust(node))


def test_every_key_was_rotated_twice(aged: Aged) -> None:
    assert aged.rotated.keys() == {(department, use) for department in DEPARTMENTS for use in USES}
    assert all(len(set(kids)) == 3 for kids in aged.rotated.values())


def test_the_first_days_proof_verifies_with_the_trust_file_of_today(aged: Aged) -> None:
    facts = aged.verifier.verify(aged.first.presentation, aged.first.receipt)
    facts = aged.verifier.date(facts, aged.first.times.token, aged.renewals)
    logged = facts.logged
    assert logged is not None and logged.anchor is not None
    assert [witness.name for witness in logged.cosigned] == ["test.example/health/witness"]
    assert facts.key.valid_to is not None and logged.log_key_ended is not None
    (stamped,) = logged.times
    assert stamped.root == "CN=First root" and len(stamped.renewed) == 2
    # its own certificates ended three years ago; those of its renewals have not
    assert stamped.time + 2 * YEAR < aged.clock() < stamped.good_until
    # the clocks of others say that it is from before its keys ended
    said = " ".join(not_proven(facts, [], "en"))
    assert "while the key was valid" not in said and "was the log's" not in said


def test_so_does_one_of_today(aged: Aged) -> None:
    facts = aged.verifier.verify(aged.last.presentation, aged.last.receipt)
    facts = aged.verifier.date(facts, aged.last.times.token)
    assert facts.logged is not None
    assert (facts.key.valid_to, facts.logged.log_key_ended, len(facts.logged.cosigned)) == (None, None, 1)
    assert facts.logged.times[0].root == "CN=Third root"


def test_the_trust_file_of_the_first_day_does_not_know_the_keys_of_today(aged: Aged) -> None:
    old = Verifier(aged.first.trust)
    assert old.verify(aged.first.presentation, aged.first.receipt).logged is not None
    with pytest.raises(KeyRefused):
        old.verify(aged.last.presentation, aged.last.receipt)
    facts = old.verify(aged.first.presentation, aged.first.receipt)
    with pytest.raises(TimestampInvalid):
        old.date(facts, aged.first.times.token, aged.renewals)


LEFT_OUT = {
    "the statement keys before": lambda d: replace(d, keys=tuple(k for k in d.keys if k.valid_to is None)),
    "the log's keys before": lambda d: replace(d, log=replace(d.log, earlier=())),
}


@pytest.mark.parametrize("case", [*LEFT_OUT, "the witnesses' keys before", "a witness key that ended before"])
def test_what_is_left_out_of_the_trust_file_is_not_believed(aged: Aged, case: str) -> None:
    trust = aged.verifier._trust
    if case in LEFT_OUT:
        trust = replace(trust, departments=tuple(map(LEFT_OUT[case], trust.departments)))
    elif case == "the witnesses' keys before":
        trust = replace(trust, witnesses=tuple(replace(witness, earlier=()) for witness in trust.witnesses))
    else:
        ended = tuple(
            replace(w, earlier=tuple(replace(k, valid_from=0, valid_to=1) for k in w.earlier)) for w in trust.witnesses
        )
        trust = replace(trust, witnesses=ended)
    with pytest.raises((KeyRefused, CheckpointInvalid)):
        Verifier(trust).verify(aged.first.presentation, aged.first.receipt)


def test_without_renewals_the_time_stamp_says_how_far_it_reaches(aged: Aged) -> None:
    facts = aged.verifier.verify(aged.first.presentation, aged.first.receipt)
    (stamped,) = aged.verifier.date(facts, aged.first.times.token).logged.times  # type: ignore[union-attr]
    assert stamped.good_until < aged.clock()
    roots = tuple(pem for pem in aged.verifier._trust.tsa_roots if pem not in aged.first.trust.tsa_roots)
    without = Verifier(replace(aged.verifier._trust, tsa_roots=roots))
    with pytest.raises(NotProven):
        without.date(facts, aged.first.times.token, aged.renewals)
