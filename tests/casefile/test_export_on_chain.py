"""A case file with everything: anchor evidence of a real network, tokens of a real time-stamping authority, renewed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ledger.casefile.export import Order, export
from ledger.departments import add_department
from ledger.errors import ChainUnreachable, CouldNotRun
from ledger.node import Node, create_node
from ledger.store.reading import read_logs
from ledger.submission import Refused, Submission
from ledger.timestamps.rounds import Timestamping
from ledger.timestamps.settings import AuthoritySettings, TimestampSettings
from ledger.trust import export_trust
from ledger.verify.casefile import verify_case_file
from tests.fixtures.cases import CASE, MATTER, OFFICERS, FilledCase, fill_case, step
from tests.fixtures.networks import clique_network
from tests.fixtures.nodes import DEPARTMENTS
from tests.fixtures.records import COMPANY
from tests.fixtures.tsa import make_authority, serving

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("case file on a real chain")]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, FilledCase]]:
    base = tmp_path_factory.mktemp("live")
    with ExitStack() as stack:
        # one validator: two must seal in turns, so that one that pauses stops both; four are in tests/chain
        network = stack.enter_context(clique_network(1))
        create_node(base / "node", consortium="test.example", chain_url_or_embedded=network.urls[0])
        node = Node.open(base / "node")
        for department, name in DEPARTMENTS.items():
            add_department(node, department, name)
        authority = make_authority(base / "tsa", "Court", starts=datetime.now(UTC) - timedelta(days=1), days=3650)
        named = AuthoritySettings("national", stack.enter_context(serving(authority)), authority.root_pem)
        settings = TimestampSettings(authorities=(named,), every_seconds=0.01)
        node.settings = replace(node.settings, timestamps=settings)
        case = fill_case(node)
        network.await_blocks(4)
        yield node, case
        node.close()


def test_every_level_is_good(live: tuple[Node, FilledCase], tmp_path: Path) -> None:
    node, case = live
    with node.database.reading() as connection:
        log = read_logs(connection, "fire")[0]
    assert Timestamping(node).renew(log) is None
    done = export(node, node.intake.submit, Order(CASE), tmp_path / "case.zip")
    trust = export_trust(node)
    with (tmp_path / "case.zip").open("rb") as stream:
        result = verify_case_file(trust, stream, hashlib.sha256(trust.serialize()).hexdigest())
    assert [str(finding.error) for finding in result.findings] == []
    facts = result.facts
    assert facts is not None
    assert (facts.counts["chain"].good, facts.counts["chain"].bad) == (done.items, 0)
    own = sum(1 for item in facts.items if item.item.department == "fire")
    assert facts.counts["time"].good == own == len(case.own)
    assert any(time.renewals for item in facts.items for time in item.item.times)
    kinds = {gap.kind for gap in facts.case.gaps}
    assert kinds == {"participant-missing"}


def test_behind_with_trusted_time_nothing_is_exported_and_no_decision_sealed(
    live: tuple[Node, FilledCase], tmp_path: Path
) -> None:
    node, _ = live
    node.intake.submit("fire", [Submission("unstamped", step("note.added", 12, text="x"))])
    clock = node.clock
    node.clock = lambda: clock() + 25 * 3600  # type: ignore[method-assign]
    try:
        with pytest.raises(CouldNotRun, match="more than 24 hours"):
            export(node, node.intake.submit, Order(CASE), tmp_path / "case.zip")
        subject = {"matter": MATTER, "subjects": [COMPANY], "officers": OFFICERS}
        decided = step("decision.made", 13, decision_number="2", outcomes=["warning"], **subject)
        [refused] = node.intake.submit("fire", [Submission("late decision", decided)])
    finally:
        node.clock = clock  # type: ignore[method-assign]
    assert isinstance(refused, Refused)
    assert refused.error.reason == "no-trusted-time"
    assert list(tmp_path.iterdir()) == []


def test_without_the_chain_nothing_is_exported(
    live: tuple[Node, FilledCase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, _ = live
    dead = replace(node.settings, chain=replace(node.settings.chain, url="http://127.0.0.1:9"))
    monkeypatch.setattr(node, "settings", dead)
    with pytest.raises(ChainUnreachable):
        export(node, node.intake.submit, Order(CASE), tmp_path / "case.zip")
    assert list(tmp_path.iterdir()) == []
