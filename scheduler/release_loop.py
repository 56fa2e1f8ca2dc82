"""The release loop: a call is released when an endpoint has a slot for it and a lane is free, and not before.

Lanes take released calls one after the other; those that are idle are woken by messages.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from actors.broker import WakingBroker
from rlm.admin.planning import types_in_force
from rlm.core.clock import system_clock
from rlm.core.endpoint import all_limited
from rlm.core.errors import FencedError, StoreError
from rlm.core.text import counted
from rlm.core.trail import Counts
from rlm.core.window import WindowState
from rlm.ledger import Store
from rlm.ledger.drain import Drain
from rlm.ledger.processes import Process, WorkerState
from rlm.ledger.runs import write_waits
from rlm.ledger.trouble import Outage, revive
from rlm.ledger.values import MICROSECONDS
from rlm.plan import choose_releases
from rlm.plan.choose_releases import ReleaseState
from rlm.plan.waits import Wait, Waits
from scheduler.forecast import Forecaster
from scheduler.leader import Duty, Leader
from scheduler.redis_watch import FIT_SECONDS, RedisWatch
from scheduler.releases import Releases, Rhythm
from scheduler.team import Gathering, RunHosts, Team, TeamWatch
from scheduler.ticks import full_before_opening

#: How long a turn waits, seconds: at least, and at most.
BUSY_SECONDS = 0.01
QUIET_SECONDS = 0.05
#: The latter while items are taken in and nothing waits to be tried again: a turn costs as much as some chunks.
DRAINING_SECONDS = 0.25
#: How often the workers, the run's own state and what is overdue are read, seconds.
LOOK_SECONDS = 0.1
#: Maximum assumed skew between Redis and host clocks, seconds. By the host clock no run outlives its deadline by more.
APART_SECONDS = 5.0
#: Pause after Redis failed, seconds.
AWAY_SECONDS = 0.2
#: How long after Redis failed no lease counts as run out, seconds: lanes that were answered meanwhile settle first.
SETTLING_SECONDS = 1.5
#: How often it is written to Redis what the events waited for, seconds.
NOTE_SECONDS = 1.0

log = logging.getLogger(__name__)


class ReleaseLoop:
    """Releases the calls of a run, and drains what is left of its `drain`, until none can be sent or it is to end."""

    def __init__(
        self, store: Store, broker: WakingBroker, leader: Leader, redis: RedisWatch, duty: Duty, drain: Drain
    ) -> None:
        self._run = run = drain.run
        self._store = store
        self._leader = leader
        self._redis, self._duty, self._drain = redis, duty, drain
        self._limits = store.limits()
        self._types = types_in_force(store)
        self._names = [one.name for one in self._types]
        self._limited = all_limited(end for one in self._types for end in one.endpoints)
        self._releases = Releases(store, broker, leader, run.id)
        self._releases.follow(self._types, run.revision)
        self._forecaster = Forecaster(store, leader, run, self._types)
        tally = store.runs.tally(run.id)
        self._carried = {one: tally.get(f"carried:{one}", 0) for one in self._names}
        self._looked_at = float("-inf")
        self._turn_seconds: float | None = None  #: how long turns have been lately, at the most
        self._counts: Mapping[str, Counts] = {}
        self._rhythm = Rhythm()
        self._deadline_us = run.deadline_us - redis.shifted_us
        self._deadline = system_clock.monotonic() + run.left_seconds(store.now_us())
        self._first_release_at = run.first_release_at
        self._lanes = 0
        self._workers: list[str] = []
        self._gathering = Gathering(run.window_seconds)
        self._planned_at = system_clock.monotonic()
        self._cold = self._hindered = self._could_send = False
        self._restarts = store.processes.restarts()
        self._settling_until = 0.0  # unless Redis was away since leases were looked at
        self._away_seconds = run.away_seconds
        self._outage = Outage(log, "release")
        self._watch = TeamWatch(store, run.id, duty)
        self._hosts = RunHosts(store, run.id, duty)
        self._team = Team(0, supervised=True)
        self._waits = Waits.read(run.waits, run.opened_at)
        self._late = run.late if run.waits is None else {}  # else the waits have it already
        self._waits_noted_at = self._planned_at
        self._interrupted = duty.lately_away  # the run may have stood still before it was taken over
        self.workers_peak = run.workers_peak  #: most workers ready at one time
        self.cancelled = False  #: whether somebody asked to end the run
        self.lost_redis = False  #: whether Redis was away, or not fit, when the deadline passed

    @property
    def lacked_workers(self) -> bool:
        """Whether events could have been sent, and no worker was ever ready for them."""
        return self._could_send and not self.workers_peak

    def run(self) -> None:
        """Release until the run is to end.

        Raises:
            FencedError: another conductor took over.
            StoreError: Redis is away, and this process is to stop.
        """
        while True:
            try:
                with self._store.guarded():  # whatever stands in Redis is no reason to end
                    pause = self._turn()
            except FencedError:
                raise
            except StoreError as error:
                self._interrupted = True
                self._settling_until = system_clock.monotonic() + SETTLING_SECONDS
                self._duty.note_outage()
                self._outage.tell(error, "nothing is released meanwhile", run_id=self._run.id)
                revive(self._store)
                self._redis.keys.after(error)
                self._leave_out()
                if self._duty.stopping:
                    raise
                self.lost_redis = system_clock.monotonic() > self._deadline
                pause = AWAY_SECONDS
            else:
                self._away_seconds += self._outage.over()
            if pause is None:
                return
            self._duty.wait(pause)

    def _turn(self) -> float | None:
        """Do one turn; return how long to wait for the next, None if the loop is over. The last see to less."""
        lag_seconds = self._rhythm.begin()
        is_last = self._deadline - self._rhythm.began_at < (self._turn_seconds or 0)  # seconds if Redis is far away
        self._leader.keep(self._turn_seconds)
        # First: an event that takes its slot in between then counts twice instead of not at all.
        counts = self._counts = self._releases.count()
        self._redis.check(float("inf") if is_last else FIT_SECONDS)
        now_us = self._redis.now_us
        views = self._hosts.shade(self._releases.windows.look(self._lanes), self._limited, now_us / MICROSECONDS)
        viewed_at = system_clock.monotonic()
        remaining = min(
            (self._deadline_us - now_us + self._redis.shifted_us) / 1_000_000,
            self._deadline - system_clock.monotonic() + APART_SECONDS,
        )
        if remaining > 0 and not is_last:
            self._look_around(now_us, counts, views)
            remaining -= system_clock.monotonic() - viewed_at  # that takes long where Redis is far away
        if self.cancelled or self._duty.stopping:
            return None
        measured, kept = self._forecaster.measuring.expected, self._forecaster.kept
        team = self._begun(counts), self._lack(counts), self._forecaster.turnaround.seconds
        untaken = self._drain.untaken(remaining), self._drain.left - self._drain.takes(remaining)
        scene = ReleaseState(counts, views, self._lanes, remaining, measured, *team, lag_seconds, *untaken, kept)
        if remaining <= 0:
            self.lost_redis = self.lost_redis or self._interrupted or bool(self._redis.unfit)
            self._follow_waits(scene)
            return None
        if self._redis.unfit:
            self._interrupted = True
            return AWAY_SECONDS
        self._follow_waits(scene)
        can_send = choose_releases.can_send(scene, self._types)
        if not can_send and self._drain.over:
            self._waits.give_up(scene, self._types)
            return None
        self._could_send = self._could_send or can_send
        first_at = self._run.deadline - remaining if self._first_release_at is None else None
        if self._releases.release(scene, now_us, first_at) and first_at is not None:
            self._note_coming_up(first_at)
        if not is_last and system_clock.monotonic() < self._deadline:  # a slow Redis may have used up what was left
            self._forecaster.look(scene, self._workers, self._team, self._first_release_at)
            self._turn_seconds = max(system_clock.monotonic() - self._rhythm.began_at, 0.95 * (self._turn_seconds or 0))
        most = QUIET_SECONDS if self._drain.over or any(n.backoff for n in counts.values()) else DRAINING_SECONDS
        spent = system_clock.monotonic() - viewed_at
        pause = choose_releases.next_look_seconds(scene, self._types, min(most, remaining), spent)
        return self._drain.fill(self._rhythm.pause(max(pause, BUSY_SECONDS)))

    def _follow_waits(self, scene: ReleaseState) -> None:
        """Note what the waiting events wait for; now and then in Redis too, for a successor and for views."""
        begun = self._first_release_at is not None
        now = self._run.deadline - scene.remaining_seconds
        if self._late:
            full = full_before_opening(self._store, self._run, self._limited)
            self._waits.open_late(self._late, scene, self._types, full)
            self._late = {}
        self._waits.look(now, scene, self._types, begun=begun, away=self._interrupted)
        self._interrupted = False
        if (at := system_clock.monotonic()) - self._waits_noted_at >= NOTE_SECONDS:
            self._waits_noted_at = at
            self._store.archivist.step(self._leader.token)  # of the letters that workers write
            self._note(**self._noted())

    def account(self) -> dict[str, str]:
        """Return the fields of the run that say why events are left over: what they waited for, which were spent."""
        return self._noted() | write_waits(self._waits.as_json(), self._counts, self._drain.left)

    def _noted(self) -> dict[str, str]:
        waits = msgspec.json.encode(self._waits.as_json()).decode()
        return {"waits": waits, **({"away_seconds": f"{self._away_seconds:.3f}"} if self._away_seconds else {})}

    def _begun(self, counts: Mapping[str, Counts]) -> dict[str, int]:
        """Return by type how many events of the run have left pending, and are not back there."""
        return {one: max(0, self._drain.taken[one] + self._carried[one] - n.pending) for one, n in counts.items()}

    def _lack(self, counts: Mapping[str, Counts]) -> Wait | None:
        waiting = sum(one.pending + one.released for one in counts.values())
        claimed = sum(self._drain.taken[one] + self._carried[one] for one in counts) - waiting
        return self._watch.lack(self._team, self._lanes, claimed)

    def _look_around(self, now_us: int, counts: Mapping[str, Counts], views: Mapping[str, WindowState]) -> None:
        """Every so often read workers, limits and the run's state, make overdue events pending, answer requests."""
        if (at := system_clock.monotonic()) - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = at
        self._redis.keys.step()
        self._take_up_limits()
        store = self._store
        workers = self._hosts.look()
        self._workers = [one.id for one in workers]
        self._adopt(workers)
        ready = [one for one in workers if one.state == WorkerState.READY]
        usable = [one for one in ready if one.revision == self._run.revision]
        strangers = len(ready) - len(usable)
        usable, cut = self._hosts.usable(usable)
        wanted = max(store.processes.wanted(), store.settings.workers.min)
        self._cold = self._cold or (self._first_release_at is None and not ready)
        self._team = self._watch.look(len(usable), wanted, strangers=strangers, cut=cut)
        self._hindered = self._hindered or bool(self._team.strangers) or not self._team.supervised
        # If no host reaches anything, the ways are probed as far as they may be: see `RunHosts.shade`.
        lanes = self._gathering.lanes(usable, wanted, begun=self._first_release_at is not None)
        self._lanes = lanes + self._hosts.held_beside(usable) if lanes else min(1, len(cut))
        if len(ready) > self.workers_peak:
            self.workers_peak = len(ready)
            self._note(workers_peak=self.workers_peak)
        if (current := store.runs.current()) is None or current.id != self._run.id:
            raise FencedError(f"run {self._run.id} was closed by another")
        self.cancelled = current.cancelled or bool(current.failure)
        self._free_overdue(now_us, counts, views)
        self._duty.serve(self._run)

    def _free_overdue(self, now_us: int, counts: Mapping[str, Counts], views: Mapping[str, WindowState]) -> None:
        recovery, extra = self._store.recovery, {"run_id": self._run.id}
        void = recovery.void_releases(self._leader.token)
        if void and sum(one.inflight for one in counts.values()) < self._lanes:  # else they waited for a lane
            self._watch.note_void(void, views)
            log.warning("Not made in time: %s", counted(len(void), "released call"), extra={"action": "void", **extra})
        recovery.condemn_unsound(self._leader.token, self._run.id, self._names)
        recovery.promote([name for name, count in counts.items() if count.backoff], now_us)
        if system_clock.monotonic() < self._settling_until:
            return
        # After Redis was away, leases ran out because nothing could be settled: no worker is to blame.
        held = [name for name, count in counts.items() if count.inflight]
        if orphans := recovery.orphan_expired(held, now_us, closing=bool(self._settling_until)):
            log.warning("%d leases ran out; their events are pending", orphans, extra={"action": "orphan", **extra})
        self._settling_until = 0.0

    def _adopt(self, workers: Sequence[Process]) -> None:
        """Give the run this conductor's configuration if the last worker of the one it began with is gone."""
        revision = self._store.settings.revision
        if self._run.revision == revision or any(one.revision == self._run.revision for one in workers):
            return
        self._store.publish_limits(self._leader.token)  # first, so that its budgets count earlier calls
        self._note(revision=revision)
        self._run = replace(self._run, revision=revision)
        self._releases.follow(self._types, revision)
        told = "Run %s began with another configuration, of which no worker is left; it continues with this one"
        extra = {"action": "adopt_run", "run_id": self._run.id}
        log.info(told, self._run.id, extra=extra)

    def _take_up_limits(self) -> None:
        """Follow a limit that was changed by hand."""
        if (limits := self._store.limits()) == self._limits:
            return
        changed = sorted(name for name, limit in limits.items() if limit != self._limits.get(name))
        self._limits = limits
        self._follow_types()
        told = "Limits were changed: %s; what remains is planned by them"
        extra = {"action": "take_up_limits", "run_id": self._run.id}
        log.info(told, ", ".join(f"{name} {limits[name]}" for name in changed), extra=extra)

    def _leave_out(self) -> None:
        """Go on without types of which a key has a flaw."""
        if not self._store.left_out.isdisjoint(self._names):
            with suppress(StoreError):  # the next turn fails, too, and this is tried again
                self._follow_types()

    def _follow_types(self) -> None:
        self._types = types_in_force(self._store)
        self._names = [one.name for one in self._types]
        self._limited = all_limited(end for one in self._types for end in one.endpoints)
        self._releases.follow(self._types, self._run.revision)
        self._forecaster.follow(self._types)

    def _note_coming_up(self, first_at: float) -> None:
        """Note how long workers took to come up, now that a call was released, at `first_at`."""
        self._first_release_at = first_at
        if self._cold and not self._hindered and self._store.processes.restarts() == self._restarts:
            self._store.processes.note_coming_up(system_clock.monotonic() - self._planned_at)

    def _note(self, **fields: str | float) -> None:
        self._store.runs.note(self._leader.token, self._run.id, **fields)
