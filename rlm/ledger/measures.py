"""What completed calls show: durations kept from earlier runs, what to expect of a call, and the totals over all runs.

The totals include the open run at one instant, so they never decrease while Redis keeps them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from rlm.core.expected import CHANGED_CALLS, Completed, Expected, Following, Measured, Pair
from rlm.core.tally import of_calls
from rlm.ledger.connect import text, translating
from rlm.ledger.scripts import SLICE, Command, Part
from rlm.ledger.values import MICROSECONDS, duration, number, numbers, reading, whole

if TYPE_CHECKING:
    from rlm.core.endpoint import EventType
    from rlm.ledger import Store
    from rlm.ledger.front import StoreFront

_FAILING = "failing:"

#: The longest possible call, milliseconds.
LONGEST_CALL_MS = 86_400_000.0


class Measures(Part):
    """Durations and failures by type and endpoint. Like windows, they belong to the endpoint's URL, not its name."""

    @translating
    def completed(self, run_id: str, first: int = 0) -> list[Completed]:
        """Return the completed calls of an open run in the order of their answers, from number `first` on."""
        timings = self._keys.timings(run_id)
        return read_calls(self._list_from(timings, first), timings)

    @translating
    def follow(self, run_id: str, first: int) -> tuple[list[Completed], dict[Pair, int]]:
        """Return the completed calls from number `first` on, and how many calls have failed so far."""
        timings, last = self._keys.timings(run_id), first + SLICE - 1
        counts = self._keys.tally(run_id)
        found, tally = self._batch([("LRANGE", timings, first, last), ("HGETALL", counts)])
        if len(found) == SLICE:
            found += self._list_from(timings, last + 1)
        return read_calls(found, timings), failing(numbers(tally, counts))

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

    def publish(self, token: int, expected: Mapping[Pair, Expected]) -> None:
        """Replace the published expectations, which workers get with their claims."""
        times = {
            f"{type_name} {endpoint}": f"{each.seconds * MICROSECONDS:.0f} {each.needed_seconds * MICROSECONDS:.0f}"
            for (type_name, endpoint), each in expected.items()
        }
        self._run("publish_expected", lease=self._keys.lease, expected=self._keys.expected, token=token, times=times)

    @translating
    def published(self) -> dict[Pair, Expected]:
        """Return the published expectations."""
        found = self._hgetall(self._keys.expected)
        return {_pair(text(field)): read_expected(value) for field, value in found.items()}


def failing(tally: Mapping[str, int]) -> dict[Pair, int]:
    """Return how many calls failed temporarily, by type and endpoint, from a run's counts."""
    failing = ((what.removeprefix(_FAILING), number) for what, number in tally.items() if what.startswith(_FAILING))
    return {_pair(name): number for name, number in failing}


def _pair(name: str) -> Pair:
    """Split a field name at its space into a type and what follows."""
    type_name, _, other = name.partition(" ")
    return type_name, other


def read_completed(raw: bytes) -> Completed:
    """Return a completed call from the form that `complete_event` writes."""
    endpoint, type_name, took_ms, waited_ms, at_us, age_ms, idle_ms = text(raw).split(" ")
    times = number(took_ms), number(waited_ms), whole(at_us), number(age_ms), number(idle_ms)
    if not 0 <= max(times[:2]) <= LONGEST_CALL_MS or min(times) < 0:
        raise ValueError(f"no call takes so long: {raw!r}")
    return Completed(type_name, endpoint, *times)


def read_calls(found: Iterable[bytes], key: str) -> list[Completed]:
    """Return the completed calls of a list; entries that RLM did not write are named in the log and left out."""
    read = (reading(read_completed, raw, key, None) for raw in found)
    return [one for one in read if one is not None]


def read_expected(raw: bytes) -> Expected:
    """Return a published expectation: the microseconds that a call takes and needs. It has no error rate."""
    seconds, needed = raw.split(b" ")
    return Expected(duration(whole(seconds) / MICROSECONDS), duration(whole(needed) / MICROSECONDS))


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
        self._read = 0
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
        completed, failing = self._store.measures.follow(self._run_id, self._read)
        self._read += len(completed)
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

    def __init__(self, store: StoreFront) -> None:
        super().__init__(store)
        self._lock = threading.Lock()
        self._forget("")

    def _forget(self, run_id: str) -> None:
        """Start over with the first call of this run."""
        self._run_id = run_id
        self._read = 0
        self._last: bytes | None = None
        self._calls: Counter[str] = Counter()

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
        keys = self._keys
        run_id = text(self._ask("GET", keys.current) or b"")
        if run_id != self._run_id:
            self._forget(run_id)
        first = max(0, self._read - 1)
        read: list[Command] = [("GET", keys.current), ("HGETALL", keys.totals), ("HGETALL", keys.tally(run_id or "-"))]
        read += [("LRANGE", keys.timings(run_id or "-"), first, first + SLICE)]
        current, totals, tally, timings = self._batch(read, transaction=True)
        if text(current or b"") != run_id:
            return None
        if self._last is not None and timings[:1] != [self._last]:
            self._forget(run_id)
            return None
        news = timings if self._last is None else timings[1:]
        self._calls.update(of_calls(map(read_completed, news)))
        self._read += len(news)
        self._last = timings[-1] if timings else None
        if len(timings) > SLICE:
            return None
        found = Counter(self._calls)
        for key, fields in ((keys.totals, totals), (keys.tally(run_id), tally)):
            found.update(numbers(fields, key))
        return found
