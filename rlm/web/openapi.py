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
_REFUSALS: Final = {
    "400": "What was asked cannot be.",
    "401": "The token is missing or wrong.",
    "403": "Read-only, of a foreign page, or without the CSRF token.",
    "404": "Not known.",
    "409": "A run is under way.",
    "413": "The body is too long.",
    "415": "The body is not JSON.",
    "503": "Redis is away, or there is nobody to do it.",
}
_READ_REFUSALS: Final = ("400", "401", "404", "503")
_READERS: Final[tuple[dict[str, list[str]], ...]] = ({}, {"token": []}, {"session": []})
_WRITERS: Final[tuple[dict[str, list[str]], ...]] = ({"token": []}, {"session": [], "csrf": []})
#: The paths that answer with text: summary, and the meaning of each status.
_MACHINES: Final = {
    "/healthz": ("Whether Redis answers and a scheduler lives.", {"200": "They do.", "503": "The text says why not."}),
    "/metrics": ("The metrics, in the text format of Prometheus.", {"200": "The metrics.", "401": _REFUSALS["401"]}),
}


def openapi() -> dict[str, Any]:
    """Return the description of all operations."""
    _, parameters = msgspec.json.schema_components(
        dict.fromkeys(operation.takes for operation in OPERATIONS), ref_template=_SCHEMAS
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation)
    for path, (summary, answers) in _MACHINES.items():
        paths[path] = {"get": _machine(path, summary, answers)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "RLM, the Rate Limit Manager",
            "version": __version__,
            "description": "Each answer is what the command prints with --json. Keys may be added.",
        },
        "paths": paths,
        "components": {
            "schemas": {**parameters, "Error": _ERROR},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "The token of web.token."},
                "session": {"type": "apiKey", "in": "cookie", "name": "rlm_session_KEY"},
                "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token"},
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    reads = operation.method == "GET"
    words = f"What `{operation.command}` prints with --json."
    body = (
        {}
        if reads
        else {"requestBody": {"content": _content({"$ref": _SCHEMAS.format(name=operation.takes.__name__)})}}
    )
    error = _content({"$ref": _SCHEMAS.format(name="Error")})
    refusals = _READ_REFUSALS if reads else _REFUSALS
    return {
        "operationId": operation.handle.__name__,
        "summary": (operation.handle.__doc__ or "").strip(),
        "security": _READERS if reads else _WRITERS,
        "parameters": [*_in_path(operation), *(_in_query(operation) if reads else [])],
        **body,
        "responses": {
            "200": {"description": words, "content": _content({})},
            **({"202": {"description": "Calls are still awaited.", "content": _content({})}} if not reads else {}),
            **{code: {"description": _REFUSALS[code], "content": error} for code in refusals},
        },
    }


def _machine(path: str, summary: str, answers: dict[str, str]) -> dict[str, Any]:
    content = {"text/plain": {"schema": _TEXT}}
    return {
        "operationId": path.strip("/"),
        "summary": summary,
        "security": [{}] if path == "/healthz" else _READERS,
        "parameters": [],
        "responses": {code: {"description": words, "content": content} for code, words in answers.items()},
    }


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _in_path(operation: Operation) -> list[dict[str, Any]]:
    schema = {"type": "string", "minLength": 1, "maxLength": 1000}
    return [
        {"name": name, "in": "path", "required": True, "description": _ABOUT[name], "schema": schema}
        for name, _ in _PARAMETER.findall(operation.path)
    ]


def _in_query(operation: Operation) -> list[dict[str, Any]]:
    (_,), known = msgspec.json.schema_components([operation.takes], ref_template=_SCHEMAS)
    properties: dict[str, dict[str, Any]] = known[operation.takes.__name__]["properties"]
    return [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]
