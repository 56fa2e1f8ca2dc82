"""What a request is answered that is not done: what is wrong and what to do, as JSON to programs, as text to others."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from rlm.core.errors import (
    AmbiguousRunError,
    BadQuestionError,
    ConfigurationError,
    NobodyConductsError,
    NoSuchEndpointError,
    NoSuchLetterError,
    NoSuchRunError,
    RLMError,
    RunUnderWayError,
    StoreError,
)
from rlm.settings.secrets import known

_BAD, _NOT_FOUND, _CONFLICT, _UNAVAILABLE, _FAULT = 400, 404, 409, 503, 500
_DESCRIBED = "/openapi.json describes each parameter."
#: Status and remedy of each error, the most special first.
_ANSWERS: tuple[tuple[type[RLMError], int, str], ...] = (
    (BadQuestionError, _BAD, _DESCRIBED),
    (AmbiguousRunError, _BAD, "Give more of the run's id; GET /api/runs lists them."),
    (NoSuchRunError, _NOT_FOUND, "GET /api/runs lists the runs on record, GET /api/status names the open one."),
    (NoSuchLetterError, _NOT_FOUND, "GET /api/failed lists the dead letters."),
    (NoSuchEndpointError, _NOT_FOUND, "GET /api/endpoints lists endpoints and budgets."),
    (RunUnderWayError, _CONFLICT, "Wait for its end, or cancel it first."),
    (NobodyConductsError, _UNAVAILABLE, "Start a scheduler: `rlm up`, or `rlm scheduler`."),
    (StoreError, _UNAVAILABLE, "`rlm doctor` on the host of RLM says more."),
    (ConfigurationError, _BAD, _DESCRIBED),
    (RLMError, _FAULT, "`rlm doctor` on the host of RLM says more."),
)


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


async def of_error(request: Request, error: RLMError) -> Response:
    """Return the answer for an error of RLM, with secrets masked."""
    status, remedy = next((status, remedy) for kind, status, remedy in _ANSWERS if isinstance(error, kind))
    if isinstance(error, StoreError) and error.remedy:
        return refused(request, status, known().mask(error.what), known().mask(error.remedy))
    return refused(request, status, known().mask(str(error)), remedy)


async def of_http(request: Request, error: Exception) -> Response:
    """Return the answer for a path or a method that is not served, and for a fault of RLM."""
    if not isinstance(error, HTTPException):
        return refused(request, _FAULT, "This is a fault of RLM.", "The log of `rlm web` says more; report it.")
    remedy = "/openapi.json lists what there is." if error.status_code != _BAD else ""
    return refused(request, error.status_code, f"{error.detail}.", remedy, error.headers)
