"""Where an event is: in the ledger, in an item or in a dead letter; and what events of its type may wait for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from rlm.admin.attendance import ticks_every_seconds
from rlm.admin.endpoints import reason_of, why_held
from rlm.admin.letters import DeadLetter, may_contain
from rlm.admin.planning import types_in_force
from rlm.admin.queue import unknown_types
from rlm.core.endpoint import Endpoint, all_limited
from rlm.core.expected import needed_seconds
from rlm.core.item import BadItemError, decode_item, event_id
from rlm.core.run import Run
from rlm.core.trail import Place
from rlm.core.window import ENDLESS_SECONDS, Circuit, WindowState, circuit_of
from rlm.ledger import Store
from rlm.ledger.breaker import Health
from rlm.ledger.fitness import unfit
from rlm.ledger.measures import learned
from rlm.ledger.processes import Role, WorkerState
from rlm.ledger.reading import Whereabouts
from rlm.ledger.reading.backlog import MOST_ITEMS, item_pages
from rlm.ledger.values import MICROSECONDS

#: The id of an item that is not JSON: a text or a number.
_ID = re.compile(rb'"id"\s*:\s*("(?:[^"\\]|\\.)*+"|-?\d[\d.]*+)')


@dataclass(frozen=True, slots=True)
class EndpointGate:
    """An endpoint of a type: its health, free slots, and seconds to the next slot, None for never.

    If its budget shuts it, `budget` names the budget, and the health is the budget's. `reason` says why it rests, is
    probed or held, as in the list of endpoints.
    """

    endpoint: str
    health: Circuit
    free: int
    wait_seconds: float | None
    budget: str | None = None
    reason: str | None = None

    @property
    def state(self) -> str:
        """The word for the key `state` of the JSON."""
        if self.free > 0:
            return "free"
        if self.health is Circuit.FULL and self.budget:
            return "out_of_budget"
        return "probed" if self.health is Circuit.PROBING else self.health.value


@dataclass(frozen=True, slots=True)
class TypeStatus:
    """What a type's events wait for. `now` and `next_run_at` are in seconds since 1970.

    `next_run_at` is None if no scheduler is alive. A call starts only if the run has `needs_seconds` left; None if the
    type is no longer configured. `lanes` are those of the ready workers, `busy` the claims they hold. `strangers` are
    ready too, but have another configuration than the run and claim nothing. `conducted`: a process holds the lease.
    """

    now: float
    run: Run | None
    next_run_at: float | None
    gates: tuple[EndpointGate, ...]
    needs_seconds: float | None
    ready: int
    wanted: int
    lanes: int
    busy: int
    workers: frozenset[str]
    max_runs: int
    conducted: bool = True
    unfit: str = ""
    strangers: int = 0

    @property
    def remaining_seconds(self) -> float:
        """Seconds to the deadline of the open run."""
        return self.run.deadline_us / MICROSECONDS - self.now if self.run else 0.0


def look_around(store: Store, type_name: str) -> TypeStatus:
    """Read what the events of a type may be waiting for: the run, its endpoints, lanes."""
    event_type = next((one for one in types_in_force(store) if one.name == type_name), None)
    endpoints = event_type.endpoints if event_type else ()
    limited = all_limited(endpoints)
    now_us, views = store.windows.look(limited)
    health = store.breaker.health(limited)
    expected = learned(store, [event_type]) if event_type else {}
    doubted = why_held(store, limited, views)
    needs = [needed_seconds(event_type, one.name, expected) for one in endpoints] if event_type else []
    workers = store.processes.alive(Role.WORKER)
    run = store.runs.current()
    up = [one for one in workers if one.state == WorkerState.READY]
    ready = [one for one in up if run is None or one.revision == run.revision]
    every_seconds = ticks_every_seconds(store)
    scheduled = bool(store.processes.alive(Role.SCHEDULER))
    now = now_us / MICROSECONDS
    next_tick = (now // every_seconds + 1) * every_seconds
    if run is not None:  # a tick waits for the end of the open run
        next_tick = max(next_tick, now + run.left_seconds(now_us))
    return TypeStatus(
        now=now,
        run=run,
        next_run_at=next_tick if scheduled else None,
        gates=tuple(_gate(one, views, health, doubted) for one in endpoints),
        needs_seconds=min(needs) if needs else None,
        ready=len(ready),
        wanted=max(store.processes.wanted(), store.settings.workers.min),
        lanes=sum(one.threads for one in ready),
        busy=sum(store.processes.busy([one.id for one in ready])),
        workers=frozenset(one.id for one in workers),
        max_runs=store.settings.retry.max_runs,
        conducted=store.leases.holder() is not None,
        unfit=unfit(store),
        strangers=len(up) - len(ready),
    )


def _gate(
    endpoint: Endpoint, views: Mapping[str, WindowState], health: Mapping[str, Health], doubted: str
) -> EndpointGate:
    own = views[endpoint.name]
    budget = views[endpoint.budget.name] if endpoint.budget else own
    of_budget = endpoint.budget.name if endpoint.budget and budget.wait_seconds > own.wait_seconds else None
    binds = budget if of_budget else own
    circuit = circuit_of(binds)
    return EndpointGate(
        endpoint.name,
        circuit,
        min(own.free, budget.free),
        round(binds.wait_seconds, 3) if binds.wait_seconds < ENDLESS_SECONDS else None,
        of_budget,
        reason_of(circuit, health[of_budget or endpoint.name], doubted),
    )


class Searched(NamedTuple):
    """The waiting events of an item, the number of unread items, and whether a drain was `moving` items."""

    queued: list[Whereabouts]
    unread: int = 0
    moving: bool = False


def search_items(store: Store, asked: str) -> Searched:
    """Search the `MOST_ITEMS` oldest waiting items for an event or item; the oldest match counts."""
    staged, listed = store.intake.lengths()
    read, number = 0, staged + listed
    for page in item_pages(store):
        for raw in page:
            read += 1
            if faults := dict(_events(store, raw, asked)):
                now = store.now()
                at: dict[str, Any] = {"position": read, "of": max(read, number), "staged": read <= staged}
                return Searched(
                    [Whereabouts(one, now, Place.QUEUED, fault=fault, **at) for one, fault in faults.items()]
                )
    return Searched([], max(0, number - read) if read >= MOST_ITEMS else 0, moving=read < min(number, MOST_ITEMS))


def _events(store: Store, raw: bytes, asked: str) -> Iterator[tuple[str, str]]:
    """Yield the matching events of an item, each with the reason if it will become a dead letter."""
    item_id, _, name = asked.rpartition(":")
    if b"\\" not in raw and not any(one and one.encode() in raw for one in (asked, item_id)):
        return  # true of nearly all; decoding costs ten times as much
    try:
        item = decode_item(raw, store.settings.queue.max_item_bytes)
    except BadItemError as error:
        if item_id_of(raw) in {asked, item_id or asked}:
            yield asked, f"{error.reason}: {error}"
        return
    for event in item.events:
        if item.id == asked or (item.id == item_id and event.type == name):
            fault = "" if event.type in store.settings.types else unknown_types([event.type], store.settings).told
            yield event_id(item.id, event.type), fault


class _Identified(msgspec.Struct):
    id: object = None


def item_id_of(raw: bytes) -> str:
    """Return the id of an invalid item, or the first id in it if it is not JSON; empty if it has none."""
    try:
        found = msgspec.json.decode(raw, type=_Identified).id
    except (ValueError, RecursionError):
        first = _ID.search(raw)
        try:
            found = msgspec.json.decode(first[1]) if first else None
        except ValueError:
            return ""
    return str(found) if isinstance(found, str | int | float) and not isinstance(found, bool) else ""


def search_letters(store: Store, asked: str) -> dict[str, DeadLetter]:
    """Search the dead letters for an event or item; return the newest letter of each event.

    A letter without an event counts under the id of its item.
    """
    found: dict[str, DeadLetter] = {}
    for letter in letters_with(store, asked, *filter(None, [asked.rpartition(":")[0]])):
        for of in _ids_in(letter):
            if of == asked or of.rpartition(":")[0] == asked:
                found.setdefault(of, letter)
    return found


def _ids_in(letter: DeadLetter) -> list[str]:
    if letter.event_id is not None:
        return [letter.event_id]
    item_id = item_id_of(letter.item_bytes)
    return [event_id(item_id, name) for name in letter.event_types] or [item_id]


def letters_with(store: Store, *texts: str) -> Iterator[DeadLetter]:
    """Yield the dead letters that may contain one of some texts, newest first."""
    return map(DeadLetter.read, store.letters.all(may_contain(*texts)))
