"""Watches whether Redis can be trusted: unfit settings, keys with invalid content; and tells of it when it was doubted.

If Redis would lose writes, nothing is sent until it is fit again. A key with invalid content is named, and its
types are left out. After a StoreError (Redis did not answer), the next check of the current conductor repeats what
failed.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.errors import FencedError, StoreError, StoreForbiddenError, StoreUnfitError, StoreUnreachableError
from rlm.core.text import capital, safe_line
from rlm.ledger import Store
from rlm.ledger.fitness import require_fit
from rlm.ledger.inspection import KeyFlaw
from rlm.ledger.leases import STEPPED
from rlm.ledger.trouble import TOLD_SECONDS

#: Seconds between two checks whether Redis is fit to keep the ledger, because its settings may be changed; and the same
#: while no run is open.
FIT_SECONDS = 2.0
IDLE_FIT_SECONDS = 10.0

#: Seconds between two looks whether a key that was named is mended; the same between runs, and after a refusal.
LOOK_SECONDS = 3.0
AGAIN_SECONDS = 0.2

log = logging.getLogger(__name__)


class RedisWatch:
    """Checks Redis for a conductor. Each process has one."""

    def __init__(self, store: Store, *, allow_volatile: bool) -> None:
        """Watch the Redis of `store`; with `allow_volatile` it needs no append-only file."""
        self._store = store
        self.allow_volatile = allow_volatile
        self._fit_at = self._told_until = float("-inf")
        self.keys = KeyWatch(store)
        #: Why this Redis may not be written to for now; empty if it is fit.
        self.unfit = ""

    def check(self, fit_seconds: float = FIT_SECONDS) -> None:
        """Say if Redis was doubted; update `unfit` if it is older than `fit_seconds`.

        An unfit Redis is checked as often as in a run.
        """
        self._tell_doubt()
        if system_clock.monotonic() - self._fit_at >= (min(fit_seconds, FIT_SECONDS) if self.unfit else fit_seconds):
            self._fit_at = system_clock.monotonic()
            self._look_at_fitness()

    def _tell_doubt(self) -> None:
        if not (why := self._store.leases.doubted):
            return
        extra = alarm(Alarm.CLOCK_STEPPED if why.startswith(STEPPED) else Alarm.REDIS_FORGOT, "hold_endpoints")
        log.error("%s. Each endpoint is held for its longest period, once", capital(why), extra=extra)
        self._store.leases.doubted = ""

    def _look_at_fitness(self) -> None:
        before, self.unfit = self.unfit, ""
        try:
            require_fit(self._store, allow_volatile=self.allow_volatile)
        except StoreUnfitError as error:
            self.unfit = str(error)
        if self.unfit and (self.unfit != before or self._fit_at >= self._told_until):
            self._told_until = self._fit_at + TOLD_SECONDS
            extra = alarm(Alarm.REDIS_UNFIT, "unfit")
            log.error("Nothing is sent until Redis is fit again: %s", self.unfit, extra=extra)
        elif before and not self.unfit:
            log.info("Redis is fit again", extra={"action": "fit"})


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
