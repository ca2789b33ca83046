"""Health, readiness, figures, and the description of all routes."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from gateway.access import ROLES, allow, public
from gateway.caller import Caller
from gateway.guarded import Guarded
from gateway.operations.description import describe
from gateway.problems import Problem
from gateway.site import SiteOf

router = APIRouter(tags=["operations"], route_class=Guarded)

Anybody = Annotated[Caller | None, public()]
Known = Annotated[Caller, allow(*ROLES)]

_HERE = ("127.0.0.1", "::1")
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_READY: dict[int | str, dict[str, Any]] = {
    200: {"description": "every part is ready", "content": {"application/json": {"schema": {"type": "object"}}}},
    503: {"description": "a part is not", "content": {"application/json": {"schema": {"type": "object"}}}},
}
_FIGURES: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


@router.get("/healthz", summary="Does the process live?")
def healthz(_: Anybody) -> dict[str, str]:
    """Always `{"status": "alive"}`: for whoever restarts processes that hang."""
    return {"status": "alive"}


@router.get("/readyz", summary="Can the node do its work?", response_class=Response, responses=_READY)
def readyz(_: Anybody, site: SiteOf) -> Response:
    """Database, chain, backlog, workers, each with its own `ok`; 503 where one of them is not. At most a second old.
    `peers` says how this process last got on with the other departments' nodes; they make no node unready."""
    parts = site.readiness.parts()
    ready = all(part["ok"] for part in parts.values())
    return Response(
        orjson.dumps({"ready": ready, "parts": parts}), 200 if ready else 503, media_type="application/json"
    )


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response, responses=_FIGURES)
def metrics(_: Anybody, site: SiteOf, request: Request) -> Any:
    """Figures in Prometheus's text format, of all processes together. To this machine only, past no proxy."""
    proxied = any(name in request.headers for name in _FORWARDED)
    if proxied or request.client is None or request.client.host not in _HERE:
        raise Problem("not-found", "there is no such route")
    site.metrics.queue.set(site.intake.depth)
    return Response(site.metrics.latest(), media_type=CONTENT_TYPE_LATEST)


@router.get("/openapi.json", summary="This description", include_in_schema=False)
def openapi(_: Known, request: Request) -> Any:
    """The OpenAPI 3.1 document of all routes."""
    return Response(orjson.dumps(describe(request.app)), media_type="application/json")
