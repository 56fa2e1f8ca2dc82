"""HTTP/1.1 as bytes: the head of a request read, an answer written. No sockets."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Bytes a head or a body may have; far above anything RLM sends, so that a mistake ends soon.
MAX_HEAD = 65_536
MAX_BODY = 64 * 1024 * 1024

#: These answers have no body.
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class BadRequestError(Exception):
    """Raised when what was sent is not HTTP this server reads. It is answered with `status`, then cut."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Head:
    """A request without its body. `headers` have lower-case names, `length` is that of the body in bytes."""

    method: str
    path: str
    headers: Mapping[str, str]
    length: int
    last: bool  # the client wants the connection closed after the answer


def parse_head(raw: bytes) -> Head:
    """Read request line and headers, without the empty line that ends them.

    Raises:
        BadRequestError: they are malformed, or announce a body without its length (411) or too long a one (413).
    """
    request_line, *lines = raw.decode("latin-1").split("\r\n")
    try:
        method, target, version = request_line.split(" ")
    except ValueError:
        raise BadRequestError(400, f"{request_line[:100]!r} is no request line") from None
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    connection = headers.get("connection", "").lower()
    last = "close" in connection or (version == "HTTP/1.0" and "keep-alive" not in connection)
    return Head(method, unquote(target.partition("?")[0]), headers, _body_length(headers), last)


def _body_length(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise BadRequestError(411, "a body needs its Content-Length; chunks are not read")
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise BadRequestError(400, f"Content-Length {text[:100]!r} is no number of bytes")
    if len(text) > len(str(MAX_BODY)) or int(text) > MAX_BODY:
        raise BadRequestError(413, f"Content-Length {text[:100]} is too large; at most {MAX_BODY} bytes are read")
    return int(text)


def render(status: int, body: bytes, headers: Mapping[str, str], *, last: bool) -> bytes:
    """Write an answer with a JSON `body`; `last` announces that the connection is closed after it."""
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}"]
    if status in _BODILESS:
        body = b""
    else:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if last:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + body
