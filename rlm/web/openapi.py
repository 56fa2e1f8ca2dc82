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
_ABOUT: Final = {
    "run": "The id of a run, or a beginning that no other id has.",
    "event": "The id of an event, ITEM:TYPE, of an item, or the name of a wallet.",
    "name": "The name of an endpoint or a budget.",
}
_TEXT: Final = {"type": "string"}
_ERROR: Final = {"type": "object", "required": ["error", "remedy"], "properties": {"error": _TEXT, "remedy": _TEXT}}
_READERS: Final[tuple[dict[str, list[str]], ...]] = ({}, {"token": []}, {"session": []})
_WRITERS: Final[tuple[dict[str, list[str]], ...]] = ({"token": []}, {"session": [], "csrf": []})
#: The paths that answer with text.
_MACHINES: Final = {
    "/healthz": "200 if Redis answers and a scheduler lives, else 503 with the reason.",
    "/metrics": "The metrics, in the text format of Prometheus.",
}


def _anything(_kind: type) -> dict[str, Any]:
    return {"description": "Any value."}


def openapi() -> dict[str, Any]:
    """Return the description of all operations."""
    types = list({kind: None for each in OPERATIONS for kind in (each.takes, *each.gives)})
    schemas, components = msgspec.json.schema_components(types, ref_template=_SCHEMAS, schema_hook=_anything)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in OPERATIONS:
        answers = [schema_of[kind] for kind in each.gives]
        described = _operation(each, components[each.takes.__name__], answers)
        paths.setdefault(_PARAMETER.sub(r"{\1}", each.path), {})[each.method.lower()] = described
    for path, summary in _MACHINES.items():
        said = {"operationId": path.strip("/"), "summary": summary, "security": _READERS, "parameters": []}
        paths[path] = {"get": {**said, "responses": {"200": {"description": summary}}}}
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


def _operation(operation: Operation, takes: dict[str, Any], answers: list[dict[str, Any]]) -> dict[str, Any]:
    reads = operation.method == "GET"
    asked = [
        {"name": name, "in": "path", "required": True, "description": _ABOUT[name], "schema": _TEXT}
        for name, _ in _PARAMETER.findall(operation.path)
    ]
    if reads:
        asked += [{"name": name, "in": "query", "schema": schema} for name, schema in takes["properties"].items()]
    return {
        "operationId": operation.handle.__name__,
        "summary": (operation.handle.__doc__ or "").strip(),
        "security": _READERS if reads else _WRITERS,
        "parameters": asked,
        **({} if reads else {"requestBody": {"content": _json(operation.takes.__name__)}}),
        "responses": {
            "200": {
                "description": f"What `{operation.command}` prints with --json; keys may be added.",
                "content": {"application/json": {"schema": {"anyOf": answers} if answers else {}}},
            },
            "default": {"description": "Why not, and what to do.", "content": _json("Error")},
        },
    }


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _SCHEMAS.format(name=name)}}}
