"""Where webhooks may be sent: whoever subscribes must not make this node call its own network's inside."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import httpx

from gateway.problems import Problem
from gateway.settings import WebhookSettings

_PLAIN = re.compile(r"[\x21-\x5b\x5d-\x7e]{1,500}")
_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))


def require_allowed(url: str, settings: WebhookSettings) -> None:
    """Raises Problem `target-not-allowed` unless `url` is https at a listed host, on 443 or the port listed with it, or
    on this machine where the settings allow that; without user, password and fragment."""
    try:
        parts, parsed = urlsplit(url), httpx.URL(url)
        host, port = parts.hostname or "", parts.port
    except (ValueError, httpx.InvalidURL):
        host, port, parts, parsed = "", None, urlsplit(""), httpx.URL("")
    # two parsers must read the same host, or the one that checks is not the one that calls
    odd = not _PLAIN.fullmatch(url) or parsed.host != host or "@" in parts.netloc or parts.fragment
    if odd or parts.scheme not in ("https", "http"):
        raise _refuse("the address must be a plain http(s) URL without user, password and fragment")
    if settings.loopback and host in _LOOPBACK:
        return
    if parts.scheme != "https":
        raise _refuse("webhooks go by https")
    shown = f"[{host}]" if ":" in host else host
    named = {f"{shown}:{port or 443}"} | ({shown} if port in (None, 443) else set())
    if named.isdisjoint(settings.hosts):
        raise _refuse("its host is not in `[gateway.webhooks] hosts` of node.toml: ask whoever runs the node")


def _refuse(why: str) -> Problem:
    return Problem("target-not-allowed", f"webhooks may not be sent there: {why}", field="url")
