"""Makes rlm/web/openapi.json: `uv run python -m tests.openapi_page`; a test compares it with the code.

It is made from `OPERATIONS`, from their parameters, and from docs/json.md for the keys of the answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from rlm import __version__
from rlm.web.operations import OPERATIONS, Operation
from tests import documents_page

FILE = Path(__file__).parents[1] / "rlm" / "web" / "openapi.json"
_PARAMETER: Final = re.compile(r"\{(\w+)(:path)?\}")
_SCHEMAS: Final = "#/components/schemas/{name}"
_ABOUT: Final = {
    "run": "The id of a run, or a beginning that no other id has.",
    "event": "The id of an event, ITEM:TYPE, of an item, or the name of a wallet.",
    "name": "The name of an endpoint or a budget.",
}
_ERROR: Final = {
    "type": "object",
    "required": ["error", "remedy"],
    "properties": {
        "error": {"type": "string", "description": "What is wrong."},
        "remedy": {"type": "string", "description": "What to do; may be empty."},
    },
}
_WORDS: Final = {
    "400": "What was asked cannot be.",
    "401": "The token is missing or wrong.",
    "403": "Read-only, of a foreign page, or without the CSRF token.",
    "404": "Not known.",
    "409": "A run is under way.",
    "413": "The body is too long.",
    "415": "The body is not JSON.",
    "503": "Redis is away, or there is nobody to do it.",
}

#: Operations with text answers: name, summary, and the answers.
MACHINES: Final = {
    "/healthz": (
        "healthz",
        "Whether Redis answers and is fit and a scheduler leads, or is about to.",
        {"200": "They do.", "503": "They do not; the text says why."},
    ),
    "/metrics": (
        "metrics",
        "The metrics, in the text format of Prometheus.",
        {"200": "The metrics; `rlm_up` is 0 while Redis is away.", "401": _WORDS["401"]},
    ),
}


def described() -> dict[str, Any]:
    """Return the description."""
    _, taken = msgspec.json.schema_components(dict.fromkeys(one.takes for one in OPERATIONS), ref_template=_SCHEMAS)
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(_PARAMETER.sub(r"{\1}", one.path), {})[one.method.lower()] = _operation(one)
    for path, (name, summary, answers) in MACHINES.items():
        paths[path] = {"get": _text(name, summary, answers)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "RLM, the Rate Limit Manager",
            "version": __version__,
            "description": "Each answer is what the command prints with --json. Keys may be added.",
        },
        "paths": paths,
        "components": {
            "schemas": {
                **taken,
                "Error": _ERROR,
                **{schema_name(command): schema for command, schema in documents_page.schemas().items()},
            },
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "The token of web.token."},
                "session": {"type": "apiKey", "in": "cookie", "name": "rlm_session_PORT"},
                "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token"},
            },
        },
    }


def _text(name: str, summary: str, answers: Mapping[str, str]) -> dict[str, Any]:
    """Return the description of an operation that answers with text."""
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "operationId": name,
        "summary": summary,
        "security": [{}] if name == "healthz" else [{}, {"token": []}, {"session": []}],
        "parameters": [],
        "responses": {code: {"description": words, "content": content} for code, words in answers.items()},
    }


def _operation(one: Operation) -> dict[str, Any]:
    is_read = one.method == "GET"
    answered = {
        "description": f"What `{one.command}` prints with --json.",
        "content": _content(schema_name(one.command)),
    }
    codes = ["400", "401", "404", "503"] if is_read else list(_WORDS)
    return {
        "operationId": one.handle.__name__,
        "summary": (one.handle.__doc__ or "").strip(),
        "security": [{}, {"token": []}, {"session": []}] if is_read else [{"token": []}, {"session": [], "csrf": []}],
        "parameters": [*_in_path(one), *(_in_query(one) if is_read else [])],
        **({} if is_read else {"requestBody": {"content": _content(one.takes.__name__)}}),
        "responses": {
            "200": answered,
            **(
                {"202": {**answered, "description": "Calls are still awaited."}}
                if one.handle.__name__ == "cancel_run"
                else {}
            ),
            **{code: {"description": _WORDS[code], "content": _content("Error")} for code in codes},
        },
    }


def _content(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _SCHEMAS.format(name=name)}}}


def _in_path(one: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _ABOUT[name],
            "schema": {"type": "string", "minLength": 1, "maxLength": 1000},
        }
        for name, _ in _PARAMETER.findall(one.path)
    ]


def _in_query(one: Operation) -> list[dict[str, Any]]:
    (_,), known = msgspec.json.schema_components([one.takes], ref_template=_SCHEMAS)
    properties: dict[str, dict[str, Any]] = known[one.takes.__name__]["properties"]
    return [
        {
            "name": name,
            "in": "query",
            "description": schema.get("description", ""),
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }
        for name, schema in properties.items()
    ]


def schema_name(command: str) -> str:
    """Return the name of a document's schema."""
    return re.sub(r"\W+", "_", command).strip("_")


def text() -> str:
    """Return the expected content of the file."""
    return json.dumps(described(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
