"""The OpenAPI document: what FastAPI finds out, with who may call what, and the one shape of problems."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts

from gateway.access import rules_of
from gateway.caller import PERSON_ROLES, REQUEST_ROLES
from gateway.operations.examples import EXAMPLES
from gateway.problems import CODES, MEDIA_TYPE

ABOUT = """The sharing service of a Yunxi node. Errors are RFC 9457 problems with a stable `code`. Lists go by cursor.

Departments' systems, peers and terminals sign each request (RFC 9421, Ed25519, tag `yunxi`; covered: `@method`,
`@authority`, `@path`, `@query`, and `content-digest` of RFC 9530 where there is a body) with a key that the consortium
registered. People sign in and send their session's token."""

_SCHEMES = {
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "Signature",
        "description": "HTTP Message Signatures (RFC 9421), with Signature-Input and Content-Digest",
    },
    "session": {"type": "http", "scheme": "bearer", "description": "the token of a session, or its cookie"},
}

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "title_zh", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "title_zh": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "code": {"type": "string", "enum": sorted(CODES)},
        "detail": {"type": "string", "description": "one sentence that says what to do"},
        "reason": {"type": "string", "description": "with some codes: why, as a stable word"},
        "field": {"type": "string", "description": "with some codes: which part of the request"},
        "retry_after": {"type": "integer", "description": "with some codes: seconds; also the header Retry-After"},
        "request_id": {"type": "string"},
    },
    "example": {
        "type": "urn:yunxi:problem:unauthenticated",
        "title": CODES["unauthenticated"].en,
        "title_zh": CODES["unauthenticated"].zh,
        "status": 401,
        "code": "unauthenticated",
        "detail": "the signature has expired: sign again, and compare the caller's clock",
        "reason": "expired",
        "request_id": "8c1f2a6de0b14c27a1f3c0f1d2e3a4b5",
    },
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of an application's routes."""
    document = get_openapi(
        title=app.title, version=app.version, openapi_version="3.1.0", description=ABOUT, routes=app.routes
    )
    components = document.setdefault("components", {})
    components["securitySchemes"] = _SCHEMES
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = _PROBLEM
    problem = {
        "description": "a problem (RFC 9457)",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for route in iter_route_contexts(app.routes):
        roles = {role for rule in rules_of(route.dependant) for role in rule.roles}
        for method in route.methods or ():
            operation = document["paths"].get(route.path_format, {}).get(method.lower())
            if operation is not None:
                operation["responses"].pop("422", None)
                operation["responses"] |= {"4XX": problem, "5XX": problem}
                operation["security"] = _security(roles)
                for body in operation.get("requestBody", {}).get("content", {}).values():
                    if (example := EXAMPLES.get(f"{method} {route.path_format}")) is not None:
                        body["example"] = example
                operation["x-roles"] = sorted(roles)
    return document


def _security(roles: set[str]) -> list[dict[str, list[str]]]:
    found: list[dict[str, list[str]]] = []
    found += [{"signature": []}] if roles & REQUEST_ROLES else []
    found += [{"session": []}] if roles & PERSON_ROLES else []
    return found or [{}]
