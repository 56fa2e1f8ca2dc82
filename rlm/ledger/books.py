"""Counts of a run: its books and whether they balance, the snapshot for a forecast, and the data of its record.

Counts that are read one after the other would not agree, because an event that moves in between would count twice. A
record is read in two round trips, so a run closes in time even if Redis is far away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, islice

import msgspec

from rlm.core.call import CallEnd, CallEntry
from rlm.core.documents import CallTrouble, Record, TypeCounts
from rlm.core.endpoint import Endpoint, Limited, WindowState, address_of, all_limited
from rlm.core.item import Counts, type_of
from rlm.core.run import Run
from rlm.ledger.calls import sent_by
from rlm.ledger.connect import translated
from rlm.ledger.processes import lanes_of
from rlm.ledger.rules import read_limits
from rlm.ledger.scripts import Command
from rlm.ledger.store import Store
from rlm.ledger.values import MICROSECONDS, numbers, reading, whole
from rlm.plan.situation import Underway


class Books(msgspec.Struct, frozen=True):
    """What is where at one instant: the events of each type, the lengths of the three lists, and the tally.

    `run` is the open run, None between runs; then the tally counts dead letters that were retried for the next run,
    as `taken`, and leftovers that were dropped, both since the last run. `now_us` is the time of Redis, microseconds.
    """

    run: Run | None
    now_us: int
    events: int
    staged: int
    letters: int
    tally: Mapping[str, int]
    by_type: Mapping[str, Counts]
    windows: Mapping[str, WindowState]  #: by name, of those that were asked for
    underway: Sequence[Underway]  #: the calls of the workers that were asked for

    @property
    def unsettled(self) -> int:
        """The events in the ledger over all types."""
        return sum(count.unsettled for count in self.by_type.values())

    def faults(self, last: Record | None = None) -> list[str]:
        """Return a sentence for each type that does not add up; none if the books balance.

        Between runs, what is left over by the record of the `last` one must be there. A record's leftover is computed
        as what came minus what was settled, so a record alone always balances.
        """
        return [f"{name}: {fault}" for name in self.by_type if (fault := self._fault(name, last))]

    def _fault(self, name: str, last: Record | None) -> str:
        each, count = type_counts(self.tally, name), self.by_type[name]
        if self.run is not None and each.leftover != count.unsettled:
            came = f"{each.taken} taken and {each.carried_over} carried over"
            return f"{came}, but {each.completed} completed, {each.failed} failed and {count.unsettled} unsettled"
        if self.run is None and count.unsettled != count.pending:
            return f"no run is open, but {count.unsettled - count.pending} events are not ready"
        if self.run is None and last is not None:
            counted = last.by_type.get(name, TypeCounts())
            left = counted.leftover + each.taken - self.tally.get(f"dropped:{name}", 0)
            if left != count.pending:
                return f"{left} left over by what came and was settled, but {count.pending} are pending"
        return ""


def type_counts(tally: Mapping[str, int], name: str) -> TypeCounts:
    """Return the events of a type by the tally of a run; what is not settled is left over."""
    taken, carried, completed, failed = (
        tally.get(f"{what}:{name}", 0) for what in ("taken", "carried", "completed", "failed")
    )
    left = taken + carried - completed - failed
    return TypeCounts(taken=taken, carried_over=carried, completed=completed, failed=failed, leftover=left)


@translated()
def books(
    store: Store, types: Sequence[str] = (), limited: Sequence[Limited] = (), worker_ids: Sequence[str] = ()
) -> Books:
    """Read the books of this instant in one transaction, of these types, or of all that are known.

    They balance at every instant: for each type, taken + carried over = completed + failed + unsettled. Between runs
    nothing is in flight, backing off or out of attempts.
    """
    keys, names = store.keys, types or store.ledger.types()
    read: list[Command] = [("TIME",), ("HGETALL", keys.run), ("HGETALL", keys.tally)]
    read += [("LLEN", each) for each in (keys.events, keys.processing, keys.failed)]
    counts, windows = store.ledger.count_commands(names), store.windows.commands(limited)
    calls = [("HGETALL", keys.held(worker_id)) for worker_id in worker_ids]
    replies = iter(store.batch([*read, *counts, *windows, *calls], transaction=True))
    now_us, run, fields, events, staged, letters = islice(replies, len(read))
    return Books(
        store.runs.read(run),
        now_us,
        events,
        staged,
        letters,
        numbers(fields, keys.tally),
        store.ledger.read_counts([*islice(replies, len(counts))], names),
        store.windows.read([*islice(replies, len(windows))], limited, now_us),
        [
            Underway(type_of(lane.event_id), lane.endpoint, max(0, now_us - lane.taken_us) / MICROSECONDS)
            for lane in chain.from_iterable(map(lanes_of, replies))
        ],
    )


class Ending(msgspec.Struct, frozen=True):
    """What Redis holds of a run: its counts, the endpoints in force, its completed calls.

    `sent` has when the run's calls were sent, by endpoint and budget, microseconds of Redis time, oldest first. Of an
    open run it is None, and `calls` are empty. `now_us` is the time of Redis then, microseconds.
    """

    tally: Mapping[str, int]
    endpoints: Mapping[str, Endpoint]
    calls: Sequence[CallEntry]
    restarts: int
    sent: Mapping[str, Sequence[int]] | None
    now_us: int


@translated()
def read_ending(store: Store, run: Run) -> Ending:
    """Read the data for the record of a run."""
    keys, limited = store.keys, all_limited(store.settings.endpoints.values())
    read: list[Command] = [("TIME",), ("HGETALL", keys.tally), store.rules.limits_command(limited)]
    read.append(("HGET", keys.processes, "restarts"))
    now_us, fields, published, restarts = store.batch(read)
    made = [call for call in store.calls.since(run.started_at) if call.run_id == run.id]
    endpoints = store.endpoints(read_limits(published, limited))
    return Ending(
        tally=numbers(fields, keys.tally),
        endpoints=endpoints,
        calls=[call for call in made if call.end is CallEnd.COMPLETED],
        restarts=reading(whole, restarts, keys.processes, 0),
        sent=sent_by(made, endpoints.values()),
        now_us=now_us,
    )


def troubles_of(tally: Mapping[str, int], endpoints: Mapping[str, Endpoint]) -> tuple[CallTrouble, ...]:
    """Return the entries of a record for calls without a good answer, the hundred most frequent first.

    The step that settles an event counts it in the field `trouble:ENDPOINT WHAT` of the run's tally.
    """
    entries = []
    for field, number in tally.items():
        if field.startswith("trouble:"):
            name, _, what = field.removeprefix("trouble:").partition(" ")
            address = address_of(end.written or end.url) if (end := endpoints.get(name)) else None
            entries.append(CallTrouble(endpoint=name, address=address, what=what, calls=number))
    return tuple(sorted(entries, key=lambda entry: (-entry.calls, entry.endpoint, entry.what))[:100])
