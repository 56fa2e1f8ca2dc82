"""The log of calls: every call of all runs, with its end and its times; what it shows, and the totals over all runs.

It is a stream that the scripts write, one entry when a call ends. Its field `c` has ten values, joined by spaces:
`RUN TYPE ENDPOINT WINDOW SENT_US END MS AGE_MS EVENT_ID CLAIMS`.

The totals are one hash of integers that only grow. Closing a run adds its counts there, as `what:name`, and

- `leftover:TYPE`, `runs:STATE`,
- histograms: `what<=BOUND:NAME` counts values of at most BOUND seconds; `what_us:NAME` sums their microseconds, as
  integers so that rounding never makes a counter decrease. `call`: from request to answer; `answer`: from taking an
  event to the answer that completed it; `run`: from a run's start to its close.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec

from rlm.core.call import CallEnd, CallEntry, Expected, Pair, Took, expect
from rlm.core.documents import Record
from rlm.core.endpoint import Endpoint, EventType, all_limited
from rlm.ledger.connect import text, translated
from rlm.ledger.scripts import SLICE, Access, Command, Part
from rlm.ledger.values import MICROSECONDS, name_unreadable, numbers, reading

#: Calls are kept so long, if the newest half million reach back so far.
KEEP_SECONDS = 24 * 3600
#: The bounds of the histograms in seconds.
BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 90, 120, 150, 180, 300, 600, 1800, 3600, math.inf)


def read_call(raw: bytes) -> CallEntry:
    """Return a call from its form in the log; raise ValueError if it has another one."""
    return msgspec.convert(text(raw).split(" "), CallEntry, strict=False)


class Calls(Part):
    """Reads the log and the totals. What RLM did not write there is named in the program's log and left out.

    It follows how long the newest completed calls took, by type and endpoint: like windows, by the endpoint's URL.
    """

    def __init__(self, store: Access) -> None:
        super().__init__(store)
        self._outcomes: dict[Pair, deque[Took]] = defaultdict(lambda: deque(maxlen=100))
        self._after = ""

    @translated()
    def follow(self, after: str, until: str = "+") -> tuple[list[CallEntry], str]:
        """Return the calls behind an entry, oldest first, and the id of the last entry, or `after` if there is none."""
        calls: list[CallEntry] = []
        while True:
            entries = self._ask("XRANGE", self._keys.calls, f"({after}", until, "COUNT", SLICE)
            calls += self._read(entries)
            after = text(entries[-1][0]) if entries else after
            if len(entries) < SLICE:
                return calls, after

    @translated()
    def newest(self, number: int) -> tuple[list[CallEntry], str]:
        """Return the newest `number` calls, oldest first, and the id of the last entry, as `follow` returns them."""
        entries = self._ask("XREVRANGE", self._keys.calls, "+", "-", "COUNT", number)[::-1]
        return self._read(entries), text(entries[-1][0]) if entries else "0-0"

    def _read(self, entries: Sequence[tuple[bytes, Sequence[bytes]]]) -> list[CallEntry]:
        calls: list[CallEntry | None] = []
        for entry_id, fields in entries:
            if fields[:1] == [b"c"]:
                calls.append(reading(read_call, fields[1], self._keys.calls, None))
            else:
                name_unreadable(self._keys.calls, entry_id, ValueError("an entry without `c`"))
        return [call for call in calls if call is not None]

    def look(self) -> list[CallEntry]:
        """Read what was logged since the last look, at the first one the newest 2,000 calls; return them.

        So many are a full window of the built-in types, and are read in 0.1 s.
        """
        calls, self._after = self.follow(self._after) if self._after else self.newest(2000)
        for call in calls:
            if call.end is CallEnd.COMPLETED:
                outcome = sys.intern(call.run_id), call.milliseconds / 1000
                self._outcomes[call.type, call.window_id].append(outcome)
        return calls

    def expected(self, types: Sequence[EventType], run_id: str = "") -> dict[Pair, Expected]:
        """Return what to expect by the looks, by type and endpoint, without pairs that have too few calls."""
        pairs = [(kind.name, endpoint) for kind in types for endpoint in kind.endpoints]
        of = {(name, each.name): expect(self._outcomes.get((name, each.window_id), ()), run_id) for name, each in pairs}
        return {pair: expected for pair, expected in of.items() if expected}

    def since(self, moment: float, until: float | None = None) -> list[CallEntry]:
        """Return the calls that ended since a moment, and until another one, seconds since 1970, in that order.

        This holds even if the clock of Redis was set meanwhile, because the ids of a stream only grow.
        """
        last = "+" if until is None else f"{until * 1000:.0f}"
        return self.follow(f"{max(0, int(moment * 1000 - 1))}-0", last)[0]

    def begins(self) -> float | None:
        """Return when the oldest call of the log ended, seconds since 1970; None without any."""
        oldest = self._ask("XRANGE", self._keys.calls, "-", "+", "COUNT", 1)
        return int(oldest[0][0].partition(b"-")[0]) / 1000 if oldest else None

    def trim(self) -> None:
        """Remove calls that are older than they are kept."""
        least = max(0, round((self._store.now() - KEEP_SECONDS) * 1000))
        self._ask("XTRIM", self._keys.calls, "MINID", f"{least}-0")

    @translated()
    def totals(self) -> Counter[str]:
        """Return the totals with the tally of the open run, of one instant; histograms are of finished runs.

        They never decrease while Redis keeps them.
        """
        keys = self._keys
        read: list[Command] = [("HGETALL", keys.totals), ("HGETALL", keys.tally), ("EXISTS", keys.run)]
        totals, tally, is_open = self._batch(read, transaction=True)
        counts = Counter(numbers(totals, keys.totals))
        if is_open:
            counts.update(numbers(tally, keys.tally))
        return counts


def sent_by(calls: Iterable[CallEntry], endpoints: Collection[Endpoint]) -> dict[str, list[int]]:
    """Return by name when the calls to each endpoint, and with its budget, were sent, ascending."""
    names = {endpoint.window_id: [each.name for each in all_limited([endpoint])] for endpoint in endpoints}
    sent: dict[str, list[int]] = {each.name: [] for each in all_limited(endpoints)}
    for call in sorted(calls, key=lambda call: call.sent_us):
        for name in names.get(call.window_id, ()):
            sent[name].append(call.sent_us)
    return sent


def fullest(stamps: Sequence[int], span: int, since: int = 0) -> tuple[int, int | None]:
    """Return the most of the ascending `stamps` in a period of `span` that ends with one `since` then, and its end.

    A period is half-open: two calls exactly one period apart never share one. Any fullest period can be shifted to end
    with a call, so only such periods are counted.
    """
    most, end, begin = 0, None, 0
    for index in range(bisect_left(stamps, since), len(stamps)):
        begin = bisect_left(stamps, stamps[index] - span + 1, begin, index + 1)
        if index - begin + 1 >= most:
            most, end = index - begin + 1, stamps[index]
    return most, end


def added_to_totals(record: Record, calls: Iterable[CallEntry]) -> Counter[str]:
    """Return what closing a run with these completed calls adds to the totals, besides the run's own counts."""
    measured: dict[tuple[str, str], list[float]] = defaultdict(list, {("run", ""): [record.duration_seconds]})
    for call in calls:
        measured["call", call.endpoint].append(call.milliseconds / 1000)
        measured["answer", call.type].append(call.age_ms / 1000)
    added = Counter({f"leftover:{name}": entry.leftover for name, entry in record.by_type.items()})
    added[f"runs:{record.state}"] = 1
    for (what, name), times in measured.items():
        ascending = sorted(max(0.0, seconds) for seconds in times)  # the clock may have been set back
        added[f"{what}_us:{name}"] = round(sum(ascending) * MICROSECONDS)
        added.update({f"{what}<={bound:g}:{name}": bisect_right(ascending, bound) for bound in BOUNDS})
    return +added
