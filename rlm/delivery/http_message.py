"""The messages of HTTP/1.1: the request for an event, and its answer, fed as it arrives.

llhttp parses answers; this module checks what llhttp lets pass. Interim answers (1xx) are read and skipped. An answer
that is not exactly what HTTP/1.1 allows is rejected, because it could be understood in two ways.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from rlm import __version__
from rlm.core.errors import DispatchError

#: How many bytes of an answer are read so that its connection can be reused; a longer answer is cut.
MAX_ANSWER_BYTES = 262_144
#: Within how many bytes the final answer's header must end, including interim answers.
MAX_HEAD_BYTES = 65_536

_BEGINNING, _HEAD_END = b"HTTP/1.", b"\r\n\r\n"
_SWITCHING_PROTOCOLS = 101
#: Characters that would end a header line or the header. The settings allow none of them; this is the last check.
_LINE_BREAK = re.compile(r"[\r\n\0]")


class Request(msgspec.Struct, frozen=True):
    """The request for an event, as its body has it. `attempt` counts from 1 over all runs; `item` is as it came."""

    event_id: str
    event_type: str
    wallet_name: str
    run_id: str
    attempt: int
    item: msgspec.Raw


def render(request: Request, url: str, headers: Mapping[str, str]) -> bytes:
    """Return the request to `url`, with `headers` beside RLM's own; raise a ValueError that quotes no header."""
    body = msgspec.json.encode(request)
    own = f"Content-Length: {len(body)}\r\nIdempotency-Key: {_sound(request.event_id)}\r\n\r\n"
    try:
        return (_head(url, *headers.items()) + own).encode("latin-1") + body
    except UnicodeEncodeError:
        raise ValueError("a header is not Latin-1") from None


@lru_cache(1024)
def _head(url: str, *headers: tuple[str, str]) -> str:
    """Return the part of the request header that is the same in each call to `url`."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    fields = {
        "Host": parts.netloc.rpartition("@")[2],
        **dict(headers),
        "Content-Type": "application/json",
        "User-Agent": f"rlm/{__version__}",
    }
    if not any(name.lower() == "accept-encoding" for name, _ in headers):
        fields["Accept-Encoding"] = "identity"  # people may read the answer
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "".join(f"{_sound(line)}\r\n" for line in lines)


def _sound(text: str) -> str:
    if _LINE_BREAK.search(text):
        raise ValueError("a header holds a line break or a NUL")
    return text


class BrokenAnswerError(DispatchError):
    """Raised when the data received is not a complete HTTP/1.1 answer. Whether the event was taken is not known."""


class Answer:
    """An answer being received. `status` is 0 until the header of the final answer has ended."""

    def __init__(self) -> None:
        self.status = 0
        self.body = bytearray()
        #: It was read to its end.
        self.whole = False
        #: More data followed it in the same read.
        self.surplus = False
        self._keeps = False
        self._received = 0
        self._head = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._parser: HttpResponseParser | None = None

    @property
    def reusable(self) -> bool:
        """Return whether its connection may serve another call: it ended by its framing, and neither end closes."""
        return self.whole and self._keeps and not self.surplus

    @property
    def encoded(self) -> bool:
        """Return whether the body is compressed, so that people cannot read it."""
        codings = self.values("content-encoding") + self.values("transfer-encoding")
        return any(value.lower() not in {"identity", "chunked"} for value in codings)

    @property
    def room(self) -> int:
        """How many more bytes may be read, 0 if it is cut; raise a BrokenAnswerError if the header is too long."""
        if self.status:
            return max(0, MAX_ANSWER_BYTES - self._received)
        if self._received >= MAX_HEAD_BYTES:
            raise BrokenAnswerError(f"its header is longer than {MAX_HEAD_BYTES // 1024} KiB")
        return MAX_HEAD_BYTES - self._received

    def values(self, name: str) -> list[str]:
        """Return all values of a header field of the final answer."""
        wanted = name.encode()
        return [value.decode("latin-1") for field, value in self._fields if field == wanted]

    def feed(self, data: bytes) -> None:
        """Process received data; empty data means that the connection ended.

        Each header is parsed as a whole by a parser of its own, so an interim answer has no body whatever it announces.
        The last byte is parsed by itself: if the answer is complete without it, unasked data follows.

        Raises:
            BrokenAnswerError: this is not an HTTP/1.1 answer.
            ConnectionError: the connection ended before the answer did.
        """
        self._received += len(data)
        if not data:
            if not self.status or self.values("content-length") or self.values("transfer-encoding"):
                how = "within its answer" if self._received else "unanswered"
                raise ConnectionError(f"the endpoint closed it {how}")
            self.whole = True
        while data and not self.status:
            self._head += data
            if not self._head.startswith(_BEGINNING[: len(self._head)]):
                raise BrokenAnswerError("it is not HTTP/1.1")
            head, end, data = self._head.partition(_HEAD_END)
            if not end:
                return
            self._head = b""
            self._take_head(head + end)
        for part in filter(None, (data[:-1], data[-1:])):
            if self.whole:
                self.surplus = True
            else:
                self._parse(part)

    def close(self) -> None:
        """Release the parser, which refers back to this object."""
        self._parser = None

    def _take_head(self, head: bytes) -> None:
        self._fields.clear()
        self._parser = parser = HttpResponseParser(self)
        self._parse(head)
        status, codings = parser.get_status_code(), ",".join(self.values("transfer-encoding")).lower()
        if parser.get_http_version() not in {"1.0", "1.1"} or (codings and parser.get_http_version() == "1.0"):
            raise BrokenAnswerError("its version of HTTP is another, or does not know its Transfer-Encoding")
        if codings.count("chunked") > 1:
            raise BrokenAnswerError("it is chunked twice")
        if status in range(100, 200):
            self.whole = False
        elif status in range(200, 600):
            self.status = status
            # An answer without a body that announces one may be followed by it.
            announced = codings or any(value.strip("0") for value in self.values("content-length"))
            self._keeps &= not (status in {204, 304} and announced)
        else:
            raise BrokenAnswerError(f"HTTP {status} is not a status")

    def _parse(self, part: bytes) -> None:
        parser = self._parser
        if parser is None:
            raise BrokenAnswerError("it was closed")
        try:
            parser.feed_data(part)
        except (HttpParserError, HttpParserUpgrade) as error:
            if parser.get_status_code() == _SWITCHING_PROTOCOLS:
                raise BrokenAnswerError("it switches protocols (HTTP 101), which nobody asked for") from None
            if not self.whole:
                raise BrokenAnswerError(f"it is not HTTP/1.1 ({error})") from None
            self.surplus = True

    # -- what the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """Record a header field; one after the header's end is a trailer and is ignored."""
        if not self.status:
            self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Record whether the endpoint keeps the connection; the parser knows it only here."""
        if self._parser is not None and not self.status:
            self._keeps = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        if not self.whole:
            self.body += data

    def on_message_complete(self) -> None:
        """Record the end of an answer."""
        self.whole = True
