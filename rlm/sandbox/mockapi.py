"""The mock API: an HTTP server that enforces limits strictly by arrival, plays faults, and counts by itself.

RLM is judged by it, so it shares no code with how RLM counts.
"""

from __future__ import annotations

import asyncio
import math
import random
import signal
import socket
import struct
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

import msgspec

from rlm.core.clock import system_clock
from rlm.core.endpoint import Endpoint, EventType, Limit, Limited, Rule, all_limited
from rlm.core.errors import ConfigurationError, ListenError

#: Most clients that wait to be accepted: all workers of a system connect at the same instant.
_WAITING = 1024
#: SO_LINGER with a time of zero: closing sends an RST.
_RESET = struct.pack("ii", 1, 0)
#: The shortest wait, in case floating point rounds one to zero.
_SHORTEST_WAIT = 1e-9
#: The name that stands for every endpoint in `set_fault`.
ALL = "*"

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Status = Annotated[int, msgspec.Meta(ge=200, le=599)]


class StrictWindow:
    """The admitted calls of one endpoint, and whether its limit allows one more, without any margin.

    A period is counted backwards from an arrival and excludes its far end: two calls that arrive exactly one period
    apart are not in one period. Refused calls do not count.
    """

    def __init__(self, limit: Limit) -> None:
        self._rules = limit.rules
        self._admitted: deque[float] = deque(maxlen=max(rule.amount for rule in limit.rules))

    def admit(self, at: float) -> bool:
        """Admit or refuse a call that arrived `at` (monotonic seconds, never less than in the last call)."""
        if self.wait_seconds(at) > 0:
            return False
        self._admitted.append(at)
        return True

    def wait_seconds(self, at: float) -> float:
        """Return the seconds from `at` until a call will be admitted; 0 if one would be admitted now."""
        wait = 0.0
        for rule in self._rules:
            if len(self._admitted) < rule.amount:
                continue
            first = self._admitted[-rule.amount]  # the oldest of the calls that use the rule up
            if first > at - rule.seconds:
                wait = max(wait, first + rule.seconds - at, _SHORTEST_WAIT)
        return wait


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The faults of one endpoint, by default none. Of several faults, the first in this order applies."""

    #: Connections are reset before the call is read; it does not count as an arrival.
    down: bool = False
    #: Every call is answered 429 at once, with this many seconds as `Retry-After`.
    throttle: Amount | None = None
    reset: bool | Share = False  #: the share of calls (true: all) whose connection is reset after reading
    hang: bool | Share = False  #: the share of calls (true: all) that are read but never answered
    #: The share of calls answered with `status`; if None, all of them if `status` is set.
    error_rate: Share | None = None
    status: Status | None = None  #: the status of those; 500 if None
    slow: Amount = 1.0  #: processing takes this many times as long


class Response(NamedTuple):
    """The answer of an endpoint, `after_seconds`; None for a call that is never answered, or `cut` off."""

    status: int | None
    after_seconds: float = 0.0
    retry_after_seconds: float | None = None
    cut: bool = False


class Site:
    """One endpoint of the server. `cut` counts the connections reset while it was down.

    A call takes a slot in its own window and in the `shared` one of its budget, or in neither.
    """

    def __init__(self, endpoint: Endpoint, shared: StrictWindow | None) -> None:
        self.endpoint = endpoint
        self.cut = 0
        #: Seconds that a call takes, by event type; a call of an unknown type takes as long as the first.
        self.processing: dict[str, float] = {}
        self._windows = [StrictWindow(endpoint.limit), *([shared] if shared else [])]
        self.faults = Faults()

    def receive(self, event_type: object, at: float) -> tuple[bool, Response]:
        """Return whether the limits admit the call that arrived `at`, and its response."""
        wait = max(window.wait_seconds(at) for window in self._windows)
        if wait > 0:
            return False, Response(429, retry_after_seconds=wait)
        for window in self._windows:
            window.admit(at)
        return True, self._response(self.processing.get(str(event_type), next(iter(self.processing.values()))))

    def _response(self, seconds: float) -> Response:
        """Return the response to an admitted call that takes so long if there is no fault."""
        faults = self.faults
        if faults.throttle is not None:
            return Response(429, retry_after_seconds=faults.throttle)
        if random.random() < faults.reset:
            return Response(None, cut=True)
        if random.random() < faults.hang:
            return Response(None)
        error_rate = faults.error_rate if faults.error_rate is not None else float(faults.status is not None)
        return Response((faults.status or 500) if random.random() < error_rate else 200, seconds * faults.slow)


def sites_by_path(types: Iterable[EventType]) -> dict[str, Site]:
    """Return the site of each endpoint by the path of its URL; raise ConfigurationError if two share a path."""
    sites: dict[str, Site] = {}
    shared: dict[str, StrictWindow] = {}
    for event_type in types:
        for endpoint in event_type.endpoints:
            path, budget = unquote(urlsplit(endpoint.url).path) or "/", endpoint.budget
            window = shared.setdefault(budget.name, StrictWindow(budget.limit)) if budget else None
            site = sites.setdefault(path, Site(endpoint, window))
            if site.endpoint.name != endpoint.name:
                raise ConfigurationError(
                    f"endpoints {endpoint.name!r} and {site.endpoint.name!r} have the path {path!r}: the mock API tells"
                    f" endpoints apart by it; give {endpoint.url} another path"
                )
            site.processing[event_type.name] = event_type.processing_seconds
    return sites


class Arrival(msgspec.Struct):
    """One call as the server saw it.

    `at` is when it was read to its end, in seconds of this machine's monotonic clock. `event_id` is from the
    `Idempotency-Key`, `attempt` and `run_id` are from the body; None if missing. `status` is None until it is answered,
    if ever. `accepted`: the limit admitted it, and it counts against the limit whatever the answer was.
    """

    at: float
    endpoint: str
    event_id: str | None
    attempt: int | None
    run_id: str | None
    status: int | None
    accepted: bool


class EndpointSummary(msgspec.Struct, frozen=True):
    """The calls at one endpoint: `accepted` or `refused` by a limit; `cut` ones were closed before they were read.

    `most` is the most accepted calls in any period of `limit`; of several rules, by the one that came closest to it.
    """

    calls: int
    accepted: int
    refused: int
    cut: int
    most: int
    limit: str


def recount(arrivals: Iterable[Arrival], rule: Rule) -> int:
    """Return the most accepted calls in any period of `rule`, wherever it begins, at one endpoint or budget.

    The fullest period can always be moved so that it ends with an arrival, so only those periods are counted.
    """
    times = sorted(arrival.at for arrival in arrivals if arrival.accepted)
    return max((bisect_right(times, end) - bisect_right(times, end - rule.seconds) for end in times), default=0)


def exceeded(arrivals: Collection[Arrival], endpoints: Collection[Endpoint]) -> list[str]:
    """Return a sentence for each rule of an endpoint or budget that accepted more calls than it allows."""
    return [
        f"{limited.name} let {most} calls through in {rule.seconds:g} s, not {rule.amount}"
        for limited in all_limited(endpoints)
        for rule in limited.limit.rules
        if (most := recount(_at(limited, arrivals, endpoints), rule)) > rule.amount
    ]


def _at(limited: Limited, arrivals: Iterable[Arrival], endpoints: Iterable[Endpoint]) -> list[Arrival]:
    """Return the arrivals at an endpoint, or at those of a budget."""
    names = {endpoint.name for endpoint in endpoints if limited in (endpoint, endpoint.budget)}
    return [arrival for arrival in arrivals if arrival.endpoint in names]


class _Call(msgspec.Struct):
    """The fields of a call's body that are used."""

    event_type: Any = None
    attempt: Any = None
    run_id: Any = None


class MockApi:
    """An HTTP server that strictly enforces the limits of `types`, and of their budgets, by arrival.

    Only the paths of the endpoints' URLs matter, so the URLs may name any host and port. Use it as a context manager or
    with `start` and `stop`. Started again it is the same server on the same port, with its log and its windows: so a
    test simulates an outage. Port 0 picks a free one, which `port` and `url` then show. Raise ConfigurationError if two
    endpoints have the same path.
    """

    def __init__(self, types: Sequence[EventType], *, port: int = 0) -> None:
        self._sites = sites_by_path(types)
        self._by_name = {site.endpoint.name: site for site in self._sites.values()}
        self._arrivals: list[Arrival] = []
        self.port = port
        self._alive: set[asyncio.StreamWriter] = set()
        self._thread: threading.Thread | None = None
        self._end: Callable[[], object] = lambda: None

    # -- its use

    @property
    def url(self) -> str:
        """Its address without a path, `http://127.0.0.1:8090`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def arrivals(self) -> list[Arrival]:
        """All arrivals so far, in order; a copy, but the status of its arrivals is still updated."""
        return self._arrivals.copy()

    def faults(self) -> dict[str, Faults]:
        """Return the faults of each endpoint, by name."""
        return {name: site.faults for name, site in self._by_name.items()}

    def set_fault(self, name: str, **fields: Any) -> None:
        """Replace the faults of an endpoint (`"*"`: of all) by these, the others being those of `Faults`."""
        if name != ALL and name not in self._by_name:
            names = ", ".join(self._by_name)
            raise ConfigurationError(f"there is no endpoint {name!r}; there are {names}, and {ALL} for all of them")
        try:
            faults = msgspec.convert(fields, Faults)
        except msgspec.ValidationError as error:
            allowed = ", ".join(Faults.__struct_fields__)
            raise ConfigurationError(f"{fields!r} is not a fault: {error}; the fields are {allowed}") from error
        for site in self._by_name.values() if name == ALL else [self._by_name[name]]:
            site.faults = faults

    def summary(self) -> dict[str, EndpointSummary]:
        """Return the summary of each endpoint, by name; safe to call from any thread."""
        arrived: dict[str, list[Arrival]] = {name: [] for name in self._by_name}
        for arrival in self.arrivals:
            arrived[arrival.endpoint].append(arrival)
        return {name: _summarised(arrived[name], site) for name, site in self._by_name.items()}

    # -- its life

    def start(self) -> None:
        """Serve from its own thread; return once it listens, or raise ListenError."""
        if self._thread:
            return
        listening: Future[None] = Future()
        thread = threading.Thread(target=self._run, args=(listening,), name="mock-api", daemon=True)
        thread.start()
        listening.result()
        self._thread = thread

    def stop(self) -> None:
        """Cut all connections and stop listening; do nothing if it does not listen."""
        if self._thread:
            self._end()
            self._thread.join()
            self._thread = None

    def serve_forever(self, on_listening: Callable[[], None]) -> None:
        """Serve from this thread, which must be the main one, until SIGTERM or SIGINT, or raise ListenError."""

        def ready() -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self._end)
            on_listening()

        asyncio.run(self._serve(ready))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, listening: Future[None]) -> None:
        try:
            asyncio.run(self._serve(lambda: listening.set_result(None)))
        except BaseException as error:
            if listening.done():
                raise
            listening.set_exception(error)

    async def _serve(self, ready: Callable[[], None]) -> None:
        ended = asyncio.Event()
        self._end = partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
        try:
            server = await asyncio.start_server(self._talk, "127.0.0.1", self.port, backlog=_WAITING)
        except OSError as error:
            raise ListenError.at("127.0.0.1", self.port, error) from error
        self.port = server.sockets[0].getsockname()[1]
        try:
            ready()
            await ended.wait()
        finally:
            server.close()
            for writer in list(self._alive):
                _reset(writer)
            await asyncio.sleep(0)  # the sockets are closed in this turn of the loop

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one client, one after the other; one sent before the last answer arrives after it."""
        self._alive.add(writer)
        try:
            # What ends early, is too long or is no HTTP/1.1 gets no answer.
            with suppress(EOFError, OSError, ValueError, asyncio.LimitOverrunError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._alive.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read a request and answer it; return whether another may follow."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.strip().split("\r\n")
        method, target, version = line.split(" ")
        named = (field.partition(":") for field in lines)
        fields = {name.lower(): value.strip() for name, _, value in named}
        path = unquote(target.partition("?")[0])
        site = self._sites.get(path)
        if site and site.faults.down:
            site.cut += 1
            _reset(writer)
            return False
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        if site is None or method != "POST":
            names = ", ".join(self._sites)
            writer.write(_render(404, {"error": f"there is nothing to {method} at {path}; the endpoints are {names}"}))
        elif not await self._call(site, fields.get("idempotency-key"), body, reader, writer):
            return False
        await writer.drain()
        return version == "HTTP/1.1" and fields.get("connection", "").lower() != "close"

    async def _call(
        self,
        site: Site,
        event_id: str | None,
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Answer a call; return whether the client got an answer."""
        at, call, name = system_clock.monotonic(), _Call(), site.endpoint.name
        with suppress(msgspec.DecodeError):  # it counts as an arrival even so
            call = msgspec.json.decode(body, type=_Call)
        accepted, response = site.receive(call.event_type, at)
        arrival = Arrival(at, name, event_id, call.attempt, call.run_id, None, accepted)
        self._arrivals.append(arrival)
        if response.cut:
            _reset(writer)
        if response.status is None:
            await reader.read()  # until the client gives up
            return False
        await asyncio.sleep(response.after_seconds)
        if reader.at_eof() or writer.is_closing():
            return False
        arrival.status = response.status  # first, so that it is noted before anybody gets the answer
        answer: Any = {"endpoint": name, "event_id": event_id, "status": response.status}
        headers = {}
        if (rest := response.retry_after_seconds) is not None:  # no fractions are allowed, and 0 would be refused again
            headers["Retry-After"] = str(max(1, math.ceil(rest)))
        if (success := site.endpoint.success) and response.status == HTTPStatus.OK:
            value = True if success.value is None else success.value
            answer = answer | {success.field: value} if success.field else success.value or answer
            headers |= {"Content-Type": success.content_type} if success.content_type else {}
        writer.write(_render(response.status, answer, headers))
        return True


def _summarised(arrivals: Collection[Arrival], site: Site) -> EndpointSummary:
    accepted, limit = sum(arrival.accepted for arrival in arrivals), site.endpoint.limit
    counts = ((recount(arrivals, rule), rule.amount) for rule in limit.rules)
    most, _ = max(counts, key=lambda count: count[0] / count[1])
    return EndpointSummary(len(arrivals), accepted, len(arrivals) - accepted, site.cut, most, limit.text)


def _render(status: int, data: object, headers: Mapping[str, str] | None = None) -> bytes:
    """Return an answer with `data` as JSON."""
    body = b"" if status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED} else msgspec.json.encode(data)
    own = {"Content-Type": "application/json", "Content-Length": str(len(body))} if body else {}
    fields = "".join(f"{name}: {value}\r\n" for name, value in {**own, **(headers or {})}.items())
    return f"HTTP/1.1 {status} \r\n{fields}\r\n".encode("latin-1") + body


def _reset(writer: asyncio.StreamWriter) -> None:
    """Cut a connection with an RST."""
    with suppress(OSError):  # the client closed first
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
