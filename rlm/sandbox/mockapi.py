"""The mock API: an HTTP server that enforces limits strictly by arrival and counts by itself.

RLM is judged by it, so it shares no code with how RLM counts.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import threading
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

import msgspec

from rlm.admin.errors import ListenError
from rlm.core.clock import system_clock
from rlm.core.endpoint import Endpoint, EventType, Limit, Rule
from rlm.core.errors import ConfigurationError

#: Most clients that wait to be accepted: all workers of a system connect at the same instant.
_WAITING = 1024


class StrictWindow:
    """The admitted calls of one endpoint, and whether its limit allows one more, without any margin.

    A period is counted backwards from an arrival and excludes its far end: two calls that arrive exactly one period
    apart are not in one period. Refused calls do not count, nor does a call that arrived later but was read earlier.
    """

    def __init__(self, limit: Limit) -> None:
        self._rules = limit.rules
        self._admitted: list[float] = []
        self._kept = 2 * max(rule.amount for rule in limit.rules)

    def admit(self, at: float) -> None:
        """Count a call that arrived `at`, monotonic seconds."""
        insort(self._admitted, at)
        del self._admitted[: -self._kept]

    def wait_seconds(self, at: float) -> float:
        """Return the seconds from `at` until a call will be admitted; 0 if one would be admitted now."""
        wait, before = 0.0, bisect_right(self._admitted, at)
        for rule in self._rules:
            if before < rule.amount:
                continue
            first = self._admitted[before - rule.amount]  # the oldest of the calls that use the rule up
            if first > at - rule.seconds:
                wait = max(wait, first + rule.seconds - at, 1e-9)  # in case floating point rounds it to zero
        return wait


class Site:
    """One endpoint of the server. A call takes a slot in its own window and in that of its budget, or in neither."""

    def __init__(self, endpoint: Endpoint, windows: Sequence[StrictWindow]) -> None:
        self.endpoint = endpoint
        self.windows = [*windows]
        #: Seconds that a call takes, by event type.
        self.processing: dict[str, float] = {}

    def seconds(self, event_type: object) -> float:
        """Return how long a call takes; one of an unknown type takes as long as one of the first."""
        return self.processing.get(str(event_type), next(iter(self.processing.values())))

    def receive(self, at: float) -> float:
        """Return 0 if the limits admit a call that arrives `at`, else the seconds after which it is worth another."""
        wait = max(window.wait_seconds(at) for window in self.windows)
        for window in self.windows if wait == 0 else ():
            window.admit(at)
        return wait


def sites_by_path(types: Iterable[EventType]) -> dict[str, Site]:
    """Return the site of each endpoint by the path of its URL; raise ConfigurationError if two share a path."""
    sites: dict[str, Site] = {}
    shared: dict[str, StrictWindow] = {}
    for event_type in types:
        for endpoint in event_type.endpoints:
            path, budget = unquote(urlsplit(endpoint.url).path) or "/", endpoint.budget
            of_budget = [shared.setdefault(budget.name, StrictWindow(budget.limit))] if budget else []
            site = sites.setdefault(path, Site(endpoint, [StrictWindow(endpoint.limit), *of_budget]))
            if site.endpoint.name != endpoint.name:
                raise ConfigurationError(
                    f"endpoints {endpoint.name!r} and {site.endpoint.name!r} have the path {path!r}: the mock API tells"
                    f" endpoints apart by it; give {endpoint.url} another path"
                )
            site.processing[event_type.name] = event_type.processing_seconds
    return sites


class Arrival(msgspec.Struct):
    """One call as the server saw it.

    `at` is when its end came to this machine, in seconds of the monotonic clock. `event_id` is from the
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
    """The calls at one endpoint: `accepted` or `refused` by a limit.

    `most` is the most accepted calls in any period of `limit`; of several rules, by the one that came closest to it.
    """

    calls: int
    accepted: int
    refused: int
    most: int
    limit: str


def recount(arrivals: Iterable[Arrival], rule: Rule) -> int:
    """Return the most accepted calls in any period of `rule`, wherever it begins, at one endpoint or budget.

    The fullest period can always be moved so that it ends with an arrival, so only those periods are counted.
    """
    times = sorted(arrival.at for arrival in arrivals if arrival.accepted)
    return max((bisect_right(times, end) - bisect_right(times, end - rule.seconds) for end in times), default=0)


class Streams(NamedTuple):
    """The two ways of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def heard_at(self) -> float:
        """Return when the last data came to this machine, which may be too busy to read it at once; never too early."""
        info = self.writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 56)
        milliseconds: int = struct.unpack_from("I", info, 52)[0]  # `tcpi_last_data_recv`, in ticks of up to 10 ms
        return system_clock.monotonic() - max(0, milliseconds - 10) / 1000


class Call(msgspec.Struct):
    """The fields of a call's body that are used, and the key of its event."""

    event_type: Any = None
    attempt: Any = None
    run_id: Any = None
    event_id: str | None = None


class MockApi:
    """An HTTP server that strictly enforces the limits of `types`, and of their budgets, by arrival.

    Only the paths of the endpoints' URLs matter, so the URLs may name any host and port. Use it as a context manager or
    with `start` and `stop`. Started again it is the same server on the same port, with its log and its windows: so a
    test simulates an outage. Port 0 picks a free one, which `port` and `url` then show. Raise ConfigurationError if two
    endpoints have the same path.
    """

    def __init__(self, types: Sequence[EventType], *, port: int = 0) -> None:
        self._by_path = sites_by_path(types)
        self.sites = {site.endpoint.name: site for site in self._by_path.values()}
        self.port = port
        self._arrivals: list[Arrival] = []
        self._alive: set[Streams] = set()
        self._thread: threading.Thread | None = None
        self._end: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        """Its address without a path, `http://127.0.0.1:8090`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def arrivals(self) -> list[Arrival]:
        """All arrivals so far, in order; a copy, but the status of its arrivals is still updated."""
        return self._arrivals.copy()

    def summary(self) -> dict[str, EndpointSummary]:
        """Return the summary of each endpoint, by name; safe to call from any thread."""
        arrived: dict[str, list[Arrival]] = {name: [] for name in self.sites}
        for arrival in self.arrivals:
            arrived[arrival.endpoint].append(arrival)
        summaries = {}
        for name, arrivals in arrived.items():
            limit, accepted = self.sites[name].endpoint.limit, sum(arrival.accepted for arrival in arrivals)
            most = max(((recount(arrivals, rule), rule) for rule in limit.rules), key=lambda of: of[0] / of[1].amount)
            refused = len(arrivals) - accepted
            summaries[name] = EndpointSummary(len(arrivals), accepted, refused, most[0], limit.text)
        return summaries

    def start(self) -> None:
        """Serve from its own thread; return once it listens, or raise ListenError."""
        if self._thread:
            return
        listening: Future[None] = Future()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(listening)), name="mock-api", daemon=True)
        thread.start()
        listening.result()
        self._thread = thread

    def stop(self) -> None:
        """Cut all connections and stop listening; do nothing if it does not listen."""
        if self._thread:
            self._end()
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _serve(self, listening: Future[None]) -> None:
        ended = asyncio.Event()
        self._end = partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
        try:
            server = await asyncio.start_server(self._talk, "127.0.0.1", self.port, backlog=_WAITING)
        except OSError as error:
            listening.set_exception(ListenError.at("127.0.0.1", self.port, error))
            return
        self.port = server.sockets[0].getsockname()[1]
        listening.set_result(None)
        await ended.wait()
        server.close()
        for streams in list(self._alive):
            streams.writer.transport.abort()
        await asyncio.sleep(0)  # the sockets are closed in this turn of the loop

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one client, one after the other; one sent before the last answer arrives after it."""
        streams = Streams(reader, writer)
        self._alive.add(streams)
        try:
            # What ends early, is too long or is no HTTP/1.1 gets no answer.
            with suppress(EOFError, OSError, ValueError, asyncio.LimitOverrunError):
                while await self._exchange(streams):
                    pass
        finally:
            self._alive.discard(streams)
            writer.close()

    async def _exchange(self, streams: Streams) -> bool:
        """Read a request and answer it; return whether another may follow."""
        head = (await streams.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.strip().split("\r\n")
        method, target, version = line.split(" ")
        named = (field.partition(":") for field in lines)
        fields = {name.lower(): value.strip() for name, _, value in named}
        path = unquote(target.partition("?")[0])
        body = await streams.reader.readexactly(int(fields.get("content-length", "0")))
        site = self._by_path.get(path)
        if site is None or method != "POST":
            names = ", ".join(self._by_path)
            error = {"error": f"there is nothing to {method} at {path}; the endpoints are {names}"}
            streams.writer.write(_render(404, error, {}))
        else:
            call = Call()
            with suppress(msgspec.DecodeError):  # it counts as an arrival even so
                call = msgspec.json.decode(body, type=Call)
            call.event_id = fields.get("idempotency-key")
            if not await self.handle(site, call, streams):
                return False
        await streams.writer.drain()
        return version == "HTTP/1.1" and fields.get("connection", "").lower() != "close"

    async def handle(self, site: Site, call: Call, streams: Streams) -> bool:
        """Answer a call; return whether the client got an answer."""
        arrival, wait = self.arrive(site, call, streams)
        await asyncio.sleep(0 if wait else site.seconds(call.event_type))
        return self.answer(site, arrival, streams, status=429 if wait else 200, rest_seconds=wait)

    def arrive(self, site: Site, call: Call, streams: Streams) -> tuple[Arrival, float]:
        """Note a call that has arrived; return that, and 0 if the limits admit it, else how long to wait."""
        at, name = streams.heard_at(), site.endpoint.name
        wait = site.receive(at)
        arrival = Arrival(at, name, call.event_id, call.attempt, call.run_id, status=None, accepted=not wait)
        self._arrivals.append(arrival)
        return arrival, wait

    def answer(self, site: Site, arrival: Arrival, streams: Streams, *, status: int, rest_seconds: float = 0) -> bool:
        """Answer a call that has arrived, unless the client has gone; return whether it got the answer."""
        if streams.reader.at_eof() or streams.writer.is_closing():
            return False
        arrival.status = status  # first, so that it is noted before anybody gets the answer
        answer: Any = {"endpoint": arrival.endpoint, "event_id": arrival.event_id, "status": status}
        # `Retry-After` has no fractions, and after 0 a call would be refused again.
        headers = {"Retry-After": str(max(1, math.ceil(rest_seconds)))} if rest_seconds else {}
        if (success := site.endpoint.success) and status == HTTPStatus.OK:
            value = True if success.value is None else success.value
            answer = answer | {success.field: value} if success.field else success.value or answer
            headers |= {"Content-Type": success.content_type} if success.content_type else {}
        streams.writer.write(_render(status, answer, headers))
        return True


def _render(status: int, data: object, headers: Mapping[str, str]) -> bytes:
    """Return an answer with `data` as JSON."""
    body = msgspec.json.encode(data)
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} \r\n{head}\r\n".encode("latin-1") + body
