"""The events in the ledger, counted by type and place; the step that moves them is a turn (rlm/ledger/turns.py)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from rlm.core.item import Counts, is_type_name, type_of
from rlm.ledger.connect import text
from rlm.ledger.scripts import Command, Part

#: Before the id of an event in `due` that waits for another attempt.
LATER = "later "


class Ledger(Part):
    """Reads where the events of the ledger are."""

    def types(self) -> list[str]:
        """Return the types that have or had events in the ledger: some were counted."""
        return sorted(types_in(chain(*self._batch(("HKEYS", key) for key in (self._keys.totals, self._keys.tally)))))

    def count(self, types: Sequence[str]) -> dict[str, Counts]:
        """Count the events of each type by place, all at one instant."""
        return self.read_counts(self._batch(self.count_commands(types), transaction=True), types)

    def count_commands(self, types: Sequence[str]) -> list[Command]:
        """Return the commands whose replies `read_counts` reads."""
        ready: list[Command] = [("ZCARD", self._keys.ready(name)) for name in types]
        return [*ready, ("ZRANGE", self._keys.due, 0, -1, "WITHSCORES")]

    def read_counts(self, replies: Sequence[Any], types: Sequence[str]) -> dict[str, Counts]:
        """Read the replies to the commands of `count_commands`."""
        *ready, due = replies
        inflight, backoff, spent = Counter[str](), Counter[str](), Counter[str]()
        for event_id, is_later, at in read_due(due):
            (inflight if not is_later else spent if at == math.inf else backoff)[type_of(event_id)] += 1
        return {
            name: Counts(number, inflight[name], backoff[name], spent[name])
            for name, number in zip(types, ready, strict=True)
        }


def types_in(fields: Iterable[bytes]) -> set[str]:
    """Return the types of which events were taken, or carried over, by the fields of a tally or of the totals."""
    counts = (field.partition(b":") for field in fields)
    return {name.decode() for what, _, name in counts if what in {b"taken", b"carried"} and is_type_name(name)}


def read_due(reply: Sequence[bytes]) -> Iterator[tuple[str, bool, float]]:
    """Yield the events of `due`, whether each waits for another attempt, and its score; those under way first."""
    events = ((member.removeprefix(LATER), member.startswith(LATER), at) for member, at in scored(reply))
    return iter(sorted(events, key=itemgetter(1)))


def scored(reply: Sequence[bytes]) -> Iterator[tuple[str, float]]:
    """Yield the members of a zset with their scores from the reply to a command WITHSCORES."""
    for member, score in zip(reply[::2], reply[1::2], strict=True):
        yield text(member), float(score)
