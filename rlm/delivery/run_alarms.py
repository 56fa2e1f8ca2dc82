"""Whether a run kept its promises: whoever closed it looks, and raises an alarm for each that it did not keep."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import timestamp
from rlm.core.errors import StoreError
from rlm.core.tally import refused_by
from rlm.ledger import Store
from rlm.ledger.breaker import forget_what_is_over, raised_alarm
from rlm.ledger.processes import Role
from rlm.ledger.reading.books import books, miscounted
from rlm.ledger.reading.compliance import excess

#: Fewer dead letters of a run raise no alarm, however large a part of it they are.
LEAST_LETTERS = 5

log = logging.getLogger(__name__)


def look_over(store: Store, record: Mapping[str, Any]) -> None:
    """Raise an alarm for each promise that the run of `record` did not keep.

    If Redis fails nothing is reported; `rlm doctor` looks too.
    """
    try:
        _look_at_limits(store, record)
        _look_at_books(store, record)
        _look_at_letters(store, record)
        forget_what_is_over(store)
        store.ways.keep({one.host for role in Role for one in store.processes.alive(role)})
    except StoreError as error:
        extra = {"action": "inspect", "run_id": record["run_id"]}
        log.info("Run %s is not looked over, for Redis failed: %s", record["run_id"], error, extra=extra)


def _look_at_limits(store: Store, record: Mapping[str, Any]) -> None:
    over = {name: calls for name, calls in excess(store, timestamp(record["started_at"])).items() if calls}
    if over:
        worst = max(over, key=over.__getitem__)
        counts = {"exceeded": len(over), "too_many": over[worst]}
        told = "The limit of %s was exceeded, by %d calls in one period at the worst; `rlm compliance` shows where"
        extra = alarm(Alarm.LIMIT_EXCEEDED, "inspect", counts=counts, run_id=record["run_id"], endpoint=worst)
        log.error(told, ", ".join(over), over[worst], extra=extra)


def _look_at_books(store: Store, record: Mapping[str, Any]) -> None:
    found = books(store)
    if faults := [*found.faults, *_faults_of(record), *miscounted(store, found, record)]:
        extra = alarm(Alarm.BOOKS_UNBALANCED, "inspect", counts={"faults": len(faults)}, run_id=record["run_id"])
        log.error("The books do not balance after run %s: %s", record["run_id"], "; ".join(faults), extra=extra)


def _look_at_letters(store: Store, record: Mapping[str, Any]) -> None:
    """Compare the dead letters with the configured bounds, after a run that added to them."""
    most, counts = store.settings.queue.failed_alarm, record["counts"]
    added = counts["failed"] + counts["invalid"]
    if not added:
        return
    letters = store.letters.count()
    if (most and letters > most) or _are_many(store, record, added):
        told = "There are %d dead letters, %d more since run %s began, which completed %d; see `rlm failed list`"
        numbers = {"letters": letters, "failed": counts["failed"], "invalid": counts["invalid"]}
        extra = alarm(Alarm.DEAD_LETTERS, "inspect", counts=numbers, run_id=record["run_id"])
        log.warning(told, letters, added, record["run_id"], counts["completed"], extra=extra)


def _are_many(store: Store, record: Mapping[str, Any], added: int) -> bool:
    """Return whether too large a part of what a run settled became dead letters, not counting those alarmed of."""
    share = store.settings.queue.failed_alarm_share
    alarmed = raised_alarm(store.breaker.health(list(store.endpoints().values())), timestamp(record["started_at"]))
    untold = added - refused_by(record, alarmed)
    return bool(share) and untold >= LEAST_LETTERS and untold > share * (added + record["counts"]["completed"])


def _faults_of(record: Mapping[str, Any]) -> list[str]:
    """Return what does not add up in a record, a sentence a type."""
    return [
        f"{name}: {entry['taken']} taken and {entry['carried_over']} carried over, but {entry['completed']} completed, "
        f"{entry['failed']} failed and {entry['leftover']} left over"
        for name, entry in record["by_type"].items()
        if entry["taken"] + entry["carried_over"] != entry["completed"] + entry["failed"] + entry["leftover"]
    ]
