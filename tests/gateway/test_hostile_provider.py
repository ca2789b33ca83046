"""An identity provider that lies, and people who bring back from it what they were not given: real keys, real HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from anyio.to_thread import current_default_thread_limiter
from joserfc import jws
from joserfc.jwk import RSAKey

from gateway.database import prepare
from gateway.people import oidc
from gateway.people.errors import ProviderRefused, ProviderUnreachable, SignInFailed
from gateway.people.oidc import KEPT_SECONDS, Provider
from gateway.people.service import People
from gateway.people.sessions import SIGN_IN_COOKIE
from gateway.settings import ProviderSettings
from ledger.store.database import Database
from ledger.store.schema import upgrade
from tests.adapters.http_server import Asked, Said, Server
from tests.fixtures.gateway import AUTHORITY, Gateway, node_without_chain, serving
from tests.fixtures.parts import SqliteFiles, Template

CLIENT, LOGIN = "yunxi", "wang"
KEY = RSAKey.generate_key(2048, {"kid": "k1", "use": "sig", "alg": "RS256"})
OTHER = RSAKey.generate_key(2048, {"kid": "k1"})
BACK = "https://node.example/v1/sign-in/provider/callback"


@dataclass
class Lies:
    """What the provider says: its documents, and the ID token as a function of the honest claims."""

    document: Mapping[str, Any] = field(default_factory=dict)
    keys: Any = field(default_factory=lambda: {"keys": [KEY.as_dict(private=False)]})
    token: Callable[[dict[str, Any]], Any] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    issuer: str | None = None
    answer: Callable[[Asked], Said | None] = lambda _: None


class World:
    """A node's people, and the provider at `url`."""

    def __init__(self, database: Database) -> None:
        self.now = time.time()
        self.lies = Lies()
        self.server = Server(self._answer)
        self.database = database
        self.people = People(database, b"\x07" * 32, ["fire"], lambda: self.now)
        self.people.create("fire", LOGIN, ["officer"], None)
        self.people.create("fire", "boss", ["department-admin"], "correct horse battery")
        self.asked: dict[str, list[str]] = {}

    def provider(self, **settings: str) -> Provider:
        known = ProviderSettings(self.server.url, CLIENT, "a-secret", BACK, **settings)
        return Provider(known, self.people, self.database, lambda: self.now)

    def sign_in(self, lies: Lies, provider: Provider | None = None) -> frozenset[str]:
        """Begins honestly and brings back what the provider gives; the roles of the session."""
        self.lies = lies
        provider = provider or self.provider(**lies.settings)
        begun = provider.begin()
        self.asked = parse_qs(urlsplit(begun.url).query)
        return provider.finish(begun.state, begun.state, "a-code", lies.issuer)[0].caller.roles

    def _answer(self, asked: Asked) -> Said:
        if (said := self.lies.answer(asked)) is not None:
            return said
        at, url = asked.path, self.server.url
        if at == "/.well-known/openid-configuration":
            pages = {"authorization_endpoint": f"{url}/in", "token_endpoint": f"{url}/token", "jwks_uri": f"{url}/keys"}
            return Said({"issuer": url, **pages, **self.lies.document})
        return Said(self.lies.keys if at == "/keys" else {"id_token": self._token()})

    def _token(self) -> Any:
        now = int(self.now)
        claims = {"iss": self.server.url, "aud": CLIENT, "sub": LOGIN, "iat": now, "exp": now + 60}
        return (self.lies.token or signed)(claims | {"nonce": self.asked["nonce"][0]})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('people')}/node.sqlite")
    upgrade(database)
    prepare(database)
    world = World(database)
    yield world
    world.server.close()
    database.close()


def signed(claims: Mapping[str, Any], key: RSAKey = KEY, **header: Any) -> str:
    return payload(json.dumps(claims).encode(), key, **header)


def payload(data: bytes, key: RSAKey = KEY, **header: Any) -> str:
    return jws.serialize_compact({"alg": "RS256", "kid": "k1", **header}, data, key)


def raw(header: Any, claims: Any, secret: bytes | None = None) -> str:
    """A token that no library would write: unsigned, or with an HMAC."""
    parts = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in (header, claims)]
    said = b".".join(parts)
    mac = b"" if secret is None else base64.urlsafe_b64encode(hmac.digest(secret, said, "sha256")).rstrip(b"=")
    return (said + b"." + mac).decode()


def claiming(**changes: Any) -> Lies:
    """An ID token with other claims; None leaves one out."""
    return Lies(token=lambda c: signed({name: v for name, v in (c | changes).items() if v is not None}))


def with_key(**changes: Any) -> Lies:
    return Lies(keys={"keys": [KEY.as_dict(private=False) | changes]})


HONEST: dict[str, Lies] = {
    "an honest answer": Lies(),
    "that names the provider": Lies(document={"authorization_response_iss_parameter_supported": True}, issuer="own"),
    "two audiences, of which ours is meant": claiming(aud=[CLIENT, "x"], azp=CLIENT),
    "another key beside, of a kind nobody knows": Lies(keys={"keys": [{"kty": "X"}, KEY.as_dict(private=False)]}),
    "an address that was verified": Lies(
        settings={"login_claim": "email"}, token=lambda c: signed(c | {"email": LOGIN, "email_verified": True})
    ),
}


@pytest.mark.parametrize("name", HONEST)
def test_what_an_honest_provider_may_do(world: World, name: str) -> None:
    lies = HONEST[name]
    lies.issuer = world.server.url if lies.issuer else None
    assert world.sign_in(lies) == {"officer"}


REFUSED: dict[str, Lies] = {
    "not signed": Lies(token=lambda c: raw({"alg": "none"}, c)),
    "not signed, in capitals": Lies(token=lambda c: raw({"alg": "NoNe", "kid": "k1"}, c)),
    "the public key as an HMAC's secret": Lies(
        token=lambda c: raw({"alg": "HS256", "kid": "k1"}, c, KEY.as_pem(private=False))
    ),
    "another key under the same id": Lies(token=lambda c: signed(c, OTHER)),
    "a key that the token brings along": Lies(token=lambda c: signed(c, OTHER, jwk=OTHER.as_dict(private=False))),
    "a key elsewhere": Lies(token=lambda c: signed(c, OTHER, jku="http://127.0.0.1:9/keys")),
    "a certificate elsewhere": Lies(token=lambda c: signed(c, OTHER, x5u="http://127.0.0.1:9/c", kid="k2")),
    "an id of no key": Lies(token=lambda c: signed(c, kid="../../etc/passwd")),
    "an id that is a list": Lies(token=lambda c: raw({"alg": "RS256", "kid": ["k1"]}, c, b"x")),
    "an algorithm that is a list": Lies(token=lambda c: raw({"alg": ["RS256"], "kid": "k1"}, c, b"x")),
    "a header that is a list": Lies(token=lambda c: raw([], c, b"x")),
    "a header that must be understood": Lies(token=lambda c: raw({"alg": "RS256", "crit": ["x"], "x": 1}, c, b"x")),
    "claims that are a list": Lies(token=lambda _: payload(b"[1]")),
    "claims that are no text": Lies(token=lambda _: payload(b"\xff")),
    "claims without an end": Lies(token=lambda _: payload(b'{"a":' * 9_000)),
    "five parts": Lies(token=lambda _: "a.b.c.d.e"),
    "nothing": Lies(token=lambda _: ""),
    "no token": Lies(token=lambda _: None),
    "a list of tokens": Lies(token=lambda c: [signed(c)]),
    "another issuer": claiming(iss="https://other.example"),
    "issuers": claiming(iss=["https://other.example"]),
    "another audience": claiming(aud="x"),
    "no audience": claiming(aud=None),
    "two audiences and nobody meant": claiming(aud=[CLIENT, "x"]),
    "two audiences and the other meant": claiming(aud=[CLIENT, "x"], azp="x"),
    "one audience and another meant": claiming(azp="x"),
    "expired": claiming(exp=1_000),
    "without an end": claiming(exp=None),
    "until infinity": claiming(exp=float("inf")),
    "until some text": claiming(exp="9999999999"),
    "issued in the future": claiming(iat=1 << 40),
    "issued at no time": claiming(iat=None),
    "not yet valid": claiming(nbf=1 << 40),
    "no nonce": claiming(nonce=None),
    "another sign-in's nonce": claiming(nonce="x" * 43),
    "an empty nonce": claiming(nonce=""),
    "an answer of another provider": Lies(issuer="https://other.example"),
    "an answer of nobody, where it should say": Lies(document={"authorization_response_iss_parameter_supported": True}),
    "an address that nobody verified": Lies(
        settings={"login_claim": "email"}, token=lambda c: signed(c | {"email": LOGIN, "email_verified": False})
    ),
    "an address of which nothing is said": Lies(
        settings={"login_claim": "email"}, token=lambda c: signed(c | {"email": LOGIN})
    ),
    "no keys": Lies(keys={}),
    "keys that are none": Lies(keys={"keys": None}),
    "keys that are text": Lies(keys={"keys": ["x"]}),
    "a kind of key that is a list": Lies(keys={"keys": [{"kty": [1]}]}),
    "a key without its number": with_key(n=None),
    "a key of even exponent": with_key(e="Ag"),
    "a key to encrypt with": with_key(use="enc"),
    "a key for other signatures": with_key(alg="RS512"),
    "another name of the issuer": Lies(document={"issuer": "https://other.example"}),
    "a token page by http": Lies(document={"token_endpoint": "http://192.0.2.1/token"}),
    "keys by http, inside": Lies(document={"jwks_uri": "http://169.254.169.254/latest/meta-data"}),
    "keys in a file": Lies(document={"jwks_uri": "file:///etc/passwd"}),
    "a sign-in page that is a script": Lies(document={"authorization_endpoint": "javascript:alert(1)"}),
    "a sign-in page of two lines": Lies(document={"authorization_endpoint": "https://a.example/\r\nSet-Cookie: x=y"}),
    "a sign-in page behind a fragment": Lies(document={"authorization_endpoint": "https://a.example/#"}),
    "a token page with a user": Lies(document={"token_endpoint": "https://a:b@a.example/"}),
    "a token page that is no URL": Lies(document={"token_endpoint": "https://[x"}),
    "a token page that is a number": Lies(document={"token_endpoint": 5}),
    "the code is not taken": Lies(answer=lambda a: Said({"error": "x"}, 400) if a.path == "/token" else None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused(world: World, name: str) -> None:
    with pytest.raises(ProviderRefused):
        world.sign_in(REFUSED[name])


NOBODY = {
    "nobody": None, "a stranger": "li", "another case": "WANG", "with a space": "wang ", "a NUL": "wang\0",
    "half a character": "\ud800", "a number": 5, "a list": [LOGIN], "a local account": "boss",
}  # fmt: skip


@pytest.mark.parametrize("name", NOBODY)
def test_signs_nobody_in(world: World, name: str) -> None:
    """Least of all a local account with its own second factor, whoever gave the same name away at the provider."""
    expected = (SignInFailed, ProviderRefused) if isinstance(NOBODY[name], list | int) else SignInFailed
    with pytest.raises(expected):
        world.sign_in(claiming(sub=NOBODY[name]))


def only(path: str, said: Said) -> Lies:
    return Lies(answer=lambda asked: said if asked.path == path else None)


UNREACHABLE = {
    "a token page that moves on": only("/token", Said(status=302, headers={"Location": "http://127.0.0.1:9/"})),
    "a discovery document that moves on": only(
        "/.well-known/openid-configuration", Said(status=301, headers={"Location": "/elsewhere"})
    ),
    "an answer of megabytes": only("/token", Said(b" " * (2 << 20))),
    "compressed megabytes": only("/token", Said(b"\x1f\x8b" + bytes(99), headers={"Content-Encoding": "gzip"})),
    "a page of HTML": only("/token", Said(b"<html>")),
    "a list": only("/token", Said([])),
    "JSON without an end": only("/token", Said(b"[" * 100_000)),
    "an error of its own": only("/token", Said({"id_token": "x"}, 500)),
    "another status": only("/token", Said({"id_token": "x"}, 206)),
    "a discovery document of megabytes": only("/.well-known/openid-configuration", Said(b" " * (2 << 20))),
}


@pytest.mark.parametrize("name", UNREACHABLE)
def test_does_not_answer_as_it_should(world: World, name: str) -> None:
    with pytest.raises(ProviderUnreachable):
        world.sign_in(UNREACHABLE[name])


def test_what_was_asked_of_the_provider(world: World) -> None:
    """S256 always, of a verifier that the browser never saw; the sign-in page keeps its own query."""
    world.sign_in(Lies(document={"authorization_endpoint": "https://a.example/in?tenant=1"}))
    asked = {name: value for name, (value,) in world.asked.items()}
    form = parse_qs(next(a.body.decode() for a in reversed(world.server.asked) if a.path == "/token"))
    assert (asked["tenant"], asked["code_challenge_method"]) == ("1", "S256")
    digest = hashlib.sha256(form["code_verifier"][0].encode()).digest()
    assert asked["code_challenge"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert form["redirect_uri"] == [asked["redirect_uri"]] == [BACK]


def test_a_key_that_the_provider_withdrew_signs_nobody_in(world: World) -> None:
    provider = world.provider()
    assert world.sign_in(Lies(), provider) == {"officer"}
    withdrawn = Lies(keys={"keys": [OTHER.as_dict(private=False)]})
    assert world.sign_in(withdrawn, provider) == {"officer"}  # kept for so long, and no longer
    world.now += KEPT_SECONDS
    with pytest.raises(ProviderRefused, match="published keys"):
        world.sign_in(withdrawn, provider)


@contextmanager
def dripping(body: Callable[[str], bytes]) -> Iterator[str]:
    """A provider whose answers come byte by byte."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        data = body(url)

        def drip() -> None:
            line, _ = listening.accept()
            with line:
                line.recv(1 << 16)
                line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data))
                try:
                    for at in range(len(data)):
                        line.sendall(data[at : at + 1])
                        time.sleep(0.02)
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        yield url
        thread.join()


def test_an_answer_that_comes_byte_by_byte_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "_TIMEOUT_SECONDS", 0.3)
    with dripping(lambda url: json.dumps({"issuer": url, "authorization_endpoint": f"{url}/in"}).encode()) as url:
        provider = Provider(ProviderSettings(url, CLIENT, "x", BACK), world.people, world.database, time.time)
        with pytest.raises(ProviderUnreachable):
            provider.begin()


# -- over HTTP --


@pytest.fixture
def at_the_gateway(world: World, template: Template, tmp_path: Path) -> Iterator[tuple[Gateway, httpx.Client]]:
    """A gateway that signs people in at the provider, and somebody's browser."""
    node = node_without_chain(tmp_path / "node", SqliteFiles(template).new(tmp_path), template.agent)
    world.lies = Lies()
    with serving(node) as gateway, gateway.client(None) as browser:
        site = gateway.site
        settings = ProviderSettings(world.server.url, CLIENT, "x", BACK)
        site.provider = Provider(settings, site.people, site.database, site.clock)
        browser.base_url = httpx.URL(f"https://{AUTHORITY}")
        yield gateway, browser


CALLBACKS: dict[str, dict[str, str]] = {
    "nothing": {},
    "a state of nobody": {"state": "x" * 43, "code": "c"},
    "a state in other letters": {"state": "密" * 10, "code": "c"},
    "an error": {"state": "own", "error": "access_denied"},
    "another provider": {"state": "own", "code": "c", "iss": "https://other.example"},
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_what_a_browser_brings_back(at_the_gateway: tuple[Gateway, httpx.Client], world: World, name: str) -> None:
    _, browser = at_the_gateway
    begun = browser.get("/v1/sign-in/provider")
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
    brought = {key: state if value == "own" else value for key, value in CALLBACKS[name].items()}
    before = len(world.server.asked)
    answer = browser.get("/v1/sign-in/provider/callback", params=brought)
    assert (answer.status_code, answer.json()["code"]) == (403, "provider-refused")
    assert len(world.server.asked) == before  # nothing of it reaches the provider
    for kept in ("ü", '"', "x" * 43):
        cookie = {"Cookie": f"{SIGN_IN_COOKIE}={kept}".encode()}
        assert browser.get("/v1/sign-in/provider/callback", params=brought, headers=cookie).status_code in (403, 429)


def test_a_provider_that_hangs_takes_no_threads_of_others(
    at_the_gateway: tuple[Gateway, httpx.Client], world: World
) -> None:
    gateway, browser = at_the_gateway
    arrived, go_on = threading.Semaphore(0), threading.Event()

    def hang(_: Asked) -> None:
        arrived.release()
        go_on.wait(20)

    world.lies = Lies(answer=hang)
    waiting = [threading.Thread(target=browser.get, args=("/v1/sign-in/provider",)) for _ in range(3)]
    for each in waiting:
        each.start()
    assert all(arrived.acquire(timeout=20) for _ in waiting)
    taken = gateway.portal.call(lambda: current_default_thread_limiter().borrowed_tokens)
    go_on.set()
    for each in waiting:
        each.join()
    assert taken == 0
