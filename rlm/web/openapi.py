"""Describes the HTTP interface: /openapi.json is made from `OPERATIONS` and their parameters when it is asked for."""

from __future__ import annotations

import re
from types import UnionType
from typing import Any, Final, get_args, get_type_hints

import msgspec

from rlm import __version__
from rlm.web.operations import OPERATIONS, Operation

#: A parameter in a path, in the notation of starlette.
_PARAMETER: Final = re.compile(r"\{(\w+)(:path)?\}")
_SCHEMAS: Final = "#/components/schemas/{name}"
_TEXT: Final = {"type": "string"}
_ERROR: Final = {"type": "object", "required": ["error", "remedy"], "properties": {"error": _TEXT, "remedy": _TEXT}}
#: The paths that answer with text.
_MACHINES: Final = {
    "/healthz": "200 if Redis answers and a scheduler lives, else 503 with the reason.",
    "/metrics": "The metrics, in the text format of Prometheus.",
}


def openapi() -> dict[str, Any]:
    """Return the description of all operations."""
    answers = {each.path + each.method: _answers(each) for each in OPERATIONS}
    types = list({kind: None for each in OPERATIONS for kind in (each.takes, *answers[each.path + each.method])})
    schemas, components = msgspec.json.schema_components(types, ref_template=_SCHEMAS, schema_hook=_anything)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in OPERATIONS:
        gives = [schema_of[kind] for kind in answers[each.path + each.method]]
        described = _operation(each, components[each.takes.__name__], gives)
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
        "components": {"schemas": {**components, "Error": _ERROR}, "securitySchemes": schemes},
    }


def _anything(_kind: type) -> dict[str, Any]:
    return {"description": "Any value."}


def _answers(operation: Operation) -> tuple[Any, ...]:
    """Return the types of the documents that an operation may return."""
    returned = get_type_hints(operation.handle)["return"]
    return get_args(returned) if isinstance(returned, UnionType) else (returned,)


def _operation(operation: Operation, takes: dict[str, Any], answers: list[dict[str, Any]]) -> dict[str, Any]:
    reads = operation.method == "GET"
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT}
        for name, _ in _PARAMETER.findall(operation.path)
    ]
    if reads:
        parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in takes["properties"].items()]
    body = {"requestBody": {"content": _json({"$ref": _SCHEMAS.format(name=operation.takes.__name__)})}}
    return {
        "operationId": operation.handle.__name__,
        "summary": operation.handle.__doc__,
        "security": [{}, {"token": []}, {"session": []}] if reads else [{"token": []}, {"session": [], "csrf": []}],
        "parameters": parameters,
        **({} if reads else body),
        "responses": {
            "200": {"description": "The document; keys may be added.", "content": _json({"anyOf": answers})},
            "default": {
                "description": "Why not, and what to do.",
                "content": _json({"$ref": _SCHEMAS.format(name="Error")}),
            },
        },
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
