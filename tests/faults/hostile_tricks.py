"""The tricks of a hostile server, by name: the weight of each, and its effect on a request."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence

from tests.faults.hostile_plan import Ask, Plan


def proper(ask: Ask, data: bytes | None = None, **more) -> Plan:
    """Return a complete, well-formed answer: only its own word is acceptable."""
    return Plan([(0.0, ask.answer() if data is None else data)], {ask.word}, **more)


def broken(ask: Ask, data: bytes, readable: bool, **more) -> Plan:
    """Return a malformed or cut answer: acceptable are no answer and, if its head is readable, its status."""
    allowed = {"retry", ask.word} if readable else {"retry"}
    return Plan([(0.0, data)], allowed, whole=False, **{"then": "fin", "pause": ask.between(0, 20), **more})


def poisoning(ask: Ask, data: bytes, **more) -> Plan:
    """Return a proper answer with a false second answer or junk in the same segment."""
    false = ask.opposite()
    junk, word = ask.rng.choice(
        [(false.answer(), false.word)] * 2 + [(b"\r\n", "retry"), (b"\0\0junk", "retry"), (b"HTTP/1.1 20", "retry")]
    )
    return proper(ask, data + junk, stale_word=word, **more)


def informal(ask: Ask, *lines: str) -> bytes:
    """Return one 1xx head."""
    first = ask.rng.choice(("102 Processing", "103 Early Hints", "100 Continue", "199 Whatever"))
    return "\r\n".join([f"HTTP/1.1 {first}", *lines, "", ""]).encode()


def sliced(data: bytes, cuts: Iterable[int], pause: Callable[[], float]) -> list[tuple[float, bytes]]:
    """Return the data in pieces, with a pause before each but the first."""
    edges = [0, *sorted(cuts), len(data)]
    return [(pause() if a else 0.0, data[a:b]) for a, b in itertools.pairwise(edges)]


def cut_at(ask: Ask, data: bytes, low: int, high: int, then: str = "fin") -> Plan:
    """Return only the first bytes, at least `low` and fewer than `high`, then FIN or RST."""
    at = ask.rng.randrange(low, high)
    plan = broken(ask, data[:at], b"\r\n\r\n" in data[:at], then=then, note=f"cut after {at} of {len(data)}")
    return dataclasses.replace(plan, whole=at == len(data))


def odd_line(ask: Ask, lines: Sequence[str], readable: bool, status_line: bool = True) -> Plan:
    """Return an answer with one odd status line or header line."""
    line = ask.rng.choice(lines).replace("{}", str(ask.status))
    return broken(ask, ask.answer(first=line) if status_line else ask.answer(line), readable, note=repr(line))


def falsified(ask: Ask, later: bool, **more) -> Plan:
    """Return a proper answer and an unsolicited opposite one, at once or later."""
    false = ask.opposite()
    tail = false.answer()
    return proper(
        ask, ask.answer() + (b"" if later else tail), stale_word=false.word, later=tail if later else b"", **more
    )


def no_body(ask: Ask, status: int, *lines: str, body: bool = False) -> Plan:
    """Return an answer that ends with its head, whatever its headers say; with `body`, poison follows."""
    ask.status, ask.retry_after = status, None
    data = ask.head(*lines) + (ask.body() if body else b"")
    return proper(ask, data, stale_word="retry" if body else "", note=f"{status} {lines}")


def length_too_small(ask: Ask) -> Plan:
    """Return an answer whose length covers only its beginning; the rest is poison (sometimes a false answer)."""
    size = ask.rng.randrange(len(ask.body()))
    return poisoning(ask, ask.head(f"Content-Length: {size}") + ask.body()[:size])


def two_lengths(ask: Ask) -> Plan:
    """Return two different lengths: RFC 9112 6.3 requires a client to discard such an answer."""
    size = len(ask.body())
    lengths = ask.rng.sample((size, ask.rng.choice((0, 5, size + 7))), 2)
    return broken(ask, ask.head(*(f"Content-Length: {n}" for n in lengths)) + ask.body(), False)


LOOSE_STATUS = (
    "HTTP/1.1 {}",
    "HTTP/1.1  {} Two",
    "http/1.1 {} low",
    "HTTP/2.0 {} Two",
    "HTTP/1.1\t{} Tab",
    "HTTP/1.1 {} \x01\xff\xfe",
)
BAD_STATUS = (
    "HTTP/1.1 0 Zero",
    "HTTP/1.1 99 Low",
    "HTTP/1.1 1000 High",
    "HTTP/1.1 600 Six",
    "\0\0\0\0",
    "garbage",
    "HTTP/1.1 -200 Minus",
    "HTTP/1.1 2OO OK",
    "HTTP/1.1 20 OK",
    "HTTP/1.1 2000 OK",
    "ICY 200 OK",
    "200 OK",
    "HTTP/1.1 OK",
    "HTTP/1.1",
    "HTTP/1.1 +200 OK",
    "HTTP/x 200 OK",
)
LOOSE_HEADER = (
    "no colon at all",
    " Leading: space",
    "X-A: 1\r\n folded: 2",
    "X-Nul: a\0b",
    ": no name",
    "X Space: 1",
    "X-Bare: a\nContent-Language: de",
    "X-Cr: a\rb",
    "X-Before : 1",
)
BAD_LENGTH = ("abc", "-1", "+70", "0x46", "7 0", "1e2")
BAD_CHUNK = ("zz", "-5", "", "0x20", "5 5", "F" * 40, "3")
CLOSE = ("Keep-Alive, Close", "cLoSe", "keep-alive ,\tCLOSE", "x,close,y")
BODILESS = (
    (304, "Content-Length: 90"),
    (304,),
    (204, "Transfer-Encoding: chunked"),
    (205, "Content-Length: 0"),
    (200, "Content-Length: 0"),
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"

# name -> (weight, what to do). First those that leave a 204 a 204.
ANY_STATUS: dict[str, tuple[float, Callable[[Ask], Plan]]] = {
    "plain": (12, proper),
    "before_body": (1, proper),  # sent before the request's body is read, see HostileApi.one
    "delayed": (1, lambda a: Plan([(a.between(0, 400), a.answer())], {a.word})),
    "too_late": (0.25, lambda a: Plan([(1.3 * a.timeout, a.answer())], {a.word, "retry"}, then="fin")),
    "continue_100": (1, lambda a: proper(a, b"HTTP/1.1 100 Continue\r\n\r\n" + a.answer())),
    "many_1xx": (1, lambda a: proper(a, b"".join(informal(a) for _ in range(a.rng.randint(3, 8))) + a.answer())),
    "hints_delayed": (
        1,
        lambda a: Plan(
            [(0.0, informal(a, "Link: </a>; rel=preload", "X-Step: 1")), (a.between(0, 150), a.answer())], {a.word}
        ),
    ),
    "hints_with_length": (0.5, lambda a: proper(a, informal(a, "Content-Length: 40") + a.answer())),
    "bytewise_1xx": (
        1,
        lambda a: Plan([(0.0, bytes([b])) for b in informal(a, "X-Step: 1")] + [(0.0, a.answer())], {a.word}),
    ),
    "split_once": (
        1,
        lambda a: Plan(sliced(d := a.answer(), [a.rng.randrange(1, len(d))], lambda: a.between(1, 20)), {a.word}),
    ),
    "split_bytes": (
        1,
        lambda a: Plan(
            sliced(d := a.answer(), range(1, len(d)), lambda: 0.001 if a.rng.random() < 0.05 else 0.0), {a.word}
        ),
    ),
    "split_random": (
        1,
        lambda a: Plan(sliced(d := a.answer(), a.rng.sample(range(1, len(d)), 5), lambda: a.between(0, 10)), {a.word}),
    ),
    "doubled": (2, lambda a: falsified(a, later=False)),
    "doubled_late": (2, lambda a: falsified(a, later=True, pause=a.between(5, 50))),
    "early_idle": (2, lambda a: falsified(a, later=True, pause=a.between(0, 100), polite=True)),
    "close_listed_junk": (
        1,
        lambda a: poisoning(a, a.answer(f"Connection: {a.rng.choice(CLOSE)}"), then=a.rng.choice(("keep", "fin"))),
    ),
    "no_reason": (1, lambda a: proper(a, a.answer(first=f"HTTP/1.1 {a.status} "))),
    "keepalive_race": (1, lambda a: proper(a, then="doom")),
    "idle_close": (1, lambda a: proper(a, then="fin", pause=a.between(0, 50))),
    "endless_1xx": (0.25, lambda a: broken(a, b"", False, endless=lambda n: b"HTTP/1.1 102 Processing\r\n\r\n")),
}
WITH_BODY: dict[str, tuple[float, Callable[[Ask], Plan]]] = {
    "left_over": (1, lambda a: poisoning(a, a.answer())),
    "missing": (0.25, lambda a: broken(a, b"", False, silent=True)),
    "closed": (1, lambda a: broken(a, b"", False, pause=0.0)),
    "cut": (2, lambda a: cut_at(a, d := a.answer(), 0, len(d))),
    "rst": (1, lambda a: cut_at(a, d := a.answer(), 0, len(d) + 1, then="rst")),  # it may destroy a whole answer too
    "length_too_big": (
        1,
        lambda a: broken(a, a.head(f"Content-Length: {len(a.body()) + a.rng.randint(1, 99)}") + a.body(), True),
    ),
    "length_too_small": (1, length_too_small),
    "length_and_chunked": (
        1,
        lambda a: broken(a, a.chunked(b"0\r\n\r\n", None, f"Content-Length: {a.rng.randint(0, 60)}"), True),
    ),
    "two_lengths": (1, two_lengths),
    "bad_length": (1, lambda a: broken(a, a.head(f"Content-Length: {a.rng.choice(BAD_LENGTH)}") + a.body(), False)),
    "chunked_trailers": (1, lambda a: proper(a, a.chunked(b"0\r\nX-Sum: 1\r\nStatus: 422\r\n\r\n"))),
    "chunk_size_broken": (1, lambda a: broken(a, a.chunked(size=a.rng.choice(BAD_CHUNK)), True)),
    "chunk_cut": (1, lambda a: cut_at(a, d := a.chunked(), len(a.head("Transfer-Encoding: chunked")), len(d))),
    "chunk_extra": (1, lambda a: poisoning(a, a.chunked())),
    "no_length_close": (1, lambda a: proper(a, a.head() + a.body(), then="fin", pause=a.between(0, 20))),
    "http10": (
        1,
        lambda a: proper(
            a,
            a.head(*a.rng.choice(((), (f"Content-Length: {len(a.body())}",))), first=f"HTTP/1.0 {a.status} Old")
            + a.body(),
            then="fin",
            pause=a.between(0, 50),
        ),
    ),
    "body_on_204": (1, lambda a: no_body(a, 204, *a.rng.choice(((), ("Content-Length: 70",))), body=True)),
    "bodiless": (1, lambda a: no_body(a, *a.rng.choice(BODILESS))),
    "switching_101": (1, lambda a: broken(a, SWITCH + a.rng.choice((a.answer(), b"\x81\x05hello")), False)),
    "loose_status": (1, lambda a: odd_line(a, LOOSE_STATUS, True)),
    "bad_status": (1.5, lambda a: odd_line(a, BAD_STATUS, False)),
    "loose_header": (1.5, lambda a: odd_line(a, LOOSE_HEADER, True, status_line=False)),
    "big_headers": (
        0.5,
        lambda a: Plan(
            [
                (
                    0.0,
                    a.answer(
                        *a.rng.choice(  # well-formed, but a client may refuse so much
                            (["X-Big: " + "a" * 65536], [f"X-{n}: {n}" for n in range(5000)])
                        )
                    ),
                )
            ],
            {a.word, "retry"},
        ),
    ),
    "endless_header": (0.25, lambda a: broken(a, a.head()[:-2], False, endless=lambda n: f"X-{n}: more\r\n".encode())),
    "endless_body": (
        0.25,
        lambda a: broken(
            a, a.head("Transfer-Encoding: chunked"), True, endless=lambda n: b"40\r\n" + b" " * 64 + b"\r\n"
        ),
    ),
}
TRICKS = ANY_STATUS | WITH_BODY
ALL_TRICKS: tuple[str, ...] = (*TRICKS, "early_fresh")  # early_fresh belongs to connections, see _greet
