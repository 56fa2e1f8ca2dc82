"""The ways of hosts to endpoints: whose trouble it is when calls get no answer, the endpoint's or that of one host.

A call that fails while other hosts' calls to the same endpoint are answered is the trouble of its host. After a few in
a row the way of that host to that endpoint is shut: its lanes leave the calls that are released there to other hosts.
It is probed by one call at a time, and open again once one is answered. A host to which nothing was answered since
several of its ways were shut is cut off: it makes no calls but probes. What every host sees is the endpoint's, with one
host alone whatever that sees, unless the error says that the host cannot call.
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
from rlm.ledger.connect import MICROSECONDS, text
from rlm.ledger.processes import Role
from rlm.ledger.scripts import Argument, Part

#: Failures in a row from which on a way is shut.
FAILING: Final = 3
#: How long a way is shut at first and at most, seconds.
FIRST_SHUT_SECONDS = 1.0
LONGEST_SHUT_SECONDS = 10.0
#: As `write_way` writes it: failures, since and till when, rest, whether it is being probed, why.
_WAY: Final = re.compile(r"(\d+) (\d+) (\d+) (\d+) \d (.*)")
#: The state of a host: since when, 'cut' or 'part', and when it may try another call.
_STATE: Final = re.compile(rb"(\d{1,17}) (cut|part) (\d{1,17})")
#: For how long an answer to another host's call shows that the endpoint can be reached, seconds.
RECENT_SECONDS = 30.0
#: So many ways must be shut, or all there are, for a host to be cut off.
CUT_OFF_WAYS = 2


class Failure(msgspec.Struct, frozen=True):
    """A call that got no answer: why, in a few words of `rlm.delivery.outcome`.

    `here`: its host cannot call at all. `silent`: nothing came back for seconds, not even a refusal; where others are
    answered one such call is enough.
    """

    why: str
    here: bool = False
    silent: bool = False


class Trouble(msgspec.Struct, frozen=True):
    """What a failure did. `of_host`: it is the host's trouble, whose way is shut for `shut_seconds` from now, 0 if not.

    `state` is '', 'part' or 'cut': no way of the host is known to be in trouble, some are, or it is cut off. `news`:
    that has just become so, 1, or worse, 2; else 0.
    """

    of_host: bool
    shut_seconds: float = 0.0
    state: str = ""
    news: int = 0


class Way(msgspec.Struct, frozen=True):
    """The way of a host to the endpoints of a window, after `failures` in a row since `since` (seconds since 1970).

    It is shut until `shut_until`, or being probed; None if it is not shut. `why` is the last failure, in a few words.
    """

    host: str
    window_id: str
    failures: int
    since: float
    shut_until: float | None
    why: str


class HostWays(msgspec.Struct, frozen=True):
    """What is wrong with a host since when (seconds since 1970): which ways are shut; `cut_off`: nothing gets through.

    Until `tries_at` (seconds since 1970) a host that is cut off tries nothing.
    """

    host: str
    since: float
    shut: tuple[Way, ...]
    cut_off: bool = False
    tries_at: float = 0.0

    def opens_at(self, window_id: str) -> float:
        """Return from when on a call of this host may go to the endpoints of a window, seconds since 1970."""
        found = [way.shut_until for way in self.shut if way.window_id == window_id and way.shut_until is not None]
        return max(found[0] if found else 0.0, self.tries_at if self.cut_off else 0.0)

    def bars(self, window_id: str) -> str:
        """Return what calls fail with where such a call is a probe, one at a time; empty if it is none."""
        found = [way.why for way in self.shut if way.window_id == window_id or self.cut_off]
        return found[-1] if found else ""


class Ways(Part):
    """The ways of all hosts. What is not in trouble has no entry, and costs nothing."""

    def calling(self) -> set[str]:
        """Return the hosts that make calls, and those that would if they were given workers."""
        drained = {text(host) for host in self._hgetall(self._keys.drains)}
        supervisors, workers = map(self._store.processes.alive, (Role.SUPERVISOR, Role.WORKER))
        return {one.host for one in workers} | {one.host for one in supervisors} - drained

    def fail(self, endpoint: Endpoint, host: str, failure: Failure, endpoints: int) -> Trouble:
        """Count a call of `host` that `endpoint` did not answer.

        `endpoints` is how many there are: with one, a single shut way means that the host is cut off.
        """
        spans = FIRST_SHUT_SECONDS, LONGEST_SHUT_SECONDS, RECENT_SECONDS
        args: list[Argument] = [host, endpoint.window_id, int(failure.here), FAILING]
        args += [round(seconds * MICROSECONDS) for seconds in spans]
        args += [min(CUT_OFF_WAYS, endpoints), FAILING if failure.silent else 1, failure.why]
        args += sorted(self.calling() if self.look() else ())  # asked for only where a way may open
        of_host, shut_us, state, news = self._run("fail_way", self._keys_of(endpoint), args)
        return Trouble(bool(of_host), shut_us / MICROSECONDS, text(state), news)

    def open(self, endpoint: Endpoint, host: str) -> tuple[bool, str]:
        """Note that `endpoint` answered a call of `host`.

        Returns whether the way there was shut, and what was known of the host ('part' or 'cut') if that is over now.
        """
        args: list[Argument] = [host, endpoint.window_id, round(RECENT_SECONDS * MICROSECONDS)]
        opened, state = self._run("open_way", self._keys_of(endpoint), args)
        return bool(opened), text(state)

    def keep(self, hosts: Collection[str]) -> None:
        """Forget the ways of all hosts but these."""
        found = {text(field).partition(" ")[0] for field in self._hgetall(self._keys.ways)}
        if gone := found - set(hosts):
            self._run("forget_hosts", [self._keys.ways, self._keys.epoch], sorted(gone))

    def look(self) -> dict[str, HostWays]:
        """Return what is wrong with hosts, by name: those of which some way is shut."""
        return read_ways(self._hgetall(self._keys.ways))

    def _keys_of(self, endpoint: Endpoint) -> list[str]:
        keys = self._keys
        return [keys.ways, keys.well(endpoint.window_id), keys.well_hosts, keys.epoch]


def read_ways(entries: Mapping[bytes, bytes]) -> dict[str, HostWays]:
    """Read all entries: what is wrong with hosts, as `Ways.look` returns it."""
    found: dict[str, list[Way]] = {}
    for field, raw in entries.items():
        if b" " in field and (way := read_way(field, raw)) and way.shut_until is not None:
            found.setdefault(way.host, []).append(way)
    return {host: _host_ways(host, ways, entries.get(host.encode())) for host, ways in sorted(found.items())}


def read_way(field: bytes, raw: bytes) -> Way | None:
    """Read an entry; None for what is none."""
    host, _, window_id = text(field).rpartition(" ")
    parts = _WAY.fullmatch(text(raw))
    if parts is None:
        return None
    failures, since, till, rest = map(int, parts.groups()[:4])
    shut_until = till / MICROSECONDS if rest else None
    return Way(host, window_id, failures, since / MICROSECONDS, shut_until, parts[5])


def is_state(raw: bytes) -> bool:
    """Return whether it is the state of a host."""
    return _STATE.fullmatch(raw) is not None


def _host_ways(host: str, ways: list[Way], raw: bytes | None) -> HostWays:
    state = _STATE.fullmatch(raw or b"")
    shut = tuple(sorted(ways, key=lambda way: (way.since, way.window_id)))
    if state is None:
        return HostWays(host, shut[0].since, shut)
    return HostWays(host, int(state[1]) / MICROSECONDS, shut, state[2] == b"cut", int(state[3]) / MICROSECONDS)


def cut_off(ways: Mapping[str, HostWays]) -> set[str]:
    """Return the hosts that are cut off: they reach Redis, and no endpoint."""
    return {host for host, one in ways.items() if one.cut_off}


def shade(
    windows: Mapping[str, WindowState],
    limited: Iterable[Limited],
    ways: Mapping[str, HostWays],
    hosts: AbstractSet[str],
    now: float,
) -> dict[str, WindowState]:
    """Return the windows as they are for calls of these hosts: one that none of them reaches rests until it is probed.

    No plan counts on it until a probe is answered. `now` is the time of Redis, seconds since 1970.
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
