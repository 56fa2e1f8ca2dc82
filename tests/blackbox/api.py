"""The API as RLM's user has it: an HTTP server with a script, which records each call by its own clock."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

REASONS = {200: "OK", 101: "Switching Protocols"}


@dataclass(frozen=True)
class Answer:
    """What the API does with a call: it waits, sends what is `ahead`, answers, and may send more `behind` it."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    delay: float = 0.0
    ahead: bytes = b""
    behind: bytes = b""
    late: bytes = b""  # sent unasked when the next call on the connection arrives, before it is read
    then: str = "keep"  # or "close"; or instead of an answer "cut" (after `ahead`) or "hang"

    def bytes(self) -> bytes:
        """Return the whole answer as it is sent."""
        headers = {"Content-Type": "application/json", "Content-Length": str(len(self.body)), **self.headers}
        if self.then == "close":
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Whatever')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return self.ahead + "\r\n".join([*lines, "", ""]).encode() + self.body


OK = Answer()
CUT = Answer(then="cut")
HANG = Answer(then="hang")


@dataclass
class Call:
    """One call as the API read it."""

    at: float
    path: str
    headers: dict[str, str]
    raw: bytes
    answered: int | None = None  # the status that was sent
    answered_at: float | None = None

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.raw)

    @property
    def event_id(self) -> str:
        return self.body["event_id"]


class Api:
    """The server, on a port of its own. `say` writes its script; a path without one is answered 200."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._scripts: dict[str, list[Any]] = {}
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def say(self, path: str, *answers: Any) -> None:
        """Have calls of `path` answered by these in turn, then by the last for ever.

        An answer may be a function of the call that returns one.
        """
        with self._lock:
            self._scripts[path] = list(answers)

    def of(self, path: str) -> list[Call]:
        """Return the calls of a path so far."""
        return [call for call in list(self.calls) if call.path == path]

    def of_event(self, event_id: str) -> list[Call]:
        return [call for call in list(self.calls) if call.event_id == event_id]

    def accepted(self) -> set[str]:
        """Return the ids of the events that were answered 2xx."""
        return {call.event_id for call in list(self.calls) if call.answered and 200 <= call.answered < 300}

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.add(connection)
        with closing(connection), suppress(OSError):
            rest = b""
            while True:
                call, rest = self._read(connection, rest)
                if call is None or not self._answer(connection, call):
                    break
        with self._lock:
            self._open.discard(connection)

    def _read(self, connection: socket.socket, data: bytes) -> tuple[Call | None, bytes]:
        at = None
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            at = at or time.monotonic()
            if not more:
                return None, b""
            data += more
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(data) < length:
            more = connection.recv(65536)
            if not more:
                return None, b""
            data += more
        call = Call(at or time.monotonic(), first.split()[1].lstrip("/"), headers, data[:length])
        with self._lock:
            self.calls.append(call)
        return call, data[length:]

    def _answer(self, connection: socket.socket, call: Call) -> bool:
        """Answer a call, and return whether the connection is kept."""
        with self._lock:
            script = self._scripts.get(call.path, [OK])
            answer = script.pop(0) if len(script) > 1 else script[0]
        if callable(answer):
            answer = answer(call)
        if answer.delay:
            time.sleep(answer.delay)  # this is the API's time to answer, not a wait for something
        if answer.then == "hang":
            connection.recv(1)  # returns when the caller or this server gives up
            return False
        if answer.then == "cut":
            connection.sendall(answer.ahead)
            return False
        connection.sendall(answer.bytes())
        call.answered, call.answered_at = answer.status, time.monotonic()
        connection.sendall(answer.behind)
        if answer.late and connection.recv(1, socket.MSG_PEEK):
            connection.sendall(answer.late)
        return answer.then == "keep"


def refused_port() -> socket.socket:
    """Return a socket whose port refuses connections, as nobody listens there, until it is closed."""
    reserved = socket.socket()
    reserved.bind(("127.0.0.1", 0))
    return reserved


def most_in_any(period: float, times: list[float]) -> int:
    """Return the most of these moments that lie in one period, wherever it begins."""
    times = sorted(times)
    most = first = 0
    for last, moment in enumerate(times):
        while moment - times[first] >= period:
            first += 1
        most = max(most, last - first + 1)
    return most
