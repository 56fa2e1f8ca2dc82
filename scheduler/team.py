"""The workers and hosts that a run may count on, the alarm if some are missing, and the silent ones."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.endpoint import Limited
from rlm.core.text import counted, of_another_configuration
from rlm.core.window import WindowState
from rlm.ledger import Store
from rlm.ledger.processes import HEARTBEAT_SECONDS, Process, Role
from rlm.ledger.ways import HostWays, cut_off, shade
from rlm.plan.waits import ANOTHER_CONFIGURATION, NO_SUPERVISOR, Obstacle, Wait
from rlm.processes.sharing import LISTENING_SECONDS, room
from scheduler.housekeeping import report_death
from scheduler.leader import Duty

#: A supervisor whose last announcement is older is not counted on, seconds: the interval is `HEARTBEAT_SECONDS`.
HEARD_SECONDS = HEARTBEAT_SECONDS + 1.0
#: Seconds for which missing workers are still counted on: a dead one is replaced within a second.
PATIENCE_SECONDS = 2.0
#: The same before the first worker of a run is ready: its supervisor's template may have to load first.
FIRST_PATIENCE_SECONDS = 5.0
#: The same if no supervisor is registered.
UNKNOWN_SECONDS = 1.0
#: Seconds that the first release waits for the other wanted workers once one is ready: while they boot, calls leave
#: later than the slot's guard allows for.
GATHER_SECONDS = 0.5
#: The same as a part of the run's window, if that is shorter: a longer wait would cost more than it gains.
GATHER_PART = 0.025

log = logging.getLogger(__name__)


class Team(msgspec.Struct, frozen=True):
    """How many workers are `ready`, and how many of them a forecast may count on.

    `supervised`: a living supervisor starts more. `shortage` describes what is wrong; it is empty if missing workers
    are on their way; it has lasted `short_seconds`. `strangers` are ready too, but have another configuration and claim
    nothing.
    """

    ready: int
    supervised: bool
    shortage: str = ""
    strangers: int = 0
    short_seconds: float = 0.0

    @property
    def counted_on(self) -> int | None:
        """How many workers the rest of the run will have; None if all that are wanted come."""
        return self.ready if self.shortage else None


class TeamWatch:
    """Follows the workers of one run, and raises the alarm if some are missing and nobody starts any."""

    def __init__(self, store: Store, run_id: str, duty: Duty) -> None:
        self._store = store
        self._run_id = run_id
        self._duty = duty
        self._short_since: float | None = None
        self._met = False
        self._told = False
        self._claimed = 0
        self._is_silent = False

    def note_void(self, endpoints: Iterable[str], views: Mapping[str, WindowState]) -> None:
        """Note that calls released for these endpoints were not made in time.

        Lanes pass over a call to an endpoint that no host reaches, so only the others show that no worker takes calls.
        """
        self._is_silent = self._is_silent or not all(one in views and views[one].unreached for one in endpoints)

    def lack(self, team: Team, lanes: int, claimed: int) -> Wait | None:
        """Return what is wrong with a `team` that has so many `lanes`; None if nothing is known to be.

        `claimed` counts the claims of the run's events so far; if it grows, a worker takes calls. After an outage of
        Redis it is not known which supervisors live.
        """
        self._is_silent = self._is_silent and claimed <= self._claimed
        self._claimed = claimed
        if lanes:
            return Wait(Obstacle.SILENT) if self._is_silent else None
        if team.strangers:
            return Wait(Obstacle.WORKERS, ANOTHER_CONFIGURATION)
        return None if team.supervised or self._duty.lately_away else Wait(Obstacle.WORKERS, NO_SUPERVISOR)

    def look(self, ready: int, wanted: int, *, strangers: int = 0, cut: Collection[str] = ()) -> Team:
        """Return the team of `ready` workers if `wanted` are wanted, `strangers` are ready too, and hosts `cut` off."""
        self._met = self._met or ready > 0
        if ready >= wanted:
            self._short_since = None
            return Team(ready, supervised=True, strangers=strangers)
        now = system_clock.monotonic()
        self._short_since = now if self._short_since is None else self._short_since
        supervisors = self._store.processes.alive(Role.SUPERVISOR)
        names = [one.id for one in supervisors]
        silences = self._store.processes.silences(Role.SUPERVISOR, names) if names else []
        supervised = any(silence <= HEARD_SECONDS for silence in silences)
        if now - self._short_since < self._patience_seconds(known=bool(supervisors)):
            return Team(ready, supervised, strangers=strangers)
        why = _cut_off(cut) or self._why(wanted, supervisors, strangers, supervised=supervised)
        there = f"{counted(ready, 'worker')} {'is' if ready == 1 else 'are'} ready" if ready else "no worker is ready"
        told = f"{there} of {wanted} wanted, and {why}"
        return Team(ready, supervised, told, strangers, now - self._short_since)

    def _patience_seconds(self, *, known: bool) -> float:
        """Return for how many seconds missing workers are counted on; longer if Redis was away and nobody is known."""
        if not known:
            return HEARD_SECONDS if self._duty.lately_away else UNKNOWN_SECONDS
        return PATIENCE_SECONDS if self._met else FIRST_PATIENCE_SECONDS

    def _why(self, wanted: int, supervisors: Sequence[Process], strangers: int, *, supervised: bool) -> str:
        """Return why workers are missing. Raise the alarm once if no worker of this configuration will come."""
        if strangers:
            why = f"{of_another_configuration(strangers)}: restart what `rlm doctor` names"
            self._tell(f"lacks workers: {why}", {"strangers": strangers})
            return why
        if not supervisors:
            self._look_for_the_dead()
            what = "and no supervisor is alive to start any: `rlm up` or `rlm supervisor` starts one"
            self._tell(f"wants {counted(wanted, 'worker')}, {what}", {"wanted": wanted})
        if not supervised:
            return "no supervisor is heard from: `rlm up` or `rlm supervisor` starts one"
        most = room(supervisors, cut_off(self._store.ways.look()))
        if most < wanted:
            return f"{'the hosts take no more' if most else 'no host takes any'}: see `rlm worker list`"
        return "those missing are not up yet: check whether their supervisor is alive, and its log"

    def _look_for_the_dead(self) -> None:
        """Raise the alarm for dead supervisors, instead of the one for missing workers."""
        if not self._told and (dead := self._store.processes.missing(Role.SUPERVISOR)):
            self._told = True
            for one in dead:
                report_death(self._store, Role.SUPERVISOR, one)

    def _tell(self, what: str, counts: dict[str, float]) -> None:
        if not self._told:
            self._told = True
            facts = alarm(Alarm.NO_WORKER, "lack_workers", counts=counts, run_id=self._run_id)
            log.error("Run %s %s", self._run_id, what, extra=facts)


def _cut_off(hosts: Collection[str]) -> str:
    """Return a sentence part about hosts that are cut off, whose workers do not count; empty if there are none."""
    if not hosts:
        return ""
    names = " and ".join(sorted(hosts))
    several = len(hosts) > 1
    return f"host{'s' if several else ''} {names} {'reach' if several else 'reaches'} no endpoint: see `rlm doctor`"


class Gathering:
    """Counts the lanes of a run: none while its first call waits for the other wanted workers."""

    def __init__(self, window_seconds: float) -> None:
        self._seconds = min(GATHER_SECONDS, GATHER_PART * window_seconds)
        self._until: float | None = None

    def lanes(self, workers: Sequence[Process], wanted: int, *, begun: bool) -> int:
        """Return how many lanes a run has, without those of surplus workers; `begun`: its first call is released."""
        if not begun and workers and len(workers) < wanted:
            now = system_clock.monotonic()
            self._until = self._until or now + self._seconds
            if now < self._until:
                return 0
        by_hand = sum(one.threads for one in workers if not one.supervisor)
        return by_hand + sum(sorted((one.threads for one in workers if one.supervisor), reverse=True)[:wanted])


class RunHosts:
    """Follows the hosts of one run."""

    def __init__(self, store: Store, run_id: str, duty: Duty) -> None:
        self._store = store
        self._run_id = run_id
        self._duty = duty
        self._ways: Mapping[str, HostWays] = store.ways.look()  # needed before the first call
        self._hosts = self._calling(())
        self._said: dict[str, tuple[float, float]] = {}  #: the last announcement of each worker, and when it was heard
        self._silent: set[str] = set()
        self._looked_at = float("-inf")
        self._known: list[str] = []

    def look(self) -> list[Process]:
        """Return the workers that are heard from."""
        alive, missing = self._store.processes.look(Role.WORKER)
        self._ways = self._store.ways.look()
        self._hosts = self._calling(alive)
        self._known = [*missing, *(one.id for one in alive)]
        self._listen(alive, system_clock.monotonic())
        return alive

    def _listen(self, alive: Sequence[Process], now: float) -> None:
        """Note which workers are silent, by this process while it listens, otherwise by the age of their entries."""
        said, since, ids = self._said, [now] * len(alive), [one.id for one in alive]
        if now - self._looked_at > LISTENING_SECONDS:
            silences = [] if self._duty.lately_away else self._store.processes.silences(Role.WORKER, ids)
            said, since = {}, [now - one for one in silences] or since
        self._looked_at = now
        new = {one.id: (one.said_at, at) for one, at in zip(alive, since, strict=True)}
        self._said = new | {one: said[one] for one in ids if one in said and said[one][0] == new[one][0]}
        self._silent = {one.id for one in alive if now - self._said[one.id][1] > one.silent_after}

    def _calling(self, workers: Iterable[Process]) -> set[str]:
        """Return the hosts with workers, or else those that would make the calls; read only if a host is in trouble.

        A call released to an endpoint that only hosts without workers reach is never made, and would occupy lanes.
        """
        return {one.host for one in workers} or (self._store.ways.calling() if self._ways else set())

    def usable(self, workers: Sequence[Process]) -> tuple[list[Process], set[str]]:
        """Return the workers that are not silent and whose host is not cut off; and the hosts that are."""
        cut = cut_off(self._ways)
        usable = [one for one in workers if one.host not in cut and one.id not in self._silent]
        return usable, cut & {one.host for one in workers}

    def held_beside(self, workers: Sequence[Process]) -> int:
        """Return how many events other workers than these have in hand: they are in flight, but occupy no lane."""
        ids = set(self._known).difference(one.id for one in workers)
        return sum(self._store.processes.busy(sorted(ids))) if ids else 0

    def shade(self, windows: dict[str, WindowState], limited: Iterable[Limited], now: float) -> dict[str, WindowState]:
        """Return the windows as they are for these hosts: see `rlm.ledger.ways.shade`."""
        return shade(windows, limited, self._ways, self._hosts, now)
