"""What the audit system would push: items of one or several event types, as many events of each type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rlm.core.clock import isoformat

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random

#: How many event types an item has, and how often that is so.
SIZES = (1, 2, 3)
SIZE_WEIGHTS = (6, 3, 1)


def make_items(events: int, types: Sequence[str], random: Random, now: float) -> list[bytes]:
    """Make items with `events` events in all, of each type as many (give or take one), shuffled, as JSON.

    Every item is another wallet's; `now` is when they were found, in seconds since 1970.
    """
    groups = list(_groups(events, types, random))
    random.shuffle(groups)
    return [_item(number, names, random, now) for number, names in enumerate(groups, start=1)]


def _groups(events: int, types: Sequence[str], random: Random) -> Iterator[list[str]]:
    """Deal out every type once a round, and cut each round into items."""
    for dealt in range(0, events, len(types)):
        names = random.sample(types, len(types))[: events - dealt]
        while names:
            (size,) = random.choices(SIZES, SIZE_WEIGHTS)
            yield names[:size]
            names = names[size:]


def _item(number: int, names: list[str], random: Random, now: float) -> bytes:
    return msgspec.json.encode(
        {
            "id": f"{round(now * 1000) + number}-{random.getrandbits(36):09x}",
            "wallet_name": f"wallet_{number:05d}",
            "events": names,
            "worker_id": str(number % 4 + 1),
            "timestamp": isoformat(now),
            "retry_count": 0,
        }
    )
