"""Emergency access: only where the owner's settings allow it, on record on both sides, justified by a second person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from gateway.emergency.models import emergencies
from gateway.settings import EmergencySettings, GatewaySettings
from ledger.disclosures import check_grants, read_sides, reconcile
from ledger.store.reading import read_logs
from tests.fixtures.exchange import LEAD, NAMES, OTHER, OWNER, RESTRICTED, TYPE, Exchange, exchange, until
from tests.fixtures.exchange import SETTINGS as DEFAULTS

OFFICER, SUPERVISOR, REVIEWER = frozenset({"officer"}), frozenset({"supervisor"}), frozenset({"legal-reviewer"})
ALLOWED = EmergencySettings((LEAD,), (TYPE, RESTRICTED), 24)
SETTINGS = replace(DEFAULTS, emergency=ALLOWED)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with exchange(tmp_path_factory.mktemp("exchange") / "node", settings=SETTINGS) as opened:
        opened.submit(3)
        opened.submit(3, department=OTHER)
        yield opened


def ask(world: Exchange, number: str, lead: str = LEAD, owner: str = OWNER, **changes: Any) -> httpx.Response:
    body = {"owner": owner, "kind": "inspection", "number": number, "reason": "燃气泄漏，人员被困。"}
    return world.gateway.client(lead, OFFICER).post("/v1/emergencies", json=body | changes)


def justify(world: Exchange, emergency: str, roles: Any = SUPERVISOR, **changes: Any) -> httpx.Response:
    body = {"outcome": "justified", "justification": "核实属实。"}
    return world.gateway.client(LEAD, roles).post(f"/v1/emergencies/{emergency}/justify", json=body | changes)


def listed(world: Exchange, department: str, emergency: str) -> dict[str, Any] | None:
    items = world.gateway.client(department, OFFICER).get("/v1/emergencies?limit=1000").json()["items"]
    return next((each for each in items if each["id"] == emergency), None)


def used(world: Exchange, **changes: Any) -> dict[str, Any]:
    """An emergency access that the owner gave."""
    answer = ask(world, world.inspect(), **changes)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_what_no_grant_covers_comes_and_is_on_record_on_both_sides_before(world: Exchange) -> None:
    number = world.inspect()
    refused = world.ask(world.request(number))
    assert refused.json()["code"] == "no-grant"
    answer = ask(world, number, deadline_hours=2)
    assert answer.status_code == 201, answer.text
    assert answer.json()["records"] == 3
    emergency = answer.json()["id"]
    mine, theirs = world.records(LEAD, "emergency.used")[-1], world.records(OWNER, "emergency.used")[-1]
    assert (mine["role"], mine["id"], theirs["role"], theirs["emergency"]) == (
        "requester",
        emergency,
        "owner",
        emergency,
    )
    assert mine["reason"] == theirs["reason"]
    assert theirs["hours"] == 2
    page = world.records(OWNER, "disclosure.made")[-1]
    assert page["grants"] == []
    assert page["emergency"] == {"id": emergency, "types": [TYPE]}
    log = [kind for kind in kinds(world, OWNER) if kind in ("emergency.used", "disclosure.made")]
    assert log.index("emergency.used") < log.index("disclosure.made")
    assert (listed(world, OWNER, emergency) or {})["role"] == "owner"
    assert (listed(world, LEAD, emergency) or {})["overdue"] is False

    assert justify(world, emergency).status_code == 200
    until(lambda: (listed(world, OWNER, emergency) or {})["outcome"] == "justified")
    told = world.records(OWNER, "emergency.justified")[-1]
    assert (told["role"], told["late"], told["justified_by"]) == (
        "owner", False, (listed(world, LEAD, emergency) or {})["justified_by"],
    )  # fmt: skip


def kinds(world: Exchange, department: str) -> list[str]:
    answer = world.gateway.client(department).get("/v1/records?limit=1000")
    return [each["type"] for each in reversed(answer.json()["records"])]


def test_later_records_of_the_case_come_too_until_it_ends(world: Exchange) -> None:
    number = world.inspect()
    made = ask(world, number).json()
    world.submit(1, prefix="urgent")
    body = world.request(number)
    answer = world.ask(body)
    assert answer.json()["granted"][TYPE]["emergency"] == made["id"]
    extraction = answer.json()["id"]
    assert len(world.pages(extraction, 1, 5).content.splitlines()) == 2
    assert justify(world, made["id"], outcome="not-justified").status_code == 200
    until(lambda: (listed(world, OWNER, made["id"]) or {})["outcome"] == "not-justified")
    world.submit(1, prefix="too late")
    assert world.pages(extraction, 2, 5).json()["code"] == "no-grant"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a requester that the settings do not name": ({"lead": OTHER, "owner": OWNER}, "emergency-not-allowed"),
    "a type that they do not name": ({"types": ["note.added"]}, "emergency-not-allowed"),
    "a type that the law restricts, though they name it": ({"types": [RESTRICTED]}, "emergency-not-allowed"),
    "more hours than they allow": ({"deadline_hours": 25}, "emergency-not-allowed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_allowed_is_refused_on_record_and_closed(world: Exchange, case: str) -> None:
    changes, code = REFUSED[case]
    lead = changes.get("lead", LEAD)
    number = world.inspect(participants=[changes.get("owner", OWNER)], lead=lead)
    pages = len(world.records(OWNER, "disclosure.made"))
    world.gateway.forget_signers()
    answer = ask(world, number, **changes)
    assert (answer.status_code, answer.json()["refusal"]) == (502, code), answer.text
    assert world.refusals(OWNER)[-1]["code"] == code
    assert len(world.records(OWNER, "disclosure.made")) == pages
    assert world.records(lead, "emergency.used")[-1]["role"] == "requester"
    closed = world.records(lead, "emergency.justified")[-1]
    assert (closed["outcome"], code in closed["justification"]) == ("refused", True)


def test_what_the_grants_cover_is_no_emergency(world: Exchange) -> None:
    world.grant(owner=OWNER, case_kinds=("covered",))
    answer = ask(world, world.inspect(kind="covered"))
    assert answer.json()["refusal"] == "emergency-not-allowed"


def test_by_default_nobody_is_allowed_anything(world: Exchange) -> None:
    assert EmergencySettings() == EmergencySettings(allow=(), types=())
    book = world.site.extractions.owner._emergencies
    book._settings = EmergencySettings()
    try:
        assert ask(world, world.inspect()).json()["refusal"] == "emergency-not-allowed"
    finally:
        book._settings = ALLOWED


def test_only_a_second_person_justifies_and_once(world: Exchange) -> None:
    number = world.inspect()
    body = {"owner": OWNER, "kind": "inspection", "number": number, "reason": "急"}
    both = SUPERVISOR | OFFICER
    answer = world.gateway.client(LEAD, both).post("/v1/emergencies", json=body)
    assert answer.status_code == 201, answer.text
    emergency = answer.json()["id"]
    again = justify(world, emergency, both)
    assert (again.status_code, again.json()["code"]) == (403, "second-person-required")
    assert justify(world, emergency, OFFICER).json()["code"] == "forbidden"
    path = f"/v1/emergencies/{emergency}/justify"
    other = world.gateway.client(OTHER, SUPERVISOR).post(path, json={"outcome": "justified", "justification": "x"})
    owner = world.gateway.client(OWNER, SUPERVISOR).post(path, json={"outcome": "justified", "justification": "x"})
    assert (other.status_code, owner.status_code) == (404, 404), "neither a stranger nor the owner"
    assert justify(world, emergency, REVIEWER).status_code == 200
    assert justify(world, emergency, REVIEWER).json()["code"] == "conflict"


def test_an_overdue_one_blocks_the_next_on_both_sides_until_it_is_justified(
    world: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = used(world, deadline_hours=1)
    number = world.inspect()
    body = world.request(number)
    site, now = world.site, world.site.clock
    # an hour and a half later, for what looks at deadlines; keys, chain and signatures keep their time
    monkeypatch.setattr(site, "clock", lambda: now() + 5_400)
    assert (listed(world, LEAD, made["id"]) or {})["overdue"] is True
    assert (listed(world, OWNER, made["id"]) or {})["overdue"] is True
    monkeypatch.undo()
    with site.database.writing() as connection:  # the deadline was a second ago
        connection.execute(
            emergencies.update().where(emergencies.c.emergency == made["id"]).values(due_at=int(now()) - 1)
        )
    answer = ask(world, number)
    assert (answer.status_code, answer.json()["code"]) == (403, "emergency-unjustified"), "its own node already"
    parts = ready(world)
    until(
        lambda: world.gateway.client(None).get("/readyz").json()["parts"]["emergencies"]["departments"][LEAD]["overdue"]
    )
    assert parts["emergencies"]["ok"] is True
    # a node that does not look first is refused by the owner
    emergency = by_hand(world, body)
    world.gateway.forget_signers()
    refused = world.ask(body | {"emergency": emergency})
    assert (refused.status_code, refused.json()["code"]) == (403, "emergency-unjustified")
    assert world.refusals(OWNER)[-1]["code"] == "emergency-unjustified"
    assert justify(world, made["id"]).json()["late"] is True
    until(lambda: (listed(world, OWNER, made["id"]) or {})["outcome"] == "justified")
    assert world.ask(body | {"emergency": emergency}).status_code == 200


def ready(world: Exchange) -> dict[str, Any]:
    parts: dict[str, Any] = world.gateway.client(None).get("/readyz").json()["parts"]
    return parts


def by_hand(world: Exchange, body: dict[str, Any], **changes: Any) -> dict[str, str]:
    """A record of an emergency that the requester's own node did not check."""
    from gateway.emergency.owner import SHOWN
    from gateway.extractions.refusals import instant
    from gateway.notices.shown import seal_once
    from ledger.formats.sdjwt import parse_statement
    from ledger.submission import draw_record_id

    now = world.site.clock()
    claims = parse_statement(body["reference"]["presentation"].encode().partition(b"~")[0]).payload
    emergency = draw_record_id(now)
    record = {
        "id": emergency, "type": "emergency.used", "v": 1, "inspection": claims["inspection"],
        "occurred_at": instant(now),
        "role": "requester", "emergency": emergency, "owner": OWNER, "requester": LEAD, "reference": claims["jti"],
        "lead": LEAD, "reason": "急", "hours": 2, "due_at": instant(now + 7_200), **changes,
    }  # fmt: skip
    seal_once(world.site, LEAD, f"by-hand/{emergency}", record)
    return world.site.extractions.requester.show(emergency, SHOWN)


def test_an_emergency_is_for_its_own_case_and_owner_only(world: Exchange) -> None:
    body = world.request(world.inspect())
    other = world.request(world.inspect())
    right = by_hand(world, body)
    forged = {
        "for another case": (other, right),
        "for another owner": (body, by_hand(world, body, owner=OTHER)),
        "an owner's record": (body, by_hand(world, body, role="owner")),
        "without a receipt": (body, right | {"receipt": None}),
        "another record altogether": (body, body["reference"]),
    }
    for case, (asked, shown) in forged.items():
        answer = world.ask(asked | {"emergency": shown})
        assert (answer.status_code, answer.json()["code"]) == (422, "reference-invalid"), case
    # what it was refused for is open at the requester, which a second person closes
    for item in world.gateway.client(LEAD, OFFICER).get("/v1/emergencies?limit=1000").json()["items"]:
        if item["outcome"] is None:
            justify(world, item["id"], REVIEWER)


def test_both_logs_agree_and_auditors_see_no_difference(world: Exchange) -> None:
    node = world.site.node
    with node.database.reading() as connection:
        sides = [side for log in read_logs(connection) for side in read_sides(connection, node.reader, log)]
    assert any(side.urgent for side in sides)
    assert list(check_grants(sides, world.site.grants.find)) == []
    # pages that this test took by hand have no receipt; those that the service took have
    made = {side.page for side in sides if side.kind == "disclosure.made"}
    differences = reconcile(sides, NAMES).differences
    assert {each.kind for each in differences} <= {"not-received"}
    assert len(differences) < len(made)
    without = [side for side in sides if side.kind != "emergency.used"]
    found = {each.kind for each in check_grants(without, world.site.grants.find)}
    assert found == {"emergency-unknown"}


def test_a_rebuild_makes_the_same_table(world: Exchange) -> None:
    def rows() -> list[str]:
        with world.site.database.reading() as connection:
            query = select(emergencies).where(emergencies.c.outcome.is_not(None))
            # one deadline was put back by hand
            return sorted(str(dict(row._mapping) | {"due_at": 0}) for row in connection.execute(query))

    emergency = used(world)["id"]
    assert justify(world, emergency).status_code == 200
    until(lambda: (listed(world, OWNER, emergency) or {})["outcome"] == "justified")
    before = rows()
    assert before
    world.site.projector.rebuild()
    assert rows() == before


BAD_SETTINGS = {
    "no hours": {"hours": 0},
    "a year": {"hours": 8_760},
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings_that_cannot_be_meant_are_refused(case: str) -> None:
    with pytest.raises(ValueError, match="hours"):
        GatewaySettings.from_table({"emergency": BAD_SETTINGS[case]})


def test_settings_are_read() -> None:
    table = {"emergency": {"allow": ["health"], "types": [TYPE], "hours": 12}}
    assert GatewaySettings.from_table(table).emergency == replace(ALLOWED, allow=("health",), types=(TYPE,), hours=12)


def test_documents_name_the_settings() -> None:
    text = (Path(__file__).parents[2] / "docs" / "recalls.md").read_text("utf-8")
    for name in EmergencySettings.__slots__:
        assert f"`{name}`" in text
