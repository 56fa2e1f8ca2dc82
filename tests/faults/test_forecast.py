"""Something changes during a run: what the rest allows is done, and the forecast predicts it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from msgspec import structs

from rlm.core.endpoint import FAILING
from tests.faults.test_processes_die import assert_next_run
from tests.values import as_json, left_over
from tests.wait import wait_until

pytestmark = [pytest.mark.alone, pytest.mark.rest]

EVENTS = 1800
#: From so long after a change the forecast must be this close to the outcome, seconds and a share of it.
SETTLED_SECONDS = 2.0
CLOSE = 0.05
#: Calls under way when an endpoint asks for a rest are sent within so long, seconds.
UNDER_WAY_SECONDS = 0.5


@dataclass
class Change:
    """A change of the first type's primary endpoint, and when: seconds after the first call, or None for before it."""

    fault: dict[str, Any]
    after: float | None = None
    slow: float = 1.0
    #: What the others cannot take of its events before the deadline.
    left: int = 0


@dataclass
class Followed:
    """A run seen through its status: each forecast with its time (monotonic seconds)."""

    record: dict[str, Any]
    changed_at: float
    forecasts: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def settled(self) -> list[dict[str, Any]]:
        return [forecast for at, forecast in self.forecasts if at >= self.changed_at + SETTLED_SECONDS]


def follow(system, run_id: str, change: Change, endpoint: str) -> Followed:
    first_call_at = wait_until(lambda: system.api.arrivals or system.api.cut[endpoint], message="a first call")
    changed_at = began = time.monotonic() if not isinstance(first_call_at, list) else first_call_at[0].at
    seen: list[tuple[float, dict[str, Any]]] = []
    changed = change.after is None

    def look() -> dict[str, Any] | None:
        nonlocal changed, changed_at
        if not changed and time.monotonic() >= began + change.after:
            changed, changed_at = True, time.monotonic()
            system.api.set_fault(endpoint, **change.fault)
        if change.after is not None and "down" in change.fault and system.api.cut[endpoint] < FAILING:
            changed_at = time.monotonic()  # nobody can know it yet
        run = system.store.runs.current()
        if run is not None and run.forecast:
            seen.append((time.monotonic(), structs.asdict(run.forecast)))
        return as_json(system.store.runs.record(run_id))

    record = wait_until(look, timeout=40, message="the run is closed")
    return Followed(record, changed_at, seen)


def outcome_seconds(system, change: Change, endpoint: str) -> float:
    """Return the seconds from the first call to the last answer, by the API's log."""
    takes = {end.name: one.processing_seconds for one in system.settings.event_types for end in one.endpoints}
    takes[endpoint] *= change.slow
    answered = [one.at + takes[one.endpoint] for one in system.api.arrivals if one.status == 200]
    return max(answered) - min(one.at for one in system.api.arrivals)


def assert_a_probe_a_rest(system, endpoint: str, rest_seconds: float) -> None:
    """Check: after the calls in flight there is one refused call per rest, and none cost an attempt."""
    assert {one.attempt for one in system.api.arrivals} == {1}
    refused = [one.at for one in system.api.arrivals if one.endpoint == endpoint and one.status == 429]
    probes = [at for at in refused if at > refused[0] + UNDER_WAY_SECONDS]
    assert probes
    assert all(later - before >= rest_seconds for before, later in pairwise([refused[0], *probes])), refused


@pytest.mark.long
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(Change({"down": True}, left=90), id="down from the start"),
        pytest.param(Change({"down": True}, after=5.0, left=60), id="down in the middle"),
        pytest.param(Change({"throttle": 5.0}, left=90), id="throttling"),
        pytest.param(Change({"slow": 4.0}, slow=4.0), id="four times slower"),
    ],
)
def test_what_the_rest_allows_is_done_and_foretold(make_system, change):
    """An endpoint fails or slows down: no other call is refused, and two seconds later the end is known to 5 %."""
    with make_system() as system:
        endpoint = system.settings.event_types[0].endpoints[0].name
        if change.after is None:
            system.api.set_fault(endpoint, **change.fault)
        system.start_both()
        events = system.push_evenly(EVENTS)

        followed = follow(system, system.ask_for_run(), change, endpoint)

        counts = followed.record["counts"]
        assert counts["leftover"] == change.left, counts
        assert followed.record["by_endpoint"][endpoint]["errors"] < 60
        outcome = outcome_seconds(system, change, endpoint)
        forecasts = followed.settled()
        assert forecasts
        off = [one["forecast_seconds"] for one in forecasts if abs(one["forecast_seconds"] - outcome) > CLOSE * outcome]
        assert not off, f"{len(off)} of {len(forecasts)} forecasts were off: {off}; it took {outcome:.3f} s"
        assert set(map(left_over, forecasts)) == {change.left}
        if "throttle" in change.fault:
            assert_a_probe_a_rest(system, endpoint, change.fault["throttle"])
        system.assert_promises(events, [followed.record])
        system.api.set_fault(endpoint)
        assert_next_run(system)
