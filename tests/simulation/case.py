"""One case: an installation by one seed, some windows with faults, then some without, judged after each window.

Safety is always judged: nothing lost, no limit exceeded, books that balance, nothing counted twice, repeats only after
a fault. Liveness is judged once the faults have stopped: runs start on time, and all is done.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from msgspec import structs

from rlm.core.endpoint import Limit, all_limited
from rlm.ledger.reading.books import books
from rlm.sandbox.mockapi.service import recount
from rlm.settings import load_settings
from tests.simulation.faults import PROCESS_FAULTS
from tests.simulation.loop import Doom
from tests.simulation.world import World
from tests.values import as_json, replace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rlm.settings import Settings

WINDOW_SECONDS = 3.0
#: Windows of a case with faults, and without.
FAULTY_WINDOWS = 8
#: After the faults: a window for repairs, then as many as the remaining work takes.
MOST_HEALED_WINDOWS = 14
#: Seconds after its tick within which a run must be open without faults.
ON_TIME_SECONDS = 1.3
#: A lowered limit applies to later claims; calls in flight are done after this, seconds.
LIMIT_SETTLES_SECONDS = 4.0

#: Scripts with which a deposed conductor could do harm.
WRITES = ("open_run", "stage_items", "take_chunk", "release_calls", "advance_run")

DOCUMENT = """
[redis]
url = "redis://simulated:6379/0"
[queue]
dedupe_seconds = 1000000
[run]
window_seconds = 3.0
every_seconds = 3.0
guard_seconds = 0.1
history = 200
[workers]
min = 1
max = 3
threads = 2
[retry]
max_attempts = 3
max_runs = 3
timeout_seconds = 0.8
[budgets.account]
rate_limit = "5 per 0.8 second"
[types.ALPHA]
priority = 5
processing_seconds = 0.12
rate_limit = "3 per 0.6 second"
endpoints = [{ name = "a1", url = "http://simulated/a1" }, { name = "a2", url = "http://simulated/a2" }]
[types.BETA]
priority = 2
processing_seconds = 0.12
rate_limit = "3 per 0.5 second; 8 per 2.0 second"
endpoints = [{ name = "b1", url = "http://simulated/b1", budget = "account" },
             { name = "b2", url = "http://simulated/b2", budget = "account" }]
"""


@cache
def settings_of(document: str = DOCUMENT) -> Settings:
    """Load a configuration, in a directory of this process, which is removed when the process ends."""
    directory = Path(tempfile.mkdtemp(prefix="rlm-simulation-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    file = directory / "rlm.toml"
    file.write_text(document)
    return load_settings(file, {})


@dataclass(slots=True)
class Verdict:
    """The result of a case."""

    seed: int
    complaints: list[str]
    faulty_windows: int
    windows: int
    runs: int
    events: int
    calls: int
    repeats: int
    faults: Counter[str]
    seconds: float
    digest: str
    trace: list[str] = field(default_factory=list)


class Case:
    """An installation under one seed, with a producer and an operator."""

    def __init__(self, seed: int, **options: Any) -> None:
        document = options.pop("settings", None) or settings_of()
        self._mutations: Mapping[str, bytes] = options.pop("mutations", {})
        self.faulty_windows: int = options.pop("faulty_windows", FAULTY_WINDOWS)
        self._writes: Sequence[str] = options.pop("writes", WRITES)
        self.world = World(seed, document, **options)
        self._rng = Random(seed + 2)
        self._load = self._rng.choice((6, 12, 20, 30))
        self._events: set[str] = set()
        self._bad = 0
        self._items = 0
        self._healed_at = float("inf")
        self._opened: dict[str, float] = {}
        self._in_time = True
        self._limited = {one.name: one for one in all_limited(document.endpoints.values())}
        #: The limits in force, by name: from when, and which.
        self._limits: dict[str, list[tuple[float, Limit]]] = {
            name: [(float("-inf"), one.limit)] for name, one in self._limited.items()
        }

    def run(self) -> Verdict:
        """Play the case and judge it."""
        began, world = time.perf_counter(), self.world
        windows = 0
        with world.in_place(self._mutations):
            world.start()
            for number in range(self.faulty_windows):
                self._plan_load(number, self._load)
                self._plan_faults(number)
                self._pass_window(number)
                windows += 1
            self._heal()
            while windows < self.faulty_windows + MOST_HEALED_WINDOWS and not world.complaints:
                if windows < self.faulty_windows + 2:
                    self._plan_load(windows, 4)
                self._pass_window(windows)
                windows += 1
                if windows >= self.faulty_windows + 3 and self._is_empty():
                    break
            self._judge_liveness()
            self._judge_repeats()
            runs = len(world.store.runs.history(1000))
        arrived = Counter(one.event_id for one in world.arrivals)
        return Verdict(
            world.seed,
            world.complaints,
            self.faulty_windows,
            windows,
            runs,
            len(self._events),
            len(world.arrivals),
            sum(arrived.values()) - len(arrived),
            world.faults.counts,
            time.perf_counter() - began,
            hashlib.sha256("\n".join(world.trace).encode()).hexdigest(),
            world.trace,
        )

    # -- what happens

    def _pass_window(self, number: int) -> None:
        """Let a window pass, note when its run opens, and judge the state then."""
        loop, store = self.world.loop, self.world.store
        until = WINDOW_SECONDS * (number + 1)
        while loop.now < until and not self.world.complaints:
            loop.run(min(until, loop.now + 0.25))
            run = store.runs.current()
            if run is not None and run.id not in self._opened:
                self._opened[run.id] = loop.now
                self.world.note(f"run {run.id} is seen open")
            for name, error in loop.crashes:
                self.world.complain(f"{name} crashed: {error}")
            loop.crashes.clear()
        self._judge_safety()

    def _plan_load(self, window: int, number: int) -> None:
        """Let the audit system push about `number` events at some time in a window."""
        rng, begins = self._rng, WINDOW_SECONDS * window
        for _ in range(rng.randint(1, 3)):
            share = rng.randint(0, max(1, number // 2))
            self.world.loop.call_at(begins + rng.uniform(0, WINDOW_SECONDS), lambda share=share: self._push(share))

    def _push(self, number: int) -> None:
        rng, items = self._rng, []
        for _ in range(number):
            self._items += 1
            poison = "poison" if self.world.faults.poison and rng.random() < 0.03 else "i"
            types = rng.choice((["ALPHA"], ["ALPHA"], ["BETA"], ["ALPHA", "BETA"]))
            item: dict[str, Any] = {"id": f"{poison}{self._items}", "wallet_name": "w", "events": types}
            if rng.random() < 0.3:
                item["priority"] = rng.randint(0, 9)
            items.append(json.dumps(item).encode())
            self._events.update(f"{item['id']}:{name}" for name in types)
            if rng.random() < 0.05:
                items.append(items[-1])  # the same again, which is a duplicate
            if rng.random() < 0.03:
                self._bad += 1
                items.append(b"{not json %d" % self._bad)
        if items:
            self.world.store.intake.push(items)
            self.world.note(f"{len(items)} items are pushed")

    def _plan_faults(self, window: int) -> None:
        rng, world = self._rng, self.world
        for kind in world.faults.system:
            if rng.random() < world.faults.system_rate:
                at = WINDOW_SECONDS * window + rng.uniform(0, WINDOW_SECONDS)
                world.loop.call_at(at, lambda kind=kind: None if world.faults.healed else self._strike(kind))

    def _strike(self, kind: str) -> None:
        """Cause one fault."""
        rng, world = self._rng, self.world
        role, _, what = kind.partition(" ")
        if kind in PROCESS_FAULTS:
            hosts = world.living(role)
            conductor = world.conductor() if role == "scheduler" and rng.random() < 0.7 else None
            if hosts:
                host = conductor or rng.choice(hosts)
                host.doom = self._doom(role, what, host.calls)
            return
        if role == "clock" and world.redis_offset:
            return  # of several steps nobody may know what was followed
        world.count(kind)
        {
            "redis": lambda: world.go_away(rng.choice((0.1, 1.0, rng.uniform(2.0, 7.0))), restarts=what == "restarted"),
            "run": lambda: self._operate(what),
            "limit": lambda: self._set_limit(rng.choice(list(self._limited)), lower=True),
            "endpoint": lambda: self._shut(what),
            "clock": lambda: world.step_clock(rng.choice((0.3, 2.0, 3600.0)) * (-1 if "back" in what else 1)),
            "schedulers": self._stop_schedulers,
            "hosts": lambda: self._step_hosts(-1 if "back" in what else 1),
        }[role]()

    def _stop_schedulers(self) -> None:
        """Send TERM to the schedulers: the one that conducts, or all of them at once or nearly so."""
        rng, world = self._rng, self.world
        conductor, living = world.conductor(), world.living("scheduler")
        for host in [conductor] if conductor and rng.random() < 0.5 else living:
            if stop := world.stops.get(host):
                world.loop.call_at(world.loop.now + rng.choice((0.0, rng.uniform(0.0, 0.3))), stop.ask)

    def _step_hosts(self, direction: int) -> None:
        """Set the clock of the hosts, which must not cause a tick."""
        self.world.hosts_offset += direction * WINDOW_SECONDS * self._rng.choice((0.3, 1, 2.5, 10, 1200))

    def _operate(self, what: str) -> None:
        runs = self.world.store.runs
        if what == "asked for":
            self.world.store.schedule.request()
        elif run := runs.current():
            runs.cancel(run.id)

    def _shut(self, what: str) -> None:
        """Pause an endpoint, or take it down."""
        rng, world = self._rng, self.world
        name = rng.choice(list(world.settings.endpoints))
        if what == "paused":
            world.store.control.pause(self._limited[name], "operator", rng.choice((0.5, 3.0, None)))
            return
        world.faults.down.add(name)
        world.loop.call_at(world.loop.now + rng.uniform(0.2, 4.0), lambda: world.faults.down.discard(name))

    def _doom(self, role: str, what: str, calls: int) -> Doom:
        """Choose at which of its next calls a process meets its fault, and how long that lasts.

        A conductor that is frozen beyond its lease matters if it is about to write, and if it wakes up just before or
        after the next run opens.
        """
        rng = self._rng
        seconds = rng.choice((0.05, 0.5, rng.uniform(2.0, 3.5), rng.uniform(4.1, 7.0)))
        if role != "scheduler" or rng.random() < 0.4:
            return Doom(what, calls + rng.randint(1, 40), seconds)
        wakes = (self.world.loop.now // WINDOW_SECONDS + rng.randint(2, 3)) * WINDOW_SECONDS + rng.uniform(-0.4, 0.3)
        return Doom(what, calls, rng.choice((seconds, wakes - self.world.loop.now)), rng.choice(self._writes))

    def _set_limit(self, name: str, *, lower: bool) -> None:
        """Set a limit by hand."""
        history = self._limits[name]
        limit = history[0][1]
        if lower:
            rules = "; ".join(f"{max(1, rule.amount - 2)} per {rule.seconds} second" for rule in limit.rules)
            limit = Limit.parse(rules)
        self.world.note(f"the limit of {name} is {limit.text}")
        self.world.store.control.limit(self._limited[name], limit.text, "operator")
        history.append((self.world.loop.now, limit))

    def _heal(self) -> None:
        world = self.world
        world.note("the faults stop")
        world.faults.healed = True
        world.faults.down.clear()
        world.go_away(0.0, restarts=False)
        for host in world.hosts:
            host.doom = None
        for name in self._limits:
            self._set_limit(name, lower=False)
            world.store.control.resume(self._limited[name], "operator")
        self._healed_at = max([world.loop.now, *(host.frozen_until for host in world.hosts)])

    # -- what must hold

    def _unsettled(self) -> set[str]:
        keys, client = self.world.store.keys, self.world.store.client
        return {
            one.decode()
            for name in self.world.store.known_types
            for key in (keys.pending(name), keys.retried(name), *keys.holders(name))
            for one in client.zrange(key, 0, -1)
        }

    def _waiting(self) -> list[bytes]:
        keys, client = self.world.store.keys, self.world.store.client
        return client.lrange(keys.events, 0, -1) + client.lrange(keys.processing, 0, -1)

    def _is_empty(self) -> bool:
        return not self._waiting() and not self._unsettled()

    def _judge_safety(self) -> None:
        world = self.world
        for fault in books(world.store).faults:
            world.complain(f"the books do not balance: {fault}")
        waiting = self._waiting()
        letters = [json.loads(raw) for raw in world.store.letters.all()]
        dead = Counter(one["event_id"] for one in letters if one["event_id"])
        unsettled = self._unsettled()
        answered = {one.event_id for one in world.arrivals if one.status == 200}
        listed = {f"{item['id']}:{name}" for item in map(_item, waiting) if item is not None for name in item["events"]}
        if lost := self._events - unsettled - dead.keys() - listed - self._completed():
            world.complain(f"{len(lost)} events are lost: {sorted(lost)[:5]}")
        if false := self._completed() - answered:
            world.complain(f"events count as completed that no API has answered well: {sorted(false)[:5]}")
        if twice := [event for event, number in dead.items() if number > 1]:
            world.complain(f"events have several dead letters: {twice[:5]}")
        if both := (dead.keys() | self._completed()) & unsettled:
            world.complain(f"events are settled and unsettled at once: {sorted(both)[:5]}")
        bad = sum(one["reason"] == "not_json" for one in letters) + sum(_item(raw) is None for raw in waiting)
        if bad != self._bad:
            world.complain(f"{self._bad} bad items were pushed, and there are {bad}")
        self._judge_records(letters)
        self._judge_limits()

    def _completed(self) -> set[str]:
        """Return the events that the ledger knows as completed."""
        store = self.world.store
        events = sorted(self._events)
        pipeline = store.client.pipeline(transaction=False)
        for event in events:
            pipeline.hget(store.keys.event(event), "state")
        states = pipeline.execute()
        return {event for event, state in zip(events, states, strict=True) if state == b"completed"}

    def _judge_records(self, letters: list[dict[str, Any]]) -> None:
        """Check that each record balances, and all with the open run count every event exactly once."""
        store, world = self.world.store, self.world
        total: Counter[str] = Counter()
        for run_id in store.runs.history(1000):
            record = as_json(store.runs.record(run_id)) or {}
            self._judge_record(record)
            total.update({what: record["counts"][what] for what in ("taken", "completed", "failed")})
        run = store.runs.current()
        if run is not None:
            for what, number in store.runs.tally().items():
                if what.partition(":")[0] in ("taken", "completed", "failed"):
                    total[what.partition(":")[0]] += number
        if total["completed"] != len(self._completed()):
            world.complain(f"{total['completed']} are counted as completed, but {len(self._completed())} are")
        failed = sum(one["event_id"] is not None for one in letters)
        if total["failed"] != failed:
            world.complain(f"{total['failed']} are counted as failed, but {failed} are")
        known = len(self._completed()) + failed + len(self._unsettled())
        if total["taken"] != known:
            world.complain(f"{total['taken']} are counted as taken, but {known} are known")

    def _judge_record(self, record: Mapping[str, Any]) -> None:
        for name, entry in [*record["by_type"].items(), ("in all", record["counts"])]:
            came = entry["taken"] + entry["carried_over"]
            if came != entry["completed"] + entry["failed"] + entry["leftover"]:
                self.world.complain(f"the record of {record['run_id']} does not balance, {name}: {entry}")
        for name, entry in record["by_endpoint"].items():
            if entry["calls"] != entry["completed"] + entry["throttled"] + entry["errors"]:
                self.world.complain(f"the calls of {record['run_id']} do not balance, {name}: {entry}")

    def _judge_limits(self) -> None:
        """Check that the API saw no limit exceeded."""
        world, now = self.world, self.world.loop.now
        arrived = [one for one in world.arrivals if one.at > now - 3 * WINDOW_SECONDS]
        endpoints = world.settings.endpoints
        for one in all_limited(endpoints.values()):
            here = [call for call in arrived if one in (endpoints[call.endpoint], endpoints[call.endpoint].budget)]
            for (since, limit), (until, _) in zip(
                self._limits[one.name], [*self._limits[one.name][1:], (float("inf"), None)], strict=True
            ):
                # A limit that was lowered holds for what is claimed from then on, the one before till then.
                held = [call for call in here if since + LIMIT_SETTLES_SECONDS < call.at <= until]
                for rule in limit.rules:
                    if (most := recount(held, rule)) > rule.amount:
                        world.complain(f"{one.name} got {most} calls within {rule.seconds:g} s, not {rule.amount}")
            loosest = self._limits[one.name][0][1]
            for rule in loosest.rules:
                if (most := recount(here, rule)) > rule.amount:
                    world.complain(f"{one.name} got {most} calls within {rule.seconds:g} s, not {rule.amount}")

    def _judge_repeats(self) -> None:
        """Check that a call is repeated only if the one before was not answered well, or a fault hit its worker."""
        last: dict[str, Any] = {}
        for call in self.world.arrivals:
            before = last.get(call.event_id)
            if (
                before is not None
                and before.status == 200
                and before.answered
                and before.host.hit_at < before.sent_at
                and self.world.stepped_at < before.sent_at - 10
            ):
                self.world.complain(
                    f"{call.event_id} was sent at {call.sent_at:.3f}, though it was answered well at {before.at:.3f}"
                )
            last[call.event_id] = call

    def _judge_liveness(self) -> None:
        """Check that, without further faults, runs start on time and everything is done."""
        world = self.world
        if world.complaints:
            return
        if not self._is_empty():
            world.complain(
                f"{(world.loop.now - self._healed_at) / WINDOW_SECONDS:.0f} windows after the faults stopped "
                f"{len(self._waiting())} items and {len(self._unsettled())} events are left: "
                f"{sorted(self._unsettled())[:5]}"
            )
        for run_id, seen_at in self._opened.items():
            record = as_json(world.store.runs.record(run_id))
            if record is None or record["trigger"] != "schedule" or seen_at < self._healed_at + 2 * WINDOW_SECONDS:
                continue
            late = (seen_at + world.redis_offset) % WINDOW_SECONDS
            if late > ON_TIME_SECONDS:
                world.complain(f"run {run_id} opened {late:.2f} s after its tick")


def _item(raw: bytes) -> dict[str, Any] | None:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def play(seed: int, **options: Any) -> Verdict:
    """Play one case."""
    return Case(seed, **options).run()


def without_guard() -> Settings:
    """Return the settings with a guard of zero."""
    settings = settings_of()
    return replace(settings, run=structs.replace(settings.run, guard_seconds=0.0))
