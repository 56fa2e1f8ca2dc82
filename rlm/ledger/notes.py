"""What is noted of conditions: since when each lasts, and what was found once, at a run's end or by the housekeeper."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from rlm.ledger.connect import text, translated
from rlm.ledger.scripts import Part
from rlm.ledger.values import moment, reading


class Notes(Part):
    """The key `conditions`. A condition is named by its code and its subject, with a space between."""

    @translated()
    def begun(self) -> dict[str, float]:
        """Return the conditions whose begin was logged and whose end was not: since when each lasts, seconds."""
        fields = {text(name): raw for name, raw in self._hgetall(self._keys.conditions).items() if b" " in name}
        return {name: reading(moment, raw, self._keys.conditions, 0.0) for name, raw in fields.items()}

    def probe(self) -> None:
        """Write without changing anything, which a Redis refuses if it takes no writes."""
        self._ask("HDEL", self._keys.conditions, "")

    def note(self, begun: Mapping[str, float], ended: Collection[str]) -> None:
        """Note which conditions have begun, and when, and which have ended."""
        key, fields = self._keys.conditions, [part for name, at in begun.items() for part in (name, repr(at))]
        commands = [("HSET", key, *fields)] if begun else []
        self._batch([*commands, *([("HDEL", key, *ended)] if ended else [])])

    def note_excess(self, excess: Mapping[str, int]) -> None:
        """Note by how many calls the last run exceeded the limits of endpoints and budgets."""
        self._ask("HSET", self._keys.conditions, "excess", json.dumps(excess))

    def excess(self) -> dict[str, int]:
        """Return what `note_excess` noted."""
        return {name: int(number) for name, number in self._read("excess", {}).items()}

    def note_adopted(self, at: float, number: int, example: str) -> None:
        """Note that events were in no set of the ledger and were put back, `at` seconds since 1970."""
        self._ask("HSET", self._keys.conditions, "adopted", json.dumps([at, number, example]))

    def adopted(self) -> tuple[float, int, str]:
        """Return what `note_adopted` noted last: when, how many, and one of them."""
        at, number, example = self._read("adopted", [0.0, 0, ""])
        return float(at), int(number), str(example)

    @translated()
    def _read(self, field: str, missing: Any) -> Any:
        return reading(json.loads, self._ask("HGET", self._keys.conditions, field), self._keys.conditions, missing)
