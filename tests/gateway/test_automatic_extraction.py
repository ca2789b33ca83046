"""What the open cases of a node entitle it to arrives by itself; then both logs agree, and the chain allowed it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from gateway.dossiers.models import dossier_entries
from gateway.extractions import pulls
from gateway.extractions.models import pulls as table
from ledger.audit import WARNING, LogReport, audit_nodes
from ledger.audit.exchanges import FLIGHT_S, Speaking, check_exchanges
from ledger.disclosures import Grant, Reconciliation, check_grants, read_sides, reconcile
from ledger.errors import Refusal
from ledger.store.reading import read_logs
from tests.fixtures.command import Yunxi
from tests.fixtures.exchange import LEAD, NAMES, OTHER, OWNER, TYPE, Exchange, exchange, until

ABSENT = "streets"
"""A member whose node has no address."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with exchange(tmp_path_factory.mktemp("exchange") / "node", automatic=True) as opened:
        node, consortium = opened.site.node, opened.site.link.consortium
        consortium.admit(
            node.agent.operator_key(), ABSENT, "街道 | Streets", f"test.example/{ABSENT}", "", "0x" + "11" * 20
        )
        opened.submit(130)
        opened.submit(20, department=OTHER)
        opened.grant()
        opened.grant(owner=OTHER)
        yield opened


def dossier(world: Exchange, number: str, owner: str = OWNER) -> set[str]:
    here = (dossier_entries.c.number == number) & (dossier_entries.c.owner == owner)
    with world.site.database.reading() as connection:
        return set(connection.scalars(select(dossier_entries.c.record_id).where(here)))


def pull(world: Exchange, number: str, owner: str = OWNER) -> Any:
    with world.site.database.reading() as connection:
        return connection.execute(select(table).where(table.c.number == number, table.c.owner == owner)).one_or_none()


def is_in(world: Exchange, number: str, state: str, owner: str = OWNER) -> bool:
    found = pull(world, number, owner)
    return found is not None and found.state == state


def reconciled(world: Exchange) -> Reconciliation:
    """Both sides of everything, which must fit; and the grants."""
    node = world.site.node
    with node.database.reading() as connection:
        sides = [side for log in read_logs(connection) for side in read_sides(connection, node.reader, log)]
    assert list(check_grants(sides, world.site.grants.find)) == []
    return reconcile(sides, NAMES)


def test_opening_fills_the_dossier_from_every_participant(world: Exchange) -> None:
    number = world.inspect(participants=[OWNER, OTHER])
    until(lambda: is_in(world, number, pulls.FOLLOWING) and is_in(world, number, pulls.FOLLOWING, OTHER))
    until(lambda: len(dossier(world, number)) >= 130 and len(dossier(world, number, OTHER)) == 20)
    found = pull(world, number)
    assert found.last_success_at is not None
    assert found.page == 2


def test_a_new_record_reaches_the_open_dossier(world: Exchange) -> None:
    number = world.inspect()
    until(lambda: is_in(world, number, pulls.FOLLOWING))
    (new,) = world.submit(1, prefix="new")
    until(lambda: new.record_id in dossier(world, number))


def test_a_participant_that_is_down_is_shown_and_holds_up_nobody(world: Exchange) -> None:
    number = world.inspect(participants=[ABSENT, OWNER])
    until(lambda: is_in(world, number, pulls.FOLLOWING))
    until(lambda: is_in(world, number, pulls.UNREACHABLE, ABSENT))
    found = pull(world, number, ABSENT)
    until(lambda: pull(world, number, ABSENT).attempts > found.attempts)
    assert pull(world, number, ABSENT).since == found.since  # its age goes on counting
    assert found.last_success_at is None


def test_what_is_granted_later_arrives_too(world: Exchange) -> None:
    number = world.inspect(kind="late")
    until(lambda: is_in(world, number, pulls.REFUSED))
    assert pull(world, number).code == "wrong-case-kind"
    world.grant(case_kinds=("late",), record_types=(TYPE,), units=("when",))
    until(lambda: is_in(world, number, pulls.FOLLOWING), 60)
    until(lambda: len(dossier(world, number)) >= 130)


def test_closing_ends_it_on_both_sides(world: Exchange) -> None:
    number = world.inspect()
    until(lambda: is_in(world, number, pulls.FOLLOWING))
    extraction = pull(world, number).extraction
    assert world.gateway.client(LEAD).post(f"/v1/inspections/{number}/close", json={"outcome": "completed"}).is_success
    until(lambda: is_in(world, number, pulls.ENDED))
    assert world.pages(extraction, pull(world, number).page).json()["code"] == "reference-closed"


def test_both_logs_agree_and_the_chain_allowed_it(world: Exchange) -> None:
    number = world.inspect()
    until(lambda: is_in(world, number, pulls.FOLLOWING))
    result = reconciled(world)
    assert result.differences == []
    assert result.made == result.received > 0
    assert result.records >= pull(world, number).records > 0


def test_the_auditors_command_says_the_same(world: Exchange) -> None:
    number = world.inspect()
    until(lambda: is_in(world, number, pulls.FOLLOWING))
    directory = world.site.node.settings.directory
    answer = Yunxi(directory)("reconcile-disclosures", directory, "--json")
    assert answer.code == 0, answer.out + answer.err
    found = answer.json()
    assert (found["good"], found["differences"]) == (True, [])
    assert found["made"] == found["received"] > 0


def test_the_audit_holds_both_logs_and_the_grants_against_each_other(world: Exchange) -> None:
    number = world.inspect()
    until(lambda: is_in(world, number, pulls.FOLLOWING))
    node = world.site.node
    found = audit_nodes([node])
    owner = next(log for log in found.logs if log.department == OWNER)
    assert found.good, found.first()
    assert owner.disclosures > 0
    assert not owner.notices

    def compared(grants: Any, now: float, *left_out: str) -> dict[str, LogReport]:
        reports = {log.department: LogReport(log.department, log.origin, log.size) for log in found.logs}
        with node.database.reading() as connection:
            logs = [
                Speaking(
                    connection, node.reader, log, () if log.department in left_out else found.exchanges[log.department]
                )
                for log in read_logs(connection)
            ]
            check_exchanges(logs, reports, grants, now)
        return reports

    def nothing(number: int) -> Grant:
        raise Refusal(f"there is no grant {number}")

    assert all(report.good for report in compared(world.site.grants.find, node.clock()).values())
    assert {"grant-unknown", "not-granted"} <= compared(nothing, node.clock())[OWNER].counts.keys()
    young = compared(None, node.clock(), LEAD)[OWNER]
    assert young.good and {notice.kind for notice in young.notices} == {"in-flight"}
    late = compared(None, node.clock() + 2 * FLIGHT_S, LEAD)[OWNER]
    assert late.counts.keys() == {"not-received"}
    assert all(LEAD in finding.others and finding.severity == WARNING for finding in late.findings)
    assert compared(None, node.clock(), OWNER)[LEAD].counts.keys() == {"not-made"}


def test_extractions_are_listed_shown_and_ended_by_their_owner(world: Exchange) -> None:
    number = world.inspect()
    until(lambda: is_in(world, number, pulls.FOLLOWING))
    extraction, yunxi = pull(world, number).extraction, Yunxi(world.site.node.settings.directory)
    listed = yunxi("extract", "list", "--node", ".", "--department", OWNER, "--json").json()["extractions"]
    assert extraction in {each["id"] for each in listed}
    shown = yunxi("extract", "show", extraction, "--node", ".", "--json").json()
    assert (shown["records"], shown["state"]) == (pull(world, number).records, "standing")
    assert yunxi("extract", "cancel", extraction, "--node", ".").code == 0
    assert world.pages(extraction, pull(world, number).page).json()["code"] == "extraction-ended"
    assert yunxi("extract", "show", "0" * 32, "--node", ".").code == 1
