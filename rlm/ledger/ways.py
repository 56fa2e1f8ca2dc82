"""The ways of hosts to endpoints: whether unanswered calls are the endpoint's trouble or that of one host.

If a call fails while the endpoint answers other hosts, it is its host's trouble. After a few such failures in a row,
that host's way to the endpoint is shut: its lanes leave the calls released there to other hosts. The way is probed with
one call at a time, and opens once one is answered. A host that got no answer since several of its ways were shut is cut
off: it makes no calls except probes. What all hosts see is the endpoint's trouble. A single host's failures are the
endpoint's too, unless the error says that the host cannot call.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec
from msgspec.structs import replace

from rlm.core.endpoint import Endpoint, Limited
from rlm.core.window import WindowState
from rlm.ledger.connect import text
from rlm.ledger.processes import Role
from rlm.ledger.scripts import Part, ScriptReply
from rlm.ledger.values import MICROSECONDS, moment_of_us

#: A way is shut from this many failures in a row on.
FAILING: Final = 3
#: The first and the longest time for which a way is shut, seconds.
FIRST_SHUT_SECONDS = 1.0
LONGEST_SHUT_SECONDS = 10.0
#: The form that `write_way` writes: failures, since and until when, rest, whether it is probed, why.
_WAY: Final = re.compile(r"(\d+) (\d+) (\d+) (\d+) \d (.*)")
#: The state of a host: since when, 'cut' or 'part', and when it may try another call.
_STATE: Final = re.compile(rb"(\d{1,17}) (cut|part) (\d{1,17})")
#: For how long an answer to another host shows that the endpoint can be reached, seconds.
RECENT_SECONDS = 30.0
#: A host is cut off only if this many ways are shut, or all if there are fewer.
CUT_OFF_WAYS = 2


class Failure(msgspec.Struct, frozen=True):
    """A call without an answer: `why`, in a few words of `rlm.delivery.outcome`.

    `here`: its host cannot call at all. `silent`: nothing came back for seconds, not even a refusal; if others are
    answered, one such call suffices.
    """

    why: str
    here: bool = False
    silent: bool = False


class Trouble(msgspec.Struct, frozen=True):
    """The effect of a failure. `of_host`: it is the host's trouble; its way is shut for `shut_seconds`, 0 if not shut.

    `state` is '' (no way of the host is in trouble), 'part' (some are) or 'cut' (it is cut off). `news` is 1 if the
    state has just become so, 2 if it has become worse, else 0.
    """

    of_host: bool
    shut_seconds: float = 0.0
    state: str = ""
    news: int = 0


class FailedWay(ScriptReply, frozen=True):
    """What `fail_way` answers, as in `Trouble`."""

    of_host: bool
    shut_us: int = 0
    state: str = ""
    news: int = 0


class OpenedWay(ScriptReply, frozen=True):
    """What `open_way` answers: whether the way was shut, and the state of its host that has ended."""

    opened: bool
    state: str = ""


class Way(msgspec.Struct, frozen=True):
    """A host's way to the endpoints of a window, after `failures` in a row since `since` (seconds since 1970).

    It is shut until `shut_until`, and probed after that; None if it is not shut. `why` is the last failure in words.
    """

    host: str
    window_id: str
    failures: int
    since: float
    shut_until: float | None
    why: str


class HostWays(msgspec.Struct, frozen=True):
    """A host in trouble since `since` (seconds since 1970), and its shut ways. `cut_off`: it gets no answer anywhere.

    Until `tries_at` (seconds since 1970) a host that is cut off tries nothing.
    """

    host: str
    since: float
    shut: tuple[Way, ...]
    cut_off: bool = False
    tries_at: float = 0.0

    def opens_at(self, window_id: str) -> float:
        """Return from when on this host may call the endpoints of a window, seconds since 1970."""
        found = [way.shut_until for way in self.shut if way.window_id == window_id and way.shut_until is not None]
        return max(found[0] if found else 0.0, self.tries_at if self.cut_off else 0.0)

    def bars(self, window_id: str) -> str:
        """Return how calls fail if this host may only probe the window, one at a time; empty if it may call."""
        found = [way.why for way in self.shut if way.window_id == window_id or self.cut_off]
        return found[-1] if found else ""


class Ways(Part):
    """The ways of all hosts. A way without trouble has no entry, and costs nothing."""

    def calling(self) -> set[str]:
        """Return the hosts that make calls, and those that would if they had workers."""
        return {one.host for role in (Role.SUPERVISOR, Role.WORKER) for one in self._store.processes.alive(role)}

    def fail(self, endpoint: Endpoint, host: str, failure: Failure, endpoints: int) -> Trouble:
        """Count a call of `host` that `endpoint` did not answer.

        `endpoints` is the number of all endpoints; if it is one, a single shut way means that the host is cut off.
        """
        reply = self._run(
            "fail_way",
            **self._keys_of(endpoint),
            host=host,
            window=endpoint.window_id,
            here=failure.here,
            failing=FAILING,
            first_us=round(FIRST_SHUT_SECONDS * MICROSECONDS),
            longest_us=round(LONGEST_SHUT_SECONDS * MICROSECONDS),
            recent_us=round(RECENT_SECONDS * MICROSECONDS),
            least=min(CUT_OFF_WAYS, endpoints),
            counts=FAILING if failure.silent else 1,
            why=failure.why,
            calling=sorted(self.calling() if self.look() else ()),  # needed only if a way may open
        )
        failed = FailedWay.read(reply)
        return Trouble(failed.of_host, failed.shut_us / MICROSECONDS, failed.state, failed.news)

    def open(self, endpoint: Endpoint, host: str) -> tuple[bool, str]:
        """Record that `endpoint` answered a call of `host`.

        Return whether the way was shut, and the host's state ('part' or 'cut') if that has now ended.
        """
        recent_us = round(RECENT_SECONDS * MICROSECONDS)
        keys = self._keys_of(endpoint)
        reply = self._run("open_way", **keys, host=host, window=endpoint.window_id, recent_us=recent_us)
        answered = OpenedWay.read(reply)
        return answered.opened, answered.state

    def keep(self, hosts: Collection[str]) -> None:
        """Forget the ways of all hosts except these."""
        found = {text(field).partition(" ")[0] for field in self._hgetall(self._keys.ways)}
        if gone := found - set(hosts):
            self._run("forget_hosts", ways=self._keys.ways, epoch=self._keys.epoch, gone=sorted(gone))

    def look(self) -> dict[str, HostWays]:
        """Return the hosts that have a shut way, by name."""
        return read_ways(self._hgetall(self._keys.ways))

    def _keys_of(self, endpoint: Endpoint) -> dict[str, str]:
        keys = self._keys
        well = keys.well(endpoint.window_id)
        return {"ways": keys.ways, "well": well, "hosts": keys.well_hosts, "epoch": keys.epoch}


def read_ways(entries: Mapping[bytes, bytes]) -> dict[str, HostWays]:
    """Return the hosts that have a shut way, from all entries."""
    found: dict[str, list[Way]] = {}
    for field, raw in entries.items():
        if b" " in field and (way := read_way(field, raw)) and way.shut_until is not None:
            found.setdefault(way.host, []).append(way)
    return {host: _host_ways(host, ways, entries.get(host.encode())) for host, ways in sorted(found.items())}


def read_way(field: bytes, raw: bytes) -> Way | None:
    """Return a decoded way, None if it is invalid."""
    host, _, window_id = text(field).rpartition(" ")
    parts = _WAY.fullmatch(text(raw))
    if parts is None:
        return None
    failures, since, till, rest = map(int, parts.groups()[:4])
    shut_until = moment_of_us(till) if rest else None
    return Way(host, window_id, failures, moment_of_us(since), shut_until, parts[5])


def _host_ways(host: str, ways: list[Way], raw: bytes | None) -> HostWays:
    state = _STATE.fullmatch(raw or b"")
    shut = tuple(sorted(ways, key=lambda way: (way.since, way.window_id)))
    if state is None:
        return HostWays(host, shut[0].since, shut)
    return HostWays(host, moment_of_us(state[1]), shut, state[2] == b"cut", moment_of_us(state[3]))


def cut_off(ways: Mapping[str, HostWays]) -> set[str]:
    """Return the hosts that are cut off: they reach Redis, but no endpoint."""
    return {host for host, one in ways.items() if one.cut_off}


def shade(
    windows: Mapping[str, WindowState],
    limited: Iterable[Limited],
    ways: Mapping[str, HostWays],
    hosts: AbstractSet[str],
    now: float,
) -> dict[str, WindowState]:
    """Return the windows for calls of these hosts: one that none of them reaches rests until it may be probed.

    No plan uses it until a probe is answered. `now` is the time of Redis, seconds since 1970.
    """
    if not hosts or not hosts <= ways.keys():
        return dict(windows)
    found = [ways[host] for host in sorted(hosts)]
    endpoints = [one for one in limited if isinstance(one, Endpoint)]
    return {**windows, **{one.name: _shaded(windows[one.name], one.window_id, found, now) for one in endpoints}}


def _shaded(window: WindowState, window_id: str, hosts: Sequence[HostWays], now: float) -> WindowState:
    bars = [host.bars(window_id) for host in hosts]
    if not all(bars):
        return window
    wait_seconds = min(host.opens_at(window_id) for host in hosts) - now
    window = replace(window, free=min(window.free, 1), suspect=True, unreached=", ".join(dict.fromkeys(bars)))
    if wait_seconds <= 0:
        return window
    rest_seconds = max(window.rest_seconds, wait_seconds)
    return replace(window, free=0, wait_seconds=max(window.wait_seconds, rest_seconds), rest_seconds=rest_seconds)
