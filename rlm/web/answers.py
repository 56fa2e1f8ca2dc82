"""How requests are read and answered: queries, documents, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from rlm.admin.errors import BadQuestionError

_Asked = TypeVar("_Asked", bound=msgspec.Struct)


def of_query(items: list[tuple[str, str]], kind: type[_Asked]) -> _Asked:
    """Read a query; raise BadQuestionError if it contains what `kind` does not allow."""
    values: dict[str, Any] = dict(items)
    for field in msgspec.structs.fields(kind):
        if field.default_factory is list:
            values[field.encode_name] = [value for name, value in items if name == field.encode_name]
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadQuestionError(f"the query cannot be used: {error}") from None


def wants_page(request: Request) -> bool:
    """Return whether a browser asks for a page."""
    return "text/html" in request.headers.get("Accept", "") and not request.url.path.startswith("/api/")


def document(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def refused(
    request: Request, status: int, error: str, remedy: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the answer to a refused request, with `error` and `remedy` as sentences."""
    if request.url.path.startswith(("/api/", "/openapi.json")):
        return document({"error": error, "remedy": remedy}, status, headers)
    return PlainTextResponse(f"{error}\n{remedy}\n", status, headers)
