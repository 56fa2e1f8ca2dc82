"""Watches for a conductor whether Redis can be trusted: nothing is sent while it would lose writes. Tells of doubts."""

from __future__ import annotations

import logging

from rlm.core.clock import system_clock
from rlm.core.errors import StoreUnfitError
from rlm.core.text import capital
from rlm.ledger.fitness import require_fit
from rlm.ledger.store import Store
from rlm.ledger.trouble import TOLD_SECONDS

#: Seconds between two checks whether Redis is fit to keep the ledger, because its settings may be changed; and the same
#: while no run is open.
FIT_SECONDS = 2.0
IDLE_FIT_SECONDS = 10.0

log = logging.getLogger(__name__)


class RedisWatch:
    """Checks Redis for a conductor. Each process has one."""

    def __init__(self, store: Store, *, allow_volatile: bool) -> None:
        """Watch the Redis of `store`; with `allow_volatile` it needs no append-only file."""
        self._store = store
        self.allow_volatile = allow_volatile
        self._fit_at = self._told_until = float("-inf")
        #: Why this Redis may not be written to for now; empty if it is fit.
        self.unfit = ""

    def check(self, fit_seconds: float = FIT_SECONDS) -> None:
        """Say if Redis was doubted; update `unfit` if it is older than `fit_seconds` (unfit: `FIT_SECONDS`)."""
        self._tell_doubt()
        if (now := system_clock.monotonic()) - self._fit_at < (FIT_SECONDS if self.unfit else fit_seconds):
            return
        self._fit_at, before, self.unfit = now, self.unfit, ""
        try:
            require_fit(self._store, allow_volatile=self.allow_volatile)
        except StoreUnfitError as error:
            self.unfit = str(error)
        if self.unfit and (self.unfit != before or now >= self._told_until):
            self._told_until = now + TOLD_SECONDS
            log.warning("Nothing is sent until Redis is fit again: %s", self.unfit, extra={"action": "unfit"})
        elif before and not self.unfit:
            log.info("Redis is fit again", extra={"action": "fit"})

    def _tell_doubt(self) -> None:
        if not (why := self._store.leases.doubted):
            return
        extra = {"action": "hold_endpoints"}
        log.warning("%s. Each endpoint is held for its longest period, once", capital(why), extra=extra)
        self._store.leases.doubted = ""
