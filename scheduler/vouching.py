"""Sees to it that Redis can be trusted: that it remembers all slots, keeps what it is told, and its clock did not step.

Where windows cannot be trusted every endpoint is held for its longest period before its next call. Where Redis would
lose what it is told nothing is released until it is fit again.
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
from scheduler.mender import Mender
from scheduler.stepguard import StepGuard

if TYPE_CHECKING:
    from rlm.ledger import Store
    from scheduler.leader import Leader

#: How often it is looked whether Redis is still fit to keep the ledger, seconds: somebody may change its settings.
FIT_SECONDS = 2.0

#: Why windows are not to be trusted where slots that are known of are missing.
FORGOT = "Redis came back empty, or as it was a while ago: it has forgotten calls that were made"

#: The same where there are slots, and nobody here has ever seen any.
UNKNOWN = "Another server process of Redis answers, and nobody here knows whether it remembers all calls"

log = logging.getLogger(__name__)


class Voucher:
    """What a conductor vouches for Redis with. One for each process: what it remembers is what it goes by."""

    def __init__(self, store: Store, leader: Leader, *, allow_volatile: bool) -> None:
        """Vouch for the Redis of `store`, which need not keep an append-only file with `allow_volatile`.

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
        #: Why this Redis is not fit to be told anything more; empty where it is.
        self.unfit = ""
        #: By how much moments to come were ever moved with the clock of Redis, microseconds, as of the last check.
        self.shifted_us = 0

    def check(self) -> None:
        """Vouch for the server that answers, or hold every endpoint; see whether it is `unfit`.

        After a step of its clock all moments to come are moved with it, the deadline of an open run too.

        Raises:
            FencedError: another conductor took over.
            StoreError: Redis did not answer. What was not done is done at the next check, by whoever conducts then.
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
        """Look on while another conducts: what it then does not notice, its successor does.

        Raises:
            StoreError: Redis did not answer.
        """
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
        timeout_seconds = max(one.timeout_seconds for one in self._store.settings.endpoints.values())
        # A limit set by hand may have been forgotten with the rest; who is called by the file's waits for the longer.
        longest, known = (
            max(one.limit.longest_seconds for one in all_limited(endpoints))
            for endpoints in (
                self._store.endpoints().values(),
                [in_force(one, self._limits) for one in self._store.settings.endpoints.values()],
            )
        )
        underway_seconds = timeout_seconds + max(0.0, known - longest)
        self._store.epochs.renew(self._leader.token, why, underway_seconds=underway_seconds)
        log.error(
            "%s. Every endpoint rests for its longest period, at most %.1f s, before its next call",
            why,
            longest + self._store.settings.run.guard_seconds + underway_seconds,
            extra=alarm(cause, "hold_endpoints"),
        )
