"""Attachments by URL from real servers on loopback, which the mappings here list; and all that must not be fetched."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from adapters import attachment_urls
from adapters.attachment_urls import Fetcher, UrlRule, name_of
from adapters.mapping import FeedMapping, open_source, parse_mapping
from adapters.run import check, preview, run
from adapters.transform import Transform
from ledger.errors import Malformed, RecordRefused
from tests.adapters.http_server import Asked, Said, Server

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
PHOTO = b"\xff\xd8\xff" + bytes(range(256)) * 40


class Files:
    """A server whose answers are set by path."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[Asked], Said]] = {}
        self.server = Server(lambda asked: self.answers.get(asked.path, lambda _: Said(b"", 404))(asked))
        self.host = self.server.url.removeprefix("http://")

    def put(self, path: str, body: bytes = PHOTO, status: int = 200, **headers: str) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[path] = lambda _: Said(body, status, named)
        return self.server.url + path


@pytest.fixture
def files() -> Iterator[Files]:
    made = Files()
    yield made
    made.server.close()


def rule(host: str, **changes: Any) -> UrlRule:
    return UrlRule(**{"hosts": frozenset({host}), "private": LOOPBACK, "plain_http": True, **changes})


@pytest.fixture
def fetch(tmp_path: Path) -> Iterator[Callable[..., bytes]]:
    opened: list[Fetcher] = []

    def get(url: str, one: UrlRule) -> bytes:
        slept: list[float] = []
        fetcher = Fetcher(one, tmp_path, slept.append)
        opened.append(fetcher)
        return fetcher.fetch(url).read_bytes()

    yield get
    for fetcher in opened:
        fetcher.close()


def reason(fetch: Callable[..., bytes], url: str, one: UrlRule) -> str:
    with pytest.raises(RecordRefused) as caught:
        fetch(url, one)
    assert "\n" not in str(caught.value)
    return caught.value.reason


# ---- fetching ----------------------------------------------------------------------------------------------------


def test_a_file_is_fetched_as_it_is(files: Files, fetch: Callable[..., bytes]) -> None:
    url = files.put("/a/b.jpg")
    assert fetch(url + "?token=x&y=%20", rule(files.host)) == PHOTO
    asked = files.server.asked[0]
    assert asked.headers["host"] == files.host
    assert asked.params == {"token": "x", "y": " "}
    assert not {"cookie", "authorization", "referer"} & asked.headers.keys()


def test_by_name_the_checked_address_is_asked(files: Files, fetch: Callable[..., bytes]) -> None:
    files.put("/a.jpg")
    port = files.host.rpartition(":")[2]
    assert fetch(f"http://localhost:{port}/a.jpg", rule(f"localhost:{port}")) == PHOTO
    assert files.server.asked[0].headers["host"] == f"localhost:{port}"


def test_redirections_stay_on_the_host(files: Files, fetch: Callable[..., bytes]) -> None:
    files.put("/new.jpg")
    url = files.put("/old.jpg", b"", 302, Location="/new.jpg")
    assert fetch(url, rule(files.host)) == PHOTO
    other = Files()
    try:
        for target in (other.put("/x"), "//evil.example/x", "http://user@" + files.host + "/new.jpg", "ftp://x/y"):
            url = files.put("/away.jpg", b"", 301, Location=target)
            one = rule(files.host, hosts=frozenset({files.host, other.host}))
            assert reason(fetch, url, one) in ("attachment-host", "bad-attachment")
        assert other.server.asked == []
    finally:
        other.server.close()
    loop = files.put("/loop", b"", 307, Location="/loop")
    assert reason(fetch, loop, rule(files.host)) == "attachment-unreachable"


def test_a_cookie_is_not_carried_along(files: Files, fetch: Callable[..., bytes]) -> None:
    url = files.put("/a", b"", 302, Location="/b", Set_Cookie="session=1; Path=/")
    files.put("/b")
    assert fetch(url, rule(files.host)) == PHOTO
    assert "cookie" not in files.server.asked[1].headers


ANSWERS = {
    "not there": ({"status": 404}, "attachment-missing"),
    "gone": ({"status": 410}, "attachment-missing"),
    "not for us": ({"status": 403}, "attachment-unreachable"),
    "a login page is still a 200, and is told by its digest only": ({"status": 204}, "attachment-unreachable"),
    "a broken server": ({"status": 500}, "attachment-unreachable"),
    "packed": ({"Content_Encoding": "gzip"}, "attachment-unreachable"),
    "too large": ({"body": bytes(20_001)}, "attachment-too-large"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_that_are_no_file(files: Files, fetch: Callable[..., bytes], name: str) -> None:
    options, expected = ANSWERS[name]
    assert reason(fetch, files.put("/a.jpg", **options), rule(files.host, max_bytes=20_000)) == expected


def test_a_server_that_recovers_is_asked_again(files: Files, fetch: Callable[..., bytes]) -> None:
    states = iter([503, 429, 200])
    files.answers["/a"] = lambda _: Said(PHOTO, next(states))
    assert fetch(files.server.url + "/a", rule(files.host)) == PHOTO


class Odd(BaseHTTPRequestHandler):
    """Breaks off, or never ends."""

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path == "/cut":
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 500)
        else:  # no length at all: it goes on until the reader has enough
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(65_536))
            except OSError:
                pass

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def odd() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_answer_that_breaks_off_or_never_ends(odd: str, fetch: Callable[..., bytes], tmp_path: Path) -> None:
    assert reason(fetch, f"http://{odd}/cut", rule(odd)) == "attachment-unreachable"
    assert reason(fetch, f"http://{odd}/endless", rule(odd, max_bytes=1 << 20)) == "attachment-too-large"
    assert (
        reason(fetch, f"http://{odd}/endless", rule(odd, max_bytes=1 << 40, max_seconds=0)) == "attachment-unreachable"
    )
    assert all(path.stat().st_size < 3 << 20 for path in tmp_path.iterdir())


def test_nobody_there(fetch: Callable[..., bytes]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert reason(fetch, f"http://127.0.0.1:{port}/a", rule(f"127.0.0.1:{port}")) == "attachment-unreachable"
    assert reason(fetch, "http://nowhere.invalid/a", rule("nowhere.invalid")) == "attachment-unreachable"


# ---- TLS ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[str, ssl.SSLContext]]:
    """A TLS server for `localhost` only, and a context that trusts its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, now - timedelta(1), now + timedelta(1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "tls.pem").write_bytes(private + certificate)
    files = Files()
    files.put("/a.jpg")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.pem")
    files.server._server.socket = context.wrap_socket(files.server._server.socket, server_side=True)
    yield files.host.rpartition(":")[2], ssl.create_default_context(cadata=certificate.decode())
    files.server.close()


def test_the_certificate_must_be_the_names_although_the_address_is_asked(
    tls: tuple[str, ssl.SSLContext], tmp_path: Path
) -> None:
    import httpx

    port, context = tls
    for host, good in (("localhost", True), ("127.0.0.1", False)):
        fetcher = Fetcher(rule(f"{host}:{port}"), tmp_path, lambda _: None)
        fetcher.close()
        fetcher._client = httpx.Client(verify=context, trust_env=False)
        url = f"https://{host}:{port}/a.jpg"
        if good:
            assert fetcher.fetch(url).read_bytes() == PHOTO
        else:
            with pytest.raises(RecordRefused, match="cannot be fetched"):
                fetcher.fetch(url)
        fetcher.close()


# ---- where nothing may be fetched from ---------------------------------------------------------------------------

STRICT = UrlRule(hosts=frozenset({"media.example", "127.0.0.1", "[::1]", "10.0.0.7", "localhost"}))

URLS = {
    "another host": ("https://other.example/a", "attachment-host"),
    "another port": ("https://media.example:8443/a", "attachment-host"),
    "a host that only begins the same": ("https://media.example.evil.example/a", "attachment-host"),
    "a host in the user's place": ("https://media.example@evil.example/a", "bad-attachment"),
    "a user": ("https://user:pw@media.example/a", "bad-attachment"),
    "plain http": ("http://media.example/a", "bad-attachment"),
    "a file": ("file:///etc/passwd", "bad-attachment"),
    "a file with a host": ("file://media.example/etc/passwd", "bad-attachment"),
    "ftp": ("ftp://media.example/a", "bad-attachment"),
    "data": ("data:image/png;base64,AAAA", "bad-attachment"),
    "no scheme": ("//media.example/a", "bad-attachment"),
    "a path": ("../../etc/passwd", "bad-attachment"),
    "a line break": ("https://media.example/a\r\nHost: evil.example", "bad-attachment"),
    "a space": ("https://media.example/a b", "bad-attachment"),
    "a backslash": ("https://media.example\\@evil.example/", "bad-attachment"),
    "letters that look like others": ("https://mediа.example/a", "bad-attachment"),
    "a port that is none": ("https://media.example:99999/a", "bad-attachment"),
    "a bracket that is open": ("https://[::1/a", "bad-attachment"),
    "without end": ("https://media.example/" + "a" * 3000, "bad-attachment"),
    "loopback, although it is listed": ("https://127.0.0.1/a", "attachment-host"),
    "loopback of version 6": ("https://[::1]/a", "attachment-host"),
    "a name of loopback": ("https://localhost/a", "attachment-host"),
    "a private network": ("https://10.0.0.7/a", "attachment-host"),
}


@pytest.mark.parametrize("name", URLS)
def test_what_is_never_asked(fetch: Callable[..., bytes], name: str) -> None:
    url, expected = URLS[name]
    assert reason(fetch, url, STRICT) == expected


ADDRESSES = {
    "8.8.8.8": True, "2001:4860:4860::8888": True,
    "127.0.0.1": False, "10.1.2.3": False, "172.16.0.1": False, "192.168.1.1": False, "169.254.169.254": False,
    "0.0.0.0": False, "100.64.0.1": False, "224.0.0.1": False, "255.255.255.255": False, "::1": False, "::": False,
    "fe80::1": False, "fc00::1": False, "ff02::1": False, "::ffff:127.0.0.1": False, "::ffff:10.0.0.1": False,
    "64:ff9b::7f00:1": False, "64:ff9b::a00:1": False, "2002:7f00:1::": False, "2002:a00:1::": False,
}  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_only_public_addresses(address: str) -> None:
    assert STRICT.allows(ipaddress.ip_address(address)) is ADDRESSES[address]


def test_a_listed_network_and_nothing_around_it() -> None:
    one = UrlRule(frozenset({"x"}), private=(ipaddress.ip_network("10.3.0.0/16"),))
    allowed = [
        one.allows(ipaddress.ip_address(text)) for text in ("10.3.9.9", "10.4.0.1", "::ffff:10.3.0.1", "8.8.8.8")
    ]
    assert allowed == [True, False, True, True]


def test_of_several_addresses_all_must_be_allowed(monkeypatch: pytest.MonkeyPatch, fetch: Callable[..., bytes]) -> None:
    def both(*_: Any, **__: Any) -> list[Any]:
        return [(0, 0, 0, "", (address, 443)) for address in ("8.8.8.8", "127.0.0.1")]

    monkeypatch.setattr(attachment_urls.socket, "getaddrinfo", both)
    assert reason(fetch, "https://media.example/a", STRICT) == "attachment-host"


NAMES = {
    "https://h/a/b.jpg?x=/etc/passwd": "b.jpg",
    "https://h/%E7%85%A7%E7%89%87.jpg": "照片.jpg",
    "https://h/..%2f..%2fetc%2fpasswd": "passwd",
    "https://h/a%5c..%5cb.png": "b.png",
    "https://h/": "attachment",
    "https://h": "attachment",
    "https://h/a/..": "attachment",
    "https://h/%2e%2e": "attachment",
    "https://h/a%00b%0a.jpg": "ab.jpg",
    "https://h/%ff%fe.jpg": "\ufffd\ufffd.jpg",
    "https://h/" + "x" * 500: "x" * 200,
}


@pytest.mark.parametrize("url", NAMES)
def test_names_are_names_and_no_paths(url: str) -> None:
    assert name_of(url) == NAMES[url]


# ---- in a mapping ------------------------------------------------------------------------------------------------

MAPPING = """
mapping = "day"
version = 1
department = "market"
type = "x"
v = 1
system = "s"
key = ["id"]
[source]
kind = "jsonl"
path = "rows.jsonl"
[fields]
occurred_at = { constant = "2026-03-02T09:15:00+08:00" }
[[attachments]]
column = "photo"
sha256 = "digest"
split = ";"
blank = "omit"
[attachments.url]
hosts = ["HOST"]
private_networks = ["127.0.0.0/8"]
unsafe_plain_http = true
max_megabytes = 1
"""


def mapping(tmp_path: Path, host: str, *rows: str) -> FeedMapping:
    (tmp_path / "rows.jsonl").write_text("".join(row + "\n" for row in rows))
    return parse_mapping(MAPPING.replace("HOST", host).encode(), "m.toml", tmp_path)


def line(key: str, urls: str, *digests: str) -> str:
    return f'{{"id": "{key}", "photo": "{urls}", "digest": "{";".join(digests)}"}}'


def test_a_feed_fetches_checks_and_clears_away(files: Files, tmp_path: Path, state: Any, ledger: Any) -> None:
    good = hashlib.sha256(PHOTO).hexdigest()
    one, two = files.put("/a/1.jpg"), files.put("/2.pdf", b"%PDF")
    made = mapping(
        tmp_path,
        files.host,
        line("a", f"{one};{two}", good, hashlib.sha256(b"%PDF").hexdigest()),
        line("b", one, "00" * 32),
        line("c", files.server.url + "/nowhere.jpg", good),
        line("d", "https://evil.example/x", good),
        line("e", ""),
        line("f", one, good.upper()),
    )
    seen: list[tuple[str, str, bytes]] = []
    paths: list[Path] = []

    def submit(batch: Any) -> Any:
        for item in batch:
            for source in item.attachments:
                paths.append(source.path)
                seen.append((source.name, source.media_type, source.path.read_bytes()))
        return ledger(batch)

    report = run(made, open_source(made), state, submit)
    assert (report.read, report.sealed) == (6, 3)
    assert dict(report.by_reason) == {"attachment-digest": 1, "attachment-missing": 1, "attachment-host": 1}
    photo = ("1.jpg", "image/jpeg", PHOTO)
    assert seen == [photo, ("2.pdf", "application/pdf", b"%PDF"), photo]
    assert len(set(paths)) == 3
    assert not [path for path in paths if path.exists() or path.parent.exists()]


def test_a_look_fetches_nothing(files: Files, tmp_path: Path) -> None:
    made = mapping(
        tmp_path, files.host, line("a", files.put("/1.jpg"), "00" * 32), line("b", "https://evil.example/x", "0")
    )
    shown = preview(made, open_source(made), 5)
    assert shown[0].attachments == ("1.jpg",)
    assert shown[1].refusal is not None
    assert shown[1].refusal.reason == "attachment-host"
    assert check(made, open_source(made)).good == 1
    assert files.server.asked == []


def test_files_are_gone_also_when_the_submission_fails(files: Files, tmp_path: Path) -> None:
    made = mapping(tmp_path, files.host)
    transform = Transform(made)
    values = {"id": "a", "photo": files.put("/1.jpg"), "digest": hashlib.sha256(PHOTO).hexdigest()}
    with pytest.raises(RuntimeError), transform.fetching():
        [source] = transform("day/a", values).submission.attachments
        assert isinstance(source.path, Path)
        assert source.path.is_file()
        raise RuntimeError
    assert not source.path.exists()


WRONG: dict[str, tuple[str, str, str]] = {
    "no hosts": ('hosts = ["HOST"]', "hosts = []", "at least one host"),
    "a URL for a host": ('["HOST"]', '["https://media.example"]', "no host or host:port"),
    "a host in upper case": ('["HOST"]', '["Media.example"]', "no host or host:port"),
    "every host": ('["HOST"]', '["*"]', "no host or host:port"),
    "no network": ('["127.0.0.0/8"]', '["127.0.0.1/8"]', "is no network"),
    "no size": ("max_megabytes = 1", "max_megabytes = 0", "must be from 1"),
    "an unknown word": ("max_megabytes = 1", "maxmegabytes = 1", "unknown"),
    "a base beside it": ('split = ";"', 'base = "photos"', "cannot both be set"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options(tmp_path: Path, name: str) -> None:
    old, new, sentence = WRONG[name]
    text = MAPPING.replace(old, new).replace("HOST", "media.example")
    with pytest.raises(Malformed, match=sentence):
        parse_mapping(text.encode(), "m.toml", tmp_path)
