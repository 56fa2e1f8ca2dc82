"""Watches whether Redis can be trusted: lost data, steps of its clock, unfit settings, keys with invalid content.

If windows cannot be trusted, every endpoint is held for its longest period before its next call. If Redis would lose
writes, nothing is released until it is fit again. A key with invalid content is named, and its types are left out.
After a StoreError (Redis did not answer) or FencedError (another conductor took over), the next check of the current
conductor repeats what failed.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.endpoint import all_limited, in_force
from rlm.core.errors import FencedError, StoreError, StoreForbiddenError, StoreUnfitError, StoreUnreachableError
from rlm.core.text import safe_line
from rlm.ledger import Store
from rlm.ledger.dataloss import Continuity, StepGuard
from rlm.ledger.fitness import require_fit
from rlm.ledger.inspection import KeyFlaw
from rlm.ledger.trouble import TOLD_SECONDS
from rlm.processes.signals import longest_call
from scheduler.leader import Leader
from scheduler.ticks import RedisClock

#: Seconds between two checks whether Redis is fit to keep the ledger, because its settings may be changed; and the same
#: while no run is open.
FIT_SECONDS = 2.0
IDLE_FIT_SECONDS = 10.0

#: Why windows cannot be trusted if known slots are missing.
FORGOT = "Redis came back empty, or as it was a while ago: it has forgotten calls that were made"
#: The same if there are slots, but nobody here has ever seen any of them.
UNKNOWN = "Another server process of Redis answers, and nobody here knows whether it remembers all calls"

#: Seconds between two looks whether a key that was named is mended; the same between runs, and after a refusal.
LOOK_SECONDS = 3.0
AGAIN_SECONDS = 0.2

log = logging.getLogger(__name__)


class RedisWatch:
    """Checks Redis for a conductor. Each process has one, which remembers what it has seen."""

    def __init__(self, store: Store, leader: Leader, *, allow_volatile: bool) -> None:
        """Watch the Redis of `store`; with `allow_volatile` it needs no append-only file.

        Raises:
            UnsafeError: the directory in which the epoch is remembered belongs to another user.
        """
        store.epochs.claim()
        self._store = store
        self._leader = leader
        self.allow_volatile = allow_volatile
        self._fit_at = self._told_until = float("-inf")
        self._step_guard = StepGuard()
        self.clock = RedisClock()
        self.keys = KeyWatch(store)
        self._limits: dict[str, str] = {}
        #: Why this Redis may not be written to for now; empty if it is fit.
        self.unfit = ""
        #: The time of Redis at the last check, and by how much future moments were moved with it, microseconds.
        self.now_us = self.shifted_us = 0

    def check(self, fit_seconds: float = FIT_SECONDS) -> None:
        """Trust the server that answers, or hold every endpoint; update `unfit` if it is older than `fit_seconds`.

        An unfit Redis is checked as often as in a run.

        After a step of its clock all future moments are moved with it, including the deadline of an open run.
        """
        asked_at = system_clock.monotonic()
        vouched = self._store.epochs.vouch(self._leader.token)
        answered_at = system_clock.monotonic()
        self.clock.hear(asked_at, vouched.now_us, answered_at)
        self.now_us, self.shifted_us = vouched.now_us, vouched.shifted_us
        step = self._step_guard.check(asked_at, vouched.now_us, vouched.shifted_us, answered_at)
        if vouched.verdict is Continuity.RESTARTED:
            log.info("Another server process answers, which has forgotten nothing", extra={"action": "vouch"})
        if step:
            self._follow_clock(step)
        elif vouched.verdict is Continuity.FORGOT:
            self._hold(vouched.why or FORGOT, Alarm.REDIS_FORGOT)
        elif vouched.verdict is Continuity.UNKNOWN:
            self._hold(UNKNOWN, Alarm.REDIS_FORGOT)
        if system_clock.monotonic() - self._fit_at >= (min(fit_seconds, FIT_SECONDS) if self.unfit else fit_seconds):
            self._fit_at = system_clock.monotonic()
            self._look_at_fitness()

    def watch(self) -> None:
        """Observe while another scheduler conducts, so that a successor knows what its predecessor knew."""
        asked_at = system_clock.monotonic()
        now_us, shifted_us = self._store.epochs.watch()
        answered_at = system_clock.monotonic()
        self.clock.hear(asked_at, now_us, answered_at)
        self._step_guard.check(asked_at, now_us, shifted_us, answered_at)

    def _follow_clock(self, step: float) -> None:
        why = f"The clock of Redis stepped by {step:.3f} s"
        self._store.processes.end_in_time()
        run, step_us = self._store.runs.current(), round(step * 1_000_000)
        self._store.shift_stamps(self._leader.token, run.id if run else "", step_us, why)
        self.shifted_us += step_us
        self._hold(why, Alarm.CLOCK_STEPPED)

    def _look_at_fitness(self) -> None:
        self._limits = self._store.limits() or self._limits
        before, self.unfit = self.unfit, ""
        try:
            require_fit(self._store, allow_volatile=self.allow_volatile)
        except StoreUnfitError as error:
            self.unfit = str(error)
        if self.unfit and (self.unfit != before or self._fit_at >= self._told_until):
            self._told_until = self._fit_at + TOLD_SECONDS
            extra = alarm(Alarm.REDIS_UNFIT, "unfit")
            log.error("Nothing is released until Redis is fit again: %s", self.unfit, extra=extra)
        elif before and not self.unfit:
            log.info("Redis is fit again", extra={"action": "fit"})

    def _hold(self, why: str, cause: Alarm) -> None:
        # A limit set by hand may be lost with the rest: the longer period of both counts.
        longest, known = (
            max(one.limit.longest_seconds for one in all_limited(endpoints))
            for endpoints in (
                self._store.endpoints().values(),
                [in_force(one, self._limits) for one in self._store.settings.endpoints.values()],
            )
        )
        underway_seconds = longest_call(self._store.settings) + max(0.0, known - longest)
        self._store.epochs.renew(self._leader.token, why, underway_seconds=underway_seconds)
        told = "%s. Every endpoint rests for its longest period, at most %.1f s, before its next call"
        extra = alarm(cause, "hold_endpoints")
        log.error(told, why, longest + self._store.settings.run.guard_seconds + underway_seconds, extra=extra)


class KeyWatch:
    """Names keys that hold what RLM does not write; their types are left out until they are mended."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._named: dict[str, KeyFlaw] = {}
        self._looked_at = float("-inf")

    def after(self, error: StoreError) -> None:
        """Look after Redis refused a command, or answered with what cannot be read."""
        if isinstance(error, FencedError | StoreUnreachableError | StoreForbiddenError):
            return
        if system_clock.monotonic() - self._looked_at >= AGAIN_SECONDS:
            self._look()

    def step(self, seconds: float = LOOK_SECONDS) -> None:
        """Look whether what has been named is mended, if the last look is `seconds` ago."""
        is_wrong = bool(self._named or self._store.left_out)
        if is_wrong and system_clock.monotonic() - self._looked_at >= seconds:
            self._look()

    def _look(self) -> None:
        self._looked_at = system_clock.monotonic()
        with suppress(StoreError):  # the caller's next turn meets it again
            before, self._named = self._named, {one.key: one for one in self._store.find_flaws()}
            for key, flaw in self._named.items():
                if key not in before:
                    then = f"{', '.join(sorted(flaw.types))} is left out" if flaw.types else "it may stop everything"
                    told = "%s %s; until it is mended, %s: `rlm doctor` says how"
                    extra = alarm(Alarm.KEY_DAMAGED, "name_key")
                    log.error(told, safe_line(key), flaw.wrong, then, extra=extra)
            for key in before.keys() - self._named.keys():
                log.info("%s is in order again", safe_line(key), extra={"action": "name_key"})
