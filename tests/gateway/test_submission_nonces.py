"""The nonce of a submission is taken in the transaction that makes its records durable: both or neither."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest
from sqlalchemy import func, select

from gateway.intake_queue import IntakeQueue
from gateway.models import request_nonces
from gateway.nonces import Nonces
from gateway.settings import GatewaySettings
from ledger.store.models import logs
from ledger.submission import Submission
from tests.fixtures.gateway import AUTHORITY, Gateway, Signing
from tests.fixtures.records import report

URL = f"http://{AUTHORITY}/v1/records"


def signed(
    gateway: Gateway, number: int, key: str | None = None, roles: tuple[str, ...] = ("system",)
) -> httpx.Request:
    body = {"records": [{"key": key or f"row-{number}", "record": report(number)}]}
    request = httpx.Request("POST", URL, json=body)
    return next(Signing(gateway.signer("fire", roles)).auth_flow(request))


def send(gateway: Gateway, request: httpx.Request) -> httpx.Response:
    """Sends a request as it is; the same one may be sent again."""
    return gateway.client(None).send(httpx.Request("POST", URL, headers=request.headers, content=request.content))


def reason(answer: httpx.Response) -> str:
    assert answer.status_code == 401, answer.text
    return str(answer.json()["reason"])


def nonces(gateway: Gateway) -> int:
    with gateway.site.database.reading() as connection:
        return connection.scalar(select(func.count()).select_from(request_nonces)) or 0


def size(gateway: Gateway) -> int:
    """Of the log without what the service itself put into it."""
    with gateway.site.database.reading() as connection:
        return connection.scalar(select(logs.c.size).where(logs.c.department == "fire")) or 0


def test_a_submission_counts_once(gateway: Gateway) -> None:
    request = signed(gateway, 1)
    (outcome,) = send(gateway, request).json()["outcomes"]
    assert (outcome["new"], nonces(gateway), size(gateway)) == (True, 1, 1)
    assert reason(send(gateway, request)) == "replayed"
    assert nonces(gateway) == 1


def test_the_same_submission_many_times_at_once_counts_once(gateway: Gateway) -> None:
    request = signed(gateway, 1)
    others = [signed(gateway, number) for number in range(2, 10)]
    with ThreadPoolExecutor(16) as threads:
        twins = [threads.submit(send, gateway, request) for _ in range(8)]
        rest = [threads.submit(send, gateway, other) for other in others]
        answers = [job.result(60) for job in twins]
        assert all(job.result(60).json()["outcomes"][0]["new"] for job in rest)  # nobody pays for a neighbour's replay
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7
    assert {reason(answer) for answer in answers if answer.status_code == 401} == {"replayed"}
    assert nonces(gateway) == 9


def test_a_replay_does_not_harm_whoever_shares_its_batch(gateway: Gateway) -> None:
    site = gateway.site
    site.intake = IntakeQueue(
        site.node.new_intake(), replace(site.settings, pool_milliseconds=500), None, Nonces(site.database, site.clock)
    )
    request = signed(gateway, 1)
    assert send(gateway, request).status_code == 200
    with ThreadPoolExecutor(8) as threads:
        rest = [threads.submit(send, gateway, signed(gateway, number)) for number in range(2, 6)]
        again = threads.submit(send, gateway, request)
        assert [job.result(60).status_code for job in rest] == [200] * 4
        assert reason(again.result(60)) == "replayed"
    site.intake.close()


def test_what_is_known_takes_its_nonce_all_the_same(gateway: Gateway) -> None:
    assert send(gateway, signed(gateway, 1)).status_code == 200
    again = signed(gateway, 1)
    (outcome,) = send(gateway, again).json()["outcomes"]
    assert (outcome["new"], nonces(gateway), size(gateway)) == (False, 2, 1)
    assert reason(send(gateway, again)) == "replayed"


def test_what_is_refused_takes_its_nonce_all_the_same(gateway: Gateway) -> None:
    assert send(gateway, signed(gateway, 1)).status_code == 200
    conflicting = signed(gateway, 2, key="row-1")
    (outcome,) = send(gateway, conflicting).json()["outcomes"]
    assert (outcome["outcome"], nonces(gateway)) == ("refused", 2)
    assert reason(send(gateway, conflicting)) == "replayed"


def test_who_may_not_submit_has_used_the_nonce(gateway: Gateway) -> None:
    request = signed(gateway, 1, roles=("peer",))
    assert send(gateway, request).status_code == 403
    assert reason(send(gateway, request)) == "replayed"


def test_a_submission_that_was_not_written_may_be_sent_again_as_it_is(gateway: Gateway) -> None:
    request = signed(gateway, 1)
    with gateway.site.database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE vault RENAME TO vault_away")
    assert send(gateway, request).status_code >= 500
    taken = nonces(gateway)
    with gateway.site.database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE vault_away RENAME TO vault")
    assert taken == 0
    (outcome,) = send(gateway, request).json()["outcomes"]
    assert outcome["new"]


@pytest.mark.parametrize("milliseconds", [0, 200])
def test_two_processes_with_the_same_submission(gateway: Gateway, milliseconds: int) -> None:
    settings = GatewaySettings(pool_milliseconds=milliseconds)
    queues = [
        IntakeQueue(gateway.site.node.new_intake(), settings, None, Nonces(gateway.site.database, gateway.site.clock))
        for _ in range(2)
    ]
    for number in range(10):
        nonce = ("kid", f"nonce-{number:016d}", 2_000_000_000)
        mine = [Submission(f"row-{number}", report(number))]
        with ThreadPoolExecutor(2) as threads:
            jobs = [
                threads.submit(gateway.portal.call, queue.submit_async, "fire", list(mine), nonce) for queue in queues
            ]
            found = [job.exception(60) or job.result(60) for job in jobs]
        assert sum(isinstance(each, list) for each in found) == 1
        assert [getattr(each, "reason", "") for each in found if not isinstance(each, list)] == ["replayed"]
    for queue in queues:
        queue.close()
    assert size(gateway) == 10
