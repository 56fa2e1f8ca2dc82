"""What is measured of calls: those of the open run, what is kept of earlier runs, and what workers are told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from rlm.core.expected import Completed, Expected, Measured
from rlm.ledger.connect import text, translating
from rlm.ledger.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import redis

    from rlm.core.endpoint import Endpoint
    from rlm.core.expected import Pair
    from rlm.ledger.keys import Keys

_FAILING = "failing:"
_MICROSECONDS = 1_000_000


class Measures:
    """Durations and failures by type and endpoint. What is kept belongs to the URL, as windows do, not to the name."""

    def __init__(self, client: redis.Redis, keys: Keys, endpoints: Mapping[str, Endpoint]) -> None:
        self._client = client
        self._keys = keys
        self._endpoints = endpoints
        self._publish = Script("publish_expected")

    @translating
    def completed(self, run_id: str, first: int = 0) -> list[Completed]:
        """Read the completed calls of an open run in the order of their answers, from the one numbered `first` on."""
        found = cast("list[bytes]", self._client.lrange(self._keys.timings(run_id), first, -1))
        return [read_completed(one) for one in found]

    @translating
    def follow(self, run_id: str, first: int) -> tuple[list[Completed], dict[Pair, int]]:
        """Read the completed calls from the one numbered `first` on, and how many have failed so far, in one go."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.lrange(self._keys.timings(run_id), first, -1)
        pipeline.hgetall(self._keys.tally(run_id))
        found, tally = pipeline.execute()
        counts = {text(name): int(number) for name, number in tally.items()}
        return [read_completed(one) for one in found], failing(counts)

    @translating
    def kept(self) -> dict[Pair, Measured]:
        """Return what is kept of earlier runs for the configured endpoints."""
        names = {endpoint.window_id: name for name, endpoint in self._endpoints.items()}
        found = cast("dict[bytes, bytes]", self._client.hgetall(self._keys.measured))
        kept = {}
        for field, value in found.items():
            type_name, _, window_id = text(field).rpartition(" ")
            if window_id in names:
                kept[type_name, names[window_id]] = msgspec.json.decode(value, type=Measured)
        return kept

    def encode(self, measured: Mapping[Pair, Measured]) -> dict[str, bytes]:
        """Write what is to be kept as the fields that `Runs.close` stores; an endpoint not configured is left out."""
        return {
            f"{type_name} {self._endpoints[endpoint].window_id}": msgspec.json.encode(one)
            for (type_name, endpoint), one in measured.items()
            if endpoint in self._endpoints
        }

    def publish(self, token: int, expected: Mapping[Pair, Expected]) -> None:
        """Replace what workers are told to expect of calls. They get it with a claim."""
        args: list[str | int] = [token]
        for (type_name, endpoint), one in expected.items():
            args += [f"{type_name} {endpoint}", write_expected(one)]
        self._publish(self._client, [self._keys.lease, self._keys.expected], args)

    @translating
    def published(self) -> dict[Pair, Expected]:
        """Return what the workers are told."""
        found = cast("dict[bytes, bytes]", self._client.hgetall(self._keys.expected))
        pairs = ((text(field).partition(" "), read_expected(value)) for field, value in found.items())
        return {(type_name, endpoint): one for (type_name, _, endpoint), one in pairs}


def failing(tally: Mapping[str, int]) -> dict[Pair, int]:
    """Return from a run's counts how many calls failed for the moment, by type and endpoint."""
    return dict(_failing(tally))


def _failing(tally: Mapping[str, int]) -> Iterable[tuple[Pair, int]]:
    for what, number in tally.items():
        if what.startswith(_FAILING):
            type_name, _, endpoint = what.removeprefix(_FAILING).partition(" ")
            yield (type_name, endpoint), number


def read_completed(raw: bytes) -> Completed:
    """Read a completed call as `complete_event` writes it."""
    endpoint, type_name, milliseconds, *more = text(raw).split(" ")
    waited_ms, at_us, age_ms, *_ = (*more, "0", "0", "0")  # a worker of an older version writes fewer
    return Completed(type_name, endpoint, float(milliseconds), float(waited_ms), int(at_us), float(age_ms))


def write_expected(expected: Expected) -> str:
    """Write an expectation as `claim_event` reads it: microseconds a call takes, and microseconds it needs."""
    return f"{expected.seconds * _MICROSECONDS:.0f} {expected.needed_seconds * _MICROSECONDS:.0f}"


def read_expected(raw: bytes) -> Expected:
    """Read an expectation as it is published; the error rate is the conductor's alone."""
    seconds, needed = raw.split(b" ")
    return Expected(int(seconds) / _MICROSECONDS, int(needed) / _MICROSECONDS)
