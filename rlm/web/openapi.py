"""Describes the HTTP interface: /openapi.json is made from `OPERATIONS` and their parameters when it is asked for."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from rlm import __version__
from rlm.web.operations import OPERATIONS, Operation

#: A parameter in a path, in the notation of starlette.
_PARAMETER: Final = re.compile(r"\{(\w+)(:path)?\}")
_SCHEMAS: Final = "#/components/schemas/{name}"
#: The paths that answer with text.
_MACHINES: Final = {
    "/healthz": "200 if Redis answers and a scheduler lives, else 503 with the reason.",
    "/metrics": "The metrics, in the text format of Prometheus.",
}


def openapi() -> dict[str, Any]:
    """Return the description of all operations; docs/commands.md describes the documents that they answer with."""
    types = dict.fromkeys(each.takes for each in OPERATIONS)
    _, schemas = msgspec.json.schema_components(types, ref_template=_SCHEMAS)
    paths: dict[str, dict[str, Any]] = {}
    for each in OPERATIONS:
        described = _operation(each, schemas[each.takes.__name__])
        paths.setdefault(_PARAMETER.sub(r"{\1}", each.path), {})[each.method.lower()] = described
    for path, summary in _MACHINES.items():
        paths[path] = {"get": {"summary": summary, "responses": {"200": {"description": summary}}}}
    schemes = {
        "token": {"type": "http", "scheme": "bearer", "description": "The token of web.token."},
        "session": {"type": "apiKey", "in": "cookie", "name": "rlm_session_KEY"},
        "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "RLM, the Rate Limit Manager", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": schemes},
    }


def _operation(operation: Operation, takes: dict[str, Any]) -> dict[str, Any]:
    reads, name = operation.method == "GET", operation.takes.__name__
    body = {"content": {"application/json": {"schema": {"$ref": _SCHEMAS.format(name=name)}}}}
    in_query = takes["properties"].items() if reads else ()
    return {
        "operationId": operation.handle.__name__,
        "summary": operation.handle.__doc__,
        "security": [{}, {"token": []}, {"session": []}] if reads else [{"token": []}, {"session": [], "csrf": []}],
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name, _ in _PARAMETER.findall(operation.path)
            ),
            *({"name": name, "in": "query", "schema": schema} for name, schema in in_query),
        ],
        **({} if reads else {"requestBody": body}),
        "responses": {
            "200": {"description": "The document, in JSON; keys may be added."},
            "default": {"description": "The `error`, and its `remedy`."},
        },
    }
