"""People: accounts, one-time codes, lock-out, sessions; and signing in at a real OpenID Connect provider."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier, Thread
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pyotp
import pytest
from argon2 import PasswordHasher

from gateway.database import prepare
from gateway.people import passwords, service
from gateway.people.errors import AccountRefused, ProviderRefused, ProviderUnreachable, SignInFailed
from gateway.people.oidc import Provider, ProviderSettings
from gateway.people.service import LOCKED_SECONDS, MAX_FAILURES, People
from ledger.store.database import Database
from ledger.store.schema import upgrade
from tests.fixtures.servers import free_port

PASSWORD = "correct horse battery"
SLOW = passwords._hasher
ROOT = Path(__file__).parents[2]


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords that take a thousandth of the time to try."""
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    passwords._nobody.cache_clear()


def test_a_password_takes_long_to_try() -> None:
    assert SLOW.hash("x").startswith("$argon2id$v=19$m=65536,t=3,p=4$")  # RFC 9106 section 4, second option


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/node.sqlite")
    upgrade(database)
    prepare(database)
    yield database
    database.close()


@pytest.fixture
def people(database: Database, clock: Clock) -> People:
    return People(database, b"\x07" * 32, ["fire", "health"], clock)


def secret_of(uri: str | None) -> str:
    assert uri is not None
    return parse_qs(urlsplit(uri).query)["secret"][0]


def code_at(uri: str | None, now: float) -> str:
    return pyotp.TOTP(secret_of(uri)).at(now)


# -- accounts --


def test_an_officer_signs_in_and_is_who_the_account_says(people: People) -> None:
    people.create("fire", "wang", ["officer"], PASSWORD, totp=False)
    signed_in = people.sign_in("wang", PASSWORD, None)
    caller = people.resolve(signed_in.token)
    assert caller == signed_in.caller
    assert caller is not None
    assert (caller.kind, caller.department, caller.roles) == ("person", "fire", frozenset({"officer"}))
    assert "wang" not in caller.subject


@pytest.mark.parametrize(
    ("department", "login", "roles", "password", "totp", "said"),
    [
        ("police", "wang", ["officer"], PASSWORD, True, "no keys on this node"),
        ("fire", "", ["officer"], PASSWORD, True, "a login is"),
        ("fire", " wang", ["officer"], PASSWORD, True, "a login is"),
        ("fire", "wang\n", ["officer"], PASSWORD, True, "a login is"),
        ("fire", "wang", [], PASSWORD, True, "needs roles"),
        ("fire", "wang", ["system"], PASSWORD, True, "needs roles"),
        ("fire", "wang", ["officer"], "too short", True, "12 to 256"),
        ("fire", "wang", ["officer"], "x" * 257, True, "12 to 256"),
        ("fire", "wang", ["officer"], "Wang is my login name", True, "must not contain the login"),
        ("fire", "wang", ["auditor"], PASSWORD, False, "one-time codes"),
        ("fire", "wang", ["officer", "supervisor"], PASSWORD, False, "one-time codes"),
        ("fire", "taken", ["officer"], PASSWORD, True, "is taken"),
    ],
)
def test_what_is_no_account(
    people: People, department: str, login: str, roles: list[str], password: str, totp: bool, said: str
) -> None:
    people.create("health", "taken", ["officer"], PASSWORD)
    with pytest.raises(AccountRefused, match=said):
        people.create(department, login, roles, password, totp=totp)
    assert [account.login for account in people.list()] == ["taken"]


def test_roles_above_officer_need_a_second_factor_also_later(people: People) -> None:
    people.create("fire", "wang", ["officer"], PASSWORD, totp=False)
    with pytest.raises(AccountRefused, match="one-time codes"):
        people.set_roles("wang", ["supervisor"])
    people.reset_second_factor("wang")
    people.set_roles("wang", ["supervisor"])
    assert people.find("wang").roles == {"supervisor"}


# -- signing in --


def test_each_wrong_thing_is_refused_in_the_same_words(people: People, clock: Clock) -> None:
    uri = people.create("fire", "wang", ["auditor"], PASSWORD).provisioning_uri
    right = code_at(uri, clock.now)
    said = set()
    for login, password, code in [
        ("nobody", PASSWORD, right),
        ("wang", "wrong horse battery", right),
        ("wang", PASSWORD, None),
        ("wang", PASSWORD, "000000" if right != "000000" else "111111"),
    ]:
        with pytest.raises(SignInFailed) as failed:
            people.sign_in(login, password, code)
        said.add(str(failed.value))
    assert len(said) == 1
    people.sign_in("wang", PASSWORD, right)


def test_a_code_counts_once(people: People, clock: Clock) -> None:
    uri = people.create("fire", "wang", ["auditor"], PASSWORD).provisioning_uri
    code = code_at(uri, clock.now)
    people.sign_in("wang", PASSWORD, code)
    with pytest.raises(SignInFailed):
        people.sign_in("wang", PASSWORD, code)
    with pytest.raises(SignInFailed):  # nor one from before it
        people.sign_in("wang", PASSWORD, code_at(uri, clock.now - 30))
    clock.now += 30
    people.sign_in("wang", PASSWORD, code_at(uri, clock.now))


def test_of_two_at_once_with_one_code_one_gets_in(people: People, clock: Clock) -> None:
    uri = people.create("fire", "wang", ["auditor"], PASSWORD).provisioning_uri
    code, barrier, answers = code_at(uri, clock.now), Barrier(4), []

    def sign_in() -> None:
        barrier.wait()
        try:
            answers.append(people.sign_in("wang", PASSWORD, code).token)
        except SignInFailed:
            answers.append("")

    threads = [Thread(target=sign_in) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4 and sum(map(bool, answers)) == 1


@pytest.mark.parametrize(("minutes_off", "gets_in"), [(-1.0, False), (-0.5, True), (0.5, True), (1.0, False)])
def test_how_far_a_phones_clock_may_be_off(people: People, clock: Clock, minutes_off: float, gets_in: bool) -> None:
    uri = people.create("fire", "wang", ["auditor"], PASSWORD).provisioning_uri
    code = code_at(uri, clock.now + minutes_off * 60)
    if gets_in:
        people.sign_in("wang", PASSWORD, code)
    else:
        with pytest.raises(SignInFailed):
            people.sign_in("wang", PASSWORD, code)


def test_five_failures_lock_the_account_for_a_quarter_of_an_hour(people: People, clock: Clock) -> None:
    people.create("fire", "wang", ["officer"], PASSWORD, totp=False)
    for _ in range(4):
        with pytest.raises(SignInFailed):
            people.sign_in("wang", "wrong horse battery", None)
    people.sign_in("wang", PASSWORD, None)  # four, and the count begins anew
    for _ in range(5):
        with pytest.raises(SignInFailed):
            people.sign_in("wang", "wrong horse battery", None)
    assert people.find("wang").locked_until == int(clock.now) + service.LOCKED_SECONDS
    with pytest.raises(SignInFailed):
        people.sign_in("wang", PASSWORD, None)
    clock.now += service.LOCKED_SECONDS
    people.sign_in("wang", PASSWORD, None)


def test_who_has_the_password_cannot_go_on_guessing_codes(people: People, clock: Clock) -> None:
    """A million codes, of which three are good at a time: at five a quarter of an hour it would take months."""
    uri = people.create("fire", "wang", ["officer"], PASSWORD).provisioning_uri
    waits = []
    for _ in range(9):
        for _ in range(MAX_FAILURES):
            good = {code_at(uri, clock() + step) for step in (-30, 0, 30)}
            with pytest.raises(SignInFailed):
                people.sign_in(
                    "wang", PASSWORD, next(c for c in ("000000", "000001", "000002", "000003") if c not in good)
                )
        waits.append((people.find("wang").locked_until - int(clock())) // 60)
        clock.now = people.find("wang").locked_until
    assert waits == [15, 30, 60, 120, 240, 480, 960, 1440, 1440]
    people.sign_in("wang", PASSWORD, code_at(uri, clock()))
    clock.now += 60
    for _ in range(MAX_FAILURES):
        with pytest.raises(SignInFailed):
            people.sign_in("wang", "wrong horse battery", None)
    assert people.find("wang").locked_until - int(clock()) == LOCKED_SECONDS, "a stranger locks nobody out for longer"


def test_what_the_database_holds_signs_nobody_in(people: People, database: Database) -> None:
    uri = people.create("fire", "wang", ["officer"], PASSWORD).provisioning_uri
    token = people.begin("wang").token
    with database.reading() as connection:
        rows = [
            str(tuple(row))
            for table in ("accounts", "sessions")
            for row in connection.exec_driver_sql(f"SELECT * FROM {table}")
        ]
    assert len(rows) == 2
    for needle in (PASSWORD, secret_of(uri), token):
        assert not any(needle in row for row in rows)


# -- sessions --


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "A" * 44, "密" * 43])
def test_no_such_session(people: People, token: str) -> None:
    assert people.resolve(token) is None


def test_a_session_ends_when_nobody_uses_it_and_after_a_day_s_work(people: People, clock: Clock) -> None:
    people.create("fire", "wang", ["officer"], PASSWORD, totp=False)
    idle = people.sign_in("wang", PASSWORD, None).token
    clock.now += service.IDLE_SECONDS + 1
    assert people.resolve(idle) is None
    busy, began = people.sign_in("wang", PASSWORD, None).token, clock.now
    while clock.now - began <= service.SESSION_SECONDS:
        assert people.resolve(busy) is not None
        clock.now += service.IDLE_SECONDS - 1
    assert people.resolve(busy) is None


@pytest.mark.parametrize("change", ["sign out", "password", "roles", "second factor", "disabled"])
def test_what_ends_a_session_at_once(people: People, change: str) -> None:
    people.create("fire", "wang", ["officer"], PASSWORD, totp=False)
    people.create("fire", "li", ["officer"], PASSWORD, totp=False)
    token, other = people.begin("wang").token, people.begin("li").token
    {
        "sign out": lambda: people.sign_out(token),
        "password": lambda: people.set_password("wang", "another horse battery"),
        "roles": lambda: people.set_roles("wang", ["officer"]),
        "second factor": lambda: people.reset_second_factor("wang"),
        "disabled": lambda: people.disable("wang"),
    }[change]()
    assert people.resolve(token) is None
    assert people.resolve(other) is not None


MEANWHILE = {
    "another password": lambda people: people.set_password("wang", "another horse battery"),
    "another second factor": lambda people: people.reset_second_factor("wang"),
    "a closed account": lambda people: people.disable("wang"),
}


@pytest.mark.parametrize("case", MEANWHILE)
def test_what_changes_while_somebody_signs_in_counts(
    people: People, clock: Clock, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Looking at the password takes long enough for an administrator to come in between."""
    uri = people.create("fire", "wang", ["officer"], PASSWORD).provisioning_uri
    fits = service.passwords.password_fits

    def slowly(stored: str | None, password: str) -> bool:
        good = fits(stored, password)
        MEANWHILE[case](people)
        return good

    monkeypatch.setattr(service.passwords, "password_fits", slowly)
    with pytest.raises(SignInFailed):
        people.sign_in("wang", PASSWORD, code_at(uri, clock()))


def test_a_disabled_account_signs_in_again_once_it_is_opened(people: People) -> None:
    people.create("fire", "wang", ["officer"], PASSWORD, totp=False)
    people.disable("wang")
    with pytest.raises(SignInFailed):
        people.sign_in("wang", PASSWORD, None)
    people.disable("wang", disabled=False)
    people.sign_in("wang", PASSWORD, None)


# -- a real provider --


REDIRECT = "http://127.0.0.1:9/v1/sign-in/provider/callback"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    if shutil.which("node") is None or not (ROOT / "node_modules/oidc-provider").exists():
        pytest.skip("Node.js or the npm packages are not installed: run npm ci")
    port = free_port()
    process = subprocess.Popen(
        ["node", ROOT / "tests/gateway/provider.mjs", str(port), REDIRECT],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield f"http://127.0.0.1:{port}"
        process.kill()


@pytest.fixture
def provider(issuer: str, people: People, database: Database) -> Provider:
    import time

    settings = ProviderSettings(issuer, "yunxi", "a-secret-for-tests-only", REDIRECT)
    return Provider(settings, people, database, time.time)


def through_the_provider(url: str, login: str) -> dict[str, str]:
    """What a browser does at the provider: sign in, consent; returns what it brings back to us."""
    with httpx.Client(timeout=60) as browser:
        answer = browser.get(url)
        for _ in range(20):
            target = urljoin(str(answer.url), answer.headers.get("location", ""))
            if answer.is_redirect and target.startswith(REDIRECT):
                return {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
            if answer.is_redirect:
                answer = browser.get(target)
                continue
            action = re.search(r'action="([^"]+)"', answer.text)
            assert action is not None, answer.text
            prompt = "login" if 'name="login"' in answer.text else "consent"
            fields = {"prompt": prompt, "login": login, "password": "any"}
            answer = browser.post(urljoin(str(answer.url), action[1]), data=fields)
    raise AssertionError("the provider never sent the browser back")


def test_signing_in_at_a_real_provider(provider: Provider, people: People) -> None:
    people.create("fire", "wang", ["officer", "supervisor"], None)
    begun = provider.begin("/inspections")
    assert "code_challenge_method=S256" in begun.url
    brought = through_the_provider(begun.url, "wang")
    signed_in, path = provider.finish(brought["state"], begun.state, brought["code"], brought["iss"])
    assert path == "/inspections"
    caller = people.resolve(signed_in.token)
    assert caller is not None and caller.roles == {"officer", "supervisor"}
    with pytest.raises(ProviderRefused, match="used up"):  # the same answer again
        provider.finish(brought["state"], begun.state, brought["code"], brought["iss"])


def test_someone_without_an_account_here_gets_nothing(provider: Provider, people: People) -> None:
    begun = provider.begin()
    brought = through_the_provider(begun.url, "stranger")
    with pytest.raises(SignInFailed):
        provider.finish(brought["state"], begun.state, brought["code"], brought["iss"])


def test_an_account_of_the_provider_has_no_password_here(people: People) -> None:
    people.create("fire", "wang", ["officer"], None)
    for password in ("", PASSWORD):
        with pytest.raises(SignInFailed):
            people.sign_in("wang", password, None)


def test_answers_that_were_not_asked_for(provider: Provider, people: People, issuer: str) -> None:
    people.create("fire", "wang", ["officer"], None)
    begun, other = provider.begin(), provider.begin()
    brought = through_the_provider(begun.url, "wang")
    with pytest.raises(ProviderRefused, match="not begun in this browser"):
        provider.finish(brought["state"], None, brought["code"], issuer)
    with pytest.raises(ProviderRefused, match="not begun in this browser"):
        provider.finish(brought["state"], other.state, brought["code"], issuer)
    with pytest.raises(ProviderRefused, match="unknown"):
        provider.finish("x" * 43, "x" * 43, brought["code"], issuer)
    with pytest.raises(ProviderRefused, match="did not take the code"):  # another sign-in's code: its PKCE challenge
        provider.finish(other.state, other.state, brought["code"], issuer)


def test_a_provider_that_calls_itself_otherwise(issuer: str, people: People, database: Database, clock: Clock) -> None:
    settings = ProviderSettings(issuer.replace("127.0.0.1", "localhost"), "yunxi", "x", REDIRECT)
    with pytest.raises(ProviderRefused, match="calls itself otherwise"):
        Provider(settings, people, database, clock).begin()


def test_a_provider_that_is_down(people: People, database: Database, clock: Clock) -> None:
    settings = ProviderSettings(f"http://127.0.0.1:{free_port()}", "yunxi", "x", REDIRECT)
    with pytest.raises(ProviderUnreachable, match="does not answer"):
        Provider(settings, people, database, clock).begin()


def test_an_id_token_from_another_time_is_refused(
    issuer: str, people: People, database: Database, clock: Clock
) -> None:
    people.create("fire", "wang", ["officer"], None)
    settings = ProviderSettings(issuer, "yunxi", "a-secret-for-tests-only", REDIRECT)
    late = Provider(settings, people, database, clock)  # this clock stands elsewhere than the provider's
    begun = late.begin()
    brought = through_the_provider(begun.url, "wang")
    with pytest.raises(ProviderRefused, match="does not hold"):
        late.finish(brought["state"], begun.state, brought["code"], issuer)


def test_a_provider_must_be_reached_by_https() -> None:
    with pytest.raises(ValueError, match="https"):
        ProviderSettings("http://id.example.gov.cn", "yunxi", "x", REDIRECT)


@pytest.mark.parametrize(
    "path", ["//evil.example", "https://evil.example", "\\\\evil", "/\\evil", "", "x", "/a\nb", "/密"]
)
def test_no_open_redirect(provider: Provider, people: People, path: str) -> None:
    people.create("fire", "wang", ["officer"], None)
    begun = provider.begin(path)
    brought = through_the_provider(begun.url, "wang")
    assert provider.finish(brought["state"], begun.state, brought["code"], brought["iss"])[1] == "/"
