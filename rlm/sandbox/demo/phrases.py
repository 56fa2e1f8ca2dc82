"""What both views say of a moment, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.core.run import MOVES, State

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rlm.sandbox.demo.moment import Moment


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: `1 event`, `1,785 events`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def spare_time(moment: Moment) -> str:
    """Write the countdown, or once the run is over what it took."""
    if moment.state in MOVES:
        return f"{moment.left_seconds:.1f} s left"
    return f"{moment.elapsed_seconds:.1f} s of {moment.window_seconds:g} s"


def plan(planned: Mapping[str, Any]) -> str:
    """Write what a plan promises."""
    left = f"{planned['expected_leftover']:,}" if planned["expected_leftover"] else "nothing"
    return (
        f"{counted(planned['workers'], 'worker')} of {counted(planned['threads'], 'lane')}, done "
        f"{planned['forecast_seconds']:.1f} s after the first call, {left} left over"
    )


def workers(moment: Moment) -> str:
    """Write who works: workers ready of those wanted, lanes busy of those there are."""
    if moment.state not in MOVES:
        return "workers no longer needed"
    if not moment.wanted and not moment.busy:
        return "no worker wanted yet"
    lanes = len(moment.busy) * moment.threads
    return f"{len(moment.busy)} of {moment.wanted} workers ready, {sum(moment.busy)} of {lanes} lanes busy"


def line(moment: Moment) -> str:
    """Write a moment in one line, for where there is no terminal."""
    start = f"{moment.elapsed_seconds:5.1f} s  {moment.state}"
    if moment.state in {State.DRAINING, State.PLANNING}:
        return f"{start}: {counted(moment.total, 'event')} taken so far"
    done = f"{start}: {moment.completed:,} of {moment.total:,} completed"
    return f"{done}; {workers(moment)}; {spare_time(moment)}" if moment.state in MOVES else done
