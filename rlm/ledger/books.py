"""Counts of a run: its books and whether they balance, the snapshot for a forecast, and the data of its record.

Counts that are read one after the other would not agree, because an event that moves in between would count twice. A
record is read in two round trips, so a run closes in time even if Redis is far away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from rlm.core.call import CallEnd, CallEntry
from rlm.core.documents import CallTrouble, Record, TypeCounts
from rlm.core.endpoint import Endpoint, Limited, WindowState, address_of, all_limited, in_force
from rlm.core.item import Counts, type_of
from rlm.core.run import Run, State
from rlm.ledger.calls import sent_by
from rlm.ledger.connect import text, translated
from rlm.ledger.events import types_in
from rlm.ledger.processes import lanes_of
from rlm.ledger.rules import read_limits
from rlm.ledger.scripts import Command, batch
from rlm.ledger.store import Store
from rlm.ledger.values import MICROSECONDS, numbers, reading, whole
from rlm.plan.situation import Underway

#: The counts of the tally that an account has, in its order.
_ACCOUNTED = ("taken", "carried", "completed", "failed", "dropped")


class Account(msgspec.Struct, frozen=True):
    """One type: what the open run took and carried over, what it settled, and where the rest is.

    Between runs, `taken` counts dead letters that were retried for the next run, and `dropped` leftovers that were
    dropped, both since the last run.
    """

    counts: Counts
    taken: int
    carried_over: int
    completed: int
    failed: int
    dropped: int

    @property
    def unsettled(self) -> int:
        """The events in the ledger."""
        return self.counts.unsettled

    @property
    def difference(self) -> int:
        """How many events are unaccounted for; 0 if the books balance."""
        return self.taken + self.carried_over - self.completed - self.failed - self.unsettled


class Books(msgspec.Struct, frozen=True):
    """The accounts of all types and the lengths of the three lists at one instant, `now` by the clock of Redis.

    `run_id` is the open run, None between runs.
    """

    now: float
    run_id: str | None
    events: int
    staged: int
    letters: int
    by_type: Mapping[str, Account]

    @property
    def unsettled(self) -> int:
        """The events in the ledger over all types."""
        return sum(account.unsettled for account in self.by_type.values())

    @property
    def faults(self) -> list[str]:
        """Sentences about what does not add up, one per type; empty if the books balance."""
        if self.run_id is None:
            astray = ((name, account.unsettled - account.counts.pending) for name, account in self.by_type.items())
            return [f"{name}: no run is open, but {number} events are not ready" for name, number in astray if number]
        wrong = ((name, account) for name, account in self.by_type.items() if account.difference)
        return [
            f"{name}: {each.taken} taken and {each.carried_over} carried over, but {each.completed} completed, "
            f"{each.failed} failed and {each.unsettled} unsettled"
            for name, each in wrong
        ]


@translated()
def books(store: Store) -> Books:
    """Read the books of this instant in one transaction.

    They balance at every instant: for each type, taken + carried over = completed + failed + unsettled. Between runs
    nothing is in flight, backing off or out of attempts.
    """
    keys, ledger = store.keys, store.ledger
    lists = keys.events, keys.processing, keys.failed
    while True:
        names = store.known_types
        read: list[Command] = [("TIME",), ("HGET", keys.run, "run_id")]
        read += [("HGETALL", keys.tally), *(("LLEN", each) for each in lists)]
        replies = batch(store.client, [*read, *ledger.count_commands(names)], transaction=True)
        (seconds, microseconds), run_id, fields, events, staged, letters, *more = replies
        # The commands depend on the types; if there are others by now, read again.
        if types_in(fields) <= {*names}:
            break
    tally, counts = numbers(fields, keys.tally), ledger.read_counts(more, names)
    accounts = {name: Account(counts[name], *(tally.get(f"{word}:{name}", 0) for word in _ACCOUNTED)) for name in names}
    now = seconds + microseconds / MICROSECONDS
    return Books(now, text(run_id) if run_id else None, events, staged, letters, accounts)


def miscounted(store: Store, state: Books, record: Record) -> list[str]:
    """Compare a record's leftovers with what the ledger holds according to the books `state`; one sentence per type.

    A record's leftover is computed as what came minus what was settled, so a record alone always balances. Events that
    were dropped by hand since are excepted, and dead letters that were retried. Nothing is compared if a later run was
    opened, which took the leftovers.
    """
    if state.run_id is not None or store.runs.history(1) != [record.run_id]:
        return []
    left = {
        name: record.by_type.get(name, TypeCounts()).leftover + account.taken - account.dropped
        for name, account in state.by_type.items()
    }
    return [
        f"{name}: {left[name]} left over by what came and was settled, but {account.counts.pending} are pending"
        for name, account in state.by_type.items()
        if account.counts.pending != left[name]
    ]


class Snapshot(msgspec.Struct, frozen=True):
    """`counts` by type; `windows` by name of endpoint or budget; `calls` under way."""

    counts: Mapping[str, Counts]
    windows: Mapping[str, WindowState]
    calls: tuple[Underway, ...]


@translated()
def take_snapshot(
    store: Store, types: Sequence[str], limited: Sequence[Limited], worker_ids: Sequence[str]
) -> Snapshot:
    """Read everything at one instant; the calls are those of the named workers."""
    counts, windows = store.ledger.count_commands(types), store.windows.commands(limited)
    calls = [("HGETALL", store.keys.held(worker_id)) for worker_id in worker_ids]
    *replies, (seconds, microseconds) = batch(store.client, [*counts, *windows, *calls, ("TIME",)], transaction=True)
    windows_end = len(counts) + len(windows)
    now_us = seconds * MICROSECONDS + microseconds
    return Snapshot(
        store.ledger.read_counts(replies[: len(counts)], types),
        store.windows.read(replies[len(counts) : windows_end], limited, now_us),
        tuple(
            Underway(type_of(lane.event_id), lane.endpoint, max(0, now_us - lane.taken_us) / MICROSECONDS)
            for notes in replies[windows_end:]
            for lane in lanes_of(notes)
        ),
    )


#: The counts of an endpoint's calls by answer, as named in the tally and in the record.
ANSWERS = {"delivered": "completed", "throttled": "throttled", "errors": "errors"}


class Ending(msgspec.Struct, frozen=True):
    """What Redis holds of a run: its counts, the endpoints in force, its completed calls.

    `sent` has when the run's calls were sent, by endpoint and budget, microseconds of Redis time, oldest first; it and
    `calls` are empty unless `measured`. `now_us` is the time of Redis then, microseconds.
    """

    tally: Mapping[str, int]
    endpoints: Mapping[str, Endpoint]
    calls: Sequence[CallEntry]
    restarts: int
    sent: Mapping[str, Sequence[int]]
    now_us: int


@translated()
def leaving(store: Store, run: Run) -> Run:
    """Return a run as it ends now: its spent events by type, and how many items it has not taken, in one round trip."""
    types, keys = [*store.settings.types], store.keys
    lists: list[Command] = [("LLEN", keys.processing), ("LLEN", keys.events)]
    *counts, staged, listed = batch(store.client, [*store.ledger.count_commands(types), *lists], transaction=True)
    spent = {name: count.spent for name, count in store.ledger.read_counts(counts, types).items() if count.spent}
    return replace(run, state=State.FINISHING, spent=spent, untaken=staged + (0 if run.staged else listed))


@translated()
def read_ending(store: Store, run: Run, *, measured: bool = True) -> Ending:
    """Read the data for the record of a run."""
    keys, endpoints = store.keys, store.settings.endpoints
    limited = all_limited(endpoints.values())
    read: list[Command] = [("TIME",), ("HGETALL", keys.tally), store.rules.limits_command(limited)]
    read.append(("HGET", keys.processes, "restarts"))
    (seconds, microseconds), fields, published, restarts = batch(store.client, read)
    made = store.calls.of_run(run.id) if measured else []
    tally = numbers(fields, keys.tally)
    limits = read_limits(published, limited)
    endpoints = {name: in_force(endpoint, limits) for name, endpoint in endpoints.items()}
    calls = [call for call in made if call.end is CallEnd.COMPLETED]
    return Ending(
        tally=tally,
        endpoints=endpoints,
        calls=calls,
        restarts=reading(whole, restarts, keys.processes, 0),
        sent=sent_by(made, endpoints.values()),
        now_us=seconds * MICROSECONDS + microseconds,
    )


def troubles_of(tally: Mapping[str, int], endpoints: Mapping[str, Endpoint]) -> tuple[CallTrouble, ...]:
    """Return the entries of a record for calls without a good answer, the hundred most frequent first.

    The step that settles an event counts it in the field `trouble:ENDPOINT WHAT` of the run's tally.
    """
    entries = []
    for field, number in tally.items():
        if field.startswith("trouble:"):
            name, _, what = field.removeprefix("trouble:").partition(" ")
            address = address_of(endpoints[name].url) if name in endpoints else None
            entries.append(CallTrouble(endpoint=name, address=address, what=what, calls=number))
    return tuple(sorted(entries, key=lambda entry: (-entry.calls, entry.endpoint, entry.what))[:100])
