"""Grants: given, read in plain language, decided on, revoked; and what the law keeps back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.extractions.decision import Asked, decide
from gateway.grants.purposes import check_purposes, purposes
from gateway.grants.restrictions import restriction
from gateway.grants.sentences import sentence, standing, state_of
from gateway.grants.service import Grants, check_terms
from gateway.peers import watch
from gateway.problems import Problem
from ledger.chain import embedded
from ledger.chain.sharing_grants import LONGEST_TERM, Grant, Terms
from ledger.errors import ChainUnreachable, KeyRefused, Malformed, Refusal
from ledger.node import Node
from ledger.record_types import BUILT_IN, RecordTypes, load_types
from ledger.submission import Submission
from tests.fixtures.gateway import Gateway, serving
from tests.fixtures.nodes import Built, end_chain
from tests.fixtures.records import acknowledged

DAY = 86_400
TYPES = RecordTypes.load(BUILT_IN)


@pytest.fixture(autouse=True)
def _ask_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_AGE_S", 0.0)


def terms(**changes: Any) -> Terms:
    now = int(time.time())
    lists = (("inspection.report",), ("result", "place"), ("joint-inspection",), ("restaurant",))
    return replace(Terms("health", now, now + DAY, 100, *lists), **changes)


def body(**changes: Any) -> dict[str, Any]:
    """The same as a request to the service; None leaves a member out."""
    members = {
        "grantee": "health",
        "record_types": ["inspection.report"],
        "units": ["result", "place"],
        "purposes": ["joint-inspection"],
        "case_kinds": ["restaurant"],
        "per_day": 100,
        "valid_to": "2099-01-01T00:00:00+08:00",
        **changes,
    }
    return {name: value for name, value in members.items() if value is not None}


def grants_of(node: Node) -> Grants:
    link = node.connect()
    return Grants(node, lambda: link, node.intake.submit)


# ---- the service ----


def test_a_grant_is_given_listed_shown_and_revoked(gateway_on_chain: Gateway) -> None:
    fire, health = gateway_on_chain.client("fire"), gateway_on_chain.client("health")
    given = fire.post("/v1/grants", json=body())
    assert given.status_code == 201, given.text
    grant = given.json()
    assert (grant["owner"], grant["grantee"], grant["state"], grant["revoked_at"]) == (
        "fire",
        "health",
        "in-force",
        None,
    )
    path = f"/v1/grants/{grant['id']}"
    assert fire.get("/v1/grants").json()["grants"] == [grant]
    assert health.get("/v1/grants?direction=received").json()["grants"] == [grant]
    assert health.get("/v1/grants").json()["grants"] == []
    assert health.get(path).json() == fire.get(path).json() == grant
    revoked = fire.post(f"{path}/revoke")
    assert (revoked.status_code, revoked.json()["state"]) == (200, "revoked")
    assert health.get("/v1/grants?direction=received").json()["grants"][0]["state"] == "revoked"
    assert fire.post(f"{path}/revoke").json()["code"] == "refused"


def test_only_the_owners_administrators_and_systems_give_and_revoke(gateway_on_chain: Gateway) -> None:
    number = gateway_on_chain.client("fire").post("/v1/grants", json=body()).json()["id"]
    for roles in ({"officer"}, {"auditor"}, {"terminal"}, {"peer"}):
        other = gateway_on_chain.client("fire", roles)
        assert other.post("/v1/grants", json=body()).json()["code"] == "forbidden"
        assert other.post(f"/v1/grants/{number}/revoke").json()["code"] == "forbidden"
    administrator = gateway_on_chain.client("fire", {"department-admin"})
    assert administrator.post("/v1/grants", json=body()).status_code == 201
    health = gateway_on_chain.client("health")
    assert health.post(f"/v1/grants/{number}/revoke").json()["code"] == "forbidden"
    market = gateway_on_chain.client("market")
    assert market.get(f"/v1/grants/{number}").json()["code"] == "forbidden"
    assert market.post("/v1/grants", json=body()).json()["code"] == "forbidden", "its keys are on another node"
    assert gateway_on_chain.client(None).get("/v1/grants").status_code == 401


def test_the_purposes_are_listed(gateway_on_chain: Gateway) -> None:
    listed = gateway_on_chain.client("fire").get("/v1/grants/purposes").json()["purposes"]
    assert {"code": "joint-inspection", "zh": "联合检查", "en": "joint inspection"} in listed


BAD_BODIES = {
    "no unit": {"units": []},
    "a type that is not known": {"record_types": ["made.up"]},
    "a unit of another type": {"units": ["people"]},
    "a purpose that is not listed": {"purposes": ["curiosity"]},
    "a kind in Chinese": {"case_kinds": ["餐饮"]},
    "a kind of 33 characters": {"case_kinds": ["k" * 33]},
    "a unit twice": {"units": ["result", "result"]},
    "none a day": {"per_day": 0},
    "no end": {"valid_to": None},
    "an end without an offset": {"valid_to": "2099-01-01T00:00:00"},
    "an end before the beginning": {"valid_from": "2098-01-01T00:00:00Z", "valid_to": "2097-01-01T00:00:00Z"},
    "a member too many": {"everything": True},
    "a department id in capitals": {"grantee": "HEALTH"},
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_refused_is_a_grant_of(gateway_on_chain: Gateway, case: str) -> None:
    answer = gateway_on_chain.client("fire").post("/v1/grants", json=body(**BAD_BODIES[case]))
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request"), answer.text
    assert gateway_on_chain.client("fire").get("/v1/grants").json()["grants"] == []


CHAIN_SAYS_NO = {
    "to a stranger": ({"grantee": "police"}, "not an admitted member"),
    "to itself": ({"grantee": "fire"}, "needs no grant for its own records"),
    "since last year": ({"valid_from": "2020-01-01T00:00:00Z"}, "cannot begin at"),
}


@pytest.mark.parametrize("case", CHAIN_SAYS_NO)
def test_the_chain_refuses_a_grant(gateway_on_chain: Gateway, case: str) -> None:
    changes, words = CHAIN_SAYS_NO[case]
    answer = gateway_on_chain.client("fire").post("/v1/grants", json=body(**changes)).json()
    assert answer["code"] == "refused"
    assert words in answer["detail"]


# ---- deciding ----

REASONS = {
    "a grantee that has none": ({"grantee": "fire"}, {}, "no-grant"),
    "another type": ({}, {"types": frozenset({"photo.taken"})}, "no-grant"),
    "after its end": ({}, {"now": 2 * DAY}, "grant-expired"),
    "another purpose": ({}, {"purpose": "licensing-review"}, "wrong-purpose"),
    "another kind": ({}, {"case_kind": "hotel"}, "wrong-case-kind"),
    "a unit that is not granted": ({}, {"units": frozenset({"officers"})}, "unit-not-granted"),
    "what is granted": ({}, {}, None),
    "a unit of those granted": ({}, {"units": frozenset({"result"})}, None),
}


def test_decisions_come_from_the_chain_and_change_at_once(own_node: Node) -> None:
    grants = grants_of(own_node)
    given = grants.give("fire", terms(), by="test")
    now = time.time()  # not before: the grant begins in the second in which it was given

    def code(grantee: str = "health", now: float = now, **changes: Any) -> str | None:
        asked = replace(Asked("joint-inspection", "restaurant", None, None), **changes)
        types = asked.types or frozenset({"inspection.report"})
        found = decide(grants.between("fire", grantee), replace(asked, types=types), now, lambda _: 0)
        return next(iter(found.withheld.values()), None)

    for name, (who, changes, expected) in REASONS.items():
        later = {"now": now + changes["now"]} if "now" in changes else {}
        others = {key: value for key, value in changes.items() if key != "now"}
        assert code(**who, **others, **later) == expected, name
    grants.revoke("fire", given.id)
    assert code(now=time.time() + 60) == "grant-revoked"
    grants.give("fire", terms(), by="test")
    assert code(now=time.time()) is None
    embedded.stop(own_node.settings.directory / "chain")
    with pytest.raises(ChainUnreachable):
        code()


def test_another_programs_grant_is_seen_within_a_block(own_node: Node) -> None:
    mine, other = grants_of(own_node), grants_of(own_node)
    assert mine.between("fire", "health") == ()
    given = other.give("fire", terms(), by="test")
    assert mine.between("fire", "health") == (given,)
    other.revoke("fire", given.id)
    assert [grant.revoked_at is not None for grant in mine.received_by("health")] == [True]


def test_only_who_holds_the_owners_keys_gives(own_node: Node) -> None:
    grants = grants_of(own_node)
    with pytest.raises(KeyRefused, match="holds no keys of department 'police'"):
        grants.give("police", terms(), by="test")
    given = grants.give("fire", terms(), by="test")
    with pytest.raises(Problem, match="only its owner revokes it"):
        grants.revoke("health", given.id)
    with pytest.raises(Refusal, match="There is no grant 77"):
        grants.revoke("fire", 77)


# ---- what the law keeps back ----


def police_type(name: str, **marks: Any) -> str:
    """The file of a record type called `name`."""
    definition = json.loads((Path(str(BUILT_IN)) / "note.added.v1.json").read_text("utf-8"))
    definition["properties"]["type"] = {"const": name}
    return json.dumps(definition | marks, ensure_ascii=False)


@pytest.fixture
def police(built: Built, tmp_path: Path) -> Iterator[Node]:
    """A node with a type of public-security cases, one that its file marks as restricted, and one that is free."""
    directory = built.copy_with_chain(tmp_path / "police")
    (directory / "types").mkdir()
    mark = {"x-restricted": {"basis": {"zh": "测试法第一条", "en": "Test Law, article 1"}}}
    for name, marks in {"police.public-security": {}, "secret.note": mark, "plain.note": {}}.items():
        (directory / "types" / f"{name}.v1.json").write_text(police_type(name, **marks), "utf-8")
    opened = built.open(directory)
    yield opened
    opened.close()
    end_chain(directory)


def test_restricted_types_are_named_with_their_reason(police: Node) -> None:
    assert "第一百三十八条" in (restriction(police.types, "police.public-security") or {})["zh"]
    assert (restriction(police.types, "secret.note") or {})["en"] == "Test Law, article 1"
    assert restriction(police.types, "plain.note") is None
    grants = grants_of(police)
    types = ["police.public-security", "public-security.unknown", "secret.note", "plain.note"]
    assert grants.restricted("fire", types) == {"police.public-security", "public-security.unknown", "secret.note"}


@pytest.mark.parametrize("name", ["police.public-security", "secret.note"])
def test_a_restricted_type_is_granted_and_extracted_only_on_a_named_basis(police: Node, name: str) -> None:
    grants = grants_of(police)
    asked = terms(record_types=("plain.note", name), units=("text",))
    for basis in (None, "", "  "):
        with pytest.raises(Problem, match="may not be passed on") as caught:
            grants.give("fire", asked, by="someone", legal_basis=basis)
        assert caught.value.code == "restricted-by-law"
    assert grants.given_by("fire") == ()
    given = grants.give("fire", asked, by="someone", legal_basis="某某条例第三条")
    assert given.record_types == ("plain.note", name)
    assert grants.restricted("fire", ["police.public-security", "secret.note"]) == (
        {"police.public-security", "secret.note"} - {name}
    )
    assert grants.restricted("health", [name]) == {name}, "another owner has named none"
    assert grants_of(police).restricted("fire", [name]) == frozenset(), "it is in the log, not in memory"


def test_the_named_basis_is_a_record_in_the_owners_log(police: Node) -> None:
    asked = terms(record_types=("secret.note",), units=("text",))
    grants_of(police).give("fire", asked, by="account-7", legal_basis="某某条例第三条")
    from sqlalchemy import select

    from ledger.formats.sdjwt import parse_statement
    from ledger.store.models import entries

    with police.database.reading() as connection:
        statement = connection.scalar(
            select(entries.c.statement).where(entries.c.key.startswith("yunxi:sharing-basis/"))
        )
        record = police.reader.open(connection, parse_statement(statement).payload["jti"]).record()
    shown = {name: record[name] for name in ("type", "shared_type", "grantee", "basis", "account")}
    assert shown == {
        "type": "sharing.basis",
        "shared_type": "secret.note",
        "grantee": "health",
        "basis": "某某条例第三条",
        "account": "account-7",
    }


def test_a_record_that_only_bears_the_key_names_no_basis(police: Node) -> None:
    note = {"type": "plain.note", "v": 1, "text": "x", "occurred_at": "2026-01-01T00:00:00Z", "matter": "330299-XF-001"}
    key = "sharing-basis/secret.note/1"
    acknowledged(police.intake.submit("fire", [Submission(key, note), Submission(key, note, by_service=True)]))
    assert grants_of(police).restricted("fire", ["secret.note"]) == {"secret.note"}


def test_the_service_names_the_law(police: Node) -> None:
    with serving(police) as gateway:
        asked = body(record_types=["police.public-security"], units=["text"])
        refused = gateway.client("fire").post("/v1/grants", json=asked)
        assert (refused.status_code, refused.json()["code"]) == (451, "restricted-by-law")
        assert "治安管理处罚法" in refused.json()["basis"]["zh"]
        given = gateway.client("fire").post("/v1/grants", json=asked | {"legal_basis": "某某条例第三条"})
        assert given.status_code == 201


# ---- plain language ----

NAMES = {"fire": "消防救援 | Fire and rescue", "health": "卫生健康"}
GRANT = Grant(
    "health",
    100,
    200,
    5,
    ("inspection.report",),
    ("result",),
    ("joint-inspection",),
    ("restaurant",),
    3,
    "fire",
    90,
    None,
)


def test_a_grant_reads_as_a_sentence() -> None:
    zh, en = sentence(GRANT, "zh", TYPES, NAMES), sentence(GRANT, "en", TYPES, NAMES)
    assert zh.startswith("消防救援允许卫生健康提取“检查结果（系统接入）”中的：")
    assert "用途：联合检查；限案件或检查类型：restaurant；每日最多5条；" in zh
    assert en.startswith("Fire and rescue lets 卫生健康 extract from “Inspection report taken over")
    assert "For joint inspection only, in cases or inspections of kind restaurant, at most 5 a day, from " in en


def test_names_that_nobody_knows_stay_as_they_are() -> None:
    strange = replace(GRANT, record_types=("other.type",), units=("x",), purposes=("y",), valid_to=2**63)
    text = sentence(strange, "en", TYPES, {})
    assert "fire lets health extract from “other.type”: x. For y only" in text
    assert f"until {2**63} s." in text


STANDINGS = [
    (99, None, "pending", "Not in force before 1970"),
    (100, None, "in-force", "In force; it ends at 1970"),
    (199, None, "in-force", "In force"),
    (200, None, "expired", "Expired at 1970"),
    (150, 150, "revoked", "Revoked at 1970"),
    (149, 150, "in-force", "In force"),
    (300, 150, "revoked", "Revoked at"),
]


@pytest.mark.parametrize(("now", "revoked_at", "state", "words"), STANDINGS)
def test_how_a_grant_stands(now: float, revoked_at: int | None, state: str, words: str) -> None:
    grant = replace(GRANT, revoked_at=revoked_at)
    assert state_of(grant, now) == state
    assert standing(grant, "en", now).startswith(words)
    assert standing(grant, "zh", now)


# ---- names that fit on the chain ----


def test_every_built_in_name_fits_into_a_grant() -> None:
    names = [each.name for each in TYPES] + [unit for each in TYPES for unit in each.units] + list(purposes())
    assert [name for name in names if len(name) > LONGEST_TERM or not name.isascii()] == []


def test_every_type_can_be_granted_with_all_its_units() -> None:
    for each in TYPES:
        check_terms(terms(record_types=(each.name,), units=tuple(each.units)), TYPES)


BAD_PURPOSES = {
    "a list": [],
    "empty": {},
    "a code in capitals": {"Joint": {"zh": "x", "en": "x"}},
    "a code of 33 characters": {"j" * 33: {"zh": "x", "en": "x"}},
    "no Chinese name": {"joint": {"en": "x"}},
    "a third language": {"joint": {"zh": "x", "en": "x", "fr": "x"}},
    "an empty name": {"joint": {"zh": " ", "en": "x"}},
}


@pytest.mark.parametrize("case", BAD_PURPOSES)
def test_a_bad_list_of_purposes_is_refused(case: str) -> None:
    with pytest.raises(Malformed, match=r"purposes\.json"):
        check_purposes(BAD_PURPOSES[case])


def test_a_type_of_a_node_may_be_too_long_to_be_granted(tmp_path: Path) -> None:
    name = "fire.a-type-whose-name-is-far-too-long"
    (tmp_path / "types").mkdir()
    (tmp_path / "types" / f"{name}.v1.json").write_text(police_type(name), "utf-8")
    with pytest.raises(Problem, match="1 to 32 printable ASCII characters"):
        check_terms(terms(record_types=(name,)), load_types(tmp_path))
