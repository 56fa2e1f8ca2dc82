"""An API that shifts, doubles, splits, cuts and delays its answers: each event gets its own answer.

The server notes what it decided for each call and what a correct client may make of what it sent. No client can tell
an answer from unsolicited bytes that came while its request was on its way, so calls after such a race are not judged.
What a single answer may look like is the subject of tests/unit/test_answer_parser.py.
"""

from __future__ import annotations

import itertools
import json
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

import pytest

from rlm.core.call import CallEnd
from rlm.delivery.http import Connections
from tests.acceptance.scripted import call as call_once
from tests.acceptance.scripted import endpoint, request

pytestmark = pytest.mark.rest

TIMEOUT_SECONDS, LANES, RACE_SECONDS = 0.6, 6, 0.02
WORDS = {200: "delivered", 422: "rejected", 429: "throttled", 500: "retry"}
OF_END = dict(zip((CallEnd.COMPLETED, CallEnd.REJECTED, CallEnd.THROTTLED, CallEnd.ERROR), WORDS.values(), strict=True))
#: What follows an answer unasked; None: another answer of the opposite meaning.
JUNK = (None, None, b"\r\n", b"\0\0junk", b"HTTP/1.1 20")
#: The share of new connections that are greeted with an answer nobody asked for.
GREETED = 0.05
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 40\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\n\r\n"
CHUNKED = b"4\r\nwell\r\n0\r\nStatus: 422\r\n\r\n"


@dataclass
class Call:
    """A call that was read; `gap` are the seconds that unsolicited bytes were there before it, None without any."""

    event_id: str
    attempt: int
    connection: int
    trick: str
    acceptable: set[str]
    gap: float | None = None


@dataclass
class Plan:
    """What is sent: pieces after pauses; then unsolicited bytes, at once or after a pause; and the connection's end."""

    pieces: list[tuple[float, bytes]]
    acceptable: set[str]
    stale: bytes = b""
    stale_word: str = ""  # what those would be read as
    stale_pause: float = 0.0
    end: str = ""  # "fin", "rst", or "doom": at the next request


def answer(status, *lines, body=b'{"said": true}', length=None):
    size = len(body) if length is None else length
    head = [f"HTTP/1.1 {status} Said", *lines, *([] if size < 0 else [f"Content-Length: {size}"]), "", ""]
    return "\r\n".join(head).encode() + body


def sent(data, *words, **more):
    return Plan([(0.0, data)], set(words), **more)


def sliced(rng, data, cuts):
    edges = [0, *sorted(rng.sample(range(1, len(data)), cuts)), len(data)]
    return [(rng.uniform(0, 0.01) if start else 0.0, data[start:end]) for start, end in itertools.pairwise(edges)]


def stale(rng, status, **more):
    """Send a proper answer, and bytes that nobody asked for."""
    junk, word = rng.choice(JUNK), "retry"
    if junk is None:
        other = rng.choice([each for each in WORDS if each != status])
        junk, word = answer(other), WORDS[other]
    return sent(answer(status), WORDS[status], stale=junk, stale_word=word, **more)


TRICKS = {
    "plain": lambda _, status: sent(answer(status), WORDS[status]),
    "plain again": lambda _, status: sent(answer(status), WORDS[status]),
    "split": lambda rng, status: Plan(sliced(rng, answer(status), 5), {WORDS[status]}),
    "hints": lambda rng, status: sent(HINTS * rng.randint(1, 6) + answer(status), WORDS[status]),
    "chunked": lambda _, status: sent(
        answer(status, "Transfer-Encoding: chunked", body=CHUNKED, length=-1), WORDS[status]
    ),
    "delayed": lambda rng, status: Plan([(rng.uniform(0, 0.2), answer(status))], {WORDS[status], "retry"}),
    "too late": lambda _, status: Plan([(1.3 * TIMEOUT_SECONDS, answer(status))], {"retry"}, end="fin"),
    "doubled": stale,
    "doubled later": lambda rng, status: stale(rng, status, stale_pause=rng.uniform(0.005, 0.05)),
    "length too small": lambda _, status: sent(answer(status, length=4), WORDS[status], stale_word="retry"),
    "length too big": lambda _, status: sent(answer(status, length=99), WORDS[status], "retry", end="fin"),
    "two lengths": lambda _, status: sent(answer(status, "Content-Length: 5"), "retry", end="fin"),
    "until the end": lambda _, status: sent(answer(status, length=-1), WORDS[status], end="fin"),
    "closed when idle": lambda _, status: sent(answer(status), WORDS[status], end="fin"),
    "closed by the next": lambda _, status: sent(answer(status), WORDS[status], end="doom"),
    "switching": lambda _, status: sent(SWITCH + answer(status), "retry", end="fin"),
    "cut": lambda rng, status: sent(
        answer(status)[: rng.randrange(len(answer(status)))], WORDS[status], "retry", end=rng.choice(("fin", "rst"))
    ),
    "nothing": lambda rng, _: Plan([], {"retry"}, end=rng.choice(("fin", "rst"))),
}


@dataclass
class HostileApi:
    """The server; a context manager. Each connection has a thread; draws depend on the seed and the call."""

    seed: int
    calls: list[Call] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(10)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/x"

    def accept(self):
        for number in itertools.count(1):
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self.serve, args=(sock, number), daemon=True)
            self.threads.append(thread)
            thread.start()

    def serve(self, sock, number):
        try:
            with sock, sock.makefile("rb") as requests:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.talk(sock, requests, number)
        except OSError:
            pass  # the client left
        except Exception as error:  # noqa: BLE001  # a fault of this server must be seen, not be taken for a trick
            self.faults.append(f"connection {number}: {error!r}")

    def talk(self, sock, requests, number):
        stale_word, stale_at, doomed = "", float("-inf"), False
        if random.Random(f"{self.seed}/{number}").random() < GREETED:
            sock.sendall(answer(200))
            stale_word, stale_at = "delivered", time.monotonic()
        while requests.peek(1):
            arrived = time.monotonic()
            event_id, attempt = self.read(requests)
            rng = random.Random(f"{self.seed}/{event_id}/{attempt}")
            # After unsolicited bytes the answer is plain, and another than they say, so that a mistake can be seen.
            status = rng.choice([each for each, word in WORDS.items() if word != stale_word])
            name = "plain" if stale_word else rng.choice(list(TRICKS))
            plan = TRICKS[name](rng, status)
            call = Call(
                event_id, attempt, number, name, plan.acceptable | ({"retry"} if stale_word or doomed else set())
            )
            if stale_word:
                call.gap = arrived - stale_at
            self.calls.append(call)
            if doomed:
                return
            for pause, data in plan.pieces:
                time.sleep(pause)
                sock.sendall(data + (b"" if plan.stale_pause else plan.stale))
            if stale_word:  # who took the stale bytes for this answer has this answer before it now
                stale_word, stale_at, doomed = WORDS[status], time.monotonic(), True
                continue
            stale_word, doomed = plan.stale_word, plan.end == "doom"
            if plan.stale_pause:
                time.sleep(plan.stale_pause)
                raced = is_readable(sock)
                sock.sendall(plan.stale)
                stale_at = float("inf") if raced else time.monotonic()
            if plan.end == "rst":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if plan.end in {"fin", "rst"}:
                return

    @staticmethod
    def read(requests):
        """Read a request; return which call of which event it is."""
        size = 0
        while (line := requests.readline()).strip():
            name, _, value = line.partition(b":")
            size = int(value) if name.lower() == b"content-length" else size
        body = json.loads(requests.read(size))
        return body["event_id"], body["attempt"]


def is_readable(sock):
    sock.setblocking(False)
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        sock.setblocking(True)


def send(api, call, number):
    """Make calls with many lanes, for each event at most four; return how each was understood, by its key."""
    understood, left = {}, iter(range(number))

    def lane(own):
        for event in itertools.count():
            for attempt in range(1, 5):
                if next(left, None) is None:
                    return
                time.sleep(random.choice((0.0, 0.0, 0.08)))  # so that bytes come while a connection is idle, too
                event_id = f"i{own}-{event}:T"
                if word := call(api.url, event_id, attempt):
                    understood[event_id, attempt] = word
                if word in {"delivered", "rejected"}:
                    break

    lanes = [threading.Thread(target=lane, args=(own,)) for own in range(LANES)]
    for each in lanes:
        each.start()
    for each in lanes:
        each.join()
    return understood


def is_race(call):
    return call.gap is not None and call.gap <= RACE_SECONDS


def misjudged(api, understood):
    """Return each call that was not understood as it might be, and what was made of it."""
    read = {(call.event_id, call.attempt): call for call in api.calls}
    unread = [(key, word) for key, word in understood.items() if key not in read and word != "retry"]
    judged = [(call, understood.get(key, "retry")) for key, call in read.items() if not is_race(call)]
    return unread + [(call, word) for call, word in judged if word not in call.acceptable]


def judge(number, seed):
    """Make calls as lanes do; what they understand must agree with the API's decisions."""
    connections = Connections()

    def call(url, event_id, attempt):
        wanted = request(item=b"{}", event_id=event_id, attempt=attempt - 1)
        return OF_END[call_once(connections, endpoint(url), wanted, TIMEOUT_SECONDS).finish]

    with HostileApi(seed) as api:
        understood = send(api, call, number)
        connections.close()
    print(f"seed {seed}: {len(api.calls)} calls read over {max(each.connection for each in api.calls)} connections")

    assert api.faults == []
    assert misjudged(api, understood) == []
    assert [call for call in api.calls if call.gap is not None and not is_race(call)] == [], "stale, and seen to be"
    assert max(each.connection for each in api.calls) < 0.8 * len(api.calls), "connections are kept"
    assert {each.trick for each in api.calls} == set(TRICKS)


def test_each_event_gets_the_answer_that_was_meant_for_it():
    """All tricks, several lanes, connections kept wherever that is right."""
    judge(600, random.randrange(10_000))


@pytest.mark.long
def test_ten_thousand_calls_and_not_one_event_with_anothers_answer():
    judge(10_000, random.randrange(10_000))
