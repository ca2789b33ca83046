"""Every refusal of an extraction, one test each: the answer, and the refusal on record in the owner's log."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from gateway.caller import Caller
from gateway.extractions.pages import Stopped, parse_line
from gateway.extractions.refusals import RefusalBook
from gateway.extractions.standing import Request
from gateway.problems import Problem
from gateway.settings import PeerSettings
from ledger.chain.sharing_grants import SharingGrantsContract, Terms
from ledger.errors import StorageFailed
from ledger.formats.encoding import b64url_encode
from ledger.formats.sdjwt import serialize_presentation
from ledger.http_signatures import Target, sign_request
from ledger.seal import Kek, Sealer
from tests.fixtures.exchange import KIND, LEAD, OTHER, OWNER, PURPOSE, RESTRICTED, TYPE, Exchange, exchange
from tests.fixtures.gateway import AUTHORITY, Gateway, Keys
from tests.fixtures.records import COMPANY

URL = f"http://{AUTHORITY}/v1/extractions"
KINDS = iter(f"kind-{number}" for number in range(1_000))
"""A kind of inspection for each test, so that no test's grants are another's."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    """120 reports of `fire` on COMPANY; what is granted each test says itself."""
    with exchange(tmp_path_factory.mktemp("exchange") / "node") as opened:
        opened.submit(120)
        yield opened


class Expecting:
    """One refusal: it comes about in the block, and stands in the owner's log afterwards."""

    def __init__(self, world: Exchange, code: str, owner: str = OWNER) -> None:
        self.world, self.code, self.owner = world, code, owner
        self.before = len(world.refusals(owner))
        world.gateway.forget_signers()  # or the same refusal of another test within the minute would only be counted

    def __call__(self, answer: httpx.Response, status: int, **members: Any) -> dict[str, Any]:
        """The record of the refusal that `answer` says; `members` must stand in it."""
        assert (answer.status_code, answer.json()["code"]) == (status, self.code), answer.text
        return self.recorded(**members)

    def recorded(self, **members: Any) -> dict[str, Any]:
        found = self.world.refusals(self.owner)[self.before :]
        assert [each["code"] for each in found] == [self.code]
        assert found[0]["role"] == "owner"
        assert {name: found[0].get(name) for name in members} == members
        return found[0]


# ---- the grant ---------------------------------------------------------------------------------------------------


def test_no_grant(world: Exchange) -> None:
    number = world.inspect(kind=next(KINDS), participants=[OTHER])
    expect = Expecting(world, "no-grant", OTHER)
    expect(world.ask(world.request(number, owner=OTHER)), 403, requester=LEAD, inspection=number, purpose=PURPOSE)


def test_the_grant_expired(world: Exchange) -> None:
    kind = next(KINDS)
    end = int(time.time()) + 5  # the chain takes no grant that has ended when it comes
    world.grant(owner=OTHER, case_kinds=(kind,), record_types=("licence.issued",), units=("when",), valid_to=end)
    number = world.inspect(kind=kind, participants=[OTHER])
    time.sleep(max(0.0, end - time.time()))
    expect = Expecting(world, "grant-expired", OTHER)
    expect(world.ask(world.request(number, owner=OTHER, types=["licence.issued"])), 403, asked=["licence.issued"])


def test_the_grant_was_revoked_a_second_ago(world: Exchange) -> None:
    kind = next(KINDS)
    grant = world.grant(case_kinds=(kind,), record_types=("note.added",), units=("text",))
    number = world.inspect(kind=kind)
    body = world.request(number, types=["note.added"])
    assert world.ask(body).status_code == 200
    world.site.grants.revoke(OWNER, grant.id)
    time.sleep(1)
    Expecting(world, "grant-revoked")(world.ask(body), 403, requester=LEAD)


def test_revoked_between_two_pages(world: Exchange) -> None:
    kind = next(KINDS)
    grant = world.grant(grantee=OTHER, case_kinds=(kind,))
    number = world.inspect(kind=kind, lead=OTHER)
    extraction = world.ask(world.request(number, lead=OTHER), OTHER).json()["id"]
    assert len(world.pages(extraction, 0, 1, OTHER).content.splitlines()) == 2
    world.site.grants.revoke(OWNER, grant.id)
    expect = Expecting(world, "grant-revoked")
    expect(world.pages(extraction, 1, 1, OTHER), 403, requester=OTHER, extraction=extraction, page=2)


def test_a_refusal_in_the_middle_of_a_stream_is_its_last_line(world: Exchange) -> None:
    kind = next(KINDS)
    world.grant(grantee=OTHER, case_kinds=(kind,), per_day=100)
    number = world.inspect(kind=kind, lead=OTHER)
    extraction = world.ask(world.request(number, lead=OTHER), OTHER).json()["id"]
    expect = Expecting(world, "rate-exceeded")
    _, last = world.pages(extraction, 0, 10, OTHER).content.splitlines()
    stopped = parse_line(last)
    assert isinstance(stopped, Stopped)
    assert stopped.code == "rate-exceeded"
    expect.recorded(requester=OTHER, page=2)


def test_the_grants_day_is_used_up(world: Exchange) -> None:
    kind = next(KINDS)
    world.grant(case_kinds=(kind,), per_day=3)
    number = world.inspect(kind=kind)
    extraction = world.extract(number)
    sealed, *_ = [parse_line(line) for line in world.pages(extraction, 0, 1).content.splitlines()]
    assert getattr(sealed, "records", None) == 3
    expect = Expecting(world, "rate-exceeded")
    expect(world.pages(extraction, 1, 1), 429, requester=LEAD, extraction=extraction)


def test_wrong_purpose_of_the_grant(world: Exchange) -> None:
    kind = next(KINDS)
    world.grant(case_kinds=(kind,), purposes=("complaint-handling",), record_types=("photo.taken",), units=("when",))
    number = world.inspect(kind=kind)
    expect = Expecting(world, "wrong-purpose")
    expect(world.ask(world.request(number, types=["photo.taken"])), 403, purpose=PURPOSE)


def test_wrong_purpose_of_the_request(world: Exchange) -> None:
    number = world.inspect(kind=next(KINDS))
    expect = Expecting(world, "wrong-purpose")
    expect(world.ask(world.request(number, purpose="curiosity")), 403, purpose="curiosity")


def test_wrong_kind_of_case(world: Exchange) -> None:
    world.grant(record_types=("decision.made",), units=("when",), case_kinds=("another",))
    number = world.inspect(kind=next(KINDS))
    expect = Expecting(world, "wrong-case-kind")
    expect(world.ask(world.request(number, types=["decision.made"])), 403, requester=LEAD)


def test_the_unit_is_not_granted(world: Exchange) -> None:
    kind = next(KINDS)
    world.grant(case_kinds=(kind,))
    number = world.inspect(kind=kind)
    expect = Expecting(world, "unit-not-granted")
    expect(world.ask(world.request(number, types=[TYPE], units=["result", "officers"])), 403, asked=[TYPE])


def test_restricted_by_law(world: Exchange) -> None:
    kind, now = next(KINDS), int(time.time())
    consortium = world.site.link.consortium
    terms = Terms(LEAD, now - 1, now + 1_000, 5, (RESTRICTED,), ("text",), (PURPOSE,), (kind,))
    # past the service, which would not give it
    governor = world.site.node.agent.governor_key(OWNER)
    SharingGrantsContract.of(consortium).grant(governor, OWNER, terms)
    number = world.inspect(kind=kind)
    expect = Expecting(world, "restricted-by-law")
    expect(world.ask(world.request(number, types=[RESTRICTED])), 451, requester=LEAD)


# ---- the case ----------------------------------------------------------------------------------------------------


def test_the_case_does_not_exist(world: Exchange) -> None:
    """Signed by the lead, but its log does not have it."""
    number = world.inspect(kind=next(KINDS))
    body = world.request(number)
    body["reference"]["presentation"] = never_logged(world)
    Expecting(world, "reference-unknown")(world.ask(body), 404, requester=LEAD)


def test_the_case_is_not_shown_to_exist(world: Exchange) -> None:
    body = world.request(world.inspect(kind=next(KINDS)))
    del body["reference"]["receipt"]
    body["subjects"] = body["subjects"][:1]
    Expecting(world, "reference-unknown")(world.ask(body, OTHER), 404, requester=OTHER)


def test_the_reference_is_forged(world: Exchange) -> None:
    body = world.request(world.inspect(kind=next(KINDS)))
    statement, tilde, rest = body["reference"]["presentation"].partition("~")
    body["reference"]["presentation"] = statement[:-4] + "AAAA" + tilde + rest
    Expecting(world, "reference-invalid")(world.ask(body), 422, requester=LEAD)


def test_the_reference_opens_nothing(world: Exchange) -> None:
    (taken,) = world.submit(1, department=LEAD, prefix=secrets.token_hex(4))
    body = world.request(world.inspect(kind=next(KINDS)))
    body["reference"] = world.site.extractions.requester.show(taken.record_id, frozenset())
    Expecting(world, "reference-invalid")(world.ask(body, OTHER), 422, requester=OTHER)


def test_the_reference_hides_its_purpose(world: Exchange) -> None:
    body = world.request(world.inspect(kind=next(KINDS)))
    body["reference"]["presentation"] = body["reference"]["presentation"].partition("~")[0] + "~"
    expect = Expecting(world, "reference-invalid")
    expect(world.gateway.client(OWNER).post(URL, json=body), 422, requester=OWNER)


def test_the_case_is_closed(world: Exchange) -> None:
    kind = next(KINDS)
    world.grant(case_kinds=(kind,))
    number = world.inspect(kind=kind)
    extraction = world.extract(number)
    body = world.request(number)
    closing = world.gateway.client(LEAD).post(f"/v1/inspections/{number}/close", json={"outcome": "completed"})
    assert closing.status_code == 200, closing.text
    Expecting(world, "reference-closed")(world.ask(body), 409, inspection=number)
    Expecting(world, "reference-closed")(world.pages(extraction), 409, extraction=extraction)


def test_the_closing_is_told_by_its_record_alone(world: Exchange) -> None:
    number = world.inspect(kind=next(KINDS))
    reference = world.request(number)["reference"]
    expect = Expecting(world, "reference-invalid")
    expect(world.gateway.client(LEAD).post(f"{URL}/closings", json={"owner": OWNER, "reference": reference}), 422)


def test_the_case_does_not_concern_the_subject(world: Exchange) -> None:
    number = world.inspect(kind=next(KINDS))
    body = world.request(number)
    body["subjects"].append(b64url_encode(bytes(16)))
    Expecting(world, "subject-not-concerned")(world.ask(body), 403, inspection=number)


def test_the_caller_takes_no_part(world: Exchange) -> None:
    number = world.inspect(kind=next(KINDS))
    Expecting(world, "not-a-participant")(world.ask(world.request(number), OTHER), 403, requester=OTHER)


def test_the_owner_takes_no_part(world: Exchange) -> None:
    number = world.inspect(kind=next(KINDS), participants=[OTHER])
    Expecting(world, "not-a-participant")(world.ask(world.request(number)), 403, requester=LEAD)


def test_the_caller_takes_no_part_any_more(world: Exchange) -> None:
    kind = next(KINDS)
    world.grant(case_kinds=(kind,))
    number = world.inspect(kind=kind)
    extraction = world.extract(number)
    left = world.gateway.client(LEAD).post(
        f"/v1/inspections/{number}/participants", json={"leave": [OWNER], "join": []}
    )
    assert left.status_code == 200, left.text
    Expecting(world, "not-a-participant")(world.pages(extraction), 403, extraction=extraction)


def test_another_departments_extraction_is_guessed(world: Exchange) -> None:
    kind = next(KINDS)
    world.grant(case_kinds=(kind,))
    extraction = world.extract(world.inspect(kind=kind))
    expect = Expecting(world, "not-a-participant")
    expect(world.pages(extraction, requester=OTHER), 403, requester=OTHER, extraction=extraction)


# ---- the caller --------------------------------------------------------------------------------------------------


def test_the_department_is_suspended(world: Exchange) -> None:
    body = world.request(world.inspect(kind=next(KINDS)))
    consortium, operator = world.site.link.consortium, world.site.node.agent.operator_key()
    consortium.suspend(operator, LEAD)
    try:
        time.sleep(0.3)
        expect = Expecting(world, "caller-suspended")
        expect(world.ask(body), 403, requester=LEAD)
        own = Expecting(world, "department-suspended")
        answer = httpx_post(world, world.site.node.agent.request_signer(LEAD), body)
        own(answer, 403, requester=LEAD)
    finally:
        consortium.reinstate(operator, LEAD)
        time.sleep(0.3)


def signed(world: Exchange, body: bytes, signer: Any = None, **changes: Any) -> dict[str, str]:
    """Headers of a request that LEAD signs; `changes` replace what is signed."""
    parts = {"now": int(time.time()), "nonce": secrets.token_urlsafe(16), "lifetime": 60} | changes
    target = Target.of_url("POST", URL)
    signer = signer or world.gateway.signer(LEAD)
    headers = sign_request(target, body, signer, parts["now"], parts["nonce"], parts["lifetime"])
    return {**headers, "content-type": "application/json"}


def httpx_post(world: Exchange, signer: Any, body: dict[str, Any]) -> httpx.Response:
    request = world.gateway.client(None).build_request("POST", URL, json=body)
    return world.gateway.client(None).post(URL, content=request.content, headers=signed(world, request.content, signer))


BODY = b'{"owner": "fire"}'

Send = Callable[[Exchange], httpx.Response]


def _send(world: Exchange, headers: dict[str, str], body: bytes = BODY) -> httpx.Response:
    return world.gateway.client(None).post(URL, content=body, headers=headers)


def replay(world: Exchange) -> httpx.Response:
    headers = signed(world, BODY)
    assert _send(world, headers).json()["code"] == "bad-request"
    return _send(world, headers)


def another_certificate(world: Exchange) -> httpx.Response:
    peers = world.site.settings.peers
    changed = {LEAD: PeerSettings("00" * 32)}
    object.__setattr__(world.site.settings, "peers", changed)
    try:
        return _send(world, signed(world, BODY))
    finally:
        object.__setattr__(world.site.settings, "peers", peers)


def outside_validity(world: Exchange) -> httpx.Response:
    now = time.time()
    keys: Keys = world.gateway.keys
    return _send(world, signed(world, BODY, keys.register(LEAD, valid_from=now - 100, valid_to=now - 50)))


NOT_AUTHENTICATED: dict[str, tuple[Send, str]] = {
    "replayed": (replay, "replayed"),
    "the body was changed": (lambda w: _send(w, signed(w, BODY), BODY + b" "), "digest-mismatch"),
    "the key is outside its validity": (outside_validity, "key-outside-validity"),
    "the caller's clock is fast": (lambda w: _send(w, signed(w, BODY, now=int(time.time()) + 500)), "clock-skew"),
    "the caller's clock is slow": (lambda w: _send(w, signed(w, BODY, now=int(time.time()) - 500)), "expired"),
    "another certificate": (another_certificate, "certificate-wrong"),
    "an unknown key": (lambda w: _send(w, signed(w, BODY, Keys().register(LEAD))), "key-unknown"),
    "not signed": (lambda w: _send(w, {"content-type": "application/json"}), "missing"),
}


@pytest.mark.parametrize(("send", "reason"), NOT_AUTHENTICATED.values(), ids=NOT_AUTHENTICATED)
def test_not_authenticated(world: Exchange, send: Send, reason: str) -> None:
    expect = Expecting(world, reason)
    answer = send(world)
    assert (answer.status_code, answer.json()["code"], answer.json()["reason"]) == (401, "unauthenticated", reason)
    expect.recorded(requester=None)


# ---- the record of a refusal ---------------------------------------------------------------------------------------


def test_a_flood_of_the_same_refusal_is_counted() -> None:
    written: list[dict[str, Any]] = []
    clock = [1_000_000.0]

    def submit(_department: str, batch: Any) -> Any:
        from ledger.submission import Acknowledged

        written.extend(each.record for each in batch)
        return [Acknowledged(each.key, "x", 0, True) for each in batch]

    book = RefusalBook(submit, lambda: clock[0])
    for _ in range(50):
        book.record("fire", "owner", "no-grant", "none", requester="health")
    book.record("fire", "owner", "no-grant", "none", requester="streets")
    assert [(each["requester"], each.get("repeats")) for each in written] == [("health", None), ("streets", None)]
    clock[0] += 60
    book.record("fire", "owner", "no-grant", "none", requester="health")
    assert written[-1]["repeats"] == 49


def test_a_refusal_that_cannot_be_recorded_is_not_taken_for_recorded() -> None:
    def submit(_department: str, _batch: Any) -> Any:
        raise StorageFailed("full")

    book = RefusalBook(submit, time.time)
    for _ in range(2):
        with pytest.raises(StorageFailed):
            book.record("fire", "owner", "no-grant", "none")


def test_the_chain_does_not_answer(gateway: Gateway) -> None:
    caller = Caller("department", "health", frozenset(["peer"]), "kid")
    request = Request("fire", PURPOSE, b"", None, (bytes(16),))
    with pytest.raises(Problem) as caught:
        gateway.site.extractions.owner.open(caller, request)
    assert (caught.value.code, caught.value.kind.status) == ("chain-unreachable", 503)
    (refusal,) = Exchange(gateway).refusals("fire")
    assert (refusal["code"], refusal["requester"]) == ("chain-unreachable", "health")


def never_logged(world: Exchange) -> str:
    """An opening that the lead signed and never took into its log."""
    agent = world.site.node.agent
    sealer = Sealer(LEAD, agent.statement_signer(LEAD), Kek(1, bytes(32)), agent.index_key())
    record = {
        "id": "0193510b-8c00-7abc-8def-0123456789ab", "type": "inspection.opened", "v": 1, "inspection": "made-up",
        "subjects": [COMPANY], "kind": KIND, "purpose": PURPOSE, "participants": [OWNER],
        "occurred_at": "2026-03-02T09:15:00+08:00",
    }  # fmt: skip
    kind = world.site.node.types.get("inspection.opened", 1)
    key = sealer.draw_data_key()
    sealed = sealer.seal(kind, record, int(time.time()), key)
    from ledger.crypto.envelope import open_payload

    joined = open_payload(key, sealed.payload, sealed.statement).decode("ascii")
    return serialize_presentation(sealed.statement, joined.split("~")[:-1]).decode("ascii")
