"""The service against its own description: requests drawn from the OpenAPI document, fit and unfit, find no route that
fails, and no answer that the document does not tell of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import jsonschema_rs
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

from gateway.access import ROLES
from gateway.caller import PERSON_ROLES
from gateway.operations.description import describe
from gateway.operations.examples import EXAMPLES
from gateway.problems import MEDIA_TYPE
from tests.fixtures.gateway import AUTHORITY, Gateway
from tests.fixtures.nodes import Built
from tests.fixtures.proceedings import opened, opening
from tests.fixtures.records import COMPANY
from tests.gateway.test_people import PASSWORD

SOUND = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
"""What holds for every answer. `negative_data_rejection` comes on top for unfit requests."""

BRIEFLY: dict[str, dict[str, Any]] = {
    "/v1/extractions/news": {"wait": 0},
    "/v1/events": {"seconds": 1},
}
"""What would wait for something to happen."""

NUMBER = "1"
"""Of an inspection, a case and an attachment that are there."""


@schemathesis.serializer("application/offset+octet-stream")
def _as_it_is(_: Any, value: Any) -> Any:
    return value if isinstance(value, bytes) else str(value).encode()


class Caller:
    """Sends generated requests to a gateway, signed with all roles or in a session with all a person's roles."""

    def __init__(self, gateway: Gateway, built: Built) -> None:
        document = describe(gateway.app)
        operations = [operation for path in document["paths"].values() for operation in path.values()]
        for operation in operations:
            # who is not let in is tested elsewhere; left in, the unfit requests would all be unfit in this
            operation["x-security"] = operation.pop("security")
        self.schema = schemathesis.openapi.from_dict(document)
        self._signed = gateway.client("fire", ROLES)
        self._unsigned = gateway.client(None)
        self._people = gateway.site.people
        self._people.create("fire", "everything", sorted(PERSON_ROLES), PASSWORD)
        self._people.create("fire", "wang", ["officer"], PASSWORD, totp=False)
        opened(gateway, number=NUMBER)
        case = opening(number=NUMBER, cause="x", officers=[{"id": str(n), "name": "王"} for n in range(2)])
        assert self._signed.post("/v1/cases", json=case | {"kind": "ordinary"}).status_code == 201
        begun = self._signed.post("/v1/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "9"})
        self.known = {
            "record_id": built.records[20].record_id,
            "number": NUMBER,
            "login": "wang",
            "upload": begun.headers["Location"].rpartition("/")[2],
        }

    def send(self, case: Case) -> httpx.Response:
        """The answer to a generated request."""
        wire = requests.Request(**case.as_transport_kwargs(base_url=f"http://{AUTHORITY}")).prepare()
        headers = {name: value for name, value in wire.headers.items() if name.lower() not in ("host", "authorization")}
        security = case.operation.definition.raw["x-security"]
        client = self._signed
        if {"session": []} in security:
            client = self._unsigned
            # an answer may have ended the session or changed the account, so each request has its own
            headers["Authorization"] = f"Bearer {self._people.begin('everything').token}"
        answer = client.send(client.build_request(wire.method, wire.url, headers=headers, content=wire.body))
        answer.elapsed = timedelta(0)  # nobody asks, but the checks want it
        return answer


def try_all(caller: Caller, examples: int, *, derandomize: bool) -> list[str]:
    """What was found, operation by operation, with so many fit and so many unfit requests for each."""
    return [
        f"{operation.ok().label} {mode.name}: {problem}"
        for operation in caller.schema.get_all_operations()
        for mode in GenerationMode
        for problem in try_one(caller, operation.ok(), mode, examples, derandomize)
    ]


def try_one(caller: Caller, operation: Any, mode: GenerationMode, examples: int, derandomize: bool) -> Iterator[str]:
    """At most one finding, the smallest that hypothesis came by."""
    raw = operation.definition.raw
    named = {each["name"] for each in raw.get("parameters", []) if each["in"] == "path"} & caller.known.keys()
    fixed = {"query": BRIEFLY[operation.path]} if operation.path in BRIEFLY else {}
    cases = operation.as_strategy(mode, **fixed)
    if named:
        # random names are not found; those of things that are there lead further
        there = operation.as_strategy(mode, path_parameters={name: caller.known[name] for name in named}, **fixed)
        cases = st.one_of(there, cases)

    @settings(
        max_examples=examples,
        derandomize=derandomize,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if not derandomize else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def attempt(case: Case) -> None:
        answer = caller.send(case)
        # of a parameter that comes twice the last counts, and that one may be fit
        twice = len(answer.request.url.params.multi_items()) > len(answer.request.url.params)
        # a batch is taken with an outcome for each submission: what is unfit about one is said there
        batch = (operation.method.upper(), operation.path) == ("POST", "/v1/records")
        accepted = mode.is_negative and answer.is_success and not twice and not batch
        extra = [checks.negative_data_rejection] if accepted else []
        assert answer.status_code < 500 or str(answer.status_code) in raw["responses"], answer.text
        case.validate_response(answer, checks=SOUND + extra)

    try:
        attempt()
    except Unsatisfiable:
        assert mode.is_negative  # what takes nothing has no unfit request
    except (AssertionError, FailureGroup) as error:
        yield str(error)[:1500]


@pytest.fixture
def _patient_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    # it is asked by some routes only, and nothing anchors meanwhile
    monkeypatch.setenv("YUNXI_CHAIN_IDLE_SECONDS", "900")


@pytest.fixture
def caller(_patient_chain: None, gateway_on_chain: Gateway, built: Built) -> Caller:
    return Caller(gateway_on_chain, built)


def test_no_route_fails(caller: Caller) -> None:
    found = try_all(caller, 2, derandomize=True)
    assert not found, "\n\n".join(found)


@pytest.mark.slow
def test_no_route_fails_for_long(caller: Caller) -> None:
    found = try_all(caller, 40, derandomize=False)
    assert not found, "\n\n".join(found)


@pytest.fixture
def document(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = gateway.client("fire").get("/openapi.json").json()
    return found


def operations_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"].keys() == {"signature", "session"}
    for name, operation in operations_of(document).items():
        assert operation["summary"] and operation["description"], name
        assert operation["security"], name
        for status in ("4XX", "5XX"):
            assert operation["responses"][status]["content"].keys() == {MEDIA_TYPE}, name
        assert any(status.startswith(("2", "3")) for status in operation["responses"]), name


def test_every_json_body_has_an_example_that_fits(document: dict[str, Any]) -> None:
    for name, operation in operations_of(document).items():
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body is not None:
            example = body["example"] if "example" in body else body["schema"]["example"]
            schema = {**body["schema"], "components": document["components"]}
            assert [str(error) for error in jsonschema_rs.validator_for(schema).iter_errors(example)] == [], name


def test_no_example_is_of_an_operation_that_is_gone(document: dict[str, Any]) -> None:
    assert EXAMPLES.keys() <= operations_of(document).keys()


BIG = "9" * 19
"""More digits than a position has."""

BORDERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a cursor past every inspection": ("GET", f"/v1/inspections?cursor={BIG}", {}),
    "a cursor past every case, searched": ("POST", "/v1/cases/search", {"cursor": BIG}),
    "a cursor past every entry of a dossier": ("GET", f"/v1/inspections/{NUMBER}/dossier?cursor={BIG}", {}),
    "a cursor past every access": ("POST", "/v1/tracker", {"subject": COMPANY, "cursor": BIG}),
    "a NUL in a list's key": ("GET", "/v1/records?key=%00", {}),
    "a NUL in a number": ("GET", "/v1/inspections/%00", {}),
    "a NUL in a cursor": ("GET", "/v1/pulls?after=%00", {}),
    "a NUL in a login": ("PATCH", "/v1/accounts/%00", {"disabled": True}),
    "a NUL in a lead": ("GET", f"/v1/cases/{NUMBER}?lead=%00", {}),
    "a NUL signing in": ("POST", "/v1/sign-in", {"login": "\0", "password": "x"}),
    "a NUL in a cause": (
        "POST",
        "/v1/duplicate-checks",
        {"subjects": [{"kind": "uscc", "value": "\0"}], "matters": ["1"]},
    ),
    "half a character": ("POST", "/v1/sign-in", {"login": "\ud800", "password": "\ud800"}),
    "a day past the calendar": ("GET", "/v1/contributions?from=9999-12-31T23:59:59-14:00", {}),
    "a day before the calendar": ("GET", "/v1/contributions?to=0001-01-01T00:00:00%2B14:00", {}),
}


@pytest.mark.parametrize("case", BORDERS)
def test_values_at_the_border_fail_nowhere(gateway: Gateway, case: str) -> None:
    method, path, body = BORDERS[case]
    content = json.dumps(body).encode() if body else None
    answer = gateway.client("fire", ROLES).request(
        method, path, content=content, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code < 500 or answer.json()["code"] == "chain-unreachable", answer.text
