"""A loopback HTTP/1.1 server that misbehaves on purpose and remembers what it decided.

    with HostileApi(seed=7, timeout_seconds=1.0) as api:
        ...let the client POST its events to api.url("/x"), its own time-out being 1.0 s...
    for line in misjudged(api.calls, recorded):     # recorded: (event_id, attempt) -> word
        print(line)

The words are "delivered", "rejected", "throttled" and "retry" (no answer, or one that asks for another try).
Judge after the `with` block: only then is every Call final.

What is drawn depends on the seed, the event and which call for that event it is, never on thread timing. The
exception is a call on a connection that carries unsolicited bytes (`poisoned_by`): it is answered plainly, and its
decision is drawn so that it differs from what those bytes say, or the mistake could not be seen.
"""

from __future__ import annotations

import dataclasses
import json
import random
import re
import select
import socket
import struct
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Callable, Iterable, Mapping, Sequence

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
EARLY_FRESH_SHARE = 0.05  # share of new connections that are greeted with an unsolicited answer
SAME_SEGMENT = float("inf")  # gap of unsolicited bytes that came together with an earlier answer: always visible


def word_for(status: int, retry_after: str | None) -> str:
    """What a client has to record for a complete, well-formed final answer."""
    if 200 <= status < 300:
        return "delivered"
    if status == 429 or (status == 503 and retry_after is not None):
        return "throttled"
    return "retry" if status in (408, 425) or status >= 500 or status < 200 else "rejected"


@dataclass
class Call:
    """One request that the server read, and what it did about it."""

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
    """A request as the tricks see it: the dice, and the decision taken for it."""

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
        return json.dumps(
            {"event_id": self.event_id, "decision": self.status, "unsolicited": self.unsolicited}
        ).encode()

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
        """An unsolicited answer that says the contrary."""
        status = 200 if self.word != "delivered" else self.rng.choice((422, 422, 400, 429))
        return dataclasses.replace(self, status=status, retry_after=None, unsolicited=True)

    def between(self, low_ms: float, high_ms: float) -> float:
        """A pause in seconds, never more than 0.3 of the client's time-out."""
        return min(self.rng.uniform(low_ms, high_ms) / 1000, 0.3 * self.timeout)


@dataclass
class Plan:
    """What goes over the wire for one request, and what a correct client may make of it."""

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


TRICKS: dict[str, tuple[Callable[[Ask], Plan], float]] = {}


def trick(weight: float = 1.0, bodied: bool = True):
    """Register a trick under its function's name; `bodied` ones turn a 204 into a 200."""

    def register(make: Callable[[Ask], Plan]):
        def checked(ask: Ask) -> Plan:
            if bodied and ask.status == 204:
                ask.status = 200
            return make(ask)

        TRICKS[make.__name__] = (checked, weight)
        return make

    return register


def proper(ask: Ask, data: bytes | None = None, **more) -> Plan:
    """A complete, well-formed answer: nothing but its own word will do."""
    return Plan([(0.0, ask.answer() if data is None else data)], {ask.word}, **more)


def broken(ask: Ask, data: bytes, readable: bool, **more) -> Plan:
    """A malformed or cut answer: no answer, or (if the head can be read) also its status; then the end."""
    allowed = {"retry", ask.word} if readable else {"retry"}
    return Plan([(0.0, data)], allowed, whole=False, **{"then": "fin", "pause": ask.between(0, 20), **more})


def poisoning(ask: Ask, data: bytes, **more) -> Plan:
    """A proper answer with, in the same segment, a false second answer or mere junk."""
    false = ask.opposite()
    junk, word = ask.rng.choice(
        [(false.answer(), false.word)] * 2 + [(b"\r\n", "retry"), (b"\0\0junk", "retry"), (b"HTTP/1.1 20", "retry")]
    )
    return proper(ask, data + junk, stale_word=word, **more)


def informal(ask: Ask, *lines: str) -> bytes:
    """One 1xx head."""
    first = ask.rng.choice(("102 Processing", "103 Early Hints", "100 Continue", "199 Whatever"))
    return "\r\n".join([f"HTTP/1.1 {first}", *lines, "", ""]).encode()


@trick(12, bodied=False)
def plain(ask):
    return proper(ask)


@trick(bodied=False)
def continue_100(ask):
    return proper(ask, b"HTTP/1.1 100 Continue\r\n\r\n" + ask.answer())


@trick(bodied=False)
def many_1xx(ask):
    return proper(ask, b"".join(informal(ask) for _ in range(ask.rng.randint(3, 8))) + ask.answer())


@trick(bodied=False)
def delayed(ask):
    return Plan([(ask.between(0, 400), ask.answer())], {ask.word})


@trick(bodied=False)
def before_body(ask):
    return proper(ask)  # the server answers before it reads the body, see _one


@trick()
def closed(ask):
    return broken(ask, b"", False, pause=0.0)


@trick(0.25)
def missing(ask):
    return broken(ask, b"", False, silent=True)


@trick()
def left_over(ask):
    return poisoning(ask, ask.answer())


@trick()
def chunk_extra(ask):
    return poisoning(ask, ask.chunked())


@trick()
def chunked_trailers(ask):
    return proper(ask, ask.chunked(b"0\r\nX-Sum: 1\r\nStatus: 422\r\n\r\n"))


@trick()
def no_length_close(ask):
    return proper(ask, ask.head() + ask.body(), then="fin", pause=ask.between(0, 20))


@trick(bodied=False)
def keepalive_race(ask):
    return proper(ask, then="doom")


@trick(bodied=False)
def idle_close(ask):
    return proper(ask, then="fin", pause=ask.between(0, 50))


@trick(bodied=False)
def hints_delayed(ask):
    return Plan(
        [(0.0, informal(ask, "Link: </a>; rel=preload", "X-Step: 1")), (ask.between(0, 150), ask.answer())], {ask.word}
    )


@trick(0.5, bodied=False)
def hints_with_length(ask):
    """A 1xx ends with its empty line, whatever length it claims."""
    return proper(ask, informal(ask, "Content-Length: 40") + ask.answer())


@trick(bodied=False)
def bytewise_1xx(ask):
    return Plan([(0.0, bytes([b])) for b in informal(ask, "X-Step: 1")] + [(0.0, ask.answer())], {ask.word})


@trick(bodied=False)
def split_once(ask):
    data = ask.answer()
    at = ask.rng.randrange(1, len(data))
    return Plan([(0.0, data[:at]), (ask.between(1, 20), data[at:])], {ask.word}, note=f"split at {at}")


@trick(bodied=False)
def split_bytes(ask):
    return Plan([(0.001 if ask.rng.random() < 0.05 else 0.0, bytes([b])) for b in ask.answer()], {ask.word})


@trick(bodied=False)
def split_random(ask):
    data = ask.answer()
    cuts = sorted(ask.rng.sample(range(1, len(data)), 5))
    return Plan([(ask.between(0, 10), data[a:b]) for a, b in zip([0, *cuts], [*cuts, len(data)])], {ask.word})


@trick(2, bodied=False)
def doubled(ask):
    false = ask.opposite()
    return proper(ask, ask.answer() + false.answer(), stale_word=false.word)


@trick(2, bodied=False)
def doubled_late(ask):
    false = ask.opposite()
    return proper(ask, stale_word=false.word, later=false.answer(), pause=ask.between(5, 50))


@trick(2, bodied=False)
def early_idle(ask):
    """An unsolicited answer while the connection lies idle, that is, only if no request has come by then."""
    false = ask.opposite()
    return proper(ask, stale_word=false.word, later=false.answer(), pause=ask.between(0, 100), polite=True)


@trick(2)
def cut(ask):
    data = ask.answer()
    at = ask.rng.randrange(len(data))
    return broken(ask, data[:at], b"\r\n\r\n" in data[:at], note=f"cut after {at} of {len(data)}")


@trick()
def rst(ask):
    """A reset may also destroy what the client has not read yet, so a whole answer may be lost too."""
    data = ask.answer()
    at = ask.rng.randrange(len(data) + 1)
    plan = broken(
        ask, data[:at], b"\r\n\r\n" in data[:at], then="rst", pause=ask.between(0, 5), note=f"reset after {at}"
    )
    return dataclasses.replace(plan, whole=at == len(data))


@trick(0.25, bodied=False)
def too_late(ask):
    return Plan([(1.3 * ask.timeout, ask.answer())], {ask.word, "retry"}, then="fin")


@trick()
def length_too_big(ask):
    return broken(ask, ask.head(f"Content-Length: {len(ask.body()) + ask.rng.randint(1, 99)}") + ask.body(), True)


@trick()
def length_too_small(ask):
    """What the length covers is the answer; the rest is poison (at times a false answer)."""
    size = ask.rng.randrange(len(ask.body()))
    return poisoning(ask, ask.head(f"Content-Length: {size}") + ask.body()[:size])


@trick()
def length_and_chunked(ask):
    return broken(ask, ask.chunked(b"0\r\n\r\n", None, f"Content-Length: {ask.rng.randint(0, 60)}"), True)


@trick()
def two_lengths(ask):
    size = len(ask.body())
    pair = [f"Content-Length: {size}", f"Content-Length: {ask.rng.choice((0, 5, size + 7))}"]
    ask.rng.shuffle(pair)
    return broken(ask, ask.head(*pair) + ask.body(), False)


@trick()
def bad_length(ask):
    value = ask.rng.choice(("abc", "-1", "+70", "0x46", "7 0", "1e2"))
    return broken(ask, ask.head(f"Content-Length: {value}") + ask.body(), False, note=value)


@trick()
def chunk_size_broken(ask):
    size = ask.rng.choice(("zz", "-5", "", "0x20", "5 5", "F" * 40, "3"))
    return broken(ask, ask.chunked(size=size), True, note=repr(size))


@trick()
def chunk_cut(ask):
    head, data = len(ask.head("Transfer-Encoding: chunked")), ask.chunked()
    return broken(ask, data[: ask.rng.randrange(head, len(data))], True)


@trick()
def http10(ask):
    lines = [f"Content-Length: {len(ask.body())}"] if ask.rng.random() < 0.5 else []
    data = ask.head(*lines, first=f"HTTP/1.0 {ask.status} Old") + ask.body()
    return proper(ask, data, then="fin", pause=ask.between(0, 50))


@trick(bodied=False)
def close_listed_junk(ask):
    value = ask.rng.choice(("Keep-Alive, Close", "cLoSe", "keep-alive ,\tCLOSE", "x,close,y"))
    return poisoning(ask, ask.answer(f"Connection: {value}"), then=ask.rng.choice(("keep", "fin")), note=value)


@trick()
def body_on_204(ask):
    """A 204 ends with its head, so the body after it is poison."""
    ask.status, ask.retry_after = 204, None
    extra = ask.rng.choice(([f"Content-Length: {len(ask.body())}"], []))
    return proper(ask, ask.head(*extra) + ask.body(), stale_word="retry")


@trick()
def bodiless(ask):
    """Answers that have no body whatever their headers say (204, 304), or a body of no bytes."""
    status, lines = ask.rng.choice(
        (
            (304, ("Content-Length: 90",)),
            (304, ()),
            (204, ("Transfer-Encoding: chunked",)),
            (205, ("Content-Length: 0",)),
            (200, ("Content-Length: 0",)),
        )
    )
    ask.status, ask.retry_after = status, None
    return proper(ask, ask.head(*lines), note=f"{status} {lines}")


@trick()
def switching_101(ask):
    data = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"
    return broken(ask, data + ask.rng.choice((ask.answer(), b"\x81\x05hello")), False)


@trick(bodied=False)
def no_reason(ask):
    return proper(ask, ask.answer(first=f"HTTP/1.1 {ask.status} "))


@trick()
def loose_status(ask):
    line = ask.rng.choice(
        (
            "HTTP/1.1 {}",
            "HTTP/1.1  {} Two",
            "http/1.1 {} low",
            "HTTP/2.0 {} Two",
            "HTTP/1.1\t{} Tab",
            "HTTP/1.1 {} \x01\xff\xfe",
        )
    ).format(ask.status)
    return broken(ask, ask.answer(first=line), True, note=repr(line))


@trick(1.5)
def bad_status(ask):
    line = ask.rng.choice(
        (
            "HTTP/1.1 0 Zero",
            "HTTP/1.1 99 Low",
            "HTTP/1.1 1000 High",
            "HTTP/1.1 600 Six",
            "\0\0\0\0",
            "HTTP/1.1 -200 Minus",
            "HTTP/1.1 2OO OK",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "ICY 200 OK",
            "HTTP/1.1 OK",
            "200 OK",
            "garbage",
            "HTTP/1.1",
            "HTTP/1.1 +200 OK",
            "HTTP/x 200 OK",
        )
    )
    return broken(ask, ask.answer(first=line), False, note=repr(line))


@trick(1.5)
def loose_header(ask):
    line = ask.rng.choice(
        (
            "no colon at all",
            " Leading: space",
            "X-A: 1\r\n folded: 2",
            "X-Nul: a\0b",
            ": no name",
            "X-Bare: a\nContent-Language: de",
            "X Space: 1",
            "X-Cr: a\rb",
            "X-Before : 1",
        )
    )
    return broken(ask, ask.answer(line), True, note=repr(line))


@trick(0.5)
def big_headers(ask):
    """Well-formed, but a client may refuse so much."""
    lines = ask.rng.choice((["X-Big: " + "a" * 65536], [f"X-{n}: {n}" for n in range(5000)]))
    return Plan([(0.0, ask.answer(*lines))], {ask.word, "retry"})


@trick(0.25)
def endless_1xx(ask):
    return broken(ask, b"", False, endless=lambda n: b"HTTP/1.1 102 Processing\r\n\r\n")


@trick(0.25)
def endless_header(ask):
    return broken(ask, ask.head()[:-2], False, endless=lambda n: f"X-{n}: more\r\n".encode())


@trick(0.25)
def endless_body(ask):
    return broken(ask, ask.head("Transfer-Encoding: chunked"), True, endless=lambda n: b"40\r\n" + b" " * 64 + b"\r\n")


ALL_TRICKS: tuple[str, ...] = (*TRICKS, "early_fresh")  # early_fresh belongs to connections, see _greet


class Gone(Exception):
    """The client closed the connection."""


@dataclass
class Wire:
    """One accepted connection."""

    sock: socket.socket
    number: int
    buffer: bytes = b""
    stale_word: str = ""  # what the unsolicited bytes on it would be read as; "" where there are none
    stale_by: str = ""
    stale_at: float | None = None  # None: together with an answer
    raced: bool = False  # the next request was there before the unsolicited bytes were
    doomed: bool = False

    def readable(self, seconds: float = 0.0) -> bool:
        return bool(self.buffer) or bool(select.select([self.sock], [], [], max(0.0, seconds))[0])

    def fill(self, seconds: float) -> None:
        data = self.sock.recv(65536) if select.select([self.sock], [], [], seconds)[0] else b""
        if not data:
            raise Gone
        self.buffer += data

    def until(self, mark: bytes, seconds: float) -> bytes:
        while mark not in self.buffer:
            self.fill(seconds)
        part, _, self.buffer = self.buffer.partition(mark)
        return part

    def exactly(self, size: int, seconds: float) -> bytes:
        while len(self.buffer) < size:
            self.fill(seconds)
        part, self.buffer = self.buffer[:size], self.buffer[size:]
        return part

    def poison(self, word: str, by: str, apart: bool) -> None:
        """Remember that unsolicited bytes are out; `apart`: they were written on their own, just now."""
        self.stale_word, self.stale_by = word, by
        self.stale_at, self.raced = (time.monotonic(), self.readable()) if apart else (None, False)

    def end(self, reset: bool) -> None:
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        raise Gone


class HostileApi:
    """The server; a context manager. `calls` lists every request read, in order of arrival."""

    def __init__(self, seed: int, timeout_seconds: float, tricks: Sequence[str] = ALL_TRICKS):
        if unknown := set(tricks) - set(ALL_TRICKS):
            raise ValueError(f"unknown tricks: {sorted(unknown)}")
        self.seed, self.timeout, self.tricks = seed, timeout_seconds, tuple(tricks)
        self.calls: list[Call] = []
        self.faults: list[str] = []  # errors of this server itself: must stay empty
        self._names = [name for name in self.tricks if name in TRICKS] or ["plain"]
        self._seen: Counter = Counter()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads: list[threading.Thread] = []
        self._socks: set[socket.socket] = set()

    def __enter__(self) -> HostileApi:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listener.settimeout(0.1)
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let answers under way finish, then close everything."""
        self._stop.set()
        self._acceptor.join()
        self._listener.close()
        for sock in list(self._socks):
            try:
                sock.shutdown(socket.SHUT_RD)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(3 * self.timeout)

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/{path.lstrip('/')}"

    def decisions(self, event_id: str) -> list[Call]:
        with self._lock:
            return [call for call in self.calls if call.event_id == event_id]

    def _accept(self) -> None:
        number = 0
        while not self._stop.is_set():
            try:
                sock, _ = self._listener.accept()
            except TimeoutError:
                continue
            number += 1
            sock.setblocking(True)
            sock.settimeout(2 * self.timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socks.add(sock)
            thread = threading.Thread(target=self._serve, args=(Wire(sock, number),), daemon=True)
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]
            thread.start()

    def _serve(self, wire: Wire) -> None:
        try:
            self._greet(wire)
            while not self._stop.is_set():
                self._one(wire)
        except (Gone, OSError):
            pass
        except Exception as error:  # a fault of this server must be seen, not be taken for a trick
            self.faults.append(f"connection {wire.number}: {error!r}")
        finally:
            wire.sock.close()
            self._socks.discard(wire.sock)

    def _greet(self, wire: Wire) -> None:
        """early_fresh: an unsolicited answer on some new connections."""
        rng = random.Random(f"{self.seed}/connection/{wire.number}")
        if "early_fresh" in self.tricks and rng.random() < EARLY_FRESH_SHARE:
            ask = Ask(rng, None, rng.choice((200, 200, 422)), None, self.timeout, unsolicited=True)
            wire.sock.sendall(ask.answer())
            wire.poison(ask.word, "early_fresh", apart=True)

    def _one(self, wire: Wire) -> None:
        """Read one request, decide, act, keep the record."""
        while not wire.readable(0.2):
            if self._stop.is_set():
                raise Gone
        arrived = time.monotonic()
        head = wire.until(b"\r\n\r\n", 2 * self.timeout).decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
        call = Call(headers.get("idempotency-key"), None, (first.split() + ["", ""])[1], wire.number, arrived)
        if "idempotency-key" not in headers:
            self._body(wire, call, headers)
        name, plan, ask = self._draw(wire, call)
        with self._lock:
            self.calls.append(call)
        if name != "before_body":
            self._body(wire, call, headers)
        if wire.doomed:
            call.trick, call.note = "keepalive_race", "victim"
            wire.end(reset=ask.rng.random() < 0.5)
        self._settle(wire, call, name, plan, ask)
        self._act(wire, call, plan)
        if name == "before_body":
            self._body(wire, call, headers)
        self._after(wire, call, plan, ask)

    def _draw(self, wire: Wire, call: Call) -> tuple[str, Plan, Ask]:
        """The decision and the trick for this call."""
        with self._lock:
            self._seen[call.event_id] += 1
            nth = self._seen[call.event_id]
        rng = random.Random(f"{self.seed}/{call.event_id}/{nth}")
        name = rng.choices(self._names, [TRICKS[n][1] for n in self._names])[0]
        name = "plain" if wire.stale_word else name
        while True:
            status, retry_after = rng.choices(list(OUTCOMES), list(OUTCOMES.values()))[0]
            ask = Ask(rng, call.event_id, status, retry_after, self.timeout)
            if ask.word != wire.stale_word:
                return name, TRICKS[name][0](ask), ask

    def _body(self, wire: Wire, call: Call, headers: Mapping[str, str]) -> None:
        """Read the request's body (once) and complete the call from it."""
        if call.attempt is not None or "bad body" in call.note:
            return
        if headers.get("expect"):
            wire.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            sent = json.loads(self._raw_body(wire, headers))
            event_id, call.attempt = sent["event_id"], sent["attempt"]
        except (ValueError, KeyError, TypeError) as error:
            call.note += f" bad body: {error!r}"
            return
        if event_id != headers.get("idempotency-key"):
            call.note += f" body names {event_id!r}, Idempotency-Key {headers.get('idempotency-key')!r}"
            call.event_id = call.event_id or event_id

    def _raw_body(self, wire: Wire, headers: Mapping[str, str]) -> bytes:
        limit, whole = 2 * self.timeout, b""
        if "chunked" not in headers.get("transfer-encoding", "").lower():
            return wire.exactly(int(headers.get("content-length", 0)), limit)
        while size := int(wire.until(b"\r\n", limit).partition(b";")[0], 16):
            whole += wire.exactly(size + 2, limit)[:-2]
        while wire.until(b"\r\n", limit):
            pass
        return whole

    def _settle(self, wire: Wire, call: Call, name: str, plan: Plan, ask: Ask) -> None:
        """Write down, before a byte goes out, what is meant and what may be made of it."""
        call.trick, call.meant, call.note = name, ask.status, f"{plan.note}{call.note}"
        call.decision = ask.status if plan.whole else None
        call.acceptable = frozenset(plan.allowed)
        if wire.stale_word:
            call.poisoned_by, call.acceptable = wire.stale_by, frozenset(plan.allowed | {"retry"})
            if wire.stale_at is not None:
                call.gap = 0.0 if wire.raced else call.arrived_at - wire.stale_at

    def _act(self, wire: Wire, call: Call, plan: Plan) -> None:
        """Put the answer on the wire; an answer that came late may also be given up."""
        try:
            for pause, data in plan.pieces:
                if pause:
                    time.sleep(pause)
                wire.sock.sendall(data)
            self._drag(wire, call, plan)
        except OSError:
            call.note += f" client left after {time.monotonic() - call.arrived_at:.3f} s"
            self._late(call)
            raise Gone from None
        call.complete = plan.whole
        self._late(call)

    def _late(self, call: Call) -> None:
        if time.monotonic() - call.arrived_at > 0.5 * self.timeout:
            call.complete, call.acceptable = False, call.acceptable | {"retry"}

    def _drag(self, wire: Wire, call: Call, plan: Plan) -> None:
        """The endless and the silent: until the client leaves, or twice its time-out is over."""
        count, end = 0, call.arrived_at + 2 * self.timeout
        while plan.endless or plan.silent:
            if wire.readable(0.005) or time.monotonic() > end:
                call.note += "" if time.monotonic() <= end else " client was still there after twice its time-out"
                return
            if plan.endless:
                wire.sock.sendall(plan.endless(count))
                count += 1

    def _after(self, wire: Wire, call: Call, plan: Plan, ask: Ask) -> None:
        """What happens to the connection once the answer is out.

        A poisoned one is kept: were it closed, a request racing with the close could be answered by the unsolicited
        bytes without ever having been read, and no record could tell that from a lie.
        """
        if wire.stale_word:  # a client that took the stale bytes for this answer has this answer before it now
            return wire.poison(ask.word, wire.stale_by, apart=True)
        if plan.polite and wire.readable(plan.pause):
            return None
        if plan.pause and not plan.polite:
            time.sleep(plan.pause)
        if plan.later:
            wire.sock.sendall(plan.later)
        if plan.stale_word:
            wire.poison(plan.stale_word, call.trick, apart=bool(plan.later))
        wire.doomed = plan.then == "doom"
        return wire.end(reset=plan.then == "rst") if plan.then in ("fin", "rst") else None


def _told(call: Call) -> str:
    """The server's side of one call, for a human."""
    stale = f" on a connection poisoned by {call.poisoned_by}, gap {call.gap * 1000:.1f} ms" if call.poisoned_by else ""
    return (
        f"{call.event_id} attempt {call.attempt} ({call.trick}{stale}, connection {call.connection}): decided "
        f"{call.decision}, wrote {call.meant}, complete {call.complete}, may be {'/'.join(sorted(call.acceptable))}"
        + (f" [{call.note.strip()}]" if call.note else "")
    )


def misjudged(
    calls: Iterable[Call], recorded: Mapping[tuple[str, int], str | Sequence[str]], race_seconds: float = 0.02
) -> list[str]:
    """One line for each call whose recorded word is not acceptable, or that is missing, or that never was.

    A throttled call is sent again under the same attempt. So for several calls of one key `recorded` may give a
    list of as many words; with a single word that is the last call's, and each call before it must be one that may
    be sent again. No client can tell unsolicited bytes that reach it while its request is on the way from an answer:
    calls misjudged by bytes that were there no more than `race_seconds` before the request was seen are left out
    (0.0: only where the request was there first; -1: none is left out).
    """
    groups: dict[tuple, list[Call]] = defaultdict(list)
    for call in calls:
        if call.attempt is not None:
            groups[call.event_id, call.attempt].append(call)
    lines = [
        f"{key}: recorded {said}, but the server never read such a call"
        for key, said in recorded.items()
        if key not in groups and said not in ("retry", ["retry"])
    ]
    for key, group in groups.items():
        said = recorded.get(key, "nothing")
        words = [said] if isinstance(said, str) else list(said)
        if len(words) != len(group):
            words = ["sent-again"] * (len(group) - 1) + words[-1:]
        for call, word in zip(group, words):
            fits = call.acceptable & {"retry", "throttled"} if word == "sent-again" else word in call.acceptable
            if not fits and not (call.poisoned_by and call.gap <= race_seconds):
                lines.append(f"recorded {word}: {_told(call)}")
    return lines


def reused(calls: Iterable[Call], race_seconds: float = 0.02) -> list[str]:
    """One line for each call on a connection that the client could have known to carry unsolicited bytes."""
    return [_told(call) for call in calls if call.poisoned_by and call.gap > race_seconds]


def _naive_client(url: str, events: Iterable[str], timeout: float, recorded: dict, budget: list) -> None:
    """Self-check: http.client, one kept connection, believes what it reads."""
    import http.client

    host, path = url.split("/")[2], "/" + url.split("/", 3)[3]
    link = http.client.HTTPConnection(host, timeout=timeout)
    for event in events:
        for attempt in range(1, 5):
            if not budget:
                return
            budget.pop()
            try:
                body = json.dumps({"event_id": event, "attempt": attempt})
                link.request("POST", path, body, {"Idempotency-Key": event, "Content-Type": "application/json"})
                reply = link.getresponse()
                reply.read()
                word = word_for(reply.status, reply.getheader("Retry-After"))
            except (OSError, http.client.HTTPException, ValueError, OverflowError):  # the last: a huge chunk size
                link.close()
                word = "retry"
            recorded[event, attempt] = word
            if word in ("delivered", "rejected"):
                break


def _self_check(count: int = 2000, threads: int = 6, timeout: float = 0.6) -> None:
    recorded: dict[tuple[str, int], str] = {}
    budget = [None] * count
    with HostileApi(seed=1, timeout_seconds=timeout) as api:
        workers = [
            threading.Thread(
                target=_naive_client,
                args=(api.url("/events"), [f"event-{k}-{n}" for n in range(count)], timeout, recorded, budget),
            )
            for k in range(threads)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    lines, every = misjudged(api.calls, recorded), misjudged(api.calls, recorded, -1)
    wrong = Counter(re.search(r"poisoned by (\w+)|\((\w+)|never read", line)[0] for line in lines)
    print(*lines[:12], sep="\n")
    print(
        f"{len(recorded)} calls recorded, {len(api.calls)} read; misjudged {len(lines)} ({len(every)} with races); "
        f"poisoned connections reused knowingly {len(reused(api.calls))}; server faults {api.faults}"
    )
    print("by cause:", dict(wrong.most_common()))
    print(
        "tricks never drawn:",
        sorted(set(ALL_TRICKS) - {c.trick for c in api.calls} - {c.poisoned_by for c in api.calls}),
    )
    assert lines and not api.faults, "a naive client must be caught, and the server must not fail"


if __name__ == "__main__":
    _self_check()
