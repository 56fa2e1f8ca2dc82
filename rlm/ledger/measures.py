"""What completed calls show: durations kept from earlier runs, what to expect of a call, and the totals over all runs.

The totals include the open run at one instant, so they never decrease while Redis keeps them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from rlm.core.expected import CHANGED_CALLS, Completed, Expected, Following, Measured, Pair
from rlm.core.tally import of_calls
from rlm.ledger.calls import START, Calls, completed, is_cut, start_of_run
from rlm.ledger.connect import text, translating
from rlm.ledger.scripts import Command, Part
from rlm.ledger.values import numbers

if TYPE_CHECKING:
    from rlm.core.endpoint import EventType
    from rlm.ledger import Store

_FAILING = "failing:"


class Measures(Part):
    """Durations and failures by type and endpoint. Like windows, they belong to the endpoint's URL, not its name."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._log = Calls(store)

    @translating
    def follow(self, run_id: str, after: str) -> tuple[list[Completed], dict[Pair, int], str]:
        """Return what a run's calls behind an entry of the log show, and how many calls have failed so far.

        The last is the id of the last entry that was read, to continue there.
        """
        calls, counts = self._log, self._keys.tally
        entries, tally = self._batch([calls.command(after), ("HGETALL", counts)])
        found, last = calls.read_on(entries, after)
        own = [call for call in found if call.run_id == run_id]
        return completed(own), failing(numbers(tally, counts)), last

    def kept(self) -> dict[Pair, Measured]:
        """Return what is kept from earlier runs for the configured endpoints."""
        return self.read_kept(self._hgetall(self._keys.measured))

    @translating
    def read_kept(self, measured: Mapping[bytes, bytes]) -> dict[Pair, Measured]:
        """Return the decoded measurements of configured endpoints."""
        names = {endpoint.window_id: name for name, endpoint in self._store.settings.endpoints.items()}
        found = ((_pair(text(field)), value) for field, value in measured.items())
        return {
            (type_name, names[window_id]): msgspec.json.decode(value, type=Measured)
            for (type_name, window_id), value in found
            if window_id in names
        }

    def encode(self, measured: Mapping[Pair, Measured]) -> dict[str, bytes]:
        """Return what to keep as the fields for `Runs.close`, without endpoints that are not configured."""
        endpoints = self._store.settings.endpoints
        return {
            f"{type_name} {endpoints[endpoint].window_id}": msgspec.json.encode(one)
            for (type_name, endpoint), one in measured.items()
            if endpoint in endpoints
        }


def failing(tally: Mapping[str, int]) -> dict[Pair, int]:
    """Return how many calls failed temporarily, by type and endpoint, from a run's counts."""
    failing = ((what.removeprefix(_FAILING), number) for what, number in tally.items() if what.startswith(_FAILING))
    return {_pair(name): number for name, number in failing}


def _pair(name: str) -> Pair:
    """Split a field name at its space into a type and what follows."""
    type_name, _, other = name.partition(" ")
    return type_name, other


def learned(store: Store, types: Sequence[EventType]) -> dict[Pair, Expected]:
    """Return what to expect after earlier runs, by type and endpoint, without pairs that have too few calls."""
    return _expected(_following(store, types))


def _following(store: Store, types: Sequence[EventType]) -> dict[Pair, Following]:
    kept = store.measures.kept()
    pairs = ((one, (one.name, endpoint.name)) for one in types for endpoint in one.endpoints)
    return {pair: Following(one, kept.get(pair, Measured())) for one, pair in pairs}


def _expected(followed: Mapping[Pair, Following]) -> dict[Pair, Expected]:
    return {pair: expected for pair, one in followed.items() if (expected := one.expected)}


class Measuring:
    """Tracks the calls of an open run. The cost of a look depends on what happened since the previous one."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._run_id = run_id
        self._followed = _following(store, store.settings.event_types)
        self._after = start_of_run(run_id)
        #: When the newest completed call of each endpoint was answered, microseconds of Redis time.
        self.answered_us: dict[str, int] = {}
        self._failing: dict[Pair, int] = {}
        #: What to expect as of the last look; the same object while nothing changes.
        self.expected: Mapping[Pair, Expected] = _expected(self._followed)

    @property
    def down(self) -> set[str]:
        """The endpoints of which every call of the run has failed so far; one failed call alone says nothing."""
        failed = Counter[str]()
        for (_, endpoint), calls in self._failing.items():
            failed[endpoint] += calls
        return {name for name, calls in failed.items() if calls >= CHANGED_CALLS and name not in self.answered_us}

    def look(self) -> list[Completed]:
        """Read what happened since the last successful look; return the calls that were completed."""
        completed, failing, self._after = self._store.measures.follow(self._run_id, self._after)
        changed: dict[Pair, Following] = {}
        for pair in failing.keys() & self._followed.keys():
            if failing[pair] != self._failing.get(pair):
                changed[pair] = self._followed[pair]
                changed[pair].fail(failing[pair])
        self._failing = failing
        for call in completed:
            self.answered_us[call.endpoint] = max(self.answered_us.get(call.endpoint, 0), call.at_us)
            if call.pair in self._followed:
                changed[call.pair] = self._followed[call.pair]
                changed[call.pair].complete(call.milliseconds)
        found = _expected(changed)
        if any(self.expected.get(pair) != expected for pair, expected in found.items()):
            self.expected = {**self.expected, **found}
        return completed


class Totals(Part):
    """Reads the totals. Each look reads only the open run's new calls, so a process should keep one instance.

    It may be used by several threads.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._log = Calls(store)
        self._lock = threading.Lock()
        self._forget("")

    def _forget(self, run_id: str) -> None:
        """Start over with the first call of this run."""
        self._run_id = run_id
        self._after = start_of_run(run_id) if run_id else START
        self._read = False
        self._added: Counter[str] = Counter()

    @translating
    def look(self) -> Counter[str]:
        """Return the totals, the tally of the open run and what its calls add, all of one instant."""
        with self._lock:
            while (found := self._look()) is None:
                pass
            return found

    def _look(self) -> Counter[str] | None:
        """Read everything at once; None if that must be repeated.

        It must if a run was opened or closed between the two reads, if there are more calls than one read returns, or
        if the last call that was read is no longer in its place because Redis came back in an older state.
        """
        keys, calls, last = self._keys, self._log, self._after
        run_id = text(self._ask("HGET", keys.run, "run_id") or b"")
        if run_id != self._run_id:
            self._forget(run_id)
            last = self._after
        read: list[Command] = [("HGET", keys.run, "run_id"), ("HGETALL", keys.totals), ("HGETALL", keys.tally)]
        read += [calls.command(last), ("XRANGE", keys.calls, last, last)]
        current, totals, tally, entries, known = self._batch(read, transaction=True)
        if text(current or b"") != run_id:
            return None
        if self._read and not known:
            self._forget(run_id)
            return None
        found = Counter[str]()
        if run_id:
            news = [call for call in calls.read(entries) if call.run_id == run_id]
            self._added.update(of_calls(completed(news)))
            self._after, self._read = calls.last(entries, last), self._read or bool(entries)
            if is_cut(entries):
                return None
            found.update(self._added)
            found.update(numbers(tally, keys.tally))
        found.update(numbers(totals, keys.totals))
        return found
