"""Strays: events that are in no set of the ledger, because a key was deleted, or a fail-over lost writes.

Nothing else would find them. They are looked for slowly and only between runs, and put back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.core.clock import system_clock
from rlm.core.errors import StoreForbiddenError
from rlm.core.item import is_type_name, type_of
from rlm.ledger.connect import text, translating
from rlm.ledger.scripts import Part

if TYPE_CHECKING:
    from rlm.ledger.store import Store

#: How many keys one step asks Redis to look at, which takes a fraction of a millisecond.
KEYS_A_STEP = 500
#: Seconds from the end of one look through all events to the beginning of the next.
REST_SECONDS = 60.0


class Strays(Part):
    """Looks through all events now and then, a few at each step."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._cursor = 0
        self._rests_until = float("-inf")

    def look_soon(self) -> None:
        """Begin to look again at the next step: a run has ended."""
        self._rests_until = float("-inf")

    @translating
    def step(self) -> list[str]:
        """Look at the next events, if it is time; return those that were put back."""
        if system_clock.monotonic() < self._rests_until:
            return []
        begin = self._keys.event("")
        pattern = f"{begin}*"
        try:
            cursor, keys = self._ask("SCAN", self._cursor, "MATCH", pattern, "COUNT", KEYS_A_STEP)
        except StoreForbiddenError:  # its user may not scan, against docs/security.md
            return []
        self._cursor = int(cursor)
        if not self._cursor:
            self._rests_until = system_clock.monotonic() + REST_SECONDS
        ids = [name.removeprefix(begin) for key in keys if is_type_name(type_of(name := text(key)).encode())]
        if not ids:
            return []
        return list(map(text, self._run("adopt_events", prefix=self._keys.prefix, events=ids)))
