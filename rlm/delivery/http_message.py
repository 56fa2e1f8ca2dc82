"""The messages of HTTP/1.1: the request for an event, and its answer, fed as it arrives.

llhttp parses answers; this module checks what llhttp lets pass. Interim answers (1xx) are read and skipped. An answer
that is not exactly what HTTP/1.1 allows is rejected, because it could be understood in two ways.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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

_INTERIM, _FINAL = range(100, 200), range(200, 600)
_SWITCHING_PROTOCOLS = 101
#: Statuses of final answers that end with their header, whatever body they announce.
_BODILESS = frozenset({204, 304})
_LENGTH, _CODING = b"content-length", b"transfer-encoding"
#: The values of these headers for a body that is not compressed.
_PLAIN = {b"content-encoding": b"identity", _CODING: b"chunked"}
_VERSIONS = ("1.0", "1.1")
#: An empty line, or the end of a line that came earlier; no header continues beyond it.
_EMPTY_LINE = re.compile(rb"(?:\A|(?<=\n))\r?\n")

#: Characters that would end a header line or the header. The settings allow none of them; this is the last check.
_LINE_BREAK = re.compile(r"[\r\n\0]")
#: The constant part of the request header is cached for this many endpoints.
_KEPT_HEADS = 1024


class Request(msgspec.Struct, frozen=True):
    """The request for an event. `attempt` counts from 1 over all runs; `item` is the original JSON."""

    event_id: str
    event_type: str
    wallet_name: str
    run_id: str
    attempt: int
    item: bytes

    def encode(self) -> bytes:
        """Return the request body."""
        return msgspec.json.encode(msgspec.structs.asdict(self) | {"item": msgspec.Raw(self.item)})


def render(request: Request, url: str, headers: Mapping[str, str]) -> bytes:
    """Return the request to `url`, with `headers` beside RLM's own; raise a ValueError that quotes no header."""
    body = request.encode()
    own = f"Content-Length: {len(body)}", f"Idempotency-Key: {_sound(request.event_id)}"
    try:
        return "\r\n".join([_head(url, *headers.items()), *own, "", ""]).encode("latin-1") + body
    except UnicodeEncodeError:
        raise ValueError("a header is not Latin-1") from None


@lru_cache(_KEPT_HEADS)
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
    return "\r\n".join(map(_sound, lines))


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
        #: All `Retry-After` values of the final answer.
        self.retry_after: list[str] = []
        #: The `Date` of the final answer, by the endpoint's clock; empty if there is none.
        self.date = ""
        self.content_type = ""
        self.body = bytearray()
        #: The body is compressed, so people cannot read it.
        self.encoded = False
        #: It was read to its end.
        self.whole = False
        #: More data followed it in the same read.
        self.surplus = False
        self._keeps = False
        self._interim = False
        self._received = 0
        self._fault = ""
        self._framed = False
        self._fields: list[tuple[bytes, bytes]] = []
        self._parser: HttpResponseParser | None = None

    @property
    def reusable(self) -> bool:
        """Return whether its connection may serve another call: it ended by its framing, and neither end closes."""
        return self.whole and self._keeps and not self.surplus

    @property
    def room(self) -> int:
        """How many more bytes may be read, 0 if it is cut; raise a BrokenAnswerError if the header is too long."""
        if self.status:
            return max(0, MAX_ANSWER_BYTES - self._received)
        if self._received >= MAX_HEAD_BYTES:
            raise BrokenAnswerError(f"its header is longer than {MAX_HEAD_BYTES // 1024} KiB")
        return MAX_HEAD_BYTES - self._received

    def feed(self, data: bytes) -> None:
        """Process received data; empty data means that the connection ended.

        A header is parsed separately, so that it ends where HTTP says, and an interim answer has no body whatever it
        announces. The last byte is parsed separately too: if the answer is complete without it, unasked data follows.

        Raises:
            BrokenAnswerError: this is not an HTTP/1.1 answer.
            ConnectionError: the connection ended before the answer did.
        """
        if not data:
            self._end()
            return
        self._received += len(data)
        at = 0
        while at < len(data) and not self.status:
            empty = _EMPTY_LINE.search(data, at)
            end = empty.end() if empty else len(data)
            self._parse_head(data[at:end])
            at = end
        for part in (data[at:-1], data[max(at, len(data) - 1) :]):
            if part and self.whole:
                self.surplus = True
            elif part:
                self._parse(part)

    def close(self) -> None:
        """Release the parser, which refers back to this object."""
        self._parser = None

    def _parse_head(self, part: bytes) -> None:
        """Parse a header or a part of one; each header has its own parser."""
        if self._parser is None and not part.startswith(b"H"):  # the parser would skip empty lines and accept RTSP
            raise BrokenAnswerError("it is not HTTP/1.1")
        self._parse(part)
        if self._interim:
            self._parser, self._interim = None, False

    def _parse(self, part: bytes) -> None:
        self._parser = self._parser or HttpResponseParser(self)
        try:
            self._parser.feed_data(part)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self.whole:
                raise BrokenAnswerError(self._fault or f"it is not HTTP/1.1 ({error})") from None
            self.surplus = True

    def _end(self) -> None:
        if not self.status or self._framed:
            raise ConnectionError("the endpoint closed it " + ("within its answer" if self._received else "unanswered"))
        self.whole = True

    # -- what the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """Record a header field; one after the header's end is a trailer and is ignored."""
        if not self.status:
            self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Check the header of an interim answer, or take that of the final one."""
        parser = self._parser
        if self.status or parser is None:
            return
        fields, self._fields = self._fields, []
        status = parser.get_status_code()
        self._fault = _fault_of(status, parser.get_http_version(), fields)
        if self._fault:
            raise BrokenAnswerError(self._fault)  # this stops the parser, and `_parse` gets the parser's error
        self._interim = status in _INTERIM
        if not self._interim:
            self._take_head(status, fields, keeps=parser.should_keep_alive())

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        if not self.whole:
            self.body += data

    def on_message_complete(self) -> None:
        """Record the end of the final answer."""
        self.whole = self.status != 0

    def _take_head(self, status: int, fields: list[tuple[bytes, bytes]], *, keeps: bool) -> None:
        self.status = status
        self.retry_after = [value.decode("latin-1") for name, value in fields if name == b"retry-after"]
        self.date = next((value.decode("latin-1") for name, value in fields if name == b"date"), "")
        self.content_type = next((value.decode("latin-1") for name, value in fields if name == b"content-type"), "")
        self.encoded = any(value.lower() != _PLAIN[name] for name, value in fields if name in _PLAIN)
        self._framed = any(name in {_LENGTH, _CODING} for name, _ in fields)
        self._keeps = keeps and not (status in _BODILESS and _has_body(fields))


def _fault_of(status: int, version: str, fields: Iterable[tuple[bytes, bytes]]) -> str:
    if version not in _VERSIONS:
        return f"its version of HTTP is {version}"
    codings = b",".join(value for name, value in fields if name == _CODING).lower()
    if codings and version == "1.0":
        return "it has a Transfer-Encoding, which HTTP/1.0 does not know"
    if codings.count(b"chunked") > 1:
        return "it is chunked twice"
    if status == _SWITCHING_PROTOCOLS:
        return "it switches protocols (HTTP 101), which nobody asked for"
    return "" if status in _INTERIM or status in _FINAL else f"HTTP {status} is not a status"


def _has_body(fields: list[tuple[bytes, bytes]]) -> bool:
    """Return whether a header announces a body that is not empty."""
    return any(name == _CODING or (name == _LENGTH and value.strip(b" \t0") != b"") for name, value in fields)
