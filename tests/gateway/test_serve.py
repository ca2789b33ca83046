"""`yunxi serve` as it runs: a process of its own on a real socket, started, asked, ended and killed."""

from __future__ import annotations

import datetime
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ledger.keys import FileKeyAgent
from tests.fixtures.command import Yunxi, log_size
from tests.fixtures.gateway import Signing
from tests.fixtures.nodes import Built, end_chain
from tests.fixtures.processes import gone
from tests.fixtures.records import report

pytestmark = pytest.mark.xdist_group("serve")


@dataclass(frozen=True, slots=True)
class Server:
    """A running `yunxi serve` and what it said it serves."""

    process: subprocess.Popen[bytes]
    url: str
    node: Path

    def client(self, department: str | None = "fire", **options: object) -> httpx.Client:
        """A client that signs with the department's registered request key."""
        auth = Signing(FileKeyAgent.open(self.node / "keys").request_signer(department)) if department else None
        return httpx.Client(base_url=self.url, auth=auth, timeout=30, trust_env=False, **options)  # type: ignore[arg-type]

    def submit(self, client: httpx.Client, *numbers: int) -> httpx.Response:
        records = [{"key": f"s{number}", "record": report(number)} for number in numbers]
        return client.post("/v1/records", json={"records": records})


@pytest.fixture
def node(built: Built, tmp_path: Path) -> Iterator[Path]:
    """A node with a chain of its own; nothing serves it yet."""
    directory = built.copy_with_chain(tmp_path / "node")
    yield directory
    end_chain(directory)


@contextmanager
def serving(node: Path, *words: str) -> Iterator[Server]:
    """`yunxi serve` on a free port; ended by SIGTERM unless the block ended it."""
    with (node / "log.jsonl").open("ab") as log:
        process = Yunxi(node.parent).start(
            "serve", "--node", node, "--port", "0", *words, stdout=subprocess.PIPE, stderr=log
        )
        try:
            yield Server(process, announced(process), node)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(60)
            assert process.stdout is not None
            process.stdout.close()


def announced(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 60)
    assert ready, "it says nothing"
    line = process.stdout.readline().decode()
    found = re.fullmatch(r"Serving fire, health on (https?://\S+) \(\d+ workers?\)\.\n", line)
    assert found, line
    return found[1]


def ready(server: Server, client: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    while (answer := client.get("/readyz", auth=None)).status_code != 200:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)


def test_it_serves_anchors_and_ends_cleanly(node: Path) -> None:
    size = log_size(node, "fire")
    with serving(node) as server, server.client() as client:
        ready(server, client)
        answer = server.submit(client, 1, 2, 3)
        assert [outcome["index"] for outcome in answer.json()["outcomes"]] == [size, size + 1, size + 2]
        deadline, path = time.monotonic() + 60, f"/v1/records/{answer.json()['outcomes'][0]['id']}/receipt"
        while not client.get(path).text.startswith("c2sp.org/tlog-proof@v1\nextra "):
            assert time.monotonic() < deadline, "it does not anchor"
            time.sleep(0.1)
        server.process.terminate()
        assert server.process.wait(30) == 0
    lines = [json.loads(line) for line in (node / "log.jsonl").read_text().splitlines() if line.startswith("{")]
    assert any(line["event"] == "request" and line["route"] == "/v1/records" for line in lines)
    assert not [line for line in lines if line["level"] == "error"]


def test_what_is_under_way_is_answered_before_it_ends(node: Path) -> None:
    answers: list[httpx.Response] = []
    with serving(node) as server:
        size = log_size(node, "fire")
        with server.client() as client:
            ready(server, client)

            def keep_on() -> None:
                with server.client() as own:
                    for number in range(10_000):
                        try:
                            answers.append(server.submit(own, number * 10_000 + threading.get_ident() % 10_000))
                        except httpx.TransportError:
                            return

            threads = [threading.Thread(target=keep_on) for _ in range(4)]
            for thread in threads:
                thread.start()
            deadline = time.monotonic() + 60
            while len(answers) < 20:
                assert time.monotonic() < deadline, "it does not answer"
                time.sleep(0.01)
            server.process.terminate()
            assert server.process.wait(30) == 0
            for thread in threads:
                thread.join()
    good = [answer.json()["outcomes"][0] for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert len({outcome["id"] for outcome in good}) > 5
    assert log_size(node, "fire") - size >= len({outcome["id"] for outcome in good})


@pytest.mark.slow
def test_killed_at_any_moment_nothing_acknowledged_is_lost(node: Path) -> None:
    acknowledged: dict[str, str] = {}
    for attempt in range(3):
        with serving(node) as server:
            gone = threading.Event()

            def keep_on(server: Server = server, gone: threading.Event = gone, attempt: int = attempt) -> None:
                with server.client() as client:
                    for number in range(100_000):
                        try:
                            answer = server.submit(client, attempt * 1_000_000 + number)
                        except httpx.TransportError:
                            return
                        outcome = answer.json()["outcomes"][0]
                        acknowledged[outcome["key"]] = outcome["id"]
                        gone.set()

            thread = threading.Thread(target=keep_on)
            thread.start()
            assert gone.wait(60)
            time.sleep(0.1 * attempt)
            server.process.kill()
            server.process.wait(30)
            thread.join()
    assert len(acknowledged) >= 3
    with serving(node) as server, server.client() as client:
        ready(server, client)
        for key, record_id in acknowledged.items():
            (found,) = client.get("/v1/records", params={"key": key}).json()["records"]
            assert found["id"] == record_id


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in map(int, text) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.slow
def test_several_processes_share_the_work_and_end_with_the_first(node: Path) -> None:
    with serving(node, "--workers", "2") as server, server.client() as client:
        ready(server, client)
        workers = children(server.process.pid)
        assert len(workers) == 2
        ids = set()
        for number in range(20):
            with server.client() as fresh:  # a connection each, so that both get some
                ids.add(server.submit(fresh, number).json()["outcomes"][0]["id"])
        assert len(ids) == 20
        for _ in range(4):  # whichever of them is asked, it tells of both
            with server.client(None) as fresh:
                figures = fresh.get("/metrics").text
            assert 'yunxi_records_total{department="fire",outcome="acknowledged"} 20.0' in figures
            assert re.search(r'^yunxi_backlog_records\{department="fire"\} ', figures, re.MULTILINE)
        request = client.build_request("GET", "/v1/records")
        signed = next(client.auth.auth_flow(request))  # type: ignore[union-attr]
        codes = []
        for _ in range(6):  # a replay is known to whichever process gets it
            with server.client(None) as fresh:
                codes.append(fresh.send(httpx.Request("GET", signed.url, headers=signed.headers)).status_code)
        assert codes == [200, 401, 401, 401, 401, 401]
        os.kill(workers[0], signal.SIGKILL)
        deadline = time.monotonic() + 60
        while len(children(server.process.pid)) < 2 or workers[0] in children(server.process.pid):
            assert time.monotonic() < deadline, "a killed worker is not replaced"
            time.sleep(0.1)
        ready(server, client)
        workers = children(server.process.pid)
        server.process.kill()
        assert all(gone(worker, 60) for worker in workers), "workers outlive the one that started them"
    assert b"Traceback" not in (node / "log.jsonl").read_bytes()


# ---- TLS ---------------------------------------------------------------------------------------------------------


def certificate(
    directory: Path, name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate for `name` and 127.0.0.1 in `<name>.pem`, its key in `<name>.key`; its own issuer where None."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None:
        import ipaddress

        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key())
        builder = builder.add_extension(names, critical=False).add_extension(by, critical=False)
    else:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    made = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    (directory / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (directory / f"{name}.key").write_bytes(pem)
    return made, key


def test_over_tls_a_pinned_department_must_come_with_its_certificate(node: Path, tmp_path: Path) -> None:
    authority = certificate(tmp_path, "ca", None)
    for name in ("node", "health", "wrong"):
        made, _ = certificate(tmp_path, name, authority)
        if name == "health":
            pin = sha256(made.public_bytes(serialization.Encoding.DER)).hexdigest()
    with (node / "node.toml").open("a") as settings:
        settings.write(f'\n[gateway.peers.health]\ncertificate_sha256 = "{pin}"\n')
    files = [
        "--tls-cert",
        tmp_path / "node.pem",
        "--tls-key",
        tmp_path / "node.key",
        "--client-ca",
        tmp_path / "ca.pem",
    ]

    def answer(server: Server, department: str, shown: str | None) -> tuple[int, str]:
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        if shown is not None:
            context.load_cert_chain(tmp_path / f"{shown}.pem", tmp_path / f"{shown}.key")
        with server.client(department, verify=context) as client:
            found = client.get("/v1/records")
            return found.status_code, found.json().get("reason", "")

    with serving(node, *map(str, files)) as server:
        assert server.url.startswith("https://")
        assert answer(server, "health", "health") == (200, "")
        assert answer(server, "health", "wrong") == (401, "certificate-wrong")
        assert answer(server, "health", None) == (401, "certificate-wrong")
        assert answer(server, "fire", None) == (200, "")
        assert answer(server, "fire", "wrong") == (200, "")  # nothing is pinned for it


# ---- what does not start -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_cannot_be_served_is_said_in_one_sentence(node: Path, tmp_path: Path) -> None:
    yunxi = Yunxi(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        cases: dict[str, tuple[tuple[str | Path, ...], str]] = {
            "no node": (("--node", tmp_path / "none"), "node.toml"),
            "a port that is taken": (("--node", node, "--port", port), "cannot listen"),
            "all addresses without a name": (("--node", node, "--host", "0.0.0.0", "--port", "0"), "authorities"),
            "half of TLS": (("--node", node, "--tls-cert", "x.pem"), "--tls-key"),
            "a file that is not there": (("--node", node, "--tls-cert", "x.pem", "--tls-key", "y.pem"), "x.pem"),
        }
        for case, (words, expected) in cases.items():
            result = yunxi("serve", *words)
            assert result.code == 2, case
            assert expected in result.sentence(), case


def test_another_chain_than_the_pinned_one_is_not_served(node: Path, tmp_path: Path) -> None:
    text = (node / "node.toml").read_text()
    (node / "node.toml").write_text(re.sub(r'genesis = "0x..', 'genesis = "0x00', text))
    result = Yunxi(tmp_path)("serve", "--node", node, "--port", "0")
    assert result.code == 1
    assert "begins with block" in result.sentence()
