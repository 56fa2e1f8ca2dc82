"""A hostile server's plan for one request, and what a correct client may make of it."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from dataclasses import dataclass

# (status, Retry-After) -> weight
OUTCOMES = {
    (200, None): 66,
    (201, None): 4,
    (204, None): 5,
    (422, None): 5,
    (400, None): 3,
    (500, None): 4,
    (503, None): 3,
    (503, "0"): 2,
    (408, None): 2,
    (429, "0"): 4,
    (429, None): 1,
    (429, "Thu, 01 Jan 1998 00:00:00 GMT"): 1,
}
SAME_SEGMENT = float("inf")  # gap of unsolicited bytes that came together with an earlier answer: always visible


def word_for(status: int, retry_after: str | None) -> str:
    """Return what a client must record for a complete, well-formed final answer."""
    if 200 <= status < 300:
        return "delivered"
    if status == 429 or (status == 503 and retry_after is not None):
        return "throttled"
    return "retry" if status in (408, 425) or status >= 500 or status < 200 else "rejected"


@dataclass
class Call:
    """One request that the server read, and its reaction."""

    event_id: str | None
    attempt: int | None
    path: str
    connection: int
    arrived_at: float  # monotonic, when its first byte was seen
    trick: str = ""
    decision: int | None = None  # None where no full, well-formed answer was sent
    complete: bool = False  # all of it on the wire before half the time-out was over
    acceptable: frozenset[str] = frozenset({"retry"})
    meant: int | None = None  # the status in the bytes, also where they were cut or malformed
    poisoned_by: str = ""  # the trick that left unsolicited bytes on this connection before this call
    gap: float = SAME_SEGMENT  # seconds those bytes were there before this request was seen; 0.0: none at all
    note: str = ""


@dataclass
class Ask:
    """A request for the tricks: the random source, and the decision about it."""

    rng: random.Random
    event_id: str | None
    status: int
    retry_after: str | None
    timeout: float
    unsolicited: bool = False

    @property
    def word(self) -> str:
        return word_for(self.status, self.retry_after)

    def body(self) -> bytes:
        said = {"event_id": self.event_id, "decision": self.status, "unsolicited": self.unsolicited}
        return json.dumps(said).encode()

    def head(self, *lines: str, first: str | None = None) -> bytes:
        """Status line and header block; `first` replaces the status line, `lines` come first among the headers."""
        known = [first or f"HTTP/1.1 {self.status} Said", *lines, "Content-Type: application/json"]
        if self.retry_after is not None:
            known.append(f"Retry-After: {self.retry_after}")
        return ("\r\n".join(known) + "\r\n\r\n").encode("latin-1")

    def answer(self, *lines: str, first: str | None = None) -> bytes:
        """The proper answer with its Content-Length (204 has neither length nor body)."""
        if self.status == 204:
            return self.head(*lines, first=first)
        return self.head(*lines, f"Content-Length: {len(self.body())}", first=first) + self.body()

    def chunked(self, tail: bytes = b"0\r\n\r\n", size: str | None = None, *lines: str) -> bytes:
        """The answer in two chunks; `size` replaces the second chunk's size line."""
        whole = self.body()
        one, two = whole[:9], whole[9:]
        second = (f"{len(two):x}" if size is None else size).encode()
        return (
            self.head("Transfer-Encoding: chunked", *lines)
            + b"9\r\n"
            + one
            + b"\r\n"
            + second
            + b"\r\n"
            + two
            + b"\r\n"
            + tail
        )

    def opposite(self) -> Ask:
        """Return an unsolicited answer with the opposite meaning."""
        status = 200 if self.word != "delivered" else self.rng.choice((422, 422, 400, 429))
        return dataclasses.replace(self, status=status, retry_after=None, unsolicited=True)

    def between(self, low_ms: float, high_ms: float) -> float:
        """Return a pause in seconds, at most 0.3 of the client's time-out."""
        return min(self.rng.uniform(low_ms, high_ms) / 1000, 0.3 * self.timeout)


@dataclass
class Plan:
    """The bytes to send for one request, and what a correct client may make of them."""

    pieces: list[tuple[float, bytes]]  # pause, then write
    allowed: set[str]
    whole: bool = True  # a full and well-formed answer
    then: str = "keep"  # keep, fin, rst, or doom: cut the connection at the next request
    pause: float = 0.0  # before `then`
    endless: Callable[[int], bytes] | None = None  # written again and again until the client leaves
    silent: bool = False  # write nothing and wait until the client leaves
    stale_word: str = ""  # set: unsolicited bytes with this meaning are in the last piece
    later: bytes = b""  # set: they are these, written after `pause`
    polite: bool = False  # write `later` only if the next request has not come by then
    note: str = ""
