"""How requests are read and answered: their parameters with the rules for each, bodies, documents, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from rlm.admin.letters import LetterFilter
from rlm.admin.queue import EventFilter
from rlm.core.errors import BadQuestionError
from rlm.core.text import seconds_in

#: Most bytes of a body.
MOST_BYTES: Final = 65_536
_Asked = TypeVar("_Asked", bound=Struct)

After = Annotated[int, Meta(ge=0, le=10**9)]


class Asked(Struct, forbid_unknown_fields=True, omit_defaults=True, rename="kebab"):
    """Parameters, and no others."""


class LettersShown(LetterFilter):
    """Which dead letters a page shows: those after so many."""

    after: After = 0

    def chosen(self) -> LetterFilter:
        """Return the filter, if it can be used."""
        self.matcher()
        return self


class EventsShown(EventFilter):
    """Which waiting events a page shows: those after so many."""

    after: After = 0

    def chosen(self) -> EventFilter:
        """Return the filter, if it can be used."""
        seconds_in(self.older_than or "1s")
        return self


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


async def read_body(request: Request) -> bytes:
    """Return the body; raise HTTPException if it is too long or the client has gone."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BYTES:
                raise HTTPException(413, f"A body has at most {MOST_BYTES:,} bytes", {"Connection": "close"})
    except ClientDisconnect:
        raise HTTPException(400, "The connection ended before the body") from None
    return body


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
