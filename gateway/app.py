"""The application: routers, the one shape of problems, and what surrounds every request."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.access import require_rules
from gateway.casefiles.routes import router as casefiles
from gateway.cases.routes import router as cases
from gateway.citizens.routes import router as citizens
from gateway.contributions.routes import router as contributions
from gateway.emergency.routes import router as emergencies
from gateway.extractions.routes import pulls_router
from gateway.extractions.routes import router as extractions
from gateway.grants.routes import router as grants
from gateway.inspections.routes import router as inspections
from gateway.logs.routes import router as logs
from gateway.lookups.routes import router as lookups
from gateway.operations.frame import Frame
from gateway.operations.routes import router as operations
from gateway.peers.routes import router as peers
from gateway.people.routes import router as people
from gateway.problems import MEDIA_TYPE, Problem, problem_of
from gateway.recalls.routes import router as recalls
from gateway.records.routes import router as records
from gateway.records.routes import submitting
from gateway.site import Site
from gateway.subscriptions.routes import router as subscriptions
from gateway.terminals.routes import router as terminals
from gateway.uploads.routes import router as uploads
from gateway.workers import lifespan
from ledger.errors import YunxiError

ROUTERS = (
    submitting,
    operations,
    people,
    records,
    uploads,
    terminals,
    inspections,
    cases,
    casefiles,
    lookups,
    contributions,
    peers,
    grants,
    extractions,
    pulls_router,
    recalls,
    emergencies,
    subscriptions,
    logs,
    citizens,
)
"""The rooms, one line each. Routes are tried in this order, so what is asked most often stands first."""


def create_app(site: Site, *, background: bool = True) -> FastAPI:
    """The application over an open site, which it closes when it ends. RuntimeError for a route without a rule.

    `background`: run the site's workers. Without them requests are answered all the same.
    """
    # no redirects to paths without a slash: behind a proxy that ends TLS they would lead to plain http
    app = FastAPI(
        title="Yunxi",
        version="1",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.site = site
    app.state.background = background
    site.peer_client.serve(app)
    # their routes themselves: an included router matches each of its routes anew, twice a request
    app.router.routes.extend(route for router in ROUTERS for route in router.routes)
    require_rules(app.routes)
    app.add_exception_handler(YunxiError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_middleware(Frame, site=site)
    return app


def answer_problem(request: Request, problem: Problem, headers: Mapping[str, str] = MappingProxyType({})) -> Response:
    """A problem as the answer to a request, with further header fields."""
    site: Site = request.app.state.site
    site.metrics.refusals.labels(problem.code).inc()
    request.state.problem = problem.code
    more = dict(headers)
    if "retry_after" in problem.members:
        more["Retry-After"] = str(problem.members["retry_after"])
    if problem.kind.status == 401:
        more["WWW-Authenticate"] = 'Signature realm="yunxi"'
    body = orjson.dumps(problem.to_json(request.state.request_id))
    return Response(body, problem.kind.status, more, MEDIA_TYPE)


async def _answer_error(request: Request, error: Any) -> Response:
    return answer_problem(request, problem_of(error))


async def _answer_invalid(request: Request, error: Any) -> Response:
    # the library's messages may repeat what was sent; the place of the first finding is enough
    place = ".".join(str(part) for part in error.errors()[0]["loc"])[:100]
    return answer_problem(request, Problem("bad-request", f"{place} is missing or not what it should be", field=place))


_OF_STATUS = {401: "unauthenticated", 403: "forbidden", 404: "not-found", 405: "method-not-allowed", 413: "too-large"}


async def _answer_http(request: Request, error: Any) -> Response:
    code = _OF_STATUS.get(error.status_code, "bad-request")
    problem = Problem(code, "there is no such route, or it does not take this request")
    return answer_problem(request, problem, {"Allow": error.headers["Allow"]} if code == "method-not-allowed" else {})
