"""What a self-test pushes: marked items, as the audit system would, and some that are to be turned away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from rlm.core.clock import isoformat
from rlm.core.event import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Stands in each item, so that whoever comes across one knows what it is.
WALLET = "rlm test"


@dataclass(frozen=True, slots=True)
class Batch:
    """Items to be pushed; the ids of the events that are to be completed, and what becomes of the rest."""

    items: tuple[bytes, ...]
    events: frozenset[str]
    letters: tuple[Reason, ...]
    duplicates: int


def make_batch(prefix: str, events_by_type: Mapping[str, int], now: float) -> Batch:
    """Make items of one event each, one of them twice, one of a type that nobody has, and one that is none.

    Their ids begin with `prefix`; `now` is when they were found, seconds since 1970.
    """
    names = [name for name, number in events_by_type.items() for _ in range(number)]
    items = [_item(f"{prefix}-{number}", name, now) for number, name in enumerate(names, start=1)]
    events = frozenset(f"{prefix}-{number}:{name}" for number, name in enumerate(names, start=1))
    unknown = _item(f"{prefix}-0", prefix, now)
    letters = (Reason.NOT_JSON, Reason.UNKNOWN_TYPE)
    return Batch((*items, items[0], unknown, f"{prefix}: no JSON".encode()), events, letters, 1)


def _item(item_id: str, name: str, now: float) -> bytes:
    fields = {"id": item_id, "wallet_name": WALLET, "events": [name], "timestamp": isoformat(now)}
    return msgspec.json.encode(fields)
