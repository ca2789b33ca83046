"""One shape for every refusal: the table, the documents, the mapping of the ledger's errors, and nothing that leaks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from gateway.access import public
from gateway.problems import CODES, Problem, problem_of
from ledger import errors
from tests.fixtures.gateway import Gateway

ROOT = Path(__file__).parent.parent.parent
SECRET = "张三 91350100M000100Y43"


def test_every_code_is_explained_with_its_status_and_nothing_else_is() -> None:
    text = (ROOT / "docs" / "errors.md").read_text("utf-8")
    table = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", text, re.MULTILINE))
    assert table == {code: str(kind.status) for code, kind in CODES.items()}


def test_every_code_has_titles_in_both_languages_and_a_status_of_an_error() -> None:
    for code, kind in CODES.items():
        assert re.fullmatch("[a-z]+(-[a-z]+)*", code)
        assert 400 <= kind.status < 600
        assert re.search("[\u4e00-\u9fff]", kind.zh)
        assert kind.en[0].isupper()
        assert kind.en.isascii()


def subclasses(kind: type[errors.YunxiError]) -> list[type[errors.YunxiError]]:
    return [kind, *(found for sub in kind.__subclasses__() for found in subclasses(sub))]


def test_every_error_of_the_ledger_has_a_problem() -> None:
    kinds = [kind for kind in subclasses(errors.YunxiError) if kind.__module__ == "ledger.errors"]
    assert len(kinds) > 15
    for kind in kinds:
        error = kind.__new__(kind)
        Exception.__init__(error, "a sentence")
        if isinstance(error, errors.RecordRefused | errors.RequestRefused):
            error.reason = "why"
        problem = problem_of(error)
        assert problem.code in CODES
        expected_server_fault = isinstance(error, errors.CouldNotRun) or kind is errors.YunxiError
        assert (problem.kind.status >= 500) == expected_server_fault, kind


MAPPED: dict[str, tuple[errors.YunxiError, str, int]] = {
    "a refused record": (errors.RecordRefused("schema", "$.a must be text"), "record-refused", 422),
    "a conflict": (errors.Conflict("conflict", "taken"), "conflict", 409),
    "an unreachable chain": (errors.ChainUnreachable("no answer"), "chain-unreachable", 503),
    "a full disk": (errors.StorageFailed("the disk is full"), "storage-failed", 503),
    "a halted log": (errors.HistoryRefused("halted"), "history-refused", 409),
    "a problem": (Problem("not-found", "nothing here"), "not-found", 404),
}


@pytest.mark.parametrize("case", MAPPED)
def test_errors_become_problems(case: str) -> None:
    error, code, status = MAPPED[case]
    problem = problem_of(error)
    assert (problem.code, problem.kind.status) == (code, status)


def test_what_is_for_the_operator_is_not_shown_to_callers() -> None:
    error = errors.StorageFailed("the database refused: could not open /srv/node/ledger.sqlite")
    assert "/srv" not in str(problem_of(error).to_json())


def test_the_shape_is_that_of_rfc_9457() -> None:
    body = Problem("rate-exceeded", "go on in 2 s", retry_after=2).to_json("request-1")
    assert body == {
        "type": "urn:yunxi:problem:rate-exceeded",
        "title": "Too many requests",
        "title_zh": "请求过于频繁",
        "status": 429,
        "code": "rate-exceeded",
        "detail": "go on in 2 s",
        "retry_after": 2,
        "request_id": "request-1",
    }


def test_a_problem_is_an_error_of_the_ledgers_tree() -> None:
    with pytest.raises(errors.Refusal, match="nothing here") as caught:
        raise Problem("not-found", "nothing here")
    assert caught.value.code == "not-found"
    with pytest.raises(KeyError):
        Problem("no-such-code", "x")


# ---- over HTTP ---------------------------------------------------------------------------------------------------

Anybody = Annotated[Any, public()]


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid")
    number: int


@pytest.fixture
def faulty(gateway: Gateway) -> Gateway:
    """The gateway with routes that fail in various ways."""
    router = APIRouter(prefix="/test")

    @router.get("/crash")
    def crash(_: Anybody) -> None:
        raise ZeroDivisionError(SECRET)

    @router.get("/ledger")
    def ledger(_: Anybody) -> None:
        raise errors.StorageFailed(SECRET)

    @router.post("/form")
    def form(_: Anybody, content: Form) -> int:
        return content.number

    gateway.app.include_router(router)
    return gateway


def test_an_unforeseen_failure_is_a_problem_and_shows_nothing(
    faulty: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = faulty.client(None).get("/test/crash", headers={"X-Request-Id": "request-1"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "request-1"
    shown = capsys.readouterr()
    assert "ZeroDivisionError" in shown.out + shown.err
    assert "张三" not in answer.text + shown.out + shown.err


def test_a_failing_database_is_503_and_shows_nothing(faulty: Gateway) -> None:
    answer = faulty.client(None).get("/test/ledger")
    assert (answer.status_code, answer.json()["code"]) == (503, "storage-failed")
    assert "张三" not in answer.text


WRONG_FORMS: dict[str, tuple[bytes, str]] = {
    "a text for a number": ('{"number": "张三"}'.encode(), "body.number"),
    "a member missing": (b"{}", "body.number"),
    "a member more": ('{"number": 1, "name": "张三"}'.encode(), "body.name"),
    "no JSON": ("张三".encode(), "body.0"),
    "a list": (b"[]", "body"),
    "nothing": (b"", "body"),
}


@pytest.mark.parametrize("case", WRONG_FORMS)
def test_a_wrong_request_names_the_field_and_not_the_value(faulty: Gateway, case: str) -> None:
    body, field = WRONG_FORMS[case]
    answer = faulty.client(None).post("/test/form", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "bad-request", field)
    assert "张三" not in answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_no_such_route_and_no_such_method(gateway: Gateway) -> None:
    client = gateway.client(None)
    nowhere, wrong = client.get("/v1/nothing/张三"), client.request("PATCH", "/healthz")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not-found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method-not-allowed")
    assert wrong.headers["allow"] == "GET"
    assert "张三" not in nowhere.text
