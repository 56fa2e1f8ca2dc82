"""A run as it is at one instant: where its events are, what its windows hold, which calls are under way.

Read one after the other they would not fit together: an event that takes its slot in between would count twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlm.ledger.claims import calls_underway
from rlm.ledger.connect import translated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rlm.core.counts import Counts
    from rlm.core.endpoint import Limited
    from rlm.ledger import Store
    from rlm.ledger.claims import CallUnderway

_MICROSECONDS = 1_000_000


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
    """Read it all at once; the calls are those of the workers named."""
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
        tuple(call for notes in replies[ages_end:] for call in calls_underway(notes, now_us)),
    )
