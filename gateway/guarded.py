"""How every route begins: who calls is found out from the head of the request, before a byte of its body is read.

A stranger then can make this node neither hold nor parse what he sends, but for the few bytes that public routes take.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from gateway.access import rules_of


class Guarded(APIRoute):
    """The route class of all rooms."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What its rule asks of the head, then the framework's own handling."""
        rules, handle = list(rules_of(self.dependant)), super().get_route_handler()

        async def begin(request: Request) -> Response:
            asked = _Strict(request.scope, request.receive)
            for rule in rules:
                await rule.begin(asked)
            if self.body_field is not None:
                await asked.body()  # here, because the framework answers 400 whatever is wrong with it
            return await handle(asked)

        return begin


class _Strict(Request):
    """JSON by a parser that goes no deeper than 1,024 levels: the standard library's recurses for as long as the
    interpreter's limit lets it, and libraries set that so high that the stack ends first, and with it the process."""

    async def json(self) -> Any:
        return orjson.loads(await self.body())
