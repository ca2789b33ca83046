"""Terminals over HTTP: the client that terminals have, against the application that nodes serve."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import httpx
import pytest
from anyio.to_thread import current_default_thread_limiter
from sqlalchemy import update

from adapters.terminal import Terminal
from adapters.terminal_transport import Http
from ledger.errors import CouldNotRun, KeyRefused, Malformed
from ledger.keks import KekRing
from ledger.records import RecordReader
from ledger.sealed_format import SealedBatch, encode_batch
from ledger.store.models import terminals
from tests.fixtures.exchange import until
from tests.fixtures.gateway import AUTHORITY, Gateway, InProcess
from tests.fixtures.parts import Parts
from tests.fixtures.records import attachment, report
from tests.fixtures.terminals import Hand, TerminalTemplate, enrol_without_chain, open_terminal

URL = f"http://{AUTHORITY}"


@pytest.fixture
def terminal(gateway: Gateway, terminal_template: TerminalTemplate, tmp_path: Path) -> Iterator[Terminal]:
    """The terminal, enrolled at the gateway's node, with a clock that tests set."""
    import shutil

    directory = shutil.copytree(terminal_template.directory, tmp_path / "pda")
    node = gateway.site.node
    parts = Parts(directory, node.database, node.agent, node.blobs, node.keks, node.intake, node.reader, "")  # type: ignore[arg-type]
    enrol_without_chain(parts, terminal_template.request, terminal_template.recipient, node.clock() - 270)
    opened = open_terminal(directory, Hand(now=node.clock()))
    yield opened
    opened.close()


def http(gateway: Gateway, terminal: Terminal, url: str = URL) -> Http:
    client = httpx.Client(transport=InProcess(gateway.app, gateway.portal))
    return Http(url, terminal.request_signer, terminal._clock, client)


def test_records_and_attachments_come_in_over_http(
    gateway: Gateway, terminal: Terminal, terminal_template: TerminalTemplate, tmp_path: Path
) -> None:
    file = attachment(tmp_path / "video.bin", os.urandom(20 << 20), "application/octet-stream")
    sealed = terminal.seal(report(1), (file,))
    terminal.seal(report(2))
    result = terminal.outbox.submit(http(gateway, terminal))
    assert (result.acknowledged, result.waiting, result.problem) == (2, 0, None)
    assert terminal.outbox.again("acknowledged") == 2
    assert terminal.outbox.submit(http(gateway, terminal)).acknowledged == 2
    node = gateway.site.node
    reader = RecordReader(KekRing(node.agent, terminal_template.recipient), node.blobs)
    with node.database.reading() as connection:
        assert b"".join(reader.attachment(connection, sealed.record_id, 1)) == file.path.read_bytes()


def test_a_clock_that_is_hours_off_still_gets_through_and_is_measured(gateway: Gateway, terminal: Terminal) -> None:
    clock: Hand = terminal._clock  # type: ignore[assignment]
    clock.set(200)
    terminal.seal(report(1))
    clock.set(4 * 3600)
    result = terminal.outbox.submit(http(gateway, terminal))
    assert (result.acknowledged, result.problem) == (1, None)
    offset = terminal.clock_keeper.now().offset_ms
    assert offset is not None
    assert abs(offset - (4 * 3600 + 200) * 1000) < 60_000


def test_a_cut_upload_goes_on_where_it_stood(gateway: Gateway, terminal: Terminal, tmp_path: Path) -> None:
    file = attachment(tmp_path / "video.bin", os.urandom(20 << 20), "application/octet-stream")
    terminal.seal(report(1), (file,))
    sent: list[int] = []

    class Cut(InProcess):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "PATCH":
                sent.append(int(request.headers["Upload-Offset"]))
                if len(sent) == 2:
                    raise httpx.ConnectError("cut")
            return super().handle_request(request)

    cut = Http(URL, terminal.request_signer, terminal._clock, httpx.Client(transport=Cut(gateway.app, gateway.portal)))
    first = terminal.outbox.submit(cut)
    assert isinstance(first.problem, CouldNotRun)
    assert terminal.outbox.submit(cut).acknowledged == 1
    assert sent == [0, 8 << 20, 8 << 20, 16 << 20]


def test_a_revoked_terminal_is_not_even_heard(gateway: Gateway, terminal: Terminal) -> None:
    terminal.seal(report(1))
    with gateway.site.node.database.writing() as connection:
        connection.execute(update(terminals).values(revoked_at=int(gateway.site.clock()) - 1))
    result = terminal.outbox.submit(http(gateway, terminal))
    assert isinstance(result.problem, KeyRefused)
    assert result.waiting == 1


def test_only_terminals_submit_sealed_records_and_only_their_departments(gateway: Gateway, terminal: Terminal) -> None:
    for roles in (("system",), ("peer",)):
        answer = gateway.client("fire", roles).post("/v1/sealed-records", content=b"{}")
        assert answer.status_code == 403
    assert gateway.client(None).post("/v1/sealed-records", content=b"{}").status_code == 401
    transport = http(gateway, terminal)
    transport.time_ms()
    with pytest.raises(KeyRefused, match="own department"):
        transport.submit(SealedBatch("health", ()))
    assert transport.submit(SealedBatch("fire", ())) == []


def test_a_terminal_that_sends_many_batches_at_once_waits_in_nobody_s_threads(
    gateway: Gateway, terminal: Terminal
) -> None:
    """One intake takes them one after the other: all others must be served meanwhile."""
    transport = http(gateway, terminal)
    transport.time_ms()
    turn, said = gateway.site.terminals._turn, []

    def send() -> None:
        try:
            said.append(transport.submit(SealedBatch("fire", ())))
        except CouldNotRun as error:
            said.append(error)

    gateway.portal.call(turn.acquire_on_behalf_of, "an intake that takes long")
    threads = [Thread(target=send) for _ in range(5)]
    for thread in threads:
        thread.start()
    until(lambda: len(said) == 3)
    assert gateway.portal.call(lambda: current_default_thread_limiter().borrowed_tokens) == 0
    gateway.portal.call(turn.release_on_behalf_of, "an intake that takes long")
    for thread in threads:
        thread.join()
    assert ["under way" in str(each) for each in said] == [True] * 3 + [False] * 2
    assert transport.submit(SealedBatch("fire", ())) == []


def test_a_malformed_batch_is_refused_and_named(gateway: Gateway, terminal: Terminal) -> None:
    transport = http(gateway, terminal)
    transport.time_ms()
    body = encode_batch(SealedBatch("fire", ())).replace(b"records", b"recordz")
    with pytest.raises(Malformed, match="members department, records"):
        transport._request("POST", "/v1/sealed-records", body, {})


def test_a_terminal_may_do_nothing_else(gateway: Gateway, terminal: Terminal) -> None:
    transport = http(gateway, terminal)
    transport.time_ms()
    for method, path in (("GET", "/v1/records"), ("POST", "/v1/records")):
        with pytest.raises(KeyRefused):
            transport._request(method, path, None, {})


def test_anybody_may_ask_the_time(gateway: Gateway) -> None:
    answer = gateway.client(None).get("/v1/time")
    assert answer.status_code == 200
    assert abs(answer.json()["now_ms"] / 1000 - gateway.site.clock()) < 60


def test_what_does_not_answer_as_a_node_does_costs_nothing(terminal: Terminal) -> None:
    terminal.seal(report(1))
    for handler in (
        lambda _: httpx.Response(200, content=b"<html>sign in to the network</html>"),
        lambda _: httpx.Response(302, headers={"Location": "http://portal"}),
        lambda _: httpx.Response(200, json={}),
        lambda _: httpx.Response(503, json={"detail": "stopping"}),
    ):
        client = httpx.Client(transport=httpx.MockTransport(handler))
        result = terminal.outbox.submit(Http(URL, terminal.request_signer, terminal._clock, client))
        assert isinstance(result.problem, CouldNotRun)
        assert (result.waiting, result.refused) == (1, 0)
    assert replace(terminal.status(), waiting=0).refused == ()
