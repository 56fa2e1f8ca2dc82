"""What both views say of a moment, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.run import MOVES, State

if TYPE_CHECKING:
    from rlm.demo.moment import Moment


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: `1 event`, `1,785 events`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def progress(done: int, total: int) -> str:
    """Write how many of how many, the parts as wide as each other: ` 42/180`."""
    whole = str(total)
    return f"{done:>{len(whole)}}/{whole}"


def spare_time(moment: Moment) -> str:
    """Write the countdown, or once the run is over what it took."""
    if moment.state in MOVES:
        return f"{moment.left_seconds:.1f} s left"
    return f"{moment.elapsed_seconds:.1f} s of {moment.window_seconds:g} s"


def forecast(moment: Moment) -> str:
    """Write what the plan promises, and where the run stands in it."""
    if not moment.plan:
        return "taking the items off the audit list"
    promise = f"forecast: done {moment.plan['forecast_seconds']:.1f} s after the first call"
    if left := moment.plan["expected_leftover"]:
        promise += f", {left:,} left over"
    if moment.state is not State.RUNNING or moment.called_seconds is None:
        return promise
    return f"{promise}; now {moment.called_seconds:.1f} s"


def workers(moment: Moment) -> str:
    """Write who works: workers ready and wanted, busy lanes by worker."""
    if not moment.wanted and not moment.busy:
        return "workers: none needed"
    lanes = " ".join(f"{busy}/{moment.threads}" for busy in moment.busy)
    return f"workers: {len(moment.busy)} ready of {moment.wanted} wanted, lanes busy {lanes or '-'}"
