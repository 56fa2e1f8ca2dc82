"""What must be on replicas before anybody acts on it: a fail-over may lose the rest.

Waiting costs a round trip from the primary to its replicas, so only what has an effect outside of Redis waits: a call
is sent after its slot, another one after what the last answer settled, and somebody is told that an item was pushed.
All else moves within Redis, where a replica has what the primary had at some moment: docs/adr/0017-replicas.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import redis

from rlm.ledger.refusals import NotNowError

#: The scripts after which somebody acts: a call is made, or not made again; or what was forgotten is told by them.
LASTING = frozenset({"take_turn", "acquire_slot", "fail_event", "vouch_server"})


class Replicas(NamedTuple):
    """How many replicas must have what lasts, and how long they may take, milliseconds."""

    number: int
    milliseconds: int


def replicas_of(client: redis.Redis) -> Replicas | None:
    """Return what `client` waits for; None if it does not wait."""
    found = getattr(client, "replicas", None)
    return found if found and found.number else None


def run_lasting(client: redis.Redis, command: Sequence[Any]) -> Any:
    """Run a command and return its reply once the replicas have what it wrote, in one round trip.

    Raises:
        NotNowError: too few have it in time; it was carried out here, and may be lost.
    """
    wanted = replicas_of(client)
    if wanted is None:
        return client.execute_command(*command)  # type: ignore[no-untyped-call]
    pipeline = client.pipeline(transaction=False)
    pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
    pipeline.execute_command("WAIT", *wanted)  # type: ignore[no-untyped-call]
    reply, have = pipeline.execute(raise_on_error=False)
    for one in (reply, have):
        if isinstance(one, redis.ResponseError):
            raise one
    if have < wanted.number:
        what = f"{have} of {wanted.number} replicas had what was written within {wanted.milliseconds} ms"
        raise NotNowError(f"{what} (redis.wait_replicas)", "bring its replicas back, or lower redis.wait_replicas")
    return reply
