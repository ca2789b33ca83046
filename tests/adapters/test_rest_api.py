"""REST services over real HTTP: every style of pages, patience, and servers that loop, lie, redirect or never end."""

from __future__ import annotations

import gzip
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from adapters.rest_api import RestOptions
from adapters.sections import Section
from adapters.source import BadRow, Limits, Opening, Page, Row, Unusable
from ledger.errors import CouldNotRun, Malformed

Answer = Callable[[Any], Any]
SMALL = Limits(field_chars=500, columns=20, body_bytes=50_000)


class Client:
    """A server and what is read from it; `slept` are the waits, which are not waited for."""

    def __init__(self, module: Any) -> None:
        self.said = module.Said
        self.server = module.Server(lambda _: self.said([]))
        self.slept: list[float] = []
        self.environ: dict[str, str] = {"TOKEN": "t-1", "CLIENT": "me", "SECRET": "s/1"}

    def pages(self, answer: Answer, marks: Mapping[str, str] | None = None, size: int = 3, **extra: Any) -> list[Page]:
        self.server.answer = answer
        self.server.asked.clear()
        data = {"url": f"{self.server.url}/rows", "pages": "none", **extra}
        options = RestOptions.parse(Section("m.toml", "source", data))
        opening = Opening(
            Path(), frozenset(), ("id",), environ=self.environ, limits=SMALL, sleep=self.slept.append
        )  # fmt: skip
        return list(options.open(opening).pages(marks or {}, size))

    def read(self, answer: Answer, **extra: Any) -> list[Any]:
        return ids(self.pages(answer, **extra))

    def fixed(self, body: Any, **extra: Any) -> Answer:
        return lambda _: self.said(body, **extra)


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    made = Client(sys.modules["adapters_http_server"])
    yield made
    made.server.close()


def ids(pages: list[Page]) -> list[Any]:
    return [row.reason if isinstance(row, BadRow) else row.values["id"] for page in pages for row in page.rows]


def rows(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": f"k{n}"} for n in numbers]


def paged(client: Client, style: str, count: int = 7, per: int = 3) -> Answer:
    """A server of `count` rows in a style of pages, `per` rows a page whatever is asked for."""

    def answer(asked: Any) -> Any:
        params = asked.params
        at = {
            "page": lambda: (int(params.get("page", 1)) - 1) * per,
            "offset": lambda: int(params.get("offset", 0)),
        }.get(style, lambda: int(params.get("from", 0)))()
        items, more = rows(*range(count))[at : at + per], at + per < count
        link = f"/rows?from={at + per}"
        match style:
            case "cursor":
                return client.said({"items": items, "meta": {"next": at + per if more else None}})
            case "next":
                return client.said({"items": items, "meta": {"next": link if more else ""}})
            case "link":
                return client.said({"items": items}, headers={"Link": f'<{link}>; rel="next"'} if more else {})
            case _:
                return client.said({"items": items})

    return answer


STYLES: dict[str, dict[str, Any]] = {
    "page": {},
    "offset": {"size_param": "limit"},
    "cursor": {"next": "meta.next", "cursor_param": "from"},
    "next": {"next": "meta.next"},
    "link": {},
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [1, 2, 100])
def test_every_style_of_pages_and_every_mark(client, style, size):
    answer, extra = paged(client, style), {"pages": style, "rows": "items", **STYLES[style]}
    whole = client.pages(answer, size=size, **extra)
    assert ids(whole) == [f"k{n}" for n in range(7)]
    assert whole[0].restarted and not any(page.restarted for page in whole[1:])
    assert max(len(page.rows) for page in whole) <= size
    for number, page in enumerate(whole[:-1]):
        assert page.mark is not None
        rest = client.pages(answer, {"/rows": page.mark}, size=size, **extra)
        assert ids(rest) == ids(whole[number + 1 :])


def test_pages_beyond_the_last_may_answer_404(client):
    inner = paged(client, "page")

    def answer(asked: Any) -> Any:
        return client.said(status=404) if int(asked.params["page"]) > 3 else inner(asked)

    assert len(client.read(answer, pages="page", rows="items")) == 7
    with pytest.raises(CouldNotRun, match="404; correct the mapping"):
        client.read(client.fixed(b"", status=404), pages="page")


def test_a_page_size_that_changed_begins_anew(client):
    answer, extra = paged(client, "page"), {"pages": "page", "rows": "items"}
    first = client.pages(answer, page_size=3, **extra)[0]
    assert len(ids(client.pages(answer, {"/rows": first.mark or ""}, page_size=4, **extra))) == 7


def test_since_asks_for_what_is_newer_with_an_overlap(client):
    def answer(asked: Any) -> Any:
        return client.said([{"id": "a", "at": "2024-03-05T10:00:00Z"}, {"id": "b", "at": "2024-03-05T17:59:00+08:00"}])

    extra = {"since": "at", "since_param": "changed", "overlap": 300, "params": {"kind": "x"}}
    (page,) = client.pages(answer, **extra)
    assert client.server.asked[0].params == {"kind": "x"}
    client.pages(answer, {"/rows": page.mark or ""}, **extra)
    assert client.server.asked[0].params == {"kind": "x", "changed": "2024-03-05T09:55:00Z"}


def test_the_newest_of_a_reading_is_kept_only_at_its_end(client):
    def answer(asked: Any) -> Any:
        at = int(asked.params.get("cursor", 0))
        return client.said({"rows": [{"id": at, "seq": 100 - at}], "next": at + 1 if at < 2 else None})

    extra = {"pages": "cursor", "rows": "rows", "next": "next", "since": "seq", "since_param": "after"}
    found = client.pages(answer, **extra)
    client.pages(answer, {"/rows": found[0].mark or ""}, **extra)
    assert client.server.asked[0].params == {"cursor": "1"}
    client.pages(answer, {"/rows": found[-1].mark or ""}, **extra)
    assert client.server.asked[0].params == {"after": "100"}


@pytest.mark.parametrize("validator", [{"ETag": '"v1"'}, {"Last-Modified": formatdate(0, usegmt=True)}])
def test_an_unchanged_list_is_not_sent_again(client, validator):
    def answer(asked: Any) -> Any:
        same = asked.headers.get("if-none-match") == '"v1"' or "if-modified-since" in asked.headers
        return client.said(status=304) if same else client.said(rows(1), headers=validator)

    (page,) = client.pages(answer)
    assert client.pages(answer, {"/rows": page.mark or ""}) == []
    assert client.pages(answer, {"/rows": page.mark or ""}, params={"other": "1"}) != []


LOOPS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "a cursor that stays": ({"pages": "cursor", "next": "next", "rows": "rows"}, lambda n: "x", "in a circle"),
    "cursors in a circle": ({"pages": "cursor", "next": "next", "rows": "rows"}, lambda n: n % 3, "in a circle"),
    "a link to itself": ({"pages": "next", "next": "next", "rows": "rows"}, lambda n: "/rows?p=1", "in a circle"),
    "the page number is ignored": ({"pages": "page", "rows": "rows"}, None, "same page twice"),
    "the offset is ignored": ({"pages": "offset", "rows": "rows"}, None, "same page twice"),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_server_that_loops_is_noticed(client, name):
    extra, cursor, sentence = LOOPS[name]

    def answer(asked: Any) -> Any:
        number = len(client.server.asked)
        body = {"rows": rows(1 if cursor is None else number)}
        return client.said(body if cursor is None else {**body, "next": cursor(number)})

    with pytest.raises(CouldNotRun, match=sentence):
        client.read(answer, **extra)
    assert len(client.server.asked) <= 5


def test_a_cursor_that_the_server_forgot_begins_the_reading_anew(client):
    extra = {"pages": "cursor", "rows": "items", "next": "meta.next", "cursor_param": "from"}
    inner = paged(client, "cursor")
    first = client.pages(inner, **extra)[0]

    def answer(asked: Any) -> Any:
        return (
            client.said(status=410)
            if asked.params.get("from") == "3" and len(client.server.asked) == 1
            else inner(asked)
        )

    assert len(ids(client.pages(answer, {"/rows": first.mark or ""}, **extra))) == 7


WAITS: dict[str, tuple[Callable[[], str | None], Callable[[float], bool]]] = {
    "seconds": (lambda: "7", lambda wait: wait == 7),
    "a date": (lambda: formatdate(time.time() + 100, usegmt=True), lambda wait: 50 < wait < 110),
    "a date that is past": (lambda: formatdate(0, usegmt=True), lambda wait: wait == 0),
    "nonsense": (lambda: "soon", lambda wait: 0.5 <= wait <= 1),
    "nothing": (lambda: None, lambda wait: 0.5 <= wait <= 1),
}


@pytest.mark.parametrize("name", WAITS)
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_given_time(client, name, status):
    retry_after, fits = WAITS[name]

    def answer(_: Any) -> Any:
        busy = len(client.server.asked) == 1
        text = retry_after()  # made when the server answers: a date from when the tests were collected is past by now
        headers = {} if text is None else {"Retry-After": text}
        return client.said(b"", status=status, headers=headers) if busy else client.said(rows(1))

    assert client.read(answer) == ["k1"]
    assert len(client.slept) == 1 and fits(client.slept[0])


def test_patience_ends(client):
    with pytest.raises(CouldNotRun, match="answers 503, 3 times"):
        client.read(client.fixed(b"", status=503), attempts=3)
    assert client.slept == sorted(client.slept) and len(client.slept) == 2
    with pytest.raises(CouldNotRun, match="asks to wait 900 seconds"):
        client.read(client.fixed(b"", status=429, headers={"Retry-After": "900"}))
    client.server.close()
    with pytest.raises(CouldNotRun, match="cannot be reached"):
        client.read(client.fixed([]), attempts=2)


def test_a_server_that_says_nothing(client):
    asked_for_long_enough = threading.Event()

    def answer(_: Any) -> Any:
        asked_for_long_enough.wait(60)
        return client.said([])

    with pytest.raises(CouldNotRun, match="does not answer in time, 1 times"):
        client.read(answer, timeout_seconds=1, attempts=1)
    asked_for_long_enough.set()


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a redirection": (b"", {"status": 302, "headers": {"Location": "http://elsewhere.example/"}}, "redirects"),
    "not signed in": (b"", {"status": 401}, "refuses the credentials"),
    "a sign-in page": (b"<html>", {}, "not JSON"),
    "not UTF-8": (b"[\xff]", {}, "not UTF-8"),
    "nested without end": (b"[" * 40_000, {}, "answer is not"),
    "no list": ({"rows": []}, {}, "no list of rows at its top"),
    "larger than allowed": (b"[" + b" " * 60_000 + b"]", {}, "more than 50,000 bytes"),
    "a bomb": (
        gzip.compress(b"[" + b" " * 5_000_000 + b"]"), {"headers": {"Content-Encoding": "gzip"}}, "more than 50,000"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_answers_that_stop_the_reading(client, name):
    body, extra, sentence = REFUSED[name]
    with pytest.raises(CouldNotRun, match=sentence):
        client.read(client.fixed(body, **extra), attempts=1)


def test_a_link_to_another_server_is_not_followed(client):
    for link in (
        "http://elsewhere.example/rows",
        "//elsewhere.example/",
        "http://127.0.0.1:1/rows",
        "file:///etc/passwd",
    ):
        with pytest.raises(CouldNotRun, match="another server"):
            client.read(client.fixed({"r": rows(1), "n": link}), pages="next", rows="r", next="n")


def test_bad_rows_are_set_aside_and_harm_no_other(client):
    body = (
        b'[{"id": "k1"}, 7, {"id": "a", "id": "b"}, {"id": "c", "x": NaN}, {"id": "d", "x": {"y": 1.50}}, '
        b'{"id": "e", "x": "\\ud800"}, {"id": "f", "x": 1e999999}, {"id": "g", "x": "' + b"x" * 600 + b'"}, '
        b'{"id": "h", "x": ' + b'{"x":' * 9 + b"1" + b"}" * 9 + b"}, " + b"[" * 900 + b"]" * 900 + b"]"
    )
    found = [row for page in client.pages(client.fixed(body)) for row in page.rows]
    assert [row.reason if isinstance(row, BadRow) else row.values["id"] for row in found] == [
        "k1", "bad-json", "duplicate-column", "c", "d", "encoding", "f", "too-long", "bad-json", "bad-json"
    ]  # fmt: skip
    good = {row.values["id"]: row for row in found if isinstance(row, Row)}
    assert isinstance(good["c"].values["x"], Unusable) and isinstance(good["f"].values["x"], Unusable)
    assert str(good["d"].values["x.y"]) == "1.50"
    assert good["k1"].position == "/rows:k1"


def test_credentials_come_from_the_environment(client):
    seen = []

    def answer(asked: Any) -> Any:
        seen.append(asked.headers.get("authorization") or asked.headers.get("x-key"))
        return client.said([])

    client.read(answer, auth={"kind": "bearer", "token_env": "TOKEN"})
    client.read(answer, auth={"kind": "header", "header": "X-Key", "token_env": "TOKEN"})
    client.read(answer, auth={"kind": "basic", "user_env": "CLIENT", "password_env": "SECRET"})
    assert seen == ["Bearer t-1", "t-1", "Basic bWU6cy8x"]
    for value, sentence in ((None, "set the environment variable TOKEN"), ("a\nb", "no HTTP header can carry")):
        client.environ = {} if value is None else {"TOKEN": value}
        with pytest.raises(CouldNotRun, match=sentence):
            client.read(answer, auth={"kind": "bearer", "token_env": "TOKEN"})


def oauth(client: Client) -> dict[str, Any]:
    url = f"{client.server.url}/token"
    return {"kind": "client-credentials", "token_url": url, "client_id_env": "CLIENT", "client_secret_env": "SECRET"}


def test_client_credentials_and_a_token_that_ran_out(client):
    tokens = iter(["one", "two"])

    def answer(asked: Any) -> Any:
        if asked.path == "/token":
            assert (asked.method, asked.body) == ("POST", b"grant_type=client_credentials&scope=read")
            assert asked.headers["authorization"] == "Basic bWU6cyUyRjE="
            return client.said({"access_token": next(tokens), "token_type": "Bearer"})
        good = asked.headers["authorization"] == "Bearer two"
        return client.said(rows(1)) if good else client.said(status=401)

    assert client.read(answer, auth={**oauth(client), "scope": "read"}) == ["k1"]
    assert [asked.path for asked in client.server.asked] == ["/token", "/rows", "/token", "/rows"]


def test_credentials_that_stay_refused_are_not_tried_for_ever(client):
    def answer(asked: Any) -> Any:
        return client.said({"access_token": "x"}) if asked.path == "/token" else client.said(status=401)

    with pytest.raises(CouldNotRun, match="refuses the credentials"):
        client.read(answer, auth=oauth(client))
    assert len(client.server.asked) == 4
    with pytest.raises(CouldNotRun, match=r"gives no token \(status 400\)") as caught:
        client.read(client.fixed({"error": "invalid_client"}, status=400), auth=oauth(client))
    assert "s/1" not in str(caught.value)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "plain http over a network": ({"url": "http://api.example/rows"}, "plain http"),
    "a password in the URL": ({"url": "https://me:hunter2@api.example/"}, "user or password"),
    "no URL": ({"url": "api.example"}, "no http or https URL"),
    "a file": ({"url": "file:///etc/passwd"}, "no http or https URL"),
    "an unknown style": ({"pages": "scroll"}, "source.pages"),
    "a cursor without its place": ({"pages": "cursor"}, "source.next"),
    "since without a column": ({"since_param": "x"}, "go together"),
    "a secret in the file": ({"auth": {"kind": "bearer", "token": "x"}}, "source.auth"),
    "a token over plain http": (
        {"auth": {"kind": "client-credentials", "token_url": "http://a.example/t", "client_id_env": "A",
                  "client_secret_env": "B"}}, "must be https"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options(name):
    extra, sentence = WRONG[name]
    with pytest.raises(Malformed, match=sentence) as caught:
        section = Section("m.toml", "source", {"url": "https://api.example/rows", "pages": "none", **extra})
        RestOptions.parse(section)
        section.done()
    assert "hunter2" not in str(caught.value)


# ---- services that wrap their answers -----------------------------------------------------------------------------

WRAPPED: dict[str, Any] = {
    "pages": "page", "page_param": "pageNum", "size_param": "pageSize", "page_size": 3, "rows": "data.rows",
    "total": "data.total", "code": "code", "good": ["200"], "expired": ["401"], "message": "msg",
}  # fmt: skip


def wrapped(client: Client, count: int = 7, *, lifetime: int = 10**6, post: bool = False) -> Answer:
    """A server as admin frameworks make them: always 200, a login that gives tokens for `lifetime` answers each, and
    behind the last page the last page again."""
    issued, used = [0], [0]

    def answer(asked: Any) -> Any:
        if asked.path == "/login":
            assert json.loads(asked.body) == {"username": "me", "password": "s/1"}
            issued[0], used[0] = issued[0] + 1, 0
            return client.said({"code": 200, "data": {"token": f"t{issued[0]}"}})
        if asked.headers.get("x-token") != f"t{issued[0]}" or used[0] >= lifetime:
            return client.said({"code": 401, "msg": "登录状态已过期", "data": None})
        used[0] += 1
        params = json.loads(asked.body) if post else asked.params
        assert asked.method == ("POST" if post else "GET")
        assert not post or isinstance(params["pageNum"], int)
        at = min(int(params["pageNum"]) - 1, (count - 1) // 3) * 3
        return client.said(
            {"code": 200, "msg": "ok", "data": {"rows": rows(*range(count))[at : at + 3], "total": count}}
        )

    return answer


def login(client: Client, **more: Any) -> dict[str, Any]:
    return {
        "kind": "login", "login_url": f"{client.server.url}/login", "user_env": "CLIENT", "password_env": "SECRET",
        "token": "data.token", "header": "X-Token", **more,
    }  # fmt: skip


@pytest.mark.parametrize("lifetime", [1, 2, 100])
@pytest.mark.parametrize("post", [False, True])
def test_a_wrapped_answer_and_a_token_that_runs_out_again_and_again(client, lifetime, post):
    extra = {**WRAPPED, "method": "POST"} if post else WRAPPED
    found = client.read(wrapped(client, lifetime=lifetime, post=post), auth=login(client), **extra)
    assert found == [f"k{n}" for n in range(7)]
    logins = sum(asked.path == "/login" for asked in client.server.asked)
    assert logins == {1: 3, 2: 2, 100: 1}[lifetime]


def test_the_number_of_rows_ends_a_reading_that_would_repeat_its_last_page(client):
    assert len(client.read(wrapped(client, count=6), auth=login(client), **WRAPPED)) == 6
    assert [asked.path for asked in client.server.asked] == ["/login", "/rows", "/rows"]
    extra = {name: value for name, value in WRAPPED.items() if name != "total"}
    with pytest.raises(CouldNotRun, match=r"the same page twice.*total ="):
        client.read(wrapped(client, count=6), auth=login(client), **extra)


SAID: dict[str, tuple[Any, str]] = {
    "a code that is not good": ({"code": 500, "msg": "系统异常"}, '"code" 500 .*系统异常.*not under "good"'),
    "a token that no login mends": ({"code": 401, "msg": "x"}, "the token has run out or is not taken"),
    "no code": ({"data": {"rows": [], "total": 0}}, '"code" missing'),
    "a code that is an object": ({"code": {}, "data": {"rows": [], "total": 0}}, '"code" missing'),
    "no number of rows": ({"code": 200, "data": {"rows": [{"id": 1}]}}, 'no number at "data.total"'),
    "a negative number of rows": ({"code": 200, "data": {"rows": [], "total": -1}}, 'no number at "data.total"'),
    "rows that are no list": ({"code": 200, "data": {"rows": "x", "total": 1}}, "it has code, data"),
    "fewer rows than it says": ({"code": 200, "data": {"rows": [], "total": 5}}, "there are 5 rows and gave 0"),
    "a page of HTML": (b"<!DOCTYPE html><title>login</title>", "is not JSON.*sign-in page"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_a_wrapped_answer_that_is_not_good(client, name):
    body, words = SAID[name]
    with pytest.raises(CouldNotRun, match=words):
        client.read(client.fixed(body), **WRAPPED)
    assert len(client.server.asked) == 1


def test_no_rows_at_all_may_be_null(client):
    assert client.read(client.fixed({"code": 200, "data": {"rows": None, "total": 0}}), **WRAPPED) == []


def test_an_error_without_a_rule_for_it_shows_what_the_answer_has(client):
    with pytest.raises(CouldNotRun, match=r'no list of rows at "data.rows"; it has code, msg; .*"code" and "good"'):
        client.read(client.fixed({"code": 401, "msg": "x"}), pages="page", rows="data.rows")


def test_rows_that_went_missing_while_reading_are_read_again(client):
    """The number of rows says more than came: what came is kept, and the next reading begins at the first page."""
    gone = iter([5, 5, 5])

    def short(asked: Any) -> Any:
        page = int(asked.params["pageNum"])
        found = rows(*range(3)) if page == 1 else []
        return client.said({"code": 200, "data": {"rows": found, "total": next(gone)}})

    client.server.answer = short
    options = RestOptions.parse(Section("m.toml", "source", {"url": f"{client.server.url}/rows", **WRAPPED}))
    source = options.open(Opening(Path(), frozenset(), ("id",), limits=SMALL))
    reading = source.pages({}, 10)
    pages = [next(reading), next(reading)]
    with pytest.raises(CouldNotRun, match="there are 5 rows and gave 3"):
        next(reading)
    assert ids(pages) == ["k0", "k1", "k2"]
    assert json.loads(pages[-1].mark or "{}").get("at") is None


def test_a_row_of_the_year_9999_is_not_the_last_that_is_ever_read(client):
    body = [
        {"id": "a", "at": "9999-12-31T00:00:00Z"},
        {"id": "b", "at": "2024-03-05T00:00:00Z"},
        {"id": "c", "at": "0001"},
    ]
    (page,) = client.pages(client.fixed(body), since="at", since_param="since", overlap=300)
    assert json.loads(page.mark or "")["since"] == "2024-03-05T00:00:00Z"
    (page,) = client.pages(client.fixed([{"id": "a", "at": "0001-01-01T00:00:00Z"}]), since="at", since_param="since")
    client.pages(client.fixed([]), {"/rows": page.mark or ""}, since="at", since_param="since", overlap=300)
    assert client.server.asked[0].params == {"since": "0001-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"code": "code"}, "go together"),
        ({"good": ["0"]}, "go together"),
        ({"expired": ["401"]}, "go together"),
        ({"total": "total", "pages": "none"}, 'goes with pages = "page"'),
        ({"method": "PUT"}, "method"),
        ({"auth": {"kind": "login", "login_url": "http://a.example/l", "user_env": "A", "password_env": "B"}}, "https"),
        ({"auth": {"kind": "login", "login_url": "https://a.example/l", "user_env": "A", "password_env": "B",
                   "token": "t", "prefix": "a\nb"}}, "prefix"),
    ],
)  # fmt: skip
def test_rules_for_wrapped_answers_that_are_refused(client, extra, words):
    with pytest.raises(Malformed, match=words):
        client.pages(client.fixed([]), **extra)


def test_a_login_that_gives_no_token_is_said_without_the_password(client):
    with pytest.raises(CouldNotRun, match=r'no token at "data\.token"') as caught:
        client.read(client.fixed({"code": 500, "msg": "s/1"}), auth=login(client), **WRAPPED)
    assert "s/1" not in str(caught.value)
