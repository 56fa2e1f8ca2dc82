"""What completed calls show: durations of earlier runs, what to expect of a call, and the totals over all runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from rlm.core.expected import NEWEST_DURATIONS, NOTHING, Completed, Expected, Measured, Pair, expect
from rlm.ledger.calls import Calls, completed, start_of_run
from rlm.ledger.connect import text, translated
from rlm.ledger.scripts import Access, Command, Part
from rlm.ledger.values import numbers

if TYPE_CHECKING:
    from rlm.core.endpoint import EventType

_FAILING = "failing:"
#: An endpoint is down once this many calls have failed, and none was completed: one failed call says nothing.
DOWN_CALLS = 2


class Measures(Part):
    """Durations and failures by type and endpoint. Like windows, they belong to the endpoint's URL, not its name."""

    def kept(self) -> dict[Pair, Measured]:
        """Return what is kept from earlier runs for the configured endpoints."""
        return self.read_kept(self._hgetall(self._keys.measured))

    @translated()
    def read_kept(self, measured: Mapping[bytes, bytes]) -> dict[Pair, Measured]:
        """Return the decoded measurements of configured endpoints."""
        names = {endpoint.window_id: name for name, endpoint in self._store.settings.endpoints.items()}
        pairs = ((_pair(text(field)), value) for field, value in measured.items())
        return {
            (type_name, names[window_id]): msgspec.json.decode(value, type=Measured)
            for (type_name, window_id), value in pairs
            if window_id in names
        }

    def failing_now(self) -> dict[Pair, int]:
        """Return how many calls of the open run have failed temporarily so far."""
        return failing(numbers(self._hgetall(self._keys.tally), self._keys.tally))

    def encode(self, measured: Mapping[Pair, Measured]) -> dict[str, bytes]:
        """Return what to keep as the fields for `Runs.close`, without endpoints that are not configured."""
        endpoints = self._store.settings.endpoints
        return {
            f"{type_name} {endpoints[endpoint].window_id}": msgspec.json.encode(values)
            for (type_name, endpoint), values in measured.items()
            if endpoint in endpoints
        }


def failing(tally: Mapping[str, int]) -> dict[Pair, int]:
    """Return how many calls failed temporarily, by type and endpoint, from a run's counts."""
    return {
        _pair(field.removeprefix(_FAILING)): number for field, number in tally.items() if field.startswith(_FAILING)
    }


def _pair(name: str) -> Pair:
    """Split a field name at its space into a type and what follows."""
    type_name, _, other = name.partition(" ")
    return type_name, other


def _types_by_pair(types: Sequence[EventType]) -> dict[Pair, EventType]:
    return {(kind.name, endpoint.name): kind for kind in types for endpoint in kind.endpoints}


def learned(store: Access, types: Sequence[EventType]) -> dict[Pair, Expected]:
    """Return what to expect after earlier runs, by type and endpoint, without pairs that have too few calls."""
    kept = Measures(store).kept()
    pairs = ((pair, expect(kind, kept.get(pair, NOTHING))) for pair, kind in _types_by_pair(types).items())
    return {pair: expected for pair, expected in pairs if expected}


class Measuring:
    """Tracks the calls of an open run. The cost of a look depends on what happened since the previous one."""

    def __init__(self, store: Access, run_id: str) -> None:
        self._store = store
        self._run_id = run_id
        self._types = _types_by_pair(store.settings.event_types)
        self._kept = Measures(store).kept()
        self._after = start_of_run(run_id)
        self._newest: dict[Pair, list[float]] = {}
        self._completed = Counter[Pair]()
        self._failing: dict[Pair, int] = {}
        #: When the newest completed call of each endpoint was answered, microseconds of Redis time.
        self.answered_us: dict[str, int] = {}
        #: What to expect as of the last look; the same object while nothing changes.
        self.expected: Mapping[Pair, Expected] = learned(store, store.settings.event_types)

    @property
    def down(self) -> set[str]:
        """The endpoints of which every call of the run has failed so far."""
        failed = Counter[str]()
        for (_, endpoint), calls in self._failing.items():
            failed[endpoint] += calls
        return {name for name, calls in failed.items() if calls >= DOWN_CALLS and name not in self.answered_us}

    def look(self) -> list[Completed]:
        """Read what happened since the last successful look; return the calls that were completed."""
        calls, after = Calls(self._store).follow(self._after)
        counts = Measures(self._store).failing_now()
        done, self._after = completed([call for call in calls if call.run_id == self._run_id]), after
        changed = {pair for pair in counts.keys() | self._failing.keys() if counts.get(pair) != self._failing.get(pair)}
        self._failing = counts
        for call in done:
            self.answered_us[call.endpoint] = max(self.answered_us.get(call.endpoint, 0), call.at_us)
            self._newest[call.pair] = [*self._newest.get(call.pair, ()), call.milliseconds][-NEWEST_DURATIONS:]
            self._completed[call.pair] += 1
            changed.add(call.pair)
        current = {pair: self._expect(pair) for pair in changed & self._types.keys()}
        if any(self.expected.get(pair) != expected for pair, expected in current.items()):
            merged = {**self.expected, **current}
            self.expected = {pair: expected for pair, expected in merged.items() if expected}
        return done

    def _expect(self, pair: Pair) -> Expected | None:
        kept, newest = self._kept.get(pair, NOTHING), self._newest.get(pair, ())
        errors = self._failing.get(pair, 0)
        return expect(self._types[pair], kept, Measured(tuple(newest), self._completed[pair], errors))


class Totals(Part):
    """Reads the totals over all runs, which never decrease while Redis keeps them."""

    @translated()
    def look(self) -> Counter[str]:
        """Return the totals with the tally of the open run, of one instant; histograms are of finished runs."""
        keys = self._keys
        read: list[Command] = [("HGETALL", keys.totals), ("HGETALL", keys.tally), ("EXISTS", keys.run)]
        totals, tally, is_open = self._batch(read, transaction=True)
        counts = Counter(numbers(totals, keys.totals))
        if is_open:
            counts.update(numbers(tally, keys.tally))
        return counts
