"""The end of a run: unsettled events become leftovers, and the record is written exactly once, whoever is first.

The end-of-run actor and the conductor both call `close_run`. A lane that hears from its turn that nothing more can be
done in the run has the actor close it, so a run is closed in time even if no conductor lives. That takes no lease: the
run's own state decides. The final state follows from the counts, see `rlm.core.run`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from rlm.core.alarms import Alarm, alarm
from rlm.core.documents import Record
from rlm.core.failpoints import crash_point
from rlm.core.run import Run, State
from rlm.core.tally import away_in_words, every_call_failed, in_words, of_run
from rlm.core.text import span
from rlm.delivery.run_record import final_record
from rlm.ledger import Store
from rlm.ledger.reading.books import Ending, read_ending
from rlm.ledger.runs import write_waits
from rlm.plan.causes import alarmed, verdict

#: The failure of a run at whose deadline Redis could not be written to.
REDIS_AWAY = "Redis was away, or not fit, past the deadline"

log = logging.getLogger(__name__)


def close_run(
    store: Store, run_id: str, *, failure: str = "", keep: Callable[[], object] = lambda: None
) -> Record | None:
    """End the run, if it may be ended by anybody, and close it; return its record, None if it is not to be closed here.

    `failure` says why RLM could not conduct it, if so. `keep` is called between steps that may take long, to renew a
    leader's lease.

    Closing is one compare-and-set in Redis, so a second caller changes nothing. Once a run is finishing nothing can
    settle any more, so the counts read then are final.
    """
    while True:
        run = store.runs.current()
        if run is None or run.id != run_id:
            return None
        if run.state is not State.FINISHING:
            fields = account_of(store, run) | ({"failure": failure} if failure else {})
            if not store.runs.end(run_id, None, **fields) or (run := store.runs.current()) is None:
                return None
        crash_point("close.returned")
        keep()
        ending = read_ending(store, run)
        keep()
        record = final_record(store, run, ending)
        workers = record.plan.workers if record.counts.leftover else 0  # the next run needs them again
        types_with_alarm = _types_with_alarm(store, run, ending)
        crash_point("close.counted")
        closed = store.runs.close(
            run_id,
            record,
            wanted=max(store.settings.workers.min, workers),
            measured=store.measures.encode(ending.kept),
            added=of_run(record, ending.calls),
        )
        if closed:
            crash_point("close.recorded")
            store.processes.wake("supervisors", "scheduler")
            _log_end(record, types_with_alarm)
            return record
        if closed is not None:
            return None
        if not store.runs.end(run_id):  # whoever ended it may have died before all was ready again
            return None


def account_of(store: Store, run: Run) -> dict[str, str]:
    """Return the fields of a run that is about to end which say why events are left over."""
    counts = store.ledger.count(store.known_types)
    return write_waits(run.waits, counts, store.intake.untaken(run.id)[0])


def _types_with_alarm(store: Store, run: Run, ending: Ending) -> set[str]:
    """Return the types with an endpoint that has raised an alarm for its failures."""
    names = {name for name, health in ending.health.items() if health.alarmed(run.started_at)}
    return {
        kind.name for kind in store.settings.event_types if any(endpoint.name in names for endpoint in kind.endpoints)
    }


def _log_end(record: Record, types_with_alarm: Collection[str]) -> None:
    """Log how a run ended, as an alarm if events were left over and no other alarm covers it."""
    level, extra = logging.INFO, {"action": "close_run", "run_id": record.run_id}
    counts = {key: getattr(record.counts, key) for key in ("taken", "carried_over", "completed", "failed", "leftover")}
    if record.state == State.FAILED:
        level, extra = logging.ERROR, alarm(Alarm.RUN_FAILED, "close_run", counts=counts, run_id=record.run_id)
    elif record.state == State.PARTIAL and not alarmed(record.why, types_with_alarm):
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
