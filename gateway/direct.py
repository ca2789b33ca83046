"""Routes that are asked so often that the framework's own handling would cost more than the work: no dependencies are
solved, nothing of the URL is parsed, the answer is the endpoint's own. Rule and description are those of any route."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from gateway.access import rules_of


class Direct(APIRoute):
    """A route whose endpoint is `async def endpoint(caller, site, request) -> Response`; RuntimeError for another."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The rule, then the endpoint."""
        if list(inspect.signature(self.endpoint).parameters) != ["caller", "site", "request"]:
            raise RuntimeError(f"the endpoint of {self.path} must take caller, site and request")
        (rule,) = rules_of(self.dependant)
        endpoint = self.endpoint

        async def handle(request: Request) -> Response:
            await rule.begin(request)
            answer: Response = await endpoint(await rule(request), request.app.state.site, request)
            return answer

        return handle
