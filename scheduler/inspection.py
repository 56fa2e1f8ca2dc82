"""What a leader reports: after a run whether its promises were kept, and what operators change meanwhile."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rlm.core.alarms import Alarm, alarm
from rlm.core.errors import StoreError
from rlm.core.tally import refused_by
from rlm.ledger.changes import BY_FILE, Change, What
from rlm.ledger.reading.books import books, miscounted
from rlm.ledger.reading.calls import excess
from rlm.ledger.refusals import forget_what_is_over

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm.ledger import Store

#: Fewer dead letters of a run raise no alarm, however large a part of it they are.
LEAST_LETTERS = 5
#: How many of the newest changes are looked at: more than anybody makes between two looks.
LOOKED_AT = 100

log = logging.getLogger(__name__)


class Inspector:
    """Raises an alarm if a promise was not kept, once for each run and cause."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def after_run(self, record: Mapping[str, Any]) -> None:
        """Look at what the run of `record` left behind. If Redis fails nothing is reported; `rlm doctor` looks too."""
        try:
            self._look_at_limits(record)
            self._look_at_books(record)
            self._look_at_letters(record)
            forget_what_is_over(self._store)
        except StoreError as error:
            log.info(
                "Run %s is not looked over, for Redis failed: %s",
                record["run_id"],
                error,
                extra={"action": "inspect", "run_id": record["run_id"]},
            )

    def _look_at_limits(self, record: Mapping[str, Any]) -> None:
        began_at = datetime.fromisoformat(record["started_at"]).timestamp()
        over = {name: calls for name, calls in excess(self._store, began_at).items() if calls}
        if over:
            worst = max(over, key=over.__getitem__)
            log.error(
                "The limit of %s was exceeded, by %d calls in one period at the worst; `rlm compliance` shows where",
                ", ".join(over),
                over[worst],
                extra=alarm(
                    Alarm.LIMIT_EXCEEDED,
                    "inspect",
                    counts={"exceeded": len(over), "too_many": over[worst]},
                    run_id=record["run_id"],
                    endpoint=worst,
                ),
            )

    def _look_at_books(self, record: Mapping[str, Any]) -> None:
        found = books(self._store)
        if faults := [*found.faults, *_faults_of(record), *miscounted(self._store, found, record)]:
            log.error(
                "The books do not balance after run %s: %s",
                record["run_id"],
                "; ".join(faults),
                extra=alarm(Alarm.BOOKS_UNBALANCED, "inspect", counts={"faults": len(faults)}, run_id=record["run_id"]),
            )

    def _look_at_letters(self, record: Mapping[str, Any]) -> None:
        """Compare the dead letters with the configured bounds, after a run that added to them."""
        most, counts = self._store.settings.queue.failed_alarm, record["counts"]
        added = counts["failed"] + counts["invalid"]
        if not added:
            return
        letters = self._store.letters.count()
        if (most and letters > most) or self._are_many(record, added):
            log.warning(
                "There are %d dead letters, %d more since run %s began, which completed %d; see `rlm failed list`",
                letters,
                added,
                record["run_id"],
                counts["completed"],
                extra=alarm(
                    Alarm.DEAD_LETTERS,
                    "inspect",
                    counts={"letters": letters, "failed": counts["failed"], "invalid": counts["invalid"]},
                    run_id=record["run_id"],
                ),
            )

    def _are_many(self, record: Mapping[str, Any], added: int) -> bool:
        """Return whether too large a part of what a run settled became dead letters, not counting those alarmed of."""
        share = self._store.settings.queue.failed_alarm_share
        began_at = datetime.fromisoformat(record["started_at"]).timestamp()
        alarmed = self._store.control.alarmed(list(self._store.endpoints().values()), began_at)
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


class ChangeTeller:
    """Logs each change that an operator makes once. Those before its first look were logged by another."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._told: set[Change] | None = None

    def tell(self, *, aloud: bool) -> None:
        """Note what was changed since the last look, and log it if `aloud`.

        Raises:
            StoreError: Redis did not answer.
        """
        newest = self._store.changes.newest(LOOKED_AT)
        if aloud and self._told is not None:
            for change in reversed(newest):
                if change not in self._told and change.by != BY_FILE:
                    log.info("%s", _words(change), extra={"action": f"{change.what}_endpoint", "endpoint": change.name})
        self._told = set(newest)


def _words(change: Change) -> str:
    match change.what:
        case What.LIMIT:
            return f"{change.by} changed the limit of {change.name} from {change.before} to {change.after}"
        case What.PAUSE:
            how_long = change.after if change.after == "until resumed" else f"for {change.after}"
            return f"{change.by} paused {change.name} {how_long}"
        case What.RESUME:
            return f"{change.by} resumed {change.name}" + (f", which was {change.ended}" if change.before else "")
