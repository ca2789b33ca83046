"""The citizen's check: what the page shows, to whom it shows nothing, and that nothing personal is in it."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway.citizens.links import link_url
from gateway.citizens.models import citizen_links
from gateway.citizens.page import citizens_page
from gateway.operations.limits import Limits
from ledger.errors import CouldNotRun
from ledger.forgetting import Forgetting
from ledger.formats.encoding import b64url_encode
from ledger.store.reading import read_logs
from tests.fixtures.citizens import ADDRESS, PDF, REMEDIES, Coded, coded, decision, digest, served
from tests.fixtures.gateway import Gateway
from tests.fixtures.proceedings import NOW, code, made, officer, take
from tests.fixtures.records import report

DECISION = "/v1/citizens/decision"


def asked(gateway: Gateway, token: str) -> Any:
    return gateway.client(None).post(DECISION, json={"token": token})


def shown(gateway: Gateway, found: Coded) -> dict[str, Any]:
    answer = asked(gateway, found.token)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def today() -> str:
    return (datetime.now(UTC) + timedelta(hours=8)).date().isoformat()


def recalled(record: str, asks: str, **changes: Any) -> dict[str, Any]:
    return {
        "type": "record.recalled", "v": 1, "amends": record, "reason_kind": "error", "reason": "认定事实有误",
        "asks": asks, "occurred_at": NOW, **changes,
    }  # fmt: skip


# ---- what is shown -----------------------------------------------------------------------------------------------


def test_a_decision_is_shown_as_its_record_says_without_anybodys_name(gateway: Gateway, tmp_path: Path) -> None:
    body = shown(gateway, served(gateway, tmp_path))
    assert body.pop("asked_at").endswith("Z")
    assert body == {
        "department": {"id": "fire", "name": None},  # names stand on the chain, which does not answer here
        "sealed_on": today(),
        "forgotten": False,
        "decision": {
            "decision_number": "望消罚〔2026〕1号", "served_on": "2026-03-03", "service_method": "in-person",
            "remedies": REMEDIES, "pay_by": "2026-03-17",
        },
        "status": "in-force",
        "changes": [],
        "documents": [{"number": 1, "media_type": "image/png", "size": len(PDF), "sha256": digest()}],
        "seen": [],
    }  # fmt: skip


def test_what_the_record_does_not_say_is_not_made_up(gateway: Gateway) -> None:
    record = {n: v for n, v in decision().items() if n not in ("served_on", "service_method", "remedies", "pay_by")}
    body = shown(gateway, coded(gateway, take(gateway, record)))
    assert body["decision"] == {"decision_number": "望消罚〔2026〕1号"}
    assert body["documents"] == []  # the frozen list of evidence is none


def test_a_correction_and_a_withdrawal_are_told(gateway: Gateway, tmp_path: Path) -> None:
    found = served(gateway, tmp_path)
    take(gateway, decision(amends=found.record_id, decision_number="望消罚〔2026〕9号"), "corrected")
    body = shown(gateway, found)
    assert (body["status"], body["changes"]) == (
        "corrected", [{"kind": "corrected", "on": today(), "number": "望消罚〔2026〕9号"}],
    )  # fmt: skip
    take(gateway, recalled(found.record_id, "stop-using"), "recalled")
    body = shown(gateway, found)
    assert (body["status"], [each["kind"] for each in body["changes"]]) == ("withdrawn", ["corrected", "withdrawn"])


def test_a_recall_that_names_a_replacement_is_a_correction(gateway: Gateway, tmp_path: Path) -> None:
    found = served(gateway, tmp_path)
    other = take(gateway, decision(decision_number="望消罚〔2026〕7号"), "other")
    take(gateway, recalled(found.record_id, "replace", replaced_by=other), "recalled")
    body = shown(gateway, found)
    assert (body["status"], body["changes"][0]["number"]) == ("corrected", "望消罚〔2026〕7号")


def test_the_number_of_another_departments_decision_is_not_told(gateway: Gateway, tmp_path: Path) -> None:
    found = served(gateway, tmp_path)
    theirs = take(gateway, decision(decision_number="卫罚〔2026〕1号"), "theirs", "health")
    take(gateway, recalled(found.record_id, "replace", replaced_by=theirs), "recalled")
    assert shown(gateway, found)["changes"][0]["number"] is None


def test_what_other_records_amend_is_no_correction(gateway: Gateway, tmp_path: Path) -> None:
    found = served(gateway, tmp_path)
    take(gateway, report(1, amends=found.record_id), "report")
    take(gateway, decision(amends=found.record_id), "elsewhere", "health")
    assert shown(gateway, found)["status"] == "in-force"


def test_who_had_it_is_counted_by_department_and_nobody_is_named(gateway: Gateway, tmp_path: Path) -> None:
    found = served(gateway, tmp_path)
    other = take(gateway, report(1), "other")
    take(gateway, made([found.record_id, other]), "made 1")
    take(gateway, made([found.record_id]), "made 2")
    take(gateway, made([other]), "made 3")
    reader = officer(gateway)
    assert reader.get(f"/v1/records/{found.record_id}").status_code == 200
    body = shown(gateway, found)
    assert body["seen"] == [
        {"department": {"id": "fire", "name": None}, "disclosed": 0, "read": 1, "last": today()},
        {"department": {"id": "health", "name": None}, "disclosed": 2, "read": 0, "last": today()},
    ]
    assert gateway.signer("fire", {"officer"}).kid not in json.dumps(body)


def test_a_forgotten_decision_shows_that_it_was(gateway: Gateway, tmp_path: Path) -> None:
    found = served(gateway, tmp_path)
    node, two = gateway.site.node, decision()["officers"]
    forgetting = Forgetting(node.database, node.blobs, node.new_intake(), node.reader, node.clock)
    forgetting.forget(found.record_id, "subject-request", "个人信息保护法第四十七条", two)
    body = shown(gateway, found)
    assert (body["forgotten"], body["decision"], body["documents"]) == (True, {}, [])


def test_no_personal_data_is_in_the_answer(gateway: Gateway, tmp_path: Path) -> None:
    text = json.dumps(shown(gateway, served(gateway, tmp_path)), ensure_ascii=False)
    for private in ("望澜某某有限公司", "91350100M000100Y43", "甲一", "XF0001", "decision.pdf", "500000", "330299"):
        assert private not in text


def test_asking_writes_nothing_to_the_log(gateway: Gateway, tmp_path: Path) -> None:
    found, database = served(gateway, tmp_path), gateway.site.node.database
    with database.reading() as connection:
        before = read_logs(connection)
    assert shown(gateway, found)["seen"] == shown(gateway, found)["seen"] == []
    with database.reading() as connection:
        assert read_logs(connection) == before


# ---- the codes ---------------------------------------------------------------------------------------------------


def test_a_code_carries_its_token_where_browsers_send_it_to_nobody(gateway: Gateway, tmp_path: Path) -> None:
    found = served(gateway, tmp_path)
    assert found.url == f"{ADDRESS}/c#{found.token}"
    assert found.svg.startswith("<?xml")
    with gateway.site.database.reading() as connection:
        row = connection.execute(select(citizen_links)).one()
    assert found.token not in repr(row)


def test_codes_are_drawn_anew_and_end_apart(gateway: Gateway, tmp_path: Path) -> None:
    one = served(gateway, tmp_path)
    two = coded(gateway, one.record_id)
    assert one.token != two.token
    assert officer(gateway).delete(f"/v1/citizen-links/{one.link}").status_code == 204
    assert officer(gateway).delete(f"/v1/citizen-links/{one.link}").status_code == 204
    assert code(asked(gateway, one.token)) == (410, "link-revoked")
    assert asked(gateway, two.token).status_code == 200
    links = officer(gateway).get(f"/v1/records/{one.record_id}/citizen-links").json()["links"]
    assert {each["link"]: each["revoked_at"] is None for each in links} == {one.link: False, two.link: True}
    assert one.token not in json.dumps(links)


REFUSED_TOKENS = {
    "a guess": lambda good: b64url_encode(secrets.token_bytes(16)),
    "one character off": lambda good: ("A" if good[0] != "A" else "B") + good[1:],
    "the id of the link": lambda good: "",
}


@pytest.mark.parametrize("name", REFUSED_TOKENS)
def test_a_wrong_token_finds_nothing(gateway: Gateway, tmp_path: Path, name: str) -> None:
    found = served(gateway, tmp_path)
    token = REFUSED_TOKENS[name](found.token) or b64url_encode(bytes.fromhex(found.link) * 2)
    assert code(asked(gateway, token)) == (404, "not-found")


@pytest.mark.parametrize(
    "token", ["", "x", "A" * 21, "A" * 23, "A" * 21 + "B", "../../etc/passwd", 5, None, ["A" * 22]]
)
def test_what_is_no_token_is_a_bad_request(gateway: Gateway, token: Any) -> None:
    assert code(asked(gateway, token)) == (400, "bad-request")


def test_who_asks_too_often_waits_and_the_department_does_not(gateway: Gateway, tmp_path: Path) -> None:
    found = served(gateway, tmp_path)
    gateway.site.citizen_limits = Limits(replace(gateway.site.settings, rate_per_second=0.1, rate_burst=5))
    guesses = [asked(gateway, b64url_encode(secrets.token_bytes(16))).status_code for _ in range(6)]
    assert guesses == [404] * 5 + [429]
    refused = asked(gateway, found.token)
    assert code(refused) == (429, "rate-exceeded")
    assert int(refused.headers["Retry-After"]) > 0
    assert officer(gateway).get(f"/v1/records/{found.record_id}/citizen-links").status_code == 200


def test_only_the_department_makes_lists_binds_and_withdraws_its_codes(gateway: Gateway, tmp_path: Path) -> None:
    found = served(gateway, tmp_path)
    url, wanted = "/v1/citizen-links", {"address": ADDRESS, "record": found.record_id}
    mine, listed, record = (
        f"{url}/{found.link}",
        f"/v1/records/{found.record_id}/citizen-links",
        {"record": found.record_id},
    )
    other, nobody, auditor = officer(gateway, "health"), gateway.client(None), gateway.client("fire", {"auditor"})
    assert other.get(listed).json() == {"links": []}
    for answer in (other.post(url, json=wanted), other.delete(mine), other.put(f"{mine}/record", json=record)):
        assert code(answer) == (404, "not-found")
    for client, refusal in ((nobody, (401, "unauthenticated")), (auditor, (403, "forbidden"))):
        assert code(client.post(url, json=wanted)) == refusal
        assert code(client.get(listed)) == refusal
        assert code(client.put(f"{mine}/record", json=record)) == refusal
        assert code(client.delete(mine)) == refusal
    assert asked(gateway, found.token).status_code == 200
    with gateway.site.database.reading() as connection:
        assert len(connection.execute(select(citizen_links)).all()) == 1


def test_a_code_drawn_before_its_decision_leads_nowhere_until_it_is_bound(gateway: Gateway) -> None:
    drawn = officer(gateway).post("/v1/citizen-links", json={"address": ADDRESS}).json()
    token, url = drawn["url"].partition("#")[2], f"/v1/citizen-links/{drawn['link']}/record"
    assert drawn["record"] is None
    assert code(asked(gateway, token)) == (404, "not-found")
    one, two = take(gateway, decision(), "one"), take(gateway, decision(), "two")
    for _ in range(2):
        assert officer(gateway).put(url, json={"record": one}).status_code == 200
    assert code(officer(gateway).put(url, json={"record": two})) == (409, "conflict")
    assert asked(gateway, token).status_code == 200


def test_only_decisions_have_codes(gateway: Gateway) -> None:
    record = take(gateway, report(1))
    answer = officer(gateway).post("/v1/citizen-links", json={"address": ADDRESS, "record": record})
    assert code(answer) == (409, "refused")


@pytest.mark.parametrize(
    "address",
    [
        "http://ledger.example.org",
        "https://a.example/path",
        "https://u@a.example",
        "https://a.example?x",
        "javascript:1",
        "https://[",
        "https://a\u2100.example",
        "https://evil.example\\.ledger.example.org",
        "https://\u202egro.elpmaxe.regdel",
        'https://a"><svg',
        "https://a%2fb",
        "https://a:port",
    ],
)
def test_an_address_that_is_no_https_origin_is_refused(gateway: Gateway, address: str) -> None:
    answer = officer(gateway).post("/v1/citizen-links", json={"address": address})
    assert code(answer) == (400, "bad-request")
    with pytest.raises(CouldNotRun, match="https"):
        link_url(address, "t")


def test_this_machine_may_be_reached_without_tls() -> None:
    assert link_url("http://127.0.0.1:8080", "t") == "http://127.0.0.1:8080/c#t"


# ---- the page ----------------------------------------------------------------------------------------------------


def test_the_page_is_the_same_for_everybody_and_loads_nothing(gateway: Gateway) -> None:
    answer = gateway.client(None).get("/c")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert policy == citizens_page().policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "connect-src 'self'" in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    text = answer.content.decode()
    assert "innerHTML" not in text
    assert not [part for part in ("http://", "https://", " src=", "@import", "url(") if part in text]


def test_departments_are_named_as_the_chain_has_them(gateway_on_chain: Gateway, tmp_path: Path) -> None:
    body = shown(gateway_on_chain, served(gateway_on_chain, tmp_path))
    assert body["department"]["id"] == "fire"
    assert body["department"]["name"] == gateway_on_chain.site.peers.find("fire").name
