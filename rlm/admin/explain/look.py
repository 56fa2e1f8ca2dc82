"""Looks: where an event of the ledger is, and what those of its type may be waiting for."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rlm.admin.explain.facts import Gate, Scene, Whereabouts, number
from rlm.admin.planning import types_in_force
from rlm.core import trail
from rlm.core.clock import system_clock
from rlm.core.endpoint import all_limited
from rlm.core.event import type_of
from rlm.core.expected import needed_seconds
from rlm.core.trail import Place
from rlm.core.window import ENDLESS_SECONDS, circuit_of
from rlm.ledger.connect import ESCAPED, translated
from rlm.ledger.processes import Role, WorkerState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm.core.endpoint import Endpoint
    from rlm.core.window import WindowState
    from rlm.ledger import Store

_MICROSECONDS = 1_000_000


def look_at_event(store: Store, event_id: str) -> Whereabouts | None:
    """Read where an event is, at one instant; None where the ledger does not know it.

    Raises:
        StoreError: Redis did not answer.
    """
    keys, name = store.keys, type_of(event_id)
    zsets = {
        Place.PENDING: keys.pending(name),
        Place.RELEASED: keys.released(name),
        Place.IN_FLIGHT: keys.inflight(name),
        Place.BACKING_OFF: keys.backoff(name),
        Place.SPENT: keys.spent(name),
        Place.RETRIED: keys.retried(name),
    }
    with translated(store.client):
        pipeline = store.client.pipeline(transaction=True)
        pipeline.time()
        pipeline.get(keys.current)
        pipeline.hgetall(keys.event(event_id))
        pipeline.zrank(keys.pending(name), event_id)
        pipeline.zcard(keys.pending(name))
        for key in zsets.values():
            pipeline.zscore(key, event_id)
        (seconds, microseconds), current, fields, rank, pending, *scores = pipeline.execute()
    if not fields:
        return None
    place, score = _place(fields, dict(zip(zsets, scores, strict=True)), is_open=current is not None)
    worker = fields.get(b"owner", b"").decode(errors=ESCAPED)
    now = seconds + microseconds / _MICROSECONDS
    return Whereabouts(
        event_id,
        now,
        place,
        due=abs(score) / _MICROSECONDS,
        position=None if rank is None else rank + 1,
        of=None if rank is None else pending,
        endpoint=fields.get(b"endpoint", b"").decode(errors=ESCAPED),
        worker=worker,
        called=_call(store, worker, event_id) if place is Place.IN_FLIGHT else None,
        attempt=number(fields, b"attempt"),
        tries=number(fields, b"tries"),
        runs=number(fields, b"runs"),
        deaths=number(fields, b"deaths"),
        releases=max(0, number(fields, b"release") - number(fields, b"closings")),
        unsent=number(fields, b"unsent"),
        calls=trail.written_in(fields),
        taken_at=float(fields[b"taken_at"]) if b"taken_at" in fields else None,
        taken_in=fields[b"taken_in"].decode(errors=ESCAPED) if b"taken_in" in fields else None,
        last=fields.get(b"last", b"").decode(errors=ESCAPED),
        attempts=tuple(trail.read(fields)),
    )


def _place(
    fields: Mapping[bytes, bytes], scores: Mapping[Place, float | None], *, is_open: bool
) -> tuple[Place, float]:
    for place, score in scores.items():
        if score is not None:
            return (Place.LEFTOVER if place is Place.PENDING and not is_open else place), score
    state = fields.get(b"state", b"").decode(errors=ESCAPED)
    return (Place(state) if state in {Place.COMPLETED, Place.FAILED} else Place.NOWHERE), 0.0


def _call(store: Store, worker: str, event_id: str) -> tuple[str, float] | None:
    """Read where the call of an event is under way and since when; None while it has no slot."""
    with translated(store.client):
        note = cast("bytes | None", store.client.hget(store.keys.calls(worker), event_id))
    if not note:
        return None
    _window, stamp, endpoint, *_budget = note.decode(errors=ESCAPED).split("|")
    return endpoint, int(stamp) / _MICROSECONDS


def look_around(store: Store, type_name: str) -> Scene:
    """Look at what the events of a type may be waiting for: the run, its endpoints, lanes.

    Raises:
        StoreError: Redis did not answer.
    """
    event_type = next((one for one in types_in_force(store) if one.name == type_name), None)
    endpoints = event_type.endpoints if event_type else ()
    now_us, views = store.windows.look(all_limited(endpoints))
    expected = store.measures.published() if event_type else {}
    needs = [needed_seconds(event_type, one.name, expected) for one in endpoints] if event_type else []
    workers = store.processes.alive(Role.WORKER)
    run = store.runs.current()
    up = [one for one in workers if one.state == WorkerState.READY]
    ready = [one for one in up if run is None or one.revision == run.revision]
    every_seconds = store.settings.run.every_seconds
    scheduled = bool(store.processes.alive(Role.SCHEDULER))
    next_tick = (system_clock.now() // every_seconds + 1) * every_seconds
    if run is not None:  # runs never overlap: a tick that comes meanwhile waits for its end
        next_tick = max(next_tick, system_clock.now() + run.left_seconds(now_us))
    return Scene(
        now=now_us / _MICROSECONDS,
        run=run,
        next_run_at=next_tick if scheduled else None,
        gates=tuple(_gate(one, views) for one in endpoints),
        needs_seconds=min(needs) if needs else None,
        ready=len(ready),
        wanted=max(store.processes.wanted(), store.settings.workers.min),
        lanes=sum(one.threads for one in ready),
        busy=sum(store.processes.busy([one.id for one in ready])),
        workers=frozenset(one.id for one in workers),
        max_runs=store.settings.retry.max_runs,
        conducted=store.leases.holder() is not None,
        strangers=len(up) - len(ready),
    )


def _gate(endpoint: Endpoint, views: Mapping[str, WindowState]) -> Gate:
    own = views[endpoint.name]
    health, binds = circuit_of(own), own
    budget = views[endpoint.budget.name] if endpoint.budget else None
    named = None
    if budget and endpoint.budget and budget.wait_seconds > own.wait_seconds:
        health, binds, named = circuit_of(budget), budget, endpoint.budget.name
    free = min(own.free, budget.free) if budget else own.free
    wait = binds.wait_seconds
    return Gate(endpoint.name, health, free, wait if wait < ENDLESS_SECONDS else None, named)
