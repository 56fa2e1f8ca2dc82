"""What is sent of an event: the body, and the whole request of its HTTP call."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from rlm import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What would end a header's line, or the header. The settings allow none of them; this is the last check.
_LINE_BREAK = re.compile(r"[\r\n\0]")


class Request(msgspec.Struct, frozen=True):
    """What is sent of an event. `attempt` counts over all runs from 1; `item` is as it came, JSON."""

    event_id: str
    event_type: str
    wallet_name: str
    run_id: str
    attempt: int
    item: bytes

    def encode(self) -> bytes:
        """Return the body."""
        return msgspec.json.encode(msgspec.structs.asdict(self) | {"item": msgspec.Raw(self.item)})


def render(request: Request, url: str, headers: Mapping[str, str]) -> bytes:
    """Return the whole request to `url`, with `headers` beside RLM's own.

    Raises:
        ValueError: a header is not what HTTP allows; the message quotes none, since it may be a secret.
    """
    parts = urlsplit(url)
    body = request.encode()
    fields = {
        "Host": parts.netloc.rpartition("@")[2],
        "Content-Length": str(len(body)),
        **headers,
        "Content-Type": "application/json",
        "Idempotency-Key": request.event_id,
        "User-Agent": f"rlm/{__version__}",
    }
    if not any(name.lower() == "accept-encoding" for name in headers):
        fields["Accept-Encoding"] = "identity"  # what an answer says is kept for people to read
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if _LINE_BREAK.search("".join(lines)):
        raise ValueError("a header holds a line break or a NUL")
    try:
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
    except UnicodeEncodeError:
        raise ValueError("a header is not Latin-1") from None
