"""How requests are read and answered: bodies of limited length, documents, refusals with a remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

#: Most bytes of a body.
MOST_BYTES: Final = 65_536


async def read_body(request: Request) -> bytes:
    """Return the body; raise HTTPException if it is too long or the client has gone."""
    body = bytearray()
    try:
        if int(request.headers.get("Content-Length", "0")) <= MOST_BYTES:
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    break
            else:
                return bytes(body)
    except ClientDisconnect:
        raise HTTPException(400, "The connection ended before the body") from None
    raise HTTPException(413, f"A body has at most {MOST_BYTES:,} bytes", {"Connection": "close"})


def wants_page(request: Request) -> bool:
    """Return whether a browser asks for a page."""
    return "text/html" in request.headers.get("Accept", "") and not request.url.path.startswith("/api/")


def document(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def refused(
    request: Request, status: int, error: str, remedy: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """Return the answer to a refused request, with `error` and `remedy` as sentences."""
    if request.url.path.startswith(("/api/", "/openapi.json")):
        return document({"error": error, "remedy": remedy}, status, headers)
    return PlainTextResponse(f"{error}\n{remedy}\n" if remedy else f"{error}\n", status, headers)
