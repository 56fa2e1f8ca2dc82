"""The events of a wallet: those under way, those that wait, and dead letters."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from rlm.admin.letters import letter_of_wallet
from rlm.core.clock import isoformat
from rlm.core.event import type_of
from rlm.core.trail import Place
from rlm.ledger.reading import field_of_each, scores
from rlm.ledger.reading.backlog import MOST_ITEMS
from rlm.ledger.reading.waiting import EventFilter, waiting_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger import Store

#: Events listed, and events under way that are read of each type and state.
MOST_FOUND = 100
_MOST_UNDER_WAY = 1000


def events_of_wallet(store: Store, wallet: str) -> dict[str, Any]:
    """Return the first events of a wallet, as `rlm explain` prints them; `more` says whether there may be others.

    First those under way, then those that wait, as far as they are read, then the newest dead letters. Completed events
    cannot be found by their wallet.

    Raises:
        StoreError: Redis did not answer.
    """
    page = waiting_page(store, EventFilter(wallet=wallet), MOST_FOUND)
    waiting = (_entry(one.event_id, one.state, one.since) for one in page.events)
    found = list(
        islice(chain(_under_way(store, wallet), waiting, _letters(store, wallet)), MOST_FOUND + 1),
    )
    more = len(found) > MOST_FOUND or page.after is not None
    return {"wallet_name": wallet, "found": found[:MOST_FOUND], "more": more}


def _entry(event_id: str, state: Place, since: float | None = None) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "type": type_of(event_id),
        "state": state,
        "since": None if since is None else isoformat(since),
        "letter": None,
    }


def _under_way(store: Store, wallet: str) -> Iterator[dict[str, Any]]:
    for name in store.known_types:
        for place in (Place.IN_FLIGHT, Place.RELEASED):
            ids = list(scores(store, name, place, _MOST_UNDER_WAY))
            for one, owner in zip(ids, field_of_each(store, ids, "wallet"), strict=True):
                if owner == wallet:
                    yield _entry(one, place)


def _letters(store: Store, wallet: str) -> Iterator[dict[str, Any]]:
    for raw in islice(store.letters.all(), MOST_ITEMS):
        if told := letter_of_wallet(raw, wallet):
            yield {"state": Place.FAILED, **told}
