"""Sees to it that Redis can be trusted: that it remembers all slots, keeps what it is told, and its clock did not step.

Where windows cannot be trusted every endpoint is held for its longest period before its next call. Where Redis would
lose what it is told nothing is released until it is fit again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rlm.clock import system_clock
from rlm.endpoint import all_limited
from rlm.store.epoch import Verdict
from rlm.store.fitness import require_fit
from scheduler.stepguard import StepGuard

if TYPE_CHECKING:
    from rlm.store import Store
    from scheduler.leader import Leader

#: How often it is looked whether Redis is still fit to keep the ledger, seconds: somebody may change its settings.
FIT_SECONDS = 2.0

#: Why windows are not to be trusted where slots that are known of are missing.
FORGOT = "Redis came back empty, or as it was a while ago: it has forgotten calls that were made"

log = logging.getLogger(__name__)


class Voucher:
    """What a conductor vouches for Redis with. One for each process: what it remembers is what it goes by."""

    def __init__(self, store: Store, leader: Leader, *, allow_volatile: bool) -> None:
        """Vouch for the Redis of `store`, which need not keep an append-only file with `allow_volatile`."""
        self._store = store
        self._leader = leader
        self._allow_volatile = allow_volatile
        self._fit_until = float("-inf")
        self._step_guard = StepGuard()
        #: By how much moments to come were ever moved with the clock of Redis, microseconds, as of the last check.
        self.shifted_us = 0

    def check(self) -> None:
        """Vouch for the server that answers, or hold every endpoint.

        After a step of its clock all moments to come are moved with it, the deadline of an open run too.

        Raises:
            FencedError: another conductor took over.
            StoreUnfitError: it would lose what it is told, or refuse it.
            StoreError: Redis did not answer. What was not done is done at the next check, by whoever conducts then.
        """
        self._require_fit()
        asked_at = system_clock.boottime()
        vouched = self._store.epochs.vouch(self._leader.token)
        self.shifted_us = vouched.shifted_us
        step = self._step_guard.check(asked_at, vouched.now_us - vouched.shifted_us, system_clock.boottime())
        if vouched.verdict is Verdict.RESTARTED:
            log.warning("Redis was restarted, and has forgotten nothing", extra={"action": "vouch"})
        if step:
            self._follow_clock(step)
        elif vouched.verdict is Verdict.FORGOT:
            self._hold(vouched.why or FORGOT)

    def _follow_clock(self, step: float) -> None:
        why = f"The clock of Redis stepped by {step:.3f} s"
        run, step_us = self._store.runs.current(), round(step * 1_000_000)
        self._store.shift_stamps(self._leader.token, run.id if run else "", step_us, why)
        self.shifted_us += step_us
        self._hold(why)

    def _require_fit(self) -> None:
        if system_clock.monotonic() >= self._fit_until:
            require_fit(self._store.client, allow_volatile=self._allow_volatile)
            self._fit_until = system_clock.monotonic() + FIT_SECONDS

    def _hold(self, why: str) -> None:
        underway_seconds = max(one.timeout_seconds for one in self._store.settings.endpoints.values())
        limited = all_limited(self._store.endpoints().values())
        seconds = self._store.epochs.renew(self._leader.token, limited, why, underway_seconds=underway_seconds)
        log.error(
            "%s. Every endpoint rests for its longest period, %.1f s at most, before its next call",
            why,
            seconds,
            extra={"action": "hold_endpoints"},
        )
