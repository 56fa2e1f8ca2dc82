"""What the lanes of a worker hold, as the scripts note it in the hash `held:WORKER`, lane by lane.

The value is `N`, the number of the lane's last ask, or `N CLAIMS ENDPOINT STAMP EVENT_ID` while that ask has a call.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rlm.ledger.connect import text
from rlm.ledger.values import whole


class Lane(msgspec.Struct, frozen=True):
    """What a busy lane holds: an event, by its claim number `claims`, and since when it has a slot at the endpoint.

    `taken_us` is microseconds by the clock of Redis.
    """

    event_id: str
    endpoint: str
    taken_us: int
    claims: int = 0


def read_held(raw: bytes) -> Lane | None:
    """Return what a lane holds; None if it has no call.

    Raises ValueError if it is not such a note.
    """
    match text(raw).split(" "):
        case [number]:
            whole(number)
            return None
        case [_, claims, endpoint, stamp, event_id]:
            return Lane(event_id, endpoint, whole(stamp), whole(claims))
    raise ValueError(f"no call is noted so: {raw[:40]!r}")


def lanes_of(notes: Mapping[bytes, bytes]) -> list[Lane]:
    """Return what a worker holds according to its hash, the longest running calls first."""
    lanes = [lane for lane in map(read_held, notes.values()) if lane]
    return sorted(lanes, key=lambda lane: (lane.taken_us, lane.event_id))
