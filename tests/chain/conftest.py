"""Real daemons on real directories. Every directory a test gets is stopped after it; none may be left behind."""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from ledger.chain.client import ChainClient
from ledger.chain.contracts import Addresses, ConsortiumContract, EvidenceLogContract, deploy
from ledger.chain.embedded import create, ensure_running, stop
from ledger.chain.embedded.directory import read_state
from tests.fixtures.processes import gone

WORKER = Path(__file__).with_name("anchor_worker.py")


def _load_worker() -> Any:
    spec = importlib.util.spec_from_file_location("anchor_worker", WORKER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


worker_module = _load_worker()


@dataclass
class Network:
    """A chain with both contracts on it, and a department for whoever asks."""

    directory: Path
    url: str
    client: ChainClient
    deployer: LocalAccount
    addresses: Addresses
    consortium: ConsortiumContract
    evidence_log: EvidenceLogContract
    _names: Iterator[str] = field(default_factory=lambda: (f"dept-{n}" for n in itertools.count(1)))

    def department(self) -> tuple[str, LocalAccount]:
        """A freshly admitted department and its anchoring account."""
        name, account, governor = next(self._names), Account.create(), Account.create()
        self.consortium.admit(
            self.deployer, name, name.title(), f"test.example/{name}", "http://node", governor.address
        )
        self.register(name, account)
        return name, account

    def register(self, department: str, account: LocalAccount) -> bytes:
        public_key = account._key_obj.public_key.to_bytes()
        kid = hashlib.sha256(public_key).digest()
        self.consortium.register_key(self.deployer, department, kid, "anchor", public_key, int(time.time()))
        return kid


def open_network(directory: Path) -> Network:
    """Create a chain in `directory`, start it and deploy."""
    info = create(directory)
    url = ensure_running(directory)
    client, deployer = ChainClient(url, info.chain_id, timeout=60), Account.create()
    addresses = deploy(client, deployer)
    return Network(
        directory,
        url,
        client,
        deployer,
        addresses,
        ConsortiumContract(client, addresses.consortium),
        EvidenceLogContract(client, addresses.evidence_log),
    )


def end(directory: Path) -> None:
    """Stop the daemon of `directory` and see it gone."""
    state = read_state(directory)
    stop(directory)
    if state is not None:
        assert gone(state.pid), f"daemon {state.pid} was left behind"


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """One running network for tests that do not hurt it."""
    opened = open_network(tmp_path_factory.mktemp("network") / "chain")
    yield opened
    opened.client.close()
    end(opened.directory)


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Network]:
    """A network of the test's own, to kill and to replace."""
    opened = open_network(tmp_path / "chain")
    yield opened
    opened.client.close()
    end(opened.directory)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory with a chain that nobody serves yet."""
    path = tmp_path / "chain"
    create(path)
    yield path
    end(path)


@pytest.fixture(scope="session")
def worker() -> Any:
    """The module anchor_worker: ListLog, persist, proofs."""
    return worker_module


@pytest.fixture
def worker_path() -> Path:
    return WORKER


Hook = Callable[[str, list[Any], Callable[[], dict[str, Any]]], dict[str, Any]]


class Proxy:
    """A JSON-RPC server between client and chain; `hook(method, params, forward)` gives the answer's members."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self.hook: Hook = lambda _method, _params, forward: forward()
        self.seen: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                proxy._handle(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        request = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.seen.append(request["method"])
        answer = self.hook(request["method"], request["params"], lambda: self._forward(request))
        body = json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer}).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _forward(self, request: dict[str, Any]) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._target.hostname or "", self._target.port, timeout=60)
        try:
            connection.request("POST", "/", json.dumps(request), {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return {name: answer[name] for name in ("result", "error") if name in answer}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def proxy(network: Network) -> Iterator[Proxy]:
    """A proxy before the shared network."""
    opened = Proxy(network.url)
    yield opened
    opened.close()
