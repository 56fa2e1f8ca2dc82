"""What is to be expected of calls: by what is kept of earlier runs, and as the open run goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.core.expected import Following, Measured, expect

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rlm.core.endpoint import EventType
    from rlm.core.expected import Expected, Pair
    from rlm.ledger import Store


def learned(store: Store, types: Sequence[EventType]) -> dict[Pair, Expected]:
    """Return what earlier runs let expect, by type and endpoint; one that is missing has too few calls to tell."""
    kept = store.measures.kept()
    found = {
        (one.name, endpoint.name): expect(one, kept.get((one.name, endpoint.name), Measured()))
        for one in types
        for endpoint in one.endpoints
    }
    return {pair: expected for pair, expected in found.items() if expected}


class Measuring:
    """Follows the calls of an open run; each look costs what has happened since the last."""

    def __init__(self, store: Store, run_id: str) -> None:
        kept = store.measures.kept()
        self._store = store
        self._run_id = run_id
        self._followed = {
            (one.name, endpoint.name): Following(one, kept.get((one.name, endpoint.name), Measured()))
            for one in store.settings.event_types
            for endpoint in one.endpoints
        }
        self._read = 0
        self._failing: dict[Pair, int] = {}
        self._expected: Mapping[Pair, Expected] = self._expect(self._followed)

    def look(self) -> None:
        """Read what has happened since the last look.

        Raises:
            StoreError: Redis did not answer; the next look reads what this one missed.
        """
        completed, failing = self._store.measures.follow(self._run_id, self._read)
        self._read += len(completed)
        changed = {pair for pair, errors in failing.items() if errors != self._failing.get(pair)}
        self._failing = failing
        for pair in changed & self._followed.keys():
            self._followed[pair].fail(failing[pair])
        for call in completed:
            if call.pair in self._followed:
                self._followed[call.pair].complete(call.milliseconds)
                changed.add(call.pair)
        found = self._expect(changed & self._followed.keys())
        if any(self._expected.get(pair) != expected for pair, expected in found.items()):
            self._expected = {**self._expected, **found}

    def expected(self) -> Mapping[Pair, Expected]:
        """Return what is to be expected as of the last look: the same object while nothing changes."""
        return self._expected

    def _expect(self, pairs: Iterable[Pair]) -> dict[Pair, Expected]:
        found = {pair: self._followed[pair].expected for pair in pairs}
        return {pair: expected for pair, expected in found.items() if expected}
