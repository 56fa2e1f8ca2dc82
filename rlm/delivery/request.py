"""What is sent of an event: the body, and the whole request of its HTTP call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

import msgspec

from rlm import __version__

#: What would end a header's line, or the header. The settings allow none of them; this is the last check.
_LINE_BREAK = re.compile(r"[\r\n\0]")
#: For so many endpoints the part of the header that is the same in each call is kept.
_KEPT_HEADS = 1024


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
    body = request.encode()
    own = f"Content-Length: {len(body)}", f"Idempotency-Key: {_sound(request.event_id)}"
    try:
        return "\r\n".join([_head(url, *headers.items()), *own, "", ""]).encode("latin-1") + body
    except UnicodeEncodeError:
        raise ValueError("a header is not Latin-1") from None


@lru_cache(_KEPT_HEADS)
def _head(url: str, *headers: tuple[str, str]) -> str:
    """Return what is the same in each call to `url`."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    fields = {
        "Host": parts.netloc.rpartition("@")[2],
        **dict(headers),
        "Content-Type": "application/json",
        "User-Agent": f"rlm/{__version__}",
    }
    if not any(name.lower() == "accept-encoding" for name, _ in headers):
        fields["Accept-Encoding"] = "identity"  # what an answer says is kept for people to read
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(map(_sound, lines))


def _sound(text: str) -> str:
    if _LINE_BREAK.search(text):
        raise ValueError("a header holds a line break or a NUL")
    return text
