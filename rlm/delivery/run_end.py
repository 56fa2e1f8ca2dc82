"""The end of a run: unsettled events become leftovers, and the record is written exactly once, whoever is first.

The end-of-run actor and the conductor both call `close_run`. If the conductor lets the deadline pass, because it died,
froze or lost Redis, workers and standbys close the run (`OverdueWatch`). That takes no lease: the run's own state
decides, and the same step deposes the conductor. The final state follows from the counts, see `rlm.core.run`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection

from msgspec.structs import replace

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.documents import Record
from rlm.core.errors import StoreError, StoreGarbledError
from rlm.core.failpoints import crash_point
from rlm.core.run import Run, State
from rlm.core.tally import away_in_words, every_call_failed, in_words, of_run
from rlm.core.text import span
from rlm.delivery.run_record import final_record, look_over
from rlm.ledger import Store
from rlm.ledger.breaker import raised_alarm
from rlm.ledger.reading.books import Ending, read_ending
from rlm.ledger.runs import write_waits
from rlm.plan.cause import alarmed, verdict
from rlm.plan.waits import Waits

#: The failure of a run at whose deadline Redis could not be written to.
REDIS_AWAY = "Redis was away, or not fit, past the deadline"
#: How long a run must be overdue before others than its conductor close it, seconds. This waits for what lanes write of
#: calls cut at the deadline (0.25 s), and allows for processes that reach Redis again a moment later than others.
PATIENCE_SECONDS = 0.4
#: Processes other than the first wait up to this much longer, seconds, so that they do not all close it at once.
SPREAD_SECONDS = 0.25
#: A look that is this much late starts over, seconds, because this process stood still.
LAPSE_SECONDS = 0.5
#: Pause after Redis failed, or after the run was closed here or by another at the same time, seconds.
AGAIN_SECONDS = 0.25
#: Seconds from a wake-up to the look for an open run: a run may just have begun, and its first calls come first.
ASK_SECONDS = 0.2
#: A deadline closer than this wakes the process that must look, seconds; otherwise it may sleep for a heartbeat.
NEAR_SECONDS = 5.0

log = logging.getLogger(__name__)


def close_run(
    store: Store, run_id: str, *, overdue: bool = False, keep: Callable[[], object] = lambda: None
) -> Record | None:
    """Close the run if it is finishing; return its record, or None if it is not open or not finishing.

    `overdue`: its conductor has not closed it in time, and the caller takes care of what follows. `keep` is called
    between steps that may take long, to renew a leader's lease.

    Closing is one compare-and-set in Redis, so a second caller changes nothing. Once all events are pending again,
    nothing can settle any more, so the counts read then are final.
    """
    try:
        return _close(store, run_id, overdue=overdue, keep=keep)
    except StoreGarbledError:
        store.find_flaws()  # types with a damaged key are left out
        return _close(store, run_id, overdue=overdue, keep=keep)


def _close(store: Store, run_id: str, *, overdue: bool, keep: Callable[[], object]) -> Record | None:
    while True:
        run, now_us = store.runs.current_at()
        if run is None or run.id != run_id or run.state is not State.FINISHING:
            return None
        types = store.known_types
        keep()
        while store.recovery.orphan_expired(types, now_us, closing=True):
            keep()  # without this loop, notes of calls that nobody will report would stay
        keep()
        if not store.recovery.return_unsettled(run_id, types):
            return None
        crash_point("close.returned")
        keep()
        found = read_ending(store, run)
        keep()
        record = replace(final_record(store, run, found), overdue=overdue)
        kept = record.plan.workers if record.counts.leftover else 0  # the next run needs them again
        types_with_alarm = _types_with_alarm(store, run, found)
        crash_point("close.counted")
        closed = store.runs.close(
            run_id,
            record,
            types,
            wanted=max(store.settings.workers.min, kept),
            measured=store.measures.encode(found.kept),
            added=of_run(record, found.calls),
        )
        if closed:
            crash_point("close.recorded")
            store.processes.wake("supervisors", "scheduler")
            _log_end(record, types_with_alarm, again=_is_as_before(run, record))
            return record
        if closed is not None:
            return None


def close_overdue(store: Store, run: Run, failure: str = "") -> Record | None:
    """Close a run past its deadline in place of its conductor; return its record, None if another closed it.

    The conductor is deposed, unless it has moved the run to finishing; then everything for the record is known.
    """
    if run.state is not State.FINISHING:
        counts = store.ledger.count(store.known_types)
        waits = Waits.read(run.waits, run.opened_at)
        waiting = [name for name, count in counts.items() if count.pending]
        waits.stand_still(run.deadline, waiting, begun=run.first_release_at is not None)
        fields = write_waits(waits.as_json(), counts, store.intake.untaken(run.id)[0])
        fields |= {"failure": failure} if failure else {}
        if store.runs.end_overdue(run.id, **fields):
            told = "Run %s was not closed by its deadline: its conductor is deposed, and the run is closed here"
            log.warning(told, run.id, extra={"action": "close_overdue", "run_id": run.id})
    return close_run(store, run.id, overdue=True)


def _types_with_alarm(store: Store, run: Run, found: Ending) -> set[str]:
    """Return the types with an endpoint that has raised an alarm for its failures."""
    names = raised_alarm(found.health, run.started_at)
    return {kind.name for kind in store.settings.event_types if any(one.name in names for one in kind.endpoints)}


def _is_as_before(run: Run, record: Record) -> bool:
    """Return whether a run that opened late could do nothing; the previous run already reported its leftovers."""
    calls = sum(entry.calls for entry in record.by_endpoint.values())
    return bool(run.late) and not calls and not record.counts.taken


def _log_end(record: Record, types_with_alarm: Collection[str], *, again: bool = False) -> None:
    """Log how a run ended, as an alarm if events were left over and no other alarm covers it.

    `again`: all leftovers were already leftovers of the previous run.
    """
    level, extra = logging.INFO, {"action": "close_run", "run_id": record.run_id}
    counts = {key: getattr(record.counts, key) for key in ("taken", "carried_over", "completed", "failed", "leftover")}
    if record.state == State.FAILED:
        level, extra = logging.ERROR, alarm(Alarm.RUN_FAILED, "close_run", counts=counts, run_id=record.run_id)
    elif record.state == State.PARTIAL and not again and not alarmed(record.why, types_with_alarm):
        level, extra = logging.WARNING, alarm(Alarm.LEFTOVERS, "close_run", counts=counts, run_id=record.run_id)
    elif every_call_failed(record):
        level = logging.WARNING
    log.log(level, "Run %s closed: %s", record.run_id, _sentence(record), extra=extra)


def _sentence(record: Record) -> str:
    counts = record.counts
    why = f" ({record.failure})" if record.failure else ""
    numbers = {"completed": counts.completed, "failed": counts.failed, "leftover": counts.leftover}
    parts = [f"{record.state}{why} after {span(record.duration_seconds)}"]
    parts += [f"{number} {name}" for name, number in numbers.items() if number or name == "completed"]
    sentences = [away_in_words(record.redis_away_seconds), verdict(record.why), in_words(record.troubles)]
    return ". ".join([", ".join(parts), *filter(None, sentences)])


class OverdueWatch:
    """Looks at the run that should be closed by now, and only then. One thread looks; any thread may call `expect`."""

    def __init__(
        self,
        store: Store,
        patience_seconds: float = PATIENCE_SECONDS,
        *,
        on_closed: Callable[[Run, Record], object] = lambda _run, _record: None,
        wake: Callable[[], object] = lambda: None,
    ) -> None:
        """Report a run that was closed here to `on_closed`; call `wake` if the looking thread must look soon."""
        self._store = store
        self._patience_seconds = patience_seconds
        self._on_closed = on_closed
        self._wake = wake
        #: The run to look at, and its end by this host's clock, which Redis must confirm.
        self._expected = ("", math.inf)
        #: The run that was looked at and when to look again; and since when it has been seen overdue.
        self._next = self._expected
        self._overdue_since: float | None = None
        self._failed_at = -math.inf
        self._ask_at = math.inf

    def ask(self) -> None:
        """Look for an open run in `ASK_SECONDS`, unless a run that has not ended is known here."""
        if math.isinf(self.pause_seconds):
            self._ask_at = system_clock.monotonic() + ASK_SECONDS
            self._wake()

    def expect(self, run_id: str, ends_at: float = -math.inf) -> None:
        """Look at a run from `ends_at` (monotonic seconds) on; if that is unknown, at the next opportunity."""
        known_id, known = self._expected
        if run_id == known_id and (math.isfinite(known) or math.isinf(ends_at)):
            return
        self._expected = run_id, ends_at
        if 0 < ends_at - system_clock.monotonic() < NEAR_SECONDS:
            self._wake()

    def note_outage(self, at: float) -> None:
        """Record that Redis did not answer at `at`, monotonic seconds."""
        self._failed_at = max(self._failed_at, at)

    @property
    def pause_seconds(self) -> float:
        """The seconds until the next look, infinite if none is due."""
        run_id, ends_at = self._expected
        due = self._next[1] if run_id == self._next[0] else ends_at
        return max(0.0, min(due, self._ask_at) - system_clock.monotonic())

    def look(self) -> None:
        """Look if due; close the run if it was overdue for long enough. If Redis is away, try again later."""
        if self.pause_seconds > 0:
            return
        self._ask_at, (run_id, _) = math.inf, self._expected
        if run_id != self._next[0]:
            self._overdue_since = None
        try:
            with self._store.guarded():
                self._next = run_id, self._look(run_id)
        except StoreError as error:
            self.note_outage(system_clock.monotonic())
            self._next = run_id, system_clock.monotonic() + AGAIN_SECONDS
            log.debug("Run %s cannot be checked: %s", run_id, error, extra={"action": "look", "run_id": run_id})

    def _look(self, run_id: str) -> float:
        """Look at a run; return when to look again."""
        run, now_us = self._store.runs.current_at()
        now = system_clock.monotonic()
        if run is None:
            return math.inf
        left_seconds, since = run.left_seconds(now_us), self._overdue_since
        if run.id != run_id:
            self.expect(run.id, now + left_seconds)
            return math.inf
        if left_seconds > 0:
            self._overdue_since = None
            return now + left_seconds
        if since is None or since <= self._failed_at or now > since + self._patience_seconds + LAPSE_SECONDS:
            since = self._overdue_since = now
        if now < (close_at := since + self._patience_seconds):
            return close_at
        failure = REDIS_AWAY if self._failed_at > now + left_seconds else ""
        if record := close_overdue(self._store, run, failure):
            self._on_closed(run, record)
            look_over(self._store, record)
        return system_clock.monotonic() + AGAIN_SECONDS
