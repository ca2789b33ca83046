"""The service's settings: the `[gateway]` table of node.toml, read once at the entry point and passed down."""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ledger.errors import CouldNotRun
from ledger.settings import SETTINGS_FILE

PROVIDER_SECRET = "YUNXI_PROVIDER_SECRET"  # noqa: S105  the name of an environment variable

_AUTHORITY = re.compile(r"([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "page_size": (1, 1_000),
    "max_page_size": (1, 10_000),
    "clock_skew": (1, 300),
    "max_body_bytes": (1_024, 1 << 30),
    "rate_per_second": (0.1, 1_000_000),
    "rate_burst": (1, 1_000_000),
    "failures_per_second": (0.1, 1_000_000),
    "failures_burst": (1, 1_000_000),
    "pool_records": (1, 10_000),
    "pool_milliseconds": (0, 1_000),
    "pool_capacity": (1, 1_000_000),
    "anchoring_seconds": (0.1, 3_600),
    "backlog_seconds": (1, 86_400),
    "lease_seconds": (2, 300),
    "drain_seconds": (1, 300),
    "missing_seconds": (0.1, 86_400),
    "extraction_page": (1, 500),
}


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """`[gateway.peers.<department>]`. `certificate_sha256` pins the TLS certificate that the department's node
    connects with: lower-case hex of its DER's SHA-256; None is not checked."""

    certificate_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """`[gateway.provider]`: the district's OpenID Connect provider. `login_claim` of the ID token is what accounts here
    are found by; `client_secret` comes from the environment. Raises ValueError for an issuer that is neither https nor
    on this machine."""

    issuer: str
    client_id: str
    client_secret: str
    redirect_uri: str
    login_claim: str = "sub"
    scope: str = "openid"

    def __post_init__(self) -> None:
        parts = urlsplit(self.issuer)
        if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError(f"the identity provider {self.issuer!r} must be reached by https")


@dataclass(frozen=True, slots=True)
class EmergencySettings:
    """`[gateway.emergency]`: which departments may have which record types without a grant in an emergency, and for how
    many `hours` at the most until it must be justified. Nobody and nothing unless it is said; raises ValueError."""

    allow: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    hours: int = 24

    def __post_init__(self) -> None:
        if not 1 <= self.hours <= 720:
            raise ValueError("emergency.hours must be from 1 to 720")


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """`[gateway.webhooks]`: `hosts` (host or host:port) that webhooks may be sent to, by https; with `loopback` also
    this machine, by http, for development. After `attempts` a delivery is dead. Raises ValueError."""

    hosts: tuple[str, ...] = ()
    loopback: bool = False
    attempts: int = 12
    timeout_seconds: float = 10.0

    def __post_init__(self) -> None:
        for host in self.hosts:
            if not _AUTHORITY.fullmatch(host):
                raise ValueError(f"webhooks.hosts: {host!r} must be host or host:port in lower case")
        if not 1 <= self.attempts <= 50 or not 0.1 <= self.timeout_seconds <= 60:
            raise ValueError("webhooks.attempts must be from 1 to 50, timeout_seconds from 0.1 to 60")


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How the service behaves. Seconds and bytes are in the names; raises ValueError for what is out of bounds.

    `authorities`: `host[:port]` under which callers reach this node; a signed request for another is refused, or a
    node could replay to its neighbour what was said to it. Empty: the address that `yunxi serve` listens on.
    `proxies`: IP addresses of proxies that are believed where a request came from (`operations.remote`).
    """

    authorities: tuple[str, ...] = ()
    page_size: int = 100
    max_page_size: int = 1_000
    clock_skew: int = 60
    max_body_bytes: int = 16 << 20
    rate_per_second: float = 2_000
    rate_burst: int = 4_000
    failures_per_second: float = 10
    failures_burst: int = 200
    proxies: tuple[str, ...] = ()
    pool_records: int = 256
    pool_milliseconds: int = 5
    pool_capacity: int = 20_000
    anchoring_seconds: float = 0.5
    backlog_seconds: float = 60
    lease_seconds: float = 10
    drain_seconds: float = 10
    missing_seconds: float = 60
    extraction_page: int = 500
    emergency: EmergencySettings = EmergencySettings()
    webhooks: WebhookSettings = WebhookSettings()
    provider: ProviderSettings | None = None
    peers: Mapping[str, PeerSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for authority in self.authorities:
            if not _AUTHORITY.fullmatch(authority):
                raise ValueError(f"authority {authority!r} must be host or host:port in lower case")
        for proxy in self.proxies:
            ipaddress.ip_address(proxy)
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ValueError(f"{name} must be a number from {low:g} to {high:g}")
        for department, peer in self.peers.items():
            if peer.certificate_sha256 is not None and not _FINGERPRINT.fullmatch(peer.certificate_sha256):
                raise ValueError(f"certificate_sha256 of peer {department} must be 64 lower-case hex digits")

    @classmethod
    def load(cls, directory: Path) -> GatewaySettings:
        """Reads the table from the node directory's node.toml. Raises CouldNotRun where it is not what it should be."""
        path = directory / SETTINGS_FILE
        try:
            table = tomllib.loads(path.read_text("utf-8")).get("gateway", {})
            return cls.from_table(table)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError, ValueError) as error:
            raise CouldNotRun(f"the [gateway] table of {path} cannot be used: {error}; correct it") from error

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> GatewaySettings:
        """The settings that a TOML table gives. Raises ValueError or TypeError for an unknown member or a bad value."""
        known = {each.name for each in fields(cls)}
        for name in table:
            if name not in known:
                raise ValueError(f"there is no setting {name!r}")
        values = dict(table)
        values["authorities"] = tuple(table.get("authorities", ()))
        values["proxies"] = tuple(table.get("proxies", ()))
        peers = {name: PeerSettings(**members) for name, members in table.get("peers", {}).items()}
        values["peers"] = peers
        values["emergency"] = EmergencySettings(**_lists_as_tuples(table.get("emergency", {})))
        values["webhooks"] = WebhookSettings(**_lists_as_tuples(table.get("webhooks", {})))
        if "provider" in table:
            secret = os.environ.get(PROVIDER_SECRET, "")
            if not secret:
                raise ValueError(f"the provider needs its client secret in the environment variable {PROVIDER_SECRET}")
            values["provider"] = ProviderSettings(client_secret=secret, **table["provider"])
        return cls(**values)


def _lists_as_tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
