"""Strays: events that are in no set of the ledger, because a key was deleted, or a fail-over lost writes.

Nothing else would find them. They are looked for slowly and only between runs, and put back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.core.errors import StoreForbiddenError
from rlm.core.item import is_type_name, type_of
from rlm.ledger.connect import text, translating
from rlm.ledger.scripts import Part

if TYPE_CHECKING:
    from rlm.ledger.front import StoreFront

#: How many keys one step asks Redis to look at, which takes a fraction of a millisecond.
KEYS_A_STEP = 500


class Strays(Part):
    """Looks through all events again and again, a few at each step."""

    def __init__(self, store: StoreFront) -> None:
        super().__init__(store)
        self._cursor = 0

    @translating
    def step(self) -> list[str]:
        """Look at the next events; return those that were put back."""
        begin = self._keys.event("")
        pattern = f"{begin}*"
        try:
            cursor, keys = self._ask("SCAN", self._cursor, "MATCH", pattern, "COUNT", KEYS_A_STEP)
        except StoreForbiddenError:  # a user of an older version of docs/security.md
            return []
        self._cursor = int(cursor)
        ids = [name.removeprefix(begin) for key in keys if is_type_name(type_of(name := text(key)).encode())]
        if not ids:
            return []
        return list(map(text, self._run("adopt_events", prefix=self._keys.prefix, events=ids)))
