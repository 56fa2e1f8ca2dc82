"""The mender: sets aside, under the lease, what a key holds that it cannot hold, and repairs what that cost."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rlm.core.clock import system_clock
from rlm.core.endpoint import all_limited
from rlm.core.errors import FencedError, StoreError, StoreForbiddenError, StoreUnreachableError
from rlm.core.run import State, Trigger, started_at_of
from rlm.ledger.control import BY_FILE, What
from rlm.ledger.inspection import inspect
from rlm.ledger.quarantine import Successor
from rlm.processes.signals import longest_call
from scheduler.ticks import open_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlm.ledger import Store
    from rlm.ledger.inspection import KeyFlaw
    from scheduler.leader import Leader

#: How often it looks by itself, seconds, and at most after Redis refused something.
LOOK_SECONDS = 3.0
AGAIN_SECONDS = 0.2

#: Sorted sets whose events are found again by their hashes.
_LEDGER = ("pending", "backoff", "spent", "released", "inflight", "retried")

log = logging.getLogger(__name__)


class Mender:
    """Mends what `inspect` finds. A lost window fails closed: its endpoint is held before the key is gone.

    All methods raise FencedError if another conductor took over, and StoreError if Redis did not answer.
    """

    def __init__(self, store: Store, leader: Leader) -> None:
        self._store = store
        self._leader = leader
        self._looked_at = float("-inf")
        self._untidy = False
        self._after: dict[str, Callable[[KeyFlaw], object]] = {
            "types": self._find_types,
            "sequence": self._begin_sequence,
            "runs": self._list_runs,
            "tally": self._restate,
            "current": self._restore_run,
            "run": self._reopen,
            **dict.fromkeys(_LEDGER, self._adopt),
        }
        self._then: dict[str, Callable[[KeyFlaw], Successor]] = {
            "window": self._hold,
            "health": self._hold,
            "epoch": self._distrust,
            "limits": self._limits_by_hand,
            "filed": self._limits_filed,
        }

    def step(self) -> None:
        """Look now and then at what can be read quickly."""
        if system_clock.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._look(deep=False, records=False)

    def before_run(self) -> None:
        """Look at what can be read quickly, before a run opens."""
        self._untidy = True
        self._look(deep=False, records=False)

    def before_close(self) -> None:
        """Look at what can be read quickly, before the counts of a run become its record."""
        self._look(deep=False, records=False)

    def tidy(self) -> None:
        """Look at the records as well, once after each run, while there is nothing else to do."""
        if self._untidy:
            self._untidy = False
            self._look(deep=False, records=True)

    def mend(self) -> None:
        """Look at everything, at each entry of large lists too."""
        self._look(deep=True, records=True)

    def after(self, error: StoreError) -> None:
        """Look at everything after Redis refused something: a key may hold what it cannot. Raises only FencedError."""
        if isinstance(error, FencedError | StoreUnreachableError | StoreForbiddenError) or not self._leader.token:
            return
        if system_clock.monotonic() - self._looked_at < AGAIN_SECONDS:
            return
        try:
            self.mend()
        except FencedError:
            raise
        except StoreError as trouble:
            log.info("What Redis holds could not be mended yet: %s", trouble, extra={"action": "mend"})

    def _look(self, *, deep: bool, records: bool) -> None:
        self._looked_at = system_clock.monotonic()
        flaws = inspect(self._store, deep=deep, records=records)
        for flaw in sorted(flaws, key=lambda one: one.family != "quarantine"):  # the register of flaws first
            self._mend(flaw)

    def _mend(self, flaw: KeyFlaw) -> None:
        if flaw.family == "lease":
            return  # whoever takes or prolongs it mends it
        lost = flaw.family == "current" and bool(flaw.of)
        if not lost:
            then = self._then[flaw.family](flaw) if flaw.family in self._then else None
            kind = str(flaw.kind) if flaw.entries else ""
            token = self._leader.token
            self._store.quarantine.set_aside(token, flaw.key, flaw.wrong, kind=kind, entries=flaw.entries, then=then)
        if lost:
            self._reopen(flaw)
        elif flaw.family in self._after:
            self._after[flaw.family](flaw)

    # -- what is written in the step that sets a key aside

    def _hold(self, flaw: KeyFlaw) -> Successor:
        """Hold an endpoint or a budget for its longest period: calls to it may be among what was lost."""
        store, settings = self._store, self._store.settings
        limited = {one.name: one for one in all_limited(settings.endpoints.values())}
        try:
            in_force = {one.name: one for one in all_limited(store.endpoints().values())}
        except (StoreError, ValueError):
            in_force = limited
        longest = max(one[flaw.of].limit.longest_seconds for one in (limited, in_force))
        seconds = longest + settings.run.guard_seconds + longest_call(settings)
        fields = {"held_until_us": f"+{round(seconds * 1_000_000)}"}
        return Successor("health", fields, limited[flaw.of].window_id)

    def _distrust(self, flaw: KeyFlaw) -> Successor:
        """Begin a new epoch, which holds every endpoint."""
        return Successor("epoch", {"distrust": f"{flaw.key} held what it cannot"})

    def _limits_by_hand(self, _flaw: KeyFlaw) -> Successor:
        """Set the limits again that were set by hand, which hold until those of the file change."""
        try:
            changes = self._store.changes.newest()
        except StoreError:
            changes = []
        newest = {one.name: one for one in reversed(changes) if one.what is What.LIMIT and one.after}
        by_hand = {name: one.after for name, one in newest.items() if one.by != BY_FILE and one.after}
        return Successor("limits", by_hand)

    def _limits_filed(self, _flaw: KeyFlaw) -> Successor:
        """Note the file's limits as published; otherwise those set by hand would be replaced by them."""
        limited = all_limited(self._store.settings.endpoints.values())
        return Successor("filed", {one.name: one.limit.text for one in limited})

    # -- what is repaired afterwards

    def _adopt(self, flaw: KeyFlaw) -> None:
        """Find the events again that lost their place, by their hashes."""
        adopted = self._store.recovery.adopt(self._leader.token, flaw.of, retried=flaw.family == "retried")
        log.warning("%d events of %s are found again", adopted, flaw.of, extra={"action": "adopt"})

    def _find_types(self, _flaw: KeyFlaw) -> None:
        self._store.recovery.find_types()

    def _begin_sequence(self, _flaw: KeyFlaw) -> None:
        """Restart the count of arrivals beyond all earlier ones, at the milliseconds since 1970."""
        self._store.intake.begin_sequence(round(system_clock.now() * 1000))

    def _list_runs(self, _flaw: KeyFlaw) -> None:
        self._store.runs.list_again()

    def _restate(self, flaw: KeyFlaw) -> None:
        self._store.runs.restate(self._leader.token, flaw.of, self._store.known_types)

    def _restore_run(self, _flaw: KeyFlaw) -> None:
        """Find the open run again by its hash; if there is none, open one for the events that it left."""
        store, token = self._store, self._leader.token
        for run_id in store.runs.left_open():
            if store.runs.restore(token, run_id):
                return
        counts = store.ledger.count(store.known_types).values()
        if any(one.unsettled - one.pending for one in counts):
            run_id = open_run(store, token, Trigger.MANUAL, system_clock.now())
            store.runs.restate(token, run_id, store.known_types)

    def _reopen(self, flaw: KeyFlaw) -> None:
        """Restore of a lost run what closing needs: its events become leftovers, and its record says why."""
        store, now = self._store, system_clock.now()
        store.runs.advance(
            self._leader.token,
            flaw.of,
            State.FINISHING,
            trigger=Trigger.MANUAL,
            started_at=repr(min(now, started_at_of(flaw.of) or now)),
            deadline=repr(now),
            deadline_us=store.now_us(),
            window_seconds=repr(store.settings.run.window_seconds),
            revision=store.settings.revision,
            failure=f"what was known of it is lost: {flaw.key} {flaw.wrong}"[:200].encode("ascii", "replace").decode(),
        )
        store.runs.restate(self._leader.token, flaw.of, store.known_types)
        log.error("Run %s is closed, for %s %s", flaw.of, flaw.key, flaw.wrong, extra={"action": "close_lost_run"})
