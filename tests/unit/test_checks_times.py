"""Whether calls take what is configured, told without a store; `rlm doctor` tells it of a real one."""

from __future__ import annotations

import tomllib
from types import SimpleNamespace

from rlm.admin.doctor.endpoints import check_times
from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.core.expected import MEASURED_CALLS, Measured

ENDPOINT = Endpoint("api", "http://h/api", Limit.parse("30/minute"), 10.0)


def finding(name, configured, *milliseconds):
    store = SimpleNamespace(
        settings=SimpleNamespace(event_types=[EventType(name, 1, configured, (ENDPOINT,))]),
        measures=SimpleNamespace(kept=lambda: {(name, "api"): Measured(milliseconds)}),
    )
    (found,) = check_times(store)
    return found


def test_the_remedy_can_be_written_into_the_file():
    """Whatever the name of the type: its key is written as TOML wants it."""
    remedy = finding("price.check", 2.0, *[500.0] * MEASURED_CALLS).remedy

    assert tomllib.loads(remedy.removeprefix("set ")) == {"types": {"price.check": {"processing_seconds": 0.5}}}


def test_what_is_off_by_little_is_no_matter():
    """A quarter, and a twentieth of a second, are what machines and networks differ by from day to day."""
    calls = [200.0] * MEASURED_CALLS

    assert finding("T", 0.16, *calls).ok
    assert finding("T", 0.25, *calls).ok
    assert finding("T", 0.01, *[55.0] * MEASURED_CALLS).ok
    assert not finding("T", 0.14, *calls).ok
    assert finding("T", 0.4, *calls).ok  # a longer time is cautious, up to twice as long
    assert not finding("T", 0.41, *calls).ok


def test_too_few_calls_tell_nothing():
    """Below as many as plans go by."""
    assert finding("T", 2.0, *[9000.0] * (MEASURED_CALLS - 1)).ok
    assert not finding("T", 2.0, *[9000.0] * MEASURED_CALLS).ok
