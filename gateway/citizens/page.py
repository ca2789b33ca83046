"""The page behind the code: one static file that holds no data, whose script asks for the decision by its token."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from elsewhere, no other script than its own, and nobody else's frame around it."""


@dataclass(frozen=True, slots=True)
class Page:
    """The file and its Content-Security-Policy."""

    html: bytes
    policy: str


@cache
def citizens_page() -> Page:
    """The page; the same bytes for everybody."""
    script, style = _source("page.js"), _source("page.css")
    html = _source("page.html")
    for place, content in (("{{style}}", style), ("{{script}}", script)):
        before, _, after = html.partition(place)
        html = before + content + after
    return Page(html.encode(), _POLICY.format(script=_hash(script), style=_hash(style)))


def _source(name: str) -> str:
    return (files("gateway.citizens") / "page" / name).read_text("utf-8")


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
