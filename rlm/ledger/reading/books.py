"""Counts of a run: its books and whether they balance, the snapshot for a forecast, and the data of its record.

Counts that are read one after the other would not agree, because an event that moves in between would count twice. A
record is read in two round trips, so a run closes in time even if Redis is far away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from rlm.core.documents import Record, TypeCounts
from rlm.core.endpoint import Endpoint, Limited, all_limited, in_force
from rlm.core.expected import Completed, Measured, Pair, merge_run
from rlm.core.item import is_type_name, type_of
from rlm.core.run import Run
from rlm.core.trail import Counts
from rlm.ledger import Store
from rlm.ledger.breaker import Health, read_health
from rlm.ledger.calls import CallEntry, completed, start_of_run
from rlm.ledger.connect import text, translated
from rlm.ledger.control import What, read_changes
from rlm.ledger.held import lanes_of
from rlm.ledger.measures import failing
from rlm.ledger.scripts import Command, batch
from rlm.ledger.values import MICROSECONDS, numbers, reading, whole
from rlm.plan.situation import Underway


class Account(msgspec.Struct, frozen=True):
    """One type: what the open run took and carried over, what it settled, and where the rest is.

    Between runs, `taken` counts dead letters that were retried for the next run, and `dropped` leftovers that were
    dropped, both since the last run.
    """

    taken: int
    carried_over: int
    completed: int
    failed: int
    counts: Counts
    dropped: int = 0

    @property
    def unsettled(self) -> int:
        """The events in the ledger."""
        return self.counts.unsettled

    @property
    def held(self) -> int:
        """The unsettled events that only an open run may hold: in flight, backing off, or out of attempts."""
        return self.unsettled - self.counts.pending

    @property
    def difference(self) -> int:
        """How many events are unaccounted for; 0 if the books balance."""
        return self.taken + self.carried_over - self.completed - self.failed - self.unsettled


class Books(msgspec.Struct, frozen=True):
    """The accounts of all types and the lengths of the three lists at one instant, `now` by the clock of Redis.

    `run_id` is the open run, None between runs, `stager` the same once it has staged the audit list.
    """

    now: float
    run_id: str | None
    events: int
    staged: int
    letters: int
    by_type: Mapping[str, Account]
    stager: str | None = None

    @property
    def unsettled(self) -> int:
        """The events in the ledger over all types."""
        return sum(account.unsettled for account in self.by_type.values())

    @property
    def faults(self) -> list[str]:
        """Sentences about what does not add up, one per type; empty if the books balance."""
        return [sentence for name, account in self.by_type.items() if (sentence := self._fault(name, account))]

    def _fault(self, name: str, account: Account) -> str:
        counts = account.counts
        holders = f"{counts.inflight} in flight, {counts.backoff} backing off, {counts.spent} out of attempts"
        if self.run_id is None:
            return f"{name}: no run is open, but there are {holders}" if account.held else ""
        if not account.difference:
            return ""
        return (
            f"{name}: {account.taken} taken and {account.carried_over} carried over, but {account.completed} "
            f"completed, {account.failed} failed, {counts.pending} pending, {holders}: "
            f"{abs(account.difference)} too {'few' if account.difference > 0 else 'many'}"
        )


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
        read: list[Command] = [("TIME",), ("HMGET", keys.run, "run_id", "staged"), ("SMEMBERS", keys.types)]
        read += [("HGETALL", keys.tally), *(("LLEN", one) for one in lists)]
        found = batch(store.client, [*read, *ledger.count_commands(names)], transaction=True)
        (seconds, microseconds), (run_id, has_staged), types, counted, events, staged, letters, *more = found
        # The commands depend on the types; if there are others by now, read again.
        if {one.decode() for one in types if is_type_name(one)} <= {*names}:
            break
    tally, counts = numbers(counted, keys.tally), ledger.read_counts(more, names)
    accounts = {
        name: Account(
            taken=tally.get(f"taken:{name}", 0),
            carried_over=tally.get(f"carried:{name}", 0),
            completed=tally.get(f"completed:{name}", 0),
            failed=tally.get(f"failed:{name}", 0),
            counts=counts[name],
            dropped=tally.get(f"dropped:{name}", 0),
        )
        for name in names
    }
    now, run_name = seconds + microseconds / MICROSECONDS, text(run_id) if run_id else None
    return Books(now, run_name, events, staged, letters, accounts, run_name if has_staged else None)


def miscounted(store: Store, found: Books, record: Record) -> list[str]:
    """Compare a record's leftovers with what the ledger holds according to the books `found`; one sentence per type.

    A record's leftover is computed as what came minus what was settled, so a record alone always balances. Events that
    were dropped by hand since are excepted, and dead letters that were retried. Nothing is compared if a later run was
    opened, which took the leftovers.
    """
    if found.run_id is not None or store.runs.history(1) != [record.run_id]:
        return []
    left = {
        name: record.by_type.get(name, TypeCounts()).leftover + account.taken - account.dropped
        for name, account in found.by_type.items()
    }
    return [
        f"{name}: {left[name]} left over by what came and was settled, but {account.counts.pending} are pending"
        for name, account in found.by_type.items()
        if account.counts.pending != left[name]
    ]


@translated()
def pulse(store: Store) -> object:
    """Return what changes whenever a call of the open run begins or ends, or something is ordered by hand."""
    keys = store.keys
    return batch(store.client, [("HGETALL", keys.tally), ("ZCARD", keys.inflight), ("LLEN", keys.changes)])


class Snapshot(msgspec.Struct, frozen=True):
    """`counts` by type; `ages` (seconds) of the slots that count, by name of endpoint or budget; `calls` under way."""

    counts: Mapping[str, Counts]
    ages: Mapping[str, tuple[float, ...]]
    calls: tuple[Underway, ...]


@translated()
def take_snapshot(
    store: Store, types: Sequence[str], limited: Sequence[Limited], worker_ids: Sequence[str]
) -> Snapshot:
    """Read everything at one instant; the calls are those of the named workers."""
    counts, ages = store.ledger.count_commands(types), store.windows.age_commands(limited)
    calls = [("HGETALL", store.keys.held(one)) for one in worker_ids]
    *replies, (seconds, microseconds) = batch(store.client, [*counts, *ages, *calls, ("TIME",)], transaction=True)
    ages_end = len(counts) + len(ages)
    now_us = seconds * MICROSECONDS + microseconds
    return Snapshot(
        store.ledger.read_counts(replies[: len(counts)], types),
        store.windows.read_ages(replies[len(counts) : ages_end], limited, now_us),
        tuple(call for notes in replies[ages_end:] for call in _underway(notes, now_us)),
    )


def _underway(notes: Mapping[bytes, bytes], now_us: int) -> Iterator[Underway]:
    """Yield a worker's calls; `now_us` is the time of Redis, microseconds."""
    for lane in lanes_of(notes):
        yield Underway(type_of(lane.event_id), lane.endpoint, max(0, now_us - lane.taken_us) / MICROSECONDS)


#: The counts of an endpoint's calls by answer, as named in the tally and in the record.
ANSWERS = {"delivered": "completed", "throttled": "throttled", "errors": "errors"}
#: The range of list entries to read.
_ALL, _NONE = (0, -1), (1, 0)


class Ending(msgspec.Struct, frozen=True):
    """What Redis holds of a run: its counts, the endpoints in force, its completed calls.

    `limits_before` has the earlier text of the limits that were changed since the run began, by `Change.of`. `sent` has
    when the run's calls were sent, by endpoint and budget, microseconds of Redis time, oldest first. These two and
    `calls` are empty unless `measured`. `kept` is what to keep of calls, including the run's. `now_us` is the time of
    Redis then, microseconds.
    """

    tally: Mapping[str, int]
    endpoints: Mapping[str, Endpoint]
    calls: Sequence[Completed]
    limits_before: Mapping[str, str]
    health: Mapping[str, Health]
    restarts: int
    kept: Mapping[Pair, Measured]
    sent: Mapping[str, Sequence[int]]
    now_us: int


def read_ending(store: Store, run: Run, *, measured: bool = True) -> Ending:
    """Read the data for the record of a run."""
    keys, in_use, log = store.keys, store.settings.endpoints, store.calls
    with translated(store.client):
        read: list[Command] = [("TIME",), ("HGETALL", keys.tally), ("HGETALL", keys.limits)]
        read += [("GET", keys.restarts), ("HGETALL", keys.measured)]
        read += [("LRANGE", keys.changes, *(_ALL if measured else _NONE))]
        read += [log.command(start_of_run(run.id))] if measured else []
        replies = batch(store.client, [*store.breaker.health_commands(list(in_use.values())), *read])
        health, (time, found, published, restarts, kept, changes, *entries) = (
            replies[: len(in_use)],
            replies[len(in_use) :],
        )
        tally = numbers(found, keys.tally)
        limits = {text(name): text(limit) for name, limit in published.items()}
        endpoints = {name: in_force(endpoint, limits) for name, endpoint in in_use.items()}
        made = [call for page in entries for call in log.read_on(page)[0] if call.run_id == run.id]
        calls = completed(made)
        opened_at = run.current_us(run.opened_at) / MICROSECONDS
        changed = [one for one in read_changes(changes) if one.what is What.LIMIT and one.at >= opened_at]
        return Ending(
            tally=tally,
            endpoints=endpoints,
            calls=calls,
            limits_before={one.of: one.before for one in changed if one.before},  # the oldest change is the last
            health=read_health(health, list(endpoints.values())),
            restarts=reading(whole, restarts, keys.restarts, 0),
            kept=merge_run(store.measures.read_kept(kept), calls, failing(tally)),
            sent=_sent(made, endpoints),
            now_us=time[0] * MICROSECONDS + time[1],
        )


def _sent(calls: Sequence[CallEntry], endpoints: Mapping[str, Endpoint]) -> dict[str, list[int]]:
    """Return when these calls were sent, by endpoint and budget, ascending."""
    sent: dict[str, list[int]] = {}
    for call in sorted(calls, key=lambda call: call.sent_us):
        if endpoint := endpoints.get(call.endpoint):
            for each in all_limited([endpoint]):
                sent.setdefault(each.name, []).append(call.sent_us)
    return sent
