"""Watches whether Redis can be trusted: lost data, steps of its clock, unfit settings, keys with invalid content.

If windows cannot be trusted, every endpoint is held for its longest period before its next call. If Redis would lose
writes, nothing is released until it is fit again. Invalid content of a key is set aside under the lease, and the damage
is repaired. After a StoreError (Redis did not answer) or FencedError (another conductor took over), the next check of
the current conductor repeats what failed.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.endpoint import all_limited, in_force
from rlm.core.errors import FencedError, StoreError, StoreForbiddenError, StoreUnfitError, StoreUnreachableError
from rlm.core.run import State, Trigger, started_at_of
from rlm.ledger import Store
from rlm.ledger.connect import MICROSECONDS
from rlm.ledger.control import BY_FILE, Change, newest_limits
from rlm.ledger.dataloss import Continuity, StepGuard
from rlm.ledger.fitness import require_fit
from rlm.ledger.inspection import KeyFlaw, inspect
from rlm.ledger.quarantine import Successor
from rlm.ledger.schema import ZSETS
from rlm.ledger.trouble import TOLD_SECONDS
from rlm.processes.signals import longest_call
from scheduler.leader import Leader
from scheduler.ticks import RedisClock, open_run

#: Seconds between two checks whether Redis is fit to keep the ledger, because its settings may be changed; and the same
#: while no run is open.
FIT_SECONDS = 2.0
IDLE_FIT_SECONDS = 10.0

#: Why windows cannot be trusted if known slots are missing.
FORGOT = "Redis came back empty, or as it was a while ago: it has forgotten calls that were made"
#: The same if there are slots, but nobody here has ever seen any of them.
UNKNOWN = "Another server process of Redis answers, and nobody here knows whether it remembers all calls"

#: Seconds between two looks of the mender: in a run (it looks before a run too), while none is open, and after Redis
#: refused a command.
LOOK_SECONDS = 3.0
IDLE_LOOK_SECONDS = 120.0
AGAIN_SECONDS = 0.2
#: Looking takes at most one part in so many of the time: with thousands of endpoints one look takes long.
LOOKING_PART = 20

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
        self.mender = Mender(store, leader)
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
        asked_at = system_clock.boottime()
        vouched = self._store.epochs.vouch(self._leader.token)
        answered_at = system_clock.boottime()
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
        asked_at = system_clock.boottime()
        now_us, shifted_us = self._store.epochs.watch()
        answered_at = system_clock.boottime()
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


class Mender:
    """Repairs what `inspect` finds. A lost window fails closed: its endpoint is held before the key is removed."""

    def __init__(self, store: Store, leader: Leader) -> None:
        self._store = store
        self._leader = leader
        self._looked_at = float("-inf")
        self.took_seconds = 0.0  #: how long its last look took
        self._untidy = False

    def step(self, seconds: float = LOOK_SECONDS) -> None:
        """Look at what can be read quickly, if the last look is `seconds` ago; less often if a look takes long."""
        if system_clock.monotonic() - self._looked_at >= max(seconds, LOOKING_PART * self.took_seconds):
            self.look()

    def before_run(self) -> None:
        """Look at what can be read quickly, before a run opens."""
        self._untidy = True
        self.look()

    def tidy(self) -> None:
        """Look at the run records too, once after each run, when there is nothing else to do."""
        if self._untidy:
            self._untidy = False
            self.look(records=True)

    def mend(self) -> None:
        """Look at everything, including each entry of large lists."""
        self.look(deep=True, records=True)

    def after(self, error: StoreError) -> None:
        """Look at everything after Redis refused a command: a key may be invalid. Raises only FencedError."""
        if isinstance(error, FencedError | StoreUnreachableError | StoreForbiddenError) or not self._leader.token:
            return
        if system_clock.monotonic() - self._looked_at < AGAIN_SECONDS:
            return
        try:
            self.mend()
        except FencedError:
            raise
        except StoreError as trouble:
            if trouble.what == error.what:  # the caller reports that one
                return
            log.info("What Redis holds could not be repaired yet: %s", trouble, extra={"action": "mend"})

    def look(self, *, deep: bool = False, records: bool = False) -> None:
        """Repair what can be read quickly; with `deep` also entries of large lists, with `records` also run records."""
        self._looked_at = system_clock.monotonic()
        flaws = inspect(self._store, deep=deep, records=records)
        self.took_seconds = system_clock.monotonic() - self._looked_at
        for flaw in sorted(flaws, key=lambda one: one.family != "quarantine"):  # the register of flaws first
            self._mend(flaw)

    def _mend(self, flaw: KeyFlaw) -> None:
        if flaw.family == "lease":
            return  # it is repaired by taking or extending it
        if flaw.family == "current" and flaw.of:  # it names a run that is lost
            self._reopen(flaw)
            return
        kind, then = str(flaw.kind) if flaw.entries else "", self._successor(flaw)
        token = self._leader.token
        self._store.quarantine.set_aside(token, flaw.key, flaw.wrong, kind=kind, entries=flaw.entries, then=then)
        self._repair(flaw)

    def _successor(self, flaw: KeyFlaw) -> Successor | None:
        """Return the key to write in the same step that sets a key aside; None if there is none."""
        match flaw.family:
            case "window" | "health":
                return self._hold(flaw.of)
            case "epoch":  # a new one holds every endpoint
                return Successor("epoch", {"distrust": f"{flaw.key} had invalid content"})
            case "limits":  # those set by hand apply until the file's change
                return Successor("limits", self._limits_by_hand())
            case "limits_filed":  # as published; otherwise the file's would replace those set by hand
                limited = all_limited(self._store.settings.endpoints.values())
                return Successor("limits_filed", {one.name: one.limit.text for one in limited})
        return None

    def _hold(self, name: str) -> Successor:
        """Hold an endpoint or budget for its longest period: calls to it may be among the lost data."""
        settings = self._store.settings
        limited = {one.name: one for one in all_limited(settings.endpoints.values())}[name]
        longest = limited.limit.longest_seconds
        with suppress(StoreError, ValueError):  # the limits may be lost too
            others = [one for one in all_limited(self._store.endpoints().values()) if one.name == name]
            longest = max(longest, *(one.limit.longest_seconds for one in others))
        seconds = longest + settings.run.guard_seconds + longest_call(settings)
        return Successor("health", {"held_until_us": f"+{round(seconds * 1_000_000)}"}, limited.window_id)

    def _limits_by_hand(self) -> dict[str, str]:
        newest: dict[str, Change] = {}
        with suppress(StoreError):
            limited = all_limited(self._store.settings.endpoints.values())
            newest = newest_limits(self._store.changes.newest(), limited)
        return {name: one.after for name, one in newest.items() if one.by != BY_FILE and one.after}

    def _repair(self, flaw: KeyFlaw) -> None:
        store, token = self._store, self._leader.token
        match flaw.family:
            case "types":
                store.recovery.find_types()
            case "sequence":  # larger than that of all earlier arrivals
                store.intake.begin_sequence(round(system_clock.now() * 1000))
            case "runs":
                store.runs.list_again()
            case "tally":
                store.runs.restate(token, flaw.of, store.known_types)
            case "current":
                self._restore_run()
            case "run":
                self._reopen(flaw)
            case family if family in ZSETS:  # by the keys of its events
                adopted = store.recovery.adopt(token, flaw.of, retried=family == "retried")
                log.warning("%d events of %s are found again", adopted, flaw.of, extra={"action": "adopt"})

    def _restore_run(self) -> None:
        """Restore the open run by its hash; if there is none, open a run for the events that the lost one left."""
        store, token = self._store, self._leader.token
        for run_id in store.runs.left_open():
            if store.runs.restore(token, run_id):
                return
        counts = store.ledger.count(store.known_types).values()
        if any(one.unsettled - one.pending for one in counts):
            run_id = open_run(store, token, Trigger.MANUAL, store.now())
            store.runs.restate(token, run_id, store.known_types)

    def _reopen(self, flaw: KeyFlaw) -> None:
        """Restore what is needed to close a lost run: its events become leftovers, and its record names the reason."""
        store, now = self._store, self._store.now()
        store.runs.advance(
            self._leader.token,
            flaw.of,
            State.FINISHING,
            trigger=Trigger.MANUAL,
            started_at=repr(min(now, started_at_of(flaw.of) or now)),
            deadline=repr(now),
            deadline_us=round(now * MICROSECONDS),
            window_seconds=repr(store.settings.run.window_seconds),
            revision=store.settings.revision,
            failure=f"what was known of it is lost: {flaw.key} {flaw.wrong}"[:200].encode("ascii", "replace").decode(),
        )
        store.runs.restate(self._leader.token, flaw.of, store.known_types)
        log.error("Run %s is closed, because %s %s", flaw.of, flaw.key, flaw.wrong, extra={"action": "close_lost_run"})
