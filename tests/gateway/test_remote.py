"""Where requests come from, and what an address may fail before nothing of it is looked at any more."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from fastapi import Request

from gateway.operations.limits import MAX_CALLERS, Limits
from gateway.operations.remote import address_of, certificate_of
from gateway.problems import Problem
from gateway.settings import GatewaySettings
from tests.fixtures.gateway import AUTHORITY, Gateway, node_without_chain, serving
from tests.fixtures.parts import SqliteFiles, Template

PROXY = "10.0.0.1"
DER = b"any certificate"
SHOWN = f":{base64.b64encode(DER).decode()}:"


def request(client: str | None, *headers: tuple[str, str], **state: Any) -> Request:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    here = None if client is None else (client, 1)
    return Request({"type": "http", "client": here, "headers": raw, "state": state})


ADDRESSES: dict[str, tuple[Request, str]] = {
    "the other end": (request("192.0.2.7"), "192.0.2.7"),
    "nobody's": (request(None), "-"),
    "what a stranger says does not count": (request("192.0.2.7", ("x-forwarded-for", "1.2.3.4")), "192.0.2.7"),
    "a proxy says": (request(PROXY, ("x-forwarded-for", "1.2.3.4")), "1.2.3.4"),
    "the caller wrote the first": (request(PROXY, ("x-forwarded-for", "6.6.6.6, 1.2.3.4")), "1.2.3.4"),
    "the caller wrote the first line": (
        request(PROXY, ("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.2.3.4")),
        "1.2.3.4",
    ),
    "a proxy says nothing": (request(PROXY), PROXY),
    "a proxy says nonsense": (request(PROXY, ("x-forwarded-for", "unknown")), PROXY),
    "a household of IPv6": (request("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64"),
    "IPv4 in IPv6": (request("::ffff:192.0.2.7"), "192.0.2.7"),
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_the_address_of_a_request(case: str) -> None:
    made, expected = ADDRESSES[case]
    assert address_of(made, (PROXY,)) == expected


SHA256 = hashlib.sha256(DER).hexdigest()
CERTIFICATES: dict[str, tuple[Request, str | None]] = {
    "seen here": (request("192.0.2.7", certificate_sha256="ab"), "ab"),
    "none": (request("192.0.2.7"), None),
    "a stranger shows one": (request("192.0.2.7", ("client-cert", SHOWN)), None),
    "a stranger shows one beside its own": (
        request("192.0.2.7", ("client-cert", SHOWN), certificate_sha256="ab"),
        "ab",
    ),
    "a proxy shows one": (request(PROXY, ("client-cert", SHOWN)), SHA256),
    "a proxy's own does not count": (request(PROXY, certificate_sha256="ab"), None),
    "two": (request(PROXY, ("client-cert", SHOWN), ("client-cert", SHOWN)), None),
    "two in a line": (request(PROXY, ("client-cert", f"{SHOWN}, {SHOWN}")), None),
    "not a byte sequence": (request(PROXY, ("client-cert", "MIIB")), None),
    "not base64": (request(PROXY, ("client-cert", ":MII:")), None),
}


@pytest.mark.parametrize("case", CERTIFICATES)
def test_the_certificate_of_a_request(case: str) -> None:
    made, expected = CERTIFICATES[case]
    assert certificate_of(made, (PROXY,)) == expected


def test_a_proxy_must_be_an_address() -> None:
    with pytest.raises(ValueError, match=r"proxy\.example"):
        GatewaySettings(proxies=("proxy.example",))


def test_addresses_take_a_bounded_place() -> None:
    limits = Limits(GatewaySettings(rate_per_second=0.1, rate_burst=1))
    for number in range(MAX_CALLERS + 100):
        limits.take(str(number))
    assert len(limits._buckets) == MAX_CALLERS
    with pytest.raises(Problem):
        limits.require(str(MAX_CALLERS + 99))
    limits.require("another")
    assert "another" not in limits._buckets  # asking takes no place


def test_who_only_fails_is_not_heard_any_more(template: Template, tmp_path: Any) -> None:
    settings = GatewaySettings(authorities=(AUTHORITY,), failures_per_second=0.1, failures_burst=3)
    node = node_without_chain(tmp_path / "node", SqliteFiles(template).new(tmp_path), template.agent)
    with serving(node, settings) as gateway:
        seen: list[Any] = []
        gateway.site.refusals.on_authentication_failed[:] = [seen.append]
        codes = [gateway.client(None).get("/v1/records").json()["code"] for _ in range(5)]
        assert codes == ["unauthenticated"] * 3 + ["rate-exceeded"] * 2
        assert len(seen) == 3  # the others were not even looked at
        answer = gateway.client("fire").get("/v1/records")
        assert (answer.status_code, answer.json()["code"]) == (429, "rate-exceeded")
        assert int(answer.headers["retry-after"]) > 0
        assert gateway.client(None).get("/healthz").status_code == 200


def test_who_signs_well_is_never_counted(gateway: Gateway) -> None:
    gateway.site.failures = Limits(GatewaySettings(rate_per_second=0.1, rate_burst=1))
    assert all(gateway.client("fire").get("/v1/records").status_code == 200 for _ in range(3))
    assert gateway.client("fire", {"terminal"}).get("/v1/records").status_code == 403  # known, but not allowed
    assert gateway.client("fire").get("/v1/records").status_code == 200


def test_a_flood_at_open_routes_is_stopped(template: Template, tmp_path: Any) -> None:
    settings = GatewaySettings(authorities=(AUTHORITY,), rate_per_second=0.1, rate_burst=2)
    node = node_without_chain(tmp_path / "node", SqliteFiles(template).new(tmp_path), template.agent)
    with serving(node, settings) as gateway:
        codes = [gateway.client(None).get("/healthz").status_code for _ in range(4)]
    assert codes == [200, 200, 429, 429]
