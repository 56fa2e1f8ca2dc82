"""Events in the ledger, one by one: where one is, since when the oldest waits, which are overdue. None is moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from rlm.core.event import type_of
from rlm.core.trail import Place
from rlm.ledger.claims import find_note
from rlm.ledger.connect import MICROSECONDS, text, translated
from rlm.ledger.intake import PRIORITY_STEP
from rlm.ledger.reading.backlog import stamped_at, waits_since
from rlm.ledger.scripts import Script, batch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rlm.ledger import Store
    from rlm.ledger.claims import CallNote

_ITEM_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class EventState:
    """An event at one instant: `now` in seconds since 1970, by the clock of Redis.

    `fields` are those of its hash. `score` is its score in the zset of its `place`, 0 once it is settled. `position`
    counts from 1 among the `pending` events of its type, None where it is not pending. `call` is the one under way.
    """

    now: float
    fields: Mapping[bytes, bytes]
    place: Place
    score: float
    position: int | None
    pending: int
    call: CallNote | None = None

    def text(self, field: str) -> str:
        """Return a field of its hash, empty if it has none."""
        return text(self.fields.get(field.encode(), b""))


def event_state(store: Store, event_id: str) -> EventState | None:
    """Read where an event is, at one instant; None if the ledger does not know it."""
    keys, name = store.keys, type_of(event_id)
    zsets = keys.zsets(name)
    read = [
        ("TIME",),
        ("GET", keys.current),
        ("HGETALL", keys.event(event_id)),
        ("ZRANK", keys.pending(name), event_id),
        ("ZCARD", keys.pending(name)),
        *(("ZSCORE", key, event_id) for key in zsets.values()),
    ]
    (seconds, microseconds), current, fields, rank, pending, *scores = batch(store.client, read, transaction=True)
    if not fields:
        return None
    place, score = _place(fields, dict(zip(zsets, scores, strict=True)), is_open=current is not None)
    position = None if rank is None else rank + 1
    note = None
    if place is Place.IN_FLIGHT:
        worker = text(fields.get(b"owner", b""))
        with translated(store.client):
            note = find_note(cast("bytes | None", store.client.hget(keys.calls(worker), event_id)))
    return EventState(seconds + microseconds / MICROSECONDS, fields, place, score, position, pending, note)


def _place(
    fields: Mapping[bytes, bytes], scores: Mapping[Place, float | None], *, is_open: bool
) -> tuple[Place, float]:
    for place, score in scores.items():
        if score is not None:
            return (Place.LEFTOVER if place is Place.PENDING and not is_open else place), score
    state = text(fields.get(b"state", b""))
    return (Place(state) if state in {Place.COMPLETED, Place.FAILED} else Place.NOWHERE), 0.0


def scores(store: Store, type_name: str, place: Place, most: int) -> dict[str, float]:
    """Return the first `most` events of a type in a place, each with its score there."""
    zset = store.keys.zsets(type_name)[place]
    with translated(store.client):
        found = cast("list[tuple[bytes, float]]", store.client.zrange(zset, 0, most - 1, withscores=True))
    return {text(one): score for one, score in found}


def field_of_each(store: Store, event_ids: Sequence[str], field: str) -> list[str]:
    """Read a field of each event, empty where it has none."""
    found = batch(store.client, (("HGET", store.keys.event(one), field) for one in event_ids))
    return [text(value or b"") for value in found]


def count_due(store: Store, place: Place, before_us: int) -> int:
    """Count the events of all types in a place that were due before then, microseconds of Redis time."""
    zsets = [store.keys.zsets(name)[place] for name in store.known_types]
    return sum(batch(store.client, (("ZCOUNT", zset, "-inf", before_us) for zset in zsets)))


def oldest_pending(store: Store, types: Sequence[str]) -> dict[str, float]:
    """Return by type since when the oldest pending event waits, seconds since 1970; a type without any is left out.

    Only the first event of each priority is read. Its item's `timestamp` counts, without one its arrival. It takes as
    many round trips as a type has priorities waiting, and two more.
    """
    first: dict[str, list[str]] = {}
    lowest = dict.fromkeys(types, 0)
    while lowest:
        with translated(store.client):
            pipeline = store.client.pipeline(transaction=False)
            for name, score in lowest.items():
                pipeline.zrangebyscore(store.keys.pending(name), score, "+inf", start=0, num=1, withscores=True)
            replies = dict(zip(lowest, pipeline.execute(), strict=True))
        lowest = {}
        for name, reply in replies.items():
            for event_id, score in reply:
                first.setdefault(name, []).append(text(event_id))
                lowest[name] = (int(score) // PRIORITY_STEP + 1) * PRIORITY_STEP
    return _earliest(store, first)


def _earliest(store: Store, first: dict[str, list[str]]) -> dict[str, float]:
    events = [store.keys.event(event_id) for ids in first.values() for event_id in ids]
    replies = iter(batch(store.client, (("HMGET", event, "item", "taken_at") for event in events)))
    since = {name: [waits_since(*next(replies)) for _ in ids] for name, ids in first.items()}
    known = {name: [at for at in found if at is not None] for name, found in since.items()}
    return {name: min(found) for name, found in known.items() if found}


def oldest_listed(store: Store) -> float | None:
    """Return the `timestamp` of the oldest item on the audit list, seconds since 1970; None if it has none."""
    longest = store.settings.queue.max_item_bytes
    items = Script("look_items")(store.client, [store.keys.events], [0, 1, _ITEM_BYTES, longest])
    return stamped_at(items[0]) if items else None
