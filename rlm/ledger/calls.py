"""The log of calls: every call made, of all runs, with its end and its times; read for records, measures and limits.

It is a stream that the scripts write, one entry when a call ends. Its field `c` has ten values, joined by spaces:
`RUN TYPE ENDPOINT WINDOW SENT_US END MS AGE_MS EVENT_ID CLAIMS`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeAlias, cast

from rlm.core.endpoint import Budget, Limited
from rlm.core.expected import CallEntry
from rlm.core.run import started_at_of
from rlm.core.trail import CallEnd
from rlm.ledger.connect import text, translated
from rlm.ledger.scripts import SLICE, Part
from rlm.ledger.values import name_unreadable, number, reading, whole

#: Calls are kept so long, if the newest half million reach back so far.
KEEP_SECONDS = 24 * 3600
#: Where the log begins: before the first entry.
START = "0-0"

#: The longest possible call, milliseconds.
LONGEST_CALL_MS = 86_400_000.0
#: An entry as Redis has it: its id, and its fields with their values in one list.
Entry: TypeAlias = "tuple[bytes, Sequence[bytes]]"
_FIELD = b"c"
_FIELDS = 10


def read_call(raw: bytes) -> CallEntry:
    """Return a call from its form in the log; raise ValueError if it has another one."""
    fields = text(raw).split(" ")
    if len(fields) != _FIELDS:
        raise ValueError("not ten values")
    run_id, type_name, endpoint, window_id, sent_us, end, took, age, event_id, claims = fields
    times = number(took), number(age)
    if not 0 <= times[0] <= LONGEST_CALL_MS or times[1] < 0:
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
            calls += self.read(entries)
            after = text(entries[-1][0]) if entries else after
            if len(entries) < SLICE:
                return calls, after

    @translated()
    def newest(self, number: int) -> tuple[list[CallEntry], str]:
        """Return the newest `number` calls, oldest first, and the id of the last entry, as `follow` returns them."""
        entries = self._ask("XREVRANGE", self._keys.calls, "+", "-", "COUNT", number)[::-1]
        return self.read(entries), text(entries[-1][0]) if entries else START

    @translated()
    def _page(self, after: str, until: str) -> list[Entry]:
        return cast("list[Entry]", self._ask("XRANGE", self._keys.calls, f"({after}", until, "COUNT", SLICE))

    def read(self, entries: Sequence[Entry]) -> list[CallEntry]:
        """Read entries of the log."""
        calls: list[CallEntry | None] = []
        for entry_id, fields in entries:
            if fields[:1] == [_FIELD]:
                calls.append(reading(read_call, fields[1], self._keys.calls, None))
            else:
                name_unreadable(self._keys.calls, entry_id, ValueError("an entry without `c`"))
        return [call for call in calls if call is not None]

    def of_run(self, run_id: str, until: float | None = None) -> list[CallEntry]:
        """Return the calls of a run, in the order of their ends; none is looked for that ended after `until`.

        It is in seconds since 1970.
        """
        calls, _ = self.follow(start_of_run(run_id), "+" if until is None else f"{round(until * 1000)}")
        return [call for call in calls if call.run_id == run_id]

    def sent_each(self, limited: Collection[Limited], since_us: int = 0) -> dict[str, list[int]]:
        """Return by name when the calls of each endpoint or budget were sent since a moment, ascending.

        Both are microseconds of Redis time. The calls of a budget are those of the endpoints that share it now.
        """
        users: dict[str, list[str]] = {}
        endpoints = self._store.settings.endpoints.values()
        for each in limited:
            sharing = [end.window_id for end in endpoints if end.budget and end.budget.name == each.name]
            for window_id in dict.fromkeys(sharing if isinstance(each, Budget) else [each.window_id]):
                users.setdefault(window_id, []).append(each.name)
        sent: dict[str, list[int]] = {each.name: [] for each in limited}
        for call in self.follow(_behind(since_us / 1000 - 1))[0]:
            if call.sent_us >= since_us:
                for name in users.get(call.window_id, ()):
                    sent[name].append(call.sent_us)
        return {name: sorted(moments) for name, moments in sent.items()}

    def begins(self) -> float | None:
        """Return when the oldest call of the log ended, seconds since 1970; None without any."""
        oldest = self._ask("XRANGE", self._keys.calls, "-", "+", "COUNT", 1)
        return int(oldest[0][0].partition(b"-")[0]) / 1000 if oldest else None

    def trim(self) -> None:
        """Remove calls that are older than they are kept."""
        least = max(0, round((self._store.now() - KEEP_SECONDS) * 1000))
        self._ask("XTRIM", self._keys.calls, "MINID", f"{least}-0")


def start_of_run(run_id: str) -> str:
    """Return an id before which no entry is of this run.

    It holds even if the clock of Redis was set since the run opened, because the ids of a stream only grow.
    """
    return _behind((started_at_of(run_id) or 0.0) * 1000 - 1)


def _behind(milliseconds: float) -> str:
    """Return the id after which the entries of a later millisecond come."""
    return f"{max(0, int(milliseconds))}-0"
