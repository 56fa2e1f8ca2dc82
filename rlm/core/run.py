"""A run: its states. docs/reliability.md describes each state."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from rlm.core.documents import RunPlan


class State(StrEnum):
    """The states of a run; the values are what Redis and the JSON show."""

    DRAINING = "draining"
    PLANNING = "planning"
    RUNNING = "running"
    FINISHING = "finishing"
    COMPLETED = "completed"
    PARTIAL = "partial"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Trigger(StrEnum):
    """Why a run started."""

    SCHEDULE = "schedule"
    MANUAL = "manual"


def started_at_of(run_id: str) -> float | None:
    """Return the start that a run id contains, seconds since 1970; None if it contains none."""
    try:
        return datetime.strptime(run_id.partition("-")[0], "%Y%m%dT%H%M%S%f%z").timestamp()
    except ValueError:
        return None


class Waited(msgspec.Struct, frozen=True):
    """How many seconds the events of each type waited for which reason, up to `until` (seconds since 1970).

    They go on to wait for the `last` reason of their type until somebody looks again.
    """

    until: float
    by_type: Mapping[str, Mapping[str, float]] = {}
    last: Mapping[str, str] = {}


#: What Redis may hold of a run, whoever wrote it: seconds since 1970, a span in seconds, a whole number.
_Moment = Annotated[float, msgspec.Meta(ge=0, le=253_402_300_799)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
_Whole = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Run(msgspec.Struct, frozen=True):
    """An open run in Redis. Times are seconds since 1970, by the clock of Redis as it was when the run opened.

    `deadline_us` (microseconds) is corrected whenever that clock is set. `plan` is the first plan, `forecast` the
    current one. `waits` is what its events waited for so far (`rlm.plan.causes`), `spent` counts, at the end, those
    that used all attempts.
    """

    id: str
    state: State
    trigger: Trigger
    started_at: _Moment
    deadline: _Moment
    deadline_us: _Whole
    window_seconds: _Seconds
    revision: str
    plan: RunPlan | None = None
    forecast: RunPlan | None = None
    first_release_at: _Moment | None = None
    cancelled: bool = False
    failure: str = ""
    staged: bool = False  #: what was on the audit list when it opened is in staging, or taken
    workers_peak: _Whole = 0
    restarts_before: _Whole = 0
    waits: Waited | None = None
    spent: Mapping[str, int] | None = None

    def left_seconds(self, now_us: int) -> float:
        """Return the seconds to the deadline, negative after it; `now_us` is the time of Redis, microseconds.

        The result is at most the window, even if the clock was set back and this was not noted yet.
        """
        return min((self.deadline_us - now_us) / 1_000_000, self.window_seconds)

    def moment(self, now_us: int) -> float:
        """Return `now_us` of Redis as a time of this run, even if the clock of Redis was set since the run opened."""
        return self.deadline - self.left_seconds(now_us)


def new_run(trigger: Trigger, tick: float, window_seconds: float, revision: str) -> Run:
    """Return a run that counts from `tick`, seconds since 1970 by Redis, before it is opened. Its id sorts by time."""
    deadline, moment = tick + window_seconds, datetime.fromtimestamp(tick, UTC)
    times = tick, deadline, round(deadline * 1_000_000), window_seconds
    run_id = f"{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03d}Z-{os.urandom(2).hex()}"
    return Run(run_id, State.DRAINING, trigger, *times, revision)
