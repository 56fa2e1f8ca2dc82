"""Looks: where an event of the ledger is, and what those of its type may be waiting for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.admin.explain.facts import Gate, Scene, Whereabouts, number
from rlm.admin.planning import types_in_force
from rlm.core import trail
from rlm.core.clock import system_clock
from rlm.core.endpoint import all_limited
from rlm.core.expected import needed_seconds
from rlm.core.window import ENDLESS_SECONDS, circuit_of
from rlm.ledger.processes import Role, WorkerState
from rlm.ledger.reading.events import event_state

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
    found = event_state(store, event_id)
    if found is None:
        return None
    fields, waits = found.fields, found.position is not None
    return Whereabouts(
        event_id,
        found.now,
        found.place,
        due=abs(found.score) / _MICROSECONDS,
        position=found.position,
        of=found.pending if waits else None,
        endpoint=found.text("endpoint"),
        worker=found.text("owner"),
        called=(found.call.endpoint, int(found.call.stamp) / _MICROSECONDS) if found.call else None,
        attempt=number(fields, b"attempt"),
        tries=number(fields, b"tries"),
        runs=number(fields, b"runs"),
        deaths=number(fields, b"deaths"),
        releases=max(0, number(fields, b"release") - number(fields, b"closings")),
        unsent=number(fields, b"unsent"),
        calls=trail.written_in(fields),
        taken_at=float(fields[b"taken_at"]) if b"taken_at" in fields else None,
        taken_in=found.text("taken_in") or None,
        last=found.text("last"),
        attempts=tuple(trail.read(fields)),
    )


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
