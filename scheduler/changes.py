"""What operators change on the live system, in the log of the scheduler that leads."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rlm.ledger.control import BY_FILE, Change, What

if TYPE_CHECKING:
    from rlm.ledger import Store

#: How many of the newest changes are looked at: more than anybody makes between two looks.
LOOKED_AT = 100

log = logging.getLogger(__name__)


class ChangeTeller:
    """Logs each change once. What was changed before its first look was told by another."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._told: set[Change] | None = None

    def tell(self, *, aloud: bool) -> None:
        """Take note of what was changed since the last look, and log it if `aloud`.

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
