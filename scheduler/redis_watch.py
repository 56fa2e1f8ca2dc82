"""Watches whether Redis can be trusted: data loss, steps of its clock, and whether it is fit to keep the ledger.

If windows cannot be trusted, every endpoint is held for its longest period before its next call. If Redis would lose
what it is told, nothing is released until it is fit again. What a check could not do since Redis did not answer
(StoreError), or another conductor took over (FencedError), whoever conducts at the next one does.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.endpoint import all_limited, in_force
from rlm.core.errors import StoreUnfitError
from rlm.ledger.dataloss import Continuity
from rlm.ledger.fitness import require_fit
from rlm.processes.signals import longest_call
from scheduler.mender import Mender

if TYPE_CHECKING:
    from rlm.ledger import Store
    from scheduler.leader import Leader

#: How often the fitness of Redis to keep the ledger is checked, seconds: somebody may change its settings.
FIT_SECONDS = 2.0

#: Why windows are not to be trusted if slots that are known of are missing.
FORGOT = "Redis came back empty, or as it was a while ago: it has forgotten calls that were made"
#: The same if there are slots, and nobody here has ever seen any.
UNKNOWN = "Another server process of Redis answers, and nobody here knows whether it remembers all calls"

#: Seconds by which the two clocks may part without a step, and by how much more in each second: a clock that NTP slews
#: does half of that (500 ppm, the kernel's bound). One that runs away faster is a step as soon as it adds up.
TOLERANCE_SECONDS = 0.005
TOLERANCE_SHARE = 0.001

log = logging.getLogger(__name__)


class StepGuard:
    """Compares the clock of Redis with one of this machine that never steps, look by look."""

    def __init__(self) -> None:
        self._last: tuple[float, float, float] | None = None

    def check(self, asked_at: float, redis_us: int, answered_at: float) -> float:
        """Return by how many seconds the clock of Redis has stepped since the last look, 0 for not at all.

        It was read between `asked_at` and `answered_at` (seconds of the other clock), so the distance between the
        clocks lies in an interval. Two intervals that are apart are a step; a slow answer only widens its interval. A
        step is found again until the moments to come were moved, which takes it out of `redis_us`.
        """
        redis = redis_us / 1_000_000
        low, high = redis - answered_at, redis - asked_at
        if self._last is None:
            self._last = low, high, answered_at
            return 0.0
        least, most = self._drifted(answered_at)
        if low > most + TOLERANCE_SECONDS:
            return low - most
        if high < least - TOLERANCE_SECONDS:
            return high - least
        # What both looks allow: a clock that runs away adds up until it is a step.
        self._last = min(max(low, least), most), max(min(high, most), least), answered_at
        return 0.0

    def _drifted(self, at: float) -> tuple[float, float]:
        """Return the least and the most that the clocks may be apart now, by what was seen before."""
        least, most, seen_at = self._last or (0.0, 0.0, at)
        drift = TOLERANCE_SHARE * (at - seen_at)
        return least - drift, most + drift


class RedisWatch:
    """Vouches for Redis on behalf of a conductor. There is one in each process, which remembers what it has seen."""

    def __init__(self, store: Store, leader: Leader, *, allow_volatile: bool) -> None:
        """Watch the Redis of `store`, which need not keep an append-only file with `allow_volatile`.

        Raises:
            UnsafeError: the directory in which the epoch is remembered is another user's.
        """
        store.epochs.claim()
        self._store = store
        self._leader = leader
        self._allow_volatile = allow_volatile
        self._fit_until = float("-inf")
        self._step_guard = StepGuard()
        self.mender = Mender(store, leader)
        self._limits: dict[str, str] = {}
        #: Why this Redis is not fit to be told anything more; empty if it is.
        self.unfit = ""
        #: By how much moments to come were moved with the clock of Redis, microseconds, as of the last check.
        self.shifted_us = 0

    def check(self) -> None:
        """Vouch for the server that answers, or hold every endpoint; set `unfit`.

        After a step of its clock all moments to come are moved with it, the deadline of an open run too.
        """
        asked_at = system_clock.boottime()
        vouched = self._store.epochs.vouch(self._leader.token)
        self.shifted_us = vouched.shifted_us
        step = self._step_guard.check(asked_at, vouched.now_us - vouched.shifted_us, system_clock.boottime())
        if vouched.verdict is Continuity.RESTARTED:
            log.info("Another server process answers, which has forgotten nothing", extra={"action": "vouch"})
        if step:
            self._follow_clock(step)
        elif vouched.verdict is Continuity.FORGOT:
            self._hold(vouched.why or FORGOT, Alarm.REDIS_FORGOT)
        elif vouched.verdict is Continuity.UNKNOWN:
            self._hold(UNKNOWN, Alarm.REDIS_FORGOT)
        self._look_at_fitness()

    def watch(self) -> None:
        """Look on while another conducts, so that a successor knows what it knew."""
        asked_at = system_clock.boottime()
        now_us, shifted_us = self._store.epochs.watch()
        self._step_guard.check(asked_at, now_us - shifted_us, system_clock.boottime())

    def _follow_clock(self, step: float) -> None:
        why = f"The clock of Redis stepped by {step:.3f} s"
        run, step_us = self._store.runs.current(), round(step * 1_000_000)
        self._store.shift_stamps(self._leader.token, run.id if run else "", step_us, why)
        self.shifted_us += step_us
        self._hold(why, Alarm.CLOCK_STEPPED)

    def _look_at_fitness(self) -> None:
        if system_clock.monotonic() < self._fit_until:
            return
        self._fit_until = system_clock.monotonic() + FIT_SECONDS
        self._limits = self._store.limits() or self._limits
        before, self.unfit = self.unfit, ""
        try:
            require_fit(self._store, allow_volatile=self._allow_volatile)
        except StoreUnfitError as error:
            self.unfit = str(error)
        if self.unfit and self.unfit != before:
            log.error(
                "Nothing is released until Redis is fit again: %s", self.unfit, extra=alarm(Alarm.REDIS_UNFIT, "unfit")
            )
        elif before and not self.unfit:
            log.info("Redis is fit again", extra={"action": "fit"})

    def _hold(self, why: str, cause: Alarm) -> None:
        # A limit set by hand may have been forgotten with the rest: the longer period of both counts.
        longest, known = (
            max(one.limit.longest_seconds for one in all_limited(endpoints))
            for endpoints in (
                self._store.endpoints().values(),
                [in_force(one, self._limits) for one in self._store.settings.endpoints.values()],
            )
        )
        underway_seconds = longest_call(self._store.settings) + max(0.0, known - longest)
        self._store.epochs.renew(self._leader.token, why, underway_seconds=underway_seconds)
        log.error(
            "%s. Every endpoint rests for its longest period, at most %.1f s, before its next call",
            why,
            longest + self._store.settings.run.guard_seconds + underway_seconds,
            extra=alarm(cause, "hold_endpoints"),
        )
