"""What a released call says: its type, endpoint and times. A lane claims the first event that waits for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from rlm.core.endpoint import PROBE_SLACK_SECONDS, Endpoint, EventType
from rlm.ledger.connect import MICROSECONDS

if TYPE_CHECKING:
    from rlm.ledger.keys import Keys

#: The most endpoints that a lane tries for one event: each release names them, however many its type has.
MOST_TRIED = 16


class Terms(msgspec.Struct, frozen=True):
    """What does not change of the calls of a type to an endpoint: the scripts need no more to claim and take a slot.

    `endpoints` are those that such a call may go to, `limited` all that has a limit there. `revision` is the run's,
    which the worker must have. Times are in microseconds. `windows` are the endpoint's and its budget's, with their
    rules.
    """

    type: str
    endpoint: str
    endpoints: list[str]
    limited: list[str]
    pending: str
    inflight: str
    lease: int
    probe: int
    windows: list[dict[str, Any]]
    revision: str = ""

    @classmethod
    def of(cls, kind: EventType, endpoint: Endpoint, keys: Keys, guard_seconds: float, revision: str = "") -> Terms:
        """Return the terms of calls of a type to one of its endpoints, with the limits in force."""
        windows: list[dict[str, Any]] = [
            {
                "id": one.window_id,
                "name": one.name,
                "limit": one.limit.text,
                "window": keys.window(one.window_id),
                "health": keys.health(one.window_id),
                "rules": [[rule.amount, _us(rule.seconds + guard_seconds)] for rule in one.limit.rules],
            }
            for one in (endpoint, endpoint.budget)
            if one is not None
        ]
        tried = [endpoint, *islice((one for one in kind.endpoints if one.name != endpoint.name), MOST_TRIED - 1)]
        names = [one.name for one in tried]
        limited = [*names, *sorted({one.budget.name for one in tried if one.budget})]
        probe_us = _us(endpoint.timeout_seconds + PROBE_SLACK_SECONDS)
        zsets = keys.pending(kind.name), keys.inflight(kind.name)
        lease_us = _us(kind.lease_seconds)
        return cls(kind.name, endpoint.name, names, limited, *zsets, lease_us, probe_us, windows, revision)


class Release(msgspec.Struct, frozen=True):
    """A call that a lane may make: of the first event that waits, on these `terms`. `run` is the id of the open run.

    Moments are in microseconds of Redis time: it is `void` if nobody took it by then, the call must `begin` to be
    answered before the `deadline`. `call` is how long it is expected to take.
    """

    run: str
    void: int
    begin: int
    deadline: int
    call: int
    of: Terms


def releases_in(raw: Iterable[bytes]) -> Iterator[Release]:
    """Yield the releases as they stand in Redis; what is none is left out."""
    for one in raw:
        with suppress(msgspec.DecodeError):
            yield msgspec.json.decode(one, type=Release)


def _us(seconds: float) -> int:
    return round(seconds * MICROSECONDS)
