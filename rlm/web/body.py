"""The body of a request, of a bounded length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from starlette.requests import Request

#: The most bytes of a body.
MOST_BYTES: Final = 65_536


async def read_body(request: Request) -> bytes:
    """Return the body.

    Raises:
        HTTPException: it is too long, or its sender has gone.
    """
    length = request.headers.get("Content-Length", "0")
    body = bytearray()
    if length.isdecimal() and int(length) <= MOST_BYTES:
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    break
            else:
                return bytes(body)
        except ClientDisconnect:
            raise HTTPException(400, "The connection ended before the body") from None
    raise HTTPException(413, f"A body has at most {MOST_BYTES:,} bytes", {"Connection": "close"})
