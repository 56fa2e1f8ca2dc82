"""The log of calls: every call of all runs, with its end and its times; what it shows, and the totals over all runs.

It is a stream that the scripts write, one entry when a call ends. Its field `c` has ten values, joined by spaces:
`RUN TYPE ENDPOINT WINDOW SENT_US END MS AGE_MS EVENT_ID CLAIMS`.

The totals are one hash of integers that only grow. Closing a run adds its counts there, as `what:name`, and

- `leftover:TYPE`, `runs:STATE`,
- histograms: `what<=BOUND:NAME` counts values of at most BOUND seconds and above the bound before; `what_us:NAME` sums
  their microseconds, as integers so that rounding never makes a counter decrease.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final, TypeAlias, cast

import msgspec

from rlm.core.call import CallEnd, CallEntry, Expected, Outcome, Pair, expect
from rlm.core.documents import Record
from rlm.core.endpoint import Endpoint, EventType, all_limited
from rlm.core.run import started_at_of
from rlm.ledger.connect import text, translated
from rlm.ledger.scripts import SLICE, Access, Command, Part
from rlm.ledger.values import MICROSECONDS, name_unreadable, number, numbers, reading, whole

#: Calls are kept so long, if the newest half million reach back so far.
KEEP_SECONDS = 24 * 3600
#: Where the log begins: before the first entry.
START = "0-0"
#: The histograms and their bounds in seconds. `call`: from request to answer; `answer`: from taking an event to the
#: answer that completed it; `run`: from a run's start to its close.
BOUNDS: Final[Mapping[str, tuple[float, ...]]] = {
    "call": (0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30),
    "answer": (1, 5, 15, 30, 60, 120, 180, 300, 600, 1800, 3600),
    "run": (1, 5, 15, 30, 60, 90, 120, 150, 180, 300, 600, 1800, 3600),
}
#: An entry as Redis has it: its id, and its fields with their values in one list.
Entry: TypeAlias = "tuple[bytes, Sequence[bytes]]"


def read_call(raw: bytes) -> CallEntry:
    """Return a call from its form in the log; raise ValueError if it has another one."""
    run_id, type_name, endpoint, window_id, sent_us, end, took, age, event_id, claims = text(raw).split(" ")
    times = number(took), number(age)
    if min(times) < 0 or times[0] > 86_400_000:  # noqa: PLR2004  # a day
        raise ValueError("no call takes so long")
    of = run_id, type_name, endpoint, window_id
    return CallEntry(*of, whole(sent_us), CallEnd(end), *times, event_id, whole(claims))


class Calls(Part):
    """Reads the log. What RLM did not write there is named in the program's log and left out."""

    def follow(self, after: str = START, until: str = "+") -> tuple[list[CallEntry], str]:
        """Return the calls behind an entry, oldest first, and the id of the last entry, or `after` if there is none."""
        calls: list[CallEntry] = []
        while True:
            entries = self._page(after, until)
            calls += self._read(entries)
            after = text(entries[-1][0]) if entries else after
            if len(entries) < SLICE:
                return calls, after

    @translated()
    def newest(self, number: int) -> tuple[list[CallEntry], str]:
        """Return the newest `number` calls, oldest first, and the id of the last entry, as `follow` returns them."""
        entries = self._ask("XREVRANGE", self._keys.calls, "+", "-", "COUNT", number)[::-1]
        return self._read(entries), text(entries[-1][0]) if entries else START

    @translated()
    def _page(self, after: str, until: str) -> list[Entry]:
        return cast("list[Entry]", self._ask("XRANGE", self._keys.calls, f"({after}", until, "COUNT", SLICE))

    def _read(self, entries: Sequence[Entry]) -> list[CallEntry]:
        calls: list[CallEntry | None] = []
        for entry_id, fields in entries:
            if fields[:1] == [b"c"]:
                calls.append(reading(read_call, fields[1], self._keys.calls, None))
            else:
                name_unreadable(self._keys.calls, entry_id, ValueError("an entry without `c`"))
        return [call for call in calls if call is not None]

    def of_run(self, run_id: str, until: float | None = None) -> list[CallEntry]:
        """Return the calls of a run, in the order of their ends, that ended until then, seconds since 1970.

        This holds even if the clock of Redis was set since the run opened, because the ids of a stream only grow.
        """
        calls, _ = self.follow(
            _behind((started_at_of(run_id) or 0.0) * 1000), "+" if until is None else f"{until * 1000:.0f}"
        )
        return [call for call in calls if call.run_id == run_id]

    def since(self, moment_us: int) -> list[CallEntry]:
        """Return the calls that were sent since a moment, microseconds of Redis time."""
        return [call for call in self.follow(_behind(moment_us / 1000))[0] if call.sent_us >= moment_us]

    def begins(self) -> float | None:
        """Return when the oldest call of the log ended, seconds since 1970; None without any."""
        oldest = self._ask("XRANGE", self._keys.calls, "-", "+", "COUNT", 1)
        return int(oldest[0][0].partition(b"-")[0]) / 1000 if oldest else None

    def trim(self) -> None:
        """Remove calls that are older than they are kept."""
        least = max(0, round((self._store.now() - KEEP_SECONDS) * 1000))
        self._ask("XTRIM", self._keys.calls, "MINID", f"{least}-0")


def _behind(milliseconds: float) -> str:
    """Return the id after which the entries of a moment come."""
    return f"{max(0, int(milliseconds - 1))}-0"


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


class Measures(Part):
    """Follows the log of calls: how long the newest completed ones took, by type and endpoint.

    Like windows, they belong to the endpoint's URL, not its name.
    """

    def __init__(self, store: Access) -> None:
        super().__init__(store)
        self._outcomes: dict[Pair, deque[Outcome]] = defaultdict(lambda: deque(maxlen=100))
        self._after = ""

    def look(self) -> list[CallEntry]:
        """Read what was logged since the last look, at the first one the newest 2,000 calls; return them.

        So many are a full window of the built-in types, and are read in 0.1 s.
        """
        log = Calls(self._store)
        calls, self._after = log.follow(self._after) if self._after else log.newest(2000)
        for call in calls:
            if call.end is CallEnd.COMPLETED:
                outcome = Outcome(sys.intern(call.run_id), call.milliseconds / 1000)
                self._outcomes[call.type, call.window_id].append(outcome)
        return calls

    def expected(
        self, types: Sequence[EventType], run_id: str = "", only: Collection[Pair] | None = None
    ) -> dict[Pair, Expected]:
        """Return what to expect, by type and endpoint, without pairs that have too few calls; see `expect`.

        With `only`, of these types and windows.
        """
        of = {
            (kind.name, endpoint.name): expect(outcomes, run_id)
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


class Histogram(msgspec.Struct, frozen=True):
    """How many values are at most each bound (the last is infinite), and their sum, `seconds`."""

    at_most: Mapping[float, int]
    seconds: float


def observe(fields: Counter[str], what: str, seconds: float, name: str = "") -> None:
    """Add a value to the histogram `what` of `name`. A negative time (the clock was set back) counts as 0."""
    seconds = max(0.0, seconds)
    bound = next((each for each in BOUNDS[what] if seconds <= each), math.inf)
    fields[f"{what}<={bound:g}:{name}"] += 1
    fields[f"{what}_us:{name}"] += round(seconds * MICROSECONDS)


def histograms(fields: Mapping[str, int], what: str) -> dict[str, Histogram]:
    """Return the histograms of `what` by name."""
    by_name, bounds = {}, (*BOUNDS[what], math.inf)
    for name in {field.partition(":")[2] for field in fields if field.startswith(f"{what}<=")}:
        each = accumulate(fields.get(f"{what}<={bound:g}:{name}", 0) for bound in bounds)
        at_most = dict(zip(bounds, each, strict=True))
        by_name[name] = Histogram(at_most, fields.get(f"{what}_us:{name}", 0) / MICROSECONDS)
    return by_name


def added_to_totals(record: Record, calls: Iterable[CallEntry]) -> Counter[str]:
    """Return what closing a run with these completed calls adds to the totals, besides the run's own counts."""
    fields: Counter[str] = Counter()
    for call in calls:
        observe(fields, "call", call.milliseconds / 1000, call.endpoint)
        observe(fields, "answer", call.age_ms / 1000, call.type)
    for name, entry in record.by_type.items():
        fields[f"leftover:{name}"] += entry.leftover
    fields[f"runs:{record.state}"] += 1
    observe(fields, "run", record.duration_seconds)
    return fields
