"""What the audit system would push: the items of a demo, and the marked items of a self-test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from rlm.core.clock import isoformat
from rlm.core.event import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from random import Random

#: How many event types an item has, and how often.
SIZES = (1, 2, 3)
SIZE_WEIGHTS = (6, 3, 1)

#: The wallet of each item, so that whoever finds one knows what it is.
WALLET = "rlm test"


def make_items(events: int, types: Sequence[str], random: Random, now: float) -> list[bytes]:
    """Return shuffled items as JSON, with `events` events in all, equally many of each type (give or take one).

    Every item has a wallet of its own; `now` is their timestamp, in seconds since 1970.
    """
    groups = list(_groups(events, types, random))
    random.shuffle(groups)
    return [
        _item(
            f"{round(now * 1000) + number}-{random.getrandbits(36):09x}",
            f"wallet_{number:05d}",
            names,
            now,
            worker_id=str(number % 4 + 1),
            retry_count=0,
        )
        for number, names in enumerate(groups, start=1)
    ]


def _groups(events: int, types: Sequence[str], random: Random) -> Iterator[list[str]]:
    """Yield the types of each item: every type once a round, and each round cut into items."""
    for dealt in range(0, events, len(types)):
        names = random.sample(types, len(types))[: events - dealt]
        while names:
            (size,) = random.choices(SIZES, SIZE_WEIGHTS)
            yield names[:size]
            names = names[size:]


def _item(item_id: str, wallet: str, names: list[str], now: float, **more: object) -> bytes:
    fields = {"id": item_id, "wallet_name": wallet, "events": names, "timestamp": isoformat(now), **more}
    return msgspec.json.encode(fields)


@dataclass(frozen=True, slots=True)
class Batch:
    """Items to push; the ids of the events that must be completed, and what becomes of the rest."""

    items: tuple[bytes, ...]
    events: frozenset[str]
    letters: tuple[Reason, ...]
    duplicates: int


def make_batch(prefix: str, events_by_type: Mapping[str, int], now: float) -> Batch:
    """Return items of one event each, one of them twice, one of an unknown type, and one that is no item.

    Their ids begin with `prefix`; `now` is their timestamp, in seconds since 1970.
    """
    names = [name for name, number in events_by_type.items() for _ in range(number)]
    items = [_item(f"{prefix}-{number}", WALLET, [name], now) for number, name in enumerate(names, start=1)]
    events = frozenset(f"{prefix}-{number}:{name}" for number, name in enumerate(names, start=1))
    unknown = _item(f"{prefix}-0", WALLET, [prefix], now)
    letters = (Reason.NOT_JSON, Reason.UNKNOWN_TYPE)
    return Batch((*items, items[0], unknown, f"{prefix}: no JSON".encode()), events, letters, 1)
