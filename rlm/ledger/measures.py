"""What the calls show: what to expect of the next ones, and the totals over all runs."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Mapping, Sequence

from rlm.core.endpoint import EventType
from rlm.core.expected import KEPT_CALLS, CallEntry, Expected, Outcome, Pair, completed, expect
from rlm.core.trail import CallEnd
from rlm.ledger.calls import Calls
from rlm.ledger.connect import translated
from rlm.ledger.scripts import Access, Command, Part
from rlm.ledger.values import numbers

#: How many calls the first look reads: a full window of the built-in types, in 0.1 s.
FIRST_CALLS = 2000


class Measures(Part):
    """Follows the log of calls: how the newest ended, by type and endpoint.

    Like windows, they belong to the endpoint's URL, not its name.
    """

    def __init__(self, store: Access) -> None:
        super().__init__(store)
        self._outcomes: dict[Pair, deque[Outcome]] = defaultdict(lambda: deque(maxlen=KEPT_CALLS))
        self._after = ""

    def look(self) -> list[CallEntry]:
        """Read what was logged since the last look, at the first one the `FIRST_CALLS` newest; return them."""
        log = Calls(self._store)
        calls, self._after = log.follow(self._after) if self._after else log.newest(FIRST_CALLS)
        for call in calls:
            if call.end in {CallEnd.COMPLETED, CallEnd.ERROR}:
                seconds = call.milliseconds / 1000 if call.end is CallEnd.COMPLETED else None
                self._outcomes[call.type, call.window_id].append(Outcome(sys.intern(call.run_id), seconds))
        return calls

    def expected(
        self, types: Sequence[EventType], run_id: str = "", only: Collection[Pair] | None = None
    ) -> dict[Pair, Expected]:
        """Return what to expect, by type and endpoint, without pairs that have too few calls; see `expect`.

        With `only`, of these types and windows.
        """
        of = {
            (kind.name, endpoint.name): expect(kind, outcomes, run_id)
            for kind in types
            for endpoint in kind.endpoints
            if (outcomes := self._outcomes.get(pair := (kind.name, endpoint.window_id)))
            and (only is None or pair in only)
        }
        return {pair: expected for pair, expected in of.items() if expected}

    def learned(self, types: Sequence[EventType]) -> dict[Pair, Expected]:
        """Return what to expect by all that was logged."""
        self.look()
        return self.expected(types)


class Measuring:
    """Tracks the calls of an open run."""

    def __init__(self, measures: Measures, types: Sequence[EventType], run_id: str) -> None:
        self._measures = measures
        self._types = types
        self._run_id = run_id
        self._failed = Counter[str]()
        #: When the newest completed call of each endpoint was answered, microseconds of Redis time.
        self.answered_us: dict[str, int] = {}
        #: What to expect as of the last look; the same object while no call has ended.
        self.expected: Mapping[Pair, Expected] = {}
        self.look()
        self.expected = measures.expected(types, run_id)

    @property
    def down(self) -> set[str]:
        """The endpoints of which every call of the run has failed so far, two at least: one says nothing."""
        return {name for name, calls in self._failed.items() if calls > 1 and name not in self.answered_us}

    def look(self) -> None:
        """Read what happened since the last look."""
        calls = [call for call in self._measures.look() if call.run_id == self._run_id]
        self._failed.update(call.endpoint for call in calls if call.end is CallEnd.ERROR)
        for call in completed(calls):
            self.answered_us[call.endpoint] = max(self.answered_us.get(call.endpoint, 0), call.ended_us)
        if calls:
            ended = {(call.type, call.window_id) for call in calls}
            self.expected = {**self.expected, **self._measures.expected(self._types, self._run_id, ended)}


class Totals(Part):
    """Reads the totals over all runs, which never decrease while Redis keeps them."""

    @translated()
    def look(self) -> Counter[str]:
        """Return the totals with the tally of the open run, of one instant; histograms are of finished runs."""
        keys = self._keys
        read: list[Command] = [("HGETALL", keys.totals), ("HGETALL", keys.tally), ("EXISTS", keys.run)]
        totals, tally, is_open = self._batch(read, transaction=True)
        counts = Counter(numbers(totals, keys.totals))
        if is_open:
            counts.update(numbers(tally, keys.tally))
        return counts
