"""What is sent of an event: its body, and the request around it as HTTP/1.1 writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from rlm import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What would end a header's line, or the header. The settings allow none of them; this is the last look.
_LINE_BREAK = re.compile(r"[\r\n\0]")


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent of an event. `attempt` counts over all runs from 1; `item` is as it came, JSON."""

    event_id: str
    event_type: str
    wallet_name: str
    run_id: str
    attempt: int
    item: bytes

    def encode(self) -> bytes:
        """Write the body."""
        return msgspec.json.encode(
            {
                "event_id": self.event_id,
                "event_type": self.event_type,
                "wallet_name": self.wallet_name,
                "run_id": self.run_id,
                "attempt": self.attempt,
                "item": msgspec.Raw(self.item),
            }
        )


def render(request: Request, url: str, headers: Mapping[str, str]) -> bytes:
    """Write the whole request to `url`, with `headers` beside RLM's own.

    Raises:
        ValueError: a header is not what HTTP allows; the message quotes none, for it may be a secret.
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
        fields["Accept-Encoding"] = "identity"  # what an answer says is kept as it is, for people to read
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if any(map(_LINE_BREAK.search, lines)):
        raise ValueError("a header holds a line break or a NUL")
    try:
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
    except UnicodeEncodeError:
        raise ValueError("a header is not Latin-1") from None
