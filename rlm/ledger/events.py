"""Events outside the turns of lanes: counted by type and place, put back, and dropped while they wait."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from operator import itemgetter
from typing import Any

from rlm.core.errors import StoreGarbledError
from rlm.core.item import Counts, Reason, encode_letter, type_of
from rlm.core.text import is_name
from rlm.ledger.connect import text, translated
from rlm.ledger.letters import Letters
from rlm.ledger.processes import lanes_of
from rlm.ledger.scripts import CHUNK, Access, Command, Part

#: Before the id of an event in `due` that waits for another attempt.
LATER = "later "
#: An event that so many workers died of becomes a dead letter, because it may be what kills them.
POISON_DEATHS = 3


class Ledger(Part):
    """Reads where the events of the ledger are, puts them back, and removes them. Each change may be repeated."""

    def __init__(self, store: Access, letters: Letters) -> None:
        super().__init__(store)
        self._dead = letters

    def types(self, replies: Sequence[Sequence[bytes]] = ()) -> list[str]:
        """Return the configured types, then others, whose events were counted; by the `replies` if they are read."""
        replies = replies or self._batch(("HKEYS", key) for key in (self._keys.totals, self._keys.tally))
        counts = (field.decode("latin-1").partition(":") for field in chain(*replies))
        others = sorted({name for what, _, name in counts if what in {"taken", "carried"} and is_name(name)})
        return [*dict.fromkeys([*(kind.name for kind in self._store.settings.event_types), *others])]

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
        inflight, backing_off, spent = Counter[str](), Counter[str](), Counter[str]()
        for event_id, is_later, at in read_due(due):
            (inflight if not is_later else spent if at == math.inf else backing_off)[type_of(event_id)] += 1
        return {
            name: Counts(number, inflight[name], backing_off[name], spent[name])
            for name, number in zip(types, ready, strict=True)
        }

    def fail_unknown(self, token: int, run_id: str, type_name: str, goes_on: Callable[[], bool] = lambda: True) -> int:
        """Make dead letters of the ready events of a type that is no longer configured; return how many.

        Because there may be very many, it stops after a chunk when `goes_on` returns False, and when dead letters
        cannot be archived.
        """
        failed: int = 0
        detail = f"{type_name!r} is no longer a configured type"
        while True:
            ids = list(map(text, self._ask("ZRANGE", self._keys.ready(type_name), 0, CHUNK - 1)))
            letters = self._letters(ids, Reason.UNKNOWN_TYPE, detail, run_id)
            failed += (removed := sum(self._remove(letters, token)))
            self._dead.archive_some()
            if not removed or self._dead.trouble or not goes_on():
                return failed

    def drop(self, event_ids: Sequence[str]) -> tuple[int, bool]:
        """Remove and forget leftover events.

        Return how many were removed, and whether a run is open, in which case it owns all leftovers.
        """
        replies = self._remove(dict.fromkeys(event_ids, ""))
        return replies.count(1), -1 in replies

    def _remove(self, letters: dict[str, str], token: int | str = "") -> list[int]:
        of = {"failed": self._keys.failed, "token": token, "dedupe_ms": self._dedupe_ms}
        calls = [{**of, "event_id": event_id, "letter": letter} for event_id, letter in letters.items()]
        return self._run_each("remove_ready", calls)

    @translated()
    def reap(self, worker_id: str, *, died: bool = True) -> int:
        """Make ready what the lanes of a dead worker held; its calls count as sent now. Return how many.

        Unless it `died`, no death is counted, because it was ended with all others and not killed by an event.
        """
        ids: list[str] = []
        with suppress(StoreGarbledError, ValueError, LookupError):  # its claims come back when their leases end
            ids = [call.event_id for call in lanes_of(self._ask("HGETALL", self._keys.held(worker_id)))]
        run_id = text(self._ask("HGET", self._keys.run, "run_id") or b"") or None
        letters = self._letters(ids, Reason.POISON, f"{POISON_DEATHS} workers died while they had it", run_id)
        named = {"failed": self._keys.failed, "dedupe_ms": self._dedupe_ms, "letters": letters}
        return int(self._run("reap", worker=worker_id, poison=POISON_DEATHS if died else 0, **named))

    @translated()
    def adopt(self, cursor: int) -> tuple[int, list[str]]:
        """Look at some of all events, from a cursor of SCAN on; put back those that are in no set of the ledger.

        Return the next cursor, 0 once all were looked at, and the events that were put back: a key was deleted, or a
        fail-over lost writes, and nothing else would find them.
        """
        following, *adopted = map(text, self._run("adopt", cursor=cursor))
        return int(following), adopted

    def _letters(self, event_ids: Sequence[str], reason: Reason, detail: str, run_id: str | None) -> dict[str, str]:
        """Return the dead letters of events by id; one whose key holds no event has the item `null`."""
        items = self._batch(("HMGET", self._keys.event(each), "item") for each in event_ids)
        of: dict[str, Any] = {"failed_at": self._store.clock.now(), "run_id": run_id}
        return {
            event_id: encode_letter(item or b"null", reason, detail, event=event_id, **of).decode()
            for event_id, (item,) in zip(event_ids, items, strict=True)
        }


def read_due(reply: Sequence[bytes]) -> Iterator[tuple[str, bool, float]]:
    """Yield the events of `due`, whether each waits for another attempt, and its score; those under way first."""
    events = ((member.removeprefix(LATER), member.startswith(LATER), at) for member, at in scored(reply))
    return iter(sorted(events, key=itemgetter(1)))


def scored(reply: Sequence[bytes]) -> Iterator[tuple[str, float]]:
    """Yield the members of a zset with their scores from the reply to a command WITHSCORES."""
    for member, score in zip(reply[::2], reply[1::2], strict=True):
        yield text(member), float(score)
