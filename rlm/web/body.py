"""The body of a request, of a bounded length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.requests import Request

#: The most bytes of a body.
MOST_BYTES: Final = 65_536


async def read_body(request: Request) -> bytes:
    """Return the body.

    Raises:
        HTTPException: it is too long.
    """
    length = request.headers.get("Content-Length", "0")
    body = bytearray()
    if length.isdecimal() and int(length) <= MOST_BYTES:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BYTES:
                break
        else:
            return bytes(body)
    raise HTTPException(413, f"A body has at most {MOST_BYTES:,} bytes", {"Connection": "close"})
