"""The routes of the JSON side, by which operations are carried out in threads, and its OpenAPI description.

Both are made from `OPERATIONS`; the keys of the answers are described by docs/json.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Route

from rlm import __version__
from rlm.core.errors import StoreError
from rlm.ledger import Store, revive
from rlm.web.errors import document
from rlm.web.operations import OPERATIONS, ApiCall, Operation, Pending
from rlm.web.parameters import of_body, of_query, read_body
from rlm.web.session import visit_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


_JSON = "application/json"
_ACCEPTED = 202
_PARAMETER: Final = re.compile(r"\{(\w+)(:path)?\}")
_SCHEMAS: Final = "#/components/schemas/{name}"
_ABOUT: Final = {
    "run": "The id of a run, or as much of its beginning as no other has.",
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

#: What programs read as text: its name, its summary, and what it answers.
_MACHINES: Final = {
    "/healthz": (
        "healthz",
        "Whether Redis answers and a scheduler lives.",
        {"200": "They do.", "503": "They do not; the text says why."},
    ),
    "/metrics": (
        "metrics",
        "The metrics, in the text format of Prometheus.",
        {"200": "The metrics; `rlm_up` is 0 while Redis is away.", "401": _WORDS["401"]},
    ),
}


def api_routes(store: Store) -> list[Route]:
    """Return the routes of all operations, and of their description."""

    async def openapi(_request: Request) -> Response:
        return document(described())

    of_path: dict[str, dict[str, Operation]] = {}
    for one in OPERATIONS:
        of_path.setdefault(one.path, {})[one.method] = one
    each = [Route(path, _endpoint(store, methods), methods=list(methods)) for path, methods in of_path.items()]
    return [*each, Route("/openapi.json", openapi)]


def _endpoint(store: Store, operations: Mapping[str, Operation]) -> Callable[[Request], object]:
    async def answer(request: Request) -> Response:
        operation = operations["GET" if request.method == "HEAD" else request.method]
        if operation.method == "GET":
            asked = of_query(request.query_params.multi_items(), operation.takes)
        else:
            asked = of_body(await _json_body(request), operation.takes)
        about = next(iter(request.path_params.values()), "")
        found = await run_in_threadpool(_carry_out, operation, ApiCall(store, visit_of(request), about, asked))
        return document(found.document, _ACCEPTED) if isinstance(found, Pending) else document(found)

    return answer


def _carry_out(operation: Operation, call: ApiCall) -> Any:
    try:
        return operation.handle(call)
    except StoreError:
        revive(call.store)
        raise


async def _json_body(request: Request) -> bytes:
    """Return the body; a form of a foreign page could not say that it is JSON."""
    body = await read_body(request)
    if body and request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != _JSON:
        raise HTTPException(415, f"The body must be JSON, with `Content-Type: {_JSON}`")
    return body


@cache
def described() -> dict[str, Any]:
    """Return the description."""
    _, taken = msgspec.json.schema_components({one.takes for one in OPERATIONS}, ref_template=_SCHEMAS)
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(_PARAMETER.sub(r"{\1}", one.path), {})[one.method.lower()] = _operation(one)
    for path, (name, summary, answers) in _MACHINES.items():
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
                **{schema_name(one.command): keys_of(one.command) for one in OPERATIONS},
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
        "operationId": one.name,
        "summary": (one.handle.__doc__ or "").strip(),
        "security": [{}, {"token": []}, {"session": []}] if is_read else [{"token": []}, {"session": [], "csrf": []}],
        "parameters": [*_in_path(one), *(_in_query(one) if is_read else [])],
        **({} if is_read else {"requestBody": {"content": _content(one.takes.__name__)}}),
        "responses": {
            "200": answered,
            **({"202": {**answered, "description": "Calls are still awaited."}} if one.name == "cancel_run" else {}),
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
    """Return what the schema of a document is called."""
    return re.sub(r"\W+", "_", command).strip("_")


@cache
def _documents() -> dict[str, Any]:
    """Return the schema of each command's document, as `python -m tests.documents_page` makes them of docs/json.md."""
    raw = resources.files("rlm.web").joinpath("documents.json").read_bytes()
    return msgspec.json.decode(raw, type=dict[str, Any])


def keys_of(command: str) -> dict[str, Any]:
    """Return the schema of the document that a command prints."""
    found: dict[str, Any] = _documents()[command]
    return found
