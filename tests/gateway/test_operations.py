"""Running the service: health, readiness, figures, logs, limits, ids, and the description of its routes."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi.routing import iter_route_contexts

from gateway.lease import Lease
from gateway.operations.limits import MAX_CALLERS, Limits
from gateway.operations.logs import configure
from gateway.problems import Problem
from gateway.settings import GatewaySettings, PeerSettings
from gateway.site import Site
from gateway.workers import pause
from ledger.errors import CouldNotRun
from ledger.node import Node
from tests.fixtures.gateway import AUTHORITY, Gateway, node_without_chain, serving
from tests.fixtures.parts import Parts, PostgresServer, SqliteFiles, Template
from tests.fixtures.records import report, submissions


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)


# ---- health and readiness ----------------------------------------------------------------------------------------


def test_a_living_process_says_so_whatever_else_is_wrong(gateway: Gateway) -> None:
    assert gateway.client(None).get("/healthz").json() == {"status": "alive"}


def test_without_its_chain_a_node_is_not_ready_and_says_which_part(gateway: Gateway) -> None:
    answer = gateway.client(None).get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    parts = answer.json()["parts"]
    assert parts["database"] == {"ok": True}
    assert parts["intake"] == {"ok": True, "waiting": 0}
    assert parts["chain"] == {"ok": False}
    assert parts["workers"] == {"ok": False}  # none run in this fixture
    assert "127.0.0.1" not in answer.text


def test_with_everything_up_a_node_is_ready(own_node: Node) -> None:
    with serving(own_node, background=True) as gateway:
        client = gateway.client(None)
        until(lambda: client.get("/readyz").status_code == 200)
        parts = client.get("/readyz").json()["parts"]
        assert all(part["ok"] for part in parts.values())
        until(lambda: backlog_of(gateway) == 0)
        gateway.client("fire").post("/v1/records", json={"records": [{"key": "new", "record": report(1)}]})
        until(lambda: backlog_of(gateway) == 0)
        with gateway.site.database.writing() as connection:
            connection.exec_driver_sql("UPDATE logs SET halted = 'rolled back' WHERE department = 'health'")
        until(lambda: client.get("/readyz").status_code == 503)
        departments = client.get("/readyz").json()["parts"]["logs"]["departments"]
        assert {name: log["ok"] for name, log in departments.items()} == {"fire": True, "health": False}
        assert "rolled back" not in client.get("/readyz").text


def backlog_of(gateway: Gateway) -> int:
    parts = gateway.client(None).get("/readyz").json()["parts"]
    return int(parts["logs"]["departments"]["fire"]["backlog"])


def test_an_old_backlog_is_not_ready(parts: Parts) -> None:
    parts.take(submissions(0, 3))
    node = node_without_chain(parts.directory, parts.url, parts.agent, lambda: time.time() + 100)
    with serving(node) as gateway:
        log = gateway.client(None).get("/readyz").json()["parts"]["logs"]["departments"]["fire"]
    assert (log["ok"], log["backlog"]) == (False, 3)
    assert 100 <= log["backlog_seconds"] < 200


def test_a_database_that_cannot_be_written_is_not_ready(gateway: Gateway) -> None:
    with gateway.site.database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE request_nonces RENAME TO away")
    parts = gateway.client(None).get("/readyz").json()["parts"]
    assert parts.keys() == {"database", "intake"}
    assert parts["database"] == {"ok": False}


# ---- figures and logs --------------------------------------------------------------------------------------------


def figures(gateway: Gateway) -> dict[str, float]:
    text = gateway.client(None).get("/metrics").text
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_figures_count_what_happened(gateway: Gateway) -> None:
    client = gateway.client("fire")
    bad = {"key": "b", "record": {}}
    client.post("/v1/records", json={"records": [{"key": "a", "record": report(1)}, bad]})
    gateway.client(None).get("/v1/records")
    gateway.client(None).get("/v1/records/0193510b-8c00-7abc-8def-0123456789ab")
    gateway.client(None).get("/nowhere/张三")
    found = figures(gateway)
    assert found['yunxi_requests_total{method="POST",route="/v1/records",status="200"}'] == 1
    assert found['yunxi_requests_total{method="GET",route="/v1/records/{record_id}",status="401"}'] == 1
    assert found['yunxi_requests_total{method="-",route="-",status="404"}'] == 1
    assert found['yunxi_records_total{department="fire",outcome="acknowledged"}'] == 1
    assert found['yunxi_records_total{department="fire",outcome="refused"}'] == 1
    assert found['yunxi_refusals_total{code="unauthenticated"}'] == 2
    assert found['yunxi_unauthenticated_total{reason="missing"}'] == 2
    assert found["yunxi_intake_batch_count"] >= 1
    assert found["yunxi_requests_in_flight"] == 1  # this one


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_figures_do_not_go_through_a_proxy(gateway: Gateway, header: str) -> None:
    assert gateway.client(None).get("/metrics", headers={header: "10.0.0.1"}).status_code == 404


@pytest.fixture
def _log_as_before() -> Iterator[None]:
    handlers = logging.getLogger().handlers
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers


@pytest.mark.usefixtures("_log_as_before")
def test_a_request_is_one_line_without_anything_personal(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    client = gateway.client("fire")
    client.post("/v1/records", json={"records": [{"key": "张三", "record": report(1, facility_name="李四")}]})
    record_id = client.get("/v1/records", params={"key": "张三"}).json()["records"][0]["id"]
    client.get(f"/v1/records/{record_id}", params={"purpose": "核查王五"})
    gateway.client(None).get("/v1/张三?name=李四", headers={"User-Agent": "王五".encode()})
    lines = [line for line in map(json.loads, capsys.readouterr().err.splitlines()) if line["event"] == "request"]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("POST", "/v1/records", 200),
        ("GET", "/v1/records", 200),
        ("GET", "/v1/records/{record_id}", 200),
        ("GET", "-", 404),
    ]
    assert lines[0]["department"] == "fire"
    assert lines[0]["caller"] == gateway.signer("fire").kid
    assert {"request_id", "ms", "timestamp", "level"} <= lines[0].keys()
    text = json.dumps(lines, ensure_ascii=False)
    assert not any(name in text for name in ("张三", "李四", "王五", record_id))


# ---- ids, limits, headers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["request-1", "A" * 64, "8c1f2a6d.e0b1_4c27"])
def test_a_request_id_of_the_callers_is_kept(gateway: Gateway, given: str) -> None:
    assert gateway.client(None).get("/healthz", headers={"X-Request-Id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "short", "A" * 65, "with space", "{json}", "a\tb-------"])
def test_another_request_id_is_replaced(gateway: Gateway, given: str) -> None:
    answer = gateway.client(None).get("/healthz", headers={"X-Request-Id": given})
    assert len(answer.headers["x-request-id"]) == 32
    assert answer.headers["x-request-id"] != given


def test_every_answer_carries_the_security_headers(gateway: Gateway) -> None:
    for path in ("/healthz", "/v1/records", "/nowhere"):
        headers = gateway.client(None).get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["strict-transport-security"].startswith("max-age=")


def test_a_body_that_is_too_large_is_refused_before_it_is_read(
    server: SqliteFiles | PostgresServer, template: Template, tmp_path: Path
) -> None:
    node = node_without_chain(tmp_path / "node", server.new(tmp_path), template.agent)
    with serving(node, GatewaySettings(authorities=(AUTHORITY,), max_body_bytes=2_000)) as gateway:
        client = gateway.client("fire")
        for path in ("/v1/records", "/v1/grants"):
            for content in (b"x" * 2_001, iter([b"x" * 1_500, b"x" * 1_500])):
                answer = client.post(path, content=content)
                assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
            assert gateway.client(None).post(path, content=b"x" * 2_001).status_code == 401
        assert client.post("/v1/records", content=b"x" * 2_000).json()["code"] == "bad-request"
        lying = client.post("/v1/records", content=b"{}", headers={"Content-Length": "9" * 30})
        assert lying.status_code == 413


def test_the_bucket_of_a_caller_fills_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    limits = Limits(GatewaySettings(rate_per_second=2, rate_burst=3))
    for _ in range(3):
        limits.take("a")
    with pytest.raises(Problem) as refusal:
        limits.take("a")
    assert refusal.value.members["retry_after"] == 1
    limits.take("b")
    now[0] += 0.5
    limits.take("a")
    with pytest.raises(Problem):
        limits.take("a")
    now[0] += 1_000
    for _ in range(3):
        limits.take("a")
    with pytest.raises(Problem):
        limits.take("a")


def test_processes_share_what_a_caller_may_ask() -> None:
    four = [Limits(GatewaySettings(rate_per_second=0.1, rate_burst=8), 4) for _ in range(4)]
    taken = 0
    for limits in four:
        with pytest.raises(Problem):
            for _ in range(100):
                limits.take("a")
                taken += 1
    assert taken == 8


def test_paths_are_not_completed_by_redirects(gateway: Gateway) -> None:
    """Behind a proxy that ends TLS they would lead to plain http, and who follows shows the session to the network."""
    for path in ("/v1/records/", "/healthz/"):
        assert gateway.client(None).get(path).json()["code"] == "not-found"


def test_methods_that_nobody_knows_are_no_figures_of_their_own(gateway: Gateway) -> None:
    for method in ("PURGE", "XYZZY"):
        assert gateway.client(None).request(method, "/healthz").status_code == 405
    told = gateway.client(None).get("/metrics").text
    assert "PURGE" not in told
    assert "XYZZY" not in told


def test_callers_that_are_gone_are_forgotten() -> None:
    limits = Limits(GatewaySettings())
    for number in range(MAX_CALLERS + 100):
        limits.take(str(number))
    assert len(limits._buckets) == MAX_CALLERS


# ---- workers and their lease -------------------------------------------------------------------------------------


def test_one_process_holds_the_lease_until_it_lets_go_or_stops_renewing(gateway: Gateway) -> None:
    now = [1_000.0]
    first, second = (Lease(gateway.site.database, "test", lambda: now[0], 10) for _ in range(2))
    other = Lease(gateway.site.database, "other", lambda: now[0], 10)
    assert first.take()
    assert not second.take()
    assert other.take()
    assert (first.held, second.held) == (True, False)
    now[0] += 9
    assert first.take()
    now[0] += 9
    assert not second.take()
    assert second.somebody_holds()
    now[0] += 2
    assert not second.somebody_holds()
    assert second.take()
    assert not first.take()
    assert not first.held
    second.release()
    assert first.take()


def test_of_many_processes_at_once_exactly_one_gets_it(gateway: Gateway) -> None:
    contenders = [Lease(gateway.site.database, "test", time.time, 30) for _ in range(8)]
    taken: list[bool] = []
    threads = [threading.Thread(target=lambda each=each: taken.append(each.take())) for each in contenders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 7 + [True]


class Counting:
    """A worker that counts its starts, and fails `failures` times."""

    def __init__(self, name: str, failures: int = 0) -> None:
        self.name, self.failures = name, failures
        self.started, self.running = 0, False

    async def run(self, stop: asyncio.Event) -> None:
        self.started += 1
        if self.started <= self.failures:
            raise ZeroDivisionError("张三")
        self.running = True
        await stop.wait()
        self.running = False


def test_workers_run_while_the_service_does_and_are_started_again_when_they_fail(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gateway.workers.PAUSE_SECONDS", 0.01)
    steady, shaky, everywhere = Counting("steady"), Counting("shaky", 3), Counting("everywhere")
    original = Site.__init__

    def build(site: Site, *arguments: Any) -> None:
        original(site, *arguments)
        site.workers, site.everywhere = [steady, shaky], [everywhere]

    monkeypatch.setattr(Site, "__init__", build)
    node = node_without_chain(parts.directory, parts.url, parts.agent)
    with serving(node, background=True) as gateway:
        until(lambda: steady.running and shaky.running and everywhere.running)
        assert (steady.started, shaky.started) == (1, 4)
        assert figures(gateway)['yunxi_worker_up{worker="shaky"}'] == 1
        # another process takes the lease over: this one's workers end, those of every process go on
        with gateway.site.database.writing() as connection:
            connection.exec_driver_sql("UPDATE leases SET holder = 'another', expires_at = 9999999999999")
        until(lambda: not steady.running and not shaky.running)
        assert everywhere.running
    assert not everywhere.running
    assert "张三" not in capsys.readouterr().out


def test_a_pause_ends_when_it_must() -> None:
    async def wait() -> float:
        stop, began = asyncio.Event(), time.monotonic()
        asyncio.get_running_loop().call_later(0.01, stop.set)
        await pause(stop, 60)
        await pause(asyncio.Event(), 0.001)
        return time.monotonic() - began

    assert asyncio.run(wait()) < 30


# ---- the description ---------------------------------------------------------------------------------------------


def test_the_description_names_every_route_with_its_callers(gateway: Gateway) -> None:
    assert gateway.client(None).get("/openapi.json").status_code == 401
    document = gateway.client("fire").get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for route in iter_route_contexts(gateway.app.routes):
        if route.path in ("/openapi.json",):
            continue
        for method in route.methods - {"HEAD"}:
            operation = document["paths"][route.path_format][method.lower()]
            assert operation["summary"]
            assert "422" not in operation["responses"]
            assert operation["responses"]["4XX"]["content"].keys() == {"application/problem+json"}
            assert operation["security"] == [{}] or operation["x-roles"]
    submit = document["paths"]["/v1/records"]["post"]
    assert submit["security"] == [{"signature": []}]
    assert submit["requestBody"]["content"]["application/json"]["schema"]["example"]


# ---- settings ----------------------------------------------------------------------------------------------------


def test_settings_come_from_node_toml_and_survive_the_ledgers_own_writing(own_node: Node) -> None:
    path = own_node.settings.directory / "node.toml"
    path.write_text(
        path.read_text()
        + '\n[gateway]\nauthorities = ["fire.example"]  # 注释\nclock_skew = 30\n\n[gateway.peers.health]\n'
        + f'certificate_sha256 = "{"ab" * 32}"\n'
    )
    expected = GatewaySettings(authorities=("fire.example",), clock_skew=30, peers={"health": PeerSettings("ab" * 32)})
    assert GatewaySettings.load(path.parent) == expected
    own_node.settings.save()
    own_node.settings.save()
    assert GatewaySettings.load(path.parent) == expected
    assert "# 注释" in path.read_text()


BAD_SETTINGS: dict[str, tuple[str, str]] = {
    "a setting that does not exist": ("clock_scew = 30", "clock_scew"),
    "a number out of bounds": ("clock_skew = 0", "clock_skew must be a number from 1 to 300"),
    "a text for a number": ('page_size = "many"', "page_size"),
    "true for a number": ("page_size = true", "page_size"),
    "an authority with a scheme": ('authorities = ["https://fire.example"]', "authority"),
    "a fingerprint with colons": ('[gateway.peers.health]\ncertificate_sha256 = "AB:CD"', "64 lower-case hex"),
    "a peer's setting that does not exist": ("[gateway.peers.health]\nurl = 1", "url"),
    "no TOML": ("= 1", "cannot be used"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings_that_are_not_right_are_refused(tmp_path: Path, case: str) -> None:
    lines, words = BAD_SETTINGS[case]
    (tmp_path / "node.toml").write_text(f"[gateway]\n{lines}\n")
    with pytest.raises(CouldNotRun, match=words):
        GatewaySettings.load(tmp_path)
