"""The JSON side: its routes, by which `OPERATIONS` are carried out in threads, its OpenAPI description, its refusals.

A request that is not done is answered what is wrong and what to do, as JSON to programs, as text to others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from rlm.core import errors
from rlm.ledger import Store
from rlm.ledger.trouble import revive
from rlm.settings.secrets import known
from rlm.web.operations import OPERATIONS, ApiCall, Operation, Pending
from rlm.web.parameters import of_body, of_query, read_body
from rlm.web.session import visit_of

_JSON = "application/json"
_ACCEPTED = 202
#: What /openapi.json answers; `python -m tests.openapi_page` makes it of `OPERATIONS` and docs/json.md.
_DESCRIPTION: Final = Path(__file__).with_name("openapi.json")

_BAD, _NOT_FOUND, _CONFLICT, _UNAVAILABLE, _FAULT = 400, 404, 409, 503, 500
_DESCRIBED = "/openapi.json describes each parameter."
#: Status and remedy of each error, the most special first.
_ANSWERS: tuple[tuple[type[errors.RLMError], int, str], ...] = (
    (errors.BadQuestionError, _BAD, _DESCRIBED),
    (errors.AmbiguousRunError, _BAD, "Give more of the run's id; GET /api/runs lists them."),
    (errors.NoSuchRunError, _NOT_FOUND, "GET /api/runs lists the runs on record, GET /api/status names the open one."),
    (errors.NoSuchLetterError, _NOT_FOUND, "GET /api/failed lists the dead letters."),
    (errors.NoSuchEndpointError, _NOT_FOUND, "GET /api/endpoints lists endpoints and budgets."),
    (errors.RunUnderWayError, _CONFLICT, "Wait for its end, or cancel it first."),
    (errors.NobodyConductsError, _UNAVAILABLE, "Start a scheduler: `rlm up`, or `rlm scheduler`."),
    (errors.StoreError, _UNAVAILABLE, "`rlm doctor` on the host of RLM says more."),
    (errors.ConfigurationError, _BAD, _DESCRIBED),
    (errors.RLMError, _FAULT, "`rlm doctor` on the host of RLM says more."),
)


def api_routes(store: Store) -> list[Route]:
    """Return the routes of all operations, and of their description."""

    def openapi(_request: Request) -> Response:
        return document(msgspec.Raw(_DESCRIPTION.read_bytes()))

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
    except errors.StoreError:
        revive(call.store)
        raise


async def _json_body(request: Request) -> bytes:
    """Return the body; a form of a foreign page could not say that it is JSON."""
    body = await read_body(request)
    if body and request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != _JSON:
        raise HTTPException(415, f"The body must be JSON, with `Content-Type: {_JSON}`")
    return body


def document(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def refused(
    request: Request, status: int, error: str, remedy: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """Return the answer to a request that is not done, with `error` and `remedy` as sentences."""
    if request.url.path.startswith(("/api/", "/openapi.json")):
        return document({"error": error, "remedy": remedy}, status, headers)
    return PlainTextResponse(f"{error}\n{remedy}\n" if remedy else f"{error}\n", status, headers)


async def of_error(request: Request, error: errors.RLMError) -> Response:
    """Return the answer for an error of RLM, with secrets masked."""
    status, remedy = next((status, remedy) for kind, status, remedy in _ANSWERS if isinstance(error, kind))
    if isinstance(error, errors.StoreError) and error.remedy:
        return refused(request, status, known().mask(error.what), known().mask(error.remedy))
    return refused(request, status, known().mask(str(error)), remedy)


async def of_http(request: Request, error: Exception) -> Response:
    """Return the answer for a path or a method that is not served, and for a fault of RLM."""
    if not isinstance(error, HTTPException):
        return refused(request, _FAULT, "This is a fault of RLM.", "The log of `rlm web` says more; report it.")
    remedy = "/openapi.json lists what there is." if error.status_code != _BAD else ""
    return refused(request, error.status_code, f"{error.detail}.", remedy, error.headers)
