"""Peers: the registry as of the newest block, and signed requests to their nodes, over the network and in process."""

from __future__ import annotations

import hashlib
import http.server
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.peers import watch
from gateway.peers.client import Answer
from gateway.peers.errors import PeerRefused, PeerUnreachable
from gateway.settings import GatewaySettings, PeerSettings
from ledger.chain import embedded
from ledger.errors import ChainUnreachable, CouldNotRun
from ledger.formats.encoding import b64url_encode
from ledger.http_signatures import Target, check_body, check_key, check_time, read_signature
from ledger.node import Node
from tests.fixtures.gateway import AUTHORITY, Gateway, InProcess, Signing, serving
from tests.fixtures.records import report


@pytest.fixture(autouse=True)
def _ask_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_AGE_S", 0.0)


def ask(gateway: Gateway, owner: str, path: str, **options: Any) -> Answer:
    """A request of `fire` to the node of `owner`, on the application's loop."""
    options = {"as_department": "fire", **options}

    async def call() -> Answer:
        return await gateway.site.peer_client.request(owner, options.pop("method", "GET"), path, **options)

    return gateway.portal.call(call)


# ---- the registry ----


def test_departments_keys_and_standing_come_from_the_chain(gateway_on_chain: Gateway) -> None:
    peers, agent = gateway_on_chain.site.peers, gateway_on_chain.site.node.agent
    assert [peer.id for peer in peers.all()] == ["fire", "health"]
    assert peers.standing("fire") == "admitted"
    assert peers.standing("police") == "unknown"
    assert peers.find("police") is None
    signer = agent.request_signer("fire")
    key = peers.key(signer.kid)
    assert key is not None
    assert (key.department, key.public, key.standing) == ("fire", signer.public, "admitted")
    assert key.roles == {"system", "peer"}
    assert peers.key(agent.statement_signer("fire").kid) is None, "a key of another use signs no requests"
    found = peers.find("fire")
    assert found is not None
    encryption = found.key_at("encryption", time.time())
    assert encryption is not None
    assert agent.key_of("fire", b64url_encode(encryption.kid))
    assert found.key_at("encryption", 0) is None


def test_a_suspension_counts_at_once_and_ends_at_once(gateway_on_chain: Gateway) -> None:
    site = gateway_on_chain.site
    kid, operator = site.node.agent.request_signer("health").kid, site.node.agent.operator_key()
    assert site.peers.is_admitted("health")
    site.link.consortium.suspend(operator, "health")
    assert site.peers.standing("health") == "suspended"
    suspended = site.peers.key(kid)
    assert suspended is not None
    assert suspended.standing == "suspended"
    answer = ask_as(gateway_on_chain, "health")
    assert (answer.status_code, answer.json()["code"]) == (403, "department-suspended")
    site.link.consortium.reinstate(operator, "health")
    assert ask_as(gateway_on_chain, "health").status_code == 200


def client_of(gateway: Gateway, department: str) -> httpx.Client:
    """A client that signs with the department's own registered key."""
    signing = Signing(gateway.site.node.agent.request_signer(department))
    transport = InProcess(gateway.app, gateway.portal)
    return httpx.Client(transport=transport, base_url=f"http://{AUTHORITY}", auth=signing)


def ask_as(gateway: Gateway, department: str) -> httpx.Response:
    """`/v1/peers`, signed with the department's own registered key."""
    return client_of(gateway, department).get("/v1/peers")


def test_what_did_not_change_is_not_read_again(gateway_on_chain: Gateway) -> None:
    site = gateway_on_chain.site
    before, trust = site.peers.find("fire"), site.peers.trust()
    site.link.client.send_raw(site.link.client.sign(site.node.agent.operator_key(), "0x" + "11" * 20, b"")[0])
    assert site.peers.find("fire") is before
    assert site.peers.trust() is trust
    site.link.consortium.set_node_url(site.node.agent.operator_key(), "fire", "http://fire.test")
    changed = site.peers.find("fire")
    assert changed is not None
    assert changed.url == "http://fire.test"
    assert site.peers.trust() is trust, "an address is no part of the trust file"


def test_an_address_that_is_none_is_not_called(gateway_on_chain: Gateway) -> None:
    """Members write what they like into the registry: what would swallow the path that we append is no address."""
    site = gateway_on_chain.site
    for url in (
        "http://10.0.0.1:9200/_shutdown?x=",
        "http://inside.test/#",
        "file:///etc/passwd",
        "http://a@inside.test",
    ):
        site.link.consortium.set_node_url(site.node.agent.operator_key(), "fire", url)
        found = site.peers.find("fire")
        assert found is not None
        assert found.url is None


def test_a_key_under_an_id_that_is_not_its_own_is_no_key(gateway_on_chain: Gateway) -> None:
    site = gateway_on_chain.site
    now = int(time.time())
    site.link.consortium.register_key(site.node.agent.operator_key(), "fire", b"\x05" * 32, "request", bytes(32), now)
    assert site.peers.key(b64url_encode(b"\x05" * 32)) is None
    assert site.peers.key(site.node.agent.request_signer("fire").kid) is not None


def test_a_chain_that_does_not_answer_lets_nobody_in_but_the_own_systems(gateway_on_chain: Gateway) -> None:
    site = gateway_on_chain.site
    agent = site.node.agent
    assert site.peers.is_admitted("fire")
    site.peers._hosted = frozenset({"fire"})  # as if health had a node of its own
    embedded.stop(site.node.settings.directory / "chain")
    with pytest.raises(ChainUnreachable):
        site.peers.is_admitted("fire")
    with pytest.raises(ChainUnreachable):
        site.peers.key(agent.request_signer("health").kid)
    with pytest.raises(ChainUnreachable):
        site.peers.key("x" * 43)
    own = site.peers.key(agent.request_signer("fire").kid)
    assert own is not None and own.roles == {"system"}, "for its systems, and not as a peer"
    refused = ask_as(gateway_on_chain, "health")
    assert (refused.status_code, refused.json()["code"]) == (503, "chain-unreachable")
    taken = client_of(gateway_on_chain, "fire").post(
        "/v1/records", json={"records": [{"key": "k", "record": report(1)}]}
    )
    assert taken.json()["outcomes"][0]["outcome"] == "acknowledged", taken.text


def test_who_was_never_known_is_not_let_in_without_the_chain(gateway_on_chain: Gateway) -> None:
    site = gateway_on_chain.site
    assert site.link  # connected, and the registry never read
    embedded.stop(site.node.settings.directory / "chain")
    with pytest.raises(ChainUnreachable):
        site.peers.key(site.node.agent.request_signer("fire").kid)


# ---- in this process ----


def test_a_department_of_this_node_is_asked_through_the_application(gateway_on_chain: Gateway) -> None:
    answer = ask(gateway_on_chain, "health", "/v1/peers")
    assert [peer["id"] for peer in answer.json()["peers"]] == ["fire", "health"]
    assert answer.headers["x-request-id"]
    shown = ask(gateway_on_chain, "health", "/v1/peers").json()["peers"][1]
    assert shown["reachable_since"] is not None
    assert (shown["hosted"], shown["last_error"], shown["name"]["en"]) == (True, None, "Public health")


def test_a_refusal_keeps_its_code(gateway_on_chain: Gateway) -> None:
    with pytest.raises(PeerRefused) as caught:
        ask(gateway_on_chain, "health", "/v1/nothing-here")
    assert (caught.value.refusal, caught.value.answered, caught.value.department) == ("not-found", 404, "health")
    assert caught.value.code == "peer-refused"


def test_a_body_is_signed_and_too_much_answer_is_refused(gateway_on_chain: Gateway) -> None:
    with pytest.raises(PeerRefused) as caught:
        ask(gateway_on_chain, "health", "/v1/grants", method="POST", body=b"{}")
    assert caught.value.refusal == "bad-request"
    with pytest.raises(PeerUnreachable, match="more than 10 bytes"):
        ask(gateway_on_chain, "health", "/v1/peers", max_bytes=10)


def test_a_department_whose_keys_are_elsewhere_cannot_be_spoken_for(gateway_on_chain: Gateway) -> None:
    with pytest.raises(Exception, match="holds no keys of department 'police'"):
        ask(gateway_on_chain, "health", "/v1/peers", as_department="police")


def test_a_node_that_does_not_serve_cannot_ask_itself(own_node: Node) -> None:
    with serving(own_node, GatewaySettings()) as gateway, pytest.raises(CouldNotRun, match="yunxi serve"):
        ask(gateway, "health", "/v1/peers")


# ---- over the network ----


@dataclass
class Elsewhere:
    """An HTTP server of another operator: answers with `answer`, keeps what it was asked."""

    url: str
    answer: Callable[[http.server.BaseHTTPRequestHandler], None]
    asked: list[tuple[Target, list[tuple[str, str]], bytes]] = field(default_factory=list)


def _problem(handler: http.server.BaseHTTPRequestHandler) -> None:
    _send(handler, 403, "application/problem+json", json.dumps({"code": "no-grant", "detail": "ask the owner"}))


def _send(handler: http.server.BaseHTTPRequestHandler, status: int, media_type: str, text: str) -> None:
    body = text.encode()
    handler.send_response(status)
    handler.send_header("Content-Type", media_type)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    found = Elsewhere("", lambda handler: _send(handler, 200, "application/json", "{}"))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            target = Target(self.command, self.headers["Host"], path, query)
            found.asked.append((target, list(self.headers.items()), body))
            found.answer(self)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def admit_at(gateway: Gateway, url: str) -> None:
    """Admits `market`, whose node is at `url`."""
    operator = gateway.site.node.agent.operator_key()
    governor = "0x" + "77" * 20
    gateway.site.link.consortium.admit(operator, "market", "市场监管", "test.example/market", url, governor)


def test_a_request_over_the_network_verifies_there(gateway_on_chain: Gateway, elsewhere: Elsewhere) -> None:
    admit_at(gateway_on_chain, elsewhere.url)
    answer = ask(gateway_on_chain, "market", "/v1/things?after=3%2F4", method="POST", body=b'{"a":1}')
    assert (answer.status, answer.json()) == (200, {})
    ((target, headers, body),) = elsewhere.asked
    found, now = read_signature(target, headers), time.time()
    check_time(found, now)
    check_key(found, gateway_on_chain.site.peers.key(found.keyid), now)
    check_body(found, hashlib.sha256(body).digest())
    assert found.keyid == gateway_on_chain.site.node.agent.request_signer("fire").kid
    assert (target.path, target.query, body) == ("/v1/things", "after=3%2F4", b'{"a":1}')


def _without_saying_why(handler: http.server.BaseHTTPRequestHandler) -> None:
    _send(handler, 500, "text/html", "<h1>oops</h1>")


def _not_json(handler: http.server.BaseHTTPRequestHandler) -> None:
    _send(handler, 500, "application/problem+json", "{")


def _a_list(handler: http.server.BaseHTTPRequestHandler) -> None:
    _send(handler, 500, "application/problem+json", "[]")


def _too_late(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(20):  # a piece now and then keeps every single wait short
        try:
            handler.wfile.write(b" ")
            handler.wfile.flush()
        except OSError:
            return
        time.sleep(0.1)


def _too_much(handler: http.server.BaseHTTPRequestHandler) -> None:
    _send(handler, 200, "application/json", " " * 2_000)


def _broken_off(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")


BAD_ANSWERS = {
    "a page of another program": (_without_saying_why, "without saying why"),
    "a problem that is not JSON": (_not_json, "something else than JSON"),
    "a problem that is no object": (_a_list, "something else than a problem"),
    "an answer that drips": (_too_late, "did not answer in time"),
    "an answer too long": (_too_much, "more than 1,000 bytes"),
    "an answer that breaks off": (_broken_off, "cannot be reached"),
}


@pytest.mark.parametrize("case", BAD_ANSWERS)
def test_a_bad_answer_is_no_answer(gateway_on_chain: Gateway, elsewhere: Elsewhere, case: str) -> None:
    elsewhere.answer, words = BAD_ANSWERS[case]
    admit_at(gateway_on_chain, elsewhere.url)
    with pytest.raises(PeerUnreachable, match=words):
        ask(gateway_on_chain, "market", "/v1/things", max_bytes=1_000, timeout=0.8)


def test_a_refusal_over_the_network_is_the_peers_own(gateway_on_chain: Gateway, elsewhere: Elsewhere) -> None:
    elsewhere.answer = _problem
    admit_at(gateway_on_chain, elsewhere.url)
    with pytest.raises(PeerRefused, match=r"market refused \(no-grant\): ask the owner") as caught:
        ask(gateway_on_chain, "market", "/v1/things")
    assert caught.value.refusal == "no-grant"


def test_a_redirect_is_not_followed(gateway_on_chain: Gateway, elsewhere: Elsewhere) -> None:
    def redirect(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/v1/elsewhere")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    elsewhere.answer = redirect
    admit_at(gateway_on_chain, elsewhere.url)
    assert ask(gateway_on_chain, "market", "/v1/things").status == 302
    assert len(elsewhere.asked) == 1


def test_a_peer_that_is_gone_is_shown_with_its_error(gateway_on_chain: Gateway, elsewhere: Elsewhere) -> None:
    admit_at(gateway_on_chain, "http://127.0.0.1:9")
    with pytest.raises(PeerUnreachable, match="the node of market cannot be reached: ConnectError"):
        ask(gateway_on_chain, "market", "/v1/things")
    site = gateway_on_chain.site
    shown = gateway_on_chain.client("fire").get("/v1/peers").json()["peers"][2]
    assert (shown["reachable_since"], shown["hosted"]) == (None, False)
    assert "cannot be reached" in shown["last_error"]
    assert shown["last_error_at"].endswith("Z")
    site.link.consortium.set_node_url(site.node.agent.operator_key(), "market", elsewhere.url)
    ask(gateway_on_chain, "market", "/v1/things")
    shown = gateway_on_chain.client("fire").get("/v1/peers").json()["peers"][2]
    assert shown["reachable_since"] is not None


NOT_ASKED = {
    "a stranger": ("police", "is not an admitted member"),
    "a suspended one": ("market", "is not an admitted member"),
    "one without an address": ("water", "has no address on the chain"),
}


@pytest.mark.parametrize("case", NOT_ASKED)
def test_nobody_asks(gateway_on_chain: Gateway, elsewhere: Elsewhere, case: str) -> None:
    owner, words = NOT_ASKED[case]
    operator, consortium = gateway_on_chain.site.node.agent.operator_key(), gateway_on_chain.site.link.consortium
    admit_at(gateway_on_chain, elsewhere.url)
    consortium.suspend(operator, "market")
    consortium.admit(operator, "water", "水务", "test.example/water", "", "0x" + "66" * 20)
    with pytest.raises(PeerUnreachable, match=words):
        ask(gateway_on_chain, owner, "/v1/things")
    assert elsewhere.asked == []


# ---- TLS ----


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A self-signed certificate, its key, and its SHA-256."""
    directory = tmp_path_factory.mktemp("tls")
    key, cert = directory / "key.pem", directory / "cert.pem"
    words = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=x"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(["openssl", "req", *words], check=True, capture_output=True)
    der = ssl.PEM_cert_to_DER_cert(cert.read_text())
    return cert, key, hashlib.sha256(der).hexdigest()


@pytest.fixture
def over_tls(elsewhere: Elsewhere, certificate: tuple[Path, Path, str]) -> Iterator[Elsewhere]:
    """The same server behind TLS with that certificate."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            elsewhere.asked.append((Target("GET", "", self.path), [], b""))
            _send(self, 200, "application/json", "{}")

        def log_message(self, *_: Any) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[0], certificate[1])

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            pass  # clients that end the handshake are what is tested

    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    elsewhere.url = f"https://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield elsewhere
    server.shutdown()
    server.server_close()
    thread.join()


def _settings(pin: str | None) -> GatewaySettings:
    peers = {"market": PeerSettings(certificate_sha256=pin)} if pin else {}
    return GatewaySettings(authorities=(AUTHORITY,), peers=peers)


def test_the_pinned_certificate_is_enough(own_node: Node, over_tls: Elsewhere, certificate: Any) -> None:
    with serving(own_node, _settings(certificate[2])) as gateway:
        admit_at(gateway, over_tls.url)
        assert ask(gateway, "market", "/v1/things").status == 200


UNTRUSTED = {"another one than the pinned": "ab" * 32, "a certificate nobody signed": None}


@pytest.mark.parametrize("case", UNTRUSTED)
def test_another_certificate_is_told_nothing(own_node: Node, over_tls: Elsewhere, case: str) -> None:
    with serving(own_node, _settings(UNTRUSTED[case])) as gateway:
        admit_at(gateway, over_tls.url)
        with pytest.raises(PeerUnreachable, match="its certificate is not the expected one"):
            ask(gateway, "market", "/v1/things")
    assert over_tls.asked == []


def test_the_consortiums_own_authority_may_sign(own_node: Node, over_tls: Elsewhere, certificate: Any) -> None:
    with serving(own_node, _settings(None)) as gateway:
        gateway.site.peer_client.use_tls(certificate[0], certificate[1], certificate[0])
        admit_at(gateway, over_tls.url)
        assert ask(gateway, "market", "/v1/things").status == 200
