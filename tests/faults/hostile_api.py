"""A loopback HTTP/1.1 server that misbehaves on purpose and remembers what it decided.

    with HostileApi(seed=7, timeout_seconds=1.0) as api:
        ...let the client POST its events to api.url("/x"), its own time-out being 1.0 s...
    for line in misjudged(api.calls, recorded):     # recorded: (event_id, attempt) -> word
        print(line)

The words are "delivered", "rejected", "throttled" and "retry" (no answer, or one that asks for another try).
Judge after the `with` block: only then is every Call final.

All draws depend on the seed, the event and the number of the call for that event, never on thread timing. The exception
is a call on a connection with unsolicited bytes (`poisoned_by`): it is answered plainly, and its decision is drawn to
differ from what those bytes say, so that a mistake can be seen.
"""

from __future__ import annotations

import contextlib
import json
import random
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from tests.faults.hostile_plan import OUTCOMES, Ask, Call, Plan
from tests.faults.hostile_tricks import ALL_TRICKS, TRICKS, WITH_BODY

EARLY_FRESH_SHARE = 0.05  # share of new connections that are greeted with an unsolicited answer


class GoneError(Exception):
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
            raise GoneError
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
        """Note that unsolicited bytes were sent; `apart`: they were written on their own, just now."""
        self.stale_word, self.stale_by = word, by
        self.stale_at, self.raced = (time.monotonic(), self.readable()) if apart else (None, False)

    def end(self, reset: bool) -> None:
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        raise GoneError


class HostileApi:
    """The server; a context manager. `calls` lists every request read, in order of arrival."""

    def __init__(self, seed: int, timeout_seconds: float, tricks: Sequence[str] = ALL_TRICKS):
        if unknown := set(tricks) - set(ALL_TRICKS):
            raise ValueError(f"unknown tricks: {sorted(unknown)}")
        self.seed, self.timeout, self.tricks = seed, timeout_seconds, tuple(tricks)
        self.calls: list[Call] = []
        self.faults: list[str] = []  # errors of this server itself: must stay empty
        self.names = [name for name in self.tricks if name in TRICKS] or ["plain"]
        self.seen: Counter = Counter()
        self.lock, self.stop = threading.Lock(), threading.Event()
        self.threads: list[threading.Thread] = []
        self.socks: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.listener.settimeout(0.1)
        self.acceptor = threading.Thread(target=self.accept, daemon=True)
        self.acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let open answers finish, then close everything."""
        self.stop.set()
        self.acceptor.join()
        self.listener.close()
        for sock in list(self.socks):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RD)
        for thread in self.threads:
            thread.join(3 * self.timeout)

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/{path.lstrip('/')}"

    def decisions(self, event_id: str) -> list[Call]:
        with self.lock:
            return [call for call in self.calls if call.event_id == event_id]

    def accept(self) -> None:
        number = 0
        while not self.stop.is_set():
            try:
                sock, _ = self.listener.accept()
            except TimeoutError:
                continue
            number += 1
            sock.setblocking(True)
            sock.settimeout(2 * self.timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socks.add(sock)
            thread = threading.Thread(target=self.serve, args=(Wire(sock, number),), daemon=True)
            self.threads = [t for t in self.threads if t.is_alive()] + [thread]
            thread.start()

    def serve(self, wire: Wire) -> None:
        try:
            self.greet(wire)
            while not self.stop.is_set():
                self.one(wire)
        except (GoneError, OSError):
            pass
        except Exception as error:  # noqa: BLE001  # a fault of this server must be seen, not be taken for a trick
            self.faults.append(f"connection {wire.number}: {error!r}")
        finally:
            wire.sock.close()
            self.socks.discard(wire.sock)

    def greet(self, wire: Wire) -> None:
        """early_fresh: an unsolicited answer on some new connections."""
        rng = random.Random(f"{self.seed}/connection/{wire.number}")
        if "early_fresh" in self.tricks and rng.random() < EARLY_FRESH_SHARE:
            ask = Ask(rng, None, rng.choice((200, 200, 422)), None, self.timeout, unsolicited=True)
            wire.sock.sendall(ask.answer())
            wire.poison(ask.word, "early_fresh", apart=True)

    def one(self, wire: Wire) -> None:
        """Read one request, decide, act, keep the record."""
        while not wire.readable(0.2):
            if self.stop.is_set():
                raise GoneError
        arrived = time.monotonic()
        head = wire.until(b"\r\n\r\n", 2 * self.timeout).decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
        call = Call(headers.get("idempotency-key"), None, [*first.split(), "", ""][1], wire.number, arrived)
        if "idempotency-key" not in headers:
            self.body(wire, call, headers)
        name, plan, ask = self.draw(wire, call)
        with self.lock:
            self.calls.append(call)
        if name != "before_body":
            self.body(wire, call, headers)
        if wire.doomed:
            call.trick, call.note = wire.stale_by or "keepalive_race", f"cut off{call.note}"
            self.taint(wire, call)
            wire.end(reset=ask.rng.random() < 0.5)
        self.settle(wire, call, name, plan, ask)
        self.act(wire, call, plan)
        if name == "before_body":
            self.body(wire, call, headers)
        self.after(wire, call, plan, ask)

    def draw(self, wire: Wire, call: Call) -> tuple[str, Plan, Ask]:
        """Return the decision and the trick for this call."""
        with self.lock:
            self.seen[call.event_id] += 1
            nth = self.seen[call.event_id]
        rng = random.Random(f"{self.seed}/{call.event_id}/{nth}")
        name = rng.choices(self.names, [TRICKS[n][0] for n in self.names])[0]
        name = "plain" if wire.stale_word else name
        while True:
            status, retry_after = rng.choices(list(OUTCOMES), list(OUTCOMES.values()))[0]
            ask = Ask(rng, call.event_id, status, retry_after, self.timeout)
            if ask.word != wire.stale_word:
                break
        if name in WITH_BODY and ask.status == 204:
            ask.status = 200
        return name, TRICKS[name][1](ask), ask

    def body(self, wire: Wire, call: Call, headers: Mapping[str, str]) -> None:
        """Read the request's body (once) and complete the call from it."""
        if call.attempt is not None or "bad body" in call.note:
            return
        if headers.get("expect"):
            wire.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            sent = json.loads(self.raw_body(wire, headers))
            event_id, call.attempt = sent["event_id"], sent["attempt"]
        except (ValueError, KeyError, TypeError) as error:
            call.note += f" bad body: {error!r}"
            return
        if event_id != headers.get("idempotency-key"):
            call.note += f" body names {event_id!r}, Idempotency-Key {headers.get('idempotency-key')!r}"
            call.event_id = call.event_id or event_id

    def raw_body(self, wire: Wire, headers: Mapping[str, str]) -> bytes:
        limit, whole = 2 * self.timeout, b""
        if "chunked" not in headers.get("transfer-encoding", "").lower():
            return wire.exactly(int(headers.get("content-length", 0)), limit)
        while size := int(wire.until(b"\r\n", limit).partition(b";")[0], 16):
            whole += wire.exactly(size + 2, limit)[:-2]
        while wire.until(b"\r\n", limit):
            pass
        return whole

    def settle(self, wire: Wire, call: Call, name: str, plan: Plan, ask: Ask) -> None:
        """Record, before a byte is sent, the decision and what a client may make of it."""
        call.trick, call.meant, call.note = name, ask.status, f"{plan.note}{call.note}"
        call.decision = ask.status if plan.whole else None
        call.acceptable = frozenset(plan.allowed)
        self.taint(wire, call)

    def taint(self, wire: Wire, call: Call) -> None:
        """Note the unsolicited bytes that this call may meet; finding them and giving up is always right."""
        if wire.stale_word:
            call.poisoned_by, call.acceptable = wire.stale_by, call.acceptable | {"retry"}
            if wire.stale_at is not None:
                call.gap = 0.0 if wire.raced else call.arrived_at - wire.stale_at

    def act(self, wire: Wire, call: Call, plan: Plan) -> None:
        """Send the answer; a late one may also be given up."""
        try:
            for pause, data in plan.pieces:
                if pause:
                    time.sleep(pause)
                wire.sock.sendall(data)
            self.drag(wire, call, plan)
        except OSError:
            call.note += f" client left after {time.monotonic() - call.arrived_at:.3f} s"
            self.late(call)
            raise GoneError from None
        call.complete = plan.whole
        self.late(call)

    def late(self, call: Call) -> None:
        if time.monotonic() - call.arrived_at > 0.5 * self.timeout:
            call.complete, call.acceptable = False, call.acceptable | {"retry"}

    def drag(self, wire: Wire, call: Call, plan: Plan) -> None:
        """Send endlessly or nothing, until the client leaves or twice its time-out is over."""
        count, end = 0, call.arrived_at + 2 * self.timeout
        while plan.endless or plan.silent:
            if wire.readable(0.005) or time.monotonic() > end:
                call.note += "" if time.monotonic() <= end else " client was still there after twice its time-out"
                return
            if plan.endless:
                wire.sock.sendall(plan.endless(count))
                count += 1

    def after(self, wire: Wire, call: Call, plan: Plan, ask: Ask) -> None:
        """Treat the connection after the answer.

        A poisoned one is ended only after one more request was read: otherwise the unsolicited bytes could answer a
        request that races with the close, without a Call, and nobody could distinguish that from a lie.
        """
        if wire.stale_word:  # a client that took the stale bytes for this answer has this answer before it now
            wire.poison(ask.word, wire.stale_by, apart=True)
            wire.doomed = True
            return None
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
