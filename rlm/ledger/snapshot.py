"""A run as it is at one instant: where its events are, what its windows hold, which calls are under way.

Read one after the other they would not fit together: an event that takes its slot in between would count twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from rlm.core.event import type_of
from rlm.ledger.connect import ESCAPED, translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rlm.core.endpoint import Limited
    from rlm.core.trail import Counts
    from rlm.ledger import Store

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class CallUnderway:
    """A call that took its slot `age_seconds` ago and has no answer yet."""

    type: str
    endpoint: str
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`counts` by type; `ages` of the slots that count, in seconds, by the name of endpoint or budget; the `calls`."""

    counts: Mapping[str, Counts]
    ages: Mapping[str, tuple[float, ...]]
    calls: tuple[CallUnderway, ...]


@translated()
def take_snapshot(
    store: Store, types: Sequence[str], limited: Sequence[Limited], worker_ids: Sequence[str]
) -> Snapshot:
    """Read it all at once; the calls are those of the workers named.

    Raises:
        StoreError: Redis did not answer.
    """
    with translated(store.client):
        pipeline = store.client.pipeline(transaction=True)
        store.ledger.ask_counts(pipeline, types)
        counts_end = len(pipeline)
        store.windows.ask_ages(pipeline, limited)
        ages_end = len(pipeline)
        for worker_id in worker_ids:
            pipeline.hgetall(store.keys.calls(worker_id))
        pipeline.time()
        *replies, (seconds, microseconds) = pipeline.execute()
    now_us = seconds * _MICROSECONDS + microseconds
    return Snapshot(
        store.ledger.read_counts(replies[:counts_end], types),
        store.windows.read_ages(replies[counts_end:ages_end], limited, now_us),
        tuple(_calls(cast("list[dict[bytes, bytes]]", replies[ages_end:]), now_us)),
    )


def _calls(workers: Sequence[dict[bytes, bytes]], now_us: int) -> Iterator[CallUnderway]:
    """Read what the workers noted when they took slots."""
    for notes in workers:
        for event_id, note in notes.items():
            if note:  # else it is claimed and has no slot yet
                _window, stamp, endpoint, *_ = note.decode(errors=ESCAPED).split("|")
                yield CallUnderway(
                    type_of(event_id.decode(errors=ESCAPED)), endpoint, max(0, now_us - int(stamp)) / _MICROSECONDS
                )
