"""The messages of HTTP/1.1: the request for an event, and its answer, fed as it arrives.

llhttp parses heads and chunks; this module checks what llhttp lets pass. Interim answers (1xx) are read and skipped. An
answer that is not exactly what HTTP/1.1 allows is rejected, because it could be understood in two ways.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from rlm import __version__
from rlm.core.errors import RLMError

#: How many bytes of an answer are read so that its connection can be reused; a longer answer is cut.
MAX_ANSWER_BYTES = 262_144
#: Within how many bytes the final answer's header must end, including interim answers.
MAX_HEAD_BYTES = 65_536

_HEAD_END = b"\r\n\r\n"
_SWITCHING_PROTOCOLS = 101
_encode = msgspec.json.Encoder().encode


class Request(msgspec.Struct, frozen=True):
    """The request for an event, as its body has it. `attempt` counts from 1 over all runs; `item` is as it came."""

    event_id: str
    event_type: str
    wallet_name: str
    run_id: str
    attempt: int
    item: msgspec.Raw


def head_of(url: str, headers: Mapping[str, str]) -> bytes:
    """Return the part of the header that is the same in each call; raise a ValueError if a header is not HTTP."""
    parts = urlsplit(url)
    fields = {"Host": parts.netloc.rpartition("@")[2], **headers}
    fields |= {"Content-Type": "application/json", "User-Agent": f"rlm/{__version__}"}
    if "accept-encoding" not in map(str.lower, headers):
        fields["Accept-Encoding"] = "identity"  # people may read the answer
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if {"\r", "\n", "\0"} & {*"".join(lines)}:  # the settings allow none; this is the last check
        raise ValueError("a header holds a line break or a NUL")
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def render(head: bytes, request: Request) -> bytes:
    """Return the request with a head of `head_of`; raise a ValueError if the event cannot be sent."""
    msgspec.json.decode(request.item)  # the ledger may have been damaged
    body, key = _encode(request), request.event_id
    if not key.isprintable():
        raise ValueError("its id cannot be a header")
    return b"%bContent-Length: %d\r\nIdempotency-Key: %b\r\n\r\n%b" % (head, len(body), key.encode("ascii"), body)


class BrokenAnswerError(RLMError):
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
        self._unread = b""
        #: The fields of the final header; names in lower case.
        self._fields: list[tuple[str, str]] = []
        #: Reads the chunks of its body; other bodies are counted by their length.
        self._parser: HttpResponseParser | None = None
        self._length = sys.maxsize

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
        """Return all values of a header field of the final answer; `name` is in lower case."""
        return [value for field, value in self._fields if field == name]

    def feed(self, data: bytes) -> None:
        """Process received data; empty data means that the connection ended.

        Each header is parsed as a whole by a parser of its own, so an interim answer has no body whatever it announces.

        Raises:
            BrokenAnswerError: this is not an HTTP/1.1 answer.
            ConnectionError: the connection ended before the answer did.
        """
        self._received += len(data)
        if not data:
            if not self.status or self._parser or self._length < sys.maxsize:
                raise ConnectionError(
                    f"the endpoint closed it {'within its answer' if self._received else 'unanswered'}"
                )
            self.whole = True
        while data and not self.status:
            head, end, data = (self._unread + data).partition(_HEAD_END)
            if not head.startswith(b"HTTP/1."[: len(head)]):
                raise BrokenAnswerError("it is not HTTP/1.1")
            self._unread = b"" if end else head
            if end:
                self._take_head(head + end)
        if self._parser and not self.whole:
            # The last byte is parsed by itself: if the answer is complete without it, unasked data follows.
            for part in filter(None, (data[:-1], data[-1:])):
                if self.whole:
                    self.surplus = True
                else:
                    self._parse(self._parser, part)
        elif data:
            missing = 0 if self.whole else self._length - len(self.body)
            self.body += data[:missing]
            self.whole, self.surplus = len(data) >= missing, len(data) > missing

    def _take_head(self, head: bytes) -> None:
        self._fields.clear()
        self._parser = parser = HttpResponseParser(self)
        self._parse(parser, head)
        self._parser = None
        status, version = parser.get_status_code(), parser.get_http_version()
        codings, lengths = self.values("transfer-encoding"), self.values("content-length")
        if version not in {"1.0", "1.1"} or (codings and version == "1.0"):
            raise BrokenAnswerError("its version of HTTP is another, or does not know its Transfer-Encoding")
        if ",".join(codings).lower().count("chunked") > 1:
            raise BrokenAnswerError("it is chunked twice")
        if status not in range(100, 600) or status == _SWITCHING_PROTOCOLS:
            raise BrokenAnswerError(f"HTTP {status} is no answer")
        if status in range(100, 200):
            self.whole = False
            return
        self.status = status
        if codings:
            self._parser = parser
        elif lengths:
            self._length = int(lengths[0])
        # An answer without a body that announces one may be followed by it.
        self._keeps &= not (status in {204, 304} and (codings or self._length not in {0, sys.maxsize}))

    def _parse(self, parser: HttpResponseParser, part: bytes) -> None:
        try:
            parser.feed_data(part)
        except HttpParserUpgrade:
            raise BrokenAnswerError("it switches protocols, which nobody asked for") from None
        except HttpParserError as error:
            if not self.whole:
                raise BrokenAnswerError(f"it is not HTTP/1.1 ({error})") from None
            self.surplus = True

    # -- what the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field of the header, none of what follows a body in chunks."""
        if not self.status:
            self._fields.append((name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")))

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
