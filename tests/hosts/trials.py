"""The trials: each does something to an installation during a run, and returns additional measurements."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.hosts.bench import Layout, freeze, sleep_until
from tests.hosts.demands import (
    all_but_in_flight,
    as_planned,
    back_soon,
    done,
    fair,
    in_time,
    leaves_at_most,
    noticed,
    workers_within,
)
from tests.hosts.figures import went_elsewhere
from tests.hosts.judge import moment
from tests.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.hosts.bench import HostBench
    from tests.hosts.demands import Demand
    from tests.hosts.watch import Observer

#: What fits into one window of the usual layout: 20 endpoints, 30 calls in each of three periods.
FULL = 1800
#: Enough work to keep a window busy at every moment, and all of it fits.
MUCH = 1500
#: Seconds from the tick at which something is done to a run: as soon as calls are made after the first filling.
MIDST = 6.0


@dataclass
class Trial:
    """A trial: `course` does it, on an installation of this layout."""

    course: Callable[[HostBench, Observer], dict[str, Any]]
    layout: Layout = field(default_factory=Layout)
    env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    hosts: int = 3
    #: The demands on its figures, in addition to the promises.
    demands: Sequence[Demand] = (in_time,)


def _full(bench: HostBench, watch: Observer) -> dict[str, Any]:
    tick = bench.push_for_tick(FULL, "full")
    sleep_until(tick + bench.layout.window)
    return {}


def _cut(victim: Callable[[HostBench], str], seconds: float) -> Callable[[HostBench, Observer], dict[str, Any]]:
    def course(bench: HostBench, watch: Observer) -> dict[str, Any]:
        tick = bench.push_for_tick(MUCH, "cut")
        sleep_until(tick + 2)
        name = victim(bench)
        bench.wait_for_calls(name, tick + MIDST)
        port = bench.hosts[name].port
        since = time.time()
        port.cut()
        sleep_until(since + seconds)
        port.mend()
        back = time.time()
        sleep_until(tick + 2 * bench.layout.window)
        bench.push_for_tick(MUCH, "after")
        return _noticed(bench, watch, name, since, back)

    return course


def _leader(bench: HostBench) -> str:
    """Return the host whose scheduler leads, by its name in the status; the first if that says nothing."""
    status = str((bench.rlm("status") or {}).get("conductor"))
    return next((name for name in bench.names if name in status), bench.names[0])


def _other(bench: HostBench) -> str:
    """Return a host whose scheduler does not lead."""
    return next(name for name in bench.names if name != _leader(bench))


def _all_but_one_killed(bench: HostBench, watch: Observer) -> dict[str, Any]:
    tick = bench.push_for_tick(MUCH, "killed")
    bench.wait_for_calls(bench.names[0], tick + MIDST)
    since = time.time()
    for name in bench.names[:-1]:
        bench.hosts[name].port.kill()
    sleep_until(tick + 2 * bench.layout.window)
    return {name: _noticed(bench, watch, name, since, time.time()) for name in bench.names[:-1]}


def _shut(kind: str, windows: int) -> Callable[[HostBench, Observer], dict[str, Any]]:
    """Let one host reach Redis but not the APIs, from the middle of the first of `windows` windows on."""

    def course(bench: HostBench, watch: Observer) -> dict[str, Any]:
        name = bench.names[1]
        port = bench.hosts[name].port
        tick = bench.push_for_tick(MUCH, "shut1")
        bench.wait_for_calls(name, tick + MIDST)
        since = time.time()
        getattr(port, kind)(*bench.api.addresses)
        for number in range(2, windows + 1):
            bench.push_for_tick(MUCH, f"shut{number}")
        sleep_until(bench.next_tick() + 0.8 * bench.layout.window)
        back = time.time()
        port.unblock()
        bench.push_for_tick(MUCH, "after")
        return _noticed(bench, watch, name, since, back)

    return course


def _frozen(bench: HostBench, watch: Observer) -> dict[str, Any]:
    name = bench.names[1]
    tick = bench.push_for_tick(MUCH, "frozen")
    bench.wait_for_calls(name, tick + MIDST)
    since = time.time()
    freeze(bench.hosts[name].port, seconds=20.0)
    back = time.time()
    bench.push_for_tick(MUCH, "after")
    sleep_until(tick + 3 * bench.layout.window)
    return _noticed(bench, watch, name, since, back)


def _redis_cut(bench: HostBench, watch: Observer) -> dict[str, Any]:
    tick = bench.push_for_tick(MUCH, "away")
    bench.wait_for_calls(bench.names[0], tick + MIDST)
    since = time.time()
    bench.redis.cut()
    sleep_until(since + 25)
    bench.redis.mend()
    return _back_again(bench, time.time())


def _redis_frozen(bench: HostBench, watch: Observer) -> dict[str, Any]:
    tick = bench.push_for_tick(MUCH, "stopped")
    bench.wait_for_calls(bench.names[0], tick + MIDST)
    freeze(bench.redis, seconds=8.0)
    return _back_again(bench, time.time())


def _back_again(bench: HostBench, back: float) -> dict[str, Any]:
    """Return how soon after Redis was back a call was made, and the earlier open run closed."""
    wait_until(bench.records, timeout=40, message="the run is closed")
    wait_until(lambda: [call for call in bench.calls() if call.at > back], timeout=40, message="a call is made")
    first = next(call.at for call in bench.calls() if call.at > back)
    closed = moment(bench.records()[0]["finished_at"])
    return {"first_call_after": round(first - back, 2), "closed_after": round(closed - back, 2)}


def _noticed(bench: HostBench, watch: Observer, name: str, since: float, back: float) -> dict[str, Any]:
    """Return what is known of a host that was in trouble from `since` to `back`."""
    wait_until(lambda: time.time() > back + 5, timeout=10)
    return {
        "host": name,
        "address": bench.hosts[name].port.address,
        "for_seconds": round(back - since, 1),
        "named_after": watch.named(name, since),
        "named_last": watch.cleared(name, back),
        "elsewhere": went_elsewhere(bench.calls(), bench.hosts[name].port.address, since, back),
    }


#: The environment of a host whose clock is 30 s ahead; `bench.py` makes the library.
SKEWED = {"CLOCK_OFF": "30"}
_CAPACITIES = {
    name: {"RLM_WORKERS__MAX_HERE": here} for name, here in (("host1", "10"), ("host2", "5"), ("host3", "5"))
}

_LOST = noticed("status", "doctor", within=15)
_SHUT = noticed("status", "doctor", within=5)
#: A kept connection is given up after 4 s, and then the first new ones after 3.5 s: only then it can be known.
_DROPPED = noticed("status", "doctor", within=12.5)
_EQUAL = fair(host1=1, host2=1, host3=1)

TRIALS: dict[str, Trial] = {
    "full": Trial(_full, demands=[in_time, done(0), _EQUAL, as_planned]),
    "full_skewed": Trial(_full, env={"host2": SKEWED}, demands=[in_time, done(0), _EQUAL]),
    "full_capacities": Trial(_full, env=_CAPACITIES, demands=[in_time, done(0), fair(host1=10, host2=5, host3=5)]),
    "cut": Trial(_cut(_other, 20.0), demands=[in_time, all_but_in_flight, _LOST]),
    "leader_cut": Trial(_cut(_leader, 20.0), demands=[in_time, leaves_at_most(40), _LOST]),
    "killed": Trial(_all_but_one_killed, demands=[in_time, leaves_at_most(120), _LOST, workers_within(20)]),
    # The first of these short windows ends before the slots of the calls that its 35 lanes lose come back again.
    "shut_dropped": Trial(_shut("drop", 4), demands=[in_time, leaves_at_most(35), done(1, 2, 3), _DROPPED]),
    "shut_refused": Trial(_shut("refuse", 3), demands=[in_time, done(0, 1, 2), _SHUT]),
    "frozen": Trial(_frozen, demands=[in_time, all_but_in_flight, _LOST]),
    "redis_cut": Trial(_redis_cut, demands=[back_soon, workers_within(20)]),
    "redis_frozen": Trial(_redis_frozen, demands=[back_soon, workers_within(20)]),
}
