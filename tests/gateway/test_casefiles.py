"""Case files over the API: who may order one, how it is made, fetched in parts and deleted again."""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from gateway.caller import ADMIN, AUDITOR, COORDINATOR, OFFICER, PEER, REVIEWER, SUPERVISOR, SYSTEM, TERMINAL
from gateway.casefiles.models import casefile_orders
from gateway.casefiles.service import KEPT_S, MAX_OPEN, Making, path_of
from ledger.casefile.sealing import create_key, open_case_file, open_key
from ledger.formats.casefile import CaseFile
from ledger.submission import Submission
from ledger.trust import export_trust
from ledger.verify.casefile import verify_case_file
from tests.fixtures.cases import CASE, OFFICERS, FilledCase, fill_case, step
from tests.fixtures.exchange import LEAD, OWNER, exchange, until
from tests.fixtures.gateway import Gateway, serving
from tests.fixtures.nodes import Built, end_chain
from tests.fixtures.records import COMPANY, acknowledged

AT = f"/v1/cases/{CASE}/casefile"


@dataclass(frozen=True, slots=True)
class Desk:
    """A serving site with a filled case, and its worker, which runs when told to."""

    gateway: Gateway
    case: FilledCase

    @property
    def making(self) -> Making:
        return Making(self.gateway.site)

    def reviewer(self, department: str = "fire") -> httpx.Client:
        return self.gateway.client(department, {REVIEWER})

    def made(self, **wanted: Any) -> dict[str, Any]:
        """An order, made; how it stands."""
        order = self.reviewer().post(AT, json=wanted)
        assert order.status_code == 202, order.text
        while self.making.make_one():
            pass
        shown: dict[str, Any] = self.reviewer().get(f"{AT}/{order.json()['id']}").json()
        return shown


@pytest.fixture(scope="module")
def desk(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    directory = built.copy_with_chain(tmp_path_factory.mktemp("casefiles") / "node")
    node = built.open(directory)
    case = fill_case(node)
    with serving(node) as gateway:
        yield Desk(gateway, case)
    end_chain(directory)


def test_ordered_made_and_fetched(desk: Desk) -> None:
    client = desk.reviewer()
    order = client.post(
        AT, json={"exported_for": "望澜区人民法院", "evidence": [{"record_id": desk.case.own["photo"], "page": "3"}]}
    )
    assert (order.status_code, order.json()["state"]) == (202, "waiting")
    at = f"{AT}/{order.json()['id']}"
    early = client.get(f"{at}/file")
    assert (early.status_code, early.json()["code"]) == (409, "conflict")
    assert desk.making.make_one()
    shown = client.get(at).json()
    assert (shown["state"], shown["code"], shown["case"]) == ("ready", None, CASE)
    fetched = client.get(f"{at}/file")
    assert (fetched.status_code, len(fetched.content)) == (200, shown["octets"])
    assert fetched.headers["Content-Type"] == "application/zip"
    trust = export_trust(desk.gateway.site.node)
    digest = hashlib.sha256(trust.serialize()).hexdigest()
    assert verify_case_file(trust, io.BytesIO(fetched.content), digest).findings == ()
    with zipfile.ZipFile(io.BytesIO(fetched.content)) as archive:
        tags = archive.read("tagmanifest-sha256.txt")
    assert hashlib.sha256(tags).hexdigest() == shown["tagmanifest_sha256"]
    node = desk.gateway.site.node
    with node.database.reading() as connection:
        record = node.reader.open(connection, shown["record_id"]).record()
    assert record["account"] == desk.gateway.signer("fire", {REVIEWER}).kid[:64]
    assert record["exported_for"] == "望澜区人民法院"


def test_a_download_that_was_cut_off_goes_on(desk: Desk) -> None:
    shown = desk.made(media=False)
    at, client = f"{AT}/{shown['id']}/file", desk.reviewer()
    whole = client.get(at).content
    head = client.get(at, headers={"Range": "bytes=0-999"})
    rest = client.get(at, headers={"Range": "bytes=1000-"})
    assert (head.status_code, rest.status_code) == (206, 206)
    assert head.headers["Content-Range"] == f"bytes 0-999/{len(whole)}"
    assert head.content + rest.content == whole
    assert client.get(at, headers={"Range": f"bytes={len(whole)}-"}).status_code == 416


def test_sealed_to_a_court(desk: Desk, tmp_path: Path) -> None:
    create_key(tmp_path / "court.key", tmp_path / "court.jwk", "a passphrase")
    shown = desk.made(recipient=json.loads((tmp_path / "court.jwk").read_text()), reveal=["when,decision"])
    sealed = desk.reviewer().get(f"{AT}/{shown['id']}/file")
    assert sealed.headers["Content-Disposition"].endswith('.yunxi-sealed"')
    opened = b"".join(open_case_file(open_key(tmp_path / "court.key", "a passphrase"), [sealed.content]))
    assert zipfile.is_zipfile(io.BytesIO(opened))


@pytest.mark.parametrize("role", [OFFICER, SUPERVISOR, COORDINATOR, AUDITOR, SYSTEM, PEER, TERMINAL])
def test_other_roles_may_not(desk: Desk, role: str) -> None:
    client = desk.gateway.client("fire", {role})
    missing = f"{AT}/{'0' * 32}"
    for answer in (client.post(AT, json={}), client.get(missing), client.get(f"{missing}/file")):
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert desk.gateway.client(None).post(AT, json={}).status_code == 401


def test_another_department_sees_nothing(desk: Desk) -> None:
    shown = desk.made(media=False)
    other = desk.gateway.client("health", {ADMIN, REVIEWER})
    at = f"{AT}/{shown['id']}"
    for answer in (other.post(AT, json={}), other.get(at), other.get(f"{at}/file")):
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    # nor under another case of the same department
    assert desk.reviewer().get(f"/v1/cases/another/casefile/{shown['id']}").status_code == 404


BODIES: dict[str, tuple[dict[str, Any], int]] = {
    "an unknown member": ({"revael": ["all"]}, 400),
    "a unit that is none": ({"reveal": ["wehn"]}, 422),
    "a type that is none": ({"reveal": ["a.b=when"]}, 422),
    "a key that is none": ({"recipient": {"kty": "OKP"}}, 400),
    "a list of another shape": ({"evidence": [{"name": "x"}]}, 400),
    "a text of two lines": ({"evidence": [{"record_id": "0193510b-8c00-7abc-8def-0123456789ab", "name": "a\nb"}]}, 400),
    "a date that is none": ({"evidence": [{"record_id": "0193510b-8c00-7abc-8def-0123456789ab", "date": "1"}]}, 400),
    "a size of nothing": ({"at": 0}, 400),
}


@pytest.mark.parametrize("name", BODIES)
def test_an_order_is_refused_at_once(desk: Desk, name: str) -> None:
    body, status = BODIES[name]
    answer = desk.reviewer().post(AT, json=body)
    assert answer.status_code == status, answer.text


def test_what_fails_while_it_is_made_is_told(desk: Desk) -> None:
    shown = desk.made(at=1)
    assert (shown["state"], shown["code"]) == ("failed", "could-not-run")
    assert "not anchored at size 1" in shown["detail"]
    assert desk.reviewer().get(f"{AT}/{shown['id']}/file").status_code == 409


def test_no_more_wait_than_can_be_made(desk: Desk) -> None:
    client = desk.reviewer()
    for _ in range(MAX_OPEN):
        assert client.post(AT, json={"media": False}).status_code == 202
    full = client.post(AT, json={})
    assert (full.status_code, full.json()["code"]) == (429, "rate-exceeded")
    with desk.gateway.site.database.writing() as connection:
        connection.execute(casefile_orders.delete().where(casefile_orders.c.state == "waiting"))


def test_an_order_that_was_cut_off_is_made_again(desk: Desk) -> None:
    order = desk.reviewer().post(AT, json={"media": False}).json()["id"]
    with desk.gateway.site.database.writing() as connection:
        connection.execute(update(casefile_orders).where(casefile_orders.c.id == order).values(state="making"))
    left = path_of(desk.gateway.site, order)
    left.parent.mkdir(exist_ok=True)
    (left.parent / f".{order}.abc.part").write_bytes(b"half")
    assert not desk.making.make_one()
    desk.making.begin_again()
    assert desk.making.make_one()
    assert desk.reviewer().get(f"{AT}/{order}").json()["state"] == "ready"
    assert not list(left.parent.glob(".*"))


def test_after_a_while_it_is_deleted(desk: Desk) -> None:
    shown = desk.made(media=False)
    path, site = path_of(desk.gateway.site, shown["id"]), desk.gateway.site
    assert path.exists()
    assert path.stat().st_mode & 0o077 == 0
    site.clock, kept = (lambda: time.time() + KEPT_S + 60), site.clock
    try:
        desk.making.expire()
    finally:
        site.clock = kept
    assert not path.exists()
    assert desk.reviewer().get(f"{AT}/{shown['id']}").status_code == 404


# ---- with what other departments really gave ---------------------------------------------------------------------


@pytest.mark.slow
def test_a_case_between_departments_from_filing_to_recall(tmp_path: Path) -> None:
    with exchange(tmp_path / "node", automatic=True) as world:
        world.grant(purposes=("case-investigation",), case_kinds=("ordinary",))
        reports = [each.record_id for each in world.submit(3)]
        filing = {"matter": "330299-XF-001", "subjects": [COMPANY], "officers": OFFICERS, "cause": "无证经营"}
        filing |= {"kind": "ordinary", "purpose": "case-investigation", "participants": [OWNER], "number": CASE}
        lead = world.gateway.client(LEAD, {OFFICER})
        filed = lead.post("/v1/cases", json=filing)
        assert filed.status_code == 201, filed.text

        def dossier() -> set[str]:
            return {each["record"] for each in lead.get(f"/v1/cases/{CASE}/dossier?limit=1000").json()["entries"]}

        until(lambda: dossier() == set(reports))
        decided = step("decision.made", 9, decision_number="1", outcomes=["fine"], matter="330299-XF-001")
        decided |= {"officers": OFFICERS, "subjects": [COMPANY], "occurred_at": "2026-03-09T09:15:00+08:00"}
        acknowledged(world.site.intake.submit(LEAD, [Submission("decision", decided)]))
        assert lead.get(f"/v1/records/{filed.json()['opened_record']}").status_code == 200
        body = {"record": reports[0], "reason_kind": "error", "reason": "测量仪器未校准。", "asks": "stop-using"}
        assert world.gateway.client(OWNER, {OFFICER}).post("/v1/recalls", json=body).status_code == 201
        until(lambda: world.records(LEAD, "recall.received"))
        reviewer = world.gateway.client(LEAD, {REVIEWER})

        def items() -> dict[str, Any] | None:
            """What a new case file holds, by type; None: the recall is not anchored yet."""
            order = reviewer.post(AT, json={}).json()["id"]
            shown = until(
                lambda: (found := reviewer.get(f"{AT}/{order}").json())["state"] in ("ready", "failed") and found
            )
            if shown["state"] == "failed" or shown["later"]:
                return None
            (tmp_path / "case.zip").write_bytes(reviewer.get(f"{AT}/{order}/file").content)
            with zipfile.ZipFile(tmp_path / "case.zip") as archive:
                return {each.record_id: each for each in CaseFile.parse(archive.read("case.json")).items}

        found = until(items)
        trust = export_trust(world.site.node)
        with (tmp_path / "case.zip").open("rb") as stream:
            judged = verify_case_file(trust, stream, hashlib.sha256(trust.serialize()).hexdigest())
    assert [str(finding.error) for finding in judged.findings] == []
    assert {each: (found[each].department, found[each].before_decision) for each in reports} == dict.fromkeys(
        reports, (OWNER, True)
    )
    types = {item.type: item for item in found.values()}
    assert {"case.filed", "disclosure.received", "decision.made", "record.read", "recall.received"} <= types.keys()
    assert (types["record.read"].role, types["record.read"].before_decision) == ("custody", False)
    assert (types["recall.received"].role, types["recall.received"].before_decision) == ("custody", False)
