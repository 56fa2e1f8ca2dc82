"""What the record of a run is made of, in two round trips: a run is closed in time where Redis is far away, too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlm.core.endpoint import Endpoint, all_limited, in_force
from rlm.core.expected import Completed, Measured, Pair, merge_run
from rlm.core.run import Run
from rlm.ledger import Store
from rlm.ledger.breaker import Health, TooHigh, limits_too_high, read_health
from rlm.ledger.connect import MICROSECONDS, text, translated
from rlm.ledger.control import What, read_changes
from rlm.ledger.measures import failing, read_completed
from rlm.ledger.runs import read_tally
from rlm.ledger.scripts import SLICE, batch

#: The counts of an endpoint's calls by answer, in the tally and in the record.
ANSWERS = {"delivered": "completed", "throttled": "throttled", "errors": "errors"}
#: Which entries of a list are read.
_ALL, _NONE = (0, -1), (1, 0)


@dataclass(frozen=True, slots=True)
class Ending:
    """What Redis holds of a run: its counts, the endpoints in force, its completed calls.

    `too_high` are the limits that endpoints refused calls under, since whenever. `limits_before` are the limits that
    were changed since the run began, as they were then, by `Change.of`. `sent` is by endpoint and budget when the run's
    calls were sent, microseconds of Redis time, oldest first; these two and `calls` are empty if they were not
    `measured`. `kept` is what is to be kept of calls, those of the run included. `now_us` is the time of Redis then,
    microseconds.
    """

    tally: Mapping[str, int]
    endpoints: Mapping[str, Endpoint]
    calls: Sequence[Completed]
    limits_before: Mapping[str, str]
    health: Mapping[str, Health]
    too_high: Sequence[TooHigh]
    restarts: int
    kept: Mapping[Pair, Measured]
    sent: Mapping[str, Sequence[int]]
    now_us: int


def read_ending(store: Store, run: Run, *, measured: bool = True) -> Ending:
    """Read what the record of a run is made of."""
    keys, named = store.keys, store.settings.endpoints
    with translated(store.client):
        (seconds, microseconds), found, published, restarts, timings, changes, kept, *health = batch(
            store.client,
            [
                ("TIME",),
                ("HGETALL", keys.tally(run.id)),
                ("HGETALL", keys.limits),
                ("GET", keys.restarts),
                ("LRANGE", keys.timings(run.id), *((0, SLICE - 1) if measured else _NONE)),
                ("LRANGE", keys.changes, *(_ALL if measured else _NONE)),
                ("HGETALL", keys.measured),
                *store.breaker.health_commands(list(named.values())),
            ],
        )
        tally, limits = read_tally(found), {text(name): text(limit) for name, limit in published.items()}
        endpoints = {name: in_force(endpoint, limits) for name, endpoint in named.items()}
        calls = [read_completed(one) for one in timings]
        if len(calls) == SLICE:
            calls += store.measures.completed(run.id, SLICE)
        began_at = run.deadline_us / MICROSECONDS - run.window_seconds
        changed = [one for one in read_changes(changes) if one.what is What.LIMIT and one.at >= began_at]
        healthy = read_health(health, list(endpoints.values()))
        return Ending(
            tally=tally,
            endpoints=endpoints,
            calls=calls,
            limits_before={one.of: one.before for one in changed if one.before},  # newest first: the first one stays
            health=healthy,
            too_high=limits_too_high(store, endpoints=endpoints, health=healthy),
            restarts=int(restarts or 0),
            kept=merge_run(store.measures.read_kept(kept), calls, failing(tally)),
            sent=_read_sent(store, run, endpoints, tally) if measured else {},
            now_us=seconds * MICROSECONDS + microseconds,
        )


def _read_sent(
    store: Store, run: Run, endpoints: Mapping[str, Endpoint], tally: Mapping[str, int]
) -> dict[str, list[int]]:
    """Return when a run sent its calls, by endpoint and budget."""
    began_us = run.deadline_us - round(run.window_seconds * MICROSECONDS)
    called = all_limited(one for name, one in endpoints.items() if any(tally.get(f"{what}:{name}") for what in ANSWERS))
    rules = [one.limit.rules[0] for one in called]
    numbers = [rule.amount * (2 + math.ceil(run.window_seconds / rule.seconds)) for rule in rules]
    found = store.windows.sent_each(list(zip(called, numbers, strict=True)))
    return {one.name: [at for at in moments if at >= began_us] for one, moments in zip(called, found, strict=True)}
